//! `supctl completions`

use super::cli;
use super::context::write_all;
use super::failure::Failure;
use crate::model::ExitStatus;
use clap::{Arg, Command, ValueHint};
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
/// name: here only where they are asked for, of deploy and install behind the unit and the label.
const BASH: &str = r#"
_supctl_names() {
    _supctl "$@"
    [[ ${#COMPREPLY[@]} -eq 0 ]] || return
    local at behind
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
            check | import) behind=1 ;;
            deploy | install) behind=3 ;;
            *) continue ;;
        esac
        if ((COMP_CWORD - at >= behind)); then
            mapfile -t COMPREPLY < <(compgen -f -- "$2")
            compopt -o filenames 2> /dev/null
        fi
        return
    done
}
complete -F _supctl_names supctl
"#;

/// What is generated for fish does so, too, at whatever has a place of its own.
const FISH: &str = "\
complete -c supctl -f
complete -c supctl -n '__fish_seen_subcommand_from check import deploy install' -F
";

impl Completions {
    pub(super) fn run(self) -> Result<ExitStatus, Failure> {
        write_all(&text(self.shell))?;
        Ok(ExitStatus::Done)
    }
}

/// What the shell is to read.
fn text(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    generate(shell, &mut without_files(cli::command()), "supctl", &mut text);
    match shell {
        Shell::Bash => text.extend(BASH.as_bytes()),
        Shell::Fish => text.extend(FISH.as_bytes()),
        _ => {}
    }
    text
}

/// The shells offer the files of the folder for every value of which they know nothing: here only what is a
/// file or a folder.
fn without_files(command: Command) -> Command {
    let hint = |arg: Arg| {
        let names = |name: &str| arg.get_value_names().is_some_and(|all| all.iter().any(|it| it == name));
        match arg.get_action().takes_values() {
            true if names("FILE") => arg.value_hint(ValueHint::FilePath),
            true if names("DIR") => arg.value_hint(ValueHint::DirPath),
            true if names("SOURCE") || names("PATH") => arg.value_hint(ValueHint::AnyPath),
            true if names("CMD") => arg.value_hint(ValueHint::CommandName),
            true => arg.value_hint(ValueHint::Other),
            false => arg,
        }
    };
    command.mut_args(hint).mut_subcommands(without_files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command as Process;

    /// What bash offers at the last of these words, in a folder with one file.
    fn offered(words: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a-file"), "").unwrap();
        let (last, count) = (words[words.len() - 1], words.len() - 1);
        let script = format!(
            "{}\nCOMP_WORDS=({}); COMP_CWORD={count}; _supctl_names supctl '{last}' '{}'; echo \"${{COMPREPLY[@]}}\"",
            String::from_utf8(text(Shell::Bash)).unwrap(),
            words.join(" "),
            words[count - 1],
        );
        let file = folder.path().join(".script");
        std::fs::write(&file, script).unwrap();
        // Outside of a completion compopt(1) complains, which is nothing to the words.
        let output = Process::new("bash").arg(&file).current_dir(folder.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn bash_offers_verbs_flags_words_and_files_where_they_fit() {
        for (words, wanted) in [
            (&["supctl", "undep"][..], "undeploy"),
            (&["supctl", "swap", "--canar"], "--canary"),
            (&["supctl", "start", "web", "--wait", "dr"], "drained"),
            (&["supctl", "completions", "fi"], "fish"),
            (&["supctl", "check", "a-"], "a-file"),
            (&["supctl", "import", "a-"], "a-file"),
            (&["supctl", "deploy", "web", "1.0", "a-"], "a-file"),
            (&["supctl", "--json", "install", "web", "1.0", "a-"], "a-file"),
            (&["supctl", "deploy", "web", "a-"], ""),
            (&["supctl", "deploy", "a-"], ""),
            (&["supctl", "swap", "a-"], ""),
        ] {
            assert_eq!(offered(words), wanted, "{words:?}");
        }
    }

    /// Every verb and every flag is in what each shell reads.
    #[test]
    fn every_shell_is_told_of_every_verb_and_flag() {
        let mut command = cli::command();
        command.build();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(text(shell)).unwrap();
            for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
                assert!(text.contains(verb.get_name()), "{shell}: {}", verb.get_name());
                let flags = verb.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long);
                flags.for_each(|flag| assert!(text.contains(flag), "{shell}: {} --{flag}", verb.get_name()));
            }
        }
    }
}
