//! What a worker's environment says (section 7 of the design), put together before the fork as far
//! as it is known there; the rest, which only the child can know, is added by the child.

use crate::model::settings::DirectoryKind;
use crate::model::{Address, Generation, ListenerName, SocketKind, UnitName};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One assignment.
pub type Variable = (OsString, OsString);

/// systemd's PATH for services, with the folders of systems that still have two of each.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names that are supd's to set: neither the unit file, nor an environment file, nor
/// PassEnvironment can give a worker another listener, socket or identity than it has.
const OURS: [&str; 16] = [
    "FDSTORE",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "SERVER_STARTER_GENERATION",
    "SERVER_STARTER_PORT",
    "SUPD_GENERATION",
    "SUPD_RELEASE",
    "SUPD_RELEASE_DIR",
    "SUPD_UNIT",
    "SUPD_WORKER",
    "WATCHDOG_PID",
];

/// Whether a variable is supd's own to set.
#[must_use]
pub fn is_ours(name: &OsStr) -> bool {
    name == "WATCHDOG_USEC" || name.to_str().is_some_and(|name| OURS.binary_search(&name).is_ok())
}

/// What a launch knows before the fork.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// SUPD_UNIT
    pub unit: &'a UnitName,
    /// SUPD_GENERATION
    pub generation: Generation,
    /// SUPD_WORKER: counts from 0 to below the unit's Workers. `None` for a command beside the workers.
    pub worker: Option<u32>,
    /// SUPD_RELEASE and SUPD_RELEASE_DIR.
    pub release: Option<(&'a str, &'a Path)>,
    /// INVOCATION_ID: 32 hexadecimal digits, new for each launch.
    pub invocation_id: &'a str,
    /// NOTIFY_SOCKET
    pub notify_socket: Option<&'a Path>,
    /// WATCHDOG_USEC; WATCHDOG_PID is the child's to add.
    pub watchdog: Option<Duration>,
    /// FDSTORE; 0 sets none.
    pub file_descriptor_store_max: u32,
    /// The listeners, in the order of their descriptors from 3 on.
    pub listeners: &'a [(ListenerName, Address)],
    /// The names of what comes after them: stored descriptors.
    pub stored: &'a [&'a str],
    /// RUNTIME_DIRECTORY and its sisters.
    pub directories: &'a [(DirectoryKind, PathBuf)],
    /// LANG, as [`language`] found it.
    pub lang: &'a str,
    /// PassEnvironment: what of supd's own environment the unit asks for.
    pub passed: &'a [Variable],
    /// Environment of the unit file.
    pub assigned: &'a [(String, String)],
}

/// An environment in three layers; the child adds HOME and the like between the first two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// PATH, LANG, RUNTIME_DIRECTORY …: the unit file may say otherwise.
    pub defaults: Vec<Variable>,
    /// PassEnvironment, then Environment.
    pub unit: Vec<Variable>,
    /// What supd tells the worker about itself; nothing overrides it.
    pub ours: Vec<Variable>,
}

impl Environment {
    /// Builds it. Pure.
    #[must_use]
    pub fn new(facts: &Facts<'_>) -> Self {
        let mut defaults = vec![variable("PATH", PATH), variable("LANG", facts.lang)];
        defaults.extend(directory_variables(facts.directories));
        let assigned = facts.assigned.iter().map(|(name, value)| (name.into(), value.into()));
        let unit = facts.passed.iter().cloned().chain(assigned).filter(|(name, _)| !is_ours(name)).collect();
        Self { defaults, unit, ours: ours(facts) }
    }

    /// All of it in one list, each name once, the later layer winning; `login` is what only the
    /// child could look up.
    #[must_use]
    pub fn merge(&self, login: &[Variable]) -> Vec<Variable> {
        let mut all = Vec::new();
        for (name, value) in [&self.defaults, login, &self.unit, &self.ours].into_iter().flatten() {
            set(&mut all, name, value);
        }
        all
    }
}

/// Puts a value into a list, in the place of an earlier one of that name.
pub(super) fn set(all: &mut Vec<Variable>, name: &OsStr, value: &OsStr) {
    match all.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => all.push((name.to_owned(), value.to_owned())),
    }
}

fn variable(name: &str, value: impl Into<OsString>) -> Variable {
    (name.into(), value.into())
}

/// systemd.exec(5): several directories of one kind are joined by colons.
fn directory_variables(directories: &[(DirectoryKind, PathBuf)]) -> Vec<Variable> {
    let mut variables = Vec::new();
    for (kind, name) in [
        (DirectoryKind::Runtime, "RUNTIME_DIRECTORY"),
        (DirectoryKind::State, "STATE_DIRECTORY"),
        (DirectoryKind::Cache, "CACHE_DIRECTORY"),
        (DirectoryKind::Logs, "LOGS_DIRECTORY"),
    ] {
        let paths = directories.iter().filter(|(of, _)| *of == kind).map(|(_, path)| path.as_os_str());
        let joined = paths.collect::<Vec<_>>().join(OsStr::new(":"));
        if !joined.is_empty() {
            variables.push(variable(name, joined));
        }
    }
    variables
}

fn ours(facts: &Facts<'_>) -> Vec<Variable> {
    let mut all =
        vec![variable("SUPD_UNIT", facts.unit.as_str()), variable("INVOCATION_ID", facts.invocation_id)];
    // An install is of no generation.
    if facts.generation.0 != 0 {
        all.push(variable("SUPD_GENERATION", facts.generation.to_string()));
    }
    if let Some(worker) = facts.worker {
        all.push(variable("SUPD_WORKER", worker.to_string()));
    }
    if let Some((label, directory)) = facts.release {
        all.push(variable("SUPD_RELEASE", label));
        all.push(variable("SUPD_RELEASE_DIR", directory));
    }
    if let Some(path) = facts.notify_socket {
        all.push(variable("NOTIFY_SOCKET", path));
    }
    if let Some(period) = facts.watchdog {
        all.push(variable("WATCHDOG_USEC", period.as_micros().to_string()));
    }
    if facts.file_descriptor_store_max > 0 {
        all.push(variable("FDSTORE", facts.file_descriptor_store_max.to_string()));
    }
    let listeners = facts.listeners.iter().map(|(name, _)| name.as_str());
    let names: Vec<&str> = listeners.chain(facts.stored.iter().copied()).collect();
    if !names.is_empty() {
        all.push(variable("LISTEN_FDS", names.len().to_string()));
        all.push(variable("LISTEN_FDNAMES", names.join(":")));
        let ports = server_starter_port(facts.listeners);
        if !ports.is_empty() {
            all.push(variable("SERVER_STARTER_PORT", ports));
            all.push(variable("SERVER_STARTER_GENERATION", facts.generation.to_string()));
        }
    }
    all
}

/// Server::Starter's list: `host:port=fd;/path=fd`. It has no word for abstract names and FIFOs,
/// and its readers split at `;` and `=`: those are left out.
fn server_starter_port(listeners: &[(ListenerName, Address)]) -> String {
    let stream_at = |text: &str| {
        listeners.iter().any(|(_, a)| a.kind() == Some(SocketKind::Stream) && a.to_string() == text)
    };
    let mut list = String::new();
    for (fd, (_, address)) in (3..).zip(listeners) {
        let text = address.to_string();
        let sayable = match address {
            // Its readers keep a table by name, where the last one wins: never UDP over TCP.
            Address::Ip { kind, .. } => *kind == SocketKind::Stream || !stream_at(&text),
            Address::Unix { kind, path } => {
                *kind == SocketKind::Stream && path.to_str().is_some_and(|p| !p.contains([';', '=']))
            }
            Address::Abstract { .. } | Address::Fifo { .. } => false,
        };
        if sayable {
            let separator = if list.is_empty() { "" } else { ";" };
            write!(list, "{separator}{text}={fd}").expect("a String takes everything");
        }
    }
    list
}

/// LANG for workers, as systemd finds it: /etc/locale.conf, or Debian's /etc/default/locale, else
/// C.UTF-8. For supd to ask once, when it starts.
#[must_use]
pub fn language() -> String {
    let read = |path| std::fs::read_to_string(path).ok().filter(|text| text.len() <= 65_536);
    let found = ["/etc/locale.conf", "/etc/default/locale"].into_iter().filter_map(read);
    let mut found = found.filter_map(|text| language_in(&text));
    found.next().unwrap_or_else(|| "C.UTF-8".to_owned())
}

/// The value of LANG in the text of locale.conf(5).
fn language_in(text: &str) -> Option<String> {
    let value = text.lines().rev().find_map(|line| line.trim().strip_prefix("LANG="))?;
    let value = value.trim_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '@');
    (!value.is_empty() && value.len() <= 64 && value.chars().all(plain)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Environment, Facts, OURS, Variable, is_ours, language_in, server_starter_port};
    use crate::model::settings::DirectoryKind;
    use crate::model::{Address, Generation, ListenerName, SocketKind, UnitName};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    fn listener(name: &str, address: Address) -> (ListenerName, Address) {
        (ListenerName::new(name).unwrap(), address)
    }

    fn ip(kind: SocketKind, host: &str, port: u16) -> Address {
        Address::Ip { kind, host: host.parse().unwrap(), port }
    }

    fn facts(unit: &UnitName) -> Facts<'_> {
        Facts {
            unit,
            generation: Generation(8),
            worker: Some(2),
            release: None,
            invocation_id: "0123456789abcdef0123456789abcdef",
            notify_socket: None,
            watchdog: None,
            file_descriptor_store_max: 0,
            listeners: &[],
            stored: &[],
            directories: &[],
            lang: "C.UTF-8",
            passed: &[],
            assigned: &[],
        }
    }

    fn text(all: &[Variable]) -> String {
        let line =
            |(name, value): &Variable| format!("{}={}", name.to_str().unwrap(), value.to_str().unwrap());
        all.iter().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_names_that_are_ours_are_sorted_for_the_search() {
        assert!(OURS.is_sorted());
        assert!(is_ours("NOTIFY_SOCKET".as_ref()) && is_ours("WATCHDOG_USEC".as_ref()));
        assert!(!is_ours("SUPD_RUNTIME".as_ref()) && !is_ours("PATH".as_ref()));
    }

    #[test]
    fn without_listeners_nothing_is_said_of_them() {
        let unit = UnitName::new("web").unwrap();
        assert_eq!(
            text(&Environment::new(&facts(&unit)).merge(&[])),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 SUPD_UNIT=web \
             INVOCATION_ID=0123456789abcdef0123456789abcdef SUPD_GENERATION=8 SUPD_WORKER=2"
        );
    }

    #[test]
    fn everything_at_once() {
        let unit = UnitName::new("web").unwrap();
        let listeners = [
            listener("http", ip(SocketKind::Stream, "0.0.0.0", 80)),
            listener("api", ip(SocketKind::Stream, "::1", 81)),
        ];
        let directories = [
            (DirectoryKind::Runtime, PathBuf::from("/run/web")),
            (DirectoryKind::State, PathBuf::from("/var/lib/web")),
            (DirectoryKind::Runtime, PathBuf::from("/run/web/tmp")),
        ];
        let all = Environment::new(&Facts {
            release: Some(("1.5.0", Path::new("/r/1.5.0"))),
            notify_socket: Some(Path::new("/run/supd/notify/web.8")),
            watchdog: Some(Duration::from_millis(1500)),
            file_descriptor_store_max: 7,
            listeners: &listeners,
            stored: &["stored", "a b"],
            directories: &directories,
            ..facts(&unit)
        });
        assert_eq!(
            text(&all.ours),
            "SUPD_UNIT=web INVOCATION_ID=0123456789abcdef0123456789abcdef SUPD_GENERATION=8 SUPD_WORKER=2 \
             SUPD_RELEASE=1.5.0 SUPD_RELEASE_DIR=/r/1.5.0 NOTIFY_SOCKET=/run/supd/notify/web.8 \
             WATCHDOG_USEC=1500000 FDSTORE=7 LISTEN_FDS=4 LISTEN_FDNAMES=http:api:stored:a b \
             SERVER_STARTER_PORT=0.0.0.0:80=3;[::1]:81=4 SERVER_STARTER_GENERATION=8"
        );
        let defaults = text(&all.defaults);
        assert!(defaults.ends_with("RUNTIME_DIRECTORY=/run/web:/run/web/tmp STATE_DIRECTORY=/var/lib/web"));
    }

    #[test]
    fn who_wins() {
        let unit = UnitName::new("web").unwrap();
        let passed =
            [("TZ".into(), "UTC".into()), ("HOME".into(), "/root".into()), ("LISTEN_FDS".into(), "9".into())];
        let assigned =
            [("TZ".to_owned(), "CET".to_owned()), ("NOTIFY_SOCKET".to_owned(), "/evil".to_owned())];
        let all = Environment::new(&Facts { passed: &passed, assigned: &assigned, ..facts(&unit) });
        let login = [("HOME".into(), "/home/web".into()), ("USER".into(), "web".into())];
        let rest = [("LANG".into(), "de".into()), ("SUPD_UNIT".into(), "other".into())];
        let all = Environment { unit: all.unit.iter().cloned().chain(rest).collect(), ..all };
        let merged = text(&all.merge(&login));
        assert!(merged.contains("TZ=CET") && merged.contains("HOME=/root") && merged.contains("USER=web"));
        assert!(!merged.contains("LISTEN_FDS") && !merged.contains("evil"), "{merged}");
        assert!(merged.contains("LANG=de") && merged.contains("SUPD_UNIT=web"), "{merged}");
        for name in ["HOME=", "LANG=", "SUPD_UNIT="] {
            assert_eq!(merged.matches(name).count(), 1);
        }
    }

    #[test]
    fn server_starter_is_told_what_it_can_say() {
        let unix = |kind, path: &str| Address::Unix { kind, path: path.into() };
        let listeners = [
            listener("dns", ip(SocketKind::Datagram, "127.0.0.1", 53)),
            listener("dns-tcp", ip(SocketKind::Stream, "127.0.0.1", 53)),
            listener("log", ip(SocketKind::Datagram, "127.0.0.1", 514)),
            listener("a", Address::Abstract { kind: SocketKind::Stream, name: "a".to_owned() }),
            listener("b", unix(SocketKind::Stream, "/run/b.sock")),
            listener("c", unix(SocketKind::Stream, "/run/c=1;.sock")),
            listener("d", unix(SocketKind::SequentialPacket, "/run/d.sock")),
        ];
        assert_eq!(server_starter_port(&listeners), "127.0.0.1:53=4;127.0.0.1:514=5;/run/b.sock=7");
        assert_eq!(server_starter_port(&listeners[3..4]), "");
    }

    #[test]
    fn lang_is_found_or_not() {
        assert_eq!(language_in("# x\nLANG=\"de_DE.UTF-8\"\n").as_deref(), Some("de_DE.UTF-8"));
        assert_eq!(language_in("LC_ALL=C\nLANG=C\nLANG=en_US.UTF-8").as_deref(), Some("en_US.UTF-8"));
        assert_eq!(language_in("#  File generated by update-locale\n"), None);
        assert_eq!(language_in("LANG=$(reboot)"), None);
    }
}
