//! One client: bytes in, calls out, one at a time; replies in, bytes out. A call and a reply may each
//! carry one descriptor.

use crate::codec::varlink::{self, CALL_MAX, Frames, Method};
use crate::model::{ClientId, Tick};
use crate::os::ancillary::{Read, receive_stream, send_stream};
use crate::os::peer::Peer;
use mio::net::UnixStream;
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes read at once.
pub(super) const CHUNK: usize = 16 << 10;

/// The call that is being answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    /// Its number.
    pub(super) client: ClientId,
    /// Progress is welcome.
    pub(super) more: bool,
    /// Nothing is to be said.
    pub(super) oneway: bool,
}

/// What may still come from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// Perhaps there is something to read.
    Ready,
    /// Nothing until the next event.
    Dry,
    /// Nothing ever again.
    Over,
}

/// Why a descriptor that came with a call is closed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// It was not the only one.
    TooMany,
    /// supd has no room for it.
    NoRoom,
}

/// What came beside the bytes of one call.
pub(super) type Beside = Result<OwnedFd, Excess>;

/// A descriptor whose call is not complete, or not taken yet.
#[derive(Debug)]
struct Passed {
    /// The place in the stream of the last byte that was read with it: it is of the call with this
    /// byte ([`receive_stream`] says why).
    at: u64,
    what: Beside,
}

/// What a client wants next.
#[derive(Debug)]
pub(super) enum Next {
    /// A call, and what was passed with it.
    Call(varlink::Call, Option<Beside>),
    /// One more descriptor is held: is there room for it?
    Descriptor,
    /// Bytes that are no call: answer with this and close.
    Broken(varlink::Error),
    /// Nothing for now.
    Nothing,
    /// Perhaps more, but this turn's reading is used up.
    TurnOver,
}

/// See [`Connection::again`].
#[derive(Debug)]
pub(super) struct Again {
    /// The question.
    pub(super) method: Box<Method>,
    /// The call has begun what the next image may bring to its end; if not, it only asks.
    pub(super) begun: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// The socket.
    pub(super) stream: UnixStream,
    /// Who is at the other end.
    pub(super) peer: Peer,
    /// The call that is being answered.
    pub(super) current: Option<Current>,
    /// What is asked of the next image of supd in its place, where that can answer it as well.
    pub(super) again: Option<Again>,
    /// Its next call is one that the image before had taken already.
    pub(super) taken_before: bool,
    /// Whether it stands in a queue for the next turn.
    pub(super) queued: bool,
    /// When it last said something, or took something of what it was told.
    pub(super) active_at: Tick,
    frames: Frames,
    input: Input,
    output: Vec<u8>,
    /// Of `output`, what the kernel has taken.
    written: usize,
    /// What goes with this byte of `output`.
    outgoing: Option<(usize, OwnedFd)>,
    /// Descriptors of calls that are not taken yet: of the one that is not complete, and of one that
    /// the last read completed.
    passed: Vec<Passed>,
    /// Bytes that were read in all.
    received: u64,
    /// Of those, the ones in messages that were taken.
    taken: u64,
    /// The other end is closed: nobody hears.
    gone: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, peer: Peer, now: Tick) -> Self {
        Self {
            stream,
            peer,
            current: None,
            again: None,
            taken_before: false,
            queued: false,
            active_at: now,
            frames: Frames::new(CALL_MAX),
            input: Input::Ready,
            output: Vec::new(),
            written: 0,
            outgoing: None,
            passed: Vec::new(),
            received: 0,
            taken: 0,
            gone: false,
        }
    }

    /// One that an earlier image of supd had, with what it had read and what it had not said yet.
    pub(super) fn go_on(
        stream: UnixStream,
        peer: Peer,
        (input, output): (&[u8], Vec<u8>),
        now: Tick,
    ) -> Self {
        let mut connection = Self::new(stream, peer, now);
        connection.frames.push(input);
        connection.received = input.len() as u64;
        connection.output = output;
        connection
    }

    /// What it said that nobody has answered, and what it was told and has not read.
    pub(super) fn left(&self) -> (Vec<u8>, &[u8]) {
        let more = self.current.is_some_and(|current| current.more);
        // One that is answered, or never will be, is not asked once more.
        let asked = self.again.as_ref().filter(|_| self.waits());
        let again = asked.map(|again| varlink::call(&again.method, &varlink::Meta::default(), more));
        ([&again.unwrap_or_default(), self.frames.rest()].concat(), &self.output[self.written..])
    }

    /// Whether an answer is awaited.
    pub(super) fn waits(&self) -> bool {
        self.current.is_some_and(|current| !current.oneway)
    }

    /// There may be something to read.
    pub(super) fn wake(&mut self) {
        if self.input == Input::Dry {
            self.input = Input::Ready;
        }
    }

    /// The other end is closed. What it sent before is still carried out.
    pub(super) fn lose(&mut self) {
        self.gone = true;
        self.output = Vec::new();
        self.written = 0;
        self.outgoing = None;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// No more calls are taken; the connection ends once its output has left.
    pub(super) fn close_input(&mut self) {
        self.input = Input::Over;
        self.frames.clear();
        self.passed.clear();
    }

    /// Whether nothing can come of it any more, after [`Next::Nothing`]. (Half a message, at its
    /// end, is nothing.)
    pub(super) fn is_over(&self) -> bool {
        let no_input = self.input == Input::Over || self.gone;
        no_input && self.current.is_none() && !self.has_output()
    }

    /// Whether something waits for the client to read it.
    pub(super) fn has_output(&self) -> bool {
        self.written < self.output.len()
    }

    /// Since when it waits for its client to say something.
    pub(super) fn idle_since(&self) -> Option<Tick> {
        let busy = self.current.is_some() || self.has_output() || self.input == Input::Ready;
        (!busy).then_some(self.active_at)
    }

    /// Bytes of memory that it holds.
    pub(super) fn memory(&self) -> usize {
        self.frames.memory() + self.output.capacity()
    }

    /// Descriptors that it holds.
    pub(super) fn descriptors(&self) -> usize {
        self.passed.iter().filter(|passed| passed.what.is_ok()).count() + usize::from(self.outgoing.is_some())
    }

    /// Whether one of them waits for its client to read.
    pub(super) fn has_outgoing(&self) -> bool {
        self.outgoing.is_some()
    }

    /// Closes the descriptor that came last; its call will be told.
    pub(super) fn turn_descriptor_away(&mut self) {
        if let Some(last) = self.passed.last_mut() {
            last.what = Err(Excess::NoRoom);
        }
    }

    /// The next call, if the last one is answered and the answer has left: whoever does not read
    /// is not read from. `bytes` is what may still be read in this turn.
    pub(super) fn next(&mut self, bytes: &mut usize, now: Tick) -> Next {
        if self.current.is_some() || self.has_output() {
            return Next::Nothing;
        }
        loop {
            match self.frames.take() {
                Ok(Some(message)) => {
                    let call = varlink::Call::parse(message);
                    self.taken += message.len() as u64 + 1;
                    let beside = self.beside();
                    return match call {
                        Ok(call) => Next::Call(call, beside),
                        Err(fault) => Next::Broken(bad_message(&fault)),
                    };
                }
                Ok(None) if self.input != Input::Ready => return Next::Nothing,
                Ok(None) if *bytes == 0 => return Next::TurnOver,
                Ok(None) => {
                    if self.read(bytes, now) {
                        return Next::Descriptor;
                    }
                }
                Err(fault) => return Next::Broken(bad_message(&fault)),
            }
        }
    }

    /// What was passed with the message that was just taken.
    fn beside(&mut self) -> Option<Beside> {
        let first = self.passed.first().filter(|passed| passed.at < self.taken);
        first.is_some().then(|| self.passed.remove(0).what)
    }

    /// Reads once; whether a descriptor came.
    fn read(&mut self, bytes: &mut usize, now: Tick) -> bool {
        let mut chunk = [0; CHUNK];
        match receive_stream(&self.stream, &mut chunk) {
            Ok(Read { length: 0, .. }) => self.input = Input::Over,
            Ok(read) => {
                let count = read.length;
                *bytes = bytes.saturating_sub(count);
                self.active_at = now;
                self.received += count as u64;
                self.frames.push(&chunk[..count]);
                return self.note(read, &chunk[..count - 1]);
            }
            Err(Errno::EAGAIN) => self.input = Input::Dry,
            Err(Errno::EINTR) => {}
            Err(_reset) => self.input = Input::Over,
        }
        false
    }

    /// Keeps what a read brought beside its bytes; `before` are those before its last one.
    fn note(&mut self, read: Read, before: &[u8]) -> bool {
        let mut descriptors = read.descriptors;
        let what = match (descriptors.pop(), descriptors.is_empty(), read.truncated) {
            (None, _, false) => return false,
            (Some(_), false, _) => Err(Excess::TooMany),
            (_, _, true) => Err(Excess::NoRoom),
            (Some(only), true, false) => Ok(only),
        };
        let is_one_more = !before.contains(&0);
        match self.passed.last_mut().filter(|_| is_one_more) {
            Some(earlier) => earlier.what = Err(Excess::TooMany),
            None => self.passed.push(Passed { at: self.received - 1, what }),
        }
        self.passed.last().is_some_and(|last| last.what.is_ok())
    }

    /// Takes bytes for the client, with a descriptor at the first of them, and gives the kernel what
    /// it takes now.
    pub(super) fn send(&mut self, bytes: Vec<u8>, descriptor: Option<OwnedFd>, now: Tick) {
        if self.gone {
            return;
        }
        if self.has_output() {
            self.outgoing = descriptor.map(|descriptor| (self.output.len(), descriptor));
            self.output.extend_from_slice(&bytes);
        } else {
            self.outgoing = descriptor.map(|descriptor| (0, descriptor));
            (self.output, self.written) = (bytes, 0);
        }
        self.flush(now);
    }

    /// Gives the kernel what it takes now.
    pub(super) fn flush(&mut self, now: Tick) {
        while self.has_output() {
            let (with, end) = match &self.outgoing {
                Some((at, descriptor)) if *at == self.written => {
                    (Some(descriptor.as_fd()), self.output.len())
                }
                Some((at, _)) => (None, *at),
                None => (None, self.output.len()),
            };
            match send_stream(&self.stream, &self.output[self.written..end], with) {
                Ok(count) => {
                    if with.is_some() {
                        self.outgoing = None;
                    }
                    self.written += count;
                    self.active_at = now;
                }
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(_closed) => return self.lose(),
            }
        }
        (self.output, self.written) = (Vec::new(), 0);
    }
}

fn bad_message(fault: &dyn std::fmt::Display) -> varlink::Error {
    varlink::Error::BadMessage(varlink::error::Plain { changed: false, reason: fault.to_string() })
}
