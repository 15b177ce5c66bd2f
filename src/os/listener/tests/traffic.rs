//! Refused, held off and open, with clients that are on their way meanwhile.

use super::*;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc;

fn open(socket: &Arc<Socket>) -> Listener {
    let mut listener = bind(socket).unwrap();
    listener.listen().unwrap();
    listener
}

/// A client in a thread of its own, whose connection arrives in the channel once it has one.
fn client(port: u16) -> mpsc::Receiver<std::io::Result<TcpStream>> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(connect(port)));
    receive
}

/// Whether a SYN of a client to `port` waits for its answer.
fn is_connecting(port: u16) -> bool {
    // State 02 is SYN_SENT, and the third column the far end (proc_net_tcp.txt).
    let far = format!(":{port:04X} 02");
    std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(|line| line.contains(&far))
}

#[test]
fn a_worker_of_before_serves_again_after_a_refusal() {
    let port = free_port();
    let mut listener = open(&socket(tcp("127.0.0.1", port)));
    let worker = worker(&listener);
    is_served(connect(port).unwrap(), worker.accept().unwrap().0);
    for _ in 0..3 {
        listener.refuse().unwrap();
        assert_eq!(listener.traffic(), Traffic::Refused);
        assert!(refused(port));
        assert_eq!(listener.queue_length(), Some(0));
        listener.refuse().unwrap();
        listener.listen().unwrap();
        is_served(connect(port).unwrap(), worker.accept().unwrap().0);
    }
    listener.listen().unwrap();
    is_served(connect(port).unwrap(), worker.accept().unwrap().0);
}

#[test]
fn a_worker_that_shuts_the_listener_down_again_and_again_spoils_nothing_for_good() {
    let port = free_port();
    let mut listener = open(&socket(tcp("127.0.0.1", port)));
    for _ in 0..3 {
        let _ = nix::sys::socket::shutdown(listener.fd().as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }
    assert!(refused(port));
    listener.listen().unwrap();
    is_served(connect(port).unwrap(), worker(&listener).accept().unwrap().0);
}

#[test]
fn what_is_queued_is_served_while_new_clients_wait_outside() {
    if !is_root_or_skip("traffic::what_is_queued_is_served_while_new_clients_wait_outside") {
        return;
    }
    let port = free_port();
    let mut listener = open(&socket(tcp("127.0.0.1", port)));
    let before = connect(port).unwrap();
    assert!(listener.hold_off().unwrap());
    assert_eq!(listener.traffic(), Traffic::HeldOff);
    assert!(listener.hold_off().unwrap(), "twice is once");

    let waiting = client(port);
    until("its SYN is on its way", || is_connecting(port));
    assert_eq!(listener.queue_length(), Some(1), "the one before");
    is_served(before, worker(&listener).accept().unwrap().0);
    assert_eq!(listener.queue_length(), Some(0));
    assert!(waiting.try_recv().is_err(), "it got in");

    listener.listen().unwrap();
    let client = waiting.recv_timeout(LONG).unwrap().unwrap();
    is_served(client, worker(&listener).accept().unwrap().0);
}

#[test]
fn a_handshake_that_is_half_done_is_finished_while_new_ones_wait() {
    if !is_root_or_skip("traffic::a_handshake_that_is_half_done_is_finished_while_new_ones_wait") {
        return;
    }
    let port = free_port();
    // The kernel ignores the last ACK of the handshake until there are data: half done for as long as
    // the client says nothing.
    let wanted = with(tcp("127.0.0.1", port), |o| o.defer_accept = Some(Duration::from_secs(60)));
    let mut listener = open(&wanted);
    let mut half = connect(port).unwrap();
    assert_eq!(listener.queue_length(), Some(0));
    listener.hold_off().unwrap();
    half.write_all(b"now").unwrap();
    until("it gets into the queue", || listener.queue_length() == Some(1));
    let mut server = worker(&listener).accept().unwrap().0;
    let mut got = [0; 3];
    server.read_exact(&mut got).unwrap();
    // It has inherited the filter, and can live with it.
    is_served(half, server);
}

#[test]
fn clients_of_a_refusing_listener_can_be_made_to_wait() {
    if !is_root_or_skip("traffic::clients_of_a_refusing_listener_can_be_made_to_wait") {
        return;
    }
    let port = free_port();
    let mut listener = bind(&socket(tcp("127.0.0.1", port))).unwrap();
    listener.hold_off().unwrap();
    let waiting = client(port);
    until("its SYN is on its way", || is_connecting(port));
    listener.refuse().unwrap();
    let error = waiting.recv_timeout(LONG).unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "at its next SYN");
}

#[test]
fn without_the_privilege_clients_wait_in_the_queue() {
    let port = free_port();
    let listener = std::thread::spawn(move || {
        caps::clear(None, caps::CapSet::Effective).unwrap();
        let mut listener = bind(&socket(tcp("127.0.0.1", port))).unwrap();
        let held = listener.hold_off().unwrap();
        assert_eq!(held, listener.traffic() == Traffic::HeldOff);
        assert_eq!(held, !listener.notes().any(|note| note.contains("CAP_NET_ADMIN")));
        listener.listen().unwrap();
        listener
    });
    let listener = listener.join().unwrap();
    is_served(connect(port).unwrap(), worker(&listener).accept().unwrap().0);
}

#[test]
fn a_worker_that_locks_the_filter_cannot_stop_supd_from_listening() {
    let port = free_port();
    let mut listener = open(&socket(tcp("127.0.0.1", port)));
    sockopt::set(listener.fd(), libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 1).unwrap();
    listener.refuse().unwrap();
    listener.listen().unwrap();
    is_served(connect(port).unwrap(), worker(&listener).accept().unwrap().0);
}

#[test]
fn the_queue_of_a_tcp_listener_counts_connections() {
    let port = free_port();
    let listener = open(&socket(tcp("127.0.0.1", port)));
    let clients: Vec<_> = (0..7).map(|_| connect(port).unwrap()).collect();
    until("all are queued", || listener.queue_length() == Some(7));
    drop(clients);
    let worker = worker(&listener);
    for left in (0..7).rev() {
        worker.accept().unwrap();
        assert_eq!(listener.queue_length(), Some(left));
    }
}

#[test]
fn a_udp_listener_receives_only_while_it_is_open_and_keeps_its_queue() {
    let port = free_port();
    let mut listener = bind(&socket(udp("127.0.0.1", port))).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let say = |what: &str| client.send_to(what.as_bytes(), local(port)).unwrap();
    say("too early");
    assert_eq!(listener.queue_length(), Some(0));
    listener.listen().unwrap();
    say("one");
    until("it is queued", || listener.queue_length().is_some_and(|bytes| bytes >= 3));
    assert!(!listener.hold_off().unwrap(), "datagrams wait in the queue as it is");
    say("two");
    listener.refuse().unwrap();
    say("too late");
    listener.listen().unwrap();
    say("three");
    let worker: UdpSocket = listener.fd().as_fd().try_clone_to_owned().unwrap().into();
    let mut got = [0; 64];
    for expected in ["one", "two", "three"] {
        let length = worker.recv(&mut got).unwrap();
        assert_eq!(&got[..length], expected.as_bytes());
    }
    assert_eq!(listener.queue_length(), Some(0));
}
