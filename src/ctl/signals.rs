//! Ctrl-C and its sisters as something to wait for beside a socket.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Notes SIGINT, SIGTERM and SIGHUP from its making on.
#[derive(Debug)]
pub(super) struct Signals {
    /// Readable once a signal came; not read from, for then supctl ends.
    pipe: UnixStream,
    came: Vec<(i32, Arc<AtomicBool>)>,
}

impl Signals {
    /// Takes the signals.
    ///
    /// # Errors
    /// When there is no descriptor left for the pipe.
    pub(super) fn take() -> io::Result<Self> {
        let (pipe, write) = UnixStream::pair()?;
        let mut came = Vec::new();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let flag = Arc::new(AtomicBool::new(false));
            // The flag first: whoever is woken by the pipe finds it set.
            flag::register(signal, Arc::clone(&flag))?;
            low_level::pipe::register(signal, write.try_clone()?)?;
            came.push((signal, flag));
        }
        Ok(Self { pipe, came })
    }

    /// Takes none: a test's process is to end of Ctrl-C.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        let (pipe, write) = UnixStream::pair().expect("a test has descriptors");
        // Closed, the other end would make the pipe readable.
        std::mem::forget(write);
        Self { pipe, came: Vec::new() }
    }

    /// The signal that came, if one did.
    pub(super) fn came(&self) -> Option<i32> {
        self.came.iter().find(|(_, flag)| flag.load(Ordering::Relaxed)).map(|(signal, _)| *signal)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
