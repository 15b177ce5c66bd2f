//! Warnings: what works, and is hardly what was meant.

use super::Runner;
use super::check::Key;
use super::layer::Layer;
use super::report::{Bad, Report};
use crate::model::settings::{Settings, Socket};
use crate::model::{Address, Signal, SocketKind};
use std::time::Duration;

const QUIT: Signal = Signal(3);
const INT: Signal = Signal(2);
const USR1: Signal = Signal(10);
const WINCH: Signal = Signal(28);

/// Servers whose graceful end is not SIGTERM, by the program's name: nginx(8), haproxy(1),
/// postgres(1), apachectl(8), php-fpm(8), lighttpd(8), unicorn's SIGNALS.
const GRACEFUL: [(&str, Signal); 10] = [
    ("nginx", QUIT),
    ("openresty", QUIT),
    ("haproxy", USR1),
    ("postgres", INT),
    ("postmaster", INT),
    ("apache2", WINCH),
    ("httpd", WINCH),
    ("php-fpm", QUIT),
    ("unicorn", QUIT),
    ("lighttpd", INT),
];

/// Notes every warning. The first `own_files` sources are the unit's own; then comes supd.toml.
pub(super) fn warnings(
    settings: &Settings,
    layer: &Layer,
    rows: &[usize],
    runner: Runner,
    own_files: usize,
    report: &mut Report<'_>,
) {
    let mut warn = |key: Key, what: String, remedy: &str| {
        report.warn(key.place(layer), key.name(), Bad::new(what, remedy));
    };
    rights(settings, runner, &mut warn);
    endings(settings, &mut warn);
    let preserve = Key::Service("FileDescriptorStorePreserve");
    let own = preserve.is_set(layer) && preserve.place(layer).file < own_files;
    if own && settings.service.file_descriptor_store_max == 0 {
        let remedy = "add FileDescriptorStoreMax = 16, or as many as there shall be";
        warn(preserve, "nothing is stored".to_owned(), remedy);
    }
    for (socket, row) in settings.sockets.iter().zip(rows) {
        // What supd.toml sets for every socket need not fit each.
        let set = |key: &'static str| {
            let key = Key::Socket(*row, key);
            key.is_set(layer) && key.place(layer).file < own_files
        };
        without_effect(socket, *row, set, &mut warn);
    }
}

fn rights(settings: &Settings, runner: Runner, warn: &mut impl FnMut(Key, String, &str)) {
    let service = &settings.service;
    let user = service.user.as_deref();
    if matches!(user, Some("root" | "0")) || (user.is_none() && runner == Runner::Root) {
        let remedy = "write User = \"…\"; supd binds the port before, so no server needs root for it";
        warn(Key::Service("User"), "the workers run as root".to_owned(), remedy);
    }
}

fn endings(settings: &Settings, warn: &mut impl FnMut(Key, String, &str)) {
    let service = &settings.service;
    if service.kill_signal == Signal::KILL {
        let remedy = "write the signal of a graceful end, as in \"SIGTERM\"";
        warn(Key::Service("KillSignal"), "no graceful end: open connections are cut".to_owned(), remedy);
    }
    if service.timeout_stop == Some(Duration::ZERO) {
        let remedy = "write a time, as in \"5min\"; 0 is not \"never\" here: that is \"infinity\"";
        warn(Key::Service("TimeoutStopSec"), "no graceful end: SIGKILL comes at once".to_owned(), remedy);
    }
    let program = &service.exec_start.program;
    let file_name = program.rsplit('/').next().unwrap_or(program);
    let known = GRACEFUL.iter().find(|(name, _)| is_version_of(file_name, name));
    if let Some((name, graceful)) = known.filter(|(_, graceful)| *graceful != service.kill_signal) {
        let what = format!("{name} ends as it should with {graceful}, not with {}", service.kill_signal);
        warn(Key::Service("KillSignal"), what, &format!("write KillSignal = \"{graceful}\""));
    }
}

/// Whether a file is a program or a version of it: `php-fpm8.2` is `php-fpm`, `httpd-tools` is
/// not `httpd`.
fn is_version_of(file_name: &str, program: &str) -> bool {
    let rest = file_name.strip_prefix(program);
    rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-')))
}

/// Options that the kind of the socket does not have, and a path that anybody may connect to.
fn without_effect(
    socket: &Socket,
    row: usize,
    set: impl Fn(&'static str) -> bool,
    warn: &mut impl FnMut(Key, String, &str),
) {
    let is_path = matches!(socket.address, Address::Unix { .. } | Address::Fifo { .. });
    if is_path && socket.options.mode & 0o002 != 0 {
        let what = "every user of this machine can connect".to_owned();
        warn(Key::Socket(row, "SocketMode"), what, "write \"0660\", and SocketGroup for the clients' group");
    }
    let tcp = matches!(socket.address, Address::Ip { kind: SocketKind::Stream, .. });
    let udp = matches!(socket.address, Address::Ip { kind: SocketKind::Datagram, .. });
    let v6 = matches!(&socket.address, Address::Ip { host, .. } if host.is_ipv6());
    let fifo = matches!(socket.address, Address::Fifo { .. });
    let keys: [(bool, &[&'static str], &str); 7] = [
        (
            tcp,
            &[
                "NoDelay",
                "KeepAlive",
                "KeepAliveTimeSec",
                "KeepAliveIntervalSec",
                "KeepAliveProbes",
                "DeferAcceptSec",
                "TCPCongestion",
            ],
            "TCP",
        ),
        (v6, &["BindIPv6Only"], "IPv6"),
        (tcp || udp, &["FreeBind", "BindToDevice"], "IP"),
        (udp, &["PassPacketInfo"], "UDP"),
        (is_path, &["SocketUser", "SocketGroup", "SocketMode"], "paths"),
        (socket.address.listens(), &["Backlog"], "sockets that accept connections"),
        (!fifo, &["ReceiveBuffer", "SendBuffer"], "sockets, not FIFOs"),
    ];
    for (fits, keys, what_for) in keys {
        for key in keys.iter().filter(|key| !fits && set(key)) {
            let what = format!("{} does not heed it: it is for {what_for}", socket.address);
            warn(Key::Socket(row, key), what, "take it out");
        }
    }
    if tcp && !socket.options.keep_alive {
        for key in ["KeepAliveTimeSec", "KeepAliveIntervalSec", "KeepAliveProbes"] {
            if set(key) {
                warn(Key::Socket(row, key), "it does nothing alone".to_owned(), "add KeepAlive = true");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_version_of;

    #[test]
    fn programs_are_known_by_their_names() {
        assert!(is_version_of("nginx", "nginx"));
        assert!(is_version_of("php-fpm8.2", "php-fpm"));
        assert!(!is_version_of("httpd-tools", "httpd"));
        assert!(!is_version_of("mynginx", "nginx"));
    }
}
