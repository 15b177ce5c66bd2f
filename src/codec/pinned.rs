//! The settings of a generation as JSON: what a relaunch and a rollback go by, whatever became of
//! the unit's file since. Keys are those of the unit file, with every default filled in.

use super::shape::{Misfit, Shape, member, object, shape, shape_words, tagged, variant};
use crate::model::Settings;
use crate::model::settings::{
    BindIpv6Only, CanaryStep, Directory, DirectoryKind, EnvironmentFile, Exclusive, ExitSet, Handoff,
    KillMode, Limit, NotifyAccess, Output, Preserve, ProtectHome, ProtectSystem, Ready, Resource, Restart,
    Retain, Service, Socket, SocketOptions, Start, Swap, WhenDown,
};
use serde_json::Value;
use std::fmt;

/// The number of this format. A file with a higher one is left alone.
pub const FORMAT: u64 = 1;

/// Why pinned settings cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// Not JSON, or cut off.
    Garbled(String),
    /// Written by a later supd.
    Future(u64),
    /// JSON of another shape.
    Misfit(Misfit),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbled(why) => write!(f, "it is no JSON: {why}"),
            Self::Future(format) => {
                write!(f, "it has format {format}, written by a newer supd; this one knows format {FORMAT}")
            }
            Self::Misfit(misfit) => misfit.fmt(f),
        }
    }
}

/// Settings as the text of `settings.json`, and as a record of the ledger carries them: one line,
/// without its end.
#[must_use]
pub fn encode(settings: &Settings) -> String {
    let mut value = settings.write();
    if let Some(map) = value.as_object_mut() {
        map.insert("format".into(), FORMAT.into());
    }
    value.to_string()
}

/// Settings from that text.
///
/// # Errors
/// [`Unreadable`], which says why.
pub fn decode(text: &[u8]) -> Result<Settings, Unreadable> {
    let value: Value = serde_json::from_slice(text).map_err(|e| Unreadable::Garbled(e.to_string()))?;
    let map = object(&value).map_err(Unreadable::Misfit)?;
    match member::<u64>(map, "format").map_err(Unreadable::Misfit)? {
        FORMAT => Settings::read(&value).map_err(Unreadable::Misfit),
        format => Err(Unreadable::Future(format)),
    }
}

shape!(Settings {
    unit: "unit",
    description: "Description",
    control_group: "ControlGroup",
    sockets: "Socket",
    service: "Service",
    swap: "Swap",
});
shape!(Socket { name: "Name", address: "address", bind_as: "BindAs", options: "options" });
shape!(SocketOptions {
    backlog: "Backlog",
    user: "SocketUser",
    group: "SocketGroup",
    mode: "SocketMode",
    bind_ipv6_only: "BindIPv6Only",
    free_bind: "FreeBind",
    no_delay: "NoDelay",
    keep_alive: "KeepAlive",
    keep_alive_time: "KeepAliveTimeSec",
    keep_alive_interval: "KeepAliveIntervalSec",
    keep_alive_probes: "KeepAliveProbes",
    defer_accept: "DeferAcceptSec",
    receive_buffer: "ReceiveBuffer",
    send_buffer: "SendBuffer",
    bind_to_device: "BindToDevice",
    tcp_congestion: "TCPCongestion",
    pass_packet_info: "PassPacketInfo",
});
shape!(Service {
    exec_start: "ExecStart",
    releases: "Releases",
    exec_install: "ExecInstall",
    exec_start_pre: "ExecStartPre",
    exec_start_post: "ExecStartPost",
    exec_reload: "ExecReload",
    reload_signal: "ReloadSignal",
    exec_stop: "ExecStop",
    exec_stop_post: "ExecStopPost",
    exec_on_failure: "ExecOnFailure",
    handoff: "Handoff",
    ready: "Ready",
    ready_settle: "ReadySettleSec",
    start: "Start",
    workers: "Workers",
    user: "User",
    group: "Group",
    supplementary_groups: "SupplementaryGroups",
    working_directory: "WorkingDirectory",
    environment: "Environment",
    environment_files: "EnvironmentFile",
    pass_environment: "PassEnvironment",
    umask: "UMask",
    limits: "Limits",
    nice: "Nice",
    oom_score_adjust: "OOMScoreAdjust",
    no_new_privileges: "NoNewPrivileges",
    ambient_capabilities: "AmbientCapabilities",
    capability_bounding_set: "CapabilityBoundingSet",
    directories: "Directories",
    standard_output: "StandardOutput",
    standard_error: "StandardError",
    syslog_identifier: "SyslogIdentifier",
    notify_access: "NotifyAccess",
    success_exit_status: "SuccessExitStatus",
    restart_prevent_exit_status: "RestartPreventExitStatus",
    pass_listen_pid: "PassListenPID",
    kill_mode: "KillMode",
    log_max_size: "LogMaxSize",
    file_descriptor_store_max: "FileDescriptorStoreMax",
    file_descriptor_store_preserve: "FileDescriptorStorePreserve",
    memory_max: "MemoryMax",
    tasks_max: "TasksMax",
    cpu_quota_percent: "CPUQuota",
    protect_system: "ProtectSystem",
    protect_home: "ProtectHome",
    private_tmp: "PrivateTmp",
    read_write_paths: "ReadWritePaths",
    system_call_filter: "SystemCallFilter",
    timeout_start: "TimeoutStartSec",
    kill_signal: "KillSignal",
    timeout_stop: "TimeoutStopSec",
    restart: "Restart",
    restart_delay: "RestartSec",
    start_limit_burst: "StartLimitBurst",
    start_limit_interval: "StartLimitIntervalSec",
    when_down: "WhenDown",
    watchdog: "WatchdogSec",
    exclusive: "Exclusive",
    traffic_off: "TrafficOff",
    traffic_on: "TrafficOn",
    traffic_settle: "TrafficSettleSec",
});
shape!(Swap {
    retain: "Retain",
    standby: "StandbySec",
    drain: "DrainSec",
    canary: "Canary",
    check_command: "CheckCommand",
    probation: "ProbationSec",
    settle: "SettleSec",
    canary_sticky: "CanarySticky",
    max_generations: "MaxGenerations",
    standby_signal: "StandbySignal",
    active_signal: "ActiveSignal",
    keep_releases: "KeepReleases",
});
shape!(CanaryStep { share: "share", hold: "hold" });
shape!(EnvironmentFile { path: "path", optional: "optional" });
shape!(ExitSet { codes: "codes", signals: "signals" });
shape!(Limit { resource: "resource", soft: "soft", hard: "hard" });
shape!(Directory { kind: "kind", path: "path" });

shape_words!(BindIpv6Only { Default = "default", Both = "both", Ipv6Only = "ipv6-only" });
shape_words!(Handoff { Inherit = "inherit", Intercept = "intercept" });
shape_words!(Start { Boot = "boot", OnDemand = "on-demand", Manual = "manual" });
shape_words!(Restart {
    No = "no",
    OnSuccess = "on-success",
    OnFailure = "on-failure",
    OnAbnormal = "on-abnormal",
    OnAbort = "on-abort",
    OnWatchdog = "on-watchdog",
    Always = "always",
});
shape_words!(WhenDown { Queue = "queue", Refuse = "refuse" });
shape_words!(Exclusive { No = "no", Port = "port", Process = "process" });
shape_words!(NotifyAccess { None = "none", Main = "main", Exec = "exec", All = "all" });
shape_words!(KillMode {
    Orderly = "orderly",
    Mixed = "mixed",
    ControlGroup = "control-group",
    Process = "process",
});
shape_words!(Preserve { No = "no", Restart = "restart", Yes = "yes"; absent Restart });
shape_words!(ProtectSystem { No = "no", Yes = "yes", Full = "full", Strict = "strict" });
shape_words!(ProtectHome { No = "no", Yes = "yes", ReadOnly = "read-only", Tmpfs = "tmpfs" });
shape_words!(DirectoryKind { Runtime = "runtime", State = "state", Cache = "cache", Logs = "logs" });
shape_words!(Retain { Warm = "warm", Cold = "cold", None = "none" });
shape_words!(Resource {
    Cpu = "CPU",
    Fsize = "FSIZE",
    Data = "DATA",
    Stack = "STACK",
    Core = "CORE",
    Rss = "RSS",
    Nofile = "NOFILE",
    As = "AS",
    Nproc = "NPROC",
    Memlock = "MEMLOCK",
    Locks = "LOCKS",
    Sigpending = "SIGPENDING",
    Msgqueue = "MSGQUEUE",
    Nice = "NICE",
    Rtprio = "RTPRIO",
    Rttime = "RTTIME",
});

impl Shape for Ready {
    fn write(&self) -> Value {
        match self {
            Self::Notify => "notify".into(),
            Self::Started => "started".into(),
            Self::Listen => "listen".into(),
            Self::Tcp => "tcp".into(),
            Self::Http(address) => tagged("http", address.write()),
            Self::Command(command) => tagged("command", command.write()),
        }
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        match value.as_str() {
            Some("notify") => return Ok(Self::Notify),
            Some("started") => return Ok(Self::Started),
            Some("listen") => return Ok(Self::Listen),
            Some("tcp") => return Ok(Self::Tcp),
            Some(_) => return Err(Misfit::new("one of notify started listen tcp")),
            None => {}
        }
        match variant(value)? {
            ("http", address) => Ok(Self::Http(Shape::read(address)?)),
            ("command", command) => Ok(Self::Command(Shape::read(command)?)),
            (_, _) => Err(Misfit::new("http or command")),
        }
    }
}

impl Shape for Output {
    fn write(&self) -> Value {
        match self {
            Self::Auto => "auto".into(),
            Self::Journal => "journal".into(),
            Self::Null => "null".into(),
            Self::Inherit => "inherit".into(),
            Self::File(path) => tagged("file", path.write()),
            Self::Append(path) => tagged("append", path.write()),
        }
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        match value.as_str() {
            Some("auto") => return Ok(Self::Auto),
            Some("journal") => return Ok(Self::Journal),
            Some("null") => return Ok(Self::Null),
            Some("inherit") => return Ok(Self::Inherit),
            Some(_) => return Err(Misfit::new("one of auto journal null inherit")),
            None => {}
        }
        match variant(value)? {
            ("file", path) => Ok(Self::File(Shape::read(path)?)),
            ("append", path) => Ok(Self::Append(Shape::read(path)?)),
            (_, _) => Err(Misfit::new("file or append")),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::settings::Command;
    use crate::model::{Address, ListenerName, Signal, SocketKind, UnitName};
    use std::sync::Arc;
    use std::time::Duration;

    pub(crate) fn command(program: &str) -> Command {
        Command { ignore_failure: false, program: program.into(), arguments: vec![] }
    }

    fn socket(name: &str, address: Address) -> Arc<Socket> {
        Arc::new(Socket {
            name: ListenerName::new(name).unwrap(),
            address,
            bind_as: Some("/run/x.sock".into()),
            options: SocketOptions {
                backlog: 4096,
                user: Some("web".into()),
                group: None,
                mode: 0o660,
                bind_ipv6_only: BindIpv6Only::Both,
                free_bind: true,
                no_delay: false,
                keep_alive: true,
                keep_alive_time: Some(Duration::from_secs(7)),
                keep_alive_interval: None,
                keep_alive_probes: Some(3),
                defer_accept: None,
                receive_buffer: Some(1 << 40),
                send_buffer: None,
                bind_to_device: Some("lo".into()),
                tcp_congestion: None,
                pass_packet_info: true,
            },
        })
    }

    fn service() -> Service {
        Service {
            exec_start: command("/bin/server"),
            releases: false,
            exec_install: vec![],
            exec_start_pre: vec![Command { ignore_failure: true, ..command("a") }, command("b")],
            exec_start_post: vec![],
            exec_reload: vec![],
            reload_signal: Some(Signal(1)),
            exec_stop: vec![],
            exec_stop_post: vec![],
            exec_on_failure: vec![],
            handoff: Handoff::Inherit,
            ready: Ready::Notify,
            ready_settle: Duration::from_millis(1500),
            start: Start::Boot,
            workers: 2,
            user: Some("web".into()),
            group: None,
            supplementary_groups: vec!["a".into()],
            working_directory: None,
            environment: vec![("A".into(), "é\n\u{0}\"".into()), ("A".into(), String::new())],
            environment_files: vec![EnvironmentFile { path: "/etc/x".into(), optional: true }],
            pass_environment: vec![],
            umask: 0o22,
            limits: vec![Limit { resource: Resource::Nofile, soft: Some(u64::MAX), hard: None }],
            nice: Some(-5),
            oom_score_adjust: Some(-1000),
            no_new_privileges: true,
            ambient_capabilities: vec![],
            capability_bounding_set: Some(vec![]),
            directories: vec![Directory { kind: DirectoryKind::Cache, path: "a/b".into() }],
            standard_output: Output::Append("/var/log/x".into()),
            standard_error: Output::Inherit,
            syslog_identifier: None,
            notify_access: NotifyAccess::All,
            success_exit_status: ExitSet { codes: vec![3], signals: vec![Signal(12)] },
            restart_prevent_exit_status: ExitSet::default(),
            pass_listen_pid: true,
            kill_mode: KillMode::Mixed,
            log_max_size: 1,
            file_descriptor_store_max: 0,
            file_descriptor_store_preserve: Preserve::Yes,
            memory_max: None,
            tasks_max: None,
            cpu_quota_percent: None,
            protect_system: ProtectSystem::No,
            protect_home: ProtectHome::No,
            private_tmp: false,
            read_write_paths: vec![],
            system_call_filter: vec![],
            timeout_start: None,
            kill_signal: Signal::TERM,
            timeout_stop: Some(Duration::from_secs(300)),
            restart: Restart::OnFailure,
            restart_delay: Duration::from_millis(100),
            start_limit_burst: 5,
            start_limit_interval: Duration::from_secs(10),
            when_down: WhenDown::Queue,
            watchdog: None,
            exclusive: Exclusive::No,
            traffic_off: vec![],
            traffic_on: vec![],
            traffic_settle: Duration::ZERO,
        }
    }

    /// Settings in which nearly every field differs from what an empty value would give.
    pub(crate) fn sample(unit: &str) -> Settings {
        let kind = SocketKind::Stream;
        Settings {
            unit: UnitName::new(unit).unwrap(),
            description: "Public web API".into(),
            control_group: Some("deploy".into()),
            sockets: vec![
                socket("http", Address::Ip { kind, host: "::1".parse().unwrap(), port: 80 }),
                socket("path", Address::Unix { kind, path: "/run/a".into() }),
                socket("name", Address::Abstract { kind: SocketKind::Datagram, name: "a b".into() }),
                socket("pipe", Address::Fifo { path: "/run/f".into() }),
            ],
            service: service(),
            swap: Swap {
                retain: Retain::Cold,
                standby: None,
                drain: Some(Duration::from_secs(30)),
                canary: vec![CanaryStep { share: 500, hold: Duration::from_secs(120) }],
                check_command: Some(command("bin/smoke")),
                probation: Duration::from_secs(10),
                settle: Duration::from_secs(3),
                canary_sticky: true,
                max_generations: 4,
                standby_signal: Some(Signal(37)),
                active_signal: None,
                keep_releases: 5,
            },
        }
    }

    #[test]
    fn every_setting_comes_back() {
        let mut settings = sample("web");
        for (ready, output) in [
            (Ready::Notify, Output::Auto),
            (Ready::Started, Output::Null),
            (Ready::Listen, Output::Journal),
            (Ready::Tcp, Output::File("/x".into())),
            (Ready::Http("http://{http}/health".into()), Output::Auto),
            (Ready::Command(command("c")), Output::Auto),
        ] {
            settings.service.ready = ready;
            settings.service.standard_output = output;
            assert_eq!(decode(encode(&settings).as_bytes()), Ok(settings.clone()));
        }
    }

    #[test]
    fn what_is_cut_off_foreign_or_newer_is_told_apart() {
        let text = encode(&sample("web"));
        assert!(matches!(decode(&text.as_bytes()[..text.len() / 2]), Err(Unreadable::Garbled(_))));
        assert!(matches!(decode(b"{\"format\": 1}"), Err(Unreadable::Misfit(_))));
        assert!(matches!(decode(b"[]"), Err(Unreadable::Misfit(_))));
        let newer = text.replace("\"format\":1", "\"format\":2");
        assert_eq!(decode(newer.as_bytes()), Err(Unreadable::Future(2)));
    }

    #[test]
    fn a_member_of_a_later_supd_is_passed_over() {
        let text = encode(&sample("web")).replacen('{', "{\"Later\": 1,", 1);
        assert_eq!(decode(text.as_bytes()), Ok(sample("web")));
    }
}
