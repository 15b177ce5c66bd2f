//! UNIX sockets, by path and by abstract name.

use super::bind_error::{Why, in_use};
use super::owner::Owner;
use super::place::Place;
use super::{filter, options};
use crate::model::settings::{Socket, SocketOptions};
use crate::model::{Address, SocketKind};
use crate::os::Error;
use crate::os::sockopt;
use crate::os::sun_path::SunPath;
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, SFlag, fchmod};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// A socket bound under a private name, with its owner and mode, and not public.
pub(super) fn bind_path(
    socket: &Socket,
    path: &Path,
    folder: &Path,
    cuts: &mut Vec<String>,
) -> Result<(OwnedFd, Place), Why> {
    let owner = Owner::look_up(&socket.options)?;
    let kind = socket.address.kind().unwrap_or(SocketKind::Stream);
    let (place, fd) = Place::make(path, folder, socket.name.as_str(), SFlag::S_IFSOCK, &owner, |private| {
        bind_at(private, kind)
    })?;
    options::at_any_time(fd.as_fd(), &socket.address, &socket.options, cuts)?;
    Ok((fd, place))
}

/// A socket that nobody but supd may connect to, at this very path.
pub(super) fn bind_at(path: &Path, kind: SocketKind) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::new("bind", path.display(), errno);
    let fd = open(kind)?;
    // The name takes its mode from the socket (net/unix/af_unix.c, unix_bind_bsd): closed from the
    // first moment, and no umask is changed, which is the whole process's.
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
    let short = SunPath::of(path);
    let name = UnixAddr::new(short.as_path()).map_err(failed)?;
    socket::bind(fd.as_raw_fd(), &name).map_err(failed)?;
    Ok(fd)
}

/// A socket with an abstract name, to which nobody can connect yet.
pub(super) fn bind_abstract(
    address: &Address,
    name: &str,
    options: &SocketOptions,
    cuts: &mut Vec<String>,
) -> Result<OwnedFd, Why> {
    let failed = |errno| Error::new("bind", address, errno);
    let kind = address.kind().unwrap_or(SocketKind::Stream);
    let fd = open(kind)?;
    options::at_any_time(fd.as_fd(), address, options, cuts)?;
    if kind == SocketKind::Datagram {
        filter::drop_datagrams(fd.as_fd()).map_err(failed)?;
    }
    let name = UnixAddr::new_abstract(name.as_bytes()).map_err(failed)?;
    socket::bind(fd.as_raw_fd(), &name).map_err(|errno| in_use(address, failed(errno)))?;
    Ok(fd)
}

fn open(kind: SocketKind) -> Result<OwnedFd, Error> {
    let kind = match kind {
        SocketKind::Stream => SockType::Stream,
        SocketKind::Datagram => SockType::Datagram,
        SocketKind::SequentialPacket => SockType::SeqPacket,
    };
    socket::socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| Error::new("open", "a UNIX socket", errno))
}

/// A socket with a full queue, published in the place of one that is to be held off.
///
/// UNIX sockets have no handshake that a filter could drop. But connect(2) to a full queue waits, and
/// looks the path up anew when that socket is gone (unix_stream_connect): so those who come meanwhile
/// wait here, and once the real one is public again and this closed, they connect there. Clients that
/// do not block get EAGAIN, as from any full queue.
#[derive(Debug)]
pub(super) struct Park {
    pub(super) place: Place,
    _fd: OwnedFd,
}

impl Park {
    pub(super) fn make(socket: &Socket, path: &Path, folder: &Path, real: &Place) -> Result<Self, Why> {
        let owner = Owner::look_up(&socket.options)?;
        let kind = socket.address.kind().unwrap_or(SocketKind::Stream);
        let (place, fd) =
            real.make_sibling(folder, socket.name.as_str(), &owner, |private| bind_at(private, kind))?;
        sockopt::listen(fd.as_fd(), 0).map_err(|errno| Error::new("hold off", path.display(), errno))?;
        fill(place.private(), kind)?;
        Ok(Self { place, _fd: fd })
    }
}

/// Connects until the queue is full; with a backlog of 0 that is once.
fn fill(path: &Path, kind: SocketKind) -> Result<(), Error> {
    let failed = |errno| Error::new("hold off", path.display(), errno);
    let short = SunPath::of(path);
    let name = UnixAddr::new(short.as_path()).map_err(failed)?;
    for _ in 0..4 {
        let client = open(kind)?;
        nonblocking(&client).map_err(failed)?;
        match socket::connect(client.as_raw_fd(), &name) {
            Ok(()) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::EBUSY))
}

fn nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}

/// Connections are refused from here on, for ever; those in the queue can still be accepted.
pub(super) fn refuse(fd: std::os::fd::BorrowedFd<'_>) -> Result<(), Errno> {
    match socket::shutdown(fd.as_raw_fd(), socket::Shutdown::Both) {
        Err(Errno::ENOTCONN) => Ok(()),
        other => other,
    }
}
