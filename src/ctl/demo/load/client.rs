//! One client: a request at a time, on a new connection or on one that it keeps.
//!
//! A kept-alive connection that ends without one byte of an answer is the hard case: a loss, or an
//! idle connection closed just as the request was sent? The kernel knows. A server that closes
//! without having read the request makes its kernel answer with a reset (tcp(7)); one that read the
//! request and then closed sends only FIN. So a reset without a byte, on a connection that served
//! before, is an idle close; everything else is a loss.

use super::head::Head;
use super::{PATIENCE, Shared};
use crate::ctl::demo::timeline::{Loss, Outcome};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// An answer may not be longer than this.
const ANSWER_MAX: usize = 16 << 10;

/// So many requests go over a connection that is kept: what a browser does, and more, and then it is
/// seen who takes new ones.
const REQUESTS_EACH: u32 = 50;

/// After a loss: so that a dead server does not turn the load into a busy loop.
const AFTER_LOSS: Duration = Duration::from_millis(5);

/// How long the reset may take that follows the end of a stream.
const RESET_COMES: u8 = 20;

/// How a request failed, and whether on a byte of an answer.
struct End {
    loss: Loss,
    /// Not one byte of an answer came, and a reset did.
    unread: bool,
}

pub(super) fn run(shared: &Shared, keeps: bool) {
    let (mut kept, mut asked): (Option<TcpStream>, u32) = (None, 0);
    while !shared.stop.load(Ordering::Relaxed) {
        // Closed between two requests: nobody is hurt.
        kept = kept.filter(|stream| asked < REQUESTS_EACH && ready(stream, PollFlags::POLLIN, 0).is_empty());
        asked = if kept.is_some() { asked + 1 } else { 1 };
        let (reused, begun) = (kept.is_some(), Instant::now());
        let outcome = match ask(shared, kept.take(), keeps, begun + PATIENCE) {
            Ok((head, stream)) => {
                kept = stream.filter(|_| keeps && !head.last);
                head.version.map_or(Outcome::Lost(Loss::Wrong), Outcome::Answered)
            }
            Err(End { unread: true, .. }) if reused => Outcome::IdleClose,
            Err(End { loss, .. }) => Outcome::Lost(loss),
        };
        let ended = Instant::now();
        shared.timeline().record(ended - shared.began, ended - begun, outcome);
        if matches!(outcome, Outcome::Lost(_)) {
            std::thread::park_timeout(AFTER_LOSS);
        }
    }
}

/// Asks once; the connection comes back.
fn ask(
    shared: &Shared,
    stream: Option<TcpStream>,
    keeps: bool,
    until: Instant,
) -> Result<(Head, Option<TcpStream>), End> {
    let mut stream = match stream {
        Some(stream) => stream,
        None => connect(shared).map_err(|error| failed(&error, true))?,
    };
    let connection = if keeps { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n\r\n", shared.address);
    stream.write_all(request.as_bytes()).map_err(|error| failed(&error, true))?;
    let head = read_answer(&mut stream, until)?;
    Ok((head, Some(stream)))
}

fn connect(shared: &Shared) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&shared.address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn read_answer(stream: &mut TcpStream, until: Instant) -> Result<Head, End> {
    let mut bytes = Vec::with_capacity(1024);
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = Head::parse(&bytes[..end]).ok_or(End { loss: Loss::Wrong, unread: false })?;
            match bytes.len().cmp(&(end + 4 + head.length)) {
                std::cmp::Ordering::Equal => return Ok(head),
                std::cmp::Ordering::Greater => return Err(End { loss: Loss::Wrong, unread: false }),
                std::cmp::Ordering::Less => {}
            }
        }
        if bytes.len() > ANSWER_MAX {
            return Err(End { loss: Loss::Wrong, unread: false });
        }
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let read = stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer));
        match read {
            Ok(0) => {
                let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
                let reset = ready(stream, PollFlags::empty(), RESET_COMES).intersects(gone);
                return Err(End { loss: Loss::CutShort, unread: bytes.is_empty() && reset });
            }
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(&error, bytes.is_empty())),
        }
    }
}

/// Gives an error its name.
fn failed(error: &io::Error, nothing_came: bool) -> End {
    let reset = matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    );
    let loss = match error.kind() {
        _ if reset => Loss::Reset,
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Loss::TimedOut,
        // Refused; and whatever else keeps a connection from being opened.
        _ => Loss::Refused,
    };
    End { loss, unread: nothing_came && reset }
}

/// What the kernel has to say of a connection within so many milliseconds.
fn ready(stream: &TcpStream, flags: PollFlags, millis: u8) -> PollFlags {
    let mut fds = [PollFd::new(stream.as_fd(), flags)];
    match poll(&mut fds, PollTimeout::from(millis)) {
        Ok(1..) => fds[0].revents().unwrap_or(PollFlags::POLLERR),
        Ok(_) | Err(_) => PollFlags::empty(),
    }
}
