//! Workers that report over their generation's notify socket.

use super::{Bench, NOBODY, as_user, end, outcome, ready, spawn};
use crate::model::{Signal, WorkerExit};
use crate::os::alone::{alone, root_or_skip};
use crate::os::members::{Relation, relation};
use crate::os::notify::{Datagram, NotifySocket, Received, make_folder};
use crate::os::pidfd::PidFd;
use crate::os::process::adopt_orphans;
use crate::os::spawn::environment::{Environment, PATH};
use crate::os::spawn::{Account, Plan};
use std::os::fd::AsFd;

/// Says its name from the worker, from a child, from a child in a session of its own, and from one
/// whose parents are gone; each of these then waits to be told to end.
const WORKER: &str = "
import os, socket, time
def say(name):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.sendto(f'STATUS={name}'.encode(), os.environ['NOTIFY_SOCKET'])
    time.sleep(600)
if os.fork() == 0: say('child')
if os.fork() == 0:
    os.setsid()
    say('session')
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: say('orphan')
    os._exit(0)
say('worker')
";

fn next(socket: &NotifySocket) -> Datagram {
    ready(socket.as_fd());
    match socket.receive().unwrap() {
        Received::Datagram(datagram) => datagram,
        other => panic!("{other:?}"),
    }
}

fn plan<'a>(bench: &'a Bench, socket: &NotifySocket, account: Account, arguments: &[&str]) -> Plan<'a> {
    let ours = vec![("NOTIFY_SOCKET".into(), socket.path().into())];
    let environment =
        Environment { defaults: vec![("PATH".into(), PATH.into())], ours, ..Environment::default() };
    Plan {
        environment,
        account,
        notify_socket: Some(socket.path().into()),
        ..bench.plan("python3", arguments)
    }
}

#[test]
fn everyone_in_the_generation_is_known() {
    alone("os::spawn::tests::notify::everyone_in_the_generation_is_known", || {
        adopt_orphans().unwrap();
        let bench = Bench::new();
        make_folder(&bench.path("notify")).unwrap();
        let socket = NotifySocket::bind(&bench.path("notify/web.8")).unwrap();
        // As nobody where that can be done: then the file must have been given away.
        let root = nix::unistd::geteuid().is_root();
        let account = if root { as_user("nobody") } else { Account::default() };
        let mut spawned = spawn(&plan(&bench, &socket, account, &["-c", WORKER])).unwrap();
        assert_eq!(outcome(&mut spawned.outcome), Ok(()));
        let worker = spawned.process.pid();
        // Nobody is ended before all have been looked at: an end makes orphans of others.
        let mut speakers = Vec::new();
        for _ in 0..4 {
            let datagram = next(&socket);
            let found = relation(datagram.pid, datagram.process.as_ref(), &[worker], &[worker]);
            let wanted = match datagram.text.as_str() {
                "STATUS=worker" => Relation::Worker(worker),
                "STATUS=child" | "STATUS=session" => Relation::Descendant(worker),
                // It may still have had its parent when it was looked at.
                "STATUS=orphan" if matches!(found, Relation::Descendant(_)) => found,
                "STATUS=orphan" => Relation::Orphan(datagram.pid),
                other => panic!("{other}"),
            };
            assert_eq!(found, wanted, "{}", datagram.text);
            assert_eq!(datagram.uid, if root { NOBODY } else { nix::unistd::getuid().as_raw() });
            speakers.extend(datagram.process.or_else(|| PidFd::open(datagram.pid).ok()));
        }
        assert_eq!(speakers.len(), 4);
        for process in speakers {
            process.send(Signal::KILL).unwrap();
        }
        assert_eq!(end(&spawned.process), WorkerExit::Killed { signal: Signal::KILL, core: false });
        String::new()
    });
}

#[test]
fn last_words_are_heard_and_their_speaker_is_gone() {
    let bench = Bench::new();
    make_folder(&bench.path("notify")).unwrap();
    let socket = NotifySocket::bind(&bench.path("notify/web.8")).unwrap();
    let line = "import os,socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\
                .sendto(b'ERRNO=5', os.environ['NOTIFY_SOCKET'])";
    let mut spawned = spawn(&plan(&bench, &socket, Account::default(), &["-c", line])).unwrap();
    assert_eq!(outcome(&mut spawned.outcome), Ok(()));
    assert_eq!(end(&spawned.process), WorkerExit::Code(0));
    let datagram = next(&socket);
    assert_eq!((datagram.pid, datagram.text.as_str()), (spawned.process.pid(), "ERRNO=5"));
    // Reaped by now: neither as a worker, nor by number.
    assert_eq!(relation(datagram.pid, datagram.process.as_ref(), &[], &[datagram.pid]), Relation::Gone);
}

#[test]
fn another_user_cannot_speak() {
    if !root_or_skip("another_user_cannot_speak") {
        return;
    }
    let bench = Bench::new();
    make_folder(&bench.path("notify")).unwrap();
    let socket = NotifySocket::bind(&bench.path("notify/web.8")).unwrap();
    let line = "import os,socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\
                .sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])";
    let stranger = Plan { notify_socket: None, ..plan(&bench, &socket, as_user("nobody"), &["-c", line]) };
    assert_eq!(super::run(&stranger), Ok(WorkerExit::Code(1)));
    assert!(bench.output().contains("Permission denied"), "{}", bench.output());
    assert!(matches!(socket.receive().unwrap(), Received::Nothing));
}
