//! Where a server listens, as far as files say it: its arguments, its configuration, its
//! environment. Nothing is asked of a running process: what it does today may be an accident.

use super::bind::{AnyHost, Bind, of_host, parse};
use super::configs::{self, Found};
use super::look::Look;
use super::programs::{Config, Program, Says, USUAL};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What options say.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) binds: Vec<Bind>,
    /// What cannot be read, in words.
    pub(super) doubts: Vec<String>,
}

/// A server, as its unit starts it.
pub(super) struct Server<'s> {
    pub(super) known: Option<&'static Program>,
    /// Its own arguments, variables filled in.
    pub(super) arguments: &'s [String],
    pub(super) environment: &'s BTreeMap<String, String>,
    pub(super) directory: &'s Path,
}

/// Everything that can be known of a server's addresses. `true`: nothing says them, they are the
/// server's own default.
pub(super) fn find(server: &Server<'_>, look: &Look) -> (Found, bool) {
    let default = server.known.map_or(&[][..], |known| known.default);
    let table = server.known.map_or(USUAL, |known| known.listens);
    // Servers of which nothing is known mostly take IPv6 and IPv4.
    let any = if server.known.is_some() { AnyHost::V4 } else { AnyHost::Dual };
    let said = of_options(server.arguments, table, any, default);
    let mut found = match server.known.and_then(|known| known.config) {
        Some(config) => {
            let path = configuration(server, &config);
            configs::read(config.syntax, &path, look, server.arguments, server.environment)
        }
        None => Found::default(),
    };
    if !said.binds.is_empty() || !said.doubts.is_empty() {
        let place = (PathBuf::new(), 0);
        found.binds = said.binds;
        found.doubts.extend(said.doubts.into_iter().map(|what| (place.clone(), what)));
    }
    if !found.binds.is_empty() || !found.doubts.is_empty() {
        return (found, false);
    }
    if let Some(port) = server.environment.get("PORT").and_then(|port| port.parse().ok()) {
        found.binds = of_host("", port, any).unwrap_or_default();
        return (found, false);
    }
    found.binds = of_texts(default).binds;
    let guessed = !found.binds.is_empty();
    (found, guessed)
}

/// The path of a server's configuration; empty if it has none.
fn configuration(server: &Server<'_>, config: &Config) -> PathBuf {
    let named = options(server.arguments, config.options).next();
    let bare = || {
        let first = server.arguments.iter().find(|word| !word.starts_with('-'));
        first.filter(|_| config.bare).map(String::as_str)
    };
    let path = named.or_else(bare).unwrap_or(config.file);
    if path.is_empty() { PathBuf::new() } else { server.directory.join(path) }
}

/// The values of these options: `-f x`, `-fx` for one letter, `--file x`, `--file=x`.
fn options<'a>(words: &'a [String], names: &'a [&str]) -> impl Iterator<Item = &'a str> {
    words
        .iter()
        .enumerate()
        .filter_map(move |(at, word)| names.iter().find_map(|name| value(words, at, word, name)))
}

fn value<'a>(words: &'a [String], at: usize, word: &'a str, name: &str) -> Option<&'a str> {
    let rest = word.strip_prefix(name)?;
    if rest.is_empty() {
        return words.get(at + 1).map(String::as_str);
    }
    match rest.strip_prefix('=') {
        Some(value) => Some(value),
        None => Some(rest).filter(|_| name.len() == 2 && !name.starts_with("--")),
    }
}

/// What options say of addresses. A host without a port has that of the default.
pub(super) fn of_options(words: &[String], table: &[(&str, Says)], any: AnyHost, default: &[&str]) -> Said {
    let (mut said, mut hosts, mut ports) = (Said::default(), Vec::new(), Vec::new());
    for (at, word) in words.iter().enumerate() {
        let found = table.iter().find_map(|(name, says)| Some((value(words, at, word, name)?, says)));
        let Some((text, says)) = found else { continue };
        match says {
            Says::Address => said.add(parse(text, None, any)),
            Says::Path => said.add(Ok(vec![Bind::path(text)])),
            Says::Host => hosts.extend(text.split([',', ' ']).filter(|host| !host.is_empty())),
            Says::Port => match text.parse::<u16>() {
                Ok(port) => ports.push(port),
                Err(_) => said.doubts.push(format!("{text} is no port")),
            },
            Says::Datagrams => {
                let binds = of_host("", text.parse().unwrap_or(0), any);
                said.add(
                    binds
                        .map(|binds| binds.into_iter().map(|bind| Bind { datagram: true, ..bind }).collect()),
                );
            }
        }
    }
    if ports.is_empty() && !hosts.is_empty() && said.doubts.is_empty() {
        ports.extend(default.first().and_then(|text| text.rsplit(':').next()?.parse::<u16>().ok()));
    }
    if hosts.is_empty() {
        hosts.push("");
    }
    for port in ports {
        for host in &hosts {
            // A host may bring its own port.
            match host.rsplit_once(':') {
                Some((_, own))
                    if !host.ends_with(']')
                        && own.parse::<u16>().is_ok()
                        && host.matches(':').count() == 1 =>
                {
                    said.add(parse(host, None, any));
                }
                _ => said.add(of_host(host, port, any)),
            }
        }
    }
    said
}

/// Addresses that are written out.
pub(super) fn of_texts(texts: &[&str]) -> Said {
    let mut said = Said::default();
    for text in texts {
        said.add(parse(text, None, AnyHost::Both));
    }
    said
}

impl Said {
    fn add(&mut self, binds: Result<Vec<Bind>, String>) {
        match binds {
            Ok(binds) => self.binds.extend(binds),
            Err(why) => self.doubts.push(why),
        }
    }
}

/// Takes the options that say addresses out, with their values.
pub(super) fn without_options(words: &mut Vec<String>, table: &[(&str, Says)]) {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let found = table.iter().find(|(name, _)| value(words, at, word, name).is_some());
        match found {
            Some((name, _)) if word == name => {
                words.drain(at..(at + 2).min(words.len()));
            }
            Some(_) => {
                words.remove(at);
            }
            None => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::import::programs;

    fn shown(line: &str, program: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let known = programs::find(program);
        let environment = BTreeMap::new();
        let server =
            Server { known, arguments: &words, environment: &environment, directory: Path::new("/srv") };
        let (found, guessed) = find(&server, &Look::nowhere());
        let mut shown: Vec<String> = found
            .binds
            .into_iter()
            .map(|bind| format!("{}{}", bind.address, if bind.datagram { "/udp" } else { "" }))
            .collect();
        shown.extend(guessed.then(|| "default".to_owned()));
        shown.extend(found.doubts.into_iter().map(|(_, what)| what));
        shown
    }

    #[test]
    fn options_say_addresses() {
        for (program, line, expected) in [
            ("gunicorn", "-b 0.0.0.0:80 --bind=unix:/run/g.sock app:app", &["0.0.0.0:80", "/run/g.sock"][..]),
            ("gunicorn", "-w 3 app:app", &["127.0.0.1:8000", "default"]),
            (
                "gunicorn",
                "--bind web:80",
                &["\"web\" is no address of this machine, and names are not looked up"],
            ),
            ("uvicorn", "--port 9000 app:app", &["0.0.0.0:9000"]),
            ("uvicorn", "--host ::1 app:app", &["[::1]:8000"]),
            (
                "memcached",
                "-p11311 -l 127.0.0.1,[::1] -U 11311",
                &["0.0.0.0:11311/udp", "127.0.0.1:11311", "[::1]:11311"],
            ),
            ("memcached", "-l 127.0.0.1:11212 -p 11211", &["127.0.0.1:11212"]),
            ("java", "-Dserver.port=8081 -jar app.jar", &["[::]:8081"]),
            ("myserver", "--listen-address=10.0.0.1:9090 -port 1", &["10.0.0.1:9090", "[::]:1"]),
            ("myserver", "--portable 1", &[]),
        ] {
            assert_eq!(shown(line, program), expected, "{program} {line}");
        }
    }

    #[test]
    fn a_server_that_takes_a_descriptor_needs_no_address() {
        let known = programs::find("uvicorn").unwrap();
        let mut words: Vec<String> =
            "--host 0.0.0.0 --port=80 app:app --workers 2".split(' ').map(str::to_owned).collect();
        without_options(&mut words, known.listens);
        assert_eq!(words, ["app:app", "--workers", "2"]);
    }
}
