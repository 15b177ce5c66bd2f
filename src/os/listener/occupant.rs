//! What is at a path before supd puts a socket or FIFO there, and whether anybody is behind it.

use super::bind_error::Why;
use crate::model::{Address, SocketKind};
use crate::os::Error;
use crate::os::port_holder::{self, Holder};
use crate::os::sock_diag::BoundFile;
use crate::os::sun_path::SunPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{FileStat, Mode, SFlag, lstat};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Which file a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(found: &FileStat) -> Self {
        // Their width differs between architectures.
        #[allow(clippy::useless_conversion)]
        Self { device: found.st_dev.into(), inode: found.st_ino.into() }
    }

    /// What a name stands for; a symbolic link stands for itself.
    pub(super) fn at(path: &Path) -> Option<Self> {
        lstat(path).ok().map(|found| Self::of(&found))
    }

    /// Whether sock_diag means this file; with the same name half of the proof is enough (btrfs).
    pub(super) fn is_file(self, file: BoundFile, same_name: bool) -> bool {
        file.is(self.device, self.inode) || same_name && file.has_inode(self.inode)
    }

    pub(super) fn is_bound_by_anyone(self, path: &Path) -> Option<bool> {
        port_holder::is_bound(self.device, self.inode, path)
    }
}

/// What is at a path before supd puts something there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Occupant {
    Nobody,
    /// A socket or FIFO that nobody is behind any more.
    Stale(FileId),
    /// One that somebody answers at, or that supd may not ask.
    Alive,
    /// Anything else, which supd never removes.
    Other(&'static str),
}

/// Who is at `path`, where a socket (or a FIFO, as `kind` says) is to be.
pub(super) fn occupant(path: &Path, kind: SFlag) -> Result<Occupant, Error> {
    let found = match lstat(path) {
        Ok(found) => found,
        Err(Errno::ENOENT) => return Ok(Occupant::Nobody),
        Err(errno) => return Err(Error::new("look at", path.display(), errno)),
    };
    let type_of = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    if type_of != kind {
        return Ok(Occupant::Other(called(type_of)));
    }
    let id = FileId::of(&found);
    let alive = if kind == SFlag::S_IFIFO { is_read(path)? } else { answers(path, id)? };
    Ok(if alive { Occupant::Alive } else { Occupant::Stale(id) })
}

fn called(type_of: SFlag) -> &'static str {
    match type_of {
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFREG => "a file",
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFIFO => "a FIFO",
        _ => "a device",
    }
}

/// Whether somebody is behind the socket at `path`. What supd may not ask counts as alive.
fn answers(path: &Path, id: FileId) -> Result<bool, Error> {
    // First without a connection, which a server would accept in vain. That also finds a socket that
    // is bound but does not listen, and not one in another network namespace.
    if id.is_bound_by_anyone(path) == Some(true) {
        return Ok(true);
    }
    match knock(path)? {
        Err(Errno::ENOENT | Errno::ECONNREFUSED) => Ok(false),
        // EAGAIN: its queue is full. EPROTOTYPE: it is of another kind. EACCES: who knows.
        Ok(_) | Err(_) => Ok(true),
    }
}

/// connect(2) without waiting, and what came of it.
fn knock(path: &Path) -> Result<Result<OwnedFd, Errno>, Error> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(|errno| Error::new("open", "a socket", errno))?;
    let short = SunPath::of(path);
    let address = UnixAddr::new(short.as_path());
    Ok(address.and_then(|address| socket::connect(probe.as_raw_fd(), &address)).map(|()| probe))
}

/// Who is behind a socket of another network namespace, which sock_diag(7) does not show: the process
/// that called listen(2) there.
fn peer(path: &Path) -> Option<Holder> {
    let connected = knock(path).ok()?.ok()?;
    let credentials = socket::getsockopt(&connected, socket::sockopt::PeerCredentials).ok()?;
    let pid = u32::try_from(credentials.pid()).ok().filter(|pid| *pid != 0)?;
    Some(port_holder::describe(pid, Some(credentials.uid())))
}

/// Whether somebody reads the FIFO at `path`.
fn is_read(path: &Path) -> Result<bool, Error> {
    // A writer that comes and goes looks like the end of the data to a reader: the descriptors of
    // all processes first, and only if none is seen the kernel itself.
    if !port_holder::holders(&Address::Fifo { path: path.into() }).is_empty() {
        return Ok(true);
    }
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    match open(path, flags, Mode::empty()) {
        Err(Errno::ENXIO | Errno::ENOENT) => Ok(false),
        Ok(_) | Err(Errno::EACCES) => Ok(true),
        Err(errno) => Err(Error::new("open", path.display(), errno)),
    }
}

/// Nothing that lives is at `path`; what is stale there is named.
pub(super) fn vacant(path: &Path, kind: SFlag) -> Result<Option<FileId>, Why> {
    match occupant(path, kind)? {
        Occupant::Nobody => Ok(None),
        Occupant::Stale(id) => Ok(Some(id)),
        Occupant::Other(what) => Err(Why::Occupied(what)),
        Occupant::Alive if kind == SFlag::S_IFIFO => {
            Err(Why::InUse(port_holder::holders(&Address::Fifo { path: path.into() })))
        }
        Occupant::Alive => {
            let address = Address::Unix { kind: SocketKind::Stream, path: path.into() };
            let mut holders = port_holder::holders(&address);
            if holders.is_empty() {
                holders.extend(peer(path));
            }
            Err(Why::InUse(holders))
        }
    }
}

/// Removes a name as long as it stands for `id`. Whether it did.
pub(super) fn remove_if(path: &Path, id: FileId) -> bool {
    FileId::at(path) == Some(id) && fs::remove_file(path).is_ok()
}
