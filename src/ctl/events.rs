//! `supctl events`

use super::args;
use super::client::Observer;
use super::context::{Context, Read, write_all};
use super::failure::Failure;
use crate::codec::json::{CameEventsView, OutcomeView};
use crate::codec::varlink::{Meta, Method};
use crate::ctl::act::{error_of, print_json};
use crate::model::{ExitStatus, UnitName};
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Follow what happens, a line of JSON each, until Ctrl-C
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl events                from now on
  supctl events web            to one unit
  supctl events --since 4711   what followed number 4711 too, without loss or repetition

Each line has a seq: with the last one that was seen, --since goes on from there, also after a
restart of supd. What supd no longer keeps is said by a line whose what is gap. If supd ends, this
says so on standard error, waits up to a minute for the next one and goes on where it was; after
that it ends with exit status 5 and the command that goes on. supctl history shows the same as a
table.")]
pub(super) struct Events {
    /// The unit; without it, all of them and supd itself
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: Option<UnitName>,
    /// After this number
    #[arg(long, value_name = "CURSOR")]
    since: Option<u64>,
}

/// How long a supd that is restarted may be away.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked for.
const AGAIN: Duration = Duration::from_millis(200);

/// Prints what comes.
struct Lines {
    /// Where to go on.
    cursor: Option<u64>,
    /// A supd has answered.
    connected: bool,
    /// Since when it is gone.
    lost: Option<Instant>,
    closed: bool,
}

impl Observer for Lines {
    fn step(&mut self, _: &OutcomeView) {}

    fn tick(&mut self) {}

    fn period(&self) -> Duration {
        Duration::MAX
    }

    fn came(&mut self, raw: &str) -> Result<bool, Failure> {
        let view: CameEventsView = serde_json::from_str(raw).map_err(|fault| {
            Failure::new(ExitStatus::Refused, format!("supd's answer is not understood: {fault}"))
                .next("supctl history")
        })?;
        let lines: String = view.entries.iter().flat_map(|entry| [entry.get(), "\n"]).collect();
        // Nobody reads it any more: that is an end as good as Ctrl-C.
        if write_all(lines.as_bytes())? == Read::NoMore {
            self.closed = true;
            return Err(Failure::new(ExitStatus::Done, "whoever reads has seen enough"));
        }
        self.is_back();
        self.cursor = Some(view.cursor);
        Ok(true)
    }
}

impl Events {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let client = context.client()?;
        let mut lines = Lines { cursor: self.since, connected: false, lost: None, closed: false };
        let answer = loop {
            let method = Method::Watch { unit: self.unit.clone(), after: lines.cursor };
            match client.ask(&method, &Meta::default(), Some(&mut lines)) {
                Ok(answer) => break answer,
                Err(_) if lines.closed => return Ok(ExitStatus::Done),
                Err(failure) if failure.signal.is_some() => return Ok(ExitStatus::Done),
                Err(failure) if client.is_late() || !lines.waits_after(&failure) => {
                    return Err(self.ended(failure, lines.cursor, client.is_late()));
                }
                Err(_) => match client.pause(AGAIN) {
                    Ok(()) => {}
                    Err(failure) if failure.signal.is_some() => return Ok(ExitStatus::Done),
                    Err(failure) => return Err(self.ended(failure, lines.cursor, true)),
                },
            }
        };
        match error_of(&answer) {
            Some(_) if context.json => print_json(context, &answer),
            Some(error) => Err(Failure::from_error(&error, self.unit.as_ref().map(UnitName::as_str))),
            None => Ok(ExitStatus::Done),
        }
    }

    /// supd is gone: here is how to go on.
    fn ended(&self, failure: Failure, cursor: Option<u64>, late: bool) -> Failure {
        let Some(cursor) = cursor else { return failure };
        let unit = self.unit.as_ref().map(|unit| format!(" {unit}")).unwrap_or_default();
        let failure = match failure.status {
            ExitStatus::Timeout if late => Failure::new(ExitStatus::Timeout, "--timeout is over"),
            ExitStatus::NoSupd => Failure { next: None, ..failure },
            ExitStatus::Timeout => {
                Failure::new(ExitStatus::NoSupd, "supd has ended, or closed the connection")
            }
            _ => failure,
        };
        if failure.next.is_some() {
            failure
        } else {
            failure.next(format!("supctl events{unit} --since {cursor}"))
        }
    }
}

/// A word beside the lines; that nobody reads it is no reason to end.
fn remark(text: &str) {
    let _ = writeln!(std::io::stderr(), "supctl: {text}");
}

impl Lines {
    /// Whether this is worth waiting for another supd, who goes on with the same numbers: one was there
    /// already, and it has not been gone for too long.
    fn waits_after(&mut self, failure: &Failure) -> bool {
        let gone = matches!(failure.status, ExitStatus::NoSupd | ExitStatus::Timeout);
        if !gone || !self.connected {
            return false;
        }
        let lost = *self.lost.get_or_insert_with(|| {
            remark("supd has ended, or closed the connection; waiting for it");
            Instant::now()
        });
        lost.elapsed() < BACK_WITHIN
    }

    fn is_back(&mut self) {
        self.connected = true;
        if let (Some(_), Some(cursor)) = (self.lost.take(), self.cursor) {
            remark(&format!("supd is there again; going on after {cursor}"));
        }
    }
}
