//! `supctl status`

use super::act::{error_of, print_json};
use super::args;
use super::client::Client;
use super::context::{Context, Read, write_all};
use super::failure::Failure;
use super::render::status::{detail, table};
use super::render::text::{clean, cut};
use crate::codec::json::{StatusView, UnitView};
use crate::codec::varlink::{Answer, Meta, Method};
use crate::model::{ExitStatus, UnitName};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::Duration;

/// Between two looks of `--watch`.
const WATCH: Duration = Duration::from_secs(1);

/// Show what runs, and what a rollback would go to
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl status                 every unit, a line each
  supctl status web             and what the line has no room for
  supctl status --check         for monitoring: exit status 0 if all is well, else 1
  supctl status --check web     for a load balancer: exit status 0 if web is up, else 1
  supctl --json status web      for programs

CONN is open connections, QUEUE those that nobody has accepted yet, - is not known. With a UNIT each
generation says what waits for it at which listener, of UDP and FIFOs in bytes. They are counted
when you look: of all units while at most 64 generations run, else of the UNIT that you name; not
for --check.
--check counts a unit as well if its health is up, or if it waits for its first connection. Without
UNIT, a unit that a person stopped is well, too.")]
pub(super) struct Status {
    /// The unit; without it, all of them
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: Option<UnitName>,
    /// Say by exit status whether all is well, and print only what is not
    #[arg(long)]
    check: bool,
    /// Look again each second until Ctrl-C
    #[arg(long, conflicts_with = "check")]
    watch: bool,
}

impl Status {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let client = context.client()?;
        if self.watch {
            return self.watch(context, &client);
        }
        let answer = self.ask(&client)?;
        if context.json {
            return self.print_json(context, &answer);
        }
        let status = read(&answer)?;
        if self.check {
            return self.check(context, &status);
        }
        context.print(self.lines(context, &status))?;
        Ok(ExitStatus::Done)
    }

    fn ask(&self, client: &Client) -> Result<Answer, Failure> {
        // Whoever asks by exit status asks often, and has no use for it.
        let method = Method::Status { unit: self.unit.clone(), count: !self.check };
        client.ask(&method, &Meta::default(), None)
    }

    fn lines(&self, context: &Context, status: &StatusView) -> Vec<String> {
        if status.units.is_empty() {
            let mut lines =
                vec!["No units yet. Write one, then: supctl check FILE; supctl daemon-reload".to_owned()];
            lines.extend(status.notes.iter().map(|note| format!("supd: {}", clean(note))));
            return lines;
        }
        let (Some(_), [unit]) = (&self.unit, status.units.as_slice()) else {
            return table(status, context.paint);
        };
        // Its notes follow, a line each.
        let bare = UnitView { notes: Vec::new(), ..unit.clone() };
        let mut lines = table(&StatusView { units: vec![bare], ..status.clone() }, context.paint);
        lines.extend(detail(unit, context.paint));
        lines
    }

    /// Draws the table again and again; for programs, a line of JSON each time.
    fn watch(&self, context: &Context, client: &Client) -> Result<ExitStatus, Failure> {
        loop {
            let answer = self.ask(client)?;
            let read = if context.json {
                if answer.error.is_some() {
                    return print_json(context, &answer);
                }
                context.print([self.raw(&answer)])?
            } else {
                let Some(columns) = context.columns else {
                    let text = "--watch draws on a terminal, and standard output is none";
                    return Err(Failure::new(ExitStatus::Usage, text).next("supctl --json status --watch"));
                };
                write_all(screen(&self.lines(context, &read(&answer)?), columns).as_bytes())?
            };
            if read == Read::NoMore {
                return Ok(ExitStatus::Done);
            }
            match client.pause(WATCH) {
                Err(failure) if failure.signal.is_some() => return Ok(ExitStatus::Done),
                waited => waited?,
            }
        }
    }

    /// The reply as it came; asked for one unit, that unit.
    fn raw<'a>(&self, answer: &'a Answer) -> &'a str {
        #[derive(Deserialize)]
        struct Units<'a> {
            #[serde(borrow)]
            units: Vec<&'a RawValue>,
        }
        match (&self.unit, serde_json::from_str::<Units<'_>>(answer.raw())) {
            (Some(_), Ok(Units { units })) if units.len() == 1 => units[0].get(),
            _ => answer.raw(),
        }
    }

    fn print_json(&self, context: &Context, answer: &Answer) -> Result<ExitStatus, Failure> {
        if answer.error.is_some() {
            return print_json(context, answer);
        }
        context.print([self.raw(answer)])?;
        let well = read(answer)?.units.iter().all(|unit| self.is_well(unit));
        Ok(if self.check && !well { ExitStatus::Failed } else { ExitStatus::Done })
    }

    fn check(&self, context: &Context, status: &StatusView) -> Result<ExitStatus, Failure> {
        let ill: Vec<String> = status
            .units
            .iter()
            .filter(|unit| !self.is_well(unit))
            .map(|unit| {
                let notes = unit.notes.iter().map(|note| format!("; {}", clean(note))).collect::<String>();
                format!("{}: {} ({}){notes}", clean(&unit.unit), clean(&unit.state), clean(&unit.health))
            })
            .collect();
        let all_is_well = ill.is_empty();
        context.print(ill)?;
        Ok(if all_is_well { ExitStatus::Done } else { ExitStatus::Failed })
    }

    fn is_well(&self, unit: &UnitView) -> bool {
        let stopped_by_a_person = unit.state == "stopped" && unit.health == "maint";
        unit.health == "up" || unit.state == "waiting" || (self.unit.is_none() && stopped_by_a_person)
    }
}

/// Lines from the top of the terminal on, and nothing below them. (ECMA-48: cursor home, erase to
/// the end of each line, at last to that of the screen. To clear everything first would flicker.)
fn screen(lines: &[String], columns: usize) -> String {
    let lines = lines.iter().map(|line| format!("{}\x1b[K\r\n", cut(line, columns)));
    format!("\x1b[H{}\x1b[J", lines.collect::<String>())
}

/// The status, or what supd says instead.
fn read(answer: &Answer) -> Result<StatusView, Failure> {
    if let Some(error) = error_of(answer) {
        return Err(Failure::from_error(&error, None));
    }
    serde_json::from_str(answer.raw()).map_err(|fault| {
        Failure::new(ExitStatus::Refused, format!("supd's answer is not understood: {fault}"))
            .next("supctl --json status")
    })
}
