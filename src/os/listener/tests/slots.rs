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

#[test]
fn a_share_is_what_it_says() {
    both("slots::a_share_is_what_it_says", || {
        let mut stage = Stage::with_slots(&with(tcp("127.0.0.1", free_port()), |o| o.backlog = 3_000), 2);
        // Three standard deviations of 2,000 draws.
        for (text, least, most) in [("5", 70, 130), ("50", 932, 1_068)] {
            stage.steer(split(0, Some((1, text))));
            let candidate: u32 = (0..4)
                .map(|_| {
                    stage.reached(500).into_iter().filter(|(slot, _)| *slot == 1).map(|(_, n)| n).sum::<u32>()
                })
                .sum();
            assert!((least..=most).contains(&candidate), "{candidate} of 2,000 at {text} %");
        }
    });
}
