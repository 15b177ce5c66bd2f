//! What reaches one generation and no other: checks of a candidate, and `supctl connect`.

use crate::harness::{Supd, free_port};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("own_slot::health_is_the_candidates_own", health_is_the_candidates_own),
        test("own_slot::worker_that_never_accepts", worker_that_never_accepts),
        test("own_slot::connect_reaches_a_held_candidate_alone", connect_reaches_a_held_candidate_alone),
        test("own_slot::way_is_gone_with_its_connection", way_is_gone_with_its_connection),
        test("own_slot::command_with_a_way", command_with_a_way),
        test("own_slot::where_there_is_no_way", where_there_is_no_way),
        test("own_slot::datagrams_have_slots_and_no_way", datagrams_have_slots_and_no_way),
    ]
}

/// Where one listens, or a client goes.
#[derive(Debug, Clone)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Place {
    fn of(text: &str) -> Self {
        match text.parse() {
            Ok(address) => Self::Tcp(address),
            Err(_) => Self::Unix(text.into()),
        }
    }
}

/// What one request came to.
#[derive(Debug)]
struct Answer {
    version: String,
    /// Where the server saw it come from.
    port: Option<u16>,
}

fn get(place: &Place) -> Answer {
    match place {
        Place::Tcp(address) => ask(TcpStream::connect(address).expect("a listener")),
        Place::Unix(path) => ask(UnixStream::connect(path).expect("a listener")),
    }
}

fn ask(mut stream: impl Read + Write) -> Answer {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let served = header("X-Served-By: ").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let version = served.split('/').next().unwrap_or_default().to_owned();
    Answer { version, port: header("X-Client-Port: ").map(|port| port.parse().expect("a port")) }
}

/// A unit of three listeners with an app whose files say how it is.
struct Stage {
    supd: Supd,
    ports: [u16; 2],
    folder: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let supd = Supd::start();
        let folder = supd.path().join("says");
        fs::create_dir(&folder).expect("a folder");
        Self { supd, ports: [free_port(), free_port()], folder }
    }

    fn places(&self) -> [Place; 3] {
        [
            Place::Tcp((Ipv4Addr::LOCALHOST, self.ports[0]).into()),
            Place::Tcp((Ipv6Addr::LOCALHOST, self.ports[1]).into()),
            Place::Unix(self.supd.path().join("web.sock")),
        ]
    }

    fn unit(&self, version: u32, ready: &str, timeout: &str) -> String {
        let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/apart.py");
        let (folder, path) = (self.folder.display(), self.supd.path().join("web.sock"));
        let [four, six] = self.ports;
        format!(
            "[[Socket]]\nName = \"http\"\nListenStream = \"0.0.0.0:{four}\"\n\
             [[Socket]]\nName = \"six\"\nListenStream = \"[::1]:{six}\"\n\
             [[Socket]]\nName = \"unix\"\nListenStream = {path:?}\n\
             [Service]\nExecStart = [\"/usr/bin/python3\", \"{app}\", \"{version}\", \"{folder}\"]\n\
             Ready = \"{ready}\"\nReadySettleSec = \"0\"\nTimeoutStartSec = \"{timeout}\"\n\
             [Swap]\nRetain = \"warm\"\nProbationSec = \"0\"\nDrainSec = \"0\"\n"
        )
    }

    fn say(&self, what: &str) {
        fs::write(self.folder.join(what), "").expect("a file");
    }

    fn unsay(&self, what: &str) {
        fs::remove_file(self.folder.join(what)).expect("a file");
    }

    /// How often this version's /health was asked.
    fn asked(&self, version: u32) -> usize {
        fs::read_to_string(self.folder.join(format!("asked-{version}"))).unwrap_or_default().lines().count()
    }

    fn all_reach(&self, version: &str) {
        for place in self.places() {
            for _ in 0..20 {
                assert_eq!(get(&place).version, version, "{place:?}");
            }
        }
    }

    /// Version 1 serves, and 2 is held.
    fn held() -> Self {
        let stage = Self::new();
        stage.supd.launch("web", &stage.unit(1, "tcp", "60s"));
        stage.supd.write_unit("web", &stage.unit(2, "tcp", "60s"));
        stage.supd.ctl(&["swap", "web", "--hold"]).expect(0);
        stage
    }
}

fn health_is_the_candidates_own() {
    for listener in ["http", "six", "unix"] {
        let stage = Stage::new();
        let ready = format!("http://{{{listener}}}/health");
        stage.say("well-1");
        stage.supd.launch("web", &stage.unit(1, &ready, "60s"));
        let asked = stage.asked(1);
        assert!(asked > 0, "ready without a check");
        stage.supd.write_unit("web", &stage.unit(2, &ready, "60s"));
        let swap = stage.supd.ctl_start(&["swap", "web"]);
        wait_until("the candidate to be asked twice", SOON, || stage.asked(2) >= 2);
        assert_eq!(stage.supd.status("web").active(), Some(1));
        stage.all_reach("1");
        stage.say("well-2");
        swap.finish(SOON).expect(0);
        assert_eq!((stage.asked(1), stage.supd.status("web").active()), (asked, Some(2)), "{listener}");
        stage.all_reach("2");
        // The reason is told.
        stage.supd.write_unit("web", &stage.unit(3, &ready, "2s"));
        let failed = stage.supd.ctl(&["swap", "web"]).expect(1);
        assert!(failed.text().contains("GET /health: it answered with 503"), "{failed}");
        assert_eq!(stage.supd.status("web").active(), Some(2));
    }
}

/// supd listens, so that connecting always works: for each listener it is asked who accepts.
fn worker_that_never_accepts() {
    let stage = Stage::new();
    stage.supd.launch("web", &stage.unit(1, "tcp", "60s"));
    for deaf in 0..3 {
        let version = 2 + deaf;
        stage.say(&format!("deaf-{version}-{deaf}"));
        stage.supd.write_unit("web", &stage.unit(version, "tcp", "2s"));
        let failed = stage.supd.ctl(&["swap", "web"]).expect(1);
        assert!(failed.text().contains("was not ready within 2s"), "{failed}");
        assert_eq!(stage.supd.status("web").active(), Some(1));
        stage.all_reach("1");
    }
    // It is waited for.
    stage.say("deaf-9-1");
    stage.supd.write_unit("web", &stage.unit(9, "tcp", "60s"));
    let swap = stage.supd.ctl_start(&["swap", "web"]);
    wait_until("the candidate", SOON, || !stage.supd.status("web").pids_in(5).is_empty());
    stage.all_reach("1");
    assert_eq!(stage.supd.status("web").active(), Some(1));
    stage.unsay("deaf-9-1");
    swap.finish(SOON).expect(0);
    stage.all_reach("9");
}

/// `supctl connect` in the background.
struct Connect {
    child: Child,
    place: Place,
}

impl Connect {
    fn start(stage: &Stage, generation: &str, listener: &str) -> Self {
        let arguments = ["--json", "connect", "web", "--generation", generation, "--listener", listener];
        let mut child = stage.supd.ctl_command(&arguments).stdout(Stdio::piped()).spawn().expect("supctl");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let opened: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!((&opened["unit"], &opened["listener"]), (&"web".into(), &listener.into()));
        let place = Place::of(opened["address"].as_str().expect("an address"));
        Self { child, place }
    }

    /// As Ctrl-C does.
    fn end(mut self) -> ExitStatus {
        proc::signal(self.child.id(), Signal::SIGINT);
        wait_for("supctl to end", SOON, || self.child.try_wait().expect("a child"))
    }
}

fn connect_reaches_a_held_candidate_alone() {
    let stage = Stage::held();
    for listener in ["http", "six", "unix"] {
        let connect = Connect::start(&stage, "2", listener);
        for _ in 0..10 {
            assert_eq!(get(&connect.place).version, "2", "{listener}");
            stage.places().iter().for_each(|place| assert_eq!(get(place).version, "1", "{place:?}"));
        }
        // Who says nothing holds nobody up.
        let silent = match &connect.place {
            Place::Tcp(address) => TcpStream::connect(address).map(drop),
            Place::Unix(path) => UnixStream::connect(path).map(drop),
        };
        silent.expect("a listener");
        assert_eq!(get(&connect.place).version, "2", "{listener}");
        let place = connect.place.clone();
        assert_eq!(connect.end().code(), Some(0), "{listener}");
        if let Place::Unix(path) = place {
            assert!(!path.exists() && !path.parent().expect("a folder").exists(), "{}", path.display());
        }
    }
    // A standby as well.
    stage.supd.ctl(&["promote", "web"]).expect(0);
    stage.all_reach("2");
    let connect = Connect::start(&stage, "1", "http");
    assert_eq!(get(&connect.place).version, "1");
    stage.all_reach("2");
    // It is gone: whoever goes on is told.
    stage.supd.ctl(&["drain", "web", "--generation", "1"]).expect(0);
    let Place::Tcp(address) = connect.place else { panic!("a port") };
    drop(TcpStream::connect(address));
    let Connect { mut child, .. } = connect;
    let ended = wait_for("supctl to end", SOON, || child.try_wait().expect("a child"));
    assert_eq!(ended.code(), Some(3));
}

/// A client that gets the port that a connection to the candidate came from reaches who is active.
fn way_is_gone_with_its_connection() {
    let stage = Stage::held();
    for (listener, place) in ["http", "six"].into_iter().zip(stage.places()) {
        let connect = Connect::start(&stage, "2", listener);
        let answer = get(&connect.place);
        assert_eq!(answer.version, "2");
        let port = answer.port.expect("where it came from");
        assert_eq!(connect.end().code(), Some(0));
        let Place::Tcp(to) = place else { panic!("a port") };
        let again = wait_for("the same port once more", SOON, || from_port(port, to));
        assert_eq!(ask(again).version, "1", "{listener}");
    }
}

/// A connection from this port; `None`: the kernel holds it still.
fn from_port(port: u16, to: SocketAddr) -> Option<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&fd, sockopt::ReuseAddr, &true).expect("an option");
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(to.ip(), port))).ok()?;
    socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).ok()?;
    Some(fd.into())
}

fn command_with_a_way() {
    let stage = Stage::held();
    let script = "import os, sys, urllib.request as r\n\
                  served = r.urlopen('http://' + os.environ['SUPD_CONNECT']).headers['X-Served-By']\n\
                  print(served)\nsys.exit(7 if served.startswith('2/') else 1)";
    let connect = ["connect", "web", "--generation", "2", "--listener", "http", "--exec"];
    let with = |command: &[&str]| stage.supd.ctl(&[&connect[..], command].concat());
    let output = with(&["/usr/bin/python3", "-c", script]).expect(7);
    assert!(output.text().contains("2/"), "{output}");
    with(&["/bin/sh", "-c", "kill -9 $$"]).expect(137);
    let missing = with(&["/no/such/program"]).expect(2);
    assert!(missing.text().contains("cannot run /no/such/program"), "{missing}");
    stage.all_reach("1");
}

fn where_there_is_no_way() {
    let stage = Stage::held();
    let connect = |rest: &[&str]| stage.supd.ctl(&[&["connect", "web", "--generation"], rest].concat());
    let refused = connect(&["7"]).expect(3);
    assert!(refused.text().contains("generation 7 has no process"), "{refused}");
    let refused = connect(&["2"]).expect(3);
    assert!(refused.text().contains("say which listener: http, six, unix"), "{refused}");
    assert!(refused.text().contains("supctl connect web --generation 2 --listener http"), "{refused}");
    let refused = connect(&["2", "--listener", "htpp"]).expect(3);
    assert!(refused.text().contains("there is no such listener: http"), "{refused}");
    let dry = connect(&["2", "--listener", "http", "--dry-run"]).expect(0);
    assert!(dry.text().contains("generation 2 of web alone"), "{dry}");
    stage.supd.ctl(&["connect", "wbe", "--generation", "1"]).expect(3);

    // Where one slot is lent to all, there is a way only while one is alone.
    let (fifo, port) = (stage.supd.path().join("f"), free_port());
    let unit = format!(
        "[[Socket]]\nName = \"in\"\nListenFIFO = {fifo:?}\n[[Socket]]\nName = \"http\"\nListenStream = \
         \"127.0.0.1:{port}\"\n[Service]\nExecStart = [\"/usr/bin/sleep\", \"600\"]\nReady = \"started\"\n"
    );
    stage.supd.launch("shared", &unit);
    let on_shared = ["connect", "shared", "--dry-run", "--generation"];
    stage.supd.ctl(&[&on_shared[..], &["1"]].concat()).expect(0);
    stage.supd.ctl(&["swap", "shared", "--hold"]).expect(0);
    let refused = stage.supd.ctl(&[&on_shared[..], &["2"]].concat()).expect(3);
    assert!(refused.text().contains("share one slot") && refused.text().contains("FIFO"), "{refused}");
}

/// A UDP listener has a slot for each generation, so "tcp" and a way to one are for the listeners beside it:
/// nobody accepts datagrams, and a way is a connection.
fn datagrams_have_slots_and_no_way() {
    let stage = Stage::new();
    let udp = free_port();
    let unit = |version| {
        let socket = format!("[[Socket]]\nName = \"udp\"\nListenDatagram = \"127.0.0.1:{udp}\"\n[Service]\n");
        stage.unit(version, "tcp", "60s").replace("[Service]\n", &socket)
    };
    stage.supd.launch("web", &unit(1));
    assert_eq!(datagram(udp), "1");
    stage.supd.write_unit("web", &unit(2));
    stage.supd.ctl(&["swap", "web", "--hold"]).expect(0);
    // Held, it has a slot of its own that nothing is led to.
    (0..20).for_each(|_| assert_eq!(datagram(udp), "1"));
    let connect = Connect::start(&stage, "2", "http");
    assert_eq!(get(&connect.place).version, "2");
    assert_eq!(datagram(udp), "1", "a way to it at another listener");
    let to_udp = ["connect", "web", "--generation", "2", "--listener", "udp"];
    for how in [&["--dry-run"][..], &["--exec", "/bin/true"]] {
        let refused = stage.supd.ctl(&[&to_udp[..], how].concat()).expect(3);
        assert!(refused.text().contains("udp takes no connections: 127.0.0.1"), "{refused}");
        assert!(refused.text().contains("supctl connect web --generation 2 --listener http"), "{refused}");
    }
    assert_eq!(connect.end().code(), Some(0));
    stage.supd.ctl(&["promote", "web"]).expect(0);
    (0..20).for_each(|_| assert_eq!(datagram(udp), "2"));
    stage.supd.ctl(&["rollback", "web"]).expect(0);
    (0..20).for_each(|_| assert_eq!(datagram(udp), "1"));
}

/// The version that a datagram of a new client reaches.
fn datagram(port: u16) -> String {
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    client.set_read_timeout(Some(SOON)).expect("an option");
    client.send_to(b"who?", (Ipv4Addr::LOCALHOST, port)).expect("a listener");
    let mut answer = [0; 64];
    let length = client.recv(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
