//! One who asks for metrics: its request, the answer, and how long it may take.

use super::super::sources::{Source, Sources};
use crate::codec::metrics::{Asked, HEAD_MAX, asked, reply};
use crate::model::Tick;
use mio::Token;
use mio::unix::SourceFd;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// From the connection to the last byte of the answer.
const BOUND: Duration = Duration::from_secs(10);

/// So many bytes are sent in a turn.
const BYTES_PER_TURN: usize = 1 << 20;

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Path(UnixStream),
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Path(stream) => stream.as_fd(),
        }
    }
}

impl Stream {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(true),
            Self::Path(stream) => stream.set_nonblocking(true),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Path(stream) => stream.read(bytes),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Path(stream) => stream.write(bytes),
        }
    }

    /// Nothing more comes.
    fn finish(&self) {
        let _gone_already = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Path(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

/// Where it stands.
#[derive(Debug)]
enum State {
    Asking(Vec<u8>),
    /// For a page; true: it wants no more than what stands before it.
    Waiting(bool),
    /// What stands before the page, the page, and how much of both is sent.
    Telling(Vec<u8>, Arc<[u8]>, usize),
}

/// One of them.
#[derive(Debug)]
pub(super) struct Client {
    stream: Stream,
    token: Token,
    state: State,
    until: Tick,
    /// There is more to do, of which no event will tell.
    busy: bool,
}

impl Client {
    pub(super) fn new(stream: Stream, number: u64, now: Tick, sources: &mut Sources) -> io::Result<Self> {
        stream.set_nonblocking()?;
        let fd = stream.as_fd().as_raw_fd();
        let token = sources.watch_both(&mut SourceFd(&fd), Source::Metrics(number))?;
        Ok(Self { stream, token, state: State::Asking(Vec::new()), until: now.after(BOUND), busy: false })
    }

    /// It has to be gone then.
    pub(super) fn until(&self) -> Tick {
        self.until
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Parts from it. Always false, so that it is not kept.
    pub(super) fn close(&mut self, sources: &mut Sources) -> bool {
        sources.unwatch(self.token, &self.stream);
        false
    }

    /// Gives it the page that it waits for.
    pub(super) fn tell(&mut self, page: &Arc<[u8]>) {
        let State::Waiting(head_alone) = self.state else { return };
        let head = reply(Asked::Metrics(head_alone), page.len()).into_bytes();
        let page = if head_alone { Arc::default() } else { page.clone() };
        self.state = State::Telling(head, page, 0);
    }

    /// Goes on. False: it is over.
    pub(super) fn turn(&mut self) -> bool {
        self.busy = false;
        match &mut self.state {
            State::Asking(_) => self.hear(),
            State::Waiting(_) => true,
            State::Telling(..) => self.send(),
        }
    }

    fn hear(&mut self) -> bool {
        let State::Asking(said) = &mut self.state else { return true };
        let mut chunk = [0; HEAD_MAX];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => said.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            }
            match asked(said) {
                Asked::More => {}
                Asked::Metrics(head_alone) => {
                    self.state = State::Waiting(head_alone);
                    return true;
                }
                refused @ Asked::Refused(..) => {
                    self.state = State::Telling(reply(refused, 0).into_bytes(), Arc::default(), 0);
                    return self.send();
                }
            }
        }
    }

    fn send(&mut self) -> bool {
        let State::Telling(head, page, sent) = &mut self.state else { return true };
        let mut left = BYTES_PER_TURN;
        loop {
            let rest = match sent.checked_sub(head.len()) {
                Some(sent) => &page[sent..],
                None => &head[*sent..],
            };
            if rest.is_empty() {
                self.stream.finish();
                return false;
            }
            if left == 0 {
                self.busy = true;
                return true;
            }
            match self.stream.write(&rest[..rest.len().min(left)]) {
                Ok(count) => (*sent, left) = (*sent + count, left - count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}
