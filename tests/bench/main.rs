//! Benchmarks: `cargo bench`, or `cargo bench -- NAME` for one of them. Each figure stands beside
//! what it is compared with in the same run; a budget that is missed is said, and nothing fails by
//! it, since a machine may be busy. What must never happen (a lost request) does end with 1.

mod contenders;
mod figures;
#[allow(dead_code, reason = "the benchmarks use a part of what the tests need")]
#[path = "../daemon/support/mod.rs"]
mod support;

use std::process::ExitCode;
use support::test::{Test, test};
use support::{fixture, harness, load, proc, wait};

/// Name, what it measures, and the measurement: false if something was lost.
type Bench = (&'static str, &'static str, fn() -> bool);

const BENCHES: [Bench; 7] = [
    ("reload", "20 reloads under full load: supd, Server::Starter, nginx", contenders::reload),
    ("continuity", "100 swaps and 100 rollbacks under full load, a million requests", figures::continuity),
    ("overhead", "throughput and p99 under supd against the same worker alone", figures::overhead),
    ("command", "a swap's whole command less the worker's own start", figures::command),
    ("rest", "what supd does when nothing happens, for 60 s", figures::rest),
    ("memory", "resident memory with 1 unit and with 101; size on disk", figures::memory),
    ("thousand", "1,000 units: start of all, status of all", figures::thousand),
];

fn main() -> ExitCode {
    if let Some(code) = support::other_role() {
        return code;
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let mut lost = false;
    for (name, what, run) in BENCHES {
        if filter.as_ref().is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        println!("\n== {name}: {what} ==");
        lost |= !run();
    }
    ExitCode::from(u8::from(lost))
}

/// A figure beside its budget.
fn budget(what: &str, value: f64, most: f64, unit: &str) {
    let verdict = if value <= most { "ok" } else { "MISSED" };
    println!("{what:<58} {value:>10.3} {unit:<6} budget {most} {unit}: {verdict}");
}
