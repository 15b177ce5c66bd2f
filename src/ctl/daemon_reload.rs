//! `supctl daemon-reload`

use super::act::act;
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::ExitStatus;

/// Read the unit files again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl check /etc/supd/units/web.unit && supctl daemon-reload

It is for new units, removed units and changed listeners. Nothing that runs is touched: settings and
addresses apply at the next swap, which reads the file itself. A faulty file changes nothing (exit
status 78). It also ends a hold after crashes of supd.")]
pub(super) struct DaemonReload {}

impl DaemonReload {
    pub(super) fn run(context: &Context) -> Result<ExitStatus, Failure> {
        act(context, &Method::DaemonReload)
    }
}
