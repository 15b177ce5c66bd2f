//! A SOURCE at an address: downloaded whole, continued where it broke, and checked.

use super::address::Address;
use super::http::{Content, Fault, Got, Waits, Web, words};
use super::part::{self, Kept, Part};
use super::retry::{Patience, Tries, pause};
use super::sum::{Sum, name_of};
use crate::ctl::context::Context;
use crate::ctl::failure::Failure;
use crate::ctl::render::live::Live;
use crate::ctl::render::size::size;
use crate::ctl::render::text::Paint;
use crate::model::ExitStatus;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::http::HeaderValue;

/// Nothing is larger; a server that never ends is not to fill the disk.
const BYTES_MAX: u64 = 32 << 30;
/// Bytes taken at once.
const CHUNK: usize = 128 << 10;
/// How often the living line is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// What is to be had.
pub(super) struct Wanted<'a> {
    address: Address,
    sum: &'a Sum,
    header_file: Option<&'a Path>,
}

/// How it is got.
pub(super) struct Manner<'a> {
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) waits: Waits,
    pub(super) patience: Patience,
    pub(super) bytes_max: u64,
    /// When all has to be over.
    pub(super) deadline: Option<Instant>,
    /// Where it is told; nowhere for programs.
    pub(super) told: Told,
}

/// How progress is told.
pub(super) struct Told {
    pub(super) silent: bool,
    pub(super) columns: Option<usize>,
    pub(super) paint: Paint,
}

/// What was downloaded and is not installed yet.
#[derive(Debug)]
pub(super) struct Downloaded(Kept);

impl Downloaded {
    /// It is installed: the file is not needed any more.
    pub(super) fn remove(self) {
        self.0.remove();
    }
}

impl Manner<'static> {
    /// For this command line.
    pub(super) fn of(context: &Context) -> Self {
        let seconds = Duration::from_secs;
        Self {
            variable: &|name| std::env::var_os(name),
            waits: Waits { connect: seconds(15), silence: seconds(30) },
            patience: Patience { pause: seconds(1), vain: 6 },
            bytes_max: BYTES_MAX,
            deadline: context.deadline,
            told: Told { silent: context.json, columns: context.columns, paint: context.paint },
        }
    }
}

impl<'a> Wanted<'a> {
    /// Reads the address.
    pub(super) fn new(text: &str, sum: &'a Sum, header_file: Option<&'a Path>) -> Result<Self, Failure> {
        let address = Address::parse(text).map_err(|why| Failure::new(ExitStatus::Usage, why))?;
        if address.has_password() {
            let text = "SOURCE has a password in it, which everyone sees in the list of processes";
            return Err(Failure::new(ExitStatus::Usage, text).next("put it into ~/.netrc (mode 600)"));
        }
        Ok(Self { address, sum, header_file })
    }

    /// Asks nobody: whether the passwords for it can be had.
    pub(super) fn look(&self, manner: &Manner<'_>) -> Result<(), Failure> {
        Web::new(&self.address, self.header_file, manner.variable, manner.waits).map(drop)
    }

    /// Gets it: a descriptor that reads it from its beginning.
    pub(super) fn fetch(&self, manner: &Manner<'_>) -> Result<(OwnedFd, Downloaded), Failure> {
        let disk = |error: &io::Error| {
            let place = "TMPDIR, or XDG_CACHE_HOME";
            Failure::new(ExitStatus::Failed, format!("cannot keep what is downloaded: {error}"))
                .next(format!("make room, or have {place} name a folder with some"))
        };
        let folder: Option<PathBuf> = part::folder(manner.variable);
        let name = name_of(&format!("{}\n{}", self.address.uri(), self.sum));
        let mut part = Part::open(folder.as_deref(), &name).map_err(|error| disk(&error))?;
        let mut meter = Meter::new(&self.address, manner, part.length());
        if part.length() == 0 || part.sum() != *self.sum {
            let web = Web::new(&self.address, self.header_file, manner.variable, manner.waits)?;
            let got = self.get(&web, &mut part, &mut meter, manner);
            meter.end();
            match got {
                Ok(()) => {}
                Err(Stop::Disk(error)) => return Err(disk(&error)),
                Err(Stop::Wrong(sum)) => {
                    part.remove();
                    return Err(self.wrong(&sum));
                }
                Err(Stop::Failed(failure)) => {
                    if part.length() == 0 {
                        part.remove();
                    }
                    return Err(failure);
                }
            }
        }
        meter.done(part.length());
        let (descriptor, kept) = part.whole().map_err(|error| disk(&error))?;
        Ok((descriptor, Downloaded(kept)))
    }

    fn wrong(&self, sum: &Sum) -> Failure {
        let text = format!("what {} gives is not what you want: its SHA-256 is {sum}", self.address);
        let mut failure = Failure::new(ExitStatus::Failed, text);
        failure.details.push(format!("Wanted: {}", self.sum));
        failure
    }

    /// Until it is whole and has the right sum.
    fn get(
        &self,
        web: &Web,
        part: &mut Part,
        meter: &mut Meter<'_>,
        manner: &Manner<'_>,
    ) -> Result<(), Stop> {
        let mut tries = Tries::new(manner.patience);
        // Pieces of different answers are here, or of an earlier command.
        let mut pieced = part.length() > 0;
        let mut validator = None;
        loop {
            self.in_time(part, manner)?;
            let before = part.length();
            let (why, after) = match self.once(web, part, &mut validator, meter, manner) {
                Ok(()) => {
                    let sum = part.sum();
                    if sum == *self.sum {
                        return Ok(());
                    }
                    if !std::mem::take(&mut pieced) {
                        return Err(Stop::Wrong(sum));
                    }
                    // Not of the same file, it seems.
                    part.restart()?;
                    validator = None;
                    meter.line("the pieces do not fit together; once more from the beginning");
                    continue;
                }
                Err(Try::Again(why, after)) => (why, after),
                Err(Try::Stop(stop)) => return Err(stop),
            };
            self.in_time(part, manner)?;
            pieced |= part.length() > 0;
            let Some(span) = tries.next(part.length() > before, after) else {
                return Err(Stop::Failed(gave_up(ExitStatus::Failed, &why, part.length())));
            };
            meter.line(&format!("{why}; once more in {:.1}s", span.as_secs_f32()));
            let left = manner.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            pause(left.map_or(span, |left| left.min(span)));
        }
    }

    /// Whether there is time left.
    fn in_time(&self, part: &Part, manner: &Manner<'_>) -> Result<(), Stop> {
        if manner.deadline.is_none_or(|deadline| Instant::now() < deadline) {
            return Ok(());
        }
        let text = format!("{}: not downloaded within --timeout", self.address);
        Err(Stop::Failed(gave_up(ExitStatus::Timeout, &text, part.length())))
    }

    /// One request, and what it brings.
    fn once(
        &self,
        web: &Web,
        part: &mut Part,
        validator: &mut Option<HeaderValue>,
        meter: &mut Meter<'_>,
        manner: &Manner<'_>,
    ) -> Result<(), Try> {
        let got = web.get(&self.address, part.length(), validator.as_ref(), manner.deadline)?;
        let content = match got {
            Got::Content(content) => content,
            Got::Beyond(whole) if whole == Some(part.length()) => return Ok(()),
            Got::Beyond(_) => {
                part.restart()?;
                return Err(Try::Again(format!("{}: it has become shorter", self.address), None));
            }
        };
        if content.from == 0 && part.length() > 0 {
            part.restart()?;
        }
        if content.whole.is_some_and(|whole| whole > manner.bytes_max) {
            return Err(self.too_large(manner));
        }
        validator.clone_from(&content.validator);
        self.take(content, part, meter, manner)
    }

    fn take(
        &self,
        mut content: Content,
        part: &mut Part,
        meter: &mut Meter<'_>,
        manner: &Manner<'_>,
    ) -> Result<(), Try> {
        let mut chunk = vec![0; CHUNK];
        loop {
            meter.show(part.length(), content.whole);
            self.in_time(part, manner)?;
            let broke = |why: String| {
                let so_far = size(part.length());
                Try::Again(format!("{}: {why} (after {so_far})", self.address), None)
            };
            match content.body.read(&mut chunk) {
                Ok(0) if content.whole.is_some_and(|whole| part.length() < whole) => {
                    return Err(broke("the connection ended".into()));
                }
                Ok(0) => return Ok(()),
                Ok(count) if part.length() + count as u64 > manner.bytes_max => {
                    return Err(self.too_large(manner));
                }
                Ok(count) => part.append(&chunk[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
                    return Err(match inner {
                        Some(garbled @ ureq::Error::Protocol(_)) => {
                            let text = format!("{}: {}", self.address, words(garbled));
                            Stop::Failed(Failure::new(ExitStatus::Failed, text)).into()
                        }
                        inner => broke(inner.map_or_else(|| error.to_string(), words)),
                    });
                }
            }
        }
    }

    fn too_large(&self, manner: &Manner<'_>) -> Try {
        let text = format!("{}: it is larger than {}", self.address, size(manner.bytes_max));
        Stop::Failed(Failure::new(ExitStatus::Failed, text)).into()
    }
}

/// The end of a download, and that what is here is not lost.
fn gave_up(status: ExitStatus, why: &str, length: u64) -> Failure {
    let failure = Failure::new(status, why.to_owned());
    if length == 0 {
        return failure;
    }
    failure.next(format!("the same command once more goes on behind the first {}", size(length)))
}

/// Why a download has no good end.
enum Stop {
    /// The file cannot be written.
    Disk(io::Error),
    /// It is whole and is not what was wanted.
    Wrong(Sum),
    Failed(Failure),
}

/// How one request ended that did not end well.
enum Try {
    Again(String, Option<Duration>),
    Stop(Stop),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<io::Error> for Try {
    fn from(error: io::Error) -> Self {
        Self::Stop(Stop::Disk(error))
    }
}

impl From<Stop> for Try {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Fault> for Try {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Passing(why, after) => Self::Again(why, after),
            Fault::Lasting(text, next) => {
                Self::Stop(Stop::Failed(Failure { next, ..Failure::new(ExitStatus::Failed, text) }))
            }
        }
    }
}

/// How far it is, for eyes.
struct Meter<'a> {
    live: Option<Live<Box<dyn Write>>>,
    manner: &'a Manner<'a>,
    began: Instant,
    drawn: Option<Instant>,
    /// Bytes that were here when it began.
    first: u64,
}

impl<'a> Meter<'a> {
    fn new(address: &Address, manner: &'a Manner<'a>, first: u64) -> Self {
        let Told { silent, columns, paint } = manner.told;
        let out: Box<dyn Write> = Box::new(io::stdout());
        let live = (!silent).then(|| Live::new(out, columns, paint, &address.name()));
        Self { live, manner, began: Instant::now(), drawn: None, first }
    }

    fn show(&mut self, length: u64, whole: Option<u64>) {
        let Some(live) = &mut self.live else { return };
        if self.drawn.is_none() && !live.is_live() {
            let all = whole.map(|whole| format!(" ({})", size(whole))).unwrap_or_default();
            let rest = if length > 0 { format!(", from {} on", size(length)) } else { String::new() };
            live.line(&format!("downloading{all}{rest}"), None);
        }
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < FRAME) {
            return;
        }
        self.drawn = Some(Instant::now());
        live.draw(&progress(length, whole, length.saturating_sub(self.first), self.began.elapsed()));
    }

    fn line(&mut self, text: &str) {
        if let Some(live) = &mut self.live {
            live.line(text, None);
        }
    }

    fn end(&mut self) {
        if let Some(live) = &mut self.live {
            live.end();
        }
    }

    fn done(&mut self, length: u64) {
        let text = match self.drawn {
            Some(_) => format!("downloaded ({} in {:.1}s)", size(length), self.began.elapsed().as_secs_f32()),
            None => format!("downloaded before ({})", size(length)),
        };
        self.line(&text);
        debug_assert!(length <= self.manner.bytes_max || self.drawn.is_none());
    }
}

/// The living line: how much, how fast, how long yet.
fn progress(length: u64, whole: Option<u64>, brought: u64, since: Duration) -> String {
    let seconds = since.as_secs_f64();
    let rate = if seconds > 0.5 { brought as f64 / seconds } else { 0.0 };
    let mut text = match whole {
        Some(whole) => format!("{} of {}", size(length), size(whole)),
        None => size(length),
    };
    if rate >= 1.0 {
        text.push_str(&format!(", {}/s", size(rate as u64)));
        if let Some(whole) = whole {
            text.push_str(&format!(", {:.0}s left", whole.saturating_sub(length) as f64 / rate));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_line_says_how_long_yet() {
        let second = Duration::from_secs(10);
        assert_eq!(
            progress(45_200_000, Some(120_000_000), 40_000_000, second),
            "45.2 MB of 120.0 MB, 4.0 MB/s, 19s left"
        );
        assert_eq!(progress(900, None, 0, Duration::ZERO), "900 bytes");
        assert_eq!(progress(5_000_000_000, None, 10_000, second), "5.00 GB, 1.0 kB/s");
    }
}
