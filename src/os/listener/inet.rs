//! TCP and UDP.

use super::bind_error::{Why, in_use};
use super::{filter, options};
use crate::model::settings::{BindIpv6Only, SocketOptions};
use crate::model::{Address, SocketKind};
use crate::os::Error;
use crate::os::sockopt;
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
    let place = SockaddrStorage::from(SocketAddr::new(host, port));
    socket::bind(fd.as_raw_fd(), &place)
        .and_then(|()| if kind == SocketKind::Stream { reserve(fd.as_fd()) } else { Ok(()) })
        .map_err(|errno| in_use(&address, Error::new("bind", &address, errno)))?;
    Ok((fd, address))
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

/// Connections are refused from here on and those still in the queue are reset; the port stays ours.
///
/// Not by shutdown(2): on a socket that does not listen (any more) that leaves a mark which is
/// inherited by every connection accepted after a later listen(2), and each is reset at its first byte.
pub(super) fn refuse(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    sockopt::set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 0)?;
    sockopt::disconnect(fd)
}

/// Listens, again if need be. SO_REUSEADDR comes first: connections inherit it, and one that lacks it
/// keeps the port from the next supd until it ends.
pub(super) fn listen(fd: BorrowedFd<'_>, backlog: u32) -> Result<(), Errno> {
    if sockopt::get(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == 0 {
        // Workers that called shutdown(2), twice, have left that mark.
        sockopt::disconnect(fd)?;
    }
    sockopt::set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    sockopt::listen(fd, backlog).inspect_err(|_| {
        let _ = sockopt::set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 0);
    })
}
