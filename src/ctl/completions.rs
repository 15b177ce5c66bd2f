//! `supctl completions`

use super::cli::Cli;
use super::context::write_all;
use super::failure::Failure;
use crate::model::ExitStatus;
use clap::{Arg, Command, CommandFactory, ValueHint};
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

/// What is generated for bash offers files wherever it knows nothing better, which is at every unit's
/// name: here only where they are asked for.
const BASH: &str = r#"
_supctl_names() {
    _supctl "$@"
    if [[ ${#COMPREPLY[@]} -eq 0 && " ${COMP_WORDS[*]:1:COMP_CWORD-1} " == *" check "* ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$2")
        compopt -o filenames 2> /dev/null
    fi
}
complete -F _supctl_names supctl
"#;

impl Completions {
    pub(super) fn run(self) -> Result<ExitStatus, Failure> {
        let mut text = Vec::new();
        generate(self.shell, &mut without_files(Cli::command()), "supctl", &mut text);
        if self.shell == Shell::Bash {
            text.extend(BASH.as_bytes());
        }
        write_all(&text)?;
        Ok(ExitStatus::Done)
    }
}

/// Other shells offer the files of the folder for every value of which they know nothing: here only what is a
/// file or a folder.
fn without_files(command: Command) -> Command {
    let hint = |arg: Arg| {
        let names = |name: &str| arg.get_value_names().is_some_and(|all| all.iter().any(|it| it == name));
        match arg.get_action().takes_values() {
            true if names("FILE") => arg.value_hint(ValueHint::FilePath),
            true if names("DIR") => arg.value_hint(ValueHint::DirPath),
            true => arg.value_hint(ValueHint::Other),
            false => arg,
        }
    };
    command.mut_args(hint).mut_subcommands(without_files)
}
