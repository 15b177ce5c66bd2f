//! `[Service]`: how workers live. How each process is set up is in `process`.

use super::document::{Node, Value};
use super::layer::Rows;
use super::report::{Reading, Report, bad};
use super::section::Section;
use super::values::{
    STOP, boolean, each_word, integer, signal, size, size_or_infinity, span, span_or_infinity, switch,
    unsigned, word,
};
use super::{defaults, exits, process, ready};
use crate::codec::timespan;
use crate::model::Signal;
use crate::model::settings::{
    Exclusive, Handoff, KillMode, NotifyAccess, Preserve, ProtectHome, ProtectSystem, Ready, Restart,
    Service, Start, WhenDown,
};
use std::time::Duration;

/// The most workers of one generation.
const WORKERS_MAX: u32 = 1024;

pub(super) fn read(rows: &Rows, report: &mut Report<'_>) -> Service {
    let mut section = Section::new(rows, report);
    let mut service = defaults::SERVICE;
    commands(&mut section, &mut service);
    starting(&mut section, &mut service);
    stopping(&mut section, &mut service);
    process::read(&mut section, &mut service);
    confinement(&mut section, &mut service);
    service
}

fn commands(section: &mut Section<'_, '_>, service: &mut Service) {
    if let Some(command) = section.command("ExecStart") {
        service.exec_start = command;
    }
    section.set_commands(&mut service.exec_install, "ExecInstall");
    section.set_commands(&mut service.exec_start_pre, "ExecStartPre");
    section.set_commands(&mut service.exec_start_post, "ExecStartPost");
    section.set_commands(&mut service.exec_reload, "ExecReload");
    section.set_commands(&mut service.exec_stop, "ExecStop");
    section.set_commands(&mut service.exec_stop_post, "ExecStopPost");
    section.set_commands(&mut service.exec_on_failure, "ExecOnFailure");
    section.set_commands(&mut service.traffic_off, "TrafficOff");
    section.set_commands(&mut service.traffic_on, "TrafficOn");
    section.set(&mut service.traffic_settle, "TrafficSettleSec", span);
}

fn starting(section: &mut Section<'_, '_>, service: &mut Service) {
    section.set(&mut service.handoff, "Handoff", |node| {
        word(node, &[("inherit", Handoff::Inherit), ("intercept", Handoff::Intercept)])
    });
    if service.handoff == Handoff::Intercept {
        service.ready = Ready::Listen;
    }
    let mut warnings = Vec::new();
    section.set(&mut service.ready, "Ready", |node| ready::read(node, &mut warnings));
    for warning in warnings {
        section.report.warn(section.rows.place("Ready"), "Ready", warning);
    }
    // A program with a slash that is not absolute is one of the release.
    service.releases = is_in_release(&service.exec_start.program);
    section.set(&mut service.releases, "Releases", boolean);
    section.set(&mut service.ready_settle, "ReadySettleSec", span);
    section.set(&mut service.start, "Start", |node| {
        word(node, &[("boot", Start::Boot), ("on-demand", Start::OnDemand), ("manual", Start::Manual)])
    });
    section.set(&mut service.workers, "Workers", |node| unsigned(node, 1..=WORKERS_MAX));
    section.set(&mut service.timeout_start, "TimeoutStartSec", |node| match span_or_infinity(node)? {
        Some(Duration::ZERO) => {
            bad("no time at all fails every start", "write a time, or \"infinity\" for no limit")
        }
        span => Ok(span),
    });
    section.set(&mut service.notify_access, "NotifyAccess", |node| {
        use NotifyAccess::{All, Exec, Main, None};
        word(node, &[("none", None), ("main", Main), ("exec", Exec), ("all", All)])
    });
    section.set(&mut service.watchdog, "WatchdogSec", |node| {
        Ok(span_or_infinity(node)?.filter(|span| *span > Duration::ZERO))
    });
}

/// Whether a program is found in the release's directory: relative, with a slash.
pub(super) fn is_in_release(program: &str) -> bool {
    program.contains('/') && !program.starts_with('/')
}

fn stopping(section: &mut Section<'_, '_>, service: &mut Service) {
    section.set_some(&mut service.reload_signal, "ReloadSignal", |node| match signal(node)? {
        deadly @ (Signal::KILL | STOP) => {
            bad(format!("{deadly} cannot be handled"), "write the signal that reloads it, as in \"SIGHUP\"")
        }
        signal => Ok(signal),
    });
    section.set(&mut service.kill_signal, "KillSignal", |node| match signal(node)? {
        harmless @ (STOP | Signal::CONT) => {
            bad(format!("{harmless} ends nothing"), "write the signal for a graceful end, as in \"SIGTERM\"")
        }
        signal => Ok(signal),
    });
    section.set(&mut service.timeout_stop, "TimeoutStopSec", span_or_infinity);
    section.set(&mut service.kill_mode, "KillMode", |node| {
        if matches!(&node.value, Value::Text(text) if text == "none") {
            return bad("a worker that is not told to stop never does", "write \"process\", or \"mixed\"");
        }
        use KillMode::{ControlGroup, Mixed, Orderly, Process};
        let words =
            [("orderly", Orderly), ("mixed", Mixed), ("control-group", ControlGroup), ("process", Process)];
        word(node, &words)
    });
    section.set(&mut service.restart, "Restart", |node| {
        word(
            node,
            &[
                ("no", Restart::No),
                ("on-success", Restart::OnSuccess),
                ("on-failure", Restart::OnFailure),
                ("on-abnormal", Restart::OnAbnormal),
                ("on-abort", Restart::OnAbort),
                ("on-watchdog", Restart::OnWatchdog),
                ("always", Restart::Always),
            ],
        )
    });
    section.set(&mut service.restart_delay, "RestartSec", restart_delay);
    section.set(&mut service.start_limit_burst, "StartLimitBurst", |node| unsigned(node, 0..=1000));
    section.set(&mut service.start_limit_interval, "StartLimitIntervalSec", |node| match span(node)? {
        Duration::ZERO => bad("an interval of no time", "write StartLimitBurst = 0 for no limit"),
        span => Ok(span),
    });
    section.set(&mut service.when_down, "WhenDown", |node| {
        word(node, &[("queue", WhenDown::Queue), ("refuse", WhenDown::Refuse)])
    });
    section.set(&mut service.exclusive, "Exclusive", |node| {
        switch(node, Exclusive::No, None, &[("port", Exclusive::Port), ("process", Exclusive::Process)])
    });
    section.set(&mut service.success_exit_status, "SuccessExitStatus", exits::read);
    section.set(&mut service.restart_prevent_exit_status, "RestartPreventExitStatus", exits::read);
}

/// The first delay. It doubles, so it must not be nothing; and it must not outgrow an hour at once.
fn restart_delay(node: &Node) -> Reading<Duration> {
    let (least, most) = (Duration::from_millis(1), Duration::from_secs(3600));
    let span = span(node)?;
    if (least..=most).contains(&span) {
        return Ok(span);
    }
    let limits =
        format!("write a time from \"{}\" to \"{}\"", timespan::format(least), timespan::format(most));
    bad(format!("{} is out of range", timespan::format(span)), limits)
}

fn confinement(section: &mut Section<'_, '_>, service: &mut Service) {
    section.set(&mut service.file_descriptor_store_max, "FileDescriptorStoreMax", |node| {
        unsigned(node, 0..=4096)
    });
    section.set(&mut service.file_descriptor_store_preserve, "FileDescriptorStorePreserve", |node| {
        // systemd takes its words for yes and no as well.
        match &node.value {
            Value::Boolean(flag) => Ok(if *flag { Preserve::Yes } else { Preserve::No }),
            _ => word(node, &[("no", Preserve::No), ("restart", Preserve::Restart), ("yes", Preserve::Yes)]),
        }
    });
    section.set(&mut service.memory_max, "MemoryMax", |node| match size_or_infinity(node)? {
        Some(bytes) if bytes < 1 << 20 => bad("no program runs in less than 1M", "write a larger size"),
        size => Ok(size),
    });
    section.set(&mut service.tasks_max, "TasksMax", |node| {
        if matches!(&node.value, Value::Text(text) if text == "infinity") {
            return Ok(None);
        }
        // PID_MAX_LIMIT of linux/threads.h.
        integer(node, 1..=4_194_304).map(|tasks| u64::try_from(tasks).ok())
    });
    section.set(&mut service.cpu_quota_percent, "CPUQuota", cpu_quota);
    section.set(&mut service.protect_system, "ProtectSystem", |node| {
        use ProtectSystem::{Full, No, Strict, Yes};
        switch(node, No, Some(Yes), &[("full", Full), ("strict", Strict)])
    });
    section.set(&mut service.protect_home, "ProtectHome", |node| {
        use ProtectHome::{No, ReadOnly, Tmpfs, Yes};
        switch(node, No, Some(Yes), &[("read-only", ReadOnly), ("tmpfs", Tmpfs)])
    });
    section.set(&mut service.private_tmp, "PrivateTmp", boolean);
    section.set(&mut service.read_write_paths, "ReadWritePaths", process::writable);
    section.set(&mut service.system_call_filter, "SystemCallFilter", |node| {
        each_word(node, process::system_call)
    });
}

/// Percent of one processor; more than 100% is more than one.
fn cpu_quota(node: &Node) -> Reading<Option<u32>> {
    const REMEDY: &str = "write a share of one processor in whole percent, as in \"150%\"";
    match &node.value {
        Value::Text(text) if text == "infinity" => Ok(None),
        Value::Text(text) => match super::values::percent(text) {
            Some(hundredths) if hundredths >= 100 && hundredths % 100 == 0 => Ok(Some(hundredths / 100)),
            _ => bad(format!("{} is no such share", crate::codec::fault::quoted(text)), REMEDY),
        },
        other => bad(format!("{} where a share is wanted", other.kind()), REMEDY),
    }
}

/// LogMaxSize: below a page nothing can be told, and without an end the disk fills.
pub(super) fn log_size(node: &Node) -> Reading<u64> {
    size(node, (64 << 10)..=(1 << 40))
}
