//! The loop of the demo's server: accept, work, answer, and come to a graceful end.

use super::connection::{Connection, Next};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

/// The work for one request: so that at every moment some are under way.
const WORK: Duration = Duration::from_millis(5);

/// After the order to stop: how long a kept-alive connection may stay idle before it is closed.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// Connections at once.
const CONNECTIONS_MAX: usize = 1024;

const LISTENER: Token = Token(0);

/// A server on one listener.
#[derive(Debug)]
pub(super) struct Server {
    version: &'static str,
    poll: Poll,
    /// `None`: told to stop.
    listener: Option<TcpListener>,
    accepting: bool,
    connections: HashMap<Token, Connection>,
    next: usize,
    /// Requests being worked on, the first to be answered in front.
    work: VecDeque<(Instant, Token)>,
    idle_until: Option<Instant>,
    answered: u64,
}

impl Server {
    /// A server that does not accept yet.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn new(version: &'static str, listener: std::net::TcpListener) -> io::Result<Self> {
        // The flag is shared with every other generation (KERNEL.md); all of them want it.
        listener.set_nonblocking(true)?;
        Ok(Self {
            version,
            poll: Poll::new()?,
            listener: Some(TcpListener::from_std(listener)),
            accepting: false,
            connections: HashMap::new(),
            next: 1,
            work: VecDeque::new(),
            idle_until: None,
            answered: 0,
        })
    }

    /// Accepts from now on.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn accept(&mut self) -> io::Result<()> {
        if let (Some(listener), false) = (&mut self.listener, self.accepting) {
            self.poll.registry().register(listener, LISTENER, Interest::READABLE)?;
            self.accepting = true;
        }
        Ok(())
    }

    /// Accepts no more, and ends when what is here is done.
    pub(super) fn stop(&mut self) {
        // What waits in the queue belongs to whoever else holds the listener.
        self.listener = None;
        self.idle_until.get_or_insert_with(|| Instant::now() + IDLE_GRACE);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.idle_until.is_some()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_stopping() && self.connections.is_empty()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    /// Waits for something to do, at most for `longest`, and does it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn turn(&mut self, longest: Duration) -> io::Result<()> {
        let due = self.work.front().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let mut events = Events::with_capacity(256);
        match self.poll.poll(&mut events, Some(due.unwrap_or(longest).min(longest))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                self.take_new()?;
            } else {
                self.go_on(event.token());
            }
        }
        self.answer_due();
        self.close_idle();
        Ok(())
    }

    /// Until there is none: readiness is told once only. Another generation may have been faster.
    fn take_new(&mut self) -> io::Result<()> {
        while let Some(listener) = &self.listener {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The client has gone again, or a signal came.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            if self.connections.len() >= CONNECTIONS_MAX {
                continue;
            }
            stream.set_nodelay(true)?;
            let token = Token(self.next);
            self.next += 1;
            self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            self.connections.insert(token, Connection::new(stream));
            self.go_on(token);
        }
        Ok(())
    }

    fn go_on(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(&token) {
            let next = connection.go_on();
            self.follow(token, next);
        }
    }

    fn follow(&mut self, token: Token, next: Next) {
        match next {
            Next::Wait => {}
            Next::Work => self.work.push_back((Instant::now() + WORK, token)),
            Next::Close => drop(self.connections.remove(&token)),
        }
    }

    fn answer_due(&mut self) {
        while let Some(&(at, token)) = self.work.front() {
            if at > Instant::now() {
                return;
            }
            self.work.pop_front();
            let last = self.is_stopping();
            if let Some(connection) = self.connections.get_mut(&token) {
                self.answered += 1;
                let next = connection.answer(self.version, last);
                self.follow(token, next);
            }
        }
    }

    fn close_idle(&mut self) {
        if self.idle_until.is_some_and(|until| until <= Instant::now()) {
            self.connections.retain(|_, connection| !connection.is_idle());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::JoinHandle;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    struct Running {
        address: SocketAddr,
        stop: Arc<AtomicBool>,
        thread: JoinHandle<u64>,
    }

    fn start() -> Running {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut server = Server::new("1.0", listener).unwrap();
            server.accept().unwrap();
            while !server.is_over() {
                if told.load(Ordering::Relaxed) {
                    server.stop();
                }
                server.turn(Duration::from_millis(5)).unwrap();
            }
            server.answered()
        });
        Running { address, stop, thread }
    }

    impl Running {
        fn connect(&self) -> TcpStream {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream
        }

        fn end(self) -> u64 {
            self.stop.store(true, Ordering::Relaxed);
            self.thread.join().unwrap()
        }
    }

    /// Reads one answer and says whether it was the last.
    fn answer(stream: &mut TcpStream) -> bool {
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with("This is version 1.0.\n") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "cut short after {text:?}");
            text.push(char::from(byte[0]));
        }
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("\r\nContent-Length: 21\r\n"), "{text}");
        text.contains("\r\nConnection: close\r\n")
    }

    fn is_at_end(stream: &mut TcpStream) -> bool {
        stream.read(&mut [0]).unwrap() == 0
    }

    #[test]
    fn a_connection_is_kept_and_requests_may_come_in_pieces_or_at_once() {
        let server = start();
        let mut stream = server.connect();
        for byte in REQUEST {
            stream.write_all(&[*byte]).unwrap();
        }
        assert!(!answer(&mut stream));
        stream.write_all(&REQUEST.repeat(3)).unwrap();
        for _ in 0..3 {
            assert!(!answer(&mut stream));
        }
        stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        assert!(answer(&mut stream));
        assert!(is_at_end(&mut stream));
        assert_eq!(server.end(), 5);
    }

    #[test]
    fn told_to_stop_it_finishes_what_it_has_and_says_close() {
        let server = start();
        let (mut busy, mut idle, mut late) = (server.connect(), server.connect(), server.connect());
        for stream in [&mut busy, &mut idle, &mut late] {
            stream.write_all(REQUEST).unwrap();
            assert!(!answer(stream));
        }
        busy.write_all(REQUEST).unwrap();
        server.stop.store(true, Ordering::Relaxed);
        answer(&mut busy);
        // The listener closes first: then the order to stop has come.
        while TcpStream::connect(server.address).is_ok() {}
        late.write_all(REQUEST).unwrap();
        assert!(answer(&mut late), "the last answer says so");
        assert!(is_at_end(&mut late));
        assert!(is_at_end(&mut idle), "an idle connection is closed after the grace");
        assert_eq!(server.end(), 5);
    }

    #[test]
    fn a_head_without_end_is_cut_off() {
        let server = start();
        let mut stream = server.connect();
        let sent = stream.write_all(&vec![b'x'; 64 << 10]);
        let mut rest = Vec::new();
        assert!(sent.is_err() || stream.read_to_end(&mut rest).is_err() || rest.is_empty());
        server.end();
    }
}
