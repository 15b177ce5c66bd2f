//! Never two supd over one folder.

use crate::os::{Error, clock};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollTimeout, poll};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A folder that is ours until this process ends.
///
/// A lock of fcntl(2)'s first kind: it is the process's. One of flock(2) would live on in a child
/// that was just forked when supd died, and lock its successor out. The price: closing any
/// descriptor of the file gives the lock up, so nobody but this opens it.
#[derive(Debug)]
pub struct Lock {
    held_until_the_end: File,
}

/// What keeps it, for the next image.
impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.held_until_the_end.as_fd()
    }
}

/// Why a folder cannot be ours.
#[derive(Debug, PartialEq, Eq)]
pub enum Locked {
    /// The kernel said no.
    Os(Error),
    /// Another one has it.
    By {
        /// Which folder.
        folder: PathBuf,
        /// Its process number; `None`: out of our sight, as in another container.
        pid: Option<i32>,
    },
    /// The writer of a supd that died has not finished.
    Writer {
        /// Which folder.
        folder: PathBuf,
        /// Its process number, as far as it is known.
        pid: Option<i32>,
    },
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, pid) = match self {
            Self::Os(error) => return error.fmt(f),
            Self::By { folder, pid } => (folder.display(), pid),
            Self::Writer { folder, pid } => {
                let pid = pid.map(|pid| format!(", process {pid},")).unwrap_or_default();
                return write!(
                    f,
                    "the writer of the supd before{pid} is not done with {} yet: its disk is slow, or stands \
                     still",
                    folder.display()
                );
            }
        };
        match pid {
            Some(pid) => write!(f, "another supd, process {pid}, works with {folder}")?,
            None => write!(f, "another supd works with {folder}")?,
        }
        let socket = pid.map(|pid| format!(" (where its control socket is gone: `kill -HUP {pid}` before)"));
        let socket = socket.unwrap_or_default();
        write!(
            f,
            "; end it with `supctl shutdown`{socket}, or give this one --runtime and --state of its own"
        )
    }
}

impl std::error::Error for Locked {}

/// The file that a supd locks.
const SUPD: &str = "lock";

/// The file that whoever writes the ledger locks.
const WRITER: &str = "writer.lock";

/// A writer that takes longer to end than this is worth a line in the log.
const WRITER_TOLD_AFTER: Duration = Duration::from_millis(500);

/// How often is looked whether a lock is free.
const LOOK_EVERY_MS: u8 = 10;

impl Lock {
    /// The lock that an earlier image of this process has; `None`: it is no lock of that folder. Its file must not
    /// be opened otherwise: the first close of it, by whichever descriptor, gives the lock up (fcntl(2)).
    #[must_use]
    pub fn go_on(held: OwnedFd, folder: &Path) -> Option<Self> {
        let file = File::from(held);
        let (ours, there) = (file.metadata().ok()?, std::fs::symlink_metadata(folder.join(SUPD)).ok()?);
        let same = (ours.dev(), ours.ino()) == (there.dev(), there.ino());
        let locked = same && fcntl(&file, FcntlArg::F_SETLK(&whole())).is_ok();
        locked.then_some(Self { held_until_the_end: file })
    }

    /// Takes `lock` in this folder, or says who has it.
    ///
    /// # Errors
    /// [`Locked`].
    pub fn take(folder: &Path) -> Result<Self, Locked> {
        let (file, path) = open(folder, SUPD)?;
        let mut whole = whole();
        match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
            Ok(_) => Ok(Self { held_until_the_end: file }),
            Err(Errno::EACCES | Errno::EAGAIN) => {
                let told = fcntl(&file, FcntlArg::F_GETLK(&mut whole));
                let pid = told.is_ok().then_some(whole.l_pid).filter(|pid| *pid > 0);
                Err(Locked::By { folder: folder.into(), pid })
            }
            Err(errno) => Err(Locked::Os(Error::new("lock", path.display(), errno))),
        }
    }

    /// Waits until nobody else writes the ledger of this state folder, and becomes the one who does.
    /// Without a bound: for a child of supd.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn write(state: &Path) -> Result<Self, Locked> {
        let (file, path) = open(state, WRITER)?;
        loop {
            match fcntl(&file, FcntlArg::F_SETLKW(&whole())) {
                Ok(_) => return Ok(Self { held_until_the_end: file }),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Locked::Os(Error::new("lock", path.display(), errno))),
            }
        }
    }

    /// Waits until nobody writes the ledger any more: the writer of a supd that died has yet to finish
    /// what it was given, and whoever reads the ledger before would use its numbers twice. `waits` is
    /// called if that takes long.
    ///
    /// # Errors
    /// [`Locked::By`] when it has not ended within the bound.
    pub fn wait_for_writer(state: &Path, bound: Duration, waits: impl FnOnce(&Locked)) -> Result<(), Locked> {
        let (file, path) = open(state, WRITER)?;
        let began = clock::now();
        let mut waits = Some(waits);
        loop {
            let mut whole = whole();
            fcntl(&file, FcntlArg::F_GETLK(&mut whole))
                .map_err(|errno| Locked::Os(Error::new("lock", path.display(), errno)))?;
            if i32::from(whole.l_type) == libc::F_UNLCK {
                return Ok(());
            }
            let writer =
                Locked::Writer { folder: state.into(), pid: Some(whole.l_pid).filter(|pid| *pid > 0) };
            let waited = clock::now().since(began);
            if waited >= bound {
                return Err(writer);
            }
            if let Some(waits) = waits.take_if(|_| waited >= WRITER_TOLD_AFTER) {
                waits(&writer);
            }
            let _ = poll(&mut [], PollTimeout::from(LOOK_EVERY_MS));
        }
    }
}

fn open(folder: &Path, name: &str) -> Result<(File, PathBuf), Locked> {
    let path = folder.join(name);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(&path)
        .map_err(|error| Locked::Os(Error::from_io("open", path.display(), &error)))?;
    Ok((file, path))
}

fn whole() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Lock, Locked};
    use crate::os::fork::{close_all_but, fork};
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn the_second_is_told_who_the_first_is_until_it_dies() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        // Ends the child of the child with this test, however that ends.
        let (_end_ours, end_theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let path = folder.path().to_path_buf();
        let first = fork("a test", |_| {
            let _lock = Lock::take(&path).unwrap();
            // A child of the first, as a worker just forked: it must not keep the lock.
            let _second = fork("a test", |_| {
                close_all_but(&[end_theirs.as_raw_fd()]).unwrap();
                let _ = (&end_theirs).read(&mut [0]);
            });
            (&theirs).write_all(b"x").unwrap();
            nix::unistd::pause();
        })
        .unwrap();
        let mut entry = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut entry, PollTimeout::from(20_000u16)), Ok(1), "it did not lock");
        let refused = Lock::take(folder.path()).unwrap_err();
        assert_eq!(refused, Locked::By { folder: folder.path().into(), pid: Some(first.process.pid()) });
        assert!(refused.to_string().contains(&format!("process {}", first.process.pid())));
        first.process.send(crate::model::Signal::KILL).unwrap();
        let mut entry = [PollFd::new(first.process.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut entry, PollTimeout::from(20_000u16)), Ok(1), "it did not die");
        first.process.wait().unwrap();
        Lock::take(folder.path()).unwrap();
    }
}
