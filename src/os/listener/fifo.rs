//! Named pipes (fifo(7)).

use super::bind_error::Why;
use super::occupant::{FileId, Occupant, occupant};
use super::owner::Owner;
use super::place::Place;
use crate::model::settings::Socket;
use crate::os::Error;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, lstat};
use nix::unistd::mkfifo;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A FIFO, open for reading and writing, so that readers never see its end and writers never wait
/// for a reader.
pub(super) fn bind(socket: &Socket, path: &Path, folder: &Path) -> Result<(OwnedFd, Place), Why> {
    let owner = Owner::look_up(&socket.options)?;
    if let Some(known) = left_behind(path, &owner)? {
        let name = socket.name.as_str();
        let place = match Place::resume(path, folder, name, SFlag::S_IFIFO, |id, _| id == known) {
            Some(place) => place,
            None => Place::adopt(path, folder, name, SFlag::S_IFIFO, known, false)?,
        };
        owner.give_known(place.private(), known)?;
        let fd = open_fifo(place.private())?;
        return Ok((fd, place));
    }
    let name = socket.name.as_str();
    let (place, fd) = Place::make(path, folder, name, SFlag::S_IFIFO, &owner, |private| {
        mkfifo(private, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| Error::new("make", private.display(), errno))?;
        open_fifo(private).inspect_err(|_| {
            let _ = std::fs::remove_file(private);
        })
    })?;
    Ok((fd, place))
}

/// A FIFO of ours that nobody reads is used again: writers that wait in open(2) for a reader would
/// wait for ever on one that is replaced. A stranger's is replaced, for he may open it at any time.
fn left_behind(path: &Path, owner: &Owner) -> Result<Option<FileId>, Error> {
    let Occupant::Stale(id) = occupant(path, SFlag::S_IFIFO)? else { return Ok(None) };
    match lstat(path) {
        Ok(found) if FileId::of(&found) == id && owner.may_own(found.st_uid) => Ok(Some(id)),
        Ok(_) | Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::new("look at", path.display(), errno)),
    }
}

fn open_fifo(path: &Path) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::new("open", path.display(), errno);
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY;
    let fd = open(path, flags, Mode::empty()).map_err(failed)?;
    // Workers get what systemd gives them with NonBlocking=no: a blocking descriptor.
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_RDWR)).map_err(failed)?;
    Ok(fd)
}
