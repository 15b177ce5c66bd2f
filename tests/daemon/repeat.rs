//! Requests that come once more under the same `request_id`: answered with the first outcome, over
//! every death of supd; and never with one that nobody knows.

use crate::harness::{Output, Status, Supd, folder, free_port};
use crate::hostile::clock::{FAKETIME, with_clock};
use crate::wait::{SOON, holds_for, wait_until};
use crate::{Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("repeat::outcomes_outlive_supd", outcomes_outlive_supd),
        test("repeat::durable_before_it_is_told", durable_before_it_is_told),
        test("repeat::killed_before_the_switch", killed_before_the_switch),
        test("repeat::killed_in_probation", killed_in_probation),
        test("repeat::killed_before_the_answer", killed_before_the_answer),
        test("repeat::damage_costs_itself_only", damage_costs_itself_only),
        test_with("repeat::clock_jumps", FAKETIME, clock_jumps),
        test("repeat::a_thousand_and_more", a_thousand_and_more),
        test("repeat::under_way_and_gone", under_way_and_gone),
        test("repeat::a_writer_outlives_supd", a_writer_outlives_supd),
    ]
}

/// A supd with a unit `web` in version 1.
fn serving(supd: &Supd, arguments: &[&str]) -> u16 {
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", ""));
    supd.write_unit("web", &supd.worker(port, arguments, "", ""));
    port
}

/// The unit once the generations before have ended.
fn serving_alone(supd: &Supd) -> Status {
    wait_until("the generations before to end", SOON, || supd.status("web").pids().len() == 1);
    supd.status("web")
}

fn ask(supd: &Supd, id: &str, words: &[&str]) -> Output {
    supd.ctl(&[words, &["--request-id", id]].concat())
}

/// The same answer as before: of a command without live progress all of it, else its last part.
fn is_again(first: &Output, again: &Output) {
    assert_eq!(first.code(), again.code(), "{first}\n{again}");
    assert!(first.stdout.ends_with(&again.stdout), "another answer:\n{first}\n{again}");
    assert!(first.stderr.ends_with(&again.stderr), "another answer:\n{first}\n{again}");
}

/// supd and the child that writes for it die in the moment of the answer: all of it is on the disk.
fn outcomes_outlive_supd() {
    let mut supd = Supd::start();
    let port = serving(&supd, &[]);
    let done = ask(&supd, "done", &["restart", "web"]).expect(0);
    supd.write_unit("web", &supd.worker(port, &["die=7"], "", ""));
    let failed = ask(&supd, "failed", &["swap", "web"]).expect(1);
    assert!(failed.text().contains("die=7"), "the last lines:\n{failed}");
    supd.write_unit("web", "[Nonsense]\n");
    let faulty = ask(&supd, "faulty", &["daemon-reload"]).expect(78);
    supd.write_unit("web", &supd.worker(port, &[], "", ""));
    let nothing = ask(&supd, "nothing", &["start", "web"]).expect(0);
    let refused = ask(&supd, "refused", &["abort", "web"]).expect(3);
    let kill = ask(&supd, "kill", &["kill", "-s", "SIGCONT", "web"]).expect(0);
    let firsts: [(&str, &[&str], Output); 6] = [
        ("done", &["restart", "web"], done),
        ("failed", &["swap", "web"], failed),
        ("faulty", &["daemon-reload"], faulty),
        ("nothing", &["start", "web"], nothing),
        ("refused", &["abort", "web"], refused),
        ("kill", &["kill", "-s", "SIGCONT", "web"], kill),
    ];
    for life in 0..3 {
        let before = serving_alone(&supd);
        for (id, words, first) in &firsts {
            is_again(first, &ask(&supd, id, words));
        }
        let other = ask(&supd, "done", &["stop", "web"]).expect(3);
        assert!(other.text().contains("was used for Restart before"), "{other}");
        let other = ask(&supd, "done", &["restart", "web", "--wait=ready"]).expect(3);
        assert!(other.text().contains("was used for Restart before"), "{other}");
        let after = supd.status("web");
        assert_eq!((after.active(), after.pids()), (before.active(), before.pids()), "life {life}");
        // Nothing that it is given from here on counts.
        let last = ask(&supd, &format!("last-{life}"), &["restart", "web"]).expect(0);
        proc::signal(supd.writer().expect("it has written"), Signal::SIGKILL);
        supd = supd.crash_and_restart();
        supd.wait_for_state("web", "active");
        is_again(&last, &ask(&supd, &format!("last-{life}"), &["restart", "web"]));
    }
}

/// The outcome is on the disk before anybody hears of it; whoever asks
/// meanwhile waits with the first one. Requests without an id are answered.
fn durable_before_it_is_told() {
    let supd = Supd::start();
    serving(&supd, &[]);
    let writer = supd.writer().expect("it has written");
    proc::signal(writer, Signal::SIGSTOP);
    let words = ["kill", "-s", "SIGCONT", "web", "--request-id", "k"];
    let asked = [supd.ctl_start(&words), supd.ctl_start(&words)];
    wait_until("the signal to be sent", SOON, || supd.log().contains("SIGCONT sent by request"));
    holds_for("nobody to be answered", Duration::from_millis(500), || {
        asked.iter().all(|asked| proc::alive(asked.pid()))
    });
    supd.ctl(&["status", "web"]).expect(0);
    supd.ctl(&["start", "web"]).expect(0);
    proc::signal(writer, Signal::SIGCONT);
    for asked in asked {
        asked.finish(SOON).expect(0);
    }
    assert_eq!(supd.log().matches("SIGCONT sent by request").count(), 1, "it was sent twice");
}

/// Asks for a swap, kills supd when `when` is in its log, and asks again.
fn kill_in_mid_swap(arguments: &[&str], swap: &str, when: &str) -> (Supd, Output) {
    let supd = Supd::start();
    let port = serving(&supd, &[]);
    supd.write_unit("web", &supd.worker(port, arguments, "", swap));
    let asked = supd.ctl_start(&["swap", "web", "--request-id", "s"]);
    wait_until(when, SOON, || supd.log().contains(when));
    let supd = supd.crash_and_restart();
    let cut = asked.finish(SOON);
    assert!(matches!(cut.code(), 4 | 5), "{cut}");
    supd.wait_for_state("web", "active");
    let before = serving_alone(&supd);
    let again = ask(&supd, "s", &["swap", "web"]);
    let after = supd.status("web");
    assert_eq!((after.active(), after.pids()), (before.active(), before.pids()), "it was done again");
    (supd, again)
}

/// It had not taken over, and never will: its end says so, once and for all.
fn killed_before_the_switch() {
    let (supd, again) = kill_in_mid_swap(&["late=60000"], "", "web/g2: launched");
    let again = again.expect(1);
    assert!(again.text().contains("is given up"), "{again}");
    assert!(again.text().contains("supctl status web"), "what to type next:\n{again}");
    let supd = supd.crash_and_restart();
    supd.wait_for_state("web", "active");
    is_again(&again, &ask(&supd, "s", &["swap", "web"]));
    ask(&supd, "other", &["kill", "-s", "SIGCONT", "web"]).expect(0);
}

/// It switched, and the next supd finished that forward.
fn killed_in_probation() {
    let (_, again) = kill_in_mid_swap(&[], "ProbationSec = \"10min\"", "web/g2: receives the traffic");
    let again = again.expect(0);
    assert!(again.text().contains("generation 2 is committed: its probation was cut short"), "{again}");
}

fn record(state: &Path, id: &str) -> PathBuf {
    let files = fs::read_dir(state.join("requests")).expect("the requests").flatten();
    let is_it = |path: &PathBuf| {
        fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("\"request_id\":\"{id}\"")))
    };
    files.map(|entry| entry.path()).find(is_it).unwrap_or_else(|| panic!("no record of {id}"))
}

/// Writes a record anew, with a right checksum.
fn rewrite(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let text = fs::read_to_string(path).expect("a record");
    let mut value = serde_json::from_str(text.split_once(' ').expect("a checksum").1).expect("JSON");
    change(&mut value);
    let json = value.to_string();
    fs::write(path, format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))).expect("a record");
}

/// As if the last thing that reached the disk were the ledger's record: it says how it ended.
fn killed_before_the_answer() {
    let supd = Supd::start();
    let port = serving(&supd, &[]);
    ask(&supd, "done", &["swap", "web"]).expect(0);
    supd.write_unit("web", &supd.worker(port, &["die=7"], "", ""));
    ask(&supd, "failed", &["swap", "web"]).expect(1);
    supd.write_unit("web", &supd.worker(port, &["deaf", "ready-then-die=600"], "", "ProbationSec = \"20s\""));
    ask(&supd, "back", &["swap", "web"]).expect(6);
    ask(&supd, "stopped", &["stop", "web"]).expect(0);
    ask(&supd, "kill", &["kill", "-s", "SIGCONT", "web"]).expect(3);
    let supd = supd.crash_and_restart_after(|state| {
        for id in ["done", "failed", "back", "stopped", "kill"] {
            rewrite(&record(state, id), |record| record["outcome"] = serde_json::Value::Null);
        }
    });
    for (id, words, code, text) in [
        ("done", &["swap", "web"][..], 0, "generation 2 is committed (from the ledger"),
        ("failed", &["swap", "web"], 1, "exit status 7 (from the ledger"),
        ("back", &["swap", "web"], 6, "rolled back to generation 2 (from the ledger"),
        ("stopped", &["stop", "web"], 0, "stopped (from the ledger"),
        ("kill", &["kill", "-s", "SIGCONT", "web"], 4, "its outcome is unknown"),
    ] {
        let again = ask(&supd, id, words).expect(code);
        assert!(again.text().contains(text), "{text:?} is not said:\n{again}");
    }
    assert_eq!(supd.status("web").state(), "stopped");
}

/// Rubbish, a torn record, one of another supd: a warning, that request is new, and no other is.
fn damage_costs_itself_only() {
    let supd = Supd::start();
    serving(&supd, &[]);
    let ids = ["good", "torn", "flipped", "empty", "future", "folder", "huge"];
    for id in ids {
        ask(&supd, id, &["kill", "-s", "SIGCONT", "web"]).expect(0);
    }
    let supd = supd.crash_and_restart_after(|state| {
        let torn = fs::read(record(state, "torn")).expect("a record");
        fs::write(record(state, "torn"), &torn[..torn.len() / 2]).expect("a torn record");
        let path = record(state, "flipped");
        let mut flipped = fs::read(&path).expect("a record");
        flipped[40] ^= 1;
        fs::write(&path, flipped).expect("a flipped bit");
        fs::write(record(state, "empty"), "").expect("an empty record");
        rewrite(&record(state, "future"), |record| record["format"] = 2.into());
        let path = record(state, "folder");
        fs::remove_file(&path).and_then(|()| fs::create_dir(&path)).expect("a folder");
        fs::write(record(state, "huge"), vec![b'x'; 10 << 20]).expect("a huge record");
    });
    supd.wait_for_state("web", "active");
    let log = supd.log();
    assert_eq!(log.matches("a repetition of its request will not be known").count(), 6, "{log}");
    assert!(log.contains("it has format 2; this supd knows format 1"), "{log}");
    let sent = || supd.log().matches("SIGCONT sent by request").count();
    let before = sent();
    for id in ids {
        ask(&supd, id, &["kill", "-s", "SIGCONT", "web"]).expect(0);
    }
    assert_eq!(sent() - before, 6, "the good one is known, the others are new");
    // Whatever is in the way of the new ones costs these alone.
    let supd = supd.crash_and_restart();
    supd.wait_for_state("web", "active");
    let before = supd.log().matches("SIGCONT sent by request").count();
    for id in ids {
        ask(&supd, id, &["kill", "-s", "SIGCONT", "web"]).expect(0);
    }
    let more = supd.log().matches("SIGCONT sent by request").count() - before;
    assert!(more <= 1, "{more} of the new ones were forgotten");
}

/// Forward and back by years, between two lives and within one: the clock that nobody can set counts.
fn clock_jumps() {
    let place = folder();
    let clock = place.path().join("clock");
    fs::write(&clock, "+0").expect("setting the clock");
    let mut supd = Supd::start_with(&with_clock(&clock));
    serving(&supd, &[]);
    let first = ask(&supd, "r", &["restart", "web"]).expect(0);
    for jump in ["@2191-03-01 00:00:00", "@1970-01-02 00:00:00", "+0"] {
        fs::write(&clock, jump).expect("setting the clock");
        is_again(&first, &ask(&supd, "r", &["restart", "web"]));
        supd = supd.crash_and_restart();
        supd.wait_for_state("web", "active");
        is_again(&first, &ask(&supd, "r", &["restart", "web"]));
    }
}

fn call(stream: &mut UnixStream, id: &str) -> String {
    let call = format!(
        "{{\"method\":\"dev.supd.Manager.Abort\",\"parameters\":{{\"unit\":\"web\",\"request_id\":\"{id}\"}}}}\0"
    );
    stream.write_all(call.as_bytes()).expect("a call");
    let mut answer = Vec::new();
    let mut byte = [1];
    while stream.read(&mut byte).expect("an answer") == 1 && byte != [0] {
        answer.extend(byte);
    }
    String::from_utf8(answer).expect("JSON")
}

/// The newest thousand are kept in a thousand files of a bounded size; in memory they have a bound too.
fn a_thousand_and_more() {
    let supd = Supd::start();
    serving(&supd, &[]);
    let rss = proc::rss_kib(supd.pid());
    let mut stream = UnixStream::connect(supd.control()).expect("the control socket");
    let answers: Vec<String> = (0..1500).map(|n| call(&mut stream, &format!("r{n}"))).collect();
    assert!(answers[0].contains("dev.supd.Manager.Refused"), "{}", answers[0]);
    let grown = proc::rss_kib(supd.pid()).saturating_sub(rss);
    println!("1,500 requests with an id: supd grew by {grown} KiB");
    assert!(grown < 8192, "supd grew by {grown} KiB");
    ask(&supd, "last", &["restart", "web"]).expect(0);
    let supd = supd.crash_and_restart();
    let before = supd.wait_for_state("web", "active");
    let files = || fs::read_dir(supd.state_folder().join("requests")).expect("the requests").flatten();
    assert_eq!(files().count(), 1000);
    assert!(files().all(|file| file.metadata().is_ok_and(|file| file.len() < 8192)));
    // Abort has nothing to do now either, so only the disk tells what is known.
    let kept = |id: &str| {
        files()
            .any(|file| fs::read_to_string(file.path()).is_ok_and(|text| text.contains(&format!("\"{id}\""))))
    };
    assert!(!kept("r500") && kept("r501") && kept("r1499") && kept("last"));
    let mut stream = UnixStream::connect(supd.control()).expect("the control socket");
    assert_eq!(call(&mut stream, "r1499"), answers[1499]);
    ask(&supd, "last", &["restart", "web"]).expect(0);
    assert_eq!(supd.status("web").pids(), before.pids(), "the restart was made again");
}

/// Those who hang up leave their requests under way: so many about one unit, and no more.
fn under_way_and_gone() {
    let supd = Supd::start();
    serving(&supd, &[]);
    supd.write_unit("slow", &supd.worker(free_port(), &["late=60000"], "", ""));
    supd.ctl(&["daemon-reload"]).expect(0);
    let kept = || fs::read_dir(supd.state_folder().join("requests")).map_or(0, Iterator::count);
    for n in 0..16 {
        let gone = supd.ctl_start(&["start", "slow", "--request-id", &format!("gone{n}")]);
        wait_until("the request to be under way", SOON, || kept() > n);
        proc::signal(gone.pid(), Signal::SIGKILL);
        gone.finish(SOON);
    }
    for more in [&[][..], &["--dry-run"]] {
        let refused = ask(&supd, "more", &[more, &["start", "slow"]].concat()).expect(3);
        assert!(refused.text().contains("16 requests of yours about slow with a request_id"), "{refused}");
        assert!(refused.text().contains("Next: supctl status slow"), "{refused}");
    }
    ask(&supd, "web", &["restart", "web"]).expect(0);
    supd.ctl(&["stop", "slow", "--now"]).expect(0);
    wait_until("what was under way to be over", SOON, || {
        ask(&supd, "more", &["--dry-run", "stop", "slow"]).code() == 0
    });
}

/// The next supd reads the ledger when the last one's writer is done with it: before, it would give
/// the same numbers out once more, and records would be taken for repetitions and be lost.
fn a_writer_outlives_supd() {
    let supd = Supd::start();
    let port = serving(&supd, &["late=60000"]);
    let writer = supd.writer().expect("it has written");
    proc::signal(writer, Signal::SIGSTOP);
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("the record to be on its way", SOON, || supd.status("web").last_swap()["result"] == "running");
    proc::signal(supd.pid(), Signal::SIGKILL);
    let log = supd.path().join("supd.log");
    let waits = move || fs::read_to_string(&log).is_ok_and(|log| log.contains("waiting for it"));
    let release = std::thread::spawn(move || {
        wait_until("the next supd to wait", SOON, waits);
        proc::signal(writer, Signal::SIGCONT);
    });
    let supd = supd.crash_and_restart();
    release.join().expect("it waited");
    swap.finish(SOON);
    supd.wait_for_state("web", "active");
    supd.write_unit("web", &supd.worker(port, &[], "", ""));
    supd.ctl(&["swap", "web"]).expect(0);
    let after = supd.status("web");
    assert!(after.active() > Some(2), "a generation's number was used twice: {}", after.0);
    // The history has its numbers from the same row; what a record says too, both have.
    let seqs = |name: &str| -> Vec<u64> {
        let text = fs::read_to_string(supd.state_folder().join(name)).expect("a file of lines");
        let seq =
            |line: &str| serde_json::from_str::<serde_json::Value>(&line[9..]).expect("JSON")["seq"].as_u64();
        text.lines().filter_map(seq).collect()
    };
    let (ledger, history) = (seqs("ledger"), seqs("history"));
    assert!(ledger.is_sorted_by(|one, next| one < next), "a record is there twice: {ledger:?}");
    let all: std::collections::BTreeSet<u64> = ledger.iter().chain(&history).copied().collect();
    assert!(all.iter().copied().eq(1..=all.len() as u64), "a record is missing: {ledger:?} {history:?}");
}
