//! A fault of a file: where, what, and what to write instead.

use std::fmt;
use std::path::PathBuf;

/// One fault, or one warning, of a file that a person wrote.
///
/// Displayed as one line, `file:line:column: key: what; remedy`. Every text in it may come from a
/// stranger's file, so control characters are shown escaped and never reach a terminal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file, as it was named.
    pub file: PathBuf,
    /// From 1; 0 where the fault is of the file as a whole.
    pub line: u32,
    /// In characters, from 1; 0 where the fault is of the file as a whole.
    pub column: u32,
    /// The key, or empty.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to write or to do instead, or empty.
    pub remedy: String,
    /// It says nothing about the file: whoever would have read it has run out of descriptors or
    /// memory.
    pub exhausted: bool,
}

impl Fault {
    /// A fault of a whole file.
    #[must_use]
    pub fn of_file(file: impl Into<PathBuf>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            key: String::new(),
            what: what.into(),
            remedy: remedy.into(),
            exhausted: false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        plain(f, &self.file.to_string_lossy(), usize::MAX)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            plain(f, &self.key, SHOWN_MAX)?;
            f.write_str(": ")?;
        }
        plain(f, &self.what, usize::MAX)?;
        if !self.remedy.is_empty() {
            f.write_str("; ")?;
            plain(f, &self.remedy, usize::MAX)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// How many characters of a stranger's text a message repeats.
const SHOWN_MAX: usize = 60;

/// `text` in quotes, for use in a message: escaped, and cut where it is long.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut shown = String::from("\"");
    let mut characters = text.chars();
    for character in characters.by_ref().take(SHOWN_MAX) {
        match character {
            '\'' => shown.push('\''),
            other => shown.extend(other.escape_debug()),
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown.push('"');
    shown
}

/// Writes `text` without its control characters, at most `max` characters of it.
fn plain(f: &mut fmt::Formatter<'_>, text: &str, max: usize) -> fmt::Result {
    use fmt::Write as _;
    let mut characters = text.chars();
    for character in characters.by_ref().take(max) {
        if character.is_control() {
            write!(f, "{}", character.escape_default())?;
        } else {
            f.write_char(character)?;
        }
    }
    if characters.next().is_some() { f.write_char('…') } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{Fault, quoted};

    #[test]
    fn a_fault_is_one_line_whatever_is_in_it() {
        let fault = Fault {
            file: "web\n.unit".into(),
            line: 3,
            column: 7,
            key: "\u{1b}[31mKey".into(),
            what: format!("{} is no signal", quoted("a\nb\"c'")),
            remedy: String::new(),
            exhausted: false,
        };
        assert_eq!(fault.to_string(), "web\\n.unit:3:7: \\u{1b}[31mKey: \"a\\nb\\\"c'\" is no signal");
        let whole = Fault::of_file("web.unit", "is a directory", "make it a file");
        assert_eq!(whole.to_string(), "web.unit: is a directory; make it a file");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(quoted(&"x".repeat(60)).chars().count(), 62);
        assert!(quoted(&"x".repeat(1 << 20)).ends_with("x…\""));
    }
}
