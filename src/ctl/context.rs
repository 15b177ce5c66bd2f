//! What every verb needs: whom to ask, and how to say it.

use super::client::Client;
use super::failure::Failure;
use super::render::text::Paint;
use crate::codec::varlink::Meta;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

/// How supctl was called, less the verb.
#[derive(Debug)]
pub(super) struct Context {
    /// The control socket.
    pub(super) socket: PathBuf,
    /// Answers as they came, for programs.
    pub(super) json: bool,
    /// For methods that act.
    pub(super) meta: Meta,
    /// When the whole command has to be over.
    pub(super) deadline: Option<Instant>,
    /// Colours on standard output.
    pub(super) paint: Paint,
    /// The columns of the terminal that standard output is; `None`: it is none.
    pub(super) columns: Option<usize>,
}

impl Context {
    /// A client of the control socket.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        Client::new(self.socket.clone(), self.deadline)
    }

    /// Writes lines to standard output. Whoever stopped reading has seen enough; a disk that is
    /// full is a failure.
    pub(super) fn print<T: AsRef<str>>(&self, lines: impl IntoIterator<Item = T>) -> Result<Read, Failure> {
        let mut text = String::new();
        for line in lines {
            text.push_str(line.as_ref());
            text.push('\n');
        }
        write_all(text.as_bytes())
    }
}

/// Whether anybody reads what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// As far as can be known.
    Yes,
    /// Who stopped reading has seen enough: what goes on and on may end.
    NoMore,
}

/// Writes bytes to standard output.
pub(super) fn write_all(bytes: &[u8]) -> Result<Read, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(Read::Yes),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Read::NoMore),
        Err(error) => Err(cannot_write(&error)),
    }
}

/// Standard output takes nothing more.
pub(super) fn cannot_write(error: &io::Error) -> Failure {
    Failure::new(crate::model::ExitStatus::Failed, format!("cannot write to standard output: {error}"))
}

/// Whether colours may go somewhere: not if `--no-color` or NO_COLOR (no-color.org) says so, and
/// only to a terminal that can.
pub(super) fn colours(refused: bool, variable: impl Fn(&str) -> Option<OsString>, is_terminal: bool) -> bool {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let dumb = set("TERM").is_some_and(|terminal| terminal == "dumb");
    is_terminal && !refused && set("NO_COLOR").is_none() && !dumb
}

/// The columns of the terminal that standard output is.
pub(super) fn columns(variable: impl Fn(&str) -> Option<OsString>) -> Option<usize> {
    // A terminal that cannot move its cursor gets plain lines.
    let dumb = variable("TERM").is_some_and(|terminal| terminal == "dumb");
    if dumb || !io::stdout().is_terminal() {
        return None;
    }
    let known = terminal_size::terminal_size_of(io::stdout());
    // A serial console says 0 or nothing.
    Some(known.map_or(80, |(width, _)| usize::from(width.0)).max(20))
}

#[cfg(test)]
mod tests {
    use super::colours;

    #[test]
    fn colours_are_for_terminals_whose_user_wants_them() {
        let with = |refused, pairs: &[(&str, &str)], is_terminal| {
            let found = |name: &str| pairs.iter().find(|(key, _)| *key == name);
            colours(refused, |name| found(name).map(|(_, value)| value.into()), is_terminal)
        };
        assert!(with(false, &[], true));
        assert!(with(false, &[("NO_COLOR", ""), ("TERM", "xterm")], true), "an empty NO_COLOR is none");
        assert!(!with(false, &[], false));
        assert!(!with(true, &[], true));
        assert!(!with(false, &[("NO_COLOR", "1")], true));
        assert!(!with(false, &[("TERM", "dumb")], true));
    }
}
