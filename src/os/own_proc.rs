//! A /proc of one's own, for as long as its descriptor is open.
//!
//! What is looked up in /proc/PID stays in the kernel's cache until the process is reaped, and whoever reaps
//! it pays for that: of a worker whose 10,000 descriptors were listed, 12 to 30 ms (Linux 6.18), in which
//! supd does nothing else. What was looked up in a /proc of one's own goes with that, whoever has it.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

// linux/mount.h; libc has none of them.
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

/// The folder of one that nobody else sees; the machine's where supd may not have one (it takes
/// CAP_SYS_ADMIN).
///
/// # Errors
/// There is neither.
pub(super) fn folder() -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    detached().or_else(|_| open("/proc", flags, Mode::empty()))
}

fn detached() -> Result<OwnedFd, Errno> {
    // SAFETY: the name is a string that ends with NUL and lives for ever.
    let context = new(unsafe { libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC) })?;
    let (fd, nothing) = (context.as_raw_fd(), ptr::null::<libc::c_char>());
    // SAFETY: this command takes neither a key nor a value.
    let made = unsafe {
        libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, nothing, nothing, 0 as libc::c_int)
    };
    Errno::result(made)?;
    // SAFETY: the descriptor is open, and no memory is handed over.
    new(unsafe { libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, 0 as libc::c_uint) })
}

/// The descriptor that a call has made.
fn new(answer: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = libc::c_int::try_from(Errno::result(answer)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
