//! The tables of a unit file, their keys, and what to say of a name that is none of them.

use super::foreign;
use super::report::Bad;
use crate::codec::fault::quoted;

/// `[Unit]`
pub(super) const UNIT: &[&str] = &["Description", "ControlGroup"];

/// The keys of which a `[[Socket]]` has exactly one.
pub(super) const LISTEN: &[&str] =
    &["ListenStream", "ListenDatagram", "ListenSequentialPacket", "ListenFIFO"];

/// `[[Socket]]`
pub(super) const SOCKET: &[&str] = &[
    "Name",
    "ListenStream",
    "ListenDatagram",
    "ListenSequentialPacket",
    "ListenFIFO",
    "BindAs",
    "Backlog",
    "SocketUser",
    "SocketGroup",
    "SocketMode",
    "BindIPv6Only",
    "FreeBind",
    "NoDelay",
    "KeepAlive",
    "KeepAliveTimeSec",
    "KeepAliveIntervalSec",
    "KeepAliveProbes",
    "DeferAcceptSec",
    "ReceiveBuffer",
    "SendBuffer",
    "BindToDevice",
    "TCPCongestion",
    "PassPacketInfo",
];

/// `[Service]`
pub(super) const SERVICE: &[&str] = &[
    "ExecStart",
    "Releases",
    "ExecInstall",
    "ExecStartPre",
    "ExecStartPost",
    "ExecReload",
    "ReloadSignal",
    "ExecStop",
    "ExecStopPost",
    "ExecOnFailure",
    "Handoff",
    "Ready",
    "ReadySettleSec",
    "Start",
    "Workers",
    "User",
    "Group",
    "SupplementaryGroups",
    "WorkingDirectory",
    "Environment",
    "EnvironmentFile",
    "PassEnvironment",
    "UMask",
    "LimitCPU",
    "LimitFSIZE",
    "LimitDATA",
    "LimitSTACK",
    "LimitCORE",
    "LimitRSS",
    "LimitNOFILE",
    "LimitAS",
    "LimitNPROC",
    "LimitMEMLOCK",
    "LimitLOCKS",
    "LimitSIGPENDING",
    "LimitMSGQUEUE",
    "LimitNICE",
    "LimitRTPRIO",
    "LimitRTTIME",
    "Nice",
    "OOMScoreAdjust",
    "NoNewPrivileges",
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "RuntimeDirectory",
    "StateDirectory",
    "CacheDirectory",
    "LogsDirectory",
    "StandardOutput",
    "StandardError",
    "SyslogIdentifier",
    "NotifyAccess",
    "SuccessExitStatus",
    "RestartPreventExitStatus",
    "PassListenPID",
    "KillMode",
    "LogMaxSize",
    "FileDescriptorStoreMax",
    "FileDescriptorStorePreserve",
    "MemoryMax",
    "TasksMax",
    "CPUQuota",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "ReadWritePaths",
    "SystemCallFilter",
    "TimeoutStartSec",
    "KillSignal",
    "TimeoutStopSec",
    "Restart",
    "RestartSec",
    "StartLimitBurst",
    "StartLimitIntervalSec",
    "WhenDown",
    "WatchdogSec",
    "Exclusive",
    "TrafficOff",
    "TrafficOn",
    "TrafficSettleSec",
];

/// `[Swap]`
pub(super) const SWAP: &[&str] = &[
    "Retain",
    "StandbySec",
    "DrainSec",
    "Canary",
    "CheckCommand",
    "ProbationSec",
    "SettleSec",
    "CanarySticky",
    "MaxGenerations",
    "StandbySignal",
    "ActiveSignal",
    "KeepReleases",
];

/// Every table with the way it is written in a unit file.
pub(super) const TABLES: [(&str, &str, &[&str]); 4] = [
    ("Unit", "[Unit]", UNIT),
    ("Socket", "[[Socket]]", SOCKET),
    ("Service", "[Service]", SERVICE),
    ("Swap", "[Swap]", SWAP),
];

/// The keys that a table has, in a unit file or in supd.toml.
pub(super) fn own(table: &str) -> &'static [&'static str] {
    if table == "Metrics" { super::METRICS } else { keys_of(table) }
}

/// The keys of `Unit`, `Socket`, `Service` or `Swap`, in the order of the manual.
#[must_use]
pub fn keys_of(table: &str) -> &'static [&'static str] {
    TABLES.iter().find(|(name, _, _)| *name == table).map_or(&[], |(_, _, keys)| keys)
}

/// What only one unit's own file can say; supd.toml holds for all units.
pub(super) const NOT_IN_DEFAULTS: &[(&str, &[&str])] = &[
    ("Unit", &["Description"]),
    ("Socket", &["Name", "ListenStream", "ListenDatagram", "ListenSequentialPacket", "ListenFIFO", "BindAs"]),
    ("Service", &["ExecStart", "ExecInstall"]),
];

/// The table that has this key, as it is written in a unit file.
fn home_of(key: &str) -> Option<&'static str> {
    TABLES.iter().find(|(_, _, keys)| keys.contains(&key)).map(|(_, written, _)| *written)
}

/// What to say of a key that stands before the first table.
pub(super) fn outside_of_tables(key: &str) -> Bad {
    match home_of(key) {
        Some(home) => {
            Bad::new(format!("it belongs under {home}"), format!("write {home} in a line above it"))
        }
        None => {
            Bad::new("it stands before the first table", "write [Service], or the table it is of, above it")
        }
    }
}

/// What to say of a key that systemd has and supd does not; `None` for every other.
pub(super) fn foreign_key(key: &str, value: &str) -> Option<Bad> {
    if home_of(key).is_some() {
        return None;
    }
    foreign::remedy(key, Some(value)).map(|remedy| Bad::new("supd has no such key (systemd does)", remedy))
}

/// What to say of a key that `table` does not have.
pub(super) fn unknown_key(table: &str, key: &str, value: Option<&str>) -> Bad {
    if let Some(home) = home_of(key) {
        return Bad::new(format!("it belongs under {home}, not [{table}]"), "move it there");
    }
    if let Some(bad) = foreign_key(key, value.unwrap_or_default()) {
        return bad;
    }
    if let Some(near) = nearest(key, own(table)) {
        return Bad::new("there is no such key", format!("did you mean {near}?"));
    }
    let others = TABLES.iter().filter(|(name, _, _)| *name != table);
    for (_, written, keys) in others {
        if let Some(near) = nearest(key, keys) {
            return Bad::new("there is no such key", format!("did you mean {near}, under {written}?"));
        }
    }
    Bad::new("there is no such key", "supctl check --keys lists all keys; take the line out")
}

/// What to say of a table that a unit file does not have.
pub(super) fn unknown_table(name: &str) -> Bad {
    if let Some(remedy) = foreign::table_remedy(name) {
        return Bad::new(format!("supd has no [{name}] (systemd does)"), remedy);
    }
    let names: Vec<&str> = TABLES.iter().map(|(name, _, _)| *name).collect();
    let written = |near: &str| TABLES.iter().find(|(name, _, _)| *name == near).map_or("", |table| table.1);
    match nearest(name, &names) {
        Some(near) => Bad::new(
            format!("there is no table {}", quoted(name)),
            format!("did you mean {}?", written(near)),
        ),
        None => Bad::new(
            format!("there is no table {}", quoted(name)),
            "the tables are [Unit], [[Socket]], [Service] and [Swap]",
        ),
    }
}

/// The known word that `text` was most likely meant to be.
///
/// Case does not count; up to a third of the letters may differ. Long texts are nobody's typing
/// error, and comparing them costs the square of their length.
pub(super) fn nearest<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    if text.is_empty() || text.len() > 40 {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let distance = |word: &str| strsim::osa_distance(&lower, &word.to_ascii_lowercase());
    let (best, word) = known.iter().map(|word| (distance(word), *word)).min_by_key(|(best, _)| *best)?;
    (best <= (text.len() / 3).max(1)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::{SERVICE, nearest};

    #[test]
    fn a_typing_error_finds_its_word() {
        for (typed, meant) in [
            ("killsignal", Some("KillSignal")),
            ("KilSignal", Some("KillSignal")),
            ("ExecStrat", Some("ExecStart")),
            ("Usr", Some("User")),
            ("Environments", Some("Environment")),
            ("Frobnicate", None),
            ("", None),
            ("X", None),
        ] {
            assert_eq!(nearest(typed, SERVICE), meant, "{typed}");
        }
        assert_eq!(nearest(&"KillSignal".repeat(100_000), SERVICE), None);
    }
}
