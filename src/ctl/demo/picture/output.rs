//! Standard output that never holds the demo up: whoever looks may stop looking.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;
use std::os::fd::{AsFd, OwnedFd};

/// At most so much at once: a pipe that polls writable takes it without blocking (pipe(7), PIPE_BUF).
const CHUNK: usize = 4096;

/// Why nothing more can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ctl::demo) enum Closed {
    /// The reader has gone.
    Gone,
    /// Something else is in the way, as a disk that is full.
    Failed(Errno),
    /// Somebody wants the demo to end.
    Ended,
}

/// Where the demo writes.
#[derive(Debug)]
pub(in crate::ctl::demo) struct Output {
    fd: OwnedFd,
}

impl Output {
    /// Writes to this descriptor.
    pub(in crate::ctl::demo) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Whether something can be written now; false while a terminal is stopped (Ctrl-S) or a pipe
    /// is full.
    pub(in crate::ctl::demo) fn is_ready(&self, wait: PollTimeout) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
        // A reader that has gone is told by the write.
        poll(&mut fds, wait).is_ok_and(|count| count > 0)
    }

    /// Writes all of it, however long that takes, unless `ended` says so meanwhile.
    ///
    /// # Errors
    /// [`Closed`]
    pub(in crate::ctl::demo) fn write(&self, text: &str, ended: &dyn Fn() -> bool) -> Result<(), Closed> {
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            if !self.is_ready(PollTimeout::from(100_u8)) {
                if ended() {
                    return Err(Closed::Ended);
                }
                continue;
            }
            match write(&self.fd, &bytes[..bytes.len().min(CHUNK)]) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(Errno::EPIPE) => return Err(Closed::Gone),
                Err(errno) => return Err(Closed::Failed(errno)),
            }
        }
        Ok(())
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::pipe;
    use std::cell::Cell;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn a_reader_that_does_not_read_does_not_keep_the_demo_from_ending() {
        let (reader, writer) = pipe().unwrap();
        let output = Output::new(writer);
        let asked = Cell::new(0);
        let ended = || {
            asked.set(asked.get() + 1);
            asked.get() == 2
        };
        let long = "x".repeat(1 << 20);
        assert_eq!(output.write(&long, &ended), Err(Closed::Ended));
        assert!(!output.is_ready(PollTimeout::ZERO));
        drop(output);
        let mut read = Vec::new();
        File::from(reader).read_to_end(&mut read).unwrap();
        assert!(read.len() >= CHUNK && read.iter().all(|byte| *byte == b'x'));
    }

    #[test]
    fn a_reader_that_has_gone_is_noticed() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        assert_eq!(Output::new(writer).write("x", &|| false), Err(Closed::Gone));
    }
}
