//! Paths that are longer than a socket's address.

use crate::os::Error;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A path that fits into a socket's address, which ends at 107 bytes (unix(7)).
pub(super) struct Short {
    pub(super) path: PathBuf,
    _folder: Option<OwnedFd>,
}

impl Short {
    /// The path itself, or one through a descriptor of its folder.
    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        if path.as_os_str().len() <= 107 {
            return Ok(Self { path: path.into(), _folder: None });
        }
        let failed = |errno| Error::new("open the folder of", path.display(), errno);
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(Errno::EINVAL));
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = open(folder, flags, Mode::empty()).map_err(failed)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }
}
