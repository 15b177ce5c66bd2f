//! `supctl promote`

use super::act::act;
use super::args::{self, WaitArg};
use super::context::Context;
use super::failure::Failure;
use super::left;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, UnitName};

/// Go on with a held swap or a canary, or commit
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl swap web --hold && supctl promote web
  supctl swap web --unbound && supctl bind web

One that was started unbound gets its ports, and goes on to its next stop (a hold, a canary), or
takes over. A held generation, or a canary, takes over; one in probation is there to stay from now
on. So is one that has to go back while there is nobody to go back to: what served before does not
come up.")]
pub(super) struct Promote {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    #[command(flatten)]
    wait: WaitArg,
}

impl Promote {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let method = Method::Promote { unit: self.unit.clone(), wait: self.wait.wait };
        left::told(context, &self.unit, act(context, &method))
    }
}
