//! A generation that is tried out with real connections and accepts none of them; and one that is only slow.

use crate::harness::{Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, holds_for, pause, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const SETPRIV: &[Need] = &[Need::Program("setpriv", "util-linux")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("trial::canary_that_accepts_nothing", canary_that_accepts_nothing),
        test("trial::probation_that_accepts_nothing", probation_that_accepts_nothing),
        test("trial::path_where_nobody_accepts", path_where_nobody_accepts),
        test_with("trial::half_a_queue_without_ebpf", SETPRIV, half_a_queue_without_ebpf),
        test_with("trial::slow_server_without_ebpf", SETPRIV, slow_server_without_ebpf),
        test_with("trial::slow_closer_without_ebpf", SETPRIV, slow_closer_without_ebpf),
        test_with("trial::deaf_at_one_listener_without_ebpf", SETPRIV, deaf_at_one_listener_without_ebpf),
        test("trial::deaf_at_one_listener", deaf_at_one_listener),
        test("trial::slow_server_is_no_failure", slow_server_is_no_failure),
        test("trial::slow_closer_beside_silent_clients", slow_closer_beside_silent_clients),
        test("trial::deferred_handshakes_hide_nobody", deferred_handshakes_hide_nobody),
        test("trial::slow_server_beside_deferred_handshakes", slow_server_beside_deferred_handshakes),
        test("trial::worker_that_takes_more_than_its_share", worker_that_takes_more_than_its_share),
        test("trial::worker_that_sends_clients_to_who_drains", worker_that_sends_clients_to_who_drains),
        test_with("trial::who_is_alone_without_ebpf", SETPRIV, who_is_alone_without_ebpf),
    ]
}

fn target(port: u16) -> Target {
    Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn freeze(supd: &Supd, generation: u64) {
    let pids = supd.status("web").pids_in(generation);
    assert!(!pids.is_empty(), "generation {generation} has no process");
    pids.into_iter().for_each(|pid| proc::signal(pid, Signal::SIGSTOP));
}

fn cause(supd: &Supd) -> String {
    supd.status("web").last_swap()["cause"].as_str().unwrap_or_default().to_owned()
}

/// What waits for it is moved to who serves, long before anybody loses patience.
fn canary_that_accepts_nothing() {
    let _machine = crate::harness::whole_machine();
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", "DrainSec = \"60s\""));
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "50%"]).expect(0);
    freeze(&supd, 2);
    // Each of them waits there sooner or later, and goes on once it is over.
    let load = Load::start(Plan::new(target(port), Mode::Close, 4));
    wait_until("the canary to be over", SOON, || supd.status("web").state() == "active");
    assert!(cause(&supd).contains("accepted none"), "{}", cause(&supd));
    load.wait_for_more(300, SOON);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.versions().keys().eq(["1"]), "{tally}");
    supd.ctl(&["stop", "web", "--now"]).expect(0);
}

fn probation_that_accepts_nothing() {
    let _machine = crate::harness::whole_machine();
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", "ProbationSec = \"60s\"\nDrainSec = \"60s\""));
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--wait=active"]).expect(0);
    freeze(&supd, 2);
    let load = Load::start(Plan::new(target(port), Mode::Close, 4));
    let wait = supd.ctl(&["wait", "web"]).expect(6);
    assert!(wait.text().contains("accepted none"), "{wait}");
    assert_eq!(supd.status("web").active(), Some(1));
    load.wait_for_more(300, SOON);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.versions().keys().eq(["1"]), "{tally}");
    supd.ctl(&["stop", "web", "--now"]).expect(0);
}

/// Of a path the kernel does not count whom it sends there, but tells who waits first.
fn path_where_nobody_accepts() {
    let supd = Supd::start();
    supd.install_worker("1");
    let path = supd.path().join("web.sock");
    let port = free_port();
    let unit = supd
        .worker(port, &[], "", "ProbationSec = \"60s\"\nDrainSec = \"0\"")
        .replace(&format!("127.0.0.1:{port}"), &path.display().to_string());
    supd.launch("web", &unit);
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--wait=active"]).expect(0);
    freeze(&supd, 2);
    let clients: Vec<_> =
        (0..3).map(|_| std::os::unix::net::UnixStream::connect(&path).expect("it listens")).collect();
    let wait = supd.ctl(&["wait", "web"]).expect(6);
    assert!(wait.text().contains("3 connection(s) wait at"), "{wait}");
    drop(clients);
}

/// Where the kernel counts nobody, half a queue that the frozen one holds none of is enough; and DeferAcceptSec,
/// which would keep clients out of every queue, is left out.
fn half_a_queue_without_ebpf() {
    let supd = Supd::without_ebpf();
    supd.install_worker("1");
    let port = free_port();
    let unit = supd.worker(port, &[], "", "ProbationSec = \"60s\"\nDrainSec = \"0\"");
    let lines = unit.lines().filter(|line| !line.starts_with("Backlog"));
    let unit: String = lines.map(|line| format!("{line}\n")).collect();
    let unit = unit.replace("[[Socket]]", "[[Socket]]\nBacklog = 4\nDeferAcceptSec = \"600s\"");
    supd.launch("web", &unit);
    assert!(supd.log().contains("DeferAcceptSec is left out"), "{}", supd.log());
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--wait=active"]).expect(0);
    freeze(&supd, 2);
    let clients: Vec<_> =
        (0..3).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens")).collect();
    let wait = supd.ctl(&["wait", "web"]).expect(6);
    assert!(wait.text().contains("3 connection(s) wait at"), "{wait}");
    drop(clients);
}

fn slow_server_without_ebpf() {
    slow_server(&Supd::without_ebpf());
}

/// A unit of the server that takes ten requests a second and holds none of them meanwhile.
fn closing(port: u16, version: &str, socket: &str, swap: &str) -> String {
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/closing.py");
    format!(
        "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\nBacklog = 1024\n{socket}\n\n[Service]\n\
         ExecStart = [\"/usr/bin/python3\", {app:?}, {version:?}, \"0.1\"]\nReadySettleSec = \"0\"\n\n\
         [Swap]\n{swap}\nDrainSec = \"10s\"\n"
    )
}

/// Far from half of what may wait does, always as many, some of them for two seconds, and nobody is held at any
/// count: only that they are others each time says that they are accepted.
fn slow_closer_without_ebpf() {
    let (supd, port) = (Supd::without_ebpf(), free_port());
    let swap = "Canary = [\"50% 5s\"]\nProbationSec = \"5s\"";
    supd.launch("web", &closing(port, "1", "", swap));
    supd.write_unit("web", &closing(port, "2", "", swap));
    let load = Load::start(Plan::new(target(port), Mode::Close, 24));
    supd.ctl(&["swap", "web"]).expect(0);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.versions().keys().eq(["1", "2"]), "{tally}");
}

fn deaf_at_one_listener_without_ebpf() {
    deaf_at_one_of_two(&Supd::without_ebpf());
}

fn deaf_at_one_listener() {
    deaf_at_one_of_two(&Supd::start());
}

/// A new version that accepts all the time at one of its listeners, and nothing at the other, where three wait: that
/// is seen. With eBPF they are moved to the old one, which has who comes then in any case.
fn deaf_at_one_of_two(supd: &Supd) {
    let [port, deaf] = [free_port(), free_port()];
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/apart.py");
    let unit = |version: &str| {
        format!(
            "[[Socket]]\nName = \"one\"\nListenStream = \"127.0.0.1:{port}\"\n\n[[Socket]]\nName = \"two\"\n\
             ListenStream = \"127.0.0.1:{deaf}\"\n\n[Service]\nExecStart = [\"/usr/bin/python3\", {app:?}, \
             {version:?}, {folder:?}]\nReady = \"started\"\nReadySettleSec = \"100ms\"\n\n[Swap]\n\
             ProbationSec = \"60s\"\nDrainSec = \"60s\"\n",
            folder = supd.app()
        )
    };
    supd.launch("web", &unit("1"));
    let deafness = supd.app().join("deaf-2-1");
    std::fs::write(&deafness, "").expect("a file");
    supd.write_unit("web", &unit("2"));
    supd.ctl(&["swap", "web", "--wait=active"]).expect(0);
    let load = Load::start(Plan::new(target(port), Mode::Close, 2));
    let ask = |_| {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, deaf)).expect("it listens");
        client.set_read_timeout(Some(SOON)).expect("a limit");
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
        client
    };
    let clients: Vec<TcpStream> = (0..3).map(ask).collect();
    let wait = supd.ctl(&["wait", "web"]).expect(6);
    assert!(wait.text().contains(&format!("3 connection(s) wait at 127.0.0.1:{deaf}")), "{wait}");
    assert_eq!((supd.status("web").active(), served_by(deaf)), (Some(1), "1".to_owned()));
    // It is let go, and may still accept what waits for it.
    let by = if is_ebpf(supd) { "1" } else { "2" };
    std::fs::remove_file(&deafness).expect("it was there");
    clients.into_iter().for_each(|client| assert_eq!(answered_by(client), by));
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    supd.ctl(&["stop", "web", "--now"]).expect(0);
}

/// Its clients come again as soon as they are answered: so many wait at every moment, and all are served.
fn slow_server_is_no_failure() {
    slow_server(&Supd::start());
}

fn slow_server(supd: &Supd) {
    let port = free_port();
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/abrupt.py");
    let unit = |version: &str| {
        format!(
            "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\nBacklog = 16\n\n[Service]\n\
             ExecStart = [\"/usr/bin/python3\", {app:?}, {version:?}, \"0.1\"]\nReadySettleSec = \"0\"\n\n\
             [Swap]\nCanary = [\"50% 4s\"]\nProbationSec = \"4s\"\n"
        )
    };
    supd.launch("web", &unit("1"));
    supd.write_unit("web", &unit("2"));
    let load = Load::start(Plan::new(target(port), Mode::Close, 12));
    supd.ctl(&["swap", "web"]).expect(0);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.versions().keys().eq(["1", "2"]), "{tally}");
}

/// Clients who connect, say nothing and stay: with TCP_DEFER_ACCEPT their handshakes are never done.
struct Silent {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<TcpStream>>,
}

impl Silent {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut all = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                all.extend(TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
                pause(Duration::from_millis(25));
            }
            all
        });
        Self { stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.join().expect("the clients"));
    }
}

/// A listener that defers is one whose clients are half-open until they say something.
fn deferred(unit: &str) -> String {
    unit.replacen("ListenStream", "DeferAcceptSec = \"60s\"\nListenStream", 1)
}

/// The kernel counts them among those whom it has sent to the canary; nobody accepts any of them.
fn deferred_handshakes_hide_nobody() {
    let _machine = crate::harness::whole_machine();
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &deferred(&supd.worker(port, &[], "", "DrainSec = \"0\"\nSettleSec = \"0\"")));
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "50%"]).expect(0);
    freeze(&supd, 2);
    let silent = Silent::start(port);
    // They alone wait for nobody.
    holds_for("the canary", Duration::from_secs(5), || supd.status("web").state() == "canary");
    let load = Load::start(Plan::new(target(port), Mode::Close, 4));
    wait_until("the canary to be over", SOON, || supd.status("web").state() == "active");
    assert!(cause(&supd).contains("accepted none"), "{}", cause(&supd));
    load.stop();
    silent.end();
    supd.ctl(&["stop", "web", "--now"]).expect(0);
}

/// As above, and this one accepts: ten a second, while more wait.
fn slow_server_beside_deferred_handshakes() {
    let (supd, port) = (Supd::start(), free_port());
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/abrupt.py");
    let unit = |version: &str| {
        deferred(&format!(
            "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\nBacklog = 1024\n\n[Service]\n\
             ExecStart = [\"/usr/bin/python3\", {app:?}, {version:?}, \"0.1\"]\nReadySettleSec = \"0\"\n\n\
             [Swap]\nCanary = [\"50% 5s\"]\nProbationSec = \"4s\"\nDrainSec = \"5s\"\n"
        ))
    };
    supd.launch("web", &unit("1"));
    supd.write_unit("web", &unit("2"));
    let silent = Silent::start(port);
    let load = Load::start(Plan::new(target(port), Mode::Close, 12));
    supd.ctl(&["swap", "web"]).expect(0);
    let tally = load.stop();
    silent.end();
    assert!(tally.versions().keys().eq(["1", "2"]), "{tally}");
}

/// Clients who have said nothing for long are no reason to think that nobody is accepted now.
fn slow_closer_beside_silent_clients() {
    let (supd, port) = (Supd::start(), free_port());
    let unit = |version: &str| closing(port, version, "DeferAcceptSec = \"60s\"", "ProbationSec = \"6s\"");
    supd.launch("web", &unit("1"));
    let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    let silent: Vec<TcpStream> = (0..200).map(connect).collect();
    supd.write_unit("web", &unit("2"));
    supd.ctl(&["swap", "web", "--wait=active"]).expect(0);
    let load = Load::start(Plan::new(target(port), Mode::Close, 8));
    supd.ctl(&["wait", "web"]).expect(0);
    let tally = load.stop();
    drop(silent);
    assert!(tally.versions().keys().eq(["2"]), "{tally}");
    supd.ctl(&["stop", "web", "--now"]).expect(0);
}

/// One that changes who receives how much, each time it gets SIGUSR1.
fn meddling(port: u16, version: &str, how: &str, drain: &str) -> String {
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/meddling.py");
    format!(
        "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\n\
         ExecStart = [\"/usr/bin/python3\", {app:?}, {version:?}, {how:?}]\n\
         ReadySettleSec = \"0\"\n\n[Swap]\nProbationSec = \"0\"\nDrainSec = {drain:?}\n"
    )
}

fn meddle(supd: &Supd, generation: u64) {
    supd.status("web").pids_in(generation).into_iter().for_each(|pid| proc::signal(pid, Signal::SIGUSR1));
}

/// How often it was told that somebody did.
fn accusations(supd: &Supd) -> usize {
    supd.log().matches("has taken supd's BPF program off").count()
}

/// Whether supd can tell.
fn is_ebpf(supd: &Supd) -> bool {
    supd.status("web").0["listeners"][0]["mechanism"] == "ebpf"
}

/// The kernel lets a worker do so through its slot, and says nothing: what it did does not last.
fn worker_that_takes_more_than_its_share() {
    for how in ["detach", "attach"] {
        let supd = Supd::start();
        let port = free_port();
        supd.launch("web", &meddling(port, "1", how, "0"));
        supd.write_unit("web", &meddling(port, "2", how, "0"));
        supd.ctl(&["swap", "web", "--canary", "0.01%"]).expect(0);
        let reached = |version: &str| (0..40).filter(|_| served_by(port) == version).count();
        wait_until("the worker to have more than its share", SOON, || {
            meddle(&supd, 2);
            reached("2") > 10
        });
        wait_until("its share to be what it was", SOON, || reached("1") == 40);
        if is_ebpf(&supd) {
            let [one, two] = [1, 2].map(|generation| supd.status("web").pids_in(generation)[0]);
            let who = format!("generation 1 (pid {one}) or generation 2 (pid {two}) has taken");
            wait_until("it to be told", SOON, || supd.log().contains(&who));
            // Nobody is told twice, however often they do it.
            wait_until("it to happen again", SOON, || {
                meddle(&supd, 2);
                reached("2") > 10
            });
            wait_until("its share to be what it was", SOON, || reached("1") == 40);
            assert_eq!(accusations(&supd), 1, "{}", supd.log());
        }
        assert_eq!(supd.status("web").state(), "canary");
        supd.ctl(&["stop", "web", "--now"]).expect(0);
    }
}

/// Nobody is tried out any more, but the old one still drains.
fn worker_that_sends_clients_to_who_drains() {
    let (supd, port) = (Supd::start(), free_port());
    supd.launch("web", &meddling(port, "1", "detach", "300s"));
    let _keeps_it = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a listener");
    wait_until("it to be accepted", SOON, || {
        let status = supd.status("web");
        status.0["generations"][0]["connections"].as_u64() == Some(1)
    });
    supd.write_unit("web", &meddling(port, "2", "detach", "300s"));
    supd.ctl(&["swap", "web"]).expect(0);
    let reached = |version: &str| (0..40).filter(|_| served_by(port) == version).count();
    assert_eq!((reached("2"), accusations(&supd)), (40, 0));
    let pids = supd.status("web").pids_in(2);
    wait_until("the old one to have some", SOON, || {
        pids.iter().for_each(|pid| proc::signal(*pid, Signal::SIGUSR1));
        reached("1") > 5
    });
    wait_until("it to be put back", SOON, || reached("2") == 40);
    if is_ebpf(&supd) {
        wait_until("it to be told", SOON, || accusations(&supd) == 1);
    }
    supd.ctl(&["stop", "web", "--now"]).expect(0);
}

/// The slot of who was there before is gone with its clients, so that there is nobody to send any to.
fn who_is_alone_without_ebpf() {
    for how in ["again", "detach", "attach"] {
        let (supd, port) = (Supd::without_ebpf(), free_port());
        let done = supd.path().join("done");
        let with_file = format!("{how:?}, {:?}]", done.display().to_string());
        let unit = |version: &str| {
            let unit = meddling(port, version, how, "0").replace(&format!("{how:?}]"), &with_file);
            format!("{unit}SettleSec = \"0\"\n")
        };
        supd.launch("web", &unit("1"));
        supd.write_unit("web", &unit("2"));
        supd.ctl(&["swap", "web"]).expect(0);
        // From here on nobody asks supd anything, which would make it look.
        let [two] = supd.status("web").pids_in(2)[..] else { panic!("one worker") };
        wait_until("the other slot to go", SOON, || listening(port) == 1);
        for times in 1..=5 {
            proc::signal(two, Signal::SIGUSR1);
            let is_done = || std::fs::metadata(&done).is_ok_and(|file| file.len() == times);
            wait_until("it to be done", SOON, is_done);
            // It is refused for the moment in which its one socket is shut.
            wait_until("it to be served", SOON, || (0..6).all(|_| reaches(port) == Some("2".into())));
        }
        supd.ctl(&["stop", "web", "--now"]).expect(0);
    }
}

/// How many sockets listen there.
fn listening(port: u16) -> usize {
    let all = std::fs::read_to_string("/proc/net/tcp").expect("/proc");
    let is = |line: &&str| line.contains(&format!(":{port:04X} 00000000:0000 0A"));
    all.lines().filter(is).count()
}

/// The version that answers a new connection, if any does before long.
fn reaches(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a limit");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("X-Served-By: ")?.split('/').next().map(str::to_owned))
}

/// The version that a new connection reaches.
fn served_by(port: u16) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a listener");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
    answered_by(stream)
}

/// The version that answers one that was asked.
fn answered_by(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let served = text.lines().find_map(|line| line.strip_prefix("X-Served-By: "));
    served.and_then(|served| served.split('/').next()).unwrap_or_default().to_owned()
}
