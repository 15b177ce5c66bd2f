//! What goes beside the bytes of a UNIX socket: credentials, a pidfd, descriptors.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

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
const CONTROL_WORDS: usize = 160;

#[repr(C)]
struct Control([u64; CONTROL_WORDS]);

const _: () = {
    // SAFETY: computes from a number; touches nothing.
    let needed = unsafe {
        libc::CMSG_SPACE(size_of::<libc::ucred>() as u32)
            + libc::CMSG_SPACE(4)
            + libc::CMSG_SPACE(4 * DESCRIPTORS_MAX as u32)
    };
    assert!(needed as usize <= size_of::<Control>(), "a control buffer with room for everything");
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
    /// The whole length, however much of it there was room for.
    pub(super) length: usize,
    /// Some of the control data did not fit, or could not be made.
    pub(super) truncated: bool,
    /// Owned from the first moment, so that every way out closes them.
    pub(super) ancillary: Ancillary,
}

/// Receives one datagram into `bytes`.
pub(super) fn receive(socket: &OwnedFd, bytes: &mut [u8]) -> Result<Raw, Errno> {
    let mut control = Control([0; CONTROL_WORDS]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr of zeros is valid: no name, no parts, no control data.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    // MSG_TRUNC has recvmsg give the true length.
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC;
    // SAFETY: the header points at buffers that live, with their true lengths.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    Ok(Raw {
        length: usize::try_from(Errno::result(length)?).expect("no error, so no negative number"),
        truncated: header.msg_flags & libc::MSG_CTRUNC != 0,
        ancillary: Ancillary::take(&header),
    })
}
