//! Benchmarks: `cargo bench`, or `cargo bench -- NAME…` for some of them. Each figure stands beside
//! what it is compared with in the same run, in turns, since a machine is never the same twice.
//!
//! A budget that is missed is said, and nothing fails by it: another program may have been busy.
//! What must never happen, a lost request under supd, ends with 1.
//!
//! The quick form takes a few minutes. `SUPD_BENCH_SWAPS=100` is the long one: so many swaps and
//! rollbacks of each kind, and so many requests, as the design's budgets name.
//!
//! Every section also leaves its figures in target/bench/NAME.json.

mod bind;
mod command;
mod contenders;
mod install;
mod numbers;
mod overhead;
mod reload;
mod report;
mod rest;
mod steering;
#[allow(dead_code, reason = "the benchmarks use a part of what the tests need")]
#[path = "../daemon/support/mod.rs"]
mod support;
mod thousand;
mod watched;

use report::Section;
use std::process::ExitCode;
use std::time::Duration;
use support::test::{Test, test};
use support::{fixture, harness, load, proc, wait};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// Swaps, and rollbacks of each kind, under full load.
    swaps: usize,
    /// Rounds that compare throughput.
    rounds: usize,
    /// How long supd is watched while nothing happens.
    rest: Duration,
}

impl Form {
    fn read() -> Self {
        let swaps = match std::env::var("SUPD_BENCH_SWAPS") {
            Ok(text) => match text.parse() {
                Ok(count) if count > 0 => count,
                _ => panic!("SUPD_BENCH_SWAPS={text}: give a count, as in 100"),
            },
            Err(_) => 10,
        };
        let long = swaps >= 100;
        Self {
            swaps,
            rounds: if long { 60 } else { 12 },
            rest: Duration::from_secs(if long { 60 } else { 10 }),
        }
    }
}

/// Name, what it measures, and the measurement.
type Bench = (&'static str, &'static str, fn(Form, &mut Section));

const BENCHES: [Bench; 9] = [
    ("reload", "a worker replaced under full load", reload::run),
    ("overhead", "requests served under supd, and by the same worker without it", overhead::run),
    ("command", "swap and rollback, the whole command", command::run),
    ("steering", "slots: switches, shares, ways back, and a look at what is open", steering::run),
    ("bind", "servers that bind for themselves", bind::run),
    ("install", "a release on its way onto the disk", install::measure),
    ("rest", "supd while nothing happens", rest::run),
    ("memory", "what supd takes", rest::memory),
    ("thousand", "a thousand units", thousand::run),
];

fn main() -> ExitCode {
    if let Some(code) = support::other_role() {
        return code;
    }
    // cargo bench itself adds --bench.
    let names: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let asked = |name: &str| names.is_empty() || names.iter().any(|asked| name.contains(asked.as_str()));
    if let Some(unknown) = names.iter().find(|asked| !BENCHES.iter().any(|(name, ..)| name.contains(*asked)))
    {
        eprintln!("{unknown}: no such benchmark; there are {}", BENCHES.map(|(name, ..)| name).join(", "));
        return ExitCode::from(2);
    }
    let form = Form::read();
    let mut broken = Vec::new();
    for (name, what, run) in BENCHES.into_iter().filter(|(name, ..)| asked(name)) {
        let mut section = Section::begin(name, what);
        run(form, &mut section);
        broken.extend(section.end());
    }
    for promise in &broken {
        eprintln!("\nBROKEN: {promise}");
    }
    ExitCode::from(u8::from(!broken.is_empty()))
}
