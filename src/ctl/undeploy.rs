//! `supctl undeploy`

use super::act::act;
use super::args;
use super::context::Context;
use super::failure::Failure;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, Label, UnitName};

/// Take a release away from the disk
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl undeploy web 1.3.0   its files go; what is active goes on
  supctl releases web         what there is, and what each is held by

What is active, retained for a rollback, or still draining is never taken away (exit status 3).
Old releases go by themselves: KeepReleases says how many stay.")]
pub(super) struct Undeploy {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    /// The release
    #[arg(value_name = "LABEL", value_parser = args::label)]
    label: Label,
}

impl Undeploy {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        act(context, &Method::Undeploy { unit: self.unit, label: self.label })
    }
}
