//! `supctl share`

use super::act::act;
use super::args::{self, WaitArg};
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, Share, UnitName};

/// Set the candidate's share of the new connections
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl share web 5%     one connection in twenty goes to the candidate
  supctl share web 0.25   a hundredth of a percent is the finest
  supctl share web 0      none: it is held
  supctl share web 100    all of them: the same as supctl promote web

There has to be a candidate that is ready: after swap --hold, swap --canary, or in one of the unit's
Canary steps, which end by this. The command comes back with 0 once the share is set; then promote,
another share, or abort. Connections that are open stay where they are.")]
pub(super) struct ShareOf {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    /// Its share in percent: 0 to 100, with at most two decimals
    #[arg(value_name = "PERCENT", value_parser = args::share, allow_hyphen_values = true)]
    share: Share,
    #[command(flatten)]
    wait: WaitArg,
}

impl ShareOf {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let Self { unit, share, wait: WaitArg { wait } } = self;
        act(context, &Method::Share { unit, share, wait })
    }
}
