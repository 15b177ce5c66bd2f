//! Slots by path; and switches while clients come.

use super::slots::{Stage, both, split};
use super::*;
use crate::os::steering::{Mechanism, Split, Steering};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU32};

fn path_stage(folder: &tempfile::TempDir) -> Stage {
    let address = Address::Unix { kind: SocketKind::Stream, path: folder.path().join("s") };
    let mut listener = Listener::bind(&socket(address), &folder.path().join("private")).unwrap();
    listener.listen().unwrap();
    Stage { listener, steering: Steering::default() }
}

#[test]
fn a_path_leads_to_one_slot_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut stage = path_stage(&folder);
    stage.lend(0);
    stage.lend(1);
    assert_eq!(stage.listener.mechanism(), Mechanism::Path);
    let served = |stage: &Stage, at: &Path, slot| {
        let client = UnixStream::connect(at).unwrap();
        let worker: UnixListener = stage.worker(slot).into();
        is_served(client, worker.accept().unwrap().0);
    };
    served(&stage, &path, 0);
    // Less than all leads nobody there; its private path leads to it alone.
    stage.steer(split(0, Some((1, "5"))));
    served(&stage, &path, 0);
    let private = stage.listener.private_path(1).unwrap().to_owned();
    served(&stage, &private, 1);
    stage.steer(split(0, Some((1, "100"))));
    served(&stage, &path, 1);
    std::fs::remove_file(&path).unwrap();
    assert!(stage.listener.republish().unwrap());
    served(&stage, &path, 1);
    // Held off: those who wait get to the one that is active then.
    assert!(stage.listener.hold_off().unwrap());
    stage.steer(split(0, None));
    stage.listener.listen().unwrap();
    served(&stage, &path, 0);
    // A queue keeps its slot, for nobody could take it over.
    let waiting = UnixStream::connect(&private).unwrap();
    stage.listener.give_back(1);
    assert_eq!(stage.listener.slots().collect::<Vec<_>>(), [(0, true), (1, false)]);
    let worker: UnixListener = stage.worker(1).into();
    is_served(waiting, worker.accept().unwrap().0);
    stage.steer(split(0, None));
    assert_eq!(stage.listener.slots().collect::<Vec<_>>(), [(0, true)]);
    assert!(!private.exists());
    stage.lend(1);
    stage.listener.close();
    assert_eq!(std::fs::read_dir(folder.path().join("private")).unwrap().count(), 0);
    assert!(!path.exists());
}

#[test]
fn a_path_is_not_led_to_a_slot_that_was_shut_down() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = path_stage(&folder);
    stage.lend(0);
    stage.lend(1);
    let _ = super::super::unix::refuse(stage.worker(1).as_fd());
    stage.steering.set(split(1, None));
    let error = stage.listener.steer(&stage.steering).unwrap_err().to_string();
    assert!(error.contains("shut down"), "{error}");
    assert!(!stage.listener.is_shut_down(), "the one that it leads to is not");
    let client = UnixStream::connect(folder.path().join("s")).unwrap();
    let worker: UnixListener = stage.worker(0).into();
    is_served(client, worker.accept().unwrap().0);
}

/// Accepts until told to stop, and answers each client with its own number.
fn serve(fd: OwnedFd, number: u8, stop: &AtomicBool) {
    let worker: TcpListener = fd.into();
    worker.set_nonblocking(true).unwrap();
    let mut wait = [nix::poll::PollFd::new(worker.as_fd(), nix::poll::PollFlags::POLLIN)];
    while !stop.load(Ordering::Relaxed) {
        nix::poll::poll(&mut wait, 20_u8).unwrap();
        while let Ok((mut client, _)) = worker.accept() {
            let _ = client.write_all(&[number]);
        }
    }
}

#[test]
fn a_thousand_switches_lose_nobody_and_none_begun_after_one_is_astray() {
    both("slots_load::a_thousand_switches_lose_nobody_and_none_begun_after_one_is_astray", || {
        const CLIENTS: u32 = 20_000;
        let port = free_port();
        let mut stage = Stage::with_slots(&with(tcp("127.0.0.1", port), |o| o.backlog = 4_096), 2);
        let (stop, done) = (AtomicBool::new(false), AtomicU32::new(0));
        let (lost, astray) = (AtomicU32::new(0), AtomicU32::new(0));
        // The switch and the number of switches that have returned: even, while none is under way.
        let switches = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for slot in [0, 1] {
                let fd = stage.worker(slot);
                let stop = &stop;
                scope.spawn(move || serve(fd, slot, stop));
            }
            for _ in 0..4 {
                scope.spawn(|| {
                    while done.fetch_add(1, Ordering::Relaxed) < CLIENTS {
                        let before = switches.load(Ordering::SeqCst);
                        let mut answer = [9];
                        let got = connect(port).and_then(|mut client| client.read_exact(&mut answer));
                        let after = switches.load(Ordering::SeqCst);
                        if got.is_err() {
                            lost.fetch_add(1, Ordering::Relaxed);
                        } else if before == after && before % 2 == 0 && u32::from(answer[0]) != before / 2 % 2
                        {
                            astray.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for n in 1..=1_000_u32 {
                let enough = done.load(Ordering::Relaxed) + CLIENTS / 1_000;
                switches.fetch_add(1, Ordering::SeqCst);
                stage.steer(Split { active: u8::from(n % 2 == 1), ..Split::default() });
                switches.fetch_add(1, Ordering::SeqCst);
                until("clients have come", || done.load(Ordering::Relaxed) >= enough.min(CLIENTS));
            }
            until("all have come", || done.load(Ordering::Relaxed) >= CLIENTS + 4);
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!((lost.into_inner(), astray.into_inner()), (0, 0), "lost, astray");
    });
}

#[test]
fn a_second_slot_receives_nobody_on_its_way() {
    both("slots_load::a_second_slot_receives_nobody_on_its_way", || {
        for _ in 0..20 {
            let port = free_port();
            let mut stage = Stage::with_slots(&with(tcp("127.0.0.1", port), |o| o.backlog = 4_096), 1);
            let (stop, done) = (AtomicBool::new(false), AtomicU32::new(0));
            std::thread::scope(|scope| {
                let fd = stage.worker(0);
                scope.spawn(|| serve(fd, 0, &stop));
                for _ in 0..3 {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            // Whoever comes last may find nobody who still serves.
                            let asked = connect(port).and_then(|mut client| {
                                client.set_read_timeout(Some(Duration::from_secs(1)))?;
                                client.read_exact(&mut [0])
                            });
                            drop(asked);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                until("clients come", || done.load(Ordering::Relaxed) > 20);
                stage.lend(1);
                let enough = done.load(Ordering::Relaxed) + 20;
                until("clients come", || done.load(Ordering::Relaxed) > enough || stage.queue(1) > 0);
                stop.store(true, Ordering::Relaxed);
                // Whoever strayed there waits for an answer.
                let strayed: TcpListener = stage.worker(1).into();
                let count = stage.queue(1);
                (0..count).for_each(|_| drop(strayed.accept()));
                assert_eq!(count, 0, "strayed");
            });
        }
    });
}
