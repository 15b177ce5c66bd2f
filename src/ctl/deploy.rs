//! `supctl deploy`

use super::act::act_with;
use super::args::{StopsArg, WaitArg};
use super::context::Context;
use super::failure::Failure;
use super::left;
use super::source::ReleaseArgs;
use crate::codec::varlink::Method;
use crate::model::ExitStatus;

/// Install a release and swap to it, without losing a request
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl deploy web 1.5.0 ./dist               install what is in dist, and swap to it
  supctl deploy web 1.5.0 app.tar.zst --hold   stop when it is ready, for promote or abort
  supctl deploy web 1.5.0 - < app.tar.zst      from standard input
  supctl --request-id ci-17 deploy web 1.5.0 app.tar.zst   a repetition gets the first outcome

From CI:  ssh deploy@host supctl deploy web $SHA - < app.tar.zst
It is for root, supd's user and group, and the unit's ControlGroup. A deploy of what is active
already changes nothing (exit status 0, \"changed\": false). Ctrl-C ends supctl and not the deploy,
but for a folder that is still on its way; supctl wait web joins it again, supctl abort web ends it.

Exit status: 0 done, or held as asked; 1 not installed, or failed before the switch: the old one was
not touched; 3 refused; 4 no answer, outcome unknown; 6 switched, then rolled back; 7 nothing
serves.")]
pub(super) struct Deploy {
    #[command(flatten)]
    release: ReleaseArgs,
    #[command(flatten)]
    stops: StopsArg,
    /// Abort a swap that is under way first
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    wait: WaitArg,
}

impl Deploy {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let Self { release, stops, replace, wait: WaitArg { wait } } = self;
        let stops = stops.into();
        let ReleaseArgs { unit, label, source } = release;
        let method = Method::Deploy { unit: unit.clone(), label, stops, replace, wait };
        left::told(context, &unit, act_with(context, &method, &source))
    }
}
