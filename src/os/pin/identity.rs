//! Which file it is, and in which state.

use crate::os::Error;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, makedev};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
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

    /// That of an open file as far as the kernel knows it: no server of a network is asked.
    #[allow(unsafe_code, reason = "statx(2) has no wrapper")]
    pub(super) fn as_known(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
        // SAFETY: a statx of zeros is a valid one.
        let mut stat: libc::statx = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, the path ends with a NUL, the kernel fills the structure.
        let done = unsafe {
            libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_BASIC_STATS, &raw mut stat)
        };
        Errno::result(done)?;
        let ns =
            |time: libc::statx_timestamp| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
        Ok(Self {
            device: makedev(stat.stx_dev_major.into(), stat.stx_dev_minor.into()),
            inode: stat.stx_ino,
            size: stat.stx_size,
            modified_ns: ns(stat.stx_mtime),
            changed_ns: ns(stat.stx_ctime),
        })
    }

    /// Whether it is the same file, in whatever state. Only of one that somebody holds: the number of
    /// one that is gone may be another's.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether nobody wrote to a file that is held. Its time of change says less: that of a program
    /// moves when another one takes its name.
    #[must_use]
    pub fn is_still(&self, before: &Self) -> bool {
        let bytes = |identity: &Self| (identity.size, identity.modified_ns);
        self.is_same_file(before) && bytes(self) == bytes(before)
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
