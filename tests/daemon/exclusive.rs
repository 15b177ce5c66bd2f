//! Servers of which only one may run: the one before ends first, and whoever comes meanwhile waits.

use crate::harness::{Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

const PYTHON: &[Need] = &[Need::File("/usr/bin/python3", "apt-get install python3")];

pub(crate) fn tests() -> Vec<Test> {
    let setpriv = &[Need::Program("setpriv", "util-linux")];
    vec![
        test("exclusive::nothing_is_lost", nothing_is_lost),
        test_with("exclusive::nothing_is_lost_without_ebpf", setpriv, nothing_is_lost_without_ebpf),
        test("exclusive::one_that_fails", one_that_fails),
        test_with("exclusive::one_that_fails_without_ebpf", setpriv, one_that_fails_without_ebpf),
        test("exclusive::given_up", given_up),
        test("exclusive::stopped_in_the_gap", stopped_in_the_gap),
        test("exclusive::supd_dies_in_the_gap", supd_dies_in_the_gap),
        test("exclusive::the_old_one_dies_first", the_old_one_dies_first),
        test_with("exclusive::a_path", PYTHON, a_path),
        test("exclusive::what_cannot_be_is_refused", what_cannot_be_is_refused),
    ]
}

/// A second one beside the first finds the first one's lock, and fails.
fn unit(supd: &Supd, port: u16, arguments: &[&str], swap: &str) -> String {
    let lock = supd.app().join("lock");
    let service = format!(
        "Exclusive = \"process\"\nRestart = \"no\"\n\
         ExecStartPre = [[\"/bin/sh\", \"-c\", \"test ! -e {lock} && touch {lock}\"]]\n\
         ExecStopPost = [[\"/bin/rm\", \"-f\", \"{lock}\"]]",
        lock = lock.display()
    );
    supd.worker(port, arguments, &service, swap)
}

fn serving(supd: &Supd, arguments: &[&str]) -> u16 {
    let port = free_port();
    supd.install_worker("1");
    supd.launch("web", &unit(supd, port, arguments, ""));
    port
}

fn edit(supd: &Supd, port: u16, arguments: &[&str]) {
    supd.write_unit("web", &unit(supd, port, arguments, ""));
}

fn loads(port: u16) -> [Load; 2] {
    let target = Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let loads = [Mode::Close, Mode::KeepAlive]
        .map(|mode| Load::start(Plan::new(target.clone(), mode, 4).slow_every(50)));
    more(&loads);
    loads
}

pub(crate) fn more(loads: &[Load; 2]) {
    loads.iter().for_each(|load| load.wait_for_more(100, SOON));
}

fn all_answered(loads: [Load; 2]) {
    for tally in loads.map(Load::stop) {
        assert_eq!(tally.lost(), 0, "{tally}");
    }
}

pub(crate) fn gap(supd: &Supd) -> u64 {
    let status = supd.status("web");
    status.last_swap()["gap_ms"].as_u64().unwrap_or_else(|| panic!("no gap: {}", status.0))
}

fn to_and_fro(supd: &Supd) {
    let port = serving(supd, &["late=300"]);
    let loads = loads(port);
    for round in 2..6 {
        supd.install_worker(&round.to_string());
        let told = supd.ctl(&["swap", "web"]).expect(0);
        assert!(told.text().contains("new connections waited for"), "{told}");
        assert!(gap(supd) >= 300, "{}", supd.status("web").0);
        more(&loads);
        supd.ctl(&["rollback", "web"]).expect(0);
        assert!(gap(supd) >= 300, "{}", supd.status("web").0);
        more(&loads);
        assert_eq!(supd.status("web").pids().len(), 1);
    }
    all_answered(loads);
}

fn nothing_is_lost() {
    to_and_fro(&Supd::start());
}

fn nothing_is_lost_without_ebpf() {
    to_and_fro(&Supd::without_ebpf());
}

/// Who served before is launched again, as it was, and the answer says so.
fn failing(supd: &Supd) {
    let port = serving(supd, &[]);
    let loads = loads(port);
    supd.install_worker("2");
    for arguments in [&["die=3"][..], &["ready-then-die=10"], &["never-ready"]] {
        let text = unit(supd, port, arguments, "").replace("StartSec = \"10s\"", "StartSec = \"1s\"");
        supd.write_unit("web", &text);
        let told = supd.ctl(&["swap", "web"]).expect(6);
        assert!(told.text().contains("rolled back to generation"), "{told}");
        assert!(
            gap(supd) > 0,
            "from the one that served to the next one that does: {}",
            supd.status("web").0
        );
        let status = supd.status("web");
        assert_eq!((status.state(), status.pids().len()), ("active", 1), "{}", status.0);
        more(&loads);
        assert!(loads.iter().all(|load| load.all_on("1")), "{arguments:?}");
    }
    all_answered(loads);
}

fn one_that_fails() {
    failing(&Supd::start());
}

fn one_that_fails_without_ebpf() {
    failing(&Supd::without_ebpf());
}

/// Begins a swap to one that takes long, and waits until the old one is gone.
fn in_the_gap(supd: &Supd, port: u16) -> (crate::harness::Running, u32) {
    let old = supd.status("web").pids()[0];
    supd.install_worker("2");
    edit(supd, port, &["late=60000"]);
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("the old one to be gone, and the new one launched", SOON, || {
        let pids = supd.status("web").pids();
        !proc::alive(old) && pids.first().is_some_and(|pid| *pid != old)
    });
    (swap, supd.status("web").pids()[0])
}

/// Somebody who comes in the gap.
pub(crate) fn ask(port: u16) -> TcpStream {
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    client.set_read_timeout(Some(SOON)).expect("a limit");
    client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("a request");
    client
}

pub(crate) fn answer(mut client: TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).expect("an answer in time");
    assert!(text.starts_with("HTTP/1.1 200"), "{text:?}");
    text
}

fn given_up() {
    let supd = Supd::start();
    let port = serving(&supd, &[]);
    let (swap, _) = in_the_gap(&supd, port);
    let status = supd.status("web");
    assert_eq!(status.state(), "starting", "{}", status.0);
    let early = ask(port);
    let told = supd.ctl(&["abort", "web"]).expect(0);
    assert!(told.text().contains("is active again"), "{told}");
    assert!(answer(early).contains("X-Served-By: 1/"));
    swap.finish(SOON).expect(6);
    assert_eq!(supd.status("web").state(), "active");
}

fn stopped_in_the_gap() {
    let supd = Supd::start();
    let port = serving(&supd, &[]);
    let (swap, new) = in_the_gap(&supd, port);
    supd.ctl(&["stop", "web"]).expect(0);
    swap.finish(SOON).expect(7);
    assert!(!proc::alive(new));
    assert_eq!(supd.status("web").state(), "stopped");
    edit(&supd, port, &[]);
    supd.ctl(&["start", "web"]).expect(0);
    answer(ask(port));
}

/// The next supd goes on with who served before.
fn supd_dies_in_the_gap() {
    let supd = Supd::start();
    let port = serving(&supd, &[]);
    let (_swap, new) = in_the_gap(&supd, port);
    let lock = supd.app().join("lock");
    let supd = supd.crash_and_restart_after(|_| {
        std::fs::remove_file(lock).expect("nobody was left who runs ExecStopPost");
    });
    let status = supd.wait_for_state("web", "active");
    assert!(!proc::alive(new));
    assert_eq!(status.pids().len(), 1, "{}", status.0);
    assert!(answer(ask(port)).contains("X-Served-By: 1/"));
}

fn the_old_one_dies_first() {
    let supd = Supd::start();
    let port = serving(&supd, &["ignore-term"]);
    let old = supd.status("web").pids()[0];
    supd.install_worker("2");
    edit(&supd, port, &[]);
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("the old one to be let go", SOON, || {
        let status = supd.status("web");
        status.state() == "starting" && status.pids() == [old]
    });
    let early = ask(port);
    proc::signal(old, Signal::SIGKILL);
    swap.finish(SOON).expect(0);
    assert!(answer(early).contains("X-Served-By: 2/"));
}

/// Whoever connects to a path in the gap waits, too. The server is dead at once when it is told to stop.
fn a_path() {
    let supd = Supd::start();
    let path = supd.path().join("web.sock");
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/abrupt.py");
    let at = |version: &str| {
        format!(
            "[[Socket]]\nName = \"path\"\nListenStream = {path:?}\n\n[Service]\n\
             ExecStart = [\"/usr/bin/python3\", {app:?}, {version:?}]\nExclusive = \"process\"\n\
             ReadySettleSec = \"0\"\n\n[Swap]\nDrainSec = \"10s\"\nSettleSec = \"200ms\"\n"
        )
    };
    supd.launch("web", &at("1"));
    let load = Load::start(Plan::new(Target::Unix(path.clone()), Mode::Close, 4));
    load.wait_for_more(100, SOON);
    for _ in 0..3 {
        supd.write_unit("web", &at("2"));
        supd.ctl(&["swap", "web"]).expect(0);
        load.wait_for_more(100, SOON);
        // The program is Python, of which no copy is made.
        supd.ctl(&["rollback", "web", "--anyway"]).expect(0);
        load.wait_for_more(100, SOON);
    }
    supd.write_unit("web", &at("2").replace("/usr/bin/python3", "/usr/bin/false"));
    supd.ctl(&["swap", "web"]).expect(6);
    load.wait_for_more(100, SOON);
    assert!(load.all_on("1"));
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
}

fn what_cannot_be_is_refused() {
    let supd = Supd::start();
    let port = serving(&supd, &[]);
    for stops in [&["--hold"][..], &["--canary", "5%"], &["--unbound"]] {
        let arguments = [&["swap", "web"], stops].concat();
        let refused = supd.ctl(&arguments).expect(3);
        assert!(refused.text().contains("nobody would serve meanwhile"), "{refused}");
    }
    for (swap, what) in [
        ("Retain = \"warm\"", "has ended before the new one begins"),
        ("Canary = [\"5% 1min\"]", "nobody runs beside the candidate"),
        ("CheckCommand = [\"/bin/true\"]", "it is committed at the switch"),
    ] {
        supd.write_unit("web", &unit(&supd, port, &[], swap));
        let refused = supd.ctl(&["swap", "web"]);
        assert!(refused.text().contains(what), "{refused}");
    }
}
