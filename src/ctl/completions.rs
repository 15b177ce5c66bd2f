//! `supctl completions`

use super::cli::Cli;
use super::context::write_all;
use super::failure::Failure;
use crate::model::ExitStatus;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

/// Print the completions of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl completions bash > /etc/bash_completion.d/supctl
  supctl completions zsh > /usr/local/share/zsh/site-functions/_supctl
  supctl completions fish > ~/.config/fish/completions/supctl.fish")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<ExitStatus, Failure> {
        let mut text = Vec::new();
        generate(self.shell, &mut Cli::command(), "supctl", &mut text);
        write_all(&text)?;
        Ok(ExitStatus::Done)
    }
}
