//! puma.rb: `port` and `bind`. It is a program; its plain lines are read, and others are told.

use super::{AnyHost, Reader, lines};
use crate::ctl::import::remark::Place;
use std::path::Path;

pub(super) fn read(reader: &mut Reader<'_>, path: &Path) {
    let Some(text) = reader.text(path) else { return };
    for (place, line) in lines(path, &text) {
        let rest = |word: &str| {
            let rest = line.strip_prefix(word)?;
            rest.starts_with([' ', '(', '\t']).then(|| rest.trim_start_matches([' ', '(', '\t']))
        };
        if let Some(rest) = rest("bind") {
            match literal(rest) {
                Some(address) if !address.contains("#{") => {
                    reader.bind(address, None, AnyHost::V4, &place);
                }
                _ => unknown(reader, &place, line),
            }
        } else if let Some(rest) = rest("port") {
            port(reader, rest, &place);
        }
    }
}

/// A number, or `ENV.fetch("PORT") { 3000 }` in one of its ways.
fn port(reader: &mut Reader<'_>, rest: &str, place: &Place) {
    let variable = rest.contains("ENV").then(|| literal(rest).unwrap_or_default());
    let set = variable.and_then(|name| reader.environment.get(name)).cloned();
    let digits = |text: &str| {
        text.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty()).map(str::to_owned)
    };
    // Behind the name of the variable stands the default.
    let written = match variable {
        Some(name) => rest.split_once(name).and_then(|(_, after)| digits(after)),
        None => digits(rest),
    };
    match set.or(written) {
        Some(port) => {
            reader.bind(&port, None, AnyHost::V4, place);
        }
        None => unknown(reader, place, rest),
    }
}

fn unknown(reader: &mut Reader<'_>, place: &Place, line: &str) {
    let what = format!("Ruby would have to run for this: {line}");
    reader.doubt(place, what);
}

/// The first text in quotes.
fn literal(text: &str) -> Option<&str> {
    let at = text.find(['"', '\''])?;
    let quote = text[at..].chars().next()?;
    text[at + 1..].split(quote).next()
}
