//! `supctl drain`

use super::act::act;
use super::args;
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, Generation, UnitName};

/// Let a generation go that receives no new connection
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl drain web --generation 7   its memory is wanted back before StandbySec is over

What stands by, or drains already, is let go: its open connections may take DrainSec to end, then it
is told to stop. The command comes back when it is gone. The active generation is never drained; a
rollback to the drained one launches its release again.")]
pub(super) struct Drain {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    /// Which generation
    #[arg(long, value_name = "GEN", value_parser = args::generation)]
    generation: Generation,
}

impl Drain {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        act(context, &Method::Drain { unit: self.unit, generation: self.generation })
    }
}
