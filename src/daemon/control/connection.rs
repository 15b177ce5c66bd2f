//! One client: bytes in, calls out, one at a time; replies in, bytes out.

use crate::codec::varlink::{self, CALL_MAX, Frames};
use crate::model::{ClientId, Tick};
use crate::os::peer::Peer;
use mio::net::UnixStream;
use std::io::{self, Read, Write};

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

/// What a client wants next.
#[derive(Debug)]
pub(super) enum Next {
    /// A call.
    Call(varlink::Call),
    /// Bytes that are no call: answer with this and close.
    Broken(varlink::Error),
    /// Nothing for now.
    Nothing,
    /// Perhaps more, but this turn's reading is used up.
    TurnOver,
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
    /// Whether it stands in a queue for the next turn.
    pub(super) queued: bool,
    /// When it last said something, or took something of what it was told.
    pub(super) active_at: Tick,
    frames: Frames,
    input: Input,
    output: Vec<u8>,
    /// Of `output`, what the kernel has taken.
    written: usize,
    /// The other end is closed: nobody hears.
    gone: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, peer: Peer, now: Tick) -> Self {
        Self {
            stream,
            peer,
            current: None,
            queued: false,
            active_at: now,
            frames: Frames::new(CALL_MAX),
            input: Input::Ready,
            output: Vec::new(),
            written: 0,
            gone: false,
        }
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
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// No more calls are taken; the connection ends once its output has left.
    pub(super) fn close_input(&mut self) {
        self.input = Input::Over;
        self.frames.clear();
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

    /// The next call, if the last one is answered and the answer has left: whoever does not read
    /// is not read from. `bytes` is what may still be read in this turn.
    pub(super) fn next(&mut self, bytes: &mut usize, now: Tick) -> Next {
        if self.current.is_some() || self.has_output() {
            return Next::Nothing;
        }
        loop {
            match self.frames.take() {
                Ok(Some(message)) => {
                    return match varlink::Call::parse(message) {
                        Ok(call) => Next::Call(call),
                        Err(fault) => Next::Broken(bad_message(&fault)),
                    };
                }
                Ok(None) if self.input != Input::Ready => return Next::Nothing,
                Ok(None) if *bytes == 0 => return Next::TurnOver,
                Ok(None) => self.read(bytes, now),
                Err(fault) => return Next::Broken(bad_message(&fault)),
            }
        }
    }

    fn read(&mut self, bytes: &mut usize, now: Tick) {
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.input = Input::Over,
            Ok(count) => {
                *bytes = bytes.saturating_sub(count);
                self.active_at = now;
                self.frames.push(&chunk[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.input = Input::Dry,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_reset) => self.input = Input::Over,
        }
    }

    /// Takes bytes for the client, and gives the kernel what it takes now.
    pub(super) fn send(&mut self, bytes: Vec<u8>, now: Tick) {
        if self.gone {
            return;
        }
        if self.has_output() {
            self.output.extend_from_slice(&bytes);
        } else {
            (self.output, self.written) = (bytes, 0);
        }
        self.flush(now);
    }

    /// Gives the kernel what it takes now.
    pub(super) fn flush(&mut self, now: Tick) {
        while self.has_output() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.active_at = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_closed) => return self.lose(),
            }
        }
        (self.output, self.written) = (Vec::new(), 0);
    }
}

fn bad_message(fault: &dyn std::fmt::Display) -> varlink::Error {
    varlink::Error::BadMessage(varlink::error::Plain { changed: false, reason: fault.to_string() })
}
