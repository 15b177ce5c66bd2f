//! Whom the kernel sends to a slot, and what waits where nobody accepts.

use super::slots::{Stage, both, place, split};
use super::*;
use crate::os::sockopt;
use crate::os::steering::Mechanism;
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsFd, AsRawFd};

fn clients(stage: &Stage, count: u32) -> Vec<TcpStream> {
    let place = place(stage.listener.address());
    (0..count).map(|_| TcpStream::connect_timeout(&place, LONG).unwrap()).collect()
}

#[test]
fn whom_the_kernel_sends_is_counted_for_each_listener_and_slot() {
    both("slots::whom_the_kernel_sends_is_counted_for_each_listener_and_slot", || {
        let mut stage = Stage::with_slots(&with(tcp("127.0.0.1", free_port()), |_| {}), 2);
        // Another listener of the same unit.
        let other = stage.steering.group(false);
        let ebpf = stage.listener.mechanism() == Mechanism::Ebpf;
        let sent = |stage: &Stage, slot| stage.listener.waiting(slot, &stage.steering).unwrap().sent;
        stage.steer(split(0, None));
        assert_eq!(sent(&stage, 0), ebpf.then_some(0));
        let waiting = clients(&stage, 3);
        stage.steer(split(1, None));
        assert_eq!(stage.reached(2), [(0, 3), (1, 2)]);
        let now = [sent(&stage, 0), sent(&stage, 1), stage.steering.sent(&other, 0)];
        assert_eq!(now, [ebpf.then_some(3), ebpf.then_some(2), ebpf.then_some(0)]);
        drop(waiting);
    });
}

#[test]
fn what_waits_where_nobody_accepts_moves_and_the_slot_is_as_new() {
    both("slots::what_waits_where_nobody_accepts_moves_and_the_slot_is_as_new", || {
        let mut stage = Stage::with_slots(&with(tcp("127.0.0.1", free_port()), |_| {}), 2);
        stage.steer(split(1, None));
        let waiting = clients(&stage, 3);
        until("all are queued", || stage.queue(1) == 3);
        stage.listener.pass_on(1).unwrap();
        assert_eq!(stage.queue(1), 3, "clients are led there: nothing may be shut down");
        stage.steer(split(0, None));
        stage.listener.pass_on(1).unwrap();
        match stage.listener.mechanism() {
            Mechanism::Ebpf => assert_eq!((stage.queue(0), stage.queue(1)), (3, 0)),
            // The kernel would reset them.
            _ => assert_eq!((stage.queue(0), stage.queue(1)), (0, 3)),
        }
        assert!(!stage.listener.is_shut_down());
        let worker: TcpListener = stage.worker(u8::from(stage.queue(1) == 3)).into();
        (0..3).for_each(|_| drop(worker.accept().unwrap()));
        stage.steer(split(1, None));
        assert_eq!(stage.reached(20), [(1, 20)]);
        drop(waiting);
    });
}

#[test]
fn a_worker_that_leaves_the_kernels_choice_is_led_back_by_the_next_switch() {
    both("slots::a_worker_that_leaves_the_kernels_choice_is_led_back_by_the_next_switch", || {
        let mut stage = Stage::with_slots(&with(tcp("127.0.0.1", free_port()), |_| {}), 2);
        stage.steer(split(0, None));
        // Alone on the port, it would be found before the group is.
        sockopt::set(stage.worker(1).as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 0).unwrap();
        for slot in [1, 0, 1] {
            stage.steer(split(slot, None));
            assert_eq!(stage.reached(40), [(slot, 40)]);
        }
        if stage.listener.mechanism() != Mechanism::Ebpf {
            return;
        }
        // Before supd looked: the kernel has taken it out of the map by itself.
        let worker = stage.worker(0);
        shutdown(worker.as_raw_fd(), Shutdown::Both).unwrap();
        sockopt::listen(worker.as_fd(), 100).unwrap();
        for slot in [0, 1, 0] {
            stage.steer(split(slot, None));
            assert_eq!(stage.reached(40), [(slot, 40)]);
        }
        // Who does not listen at all is refused, and nothing has changed.
        shutdown(stage.worker(1).as_raw_fd(), Shutdown::Both).unwrap();
        stage.steering.set(split(1, None));
        stage.listener.steer(&stage.steering).unwrap_err();
        assert_eq!(stage.reached(40), [(0, 40)]);
    });
}
