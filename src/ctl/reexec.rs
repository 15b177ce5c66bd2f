//! `supctl reexec`

use super::act::act;
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::ExitStatus;

/// Go on as the supd that is on the disk now, after an upgrade
#[derive(Debug, clap::Args)]
#[command(after_help = "\
supd stays the process that it is: workers, listeners and whoever waits for an answer notice
nothing. The new program is asked first whether it can go on with all of that; if not, nothing
happens (exit status 1). A swap that is held, a canary or in probation goes over as it is. What is
on its way comes to its end before: for a launch, an install or a stop it waits up to a minute.

Examples:
  supctl reexec              as kill -USR2 does, but says what came of it
  supctl reexec --dry-run    which program that would be")]
pub(super) struct Reexec {}

impl Reexec {
    pub(super) fn run(context: &Context) -> Result<ExitStatus, Failure> {
        act(context, &Method::Reexec)
    }
}
