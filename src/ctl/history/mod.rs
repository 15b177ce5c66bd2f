//! `supctl history`

mod since;

use super::act::{error_of, print_json};
use super::args;
use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use super::render::history::{Names, collapse, table, time};
use crate::codec::json::{HistoryEntry, HistoryView};
use crate::codec::varlink::{Answer, Meta, Method};
use crate::model::{ExitStatus, UnitName};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The most entries that supd gives at once.
const PAGE: u64 = 1_000;

/// Show what happened: who, when, why, and what came of it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl history                       the last 50 things that happened, the newest last
  supctl history web                   to one unit
  supctl history web --since 2h        in the last two hours
  supctl history --since yesterday     from midnight of yesterday on
  supctl history --since 2026-11-25    from that day on; or '2026-11-25 03:00', or @1764039600
  supctl history -n all                as far back as it reaches
  supctl --json history web -n 1000    for programs: every entry, with its number

Times are of the local time zone (TZ). WHO is the user that asked, and who had logged in to become
that user. The last 5,000 entries at least are kept, over restarts of supd and of the machine, and
a unit with few keeps them when others have many; a worker that fails again and again is summed
up. supctl events follows what happens from now on.")]
pub(super) struct History {
    /// The unit; without it, all of them and supd itself
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: Option<UnitName>,
    /// How many lines, the last ones: a number, or all
    #[arg(short = 'n', long, value_name = "N", default_value = "50", value_parser = lines)]
    lines: u64,
    /// From this time on: 2h, today, yesterday, 2026-11-25, '2026-11-25 03:00', @UNIX
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<u64>,
}

fn lines(text: &str) -> Result<u64, String> {
    match text {
        "all" => Ok(u64::MAX),
        _ => text.parse().ok().filter(|number| *number > 0).ok_or("write a number of lines, or all".into()),
    }
}

fn since(text: &str) -> Result<u64, String> {
    since::parse(text, Timestamp::now(), &TimeZone::system())
}

impl History {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let client = context.client()?;
        if context.json {
            return self.json(&client, context);
        }
        let (mut entries, mut before) = (Vec::<HistoryEntry>::new(), None);
        let forgotten = loop {
            let answer = self.ask(&client, before, self.lines.saturating_mul(4))?;
            if let Some(error) = error_of(&answer) {
                return Err(Failure::from_error(&error, self.unit.as_ref().map(UnitName::as_str)));
            }
            let view = understood(&answer)?;
            entries.splice(0..0, view.entries);
            before = view.before;
            let enough = collapse(entries.clone()).len() as u64 >= self.lines;
            if before.is_none() || enough {
                break view.forgotten;
            }
        };
        if entries.is_empty() && self.since.is_none() {
            self.known(&client)?;
        }
        let mut shown = collapse(entries);
        let more = shown.len() as u64 > self.lines;
        if more {
            shown.drain(..shown.len() - usize::try_from(self.lines).unwrap_or(usize::MAX));
        }
        let zone = TimeZone::system();
        let mut lines = table(&shown, &zone, &mut Names::default(), context.paint);
        if forgotten > 0 && before.is_none() && !more {
            lines.insert(0, no_longer_kept(&shown, forgotten, &zone));
        }
        context.print(lines)?;
        Ok(ExitStatus::Done)
    }

    /// Every reply as it came, in the order of time.
    fn json(&self, client: &Client, context: &Context) -> Result<ExitStatus, Failure> {
        let (mut replies, mut before, mut left) = (Vec::new(), None, self.lines);
        loop {
            let answer = self.ask(client, before, left)?;
            if answer.error.is_some() {
                return print_json(context, &answer);
            }
            let view = understood(&answer)?;
            before = view.before;
            left = left.saturating_sub(view.entries.len() as u64);
            replies.push(answer.raw().to_owned());
            if left == 0 || before.is_none() {
                break;
            }
        }
        replies.reverse();
        context.print(replies)?;
        Ok(ExitStatus::Done)
    }

    fn ask(&self, client: &Client, before: Option<u64>, limit: u64) -> Result<Answer, Failure> {
        let limit = Some(limit.min(PAGE));
        let method = Method::History { unit: self.unit.clone(), since_us: self.since, before, limit };
        client.ask(&method, &Meta::default(), None)
    }

    /// A name that nothing ever happened to may be mistyped.
    fn known(&self, client: &Client) -> Result<(), Failure> {
        let Some(unit) = &self.unit else { return Ok(()) };
        let status =
            client.ask(&Method::Status { unit: Some(unit.clone()), count: false }, &Meta::default(), None)?;
        match error_of(&status) {
            Some(error) => Err(Failure::from_error(&error, Some(unit.as_str()))),
            None => Ok(()),
        }
    }
}

/// A unit with few entries keeps them longer than one with many.
fn no_longer_kept(shown: &[HistoryEntry], forgotten: u64, zone: &TimeZone) -> String {
    let whole = shown.iter().position(|entry| entry.seq > forgotten);
    match whole.and_then(|at| shown.get(at)) {
        Some(first) if whole > Some(0) => {
            format!(
                "(Of what happened before {}, only the newest of each unit is kept.)",
                time(first.at_us, zone)
            )
        }
        Some(_) | None => "(What happened before is no longer kept.)".to_owned(),
    }
}

fn understood(answer: &Answer) -> Result<HistoryView, Failure> {
    serde_json::from_str(answer.raw()).map_err(|fault| {
        Failure::new(ExitStatus::Refused, format!("supd's answer is not understood: {fault}"))
            .next("supctl --json history")
    })
}
