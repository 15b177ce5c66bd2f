//! Against the real kernel, on loopback and in folders that go with the test.

mod abstract_names;
mod adopt;
mod bad_luck;
mod fifo;
mod inet;
mod options;
mod slots;
mod slots_hostile;
mod slots_load;
mod slots_model;
mod slots_passing;
mod traffic;
mod unix;

use super::*;
use crate::model::SocketKind;
use crate::model::settings::BindIpv6Only;
use crate::os::sock_diag;
use nix::errno::Errno;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Nothing on one machine takes longer, and a failure should not take for ever.
const LONG: Duration = Duration::from_secs(20);

fn plain() -> SocketOptions {
    SocketOptions {
        backlog: 64,
        user: None,
        group: None,
        mode: 0o666,
        bind_ipv6_only: BindIpv6Only::Default,
        free_bind: false,
        no_delay: false,
        keep_alive: false,
        keep_alive_time: None,
        keep_alive_interval: None,
        keep_alive_probes: None,
        defer_accept: None,
        receive_buffer: None,
        send_buffer: None,
        bind_to_device: None,
        tcp_congestion: None,
        pass_packet_info: false,
    }
}

fn socket(address: Address) -> Arc<Socket> {
    Arc::new(Socket { name: ListenerName::new("http").unwrap(), address, bind_as: None, options: plain() })
}

fn with(address: Address, change: impl FnOnce(&mut SocketOptions)) -> Arc<Socket> {
    let mut socket = socket(address);
    change(&mut Arc::make_mut(&mut socket).options);
    socket
}

fn tcp(host: &str, port: u16) -> Address {
    Address::Ip { kind: SocketKind::Stream, host: host.parse().unwrap(), port }
}

fn udp(host: &str, port: u16) -> Address {
    Address::Ip { kind: SocketKind::Datagram, host: host.parse().unwrap(), port }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A port that nobody has, below those that the kernel hands out by itself.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes look in different places, and those that run alone beside one have their own range.
    let base = if std::env::var_os("SUPD_TEST_ALONE").is_some() { 10_000 } else { 20_000 };
    let start = u16::try_from(std::process::id().wrapping_mul(7_919) % 10_000).unwrap();
    for _ in 0..2_000 {
        let port = base + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        // Asked, not tried: a socket of this process may live on in a child for a moment.
        let taken = |udp| !sock_diag::inet(udp, port, sock_diag::States::ALL).unwrap().is_empty();
        if !taken(false) && !taken(true) {
            return port;
        }
    }
    panic!("no free port");
}

/// Bound in a folder of its own for private names, which is not needed for IP.
fn bind(socket: &Arc<Socket>) -> Result<Listener, BindError> {
    Listener::bind(socket, Path::new("/nonexistent"))
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&local(port), LONG)
}

fn refused(port: u16) -> bool {
    connect(port).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// What a worker has: a copy of the descriptor, which it accepts on.
fn worker(listener: &Listener) -> TcpListener {
    listener.fd().try_clone_to_owned().unwrap().into()
}

/// One request and its answer, over a connection that the worker has still to accept.
fn is_served(mut client: impl Read + Write, mut server: impl Read + Write) {
    client.write_all(b"ping").unwrap();
    let mut got = [0; 4];
    server.read_exact(&mut got).unwrap();
    server.write_all(&got).unwrap();
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"ping");
}

/// What succeeds as soon as a descriptor that was closed is closed everywhere: a process that another
/// test starts at this moment has copies of all of them until its exec.
fn at_last<T, E: std::fmt::Display>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + LONG;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// Waits for a fact of the kernel's, such as a thread that has come to wait.
fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !fact() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs `body` in a process of its own, where it has descriptors, umask and limits for itself.
fn alone(name: &str, body: impl FnOnce()) {
    crate::os::alone::alone(&format!("os::listener::tests::{name}"), || {
        body();
        String::new()
    });
}

/// Whether this is root; else says that the test of this name is skipped, or a part of it.
fn is_root_or_skip(name: &str) -> bool {
    crate::os::alone::root_or_skip(&format!("os::listener::tests::{name}"))
}

/// Another process that does something and then waits until it is dropped.
struct Other(Child);

impl Other {
    /// `what` is understood by [`fixture`].
    fn start(what: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "os::listener::tests::fixture", "--nocapture"])
            .env("SUPD_TEST_OTHER", what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(b"(ready)") {
            assert_eq!(child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1, "{said:?}");
            said.push(byte[0]);
        }
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The other process; without its variable a test like any other, that has nothing to do.
#[test]
fn fixture() {
    use std::os::unix::net::{UnixDatagram, UnixListener};
    let Ok(what) = std::env::var("SUPD_TEST_OTHER") else { return };
    let (kind, place) = what.split_once(' ').unwrap();
    let _held: OwnedFd = match kind {
        "tcp" => TcpListener::bind(place).unwrap().into(),
        "stream" => UnixListener::bind(place).unwrap().into(),
        "datagram" => UnixDatagram::bind(place).unwrap().into(),
        "read" => std::fs::OpenOptions::new().read(true).write(true).open(place).unwrap().into(),
        other => panic!("{other}"),
    };
    print!("(ready)");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}
