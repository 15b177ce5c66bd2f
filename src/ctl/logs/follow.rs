//! `supctl logs -f`: on with what is written, and after a swap with who is active then.

use super::journal::QUIET;
use super::reader::Reader;
use super::show::Show;
use super::{Asked, By, End, Log, Source, ask, guessed};
use crate::codec::json::{StatusView, UnitView};
use crate::codec::varlink::{self, Meta, Method};
use crate::ctl::act::error_of;
use crate::ctl::failure::Failure;
use crate::model::{ExitStatus, Generation};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io::{self, Stdout};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// Said where a part of a log was cut off before it was read.
pub(super) const LOST: &str = "-- some lines are missing here: the log was cut off (LogMaxSize) --";

/// How often supd is asked who is active: nothing else tells of a swap.
const LOOK: Duration = Duration::from_secs(1);
/// How often a log is looked at that may not be watched.
const GLANCE: Duration = Duration::from_millis(250);

/// What is followed.
pub(super) struct Follow<'a>(pub(super) By<'a>);

/// What supd says about who is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It answers.
    Yes,
    /// It did not when it was last asked.
    No,
}

impl Follow<'_> {
    /// Until Ctrl-C, or until nobody reads it any more. `on` over swaps; else until the generation has ended.
    pub(super) fn run(
        &self,
        mut source: Source,
        mut generation: Generation,
        on: bool,
        show: &mut Show<Stdout>,
    ) -> Result<(), End> {
        let mut watch = watch(&source);
        self.say_if_guessed(&source, show)?;
        let (mut known, mut looked) = (Known::Yes, Instant::now());
        loop {
            self.drain(&mut source, show)?;
            self.wait((&source, watch.as_ref()), LOOK.saturating_sub(looked.elapsed()))?;
            if looked.elapsed() < LOOK {
                continue;
            }
            let status = self.status(&mut known, show)?;
            looked = Instant::now();
            if !on {
                if status.is_some_and(|status| !lives(&status, generation)) {
                    self.rest(&mut source, show)?;
                    show.notice(&format!("-- {}: generation {generation} has ended --", self.0.unit))?;
                    return Ok(show.end()?);
                }
                continue;
            }
            let active = status.and_then(|status| status.active).map(Generation);
            let Some(active) = active.filter(|active| *active != generation) else { continue };
            let Ok(Asked::Log(log)) = ask(self.0.client, self.0.unit, Some(active)) else { continue };
            // What the old one wrote until now comes first.
            self.rest(&mut source, show)?;
            (generation, source) = self.turn_to(log, show)?;
            watch = self::watch(&source);
        }
    }

    /// Says that another generation is active, and goes on with its log.
    fn turn_to(&self, log: Log, show: &mut Show<Stdout>) -> Result<(Generation, Source), End> {
        let generation = log.generation;
        show.notice(&format!("-- {}: generation {generation} is active now --", self.0.unit))?;
        show.turn_to(generation);
        Ok((generation, Source::at_last(log, &self.0, true)?))
    }

    fn say_if_guessed(&self, source: &Source, show: &mut Show<Stdout>) -> Result<(), End> {
        match source {
            Source::Journal(wanted, _) if wanted.guesses() => Ok(show.notice(&guessed(self.0.unit))?),
            Source::Journal(..) | Source::File(_) => Ok(()),
        }
    }

    /// All that there is by now.
    fn drain(&self, source: &mut Source, show: &mut Show<Stdout>) -> Result<(), End> {
        let (wanted, reading) = match source {
            Source::File(reader) => return self.drain_file(reader, show),
            Source::Journal(wanted, reading) => (wanted, reading),
        };
        reading.drain(self.0.client, wanted, Duration::ZERO, |line| show.bytes(line).map_err(End::from))?;
        if reading.has_ended() {
            return Err(Failure::new(ExitStatus::Failed, "journalctl has ended by itself").into());
        }
        Ok(())
    }

    /// What it wrote last, which the journal may not have looked at yet.
    fn rest(&self, source: &mut Source, show: &mut Show<Stdout>) -> Result<(), End> {
        if let Source::Journal(wanted, reading) = source {
            reading.drain(self.0.client, wanted, QUIET, |line| show.bytes(line).map_err(End::from))?;
            return Ok(());
        }
        self.drain(source, show)
    }

    fn drain_file(&self, reader: &mut Reader, show: &mut Show<Stdout>) -> Result<(), End> {
        loop {
            let piece = reader.next().map_err(|error| super::unreadable("the log", &error))?;
            if piece.lost {
                show.notice(LOST)?;
            }
            if piece.bytes.is_empty() {
                return Ok(());
            }
            show.bytes(piece.bytes)?;
            // One who writes without a pause does not keep Ctrl-C waiting.
            self.0.client.wait_for(&[], Duration::ZERO)?;
        }
    }

    /// Waits for more, but not past `span`.
    fn wait(&self, (source, watch): (&Source, Option<&Inotify>), span: Duration) -> Result<(), End> {
        let stdout = io::stdout();
        if let Source::Journal(_, reading) = source {
            let Some(more) = reading.waits() else { return Ok(()) };
            let more = (more.as_fd(), PollFlags::POLLIN);
            let watched = [(stdout.as_fd(), PollFlags::empty()), more];
            let came = self.0.client.wait_for(&watched, span.max(Duration::from_millis(1)))?;
            let gone = came && !self.0.client.wait_for(&[more], Duration::ZERO)?;
            return if gone { Err(End::Closed) } else { Ok(()) };
        }
        // Whoever stopped reading is noticed even if nothing is written (POLLERR needs no asking).
        let mut watched = vec![(stdout.as_fd(), PollFlags::empty())];
        watched.extend(watch.map(|watch| (watch.as_fd(), PollFlags::POLLIN)));
        let longest = if watch.is_some() { LOOK } else { GLANCE };
        let span = span.clamp(Duration::from_millis(1), longest);
        if !self.0.client.wait_for(&watched, span)? {
            return Ok(());
        }
        // Every event says the same; that there is none means that it was the other one.
        match watch.map(Inotify::read_events) {
            Some(Ok(_)) => Ok(()),
            Some(Err(Errno::EAGAIN | Errno::EINTR)) | None => Err(End::Closed),
            Some(Err(errno)) => {
                let text = format!("cannot watch the log: {}", errno.desc());
                Err(Failure::new(ExitStatus::Failed, text).into())
            }
        }
    }

    /// What supd says of the unit, also that it knows none; `None`, where it does not answer, which is said
    /// once.
    fn status(&self, known: &mut Known, show: &mut Show<Stdout>) -> Result<Option<UnitView>, End> {
        let method = Method::Status { unit: Some(self.0.unit.clone()), count: false };
        let asked = self.0.client.ask(&method, &Meta::default(), None);
        let (now, status) = match asked {
            Ok(answer) if answer.error.is_none() => {
                let status: StatusView = serde_json::from_str(answer.raw()).unwrap_or_default();
                (Known::Yes, status.units.into_iter().next())
            }
            Ok(answer) => match error_of(&answer) {
                Some(varlink::Error::NoSuchUnit(_)) => (Known::Yes, Some(UnitView::default())),
                Some(_) | None => (Known::No, None),
            },
            Err(failure) if failure.signal.is_some() => return Err(failure.into()),
            Err(_) => (Known::No, None),
        };
        if now != *known {
            *known = now;
            show.notice(match now {
                Known::Yes => "-- supd answers again --",
                Known::No => "-- supd does not answer: a swap would not be noticed --",
            })?;
        }
        Ok(status)
    }
}

/// Whether anything of a generation is there, or will be again.
fn lives(status: &UnitView, generation: Generation) -> bool {
    let its = status.generations.iter().find(|one| one.generation == generation.0);
    its.is_some_and(|one| !matches!(one.state.as_str(), "exited" | "failed"))
}

/// Watches a log, where that is allowed: who may read a descriptor may not always read its file.
fn watch(source: &Source) -> Option<Inotify> {
    let Source::File(reader) = source else { return None };
    let file = reader.file();
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    watch.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).ok()?;
    Some(watch)
}
