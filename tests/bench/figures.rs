//! supd's own figures, against the budgets of the design.

use crate::budget;
use crate::harness::{Running, Supd, free_port};
use crate::load::wrk::Wrk;
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, pause, wait_until};
use crate::{fixture, proc};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

/// A supd whose unit `web` serves without settling and without probation.
fn serving(port: u16) -> Supd {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(port, &[], "ReadySettleSec = \"0\"", "ProbationSec = \"0\""));
    supd
}

/// The promise in numbers.
pub(crate) fn continuity() -> bool {
    let port = free_port();
    let supd = serving(port);
    let loads = [Mode::Close, Mode::KeepAlive]
        .map(|mode| Load::start(Plan::new(Target::Tcp(address(port)), mode, 16)));
    let mut rollbacks = Vec::new();
    for round in 0..100 {
        supd.install_worker(&format!("{}", 2 + round));
        supd.ctl(&["swap", "web"]).expect(0);
        loads.iter().for_each(|load| load.wait_for_more(500, SOON));
        rollbacks.push(supd.ctl(&["rollback", "web"]).expect(0).took);
        loads.iter().for_each(|load| load.wait_for_more(500, SOON));
    }
    wait_until("a million answers", Duration::from_secs(600), || {
        loads.iter().map(Load::answered).sum::<u64>() >= 1_000_000
    });
    let mut lost = 0;
    for (kind, load) in ["new connections", "kept-alive connections"].iter().zip(loads) {
        let tally = load.stop();
        lost += tally.lost();
        let speed = tally.speed();
        println!(
            "{kind}: {} answered, {} lost, {} ended between requests; p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, \
             longest gap {:.2?}",
            tally.answered(),
            tally.lost(),
            tally.idle.before + tally.idle.crossed,
            speed.p50,
            speed.p99,
            speed.p999,
            speed.longest_gap
        );
    }
    rollbacks.sort();
    println!("cold rollback, the whole command: p50 {:.2?}, p99 {:.2?}", rollbacks[50], rollbacks[98]);
    budget("requests lost in 100 swaps and 100 rollbacks", lost as f64, 0.0, "");
    lost == 0
}

/// Rounds in turn, so that a machine that slows down slows both.
pub(crate) fn overhead() -> bool {
    let (port, alone_port) = (free_port(), free_port());
    let supd = serving(port);
    let program = supd.app().join("alone");
    fixture::mark(&program, "1");
    let mut command = Command::new(program);
    command.arg(format!("bind=127.0.0.1:{alone_port}")).env("DAEMON_TEST_ROLE", "worker");
    let alone = Running::start(&mut command);
    wait_until("the worker alone to listen", SOON, || TcpStream::connect(address(alone_port)).is_ok());
    for close in [true, false] {
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..5 {
            for (rates, port) in rates.iter_mut().zip([port, alone_port]) {
                let began = Instant::now();
                let summary = Wrk::start(address(port), 16, Duration::from_secs(3), close).finish();
                rates.push(summary.requests as f64 / began.elapsed().as_secs_f64());
            }
        }
        let [under, without] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        });
        let kind = if close { "new connections" } else { "kept-alive" };
        println!("{kind}: {under:.0} requests/s under supd, {without:.0} without");
        budget(&format!("{kind}: throughput lost to supd"), 100.0 * (1.0 - under / without), 1.0, "%");
    }
    proc::signal(alone.pid(), nix::sys::signal::Signal::SIGTERM);
    alone.finish(SOON);
    true
}

/// What supctl and supd add to the worker's own start.
pub(crate) fn command() -> bool {
    let supd = serving(free_port());
    let mut own = Vec::new();
    for round in 0..100 {
        supd.install_worker(&format!("{}", 2 + round));
        let took = supd.ctl(&["swap", "web"]).expect(0).took;
        let ready = supd.status("web").last_swap()["ready_ms"].as_f64().unwrap_or(0.0);
        own.push(millis(took) - ready);
    }
    own.sort_by(f64::total_cmp);
    let mut flushes: Vec<f64> = (0..100).map(|_| millis(flush(&supd))).collect();
    flushes.sort_by(f64::total_cmp);
    println!("one flush of a line to this disk: p50 {:.3} ms, p99 {:.3} ms", flushes[50], flushes[98]);
    println!("swap, whole command less the worker's start: p50 {:.3} ms", own[50]);
    budget("swap, whole command less the worker's start, p99", own[98], 5.0, "ms");
    true
}

fn flush(supd: &Supd) -> Duration {
    let path = supd.path().join("flush");
    let mut file = File::options().append(true).create(true).open(path).expect("a file");
    file.write_all(&[b'x'; 200]).expect("a line");
    let began = Instant::now();
    file.sync_data().expect("a flush");
    began.elapsed()
}

/// Without a watchdog supd has no reason to wake: the kernel counts when it did.
pub(crate) fn rest() -> bool {
    let supd = serving(free_port());
    pause(Duration::from_secs(2));
    let before = switches(supd.pid());
    pause(Duration::from_secs(60));
    let woken = switches(supd.pid()) - before;
    budget("times that supd woke in 60 s of rest", woken as f64, 0.0, "");
    true
}

fn switches(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("supd's status");
    let counts = status.lines().filter_map(|line| {
        line.split_once("voluntary_ctxt_switches:").and_then(|(_, count)| count.trim().parse::<u64>().ok())
    });
    counts.sum()
}

/// `count` units that do nothing.
fn idle_units(supd: &Supd, first: usize, count: usize) {
    for number in first..first + count {
        supd.write_unit(
            &format!("idle{number}"),
            "[[Socket]]\nListenStream = \"@FOLDER@/sNUMBER\"\n\n[Service]\nExecStart = [\"/usr/bin/sleep\", \"infinity\"]\nReady = \"started\"\nReadySettleSec = \"0\"\n\n[Swap]\nProbationSec = \"0\"\n"
                .replace("@FOLDER@", &supd.path().to_string_lossy())
                .replace("NUMBER", &number.to_string())
                .as_str(),
        );
    }
}

fn start_idle_units(supd: &Supd, first: usize, count: usize) {
    supd.ctl(&["daemon-reload"]).expect(0);
    let names: Vec<String> = (first..first + count).map(|number| format!("idle{number}")).collect();
    for name in &names {
        supd.ctl(&["start", name]).expect(0);
    }
}

pub(crate) fn memory() -> bool {
    let supd = Supd::start();
    idle_units(&supd, 0, 1);
    start_idle_units(&supd, 0, 1);
    let one = proc::rss_kib(supd.pid());
    idle_units(&supd, 1, 100);
    start_idle_units(&supd, 1, 100);
    let many = proc::rss_kib(supd.pid());
    budget("resident memory with 1 unit", one as f64 / 1024.0, 3.0, "MiB");
    budget("for each further unit", (many.saturating_sub(one)) as f64 / 100.0, 8.0, "KiB");
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_supd")).expect("supd").len();
    budget("size of supd on disk", size as f64 / (1 << 20) as f64, 3.0, "MiB");
    true
}

/// All units are there when supd starts, as at the boot of a machine.
pub(crate) fn thousand() -> bool {
    let supd = Supd::start();
    idle_units(&supd, 0, 1000);
    let began = Instant::now();
    let supd = supd.crash_and_restart();
    wait_until("1,000 units to be active", Duration::from_secs(60), || {
        let status = supd.ctl(&["status"]).expect(0);
        let mut active = 0;
        for line in status.stdout.lines() {
            active += usize::from(line.split_whitespace().nth(1) == Some("active"));
        }
        active >= 1000
    });
    let started = began.elapsed();
    let mut asked: Vec<Duration> = (0..20).map(|_| supd.ctl(&["status"]).expect(0).took).collect();
    asked.sort();
    let mut text = String::new();
    write!(text, "{:.0?} to {:.0?}", asked[0], asked[19]).expect("writing to a string");
    println!("status of all took {text}");
    budget("1,000 units: start all", started.as_secs_f64(), 1.5, "s");
    budget("1,000 units: status of all, p50", millis(asked[10]), 20.0, "ms");
    true
}
