//! Command lines (systemd.service(5), COMMAND LINES): prefixes, words, several behind `;`.

use crate::codec::words::{Word, WordFault, split_keeping};

/// One command, without a shell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// `-`: a failure is ignored.
    pub ignore_failure: bool,
    /// `@`: the first argument is `argv[0]`, and taken out of `arguments`.
    pub argv0: Option<String>,
    /// `:`: no variables are filled in.
    pub literal: bool,
    /// `+`, `!` or `!!`: rights beyond those of User; empty without.
    pub rights: &'static str,
    /// `|`: through the user's shell.
    pub shell: bool,
    /// The program as written.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Splits a value into commands.
///
/// # Errors
/// What makes systemd pass over the whole line.
pub fn commands(value: &str) -> Result<Vec<Command>, WordFault> {
    let words = split_keeping(value)?;
    let lone = |word: &Word| word.text == ";" && !word.literal;
    Ok(words.split(lone).filter_map(one).collect())
}

fn one(words: &[Word]) -> Option<Command> {
    let (first, arguments) = words.split_first()?;
    let mut command = Command::default();
    let mut program = first.text.as_str();
    let mut has_argv0 = false;
    loop {
        let rest = match program.chars().next() {
            Some('-') if !command.ignore_failure => {
                command.ignore_failure = true;
                1
            }
            Some('@') if !has_argv0 => {
                has_argv0 = true;
                1
            }
            Some(':') if !command.literal => {
                command.literal = true;
                1
            }
            Some('|') if !command.shell => {
                command.shell = true;
                1
            }
            Some('+') if command.rights.is_empty() => {
                command.rights = "+";
                1
            }
            Some('!') if command.rights.is_empty() => {
                command.rights = if program.starts_with("!!") { "!!" } else { "!" };
                command.rights.len()
            }
            _ => break,
        };
        program = &program[rest..];
    }
    command.program = program.to_owned();
    command.arguments = arguments.iter().map(|word| word.text.clone()).collect();
    if has_argv0 && !command.arguments.is_empty() {
        command.argv0 = Some(command.arguments.remove(0));
    }
    Some(command)
}
