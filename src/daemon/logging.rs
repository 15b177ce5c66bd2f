//! supd's own messages: lines on standard error, which must never make the loop wait.

use crate::os::journal;
use log::LevelFilter;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};
use std::io::{self, Write};
use std::os::fd::AsFd;

/// No line is longer, in bytes: a pipe that has room at all has room for so much (pipe(7)).
const LINE_MAX: usize = 4096;

/// Lets messages of this level and graver through.
pub fn start(level: LevelFilter) {
    let mut config = ConfigBuilder::new();
    config.set_thread_level(LevelFilter::Off).set_target_level(LevelFilter::Off);
    config.set_location_level(LevelFilter::Off).set_level_padding(LevelPadding::Off);
    // The journal has times of its own.
    if journal::is_stream(io::stderr()) {
        config.set_time_level(LevelFilter::Off);
    } else {
        config.set_time_format_rfc3339();
    }
    // It fails only where a logger is set already.
    let _ = WriteLogger::init(level, config.build(), Lines::default());
}

/// Whole lines, each written at once or not at all.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
    lost: u64,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            match byte {
                b'\n' => self.put(),
                byte if self.line.len() < LINE_MAX - 64 => self.line.push(*byte),
                _ => {}
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn put(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        line.push(b'\n');
        let error = io::stderr();
        // A reader that stands still costs messages and not the loop.
        let mut entry = [PollFd::new(error.as_fd(), PollFlags::POLLOUT)];
        let ready = poll(&mut entry, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        if !ready {
            self.lost += 1;
            return;
        }
        if self.lost > 0 {
            line.splice(..0, format!("({} messages were lost) ", self.lost).into_bytes());
            self.lost = 0;
        }
        let _ = error.lock().write_all(&line);
    }
}
