//! lighttpd.conf: `server.port`, `server.bind`, and each `$SERVER["socket"]`.

use super::{AnyHost, Reader, lines};
use crate::ctl::import::bind::{Bind, parse};
use crate::ctl::import::remark::Place;
use std::path::Path;

#[derive(Default)]
struct State {
    port: Option<(u16, Place)>,
    bind: Option<(String, Place)>,
    sockets: Vec<(String, Place)>,
    /// Where Debian's helper adds an IPv6 socket on the same port.
    ipv6: Option<Place>,
}

pub(super) fn read(reader: &mut Reader<'_>, path: &Path) {
    let mut state = State::default();
    file(reader, path, &mut state);
    if !reader.found.read {
        return;
    }
    let start = (path.to_owned(), 0);
    let (port, place) = state.port.unwrap_or((80, start));
    let (host, place) = state.bind.unwrap_or((String::new(), place));
    let mut found = vec![(host, place)];
    found.extend(state.sockets);
    found.extend(state.ipv6.map(|place| (format!("[::]:{port}"), place)));
    for (text, place) in found {
        let text = if text.is_empty() { port.to_string() } else { text };
        match parse(&text, Some(port), AnyHost::V4) {
            // server.set-v6only is on unless it is turned off.
            Ok(binds) => reader.found.binds.extend(
                binds
                    .into_iter()
                    .map(|bind| Bind { v6only: bind.address.starts_with('['), ..bind.at(&place) }),
            ),
            Err(why) => reader.doubt(&place, why),
        }
    }
}

fn file(reader: &mut Reader<'_>, path: &Path, state: &mut State) {
    let Some(text) = reader.text(path) else { return };
    for (place, line) in lines(path, &text) {
        if let Some(command) = argument(line, "include_shell") {
            shell(reader, command, &place, state);
        } else if let Some(pattern) = argument(line, "include") {
            let base = path.parent().unwrap_or(path).to_owned();
            reader.include(unquoted(pattern), &base, |reader, path| file(reader, path, state));
        } else if let Some(condition) = line.strip_prefix("$SERVER[\"socket\"]") {
            if let Some(value) = condition.trim_start().strip_prefix("==") {
                state.sockets.push((unquoted(value).to_owned(), place));
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let value = unquoted(value);
            match key.trim() {
                "server.port" => match value.parse() {
                    Ok(port) => state.port = Some((port, place)),
                    Err(_) => reader.doubt(&place, format!("server.port is {value}")),
                },
                "server.bind" => state.bind = Some((value.to_owned(), place)),
                "server.systemd-socket-activation" => reader.found.activated = value == "enable",
                _ => {}
            }
        }
    }
}

/// Debian's configuration asks a program whether there is IPv6. No command of a configuration is
/// run here; of this one it is known what it says.
fn shell(reader: &mut Reader<'_>, command: &str, place: &Place, state: &mut State) {
    if command.contains("/use-ipv6.pl") {
        state.ipv6 = Some(place.clone());
    } else if !command.contains("/create-mime.conf") {
        let what = format!("include_shell {command} is not run here");
        reader.doubt(place, what);
    }
}

/// What stands behind a word.
fn argument<'l>(line: &'l str, word: &str) -> Option<&'l str> {
    let rest = line.strip_prefix(word)?;
    rest.starts_with([' ', '\t', '"']).then(|| rest.trim())
}

/// The text between the quotes, or up to a comment.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    match text.strip_prefix('"') {
        Some(rest) => rest.split('"').next().unwrap_or(rest),
        None => text.split(['#', '{']).next().unwrap_or(text).trim(),
    }
}
