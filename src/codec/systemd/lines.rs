//! Lines (systemd.syntax(7)): sections, assignments, comments, and lines that go on.

use std::fmt;

/// One `Key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The section it stands in, without brackets.
    pub section: String,
    /// What stands before the first `=`.
    pub key: String,
    /// What stands behind it, less white space at both ends; a line that goes on is joined.
    pub value: String,
    /// The line on which it begins, from 1.
    pub line: u32,
}

/// Why systemd passes over a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// It stands above the first section.
    NoSection,
    /// It has no `=`.
    NoAssignment,
    /// There is nothing before the `=`.
    NoKey,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSection => "it stands above the first [Section]",
            Self::NoAssignment => "it has no =",
            Self::NoKey => "there is no key before the =",
        })
    }
}

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// In the order of the file.
    pub assignments: Vec<Assignment>,
    /// The sections that are opened, with their lines; one may be opened again.
    pub sections: Vec<(String, u32)>,
    /// Lines that systemd passes over.
    pub ignored: Vec<(u32, Ignored)>,
    /// A line with a bracket that is not closed: systemd refuses the whole file.
    pub broken: Option<u32>,
}

/// Reads a file. Total: what is no line of such a file is noted.
#[must_use]
pub fn parse(text: &str) -> Lines {
    let mut lines = Lines::default();
    let mut section: Option<String> = None;
    let mut joined: Option<(u32, String)> = None;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.split('\n')) {
        let line = line.trim_start_matches(is_space);
        // A comment does not end a line that goes on.
        if line.starts_with(['#', ';']) {
            continue;
        }
        let (begun, mut whole) = joined.take().unwrap_or((number, String::new()));
        whole.push_str(line.strip_suffix('\r').unwrap_or(line));
        if goes_on(line) {
            whole.pop();
            whole.push(' ');
            joined = Some((begun, whole));
            continue;
        }
        one(&whole, begun, &mut section, &mut lines);
    }
    if let Some((begun, whole)) = joined {
        one(&whole, begun, &mut section, &mut lines);
    }
    lines
}

/// Whether the last character is a backslash that no other one takes away.
fn goes_on(line: &str) -> bool {
    let backslashes = line.len() - line.trim_end_matches('\\').len();
    backslashes % 2 == 1
}

/// What systemd takes for white space.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn one(line: &str, number: u32, section: &mut Option<String>, lines: &mut Lines) {
    let line = line.trim_matches(is_space);
    if line.is_empty() || line.starts_with(['#', ';']) {
        return;
    }
    if let Some(rest) = line.strip_prefix('[') {
        match rest.strip_suffix(']') {
            Some(name) => {
                lines.sections.push((name.to_owned(), number));
                *section = Some(name.to_owned());
            }
            None => {
                lines.broken.get_or_insert(number);
            }
        }
        return;
    }
    let ignored = match (line.split_once('='), section) {
        (None, _) => Ignored::NoAssignment,
        (Some(_), None) => Ignored::NoSection,
        (Some((key, _)), Some(_)) if key.trim_matches(is_space).is_empty() => Ignored::NoKey,
        (Some((key, value)), Some(section)) => {
            lines.assignments.push(Assignment {
                section: section.clone(),
                key: key.trim_matches(is_space).to_owned(),
                value: value.trim_matches(is_space).to_owned(),
                line: number,
            });
            return;
        }
    };
    lines.ignored.push((number, ignored));
}
