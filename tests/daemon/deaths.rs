//! supd dies at a bad moment, or comes back to something odd. (An ordinary death is in `survival`.)

use crate::harness::{Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::notify::Stage;
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("deaths::in_the_first_launch_beside_another", in_the_first_launch),
        test("deaths::last_words_of_who_has_ended", last_words),
        test("deaths::ready_of_who_is_ended", ready_of_who_is_ended),
        test("deaths::as_it_goes_on_with_a_worker", as_it_goes_on),
        test("deaths::a_path_that_somebody_takes", a_path_taken),
        test("deaths::of_who_has_gone_into_the_background", in_the_background),
    ]
}

fn records(supd: &Supd) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(supd.runtime().join("workers")).expect("a folder").flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "json")).collect()
}

/// A slot of its own is made then, and what makes the kernel choose: the next supd goes on with that, or without.
fn in_the_first_launch() {
    for _ in 0..5 {
        let supd = Supd::start();
        let port = free_port();
        supd.install_worker("1");
        supd.launch("web", &supd.worker(port, &[], "Workers = 4", ""));
        let first = supd.wait_for_state("web", "active").pids();
        let at = Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let load = Load::start(Plan::new(at, Mode::Close, 2));
        let known = records(&supd);
        let swap = supd.ctl_start(&["swap", "web"]);
        wait_until("one of the candidate's", SOON, || records(&supd).difference(&known).next().is_some());
        let supd = supd.crash_and_go_on();
        drop(swap.finish(SOON));
        assert_eq!(supd.wait_for_state("web", "active").pids(), first);
        for _ in 0..2 {
            supd.ctl(&["swap", "web"]).expect(0);
        }
        let tally = load.stop();
        assert_eq!(tally.lost(), 0, "{tally}");
    }
}

/// What it said last is not what the one says that is launched in its place.
fn last_words() {
    let mut stage = Stage::serving("TimeoutStopSec = \"10s\"");
    let mut puppet = stage.puppet();
    stage.supd = stage.supd.crash_and_go_on_after(|_| {
        puppet.say("STOPPING=1\nSTATUS=the last words");
        puppet.tell(&json!(["exit", 0]));
        wait_until("it to end", SOON, || !proc::alive(puppet.pid));
    });
    let next = wait_for("another in its place", SOON, || {
        let now = stage.supd.wait_for_state("web", "active");
        now.pids().first().copied().filter(|pid| *pid != puppet.pid)
    });
    let mut next = stage.puppet_of(next);
    next.say_and_sync("STATUS=its own words");
    assert_eq!((stage.status_text().as_str(), stage.now().state()), ("its own words", "active"));
    assert!(!stage.supd.log().contains("STOPPING=1"), "{}", stage.supd.log());
}

/// Nor is it ready because the one is that was ended.
fn ready_of_who_is_ended() {
    let mut stage = Stage::new();
    stage.supd.write_unit("web", &stage.unit(&[], "TimeoutStartSec = \"1min\""));
    stage.supd.ctl(&["daemon-reload"]).expect(0);
    drop(stage.supd.ctl_start(&["start", "web"]));
    let mut puppet = stage.puppet();
    stage.supd = stage.supd.crash_and_go_on_after(|_| puppet.say("READY=1"));
    let next = wait_for("another in its place", SOON, || {
        stage.now().pids().first().copied().filter(|pid| *pid != puppet.pid)
    });
    let mut next = stage.puppet_of(next);
    next.say_and_sync("STATUS=not yet");
    assert_ne!(stage.now().state(), "active", "{}", stage.supd.log());
    next.say("READY=1");
    stage.supd.wait_for_state("web", "active");
}

/// It is recorded anew before the record of the supd before goes.
fn as_it_goes_on() {
    let supd = Supd::start();
    let port = free_port();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(port, &[], "Workers = 2", ""));
    let before = supd.wait_for_state("web", "active").pids();
    let supd = supd.crash_and_go_on_after(|supd| {
        for (path, number) in records(supd).into_iter().zip(900..) {
            fs::copy(&path, path.with_file_name(format!("{number}.json"))).expect("a copy");
        }
    });
    assert_eq!(supd.wait_for_state("web", "active").pids(), before, "{}", supd.log());
    assert!(before.iter().all(|pid| proc::alive(*pid)));
    assert_eq!(records(&supd).len(), 2);
    // Of one that cannot be read it is told.
    let supd = supd.crash_and_go_on_after(|supd| {
        fs::write(supd.runtime().join("workers/77.json"), "{").expect("a file");
    });
    assert!(supd.log().contains("77.json: cannot be read"), "{}", supd.log());
    assert_eq!(supd.wait_for_state("web", "active").pids(), before);
}

const BOTH: &str = "
import os, select, socket
all = [socket.socket(fileno=3), socket.socket(fileno=4)]
while True:
    for ready in select.select(all, [], [])[0]:
        client, _ = ready.accept()
        client.sendall(b'%d' % os.getpid())
        client.close()
";

/// It costs the clients of that path, and nobody else; once they have gone it is supd's again.
fn a_path_taken() {
    let supd = Supd::start();
    let (port, path, program) = (free_port(), supd.path().join("web.sock"), supd.app().join("both.py"));
    fs::write(&program, BOTH).expect("a program");
    let unit = format!(
        "[[Socket]]\nName = \"path\"\nListenStream = {path:?}\n\n[[Socket]]\nName = \"tcp\"\n\
         ListenStream = \"127.0.0.1:{port}\"\n\n[Service]\nExecStart = [\"/usr/bin/python3\", {program:?}]\n\
         Ready = \"started\"\nReadySettleSec = \"200ms\"\n"
    );
    supd.launch("web", &unit);
    let by_path = || {
        let mut said = String::new();
        UnixStream::connect(&path).ok()?.read_to_string(&mut said).ok()?;
        said.parse::<u32>().ok()
    };
    let pid = by_path().expect("an answer");
    let mut stranger = None;
    let supd = supd.crash_and_go_on_after(|_| {
        fs::remove_file(&path).expect("a path");
        stranger = Some(UnixListener::bind(&path).expect("a path"));
    });
    assert_eq!(crate::intercept::ask(port), pid, "{}", supd.log());
    assert_eq!(supd.wait_for_state("web", "active").pids(), [pid]);
    assert!(supd.log().contains("web.sock"), "{}", supd.log());
    drop(stranger);
    wait_until("the path to lead to it again", SOON, || {
        drop(supd.status("web"));
        by_path() == Some(pid)
    });
}

/// MAINPID names who it is; the process that supd has forked has ended.
fn in_the_background() {
    let mut stage = Stage::serving("Restart = \"always\"");
    let mut parent = stage.puppet();
    let child = u32::try_from(parent.ask(&json!(["fork"])).as_u64().expect("a pid")).expect("a pid");
    parent.say_and_sync(&format!("MAINPID={child}"));
    parent.tell(&json!(["exit", 0]));
    wait_until("the parent to end", SOON, || !proc::alive(parent.pid));
    stage.supd = stage.supd.crash_and_go_on();
    assert_eq!(stage.supd.wait_for_state("web", "active").pids(), [child], "{}", stage.supd.log());
    stage.puppet_of(child).say_and_sync("STATUS=the child serves");
    assert_eq!(stage.status_text(), "the child serves");
    proc::signal(child, Signal::SIGKILL);
    wait_until("another in its place", SOON, || stage.now().pids().first().is_some_and(|pid| *pid != child));
}
