//! TCP and UDP.

use super::bind_error::{Why, in_use};
use super::{filter, options};
use crate::model::settings::{BindIpv6Only, SocketOptions};
use crate::model::{Address, SocketKind};
use crate::os::Error;
use crate::os::sockopt;
use crate::os::steering::always;
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A bound socket to which nobody can connect yet, and where it is bound: on a kernel without IPv6 a
/// port alone, which is `[::]`, becomes 0.0.0.0.
pub(super) fn bind(
    address: &Address,
    options: &SocketOptions,
    notes: &mut Vec<String>,
    cuts: &mut Vec<String>,
) -> Result<(OwnedFd, Address), Why> {
    let Address::Ip { kind, mut host, port } = *address else {
        return Err(Error::new("bind", address, Errno::EAFNOSUPPORT).into());
    };
    let fd = match open(host, kind) {
        Err(Errno::EAFNOSUPPORT)
            if host == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                && options.bind_ipv6_only != BindIpv6Only::Ipv6Only =>
        {
            notes.push(format!("this kernel has no IPv6: listening on 0.0.0.0:{port} in the place of [::]"));
            host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            open(host, kind)
        }
        other => other,
    }
    .map_err(|errno| Error::new("open", format!("a socket for {address}"), errno))?;
    let address = Address::Ip { kind, host, port };

    options::before_bind(fd.as_fd(), &address, options)?;
    options::at_any_time(fd.as_fd(), &address, options, cuts)?;
    if kind == SocketKind::Datagram {
        // There is no listen(2) that would begin it: bound is open. So a filter keeps it shut.
        filter::drop_datagrams(fd.as_fd()).map_err(|errno| Error::new("shut", &address, errno))?;
    }
    if kind == SocketKind::Datagram {
        own_group(fd.as_fd()).map_err(|errno| Error::new("prepare", &address, errno))?;
    }
    let place = SockaddrStorage::from(SocketAddr::new(host, port));
    socket::bind(fd.as_raw_fd(), &place)
        .and_then(|()| if kind == SocketKind::Stream { reserve(fd.as_fd()) } else { Ok(()) })
        .map_err(|errno| in_use(&address, Error::new("bind", &address, errno)))?;
    Ok((fd, address))
}

/// A further socket for the address where `first` is bound, which lets it (SO_REUSEPORT). For UDP this
/// is the moment in which it joins the group: whether it drops what comes is said before.
pub(super) fn join(
    first: BorrowedFd<'_>,
    address: &Address,
    options: &SocketOptions,
    refuses: bool,
) -> Result<OwnedFd, Why> {
    let Address::Ip { kind, host, port } = *address else {
        return Err(Error::new("bind", address, Errno::EAFNOSUPPORT).into());
    };
    let failed = |errno| Error::new("bind another slot of", address, errno);
    let fd = open(host, kind).map_err(failed)?;
    options::before_bind(fd.as_fd(), address, options)?;
    if host.is_ipv6() {
        // The default is the machine's, and may have changed since.
        let only = sockopt::get(first, libc::SOL_IPV6, libc::IPV6_V6ONLY).map_err(failed)?;
        sockopt::set(fd.as_fd(), libc::SOL_IPV6, libc::IPV6_V6ONLY, only).map_err(failed)?;
    }
    // The kernel cuts it as it has cut the first, which was told.
    options::at_any_time(fd.as_fd(), address, options, &mut Vec::new())?;
    if kind == SocketKind::Datagram && refuses {
        filter::drop_datagrams(fd.as_fd()).map_err(failed)?;
    }
    sockopt::set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1).map_err(failed)?;
    let place = SockaddrStorage::from(SocketAddr::new(host, port));
    socket::bind(fd.as_raw_fd(), &place).map_err(|errno| in_use(address, failed(errno)))?;
    Ok(fd)
}

/// Gives a socket that does not listen (UDP: is not bound) a SO_REUSEPORT group of its own with a
/// program that chooses it, and leaves SO_REUSEPORT off: the port is as closed to all others as it was.
///
/// Once SO_REUSEPORT is on, a second socket joins that group, and the program is there before it. Were
/// the group made only then, the kernel's hash would lead half of the clients to the second socket
/// until a program is attached. It costs three calls; all else is made when it is needed.
fn own_group(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let switch = |on| sockopt::set(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, on);
    if sockopt::get(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT)? == 1 {
        return Ok(());
    }
    switch(1)?;
    let attached = sockopt::attach_group_filter(fd, &always(0));
    switch(0)?;
    match attached {
        // Locked by a worker (SO_LOCK_FILTER): that is no reason not to listen.
        Err(Errno::EPERM) => Ok(()),
        other => other,
    }
}

fn open(host: IpAddr, kind: SocketKind) -> Result<OwnedFd, Errno> {
    let family = if host.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if kind == SocketKind::Stream { SockType::Stream } else { SockType::Datagram };
    socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)
}

/// Whether this kernel has IPv6 at all.
pub(super) fn has_ipv6() -> bool {
    !matches!(open(IpAddr::V6(Ipv6Addr::UNSPECIFIED), SocketKind::Datagram), Err(Errno::EAFNOSUPPORT))
}

/// Makes a bound TCP port ours alone before it listens.
///
/// With SO_REUSEADDR, which TIME_WAIT makes necessary, any number of sockets may be bound to a port
/// as long as none listens: two units, or a stranger, would both succeed and only the slower one
/// fail, at listen(2). Having listened once, and with SO_REUSEADDR off, the port is closed to all
/// others (net/ipv4/inet_connection_sock.c, inet_csk_get_port). Whoever connects in these few
/// microseconds is reset instead of refused.
fn reserve(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    sockopt::listen(fd, 0)?;
    refuse(fd)
}

/// Whether one that does not listen can, although SO_REUSEPORT is off.
pub(super) fn is_alone(fd: BorrowedFd<'_>) -> bool {
    sockopt::set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).and_then(|()| reserve(fd)).is_ok()
}

/// Connections are refused from here on and those still in the queue are reset; the port stays ours.
///
/// Not by shutdown(2): on a socket that does not listen (any more) that leaves a mark which is
/// inherited by every connection accepted after a later listen(2), and each is reset at its first byte.
pub(super) fn refuse(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    sockopt::set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 0)?;
    sockopt::disconnect(fd)
}

/// Listens, again if need be. SO_REUSEADDR comes first: connections inherit it, and one that lacks it
/// keeps the port from the next supd until it ends. `alone`: it is the only slot, and may get a second.
pub(super) fn listen(fd: BorrowedFd<'_>, backlog: u32, alone: bool) -> Result<(), Errno> {
    if !is_listening(fd)? {
        // Workers that called shutdown(2), twice, have left that mark.
        sockopt::disconnect(fd)?;
        if alone {
            own_group(fd)?;
        }
    }
    sockopt::set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    sockopt::listen(fd, backlog).inspect_err(|_| {
        let _ = sockopt::set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 0);
    })
}

pub(super) fn is_listening(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    sockopt::get(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN).map(|listens| listens != 0)
}
