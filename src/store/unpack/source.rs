//! The descriptor that a client sent: read to its end, whatever it was set to.

use crate::codec::span::fine;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// A regular file, a pipe, or a socket, which is what sshd gives a command for standard input.
#[derive(Debug)]
pub(super) struct Source<'a> {
    descriptor: BorrowedFd<'a>,
    /// How long it may bring nothing: whoever forgot to close it would keep the unit from the next one.
    silence: Duration,
}

impl<'a> Source<'a> {
    /// Looks at what it is.
    ///
    /// # Errors
    /// What it is instead.
    pub(super) fn new(descriptor: BorrowedFd<'a>, silence: Duration) -> Result<Self, String> {
        let stat = fstat(descriptor).map_err(|errno| format!("it cannot be looked at: {}", errno.desc()))?;
        let what = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG | SFlag::S_IFIFO | SFlag::S_IFSOCK => return Ok(Self { descriptor, silence }),
            SFlag::S_IFDIR => "a folder",
            SFlag::S_IFBLK | SFlag::S_IFCHR => "a device",
            _ => "neither a file nor a pipe",
        };
        Err(format!("it is {what}: give a tar archive, as a file or through a pipe"))
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait()?;
            match nix::unistd::read(self.descriptor, buffer) {
                // Somebody else reads, too; and whoever sent it may have set O_NONBLOCK, which belongs to
                // all that share it.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                answer => return Ok(answer?),
            }
        }
    }
}

impl Source<'_> {
    /// Until there is something, or the end.
    fn wait(&self) -> io::Result<()> {
        let end = Instant::now() + self.silence;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.descriptor, PollFlags::POLLIN)], left) {
                Ok(0) if Instant::now() >= end => {
                    let text = format!("nothing came for {}: whoever sends it hangs", fine(self.silence));
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
