//! `supctl rollback`

use super::act::act;
use super::args::{self, WaitArg};
use super::context::Context;
use super::failure::Failure;
use super::left;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, Generation, Label, UnitName};

/// Go back to what served before
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl rollback web            before commit, and to one that stands by, nothing is launched
  supctl rollback web --from 8   only if generation 8 still receives the traffic (for scripts)
  supctl rollback web --stop     and let the bad one go, rather than keep it as standby

It takes the same path as a swap, less canary and probation. It is no toggle: a second one is
refused, with the command that goes forward again. It covers code, not database migrations.

Exit status: 0 done; 1 failed, what served still serves; 3 refused; 4 on the way back, and what
should take over is not ready in its time; 7 nothing serves.")]
pub(super) struct Rollback {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    /// The release, for units that have releases
    #[arg(value_name = "LABEL", value_parser = args::label)]
    label: Option<Label>,
    /// Only if this generation receives the traffic
    #[arg(long, value_name = "GENERATION", value_parser = args::generation)]
    from: Option<Generation>,
    /// Let what is rolled back from go, instead of keeping it as standby (Retain = "warm")
    #[arg(long)]
    stop: bool,
    /// Even if the program to go back to is not pinned, so that what is on disk is launched
    #[arg(long)]
    anyway: bool,
    #[command(flatten)]
    wait: WaitArg,
}

impl Rollback {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let Self { unit, label, from, stop, anyway, wait: WaitArg { wait } } = self;
        let method = Method::Rollback { unit: unit.clone(), label, from, stop, anyway, wait };
        let done = act(context, &method)?;
        left::tell(context, &unit)?;
        Ok(done)
    }
}
