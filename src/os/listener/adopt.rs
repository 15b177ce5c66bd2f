//! A descriptor that supd inherited, checked against the unit file before anything relies on it.

use super::bind_error::Why;
use super::member::Member;
use super::occupant::FileId;
use super::place::Place;
use super::{Listener, Traffic, inet, mismatch, options};
use crate::model::settings::{BindIpv6Only, Socket};
use crate::model::{Address, SocketKind};
use crate::os::sock_diag::{self, BoundFile};
use crate::os::{Error, sockopt, steering};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{self, SockaddrLike, SockaddrStorage, UnixAddr};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::geteuid;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// linux/in.h: newer Go, and systemd with SocketProtocol=mptcp, listen so; to clients it is TCP.
const MPTCP: i32 = 262;

/// Whose a socket was that supd did not bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// Whoever started supd handed it over.
    Handed,
    /// A server has it that goes on running.
    Running,
}

/// Takes it in, if it is what `socket` says.
pub(super) fn adopt(socket: &Arc<Socket>, fd: OwnedFd, folder: &Path, from: From) -> Result<Listener, Why> {
    match (take_in(socket, fd, folder, from), from) {
        (Err(Why::Mismatch(found)), From::Running) => Err(Why::Otherwise(found)),
        (taken, _) => taken,
    }
}

fn take_in(socket: &Arc<Socket>, fd: OwnedFd, folder: &Path, from: From) -> Result<Listener, Why> {
    let failed = |errno| Error::new("take over", &socket.address, errno);
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(failed)?;
    let (place, bound) = look_at(socket, fd.as_fd(), folder)?;
    let mut cuts = Vec::new();
    options::at_any_time(fd.as_fd(), &bound, &socket.options, &mut cuts)?;
    let traffic = if is_open(fd.as_fd(), &bound) { Traffic::Open } else { Traffic::Refused };
    let borrowed = from == From::Running;
    if borrowed && bound.listens() && traffic == Traffic::Open {
        // Of what was handed over the queue is the .socket unit's to say.
        sockopt::listen(fd.as_fd(), socket.options.backlog).map_err(failed)?;
    }
    let private_folder = folder.into();
    let notes = Vec::new();
    let socket = socket.clone();
    let shared = steering::shared(&bound).or_else(|| not_ours(fd.as_fd(), place.as_ref(), from));
    Ok(Listener {
        socket,
        bound,
        private_folder,
        traffic,
        notes,
        cuts,
        troubles: Vec::new(),
        shared,
        borrowed,
        park: None,
        front: Member::new(place, fd),
        further: Vec::new(),
        group: None,
    })
}

/// Another slot of it. A path has names of its own.
pub(super) fn adopt_member(socket: &Socket, fd: BorrowedFd<'_>, folder: &Path) -> Result<Option<Place>, Why> {
    look_at(socket, fd, folder).map(|(place, _)| place)
}

/// Its names in the file system, and where it is bound: if it is what the unit file says.
fn look_at(socket: &Socket, fd: BorrowedFd<'_>, folder: &Path) -> Result<(Option<Place>, Address), Why> {
    let failed = |errno| Error::new("take over", &socket.address, errno);
    let mut bound = socket.address.clone();
    let place = match &socket.address {
        Address::Fifo { path } => {
            let found = fstat(fd).map_err(failed)?;
            if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFIFO {
                return Err(mismatch("no FIFO"));
            }
            let id = FileId::of(&found);
            let name = socket.name.as_str();
            match Place::resume(path, folder, name, SFlag::S_IFIFO, |found, _| found == id) {
                Some(place) => Some(place),
                None => Some(Place::adopt(path, folder, name, SFlag::S_IFIFO, id, true).map_err(another)?),
            }
        }
        Address::Ip { kind, host, port } => {
            is_kind(fd, *kind)?;
            bound = ip(fd, socket, *kind, *host, *port)?;
            None
        }
        Address::Unix { kind, path } => {
            is_kind(fd, *kind)?;
            Some(path_of(fd, socket, path, folder)?)
        }
        Address::Abstract { kind, name } => {
            is_kind(fd, *kind)?;
            let found = unix_name(fd)?;
            if found.as_abstract() != Some(name.as_bytes()) {
                return Err(mismatch(format!("a socket of another name, {found}")));
            }
            None
        }
    };
    Ok((place, bound))
}

/// Why it can have no second slot, though another of its kind could.
fn not_ours(fd: BorrowedFd<'_>, place: Option<&Place>, from: From) -> Option<&'static str> {
    let said = |handed, taken| Some(if from == From::Handed { handed } else { taken });
    if let Some(place) = place {
        let handed = "its path belongs to whoever handed it to supd";
        return if place.is_theirs() {
            said(handed, "its path was made by a server that runs")
        } else {
            None
        };
    }
    let is = |name, value| sockopt::get(fd, libc::SOL_SOCKET, name) == Ok(value);
    if is(libc::SO_PROTOCOL, MPTCP) {
        return said("it was handed to supd as an MPTCP socket", "it was taken as an MPTCP socket");
    }
    if !is(libc::SO_REUSEPORT, 1) {
        return said(
            "it was handed to supd without SO_REUSEPORT (ReusePort=true in the .socket unit)",
            "it was taken from a server that bound it without SO_REUSEPORT",
        );
    }
    let ours = fstat(fd).is_ok_and(|found| found.st_uid == geteuid().as_raw());
    if ours { None } else { said("it was handed to supd by another user", "it was taken from another user") }
}

/// Whether a socket is bound to this address, at a glance: the rest is looked at when it is taken in.
pub(in crate::os) fn is_at(fd: BorrowedFd<'_>, address: &Address) -> bool {
    match address {
        Address::Ip { kind, host, port } => {
            is_kind(fd, *kind).is_ok() && ip_name(fd) == Some(SocketAddr::new(*host, *port))
        }
        Address::Unix { kind, path } => {
            is_kind(fd, *kind).is_ok() && FileId::at(path).is_some_and(|id| is_file(fd, id, path))
        }
        Address::Abstract { kind, name } => {
            let found = || unix_name(fd).ok()?.as_abstract().map(|found| found == name.as_bytes());
            is_kind(fd, *kind).is_ok() && found() == Some(true)
        }
        Address::Fifo { .. } => false,
    }
}

/// Whether a UNIX socket is bound to this file, which has this path.
fn is_file(fd: BorrowedFd<'_>, id: FileId, path: &Path) -> bool {
    let name = unix_name(fd).ok();
    let same_name = name.as_ref().and_then(UnixAddr::path) == Some(path);
    file_of(fd).map_or(same_name, |file| id.is_file(file, same_name))
}

/// The file that a UNIX socket is bound to, where the kernel tells it.
fn file_of(fd: BorrowedFd<'_>) -> Option<BoundFile> {
    let inode = fstat(fd).ok().and_then(|found| u32::try_from(found.st_ino).ok())?;
    sock_diag::unix_by_inode(inode).ok()?.file
}

/// Sockets that never listen are open as soon as they are bound.
fn is_open(fd: BorrowedFd<'_>, bound: &Address) -> bool {
    !bound.listens() || sockopt::get(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Ok(1)
}

fn another(error: Error) -> Why {
    if error.errno == nix::errno::Errno::ESTALE {
        mismatch("another one than what is at that path now")
    } else {
        error.into()
    }
}

fn is_kind(fd: BorrowedFd<'_>, kind: SocketKind) -> Result<(), Why> {
    let (wanted, name) = match kind {
        SocketKind::Stream => (libc::SOCK_STREAM, "no stream socket"),
        SocketKind::Datagram => (libc::SOCK_DGRAM, "no datagram socket"),
        SocketKind::SequentialPacket => (libc::SOCK_SEQPACKET, "no sequential-packet socket"),
    };
    match sockopt::get(fd, libc::SOL_SOCKET, libc::SO_TYPE) {
        Ok(found) if found == wanted => Ok(()),
        Ok(_) => Err(mismatch(name)),
        Err(_) => Err(mismatch("no socket")),
    }
}

/// Where the socket is bound, if that is what the unit file means.
fn ip(
    fd: BorrowedFd<'_>,
    socket: &Socket,
    kind: SocketKind,
    host: IpAddr,
    port: u16,
) -> Result<Address, Why> {
    let Ok(protocol) = sockopt::get(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) else {
        return Err(mismatch("a socket without a protocol"));
    };
    let fits = match kind {
        SocketKind::Stream => matches!(protocol, libc::IPPROTO_TCP | MPTCP),
        SocketKind::Datagram => protocol == libc::IPPROTO_UDP,
        SocketKind::SequentialPacket => false,
    };
    let Some(found) = ip_name(fd).filter(|_| fits) else {
        return Err(mismatch("no TCP or UDP socket as it should be"));
    };
    let fallback = host == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && found.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        && !inet::has_ipv6();
    if found.port() != port || (found.ip() != host && !fallback) {
        return Err(mismatch(format!("bound to {found}")));
    }
    let v6_only = sockopt::get(fd, libc::SOL_IPV6, libc::IPV6_V6ONLY) == Ok(1);
    match socket.options.bind_ipv6_only {
        BindIpv6Only::Both if found.is_ipv6() && v6_only => Err(mismatch("bound for IPv6 only")),
        BindIpv6Only::Ipv6Only if found.is_ipv6() && !v6_only => Err(mismatch("bound for IPv4 as well")),
        _ => Ok(Address::Ip { kind, host: found.ip(), port }),
    }
}

fn ip_name(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    let name: SockaddrStorage = socket::getsockname(fd.as_raw_fd()).ok()?;
    match (name.as_sockaddr_in(), name.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::new(v4.ip().into(), v4.port())),
        (None, Some(v6)) => Some(SocketAddr::new(v6.ip().into(), v6.port())),
        (None, None) => None,
    }
}

fn unix_name(fd: BorrowedFd<'_>) -> Result<UnixAddr, Why> {
    let name: SockaddrStorage = socket::getsockname(fd.as_raw_fd())
        .map_err(|errno| Error::new("ask", "a socket for its name", errno))?;
    let is_unix = name.family() == Some(socket::AddressFamily::Unix);
    name.as_unix_addr().copied().filter(|_| is_unix).ok_or_else(|| mismatch("no UNIX socket"))
}

/// The socket's names in the file system: those of a supd before us, or the public one of a stranger.
fn path_of(fd: BorrowedFd<'_>, socket: &Socket, public: &Path, folder: &Path) -> Result<Place, Why> {
    let name = unix_name(fd)?;
    let Some(bound) = name.path() else { return Err(mismatch("bound to no path")) };
    let file = file_of(fd);
    // Where the kernel does not tell the file, its name alone has to do.
    let is_ours =
        |id: FileId, path: &Path| file.map_or(bound == path, |file| id.is_file(file, bound == path));

    let name = socket.name.as_str();
    if let Some(place) = Place::resume(public, folder, name, SFlag::S_IFSOCK, is_ours) {
        return Ok(place);
    }
    match FileId::at(public) {
        Some(id) if is_ours(id, public) => {
            Place::adopt(public, folder, name, SFlag::S_IFSOCK, id, true).map_err(another)
        }
        Some(_) => Err(mismatch("another socket than what is at that path now")),
        None if bound == public => Err(mismatch("a socket whose path has been removed")),
        None => Err(mismatch(format!("bound to {}", bound.display()))),
    }
}
