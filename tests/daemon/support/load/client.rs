//! One client: a connection at a time, a request at a time, never a second try.
//!
//! # A loss, or an idle close?
//! A kept-alive connection that ends without one byte of an answer is the hard case. The kernel
//! knows: a server that closes without having read the request makes its kernel answer with a reset
//! (tcp(7); the same for UNIX sockets), one that read the request and then closed sends only FIN. So
//! on a connection that has served before, a reset without a byte is an idle close, counted apart;
//! an end without a reset is a request that was read and never answered: a loss. The exception is a
//! server that closes by half and then reads until its client hangs up (RFC 9112, 9.6): there is no
//! reset then although it looks at nothing that it reads. A test that knows its server to be such a
//! one says so ([`Plan::half_closes`]) and must prove from the server's own log that no request was
//! taken. On a new connection there is no idle close: every end without an answer is a loss.

use super::tally::{Answer, Kind, Loss, Tally};
use super::{Mode, Plan, Shared, Speaks, Target, lock, talk};
use crate::wait::{pause, ready};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// An answer's head may not be longer than this.
const HEAD_MAX: usize = 16 << 10;

/// After a loss: so that a dead server does not turn the load into a busy loop.
const AFTER_LOSS: Duration = Duration::from_millis(5);

enum Stream {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Unix(UnixStream),
}

impl Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }

    /// The client's own port, by which a server's records name the connection.
    fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().map(|address| address.port()),
            Self::Udp(_) | Self::Unix(_) => None,
        }
    }

    fn set_timeout(&self, left: Duration) {
        let left = Some(left.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(left).and(stream.set_write_timeout(left)),
            Self::Udp(socket) => socket.set_read_timeout(left),
            Self::Unix(stream) => stream.set_read_timeout(left).and(stream.set_write_timeout(left)),
        }
        .expect("a time above zero is a valid timeout");
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Udp(socket) => socket.send(bytes).map(drop),
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Tcp(stream) => stream.read(buffer),
                Self::Udp(socket) => socket.recv(buffer),
                Self::Unix(stream) => stream.read(buffer),
            };
            match result {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Whether the peer has closed: everything that it sent has been read, so what is readable now
    /// is the end.
    fn is_closed(&self) -> bool {
        !ready(self.as_fd(), PollFlags::POLLIN, Duration::ZERO).is_empty()
    }

    /// After the end of the stream: whether a reset followed, which says that the request was not
    /// read. On loopback it is there before a send returns; the short wait is for a loaded machine.
    fn was_reset(&self) -> bool {
        let flags = ready(self.as_fd(), PollFlags::empty(), Duration::from_millis(20));
        flags.intersects(PollFlags::POLLERR | PollFlags::POLLHUP)
    }
}

/// How one request ended.
enum End {
    Answered { server: String, last: bool },
    Lost(Kind, &'static str, String),
    IdleClose { by_half: bool },
}

pub(super) fn run(shared: &Shared, record: &Mutex<Tally>, seed: u64) {
    let mut connection: Option<(Stream, u64)> = None;
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut asked = 0_u64;
    while !shared.stop.load(Ordering::Relaxed) {
        think(&shared.plan, &mut random, connection.as_ref().map(|(stream, _)| stream));
        if connection.as_ref().is_some_and(|(stream, _)| stream.is_closed()) {
            lock(record).idle.before += 1;
            connection = None;
        }
        asked += 1;
        let begun = shared.began.elapsed();
        let served_before = connection.as_ref().map_or(0, |(_, served)| *served);
        let stream = connection.take().map(|(stream, _)| stream);
        let (end, stream, port) = one_request(&shared.plan, asked, stream);
        let took = shared.began.elapsed() - begun;
        let mut tally = lock(record);
        tally.connections += u64::from(served_before == 0);
        match end {
            End::Answered { server, last } => {
                let server = shared.number_of(&server);
                let (begun, took) = (micros(begun), u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                tally.answers.push(Answer { begun, took, server });
                let renews = shared.plan.renew_every.is_some_and(|most| served_before + 1 >= most);
                let keep = shared.plan.mode == Mode::KeepAlive && !last && !renews;
                tally.announced += u64::from(last && shared.plan.mode == Mode::KeepAlive);
                connection = stream.filter(|_| keep).map(|stream| (stream, served_before + 1));
            }
            End::IdleClose { by_half: false } => tally.idle.crossed += 1,
            End::IdleClose { by_half: true } => tally.idle.by_half += 1,
            End::Lost(kind, phase, detail) => {
                tally.losses.push(Loss { kind, at: begun + took, served_before, port, phase, detail });
                drop(tally);
                pause(AFTER_LOSS);
            }
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Rests, but not past the end of the connection.
fn think(plan: &Plan, random: &mut Random, stream: Option<&Stream>) {
    let most = micros(plan.think);
    if most == 0 {
        return;
    }
    let rest = Duration::from_micros(random.next() % (most + 1));
    match stream {
        Some(stream) => drop(ready(stream.as_fd(), PollFlags::POLLIN, rest)),
        None => pause(rest),
    }
}

/// Asks once, on `stream` or on a new connection; the connection comes back if it can be used on.
fn one_request(plan: &Plan, asked: u64, stream: Option<Stream>) -> (End, Option<Stream>, Option<u16>) {
    let until = Instant::now() + plan.patience;
    let reused = stream.is_some();
    let stream = match stream {
        Some(stream) => stream,
        None => match open(plan) {
            Ok(stream) => stream,
            Err(error) => return (lost(&error, "connect"), None, None),
        },
    };
    let port = stream.port();
    let (end, stream) = match plan.speaks {
        Speaks::Http => ask(plan, asked, stream, reused, until),
        Speaks::Redis | Speaks::Memcached => talk(plan, asked, stream, until),
    };
    (end, stream, port)
}

fn ask(plan: &Plan, asked: u64, mut stream: Stream, reused: bool, until: Instant) -> (End, Option<Stream>) {
    stream.set_timeout(plan.patience);
    let path = match plan.slow_every {
        Some(every) if asked % every == 0 => "/slow",
        _ => &plan.path,
    };
    let connection = if plan.mode == Mode::Close { "close" } else { "keep-alive" };
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\n\r\n");
    if let Err(error) = stream.write_all(request.as_bytes()) {
        return match lost(&error, "send the request") {
            End::Lost(Kind::Reset, ..) if reused => (End::IdleClose { by_half: false }, None),
            end => (end, None),
        };
    }
    match read_answer(plan, &mut stream, reused, until) {
        Ok((server, last)) => (End::Answered { server, last }, Some(stream)),
        Err(end) => (end, None),
    }
}

/// Asks a server that speaks no HTTP: it has no reason to end a connection, so that every end is a loss.
fn talk(plan: &Plan, asked: u64, mut stream: Stream, until: Instant) -> (End, Option<Stream>) {
    stream.set_timeout(plan.patience);
    let is_udp = matches!(stream, Stream::Udp(_));
    let question = talk::question(plan.speaks, is_udp, asked);
    if let Err(error) = stream.write_all(&question) {
        return (lost(&error, "send the request"), None);
    }
    let mut pieces = Vec::new();
    loop {
        match talk::answer(plan.speaks, is_udp, asked, &pieces) {
            Ok(Some(server)) => return (End::Answered { server, last: false }, Some(stream)),
            Ok(None) => {}
            Err(detail) => return (garbled(&detail), None),
        }
        stream.set_timeout(until.saturating_duration_since(Instant::now()));
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => {
                let detail = format!("end after {} pieces", pieces.len());
                return (End::Lost(Kind::CutShort, "wait for the answer", detail), None);
            }
            Ok(count) => pieces.push(buffer[..count].to_vec()),
            Err(error) => return (lost(&error, "wait for the answer"), None),
        }
    }
}

/// Reads one whole answer: who answered, and whether it said that this was the last.
fn read_answer(
    plan: &Plan,
    stream: &mut Stream,
    reused: bool,
    until: Instant,
) -> Result<(String, bool), End> {
    let mut bytes = Vec::with_capacity(2048);
    let mut head_end = None;
    loop {
        if head_end.is_none() {
            head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        }
        if let Some(head_end) = head_end {
            let head = Head::parse(&bytes[..head_end]).map_err(|detail| garbled(&detail))?;
            match bytes.len().cmp(&(head_end + head.length)) {
                std::cmp::Ordering::Equal => return judge(head, &bytes[head_end..]),
                std::cmp::Ordering::Greater => return Err(garbled("more bytes than Content-Length says")),
                std::cmp::Ordering::Less => {}
            }
        } else if bytes.len() > HEAD_MAX {
            return Err(garbled("the head of the answer never ends"));
        }
        let phase = match (bytes.is_empty(), head_end.is_some()) {
            (true, _) => "wait for the answer",
            (false, false) => "read the head",
            (false, true) => "read the body",
        };
        stream.set_timeout(until.saturating_duration_since(Instant::now()));
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ended(plan, stream, phase, bytes.len(), reused)),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) => {
                return Err(match lost(&error, phase) {
                    End::Lost(Kind::Reset, ..) if bytes.is_empty() && reused => {
                        End::IdleClose { by_half: false }
                    }
                    End::Lost(kind, phase, detail) => {
                        End::Lost(kind, phase, format!("{detail} after {} bytes", bytes.len()))
                    }
                    other => other,
                });
            }
        }
    }
}

/// What an end of the stream after `bytes` of an answer means: see the head of this file.
fn ended(plan: &Plan, stream: &Stream, phase: &'static str, bytes: usize, reused: bool) -> End {
    if bytes == 0 && reused {
        if stream.was_reset() {
            return End::IdleClose { by_half: false };
        }
        if plan.half_closes {
            return End::IdleClose { by_half: true };
        }
    }
    End::Lost(Kind::CutShort, phase, format!("end after {bytes} bytes"))
}

/// Status and version of a whole answer.
fn judge(head: Head, body: &[u8]) -> Result<(String, bool), End> {
    // A server of files cannot say it in its head: then it is the first line of the file.
    let by_body = || {
        let line = std::str::from_utf8(body).ok()?.lines().next()?;
        line.strip_prefix("X-Served-By: ").map(str::to_owned)
    };
    match head.status {
        200 => match head.served_by.or_else(by_body) {
            Some(server) => Ok((server, head.last)),
            None => Err(garbled("no X-Served-By: the test's server does not say who it is")),
        },
        500..=599 => Err(End::Lost(Kind::ServerError, "read the body", format!("status {}", head.status))),
        other => Err(garbled(&format!("status {other}"))),
    }
}

fn garbled(detail: &str) -> End {
    End::Lost(Kind::Garbled, "read the answer", detail.to_owned())
}

/// Gives an error its name in the design's list.
///
/// # Panics
/// When this machine ran out of something: that is no fact about the server.
fn lost(error: &io::Error, phase: &'static str) -> End {
    let kind = match error.raw_os_error().map(Errno::from_raw) {
        // ENOENT: nobody at the path; EAGAIN is a time-out, and for connect(2) on a UNIX socket
        // one with a full queue for all of SO_SNDTIMEO.
        Some(Errno::ECONNREFUSED | Errno::ENOENT) => Kind::Refused,
        Some(Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED) => Kind::Reset,
        Some(Errno::EAGAIN | Errno::ETIMEDOUT) => Kind::TimedOut,
        None if error.kind() == ErrorKind::TimedOut => Kind::TimedOut,
        _ => panic!("the load's own trouble ({phase}): {error}"),
    };
    End::Lost(kind, phase, error.to_string())
}

fn open(plan: &Plan) -> io::Result<Stream> {
    match &plan.target {
        Target::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, plan.patience)?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
        Target::Udp(address) => {
            let socket = UdpSocket::bind(("127.0.0.1", 0))?;
            socket.connect(address)?;
            Ok(Stream::Udp(socket))
        }
        Target::Unix(path) => open_unix(path, plan.patience).map(Stream::Unix),
    }
}

/// std's connect has no bound; with SO_SNDTIMEO set first, connect(2) has one.
fn open_unix(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(seconds, patience.subsec_micros().into()))?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

/// What the load needs of an answer's head.
struct Head {
    status: u16,
    length: usize,
    last: bool,
    served_by: Option<String>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "a head that is not UTF-8".to_owned())?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| format!("no status line: {first:?}"))?;
        // HTTP/1.0 keeps nothing alive unless it says so.
        let mut last = first.starts_with("HTTP/1.0");
        let (mut length, mut served_by) = (None, None);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok(),
                "connection" => last = value.eq_ignore_ascii_case("close"),
                "x-served-by" => served_by = Some(value.to_owned()),
                _ => {}
            }
        }
        let length = length.ok_or("no Content-Length: a cut answer could not be told from a whole one")?;
        Ok(Self { status, length, last, served_by })
    }
}

/// Marsaglia's xorshift: think times need no better.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
