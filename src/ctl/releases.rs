//! `supctl releases`

use super::act::{error_of, print_json};
use super::args;
use super::context::Context;
use super::failure::Failure;
use super::render::releases::table;
use crate::codec::json::ReleasesView;
use crate::codec::varlink::{Meta, Method};
use crate::model::{ExitStatus, UnitName};
use std::time::SystemTime;

/// Show what is installed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl releases              of every unit
  supctl releases web          of one, in the order of installation
  supctl --json releases web   for programs, with digests and times

VERDICT is new (never tried), good (it was committed) or bad (it failed, was aborted or rolled back
from: a swap takes it only by name or with --force).")]
pub(super) struct Releases {
    /// The unit; without it, all of them
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: Option<UnitName>,
}

impl Releases {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let method = Method::Releases { unit: self.unit };
        let answer = context.client()?.ask(&method, &Meta::default(), None)?;
        if context.json {
            return print_json(context, &answer);
        }
        if let Some(error) = error_of(&answer) {
            return Err(Failure::from_error(&error, method.unit().map(UnitName::as_str)));
        }
        let view: ReleasesView = serde_json::from_str(answer.raw()).map_err(|fault| {
            Failure::new(ExitStatus::Refused, format!("supd's answer is not understood: {fault}"))
                .next("supctl --json releases")
        })?;
        context.print(table(&view, SystemTime::now(), context.paint))?;
        Ok(ExitStatus::Done)
    }
}
