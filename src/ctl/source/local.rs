//! A SOURCE that is there already: a file, a folder, standard input.

use crate::ctl::failure::Failure;
use crate::model::ExitStatus;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open as open_path};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{AccessFlags, access};
use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

/// What else SOURCE may be.
const GIVE: &str = "give a folder or an archive that you may read, or - for standard input";

/// What can be known of a path without anything coming of it. `None`: a pipe, whose writer would take
/// whoever opened it for the reader that it waits for.
pub(super) fn look(path: &Path) -> Result<Option<Local>, Failure> {
    let failed = |errno| cannot_open(path, errno);
    let seen = open_path(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
    if kind(&seen).map_err(failed)? == SFlag::S_IFIFO {
        access(path, AccessFlags::R_OK).map_err(failed)?;
        return Ok(None);
    }
    open(path, None).map(Some)
}

fn cannot_open(path: &Path, errno: Errno) -> Failure {
    let text = format!("cannot open SOURCE {}: {}", path.display(), errno.desc());
    Failure::new(ExitStatus::Failed, text).next(GIVE)
}

/// What a path names.
#[derive(Debug)]
pub(super) enum Local {
    /// A file, or a pipe that somebody made.
    File(OwnedFd),
    Folder(OwnedFd),
}

/// Opens a path as the caller may, before the deadline.
pub(super) fn open(path: &Path, deadline: Option<Instant>) -> Result<Local, Failure> {
    let shown = path.display();
    let failed = |errno| cannot_open(path, errno);
    // What it is comes first: to open a device may do something.
    let seen = open_path(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
    let kind = kind(&seen).map_err(failed)?;
    let flags = match kind {
        SFlag::S_IFREG => OFlag::O_RDONLY,
        // Otherwise open(2) itself would wait for a writer, and no --timeout would end that.
        SFlag::S_IFIFO => OFlag::O_RDONLY | OFlag::O_NONBLOCK,
        SFlag::S_IFDIR => OFlag::O_RDONLY | OFlag::O_DIRECTORY,
        _ => return Err(unfit(&shown)),
    };
    let opened =
        open_path(path, flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty()).map_err(failed)?;
    // Another one by now?
    match self::kind(&opened).map_err(failed)? {
        SFlag::S_IFDIR => Ok(Local::Folder(opened)),
        SFlag::S_IFREG => Ok(Local::File(opened)),
        SFlag::S_IFIFO => {
            let came = wait_for_writer(&opened, deadline).map_err(failed)?;
            if came { Ok(Local::File(opened)) } else { Err(nobody_writes(&shown)) }
        }
        _ => Err(unfit(&shown)),
    }
}

/// Whether somebody wrote into the pipe, or did so and left, before the deadline. Its maker expects
/// that a reader waits for that; Ctrl-C ends it.
fn wait_for_writer(pipe: &OwnedFd, deadline: Option<Instant>) -> nix::Result<bool> {
    loop {
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
        });
        // A pipe that never had a writer does not count as one that was hung up.
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(errno) => return Err(errno),
        }
    }
    // supd's child is to wait for the rest.
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(true)
}

fn nobody_writes(shown: &dyn fmt::Display) -> Failure {
    let text = format!("nobody wrote into SOURCE {shown} within --timeout: nothing was asked for");
    Failure::new(ExitStatus::Failed, text).next("start who writes first, then the same command once more")
}

fn kind(fd: &OwnedFd) -> nix::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode & SFlag::S_IFMT.bits()))
}

fn unfit(shown: &dyn fmt::Display) -> Failure {
    let text = format!("SOURCE {shown} is a device or a socket: nothing to install");
    Failure::new(ExitStatus::Usage, text).next(GIVE)
}

/// Standard input, unless a person sits there.
pub(super) fn stdin() -> Result<OwnedFd, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        let text = "standard input is a terminal: no archive comes from there";
        return Err(Failure::new(ExitStatus::Usage, text).next("supctl … - < app.tar.zst"));
    }
    let copy = stdin.as_fd().try_clone_to_owned().map_err(|error| {
        Failure::new(ExitStatus::Failed, format!("cannot pass standard input on: {error}"))
    })?;
    Ok(copy)
}
