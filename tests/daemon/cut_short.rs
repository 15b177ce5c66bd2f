//! Swaps and installs that a stop, or the end of supd, cuts short: each has one end in the history, and it is
//! what whoever waited was told.

use crate::harness::{Running, Supd, free_port};
use crate::history::{entries, seqs};
use crate::releases::Shop;
use crate::wait::{SOON, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("cut_short::by_the_death_of_supd", by_the_death_of_supd),
        test("cut_short::by_a_shutdown", by_a_shutdown),
        test("cut_short::by_a_stop", by_a_stop),
        test("cut_short::a_stop_is_of_who_asked_for_it", a_stop_is_of_who_asked_for_it),
        test("cut_short::a_launch_and_an_install", a_launch_and_an_install),
    ]
}

/// The ends of swaps that supd was restarted in: result, generations, and who asked.
fn cut_short(supd: &Supd) -> Vec<String> {
    let all = entries(supd, &[]);
    let numbers = seqs(&all);
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    let cut = all
        .iter()
        .filter(|entry| entry["what"] == json!("ended") && entry["cause"] == json!("supervisor-restarted"));
    let text = |entry: &Value| {
        let swap = &entry["swap_id"];
        let ends = all.iter().filter(|one| one["what"] == json!("ended") && one["swap_id"] == *swap);
        assert_eq!(ends.count(), 1, "{all:#?}");
        let began = all.iter().find(|one| one["what"] == json!("began") && one["swap_id"] == *swap);
        let began = began.unwrap_or_else(|| panic!("{entry} never began"));
        assert!(began["at_us"].as_u64() < entry["at_us"].as_u64(), "{began} {entry}");
        assert_eq!(began["by"], entry["by"]);
        let (result, from, to) = (&entry["result"], &entry["from"]["generation"], &entry["to"]["generation"]);
        let verb = entry["by"]["verb"].as_str().unwrap_or("nobody");
        format!("{} {from} {to} {verb}", result.as_str().unwrap_or("no result"))
    };
    cut.map(text).collect()
}

/// A swap to a worker with these arguments, until `when` is in the log; and who waits for it.
fn begin_swap(arguments: &[&str], swap: &str, when: &str) -> (Supd, Running) {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", ""));
    supd.write_unit("web", &supd.worker(port, arguments, "", swap));
    let asked = supd.ctl_start(&["swap", "web", "--reason", "why not", "--request-id", "s"]);
    wait_until(when, SOON, || supd.log().contains(when));
    (supd, asked)
}

/// How each swap to this generation ended, by the history.
fn ends_of(supd: &Supd, to: u64) -> Vec<Value> {
    let all = entries(supd, &["web"]);
    let ends = all
        .into_iter()
        .filter(|entry| entry["what"] == json!("ended") && entry["to"]["generation"] == json!(to));
    ends.map(|entry| entry["result"].clone()).collect()
}

/// The same, and nobody waits.
fn in_mid_swap(arguments: &[&str], swap: &str, when: &str) -> Supd {
    let (supd, asked) = begin_swap(arguments, swap, when);
    proc::signal(asked.pid(), Signal::SIGKILL);
    asked.finish(SOON);
    supd
}

/// Killed with a candidate that is not ready, and in probation: the next supd tells the end, once, whoever
/// dies meanwhile.
fn by_the_death_of_supd() {
    for (arguments, swap, when, told) in [
        (&["late=60000"][..], "", "web/g2: launched", "aborted 1 2 swap"),
        (&[], "ProbationSec = \"10min\"", "web/g2: receives the traffic", "committed 1 2 swap"),
    ] {
        let mut supd = in_mid_swap(arguments, swap, when);
        for _ in 0..3 {
            supd = supd.crash_and_restart();
            supd.wait_for_state("web", "active");
            assert_eq!(cut_short(&supd).first().map(String::as_str), Some(told));
            let swaps = cut_short(&supd).iter().filter(|one| one.ends_with("swap")).count();
            assert_eq!(swaps, 1, "{:?}", cut_short(&supd));
        }
        let table = supd.ctl(&["history", "web"]).expect(0).stdout;
        assert!(table.contains("supervisor-restarted") && table.contains("why not"), "{table}");
    }
}

/// An orderly end of supd ends the swap, too: whoever waits and the history are told the same, and the next supd
/// goes on with just that.
fn by_a_shutdown() {
    for (arguments, swap, when, (code, said), result) in [
        (&["late=60000"][..], "", "web/g2: launched", (7, "told to end meanwhile"), "aborted"),
        (
            &[],
            "ProbationSec = \"10min\"",
            "web/g2: receives the traffic",
            (0, "generation 2 is committed"),
            "committed",
        ),
    ] {
        let (supd, asked) = begin_swap(arguments, swap, when);
        supd.ctl(&["shutdown"]).expect(0);
        let told = asked.finish(SOON).expect(code);
        assert!(told.text().contains(said), "{told}");
        let supd = supd.crash_and_restart();
        supd.wait_for_state("web", "active");
        assert_eq!(cut_short(&supd), Vec::<String>::new());
        assert_eq!(ends_of(&supd, 2), [json!(result)]);
    }
}

/// A stop in mid swap: nobody is told before the disk has it, and the swap has its own end.
fn by_a_stop() {
    for (arguments, swap, when, killed) in [
        (&[][..], "ProbationSec = \"10min\"", "web/g2: receives the traffic", (0, "committed")),
        (&["late=60000"], "", "web/g2: launched", (1, "aborted")),
    ] {
        let (supd, asked) = begin_swap(arguments, swap, when);
        supd.ctl(&["stop", "web"]).expect(0);
        let told = asked.finish(SOON).expect(7);
        assert!(told.text().contains("the unit was stopped meanwhile"), "{told}");
        assert_eq!(ends_of(&supd, 2), [json!("stopped")]);

        let (supd, asked) = begin_swap(arguments, swap, when);
        let writer = supd.writer().expect("it has written");
        proc::signal(writer, Signal::SIGSTOP);
        let stop = supd.ctl_start(&["stop", "web"]);
        wait_until("the workers to end", SOON, || supd.status("web").pids().is_empty());
        assert!(proc::alive(asked.pid()) && proc::alive(stop.pid()), "told before it is written");
        let supd = supd.crash_and_restart_after(|_| proc::signal(writer, Signal::SIGKILL));
        for client in [asked, stop] {
            let output = client.finish(SOON);
            assert!(matches!(output.code(), 4 | 5), "{output}");
        }
        supd.wait_for_state("web", "active");
        assert_eq!(ends_of(&supd, 2), [json!(killed.1)]);
        let again = supd.ctl(&["swap", "web", "--request-id", "s"]).expect(killed.0);
        assert!(!again.text().contains("stopped"), "{again}");
    }
}

/// Others wait for it as well, and whoever asked for it has gone.
fn a_stop_is_of_who_asked_for_it() {
    let supd = Supd::start();
    supd.install_worker("1");
    let stubborn = supd.worker(free_port(), &["ignore-term"], "TimeoutStopSec = \"2s\"", "");
    supd.launch("web", &stubborn);
    let stop = supd.ctl_start(&["stop", "web", "--now", "--reason", "maintenance"]);
    wait_until("the stop", SOON, || supd.log().contains("web: stopping"));
    let waits = supd.ctl_start(&["wait", "web"]);
    proc::signal(stop.pid(), Signal::SIGKILL);
    stop.finish(SOON);
    waits.finish(SOON);
    let all = entries(&supd, &["web"]);
    let stopped = all.iter().find(|entry| entry["what"] == json!("stopped")).expect("a stop");
    let by = &stopped["by"];
    assert_eq!((&by["verb"], &by["reason"]), (&json!("stop"), &json!("maintenance")), "{stopped}");
}

/// A first launch has an end; an install, of which no record tells before it is there, has one, too.
fn a_launch_and_an_install() {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.write_unit("slow", &supd.worker(free_port(), &["late=60000"], "", ""));
    supd.ctl(&["daemon-reload"]).expect(0);
    let asked = supd.ctl_start(&["start", "slow"]);
    wait_until("the launch", SOON, || supd.log().contains("slow/g1: launched"));
    proc::signal(asked.pid(), Signal::SIGKILL);
    asked.finish(SOON);
    let supd = supd.crash_and_restart();
    wait_until("its end", SOON, || !cut_short(&supd).is_empty());
    assert_eq!(cut_short(&supd), ["aborted null 1 start"]);

    let shop = Shop::open();
    shop.deploy("1").expect(0);
    shop.unit("ExecInstall = [\"/bin/sh\", \"-c\", \"sleep 600\"]", "");
    shop.ctl(&["daemon-reload"]).expect(0);
    let folder = shop.build("2", "");
    let words = ["deploy", "web", "2", folder.to_str().expect("UTF-8"), "--request-id", "d"];
    let install = shop.supd.ctl_start(&words);
    let sleeps = |pid: &u32| proc::command_line(*pid).contains("sleep 600");
    wait_until("ExecInstall to run", SOON, || {
        proc::with_environment(&shop.supd.path().to_string_lossy(), &[]).iter().any(sleeps)
    });
    let supd = shop.close().crash_and_restart();
    supd.wait_for_state("web", "active");
    proc::signal(install.pid(), Signal::SIGKILL);
    install.finish(SOON);
    assert_eq!(cut_short(&supd), Vec::<String>::new());
    let failed = |supd: &Supd| {
        let all = entries(supd, &["web"]);
        let of = |entry: &&Value| entry["release"] == json!("2");
        let text = |entry: &Value| format!("{} {} {}", entry["what"], entry["by"]["verb"], entry["cause"]);
        all.iter().filter(of).map(text).collect::<Vec<_>>()
    };
    let told = ["\"install-failed\" \"deploy\" \"supervisor-restarted\""];
    assert_eq!(failed(&supd), told);
    let supd = supd.crash_and_restart();
    supd.wait_for_state("web", "active");
    assert_eq!(failed(&supd), told, "once");
    let again = supd.ctl(&words).expect(1);
    assert!(again.text().contains("release 2 is not installed: supd was restarted"), "{again}");
    // What is installed is not told of, whenever supd dies.
    let all = entries(&supd, &["web"]);
    assert!(
        !all.iter().any(|entry| entry["what"] == json!("install-failed") && entry["release"] == json!("1"))
    );
}
