//! Whoever started supd, by its notify socket (sd_notify(3)). Nobody is waited for: a service manager that reads no
//! more must not stop the loop.

use super::ancillary::send_packet;
use super::clock;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A way to it.
#[derive(Debug)]
pub struct Manager(OwnedFd);

impl Manager {
    /// Where NOTIFY_SOCKET says; `None`: nobody wants to hear.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn reach() -> io::Result<Option<Self>> {
        let Some(place) = std::env::var_os("NOTIFY_SOCKET").filter(|place| !place.is_empty()) else {
            return Ok(None);
        };
        let address = match place.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&place)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        Ok(Some(Self(socket.into())))
    }

    /// Says something, with descriptors.
    ///
    /// # Errors
    /// EAGAIN: it has not read what was said before; what sendmsg(2) says.
    pub fn say(&self, text: &str, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        send_packet(&self.0, text.as_bytes(), descriptors)
    }

    /// Waits until it has taken all that was said before (BARRIER=1), but no longer than that.
    ///
    /// # Errors
    /// ETIME: it has not; as [`Manager::say`].
    pub fn settle(&self, bound: Duration) -> Result<(), Errno> {
        let (ours, theirs) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        self.say("BARRIER=1", &[theirs.as_fd()])?;
        drop(theirs);
        let until = clock::now().after(bound);
        loop {
            // Rounded up: a wait of nothing would be none, and turn until the time is over.
            let left = until.since(clock::now()).as_micros().div_ceil(1000);
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(ours.as_fd(), PollFlags::empty())], left) {
                Ok(0) => return Err(Errno::ETIME),
                Ok(_) => return Ok(()),
                // A worker has ended, for one.
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Signal;
    use crate::os::fork::fork;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_signal_is_no_answer() {
        let (manager, _nobody_reads) = UnixDatagram::pair().unwrap();
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let caught = libc::SIGWINCH;
        // A process with one thread, so that every signal meets the wait.
        let child = fork("a test", |_| {
            signal_hook::flag::register(caught, Arc::<AtomicBool>::default()).unwrap();
            theirs.write_all(b"r").unwrap();
            let settled = Manager(manager.into()).settle(Duration::from_millis(200));
            theirs.write_all(if settled == Err(Errno::ETIME) { b"t" } else { b"f" }).unwrap();
        })
        .unwrap();
        let mut said = [0];
        ours.read_exact(&mut said).unwrap();
        ours.set_nonblocking(true).unwrap();
        while ours.read(&mut said).is_err() {
            child.process.send(Signal(caught)).unwrap();
        }
        assert_eq!(said, *b"t");
        child.process.wait().unwrap();
    }
}
