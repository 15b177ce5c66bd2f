//! `supctl swap`

use super::act::act;
use super::args::{self, StopsArg, WaitArg};
use super::context::Context;
use super::failure::Failure;
use super::left;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, Label, UnitName};

/// Bring a new generation without losing a request
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl swap web                  what is on disk now; with releases: the newest
  supctl swap web 1.5.0            this release
  supctl swap web --hold           stop when it is ready; then supctl promote web, or abort
  supctl swap web --unbound        stop before it is on any port; then supctl bind web, or abort
  supctl swap web --canary 5%      it gets 5 % of the new connections; then share, promote or abort
  supctl swap web --wait=drained   come back when the old one is gone

The new generation starts beside the old one and takes over once it is ready. The old one is told
nothing before that, and stays ready until the probation is over: a new one that fails until then is
rolled back by itself.
Ctrl-C ends supctl and not the swap; supctl wait web joins it again.

Exit status: 0 done, or held as asked; 1 failed before the switch, the old one was not touched;
3 refused; 4 no answer, or still on the way back: outcome unknown; 6 switched, then rolled back;
7 nothing serves.")]
pub(super) struct Swap {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    /// The release, for units that have releases
    #[arg(value_name = "LABEL", value_parser = args::label)]
    label: Option<Label>,
    #[command(flatten)]
    stops: StopsArg,
    /// Abort a swap that is under way first
    #[arg(long)]
    replace: bool,
    /// Take the newest release even if it failed, was aborted or rolled back from
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArg,
}

impl Swap {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let Self { unit, label, stops, replace, force, wait: WaitArg { wait } } = self;
        let stops = stops.into();
        let method = Method::Swap { unit: unit.clone(), label, stops, replace, force, wait };
        left::told(context, &unit, act(context, &method))
    }
}
