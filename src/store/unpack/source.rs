//! The descriptor that a client sent: read to its end, whatever it was set to.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

/// A regular file, a pipe, or a socket, which is what sshd gives a command for standard input.
#[derive(Debug)]
pub(super) struct Source<'a>(BorrowedFd<'a>);

impl<'a> Source<'a> {
    /// Looks at what it is.
    ///
    /// # Errors
    /// What it is instead.
    pub(super) fn new(descriptor: BorrowedFd<'a>) -> Result<Self, String> {
        let stat = fstat(descriptor).map_err(|errno| format!("it cannot be looked at: {}", errno.desc()))?;
        let what = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG | SFlag::S_IFIFO | SFlag::S_IFSOCK => return Ok(Self(descriptor)),
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
            match nix::unistd::read(self.0, buffer) {
                // Whoever sent it may have set O_NONBLOCK, which belongs to all that share it.
                Err(Errno::EAGAIN) => {
                    poll(&mut [PollFd::new(self.0, PollFlags::POLLIN)], PollTimeout::NONE)?;
                }
                Err(Errno::EINTR) => {}
                answer => return Ok(answer?),
            }
        }
    }
}
