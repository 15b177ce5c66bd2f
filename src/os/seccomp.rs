//! Filters of system calls: what they are made of, and how the kernel gets them (seccomp(2), the kernel's
//! userspace-api/seccomp_filter.rst).
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc::{self, sock_filter};
use nix::sys::prctl;
use std::mem::offset_of;

// linux/audit.h; libc has none of them.
pub(super) const X86_64: u32 = 0xc000_003e;
pub(super) const I386: u32 = 0x4000_0003;
pub(super) const AARCH64: u32 = 0xc000_00b7;
pub(super) const ARM: u32 = 0x4000_0028;

/// The entry that supd itself is built for.
pub(super) const OWN: u32 = if cfg!(target_arch = "aarch64") { AARCH64 } else { X86_64 };

/// __X32_SYSCALL_BIT of asm/unistd.h: the third entry of x86-64.
pub(super) const X32: u32 = 0x4000_0000;

/// Where a filter finds the entry.
pub(super) const ARCH: usize = offset_of!(libc::seccomp_data, arch);
/// Where it finds the number.
pub(super) const NUMBER: usize = offset_of!(libc::seccomp_data, nr);

/// Reads 32 bits of what is asked about.
pub(super) const fn load(offset: usize) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset as u32 }
}

/// Says what becomes of the call.
pub(super) const fn answer(value: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: value }
}

/// Passes over `jt` instructions where what was read is that (BPF_JEQ) or not below (BPF_JGE), else over `jf`.
pub(super) const fn jump(test: u32, value: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt, jf, k: value }
}

/// Puts a filter over this process and everything that it becomes. What the kernel says to it is given back.
///
/// Who has no CAP_SYS_ADMIN may only do that with NO_NEW_PRIVS, which is set then.
///
/// # Errors
/// What the kernel answered; E2BIG: it is longer than 65,535 instructions.
pub(super) fn install(program: &[sock_filter], flags: libc::c_ulong) -> Result<libc::c_long, Errno> {
    match try_install(program, flags) {
        Err(Errno::EACCES) => {
            prctl::set_no_new_privs()?;
            try_install(program, flags)
        }
        other => other,
    }
}

fn try_install(program: &[sock_filter], flags: libc::c_ulong) -> Result<libc::c_long, Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the structure and its instructions, and writes to neither.
    let made =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    Errno::result(made)
}
