//! Writing TOML: keys, values, and behind each where it comes from.

use super::{Origin, Origins};
use crate::codec::timespan;
use crate::model::Signal;
use crate::model::settings::Command;
use std::time::Duration;

/// A table of a unit file with its effective keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// As [`Origins`] names it: `Unit`, `Socket.NAME`, `Service` or `Swap`.
    pub name: String,
    /// Its keys.
    pub rows: Vec<Row>,
}

impl Table {
    /// How the table is begun in a unit file.
    #[must_use]
    pub fn header(&self) -> String {
        match self.name.starts_with("Socket.") {
            true => "[[Socket]]".to_owned(),
            false => format!("[{}]", self.name),
        }
    }
}

/// A key that is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key; `Environment.NAME` for a variable.
    pub key: String,
    /// The value as TOML.
    pub value: String,
    /// Where it comes from, where that is known.
    pub origin: Option<Origin>,
}

/// A unit file while it is written.
pub(super) struct Page<'o> {
    pub tables: Vec<Table>,
    pub origins: Option<&'o Origins>,
}

impl Page<'_> {
    pub(super) fn open(&mut self, table: &str) {
        self.tables.push(Table { name: table.to_owned(), rows: Vec::new() });
    }

    /// The table that was opened last, as [`Origins`] names it.
    pub(super) fn table(&self) -> &str {
        self.tables.last().map_or("", |table| &table.name)
    }

    pub(super) fn row(&mut self, key: &str, value: impl AsRef<str>) {
        self.line(key, key, value.as_ref());
    }

    /// A row whose origin is that of another key.
    pub(super) fn line(&mut self, key: &str, origin_key: &str, value: &str) {
        let origin = self.origins.map(|origins| origins.of(self.table(), origin_key));
        if let Some(table) = self.tables.last_mut() {
            table.rows.push(Row { key: key.to_owned(), value: value.to_owned(), origin });
        }
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
            // Some turn the direction of writing: on a terminal the line would say something else.
            control if control.is_control() || is_direction(control) => {
                out.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn is_direction(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
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
