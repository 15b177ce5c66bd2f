//! Which file it is, and in which state.

use crate::os::Error;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Which file this is, and in which state: any write to it, and any other file under its name,
/// changes one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl FileIdentity {
    /// That of the file at `path`. May wait for a slow disk, or for ever on a dead NFS server: for
    /// a [`crate::os::task::Task`] wherever the path is not known to be local.
    ///
    /// # Errors
    /// What open(2) says; EINVAL for what is no regular file.
    pub fn of(path: &Path) -> Result<Self, Error> {
        open_regular(path).map(|(_, identity, _)| identity)
    }

    /// Takes back what [`fmt::Display`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let identity = Self {
            device: parts.next()?.parse().ok()?,
            inode: parts.next()?.parse().ok()?,
            size: parts.next()?.parse().ok()?,
            modified_ns: parts.next()?.parse().ok()?,
            changed_ns: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(identity)
    }

    pub(super) fn from_stat(stat: &FileStat) -> Self {
        let ns = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
            changed_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// `device:inode:size:mtime:ctime`, the times in nanoseconds since 1970.
impl fmt::Display for FileIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, inode, size, modified_ns, changed_ns } = self;
        write!(f, "{device}:{inode}:{size}:{modified_ns}:{changed_ns}")
    }
}

/// Opens a file without being held up by a FIFO or doing anything to a device.
pub(super) fn open_regular(path: &Path) -> Result<(OwnedFd, FileIdentity, u32), Error> {
    let failed = |errno| Error::new("open", path.display(), errno);
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = open(path, flags, Mode::empty()).map_err(failed)?;
    let stat = fstat(&file).map_err(failed)?;
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(failed(Errno::EINVAL));
    }
    Ok((file, FileIdentity::from_stat(&stat), stat.st_mode))
}
