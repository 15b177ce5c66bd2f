//! Swap and rollback of a server that does everything right, so that whatever goes wrong is supd's.

use crate::harness::{Output, Supd, free_port};
use crate::load::tally::Kind;
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("swap::again_and_again_under_load", again_and_again_under_load),
        test("swap::rollback_brings_back_the_pinned_program", rollback_brings_back_the_pinned_program),
        test(
            "swap::rollback_to_what_ended_before_it_was_copied",
            rollback_to_what_ended_before_it_was_copied,
        ),
        test("swap::rollback_to_what_was_copied_after_a_crash", rollback_to_what_was_copied_after_a_crash),
        test("swap::rollback_before_commit_launches_nothing", rollback_before_commit_launches_nothing),
        test("swap::hold_promote_abort", hold_promote_abort),
        test("swap::nothing_is_under_way", nothing_is_under_way),
        test("swap::second_one_is_refused", second_one_is_refused),
        test("swap::restart_keeps_what_is_retained", restart_keeps_what_is_retained),
        test("swap::crash_makes_no_generation", crash_makes_no_generation),
        test("swap::several_workers", several_workers),
    ]
}

fn target(port: u16) -> Target {
    Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// A supd whose unit `web` serves version 1.
fn serving(service: &str, swap: &str) -> (Supd, u16) {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], service, swap));
    (supd, port)
}

fn ended(what: &str, pids: &[u32]) {
    assert!(!pids.is_empty(), "{what}: no processes were listed");
    wait_until(&format!("{what} to end"), SOON, || pids.iter().all(|pid| !proc::alive(*pid)));
}

/// Nothing is left of the others: until supd has looked for what they left they count (MaxGenerations).
fn alone(supd: &Supd) {
    let live = || supd.status("web").0["generations"].as_array().map_or(0, Vec::len);
    wait_until("only one generation to be left", SOON, || live() == 1);
}

/// Swap after swap, rollback after rollback, busy clients of both kinds: nothing is lost, and after
/// each command's answer and the end of the old only the new answers.
fn again_and_again_under_load() {
    let _machine = crate::harness::whole_machine();
    let (supd, port) = serving("", "ProbationSec = \"200ms\"");
    let loads = [
        Load::start(Plan::new(target(port), Mode::Close, 8).slow_every(50)),
        Load::start(Plan::new(target(port), Mode::KeepAlive, 8).slow_every(50)),
    ];
    let mut switches = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 2..22 {
        let version = round.to_string();
        let before = supd.status("web").pids();
        supd.install_worker(&version);
        let output = supd.ctl(&["swap", "web"]).expect(0);
        slowest = slowest.max(output.took);
        ended("the old generation", &before);
        alone(&supd);
        switches.push(([loads[0].now(), loads[1].now()], version.clone()));
        loads.iter().for_each(|load| load.wait_for_more(50, SOON));
        if round % 2 == 0 {
            let before = supd.status("web").pids();
            supd.ctl(&["rollback", "web"]).expect(0);
            ended("the generation that was rolled back from", &before);
            alone(&supd);
            switches.push(([loads[0].now(), loads[1].now()], (round - 1).to_string()));
            loads.iter().for_each(|load| load.wait_for_more(50, SOON));
        }
    }
    for (index, load) in loads.into_iter().enumerate() {
        let tally = load.stop();
        println!("--- 20 swaps, 10 rollbacks, slowest swap {slowest:.3?} ---\n{tally}");
        assert_eq!(tally.lost(), 0, "{tally}");
        for (at, version) in &switches {
            let answered = tally.versions_between(at[index], at[index] + Duration::from_millis(20));
            assert!(answered.keys().all(|who| who == version), "after {:?}: {answered:?}", at[index]);
        }
    }
}

/// What is on disk has changed since: the copy of what ran before is launched.
fn rollback_brings_back_the_pinned_program() {
    let (supd, port) = serving("", "");
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    supd.install_worker("3");
    let before = supd.status("web").pids();
    supd.ctl(&["rollback", "web"]).expect(0);
    ended("the generation that was rolled back from", &before);
    let load = Load::start(Plan::new(target(port), Mode::Close, 2));
    load.wait_for_more(50, SOON);
    let tally = load.stop();
    assert!(tally.versions().keys().eq(["1"]), "{tally}");
    assert_eq!(tally.lost(), 0);

    // A rollback is no toggle: the second is refused, with the command that goes forward.
    let refused = supd.ctl(&["rollback", "web"]).expect(3);
    assert!(refused.text().contains("supctl swap web"), "{refused}");
}

/// A unit whose program takes long to copy, and the child that copies it, stopped.
fn stopped_copy(supd: &Supd, name: &str) -> u32 {
    let program = supd.app().join(name);
    let unit = format!(
        "[Service]\nExecStart = [{program:?}, \"600\"]\nReleases = false\nReady = \"started\"\n[Swap]\nProbationSec = \"100ms\"\n"
    );
    supd.write_unit(name, &unit);
    supd.ctl(&["daemon-reload"]).expect(0);
    wait_for("a copy under way", SOON, || {
        std::fs::copy("/bin/sleep", supd.app().join("next")).expect("copying a program");
        let file = std::fs::File::options().write(true).open(supd.app().join("next")).expect("the copy");
        file.set_len(32 << 20).expect("making it longer");
        drop(file);
        std::fs::rename(supd.app().join("next"), &program).expect("moving it into place");
        let swap = supd.ctl_start(&["swap", name]);
        let target = format!("generations/{name}/");
        let mut copies = || {
            let writes = |pid: &u32| {
                proc::files(*pid).iter().any(|file| file.contains(&target) && file.ends_with("program.new"))
            };
            proc::children(supd.pid()).into_iter().find(writes)
        };
        let began = std::time::Instant::now();
        let found =
            std::iter::repeat_with(&mut copies).take_while(|_| began.elapsed() < SOON / 10).flatten().next();
        found.iter().for_each(|pid| proc::signal(*pid, Signal::SIGSTOP));
        swap.finish(SOON).expect(0);
        found.filter(|pid| proc::alive(*pid) && copies() == Some(*pid))
    })
}

/// Every child that copies programs is busy for long, and somebody swaps and goes back.
fn rollback_to_what_ended_before_it_was_copied() {
    let supd = Supd::start();
    let stuck = ["one", "two"].map(|name| stopped_copy(&supd, name));
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", ""));
    let before = supd.status("web").pids();
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    ended("the generation to go back to", &before);
    let after = supd.status("web").pids();
    let back = supd.ctl_start(&["rollback", "web"]);
    wait_until("the rollback to wait for the copy", SOON, || {
        supd.status("web").last_swap()["result"] == "running"
    });
    stuck.iter().for_each(|pid| proc::signal(*pid, Signal::SIGCONT));
    let back = back.finish(SOON).expect(0);
    assert!(back.text().contains("still being copied"), "{back}");
    ended("the generation that was rolled back from", &after);
    let load = Load::start(Plan::new(target(port), Mode::Close, 2));
    load.wait_for_more(50, SOON);
    let tally = load.stop();
    assert!(tally.versions().keys().eq(["1"]), "{tally}");
}

/// supd ends, and the copy is made all the same: the next one knows.
fn rollback_to_what_was_copied_after_a_crash() {
    let supd = Supd::start();
    let copy = stopped_copy(&supd, "web");
    let before = supd.status("web");
    std::fs::copy("/bin/sleep", supd.app().join("next")).expect("copying a program");
    std::fs::rename(supd.app().join("next"), supd.app().join("web")).expect("moving it into place");
    supd.ctl(&["swap", "web"]).expect(0);
    ended("the generation to go back to", &before.pids());
    let supd = supd.crash_and_restart_after(|_| {
        proc::signal(copy, Signal::SIGCONT);
        wait_until("the copy to be made", SOON, || !proc::alive(copy));
    });
    assert_eq!(supd.wait_for_state("web", "active").retained(), before.active());
    supd.ctl(&["rollback", "web"]).expect(0);
}

fn rollback_before_commit_launches_nothing() {
    let (supd, _) = serving("", "ProbationSec = \"60s\"");
    let before = supd.status("web");
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--wait=active"]).expect(0);
    let probation = supd.status("web");
    assert_eq!(probation.state(), "probation");
    assert_eq!(probation.retained(), before.active());
    let switch = probation.last_swap()["switch_us"].as_u64();
    assert!(switch.is_some_and(|took| took > 0), "{switch:?}");
    let waiting = supd.ctl_start(&["wait", "web"]);
    let output = supd.ctl(&["rollback", "web"]).expect(0);
    assert!(output.took < SOON, "{output}");
    let after = supd.status("web");
    assert_eq!((after.state(), after.active()), ("active", before.active()));
    assert_eq!(after.pids_in(before.active().expect("active")), before.pids(), "a worker was launched");
    waiting.finish(SOON).expect(6);
}

fn hold_promote_abort() {
    let (supd, _) = serving("", "");
    let before = supd.status("web");
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--hold"]).expect(0);
    let held = supd.status("web");
    assert_eq!(held.active(), before.active(), "a held candidate is not active");
    let candidate: Vec<u32> = held.pids().into_iter().filter(|pid| !before.pids().contains(pid)).collect();
    supd.ctl(&["abort", "web"]).expect(0);
    ended("the aborted candidate", &candidate);
    says(&supd.ctl(&["abort", "web"]).expect(3), &["is undone already", "Next: supctl swap web"]);
    says(&supd.ctl(&["wait", "web"]).expect(1), &["aborted", "Next: supctl swap web"]);
    assert_eq!(supd.status("web").active(), before.active());

    supd.ctl(&["swap", "web", "--hold"]).expect(0);
    supd.ctl(&["promote", "web"]).expect(0);
    supd.ctl(&["wait", "web"]).expect(0);
    let after = supd.wait_for_state("web", "active");
    assert_ne!(after.active(), before.active());
    ended("the old generation", &before.pids());
    let refused = supd.ctl(&["abort", "web"]).expect(3);
    assert!(refused.text().contains("rollback"), "{refused}");
    supd.ctl(&["promote", "web"]).expect(3);
}

fn says(output: &Output, words: &[&str]) {
    for words in words {
        assert!(output.text().contains(words), "{words:?} is not in\n{output}");
    }
}

/// What there is nothing of is named, and so is what to type: each after the one before.
fn nothing_is_under_way() {
    let (supd, _) = serving("", "");
    says(&supd.ctl(&["wait", "web"]).expect(0), &["the last swap, to generation 1: committed"]);
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    says(&supd.ctl(&["abort", "web"]).expect(3), &["undone by a rollback", "Next: supctl rollback web"]);
    supd.ctl(&["rollback", "web"]).expect(0);
    says(
        &supd.ctl(&["abort", "web"]).expect(3),
        &["was rolled back from generation 2", "Next: supctl swap web"],
    );
    supd.ctl(&["stop", "web"]).expect(0);
    says(&supd.ctl(&["abort", "web"]).expect(3), &["is stopped", "Next: supctl start web"]);
    says(&supd.ctl(&["wait", "web"]).expect(0), &["is stopped; the last swap"]);
    // A server that goes into the background.
    let forks = "[Service]\nExecStart = [\"/bin/sh\", \"-c\", \"sleep 600 & exit 0\"]\nReleases = false\nRestart = \"no\"\n";
    supd.write_unit("forks", forks);
    supd.ctl(&["daemon-reload"]).expect(0);
    says(
        &supd.ctl(&["start", "forks"]).expect(7),
        &["exit status 0 before it was ready", "--daemon", "MAINPID="],
    );
    says(&supd.ctl(&["wait", "forks"]).expect(7), &["failed", "Next: supctl status forks"]);
}

fn second_one_is_refused() {
    let (supd, _) = serving("", "");
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--hold"]).expect(0);
    let held = supd.status("web");
    let refused = supd.ctl(&["swap", "web"]).expect(3);
    says(&refused, &["is under way: it is ready and held", "Next: supctl swap web --replace"]);
    assert_eq!(supd.status("web").pids(), held.pids(), "a refused swap changes nothing");

    supd.install_worker("3");
    let replaced = supd.ctl(&["swap", "web", "--replace"]).expect(0);
    says(&replaced, &["the swap to generation 2 was undone to make place for this one"]);
    let after = supd.wait_for_state("web", "active");
    ended("both old ones", &held.pids());
    assert!(after.active() > held.active());
    let generations: Vec<u64> = [held.active(), after.active()].into_iter().flatten().collect();
    assert!(generations[1] >= generations[0] + 2, "a number was used twice: {generations:?}");
}

/// A swap to the same release, which drains what it replaces and does not change what a rollback
/// goes back to.
fn restart_keeps_what_is_retained() {
    let (supd, port) = serving("", "");
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    let before = supd.status("web");
    supd.ctl(&["restart", "web"]).expect(0);
    let after = supd.status("web");
    assert_ne!(after.active(), before.active());
    assert_eq!(after.retained(), before.retained());
    ended("the old generation", &before.pids());
    supd.ctl(&["rollback", "web"]).expect(0);
    ended("the restarted generation", &after.pids());
    let load = Load::start(Plan::new(target(port), Mode::Close, 2));
    load.wait_for_more(50, SOON);
    assert!(load.stop().versions().keys().eq(["1"]));
}

/// The listener outlives the worker: what comes meanwhile waits and is served by its successor, which
/// belongs to the same generation.
fn crash_makes_no_generation() {
    let (supd, port) = serving("", "");
    let load = Load::start(Plan::new(target(port), Mode::Close, 4));
    for _ in 0..3 {
        load.wait_for_more(50, SOON);
        let before = supd.status("web");
        for pid in before.pids() {
            proc::signal(pid, Signal::SIGKILL);
        }
        let after = wait_for("a relaunch", SOON, || {
            let now = supd.status("web");
            let new = !now.pids().is_empty() && now.pids() != before.pids();
            (new && now.state() == "active").then_some(now)
        });
        assert_eq!(after.active(), before.active());
    }
    load.wait_for_more(50, SOON);
    let tally = load.stop();
    // What the killed process had accepted died with it; nobody else noticed.
    assert_eq!((tally.lost_by(Kind::Refused), tally.lost_by(Kind::TimedOut)), (0, 0), "{tally}");
    assert!(tally.lost() <= 3 * 4, "{tally}");
}

/// Three workers share one listener; one that is killed is replaced alone.
fn several_workers() {
    let (supd, port) = serving("Workers = 3", "");
    let before = supd.status("web");
    assert_eq!(before.pids().len(), 3, "{}", before.0);
    let load = Load::start(Plan::new(target(port), Mode::Close, 8));
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    ended("the old generation", &before.pids());
    load.wait_for_more(200, SOON);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.versions()["2"].pids.len() > 1, "one worker does all the work:\n{tally}");

    let after = supd.status("web");
    proc::signal(after.pids()[0], Signal::SIGKILL);
    wait_until("the killed one to be replaced", SOON, || {
        let now = supd.status("web").pids();
        now.len() == 3 && !now.contains(&after.pids()[0]) && now.contains(&after.pids()[1])
    });
}
