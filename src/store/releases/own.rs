//! A tree changes hands: to the unit's user for ExecInstall, and at the end to root, sealed.
//!
//! While it is the user's, a process of the user may exchange what is in it at any moment, and what
//! is done here is done as root. So each folder is taken before anything in it is looked at, from
//! the top down: from then on the names in it stay what they are.

use crate::model::text::printable;
use crate::os::beneath::{self, Listing};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown};
use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Folders in one another: more than an archive may have, for what ExecInstall adds. Each takes a
/// descriptor.
const DEPTH_MAX: usize = 250;

/// Whose the tree is over time, as uid and gid.
pub(super) struct Owners {
    /// Who unpacked it.
    pub(super) unpacked: (u32, u32),
    /// As whom ExecInstall and the workers run.
    pub(super) user: (u32, u32),
    /// Who has it in the end.
    pub(super) last: (u32, u32),
}

/// Which change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// To the user, as it is.
    Give,
    /// To its last owner, without write bits.
    Seal,
}

/// One change under way.
struct Walk {
    from: [u32; 2],
    to: (u32, u32),
    step: Step,
    /// Files with several names, done already under another.
    done: HashSet<(u64, u64)>,
    /// From the top, for messages.
    path: Vec<CString>,
}

/// Changes the owner of a tree, and its bits to seal it.
///
/// # Errors
/// What stands in it that has no place in a release, or what the kernel answered.
pub(super) fn own(top: &OwnedFd, owners: &Owners, step: Step) -> Result<(), String> {
    let to = match step {
        Step::Give => owners.user,
        Step::Seal => owners.last,
    };
    let from = [owners.unpacked.0, owners.user.0];
    let mut walk = Walk { from, to, step, done: HashSet::new(), path: Vec::new() };
    let copy = top.try_clone().map_err(|error| walk.told("hold", error.raw_os_error()))?;
    let mut levels = vec![walk.take(copy)?];
    while let Some(level) = levels.last_mut() {
        match level.next_name().map_err(|errno| walk.failed("list", errno))? {
            None => {
                levels.pop();
                walk.path.pop();
            }
            Some(name) => {
                let deep = levels.len() >= DEPTH_MAX;
                let level = levels.last().map(AsFd::as_fd);
                let level = level.ok_or("a folder was lost while its names were read")?;
                walk.path.push(name);
                match walk.visit(level)? {
                    Some(_) if deep => {
                        return Err(walk.refused(&format!("more than {DEPTH_MAX} folders deep")));
                    }
                    Some(folder) => {
                        let listing = walk.take(folder)?;
                        levels.push(listing);
                    }
                    None => {
                        walk.path.pop();
                    }
                }
            }
        }
    }
    Ok(())
}

impl Walk {
    /// A folder, before anything in it.
    fn take(&mut self, folder: OwnedFd) -> Result<Listing, String> {
        let stat = fstat(&folder).map_err(|errno| self.failed("look at", errno))?;
        self.check_owner(&stat)?;
        if (stat.st_uid, stat.st_gid) != self.to {
            let (uid, gid) = (Uid::from_raw(self.to.0), Gid::from_raw(self.to.1));
            fchown(&folder, Some(uid), Some(gid)).map_err(|errno| self.failed("give away", errno))?;
        }
        if let Some(mode) = self.mode(&stat) {
            let mode = Mode::from_bits_truncate(mode);
            fchmod(&folder, mode).map_err(|errno| self.failed("seal", errno))?;
        }
        Listing::of(folder).map_err(|errno| self.failed("list", errno))
    }

    /// What the path now ends in; a folder is opened, and not changed yet.
    fn visit(&mut self, folder: BorrowedFd<'_>) -> Result<Option<OwnedFd>, String> {
        let name = self.path.last().cloned().unwrap_or_default();
        let name = OsStr::from_bytes(name.to_bytes());
        let stat = beneath::stat(folder, name).map_err(|errno| self.failed("look at", errno))?;
        let kind = beneath::kind(&stat);
        match kind {
            SFlag::S_IFDIR => return self.open(folder, name).map(Some),
            SFlag::S_IFREG | SFlag::S_IFLNK => {}
            _ => return Err(self.refused("neither a file nor a folder nor a link: remove it in ExecInstall")),
        }
        let several = stat.st_nlink > 1;
        if several && self.done.contains(&(stat.st_dev, stat.st_ino)) {
            return Ok(None);
        }
        self.check_owner(&stat)?;
        if (stat.st_uid, stat.st_gid) != self.to {
            beneath::set_owner(folder, name, self.to.0, self.to.1)
                .map_err(|errno| self.failed("give away", errno))?;
        }
        if let Some(mode) = self.mode(&stat).filter(|_| kind == SFlag::S_IFREG) {
            beneath::set_mode(folder, name, mode).map_err(|errno| self.failed("seal", errno))?;
        }
        if several {
            self.done.insert((stat.st_dev, stat.st_ino));
        }
        Ok(None)
    }

    fn open(&self, folder: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, String> {
        let opened = match beneath::open_folder(folder, name) {
            // Without root its owner too needs the bits.
            Err(Errno::EACCES) => {
                let made = beneath::set_mode(folder, name, 0o700);
                made.and_then(|()| beneath::open_folder(folder, name))
            }
            opened => opened,
        };
        opened.map_err(|errno| match errno {
            Errno::EXDEV => self.refused("another file system is mounted there"),
            errno => self.failed("open", errno),
        })
    }

    /// Where the kernel lets a user link to files of others (fs.protected_hardlinks = 0), what is
    /// named here may be any file of the machine, and its owner's bits are about to become the
    /// group's.
    fn check_owner(&self, stat: &FileStat) -> Result<(), String> {
        if self.from.contains(&stat.st_uid) {
            return Ok(());
        }
        Err(self.refused(&format!("it belongs to uid {}, not to the unit's user", stat.st_uid)))
    }

    /// The new bits, where they differ.
    fn mode(&self, stat: &FileStat) -> Option<u32> {
        let now = stat.st_mode & 0o7777;
        let sealed = now & 0o555 | (now & 0o500) >> 3;
        (self.step == Step::Seal && sealed != now).then_some(sealed)
    }

    fn failed(&self, doing: &str, errno: Errno) -> String {
        format!("cannot {doing} {}: {}", self.shown(), errno.desc())
    }

    fn told(&self, doing: &str, errno: Option<i32>) -> String {
        self.failed(doing, errno.map_or(Errno::EIO, Errno::from_raw))
    }

    fn refused(&self, why: &str) -> String {
        format!("{} cannot be part of a release: {why}", self.shown())
    }

    fn shown(&self) -> String {
        /// A longer path tells nobody more.
        const SHOWN_MAX: usize = 300;
        let parts: Vec<_> = self.path.iter().map(|name| name.to_string_lossy()).collect();
        match &*printable(&parts.join("/"), SHOWN_MAX) {
            "" => "the release's folder".to_owned(),
            path => format!("\"{path}\""),
        }
    }
}
