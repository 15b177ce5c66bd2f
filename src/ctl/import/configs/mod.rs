//! The configurations of known servers, as far as they say where the server listens.
//!
//! Each is read as its server reads it where that matters: comments, quotes, included files, what
//! wins over what. What cannot be known from files (a shell command, a name) is told.

mod apache;
mod cups;
mod haproxy;
mod lighttpd;
mod memcached;
mod nginx;
mod php_fpm;
mod postgres;
mod puma;
mod redis;
mod sshd;

use super::bind::{AnyHost, Bind, parse};
use super::look::{Look, Seen};
use super::remark::Place;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Apache,
    Cups,
    Haproxy,
    Lighttpd,
    Memcached,
    Nginx,
    PhpFpm,
    Postgres,
    PostgresCluster,
    Puma,
    Redis,
    Sshd,
}

/// How deep files include each other, at most.
const DEPTH_MAX: usize = 16;
/// The most sockets of one server that are told.
const BINDS_MAX: usize = 200;

/// What there is to go by.
pub(super) struct Reader<'l> {
    look: &'l Look,
    /// The arguments of the server, its variables filled in.
    arguments: &'l [String],
    /// Its environment, as far as files say it.
    environment: &'l BTreeMap<String, String>,
    depth: usize,
    found: Found,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) binds: Vec<Bind>,
    /// The configuration says that the server takes LISTEN_FDS.
    pub(super) activated: bool,
    /// What a person has to look at: where, and what.
    pub(super) doubts: Vec<(Place, String)>,
    /// Files that could not be read, and why.
    pub(super) unread: Vec<(PathBuf, String)>,
    /// Whether any file was read.
    pub(super) read: bool,
}

/// Reads a configuration. `path` is where it should be; some servers have more to say of that.
pub(super) fn read(
    syntax: Syntax,
    path: &Path,
    look: &Look,
    arguments: &[String],
    environment: &BTreeMap<String, String>,
) -> Found {
    let mut reader = Reader { look, arguments, environment, depth: 0, found: Found::default() };
    match syntax {
        Syntax::Apache => apache::read(&mut reader, path),
        Syntax::Cups => cups::read(&mut reader, path),
        Syntax::Haproxy => haproxy::read(&mut reader, path),
        Syntax::Lighttpd => lighttpd::read(&mut reader, path),
        Syntax::Memcached => memcached::read(&mut reader, path),
        Syntax::Nginx => nginx::read(&mut reader, path),
        Syntax::PhpFpm => php_fpm::read(&mut reader, path),
        Syntax::Postgres => postgres::read(&mut reader, path),
        Syntax::PostgresCluster => postgres::read_cluster(&mut reader),
        Syntax::Puma => puma::read(&mut reader, path),
        Syntax::Redis => redis::read(&mut reader, path),
        Syntax::Sshd => sshd::read(&mut reader, path),
    }
    let mut found = reader.found;
    // Servers of one name often share an address.
    let mut seen = std::collections::HashSet::new();
    found.binds.retain(|bind| seen.insert((bind.datagram, bind.address.clone())));
    found.binds.truncate(BINDS_MAX);
    found.doubts.truncate(BINDS_MAX);
    found
}

impl Reader<'_> {
    fn text(&mut self, path: &Path) -> Option<String> {
        if path.as_os_str().is_empty() {
            return None;
        }
        let why = match self.look.text(path) {
            Seen::Text(text) => {
                self.found.read = true;
                return Some(text);
            }
            Seen::Missing => "it is not there".to_owned(),
            Seen::Unread(why) => why,
        };
        self.found.unread.push((path.to_owned(), why));
        None
    }

    /// Reads the files of an include, each with `file`: those that a pattern gives, or the one
    /// that it names.
    fn include(&mut self, pattern: &str, base: &Path, mut file: impl FnMut(&mut Self, &Path)) {
        if self.depth >= DEPTH_MAX || pattern.is_empty() {
            return;
        }
        self.depth += 1;
        for path in self.look.glob(&base.join(pattern)) {
            file(self, &path);
        }
        self.depth -= 1;
    }

    /// Adds the sockets of a text, and gives them to be finished; or notes that it says none.
    fn bind(&mut self, text: &str, port: Option<u16>, any: AnyHost, from: &Place) -> &mut [Bind] {
        let before = self.found.binds.len();
        match parse(text, port, any) {
            Ok(binds) => self.found.binds.extend(binds.into_iter().map(|bind| bind.at(from))),
            Err(why) => self.doubt(from, why),
        }
        &mut self.found.binds[before..]
    }

    fn doubt(&mut self, from: &Place, what: impl Into<String>) {
        self.found.doubts.push((from.clone(), what.into()));
    }
}

/// The lines of a text with their places, trimmed, without those that `#` begins.
fn lines<'t>(path: &Path, text: &'t str) -> impl Iterator<Item = (Place, &'t str)> + use<'t> {
    let path = path.to_owned();
    let numbered = (1_u32..).zip(text.lines().map(str::trim));
    let written = numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    written.map(move |(number, line)| ((path.clone(), number), line))
}

/// Words of a line, split at white space; quotes of both kinds group.
fn words(line: &str) -> Vec<String> {
    crate::codec::words::split_relaxed(line)
}

/// One of the words, or nothing.
fn word(words: &[String], at: usize) -> &str {
    words.get(at).map_or("", String::as_str)
}
