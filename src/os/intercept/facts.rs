//! What a worker's call is about: its socket, and the address that it points at. Only for a child that may
//! be killed ([`super::Reader`]): to hold a worker's descriptor is to be the last who closes it, which can
//! take as long as the worker likes (SO_LINGER, a FUSE file), and a page of its memory may never come.
#![allow(unsafe_code)]

use super::options;
use super::paths;
use super::sets::{self, Watch};
use crate::model::SocketKind;
use crate::os::pidfd::PidFd;
use crate::os::sockopt;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::socket::{SockaddrIn, SockaddrIn6, SockaddrStorage, getsockname};
use nix::sys::stat::fstat;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// As many bytes are read at most; no address is longer (`struct sockaddr_storage`).
pub const BYTES_MAX: usize = 128;

/// IPPROTO_MPTCP of linux/in.h: newer Go programs ask for it, and fall back to what they get.
const MPTCP: i32 = 262;
const TCP: i32 = libc::IPPROTO_TCP;
const UDP: i32 = libc::IPPROTO_UDP;

/// SO_NETNS_COOKIE of asm-generic/socket.h (5.14).
const SO_NETNS_COOKIE: i32 = 71;

/// PIDFD_THREAD of linux/pidfd.h (6.9): of the thread itself, whose descriptors need not be its process's.
const PIDFD_THREAD: u32 = libc::O_EXCL as u32;

/// A socket of a worker, in plain numbers: nothing of it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    domain: i32,
    kind: i32,
    protocol: i32,
    /// Which socket it is, among all of the machine's.
    cookie: u64,
    /// IPV6_V6ONLY
    pub v6only: bool,
    /// FD_CLOEXEC, of this descriptor.
    pub close_on_exec: bool,
    /// O_NONBLOCK, of the open file.
    pub nonblocking: bool,
    /// Level, name and value of what was set on it and may be carried over.
    pub options: Vec<(i32, i32, i32)>,
    /// The path that a UNIX socket is bound to, as its working directory makes it.
    pub path: Option<PathBuf>,
    /// What the call points at.
    pub address: Vec<u8>,
    /// The epoll sets that it is in; looked for only where a port of the unit is asked for.
    pub sets: Vec<Watch>,
    /// Whether it has a port already.
    pub bound: bool,
    /// Whether it is of another network namespace than supd's, where the same address is another one.
    pub elsewhere: bool,
    /// Whether who asks is in another user namespace than supd; looked at only as the sets are.
    pub apart: bool,
}

/// What a unit's workers may ask for that is theirs: of anything else less is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ours {
    /// Ports.
    pub ports: Vec<u16>,
    /// BindAs.
    pub paths: Vec<PathBuf>,
}

impl Ours {
    /// In a `struct sockaddr_in` and in a `struct sockaddr_in6` the port is behind the family.
    fn has_port_of(&self, address: &[u8]) -> bool {
        let port = address.get(2..4).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        port.is_some_and(|port| self.ports.contains(&port))
    }
}

impl Facts {
    /// Of descriptor `place` of the process that this thread is of, and of `length` bytes at `address`, if
    /// any are asked for.
    ///
    /// # Errors
    /// EBADF: it has no such descriptor; ENOTSOCK: it is none; ESRCH, ENOENT: it has gone; EPERM: supd may
    /// not look into it (CAP_SYS_PTRACE); EFAULT: nothing is there.
    pub(super) fn of(
        thread: i32,
        place: RawFd,
        (address, length): (u64, usize),
        ours: &Ours,
    ) -> Result<Self, Errno> {
        let socket = take(thread, place)?;
        let address = read(thread, address, length.min(BYTES_MAX))?;
        let get = |level, name| sockopt::get(socket.as_fd(), level, name);
        let domain = get(libc::SOL_SOCKET, libc::SO_DOMAIN)?;
        let is_unix = domain == libc::AF_UNIX;
        let flags = fcntl(&socket, FcntlArg::F_GETFL)?;
        let kind = get(libc::SOL_SOCKET, libc::SO_TYPE)?;
        if is_unix {
            paths::clear(thread, &address, kind, &ours.paths);
        }
        let is_near = if is_unix { !ours.paths.is_empty() } else { ours.has_port_of(&address) };
        Ok(Self {
            domain,
            kind,
            protocol: get(libc::SOL_SOCKET, libc::SO_PROTOCOL)?,
            cookie: sockopt::cookie(socket.as_fd())?,
            v6only: get(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) == Ok(1),
            close_on_exec: is_close_on_exec(thread, place),
            nonblocking: flags & libc::O_NONBLOCK != 0,
            options: options::changed(socket.as_fd()).unwrap_or_default(),
            path: if is_unix { paths::bound_to(thread, &socket, &ours.paths) } else { None },
            sets: if is_near { sets::find(thread, place, fstat(&socket)?.st_ino) } else { Vec::new() },
            address,
            bound: port(&socket).is_some_and(|port| port != 0),
            elsewhere: is_elsewhere(&socket),
            apart: is_near && is_apart(thread),
        })
    }

    /// Whether the kernel takes such an address for such a socket; which error it says otherwise hangs on
    /// the family, and is best said by itself (inet_bind, inet6_bind).
    #[must_use]
    pub fn takes_its_address(&self) -> bool {
        let Some((family, rest)) = self.address.split_first_chunk::<2>() else { return false };
        let is_mapped =
            || rest.get(6..18).is_some_and(|host| host == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        match (self.domain, i32::from(u16::from_ne_bytes(*family))) {
            (libc::AF_INET, libc::AF_INET) => true,
            (libc::AF_INET, libc::AF_UNSPEC) => rest.get(2..6) == Some(&[0; 4]),
            (libc::AF_INET6, libc::AF_INET6) => !(self.v6only && is_mapped()),
            _ => false,
        }
    }

    /// How bytes travel through it, where listeners are of that kind: of TCP, UDP and UNIX sockets.
    #[must_use]
    pub fn kind(&self) -> Option<SocketKind> {
        match (self.domain, self.kind, self.protocol) {
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, TCP | MPTCP) => Some(SocketKind::Stream),
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, UDP) => Some(SocketKind::Datagram),
            (libc::AF_UNIX, libc::SOCK_STREAM, _) => Some(SocketKind::Stream),
            (libc::AF_UNIX, libc::SOCK_SEQPACKET, _) => Some(SocketKind::SequentialPacket),
            _ => None,
        }
    }

    /// Whether it is bound to a path or a name, if to anything.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.domain == libc::AF_UNIX
    }

    /// Whether its socket is this one of ours.
    #[must_use]
    pub fn means(&self, ours: impl AsFd) -> bool {
        sockopt::cookie(ours.as_fd()) == Ok(self.cookie)
    }
}

/// The worker's open file as a descriptor of ours.
pub(super) fn take(thread: i32, place: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: takes two numbers and touches no memory.
    let held = unsafe { libc::syscall(libc::SYS_pidfd_open, thread, PIDFD_THREAD) };
    let process = match Errno::result(held) {
        Ok(number) => own(number)?,
        // Before 6.9: the process, whose descriptors nearly every thread shares.
        Err(_) => {
            let leader = leader(thread).ok_or(Errno::ESRCH)?;
            PidFd::open(leader)
                .map_err(|error| error.errno)?
                .as_fd()
                .try_clone_to_owned()
                .map_err(|_| Errno::EMFILE)?
        }
    };
    PidFd::from_fd(process, thread).descriptor(place)
}

fn own(number: libc::c_long) -> Result<OwnedFd, Errno> {
    let number = RawFd::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us alone, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn is_close_on_exec(thread: i32, place: RawFd) -> bool {
    let info = fs::read_to_string(format!("/proc/{thread}/fdinfo/{place}")).unwrap_or_default();
    let octal = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
    i32::from_str_radix(octal.trim(), 8).unwrap_or(0) & libc::O_CLOEXEC != 0
}

fn port(socket: &OwnedFd) -> Option<u16> {
    let name: SockaddrStorage = getsockname(socket.as_raw_fd()).ok()?;
    name.as_sockaddr_in().map(SockaddrIn::port).or_else(|| name.as_sockaddr_in6().map(SockaddrIn6::port))
}

fn read(thread: i32, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; length];
    if length == 0 {
        return Ok(bytes);
    }
    let base = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    let remote = [RemoteIoVec { base, len: length }];
    match process_vm_readv(Pid::from_raw(thread), &mut [IoSliceMut::new(&mut bytes)], &remote)? {
        count if count == length => Ok(bytes),
        _short => Err(Errno::EFAULT),
    }
}

/// By the socket, wherever its owner is by now. What cannot be said is taken for our own.
pub(in crate::os) fn is_elsewhere(socket: &OwnedFd) -> bool {
    let network = |socket: &OwnedFd| {
        let mut cookie = [0; size_of::<u64>()];
        sockopt::get_bytes(socket.as_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut cookie).ok()?;
        Some(u64::from_ne_bytes(cookie))
    };
    let own = || sockopt::make(libc::AF_UNIX, libc::SOCK_DGRAM, 0).ok();
    network(socket).zip(own().as_ref().and_then(network)).is_some_and(|(its, own)| its != own)
}

fn is_apart(thread: i32) -> bool {
    let users = |process: &str| fs::metadata(format!("/proc/{process}/ns/user")).ok().map(|it| it.ino());
    users(&thread.to_string()).zip(users("self")).is_some_and(|(its, own)| its != own)
}

/// The process that a thread is of: before 6.9 a pidfd is of processes.
fn leader(thread: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}
