//! The mounts of a process of a unit, in a mount namespace of its own: it goes with the last process in it, and
//! nothing of it is ever seen outside. Done in the child, which has all of supd's rights still.
#![allow(unsafe_code)]

use super::failure::{SpawnFailure, Step};
use crate::model::sandbox::{self, Mount, View};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlink};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, mkdirat};
use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

// include/uapi/linux/mount.h and fcntl.h; the C library of some targets has no names for them.
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const AT_EMPTY_PATH: libc::c_uint = 0x1000;
const AT_RECURSIVE: libc::c_uint = 0x8000;

/// Where a mount goes, found once: from here on no name is followed that somebody could give to something else.
struct Place {
    mount: Mount,
    /// What is there.
    found: OwnedFd,
    /// A copy of it, where that is to be seen.
    tree: Option<OwnedFd>,
}

/// Sees to it that this process sees what it is to see. Nothing to do: it stays where it is.
pub(super) fn enter(mounts: &[Mount]) -> Result<(), SpawnFailure> {
    let Some(first) = mounts.first() else { return Ok(()) };
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| failed(first, errno))?;
    // What the host mounts later is seen here, as before; nothing goes the other way.
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(|errno| failed(first, errno))?;
    let places = places(mounts)?;
    let mut sealed: Vec<&Mount> = Vec::new();
    for (at, place) in places.iter().enumerate() {
        let mount = &place.mount;
        let (before, after) = (&places[..at], &places[at + 1..]);
        let is_below = |inner: &Place, outer: &Place| inner.mount.at.starts_with(&outer.mount.at);
        let covered = before.iter().any(|outer| outer.mount.view.covers() && is_below(place, outer));
        let inner = after.iter().any(|inner| is_below(inner, place));
        apply(place, covered, inner).map_err(|errno| failed(mount, errno))?;
        if matches!(mount.view, View::Empty | View::Hidden) {
            sealed.push(mount);
        }
    }
    // Not before the places of what stays in them are made.
    for mount in sealed {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        nix::mount::mount(none, &mount.at, none, flags, none).map_err(|errno| failed(mount, errno))?;
    }
    Ok(())
}

/// All of them, outer folders first, where links have led. Taken before anything is covered or made read-only: each
/// keeps the flags that it has outside, so that to exempt a place never makes writable what was read-only there.
fn places(mounts: &[Mount]) -> Result<Vec<Place>, SpawnFailure> {
    let mut found = BTreeMap::new();
    let mut there = Vec::new();
    for mount in mounts {
        match look_up(mount) {
            Ok((fd, at)) => {
                found.insert(at.clone(), fd);
                there.push(Mount { at, ..mount.clone() });
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) if !mount.required => {}
            Err(errno) => return Err(failed(mount, errno)),
        }
    }
    let arranged = sandbox::arrange(there).map_err(|hidden| {
        let what = format!("{} at {}, which another key of the unit hides", hidden.key, hidden.at.display());
        SpawnFailure::errno(Step::Sandbox, what, Errno::EACCES)
            .hint("name what is elsewhere, or write ProtectHome = \"tmpfs\", which leaves what ReadWritePaths names")
    })?;
    let place = |mount: Mount| {
        let lost = || failed(&mount, Errno::EBADF);
        let fd = found.remove(&mount.at).ok_or_else(lost)?;
        let tree = if mount.view.covers() { None } else { Some(take(&fd)) };
        let tree = tree.transpose().map_err(|errno| failed(&mount, errno))?;
        Ok(Place { mount, found: fd, tree })
    };
    arranged.into_iter().map(place).collect()
}

/// What is there, and its name without links.
fn look_up(mount: &Mount) -> Result<(OwnedFd, PathBuf), Errno> {
    let folder = if mount.view.covers() { OFlag::O_DIRECTORY } else { OFlag::empty() };
    let fd = open(&mount.at, OFlag::O_PATH | OFlag::O_CLOEXEC | folder, Mode::empty())?;
    let name = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str())?;
    Ok((fd, name.into()))
}

fn apply(place: &Place, covered: bool, inner: bool) -> Result<(), Errno> {
    let at = place.mount.at.as_path();
    match (place.mount.view, &place.tree) {
        // It cannot be laid over the root that a process has already.
        (View::ReadOnly, _) if at == Path::new("/") => read_only(libc::AT_FDCWD, c"/", 0),
        (View::Writable | View::Kept, _) if at == Path::new("/") => Ok(()),
        (View::ReadOnly, Some(tree)) => {
            read_only(tree.as_raw_fd(), c"", libc::AT_EMPTY_PATH.unsigned_abs())?;
            lay(tree, place, covered)
        }
        (View::Writable | View::Kept, Some(tree)) => lay(tree, place, covered),
        (View::Temporary, _) => empty(at, "mode=1777,size=10%,nr_inodes=400k"),
        (View::Hidden, _) if !inner => empty(at, "mode=0000,size=4k,nr_inodes=16"),
        // Whoever knows what stays in it gets there.
        (View::Hidden, _) => empty(at, "mode=0111,size=64k,nr_inodes=4096"),
        (View::Empty, _) => empty(at, "mode=0755,size=64k,nr_inodes=4096"),
        (View::Kept | View::ReadOnly | View::Writable, None) => Err(Errno::EBADF),
    }
}

fn failed(mount: &Mount, errno: Errno) -> SpawnFailure {
    let what = format!("{} at {}", mount.key, mount.at.display());
    let failure = SpawnFailure::errno(Step::Sandbox, what, errno);
    match errno {
        Errno::EPERM => failure.hint(
            "supd itself may not mount: run it as root, with CAP_SYS_ADMIN, or take ProtectSystem, ProtectHome, \
             PrivateTmp and ReadWritePaths out",
        ),
        Errno::ENOSYS => failure.hint("this kernel is too old (5.12 is needed): take the key out"),
        Errno::ENOENT => failure.hint("make it, or take it out of the unit file"),
        _ => failure,
    }
}

/// A copy of what is mounted at a place and below, which is nowhere yet.
fn take(place: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = libc::OPEN_TREE_CLONE | AT_RECURSIVE | AT_EMPTY_PATH | libc::O_CLOEXEC.unsigned_abs();
    // SAFETY: an empty string that ends with 0, read only; the kernel's answer is a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts such a copy to its place. Where that is covered by now, it is made in what covers it, and nowhere else: a path
/// that the worker's user has exchanged meanwhile leads to no other place.
fn lay(tree: &OwnedFd, place: &Place, covered: bool) -> Result<(), Errno> {
    let to = if covered { make(&place.mount.at, tree)? } else { straight(AT_FDCWD, &place.mount.at)? };
    let (now, found) = (fstat(&to)?, fstat(&place.found)?);
    if !covered && (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino) {
        return Err(Errno::ELOOP);
    }
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let none = c"".as_ptr();
    let (from, to) = (tree.as_raw_fd(), to.as_raw_fd());
    // SAFETY: two strings that end with 0, read only.
    let done = unsafe { libc::syscall(libc::SYS_move_mount, from, none, to, none, flags) };
    Errno::result(done).map(drop)
}

/// Opens a path over no link.
fn straight(folder: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC);
    openat2(folder, path, how.resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS))
}

/// Makes a place for that, with the folders that lead there, open to all: what was covered said who may pass, and what
/// is laid there says so again. Whatever the umask is.
fn make(at: &Path, like: &OwnedFd) -> Result<OwnedFd, Errno> {
    let is_folder = fstat(like)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let mut folder = straight(AT_FDCWD, Path::new("/"))?;
    let names: Vec<&OsStr> = at.iter().skip(1).collect();
    for (depth, name) in names.iter().enumerate() {
        let name = Path::new(name);
        let next = straight(&folder, name).or_else(|errno| {
            if errno != Errno::ENOENT {
                return Err(errno);
            }
            if is_folder || depth + 1 < names.len() {
                mkdirat(&folder, name, Mode::empty())?;
            } else {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                openat(&folder, name, flags, Mode::empty())?;
            }
            let mode = Mode::from_bits_truncate(0o755);
            fchmodat(&folder, name, mode, FchmodatFlags::FollowSymlink)?;
            straight(&folder, name)
        })?;
        folder = next;
    }
    Ok(folder)
}

/// Read-only, with all that is mounted below (mount_setattr(2), 5.12).
fn read_only(folder: RawFd, path: &CStr, flags: libc::c_uint) -> Result<(), Errno> {
    /// struct mount_attr: what to set, what to clear, propagation, a user namespace.
    const READ_ONLY: [u64; 4] = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];
    let (flags, size) = (flags | AT_RECURSIVE, size_of_val(&READ_ONLY));
    // SAFETY: a string that ends with 0 and a structure of the size that is told, read only.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, folder, path.as_ptr(), flags, READ_ONLY.as_ptr(), size)
    };
    Errno::result(done).map(drop)
}

fn empty(at: &Path, options: &str) -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags | MsFlags::MS_STRICTATIME, Some(options))
}
