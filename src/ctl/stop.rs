//! `supctl stop`

use super::act::act;
use super::args;
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, UnitName};

/// Stop serving; what is open is finished first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl stop web                    new clients are refused, open connections finish
  supctl stop web --keep-listening   new clients wait in the queue until supctl start web
  supctl stop web --now              wait for no request: KillSignal at once, SIGKILL after 5s

Listening ends first, what is queued is served, open connections have DrainSec to end, then every
worker is told to. What a person stopped stays stopped until supctl start, or until the machine
boots.")]
pub(super) struct Stop {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    /// Skip the waits; what is open is cut off
    #[arg(long)]
    now: bool,
    /// Go on listening: connections wait in the queue for the next start
    #[arg(long)]
    keep_listening: bool,
}

impl Stop {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let Self { unit, now, keep_listening } = self;
        act(context, &Method::Stop { unit, now, keep_listening })
    }
}
