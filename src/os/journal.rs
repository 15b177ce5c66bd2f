//! systemd's journal: a stream of lines to it, as systemd connects the services that it starts
//! (`stdout_stream_scan` in journald-stream.c, `connect_logger_as` in exec-invoke.c), and who it is at the other
//! end of a descriptor.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::socket::{connect as dial, send, sendto, setsockopt, shutdown, socket};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid, getegid, geteuid, setegid, seteuid};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Where the journal takes streams, of every user.
pub const STREAMS: &str = "/run/systemd/journal/stdout";

/// Where it takes messages of supd's own, with fields.
const MESSAGES: &str = "/run/systemd/journal/socket";

/// How much may be on its way to the journal, in bytes: what systemd gives its services.
const SEND_BUFFER: usize = 8 << 20;

/// LOG_DAEMON and LOG_INFO of syslog(3): what a line without `<N>` in front is.
const PRIORITY: i32 = (3 << 3) | 6;

/// Connects a stream whose lines the journal keeps under this identifier, as written by that user. A line may
/// begin with its priority, as `<3>`. Never waits.
///
/// The journal asks the kernel who it was that connected, so for this moment a root process is that user.
///
/// # Errors
/// Why the journal cannot be had, in words.
pub fn connect(identifier: &str, uid: Uid, gid: Gid) -> Result<OwnedFd, String> {
    let failed = |errno: Errno| {
        let why = match errno {
            Errno::ENOENT | Errno::ECONNREFUSED => "none is there",
            // Its queue is full: journald stands still.
            Errno::EAGAIN => "it takes no one any more for now",
            errno => errno.desc(),
        };
        format!("the journal ({STREAMS}) does not answer: {why}")
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
    let address = UnixAddr::new(STREAMS).map_err(failed)?;
    as_user(uid, gid, || dial(stream.as_raw_fd(), &address)).map_err(failed)?;
    // Nothing ever comes back.
    shutdown(stream.as_raw_fd(), Shutdown::Read).map_err(failed)?;
    // Only root may have more than net.core.wmem_max.
    if setsockopt(&stream, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
        let _ = setsockopt(&stream, sockopt::SndBuf, &SEND_BUFFER);
    }
    let header = header(identifier);
    match send(stream.as_raw_fd(), header.as_bytes(), MsgFlags::MSG_NOSIGNAL) {
        Ok(written) if written == header.len() => {}
        Ok(_) => return Err(failed(Errno::EAGAIN)),
        Err(errno) => return Err(failed(errno)),
    }
    // The program behind it counts on write(2) that waits.
    fcntl(&stream, FcntlArg::F_SETFL(OFlag::empty())).map_err(failed)?;
    Ok(stream)
}

/// What begins a stream: the identifier, no unit of systemd's, the priority of a line without one, that a line
/// may have one, and that syslog, kmsg and the console get none of it.
fn header(identifier: &str) -> String {
    let identifier = identifier.replace(char::is_control, "_");
    format!("{identifier}\n\n{PRIORITY}\n1\n0\n0\n0\n")
}

/// Does this as that user, where this process is root and may.
fn as_user<T>(uid: Uid, gid: Gid, this: impl FnOnce() -> T) -> T {
    let (own_uid, own_gid) = (geteuid(), getegid());
    if !own_uid.is_root() || uid.is_root() {
        return this();
    }
    // Who may not, in a container without CAP_SETUID, connects as root.
    let changed = setegid(gid).is_ok() && seteuid(uid).is_ok();
    let done = this();
    if changed {
        // The saved uid is root's, and may be gone back to.
        let _ = seteuid(own_uid);
    }
    let _ = setegid(own_gid);
    done
}

/// The name that systemd.exec(5) gives a stream in JOURNAL_STREAM: device and inode of its socket.
#[must_use]
pub fn name(stream: impl AsFd) -> Option<String> {
    let stat = fstat(stream).ok()?;
    Some(format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Whether it is a socket at all.
#[must_use]
pub fn is_socket(fd: impl AsFd) -> bool {
    fstat(fd).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFSOCK.bits())
}

/// Whether a descriptor is the stream that JOURNAL_STREAM of the environment names, and not another one that
/// was put in its place since.
#[must_use]
pub fn is_stream(fd: impl AsFd) -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    is_socket(&fd) && named.is_some() && named == name(fd)
}

/// The way of supd's own messages. It is not connected: whoever is the journal next is reached as well.
#[derive(Debug)]
pub struct Messages {
    socket: OwnedFd,
    address: UnixAddr,
}

impl Messages {
    /// One that is ready, whether the journal is or not.
    ///
    /// # Errors
    /// EMFILE
    pub fn open() -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        let _ = setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER);
        Ok(Self { socket, address: UnixAddr::new(MESSAGES)? })
    }

    /// Sends one message, whole or not at all. Never waits.
    ///
    /// # Errors
    /// EAGAIN: the journal stands still. ENOENT, ECONNREFUSED: there is none.
    pub fn send(&self, message: &[u8]) -> Result<(), Errno> {
        sendto(self.socket.as_raw_fd(), message, &self.address, MsgFlags::MSG_NOSIGNAL).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::alone::{alone, root_or_skip};
    use nix::sys::socket::{Backlog, bind, getsockopt, listen};
    use std::os::unix::net::UnixListener;

    #[test]
    fn an_identifier_is_one_line_of_the_header() {
        assert_eq!(header("web"), "web\n\n30\n1\n0\n0\n0\n");
        assert_eq!(header("a\nb\n0"), "a_b_0\n\n30\n1\n0\n0\n0\n");
    }

    /// Whom the journal is told of where the one who writes is gone before it looks.
    #[test]
    fn who_connects_is_the_user() {
        const NAME: &str = "os::journal::tests::who_connects_is_the_user";
        if !root_or_skip(NAME) {
            return;
        }
        let said = alone(NAME, || {
            let listener =
                socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            let address =
                UnixAddr::new_abstract(format!("supd-test-{}", std::process::id()).as_bytes()).unwrap();
            bind(listener.as_raw_fd(), &address).unwrap();
            listen(&listener, Backlog::new(1).unwrap()).unwrap();
            let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_533));
            as_user(uid, gid, || dial(stream.as_raw_fd(), &address)).unwrap();
            let (accepted, _) = UnixListener::from(listener).accept().unwrap();
            let peer = getsockopt(&accepted, sockopt::PeerCredentials).unwrap();
            format!("{}:{} {}:{}", peer.uid(), peer.gid(), geteuid(), getegid())
        });
        assert!(said.is_none_or(|said| said == "65534:65533 0:0"));
    }
}
