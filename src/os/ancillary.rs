//! What goes beside the bytes of a UNIX socket: credentials, a pidfd, descriptors.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// SCM_MAX_FD of the kernel: no datagram carries more descriptors.
const DESCRIPTORS_MAX: usize = 253;
/// SO_PASSPIDFD of asm-generic/socket.h (6.5), where older kernels say ENOPROTOOPT.
const SO_PASSPIDFD: i32 = 76;
/// SCM_PIDFD of linux/socket.h.
const SCM_PIDFD: i32 = 4;

/// Has the kernel say who sends, as a pidfd, where it can.
pub(super) fn pass_pidfds(fd: &OwnedFd) {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: an option of one int. A refusal leaves us with the numbers, as before 6.5.
    unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, SO_PASSPIDFD, (&raw const on).cast(), length)
    };
}

/// Room for the credentials, a pidfd and as many descriptors as there can be, in words so that the
/// headers in it are aligned.
const DATAGRAM_WORDS: usize = 160;

/// Room for two descriptors and nothing else: enough to see that there is more than one.
const STREAM_WORDS: usize = 3;

const _: () = {
    // SAFETY: computes from numbers; touches nothing.
    let (needed, two) = unsafe {
        let others = libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) + libc::CMSG_SPACE(4);
        (others + libc::CMSG_SPACE(4 * DESCRIPTORS_MAX as u32), libc::CMSG_SPACE(2 * 4))
    };
    assert!(needed as usize <= 8 * DATAGRAM_WORDS, "a control buffer with room for everything");
    assert!(two as usize == 8 * STREAM_WORDS, "a control buffer with room for two descriptors");
};

/// What came beside the bytes.
#[derive(Default)]
pub(super) struct Ancillary {
    /// The sender, where the socket asks for it (SO_PASSCRED).
    pub(super) credentials: Option<libc::ucred>,
    /// The same as a descriptor (SO_PASSPIDFD).
    pub(super) process: Option<OwnedFd>,
    /// What was passed.
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Ancillary {
    /// Takes everything out of a header that recvmsg(2) has filled.
    fn take(header: &libc::msghdr) -> Self {
        let mut all = Self::default();
        // SAFETY: the header's control buffer lives and its length is what the kernel wrote.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
        while !next.is_null() {
            // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give headers that lie within the buffer.
            let (level, kind, length, data) = unsafe {
                let part = &*next;
                (part.cmsg_level, part.cmsg_type, part.cmsg_len as usize, libc::CMSG_DATA(next))
            };
            // SAFETY: computes from a number; touches nothing.
            let length = length.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            match (level, kind) {
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                    // SAFETY: the kernel wrote a ucred there; it may be unaligned.
                    all.credentials = Some(unsafe { data.cast::<libc::ucred>().read_unaligned() });
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => all.descriptors.extend(own(data, length)),
                (libc::SOL_SOCKET, SCM_PIDFD) => all.process = own(data, length).pop(),
                _ => {}
            }
            // SAFETY: as for CMSG_FIRSTHDR, and `next` came from there.
            next = unsafe { libc::CMSG_NXTHDR(header, next) };
        }
        all
    }
}

/// The descriptors in one part of the control data. The kernel writes a negative one where it
/// could not make a pidfd.
fn own(data: *const u8, length: usize) -> Vec<OwnedFd> {
    // SAFETY: the kernel wrote that many whole ints there; they may be unaligned.
    let number = |index| unsafe { data.cast::<i32>().add(index).read_unaligned() };
    let numbers = (0..length / size_of::<i32>()).map(number).filter(|number| *number >= 0);
    // SAFETY: the kernel has just installed them for us alone.
    numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect()
}

/// One recvmsg(2) as it came.
pub(super) struct Raw {
    /// The whole length; of a datagram, however much of it there was room for.
    pub(super) length: usize,
    /// Some of the control data did not fit, or could not be made.
    pub(super) truncated: bool,
    /// Owned from the first moment, so that every way out closes them.
    pub(super) ancillary: Ancillary,
}

/// Receives one datagram into `bytes`, with all that comes beside it. Never blocks.
pub(super) fn receive_datagram(socket: &OwnedFd, bytes: &mut [u8]) -> Result<Raw, Errno> {
    // MSG_TRUNC has recvmsg give the true length.
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    receive(socket.as_raw_fd(), bytes, &mut [0; DATAGRAM_WORDS], flags)
}

/// What one read of a stream gave.
#[derive(Debug)]
pub struct Read {
    /// How many bytes; 0: the other end has said all.
    pub length: usize,
    /// What came beside them, two at most; the kernel closes the rest.
    pub descriptors: Vec<OwnedFd>,
    /// There were more, or this process may have no more open.
    pub truncated: bool,
}

/// Reads from a stream socket, with descriptors. Those of one sendmsg(2) come with the read that has
/// its first byte, and that read ends within its bytes: so the last byte that was read is of the
/// message that they were sent with (`unix_stream_read_generic` of the kernel).
///
/// # Errors
/// What recvmsg(2) says; EAGAIN where the socket does not block and has nothing.
pub fn receive_stream(socket: &impl AsFd, bytes: &mut [u8]) -> Result<Read, Errno> {
    let raw = receive(socket.as_fd().as_raw_fd(), bytes, &mut [0; STREAM_WORDS], 0)?;
    let Raw { length, truncated, ancillary } = raw;
    Ok(Read { length, truncated, descriptors: ancillary.descriptors })
}

/// Writes to a stream socket, `descriptor` with the first byte. Returns how many bytes were taken;
/// if any was, so was the descriptor.
///
/// # Errors
/// What sendmsg(2) says; EPIPE without a SIGPIPE; ETOOMANYREFS where too many are under way.
pub fn send_stream(
    socket: &impl AsFd,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<usize, Errno> {
    let numbers: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = ControlMessage::ScmRights(&numbers);
    let beside = if numbers.is_empty() { &[][..] } else { std::slice::from_ref(&rights) };
    let parts = [IoSlice::new(bytes)];
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &parts, beside, MsgFlags::MSG_NOSIGNAL, None)
}

/// Sends one message, with descriptors. Never blocks.
pub(super) fn send_packet(
    socket: &OwnedFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = ControlMessage::ScmRights(&numbers);
    let beside = if numbers.is_empty() { &[][..] } else { std::slice::from_ref(&rights) };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], beside, flags, None).map(drop)
}

fn receive(socket: RawFd, bytes: &mut [u8], control: &mut [u64], flags: i32) -> Result<Raw, Errno> {
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr of zeros is valid: no name, no parts, no control data.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(control) as _;
    // SAFETY: the header points at buffers that live, with their true lengths.
    let length = unsafe { libc::recvmsg(socket, &raw mut header, flags | libc::MSG_CMSG_CLOEXEC) };
    Ok(Raw {
        length: usize::try_from(Errno::result(length)?).expect("no error, so no negative number"),
        truncated: header.msg_flags & libc::MSG_CTRUNC != 0,
        ancillary: Ancillary::take(&header),
    })
}

#[cfg(test)]
mod tests {
    use super::{receive_stream, send_stream};
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::io::{IoSlice, Read as _, Write as _};
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_goes_with_the_first_byte_and_comes_with_the_last() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let (mut far, near) = UnixStream::pair().unwrap();
        one.write_all(b"before ").unwrap();
        assert_eq!(send_stream(&one, b"with", Some(near.as_fd())), Ok(4));
        one.write_all(b" after").unwrap();
        drop(near);
        let mut bytes = [0; 100];
        let first = receive_stream(&other, &mut bytes).unwrap();
        assert_eq!((&bytes[..first.length], first.truncated), (&b"before with"[..], false));
        assert_eq!(fcntl(&first.descriptors[0], FcntlArg::F_GETFD), Ok(libc::FD_CLOEXEC));
        let second = receive_stream(&other, &mut bytes).unwrap();
        assert_eq!((&bytes[..second.length], second.descriptors.len()), (&b" after"[..], 0));
        drop(first);
        assert_eq!(far.read(&mut bytes).unwrap(), 0, "nobody holds it any more");
        drop(other);
        assert_eq!(send_stream(&one, b"x", None), Err(Errno::EPIPE));
    }

    #[test]
    fn of_many_descriptors_two_are_seen_and_none_is_kept() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut far, near) = UnixStream::pair().unwrap();
        let numbers = [near.as_raw_fd(); 200];
        let rights = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<()>(one.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None).unwrap();
        drop(near);
        let read = receive_stream(&other, &mut [0; 10]).unwrap();
        assert_eq!((read.descriptors.len(), read.truncated), (2, true));
        drop(read);
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
    }
}
