//! `supctl promote`

use super::act::act;
use super::args::{self, WaitArg};
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, UnitName};

/// Go one step on in a swap: a held generation takes over; in probation it is committed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl swap web --hold && supctl promote web")]
pub(super) struct Promote {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    #[command(flatten)]
    wait: WaitArg,
}

impl Promote {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        act(context, &Method::Promote { unit: self.unit, wait: self.wait.wait })
    }
}
