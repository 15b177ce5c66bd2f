//! What is to go: first aside, by one rename, then away, piece by piece.
//!
//! What was a user's may still be written to, be read-only, or be made of ten thousand folders in
//! one another, which no path and no recursion reaches the end of.

use crate::os::Error;
use crate::os::beneath::{self, Listing};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown, getegid, geteuid};
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Folders in one another that are open at once; deeper ones are moved up first.
const DEPTH_MAX: usize = 100;

/// A folder into which somebody still writes is emptied this often.
const TRIES: u32 = 16;

/// Moves a file or folder into the trash, under a number of its own. What is not there is fine.
///
/// # Errors
/// What the kernel answered.
pub(super) fn set_aside(path: &Path, trash: &Path) -> Result<(), String> {
    let failed = |errno| Error::new("move away", path.display(), errno).to_string();
    let trash = beneath::open_at(trash).map_err(failed)?;
    let old = (AT_FDCWD, path.as_os_str());
    let moved = match aside(old, trash.as_fd(), &mut 0) {
        // A sealed folder of an ordinary user's: its entry for the one above is written too.
        Err(Errno::EACCES) => {
            beneath::set_mode(old.0, old.1, 0o700).and_then(|()| aside(old, trash.as_fd(), &mut 0))
        }
        moved => moved,
    };
    match moved {
        Err(Errno::ENOENT) => Ok(()),
        moved => moved.map_err(failed),
    }
}

fn aside(old: (BorrowedFd<'_>, &OsStr), trash: BorrowedFd<'_>, next: &mut u64) -> Result<(), Errno> {
    loop {
        let name = OsString::from(next.to_string());
        *next += 1;
        match beneath::move_to(old, (trash, &name)) {
            Err(Errno::EEXIST | Errno::ENOTEMPTY) => {}
            moved => return moved,
        }
    }
}

/// Removes everything in a folder; another that does so at the same time is no trouble.
///
/// # Errors
/// The first that could not be removed; the rest was, as far as it could be.
pub(super) fn empty(trash: &Path) -> Result<(), String> {
    let failed = |errno| Error::new("empty the folder", trash.display(), errno).to_string();
    let mut bin = Bin { folder: beneath::open_at(trash).map_err(failed)?, next: 0, first: None };
    loop {
        let before = bin.names().map_err(failed)?;
        bin.first = None;
        for name in &before {
            bin.remove(OsStr::from_bytes(name.to_bytes()));
        }
        let left = bin.names().map_err(failed)?;
        if left.is_empty() || left == before {
            return bin.first.map_or(Ok(()), Err);
        }
    }
}

/// The trash, being emptied.
struct Bin {
    folder: OwnedFd,
    next: u64,
    /// What went wrong first.
    first: Option<String>,
}

/// A folder whose names are being removed, and its own.
struct Level {
    listing: Listing,
    name: CString,
}

impl Bin {
    fn names(&self) -> Result<Vec<CString>, Errno> {
        let mut listing = Listing::of(beneath::open_folder(self.folder.as_fd(), OsStr::new("."))?)?;
        let mut names = Vec::new();
        while let Some(name) = listing.next_name()? {
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    fn remove(&mut self, name: &OsStr) {
        let mut result = Ok(());
        for _ in 0..TRIES {
            result = self.try_to_remove(name);
            if result != Err(Errno::ENOTEMPTY) {
                break;
            }
        }
        if let Err(errno) = result {
            self.note(name, errno);
        }
    }

    fn try_to_remove(&mut self, name: &OsStr) -> Result<(), Errno> {
        if !is_folder_left(beneath::remove_file(self.folder.as_fd(), name))? {
            return Ok(());
        }
        let Some(listing) = gone_is_none(take(self.folder.as_fd(), name))? else { return Ok(()) };
        let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
        self.clear(Level { listing, name })
    }

    /// Empties and removes a folder, and those in it, from the deepest up.
    fn clear(&mut self, first: Level) -> Result<(), Errno> {
        let mut levels = vec![first];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.listing.next_name()? else {
                let name = levels.pop().map(|level| level.name).unwrap_or_default();
                let name = OsStr::from_bytes(name.to_bytes());
                let above = levels.last().map_or(self.folder.as_fd(), |level| level.listing.as_fd());
                match beneath::remove_folder(above, name) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) if levels.is_empty() => return Err(errno),
                    Err(errno) => self.note(name, errno),
                }
                continue;
            };
            let deep = levels.len() >= DEPTH_MAX;
            let folder = levels.last().map_or(self.folder.as_fd(), |level| level.listing.as_fd());
            match Self::entry(folder, self.folder.as_fd(), &name, deep, &mut self.next) {
                Ok(None) => {}
                Ok(Some(listing)) => levels.push(Level { listing, name }),
                Err(errno) => self.note(OsStr::from_bytes(name.to_bytes()), errno),
            }
        }
        Ok(())
    }

    /// Removes a name, or opens the folder that it is, to be emptied.
    fn entry(
        folder: BorrowedFd<'_>,
        trash: BorrowedFd<'_>,
        name: &CString,
        deep: bool,
        next: &mut u64,
    ) -> Result<Option<Listing>, Errno> {
        let name = OsStr::from_bytes(name.to_bytes());
        if !is_folder_left(beneath::remove_file(folder, name))? {
            return Ok(None);
        }
        let Some(listing) = gone_is_none(take(folder, name))? else { return Ok(None) };
        if deep {
            // Its turn comes as one of the trash's own.
            gone_is_none(aside((folder, name), trash, next))?;
            return Ok(None);
        }
        Ok(Some(listing))
    }

    fn note(&mut self, name: &OsStr, errno: Errno) {
        let told = || Error::new("remove", format!("{name:?} in the trash"), errno).to_string();
        self.first.get_or_insert_with(told);
    }
}

/// Opens a folder and makes it ours alone, so that nobody fills it while it is emptied.
fn take(folder: BorrowedFd<'_>, name: &OsStr) -> Result<Listing, Errno> {
    let opened = match beneath::open_folder(folder, name) {
        Err(Errno::EACCES) => {
            beneath::set_mode(folder, name, 0o700)?;
            beneath::open_folder(folder, name)?
        }
        opened => opened?,
    };
    let stat = fstat(&opened)?;
    let ours: (Uid, Gid) = (geteuid(), getegid());
    if stat.st_uid != ours.0.as_raw() {
        fchown(&opened, Some(ours.0), Some(ours.1))?;
    }
    if stat.st_mode & 0o7777 != 0o700 {
        fchmod(&opened, Mode::S_IRWXU)?;
    }
    Listing::of(opened)
}

/// Whether unlink(2) left it because it is a folder.
fn is_folder_left(removed: Result<(), Errno>) -> Result<bool, Errno> {
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(false),
        Err(Errno::EISDIR) => Ok(true),
        Err(errno) => Err(errno),
    }
}

fn gone_is_none<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
