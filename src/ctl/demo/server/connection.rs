//! One connection: bytes in, a request's head found, an answer out.

use mio::net::TcpStream;
use std::io::{self, ErrorKind, Read, Write};

/// A request's head may not be longer than this.
const HEAD_MAX: usize = 8 << 10;

/// A connection of the demo's server. It takes requests without a body, one after the other.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// A request is being worked on; the next one waits in `input`.
    working: bool,
    /// The client or the server said that no further request follows.
    last: bool,
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for the client.
    Wait,
    /// A whole request is here: work on it, then call [`Connection::answer`].
    Work,
    /// It is over.
    Close,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, input: Vec::new(), output: Vec::new(), working: false, last: false }
    }

    /// Whether closing it now takes nothing from anyone.
    pub(super) fn is_idle(&self) -> bool {
        !self.working && self.output.is_empty() && self.input.is_empty()
    }

    /// Reads and writes what can be, until the kernel says that it would block.
    pub(super) fn go_on(&mut self) -> Next {
        let Ok(open) = self.read() else { return Next::Close };
        if self.write().is_err() {
            return Next::Close;
        }
        if !self.output.is_empty() || self.working {
            return if open { Next::Wait } else { Next::Close };
        }
        if self.last {
            return Next::Close;
        }
        let Some(head) = self.input.windows(4).position(|four| four == b"\r\n\r\n") else {
            let goes_on = open && self.input.len() <= HEAD_MAX;
            return if goes_on { Next::Wait } else { Next::Close };
        };
        self.last = says_close(&self.input[..head]);
        self.input.drain(..head + 4);
        self.working = true;
        Next::Work
    }

    /// Answers the request that was worked on; `last`: and no other on this connection.
    pub(super) fn answer(&mut self, version: &str, last: bool) -> Next {
        self.working = false;
        self.last |= last;
        let connection = if self.last { "close" } else { "keep-alive" };
        let body = format!("This is version {version}.\n");
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nX-Served-By: {version}\r\n\
             Connection: {connection}\r\n\r\n",
            body.len()
        );
        self.output.extend_from_slice(head.as_bytes());
        self.output.extend_from_slice(body.as_bytes());
        self.go_on()
    }

    /// Whether the client's side is still open.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        while self.input.len() <= HEAD_MAX {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether a request's head asks for the end of the connection after it (RFC 9112, 9.6).
fn says_close(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let old = text.lines().next().is_some_and(|line| line.ends_with("http/1.0"));
    let close = |line: &str| line.strip_prefix("connection:").is_some_and(|value| value.trim() == "close");
    old || text.lines().any(close)
}

#[cfg(test)]
mod tests {
    use super::says_close;

    #[test]
    fn a_client_may_end_the_connection() {
        assert!(!says_close(b"GET / HTTP/1.1\r\nHost: x"));
        assert!(!says_close(b"GET / HTTP/1.1\r\nConnection: keep-alive"));
        assert!(says_close(b"GET / HTTP/1.1\r\nHost: x\r\nCONNECTION:  Close"));
        assert!(says_close(b"GET / HTTP/1.0\r\nHost: x"));
    }
}
