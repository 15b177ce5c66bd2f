//! Closing what a stranger gave.
//!
//! close(2) of a socket may wait for as long as its owner wishes (SO_LINGER of socket(7)), and that of a terminal
//! until all is written. It cannot be seen before: the stranger may ask for it between the look and the close, and
//! then lets its own copy go. But such a wait ends at a signal (`sk_stream_wait_close` of the kernel), and the file
//! is closed all the same. So signals come while there is a [`Prompt`].
//!
//! **What is absent:** a file system whose server does not answer (FUSE, NFS) is waited for even so.
#![allow(unsafe_code)]

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// A close may wait so long before the first signal, and so long from each to the next: of thousands each one may
/// wait.
const MICROSECONDS: (libc::suseconds_t, libc::suseconds_t) = (1000, 100);

/// While it lives nothing that is closed waits. Other calls may be told EINTR meanwhile.
pub struct Prompt {
    before: libc::itimerval,
}

impl Prompt {
    /// From here on.
    #[must_use]
    pub fn begin() -> Self {
        let handler = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing. Nobody else has one: whoever is to end by this signal is a child,
        // which begins with the default.
        let _ = unsafe { sigaction(Signal::SIGALRM, &handler) };
        let _ = SigSet::from(Signal::SIGALRM).thread_unblock();
        let span = |tv_usec| libc::timeval { tv_sec: 0, tv_usec };
        let (first, then) = MICROSECONDS;
        Self { before: set(&libc::itimerval { it_value: span(first), it_interval: span(then) }) }
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        set(&self.before);
    }
}

/// Lets go of something that a stranger gave.
pub fn promptly<T>(it: T) {
    let _prompt = Prompt::begin();
    drop(it);
}

extern "C" fn ignore(_: libc::c_int) {}

/// Sets the timer. Gives what it was.
fn set(to: &libc::itimerval) -> libc::itimerval {
    // SAFETY: an itimerval of zeros is a valid one: no timer.
    let mut before: libc::itimerval = unsafe { std::mem::zeroed() };
    // SAFETY: both live through the call.
    unsafe { libc::setitimer(libc::ITIMER_REAL, to, &raw mut before) };
    before
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::os::alone::alone;
    use nix::sys::socket::{setsockopt, sockopt};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    /// A connection whose close waits for half a minute, and who keeps it waiting.
    pub(crate) fn lingering() -> (TcpStream, (TcpListener, TcpStream)) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        setsockopt(&one, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 30 }).unwrap();
        one.set_nonblocking(true).unwrap();
        while one.write(&[0; 65_536]).is_ok() {}
        one.set_nonblocking(false).unwrap();
        (one, (listener, other))
    }

    #[test]
    fn what_would_wait_at_its_close_does_not() {
        alone("os::closing::tests::what_would_wait_at_its_close_does_not", || {
            let (waits, others): (Vec<_>, Vec<_>) = (0..20).map(|_| lingering()).unzip();
            let began = Instant::now();
            // As in a turn in which several hands are at it.
            let outer = Prompt::begin();
            promptly(());
            drop(waits);
            drop(outer);
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
            let left = set(&libc::itimerval { it_value: zero(), it_interval: zero() });
            assert_eq!((left.it_value.tv_usec, left.it_interval.tv_usec), (0, 0), "the timer goes on");
            drop(others);
            String::new()
        });
    }

    fn zero() -> libc::timeval {
        libc::timeval { tv_sec: 0, tv_usec: 0 }
    }
}
