//! The filter that has the kernel ask supd about two system calls, and about nothing else
//! (seccomp(2), the kernel's userspace-api/seccomp_filter.rst).
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use std::mem::offset_of;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

// linux/audit.h; libc has none of them.
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;

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

/// __X32_SYSCALL_BIT of asm/unistd.h: the third entry of x86-64.
const X32: u32 = 0x4000_0000;

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

const fn load(offset: usize) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset as u32,
    }
}

/// As instruction `at`: on to instruction `yes` or `no`.
const fn equals(at: u8, value: u32, yes: u8, no: u8) -> libc::sock_filter {
    let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    // The kernel counts from the next instruction.
    libc::sock_filter { code, jt: yes - at - 1, jf: no - at - 1, k: value }
}

const fn answer(value: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: value }
}

const ARCH: usize = offset_of!(libc::seccomp_data, arch);
const NUMBER: usize = offset_of!(libc::seccomp_data, nr);
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
    match try_install() {
        Err(Errno::EACCES) => {
            prctl::set_no_new_privs()?;
            try_install()
        }
        other => other,
    }
}

fn try_install() -> Result<OwnedFd, Errno> {
    let program = libc::sock_fprog { len: PROGRAM.len() as u16, filter: PROGRAM.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the kernel copies the structure and its instructions, and writes to neither.
    let made =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    let number = RawFd::try_from(Errno::result(made)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us alone, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
