//! What is done to the shared listeners: shut down by whoever holds a copy, removed from the disk.

use crate::harness::{Supd, free_port};
use crate::wait::{SOON, pause, wait_until};
use crate::{Test, proc, test};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("hostile::listeners::a_candidate_shuts_the_listener_down", shut_down_once),
        test("hostile::listeners::a_candidate_shuts_the_listener_down_in_a_loop", shut_down_in_a_loop),
        test("hostile::listeners::a_listener_is_shut_down_now_and_then", shut_down_now_and_then),
        test("hostile::listeners::a_unix_listener_is_shut_down", unix_shut_down),
        test("hostile::listeners::a_unix_listener_is_shut_down_in_a_loop", unix_shut_down_in_a_loop),
        test("hostile::listeners::a_stopping_unit_shuts_its_listener_down", shut_down_while_stopping),
        test("hostile::listeners::a_unix_path_is_removed", unix_removed),
    ]
}

/// Answers every connection with a word.
const SERVE: &str = "import socket,os
n=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); n.connect(os.environ['NOTIFY_SOCKET']); n.send(b'READY=1')
s=socket.socket(fileno=3)
while True:
    try:
        c,_=s.accept()
        c.sendall(b'hello')
        c.close()
    except OSError:
        import time; time.sleep(0.05)
";

const SHUT: &str = "import socket,os
s=socket.socket(fileno=3); s.shutdown(socket.SHUT_RDWR); os._exit(1)
";

/// Never ready; stops at nothing but SIGKILL.
const SHUT_FOR_EVER: &str = "import socket,signal
signal.signal(signal.SIGTERM,signal.SIG_IGN)
s=socket.socket(fileno=3)
while True:
    try: s.shutdown(socket.SHUT_RDWR)
    except OSError: pass
";

/// Serves, and at each connection shuts down what it got it from.
const SERVE_AND_SHUT: &str = "import socket,os,time
n=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); n.connect(os.environ['NOTIFY_SOCKET']); n.send(b'READY=1')
s=socket.socket(fileno=3)
while True:
    try:
        c,_=s.accept()
        s.shutdown(socket.SHUT_RDWR)
        c.sendall(b'hello')
        c.close()
    except OSError:
        time.sleep(0.001)
";

fn unit(address: &str, program: &str) -> String {
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = \"{address}\"\n\n[Service]\nReleases = false\n\
         ExecStart = [\"/usr/bin/python3\", \"-c\", '''{program}''']\n\
         ReadySettleSec = \"300ms\"\nTimeoutStopSec = \"200ms\"\n\n[Swap]\nDrainSec = \"500ms\"\n\
         SettleSec = \"200ms\"\nProbationSec = \"100ms\"\n"
    )
}

fn says_hello(mut stream: impl Read) -> bool {
    let mut text = String::new();
    stream.read_to_string(&mut text).is_ok() && text == "hello"
}

fn tcp(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok_and(says_hello)
}

/// The active generation is back on the air at once, and the log names the listener.
fn shut_down_once() {
    let supd = Supd::start();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    supd.launch("web", &unit(&address, SERVE));
    assert!(tcp(port));
    supd.write_unit("web", &unit(&address, SHUT));
    supd.ctl(&["swap", "web"]).expect(1);
    wait_until("the active generation to be reached again", SOON, || tcp(port));
    let log = supd.log();
    assert!(
        log.contains("web: http ") && log.contains("was shut down by a worker; it listens again"),
        "{log}"
    );
}

/// supd takes next to nothing of the processor while `span` passes, although others ask it how it is
/// all the time, and are answered.
fn is_at_rest(supd: &Supd, span: Duration) {
    let (ticks, switches) = (proc::ticks(supd.pid()), proc::switches(supd.pid()));
    let (began, mut asked) = (Instant::now(), 0);
    while began.elapsed() < span {
        let status = supd.ctl(&["status"]).expect(0);
        assert!(status.took < Duration::from_secs(3), "supd is deaf:\n{status}");
        asked += 1;
        pause(Duration::from_millis(100));
    }
    let (ticks, switches) = (proc::ticks(supd.pid()) - ticks, proc::switches(supd.pid()) - switches);
    println!("supd took {ticks} ticks and was scheduled {switches} times in {span:?}, asked {asked} times");
    let most = span.as_secs() * 100 / 20;
    assert!(ticks <= most, "supd spins: {ticks} ticks in {span:?}");
    assert!(switches < 20 * asked + 100, "supd spins: woken {switches} times in {span:?}");
}

/// supd does not spin with it, nor does its log grow with each time; and when the candidate is gone,
/// the active generation is reached.
fn shut_down_in_a_loop() {
    let supd = Supd::start();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    supd.launch("web", &unit(&address, SERVE));
    assert!(tcp(port));
    supd.write_unit(
        "web",
        &unit(&address, SHUT_FOR_EVER).replacen(
            "ReadySettleSec",
            "TimeoutStartSec = \"5s\"\nReadySettleSec",
            1,
        ),
    );
    let swap = supd.ctl_start(&["swap", "web"]);
    // Whichever the kernel refuses first: that it listens, or that it is led to.
    let pauses = |log: &str| log.contains("again and again") || log.contains("cannot listen again for now");
    wait_until("supd to pause", SOON, || pauses(&supd.log()));
    let lines = supd.log().lines().count();
    is_at_rest(&supd, Duration::from_secs(3));
    let more = supd.log().lines().count() - lines;
    assert!(more < 5, "supd floods its log: {more} lines in 3 s");
    swap.finish(SOON).expect(1);
    wait_until("the active generation to be reached again", SOON, || tcp(port));
}

/// Each time it listens again, and whoever comes then is served: after a pause where it is often.
fn shut_down_now_and_then() {
    let supd = Supd::start();
    let port = free_port();
    supd.launch("web", &unit(&format!("127.0.0.1:{port}"), SERVE_AND_SHUT));
    for client in 0..20 {
        wait_until(&format!("client {client} to be served"), SOON, || tcp(port));
    }
    is_at_rest(&supd, Duration::from_secs(1));
}

/// What can never listen again is told of once, and watched no more.
fn unix_shut_down_in_a_loop() {
    let supd = Supd::start();
    let path = supd.app().join("u.sock");
    let address = path.display().to_string();
    let reached = || UnixStream::connect(&path).is_ok_and(says_hello);
    supd.launch("web", &unit(&address, &ready_and(SHUT_FOR_EVER)));
    wait_until("supd to say it", SOON, || supd.log().contains("a UNIX socket cannot listen again"));
    is_at_rest(&supd, Duration::from_secs(2));
    assert_eq!(supd.log().matches("cannot listen again").count(), 1, "{}", supd.log());
    supd.write_unit("web", &unit(&address, SERVE));
    supd.ctl(&["swap", "web"]).expect(0);
    wait_until("the new socket to be reached", SOON, reached);
}

/// Nobody is to hear of it while the unit ends, and its worker may take its time for that.
fn shut_down_while_stopping() {
    let supd = Supd::start();
    let address = format!("127.0.0.1:{}", free_port());
    let text = unit(&address, &ready_and(SHUT_FOR_EVER)).replace("200ms", "4s");
    supd.launch("web", &text);
    let stop = supd.ctl_start(&["stop", "web"]);
    supd.wait_for_state("web", "stopping");
    is_at_rest(&supd, Duration::from_secs(2));
    stop.finish(SOON).expect(0);
}

/// The same program, once it has said READY=1.
fn ready_and(program: &str) -> String {
    program.replace(
        "s=socket",
        "import os
n=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); n.connect(os.environ['NOTIFY_SOCKET']); n.send(b'READY=1')
s=socket",
    )
}

/// A candidate harms only its own slot. Where it is the active one's, the kernel does not let it listen
/// again: that is said, and a swap binds a new one.
fn unix_shut_down() {
    let supd = Supd::start();
    let path = supd.app().join("u.sock");
    let address = path.display().to_string();
    let reached = || UnixStream::connect(&path).is_ok_and(says_hello);
    supd.launch("web", &unit(&address, SERVE));
    assert!(reached());
    supd.write_unit("web", &unit(&address, SHUT));
    supd.ctl(&["swap", "web"]).expect(1);
    assert!(reached(), "the active generation has a slot of its own");
    supd.write_unit("web", &unit(&address, SERVE_AND_SHUT));
    supd.ctl(&["swap", "web"]).expect(0);
    wait_until("it to serve, and to shut down", SOON, reached);
    wait_until("supd to say it", SOON, || supd.log().contains("a UNIX socket cannot listen again"));
    supd.write_unit("web", &unit(&address, SERVE));
    supd.ctl(&["swap", "web"]).expect(0);
    wait_until("the new socket to be reached", SOON, reached);
}

/// It comes back with the next launch, and when somebody asks how the unit is.
fn unix_removed() {
    let supd = Supd::start();
    let path = supd.app().join("u.sock");
    let reached = || UnixStream::connect(&path).is_ok_and(says_hello);
    supd.launch("web", &unit(&path.display().to_string(), SERVE));
    for command in ["swap", "status", "restart"] {
        std::fs::remove_file(&path).expect("the public path");
        assert!(!reached());
        supd.ctl(&[command, "web"]).expect(0);
        // The one that was replaced may take a connection with it.
        wait_until(&format!("it to be public after {command}"), SOON, reached);
        assert!(supd.log().contains("had been removed: it is public again"), "{}", supd.log());
    }
}
