//! `supctl abort`

use super::act::act;
use super::args;
use super::context::Context;
use super::failure::Failure;
use super::left;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, UnitName};

/// Undo a swap that is not committed, or end an install
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl abort web

Before the switch the candidate ends and the old generation never knew; after it the traffic goes
back. After commit: supctl rollback web. The release is not taken as the newest any more: a swap to
it has to name it. With no swap under way, an install that still unpacks or runs ExecInstall ends,
and nothing is left of it.

Exit status: 0 undone; 3 there is nothing to undo, or it is past undoing.")]
pub(super) struct Abort {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
}

impl Abort {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let done = act(context, &Method::Abort { unit: self.unit.clone() })?;
        left::tell(context, &self.unit)?;
        Ok(done)
    }
}
