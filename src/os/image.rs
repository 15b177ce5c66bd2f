//! The program that this process runs, and another in its place: execve(2) keeps the process, its children, and
//! every descriptor that is not to be closed by it.
#![allow(unsafe_code)]

use super::Error;
use super::pidfd::PidFd;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::execve;
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What the kernel appends to the name of a program whose file was replaced (proc_pid_exe(5)).
const DELETED: &[u8] = b" (deleted)";

/// The file that this process was started from, which may be another by now: by the name that it was called by,
/// where that is a path, for a link to a versioned folder leads elsewhere after an upgrade.
///
/// # Errors
/// Without /proc, and with a name that is no path.
pub fn program() -> Result<PathBuf, Error> {
    let called = std::env::args_os().next().map(PathBuf::from);
    if let Some(called) = called.filter(|called| called.as_os_str().as_bytes().contains(&b'/')) {
        return Ok(called);
    }
    let failed = |error: io::Error| Error::from_io("read", "/proc/self/exe", &error);
    let found = std::fs::read_link("/proc/self/exe").map_err(failed)?;
    let name = found.as_os_str().as_bytes();
    Ok(name.strip_suffix(DELETED).map_or(found.clone(), |name| PathBuf::from(OsStr::from_bytes(name))))
}

/// Which file a program is, and whether somebody has written to it: device, inode, size, and when it was changed.
pub type Which = (u64, u64, u64, (i64, i64));

/// Which one is there now; `None`: none.
#[must_use]
pub fn which(program: &Path) -> Option<Which> {
    let found = std::fs::metadata(program).ok()?;
    Some((found.dev(), found.ino(), found.len(), (found.ctime(), found.ctime_nsec())))
}

/// What another program says to one argument, with that on its standard input. It waits, so it is for a child of
/// supd's ([`super::task`]); what takes longer, or says more than a pipe holds, is ended.
///
/// # Errors
/// It cannot be run, or does not end.
pub fn ask(
    program: &Path,
    argument: &str,
    input: BorrowedFd<'_>,
    bound: Duration,
) -> Result<std::process::Output, String> {
    let failed = |error: io::Error| error.to_string();
    let input = input.try_clone_to_owned().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::from(input)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let process = i32::try_from(child.id()).ok().and_then(|pid| PidFd::open(pid).ok());
    if !process.is_some_and(|process| process.is_over_within(bound)) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("it took longer than {}s", bound.as_secs()));
    }
    // What it has started may hold the pipes open for ever.
    let status = child.wait().map_err(failed)?;
    let said = |pipe: Option<OwnedFd>| -> Result<Vec<u8>, String> {
        let Some(pipe) = pipe else { return Ok(Vec::new()) };
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| errno.desc().to_owned())?;
        let mut bytes = vec![0; PIPE];
        let mut length = 0;
        while length < bytes.len() {
            match nix::unistd::read(&pipe, &mut bytes[length..]) {
                Ok(0) | Err(_) => break,
                Ok(count) => length += count,
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    };
    let stdout = said(child.stdout.take().map(Into::into))?;
    let stderr = said(child.stderr.take().map(Into::into))?;
    Ok(std::process::Output { status, stdout, stderr })
}

/// What a pipe holds, by default (pipe(7)).
const PIPE: usize = 64 << 10;

/// All of a file that may be a pipe.
///
/// # Errors
/// It cannot be read, or is longer than `most` bytes.
pub fn read_all(file: impl Read, most: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > most { Err(format!("it has more than {most} bytes")) } else { Ok(bytes) }
}

/// A descriptor that stayed open, by its number; closed at the next execve(2).
///
/// # Errors
/// EBADF: there is none.
pub fn inherit(number: u32) -> Result<OwnedFd, Errno> {
    let number = RawFd::try_from(number).map_err(|_| Errno::EBADF)?;
    // The first three are everybody's.
    if number <= 2 {
        return Err(Errno::EBADF);
    }
    // SAFETY: asks about a number, whatever it is.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: open, and named once in what the image before has sealed for this one, which has taken no other.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

/// Closes every descriptor but the first three. Nothing that owns one may be there yet.
pub fn close_inherited() {
    // SAFETY: the caller has opened nothing.
    let _ = unsafe { libc::close_range(3, u32::MAX, 0) };
}

/// Another image in place of this one, with these descriptors open in it. Signals are blocked in it ([`block`]) until
/// it says otherwise ([`unblock`]). It comes back only where that failed; then nothing is changed.
///
/// # Errors
/// What execve(2) says.
pub fn replace(
    program: &OsStr,
    arguments: impl Iterator<Item = OsString>,
    environment: impl Iterator<Item = (OsString, OsString)>,
    open: &[BorrowedFd<'_>],
) -> Result<Infallible, Errno> {
    let text = |words: OsString| CString::new(words.into_vec()).map_err(|_| Errno::EINVAL);
    let path = text(program.to_owned())?;
    let arguments = arguments.map(text).collect::<Result<Vec<_>, _>>()?;
    let joined = environment.map(|(name, value)| {
        let both: OsString = [&*name, OsStr::new("="), &*value].into_iter().collect();
        text(both)
    });
    let environment = joined.collect::<Result<Vec<_>, _>>()?;
    let before = block();
    let keep = |flag: FdFlag| open.iter().try_for_each(|fd| fcntl(fd, FcntlArg::F_SETFD(flag)).map(drop));
    let failed = keep(FdFlag::empty()).and_then(|()| execve(&path, &arguments, &environment).map(drop));
    let _ = keep(FdFlag::FD_CLOEXEC);
    let _ = before.thread_set_mask();
    Err(failed.err().unwrap_or(Errno::EINVAL))
}

/// No signal comes from here on, but for those of a fault of this process's own, which it could not live on
/// with. Gives what was blocked before, for [`SigSet::thread_set_mask`].
#[must_use]
pub fn block() -> SigSet {
    let mut all = SigSet::all();
    for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT] {
        all.remove(fault);
    }
    // It cannot fail with a valid `how`.
    all.thread_swap_mask(SigmaskHow::SIG_SETMASK).unwrap_or_else(|_| SigSet::empty())
}

/// Signals come again, once whoever handles them stands.
pub fn unblock() {
    let _ = SigSet::all().thread_unblock();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::sealed::seal;
    use crate::os::task::tests::in_child;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn no_more_is_read_than_that() {
        assert_eq!(read_all(&b"four"[..], 4), Ok(b"four".to_vec()));
        assert!(read_all(&b"four"[..], 3).is_err());
    }

    #[test]
    fn a_number_that_is_nobody_s_is_not_taken() {
        for number in [0, 1, 2, u32::MAX, 0x7fff_ffff] {
            assert_eq!(inherit(number).unwrap_err(), Errno::EBADF);
        }
    }

    #[test]
    fn where_there_is_no_such_program_nothing_is_changed() {
        in_child(|| {
            let fd = seal("a test", b"").unwrap();
            let before = SigSet::thread_get_mask().unwrap();
            for (program, errno) in
                [("/nonexistent", Errno::ENOENT), ("/", Errno::EACCES), ("a\0", Errno::EINVAL)]
            {
                let none = std::iter::empty;
                let failed = replace(OsStr::new(program), std::iter::empty(), none(), &[fd.as_fd()]);
                assert_eq!(failed.unwrap_err(), errno);
                assert_eq!(SigSet::thread_get_mask().unwrap(), before);
                let flags = FdFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFD).unwrap());
                assert!(flags.contains(FdFlag::FD_CLOEXEC));
            }
        });
    }

    #[test]
    fn another_image_hears_no_signals_at_first() {
        let (ours, theirs) = nix::unistd::pipe().unwrap();
        let task = crate::os::fork::fork("a test", move |_| {
            let words = ["grep", "SigBlk", "/proc/self/status"].map(OsString::from).into_iter();
            nix::unistd::dup2_stdout(&theirs).unwrap();
            let none = std::iter::empty();
            let _ = replace(OsStr::new("/bin/grep"), words, none, &[theirs.as_fd()]);
        });
        let said = read_all(File::from(ours), 4096).unwrap();
        let said = String::from_utf8(said).unwrap();
        let blocked = said.lines().next().and_then(|line| line.split_whitespace().nth(1)).unwrap();
        // SIGTERM is number 15, SIGUSR2 12.
        let blocked = u64::from_str_radix(blocked, 16).unwrap();
        assert_eq!(blocked & (1 << 14 | 1 << 11), 1 << 14 | 1 << 11, "{said}");
        drop(task);
    }
}
