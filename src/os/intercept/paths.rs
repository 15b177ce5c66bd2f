//! Paths that workers bind: which of the unit's one is, whatever it was called by, and what an earlier worker
//! left there.

use crate::os::sock_diag;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockname, socket};
use nix::sys::stat::fstat;
use nix::unistd::{Gid, Uid, geteuid, getgroups, setfsgid, setfsuid, setgroups};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The path that a socket is bound to: one of `ours` if it is that file. Else by its name, which may be that of
/// a link, or of a folder that is not the working one any more.
pub(super) fn bound_to(thread: i32, its: &OwnedFd, ours: &[PathBuf]) -> Option<PathBuf> {
    let name: UnixAddr = getsockname(its.as_raw_fd()).ok()?;
    let path = whole(thread, name.path()?)?;
    if ours.is_empty() || ours.contains(&path) {
        return Some(path);
    }
    let inode = fstat(its).ok().and_then(|stat| u32::try_from(stat.st_ino).ok())?;
    let file = sock_diag::unix_by_inode(inode).ok().and_then(|socket| socket.file);
    let is_it = |path: &&PathBuf| {
        let here = fs::metadata(path).ok();
        here.zip(file).is_some_and(|(here, file)| file.is(here.dev(), here.ino()))
    };
    Some(ours.iter().find(is_it).cloned().unwrap_or(path))
}

fn whole(thread: i32, path: &Path) -> Option<PathBuf> {
    let folder = || fs::read_link(format!("/proc/{thread}/cwd")).ok();
    let whole = if path.is_absolute() { path.into() } else { folder()?.join(path) };
    // Without `.` and doubled slashes; `..` leads elsewhere where there are links.
    Some(whole.components().collect())
}

/// Takes away what an earlier worker left where this one is about to bind, if that is a path of the unit and
/// nobody is behind it: a server that counts on a clean folder would fail at its second start. With the
/// worker's own rights, so that it could have done it.
pub(super) fn clear(thread: i32, address: &[u8], kind: i32, ours: &[PathBuf]) {
    let Some(asked) = address.get(2..).and_then(|name| name.split(|byte| *byte == 0).next()) else { return };
    let Some(asked) = Some(asked).filter(|name| !name.is_empty()) else { return };
    let Some(path) = whole(thread, Path::new(OsStr::from_bytes(asked))) else { return };
    let file = |path: &Path| {
        let file = fs::symlink_metadata(path).ok()?;
        file.file_type().is_socket().then_some((file.dev(), file.ino()))
    };
    let Some((device, inode)) = file(&path) else { return };
    if !ours.iter().any(|ours| file(ours) == Some((device, inode))) {
        return;
    }
    let _ = as_worker(thread, || {
        if is_dead(&path, kind, inode) {
            let _ = fs::remove_file(&path);
        }
    });
}

/// Nobody accepts there, and nobody is about to: bound, and not listening yet, refuses as well.
fn is_dead(path: &Path, kind: i32, inode: u64) -> bool {
    let kind = match SockType::try_from(kind) {
        Ok(kind @ (SockType::Stream | SockType::SeqPacket)) => kind,
        _ => return false,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let Ok(probe) = socket(AddressFamily::Unix, kind, flags, None) else { return false };
    let Ok(address) = UnixAddr::new(path) else { return false };
    let refused = connect(probe.as_raw_fd(), &address) == Err(Errno::ECONNREFUSED);
    let is_there = |socket: &sock_diag::UnixSocket| socket.file.is_some_and(|file| file.has_inode(inode));
    refused && sock_diag::unix(is_there).is_ok_and(|found| found.is_empty())
}

/// Runs `act` with what the worker may do to files.
fn as_worker(thread: i32, act: impl FnOnce()) -> Option<()> {
    if !geteuid().is_root() {
        // supd's workers are its own user's.
        act();
        return Some(());
    }
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let numbers = |key: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().map(|number| number.parse().ok()).collect()
    };
    // Real, effective, saved, and that for files.
    let (uid, gid) = (*numbers("Uid:")?.get(3)?, *numbers("Gid:")?.get(3)?);
    let groups: Vec<Gid> = numbers("Groups:")?.into_iter().map(Gid::from_raw).collect();
    let before = getgroups().ok()?;
    setgroups(&groups).ok()?;
    let (own_gid, own_uid) = (setfsgid(Gid::from_raw(gid)), setfsuid(Uid::from_raw(uid)));
    act();
    setfsuid(own_uid);
    setfsgid(own_gid);
    setgroups(&before).ok()
}
