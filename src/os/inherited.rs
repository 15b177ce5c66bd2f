//! Descriptors that whoever started supd passes to it (sd_listen_fds(3)).
#![allow(unsafe_code)]

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Taken already: each descriptor has one owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// They are not there any more, although the variables say so: their numbers are others'.
pub fn forget() {
    TAKEN.store(true, Ordering::SeqCst);
}

/// The descriptors of LISTEN_FDS, close-on-exec from here on. They are handed out once; later
/// there are none. What LISTEN_FDS promises and is not there is left out.
#[must_use]
pub fn take() -> Vec<(String, OwnedFd)> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let Ok(numbers) = sd_notify::listen_fds() else { return Vec::new() };
    let is_open = |number: &i32| {
        // SAFETY: asks about a number, whatever it is.
        unsafe { libc::fcntl(*number, libc::F_GETFD) >= 0 }
    };
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    numbers
        .zip(names)
        .filter(|(number, _)| is_open(number))
        // SAFETY: open, and by the protocol given to this process and to no one in it but us, once.
        .map(|(number, name)| (name, unsafe { OwnedFd::from_raw_fd(number) }))
        .inspect(|(_, fd)| {
            // A copy in every worker would keep the address bound for good.
            let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        })
        .collect()
}
