//! What a server set on its socket before bind(2), carried over to the one it gets.

use crate::os::sockopt;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use std::os::fd::{AsFd, BorrowedFd};

/// Options that are plain numbers and that servers set before they bind. Not among them: what decides who
/// may share the port (SO_REUSEADDR, SO_REUSEPORT), which is supd's affair; the buffers, whose
/// numbers the kernel doubles at each reading; and IPV6_V6ONLY, which nobody can set any more.
const CARRIED: [(i32, i32); 15] = [
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
];

/// Level, name and value of each that a socket has otherwise than one that was just made.
///
/// # Errors
/// There is no room for one more descriptor, to compare with.
pub(super) fn changed(socket: BorrowedFd<'_>) -> Result<Vec<(i32, i32, i32)>, Errno> {
    let of = |name| sockopt::get(socket, libc::SOL_SOCKET, name);
    let fresh = sockopt::make(of(libc::SO_DOMAIN)?, of(libc::SO_TYPE)?, of(libc::SO_PROTOCOL)?)?;
    let differs = |(level, name): (i32, i32)| {
        let value = sockopt::get(socket, level, name).ok()?;
        (sockopt::get(fresh.as_fd(), level, name) != Ok(value)).then_some((level, name, value))
    };
    Ok(CARRIED.into_iter().filter_map(differs).collect())
}

/// Sets them on another. What the kernel does not let us set stays as it is: the server could not know
/// either.
pub fn carry_over(options: &[(i32, i32, i32)], ours: BorrowedFd<'_>) {
    for (level, name, value) in options {
        let _ = sockopt::set(ours, *level, *name, *value);
    }
}

/// O_NONBLOCK of the open file, which all workers of a generation share.
///
/// # Errors
/// What fcntl(2) says.
pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    let mut wanted = flags;
    wanted.set(OFlag::O_NONBLOCK, nonblocking);
    if wanted != flags {
        fcntl(fd, FcntlArg::F_SETFL(wanted))?;
    }
    Ok(())
}

/// Whether it listens.
#[must_use]
pub fn is_listening(ours: BorrowedFd<'_>) -> bool {
    sockopt::get(ours, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Ok(1)
}

/// So many are to be able to wait there, which listens already: as many as before, if the kernel does not
/// like it.
pub fn lengthen(ours: BorrowedFd<'_>, backlog: u32) {
    let _ = sockopt::listen(ours, backlog);
}
