//! sshd_config: `Port` and `ListenAddress`, up to the first `Match`.

use super::{AnyHost, Reader, lines, word, words};
use crate::ctl::import::bind::{Bind, parse};
use crate::ctl::import::remark::Place;
use std::path::Path;

#[derive(Default)]
struct State {
    ports: Vec<(u16, Place)>,
    addresses: Vec<(String, Place)>,
    family: Option<String>,
    /// What follows a Match is for some clients only.
    over: bool,
}

pub(super) fn read(reader: &mut Reader<'_>, path: &Path) {
    let mut state = State::default();
    let arguments = reader.arguments;
    for (at, word) in arguments.iter().enumerate() {
        let next = arguments.get(at + 1).map_or("", String::as_str);
        let port = match word.as_str() {
            "-p" => Some(next),
            "-o" => next.strip_prefix("Port=").or_else(|| next.strip_prefix("Port ")),
            _ => word.strip_prefix("-oPort="),
        };
        state.ports.extend(port.and_then(|port| port.parse().ok()).map(|port| (port, (path.to_owned(), 0))));
    }
    let given = state.ports.len();
    file(reader, path, &mut state);
    if !reader.found.read {
        return;
    }
    // A port of the command line wins over all of the file.
    if given > 0 {
        state.ports.truncate(given);
    }
    if state.ports.is_empty() {
        state.ports.push((22, (path.to_owned(), 0)));
    }
    let mut found = Vec::new();
    for (address, place) in &state.addresses {
        found.extend(state.ports.iter().map(|(port, _)| (address.clone(), *port, place.clone())));
    }
    if state.addresses.is_empty() {
        found.extend(state.ports.iter().map(|(port, place)| (String::new(), *port, place.clone())));
    }
    for (address, port, place) in found {
        let text = if address.is_empty() { port.to_string() } else { address };
        match parse(&text, Some(port), AnyHost::Both) {
            Ok(binds) => {
                let fits = |bind: &Bind| match state.family.as_deref() {
                    Some("inet") => !bind.address.starts_with('['),
                    Some("inet6") => bind.address.starts_with('['),
                    _ => true,
                };
                for bind in binds.into_iter().filter(fits).map(|bind| bind.at(&place)) {
                    // ListenAddress with a port of its own stands there once for each Port.
                    if !reader.found.binds.iter().any(|other| other.address == bind.address) {
                        reader.found.binds.push(bind);
                    }
                }
            }
            Err(why) => reader.doubt(&place, why),
        }
    }
}

fn file(reader: &mut Reader<'_>, path: &Path, state: &mut State) {
    let Some(text) = reader.text(path) else { return };
    for (place, line) in lines(path, &text) {
        let words = words(&line.replacen('=', " ", 1));
        let argument = word(&words, 1);
        match words.first().map(|word| word.to_ascii_lowercase()).as_deref() {
            Some("match") => state.over = true,
            _ if state.over => {}
            Some("port") => state.ports.extend(argument.parse().ok().map(|port| (port, place))),
            Some("listenaddress") => state.addresses.push((argument.to_owned(), place)),
            Some("addressfamily") => state.family = Some(argument.to_owned()),
            Some("include") => {
                reader.include(argument, Path::new("/etc/ssh"), |reader, path| {
                    file(reader, path, state);
                    // A Match of an included file ends with it.
                    state.over = false;
                });
            }
            _ => {}
        }
    }
}
