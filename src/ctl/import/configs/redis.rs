//! redis.conf: `port`, `bind`, `unixsocket`. Arguments are lines of it too, and come last.

use super::{AnyHost, Reader, lines, word, words};
use crate::ctl::import::bind::{Bind, of_host};
use crate::ctl::import::remark::Place;
use std::collections::BTreeMap;
use std::path::Path;

/// The last value of each key, and where it stands.
type Values = BTreeMap<String, (Vec<String>, Place)>;

pub(super) fn read(reader: &mut Reader<'_>, path: &Path) {
    let mut values = Values::new();
    // Without a file it goes by its arguments and its defaults; one that cannot be read says more.
    let is_named = !path.as_os_str().is_empty();
    if is_named {
        file(reader, path, &mut values);
        if !reader.found.read {
            return;
        }
    }
    let arguments = reader.arguments;
    let options = arguments.iter().position(|word| word.starts_with("--")).unwrap_or(arguments.len());
    let mut key: Option<String> = None;
    for word in &arguments[options..] {
        match (word.strip_prefix("--"), &key) {
            (Some(name), _) => {
                values.insert(name.to_ascii_lowercase(), (Vec::new(), (path.to_owned(), 0)));
                key = Some(name.to_ascii_lowercase());
            }
            (None, Some(name)) => {
                if let Some((list, _)) = values.get_mut(name) {
                    list.push(word.clone());
                }
            }
            (None, None) => {}
        }
    }
    sockets(reader, path, &values);
}

fn sockets(reader: &mut Reader<'_>, path: &Path, values: &Values) {
    let start = (path.to_owned(), 0);
    let get = |key: &str, default: &str| {
        let words = || default.split(' ').map(str::to_owned).collect();
        values.get(key).cloned().unwrap_or_else(|| (words(), start.clone()))
    };
    let first = |key: &str| values.get(key).and_then(|(words, _)| words.first()).cloned();
    let backlog = first("tcp-backlog");
    let (hosts, at) = get("bind", "* -::*");
    for (key, default) in [("port", "6379"), ("tls-port", "0")] {
        let (port, _) = get(key, default);
        let Some(port) = port.first().and_then(|port| port.parse::<u16>().ok()) else { continue };
        for host in &hosts {
            // A minus sign says that the machine may lack the address.
            let host = host.strip_prefix('-').unwrap_or(host);
            let (host, any) = match host {
                "*" => ("0.0.0.0", AnyHost::V4),
                "::*" => ("::", AnyHost::Both),
                host => (host, AnyHost::Both),
            };
            match of_host(host, port, any) {
                Ok(binds) => reader
                    .found
                    .binds
                    .extend(binds.into_iter().map(|bind| Bind { backlog: backlog.clone(), ..bind.at(&at) })),
                Err(why) => reader.doubt(&at, why),
            }
        }
    }
    if let Some((words, at)) = values.get("unixsocket") {
        if let Some(path) = words.first().filter(|path| path.starts_with('/')) {
            let mode = first("unixsocketperm");
            reader.found.binds.push(Bind { mode, backlog, ..Bind::path(path).at(at) });
        }
    }
}

fn file(reader: &mut Reader<'_>, path: &Path, values: &mut Values) {
    let Some(text) = reader.text(path) else { return };
    for (place, line) in lines(path, &text) {
        let mut words = words(line);
        if words.is_empty() {
            continue;
        }
        let key = words.remove(0).to_ascii_lowercase();
        if key == "include" {
            let base = path.parent().unwrap_or(path);
            reader.include(word(&words, 0), base, |reader, path| file(reader, path, values));
            continue;
        }
        values.insert(key, (words, place));
    }
}
