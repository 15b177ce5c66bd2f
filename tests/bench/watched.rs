//! What it costs to look at 10,000 open connections: once in a while by a person, each second by a drain.

use crate::harness::{SUPCTL_BOUND, Supd, free_port};
use crate::install::{Ping, pinged};
use crate::numbers::{Sample, millis};
use crate::proc;
use crate::report::{Budget, Section};
use crate::wait::{SOON, pause, wait_until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const OPEN: usize = 10_000;
/// How often it is looked.
const LOOKS: usize = 8;
/// Longer than a count is news, so that each look is a count of its own.
const APART: Duration = Duration::from_millis(1100);
const DRAIN: Duration = Duration::from_secs(5);

/// It takes every client in, and lets none go.
const HOLDER: &str = "
import socket
listener, held = socket.socket(fileno=3), []
while True:
    held.append(listener.accept()[0])
";

/// What some looks cost.
struct Looks {
    took: Vec<Duration>,
    /// Of supd, and of the children that count for it, for each look.
    supd_ms: f64,
    children_ms: f64,
    /// Answers of supd to the least of all calls meanwhile.
    answers: Vec<Ping>,
}

pub(crate) fn measure(section: &mut Section) {
    if !may_open(OPEN as u64 + 500) {
        section.skipped("10,000 open connections", "ulimit -n is less, and may not be raised");
        return;
    }
    let (supd, port) = (Supd::start(), free_port());
    std::fs::write(supd.app().join("holder.py"), HOLDER).expect("a program");
    let unit = format!(
        "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\nBacklog = 4096\n\n[Service]\nExecStart = \
         [\"/usr/bin/python3\", {:?}]\nReady = \"started\"\nReadySettleSec = \"100ms\"\nLimitNOFILE = {}\n\n\
         [Swap]\nProbationSec = \"0\"\nSettleSec = \"0\"\nDrainSec = \"{}s\"\n",
        supd.app().join("holder.py"),
        OPEN + 500,
        DRAIN.as_secs()
    );
    supd.launch("many", &unit);
    let none = look(&supd);
    drain(section, &supd, "while a generation with none open is replaced");
    let clients: Vec<TcpStream> =
        (0..OPEN).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("the listener")).collect();
    wait_until("every connection to be counted", SOON, || counted(&supd) == Some(OPEN as u64));
    let many = look(&supd);
    tell(section, &none, &many);
    drain(section, &supd, "while one with 10,000 open is replaced, and drained");
    drop(clients);
}

/// Whether this process may have so many descriptors, and whoever it starts.
fn may_open(count: u64) -> bool {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return false };
    soft >= count || (hard >= count && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok())
}

/// Open connections of the active generation.
fn counted(supd: &Supd) -> Option<u64> {
    let status = supd.status("many");
    let all = status.0["generations"].as_array()?;
    all.iter().find(|one| one["generation"].as_u64() == status.active())?["connections"].as_u64()
}

/// Processor time in milliseconds: of supd, and of its children that have ended.
fn spent(supd: &Supd) -> [f64; 2] {
    [proc::ticks(supd.pid()), proc::ticks_of_reaped(supd.pid())].map(|ticks| ticks as f64 * 10.0)
}

fn look(supd: &Supd) -> Looks {
    let looks = || {
        let look = || {
            pause(APART);
            supd.ctl(&["status", "many"]).expect(0).took
        };
        (0..LOOKS).map(|_| look()).collect::<Vec<Duration>>()
    };
    // To be called all the time costs supd time too, so what it takes is measured apart.
    let before = spent(supd);
    let took = looks();
    let after = spent(supd);
    let [supd_ms, children_ms] = [0, 1].map(|at| (after[at] - before[at]) / LOOKS as f64);
    let answers = pinged(supd, || drop(looks()));
    Looks { took, supd_ms, children_ms, answers }
}

fn tell(section: &mut Section, none: &Looks, many: &Looks) {
    for (looks, what) in [(many, "10,000 open"), (none, "none open")] {
        let name = format!("supctl status that counts, {what}");
        section.figure(&name, &Sample::millis(&looks.took), "ms");
        for (spent, who) in [(looks.supd_ms, "supd"), (looks.children_ms, "the child that counts")] {
            section.figure(&format!("processor time of {who} for it, {what}"), &Sample::of([spent]), "ms");
        }
    }
    tell_longest(section, "meanwhile, 10,000 open", &many.answers);
    tell_longest(section, "meanwhile, none open", &none.answers);
}

/// A turn is no longer than an answer takes. What supd waits for a processor is no part of its turn.
fn tell_longest(section: &mut Section, when: &str, answers: &[Ping]) {
    let longest = |of: fn(&Ping) -> Duration| Sample::of(answers.iter().map(of).max().map(millis));
    let own = longest(|ping| ping.own);
    section.judged(&format!("supd's longest turn {when}"), &own, "ms", Budget(5.0));
    section.figure(
        "its longest answer, with what it waited for a processor",
        &longest(|ping| ping.took),
        "ms",
    );
}

/// A generation is replaced; what clients have of it is counted until its time is over.
fn drain(section: &mut Section, supd: &Supd, when: &str) {
    let (mut seconds, mut spent_ms) = (0.0, [0.0; 2]);
    let answers = pinged(supd, || {
        let swap = supd.ctl_start(&["swap", "many", "--wait=drained"]);
        // In the middle of it: what the worker itself took is added to what children took, once it is reaped.
        pause(APART);
        let (began, before) = (Instant::now(), spent(supd));
        pause(DRAIN.saturating_sub(2 * APART));
        // As `ss -p` would: what it looked up costs whoever reaps the worker.
        supd.status("many").pids().into_iter().for_each(|pid| drop(proc::files(pid)));
        let after = spent(supd);
        seconds = began.elapsed().as_secs_f64();
        spent_ms = [0, 1].map(|at| after[at] - before[at]);
        swap.finish(SUPCTL_BOUND).expect(0);
    });
    tell_longest(section, when, &answers);
    for (spent, who) in spent_ms.iter().zip(["supd, which answers all the time", "those who count"]) {
        let name = format!("processor time in each second of it: {who}");
        section.figure(&name, &Sample::of([spent / seconds]), "ms");
    }
}
