//! The kernel said no: what was being done, to what, and its errno.

use nix::errno::Errno;
use std::fmt;

/// One failed system call, told so that a person can act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What was being done, as "bind" or "open the log file".
    pub doing: &'static str,
    /// To what: a path, an address, a name.
    pub what: String,
    /// What the kernel answered.
    pub errno: Errno,
}

impl Error {
    /// `cannot {doing} {what}: {errno}`
    #[must_use]
    pub fn new(doing: &'static str, what: impl fmt::Display, errno: Errno) -> Self {
        Self { doing, what: what.to_string(), errno }
    }

    /// The same from a std error; one without an errno (std's own findings) becomes EINVAL.
    #[must_use]
    pub fn from_io(doing: &'static str, what: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(doing, what, error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.doing, self.what, self.errno.desc())?;
        f.write_str(self.hint())
    }
}

impl Error {
    /// Where the kernel's word alone says nothing.
    fn hint(&self) -> &'static str {
        match (self.doing, self.errno) {
            ("fork for", Errno::EAGAIN) => {
                " (EAGAIN: as many processes as may be: ulimit -u, or pids.max of the control group)"
            }
            ("fork for", Errno::ENOMEM) => {
                " (ENOMEM: no memory, or the first process of the PID namespace has ended)"
            }
            ("probe from", Errno::EAGAIN) => {
                " (EAGAIN: as many checks and connections of one unit as may be)"
            }
            _ => "",
        }
    }
}

impl std::error::Error for Error {}
