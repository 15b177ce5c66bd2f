//! The program that a process runs, held fast until it is copied.

use super::identity::FileIdentity;
use crate::os::Error;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A program that ran: the process may end and the name may go to another file, this one stays and
/// can be copied. It can still be written to, once nobody runs it: its identity shows that.
#[derive(Debug)]
pub struct Held {
    file: OwnedFd,
    identity: FileIdentity,
}

impl Held {
    /// Takes hold of what process `pid` runs. Never waits for a disk: O_PATH opens nothing, and what
    /// it is told by is what the kernel knows already. The number must be the process's own until
    /// this returns, which is for the caller to see to.
    ///
    /// # Errors
    /// ENOENT: it has ended; EACCES: it is not ours to look at; EMFILE, ENFILE.
    pub fn of(pid: i32) -> Result<Self, Error> {
        let exe = exe(pid);
        let failed = |errno: Errno| Error::new("hold", exe.display(), errno);
        let file = open(&exe, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
        let identity = FileIdentity::as_known(file.as_fd()).map_err(failed)?;
        Ok(Self { file, identity })
    }

    /// Which file it is, and its state when it was taken hold of.
    #[must_use]
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// By which name whoever has this descriptor opens it. May wait for the disk.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Whether process `pid` runs something else by now; a process that has ended does not.
    #[must_use]
    pub fn is_left_by(&self, pid: i32) -> bool {
        FileIdentity::of(&exe(pid)).is_ok_and(|runs| !runs.is_same_file(&self.identity))
    }

    /// Whether `file` names it, or did until another one was moved over it: a person may be faster
    /// than a copy. The kernel tells (proc(5), /proc/PID/fd).
    #[must_use]
    pub fn is_or_was_named(&self, file: &Path) -> bool {
        if FileIdentity::of(file).is_ok_and(|there| there.is_same_file(&self.identity)) {
            return true;
        }
        let Some(name) = std::fs::read_link(self.path()).ok().and_then(|name| without_mark(&name)) else {
            return false;
        };
        let folder = file.parent().and_then(|folder| folder.canonicalize().ok());
        folder.zip(file.file_name()).is_some_and(|(folder, own)| folder.join(own) == name)
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn exe(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

/// The name that a file had, of what the kernel says of one that has it no longer.
pub(super) fn without_mark(name: &Path) -> Option<PathBuf> {
    let name = name.as_os_str().as_bytes().strip_suffix(b" (deleted)")?;
    Some(OsString::from_vec(name.to_vec()).into())
}

/// The file name under which a program runs, whatever it is called by: `server` may be a link to node.
pub(super) fn own_name(source: &Path) -> Option<OsString> {
    let own = std::fs::canonicalize(source).or_else(|_| std::fs::read_link(source)).ok()?;
    let own = without_mark(&own).filter(|_| !own.exists()).unwrap_or(own);
    own.file_name().map(OsStr::to_owned)
}

#[cfg(test)]
mod tests {
    use super::Held;
    use std::fs;
    use std::process::Command;

    #[test]
    fn it_outlives_the_process_and_the_name_and_shows_a_write() {
        let folder = tempfile::tempdir().unwrap();
        let (program, aside) = (folder.path().join("server"), folder.path().join("aside"));
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = Command::new(&program).arg("600").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let held = Held::of(pid).unwrap();
        assert!(held.is_or_was_named(&program) && !held.is_left_by(pid));
        assert!(held.is_left_by(i32::try_from(std::process::id()).unwrap()), "who runs this test");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Held::of(pid).is_err() && !held.is_left_by(pid));

        fs::write(&aside, "the next version").unwrap();
        fs::rename(&aside, &program).unwrap();
        assert!(held.is_or_was_named(&program) && !held.is_or_was_named(&folder.path().join("other")));
        assert_eq!(fs::read(held.path()).unwrap(), fs::read("/bin/sleep").unwrap());
        let now = |held: &Held| super::FileIdentity::of(&held.path()).unwrap();
        assert!(now(&held).is_still(&held.identity()), "another file has its name, its bytes are the same");

        let write = fs::File::options().write(true).open(held.path()).unwrap();
        // Set, since the clock of a file system may not tick between two writes.
        write.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert!(!now(&held).is_still(&held.identity()));
    }
}
