//! The process that waits in a call, and the socket that it means.
#![allow(unsafe_code)]

use super::calls::{Call, Calls};
use crate::model::SocketKind;
use crate::os::pidfd::PidFd;
use crate::os::{Error, sockopt};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{UnixAddr, getsockname};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// IPPROTO_MPTCP of linux/in.h: newer Go programs ask for it, and fall back to what they get.
const MPTCP: i32 = 262;
const TCP: i32 = libc::IPPROTO_TCP;
const UDP: i32 = libc::IPPROTO_UDP;

const FLAGS_PREFIX: &str = "flags:";

/// Who called, held fast, and its socket.
#[derive(Debug)]
pub struct Caller {
    process: PidFd,
    thread: i32,
    /// Its socket as a descriptor of ours: the same open file.
    socket: OwnedFd,
    place: RawFd,
}

impl Caller {
    /// Takes hold of the process that waits in `call`, and of its socket `place`.
    ///
    /// # Errors
    /// EBADF: it has no such descriptor; ENOENT: it has gone; EPERM: supd may not look into it
    /// (CAP_SYS_PTRACE, or it runs as another user than an ordinary supd).
    pub fn take(calls: &Calls, call: &Call, place: RawFd) -> Result<Self, Error> {
        let failed = |doing| move |errno| Error::new(doing, format!("process {}", call.thread), errno);
        if call.thread <= 0 {
            return Err(failed("look into")(Errno::ENOENT));
        }
        let leader = leader(call.thread).ok_or(Errno::ENOENT).map_err(failed("look into"))?;
        let process = PidFd::open(leader)?;
        // Only now is it certain that the number which was opened is that of who waits.
        if !calls.waits(call) {
            return Err(failed("look into")(Errno::ENOENT));
        }
        // SAFETY: three numbers.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_fd().as_raw_fd(), place, 0) };
        let got = Errno::result(got).map_err(failed("take a socket of"))?;
        let number = RawFd::try_from(got).expect("a descriptor is an int");
        // SAFETY: the kernel has just made it for us alone, close-on-exec.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Self { process, thread: call.thread, socket, place })
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &PidFd {
        &self.process
    }

    /// The process, to be kept.
    #[must_use]
    pub fn into_process(self) -> PidFd {
        self.process
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The number that it has for that.
    #[must_use]
    pub fn place(&self) -> RawFd {
        self.place
    }

    /// Whether its socket is this one of ours.
    #[must_use]
    pub fn means(&self, ours: BorrowedFd<'_>) -> bool {
        let theirs = sockopt::cookie(self.socket());
        theirs.is_ok() && theirs == sockopt::cookie(ours)
    }

    /// It wants so many to be able to wait; fewer than can already is no change.
    pub fn wants_backlog(&self, ours: BorrowedFd<'_>, backlog: i32, least: u32) {
        let wanted = u32::try_from(backlog).unwrap_or(0);
        let listens = sockopt::get(ours, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Ok(1);
        if listens && wanted > least {
            // It listens already: with as many as before, if the kernel does not like it.
            let _ = sockopt::listen(ours, wanted);
        }
    }

    /// How bytes travel through it, where listeners are of that kind: of TCP, UDP and UNIX sockets.
    #[must_use]
    pub fn kind(&self) -> Option<SocketKind> {
        let get = |name| sockopt::get(self.socket(), libc::SOL_SOCKET, name).ok();
        let (domain, kind, protocol) = (get(libc::SO_DOMAIN)?, get(libc::SO_TYPE)?, get(libc::SO_PROTOCOL)?);
        match (domain, kind, protocol) {
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, TCP | MPTCP) => Some(SocketKind::Stream),
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, UDP) => Some(SocketKind::Datagram),
            (libc::AF_UNIX, libc::SOCK_STREAM, _) => Some(SocketKind::Stream),
            (libc::AF_UNIX, libc::SOCK_SEQPACKET, _) => Some(SocketKind::SequentialPacket),
            _ => None,
        }
    }

    /// IPV6_V6ONLY
    #[must_use]
    pub fn is_v6only(&self) -> bool {
        sockopt::get(self.socket(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) == Ok(1)
    }

    /// O_CLOEXEC and O_NONBLOCK of its descriptor.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{}", self.thread, self.place));
        let octal = info.as_deref().unwrap_or_default();
        let octal = octal.lines().find_map(|line| line.strip_prefix(FLAGS_PREFIX)).unwrap_or_default();
        let flags = i32::from_str_radix(octal.trim(), 8).unwrap_or(0);
        Flags { close_on_exec: flags & libc::O_CLOEXEC != 0, nonblocking: flags & libc::O_NONBLOCK != 0 }
    }

    /// Whether it is an IPv4 or IPv6 socket: then the address that it asks for has to be read.
    #[must_use]
    pub fn is_ip(&self) -> bool {
        let domain = sockopt::get(self.socket(), libc::SOL_SOCKET, libc::SO_DOMAIN);
        matches!(domain, Ok(libc::AF_INET | libc::AF_INET6))
    }

    /// The path that its UNIX socket is bound to, as its working directory makes it.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        let name: UnixAddr = getsockname(self.socket.as_raw_fd()).ok()?;
        let folder = || fs::read_link(format!("/proc/{}/cwd", self.thread)).ok();
        let path = name.path()?;
        let whole = if path.is_absolute() { path.into() } else { folder()?.join(path) };
        // Without `.` and doubled slashes; `..` leads elsewhere where there are links.
        Some(whole.components().collect())
    }
}

/// What a descriptor of a worker is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// FD_CLOEXEC, of this descriptor.
    pub close_on_exec: bool,
    /// O_NONBLOCK, of the open file.
    pub nonblocking: bool,
}

/// The process that a thread is of: a pidfd is of processes.
fn leader(thread: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}
