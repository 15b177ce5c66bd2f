//! What supd leaves where it dies of its own fault: a line in a file, written by the panic hook and by the handler
//! of the fatal signals. SIGKILL is nobody's own fault, and leaves nothing.
//!
//! It does not matter who sent the signal: who sends SIGABRT means a supd that hangs.

#![allow(unsafe_code)]

use super::clock::BootId;
use super::{Error, fork};
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use std::fs::OpenOptions;
use std::os::fd::IntoRawFd;
use std::os::raw::c_int;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// The signals of a program's own faults.
const FATAL: [Signal; 5] = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGABRT, Signal::SIGFPE];

/// A line is no longer, in bytes.
pub const LINE_MAX: usize = 256;

/// Open for as long as supd lives: who dies may have no descriptor left, and no memory.
static FILE: AtomicI32 = AtomicI32::new(-1);
/// Which boot of the machine it is.
static BOOT: OnceLock<Box<str>> = OnceLock::new();
/// A panic ends in SIGABRT: that is one crash.
static MARKED: AtomicBool = AtomicBool::new(false);

/// From now on a crash of this process leaves a line at the end of this file: the boot, CLOCK_MONOTONIC in
/// microseconds, and why, with a space between. To be called once.
///
/// # Errors
/// The file cannot be opened, or a handler cannot be set.
pub fn arm(path: &Path, boot: &BootId) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let file = options.open(path).map_err(|error| Error::from_io("open", path.display(), &error))?;
    let _ = BOOT.set(boot.to_string().into());
    FILE.store(file.into_raw_fd(), Ordering::Relaxed);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        let place = panic.location().map(|place| format!("panic at {}:{}", place.file(), place.line()));
        mark(place.as_deref().unwrap_or("panic").as_bytes());
    }));
    // On the stack that the standard library has set apart: the other one may be full.
    let action = SigAction::new(SigHandler::Handler(died), SaFlags::SA_ONSTACK, SigSet::empty());
    for signal in FATAL {
        // SAFETY: the handler calls only what signal-safety(7) lists, and leaves no lock taken.
        unsafe { sigaction(signal, &action) }
            .map_err(|errno| Error::new("set a handler of", signal.as_str(), errno))?;
    }
    Ok(())
}

/// Leaves the mark, then dies as if there were no handler: with that signal, and a core where one is wanted.
extern "C" fn died(number: c_int) {
    let name = match number {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGABRT => "SIGABRT",
        libc::SIGFPE => "SIGFPE",
        _ => "a signal",
    };
    mark(name.as_bytes());
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    if let Ok(signal) = Signal::try_from(number) {
        // SAFETY: it puts the default back, which nothing depends on any more.
        let _ = unsafe { sigaction(signal, &default) };
        // Pending until this returns; what a fault of the program's own does again by itself.
        let _ = raise(signal);
    }
}

/// One line, by one write(2). Called from signal handlers: no memory is taken, and no lock.
fn mark(why: &[u8]) {
    let file = FILE.load(Ordering::Relaxed);
    if file < 0 || fork::is_child() || MARKED.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut line = Line::default();
    line.put(BOOT.get().map_or(&b"?"[..], |boot| boot.as_bytes()));
    line.put(b" ");
    line.put_number(monotonic());
    line.put(b" ");
    line.put(why);
    line.end();
    let errno = Errno::last_raw();
    // SAFETY: `line` is that long; write(2) is async-signal-safe, and a descriptor that is none is an error.
    let _ = unsafe { libc::write(file, line.bytes.as_ptr().cast(), line.length) };
    Errno::set_raw(errno);
}

/// CLOCK_MONOTONIC in microseconds, as [`super::clock::now`] without its checks.
fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to `time`, and is async-signal-safe.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).wrapping_mul(1_000_000).wrapping_add(nanos.unwrap_or(0) / 1000)
}

/// A line that is put together in place.
struct Line {
    bytes: [u8; LINE_MAX],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; LINE_MAX], length: 0 }
    }
}

impl Line {
    /// As much of it as there is room for, beside the end of the line.
    fn put(&mut self, text: &[u8]) {
        for byte in text {
            if self.length >= LINE_MAX - 1 {
                return;
            }
            let shown = if byte.is_ascii_control() { b'?' } else { *byte };
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = shown;
                self.length += 1;
            }
        }
    }

    fn put_number(&mut self, number: u64) {
        let mut digits = [0; 20];
        let (mut left, mut first) = (number, digits.len());
        for place in digits.iter_mut().rev() {
            // A digit.
            *place = b'0' + (left % 10) as u8;
            (left, first) = (left / 10, first - 1);
            if left == 0 {
                break;
            }
        }
        self.put(digits.get(first..).unwrap_or_default());
    }

    fn end(&mut self) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = b'\n';
            self.length += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, Line, monotonic};

    fn text(line: &Line) -> &str {
        std::str::from_utf8(&line.bytes[..line.length]).unwrap()
    }

    #[test]
    fn a_line_is_put_together_without_memory() {
        let mut line = Line::default();
        line.put(b"boot ");
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            line.put_number(number);
            line.put(b"\n ");
        }
        line.end();
        assert_eq!(text(&line), "boot 0? 7? 10? 1234567890? 18446744073709551615? \n");
    }

    #[test]
    fn it_is_cut_and_ended() {
        let mut line = Line::default();
        line.put(&[b'x'; 1000]);
        line.end();
        assert_eq!(line.length, LINE_MAX);
        assert!(text(&line).ends_with("x\n"));
    }

    #[test]
    fn its_clock_is_that_of_the_loop() {
        let (before, then, after) = (crate::os::clock::now().0, monotonic(), crate::os::clock::now().0);
        assert!((before..=after).contains(&then));
    }
}
