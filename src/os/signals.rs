//! The signals that supd itself gets, as values in its loop.

use super::Error;
use mio::event::Source;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use std::io;

/// What a signal asks of supd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asked {
    /// SIGTERM, SIGINT: stop everything in order.
    Shutdown,
    /// SIGHUP: read the unit files again.
    Reload,
    /// SIGUSR2: execute itself anew.
    Reexec,
    /// SIGCHLD: a child has ended; orphans have no pidfd to say so.
    Reap,
}

/// Handlers for all of these, and a descriptor that is readable when one has come.
pub struct Signals(signal_hook_mio::v1_0::Signals);

impl Signals {
    /// Installs the handlers. Signals that came before are not told.
    ///
    /// # Errors
    /// EMFILE and the like: they need a pair of sockets.
    pub fn install() -> Result<Self, Error> {
        signal_hook_mio::v1_0::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2, SIGCHLD])
            .map(Self)
            .map_err(|error| Error::from_io("install", "signal handlers", &error))
    }

    /// What has come since the last call, each once however often it came.
    pub fn pending(&mut self) -> Vec<Asked> {
        let asked = |signal| match signal {
            SIGTERM | SIGINT => Some(Asked::Shutdown),
            SIGHUP => Some(Asked::Reload),
            SIGUSR2 => Some(Asked::Reexec),
            SIGCHLD => Some(Asked::Reap),
            _ => None,
        };
        let mut all: Vec<Asked> = self.0.pending().filter_map(asked).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Source for Signals {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.0.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.0.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.0.deregister(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Signals};
    use crate::os::alone::alone;
    use crate::os::fork::{fork, tests::finish};
    use mio::{Events, Interest, Poll, Token};
    use nix::sys::signal::{Signal, raise};
    use std::time::Duration;

    #[test]
    fn each_signal_once_and_none_from_a_child_of_ours() {
        alone("os::signals::tests::each_signal_once_and_none_from_a_child_of_ours", || {
            let mut poll = Poll::new().unwrap();
            let mut events = Events::with_capacity(8);
            let mut signals = Signals::install().unwrap();
            poll.registry().register(&mut signals, Token(7), Interest::READABLE).unwrap();
            assert_eq!(signals.pending(), []);
            for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR2]
            {
                raise(signal).unwrap();
            }
            poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
            assert_eq!(events.iter().next().unwrap().token(), Token(7));
            assert_eq!(signals.pending(), [Asked::Shutdown, Asked::Reload, Asked::Reexec]);

            // A forked child has these handlers for a moment, and their pipe: a SIGHUP to it must
            // end it, not be told to us.
            let forked = fork("a test", |_| {
                raise(Signal::SIGHUP).unwrap();
            });
            let (_, exit) = finish(forked.unwrap());
            assert_eq!(exit.to_string(), "killed by SIGHUP");
            poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
            assert_eq!(signals.pending(), [Asked::Reap]);
            String::new()
        });
    }
}
