//! `supctl restart`

use super::act::act;
use super::args::{self, WaitArg};
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, UnitName};

/// Swap to the same release
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl restart web   nobody is refused or cut off, as with swap

A fresh generation takes over and what it replaces drains. What a rollback goes to stays as it is.
The unit's file is read anew.")]
pub(super) struct Restart {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    #[command(flatten)]
    wait: WaitArg,
}

impl Restart {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        act(context, &Method::Restart { unit: self.unit, wait: self.wait.wait })
    }
}
