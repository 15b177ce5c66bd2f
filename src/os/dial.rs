//! Connections to one slot of a listener and to no other: over TCP the source address, known before the
//! connection is made, says which; over a UNIX path the slot's own name.

use super::Error;
use super::sock_diag;
use super::sun_path::SunPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, sockopt};
use nix::sys::stat::{Mode, fstat};
use nix::sys::time::TimeVal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A TCP socket that is bound and not connected yet.
#[derive(Debug)]
pub struct Dial {
    socket: TcpStream,
    from: SocketAddr,
    to: SocketAddr,
}

impl Dial {
    /// Takes a source address for a connection to whoever listens there: the listener's own host, so
    /// that it comes in where it would from this machine; a wildcard is reached over loopback.
    ///
    /// # Errors
    /// What the kernel says: the host is not (any more) one of this machine's, or no port is left.
    pub fn reserve(host: IpAddr, port: u16) -> Result<Self, Error> {
        match host {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Self::at(Ipv4Addr::LOCALHOST.into(), port),
            // Where loopback has no IPv6, as in many containers, such a listener is reached over IPv4.
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => match Self::at(Ipv6Addr::LOCALHOST.into(), port) {
                Err(Error { errno: Errno::EADDRNOTAVAIL, .. }) => Self::at(Ipv4Addr::LOCALHOST.into(), port),
                other => other,
            },
            host => Self::at(host, port),
        }
    }

    fn at(host: IpAddr, port: u16) -> Result<Self, Error> {
        let to = SocketAddr::new(host, port);
        let failed = |errno| Error::new("take a port for a connection to", to, errno);
        let family = if host.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        let place = SockaddrStorage::from(SocketAddr::new(host, 0));
        socket::bind(fd.as_raw_fd(), &place).map_err(failed)?;
        let socket = TcpStream::from(fd);
        let from = socket
            .local_addr()
            .map_err(|error| Error::from_io("take a port for a connection to", to, &error))?;
        Ok(Self { socket, from, to })
    }

    /// Where it will come from.
    #[must_use]
    pub fn from(&self) -> SocketAddr {
        self.from
    }

    /// Where it will go to.
    #[must_use]
    pub fn to(&self) -> SocketAddr {
        self.to
    }

    /// Makes the connection. For a child: it waits.
    ///
    /// # Errors
    /// Refused, or not within that time: the slot's queue is full.
    pub fn connect(&self, patience: Duration) -> Result<&TcpStream, Error> {
        limit_waits(self.socket.as_fd(), patience).map_err(|errno| self.failed(errno))?;
        let place = SockaddrStorage::from(self.to);
        socket::connect(self.socket.as_raw_fd(), &place).map_err(|errno| self.failed(errno))?;
        Ok(&self.socket)
    }

    /// Tries to connect, and says whether that was done or refused; `None`: neither at once. What was made is
    /// reset when this is dropped.
    #[must_use]
    pub fn is_made(&self) -> Option<bool> {
        let reset = libc::linger { l_onoff: 1, l_linger: 0 };
        socket::setsockopt(&self.socket, sockopt::Linger, &reset).ok()?;
        self.socket.set_nonblocking(true).ok()?;
        match socket::connect(self.socket.as_raw_fd(), &SockaddrStorage::from(self.to)) {
            Ok(()) => return Some(true),
            Err(Errno::ECONNREFUSED) => return Some(false),
            Err(Errno::EINPROGRESS) => {}
            Err(_) => return None,
        }
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut fds, PollTimeout::ZERO).ok()? == 0 {
            return None;
        }
        match socket::getsockopt(&self.socket, sockopt::SocketError).ok()? {
            0 => Some(true),
            error if error == Errno::ECONNREFUSED as i32 => Some(false),
            _ => None,
        }
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::new("connect to", self.to, too_late(errno))
    }

    /// Whether a process has the other end. That it is connected proves nothing: the kernel does that.
    ///
    /// # Errors
    /// The kernel does not tell, or the connection was reset.
    pub fn is_accepted(&self) -> Result<bool, Error> {
        if has_heard(self.socket.as_fd()).map_err(|errno| self.failed(errno))? {
            return Ok(true);
        }
        let end = sock_diag::tcp_connection(self.to, self.from)?;
        Ok(end.is_some_and(|end| end.inode != 0))
    }

    /// The socket, with no limit on waits any more, for somebody else from now on: it is this user's, as
    /// if he had made it. (Who may not give sockets away keeps the name.)
    ///
    /// # Errors
    /// What the kernel says.
    pub fn give_to(&self, uid: u32) -> Result<OwnedFd, Error> {
        match fchown(&self.socket, Some(uid), None) {
            Err(error) if error.raw_os_error() != Some(Errno::EPERM as i32) => {
                return Err(Error::from_io("give away a connection to", self.to, &error));
            }
            Ok(()) | Err(_) => {}
        }
        limit_waits(self.socket.as_fd(), Duration::ZERO).map_err(|errno| self.failed(errno))?;
        let copy = self.socket.as_fd().try_clone_to_owned();
        copy.map_err(|error| Error::from_io("copy a connection to", self.to, &error))
    }
}

/// For `kept` of a child that connects.
impl AsFd for Dial {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Connects to a socket by its path. For a child: it waits while the queue is full.
///
/// # Errors
/// Refused, no such path, or not within that time.
pub fn connect_path(path: &Path, patience: Duration) -> Result<UnixStream, Error> {
    let failed = |errno| Error::new("connect to", path.display(), too_late(errno));
    let short = SunPath::of(path);
    let address = UnixAddr::new(short.as_path()).map_err(failed)?;
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .map_err(failed)?;
    limit_waits(fd.as_fd(), patience).map_err(failed)?;
    socket::connect(fd.as_raw_fd(), &address).map_err(failed)?;
    Ok(fd.into())
}

/// The file of a UNIX socket, held: whoever gets the descriptor can connect with [`connect_held`], by
/// his own rights and under his own name, where he could not find the path.
///
/// # Errors
/// What the kernel says.
pub fn hold(path: &Path) -> Result<OwnedFd, Error> {
    open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::new("open", path.display(), errno))
}

/// Connects to a socket whose file is held.
///
/// # Errors
/// As [`connect_path`].
pub fn connect_held(held: BorrowedFd<'_>, patience: Duration) -> Result<UnixStream, Error> {
    connect_path(Path::new(&format!("/proc/self/fd/{}", held.as_raw_fd())), patience)
}

/// Whether a process has the other end of a connection to this UNIX listener: nobody waits in its queue.
///
/// # Errors
/// The kernel does not tell, or the connection was reset.
pub fn is_accepted(stream: &UnixStream, listener: u32) -> Result<bool, Error> {
    let failed = |errno| Error::new("wait at", "a UNIX socket", errno);
    Ok(has_heard(stream.as_fd()).map_err(failed)? || sock_diag::unix_by_inode(listener)?.queue == Some(0))
}

/// The number by which the kernel tells about a socket.
///
/// # Errors
/// What fstat(2) says.
pub fn inode(socket: BorrowedFd<'_>) -> Result<u32, Error> {
    let failed = |errno| Error::new("look at", "a listener", errno);
    let found = fstat(socket).map_err(failed)?.st_ino;
    // sock_diag has 32 bits for it, and so has the kernel.
    u32::try_from(found).map_err(|_| failed(Errno::EOVERFLOW))
}

/// Whether the other end has said something, if only that it says no more.
fn has_heard(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut byte = [0];
    let flags = socket::MsgFlags::MSG_PEEK | socket::MsgFlags::MSG_DONTWAIT;
    match socket::recv(socket.as_raw_fd(), &mut byte, flags) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// connect(2), read(2) and write(2) give up after this; zero: never.
fn limit_waits(socket: BorrowedFd<'_>, patience: Duration) -> Result<(), Errno> {
    let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
    let span = TimeVal::new(seconds, patience.subsec_micros().into());
    socket::setsockopt(&socket, sockopt::SendTimeout, &span)?;
    socket::setsockopt(&socket, sockopt::ReceiveTimeout, &span)
}

/// What the kernel says where SO_SNDTIMEO is over.
fn too_late(errno: Errno) -> Errno {
    match errno {
        Errno::EINPROGRESS | Errno::EAGAIN => Errno::ETIMEDOUT,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    const SOON: Duration = Duration::from_secs(20);

    fn v6() -> IpAddr {
        Ipv6Addr::LOCALHOST.into()
    }

    #[test]
    fn a_connection_comes_from_where_was_said_and_is_accepted_when_a_process_has_it() {
        let v4 = IpAddr::from(Ipv4Addr::LOCALHOST);
        let (any4, any6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        for (bound, dialled) in [(v4, v4), (v6(), v6()), (any4, any4), (any6, any6), (any6, v4)] {
            let listener = TcpListener::bind((bound, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let dial = Dial::reserve(dialled, port).unwrap();
            assert!(!dial.is_accepted().is_ok_and(|accepted| accepted), "not even connected");
            dial.connect(SOON).unwrap();
            assert_eq!(dial.is_accepted(), Ok(false), "{bound}");
            let (stream, from) = listener.accept().unwrap();
            let mapped = from.ip().to_canonical();
            assert_eq!(SocketAddr::new(mapped, from.port()), dial.from(), "{bound}");
            assert_eq!(dial.is_accepted(), Ok(true), "{bound}");
            drop(stream);
            assert_eq!(dial.is_accepted(), Ok(true), "accepted and closed: {bound}");
            let given = TcpStream::from(dial.give_to(nix::unistd::getuid().as_raw()).unwrap());
            assert_eq!((given.local_addr().unwrap(), given.write_timeout().unwrap()), (dial.from(), None));
        }
    }

    #[test]
    fn nobody_listens_or_nobody_there() {
        let listener = TcpListener::bind((v6(), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let dial = Dial::reserve(v6(), port).unwrap();
        drop(listener);
        assert_eq!(dial.connect(SOON).unwrap_err().errno, Errno::ECONNREFUSED);
        // 192.0.2.0/24 is for documentation: nobody's.
        let error = Dial::reserve(Ipv4Addr::new(192, 0, 2, 1).into(), port).unwrap_err();
        assert_eq!(error.errno, Errno::EADDRNOTAVAIL);
    }

    #[test]
    fn a_full_queue_is_waited_for_and_no_longer_than_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        socket::bind(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        socket::listen(&fd, socket::Backlog::new(0).unwrap()).unwrap();
        let first = connect_path(&path, SOON).unwrap();
        let error = connect_path(&path, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.errno, Errno::ETIMEDOUT);
        drop(first);
    }

    #[test]
    fn a_file_that_is_held_leads_to_its_socket_and_the_queue_says_who_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let held = hold(&path).unwrap();
        std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        let stream = connect_held(held.as_fd(), SOON).unwrap();
        let number = inode(listener.as_fd()).unwrap();
        assert_eq!(is_accepted(&stream, number), Ok(false));
        let _accepted = listener.accept().unwrap();
        assert_eq!(is_accepted(&stream, number), Ok(true));
        assert_eq!(hold(&path).unwrap_err().errno, Errno::ENOENT);
    }
}
