//! `supctl is-active`

use super::act::{error_of, print_json};
use super::args;
use super::context::Context;
use super::failure::Failure;
use super::render::text::clean;
use crate::codec::json::StatusView;
use crate::codec::varlink::{self, Meta, Method};
use crate::model::{ExitStatus, UnitName};
use std::io::{self, Write};

/// Exit with 0 if a generation of the unit receives traffic
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl is-active --quiet web || echo down

It prints the state: active, canary, probation and holding count as active. For a load balancer, ask
supctl status --check web instead: it knows of units that are on their way out.")]
pub(super) struct IsActive {
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
}

impl IsActive {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let method = Method::Status { unit: Some(self.unit), count: false };
        let answer = context.client()?.ask(&method, &Meta::default(), None)?;
        let state = match error_of(&answer) {
            None => {
                let status: StatusView = serde_json::from_str(answer.raw()).unwrap_or_default();
                status.units.into_iter().next().map_or_else(|| "unknown".to_owned(), |unit| unit.state)
            }
            Some(varlink::Error::NoSuchUnit(_) | varlink::Error::Refused(_)) => "unknown".to_owned(),
            Some(error) => return Err(Failure::from_error(&error, None)),
        };
        let printed = match (self.quiet, context.json) {
            (true, _) => Ok(()),
            (false, true) => print_json(context, &answer).map(drop),
            (false, false) => context.print([clean(&state)]).map(drop),
        };
        // The exit status is the answer; a disk that is full must not have an active unit replaced.
        if let Err(failure) = printed {
            let _nobody_reads_it = writeln!(io::stderr().lock(), "{}", failure.lines(false).join("\n"));
        }
        let active = matches!(state.as_str(), "active" | "canary" | "probation" | "holding");
        Ok(if active { ExitStatus::Done } else { ExitStatus::Failed })
    }
}
