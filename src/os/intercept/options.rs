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

/// Sets on `ours` what `theirs` has otherwise than a socket that was just made. What the kernel does not
/// let us set stays as it is: the server could not know either.
///
/// # Errors
/// There is no room for one more descriptor, to compare with.
pub fn carry_over(theirs: BorrowedFd<'_>, ours: BorrowedFd<'_>) -> Result<(), Errno> {
    let of = |name| sockopt::get(theirs, libc::SOL_SOCKET, name);
    let (domain, kind) = (of(libc::SO_DOMAIN)?, of(libc::SO_TYPE)?);
    let fresh = sockopt::make(domain, kind, of(libc::SO_PROTOCOL)?)?;
    for (level, name) in CARRIED {
        let untouched = sockopt::get(fresh.as_fd(), level, name);
        match sockopt::get(theirs, level, name) {
            Ok(value) if untouched != Ok(value) => drop(sockopt::set(ours, level, name, value)),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
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
