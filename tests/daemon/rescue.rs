//! Clients that wait in the slot of a generation that ended, where the kernel does not move them: with the
//! classic program, and over a UNIX path.

use crate::harness::{Supd, free_port};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test_with};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

const NEEDS: &[Need] =
    &[Need::File("/usr/bin/python3", "apt-get install python3"), Need::Program("setpriv", "util-linux")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test_with("rescue::canary_of_a_port", NEEDS, canary_of_a_port),
        test_with("rescue::probation_of_a_path", NEEDS, probation_of_a_path),
        test_with("rescue::it_ends_once_more", NEEDS, it_ends_once_more),
        test_with("rescue::stopped_meanwhile", NEEDS, stopped_meanwhile),
        test_with("rescue::datagrams", NEEDS, datagrams),
    ]
}

/// Where the unit listens.
#[derive(Debug)]
enum Place {
    Port(u16),
    Path(PathBuf),
}

/// Somebody who has asked, and waits.
trait Client: Read + Write {}
impl<T: Read + Write> Client for T {}

impl Place {
    fn ask(&self) -> Box<dyn Client> {
        let mut client: Box<dyn Client> = match self {
            Self::Port(port) => {
                let client = TcpStream::connect(("127.0.0.1", *port)).expect("it listens");
                client.set_read_timeout(Some(SOON)).expect("a limit");
                Box::new(client)
            }
            Self::Path(path) => {
                let client = UnixStream::connect(path).expect("it listens");
                client.set_read_timeout(Some(SOON)).expect("a limit");
                Box::new(client)
            }
        };
        client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("a request");
        client
    }
}

/// Which version answered, and its process.
fn answer(client: &mut dyn Client) -> (String, u32) {
    let (mut text, mut some) = (String::new(), [0; 512]);
    while !text.contains("\r\n\r\n") {
        let read = client.read(&mut some).expect("an answer in time");
        assert!(read > 0, "closed without an answer after {text:?}");
        text.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    let by = text.lines().find_map(|line| line.strip_prefix("X-Served-By: ")).expect("a name");
    let (version, pid) = by.split_once('/').expect("version/pid");
    (version.to_owned(), pid.parse().expect("a pid"))
}

/// A unit of this version of a small server, whose program is a file of its own.
fn write(supd: &Supd, place: &Place, version: &str, swap: &str) -> String {
    let program = supd.app().join(format!("server-{version}.py"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/abrupt.py");
    std::fs::copy(source, &program).expect("copying a program");
    let (name, address) = match place {
        Place::Port(port) => ("http", format!("127.0.0.1:{port}")),
        Place::Path(path) => ("path", path.display().to_string()),
    };
    let unit = format!(
        "[[Socket]]\nName = \"{name}\"\nListenStream = {address:?}\n\n[Service]\nExecStart = \
         [\"/usr/bin/python3\", {program:?}, {version:?}]\nReadySettleSec = \"0\"\nRestartSec = \"60s\"\n\n\
         [Swap]\nSettleSec = \"200ms\"\nDrainSec = \"60s\"\n{swap}\n"
    );
    supd.write_unit("web", &unit);
    unit
}

/// Version 1 serves, version 2 is tried out, accepts nothing more, and so many ask.
fn frozen(supd: &Supd, place: &Place, swap: &[&str], clients: usize) -> (u32, Vec<Box<dyn Client>>) {
    let unit = write(supd, place, "1", "ProbationSec = \"60s\"");
    supd.launch("web", &unit);
    write(supd, place, "2", "ProbationSec = \"60s\"");
    supd.ctl(swap).expect(0);
    let pids = supd.status("web").pids_in(2);
    let [pid] = pids[..] else { panic!("one worker: {pids:?}") };
    proc::signal(pid, Signal::SIGSTOP);
    (pid, (0..clients).map(|_| place.ask()).collect())
}

fn generations(supd: &Supd) -> Vec<(u64, String, Option<f64>)> {
    let status = supd.status("web");
    let all = status.0["generations"].as_array().cloned().unwrap_or_default();
    let row = |one: &serde_json::Value| {
        let state = one["state"].as_str().unwrap_or_default().to_owned();
        (one["generation"].as_u64().unwrap_or_default(), state, one["share"].as_f64())
    };
    all.iter().map(row).collect()
}

/// All of them are answered, those that waited by version 2 in another process; who comes now, by 1.
fn all_are_answered(supd: &Supd, place: &Place, (pid, mut clients): (u32, Vec<Box<dyn Client>>)) {
    proc::signal(pid, Signal::SIGKILL);
    let answers: Vec<(String, u32)> = clients.iter_mut().map(|client| answer(client.as_mut())).collect();
    let waited: Vec<u32> = answers.iter().filter(|(by, _)| by == "2").map(|(_, pid)| *pid).collect();
    assert!(!waited.is_empty(), "nobody waited: {answers:?}");
    assert!(waited.iter().all(|by| *by != pid && *by == waited[0]), "{waited:?}, {pid} was killed");
    // They are still open, so it drains.
    let now = generations(supd);
    assert!(now.contains(&(2, "draining".to_owned(), Some(0.0))), "{now:?}");
    for _ in 0..16 {
        assert_eq!(answer(place.ask().as_mut()).0, "1");
    }
    assert!(supd.log().contains("it is launched once more for them"), "{}", supd.log());
    drop(clients);
    wait_until("only the old one to be left", SOON, || {
        generations(supd).iter().map(|(number, ..)| *number).eq([1])
    });
    assert_eq!((supd.status("web").state(), supd.status("web").active()), ("active", Some(1)));
    assert!(!proc::alive(waited[0]));
}

fn canary_of_a_port() {
    let supd = Supd::without_ebpf();
    let place = Place::Port(free_port());
    let frozen = frozen(&supd, &place, &["swap", "web", "--canary", "50%"], 32);
    let status = supd.status("web");
    let mechanism = status.0["listeners"][0]["mechanism"].as_str().unwrap_or_default();
    assert!(mechanism.starts_with("classic"), "{mechanism}");
    all_are_answered(&supd, &place, frozen);
}

fn probation_of_a_path() {
    let supd = Supd::without_ebpf();
    let place = Place::Path(supd.path().join("web.sock"));
    let frozen = frozen(&supd, &place, &["swap", "web", "--wait=active"], 8);
    all_are_answered(&supd, &place, frozen);
}

/// It cannot serve any more: that is said, it is not tried for ever, and the next one has its slot.
fn it_ends_once_more() {
    let supd = Supd::without_ebpf();
    let place = Place::Path(supd.path().join("web.sock"));
    let (pid, mut clients) = frozen(&supd, &place, &["swap", "web", "--wait=active"], 3);
    std::fs::remove_file(supd.app().join("server-2.py")).expect("its program");
    proc::signal(pid, Signal::SIGKILL);
    wait_until("that to be said", SOON, || supd.log().contains("3 client(s) still wait for it"));
    assert_eq!(supd.log().matches("it is launched once more").count(), 1, "{}", supd.log());
    assert_eq!(generations(&supd).len(), 1);
    assert_eq!(answer(place.ask().as_mut()).0, "1");
    write(&supd, &place, "3", "ProbationSec = \"0\"");
    supd.ctl(&["swap", "web"]).expect(0);
    for client in &mut clients {
        assert_eq!(answer(client.as_mut()).0, "3");
    }
}

/// Nobody moves datagrams to another socket, with eBPF or without.
fn datagrams() {
    for supd in [Supd::without_ebpf(), Supd::start()] {
        let (port, first) = (free_port(), supd.app().join("first"));
        // The second version reads nothing when it runs for the first time.
        let program = "import os, socket, sys, time\n\
            s = socket.socket(fileno=3)\n\
            if sys.argv[1] == '2' and not os.path.exists(sys.argv[2]):\n    \
                open(sys.argv[2], 'w').write(str(os.getpid()))\n    time.sleep(600)\n\
            while True:\n    s.sendto(sys.argv[1].encode(), s.recvfrom(99)[1])\n";
        let unit = |version: &str| {
            format!(
                "[[Socket]]\nListenDatagram = \"127.0.0.1:{port}\"\n\n[Service]\nExecStart = [\"/usr/bin/python3\", \
                 \"-c\", {program:?}, {version:?}, {first:?}]\nReady = \"started\"\nReadySettleSec = \"0\"\n\n[Swap]\n\
                 ProbationSec = \"60s\"\nSettleSec = \"0\"\n"
            )
        };
        supd.launch("echo", &unit("1"));
        supd.write_unit("echo", &unit("2"));
        supd.ctl(&["swap", "echo", "--wait=active"]).expect(0);
        let pid = || std::fs::read_to_string(&first).ok()?.parse::<u32>().ok();
        let pid = crate::wait::wait_for("the second version to sleep", SOON, pid);
        let clients = [(); 8].map(|()| std::net::UdpSocket::bind(("127.0.0.1", 0)).expect("a port"));
        for client in &clients {
            client.set_read_timeout(Some(SOON)).expect("a limit");
            client.send_to(b"?", ("127.0.0.1", port)).expect("sent");
        }
        proc::signal(pid, Signal::SIGKILL);
        for client in &clients {
            let mut answer = [0; 1];
            assert_eq!(client.recv(&mut answer).expect("an answer"), 1, "{}", supd.log());
            assert_eq!(&answer, b"2", "who it was sent to answers it");
        }
        wait_until("it to be over", SOON, || supd.status("echo").active() == Some(1));
    }
}

/// Who is launched for those that wait is stopped as everybody.
fn stopped_meanwhile() {
    let supd = Supd::without_ebpf();
    let place = Place::Port(free_port());
    let (pid, mut clients) = frozen(&supd, &place, &["swap", "web", "--canary", "50%"], 32);
    proc::signal(pid, Signal::SIGKILL);
    let by: Vec<u32> = clients.iter_mut().map(|client| answer(client.as_mut()).1).collect();
    supd.ctl(&["stop", "web", "--now"]).expect(0);
    assert!(by.into_iter().all(|pid| !proc::alive(pid)));
    assert_eq!(supd.status("web").state(), "stopped");
}
