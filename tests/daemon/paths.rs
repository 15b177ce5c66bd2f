//! What workers do to the paths and queues that they were lent, and who is served all the same.

use crate::harness::{Supd, free_port};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test_with};
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    let python = &[Need::File("/usr/bin/python3", "apt-get install python3")];
    vec![
        test_with("paths::removed_by_who_ends", python, removed_by_who_ends),
        test_with("paths::taken_by_who_fails", python, taken_by_who_fails),
        test_with("paths::removed_is_what_it_was_made_as", python, removed_as_made),
        test_with("paths::taken_in_probation", python, taken_in_probation),
        test_with("paths::a_queue_of_an_address_that_goes", python, address_that_goes),
        test_with("paths::a_queue_of_datagrams", python, datagrams),
    ]
}

/// Says who it is to each client; `@MORE@` comes before that.
const SERVER: &str = "
import os, signal, socket, sys, time
version, path = sys.argv[1], sys.argv[2]
listener = socket.socket(fileno=3)
@MORE@
while True:
    client, _ = listener.accept()
    client.sendall(version.encode())
    client.close()
";

fn unit(supd: &Supd, version: &str, more: &str, swap: &str) -> String {
    let (program, path) = (supd.app().join(format!("server{version}.py")), supd.path().join("web.sock"));
    fs::write(&program, SERVER.replace("@MORE@", more)).expect("a program");
    format!(
        "[[Socket]]\nListenStream = {path:?}\n\n[Service]\n\
         ExecStart = [\"/usr/bin/python3\", {program:?}, {version:?}, {path:?}]\nReady = \"started\"\n\
         ReadySettleSec = \"200ms\"\nRestart = \"no\"\n\n[Swap]\nDrainSec = \"1s\"\nSettleSec = \"0\"\n{swap}\n"
    )
}

fn who(supd: &Supd) -> Option<String> {
    said(UnixStream::connect(supd.path().join("web.sock")).ok()?)
}

fn said(mut client: impl Read) -> Option<String> {
    let mut text = String::new();
    client.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}

fn is(supd: &Supd, version: &str) -> bool {
    who(supd).as_deref() == Some(version)
}

/// Nobody asks for a status, which would put it back as well.
fn removed_by_who_ends() {
    let supd = Supd::start();
    let more = "def end(*_):\n    os.unlink(path)\n    os._exit(0)\nsignal.signal(signal.SIGTERM, end)";
    supd.launch("web", &unit(&supd, "1", more, "ProbationSec = 0"));
    assert!(is(&supd, "1"));
    supd.write_unit("web", &unit(&supd, "2", "", "ProbationSec = 0"));
    supd.ctl(&["swap", "web", "--wait=drained"]).expect(0);
    wait_until("the path to lead to the new one", SOON, || is(&supd, "2"));
    assert!(supd.log().contains("had been removed: it is public again"), "{}", supd.log());
}

/// A candidate that fails has changed nothing for who serves.
fn taken_by_who_fails() {
    let supd = Supd::start();
    supd.launch("web", &unit(&supd, "1", "", "ProbationSec = 0"));
    let more =
        "os.unlink(path)\nown = socket.socket(socket.AF_UNIX)\nown.bind(path)\nown.listen()\nsys.exit(1)";
    // However long Python takes to begin, it ends before it is ready.
    let fails = unit(&supd, "2", more, "ProbationSec = 0").replace("\"200ms\"", "\"1min\"");
    supd.write_unit("web", &fails);
    supd.ctl(&["swap", "web"]).expect(1);
    wait_until("the path to lead to who serves", SOON, || is(&supd, "1"));
}

/// getsockname(2) says by which name a socket was made; some remove that.
fn removed_as_made() {
    let supd = Supd::start();
    let more = "try: os.unlink(listener.getsockname())\nexcept OSError: pass";
    supd.launch("web", &unit(&supd, "1", more, "Retain = \"warm\"\nProbationSec = \"10min\""));
    for version in ["2", "3"] {
        supd.write_unit("web", &unit(&supd, version, more, "Retain = \"warm\"\nProbationSec = \"10min\""));
        supd.ctl(&["swap", "web", "--wait=active"]).expect(0);
        assert!(is(&supd, version));
        supd.ctl(&["abort", "web"]).expect(0);
        assert!(is(&supd, "1"), "{:?}", who(&supd));
    }
}

/// What must not stay is no reason to stay with it: once it has ended the path is who serves's again.
fn taken_in_probation() {
    let supd = Supd::start();
    supd.launch("web", &unit(&supd, "1", "", "ProbationSec = \"10min\""));
    let take = "def take(*_):\n    global listener\n    os.unlink(path)\n    listener = \
                socket.socket(socket.AF_UNIX)\n    listener.bind(path)\n    listener.listen()\n    \
                open(path + '.taken', 'w').close()\nsignal.signal(signal.SIGUSR1, take)\n\
                open(path + '.listens', 'w').close()";
    supd.write_unit("web", &unit(&supd, "2", take, "ProbationSec = \"10min\""));
    supd.ctl(&["swap", "web", "--wait=active"]).expect(0);
    let bad = supd.status("web").pids_in(2)[0];
    let listens = supd.path().join("web.sock.listens");
    // However long Python takes to begin.
    wait_until("it to listen to the signal", SOON, || Path::exists(&listens));
    proc::signal(bad, nix::sys::signal::Signal::SIGUSR1);
    let taken = supd.path().join("web.sock.taken");
    wait_until("it to take the path", SOON, || Path::exists(&taken));
    let told = supd.ctl(&["abort", "web"]).expect(0);
    assert!(told.text().contains("generation 1 is active again"), "{told}");
    wait_until("it to end", SOON, || !proc::alive(bad));
    wait_until("the path to lead to who serves", SOON, || is(&supd, "1"));
}

/// Who waits at an address that the next one does not have is served by the last one that has.
fn address_that_goes() {
    let supd = Supd::start();
    let (old, new) = (free_port(), free_port());
    let at = |version: &str, port: u16, more: &str| {
        let text =
            unit(&supd, version, more, "ProbationSec = 0").replace("DrainSec = \"1s\"", "DrainSec = \"20s\"");
        let listener = text.lines().nth(1).expect("a listener").to_owned();
        text.replace(&listener, &format!("ListenStream = \"127.0.0.1:{port}\""))
    };
    // Nobody is accepted as long as there is a file.
    let wait = "while os.path.exists(path + '.closed'): time.sleep(0.01)";
    let closed = supd.path().join("web.sock.closed");
    fs::write(&closed, "").expect("a file");
    supd.launch("web", &at("1", old, wait));
    let waiting: Vec<TcpStream> = (0..5)
        .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, old)).expect("it listens"))
        .inspect(|client| client.set_read_timeout(Some(SOON)).expect("a bound"))
        .collect();
    supd.write_unit("web", &at("2", new, ""));
    supd.ctl(&["swap", "web"]).expect(0);
    fs::remove_file(closed).expect("a file");
    for client in waiting {
        assert_eq!(said(client).as_deref(), Some("1"));
    }
    let after = said(TcpStream::connect((Ipv4Addr::LOCALHOST, new)).expect("it listens"));
    assert_eq!(after.as_deref(), Some("2"));
    wait_until("the old address to refuse", SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, old)).is_err());
}

/// Echoes, and takes its time for each.
const SLOW: &str = "
import socket, sys, time
server = socket.socket(fileno=3)
while True:
    data, client = server.recvfrom(100)
    time.sleep(0.02)
    server.sendto(sys.argv[1].encode() + data, client)
";

/// What has reached a generation it answers, however long that takes it.
fn datagrams() {
    let supd = Supd::start();
    let port = free_port();
    let program = supd.app().join("slow.py");
    fs::write(&program, SLOW).expect("a program");
    let at = |version: &str| {
        format!(
            "[[Socket]]\nListenDatagram = \"127.0.0.1:{port}\"\n\n[Service]\n\
             ExecStart = [\"/usr/bin/python3\", {program:?}, {version:?}]\nReady = \"started\"\n\
             ReadySettleSec = \"200ms\"\n\n[Swap]\nProbationSec = 0\nSettleSec = 0\nDrainSec = \"30s\"\n"
        )
    };
    supd.launch("dns", &at("1"));
    supd.write_unit("dns", &at("2"));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("a bound");
    let swap = supd.ctl_start(&["swap", "dns", "--wait=drained"]);
    wait_until("the next one to be launched", SOON, || supd.log().contains("dns/g2: launched"));
    for number in 0..100 {
        client.send_to(format!(":{number}").as_bytes(), (Ipv4Addr::LOCALHOST, port)).expect("sent");
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut answer = [0; 100];
    while seen.len() < 100 {
        let length = client.recv(&mut answer).unwrap_or_else(|error| panic!("{}: {error}", seen.len()));
        let text = String::from_utf8_lossy(&answer[..length]).into_owned();
        let (_, number) = text.split_once(':').expect("an echo");
        assert!(seen.insert(number.to_owned()), "twice: {text}");
    }
    swap.finish(SOON).expect(0);
    client.send_to(b":x", (Ipv4Addr::LOCALHOST, port)).expect("sent");
    let length = client.recv(&mut answer).expect("an answer");
    assert_eq!(&answer[..length], b"2:x");
}
