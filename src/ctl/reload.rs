//! `supctl reload`

use super::act::act;
use super::args;
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, UnitName};

/// Tell the workers to read their configuration again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl reload web   after a certificate was renewed

It runs ExecReload or sends ReloadSignal, to the active and to the standby generation. For another
program or other settings: supctl swap web. For new or changed unit files: supctl daemon-reload.")]
pub(super) struct Reload {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
}

impl Reload {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        act(context, &Method::Reload { unit: self.unit })
    }
}
