//! `supctl start`

use super::act::act;
use super::args::{self, WaitArg};
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, UnitName};

/// Begin to serve
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl start web                 bind, launch, and wait until it stays
  supctl start web --wait=active   … only until it receives the traffic

It binds the unit's listeners and launches its last active release, else its newest. A unit that
runs already is left alone (exit status 0).")]
pub(super) struct Start {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    #[command(flatten)]
    wait: WaitArg,
}

impl Start {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        act(context, &Method::Start { unit: self.unit, wait: self.wait.wait })
    }
}
