//! Bytes, both ways between two connections, until both have said all or one is lost.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Builder};

/// So many connections at a time: it is for a person, or a test.
pub(super) const MOST: usize = 64;

/// For a buffer and a few calls.
const STACK: usize = 128 << 10;

/// One end.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// The same, which waits.
    pub(super) fn blocking(self) -> io::Result<Self> {
        match &self {
            Self::Tcp(stream) => stream.set_nonblocking(false),
            Self::Unix(stream) => stream.set_nonblocking(false),
        }
        .map(|()| self)
    }

    /// Whoever is gone already has heard all.
    fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buffer),
            Stream::Unix(stream) => (&mut &*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write(bytes),
            Stream::Unix(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Those that are carried.
#[derive(Debug, Default)]
pub(super) struct Carrier {
    open: Arc<AtomicUsize>,
}

impl Carrier {
    pub(super) fn has_room(&self) -> bool {
        self.open.load(Ordering::SeqCst) < MOST
    }

    /// Carries from here on, in threads of its own. Without them both ends are closed.
    pub(super) fn carry(&self, near: Stream, far: Stream) {
        let open = Arc::clone(&self.open);
        open.fetch_add(1, Ordering::SeqCst);
        let both = move || {
            thread::scope(|scope| {
                let back = || pump(&far, &near);
                if Builder::new().stack_size(STACK).spawn_scoped(scope, back).is_ok() {
                    pump(&near, &far);
                }
            });
            open.fetch_sub(1, Ordering::SeqCst);
        };
        if Builder::new().stack_size(STACK).spawn(both).is_err() {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// One way. At its end the other side hears that no more comes, and may go on itself.
fn pump(mut from: &Stream, mut to: &Stream) {
    match io::copy(&mut from, &mut to) {
        Ok(_) => to.shutdown(Shutdown::Write),
        Err(_) => {
            from.shutdown(Shutdown::Both);
            to.shutdown(Shutdown::Both);
        }
    }
}
