//! The same worker under supd and without it: nothing of supd stands between client and worker, and
//! here is the proof. The worker alone runs twice: how far these two differ is what this machine's
//! noise alone makes of "the same".

use crate::Form;
use crate::contenders::address;
use crate::harness::{Running, Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::numbers::{Sample, short};
use crate::report::{Budget, Section};
use crate::support::test::find_program;
use crate::wait::{SOON, pause, wait_until};
use crate::{fixture, proc};
use nix::sys::signal::Signal;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// One round of one of them.
const ROUND: Duration = Duration::from_millis(700);
const CLIENTS: usize = 16;
const NAMES: [&str; 3] = ["under supd", "without", "without, once more"];

/// The worker with a socket from a plain launcher, which waits for a first connection.
struct Alone(Running);

impl Alone {
    fn start(program: &Path, port: u16, section: &mut Section) -> Self {
        let launcher = find_program("systemd-socket-activate");
        // A session of its own, as under supd: processes of one session share what the scheduler
        // gives it (sched(7), autogroup), and this one's would share it with the clients.
        let mut command = Command::new("setsid");
        match &launcher {
            Some(launcher) => {
                command.arg(launcher).args([format!("--listen={}", address(port)), "-E".into()]);
                command.arg("DAEMON_TEST_ROLE=worker").arg(program);
            }
            None => {
                section.skipped("systemd-socket-activate", "apt-get install systemd; it binds for itself");
                command.arg(program).arg(format!("bind={}", address(port)));
            }
        }
        let running = Running::start(command.env("DAEMON_TEST_ROLE", "worker"));
        wait_until("the worker alone to listen", SOON, || TcpStream::connect(address(port)).is_ok());
        Self(running)
    }
}

/// What one of them did in one round.
#[derive(Debug, Clone, Copy)]
struct Round {
    per_second: f64,
    p99_ms: f64,
    answered: u64,
    ticks: u64,
    lost: u64,
}

fn measure(port: u16, pid: u32, mode: Mode) -> Round {
    let before = proc::ticks(pid);
    let load = Load::start(Plan::new(Target::Tcp(address(port)), mode, CLIENTS));
    pause(ROUND);
    let tally = load.stop();
    Round {
        per_second: tally.answered() as f64 / tally.ran.as_secs_f64(),
        p99_ms: tally.speed().p99.as_secs_f64() * 1e3,
        answered: tally.answered(),
        ticks: proc::ticks(pid) - before,
        lost: tally.lost(),
    }
}

pub(crate) fn run(form: Form, section: &mut Section) {
    let supd = Supd::start();
    supd.install_worker("1");
    let ports = [free_port(), free_port(), free_port()];
    supd.launch("web", &supd.worker(ports[0], &[], "", ""));
    let program = supd.app().join("alone");
    fixture::mark(&program, "1");
    let alone = [ports[1], ports[2]].map(|port| Alone::start(&program, port, section));
    // setsid and the launcher are replaced by the worker: the pid stays.
    let pids = [supd.status("web").pids()[0], alone[0].0.pid(), alone[1].0.pid()];

    let mut lost = (0, 0);
    for (mode, name) in [(Mode::Close, "new connections"), (Mode::KeepAlive, "kept-alive")] {
        for (port, pid) in ports.into_iter().zip(pids) {
            measure(port, pid, mode);
        }
        let mut rounds: [Vec<Round>; 3] = Default::default();
        for round in 0..form.rounds {
            for turn in 0..3 {
                let who = (round + turn) % 3;
                rounds[who].push(measure(ports[who], pids[who], mode));
            }
        }
        compare(section, name, &rounds);
        for round in &rounds[0] {
            lost = (lost.0 + round.lost, lost.1 + round.answered + round.lost);
        }
    }
    section.promised("requests lost under supd", lost.0, lost.1);
    for Alone(running) in alone {
        proc::signal(running.pid(), Signal::SIGTERM);
        running.finish(SOON);
    }
}

fn compare(section: &mut Section, name: &str, rounds: &[Vec<Round>; 3]) {
    for (who, rounds) in NAMES.iter().zip(rounds) {
        let rate = Sample::of(rounds.iter().map(|round| round.per_second));
        section.figure(&format!("{name}, {who}"), &rate, "requests/s");
        let p99 = Sample::of(rounds.iter().map(|round| round.p99_ms));
        section.figure(&format!("{name}, {who}: p99 of each round"), &p99, "ms");
    }
    let [ours, alone, again] = rounds;
    let less = |ours: &[Round], alone: &[Round]| {
        let pairs = ours.iter().zip(alone);
        Sample::of(pairs.map(|(ours, alone)| 100.0 * (1.0 - ours.per_second / alone.per_second)))
    };
    let slower = |ours: &[Round], alone: &[Round]| {
        let pairs = ours.iter().zip(alone);
        Sample::of(pairs.map(|(ours, alone)| 100.0 * (ours.p99_ms / alone.p99_ms - 1.0)))
    };
    let budget = Budget(1.0);
    section.judged_difference(&format!("{name}: throughput lost to supd"), &less(ours, alone), budget);
    section.figure(&format!("{name}: the same without supd, twice"), &less(again, alone), "%");
    section.judged_difference(&format!("{name}: p99 added by supd"), &slower(ours, alone), budget);
    section.figure(&format!("{name}: the same without supd, twice"), &slower(again, alone), "%");
    // What other programs of the machine do moves this less than anything timed by a clock.
    let cost = |rounds: &[Round]| {
        let ticks: u64 = rounds.iter().map(|round| round.ticks).sum();
        let answered: u64 = rounds.iter().map(|round| round.answered).sum();
        ticks as f64 * 1e4 / answered as f64
    };
    let costs = [ours, alone, again].map(|rounds| cost(rounds));
    section.note(&format!(
        "{name}: processor time of the worker for each request: {} us under supd, {} and {} us without",
        short(costs[0]),
        short(costs[1]),
        short(costs[2])
    ));
}
