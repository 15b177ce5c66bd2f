//! supd dies, and nobody notices: its workers serve on, and the next supd goes on with them.

use crate::harness::{Setup, Status, Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::notify::Stage;
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};

pub(crate) fn tests() -> Vec<Test> {
    let python = &[Need::File("/usr/bin/python3", "apt-get install python3")];
    let root = &[Need::Root];
    vec![
        test("survival::under_load", under_load),
        test_with("survival::under_load_without_ebpf", root, under_load_without_ebpf),
        test_with("survival::of_an_ordinary_users_supd", root, of_an_ordinary_user),
        test("survival::over_ipv6", over_ipv6),
        test_with("survival::of_paths_and_datagrams", python, of_paths_and_datagrams),
        test("survival::a_warm_rollback_after_it", a_warm_rollback_after_it),
        test("survival::in_a_canary", in_a_canary),
        test("survival::in_probation", in_probation),
        test("survival::of_who_was_not_ready_yet", of_who_was_not_ready_yet),
        test("survival::a_worker_that_died_meanwhile", a_worker_that_died_meanwhile),
        test("survival::clients_that_wait_on_demand", clients_that_wait_on_demand),
        test("survival::what_workers_say_is_heard", what_workers_say_is_heard),
        test("survival::what_was_stored", what_was_stored),
        test("survival::a_killed_keeper", a_killed_keeper),
        test("survival::a_stopped_keeper", a_stopped_keeper),
        test("survival::of_many_units", of_many_units),
        test("survival::nothing_leaks", nothing_leaks),
        test("survival::what_is_closed_is_free", what_is_closed_is_free),
        test("survival::of_a_unit_that_lost_its_file", of_a_unit_that_lost_its_file),
        test("survival::of_a_unit_that_was_stopped", of_a_unit_that_was_stopped),
        test("survival::sigterm_leaves_them", sigterm_leaves_them),
        test("survival::sigterm_in_a_swap", sigterm_in_a_swap),
        test("survival::when_the_machine_stops", when_the_machine_stops),
    ]
}

pub(crate) fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

pub(crate) fn loads(at: SocketAddr) -> [Load; 2] {
    let loads = [Mode::Close, Mode::KeepAlive].map(|mode| Load::start(Plan::new(Target::Tcp(at), mode, 4)));
    more(&loads);
    loads
}

pub(crate) fn more(loads: &[Load; 2]) {
    loads.iter().for_each(|load| load.wait_for_more(100, SOON));
}

pub(crate) fn nothing_is_lost(loads: [Load; 2]) {
    let [closing, kept] = loads.map(Load::stop);
    assert_eq!((closing.lost(), kept.lost()), (0, 0), "{closing}\n{kept}");
}

/// Version 1 serves.
pub(crate) fn serving(supd: &Supd, service: &str, swap: &str) -> u16 {
    let port = free_port();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(port, &[], service, swap));
    port
}

/// Who there is, once it is as it should be.
fn settled(supd: &Supd) -> Status {
    supd.wait_for_state("web", "active")
}

/// Three times in a row, with a swap before each.
fn goes_on_thrice(mut supd: Supd, at: SocketAddr) {
    let loads = loads(at);
    for version in ["2", "3", "4"] {
        supd.install_worker(version);
        supd.ctl(&["swap", "web"]).expect(0);
        more(&loads);
        let before = settled(&supd);
        supd = supd.crash_and_go_on_after(|_| more(&loads));
        more(&loads);
        let after = settled(&supd);
        let serves = |status: &Status| (status.active(), status.pids_in(status.active().unwrap_or_default()));
        assert_eq!(serves(&after), serves(&before), "{}", supd.log());
    }
    supd.ctl(&["rollback", "web"]).expect(0);
    more(&loads);
    nothing_is_lost(loads);
}

fn under_load() {
    let supd = Supd::start();
    let port = serving(&supd, "Workers = 2", "Retain = \"warm\"");
    goes_on_thrice(supd, address(port));
}

fn under_load_without_ebpf() {
    let supd = Supd::without_ebpf();
    let port = serving(&supd, "", "Retain = \"warm\"");
    goes_on_thrice(supd, address(port));
}

fn of_an_ordinary_user() {
    let supd = Supd::start_with(&Setup { user: Some(1234), ..Setup::default() });
    let port = serving(&supd, "", "");
    goes_on_thrice(supd, address(port));
}

fn over_ipv6() {
    let supd = Supd::start();
    let port = free_port();
    supd.install_worker("1");
    let unit = supd.worker(port, &[], "", "").replace("127.0.0.1", "[::1]");
    supd.launch("web", &unit);
    goes_on_thrice(supd, SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
}

/// Says who it is, at a path and for each datagram.
const BOTH: &str = "
import os, select, socket, sys
path, datagrams = socket.socket(fileno=3), socket.socket(fileno=4)
while True:
    for ready in select.select([path, datagrams], [], [])[0]:
        if ready is path:
            client, _ = path.accept()
            client.sendall(str(os.getpid()).encode())
            client.close()
        else:
            data, who = datagrams.recvfrom(100)
            datagrams.sendto(str(os.getpid()).encode() + data, who)
";

fn of_paths_and_datagrams() {
    let supd = Supd::start();
    let (port, path, program) = (free_port(), supd.path().join("web.sock"), supd.app().join("both.py"));
    fs::write(&program, BOTH).expect("a program");
    let unit = format!(
        "[[Socket]]\nName = \"path\"\nListenStream = {path:?}\n\n[[Socket]]\nName = \"udp\"\n\
         ListenDatagram = \"127.0.0.1:{port}\"\n\n[Service]\n\
         ExecStart = [\"/usr/bin/python3\", {program:?}]\nReady = \"started\"\nReadySettleSec = \"200ms\"\n\n\
         [Swap]\nProbationSec = 0\nSettleSec = 0\nDrainSec = \"1s\"\n"
    );
    supd.launch("web", &unit);
    supd.ctl(&["swap", "web"]).expect(0);
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    udp.set_read_timeout(Some(SOON)).expect("a bound");
    let who = || {
        let mut said = String::new();
        UnixStream::connect(&path).expect("a path").read_to_string(&mut said).expect("its number");
        let mut answer = [0; 100];
        udp.send_to(b":x", address(port)).expect("sent");
        let length = udp.recv(&mut answer).expect("an answer");
        (said, String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    let before = who();
    assert_eq!(before.1, format!("{}:x", before.0));
    let supd = supd.crash_and_go_on_after(|_| assert_eq!(who(), before));
    assert_eq!(who(), before, "{}", supd.log());
    supd.ctl(&["swap", "web"]).expect(0);
    wait_until("the next one to answer", SOON, || who().0 != before.0);
    let next = who();
    assert_eq!(next.1, format!("{}:x", next.0));
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(!path.exists(), "its path is left");
}

/// The standby is the one of before, and nothing is launched.
fn a_warm_rollback_after_it() {
    let supd = Supd::start();
    let port = serving(&supd, "", "Retain = \"warm\"\nProbationSec = \"0\"");
    let first = settled(&supd).pids();
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    let supd = supd.crash_and_go_on();
    let loads = loads(address(port));
    supd.ctl(&["rollback", "web"]).expect(0);
    let after = settled(&supd);
    assert_eq!((after.active(), after.pids_in(1)), (Some(1), first), "{}", after.0);
    wait_until("all to be on version 1", SOON, || loads[0].all_on("1"));
    nothing_is_lost(loads);
}

/// Who was active has all the traffic again, the candidate is drained, and the swap is given up.
fn in_a_canary() {
    let supd = Supd::start();
    let port = serving(&supd, "", "");
    let first = settled(&supd).pids();
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "50%"]).expect(0);
    let loads = loads(address(port));
    let supd = supd.crash_and_go_on_after(|_| more(&loads));
    let after = settled(&supd);
    assert_eq!((after.active(), after.pids_in(1)), (Some(1), first), "{}", after.0);
    let last = after.last_swap().clone();
    assert_eq!(
        (&last["result"], &last["cause"]),
        (&"aborted".into(), &"supervisor-restarted".into()),
        "{last}"
    );
    wait_until("the candidate to end", SOON, || supd.status("web").pids_in(2).is_empty());
    wait_until("all to be on version 1", SOON, || loads.iter().all(|load| load.all_on("1")));
    supd.ctl(&["swap", "web"]).expect(0);
    nothing_is_lost(loads);
}

/// What had taken over stays.
fn in_probation() {
    let supd = Supd::start();
    let port = serving(&supd, "", "ProbationSec = \"60s\"");
    supd.install_worker("2");
    let loads = loads(address(port));
    let swap = supd.ctl_start(&["swap", "web", "--wait=committed"]);
    let before = supd.wait_for_state("web", "probation");
    let supd = supd.crash_and_go_on_after(|_| more(&loads));
    drop(swap.finish(SOON));
    let after = settled(&supd);
    assert_eq!((after.active(), after.pids_in(2)), (Some(2), before.pids_in(2)), "{}", after.0);
    wait_until("all to be on version 2", SOON, || loads.iter().all(|load| load.all_on("2")));
    nothing_is_lost(loads);
}

/// It may have said that it is ready to nobody: it is ended, and who served never knew.
fn of_who_was_not_ready_yet() {
    let supd = Supd::start();
    let port = serving(&supd, "", "");
    let first = settled(&supd).pids();
    supd.install_worker("2");
    supd.write_unit("web", &supd.worker(port, &["never-ready"], "", ""));
    supd.ctl(&["daemon-reload"]).expect(0);
    let loads = loads(address(port));
    let swap = supd.ctl_start(&["swap", "web"]);
    let candidate = wait_for("a candidate", SOON, || supd.status("web").pids_in(2).first().copied());
    let supd = supd.crash_and_go_on();
    drop(swap.finish(SOON));
    let after = settled(&supd);
    assert_eq!((after.active(), after.pids()), (Some(1), first), "{}", after.0);
    assert!(!proc::alive(candidate), "{}", supd.log());
    more(&loads);
    nothing_is_lost(loads);
}

/// Who connected where nobody accepts waits for the next one, which is launched in its place.
fn a_worker_that_died_meanwhile() {
    for supd in [Supd::start(), Supd::without_ebpf()] {
        let port = serving(&supd, "", "");
        let before = settled(&supd);
        let mut client = None;
        let supd = supd.crash_and_go_on_after(|_| {
            let worker = before.pids()[0];
            proc::signal(worker, Signal::SIGKILL);
            wait_until("the worker to end", SOON, || !proc::alive(worker));
            let mut waits = TcpStream::connect(address(port)).expect("the listener stays");
            waits.set_read_timeout(Some(SOON)).expect("a bound");
            waits.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
            client = Some(waits);
        });
        let mut answer = String::new();
        client.expect("a client").read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}\n{}", supd.log());
        let after = settled(&supd);
        assert_eq!(after.active(), before.active());
        assert_ne!(after.pids(), before.pids());
    }
}

fn clients_that_wait_on_demand() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.write_unit("web", &supd.worker(port, &[], "Start = \"on-demand\"", ""));
    supd.ctl(&["daemon-reload"]).expect(0);
    supd.ctl(&["start", "web"]);
    supd.wait_for_state("web", "waiting");
    let mut client = None;
    let supd = supd.crash_and_go_on_after(|_| {
        let mut waits = TcpStream::connect(address(port)).expect("the listener stays");
        waits.set_read_timeout(Some(SOON)).expect("a bound");
        waits.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
        client = Some(waits);
    });
    let mut answer = String::new();
    client.expect("a client").read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}\n{}", supd.log());
}

/// Its words while nobody hears wait for the next supd; the watchdog's time begins anew.
fn what_workers_say_is_heard() {
    let mut stage = Stage::serving("WatchdogSec = \"2s\"\nRestart = \"no\"");
    let mut puppet = stage.puppet();
    let pid = puppet.pid;
    stage.supd = stage.supd.crash_and_go_on_after(|_| puppet.say("STATUS=while nobody hears"));
    wait_until("its words", SOON, || stage.status_text() == "while nobody hears");
    puppet.say("WATCHDOG=1\nSTATUS=heard by the next one");
    wait_until("its next words", SOON, || stage.status_text() == "heard by the next one");
    assert_eq!(stage.now().pids(), [pid]);
    // Who says nothing any more is ended, as ever.
    wait_until("the watchdog", SOON, || !proc::alive(pid));
}

/// The descriptor store goes on, too.
fn what_was_stored() {
    let mut stage = Stage::serving("FileDescriptorStoreMax = 4");
    let mut puppet = stage.puppet();
    puppet.store("first");
    puppet.store("second");
    puppet.sync();
    stage.supd = stage.supd.crash_and_go_on();
    let mut next = stage.killed(&puppet);
    assert_eq!(next.given_stores(1), ["first", "second"]);
}

fn other_keeper(supd: &Supd, than: u32) -> u32 {
    wait_for("another keeper", SOON, || supd.keeper().filter(|keeper| *keeper != than))
}

/// Another one takes its place, with everything.
fn a_killed_keeper() {
    let supd = Supd::start();
    let port = serving(&supd, "", "");
    let before = settled(&supd);
    let loads = loads(address(port));
    let keeper = supd.keeper().expect("a keeper");
    proc::signal(keeper, Signal::SIGKILL);
    let next = other_keeper(&supd, keeper);
    assert!(proc::alive(next));
    // It has it as soon as supd answers.
    supd.ctl(&["status"]).expect(0);
    let supd = supd.crash_and_go_on();
    let after = settled(&supd);
    assert_eq!(after.pids(), before.pids(), "{}", supd.log());
    more(&loads);
    nothing_is_lost(loads);
}

/// What one has that does not answer nobody gets: it is ended, that its ports are free, and all is said.
fn a_stopped_keeper() {
    let supd = Supd::start();
    let port = serving(&supd, "", "");
    let keeper = supd.keeper().expect("a keeper");
    proc::signal(keeper, Signal::SIGSTOP);
    let supd = supd.crash_and_go_on();
    assert!(!proc::alive(keeper), "{}", supd.log());
    assert!(supd.log().contains("does not answer"), "{}", supd.log());
    settled(&supd);
    nothing_is_lost(loads(address(port)));
}

fn of_many_units() {
    const MANY: usize = 60;
    let supd = Supd::start();
    supd.install_worker("1");
    let ports: Vec<u16> = (0..MANY).map(|_| free_port()).collect();
    for (number, port) in ports.iter().enumerate() {
        supd.write_unit(&format!("u{number}"), &supd.worker(*port, &[], "", ""));
    }
    supd.ctl(&["daemon-reload"]).expect(0);
    let started: Vec<_> = (0..MANY).map(|number| supd.ctl_start(&["start", &format!("u{number}")])).collect();
    started.into_iter().for_each(|one| drop(one.finish(SOON).expect(0)));
    let pids = |supd: &Supd| -> Vec<Vec<u32>> {
        (0..MANY).map(|number| supd.status(&format!("u{number}")).pids()).collect()
    };
    let before = pids(&supd);
    let supd = supd.crash_and_go_on();
    assert_eq!(pids(&supd), before);
    for port in ports {
        let mut client = TcpStream::connect(address(port)).expect("a listener");
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Twenty supds, one after the other.
fn nothing_leaks() {
    let mut supd = Supd::start();
    let port = serving(&supd, "", "Retain = \"warm\"\nProbationSec = \"0\"");
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    let loads = loads(address(port));
    supd = supd.crash_and_go_on();
    let keeper = supd.keeper().expect("a keeper");
    let open = |supd: &Supd| {
        supd.ctl(&["status"]).expect(0);
        // The connection of that command is closed by now, or will be.
        let of = |pid| proc::files(pid).len();
        (of(supd.pid()), of(keeper))
    };
    let before = wait_for("it to be at rest", SOON, || Some(open(&supd)).filter(|it| *it == open(&supd)));
    let kib = proc::rss_kib(keeper);
    for _ in 0..20 {
        supd = supd.crash_and_go_on();
        assert_eq!(supd.keeper(), Some(keeper));
    }
    wait_until("nothing more to be open than before", SOON, || open(&supd) == before);
    assert!(proc::rss_kib(keeper) < kib + 512, "{} KiB, {kib} before", proc::rss_kib(keeper));
    let records = fs::read_dir(supd.runtime().join("workers")).expect("a folder").count();
    assert_eq!(records, 2, "one for each worker");
    nothing_is_lost(loads);
}

/// The keeper holds nothing of it by the time that somebody is told.
fn what_is_closed_is_free() {
    let supd = Supd::start();
    let keeper = supd.keeper().expect("a keeper");
    let sockets = || proc::files(keeper).iter().filter(|file| file.starts_with("socket:")).count();
    wait_until("it to have taken supd in", SOON, || sockets() == 2);
    let before = proc::files(keeper);
    for _ in 0..20 {
        serving(&supd, "", "");
        assert_ne!(proc::files(keeper), before);
        supd.ctl(&["stop", "web", "--now"]).expect(0);
        assert_eq!(proc::files(keeper), before);
    }
}

/// It goes on with what it ran with.
fn of_a_unit_that_lost_its_file() {
    let supd = Supd::start();
    let port = serving(&supd, "", "");
    let before = settled(&supd).pids();
    let file = supd.path().join("units/web.unit");
    fs::remove_file(&file).expect("the unit's file");
    let loads = loads(address(port));
    let supd = supd.crash_and_go_on();
    assert_eq!(settled(&supd).pids(), before, "{}", supd.log());
    fs::write(&file, "[Service\n").expect("a file");
    let supd = supd.crash_and_go_on();
    assert_eq!(settled(&supd).pids(), before, "{}", supd.log());
    nothing_is_lost(loads);
}

fn of_a_unit_that_was_stopped() {
    let supd = Supd::start();
    let port = serving(&supd, "", "");
    supd.ctl(&["stop", "web"]).expect(0);
    let supd = supd.crash_and_go_on();
    assert_eq!(supd.status("web").state(), "stopped");
    assert!(TcpStream::connect(address(port)).is_err(), "stopped, and it accepts");
}

/// `systemctl restart supd`, again and again.
fn sigterm_leaves_them() {
    let mut supd = Supd::start();
    let port = serving(&supd, "Workers = 2", "Retain = \"warm\"\nProbationSec = \"0\"");
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    let before = settled(&supd);
    let loads = loads(address(port));
    for _ in 0..5 {
        supd = supd.restart();
        more(&loads);
        let after = settled(&supd);
        assert_eq!((after.active(), after.pids()), (before.active(), before.pids()), "{}", supd.log());
    }
    supd.ctl(&["rollback", "web"]).expect(0);
    nothing_is_lost(loads);
    let history = supd.ctl(&["--json", "history"]).expect(0).stdout;
    assert_eq!(history.matches("supd-ended").count(), 5, "{history}");
}

/// It is given up, and who served serves.
fn sigterm_in_a_swap() {
    let supd = Supd::start();
    let port = serving(&supd, "", "");
    let first = settled(&supd).pids();
    supd.write_unit("web", &supd.worker(port, &["never-ready"], "", ""));
    supd.ctl(&["daemon-reload"]).expect(0);
    let loads = loads(address(port));
    let swap = supd.ctl_start(&["swap", "web"]);
    let candidate = wait_for("a candidate", SOON, || supd.status("web").pids_in(2).first().copied());
    let supd = supd.restart();
    drop(swap.finish(SOON));
    let after = settled(&supd);
    assert_eq!((after.active(), after.pids()), (Some(1), first), "{}", after.0);
    assert!(!proc::alive(candidate), "{}", supd.log());
    nothing_is_lost(loads);
}

/// systemd's word counts, where supd is its service.
fn when_the_machine_stops() {
    for (word, stays) in [("running", true), ("stopping", false)] {
        let folder = crate::harness::folder();
        let systemctl = folder.path().join("systemctl");
        fs::write(&systemctl, format!("#!/bin/sh\necho {word}\n")).expect("a program");
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).expect("its rights");
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        let wrapper = vec![
            "env".to_owned(),
            format!("PATH={path}"),
            format!("NOTIFY_SOCKET={}", folder.path().join("notify").display()),
        ];
        let supd = Supd::start_with(&Setup { wrapper, ..Setup::default() });
        serving(&supd, "", "");
        let worker = settled(&supd).pids()[0];
        proc::signal(supd.pid(), Signal::SIGTERM);
        wait_until("supd to go", SOON, || !supd.is_alive());
        assert_eq!(proc::alive(worker), stays, "{word}: {}", supd.log());
        drop(supd.restart_ended());
        drop(socket);
    }
}
