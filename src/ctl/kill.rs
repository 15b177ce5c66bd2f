//! `supctl kill`

use super::act::act;
use super::args;
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, Signal, UnitName};

/// Send a signal to the active generation's workers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl kill -s USR1 web   reopen log files, if that is what the server does on SIGUSR1

A worker that dies of it is relaunched as Restart says. To end a unit: supctl stop web.")]
pub(super) struct Kill {
    /// The signal: USR1, SIGUSR1, 10 or RTMIN+3
    #[arg(short, long, value_name = "SIGNAL", default_value = "TERM", value_parser = args::signal)]
    signal: Signal,
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
}

impl Kill {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        act(context, &Method::Kill { unit: self.unit, signal: self.signal })
    }
}
