//! A unit's and supd's own life: start, stop, boot, on demand, a crash of supd, exit statuses.

use crate::harness::{Running, Supd, folder, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, holds_for, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("life::exit_statuses", exit_statuses),
        test("life::exit_statuses_of_swaps", exit_statuses_of_swaps),
        test("life::a_request_id_counts_once", a_request_id_counts_once),
        test("life::completions_offer_no_files_for_names", completions_offer_no_files_for_names),
        test("life::stop_now_and_keep_listening", stop_now_and_keep_listening),
        test("life::stop_and_start", stop_and_start),
        test("life::on_demand", on_demand),
        test("life::sigint_ends_everything", sigint_ends_everything),
        test("life::supd_is_killed", supd_is_killed),
        test("life::a_crash_leaves_no_notify_socket", a_crash_leaves_no_notify_socket),
        test("life::a_crash_during_a_hook", a_crash_during_a_hook),
        test("life::what_a_worker_sees", what_a_worker_sees),
        test("life::signals_that_mean_nothing", signals_that_mean_nothing),
        test("life::a_control_socket_that_is_removed", a_control_socket_that_is_removed),
        test("life::a_line_of_an_environment_file_is_passed_over_aloud", a_line_is_passed_over_aloud),
    ]
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn answers(port: u16, version: &str) {
    let load = Load::start(Plan::new(Target::Tcp(address(port)), Mode::Close, 2));
    load.wait_for_more(20, SOON);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.versions().keys().eq([version]), "{tally}");
}

/// The numbers that scripts branch on.
fn exit_statuses() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", ""));
    supd.ctl(&["is-active", "web"]).expect(0);
    supd.ctl(&["status", "web", "--check"]).expect(0);
    supd.ctl(&["start", "web"]).expect(0);
    supd.ctl(&["no-such-verb"]).expect(2);
    supd.ctl(&["swap"]).expect(2);
    supd.ctl(&["swap", "web", "--no-such-flag"]).expect(2);
    let unknown = supd.ctl(&["swap", "wep"]).expect(3);
    assert!(unknown.text().contains("web"), "did you mean …:\n{unknown}");
    supd.ctl(&["rollback", "web"]).expect(3);
    let good = supd.path().join("units/web.unit");
    supd.ctl(&["check", &good.to_string_lossy()]).expect(0);
    supd.ctl(&["stop", "web"]).expect(0);
    supd.ctl(&["is-active", "web"]).expect(1);

    let nowhere = folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_supctl"));
    command.arg("--runtime").arg(nowhere.path()).arg("status");
    let alone = Running::start(&mut command).finish(SOON).expect(5);
    assert!(alone.text().contains(&*nowhere.path().to_string_lossy()), "{alone}");
}

/// Those that need a generation that fails, and a file that is wrong.
fn exit_statuses_of_swaps() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    let unit = |arguments: &[&str], swap: &str| supd.worker(port, arguments, "Restart = \"no\"", swap);
    // Nothing served before, and nothing does now.
    supd.write_unit("web", &unit(&["die=3"], ""));
    supd.ctl(&["start", "web"]).expect(7);
    supd.launch("web", &unit(&[], ""));
    let active = supd.status("web").active();
    supd.write_unit("web", &unit(&["die=3"], ""));
    supd.ctl(&["swap", "web"]).expect(1);
    supd.write_unit("web", &unit(&["ready-then-die=500"], "ProbationSec = \"1min\""));
    supd.ctl(&["swap", "web"]).expect(6);
    supd.write_unit("web", "[Service]\nExecStart = 5\n");
    supd.ctl(&["swap", "web"]).expect(78);
    supd.ctl(&["check", &supd.path().join("units/web.unit").to_string_lossy()]).expect(78);
    assert_eq!(supd.status("web").active(), active);
}

/// Who asks again is answered with the first outcome.
fn a_request_id_counts_once() {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    let ask = |verb: &str| supd.ctl(&["--json", "--request-id", "deploy-7", verb, "web"]);
    let first = ask("swap").expect(0);
    let active = supd.status("web").active();
    assert_eq!(ask("swap").expect(0).stdout, first.stdout);
    assert_eq!(supd.status("web").active(), active);
    let other = ask("restart").expect(3);
    assert!(other.text().contains("was used for Swap before"), "{other}");
    assert!(other.text().contains("\"next\":\"history web\""), "{other}");
}

/// A shell that completes in a folder with files.
fn completions_offer_no_files_for_names() {
    let supd = Supd::start();
    std::fs::write(supd.app().join("a-file"), "").expect("a file");
    let offered = |words: &[&str]| {
        let count = words.len() - 1;
        let line = words.iter().map(|word| format!("'{word}' ")).collect::<String>();
        let script = format!(
            "cd {}; source <({} completions bash); COMP_WORDS=({line}); COMP_CWORD={count}; \
             _supctl_names supctl '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            supd.app().display(),
            env!("CARGO_BIN_EXE_supctl"),
            words[count],
            words[count - 1],
        );
        Running::start(Command::new("bash").args(["-c", &script])).finish(SOON).expect(0).stdout
    };
    assert!(offered(&["supctl", "sw"]).contains("swap"), "{}", offered(&["supctl", "sw"]));
    assert!(offered(&["supctl", "check", "a-"]).contains("a-file"));
    for words in [&["supctl", "swap", "a-"][..], &["supctl", "kill", "-s", "a-"], &["supctl", "status", "a-"]]
    {
        assert!(!offered(words).contains("a-file"), "{words:?}: {}", offered(words));
    }
}

/// --now cuts what is open; --keep-listening lets clients wait for the next start.
fn stop_now_and_keep_listening() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    // It would take half a minute, and does not end on SIGTERM.
    let slow = supd.worker(port, &["ignore-term"], "TimeoutStopSec = \"30s\"", "DrainSec = \"30s\"");
    supd.launch("web", &slow);
    let stopped = supd.ctl(&["stop", "web", "--now"]).expect(0);
    assert!(stopped.took < Duration::from_secs(20), "{stopped}");
    supd.launch("web", &supd.worker(port, &[], "", ""));
    supd.ctl(&["stop", "web", "--keep-listening"]).expect(0);
    assert!(supd.status("web").pids().is_empty());
    let mut waits = TcpStream::connect(address(port)).expect("somebody listens");
    waits.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    supd.ctl(&["start", "web"]).expect(0);
    let mut answer = String::new();
    waits.read_to_string(&mut answer).expect("the answer of after the start");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// After stop the address refuses at once; start brings back the same; a stop under load cuts
/// nothing that was accepted.
fn stop_and_start() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", ""));
    answers(port, "1");
    let before = supd.status("web");
    let mut open = TcpStream::connect(address(port)).expect("a connection");
    open.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    supd.ctl(&["stop", "web"]).expect(0);
    let mut answer = String::new();
    open.read_to_string(&mut answer).expect("the answer of before the stop");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    wait_until("the workers to end", SOON, || before.pids().iter().all(|pid| !proc::alive(*pid)));
    let refused = TcpStream::connect(address(port)).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(supd.status("web").state(), "stopped");

    supd.ctl(&["start", "web"]).expect(0);
    let after = supd.status("web");
    assert!(after.active() > before.active(), "a number is never used twice");
    answers(port, "1");
}

/// Nothing runs until the first connection, which waits and is served.
fn on_demand() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.write_unit("web", &supd.worker(port, &[], "Start = \"on-demand\"", ""));
    supd.ctl(&["daemon-reload"]).expect(0);
    supd.ctl(&["start", "web"]);
    let waiting = supd.wait_for_state("web", "waiting");
    assert!(waiting.pids().is_empty(), "{}", waiting.0);
    holds_for("nothing to be launched", Duration::from_millis(500), || supd.status("web").pids().is_empty());
    answers(port, "1");
    assert_eq!(supd.wait_for_state("web", "active").pids().len(), 1);
}

/// Orderly: the workers are told to end and do, and then supd ends with 0; what was accepted is
/// answered.
fn sigint_ends_everything() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", ""));
    let workers = supd.status("web").pids();
    let mut open = TcpStream::connect(address(port)).expect("a connection");
    open.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    proc::signal(supd.pid(), Signal::SIGINT);
    let mut answer = String::new();
    open.read_to_string(&mut answer).expect("the answer of before the end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    wait_until("supd to end", SOON, || !supd.is_alive());
    assert!(workers.iter().all(|pid| !proc::alive(*pid)), "supd ended before its workers");
    assert_eq!(supd.ctl(&["status"]).code(), 5);
}

/// What the crash of a machine makes of files that nobody has synced.
fn lose_settings(supd: &Supd, unit: &str) {
    let folders = std::fs::read_dir(supd.state_folder().join("generations").join(unit)).expect("a folder");
    let files: Vec<_> = folders.flatten().map(|folder| folder.path().join("settings.json")).collect();
    assert!(files.len() >= 2, "{files:?}");
    for (index, file) in files.iter().enumerate() {
        let lost = if index == 0 { std::fs::remove_file(file) } else { std::fs::write(file, "") };
        lost.expect("a file of supd's");
    }
}

/// Its successor ends what it left, binds afresh and launches what the ledger names.
fn supd_is_killed() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", ""));
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    let before = supd.status("web");
    lose_settings(&supd, "web");
    let supd = supd.crash_and_restart();
    let after = supd.wait_for_state("web", "active");
    assert!(after.active() >= before.active(), "{} after {}", after.0, before.0);
    answers(port, "2");
    supd.ctl(&["rollback", "web"]).expect(0);
    supd.wait_for_state("web", "active");
    wait_until("only version 1 to answer", SOON, || {
        let load = Load::start(Plan::new(Target::Tcp(address(port)), Mode::Close, 1));
        load.wait_for_more(3, SOON);
        load.stop().versions().keys().eq(["1"])
    });
}

/// What a hook started ends with it, and is not there a second time beside the next run.
fn a_crash_during_a_hook() {
    let supd = Supd::start();
    supd.install_worker("1");
    let pids = supd.app().join("pids");
    let hook = format!(
        "ExecStartPre = [\"/bin/sh\", \"-c\", 'sleep 997 & echo $$$$ $! >> {}; sleep 998']",
        pids.display()
    );
    supd.write_unit("web", &supd.worker(free_port(), &[], &hook, ""));
    supd.ctl(&["daemon-reload"]).expect(0);
    let asked = supd.ctl_start(&["start", "web"]);
    let read = || -> Vec<u32> {
        let text = std::fs::read_to_string(&pids).unwrap_or_default();
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    wait_until("the hook to run", SOON, || read().len() == 2);
    let first = read();
    let supd = supd.crash_and_restart();
    asked.finish(SOON);
    assert!(first.iter().all(|pid| !proc::alive(*pid)), "a hook of the dead supd lives on");
    // An orderly end does not leave it behind either.
    wait_until("the hook to run again", SOON, || read().len() == 4);
    supd.ctl(&["shutdown"]).expect(0);
    wait_until("supd to end", SOON, || !proc::alive(supd.pid()));
    // Whoever was killed is gone a moment later.
    wait_until("nothing of the hook to be left", SOON, || !read().into_iter().any(proc::alive));
}

/// However often: only the sockets of the generations that run.
fn a_crash_leaves_no_notify_socket() {
    let mut supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    let folder = supd.runtime().join("notify");
    let file = folder.join("no-socket");
    std::fs::write(&file, "").expect("a file");
    for _ in 0..2 {
        supd = supd.crash_and_restart();
        supd.wait_for_state("web", "active");
    }
    assert!(file.exists(), "what is no socket is not supd's to remove");
    std::fs::remove_file(&file).expect("the file");
    let left = std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.file_name());
    assert_eq!(left.count(), 1);
}

/// The environment of the design, and nothing that supd had for itself.
fn what_a_worker_sees() {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "WatchdogSec = \"1min\"", ""));
    let status = supd.status("web");
    let pid = status.pids()[0];
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    let environment: std::collections::BTreeMap<String, String> = String::from_utf8_lossy(&bytes)
        .split('\0')
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for (name, value) in [
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "http"),
        ("LISTEN_PID", &pid.to_string()),
        ("WATCHDOG_PID", &pid.to_string()),
        ("WATCHDOG_USEC", "60000000"),
        ("SUPD_UNIT", "web"),
        ("SUPD_GENERATION", &status.active().expect("active").to_string()),
        ("SUPD_WORKER", "0"),
    ] {
        assert_eq!(environment.get(name).map(String::as_str), Some(value), "{name} in {environment:#?}");
    }
    let invocation = &environment["INVOCATION_ID"];
    assert!(invocation.len() == 32 && invocation.bytes().all(|b| b.is_ascii_hexdigit()), "{invocation}");
    for name in ["SUPD_UNITS", "SUPD_RUNTIME", "SUPD_STATE", "CARGO", "CARGO_MANIFEST_DIR"] {
        assert!(!environment.contains_key(name), "{name} of supd's own reached a worker");
    }
    // 0, 1, 2 and the listener; the worker opens more by itself, all of them above.
    for (fd, what) in [(0, "/dev/null"), (3, "socket:")] {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).expect("an open descriptor");
        assert!(target.to_string_lossy().starts_with(what), "descriptor {fd} is {}", target.display());
    }
    let own = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    // What it ignores is its own: Rust switches SIGPIPE off at its start. Golden files compare the rest.
    let line = own.lines().find(|line| line.starts_with("SigBlk:")).expect("a line of its status");
    assert!(line.ends_with("0000000000000000"), "{line}");
}

/// Log rotation and the habits of other servers send them.
fn signals_that_mean_nothing() {
    let supd = Supd::start();
    proc::signal(supd.pid(), Signal::SIGUSR1);
    let said = format!("signal {} means nothing to supd", Signal::SIGUSR1 as i32);
    wait_until("it to be told", SOON, || supd.log().contains(&said));
    supd.ctl(&["status"]).expect(0);
}

fn a_control_socket_that_is_removed() {
    let supd = Supd::start();
    std::fs::remove_file(supd.control()).expect("the control socket");
    let told = supd.ctl(&["status"]).expect(5);
    assert!(told.text().contains("no supd answers"), "{told}");
    proc::signal(supd.pid(), Signal::SIGHUP);
    wait_until("it to be there again", SOON, || supd.control().exists());
    supd.ctl(&["status"]).expect(0);
    supd.ctl(&["daemon-reload"]).expect(0);
    assert_eq!(supd.log().matches("control socket had been removed").count(), 1);
}

fn a_line_is_passed_over_aloud() {
    let supd = Supd::start();
    supd.install_worker("1");
    let file = supd.path().join("web.env");
    std::fs::write(&file, "A=x\0y\nB=2\n").expect("a file");
    let service = format!("EnvironmentFile = [{file:?}]");
    supd.launch("web", &supd.worker(free_port(), &[], &service, ""));
    let log = supd.ctl(&["logs", "web"]).expect(0);
    let said = format!("supd: {}:1", file.display());
    assert!(log.text().contains(&said) && log.text().contains("is passed over"), "{log}");
}
