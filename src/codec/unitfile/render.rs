//! The effective settings as TOML, each key with where it comes from.

use super::limits::key_of;
use super::page::{Page, Row, Table, command_list, list, path, signal, span, span_or_infinity, text};
use super::{Loaded, Origin, Origins};
use crate::codec::{size, timespan};
use crate::model::settings::{
    BindIpv6Only, DirectoryKind, Exclusive, ExitSet, Handoff, KillMode, Limit, NotifyAccess, Output,
    Preserve, ProtectHome, ProtectSystem, Ready, Restart, Retain, Service, Settings, Socket, Start, Swap,
    WhenDown,
};
use crate::model::{Address, SocketKind};

/// The effective settings as a unit file: read again, it gives the same settings.
///
/// Keys that are not set and have no value of their own are left out.
#[must_use]
pub fn effective(settings: &Settings) -> String {
    text_of(&rows(settings, None))
}

/// The same with `# file:line` or `# default` behind each key, for people.
#[must_use]
pub fn effective_with_origins(loaded: &Loaded) -> String {
    text_of(&rows(&loaded.settings, Some(&loaded.origins)))
}

/// A unit file of these tables.
fn text_of(tables: &[Table]) -> String {
    let mut text = String::new();
    for table in tables {
        let gap = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{gap}{}\n", table.header()));
        for Row { key, value, origin } in &table.rows {
            let origin = origin.as_ref().map_or(String::new(), |origin| format!("  # {origin}"));
            text.push_str(&format!("{key} = {value}{origin}\n"));
        }
    }
    text
}

/// The effective settings, table by table; with origins where they are known.
#[must_use]
pub fn rows(settings: &Settings, origins: Option<&Origins>) -> Vec<Table> {
    let mut page = Page { tables: Vec::new(), origins };
    page.open("Unit");
    if !settings.description.is_empty() {
        page.row("Description", text(&settings.description));
    }
    page.some("ControlGroup", settings.control_group.as_deref().map(text));
    for one in &settings.sockets {
        page.open(&format!("Socket.{}", one.name));
        socket(&mut page, one);
    }
    page.open("Service");
    commands(&mut page, &settings.service);
    life(&mut page, &settings.service);
    process(&mut page, &settings.service);
    confinement(&mut page, &settings.service);
    page.open("Swap");
    swap(&mut page, &settings.swap);
    page.tables
}

fn socket(page: &mut Page<'_>, socket: &Socket) {
    let options = &socket.options;
    page.row("Name", text(socket.name.as_str()));
    let listen = match (&socket.address, socket.address.kind()) {
        (Address::Fifo { .. }, _) | (_, None) => "ListenFIFO",
        (_, Some(SocketKind::Stream)) => "ListenStream",
        (_, Some(SocketKind::Datagram)) => "ListenDatagram",
        (_, Some(SocketKind::SequentialPacket)) => "ListenSequentialPacket",
    };
    page.row(listen, text(&socket.address.to_string()));
    page.some("BindAs", socket.bind_as.as_deref().map(path));
    page.row("Backlog", options.backlog.to_string());
    page.some("SocketUser", options.user.as_deref().map(text));
    page.some("SocketGroup", options.group.as_deref().map(text));
    page.row("SocketMode", text(&format!("{:04o}", options.mode)));
    page.row(
        "BindIPv6Only",
        text(match options.bind_ipv6_only {
            BindIpv6Only::Default => "default",
            BindIpv6Only::Both => "both",
            BindIpv6Only::Ipv6Only => "ipv6-only",
        }),
    );
    page.row("FreeBind", options.free_bind.to_string());
    page.row("NoDelay", options.no_delay.to_string());
    page.row("KeepAlive", options.keep_alive.to_string());
    page.some("KeepAliveTimeSec", options.keep_alive_time.map(span));
    page.some("KeepAliveIntervalSec", options.keep_alive_interval.map(span));
    page.some("KeepAliveProbes", options.keep_alive_probes.map(|count| count.to_string()));
    page.some("DeferAcceptSec", options.defer_accept.map(span));
    page.some("ReceiveBuffer", options.receive_buffer.map(|bytes| text(&size::format(bytes))));
    page.some("SendBuffer", options.send_buffer.map(|bytes| text(&size::format(bytes))));
    page.some("BindToDevice", options.bind_to_device.as_deref().map(text));
    page.some("TCPCongestion", options.tcp_congestion.as_deref().map(text));
    page.row("PassPacketInfo", options.pass_packet_info.to_string());
}

fn commands(page: &mut Page<'_>, service: &Service) {
    page.row("ExecStart", command_list(std::slice::from_ref(&service.exec_start)));
    page.row("Releases", service.releases.to_string());
    for (key, commands) in [
        ("ExecInstall", &service.exec_install),
        ("ExecStartPre", &service.exec_start_pre),
        ("ExecStartPost", &service.exec_start_post),
        ("ExecReload", &service.exec_reload),
        ("ExecStop", &service.exec_stop),
        ("ExecStopPost", &service.exec_stop_post),
        ("ExecOnFailure", &service.exec_on_failure),
        ("TrafficOff", &service.traffic_off),
        ("TrafficOn", &service.traffic_on),
    ] {
        if !commands.is_empty() {
            page.row(key, command_list(commands));
        }
    }
    page.row("TrafficSettleSec", span(service.traffic_settle));
}

fn life(page: &mut Page<'_>, service: &Service) {
    page.row(
        "Handoff",
        text(match service.handoff {
            Handoff::Inherit => "inherit",
            Handoff::Intercept => "intercept",
        }),
    );
    page.row("Ready", ready(&service.ready));
    page.row("ReadySettleSec", span(service.ready_settle));
    page.row(
        "Start",
        text(match service.start {
            Start::Boot => "boot",
            Start::OnDemand => "on-demand",
            Start::Manual => "manual",
        }),
    );
    page.row("Workers", service.workers.to_string());
    page.row("TimeoutStartSec", span_or_infinity(service.timeout_start));
    page.row(
        "NotifyAccess",
        text(match service.notify_access {
            NotifyAccess::None => "none",
            NotifyAccess::Main => "main",
            NotifyAccess::Exec => "exec",
            NotifyAccess::All => "all",
        }),
    );
    page.row("WatchdogSec", service.watchdog.map_or("0".to_owned(), span));
    page.some("ReloadSignal", service.reload_signal.map(signal));
    page.row("KillSignal", signal(service.kill_signal));
    page.row(
        "KillMode",
        text(match service.kill_mode {
            KillMode::Orderly => "orderly",
            KillMode::Mixed => "mixed",
            KillMode::ControlGroup => "control-group",
            KillMode::Process => "process",
        }),
    );
    page.row("TimeoutStopSec", span_or_infinity(service.timeout_stop));
    page.row("Restart", text(restart(service.restart)));
    page.row("RestartSec", span(service.restart_delay));
    page.row("StartLimitBurst", service.start_limit_burst.to_string());
    page.row("StartLimitIntervalSec", span(service.start_limit_interval));
    page.row(
        "WhenDown",
        text(match service.when_down {
            WhenDown::Queue => "queue",
            WhenDown::Refuse => "refuse",
        }),
    );
    page.row(
        "Exclusive",
        match service.exclusive {
            Exclusive::No => "false",
            Exclusive::Port => "\"port\"",
            Exclusive::Process => "\"process\"",
        },
    );
    page.list("SuccessExitStatus", exits(&service.success_exit_status));
    page.list("RestartPreventExitStatus", exits(&service.restart_prevent_exit_status));
}

fn ready(ready: &Ready) -> String {
    match ready {
        Ready::Notify => text("notify"),
        Ready::Started => text("started"),
        Ready::Listen => text("listen"),
        Ready::Tcp => text("tcp"),
        Ready::Http(url) => text(url),
        // A list even for one word: a text would be taken for one of the words above.
        Ready::Command(command) => command_list(std::slice::from_ref(command)),
    }
}

fn restart(restart: Restart) -> &'static str {
    match restart {
        Restart::No => "no",
        Restart::OnSuccess => "on-success",
        Restart::OnFailure => "on-failure",
        Restart::OnAbnormal => "on-abnormal",
        Restart::OnAbort => "on-abort",
        Restart::OnWatchdog => "on-watchdog",
        Restart::Always => "always",
    }
}

fn exits(set: &ExitSet) -> Vec<String> {
    let codes = set.codes.iter().map(|code| text(&code.to_string()));
    codes.chain(set.signals.iter().map(|one| signal(*one))).collect()
}

fn process(page: &mut Page<'_>, service: &Service) {
    page.some("User", service.user.as_deref().map(text));
    page.some("Group", service.group.as_deref().map(text));
    page.list("SupplementaryGroups", service.supplementary_groups.iter().map(|name| text(name)));
    page.some("WorkingDirectory", service.working_directory.as_deref().map(path));
    for (name, value) in &service.environment {
        // A variable of a table has its own origin, one of a list that of the list.
        let own = format!("Environment.{name}");
        let has_own = page.origins.is_some_and(|origins| origins.of(page.table(), &own) != Origin::Default);
        page.line(&own, if has_own { &own } else { "Environment" }, &text(value));
    }
    page.list(
        "EnvironmentFile",
        service.environment_files.iter().map(|file| {
            let dash = if file.optional { "-" } else { "" };
            text(&format!("{dash}{}", file.path.to_string_lossy()))
        }),
    );
    page.list("PassEnvironment", service.pass_environment.iter().map(|name| text(name)));
    page.row("UMask", text(&format!("{:04o}", service.umask)));
    for limit in &service.limits {
        page.row(key_of(limit.resource), text(&soft_and_hard(limit)));
    }
    page.some("Nice", service.nice.map(|nice| nice.to_string()));
    page.some("OOMScoreAdjust", service.oom_score_adjust.map(|score| score.to_string()));
    page.row("NoNewPrivileges", service.no_new_privileges.to_string());
    page.list("AmbientCapabilities", service.ambient_capabilities.iter().map(|name| text(name)));
    let bounding = service.capability_bounding_set.as_ref();
    page.some("CapabilityBoundingSet", bounding.map(|names| list(names.iter().map(|name| text(name)))));
    for (key, kind) in [
        ("RuntimeDirectory", DirectoryKind::Runtime),
        ("StateDirectory", DirectoryKind::State),
        ("CacheDirectory", DirectoryKind::Cache),
        ("LogsDirectory", DirectoryKind::Logs),
    ] {
        let of_kind = service.directories.iter().filter(|directory| directory.kind == kind);
        page.list(key, of_kind.map(|directory| text(&directory.path)));
    }
    page.row("StandardOutput", output(&service.standard_output));
    page.row("StandardError", output(&service.standard_error));
    page.some("SyslogIdentifier", service.syslog_identifier.as_deref().map(text));
    page.row("LogMaxSize", text(&size::format(service.log_max_size)));
    page.row("PassListenPID", service.pass_listen_pid.to_string());
}

fn soft_and_hard(limit: &Limit) -> String {
    let one = |limit: Option<u64>| limit.map_or("infinity".to_owned(), |limit| limit.to_string());
    format!("{}:{}", one(limit.soft), one(limit.hard))
}

fn output(output: &Output) -> String {
    match output {
        Output::Auto => text("auto"),
        Output::Journal => text("journal"),
        Output::Null => text("null"),
        Output::Inherit => text("inherit"),
        Output::File(path) => text(&format!("file:{}", path.to_string_lossy())),
        Output::Append(path) => text(&format!("append:{}", path.to_string_lossy())),
    }
}

fn confinement(page: &mut Page<'_>, service: &Service) {
    let infinity = || "\"infinity\"".to_owned();
    page.row("FileDescriptorStoreMax", service.file_descriptor_store_max.to_string());
    page.row(
        "FileDescriptorStorePreserve",
        text(match service.file_descriptor_store_preserve {
            Preserve::No => "no",
            Preserve::Restart => "restart",
            Preserve::Yes => "yes",
        }),
    );
    page.row("MemoryMax", service.memory_max.map_or_else(infinity, |bytes| text(&size::format(bytes))));
    page.row("TasksMax", service.tasks_max.map_or_else(infinity, |tasks| tasks.to_string()));
    page.row("CPUQuota", service.cpu_quota_percent.map_or_else(infinity, |share| text(&format!("{share}%"))));
    page.row(
        "ProtectSystem",
        match service.protect_system {
            ProtectSystem::No => "false",
            ProtectSystem::Yes => "true",
            ProtectSystem::Full => "\"full\"",
            ProtectSystem::Strict => "\"strict\"",
        },
    );
    page.row(
        "ProtectHome",
        match service.protect_home {
            ProtectHome::No => "false",
            ProtectHome::Yes => "true",
            ProtectHome::ReadOnly => "\"read-only\"",
            ProtectHome::Tmpfs => "\"tmpfs\"",
        },
    );
    page.row("PrivateTmp", service.private_tmp.to_string());
    page.list("ReadWritePaths", service.read_write_paths.iter().map(|one| path(one)));
    page.list("SystemCallFilter", service.system_call_filter.iter().map(|name| text(name)));
}

fn swap(page: &mut Page<'_>, swap: &Swap) {
    page.row(
        "Retain",
        text(match swap.retain {
            Retain::Warm => "warm",
            Retain::Cold => "cold",
            Retain::None => "none",
        }),
    );
    page.row("StandbySec", span_or_infinity(swap.standby));
    page.row("DrainSec", span_or_infinity(swap.drain));
    page.list(
        "Canary",
        swap.canary.iter().map(|step| {
            let (whole, parts) = (step.share / 100, step.share % 100);
            text(&format!("{whole}.{parts:02}% {}", timespan::format(step.hold)))
        }),
    );
    page.some("CheckCommand", swap.check_command.as_ref().map(|one| command_list(std::slice::from_ref(one))));
    page.row("ProbationSec", span(swap.probation));
    page.row("SettleSec", span(swap.settle));
    page.row("CanarySticky", swap.canary_sticky.to_string());
    page.row("MaxGenerations", swap.max_generations.to_string());
    page.row("StandbySignal", swap.standby_signal.map_or("\"none\"".to_owned(), signal));
    page.row("ActiveSignal", swap.active_signal.map_or("\"none\"".to_owned(), signal));
    page.row("KeepReleases", swap.keep_releases.to_string());
}
