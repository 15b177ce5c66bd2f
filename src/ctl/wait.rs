//! `supctl wait`

use super::act::act;
use super::args::{self, WaitArg};
use super::context::Context;
use super::failure::Failure;
use super::left;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, UnitName};

/// Join what is under way and end with its exit status
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl wait web                  until the swap is over
  supctl wait web --wait=drained   until what it replaced is gone, too

It is for after a Ctrl-C or a lost connection. Where nothing is under way it ends at once.
Anyone may wait; what a failed generation wrote is told only to those who may act on the unit.")]
pub(super) struct Wait {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    #[command(flatten)]
    wait: WaitArg,
}

impl Wait {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let method = Method::Wait { unit: self.unit.clone(), wait: self.wait.wait };
        left::told(context, &self.unit, act(context, &method))
    }
}
