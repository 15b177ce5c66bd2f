//! The filter that has the kernel ask supd about two system calls, and about nothing else
//! (seccomp(2), the kernel's userspace-api/seccomp_filter.rst).
#![allow(unsafe_code)]

use super::super::seccomp::{self, AARCH64, ARCH, ARM, I386, NUMBER, X32, X86_64, answer, jump, load};
use nix::errno::Errno;
use nix::libc;
use std::mem::offset_of;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// One way into the kernel, and the numbers that bind(2) and listen(2) have there.
struct Entry {
    arch: u32,
    bind: u32,
    listen: u32,
}

/// The entry that supd itself is built for: the only one that it answers.
const OWN: Entry = if cfg!(target_arch = "aarch64") {
    Entry { arch: AARCH64, bind: 200, listen: 201 }
} else {
    Entry { arch: X86_64, bind: 49, listen: 50 }
};

/// That of 32-bit programs on the same machine.
const OTHER: Entry = if cfg!(target_arch = "aarch64") {
    Entry { arch: ARM, bind: 282, listen: 284 }
} else {
    Entry { arch: I386, bind: 361, listen: 363 }
};

/// `socketcall`, through which i386 programs do all of it: its first argument says which call is meant.
const SOCKETCALL: u32 = 102;
const SOCKETCALL_BIND: u32 = 2;
const SOCKETCALL_LISTEN: u32 = 4;

/// What a call is, as the filter tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// bind(2)
    Bind,
    /// listen(2)
    Listen,
    /// One of the two through an entry that supd does not read arguments of.
    Foreign,
}

/// Which call the kernel asks about.
pub(super) fn kind(arch: u32, number: libc::c_int) -> Kind {
    let number = number.unsigned_abs();
    if arch == OWN.arch && number == OWN.bind {
        Kind::Bind
    } else if arch == OWN.arch && number == OWN.listen {
        Kind::Listen
    } else {
        Kind::Foreign
    }
}

/// As instruction `at`: on to instruction `yes` or `no`.
const fn equals(at: u8, value: u32, yes: u8, no: u8) -> libc::sock_filter {
    // The kernel counts from the next instruction.
    jump(libc::BPF_JEQ, value, yes - at - 1, no - at - 1)
}

/// The lower half of the first argument; both architectures are little-endian.
const ARGUMENT: usize = offset_of!(libc::seccomp_data, args);

const ALLOW: u8 = 15;
const ASK: u8 = 16;

const PROGRAM: [libc::sock_filter; 17] = [
    load(ARCH),
    equals(1, OWN.arch, 2, 7),
    load(NUMBER),
    equals(3, OWN.bind, ASK, 4),
    equals(4, OWN.listen, ASK, 5),
    equals(5, OWN.bind | X32, ASK, 6),
    equals(6, OWN.listen | X32, ASK, ALLOW),
    equals(7, OTHER.arch, 8, ALLOW),
    load(NUMBER),
    equals(9, OTHER.bind, ASK, 10),
    equals(10, OTHER.listen, ASK, 11),
    equals(11, SOCKETCALL, 12, ALLOW),
    load(ARGUMENT),
    equals(13, SOCKETCALL_BIND, ASK, 14),
    equals(14, SOCKETCALL_LISTEN, ASK, ALLOW),
    answer(libc::SECCOMP_RET_ALLOW),
    answer(libc::SECCOMP_RET_USER_NOTIF),
];

/// Puts the filter over this process and everything that it becomes, and gives what it asks by.
///
/// Signals but SIGKILL wait while a call is asked about (5.19): without that a worker's own timer would
/// make it ask again and again while a bind is held back.
///
/// Who has no CAP_SYS_ADMIN may only do that with NO_NEW_PRIVS, which is set then.
///
/// # Errors
/// EBUSY: there is another filter that asks somebody; EINVAL: the kernel is older than 5.19.
pub(in crate::os) fn install() -> Result<OwnedFd, Errno> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let number = RawFd::try_from(seccomp::install(&PROGRAM, flags)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us alone, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
