//! Open connections: shown while somebody looks, waited for while a generation is let go.

use crate::harness::{SUPCTL_BOUND, Setup, Status, Supd, free_port};
use crate::wait::{SOON, holds_for, wait_for, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PRLIMIT: &[Need] =
    &[Need::Root, Need::Program("prlimit", "util-linux"), Need::Program("setpriv", "util-linux")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("counts::status_shows_what_clients_have", status_shows_what_clients_have),
        test("counts::each_generation_shows_its_own_queues", each_generation_shows_its_own_queues),
        test("counts::a_stop_waits_for_open_connections", a_stop_waits_for_open_connections),
        test("counts::a_stop_waits_no_longer_than_drain_sec", a_stop_waits_no_longer_than_drain_sec),
        test("counts::a_crowded_worker_ends_as_any_other", a_crowded_worker_ends_as_any_other),
        test_with("counts::who_may_not_look_goes_by_the_time", PRLIMIT, who_may_not_look_goes_by_the_time),
        test_with("counts::no_process_for_a_count", PRLIMIT, no_process_for_a_count),
    ]
}

/// A connection that was served, and stays open.
fn client(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the listener");
    stream.set_read_timeout(Some(SOON)).expect("a time");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("sending");
    let mut answer = [0; 1024];
    assert!(stream.read(&mut answer).expect("an answer") > 0, "closed without an answer");
    stream
}

fn active(status: &Status) -> Value {
    let generations = status.0["generations"].as_array().expect("generations");
    let active = generations.iter().find(|one| one["generation"].as_u64() == status.active());
    active.expect("the active generation").clone()
}

fn open(supd: &Supd) -> Option<u64> {
    active(&supd.status("web"))["connections"].as_u64()
}

fn status_shows_what_clients_have() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "Workers = 2", ""));
    assert_eq!(open(&supd), Some(0));
    let clients: Vec<TcpStream> = (0..7).map(|_| client(port)).collect();
    wait_until("all to be shown", SOON, || open(&supd) == Some(7));
    let began = Instant::now();
    wait_until("the oldest to have an age", SOON, || {
        let age = active(&supd.status("web"))["oldest_ms"].as_u64();
        assert!(age.is_none_or(|age| u128::from(age) < began.elapsed().as_millis() + 3000), "{age:?}");
        age.is_some()
    });
    let shown = supd.ctl(&["status"]).expect(0);
    let line = shown.stdout.lines().find(|line| line.starts_with("web")).expect("its line");
    assert_eq!(line.split_whitespace().nth(5), Some("7"), "{shown}");
    assert!(supd.ctl(&["status", "web"]).expect(0).stdout.contains("7 open"));
    drop(clients);
    wait_until("all to be gone", SOON, || open(&supd) == Some(0));

    // Nobody looks: nobody counts.
    wait_until("the last count to be old", SOON, || {
        let mut ask = supd.ctl_command(&["--json", "status", "--check", "web"]);
        let text = String::from_utf8(ask.output().expect("supctl").stdout).expect("text");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        active(&Status(value))["connections"].is_null()
    });
    supd.ctl(&["status", "nobody"]).expect(3);
}

/// It takes in who comes to its first listener, and lets all others wait.
const CHOOSY: &str = "
import socket
listener, held = socket.socket(fileno=3), []
while True:
    held.append(listener.accept()[0])
";

/// What waits for a generation: name, connections, bytes, and whether others may take it.
fn queues(status: &Status, generation: u64) -> Vec<(String, Option<u64>, Option<u64>, bool)> {
    let all = status.0["generations"].as_array().expect("generations");
    let Some(one) = all.iter().find(|one| one["generation"] == generation) else { return Vec::new() };
    let rows = one["queues"].as_array().expect("queues");
    let row = |row: &Value| {
        let name = row["name"].as_str().expect("a name").to_owned();
        (name, row["connections"].as_u64(), row["bytes"].as_u64(), row["shared"] == true)
    };
    rows.iter().map(row).collect()
}

/// A unit `web` with a stream, another one, and UDP or a FIFO beside them.
fn choosy(supd: &Supd, [http, admin]: [u16; 2], bytes: &str) -> String {
    let script = supd.app().join("choosy.py");
    fs::write(&script, CHOOSY).expect("a program");
    let stream = |name: &str, port: u16| {
        format!("[[Socket]]\nName = {name:?}\nListenStream = \"127.0.0.1:{port}\"\n\n")
    };
    format!(
        "{}{}[[Socket]]\nName = \"bytes\"\n{bytes}\n\n[Service]\nExecStart = \
         [\"/usr/bin/python3\", {script:?}]\nReady = \"started\"\nReadySettleSec = \"100ms\"\n\n[Swap]\n\
         ProbationSec = \"0\"\nDrainSec = \"60s\"\n",
        stream("http", http),
        stream("admin", admin)
    )
}

fn each_generation_shows_its_own_queues() {
    let (supd, ports, udp) = (Supd::start(), [free_port(), free_port()], free_port());
    let admin = || TcpStream::connect(("127.0.0.1", ports[1])).expect("the listener");
    supd.launch("web", &choosy(&supd, ports, &format!("ListenDatagram = \"127.0.0.1:{udp}\"")));
    let _old = [admin(), admin()];
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    sender.send_to(&[7; 100], ("127.0.0.1", udp)).expect("sending");
    let is = |name: &str, connections, bytes, shared| (name.to_owned(), connections, bytes, shared);
    let mut held = None;
    wait_until("two connections and some bytes to wait", SOON, || {
        let seen = queues(&supd.status("web"), 1);
        held = seen.last().and_then(|(.., bytes, _)| *bytes);
        let expected = [
            is("http", Some(0), None, false),
            is("admin", Some(2), None, false),
            is("bytes", None, held, false),
        ];
        seen == expected && held.is_some_and(|bytes| bytes >= 100)
    });
    let listeners = supd.status("web").0["listeners"].clone();
    assert_eq!((&listeners[1]["queue"], &listeners[1]["queue_bytes"]), (&Value::from(2), &Value::Null));
    assert_eq!(listeners[2]["queue"], Value::Null, "bytes are no connections: {listeners}");
    assert!(listeners[2]["queue_bytes"].as_u64() >= Some(100), "{listeners}");

    // Who comes after the switch waits for the new one; who waits for the old one does so still.
    supd.ctl(&["swap", "web"]).expect(0);
    let _new = admin();
    wait_until("each to have its own", SOON, || {
        let status = supd.status("web");
        let [old, new] = [1, 2].map(|generation| queues(&status, generation));
        old == [
            is("http", Some(0), None, false),
            is("admin", Some(2), None, false),
            is("bytes", None, held, false),
        ] && new
            == [
                is("http", Some(0), None, false),
                is("admin", Some(1), None, false),
                is("bytes", None, Some(0), false),
            ]
    });
    let shown = supd.ctl(&["status", "web"]).expect(0);
    let line =
        |generation: &str| shown.stdout.lines().find(|line| line.contains(generation)).unwrap_or_default();
    assert!(line("generation 1").contains("2 waiting at admin"), "{shown}");
    assert!(line("generation 1").contains("bytes waiting at bytes"), "{shown}");
    assert!(line("generation 2").contains("1 waiting at admin"), "{shown}");
    let mut drain = supd.ctl_command(&["drain", "web", "--generation", "1"]);
    let mut drain = drain.stdout(Stdio::piped()).spawn().expect("supctl");
    let mut said = BufReader::new(drain.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let line = said.find(|line| line.contains("(admin 2)")).expect("a line of the drain");
    assert!(
        line.contains("2 not yet accepted (admin 2)") && line.contains("bytes not yet read at bytes"),
        "{line}"
    );
    supd.ctl(&["stop", "web", "--now"]).expect(0);
    wait_for("the drain to end", SOON, || drain.try_wait().expect("waiting for supctl"));
}

fn a_stop_waits_for_open_connections() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", "DrainSec = \"60s\""));
    let [one, two] = [client(port), client(port)];
    let pid = supd.status("web").pids()[0];
    let stop = supd.ctl_start(&["stop", "web"]);
    wait_until("new clients to be refused", SOON, || TcpStream::connect(("127.0.0.1", port)).is_err());
    holds_for("the worker lives", Duration::from_millis(1500), || proc::alive(pid));
    drop(one);
    wait_until("one to be left", SOON, || {
        let status = supd.status("web");
        let generations = status.0["generations"].as_array().expect("generations");
        generations.iter().any(|one| one["connections"].as_u64() == Some(1))
    });
    assert!(proc::alive(pid));
    drop(two);
    let began = Instant::now();
    stop.finish(SUPCTL_BOUND).expect(0);
    assert!(began.elapsed() < Duration::from_secs(20), "it was stopped by the time: {:?}", began.elapsed());
    assert!(!supd.log().contains("told to stop with"), "{}", supd.log());
}

fn a_stop_waits_no_longer_than_drain_sec() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", "DrainSec = \"2s\""));
    let _clients = [client(port), client(port)];
    let began = Instant::now();
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(supd.log().contains("told to stop with 2 connection(s) open"), "{}", supd.log());
}

/// Accepts 600 clients, and is one of them.
const CROWD: &str = "
import os, socket
listener = socket.socket(fileno=3)
held = []
for _ in range(600):
    held.append(socket.create_connection(listener.getsockname()))
    held.append(listener.accept()[0])
while True:
    listener.accept()[0].sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n')
";

/// What others looked up of it is forgotten first; nobody sees that but whoever would wait for supd.
fn a_crowded_worker_ends_as_any_other() {
    let supd = Supd::start();
    let port = free_port();
    fs::write(supd.app().join("server.py"), CROWD).expect("a program");
    let unit = format!(
        "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\nExecStart = [\"/usr/bin/python3\", \
         {:?}]\nReady = \"started\"\nReadySettleSec = 0\nLimitNOFILE = 2000\nRestartSec = \"1ms\"\n\n[Swap]\n\
         ProbationSec = 0\nSettleSec = 0\nDrainSec = 0\n",
        supd.app().join("server.py")
    );
    supd.launch("web", &unit);
    for _ in 0..3 {
        // 600 accepted, and as many ends of its own; looked up here, and counted by supd.
        let pid = supd.status("web").pids()[0];
        wait_until("a crowd", SOON, || proc::files(pid).len() > 1200);
        wait_until("it to be counted", SOON, || open(&supd).is_some_and(|count| count >= 600));
        proc::signal(pid, Signal::SIGKILL);
        wait_until("another in its place", SOON, || {
            let pids = supd.status("web").pids();
            pids.len() == 1 && pids[0] != pid
        });
        wait_until("the first to be reaped", SOON, || !Path::new(&format!("/proc/{pid}")).exists());
    }
    let pid = supd.status("web").pids()[0];
    supd.ctl(&["stop", "web"]).expect(0);
    wait_until("the last to be reaped", SOON, || !Path::new(&format!("/proc/{pid}")).exists());
}

/// A supd of an ordinary user's, with a unit `web`.
fn of_an_ordinary_user(user: u32, program: &str, drain: &str) -> (Supd, u16) {
    let supd = Supd::start_with(&Setup { user: Some(user), ..Setup::default() });
    let port = free_port();
    supd.install_worker("1");
    let mut text = supd.worker(port, &[], "", &format!("DrainSec = \"{drain}\""));
    if !program.is_empty() {
        fs::write(supd.app().join("server.py"), program).expect("a program");
        let (before, after) = text.split_once("ExecStart = [").expect("a command");
        let (_, after) = after.split_once("]\n").expect("its end");
        let script = supd.app().join("server.py");
        text = format!("{before}ExecStart = [\"python3\", {script:?}]\nReady = \"started\"\n{after}");
    }
    supd.launch("web", &text);
    (supd, port)
}

/// A worker that lets nobody but root look at its descriptors.
const SECRETIVE: &str = "
import ctypes, signal, socket
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
listener = socket.socket(fileno=3)
held = []
try:
    while True:
        held.append(listener.accept()[0])
        held[-1].recv(100)
        held[-1].send(b'x')
except OSError:
    signal.pause()
";

fn who_may_not_look_goes_by_the_time() {
    let (supd, port) = of_an_ordinary_user(60_011, SECRETIVE, "2s");
    let _client = client(port);
    assert_eq!(open(&supd), None);
    let shown = supd.ctl(&["status"]).expect(0);
    let line = shown.stdout.lines().find(|line| line.starts_with("web")).expect("its line");
    assert_eq!(line.split_whitespace().nth(5), Some("-"), "{shown}");
    let began = Instant::now();
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

fn no_process_for_a_count() {
    const USER: u32 = 60_012;
    let (supd, _) = of_an_ordinary_user(USER, "", "2s");
    assert_eq!(open(&supd), Some(0));
    limit(&supd, USER, "0");
    wait_until("it not to be known", SOON, || open(&supd).is_none());
    let warned = || supd.log().matches("open connections cannot be counted").count();
    assert_eq!(warned(), 1, "{}", supd.log());
    // Nobody can say that none is open.
    let began = Instant::now();
    let stop = supd.ctl_start(&["stop", "web"]);
    let worker = proc::with_environment("DAEMON_TEST_ROLE=worker", &[])
        .into_iter()
        .filter(|pid| proc::parent(*pid) == Some(supd.pid()))
        .collect::<Vec<u32>>();
    assert_eq!(worker.len(), 1);
    wait_until("DrainSec to be over", SOON, || !proc::alive(worker[0]));
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(warned(), 1, "{}", supd.log());
    limit(&supd, USER, "4096");
    stop.finish(SUPCTL_BOUND).expect(0);
}

/// Lets supd, and nobody else, have no more processes than this.
fn limit(supd: &Supd, user: u32, processes: &str) {
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={user}"));
    command.args(["--clear-groups", "prlimit"]);
    command.arg(format!("--pid={}", supd.pid())).arg(format!("--nproc={processes}:"));
    assert!(command.status().expect("prlimit").success());
}
