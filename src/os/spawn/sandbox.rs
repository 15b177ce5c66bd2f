//! The mounts of a process of a unit, in a mount namespace of its own: it goes with the last process in it, and
//! nothing of it is ever seen outside. Done in the child, which has all of supd's rights still.
#![allow(unsafe_code)]

use super::failure::{SpawnFailure, Step};
use crate::model::sandbox::{Mount, View};
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

// include/uapi/linux/mount.h and fcntl.h; the C library of some targets has no names for them.
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
const MOVE_MOUNT_T_SYMLINKS: libc::c_uint = 0x10;
const AT_RECURSIVE: libc::c_uint = 0x8000;

/// A mount, and what was there where that is to be seen.
type Taken<'a> = (&'a Mount, Option<OwnedFd>);

/// Sees to it that this process sees what it is to see. Nothing to do: it stays where it is.
pub(super) fn enter(mounts: &[Mount]) -> Result<(), SpawnFailure> {
    let Some(first) = mounts.first() else { return Ok(()) };
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| failed(first, errno))?;
    // What the host mounts later is seen here, as before; nothing goes the other way.
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(|errno| failed(first, errno))?;
    // All are taken before anything is covered or made read-only: each keeps the flags that it has outside, so
    // that to exempt a place never makes writable what was read-only there.
    let mut steps: Vec<Taken<'_>> = Vec::new();
    for mount in mounts {
        let tree =
            if mount.view.covers() { exists(&mount.at).map(|()| None) } else { take(&mount.at).map(Some) };
        match tree {
            Ok(tree) => steps.push((mount, tree)),
            Err(Errno::ENOENT | Errno::ENOTDIR) if !mount.required => {}
            Err(errno) => return Err(failed(mount, errno)),
        }
    }
    let mut sealed: Vec<&Mount> = Vec::new();
    for (mount, tree) in &steps {
        let inner = steps.iter().any(|(other, _)| other.at != mount.at && other.at.starts_with(&mount.at));
        apply(mount, tree.as_ref().map(AsFd::as_fd), inner).map_err(|errno| failed(mount, errno))?;
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

fn apply(mount: &Mount, tree: Option<BorrowedFd<'_>>, inner: bool) -> Result<(), Errno> {
    let at = mount.at.as_path();
    match (mount.view, tree) {
        // It cannot be laid over the root that a process has already.
        (View::ReadOnly, _) if at == Path::new("/") => read_only(libc::AT_FDCWD, c"/", 0),
        (View::Writable | View::Kept, _) if at == Path::new("/") => Ok(()),
        (View::ReadOnly, Some(tree)) => {
            read_only(tree.as_raw_fd(), c"", libc::AT_EMPTY_PATH.unsigned_abs())?;
            lay(tree, at)
        }
        (View::Writable | View::Kept, Some(tree)) => lay(tree, at),
        (View::Temporary, _) => empty(at, "mode=1777"),
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

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

fn exists(path: &Path) -> Result<(), Errno> {
    let is_folder = fs::metadata(path).map_err(|error| super::directories::raw(&error))?.is_dir();
    if is_folder { Ok(()) } else { Err(Errno::ENOTDIR) }
}

/// A copy of what is mounted at a path and below, which is nowhere yet.
fn take(path: &Path) -> Result<OwnedFd, Errno> {
    let path = c_path(path)?;
    let flags = libc::OPEN_TREE_CLONE | AT_RECURSIVE | libc::O_CLOEXEC.unsigned_abs();
    // SAFETY: a path that ends with 0, read only; the kernel's answer is a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts such a copy to its place. Where that is covered by now, it is made in what covers it.
fn lay(tree: BorrowedFd<'_>, at: &Path) -> Result<(), Errno> {
    let io = |error: std::io::Error| super::directories::raw(&error);
    if matches!(fs::metadata(at), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
        let is_folder = nix::sys::stat::fstat(tree)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        fs::create_dir_all(if is_folder { at } else { at.parent().ok_or(Errno::EINVAL)? }).map_err(io)?;
        if !is_folder {
            fs::File::create_new(at).map_err(io)?;
        }
    }
    let path = c_path(at)?;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS;
    let (from, none) = (tree.as_raw_fd(), c"".as_ptr());
    // SAFETY: two strings that end with 0, read only.
    let done =
        unsafe { libc::syscall(libc::SYS_move_mount, from, none, libc::AT_FDCWD, path.as_ptr(), flags) };
    Errno::result(done).map(drop)
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
