//! A SOURCE that is there already: a file, a folder, standard input.

use crate::ctl::failure::Failure;
use crate::model::ExitStatus;
use nix::fcntl::{OFlag, open as open_path};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What a path names.
#[derive(Debug)]
pub(super) enum Local {
    /// A file, or a pipe that somebody made.
    File(OwnedFd),
    Folder(OwnedFd),
}

/// Opens a path as the caller may.
pub(super) fn open(path: &Path) -> Result<Local, Failure> {
    let shown = path.display();
    let failed = |errno: nix::errno::Errno| {
        Failure::new(ExitStatus::Refused, format!("cannot open SOURCE {shown}: {}", errno.desc()))
    };
    // What it is comes first: to open a device may do something. Opening a pipe without a writer waits
    // for one, which is what its maker expects; Ctrl-C ends it.
    let seen = open_path(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
    let kind = kind(&seen).map_err(failed)?;
    let flags = match kind {
        SFlag::S_IFREG | SFlag::S_IFIFO => OFlag::O_RDONLY,
        SFlag::S_IFDIR => OFlag::O_RDONLY | OFlag::O_DIRECTORY,
        _ => return Err(unfit(&shown)),
    };
    let opened =
        open_path(path, flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty()).map_err(failed)?;
    // Another one by now?
    match self::kind(&opened).map_err(failed)? {
        SFlag::S_IFDIR => Ok(Local::Folder(opened)),
        SFlag::S_IFREG | SFlag::S_IFIFO => Ok(Local::File(opened)),
        _ => Err(unfit(&shown)),
    }
}

fn kind(fd: &OwnedFd) -> nix::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode & SFlag::S_IFMT.bits()))
}

fn unfit(shown: &dyn std::fmt::Display) -> Failure {
    let text = format!("SOURCE {shown} is a device or a socket: nothing to install");
    Failure::new(ExitStatus::Refused, text).next("give a folder, an archive, or - for standard input")
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
