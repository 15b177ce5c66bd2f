//! What the loop waits for: descriptors, each with a token that is never used twice, so that a
//! late event of one that is gone finds nobody.

use crate::model::{Generation, JobId, UnitName, WorkerId};
use mio::event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Tokens from here on are the control socket's.
pub const CONTROL_FIRST: Token = Token(1 << 40);

/// How many events are taken in a turn; the rest waits for the next.
const EVENTS_PER_TURN: usize = 256;

/// What became ready, in the order in which a turn looks at it: a worker's last words count before
/// its end does, and a launch has succeeded before the program can end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A datagram for this generation's notify socket.
    Notify(UnitName, Generation),
    /// execve(2) of a worker succeeded, or not.
    WorkerOutcome(WorkerId),
    /// execve(2) of a command.
    JobOutcome(JobId),
    /// A system call of a worker waits for supd.
    Call(WorkerId),
    /// What workers point at has been read.
    Read,
    /// The disk has answered.
    Flusher,
    /// A forked child has its answer.
    Chore(u64),
    /// A connection waits at a watched listener.
    Knock(UnitName),
    /// Somebody may have shut a listener of this unit down.
    Deaf(UnitName),
    /// A server ended whose sockets this unit has taken.
    Lender(UnitName),
    /// The first process of a worker ended.
    Child(WorkerId),
    /// The process that a worker named with MAINPID ended.
    Main(WorkerId),
    /// A process that a worker left behind ended.
    Left(WorkerId),
    /// A command ended.
    Job(JobId),
    /// Log files were written to.
    Logs,
    /// A stored descriptor hung up.
    Stored(u64),
    /// Somebody may ask for metrics.
    MetricsDoor,
    /// Somebody who asks for metrics has said something, or can be told more.
    Metrics(u64),
    /// The keeper has answered, or it is gone.
    Keeper,
    /// A signal for supd itself.
    Signals,
}

/// The poller, and whose each token is.
#[derive(Debug)]
pub struct Sources {
    poll: Poll,
    events: Events,
    table: BTreeMap<usize, Source>,
    last: usize,
}

/// What one wait brought.
#[derive(Debug, Default)]
pub struct Ready {
    /// Each once, in order.
    pub sources: Vec<Source>,
    /// Events of the control socket.
    pub control: Vec<event::Event>,
}

impl Sources {
    /// An empty one.
    ///
    /// # Errors
    /// What epoll_create1(2) says.
    pub fn new() -> io::Result<Self> {
        let events = Events::with_capacity(EVENTS_PER_TURN);
        Ok(Self { poll: Poll::new()?, events, table: BTreeMap::new(), last: 0 })
    }

    /// For those who register themselves.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for a descriptor to be readable; one that is readable already counts.
    ///
    /// # Errors
    /// ENOSPC, ENOMEM; EPERM for what cannot be waited for.
    pub fn watch(&mut self, fd: &impl AsFd, source: Source) -> io::Result<Token> {
        let fd = fd.as_fd().as_raw_fd();
        self.register(&mut SourceFd(&fd), Interest::READABLE, source)
    }

    /// The same for something that mio knows.
    ///
    /// # Errors
    /// As [`Sources::watch`].
    pub fn watch_reading(&mut self, it: &mut impl event::Source, source: Source) -> io::Result<Token> {
        self.register(it, Interest::READABLE, source)
    }

    /// The same for something that mio knows, for reading and for writing.
    ///
    /// # Errors
    /// As [`Sources::watch`].
    pub fn watch_both(&mut self, it: &mut impl event::Source, source: Source) -> io::Result<Token> {
        self.register(it, Interest::READABLE | Interest::WRITABLE, source)
    }

    /// Waits for a listener to be shut down. Connections do not even wake the kernel's part of the
    /// wait: they say EPOLLIN and EPOLLPRI, a listener never says EPOLLOUT, and EPOLLHUP needs no
    /// asking for. A descriptor can be watched once: this one has to be a copy.
    ///
    /// # Errors
    /// As [`Sources::watch`].
    pub fn watch_end(&mut self, fd: &impl AsFd, source: Source) -> io::Result<Token> {
        let fd = fd.as_fd().as_raw_fd();
        self.register(&mut SourceFd(&fd), Interest::WRITABLE, source)
    }

    /// Waits for whatever this is to hang up, or to fail. What comes in wakes nobody but for urgent data,
    /// and mio wants something to be asked for.
    ///
    /// # Errors
    /// As [`Sources::watch`].
    pub fn watch_hang_up(&mut self, fd: &impl AsFd, source: Source) -> io::Result<Token> {
        let fd = fd.as_fd().as_raw_fd();
        self.register(&mut SourceFd(&fd), Interest::PRIORITY, source)
    }

    fn register(&mut self, it: &mut impl event::Source, how: Interest, source: Source) -> io::Result<Token> {
        let token = Token(self.last + 1);
        self.poll.registry().register(it, token, how)?;
        self.last = token.0;
        self.table.insert(token.0, source);
        Ok(token)
    }

    /// No longer. To be said before the descriptor is closed: workers hold copies of many, and as
    /// long as one is open the kernel goes on telling.
    pub fn unwatch(&mut self, token: Token, fd: &impl AsFd) {
        if self.table.remove(&token.0).is_some() {
            let fd = fd.as_fd().as_raw_fd();
            // ENOENT: it was closed already, which is as good.
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
    }

    /// Forgets a token whose descriptor was closed, and of which there is no copy.
    pub fn forget(&mut self, token: Token) {
        self.table.remove(&token.0);
    }

    /// Waits until something happens or the time is over; `None`: however long it takes.
    ///
    /// # Errors
    /// What epoll_wait(2) says, but for EINTR, which brings nothing.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Ready> {
        let mut ready = Ready::default();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(ready),
            other => other?,
        }
        for event in &self.events {
            if event.token() >= CONTROL_FIRST {
                ready.control.push(event.clone());
            } else if let Some(source) = self.table.get(&event.token().0) {
                ready.sources.push(source.clone());
            }
        }
        ready.sources.sort_unstable();
        ready.sources.dedup();
        Ok(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn last_words_come_before_the_end() {
        let mut sources = Sources::new().unwrap();
        let unit = UnitName::new("web").unwrap();
        let wanted = [
            Source::Notify(unit, Generation(3)),
            Source::WorkerOutcome(WorkerId(9)),
            Source::Child(WorkerId(2)),
            Source::Signals,
        ];
        let mut pairs = Vec::new();
        for source in wanted.iter().rev() {
            let (mut one, other) = UnixStream::pair().unwrap();
            sources.watch(&other, source.clone()).unwrap();
            one.write_all(b"x").unwrap();
            pairs.push((one, other));
        }
        assert_eq!(sources.wait(None).unwrap().sources, wanted);
    }

    #[test]
    fn nothing_is_heard_of_what_is_not_watched_although_a_copy_is_open() {
        let mut sources = Sources::new().unwrap();
        let (mut one, other) = UnixStream::pair().unwrap();
        let copy = other.try_clone().unwrap();
        let token = sources.watch(&other, Source::Signals).unwrap();
        sources.unwatch(token, &other);
        drop(other);
        one.write_all(b"x").unwrap();
        assert!(sources.wait(Some(Duration::ZERO)).unwrap().sources.is_empty());
        let again = sources.watch(&copy, Source::Flusher).unwrap();
        assert_ne!(token, again);
        assert_eq!(sources.wait(None).unwrap().sources, [Source::Flusher]);
    }
}
