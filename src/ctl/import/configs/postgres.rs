//! postgresql.conf: `port`, `listen_addresses`, `unix_socket_directories`.

use super::{AnyHost, Reader, lines};
use crate::ctl::import::bind::{Bind, of_host};
use crate::ctl::import::remark::Place;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The last value of each key, and where it stands.
type Values = BTreeMap<String, (String, Place)>;

/// `15-main`, or `15` and `main`, behind pg_ctlcluster.
pub(super) fn read_cluster(reader: &mut Reader<'_>) {
    let words: Vec<&str> =
        reader.arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let cluster = words.iter().enumerate().find_map(|(at, word)| match word.split_once(['-', '/']) {
        Some((version, name)) if digits(version) => Some((version, name)),
        None if digits(word) => Some((*word, *words.get(at + 1)?)),
        _ => None,
    });
    if let Some((version, name)) = cluster {
        let folder = Path::new("/etc/postgresql").join(version).join(name);
        server(reader, &folder.join("postgresql.conf"), None);
    }
}

/// Behind `-D` stands a folder.
pub(super) fn read(reader: &mut Reader<'_>, path: &Path) {
    let named = reader.arguments.iter().find_map(|word| {
        word.strip_prefix("config_file=").or_else(|| word.strip_prefix("--config-file=")).map(PathBuf::from)
    });
    server(reader, &named.unwrap_or_else(|| path.join("postgresql.conf")), Some(path));
}

fn server(reader: &mut Reader<'_>, path: &Path, data: Option<&Path>) {
    let mut values = Values::new();
    file(reader, path, &mut values);
    if !reader.found.read {
        return;
    }
    options(reader.arguments, path, &mut values);
    // ALTER SYSTEM writes here, and it wins.
    let named = values.get("data_directory").map(|(value, _)| PathBuf::from(value));
    if let Some(folder) = named.or_else(|| data.map(Path::to_owned)) {
        let auto = folder.join("postgresql.auto.conf");
        if reader.look.is_there(&auto) {
            file(reader, &auto, &mut values);
        }
    }
    let start = (path.to_owned(), 0);
    let get = |key: &str, default: &str| {
        values.get(key).cloned().unwrap_or_else(|| (default.to_owned(), start.clone()))
    };
    let (port, at) = get("port", "5432");
    let Ok(port) = port.parse::<u16>() else {
        return reader.doubt(&at, format!("port is {port}"));
    };
    let (hosts, at) = get("listen_addresses", "localhost");
    for host in hosts.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        match of_host(host, port, AnyHost::Both) {
            Ok(binds) => reader.found.binds.extend(binds.into_iter().map(|bind| bind.at(&at))),
            Err(why) => reader.doubt(&at, why),
        }
    }
    let (folders, at) = get("unix_socket_directories", "/var/run/postgresql");
    let (mode, _) = get("unix_socket_permissions", "0777");
    for folder in folders.split(',').map(str::trim).filter(|folder| folder.starts_with('/')) {
        let bind = Bind::path(&format!("{}/.s.PGSQL.{port}", folder.trim_end_matches('/')));
        reader.found.binds.push(Bind { mode: Some(mode.clone()), ..bind.at(&at) });
    }
}

/// Options of postgres(1), which win over its files.
fn options(arguments: &[String], path: &Path, values: &mut Values) {
    let mut set = |key: &str, value: &str| {
        values.insert(key.replace('-', "_"), (value.to_owned(), (path.to_owned(), 0)));
    };
    for (at, word) in arguments.iter().enumerate() {
        let next = arguments.get(at + 1).map_or("", String::as_str);
        match word.as_str() {
            "-p" => set("port", next),
            "-h" => set("listen_addresses", next),
            "-k" => set("unix_socket_directories", next),
            _ => {
                let option = if word == "-c" { Some(next) } else { word.strip_prefix("--") };
                if let Some((key, value)) = option.and_then(|option| option.split_once('=')) {
                    set(key, value);
                }
            }
        }
    }
}

fn file(reader: &mut Reader<'_>, path: &Path, values: &mut Values) {
    let Some(text) = reader.text(path) else { return };
    for (place, line) in lines(path, &text) {
        let (key, rest) =
            line.split_at(line.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(line.len()));
        let value = value(rest.trim_start_matches(|c: char| c == '=' || c.is_whitespace()));
        let base = path.parent().unwrap_or(path);
        let key = key.to_ascii_lowercase();
        match key.as_str() {
            "include" => reader.include(&value, base, |reader, path| file(reader, path, values)),
            "include_if_exists" if !reader.look.is_there(&base.join(&value)) => {}
            "include_if_exists" => reader.include(&value, base, |reader, path| file(reader, path, values)),
            "include_dir" => {
                let pattern = format!("{value}/*.conf");
                reader.include(&pattern, base, |reader, path| file(reader, path, values));
            }
            _ => {
                values.insert(key, (value, place));
            }
        }
    }
}

/// The text in single quotes, where two stand for one; or the word before a comment.
fn value(text: &str) -> String {
    match text.strip_prefix('\'') {
        Some(quoted) => {
            let quoted = quoted.replace("''", "\0");
            quoted.split('\'').next().unwrap_or_default().replace('\0', "'")
        }
        None => text.split(|c: char| c == '#' || c.is_whitespace()).next().unwrap_or_default().to_owned(),
    }
}
