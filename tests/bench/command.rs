//! What supd adds to a swap and to a rollback, on a machine that has nothing else to do: the whole
//! command as a person types it, less what the worker needs to start. How long that is is measured
//! without supd, by starting the same program from here, in turns with the commands.

use crate::Form;
use crate::harness::{Setup, Supd, free_port};
use crate::numbers::{Sample, millis};
use crate::proc;
use crate::report::{Budget, Section};
use crate::wait::{SOON, ready, wait_until};
use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A 99th percentile wants no fewer, in either form.
const ROUNDS: u32 = 100;

/// One command's measurements, in milliseconds.
#[derive(Default)]
struct Measured {
    whole: Vec<f64>,
    less_start: Vec<f64>,
    ready: Vec<f64>,
    switch_us: Vec<f64>,
}

impl Measured {
    fn add(&mut self, supd: &Supd, unit: &str, took: Duration, own_start: Duration) {
        let last = supd.status(unit);
        self.whole.push(millis(took));
        self.less_start.push(millis(took) - millis(own_start));
        self.ready.extend(last.last_swap()["ready_ms"].as_f64());
        self.switch_us.extend(last.last_swap()["switch_us"].as_f64());
    }

    fn tell(&self, section: &mut Section, what: &str, launches: bool) {
        let budget = Budget(5.0);
        if !launches {
            let whole = Sample::of(self.whole.iter().copied());
            section.judged_p99(&format!("{what}, whole command"), &whole, "ms", budget);
            self.tell_switch(section, what);
            return;
        }
        section.figure(&format!("{what}, whole command"), &Sample::of(self.whole.iter().copied()), "ms");
        let less = Sample::of(self.less_start.iter().copied());
        section.judged_p99(&format!("{what}, less the worker's start"), &less, "ms", budget);
        if !self.ready.is_empty() {
            let ready = Sample::of(self.ready.iter().copied());
            section.figure(&format!("{what}: launch to ready by supd's own clock"), &ready, "ms");
        }
        self.tell_switch(section, what);
    }

    fn tell_switch(&self, section: &mut Section, what: &str) {
        if !self.switch_us.is_empty() {
            let switch = Sample::of(self.switch_us.iter().copied());
            section.figure(&format!("{what}: the switch by supd's own clock"), &switch, "us");
        }
    }
}

/// Once as it is, once with supd's state on a disk of memory, where to flush costs nothing: the
/// difference is the disk's.
pub(crate) fn run(_: Form, section: &mut Section) {
    measure(section, "", &Supd::start());
    if nix::unistd::geteuid().is_root() {
        let setup = Setup { disk: Some(("state", 1024)), ..Setup::default() };
        measure(section, " without a disk", &Supd::start_with(&setup));
    } else {
        section.skipped("the same without a disk", "only root can mount one of memory");
    }
}

fn measure(section: &mut Section, how: &str, supd: &Supd) {
    supd.install_worker("0");
    for (unit, retain, probation) in [("web", "cold", "0"), ("waits", "cold", "1h"), ("warm", "warm", "0")] {
        // Nobody is connected, and who was replaced is not what is measured.
        let swap = format!(
            "Retain = \"{retain}\"\nProbationSec = \"{probation}\"\nDrainSec = \"0\"\nSettleSec = \"0\""
        );
        supd.launch(unit, &supd.worker(free_port(), &[], "ReadySettleSec = \"0\"", &swap));
    }
    let (mut starts, mut flushes) = (Vec::new(), Vec::new());
    let (mut asks, mut counts, mut nothings) = (Vec::new(), Vec::new(), Vec::new());
    let [mut swap, mut cold, mut early, mut warm]: [Measured; 4] = Default::default();
    let mut unpinned = 0;
    for round in 0..ROUNDS {
        supd.install_worker(&(1 + round).to_string());
        let own_start = own_start(supd);
        let took = supd.ctl(&["swap", "web"]).expect(0).took;
        swap.add(supd, "web", took, own_start);
        one_worker(supd, "web");
        // Unpinned where supd cannot keep the program: what is on disk is the same one then.
        let mut rollback = supd.ctl(&["--json", "rollback", "web"]);
        if rollback.code() == 3 && rollback.text().contains("--anyway") {
            unpinned += 1;
            rollback = supd.ctl(&["--json", "rollback", "web", "--anyway"]);
        }
        let took = rollback.expect(0).took;
        cold.add(supd, "web", took, own_start);
        one_worker(supd, "web");
        supd.ctl(&["swap", "waits", "--wait=active"]).expect(0);
        let took = supd.ctl(&["--json", "rollback", "waits"]).expect(0).took;
        early.add(supd, "waits", took, Duration::ZERO);
        one_worker(supd, "waits");
        supd.ctl(&["swap", "warm"]).expect(0);
        wait_until("the standby before to end", SOON, || supd.status("warm").pids().len() == 2);
        let took = supd.ctl(&["--json", "rollback", "warm"]).expect(0).took;
        warm.add(supd, "warm", took, Duration::ZERO);
        counts.push(supd.ctl(&["status", "warm"]).expect(0).took);
        asks.push(supd.ctl(&["is-active", "web"]).expect(0).took);
        nothings.push(nothing());
        flushes.push(flush(supd));
        starts.push(own_start);
    }
    swap.tell(section, &format!("swap{how}"), true);
    cold.tell(section, &format!("rollback{how}, committed"), true);
    if unpinned > 0 {
        section
            .note(&format!("{unpinned} of these rollbacks were of a program that is not pinned: --anyway"));
    }
    early.tell(section, &format!("rollback{how}, in probation"), false);
    warm.tell(section, &format!("rollback{how}, to a standby"), false);
    section.figure("beside: the worker's own start to READY=1, without supd", &Sample::millis(&starts), "ms");
    section.figure(
        "beside: one line appended to a file of supd's folder and flushed",
        &Sample::millis(&flushes),
        "ms",
    );
    section.figure("beside: supctl is-active, which changes nothing", &Sample::millis(&asks), "ms");
    let added = warm.whole.iter().zip(&asks).map(|(whole, ask)| whole - millis(*ask));
    let added = Sample::of(added);
    section.judged_p99(
        &format!("rollback{how}, to a standby, more than supctl is-active"),
        &added,
        "ms",
        Budget(5.0),
    );
    let nothings = Sample::millis(&nothings);
    let what = format!("beside: a program that does nothing, launch to end; p99 {:.2}", nothings.at(0.99));
    section.figure(&what, &nothings, "ms");
    // Without --json a rollback prints its answer and then counts who is left where it came from.
    section.figure("beside: supctl status, which counts connections", &Sample::millis(&counts), "ms");
}

/// What the machine takes for a program, whatever that does.
fn nothing() -> Duration {
    let began = Instant::now();
    let status = Command::new("true").stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "true");
    began.elapsed()
}

fn one_worker(supd: &Supd, unit: &str) {
    wait_until("the other worker to end", SOON, || supd.status(unit).pids().len() == 1);
}

/// From the launch of the worker to its READY=1, as its launcher sees it.
fn own_start(supd: &Supd) -> Duration {
    let path = supd.path().join("own.notify");
    let socket = UnixDatagram::bind(&path).expect("a socket in a new folder");
    let mut command = Command::new(supd.app().join("worker"));
    command.arg("bind=127.0.0.1:0").env("DAEMON_TEST_ROLE", "worker").env("NOTIFY_SOCKET", &path);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn().expect("the worker");
    let said = ready(socket.as_fd(), PollFlags::POLLIN, SOON);
    let took = began.elapsed();
    assert!(said.contains(PollFlags::POLLIN), "the worker alone never says READY=1");
    proc::signal(child.id(), Signal::SIGKILL);
    child.wait().expect("a killed child ends");
    std::fs::remove_file(&path).expect("the socket's path");
    took
}

/// What a ledger cannot do without.
fn flush(supd: &Supd) -> Duration {
    let path = supd.state_folder().join("flush");
    let mut file = File::options().append(true).create(true).open(path).expect("a file");
    let began = Instant::now();
    file.write_all(&[b'x'; 400]).and_then(|()| file.sync_data()).expect("a flush");
    began.elapsed()
}
