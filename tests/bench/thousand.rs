//! A thousand units, as at the boot of a machine with that many: all of them started, and asked for.

use crate::Form;
use crate::harness::{Setup, Supd};
use crate::numbers::Sample;
use crate::proc;
use crate::report::{Budget, Section};
use crate::rest::{self, children};
use crate::wait::wait_until;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const UNITS: usize = 1000;
const BOUND: Duration = Duration::from_secs(120);
/// A machine that needs so long to start them is not asked to do it once more.
const ENOUGH: Duration = Duration::from_secs(15);

/// The least that a unit can be: it sleeps, on a socket that nobody asks.
fn unit(supd: &Supd, number: usize) -> String {
    format!(
        "[[Socket]]\nListenStream = \"{}/s{number}\"\n\n[Service]\nExecStart = [\"/usr/bin/sleep\", \"infinity\"]\n\
         Ready = \"started\"\nReadySettleSec = \"0\"\n\n[Swap]\nProbationSec = \"0\"\n",
        supd.path().join("run").display()
    )
}

/// A supd that finds `count` units when it starts, and how long until all of them were active.
///
/// Its runtime folder and their sockets are in memory, as /run is: on a disk the kernel may look long
/// for an inode that nobody has given up a moment ago, as the round before has given up thousands.
pub(crate) fn boot(count: usize) -> (Supd, Duration) {
    let memory = nix::unistd::geteuid().is_root().then_some(("run", 256));
    let supd = Supd::start_with(&Setup { disk: memory, ..Setup::default() });
    for number in 0..count {
        supd.write_unit(&format!("idle{number}"), &unit(&supd, number));
    }
    let began = Instant::now();
    let supd = supd.crash_and_restart();
    // To ask costs supd time: only the end of it is asked for.
    // The launcher is one more, and the writer of the ledger another.
    wait_until("every worker to be launched", BOUND, || children(supd.pid()).len() > count);
    wait_until("every unit to be active", BOUND, || {
        let status = supd.ctl(&["status"]).expect(0);
        let active = |line: &&str| line.split_whitespace().nth(1) == Some("active");
        status.stdout.lines().filter(active).count() == count
    });
    (supd, began.elapsed())
}

/// The same programs, launched without anything around them.
fn bare() -> Duration {
    let began = Instant::now();
    let mut programs: Vec<Child> = (0..UNITS)
        .map(|_| Command::new("/usr/bin/sleep").arg("infinity").stdin(Stdio::null()).spawn().expect("sleep"))
        .collect();
    let took = began.elapsed();
    for program in &mut programs {
        program.kill().expect("a child of our own");
        program.wait().expect("a killed child ends");
    }
    took
}

pub(crate) fn run(form: Form, section: &mut Section) {
    let (mut starts, mut bares, mut busy, mut last) = (Vec::new(), Vec::new(), Vec::new(), None);
    let began = Instant::now();
    while starts.is_empty() || (starts.len() < 3 && began.elapsed() < ENOUGH) {
        drop(last.take());
        bares.push(bare());
        let (supd, took) = boot(UNITS);
        starts.push(took);
        busy.push(proc::ticks(supd.pid()) as f64 / 100.0);
        last = Some(supd);
    }
    let supd = last.expect("at least one");
    let seconds = |spans: &[Duration]| Sample::of(spans.iter().map(Duration::as_secs_f64));
    section.judged("supd's start until 1,000 units are active", &seconds(&starts), "s", Budget(1.5));
    section.figure("processor time of supd itself for that", &Sample::of(busy), "s");
    section.figure("beside: their programs launched bare", &seconds(&bares), "s");

    let took = |arguments: &[&str]| supd.ctl(arguments).expect(0).took;
    let (mut tables, mut jsons, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        tables.push(took(&["status"]));
        jsons.push(took(&["--json", "status"]));
        floor.push(took(&["is-active", "idle0"]));
    }
    section.judged("supctl status of all", &Sample::millis(&tables), "ms", Budget(20.0));
    section.figure("supctl --json status of all", &Sample::millis(&jsons), "ms");
    section.figure("beside: supctl is-active of one", &Sample::millis(&floor), "ms");
    rest::watch(section, &supd, "1,000 units", form.rest);
}
