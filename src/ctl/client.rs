//! The one that asks: a connection to the control socket that waits, but never without a bound. A
//! descriptor may go with a call, and come with its answer.
//!
//! A swap may take long, and nobody but supd knows how long; so there is no time limit on a whole
//! command unless `--timeout` sets one. Instead, whenever supd has said nothing for a while, it is
//! asked over a second connection whether it still answers.

use super::failure::Failure;
use super::signals::Signals;
use crate::codec::json::OutcomeView;
use crate::codec::varlink::{self, Answer, Frames, Meta, Method, REPLY_MAX};
use crate::model::ExitStatus;
use crate::os::ancillary::{receive_stream, send_stream};
use crate::os::sun_path::SunPath;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a connection may take: supd accepts in its loop, so this is a machine in trouble.
const CONNECT: Duration = Duration::from_secs(10);
/// How long supd may be silent before it is asked whether it is there, and how long it may take
/// to answer that.
const SILENCE: Duration = Duration::from_secs(15);
const PING: Duration = Duration::from_secs(10);
/// How long to try again while supd has too many clients, and how long between two tries.
const BUSY: Duration = Duration::from_secs(10);
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// How much is read at a time: as much as the kernel holds for a reader, so that supd has to be waited
/// for no more often than that.
const CHUNK: usize = 256 << 10;

/// Whoever wants to know what happens while the answer is on its way.
pub(super) trait Observer {
    /// A step.
    fn step(&mut self, outcome: &OutcomeView);
    /// Time went by.
    fn tick(&mut self);
    /// How often time going by is of interest.
    fn period(&self) -> Duration;
    /// A reply before the last, as it came. True: it was no step.
    fn came(&mut self, _raw: &str) -> Result<bool, Failure> {
        Ok(false)
    }
}

/// For those who do not want to know.
impl Observer for () {
    fn step(&mut self, _: &OutcomeView) {}
    fn tick(&mut self) {}
    fn period(&self) -> Duration {
        SILENCE
    }
}

/// Asks supd at one control socket.
#[derive(Debug)]
pub(super) struct Client {
    path: PathBuf,
    signals: Signals,
    /// When the whole command has to be over.
    deadline: Option<Instant>,
    silence: Duration,
    ping: Duration,
}

/// Where a call stands.
enum Heard {
    /// The final answer, and what came with it.
    Answer(Answer, Option<OwnedFd>),
    /// Nothing was begun: there is no place for one more client.
    Busy(String),
}

impl Client {
    /// Takes the signals; `deadline` is for everything that is asked.
    pub(super) fn new(path: PathBuf, deadline: Option<Instant>) -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::new(ExitStatus::Failed, format!("cannot take signals: {error}"));
        Ok(Self { path, signals: Signals::take().map_err(failed)?, deadline, silence: SILENCE, ping: PING })
    }

    /// One that asks sooner whether supd is there, and waits as long for the answer.
    #[cfg(test)]
    pub(super) fn impatient(path: PathBuf, timeout: Option<Duration>, silence: Duration) -> Self {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        Self { path, signals: Signals::none(), deadline, silence, ping: silence }
    }

    /// Calls a method and waits for its final answer, success or error.
    pub(super) fn ask(
        &self,
        method: &Method,
        meta: &Meta,
        observer: Option<&mut dyn Observer>,
    ) -> Result<Answer, Failure> {
        self.pass(method, meta, None, observer).map(|(answer, _)| answer)
    }

    /// The same with a descriptor that goes with the call; gives the one that came with the answer.
    pub(super) fn pass(
        &self,
        method: &Method,
        meta: &Meta,
        descriptor: Option<BorrowedFd<'_>>,
        observer: Option<&mut dyn Observer>,
    ) -> Result<(Answer, Option<OwnedFd>), Failure> {
        let call = varlink::call(method, meta, observer.is_some());
        let mut nobody = ();
        let observer = observer.unwrap_or(&mut nobody);
        let give_up = Instant::now() + BUSY;
        loop {
            let stream = self.connect()?;
            say(&stream, &call, descriptor)?;
            match self.hear(&stream, observer)? {
                Heard::Answer(answer, descriptor) => return Ok((answer, descriptor)),
                Heard::Busy(reason) if Instant::now() >= give_up => {
                    return Err(Failure::new(ExitStatus::Timeout, reason).next("supctl status"));
                }
                Heard::Busy(_) => {
                    self.wait(None, BUSY_PAUSE)?;
                    observer.tick();
                }
            }
        }
    }

    /// Whether the whole command has to be over.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits for the next second or so.
    pub(super) fn pause(&self, span: Duration) -> Result<(), Failure> {
        self.wait(None, span).map(|_| ())
    }

    /// Whether anybody answers at the socket.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self.connect(), Err(Failure { status: ExitStatus::NoSupd, .. }))
    }

    /// Reads messages until the final one.
    fn hear(&self, stream: &UnixStream, observer: &mut dyn Observer) -> Result<Heard, Failure> {
        let mut frames = Frames::new(REPLY_MAX);
        let mut chunk = vec![0; CHUNK];
        let mut heard_at = Instant::now();
        let mut first = true;
        let mut descriptor = None;
        loop {
            while let Some(message) = frames.take().map_err(|fault| garbled(&fault))? {
                let answer: Answer = serde_json::from_slice(message).map_err(|fault| garbled(&fault))?;
                if let (true, Some(reason)) = (first, busy(&answer)) {
                    return Ok(Heard::Busy(reason));
                }
                first = false;
                if !answer.continues || answer.error.is_some() {
                    return Ok(Heard::Answer(answer, descriptor));
                }
                // A step that this supctl does not understand is no reason to give up.
                if observer.came(answer.raw())? {
                    continue;
                }
                if let Ok(outcome) = serde_json::from_str(answer.raw()) {
                    observer.step(&outcome);
                }
            }
            let span = observer.period().min(self.silence);
            if !self.wait(Some(stream), span)? {
                observer.tick();
                if heard_at.elapsed() >= self.silence {
                    self.ping()?;
                    heard_at = Instant::now();
                }
                continue;
            }
            heard_at = Instant::now();
            match receive_stream(stream, &mut chunk) {
                Ok(read) if read.length == 0 => return Err(hung_up(None)),
                Ok(read) => {
                    frames.push(&chunk[..read.length]);
                    descriptor = read.descriptors.into_iter().next().or(descriptor);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(hung_up(Some(errno))),
            }
        }
    }

    /// Waits until the stream is readable (true) or the span is over (false).
    fn wait(&self, stream: Option<&UnixStream>, span: Duration) -> Result<bool, Failure> {
        self.wait_for(stream.map(|stream| (stream.as_fd(), PollFlags::POLLIN)).as_slice(), span)
    }

    /// Waits until one of these is ready (true) or the span is over (false).
    pub(super) fn wait_for(
        &self,
        others: &[(BorrowedFd<'_>, PollFlags)],
        span: Duration,
    ) -> Result<bool, Failure> {
        let now = Instant::now();
        let left = self.deadline.map_or(span, |deadline| deadline.saturating_duration_since(now).min(span));
        let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        watched.extend(others.iter().map(|(other, flags)| PollFd::new(*other, *flags)));
        // Rounded up, or the last millisecond would be a spin.
        let millis = left.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let ready = match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => watched[1..].iter().any(|other| other.any().unwrap_or(false)),
            Err(errno) => {
                return Err(Failure::new(ExitStatus::Failed, format!("cannot poll: {}", errno.desc())));
            }
        };
        if let Some(signal) = self.signals.came() {
            let text = "supctl ends here";
            return Err(Failure { signal: Some(signal), ..Failure::new(ExitStatus::Timeout, text) });
        }
        if !ready && self.is_late() {
            let text = "no answer within --timeout; what was asked for goes on, its outcome is unknown";
            return Err(Failure::new(ExitStatus::Timeout, text));
        }
        Ok(ready)
    }

    /// Asks whether supd still answers anyone.
    fn ping(&self) -> Result<(), Failure> {
        let mut stream = self.connect()?;
        let _broken_pipe = stream.write_all(b"{\"method\":\"org.varlink.service.GetInfo\"}\0");
        let end = Instant::now() + self.ping;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if self.wait(Some(&stream), left)? {
                return Ok(());
            }
            if left.is_zero() {
                let text =
                    format!("supd has said nothing for {} seconds", (self.silence + self.ping).as_secs());
                return Err(Failure::new(ExitStatus::Timeout, format!("{text}; the outcome is unknown")));
            }
        }
    }

    /// A connection; connect(2) waits while supd's queue is full, but not for ever (SO_SNDTIMEO).
    fn connect(&self) -> Result<UnixStream, Failure> {
        let failed = |errno: Errno| self.no_connection(errno);
        let fd =
            socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        let bound =
            self.deadline.map_or(CONNECT, |deadline| deadline.saturating_duration_since(Instant::now()));
        let bound = bound.clamp(Duration::from_millis(1), CONNECT);
        let seconds = i64::try_from(bound.as_secs()).unwrap_or(i64::MAX);
        let timeout = TimeVal::new(seconds, i64::from(bound.subsec_micros()));
        setsockopt(&fd, sockopt::SendTimeout, &timeout).map_err(failed)?;
        let path = SunPath::of(&self.path);
        let address = UnixAddr::new(path.as_path()).map_err(failed)?;
        loop {
            match connect(fd.as_raw_fd(), &address) {
                Ok(()) => return Ok(UnixStream::from(fd)),
                Err(Errno::EINTR) if self.signals.came().is_none() => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    fn no_connection(&self, errno: Errno) -> Failure {
        let path = self.path.display();
        let why = errno.desc();
        match errno {
            Errno::EACCES | Errno::EPERM => {
                let text = format!("supd's socket {path} is out of reach: {why}");
                Failure::new(ExitStatus::NotAllowed, text)
                    .next("ask as the user that this supd runs as, or name another with --runtime DIR")
            }
            Errno::EAGAIN | Errno::EINTR => {
                let text = format!("supd does not take connections at {path}; nothing was begun");
                Failure::new(ExitStatus::Timeout, text).next("supctl status")
            }
            _ => Failure::new(ExitStatus::NoSupd, format!("no supd answers at {path}: {why}"))
                .next("start it (systemctl start supd, or: supd), or name its folder with --runtime DIR"),
        }
    }
}

/// The reason, if this says that supd has no place for one more client.
fn busy(answer: &Answer) -> Option<String> {
    match varlink::Error::parse(answer.error.as_deref()?, answer.raw())? {
        varlink::Error::Busy(plain) => Some(plain.reason),
        _ => None,
    }
}

fn garbled(fault: &dyn std::fmt::Display) -> Failure {
    Failure::new(ExitStatus::Timeout, format!("what answers there is no supd, or a broken one: {fault}"))
}

/// Sends a call, with a descriptor at its first byte.
fn say(stream: &UnixStream, call: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    let (mut rest, mut descriptor) = (call, descriptor);
    while !rest.is_empty() {
        match send_stream(stream, rest, descriptor) {
            Ok(count) => (rest, descriptor) = (&rest[count..], None),
            Err(Errno::EINTR) => {}
            // supd has said something already and closed: it is read.
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(()),
            Err(errno) => {
                let text = format!("supd does not take the call: {}; nothing was begun", errno.desc());
                return Err(Failure::new(ExitStatus::Timeout, text));
            }
        }
    }
    Ok(())
}

fn hung_up(error: Option<Errno>) -> Failure {
    let why = error.map_or(String::new(), |errno| format!(" ({})", errno.desc()));
    let text = format!("supd closed the connection before it answered{why}; the outcome is unknown");
    Failure::new(ExitStatus::Timeout, text)
}
