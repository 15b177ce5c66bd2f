//! `supctl install`

use super::act::act_with;
use super::context::Context;
use super::failure::Failure;
use super::source::ReleaseArgs;
use crate::codec::varlink::Method;
use crate::model::ExitStatus;

/// Put a release in place without launching it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl install web 1.5.0 ./dist                a folder
  supctl install web 1.5.0 app-1.5.0.tar.zst     an archive: tar, plain or with gzip, xz or zstd
  supctl install web 1.5.0 -                     an archive from standard input
  supctl swap web 1.5.0                          and then launch it

SOURCE is opened with your own rights, and unpacked by a child of supd that has none. ExecStart is
relative to what SOURCE has at its top. ExecInstall runs in the release's final place before it
counts as installed; after that it is never changed. The same LABEL with the same content is a
success that changes nothing.

Exit status: 0 installed, or it was already; 1 nothing is installed, and what SOURCE or ExecInstall
did wrong is said; 3 refused, as a LABEL that is there already with other content.")]
pub(super) struct Install {
    #[command(flatten)]
    release: ReleaseArgs,
}

impl Install {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let ReleaseArgs { unit, label, source } = self.release;
        act_with(context, &Method::Install { unit, label }, &source)
    }
}
