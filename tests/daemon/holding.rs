//! Two crashes of supd by its own fault: it goes on with what serves, and begins nothing until a person has seen
//! to it.

use crate::harness::{Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("holding::after_two_crashes", after_two_crashes),
        test("holding::what_never_served_is_not_started", what_never_served_is_not_started),
        test("holding::after_no_kill", after_no_kill),
        test("holding::each_fatal_signal_leaves_a_mark", each_fatal_signal_leaves_a_mark),
        test("holding::a_panic_leaves_one_mark_and_a_child_none", a_panic_leaves_one_mark),
    ]
}

/// supd dies by this signal, and another one comes.
fn dies(supd: Supd, signal: Signal) -> Supd {
    proc::signal(supd.pid(), signal);
    supd.restart_ended()
}

fn marks(supd: &Supd) -> Vec<String> {
    let text = fs::read_to_string(supd.runtime().join("crashes")).expect("the marks");
    text.lines().map(|line| line.splitn(3, ' ').nth(2).expect("why").to_owned()).collect()
}

fn after_two_crashes() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", ""));
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let load = Load::start(Plan::new(Target::Tcp(at), Mode::Close, 4));
    let first = supd.status("web").pids_in(2);
    // One crash is none too many.
    let supd = dies(supd, Signal::SIGSEGV);
    supd.ctl(&["swap", "web", "--dry-run"]).expect(0);
    assert_eq!(supd.status("web").state(), "active");
    let supd = dies(supd, Signal::SIGBUS);
    let status = supd.wait_for_state("web", "holding");
    assert_eq!((status.pids_in(2), status.active()), (first, Some(2)), "it goes on with who lives");
    assert_eq!(status.0["health"], "up", "{}", status.0);
    supd.ctl(&["is-active", "web"]).expect(0);
    supd.ctl(&["status", "--check", "web"]).expect(0);
    let table = supd.ctl(&["status"]).stdout;
    assert!(table.contains("crashed twice") && table.contains("supctl daemon-reload"), "{table}");
    supd.install_worker("3");
    for verb in ["swap", "restart", "rollback"] {
        let refused = supd.ctl(&[verb, "web"]).expect(3);
        assert!(refused.text().contains("supctl daemon-reload"), "{refused}");
    }
    supd.ctl(&["start", "web"]).expect(0);
    // Who dies is launched again, as it was.
    proc::signal(supd.status("web").pids()[0], Signal::SIGKILL);
    wait_until("another worker", SOON, || {
        let status = supd.status("web");
        status.state() == "holding" && status.active() == Some(2) && !status.pids().is_empty()
    });
    load.wait_for_more(100, SOON);
    assert!(load.all_on("2"), "what was installed since is not run");
    // A restart of supd is no person's word.
    let supd = supd.restart();
    supd.wait_for_state("web", "holding");
    let said = supd.ctl(&["daemon-reload", "--dry-run"]).expect(0);
    assert!(said.text().contains("would hold no longer"), "{said}");
    assert!(supd.ctl(&["daemon-reload"]).expect(0).text().contains("holds no longer"));
    assert_eq!(supd.status("web").state(), "active");
    supd.ctl(&["swap", "web"]).expect(0);
    assert_eq!(marks(&supd), [""; 0]);
    let supd = supd.restart();
    assert_eq!(supd.status("web").state(), "active");
    load.stop();
}

/// A unit that was about to be started for the first time may be what supd crashes by.
fn what_never_served_is_not_started() {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    let new = supd.worker(free_port(), &[], "", "");
    let supd = dies(supd, Signal::SIGABRT);
    supd.write_unit("new", &new);
    let supd = dies(supd, Signal::SIGABRT);
    supd.wait_for_state("web", "holding");
    assert_eq!(supd.status("new").state(), "down");
    supd.ctl(&["start", "new"]).expect(3);
    assert_eq!(supd.status("new").pids(), [0; 0]);
    supd.ctl(&["daemon-reload"]).expect(0);
    supd.wait_for_state("new", "active");
    supd.wait_for_state("web", "active");
}

/// SIGKILL, by the kernel when memory is short or by anybody, is nobody's own fault.
fn after_no_kill() {
    let mut supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    for _ in 0..3 {
        supd = supd.crash_and_go_on();
        assert_eq!(supd.wait_for_state("web", "active").active(), Some(1));
    }
    assert_eq!(marks(&supd), [""; 0]);
}

fn each_fatal_signal_leaves_a_mark() {
    let mut supd = Supd::start();
    let all = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGABRT, Signal::SIGFPE];
    for (count, signal) in all.into_iter().enumerate() {
        supd = dies(supd, signal);
        let names: Vec<&str> = all.iter().take(count + 1).map(|signal| signal.as_str()).collect();
        assert_eq!(marks(&supd), names);
    }
    // There are never many.
    for _ in 0..6 {
        supd = dies(supd, Signal::SIGABRT);
    }
    assert!(marks(&supd).len() <= 9, "{:?}", marks(&supd));
}

/// A process that is armed as supd is, and panics: first in a forked child.
fn a_panic_leaves_one_mark() {
    let folder = crate::harness::folder();
    let marks = folder.path().join("crashes");
    let program = std::env::current_exe().expect("this binary");
    let ended =
        Command::new(program).env("DAEMON_TEST_ROLE", "crash").arg(&marks).output().expect("a process");
    assert!(!ended.status.success(), "{ended:?}");
    let text = fs::read_to_string(&marks).expect("the marks");
    let lines: Vec<&str> = text.lines().collect();
    assert!(matches!(lines[..], [line] if line.contains(" panic at tests/daemon/support/")), "{text}");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("in a child") && said.contains("in the parent"), "{said}");
}
