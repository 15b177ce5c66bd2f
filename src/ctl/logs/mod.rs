//! `supctl logs`

mod follow;
mod journal;
mod reader;
mod show;

use super::act::{error_of, print_json};
use super::args;
use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use crate::codec::json::{JournalView, LogView};
use crate::codec::varlink::{Answer, Meta, Method};
use crate::model::text::printable;
use crate::model::{ExitStatus, Generation, UnitName};
use journal::{QUIET, Reading, Wanted};
use reader::Reader;
use show::{Closed, Show};
use std::collections::VecDeque;
use std::fs::File;
use std::io;

/// Show what a generation wrote
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl logs web                  the last 100 lines of the active generation
  supctl logs web -f               and on, over every swap, until Ctrl-C
  supctl logs web -n all           all of it
  supctl logs web --generation 8   of another generation, also of one that failed
  supctl --json logs web -f        for programs: a line of JSON for each line

On a terminal control characters are made harmless; into a pipe or a file go the bytes as they were
written. Every generation has a file of its own, capped by LogMaxSize, or is in the journal, for
which journalctl is asked: who may see it is the journal's to say. With --generation, -f ends when
that one has.")]
pub(super) struct Logs {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    /// Go on with what is written from now on, and after a swap with the new generation
    #[arg(short, long)]
    follow: bool,
    /// How many lines, the last ones: a number, or all
    #[arg(short = 'n', long, value_name = "N", default_value = "100", value_parser = lines)]
    lines: Lines,
    /// Of this generation instead of the active one
    #[arg(long, value_name = "GEN", value_parser = args::generation)]
    generation: Option<Generation>,
}

/// So many lines are the last words of a generation that failed, and no longer than this in characters.
const WORDS: u64 = 20;
const WORD_MAX: usize = 1024;

/// `-n`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    All,
    Last(u64),
}

fn lines(text: &str) -> Result<Lines, String> {
    match text {
        "all" => Ok(Lines::All),
        _ => text.parse().map(Lines::Last).map_err(|_| "write a number of lines, or all".into()),
    }
}

/// Where supd says that a log is.
#[derive(Debug)]
struct Log {
    generation: Generation,
    path: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// supd has opened it.
    File(File),
    /// The journal has it.
    Journal(JournalView),
}

/// A log under way.
#[derive(Debug)]
enum Source {
    File(Reader),
    Journal(Wanted, Reading),
}

impl Source {
    /// At the beginning of its last lines.
    fn at_last(log: Log, by: &By<'_>, follow: bool) -> Result<Self, Failure> {
        match log.place {
            Place::File(file) => {
                let reader = Reader::at_last(file, by.lines);
                reader.map(Self::File).map_err(|error| unreadable(&log.path, &error))
            }
            Place::Journal(view) => {
                let wanted = Wanted::new(by.client, by.unit, log.generation, &view)?;
                let reading = wanted.last(by.client, by.lines, follow)?;
                Ok(Self::Journal(wanted, reading))
            }
        }
    }
}

/// Who is asked for what.
#[derive(Clone, Copy)]
struct By<'a> {
    client: &'a Client,
    unit: &'a UnitName,
    lines: Lines,
}

/// What supd says of a log.
enum Asked {
    Log(Log),
    /// An error.
    No(Answer),
}

impl Logs {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let client = context.client()?;
        let log = match ask(&client, &self.unit, self.generation)? {
            Asked::Log(log) => log,
            Asked::No(answer) if context.json => return print_json(context, &answer),
            Asked::No(answer) => return Err(failure(&answer, &self.unit)),
        };
        let generation = log.generation;
        let mut show = Show::on_stdout(context.json, generation);
        let by = By { client: &client, unit: &self.unit, lines: self.lines };
        let path = log.path.clone();
        let shown = Source::at_last(log, &by, self.follow).map_err(End::from).and_then(|source| {
            if self.follow {
                follow::Follow(by).run(source, generation, self.generation.is_none(), &mut show)
            } else {
                match source {
                    Source::File(reader) => all(reader, &path, &mut show),
                    Source::Journal(wanted, reading) => all_of_journal(&by, wanted, reading, &mut show),
                }
            }
        });
        match shown {
            Ok(()) | Err(End::Closed) => Ok(ExitStatus::Done),
            // That is how one stops to follow.
            Err(End::Failure(failure)) if self.follow && failure.signal.is_some() => Ok(ExitStatus::Done),
            Err(End::Failure(failure)) => Err(failure),
        }
    }
}

/// Why there is no more to show.
#[derive(Debug)]
enum End {
    /// Whoever reads has seen enough.
    Closed,
    Failure(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Closed> for End {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Reader => Self::Closed,
            Closed::Error(error) => {
                let text = format!("cannot write to standard output: {error}");
                Self::Failure(Failure::new(ExitStatus::Failed, text))
            }
        }
    }
}

/// Shows what there is by now; a server that never pauses does not keep supctl here.
fn all(mut reader: Reader, path: &str, show: &mut Show<io::Stdout>) -> Result<(), End> {
    let mut left = reader.left().map_err(|error| unreadable(path, &error))?;
    while left > 0 {
        let piece = reader.next().map_err(|error| unreadable(path, &error))?;
        if piece.lost {
            show.notice(follow::LOST)?;
        }
        if piece.bytes.is_empty() {
            break;
        }
        left = left.saturating_sub(piece.bytes.len() as u64);
        show.bytes(piece.bytes)?;
    }
    Ok(show.end()?)
}

/// What a generation has written last, where that is in the journal; `None`: it is elsewhere.
pub(super) fn last_words(
    client: &Client,
    unit: &UnitName,
    generation: Generation,
) -> Result<Option<Vec<String>>, Failure> {
    let Asked::Log(log) = ask(client, unit, Some(generation))? else { return Ok(None) };
    let by = By { client, unit, lines: Lines::Last(WORDS) };
    // Followed, for the journal may not have looked at the last of it yet.
    let Source::Journal(mut wanted, mut reading) = Source::at_last(log, &by, true)? else { return Ok(None) };
    let mut wrote = VecDeque::new();
    reading.drain::<Failure>(client, &mut wanted, QUIET, |line| {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
        wrote.push_back(printable(&text, WORD_MAX));
        if wrote.len() as u64 > WORDS {
            wrote.pop_front();
        }
        Ok(())
    })?;
    Ok(Some(wrote.into()))
}

fn guessed(unit: &UnitName) -> String {
    format!("-- {unit}: which generation wrote a line is not known: these are of all --")
}

/// The same of the journal.
fn all_of_journal(
    by: &By<'_>,
    mut wanted: Wanted,
    mut reading: Reading,
    show: &mut Show<io::Stdout>,
) -> Result<(), End> {
    if wanted.guesses() {
        show.notice(&guessed(by.unit))?;
    }
    // journalctl itself ends at what was there when it got so far.
    while let Some(line) = reading.line(by.client, &mut wanted)? {
        show.bytes(&line)?;
    }
    Ok(show.end()?)
}

/// Asks supd for a log.
fn ask(client: &Client, unit: &UnitName, generation: Option<Generation>) -> Result<Asked, Failure> {
    let method = Method::Logs { unit: unit.clone(), generation };
    let (answer, descriptor) = client.pass(&method, &Meta::default(), None, None)?;
    if answer.error.is_some() {
        return Ok(Asked::No(answer));
    }
    let view: LogView = serde_json::from_str(answer.raw()).unwrap_or_default();
    let place = match (descriptor, view.journal) {
        // What the journal did not take; where there is no such thing, all of it.
        (Some(descriptor), _) => Place::File(File::from(descriptor)),
        (None, Some(journal)) => Place::Journal(journal),
        (None, None) => {
            let text = format!("{unit}: supd's answer came without the log");
            return Err(Failure::new(ExitStatus::Failed, text).next(format!("supctl logs {unit}")));
        }
    };
    Ok(Asked::Log(Log { generation: Generation(view.generation), path: view.path, place }))
}

fn failure(answer: &Answer, unit: &UnitName) -> Failure {
    match error_of(answer) {
        Some(error) => Failure::from_error(&error, Some(unit.as_str())),
        None => Failure::new(ExitStatus::Failed, format!("{unit}: supd answered without an error")),
    }
}

fn unreadable(path: &str, error: &io::Error) -> Failure {
    Failure::new(ExitStatus::Failed, format!("cannot read {path}: {error}"))
}
