//! Files by name beneath an open folder: no name leads out of it, whatever was put there.
//!
//! Every name goes through openat2(2), which refuses what would follow a link or cross a mount; a
//! path checked first and opened afterwards could be exchanged between the two.
#![allow(unsafe_code)]

use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, open, openat2, renameat2};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Neither links nor another file system, and nothing above.
const STRAIGHT: ResolveFlag = ResolveFlag::RESOLVE_BENEATH
    .union(ResolveFlag::RESOLVE_NO_SYMLINKS)
    .union(ResolveFlag::RESOLVE_NO_MAGICLINKS)
    .union(ResolveFlag::RESOLVE_NO_XDEV);

/// A name that may race with a rename elsewhere in the path is asked for again this often.
const TRIES: u32 = 16;

/// Opens the folder at this path: one that supd made, reached over folders that are supd's.
///
/// # Errors
/// What the kernel answered; ELOOP or ENOTDIR if it is something else.
pub fn open_at(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens a folder beneath `folder`.
///
/// # Errors
/// ELOOP: a link is in the way; EXDEV: a mount, or it leads out; else what the kernel answered.
pub fn open_folder(folder: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let how =
        OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC);
    opened(folder, name, how.resolve(STRAIGHT))
}

/// Makes a file that was not there and opens it for writing. The umask is not to be relied on: see
/// [`set_mode`].
///
/// # Errors
/// EEXIST: something is there, be it a link; else as [`open_folder`].
pub fn create_file(folder: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).mode(Mode::S_IRUSR | Mode::S_IWUSR);
    opened(folder, name, how.resolve(STRAIGHT))
}

/// Whether what `name` leads to, over however many links, lies beneath `folder`. What is not there
/// leads nowhere.
///
/// # Errors
/// What the kernel answered, but for the answers that mean yes or no.
pub fn leads_inside(folder: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC);
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match opened(folder, name, how.resolve(resolve)) {
        Ok(_) | Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR | Errno::ENAMETOOLONG) => Ok(true),
        Err(Errno::EXDEV) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn opened(folder: BorrowedFd<'_>, name: &OsStr, how: OpenHow) -> Result<OwnedFd, Errno> {
    let mut last = Errno::EAGAIN;
    for _ in 0..TRIES {
        match openat2(folder, name, how) {
            Err(errno @ (Errno::EAGAIN | Errno::EINTR)) => last = errno,
            answer => return answer,
        }
    }
    Err(last)
}

/// Makes a folder, for its owner only.
///
/// # Errors
/// What the kernel answered.
pub fn make_folder(folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    mkdirat(folder, name, Mode::S_IRWXU)
}

/// Makes a symbolic link.
///
/// # Errors
/// What the kernel answered.
pub fn make_link(folder: BorrowedFd<'_>, name: &OsStr, target: &str) -> Result<(), Errno> {
    symlinkat(target, folder, name)
}

/// Gives a file a second name; a symbolic link is not followed.
///
/// # Errors
/// What the kernel answered.
pub fn link(old: (BorrowedFd<'_>, &OsStr), new: (BorrowedFd<'_>, &OsStr)) -> Result<(), Errno> {
    linkat(old.0, old.1, new.0, new.1, AtFlags::empty())
}

/// Removes a name that is not a folder's.
///
/// # Errors
/// What the kernel answered; EISDIR for a folder.
pub fn remove_file(folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    unlinkat(folder, name, UnlinkatFlags::NoRemoveDir)
}

/// Removes an empty folder.
///
/// # Errors
/// What the kernel answered.
pub fn remove_folder(folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    unlinkat(folder, name, UnlinkatFlags::RemoveDir)
}

/// Moves a name where nothing is; nothing is ever replaced.
///
/// # Errors
/// EEXIST: something is there. Else what the kernel answered.
pub fn move_to(old: (BorrowedFd<'_>, &OsStr), new: (BorrowedFd<'_>, &OsStr)) -> Result<(), Errno> {
    match renameat2(old.0, old.1, new.0, new.1, RenameFlags::RENAME_NOREPLACE) {
        // A file system without it (NFS, some FUSE). These folders are supd's alone, so nobody
        // puts something there between the look and the rename.
        Err(Errno::EINVAL) => match stat(new.0, new.1) {
            Err(Errno::ENOENT) => renameat2(old.0, old.1, new.0, new.1, RenameFlags::empty()),
            Err(errno) => Err(errno),
            Ok(_) => Err(Errno::EEXIST),
        },
        answer => answer,
    }
}

/// The same for two paths.
///
/// # Errors
/// As [`move_to`].
pub fn move_path(old: &Path, new: &Path) -> Result<(), Errno> {
    move_to((AT_FDCWD, old.as_os_str()), (AT_FDCWD, new.as_os_str()))
}

/// What a name is; a link is not followed.
///
/// # Errors
/// What the kernel answered.
pub fn stat(folder: BorrowedFd<'_>, name: &OsStr) -> Result<FileStat, Errno> {
    fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The kind of what stat(2) described.
#[must_use]
pub fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Sets the permission bits of a file or folder; a link is not followed (ENOTSUP).
///
/// # Errors
/// What the kernel answered.
pub fn set_mode(folder: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<(), Errno> {
    fchmodat(folder, name, Mode::from_bits_truncate(mode), FchmodatFlags::NoFollowSymlink)
}

/// Sets the owner of a name; a link is not followed, but gets the owner itself.
///
/// # Errors
/// What the kernel answered.
pub fn set_owner(folder: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> Result<(), Errno> {
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    fchownat(folder, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// An open folder, and the names in it as they come.
pub struct Listing(OwningIter);

impl Listing {
    /// Begins at the first name.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn of(folder: OwnedFd) -> Result<Self, Errno> {
        Ok(Self(Dir::from_fd(folder)?.into_iter()))
    }

    /// Another one, or the end.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn next_name(&mut self) -> Result<Option<CString>, Errno> {
        for entry in self.0.by_ref() {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if name != c"." && name != c".." {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }
}

impl AsFd for Listing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor for as long as it lives, and `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
