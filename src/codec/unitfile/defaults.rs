//! What holds where a unit file says nothing: every default of supd in one place.

use crate::model::Signal;
use crate::model::settings::{
    BindIpv6Only, Command, Exclusive, ExitSet, Handoff, KillMode, NotifyAccess, Output, Preserve,
    ProtectHome, ProtectSystem, Ready, Restart, Retain, Service, SocketOptions, Start, Swap, WhenDown,
};
use std::time::Duration;

/// No command yet: a unit without ExecStart is refused.
pub(super) const NO_COMMAND: Command =
    Command { ignore_failure: false, program: String::new(), arguments: Vec::new() };

/// `[[Socket]]`
pub(super) const SOCKET: SocketOptions = SocketOptions {
    backlog: 4096,
    user: None,
    group: None,
    // systemd's 0666 lets every local user connect; whoever needs that can write it.
    mode: 0o660,
    bind_ipv6_only: BindIpv6Only::Default,
    free_bind: false,
    no_delay: false,
    keep_alive: false,
    keep_alive_time: None,
    keep_alive_interval: None,
    keep_alive_probes: None,
    defer_accept: None,
    receive_buffer: None,
    send_buffer: None,
    bind_to_device: None,
    tcp_congestion: None,
    pass_packet_info: false,
};

/// `[Service]`; Ready and Releases depend on other keys where they are not set.
pub(super) const SERVICE: Service = Service {
    exec_start: NO_COMMAND,
    releases: false,
    exec_install: Vec::new(),
    exec_start_pre: Vec::new(),
    exec_start_post: Vec::new(),
    exec_reload: Vec::new(),
    reload_signal: None,
    exec_stop: Vec::new(),
    exec_stop_post: Vec::new(),
    exec_on_failure: Vec::new(),
    handoff: Handoff::Inherit,
    ready: Ready::Notify,
    ready_settle: Duration::from_secs(1),
    start: Start::Boot,
    workers: 1,
    user: None,
    group: None,
    supplementary_groups: Vec::new(),
    working_directory: None,
    environment: Vec::new(),
    environment_files: Vec::new(),
    pass_environment: Vec::new(),
    umask: 0o022,
    limits: Vec::new(),
    nice: None,
    oom_score_adjust: None,
    no_new_privileges: false,
    ambient_capabilities: Vec::new(),
    capability_bounding_set: None,
    directories: Vec::new(),
    standard_output: Output::Auto,
    standard_error: Output::Inherit,
    syslog_identifier: None,
    notify_access: NotifyAccess::All,
    success_exit_status: ExitSet { codes: Vec::new(), signals: Vec::new() },
    restart_prevent_exit_status: ExitSet { codes: Vec::new(), signals: Vec::new() },
    pass_listen_pid: true,
    kill_mode: KillMode::Orderly,
    log_max_size: 16 << 20,
    file_descriptor_store_max: 0,
    file_descriptor_store_preserve: Preserve::Restart,
    memory_max: None,
    tasks_max: None,
    cpu_quota_percent: None,
    protect_system: ProtectSystem::No,
    protect_home: ProtectHome::No,
    private_tmp: false,
    read_write_paths: Vec::new(),
    system_call_filter: Vec::new(),
    timeout_start: Some(Duration::from_secs(30)),
    kill_signal: Signal::TERM,
    timeout_stop: Some(Duration::from_secs(5 * 60)),
    restart: Restart::OnFailure,
    restart_delay: Duration::from_millis(100),
    start_limit_burst: 5,
    start_limit_interval: Duration::from_secs(10),
    when_down: WhenDown::Queue,
    watchdog: None,
    exclusive: Exclusive::No,
    traffic_off: Vec::new(),
    traffic_on: Vec::new(),
    traffic_settle: Duration::ZERO,
};

/// `[Swap]`
pub(super) const SWAP: Swap = Swap {
    retain: Retain::Cold,
    standby: Some(Duration::from_secs(60 * 60)),
    drain: Some(Duration::from_secs(30)),
    canary: Vec::new(),
    check_command: None,
    probation: Duration::from_secs(10),
    settle: Duration::from_secs(3),
    canary_sticky: false,
    max_generations: 4,
    standby_signal: None,
    active_signal: None,
    keep_releases: 5,
};
