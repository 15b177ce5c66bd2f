//! supd executes the program that is on its disk now: nobody notices, and a program that cannot go on in its place
//! changes nothing.

use crate::harness::{Setup, Status, Supd, free_port};
use crate::notify::Stage;
use crate::survival::{address, loads, more, nothing_is_lost, serving};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    let python = &[Need::File("/usr/bin/python3", "apt-get install python3")];
    let root = &[Need::Root];
    vec![
        test("reexec::under_load", under_load),
        test_with("reexec::under_load_without_ebpf", root, under_load_without_ebpf),
        test_with("reexec::of_an_ordinary_users_supd", root, of_an_ordinary_user),
        test_with("reexec::of_who_binds_for_itself", python, of_who_binds),
        test("reexec::again_and_again", again_and_again),
        test("reexec::by_a_signal", by_a_signal),
        test("reexec::who_is_connected_stays_connected", who_is_connected),
        test("reexec::who_follows_misses_nothing", who_follows),
        test("reexec::nobody_who_reads_holds_it_up", nobody_who_reads),
        test("reexec::what_signals_say_is_heard", what_signals_say),
        test("reexec::a_swap_comes_to_its_end_first", a_swap_first),
        test("reexec::a_swap_without_end_is_named", a_swap_without_end),
        test("reexec::how_a_worker_ends_afterwards_is_known", how_a_worker_ends),
        test("reexec::a_request_is_answered_once", a_request_is_answered_once),
        test("reexec::to_what_cannot_go_on", to_what_cannot_go_on),
        test("reexec::to_what_dies_at_once", to_what_dies_at_once),
        test("reexec::handed_rubbish", handed_rubbish),
        test("reexec::of_a_stranger_over_our_locks", of_a_stranger),
    ]
}

/// Who serves.
pub(crate) fn who(status: &Status) -> (Option<u64>, Vec<u32>) {
    (status.active(), status.pids_in(status.active().unwrap_or_default()))
}

fn goes_on(supd: &Supd) {
    let before = who(&supd.wait_for_state("web", "active"));
    let said = supd.ctl(&["reexec"]).expect(0).text();
    assert!(said.contains(&format!("goes on as process {}", supd.pid())), "{said}");
    assert_eq!(who(&supd.status("web")), before, "{}", supd.log());
}

/// What a process has open.
fn open(pid: u32) -> Vec<String> {
    let mut all = proc::files(pid);
    all.iter_mut().for_each(|file| file.retain(|byte| !byte.is_ascii_digit()));
    all.sort();
    all
}

pub(crate) fn goes_on_thrice(supd: &Supd, at: SocketAddr) {
    let loads = loads(at);
    for version in ["2", "3", "4"] {
        supd.install_worker(version);
        supd.ctl(&["swap", "web"]).expect(0);
        more(&loads);
        goes_on(supd);
        more(&loads);
    }
    supd.ctl(&["rollback", "web"]).expect(0);
    more(&loads);
    nothing_is_lost(loads);
    let history = supd.ctl(&["history"]).expect(0).stdout;
    assert_eq!(history.matches("reexec").count(), 3, "{history}");
    assert!(!history.contains("crashed"), "{history}");
}

/// In a run of all tests.
const OFTEN: u32 = 60;

const QUICK: &str = "ProbationSec = \"0\"\nRetain = \"warm\"";

fn under_load() {
    let supd = Supd::start();
    let port = serving(&supd, "Workers = 2", QUICK);
    goes_on_thrice(&supd, address(port));
}

fn under_load_without_ebpf() {
    let supd = Supd::without_ebpf();
    let port = serving(&supd, "", QUICK);
    goes_on_thrice(&supd, address(port));
}

fn of_an_ordinary_user() {
    let supd = Supd::start_with(&Setup { user: Some(1234), ..Setup::default() });
    let port = serving(&supd, "", QUICK);
    goes_on_thrice(&supd, address(port));
}

fn of_who_binds() {
    let supd = Supd::start();
    let port = free_port();
    let unit = format!(
        "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\nHandoff = \"intercept\"\nReady = \"tcp\"\n\
         ExecStart = \"/usr/bin/python3 -m http.server --protocol HTTP/1.1 --bind 127.0.0.1 {port}\"\n\
         WorkingDirectory = \"{}\"\n\n[Swap]\nProbationSec = \"0\"\n",
        supd.app().display()
    );
    supd.launch("web", &unit);
    goes_on(&supd);
    supd.ctl(&["swap", "web"]).expect(0);
    goes_on(&supd);
    supd.ctl(&["rollback", "web", "--anyway"]).expect(0);
}

/// None is lost, nothing stays open, and memory is what it was. As often as SUPD_REEXECS says, or a few times.
fn again_and_again() {
    let often = std::env::var("SUPD_REEXECS").ok().and_then(|text| text.parse().ok()).unwrap_or(OFTEN);
    let supd = Supd::start();
    let port = serving(&supd, "Workers = 2", QUICK);
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    // One that is kept from a processor for long is replaced.
    let keeper = || supd.keeper().expect("a keeper");
    let loads = loads(address(port));
    let round = |times: u32| (0..times).for_each(|_| drop(supd.ctl(&["reexec"]).expect(0)));
    round(20);
    // One or two may come and go, as a client's connection does; a leak would be one each time.
    let count = |pid| proc::files(pid).len();
    let files = || [count(supd.pid()), count(keeper()), proc::children(supd.pid()).len()];
    let (before, kib) = (files(), (proc::rss_kib(supd.pid()), proc::rss_kib(keeper())));
    round(often);
    more(&loads);
    let as_before = || files().iter().zip(before).all(|(now, before)| *now <= before + 4);
    wait_until(&format!("no more to be open than {before:?}: {:?}", files()), SOON, as_before);
    let after = (proc::rss_kib(supd.pid()), proc::rss_kib(keeper()));
    assert!(after.0 < kib.0 + 1024 && after.1 < kib.1 + 512, "{kib:?} KiB, and then {after:?}");
    supd.ctl(&["rollback", "web"]).expect(0);
    nothing_is_lost(loads);
}

fn by_a_signal() {
    let supd = Supd::start();
    serving(&supd, "", "");
    let before = who(&supd.status("web"));
    for times in 1..=3 {
        proc::signal(supd.pid(), Signal::SIGUSR2);
        wait_until("it to go on", SOON, || supd.log().matches("goes on where supd").count() == times);
        assert_eq!(who(&supd.status("web")), before);
    }
}

/// The next one.
fn answer(stream: &mut UnixStream) -> String {
    stream.set_read_timeout(Some(SOON)).expect("a bound");
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).expect("an answer") == 1 && byte != [0] {
        answer.push(byte[0]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Whoever is in the middle of saying something, has said nothing yet, or waits.
fn who_is_connected() {
    let supd = Supd::start();
    serving(&supd, "", "");
    let connect = || UnixStream::connect(supd.control()).expect("its control socket");
    let call = b"{\"method\":\"dev.supd.Manager.Status\",\"parameters\":{}}\0";
    let (mut silent, mut half, mut answered) = (connect(), connect(), connect());
    let wait = b"{\"method\":\"dev.supd.Manager.Wait\",\"parameters\":{\"unit\":\"web\"}}\0";
    answered.write_all(wait).expect("a call");
    assert!(!answer(&mut answered).contains("units"));
    half.write_all(&call[..20]).expect("half a call");
    // What supd has read of it by now it has to hand over.
    supd.ctl(&["status"]).expect(0);
    let waits = supd.ctl_start(&["wait", "web", "--wait=drained"]);
    for _ in 0..2 {
        goes_on(&supd);
    }
    half.write_all(&call[20..]).expect("the rest of it");
    silent.write_all(call).expect("a call");
    answered.write_all(call).expect("a call");
    for mut stream in [half, silent, answered] {
        let said = answer(&mut stream);
        assert!(said.contains("\"units\""), "{said}");
    }
    drop(waits.finish(SOON).expect(0));
}

/// Anybody may ask for the history, again and again.
fn nobody_who_reads() {
    let supd = Supd::start();
    serving(&supd, "", "");
    let (ends, mut asked) = (AtomicBool::new(false), Vec::new());
    std::thread::scope(|scope| {
        let asks = || {
            let mut stream = UnixStream::connect(supd.control()).expect("its control socket");
            let mut other = stream.try_clone().expect("a copy");
            let call = b"{\"method\":\"dev.supd.Manager.History\",\"parameters\":{}}\0".repeat(8);
            let mut bytes = vec![0; 1 << 16];
            stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a bound");
            other.set_write_timeout(Some(Duration::from_millis(50))).expect("a bound");
            while !ends.load(Ordering::Relaxed) {
                let _ = other.write(&call);
                let _ = stream.read(&mut bytes);
            }
        };
        (0..4).for_each(|_| drop(scope.spawn(asks)));
        for _ in 0..3 {
            asked.push(supd.ctl(&["reexec"]));
        }
        ends.store(true, Ordering::Relaxed);
    });
    for asked in asked {
        assert!(asked.took < Duration::from_secs(30), "{asked}");
        asked.expect(0);
    }
}

/// One that comes while supd is on its way is for the next image.
fn what_signals_say() {
    let supd = Supd::start();
    serving(&supd, "", "");
    for round in 0..10 {
        let asked = supd.ctl_start(&["reexec"]);
        proc::signal(supd.pid(), Signal::SIGHUP);
        drop(asked.finish(SOON).expect(0));
        let reloads = || supd.log().matches("daemon-reload").count();
        let before = reloads();
        proc::signal(supd.pid(), Signal::SIGHUP);
        wait_until(&format!("round {round}: a reload"), SOON, || reloads() > before);
    }
    let asked = supd.ctl_start(&["reexec"]);
    proc::signal(supd.pid(), Signal::SIGTERM);
    wait_until("it to go", SOON, || supd.has_ended());
    drop(asked.finish(SOON));
    drop(supd.restart_ended());
}

/// One who watches is told everything, once, by whichever image.
fn who_follows() {
    let supd = Supd::start();
    serving(&supd, "", "ProbationSec = \"0\"");
    let mut events = supd.ctl_command(&["--json", "events"]).stdout(Stdio::piped()).spawn().expect("supctl");
    let mut lines = BufReader::new(events.stdout.take().expect("its output")).lines();
    let mut seen: Vec<u64> = Vec::new();
    let told = |lines: &mut dyn Iterator<Item = std::io::Result<String>>, until: u64, seen: &mut Vec<u64>| {
        while seen.last().is_none_or(|last| *last < until) {
            let line = lines.next().expect("a line").expect("a line");
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            let entries = value["entries"].as_array().cloned();
            let all = entries.unwrap_or_else(|| vec![value]);
            seen.extend(all.iter().filter_map(|entry| entry["seq"].as_u64()));
        }
    };
    let last = || {
        let history = supd.ctl(&["--json", "history"]).expect(0).stdout;
        let value: serde_json::Value = serde_json::from_str(history.trim()).expect("JSON");
        let entries = value["entries"].as_array().cloned().unwrap_or_default();
        entries.iter().filter_map(|entry| entry["seq"].as_u64()).collect::<Vec<_>>()
    };
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    for version in ["3", "4"] {
        goes_on(&supd);
        supd.install_worker(version);
        supd.ctl(&["swap", "web"]).expect(0);
    }
    let all = last();
    told(&mut lines, *all.iter().max().expect("it has a history"), &mut seen);
    let first = seen[0];
    let mut wanted: Vec<u64> = all.into_iter().filter(|seq| *seq >= first).collect();
    wanted.sort_unstable();
    assert_eq!(seen, wanted, "each once, in order");
    events.kill().expect("ending supctl");
    events.wait().expect("waiting for supctl");
}

/// It waits for what is under way, and says for what.
fn a_swap_first() {
    let supd = Supd::start();
    let port = serving(&supd, "", "");
    let loads = loads(address(port));
    supd.write_unit("web", &supd.worker(port, &["late=2000"], "", ""));
    supd.install_worker("2");
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("its launch", SOON, || supd.status("web").pids().len() == 2);
    let reexec = supd.ctl(&["reexec"]).expect(0);
    assert!(reexec.text().contains("waits: web: a swap is under way"), "{reexec}");
    drop(swap.finish(SOON).expect(0));
    let status = supd.status("web");
    assert_eq!((status.active(), status.state()), (Some(2), "active"), "{}", supd.log());
    nothing_is_lost(loads);
}

fn a_swap_without_end() {
    let supd = Supd::start();
    let port = serving(&supd, "", "");
    supd.write_unit("web", &supd.worker(port, &["never-ready"], "TimeoutStartSec = \"infinity\"", ""));
    supd.install_worker("2");
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("its launch", SOON, || supd.status("web").pids().len() == 2);
    let before = who(&supd.status("web"));
    let refused = supd.ctl(&["reexec"]).expect(1);
    assert!(refused.text().contains("supd stays as it is: web: a swap is under way"), "{refused}");
    assert_eq!(who(&supd.status("web")), before);
    supd.ctl(&["abort", "web"]).expect(0);
    swap.finish(SOON).expect(1);
    goes_on(&supd);
}

/// It is supd's own child still.
fn how_a_worker_ends() {
    let stage = Stage::serving("Restart = \"no\"");
    stage.supd.ctl(&["reexec"]).expect(0);
    let mut puppet = stage.puppet();
    puppet.tell(&serde_json::json!(["exit", 7]));
    wait_until("the end to be told", SOON, || stage.supd.ctl(&["status", "web"]).stdout.contains("status 7"));
}

/// By whichever image, and once more where it is asked for under the same name.
fn a_request_is_answered_once() {
    let supd = Supd::start();
    serving(&supd, "", "");
    let ask = || supd.ctl(&["--request-id", "upgrade-1", "--reason", "1.1", "reexec"]).expect(0);
    let (first, again) = (ask(), ask());
    assert_eq!(first.text(), again.text());
    let log = supd.log();
    assert_eq!(log.matches("goes on where supd").count(), 1, "{log}");
    let history = supd.ctl(&["history"]).expect(0).stdout;
    assert_eq!(history.matches("reexec").count(), 1, "{history}");
    assert!(history.contains("1.1"), "{history}");
}

/// supd's own, which is a copy.
fn program(supd: &Supd) -> PathBuf {
    supd.app().join("supd")
}

/// A program in its place.
fn put(supd: &Supd, text: &str) {
    let new = supd.app().join("new");
    fs::write(&new, text).expect("a program");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("its rights");
    fs::rename(new, program(supd)).expect("in the place of supd");
}

fn to_what_cannot_go_on() {
    let supd = Supd::start_with(&Setup { copied: true, ..Setup::default() });
    let port = serving(&supd, "", "");
    let loads = loads(address(port));
    let before = (who(&supd.status("web")), open(supd.pid()), supd.keeper());
    let older = "echo \"supd: unexpected argument '--check-handover'\" >&2; exit 2";
    let programs = [
        ("#!/bin/sh\nexit 0\n".to_owned(), "no supd"),
        ("#!/bin/sh\necho yes\n".to_owned(), "no supd"),
        (format!("#!/bin/sh\n{older}\n"), "unexpected argument"),
        ("#!/bin/sh\nkill -SEGV $$\n".to_owned(), "SIGSEGV"),
        ("#!/nonexistent\n".to_owned(), "No such file"),
        ("\u{7f}ELF".to_owned(), "Exec format"),
        ("#!/bin/sh\nhead -c 1000000 /dev/zero; exec sleep 100\n".to_owned(), "longer than"),
    ];
    for (text, why) in programs {
        put(&supd, &text);
        let refused = supd.ctl(&["reexec"]).expect(1);
        assert!(refused.text().contains("supd stays as it is"), "{text}: {refused}");
        assert!(refused.text().contains(why), "{text}: {refused}");
        let now = || (who(&supd.status("web")), open(supd.pid()), supd.keeper());
        wait_until(&format!("all to be as it was: {text}"), SOON, || now() == before);
        assert!(proc::children(supd.pid()).iter().all(|pid| !proc::command_line(*pid).contains("sleep 100")));
    }
    fs::remove_file(program(&supd)).expect("it is there");
    let refused = supd.ctl(&["reexec"]).expect(1);
    assert!(refused.text().contains("No such file"), "{refused}");
    // Back again, as an upgrade that is repeated.
    fs::copy(env!("CARGO_BIN_EXE_supd"), program(&supd)).expect("supd");
    goes_on(&supd);
    nothing_is_lost(loads);
}

/// It says that it can, and dies: what runs stays, for the next one.
fn to_what_dies_at_once() {
    let supd = Supd::start_with(&Setup { copied: true, ..Setup::default() });
    let port = serving(&supd, "Workers = 2", "");
    let loads = loads(address(port));
    let before = who(&supd.status("web"));
    put(&supd, "#!/bin/sh\n[ \"$1\" = --check-handover ] && echo supd 9.9 handover 1 && exit\nexit 1\n");
    assert_ne!(supd.ctl(&["reexec"]).code(), 0);
    wait_until("it to be gone", SOON, || supd.has_ended());
    more(&loads);
    fs::remove_file(program(&supd)).expect("it is there");
    fs::copy(env!("CARGO_BIN_EXE_supd"), program(&supd)).expect("supd");
    let supd = supd.restart_ended();
    assert_eq!(who(&supd.wait_for_state("web", "active")), before, "{}", supd.log());
    nothing_is_lost(loads);
}

/// It is said, and supd begins as if there were nothing.
fn handed_rubbish() {
    let handed = |number: &str, open: &str| {
        let more = "LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=supd-words-1:supd-words-2";
        let script = format!("exec env --block-signal SUPD_HANDOVER={number} {more} \"$@\" {open}");
        let wrapper = ["sh", "-c", &script, "supd"].map(str::to_owned).to_vec();
        Supd::start_with(&Setup { wrapper, ..Setup::default() })
    };
    for (number, open, why) in [
        ("x", "", "no number"),
        ("2", "", "Bad file"),
        ("99", "", "Bad file"),
        ("7", "7</dev/null", "no memfd"),
    ] {
        let supd = handed(number, open);
        assert!(supd.log().contains(why), "{why}: {}", supd.log());
        serving(&supd, "", "");
        goes_on(&supd);
        let left = proc::files(supd.pid()).iter().filter(|file| file.contains("/dev/null")).count();
        assert!(left <= 3, "{:?}", proc::files(supd.pid()));
        // The image before has blocked them.
        proc::signal(supd.pid(), Signal::SIGTERM);
        wait_until("it to hear a signal", SOON, || supd.has_ended());
        drop(supd.restart_ended());
    }
}

/// At no moment may another supd take its folders.
fn of_a_stranger() {
    let supd = Supd::start();
    serving(&supd, "", "");
    for _ in 0..5 {
        goes_on(&supd);
        let refused = supd.start_a_second();
        assert_ne!(refused.code(), 0);
        assert!(refused.text().contains("another supd"), "{refused}");
    }
}
