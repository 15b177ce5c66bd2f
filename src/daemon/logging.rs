//! supd's own messages: to the journal with their fields, where its standard error is the journal's; else lines on
//! standard error. Neither must ever make the loop wait, for which the crates that write to the journal make no
//! promise.

use super::launch::Logged;
use crate::codec::journal::{self as words, LAUNCHED};
use crate::codec::json::HistoryEntry;
use crate::machine::Launch;
use crate::os::journal::{self, Messages};
use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};
use std::fmt::Arguments;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// No line is longer, in bytes: a pipe that has room at all has room for so much (pipe(7)).
const LINE_MAX: usize = 4096;

/// What is for the journal alone: on a terminal the lines tell it, and the history keeps it.
const EVENT: &str = "event";

/// What is for the journal alone, and goes there whatever standard error is.
const RECORD: &str = "record";

/// Lets messages of this level and graver through.
pub fn start(level: LevelFilter) {
    let mut config = ConfigBuilder::new();
    config.set_thread_level(LevelFilter::Off).set_target_level(LevelFilter::Off);
    config.set_location_level(LevelFilter::Off).set_level_padding(LevelPadding::Off);
    let journaled = journal::is_stream(io::stderr());
    // The journal has times of its own.
    if journaled {
        config.set_time_level(LevelFilter::Off);
    } else {
        config.set_time_format_rfc3339();
    }
    let lines = WriteLogger::new(level, config.build(), Lines::default());
    // It fails only where a logger is set already.
    if log::set_boxed_logger(Box::new(Logger {
        lines,
        journaled,
        messages: OnceLock::new(),
        lost: AtomicU64::new(0),
    }))
    .is_ok()
    {
        log::set_max_level(level);
    }
}

/// Says this, with fields for the journal.
pub fn say(level: Level, target: &str, fields: &[(&str, &str)], text: Arguments<'_>) {
    let record = Record::builder().level(level).target(target).args(text).key_values(&fields).build();
    if level <= log::max_level() {
        log::logger().log(&record);
    }
}

/// Something happened that the history keeps.
pub fn event(entry: &HistoryEntry) {
    let level = if words::is_grave(entry) { Level::Warn } else { Level::Info };
    let fields = words::fields(entry);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    say(level, EVENT, &fields, format_args!("{}", words::sentence(entry)));
}

/// A worker is this process from now on. What it writes is in the journal, and known as its generation's by
/// this number, or it is not.
pub fn tell_launched(launch: &Launch, worker: u32, pid: i32, kept: Logged) {
    let target = if kept == Logged::Journal { RECORD } else { EVENT };
    let (unit, generation) = (&launch.settings.unit, launch.generation.to_string());
    let (number, index) = (pid.to_string(), worker.to_string());
    let mut fields = vec![
        ("MESSAGE_ID", words::message_id(LAUNCHED).unwrap_or_default()),
        ("SUPD_EVENT", LAUNCHED),
        ("SUPD_UNIT", unit.as_str()),
        ("SUPD_GENERATION", &generation),
        ("SUPD_WORKER", &index),
        ("SUPD_PID", &number),
    ];
    fields.extend(launch.release.as_ref().map(|release| ("SUPD_RELEASE", release.as_str())));
    say(Level::Info, target, &fields, format_args!("{unit}/g{generation}: worker {worker} is process {pid}"));
}

/// Both ways.
struct Logger {
    lines: Box<WriteLogger<Lines>>,
    /// Standard error is the journal's.
    journaled: bool,
    /// `None`: not even a socket.
    messages: OnceLock<Option<Messages>>,
    lost: AtomicU64,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.lines.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let wanted = self.journaled || record.target() == RECORD;
        let messages = wanted.then(|| self.messages.get_or_init(|| Messages::open().ok()).as_ref()).flatten();
        match messages.map(|messages| self.send(messages, record)) {
            Some(Ok(())) => {}
            // A journal that stands still costs messages and not the loop.
            Some(Err(Errno::EAGAIN)) => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
            Some(Err(_)) | None if matches!(record.target(), EVENT | RECORD) => {}
            Some(Err(_)) | None => self.lines.log(record),
        }
    }

    fn flush(&self) {}
}

impl Logger {
    fn send(&self, messages: &Messages, record: &Record<'_>) -> Result<(), Errno> {
        let mut text = record.args().to_string();
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            text.insert_str(0, &format!("({lost} messages were lost) "));
        }
        let mut all = Fields(vec![
            ("MESSAGE".into(), text),
            ("PRIORITY".into(), priority(record.level()).into()),
            // LOG_DAEMON of syslog(3)
            ("SYSLOG_FACILITY".into(), "3".into()),
            ("SYSLOG_IDENTIFIER".into(), "supd".into()),
        ]);
        let _ = record.key_values().visit(&mut all);
        let fields: Vec<(&str, &str)> = all.0.iter().map(|(name, value)| (&**name, &**value)).collect();
        let sent = messages.send(&words::encode(&fields));
        if sent.is_err() {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        sent
    }
}

/// The numbers of syslog(3).
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "3",
        Level::Warn => "4",
        Level::Info => "6",
        Level::Debug | Level::Trace => "7",
    }
}

struct Fields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
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
