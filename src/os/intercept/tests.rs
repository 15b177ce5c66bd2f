//! Real calls of a child that is asked about.
#![allow(unsafe_code)]

use super::*;
use crate::os::ancillary::{receive_stream, send_stream};
use crate::os::fork::{Forked, fork, tests::finish};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// A child that runs `body` under the filter, and what it asks by.
fn asked(body: impl FnOnce() -> String) -> (Forked, Calls) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = fork("a test", |reporter| {
        let asks = install().expect("no filter that asks is in force here");
        send_stream(&theirs, b"+", Some(asks.as_fd())).unwrap();
        drop(asks);
        reporter.say(body().as_bytes());
    })
    .unwrap();
    let read = receive_stream(&ours, &mut [0; 1]).unwrap();
    (child, Calls::new(read.descriptors.into_iter().next().unwrap()))
}

fn next(calls: &Calls) -> Option<Call> {
    loop {
        let mut entry = [PollFd::new(calls.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut entry, PollTimeout::from(20_000u16)), Ok(1), "no call came");
        match calls.next().unwrap() {
            Some(call) => return Some(call),
            None if calls.is_over() => return None,
            None => {}
        }
    }
}

fn facts(reader: &Reader, call: &Call) -> Result<Facts, Errno> {
    facts_among(&Ours::default(), reader, call)
}

fn facts_among(ours: &Ours, reader: &Reader, call: &Call) -> Result<Facts, Errno> {
    reader.ask(call.id, call, ours).unwrap();
    Ok(answer(reader, call)?.expect("facts were asked for"))
}

fn answer(reader: &Reader, call: &Call) -> Result<Option<Facts>, Errno> {
    let mut entry = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut entry, PollTimeout::from(20_000u16)), Ok(1), "no answer came");
    let (tag, found) = reader.answer().unwrap().unwrap();
    assert_eq!(tag, call.id);
    found
}

fn said(child: Forked) -> String {
    String::from_utf8(finish(child).0).unwrap()
}

#[test]
fn a_server_serves_through_our_socket() {
    let ours = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ours.local_addr().unwrap();
    let (child, calls) = asked(|| {
        let listener = TcpListener::bind(address).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"hello").unwrap();
        listener.local_addr().unwrap().to_string()
    });
    let reader = Reader::begin().unwrap();
    let bind = next(&calls).unwrap();
    let What::Bind { fd, .. } = bind.what else { panic!("{bind:?}") };
    let found = facts(&reader, &bind).unwrap();
    let wanted = crate::model::binding::Place::Ip(address.ip(), address.port());
    assert_eq!(crate::codec::sockaddr::read(&found.address), wanted);
    assert!(found.takes_its_address() && !found.bound && !found.elsewhere && !found.apart);
    assert!(!found.means(&ours) && calls.waits(&bind));
    assert_eq!(found.kind(), Some(crate::model::SocketKind::Stream));
    assert!(found.close_on_exec && !found.nonblocking, "{found:?}");
    calls.put(&bind, ours.as_fd(), fd, true).unwrap();
    calls.finish(&bind, Answer::Done).unwrap();
    assert!(!calls.waits(&bind));

    let listen = next(&calls).unwrap();
    let What::Listen { backlog, .. } = listen.what else { panic!("{listen:?}") };
    assert!(facts(&reader, &listen).unwrap().means(&ours) && backlog > 0);
    calls.finish(&listen, Answer::Done).unwrap();
    let mut text = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    assert_eq!(said(child), address.to_string());
    assert_eq!(next(&calls), None, "nobody is left to ask");
}

#[test]
fn what_is_not_ours_the_kernel_does() {
    let (child, calls) =
        asked(|| TcpListener::bind("127.0.0.1:0").map(|it| it.local_addr()).is_ok().to_string());
    while let Some(call) = next(&calls) {
        calls.finish(&call, Answer::Continue).unwrap();
    }
    assert_eq!(said(child), "true");
}

#[test]
fn a_refusal_is_the_workers_errno() {
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let (child, calls) =
        asked(|| TcpListener::bind(address).unwrap_err().raw_os_error().unwrap().to_string());
    let call = next(&calls).unwrap();
    calls.finish(&call, Answer::Refused(Errno::EADDRINUSE)).unwrap();
    assert_eq!(said(child), libc::EADDRINUSE.to_string());
}

#[test]
fn bad_pointers_and_numbers_cost_nothing() {
    let (child, calls) = asked(|| {
        // SAFETY: the kernel, or who answers in its place, is the one to look at the addresses.
        let bind = |fd: i32, at: usize, length: usize| unsafe {
            libc::syscall(libc::SYS_bind, fd, at, length);
            Errno::last_raw()
        };
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        format!("{} {} {}", bind(fd, 1, 16), bind(fd, usize::MAX - 4, 16), bind(-1, 1, 16))
    });
    let reader = Reader::begin().unwrap();
    for call in std::iter::from_fn(|| next(&calls)) {
        let answer = match call.what {
            What::Bind { .. } => facts(&reader, &call).map_or_else(Answer::Refused, |_| Answer::Continue),
            What::Listen { .. } | What::Foreign => Answer::Continue,
        };
        calls.finish(&call, answer).unwrap();
    }
    assert_eq!(said(child), format!("{0} {0} {1}", libc::EFAULT, libc::EBADF));
}

/// The third entry of x86-64: the arguments there are not what supd takes them for.
#[cfg(target_arch = "x86_64")]
#[test]
fn another_entry_is_not_let_through_unseen() {
    let (child, calls) = asked(|| {
        // SAFETY: no memory is named.
        unsafe { libc::syscall(libc::SYS_bind | 0x4000_0000, -1, 0, 0) };
        Errno::last_raw().to_string()
    });
    let call = next(&calls).unwrap();
    assert_eq!(call.what, What::Foreign);
    calls.finish(&call, Answer::Refused(Errno::EPERM)).unwrap();
    assert_eq!(said(child), libc::EPERM.to_string());
}

#[test]
fn a_worker_that_dies_in_its_call_is_no_error() {
    let (child, calls) = asked(|| TcpListener::bind("127.0.0.1:0").is_ok().to_string());
    let call = next(&calls).unwrap();
    child.process.send(crate::model::Signal::KILL).unwrap();
    let _ = finish(child);
    assert!(!calls.waits(&call));
    let gone = facts(&Reader::begin().unwrap(), &call).unwrap_err();
    assert!(matches!(gone, Errno::ESRCH | Errno::EBADF), "{gone}");
    calls.finish(&call, Answer::Done).unwrap();
    assert_eq!(next(&calls), None);
}

#[test]
fn a_second_filter_that_asks_is_refused() {
    let (child, calls) = asked(|| install().unwrap_err().to_string());
    assert_eq!(next(&calls), None);
    assert!(said(child).starts_with("EBUSY"));
}

#[test]
fn options_set_before_bind_and_the_blocking_mode_are_carried_over() {
    use crate::os::sockopt::{get, set};
    let make = || crate::os::sockopt::make(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let (theirs, ours) = (make(), make());
    set(theirs.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1).unwrap();
    set(ours.as_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1).unwrap();
    carry_over(&options::changed(theirs.as_fd()).unwrap(), ours.as_fd());
    assert_eq!(get(ours.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY), Ok(1));
    let kept = get(ours.as_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE);
    assert_eq!(kept, Ok(1), "what they did not touch is as the unit says");
    for nonblocking in [true, false] {
        set_nonblocking(ours.as_fd(), nonblocking).unwrap();
        let flags = nix::fcntl::fcntl(&ours, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK != 0, nonblocking);
    }
}
