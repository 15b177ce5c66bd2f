//! `supctl shutdown`

use super::act::act;
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::ExitStatus;

/// Stop every unit in order, then end supd
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl shutdown   what ran runs again when supd starts (SIGTERM to supd leaves it running)")]
pub(super) struct Shutdown {}

impl Shutdown {
    pub(super) fn run(context: &Context) -> Result<ExitStatus, Failure> {
        match act(context, &Method::Shutdown) {
            // It may end before its answer is through.
            Err(failure) if failure.status == ExitStatus::Timeout && failure.signal.is_none() => {
                if context.client()?.is_there() {
                    return Err(failure);
                }
                context.print(["supd has ended"])?;
                Ok(ExitStatus::Done)
            }
            ended => ended,
        }
    }
}
