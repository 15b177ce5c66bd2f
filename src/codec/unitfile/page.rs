//! Writing TOML: keys, values, and behind each where it comes from.

use super::{Origin, Origins};
use crate::codec::timespan;
use crate::model::Signal;
use crate::model::settings::Command;
use std::time::Duration;

/// A unit file while it is written.
pub(super) struct Page<'o> {
    pub text: String,
    pub origins: Option<&'o Origins>,
    /// As [`Origins`] names it.
    pub table: String,
}

impl Page<'_> {
    pub(super) fn open(&mut self, header: &str, table: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(header);
        self.text.push('\n');
        self.table = table.to_owned();
    }

    pub(super) fn row(&mut self, key: &str, value: impl AsRef<str>) {
        self.line(key, key, value.as_ref());
    }

    /// A row whose origin is that of another key.
    pub(super) fn line(&mut self, key: &str, origin_key: &str, value: &str) {
        self.text.push_str(&format!("{key} = {value}"));
        if let Some(origins) = self.origins {
            let origin: Origin = origins.of(&self.table, origin_key);
            self.text.push_str(&format!("  # {origin}"));
        }
        self.text.push('\n');
    }

    pub(super) fn some(&mut self, key: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.row(key, value);
        }
    }

    /// A list, left out where it is empty.
    pub(super) fn list(&mut self, key: &str, items: impl IntoIterator<Item = String>) {
        let items: Vec<String> = items.into_iter().collect();
        if !items.is_empty() {
            self.row(key, list(items));
        }
    }
}

/// A TOML basic string (toml.io, String).
pub(super) fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

pub(super) fn span(span: Duration) -> String {
    text(&timespan::format(span))
}

pub(super) fn span_or_infinity(limit: Option<Duration>) -> String {
    limit.map_or("\"infinity\"".to_owned(), span)
}

pub(super) fn signal(signal: Signal) -> String {
    text(&signal.to_string())
}

pub(super) fn path(path: &std::path::Path) -> String {
    text(&path.to_string_lossy())
}

pub(super) fn words(command: &Command) -> String {
    let dash = if command.ignore_failure { "-" } else { "" };
    let program = text(&format!("{dash}{}", command.program));
    list(std::iter::once(program).chain(command.arguments.iter().map(|argument| text(argument))))
}

/// One command as a list of words; several, or one with a space in its name, as a list of lists.
pub(super) fn command_list(commands: &[Command]) -> String {
    match commands {
        [one] if !one.program.contains(char::is_whitespace) => words(one),
        several => list(several.iter().map(words)),
    }
}
