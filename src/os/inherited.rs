//! Descriptors that whoever started this process passed on: sd_listen_fds(3).
#![allow(unsafe_code)]

use super::error::Error;
use nix::errno::Errno;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// More than any unit has, and few enough to look at each.
const MOST: usize = 1024;

/// Whether they were taken: a descriptor must not have two owners.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The descriptors of LISTEN_FDS in their order, close-on-exec from now on; none if LISTEN_PID
/// names another process. A second call gives none.
///
/// # Errors
/// What LISTEN_PID and LISTEN_FDS say is no number, or not open here.
pub fn take() -> Result<Vec<OwnedFd>, Error> {
    let failed = |error: &std::io::Error| Error::from_io("take over the descriptors of", "LISTEN_FDS", error);
    let fds = sd_notify::listen_fds().map_err(|error| failed(&error))?;
    if fds.len() > MOST {
        return Err(Error::new("take over the descriptors of", "LISTEN_FDS", Errno::EMFILE));
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    // SAFETY: they are open (fcntl(2) on each has just succeeded), LISTEN_PID says that they were
    // opened for this process, nothing in it used a number that it did not open itself, and TAKEN
    // makes sure that each gets one owner only.
    Ok(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect())
}
