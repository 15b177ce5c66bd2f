//! What may happen to the keeper, which holds what the next supd needs.

use crate::harness::{Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("keeper::that_hangs_at_a_sigterm", that_hangs_at_a_sigterm),
        test("keeper::that_was_killed_just_before_a_sigterm", that_was_killed_just_before_a_sigterm),
        test("keeper::that_cannot_be_begun", that_cannot_be_begun),
        test("keeper::whose_socket_lost_its_file", whose_socket_lost_its_file),
        test("keeper::that_was_not_written_down", that_was_not_written_down),
        test("keeper::of_what_nobody_knows_any_more", of_what_nobody_knows_any_more),
        test("keeper::holds_nothing_of_supds_own", holds_nothing_of_supds_own),
    ]
}

/// A unit that serves, under load.
struct Stage {
    supd: Supd,
    at: SocketAddr,
    load: Load,
    workers: Vec<u32>,
    keeper: u32,
}

impl Stage {
    fn new() -> Self {
        let (supd, port) = (Supd::start(), free_port());
        supd.install_worker("1");
        supd.launch("web", &supd.worker(port, &[], "", ""));
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let load = Load::start(Plan::new(Target::Tcp(at), Mode::Close, 4));
        load.wait_for_more(100, SOON);
        let (workers, keeper) = (supd.status("web").pids(), supd.keeper().expect("a keeper"));
        Self { supd, at, load, workers, keeper }
    }

    fn signal(&self, signal: Signal) {
        proc::signal(self.keeper, signal);
    }

    /// The same workers serve, and nobody has noticed anything.
    fn goes_on(self) {
        self.load.wait_for_more(100, SOON);
        let after = self.supd.wait_for_state("web", "active");
        assert_eq!(after.pids(), self.workers, "{}", self.supd.log());
        assert_eq!(self.load.stop().lost(), 0, "{}", self.supd.log());
    }
}

/// supd has everything, and gives it to another one before it goes.
fn that_hangs_at_a_sigterm() {
    let mut stage = Stage::new();
    stage.signal(Signal::SIGSTOP);
    stage.supd = stage.supd.restart();
    assert!(!proc::alive(stage.keeper));
    stage.goes_on();
}

fn that_was_killed_just_before_a_sigterm() {
    for missed in [true, false] {
        let mut stage = Stage::new();
        stage.signal(Signal::SIGKILL);
        if missed {
            wait_until("it to be missed", SOON, || stage.supd.log().contains("another keeper is begun"));
        }
        stage.supd = stage.supd.restart();
        stage.goes_on();
    }
}

/// Nobody could go on with anything: all is stopped in order.
fn that_cannot_be_begun() {
    let stage = Stage::new();
    let folder = stage.supd.runtime().join("keeper");
    fs::rename(&folder, folder.with_extension("away")).expect("its folder");
    fs::write(&folder, "").expect("no folder");
    stage.signal(Signal::SIGKILL);
    proc::signal(stage.supd.pid(), Signal::SIGTERM);
    wait_until("supd to end", SOON, || !stage.supd.is_alive());
    assert!(stage.workers.iter().all(|worker| !proc::alive(*worker)), "{}", stage.supd.log());
    drop(stage.load.stop());
}

/// A cleaner of temporary files, say.
fn whose_socket_lost_its_file() {
    let mut stage = Stage::new();
    for _ in 0..2 {
        stage.supd = stage.supd.crash_and_go_on_after(|supd| {
            fs::remove_file(supd.runtime().join("keeper/socket")).expect("a socket");
        });
        assert_eq!(stage.supd.keeper(), Some(stage.keeper), "{}", stage.supd.log());
    }
    stage.goes_on();
}

/// Whoever began it may have died too soon. It is known all the same, and ended where it hangs.
fn that_was_not_written_down() {
    let mut stage = Stage::new();
    stage.supd = stage.supd.crash_and_go_on_after(|supd| {
        fs::remove_file(supd.runtime().join("keeper/process")).expect("a record");
    });
    assert_eq!(stage.supd.keeper(), Some(stage.keeper));
    assert_eq!(stage.supd.wait_for_state("web", "active").pids(), stage.workers, "{}", stage.supd.log());
    drop(stage.load.stop());
    proc::signal(stage.keeper, Signal::SIGSTOP);
    let supd = stage.supd.crash_and_go_on_after(|supd| {
        fs::remove_file(supd.runtime().join("keeper/process")).expect("a record");
    });
    assert!(!proc::alive(stage.keeper), "{}", supd.log());
    supd.wait_for_state("web", "active");
    let load = Load::start(Plan::new(Target::Tcp(stage.at), Mode::Close, 4));
    load.wait_for_more(100, SOON);
    assert_eq!(load.stop().lost(), 0, "{}", supd.log());
}

/// What the ledger says nothing of is closed before anything is bound there.
fn of_what_nobody_knows_any_more() {
    let stage = Stage::new();
    drop(stage.load.stop());
    let supd = stage.supd.crash_and_go_on_after(|supd| {
        fs::write(supd.state_folder().join("ledger"), "garbage\n").expect("a ledger");
    });
    wait_for("a worker", SOON, || supd.status("web").pids().first().copied());
    supd.wait_for_state("web", "active");
    assert!(!supd.log().contains("in use"), "{}", supd.log());
}

/// It outlives supd: whoever reads what supd says to its end would wait for it.
fn holds_nothing_of_supds_own() {
    let supd = Supd::start();
    let keeper = supd.keeper().expect("a keeper");
    let link = |name: &str| fs::read_link(format!("/proc/{keeper}/{name}")).expect("a process");
    let at_rest = || link("cwd").as_os_str() == "/" && proc::files(keeper).len() == 5;
    wait_until("it to be at rest", SOON, at_rest);
    for fd in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(link(fd).as_os_str(), "/dev/null");
    }
}
