//! Workers and strangers that do to a slot what they can.

use super::slots::{Stage, both, came_to, place, split};
use super::*;
use crate::os::steering::{Mechanism, Slot, Steering, always};
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsFd, AsRawFd};

fn stage(slots: u8) -> Stage {
    Stage::with_slots(&socket(tcp("127.0.0.1", free_port())), slots)
}

#[test]
fn a_worker_that_attaches_or_detaches_a_program_is_overruled_at_the_next_switch() {
    both(
        "slots_hostile::a_worker_that_attaches_or_detaches_a_program_is_overruled_at_the_next_switch",
        || {
            const SO_DETACH_REUSEPORT_BPF: i32 = 68;
            let mut stage = stage(2);
            for detaches in [false, true] {
                let worker = stage.worker(0);
                if detaches {
                    sockopt::set(worker.as_fd(), libc::SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0).unwrap();
                } else {
                    sockopt::attach_group_filter(worker.as_fd(), &always(0)).unwrap();
                }
                stage.steer(split(1, None));
                assert_eq!(stage.reached(40), [(1, 40)]);
                stage.steer(split(0, None));
                assert_eq!(stage.reached(40), [(0, 40)]);
            }
        },
    );
}

#[test]
fn a_worker_that_locks_its_slot_stops_no_switch_and_all_of_them_are_named() {
    both("slots_hostile::a_worker_that_locks_its_slot_stops_no_switch_and_all_of_them_are_named", || {
        let mut stage = stage(2);
        lock_filter(stage.listener.fd_of(0).unwrap());
        for active in [1, 0, 1] {
            stage.steer(split(active, None));
            assert_eq!(stage.reached(40), [(active, 40)]);
        }
        lock_filter(stage.listener.fd_of(1).unwrap());
        let before = stage.steering.split();
        stage.steering.set(split(0, None));
        let error = stage.listener.steer(&stage.steering).unwrap_err().to_string();
        assert!(error.contains("SO_LOCK_FILTER"), "{error}");
        stage.steering.set(before);
        assert_eq!(stage.reached(40), [(1, 40)], "as before");
    });
}

#[test]
fn a_worker_that_locked_the_only_slot_stops_no_second_one() {
    both("slots_hostile::a_worker_that_locked_the_only_slot_stops_no_second_one", || {
        let mut stage = stage(1);
        lock_filter(stage.listener.fd());
        stage.lend(1);
        assert_eq!(stage.reached(60), [(0, 60)]);
        stage.steer(split(1, None));
        assert_eq!(stage.reached(60), [(1, 60)]);
    });
}

#[test]
fn a_slot_that_is_shut_down_is_left_out_and_comes_back() {
    both("slots_hostile::a_slot_that_is_shut_down_is_left_out_and_comes_back", || {
        let mut stage = stage(3);
        for slot in [1, 0, 2, 1] {
            stage.steer(split(slot, None));
            shutdown(stage.worker(slot).as_raw_fd(), Shutdown::Both).unwrap();
            assert!(stage.listener.is_shut_down());
            if stage.listener.mechanism() == Mechanism::Ebpf {
                // Somebody gets them: nobody is refused.
                assert_eq!(stage.reached(30).iter().map(|(_, n)| n).sum::<u32>(), 30);
            }
            stage.listener.listen().unwrap();
            assert!(!stage.listener.is_shut_down());
            assert_eq!(stage.reached(30), [(slot, 30)]);
        }
        for slot in [0, 1, 2] {
            stage.steer(split(slot, None));
            assert_eq!(stage.reached(30), [(slot, 30)], "whoever was shut down before");
        }
    });
}

#[test]
fn a_worker_that_listens_by_itself_changes_nothing() {
    both("slots_hostile::a_worker_that_listens_by_itself_changes_nothing", || {
        let mut stage = stage(2);
        for slot in [0, 1] {
            sockopt::listen(stage.worker(slot).as_fd(), 5).unwrap();
            stage.steer(split(slot, None));
            assert_eq!(stage.reached(3), [(slot, 3)]);
            sockopt::listen(stage.worker(slot).as_fd(), 64).unwrap();
        }
        // Shut down and listening again before anybody looked: the kernel has forgotten it, or another has its
        // place in the row.
        stage.steer(split(0, Some((1, "0"))));
        listens_again(&stage, 0);
        assert_eq!(stage.reached(30), [(1, 30)]);
        stage.listener.remind().unwrap();
        assert_eq!(stage.reached(30), [(0, 30)]);
    });
}

fn listens_again(stage: &Stage, slot: Slot) {
    let worker = stage.worker(slot);
    shutdown(worker.as_raw_fd(), Shutdown::Both).unwrap();
    sockopt::listen(worker.as_fd(), 64).unwrap();
}

/// Before there is a second slot the kernel forgets the group of the first with it.
#[test]
fn the_only_slot_that_listens_again_stops_no_second_one() {
    both("slots_hostile::the_only_slot_that_listens_again_stops_no_second_one", || {
        let mut stage = stage(1);
        listens_again(&stage, 0);
        stage.lend(1);
        assert_eq!(stage.reached(30), [(0, 30)]);
        for led in [1, 0] {
            stage.steer(split(led, None));
            assert_eq!(stage.reached(30), [(led, 30)]);
        }
    });
}

/// Each time before supd looks: none, one, two of four, one after the other; and one that stays shut.
#[test]
fn slots_that_listen_again_before_anybody_looks_are_told_apart() {
    both("slots_hostile::slots_that_listen_again_before_anybody_looks_are_told_apart", || {
        for address in ["127.0.0.1", "::1"] {
            let mut stage = Stage::open(&socket(tcp(address, free_port())));
            (0..4).for_each(|slot| stage.lend(slot));
            let all: [&[Slot]; 7] = [&[], &[1], &[0, 2], &[3, 1], &[2, 3], &[0, 1], &[1, 3, 0]];
            for again in all {
                again.iter().for_each(|slot| listens_again(&stage, *slot));
                for led in [2, 0, 3, 1] {
                    stage.steer(split(led, None));
                    assert_eq!(stage.reached(30), [(led, 30)], "{again:?} listened again at {address}");
                }
            }
            // One that supd has seen beside one that it has not, and two that it has seen at once.
            for (unseen, seen) in [(Some(0), [2, 2]), (Some(3), [1, 1]), (None, [0, 2]), (None, [3, 1])] {
                unseen.iter().for_each(|slot| listens_again(&stage, *slot));
                for slot in seen {
                    let _ = shutdown(stage.worker(slot).as_raw_fd(), Shutdown::Both);
                }
                stage.listener.listen().unwrap();
                stage.listener.remind().unwrap();
                for led in [2, 0, 3, 1] {
                    stage.steer(split(led, None));
                    assert_eq!(
                        stage.reached(30),
                        [(led, 30)],
                        "{unseen:?}, and {seen:?} were shut at {address}"
                    );
                }
            }
            // supd looks while it is shut, and then it listens by itself.
            let worker = stage.worker(0);
            shutdown(worker.as_raw_fd(), Shutdown::Both).unwrap();
            let _ = stage.listener.remind();
            sockopt::listen(worker.as_fd(), 64).unwrap();
            for led in [0, 2, 1] {
                stage.steer(split(led, None));
                assert_eq!(stage.reached(30), [(led, 30)], "0 has listened by itself at {address}");
            }
            shutdown(stage.worker(1).as_raw_fd(), Shutdown::Both).unwrap();
            for led in [3, 0, 2] {
                stage.steer(split(led, None));
                assert_eq!(stage.reached(30), [(led, 30)], "1 is shut");
            }
            stage.listener.listen().unwrap();
            for led in [1, 3, 0, 2] {
                stage.steer(split(led, None));
                assert_eq!(stage.reached(30), [(led, 30)], "1 listens again");
            }
        }
    });
}

/// Two are taken out and put back, although a worker has taken from one of them what it needs for that.
#[test]
fn a_slot_that_lost_its_part_of_the_port_is_put_back() {
    both("slots_hostile::a_slot_that_lost_its_part_of_the_port_is_put_back", || {
        let mut stage = stage(4);
        listens_again(&stage, 1);
        listens_again(&stage, 2);
        sockopt::set(stage.worker(1).as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 0).unwrap();
        stage.steer(split(0, None));
        assert_eq!(stage.listener.take_troubles(), [""; 0]);
        assert!(!stage.listener.is_shut_down());
        for led in [1, 3, 2, 0] {
            stage.steer(split(led, None));
            assert_eq!(stage.reached(30), [(led, 30)]);
        }
    });
}

/// Beside a socket that lacks SO_REUSEPORT none can be bound.
#[test]
fn a_worker_that_takes_its_part_of_the_port_away_stops_no_further_slot() {
    both("slots_hostile::a_worker_that_takes_its_part_of_the_port_away_stops_no_further_slot", || {
        for wanted in [tcp("127.0.0.1", free_port()), udp("127.0.0.1", free_port())] {
            let mut stage = Stage::with_slots(&socket(wanted), 2);
            for (slot, next) in [(0, 2), (1, 3)] {
                sockopt::set(stage.worker(slot).as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 0).unwrap();
                stage.lend(next);
                stage.steer(split(next, None));
            }
        }
    });
}

/// One generation is alone then, and chooses among nobody whatever it does.
#[test]
fn a_slot_that_nobody_has_leaves_the_row() {
    both("slots_hostile::a_slot_that_nobody_has_leaves_the_row", || {
        for wanted in [tcp("127.0.0.1", free_port()), udp("127.0.0.1", free_port())] {
            let mut stage = Stage::with_slots(&socket(wanted), 2);
            let leaked = stage.worker(1);
            stage.listener.give_back(1);
            assert_eq!((stage.listener.slots().count(), stage.listener.idle_until()), (1, None));
            drop(leaked);
        }
        // A handshake may be under way to one that clients were led to: it stays for as long as that.
        let mut stage = stage(2);
        stage.steer(split(1, None));
        stage.listener.give_back(0);
        let stays = stage.listener.slots().count() > 1;
        assert_eq!(stays, stage.listener.mechanism() != Mechanism::Ebpf);
        assert_eq!(stays, stage.listener.idle_until().is_some());
    });
}

/// Who is led to is the last of the row, which would take the place: then another socket takes it.
#[test]
fn whoever_is_lent_a_udp_slot_has_nothing_of_who_had_it_before() {
    both("slots_hostile::whoever_is_lent_a_udp_slot_has_nothing_of_who_had_it_before", || {
        for (slots, led, ties) in [(2, 0, true), (2, 0, false), (3, 2, true), (3, 2, false), (3, 0, false)] {
            let mut stage = Stage::with_slots(&socket(udp("127.0.0.1", free_port())), slots);
            stage.steer(split(led, None));
            let worker = stage.worker(1);
            if ties {
                std::net::UdpSocket::from(worker).connect(local(9)).unwrap();
            } else {
                // ENOTCONN, and the mark stays all the same.
                let _ = shutdown(worker.as_raw_fd(), Shutdown::Both);
            }
            stage.listener.give_back(1);
            stage.lend(1);
            let client = std::net::UdpSocket::bind(local(0)).unwrap();
            for led in [led, 1, 0] {
                stage.steer(split(led, None));
                client.send_to(b"x", place(stage.listener.address())).unwrap();
                assert_eq!(came_to(&stage), led, "of {slots}, tied: {ties}");
            }
        }
    });
}

/// The standby binds its slot to an interface, and listens anew: then it had everybody that comes in there.
#[test]
fn a_slot_that_was_bound_to_an_interface_is_taken_back() {
    // Only who may do so can be overruled: root is needed for both.
    if !is_root_or_skip("slots_hostile::a_slot_that_was_bound_to_an_interface_is_taken_back") {
        return;
    }
    both("slots_hostile::a_slot_that_was_bound_to_an_interface_is_taken_back", || {
        let mut stage = stage(3);
        sockopt::set_bytes(stage.worker(1).as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo").unwrap();
        listens_again(&stage, 1);
        assert_eq!(stage.reached(30), [(1, 30)]);
        stage.listener.take_back();
        if stage.listener.take_troubles().is_empty() {
            assert!(stage.listener.is_shut_down());
            stage.listener.listen().unwrap();
            for led in [0, 1, 2] {
                stage.steer(split(led, None));
                assert_eq!(stage.reached(30), [(led, 30)]);
            }
        } else {
            let raw = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_NET_RAW).unwrap();
            assert!(!raw, "supd may take it back");
        }
    });
}

#[test]
fn a_copy_that_leaked_keeps_no_slot_alive_and_shifts_nobody() {
    both("slots_hostile::a_copy_that_leaked_keeps_no_slot_alive_and_shifts_nobody", || {
        let mut stage = stage(3);
        let leaked = stage.worker(1);
        stage.listener.give_back(1);
        for active in [2, 0] {
            stage.steer(split(active, None));
            assert_eq!(stage.reached(30), [(active, 30)]);
        }
        stage.lend(1);
        // Whoever has the copy listens again with it; and again once a slot has come that there was none of.
        for active in [1, 2, 0, 3, 1, 0] {
            let _ = shutdown(leaked.as_raw_fd(), Shutdown::Both);
            let _ = sockopt::listen(leaked.as_fd(), 64);
            if active == 3 {
                stage.lend(3);
            }
            stage.steer(split(active, None));
            assert_eq!(stage.reached(30), [(active, 30)]);
        }
    });
}

/// Binds and listens as a stranger would, of the same user.
fn stranger(port: u16, reuse: bool) -> Result<OwnedFd, Errno> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    sockopt::set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    sockopt::set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, reuse.into())?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(local(port)))?;
    sockopt::listen(fd.as_fd(), 64)?;
    Ok(fd)
}

#[test]
fn nobody_can_join_a_port_that_has_one_slot() {
    both("slots_hostile::nobody_can_join_a_port_that_has_one_slot", || {
        let port = free_port();
        let mut stage = Stage::open(&socket(tcp("127.0.0.1", port)));
        let nobody = || [false, true].map(|reuse| stranger(port, reuse).err());
        assert_eq!(nobody(), [Some(Errno::EADDRINUSE); 2]);
        stage.listener.refuse().unwrap();
        assert_eq!(nobody(), [Some(Errno::EADDRINUSE); 2]);
        stage.listener.listen().unwrap();
        assert_eq!(nobody(), [Some(Errno::EADDRINUSE); 2]);

        // With the second slot whoever is of the same user can, and gets nobody.
        stage.lend(0);
        stage.lend(1);
        assert_eq!(stranger(port, false).err(), Some(Errno::EADDRINUSE));
        let joined = stranger(port, true).unwrap();
        for active in [1, 0] {
            stage.steer(split(active, None));
            assert_eq!(stage.reached(60), [(active, 60)]);
        }
        drop(joined);
        // Where slots are closed, a port that begins anew with one is closed to all again.
        stage.listener.give_back(1);
        stage.listener.refuse().unwrap();
        stage.listener.listen().unwrap();
        if stage.listener.slots().count() == 1 {
            assert_eq!([false, true].map(|reuse| stranger(port, reuse).err()), [Some(Errno::EADDRINUSE); 2]);
        }
        assert_eq!(stage.reached(30), [(0, 30)]);
    });
}

#[test]
fn a_second_slot_that_cannot_be_had_leaves_all_as_it_was() {
    both("slots_hostile::a_second_slot_that_cannot_be_had_leaves_all_as_it_was", || {
        let port = free_port();
        let mut stage = Stage::open(&socket(tcp("127.0.0.1", port)));
        stage.lend(0);
        // A worker that took SO_REUSEADDR away from the port is no reason; one that took the port's
        // other half is: a device that is not there any more can stand for it.
        let mut gone = Socket::clone(&stage.listener.socket);
        gone.options.bind_to_device = Some("nosuch0".into());
        let right = std::mem::replace(&mut stage.listener.socket, Arc::new(gone));
        let error = stage.listener.lend(1, &mut Steering::default()).unwrap_err().to_string();
        assert!(error.contains("nosuch0"), "{error}");
        stage.listener.socket = right;
        assert_eq!(stage.listener.slots().count(), 1);
        assert_eq!(stranger(port, true).err(), Some(Errno::EADDRINUSE));
        assert_eq!(stage.reached(20), [(0, 20)]);
        stage.lend(1);
        stage.steer(split(1, None));
        assert_eq!(stage.reached(20), [(1, 20)]);
    });
}

#[test]
fn whoever_is_lent_a_slot_has_nothing_of_who_had_it_before() {
    both("slots_hostile::whoever_is_lent_a_slot_has_nothing_of_who_had_it_before", || {
        let mut stage = stage(4);
        for slot in [1, 2] {
            // The last of the row is led to, and is not to move.
            stage.steer(split(3, None));
            let before = stage.worker(slot);
            sockopt::set(before.as_fd(), libc::SOL_IP, libc::IP_MINTTL, 255).unwrap();
            if slot == 2 {
                // Twice: what listens then says the end of each connection at once.
                for _ in 0..2 {
                    let _ = shutdown(before.as_raw_fd(), Shutdown::Both);
                }
            }
            stage.listener.give_back(slot);
            drop(before);
            stage.lend(slot);
            assert_eq!(stage.reached(30), [(3, 30)], "whatever became of another slot");
            let after = stage.worker(slot);
            assert_eq!(sockopt::get(after.as_fd(), libc::SOL_IP, libc::IP_MINTTL), Ok(0));
            for led in [slot, 0, 3] {
                stage.steer(split(led, None));
                assert_eq!(stage.reached(30), [(led, 30)]);
            }
        }
    });
}

/// A candidate does it while it starts, and fails; nobody has looked when the next one gets its slot.
#[test]
fn whoever_gets_the_slot_of_one_that_listened_again_receives_nothing_that_is_not_led_there() {
    both(
        "slots_hostile::whoever_gets_the_slot_of_one_that_listened_again_receives_nothing_that_is_not_led_there",
        || {
            for (gone, led) in [(0, 2), (1, 2), (2, 0), (1, 0)] {
                let mut stage = stage(3);
                stage.steer(split(led, None));
                let before = stage.listener.socket_of(gone);
                listens_again(&stage, gone);
                stage.listener.give_back(gone);
                stage.lend(gone);
                assert_ne!(stage.listener.socket_of(gone), before, "nothing is shown then");
                assert_eq!(stage.reached(30), [(led, 30)], "{gone} has listened again, and nobody steers");
                for led in [led, gone, 0, 1, 2] {
                    stage.steer(split(led, None));
                    assert_eq!(stage.reached(30), [(led, 30)], "{gone} has listened again");
                }
            }
        },
    );
}

/// Two that were shut down and listen again are told apart, and what waits in all others still waits.
#[test]
fn who_was_not_shut_down_is_left_alone_where_others_were() {
    both("slots_hostile::who_was_not_shut_down_is_left_alone_where_others_were", || {
        let cases: [(u8, Slot, &[Slot]); 7] = [
            (3, 1, &[1, 2]),
            (3, 2, &[1, 2]),
            (3, 2, &[2, 1]),
            (3, 0, &[2, 0]),
            (4, 1, &[1, 2]),
            (4, 0, &[2, 1]),
            (5, 3, &[2, 4, 3]),
        ];
        for (slots, led, again) in cases {
            let mut stage = stage(slots);
            let bystanders: Vec<Slot> =
                (0..slots).filter(|slot| !again.contains(slot) && *slot != led).collect();
            let mut clients = Vec::new();
            for slot in &bystanders {
                stage.steer(split(*slot, None));
                clients.push(TcpStream::connect_timeout(&place(stage.listener.address()), LONG).unwrap());
                until("it is queued", || stage.queue(*slot) == 1);
            }
            stage.steer(split(led, None));
            again.iter().for_each(|slot| listens_again(&stage, *slot));
            stage.steer(split(led, None));
            for slot in &bystanders {
                assert_eq!(stage.queue(*slot), 1, "{slot} of {slots} was touched for {again:?}");
                let worker: TcpListener = stage.worker(*slot).into();
                drop(worker.accept().unwrap());
            }
            for led in 0..slots {
                stage.steer(split(led, None));
                assert_eq!(stage.reached(30), [(led, 30)], "{again:?} of {slots} listened again");
            }
        }
    });
}
