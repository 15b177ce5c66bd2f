//! Reads what workers point at, in a child: a page of a worker may lie in a file that never answers
//! (FUSE, a network file system), and who reads it waits as long. The child may be killed, supd may not.

use crate::os::Error;
use crate::os::fork::{close_all_but, fork};
use crate::os::pidfd::PidFd;
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::{Pid, setsid};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// As many bytes are read at most; no address is longer (`struct sockaddr_storage`).
pub const BYTES_MAX: usize = 128;

/// Tag, thread, address, length.
const QUESTION: usize = 8 + 4 + 8 + 4;
/// Tag, errno; the bytes follow.
const HEAD: usize = 8 + 4;

/// The child.
#[derive(Debug)]
pub struct Reader {
    process: PidFd,
    socket: OwnedFd,
}

/// What a read gave: the tag of its question, and the bytes.
pub type Bytes = (u64, Result<Vec<u8>, Errno>);

impl Reader {
    /// Begins one. It ends when this is dropped, and when supd ends.
    ///
    /// # Errors
    /// EMFILE, ENFILE, and what [`fork`] says.
    pub fn begin() -> Result<Self, Error> {
        const WHAT: &str = "the reader of workers' addresses";
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|errno| Error::new("make sockets for", WHAT, errno))?;
        let forked = fork(WHAT, |_| {
            let _ = setsid();
            let _ = prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
            if close_all_but(&[theirs.as_raw_fd()]).is_ok() {
                serve(&theirs);
            }
        })?;
        Ok(Self { process: forked.process, socket: ours })
    }

    /// Asks for `length` bytes of this thread's memory; the answer has the same tag.
    ///
    /// # Errors
    /// EAGAIN: too many wait already; EPIPE: the child has ended.
    pub fn ask(&self, tag: u64, thread: i32, address: u64, length: usize) -> Result<(), Errno> {
        let length = u32::try_from(length).map_err(|_| Errno::EINVAL)?;
        let mut question = Vec::with_capacity(QUESTION);
        question.extend(tag.to_ne_bytes());
        question.extend(thread.to_ne_bytes());
        question.extend(address.to_ne_bytes());
        question.extend(length.to_ne_bytes());
        send(self.socket.as_raw_fd(), &question, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT).map(drop)
    }

    /// The next answer, if there is one.
    ///
    /// # Errors
    /// EPIPE: the child has ended.
    pub fn answer(&self) -> Result<Option<Bytes>, Errno> {
        let mut bytes = [0; HEAD + BYTES_MAX];
        match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => decode(&bytes[..length]).map(Some).ok_or(Errno::EPIPE),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(_) => Err(Errno::EPIPE),
        }
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may be stuck where the end of its socket does not reach it.
        let _ = self.process.send(crate::model::Signal::KILL);
    }
}

fn decode(bytes: &[u8]) -> Option<Bytes> {
    let (tag, rest) = bytes.split_first_chunk::<8>()?;
    let (errno, rest) = rest.split_first_chunk::<4>()?;
    let result = match i32::from_ne_bytes(*errno) {
        0 => Ok(rest.to_vec()),
        errno => Err(Errno::from_raw(errno)),
    };
    Some((u64::from_ne_bytes(*tag), result))
}

/// The child's whole life.
fn serve(socket: &OwnedFd) {
    let mut question = [0; QUESTION];
    loop {
        wait(socket);
        match recv(socket.as_raw_fd(), &mut question, MsgFlags::MSG_DONTWAIT) {
            Ok(QUESTION) => {}
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            _ => return,
        }
        let answer = read(&question);
        while send(socket.as_raw_fd(), &answer, MsgFlags::MSG_NOSIGNAL) == Err(Errno::EAGAIN) {
            let mut entry = [nix::poll::PollFd::new(socket.as_fd(), nix::poll::PollFlags::POLLOUT)];
            let _ = nix::poll::poll(&mut entry, nix::poll::PollTimeout::NONE);
        }
    }
}

fn wait(socket: &OwnedFd) {
    let mut entry = [nix::poll::PollFd::new(socket.as_fd(), nix::poll::PollFlags::POLLIN)];
    let _ = nix::poll::poll(&mut entry, nix::poll::PollTimeout::NONE);
}

fn read(question: &[u8; QUESTION]) -> Vec<u8> {
    let (tag, rest) = question.split_at(8);
    let (thread, rest) = rest.split_at(4);
    let (address, length) = rest.split_at(8);
    let thread = i32::from_ne_bytes(thread.try_into().unwrap_or_default());
    let address = u64::from_ne_bytes(address.try_into().unwrap_or_default());
    let length = u32::from_ne_bytes(length.try_into().unwrap_or_default()) as usize;
    let mut bytes = [0; BYTES_MAX];
    let wanted = &mut bytes[..length.min(BYTES_MAX)];
    let (got, whole) = (remote(thread, address, wanted), length.min(BYTES_MAX));
    let errno = match got {
        Ok(count) if count == whole => 0,
        Ok(_) => libc::EFAULT,
        Err(errno) => errno as i32,
    };
    let bytes = if errno == 0 { &bytes[..whole] } else { &[] };
    [tag, errno.to_ne_bytes().as_slice(), bytes].concat()
}

fn remote(thread: i32, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let base = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    let remote = [RemoteIoVec { base, len: into.len() }];
    process_vm_readv(Pid::from_raw(thread), &mut [IoSliceMut::new(into)], &remote)
}
