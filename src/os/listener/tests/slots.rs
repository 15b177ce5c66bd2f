//! Slots of a listener, by both kinds of BPF and by path.

use super::*;
use crate::model::Share;
use crate::os::steering::{Mechanism, Slot, Split, Steering};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// A listener with its unit's steering.
pub(super) struct Stage {
    pub(super) listener: Listener,
    pub(super) steering: Steering,
}

pub(super) fn share(text: &str) -> Share {
    text.parse().unwrap()
}

/// The active slot and a candidate with its share.
pub(super) fn split(active: Slot, candidate: Option<(Slot, &str)>) -> Split {
    let candidate = candidate.map(|(slot, text)| (slot, share(text)));
    Split { active, candidate, sticky: false, salt: 7 }
}

impl Stage {
    pub(super) fn open(socket: &Arc<Socket>) -> Self {
        let mut listener = bind(socket).unwrap();
        listener.listen().unwrap();
        Self { listener, steering: Steering::default() }
    }

    pub(super) fn with_slots(socket: &Arc<Socket>, slots: Slot) -> Self {
        let mut stage = Self::open(socket);
        (0..slots).for_each(|slot| stage.lend(slot));
        stage
    }

    pub(super) fn lend(&mut self, slot: Slot) {
        self.listener.lend(slot, &mut self.steering).unwrap();
    }

    pub(super) fn steer(&mut self, split: Split) {
        self.steering.set(split);
        self.listener.steer(&self.steering).unwrap();
        self.steering.flip();
        self.listener.close_idle();
    }

    pub(super) fn worker(&self, slot: Slot) -> OwnedFd {
        self.listener.fd_of(slot).unwrap().try_clone_to_owned().unwrap()
    }

    pub(super) fn queue(&self, slot: Slot) -> u32 {
        self.listener.queue_length_of_slot(slot, &Queues::default()).unwrap()
    }

    /// Where so many new clients get to, by the slots that are there. They are served then.
    pub(super) fn reached(&self, clients: u32) -> Vec<(Slot, u32)> {
        let slots: Vec<Slot> = self.listener.slots().map(|(slot, _)| slot).collect();
        let before: u32 = slots.iter().map(|slot| self.queue(*slot)).sum();
        let place = place(self.listener.address());
        let clients: Vec<TcpStream> =
            (0..clients).map(|_| TcpStream::connect_timeout(&place, LONG).unwrap()).collect();
        let came = u32::try_from(clients.len()).unwrap();
        let queued = || slots.iter().map(|slot| self.queue(*slot)).sum::<u32>();
        until("all are queued", || queued() == before + came);
        let mut reached: Vec<(Slot, u32)> = slots.iter().map(|slot| (*slot, self.queue(*slot))).collect();
        reached.sort_unstable();
        for slot in slots {
            let worker: TcpListener = self.worker(slot).into();
            (0..self.queue(slot)).for_each(|_| drop(worker.accept().unwrap()));
        }
        reached.retain(|(_, count)| *count > 0);
        reached
    }
}

/// Where clients connect to a listener on all addresses.
pub(super) fn place(address: &Address) -> SocketAddr {
    let Address::Ip { host, port, .. } = address else { panic!("{address}") };
    let host = match host {
        IpAddr::V4(host) if host.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(host) if host.is_unspecified() => "::1".parse().unwrap(),
        host => *host,
    };
    SocketAddr::new(host, *port)
}

/// With eBPF, where this is root; and without the privilege for it.
pub(super) fn both(name: &str, body: fn()) {
    if is_root_or_skip(name) {
        body();
    }
    let without = std::thread::spawn(move || {
        // Capabilities are the thread's.
        caps::clear(None, caps::CapSet::Effective).unwrap();
        body();
    });
    if let Err(panic) = without.join() {
        std::panic::resume_unwind(panic);
    }
}

fn is_ebpf() -> bool {
    caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_BPF).unwrap()
}

/// IPv4, IPv6 and both, on one address and on all.
fn hosts() -> [(&'static str, BindIpv6Only); 5] {
    use BindIpv6Only::{Both, Default, Ipv6Only};
    [("127.0.0.1", Default), ("0.0.0.0", Default), ("::1", Default), ("::", Both), ("::", Ipv6Only)]
}

#[test]
fn clients_get_to_the_slot_that_the_split_says_and_not_one_strays() {
    both("slots::clients_get_to_the_slot_that_the_split_says_and_not_one_strays", || {
        for (host, only) in hosts() {
            let mut stage = Stage::open(&with(tcp(host, free_port()), |o| o.bind_ipv6_only = only));
            stage.lend(0);
            assert_eq!(stage.reached(20), [(0, 20)], "{host}");
            stage.lend(1);
            assert_eq!(stage.reached(60), [(0, 60)], "{host}: before the program says so");
            stage.lend(2);
            assert_eq!(stage.reached(60), [(0, 60)], "{host}");
            stage.steer(split(0, Some((1, "100"))));
            assert_eq!(stage.reached(60), [(1, 60)], "{host}");
            stage.steer(split(2, Some((1, "0"))));
            assert_eq!(stage.reached(60), [(2, 60)], "{host}");
            stage.steer(split(0, None));
            assert_eq!(stage.reached(60), [(0, 60)], "{host}");
            let ebpf = stage.listener.mechanism() == Mechanism::Ebpf;
            assert_eq!(ebpf, is_ebpf(), "{}", stage.listener.mechanism());
        }
    });
}

/// So many clients draw in [`a_share_is_what_it_says`]; `SUPD_DRAWS=100000` looks closer, and prints.
const DRAWS: u32 = 5_000;

#[test]
fn a_share_is_what_it_says() {
    both("slots::a_share_is_what_it_says", || {
        let draws = std::env::var("SUPD_DRAWS").map_or(DRAWS, |draws| draws.parse().unwrap());
        let mut stage = Stage::with_slots(&with(tcp("127.0.0.1", free_port()), |o| o.backlog = 3_000), 2);
        // Five standard deviations: chance alone is further off once in 1.7 million times. (Three are passed once in
        // 370, and there are four in each run.)
        for (text, share) in [("5", 0.05), ("50", 0.5)] {
            stage.steer(split(0, Some((1, text))));
            let mut candidate = 0;
            for _ in 0..draws / 500 {
                candidate += stage.reached(500).iter().find(|(slot, _)| *slot == 1).map_or(0, |(_, n)| *n);
            }
            let (all, found) = (f64::from(draws), f64::from(candidate));
            let off = (found - all * share) / (all * share * (1.0 - share)).sqrt();
            let told = format!("{candidate} of {draws} at {text} %: {off:+.2} standard deviations");
            println!("{}: {told}", stage.listener.mechanism());
            assert!(off.abs() <= 5.0, "{told}");
        }
    });
}

/// A TCP client from an address of its own.
fn client_from(from: &str, to: SocketAddr) -> TcpStream {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
    let from: SocketAddr = from.parse().unwrap();
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    fd.into()
}

#[test]
fn a_sticky_client_gets_where_its_address_says_and_never_flips_back() {
    both("slots::a_sticky_client_gets_where_its_address_says_and_never_flips_back", || {
        let mut stage = Stage::with_slots(&socket(tcp("0.0.0.0", free_port())), 2);
        let to = place(stage.listener.address());
        let mut earlier = [false; 64];
        for (text, parts) in [("20", 2_000), ("60", 6_000)] {
            stage.steer(Split { sticky: true, salt: 99, ..split(0, Some((1, text))) });
            for (n, earlier) in (1_u8..).zip(&mut earlier) {
                let from = SocketAddr::from(([127, 0, 7, n], 0));
                let _client = client_from(&from.to_string(), to);
                until("it is queued", || stage.queue(0) + stage.queue(1) == 1);
                let candidate = stage.queue(1) == 1;
                assert_eq!(candidate, steering::draw(from, false, 99) < parts, "{from} at {text} %");
                assert!(candidate || !*earlier, "{from} flipped back");
                *earlier = candidate;
                let worker: TcpListener = stage.worker(u8::from(candidate)).into();
                drop(worker.accept().unwrap());
            }
        }
        assert!(earlier.contains(&true) && earlier.contains(&false));
    });
}

/// A datagram's slot, once it is there; it is read.
pub(super) fn came_to(stage: &Stage) -> Slot {
    let slots: Vec<Slot> = stage.listener.slots().map(|(slot, _)| slot).collect();
    let mut at = None;
    until("it is queued", || {
        at = slots.iter().copied().find(|slot| stage.queue(*slot) > 0);
        at.is_some()
    });
    let slot = at.unwrap();
    let worker: UdpSocket = stage.worker(slot).into();
    worker.recv(&mut [0; 16]).unwrap();
    assert!(slots.iter().all(|slot| stage.queue(*slot) == 0));
    slot
}

#[test]
fn datagrams_get_where_their_senders_address_and_port_say() {
    both("slots::datagrams_get_where_their_senders_address_and_port_say", || {
        for (host, only) in hosts() {
            let mut stage = Stage::open(&with(udp(host, free_port()), |o| o.bind_ipv6_only = only));
            let to = place(stage.listener.address());
            let clients: Vec<UdpSocket> =
                (0..40).map(|_| UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap()).collect();
            let say = |stage: &Stage, client: &UdpSocket| {
                client.send_to(b"x", to).unwrap();
                came_to(stage)
            };
            stage.lend(0);
            stage.lend(1);
            assert!(clients.iter().all(|client| say(&stage, client) == 0), "{host}");
            stage.steer(split(0, Some((1, "40"))));
            for client in &clients {
                let from = client.local_addr().unwrap();
                let expected = u8::from(steering::draw(from, true, 7) < 4_000);
                assert_eq!((say(&stage, client), say(&stage, client)), (expected, expected), "{from}");
            }
            stage.steer(Split { sticky: true, ..split(0, Some((1, "40"))) });
            let expected = u8::from(steering::draw(clients[0].local_addr().unwrap(), false, 7) < 4_000);
            assert!(clients.iter().all(|client| say(&stage, client) == expected), "{host}: by address");
            stage.steer(split(1, None));
            assert!(clients.iter().all(|client| say(&stage, client) == 1), "{host}");
        }
    });
}

#[test]
fn ipv4_at_a_socket_for_both_is_steered_like_any_other() {
    both("slots::ipv4_at_a_socket_for_both_is_steered_like_any_other", || {
        let port = free_port();
        let both = with(tcp("::", port), |o| o.bind_ipv6_only = BindIpv6Only::Both);
        let mut stage = Stage::with_slots(&both, 2);
        stage.steer(Split { sticky: true, ..split(0, Some((1, "50"))) });
        for n in 1..40_u8 {
            let from = SocketAddr::from(([127, 0, 8, n], 0));
            let _client = client_from(&from.to_string(), local(port));
            until("it is queued", || stage.queue(0) + stage.queue(1) == 1);
            let expected = u8::from(steering::draw(from, false, 7) < 5_000);
            assert_eq!(stage.queue(expected), 1, "{from}");
            let worker: TcpListener = stage.worker(expected).into();
            drop(worker.accept().unwrap());
        }
    });
}

#[test]
fn a_probe_gets_to_its_slot_whoever_is_active() {
    both("slots::a_probe_gets_to_its_slot_whoever_is_active", || {
        for host in ["127.0.0.1", "::1"] {
            let mut stage = Stage::with_slots(&socket(tcp(host, free_port())), 2);
            let to = place(stage.listener.address());
            let free = TcpListener::bind(SocketAddr::new(to.ip(), 0)).unwrap().local_addr().unwrap();
            stage.steering.probe(free, 1).unwrap();
            stage.listener.steer(&stage.steering).unwrap();
            let _probe = client_from(&free.to_string(), to);
            until("the probe is queued", || stage.queue(1) == 1);
            assert_eq!(stage.reached(20), [(0, 20), (1, 1)], "{host}");
            stage.steering.unprobe(free).unwrap();
            stage.listener.steer(&stage.steering).unwrap();
            let last = TcpListener::bind(SocketAddr::new(to.ip(), 0)).unwrap().local_addr().unwrap();
            let _late = client_from(&last.to_string(), to);
            until("it is queued", || stage.queue(0) == 1);
        }
    });
}

#[test]
fn as_many_probes_as_there_may_be_and_no_more() {
    let mut steering = Steering::default();
    let from = |n: u16| SocketAddr::from(([127, 0, 0, 1], n));
    (1..=16).for_each(|n| steering.probe(from(n), 1).unwrap());
    steering.probe(from(3), 2).unwrap();
    assert_eq!(steering.probe(from(17), 1).unwrap_err().errno, Errno::EAGAIN);
    steering.unprobe(from(3)).unwrap();
    steering.probe(from(17), 1).unwrap();
}

#[test]
fn options_are_the_same_on_each_slot_and_change_on_each() {
    both("slots::options_are_the_same_on_each_slot_and_change_on_each", || {
        use nix::sys::socket::{getsockopt, sockopt as of};
        let options = |o: &mut SocketOptions| {
            o.backlog = 17;
            o.no_delay = true;
            o.keep_alive = true;
            o.keep_alive_time = Some(Duration::from_secs(31));
            o.defer_accept = Some(Duration::from_secs(3));
            o.receive_buffer = Some(50_000);
            o.send_buffer = Some(60_000);
            o.tcp_congestion = Some("reno".into());
            o.pass_packet_info = true;
        };
        let wanted = with(tcp("127.0.0.1", free_port()), options);
        let mut stage = Stage::with_slots(&wanted, 3);
        let backlog = |fd: BorrowedFd<'_>| {
            let mut info = [0; 32];
            sockopt::get_bytes(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).unwrap();
            u32::from_ne_bytes([info[28], info[29], info[30], info[31]])
        };
        let check = |stage: &Stage, backlog_is: u32, no_delay: bool| {
            for slot in 0..3 {
                let fd = stage.listener.fd_of(slot).unwrap();
                assert_eq!(getsockopt(&fd, of::TcpNoDelay).unwrap(), no_delay);
                assert!(getsockopt(&fd, of::KeepAlive).unwrap());
                assert_eq!(getsockopt(&fd, of::TcpKeepIdle).unwrap(), 31);
                assert_eq!(getsockopt(&fd, of::RcvBuf).unwrap(), 100_000);
                assert_eq!(getsockopt(&fd, of::SndBuf).unwrap(), 120_000);
                assert_eq!(getsockopt(&fd, of::TcpCongestion).unwrap(), "reno");
                assert_eq!(sockopt::get(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT), Ok(3));
                assert_eq!(sockopt::get(fd, libc::SOL_IP, libc::IP_PKTINFO), Ok(1));
                assert_eq!(backlog(fd), backlog_is);
            }
        };
        check(&stage, 17, true);
        let mut changed = wanted.options.clone();
        changed.backlog = 23;
        changed.no_delay = false;
        assert_eq!(stage.listener.apply_options(&changed).unwrap(), [""; 0]);
        check(&stage, 23, false);
        // What a worker set on its own slot stays, as long as nothing new is said.
        let no_delay = |stage: &Stage| {
            let own = stage.listener.fd_of(1).unwrap();
            sockopt::get(own, libc::IPPROTO_TCP, libc::TCP_NODELAY)
        };
        sockopt::set(stage.listener.fd_of(1).unwrap(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1).unwrap();
        assert_eq!(stage.listener.apply_options(&changed).unwrap(), [""; 0]);
        assert_eq!(no_delay(&stage), Ok(1));
        changed.backlog = 24;
        assert_eq!(stage.listener.apply_options(&changed).unwrap(), [""; 0]);
        check(&stage, 24, false);
        stage.listener.refuse().unwrap();
        stage.listener.listen().unwrap();
        check(&stage, 24, false);
    });
}

#[test]
fn what_is_said_to_a_listener_is_said_to_each_slot() {
    both("slots::what_is_said_to_a_listener_is_said_to_each_slot", || {
        let port = free_port();
        let mut stage = Stage::with_slots(&socket(tcp("127.0.0.1", port)), 3);
        for active in [1, 2, 0, 2] {
            stage.steer(split(active, None));
            stage.listener.refuse().unwrap();
            assert!(refused(port));
            stage.listener.listen().unwrap();
            assert_eq!(stage.reached(30), [(active, 30)]);
        }
        // A slot that is made while nobody listens.
        stage.listener.refuse().unwrap();
        stage.lend(3);
        assert!(refused(port));
        stage.listener.listen().unwrap();
        assert_eq!(stage.reached(30), [(2, 30)]);
        stage.steer(split(3, None));
        assert_eq!(stage.reached(30), [(3, 30)]);
        let _waiting = connect(port).unwrap();
        if stage.listener.hold_off().unwrap() {
            assert_eq!(stage.listener.traffic(), Traffic::HeldOff);
            stage.lend(4);
            assert_eq!(stage.listener.queue_length(), Some(1));
            stage.listener.listen().unwrap();
        }
        assert_eq!(stage.reached(30), [(3, 31)]);
        if stage.listener.slots().any(|(slot, _)| slot == 4) {
            stage.steer(split(4, None));
            assert_eq!(stage.reached(30), [(4, 30)]);
        }
    });
}

#[test]
fn a_slot_that_is_given_back_is_closed_where_that_loses_nothing() {
    both("slots::a_slot_that_is_given_back_is_closed_where_that_loses_nothing", || {
        let port = free_port();
        let mut stage = Stage::with_slots(&socket(tcp("127.0.0.1", port)), 2);
        let leaked = stage.worker(0);
        let clients: Vec<TcpStream> = (0..30).map(|_| connect(port).unwrap()).collect();
        until("all are queued", || stage.queue(0) == 30);
        stage.steer(split(1, None));
        assert_eq!(stage.queue(0), 30, "it is lent");
        stage.listener.give_back(0);
        let slots: Vec<(Slot, bool)> = stage.listener.slots().collect();
        if is_ebpf() {
            assert_eq!(slots, [(1, true)], "closed, although a copy leaked");
            assert_eq!(stage.queue(1), 30, "what waited has moved");
            let mut worker: TcpListener = stage.worker(1).into();
            for client in clients {
                is_served(client, worker.accept().unwrap().0);
            }
            worker = leaked.into();
            assert!(worker.accept().is_err(), "nobody comes there any more");
        } else {
            assert_eq!(slots, [(1, true), (0, false)], "kept, for the kernel counts it");
            stage.lend(0);
            let worker: TcpListener = stage.worker(0).into();
            for client in clients {
                is_served(client, worker.accept().unwrap().0);
            }
        }
        stage.lend(0);
        assert_eq!(stage.reached(20), [(1, 20)]);
        stage.steer(split(0, None));
        assert_eq!(stage.reached(20), [(0, 20)]);
        // The active one is never closed: clients come there.
        stage.listener.give_back(0);
        assert_eq!(stage.reached(20), [(0, 20)]);
    });
}

#[test]
fn whoever_comes_first_has_the_first_socket() {
    let mut stage = Stage::open(&socket(tcp("127.0.0.1", free_port())));
    let first = stage.listener.fd().as_raw_fd();
    stage.lend(3);
    assert_eq!(stage.listener.fd_of(3).unwrap().as_raw_fd(), first);
    assert!(stage.listener.fd_of(0).is_none());
    stage.lend(3);
    assert_eq!(stage.listener.slots().collect::<Vec<_>>(), [(3, true)]);
    assert_eq!(sockopt::get(stage.listener.fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT), Ok(0));
}

#[test]
fn datagrams_that_wait_keep_their_slot() {
    both("slots::datagrams_that_wait_keep_their_slot", || {
        let port = free_port();
        let mut stage = Stage::with_slots(&socket(udp("127.0.0.1", port)), 2);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        stage.steer(split(1, None));
        client.send_to(b"x", local(port)).unwrap();
        until("it is queued", || stage.queue(1) > 0);
        stage.steer(split(0, None));
        stage.listener.give_back(1);
        assert_eq!(stage.listener.slots().collect::<Vec<_>>(), [(0, true), (1, false)]);
        stage.lend(1);
        let worker: UdpSocket = stage.worker(1).into();
        assert_eq!(worker.recv(&mut [0; 16]).unwrap(), 1);
        let leaked = stage.worker(1);
        stage.listener.give_back(1);
        assert_eq!(stage.listener.slots().count(), 1);
        // Refused is refused for each slot, made before or meanwhile.
        stage.listener.refuse().unwrap();
        stage.lend(1);
        stage.lend(2);
        client.send_to(b"x", local(port)).unwrap();
        stage.steer(split(2, None));
        client.send_to(b"x", local(port)).unwrap();
        assert_eq!(stage.listener.queue_length(), Some(0));
        stage.listener.listen().unwrap();
        client.send_to(b"x", local(port)).unwrap();
        assert_eq!(came_to(&stage), 2);
        drop(leaked);
    });
}
