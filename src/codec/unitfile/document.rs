//! TOML text → a tree in which every key and value knows its place.

use super::brackets::unclosed;
use super::keys;
use super::report::{Bad, Place, Report};
use crate::codec::fault::quoted;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// The most that one source may hold, in bytes. Real unit files have a few hundred; the worst text
/// of this size takes supd's loop about 20 ms and 30 MB for as long as it is read.
pub const BYTES_MAX: usize = 256 << 10;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

/// What TOML can say. Numbers keep their text, so that a message can repeat it.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(String),
    Float(String),
    Boolean(bool),
    Date,
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// What it is, for a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a number",
            Self::Float(_) => "a number with a point",
            Self::Boolean(_) => "true or false",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// A key's place and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: Place,
    pub node: Node,
}

/// Keys and values.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Where it begins; a key that is missing is told here.
    pub place: Place,
    pub entries: BTreeMap<String, Entry>,
}

impl Table {
    pub(super) fn empty(place: Place) -> Self {
        Self { place, entries: BTreeMap::new() }
    }
}

/// Reads one source. What is no TOML is reported, and everything else is read all the same.
pub(super) fn read(file: usize, report: &mut Report<'_>) -> Table {
    let text = report.source(file).text.as_str();
    let start = Place { file, at: 0 };
    if text.len() > BYTES_MAX {
        let what = format!("{} bytes, where {BYTES_MAX} are the most that is read", text.len());
        report.syntax(start, "", Bad::new(what, "name the right file"));
        report.mark_broken(start);
        return Table::empty(start);
    }
    if let Some(at) = text.find('\0') {
        let place = Place { file, at };
        report.syntax(place, "", Bad::new("a NUL byte", "this is no text file; write it anew as UTF-8 text"));
        report.mark_broken(place);
        return Table::empty(start);
    }
    let (tree, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return convert_table(start, tree.into_inner());
    }
    let text = without_unclosed(file, text, report);
    let (tree, errors) = DeTable::parse_recoverable(&text);
    tell(file, &errors, report);
    if !errors.iter().any(|error| error.message().starts_with(NO_LINE)) {
        return convert_table(start, tree.into_inner());
    }
    // The parser gives up at a line that is nothing at all; without those it reads to the end.
    let text = without_lines(&text, &errors);
    let (tree, errors) = DeTable::parse_recoverable(&text);
    tell(file, &errors, report);
    convert_table(start, tree.into_inner())
}

/// How the parser begins what it says of a line that is neither a table nor a key.
const NO_LINE: &str = "key with no value";

/// Reports what the parser found, one fault a line.
fn tell(file: usize, errors: &[toml::de::Error], report: &mut Report<'_>) {
    let mut errors: Vec<(usize, &str)> =
        errors.iter().map(|error| (error.span().map_or(0, |span| span.start), error.message())).collect();
    // Of several faults in one line the one about a value without quotes says most.
    errors.sort_by_key(|(at, message)| (report.line(Place { file, at: *at }).0, !is_unquoted(message), *at));
    for (at, message) in errors {
        let place = Place { file, at };
        if !report.mark_broken(place) {
            continue;
        }
        if report.is_full() {
            report.count_only();
        } else {
            let (key, bad) = explain(message, report.line(place).1);
            report.syntax(place, &key, bad);
        }
    }
}

/// Reports the brackets that are never closed, and gives the text without those values: blanked, so
/// that all else keeps its place.
fn without_unclosed(file: usize, text: &str, report: &mut Report<'_>) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for open in unclosed(text) {
        let (place, begin) = (Place { file, at: open.at }, Place { file, at: open.begin });
        let key = report.line(begin).1.split('=').next().unwrap_or_default().trim();
        let closing = if bytes[open.at] == b'[' { ']' } else { '}' };
        report.mark_broken(begin);
        report.mark_broken(place);
        let remedy = format!("write {closing} behind the last word of {key}");
        report.syntax(place, key, Bad::new("this bracket is not closed", remedy));
        let value = bytes[open.begin..open.end].iter_mut();
        value.filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    // Only whole lines are blanked, so it is text as before.
    String::from_utf8(bytes).unwrap_or_default()
}

/// The text with every line that is nothing at all blanked, so that all else keeps its place.
fn without_lines(text: &str, errors: &[toml::de::Error]) -> String {
    let mut text = text.as_bytes().to_vec();
    for error in errors.iter().filter(|error| error.message().starts_with(NO_LINE)) {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let begin = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let length = text[begin..].iter().position(|byte| *byte == b'\n').unwrap_or(text.len() - begin);
        text[begin..begin + length].fill(b' ');
    }
    String::from_utf8(text).unwrap_or_default()
}

fn is_unquoted(message: &str) -> bool {
    message.starts_with("string values must be quoted")
}

/// Turns the parser's message into one that says what to write, with the key of the line.
fn explain(message: &str, line: &str) -> (String, Bad) {
    let trimmed = line.trim_start_matches('\u{feff}').trim();
    let (key, raw) = trimmed.split_once('=').unwrap_or(("", ""));
    let (key, raw) = (key.trim(), raw.trim());
    let key = if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric()) { key } else { "" };
    let name = if key.is_empty() { "Key" } else { key };
    let foreign = if is_unquoted(message) || !raw.starts_with(['"', '\'', '[', '{']) {
        keys::foreign_key(key, raw)
    } else {
        None
    };
    let bad = if let Some(bad) = foreign {
        bad
    } else if trimmed.starts_with([';', '!']) || trimmed.starts_with("//") {
        Bad::new("this is no comment", "begin comments with #")
    } else if message.starts_with("unexpected leading zero") {
        let remedy = format!("write an octal mode in quotes: {name} = {}", quoted(raw));
        Bad::new("a number cannot begin with 0", remedy)
    } else if !key.is_empty() && (is_unquoted(message) || raw.starts_with(|c: char| c.is_ascii_alphabetic()))
    {
        unquoted(name, raw)
    } else if message.starts_with("duplicate key") && trimmed.starts_with('[') {
        Bad::new(
            "this table is here twice",
            "join the two; only [[Socket]], in two brackets, may be repeated",
        )
    } else if message.starts_with("duplicate key") {
        Bad::new("set twice", "keep one; several values are a list: [\"…\", \"…\"]")
    } else if message.starts_with("unclosed table") {
        Bad::new("the bracket of this table is not closed", "write it as in [Service]")
    } else if message.starts_with(NO_LINE) {
        Bad::new(
            format!("{} is no line of a unit file", quoted(trimmed)),
            "write Key = value, [Table], or # for a comment",
        )
    } else if message.starts_with("invalid basic string, expected `\"`")
        || message.starts_with("invalid literal string, expected `'`")
    {
        Bad::new(
            "a quote is not closed in its line",
            "close it; a text of several lines stands in \"\"\" … \"\"\"",
        )
    } else if message.starts_with("invalid unquoted key") {
        Bad::new("no key of supd looks like this", "write Key = value, [Table], or # for a comment")
    } else if message.starts_with("missing escaped value") {
        let what = "a backslash that means nothing in \"…\"";
        Bad::new(what, "write two backslashes, or put the text in single quotes: '…'")
    } else {
        Bad::new(
            message.replace('\n', " "),
            "the file is TOML: [Table], then Key = \"text\", 5, true or a list",
        )
    };
    (key.to_owned(), bad)
}

/// A value without quotes, the way systemd writes everything.
fn unquoted(key: &str, raw: &str) -> Bad {
    let what = "text must stand in quotes";
    match raw.to_ascii_lowercase().as_str() {
        "" => Bad::new("there is no value", format!("write {key} = \"…\", or take the line out")),
        "yes" | "on" | "true" => Bad::new(what, format!("write {key} = true")),
        "no" | "off" | "false" => Bad::new(what, format!("write {key} = false")),
        _ if raw.contains('"') && !raw.contains('\'') => {
            Bad::new(what, format!("put all of it in single quotes: {key} = '…'"))
        }
        _ => Bad::new(what, format!("write {key} = {}", quoted(raw))),
    }
}

fn convert_table(place: Place, table: DeTable<'_>) -> Table {
    let mut out = Table::empty(place);
    for (key, value) in table {
        let key_place = Place { file: place.file, at: key.span().start };
        let at = Place { file: place.file, at: value.span().start };
        let node = convert(at, value.into_inner());
        out.entries.insert(key.into_inner().into_owned(), Entry { key: key_place, node });
    }
    out
}

/// As deep as the parser lets a value be nested, which is 80.
fn convert(place: Place, value: DeValue<'_>) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => Value::Integer(decimal(&number)),
        DeValue::Float(number) => Value::Float(number.to_string()),
        DeValue::Boolean(yes) => Value::Boolean(yes),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(nodes) => {
            let convert = |node: toml::Spanned<DeValue<'_>>| {
                let at = Place { file: place.file, at: node.span().start };
                convert(at, node.into_inner())
            };
            Value::List(nodes.into_iter().map(convert).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(place, table)),
    };
    Node { place, value }
}

/// An integer in base ten, so that `0x10` means what it says; as written where it is too large.
fn decimal(number: &toml::de::DeInteger<'_>) -> String {
    match i64::from_str_radix(number.as_str(), number.radix()) {
        Ok(value) => value.to_string(),
        Err(_) => number.to_string(),
    }
}
