//! A unit's settings with every default filled in: what section 3 of the design names, as types.
//!
//! An infinite time ("infinity" in the file) is `None`.

use super::address::{Address, SocketKind};
use super::id::{ListenerName, UnitName};
use super::signal::Signal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything that a unit file, its drop-ins and supd.toml say about one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The unit's name, from the file's name.
    pub unit: UnitName,
    /// Description: one line for people.
    pub description: String,
    /// ControlGroup: this group may act on this unit.
    pub control_group: Option<String>,
    /// `[[Socket]]`, in the order of the file: descriptor 3 is the first. Who holds the listener
    /// shares its settings.
    pub sockets: Vec<Arc<Socket>>,
    /// `[Service]`
    pub service: Service,
    /// `[Swap]`
    pub swap: Swap,
}

impl Settings {
    /// Whether every listener is a path, which leads to one generation at a time.
    #[must_use]
    pub fn is_by_path_alone(&self) -> bool {
        let path = |socket: &Arc<Socket>| {
            let streams = [SocketKind::Stream, SocketKind::SequentialPacket];
            matches!(&socket.address, Address::Unix { kind, .. } if streams.contains(kind))
        };
        !self.sockets.is_empty() && self.sockets.iter().all(path)
    }
}

/// One `[[Socket]]`: a listener to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Name: LISTEN_FDNAMES.
    pub name: ListenerName,
    /// ListenStream, ListenDatagram, ListenSequentialPacket or ListenFIFO.
    pub address: Address,
    /// BindAs: the path that an intercepted server binds.
    pub bind_as: Option<PathBuf>,
    /// Everything else.
    pub options: SocketOptions,
}

/// Options of a listener, all of them applied before the first client can connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// Backlog; the kernel caps it by net.core.somaxconn.
    pub backlog: u32,
    /// SocketUser: owner of a UNIX path or FIFO, by name or number.
    pub user: Option<String>,
    /// SocketGroup
    pub group: Option<String>,
    /// SocketMode, permission bits.
    pub mode: u32,
    /// BindIPv6Only
    pub bind_ipv6_only: BindIpv6Only,
    /// FreeBind: IP_FREEBIND
    pub free_bind: bool,
    /// NoDelay: TCP_NODELAY
    pub no_delay: bool,
    /// KeepAlive: SO_KEEPALIVE
    pub keep_alive: bool,
    /// KeepAliveTimeSec: TCP_KEEPIDLE, whole seconds.
    pub keep_alive_time: Option<Duration>,
    /// KeepAliveIntervalSec: TCP_KEEPINTVL, whole seconds.
    pub keep_alive_interval: Option<Duration>,
    /// KeepAliveProbes: TCP_KEEPCNT
    pub keep_alive_probes: Option<u32>,
    /// DeferAcceptSec: TCP_DEFER_ACCEPT, whole seconds.
    pub defer_accept: Option<Duration>,
    /// ReceiveBuffer: SO_RCVBUF in bytes.
    pub receive_buffer: Option<u64>,
    /// SendBuffer: SO_SNDBUF in bytes.
    pub send_buffer: Option<u64>,
    /// BindToDevice: SO_BINDTODEVICE
    pub bind_to_device: Option<String>,
    /// TCPCongestion: TCP_CONGESTION
    pub tcp_congestion: Option<String>,
    /// PassPacketInfo: IP_PKTINFO, IPV6_RECVPKTINFO
    pub pass_packet_info: bool,
}

/// BindIPv6Only of systemd.socket(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindIpv6Only {
    /// What net.ipv6.bindv6only says.
    Default,
    /// IPv4 clients too, as mapped addresses.
    Both,
    /// IPv6 only.
    Ipv6Only,
}

/// One command line. No shell; `${VAR}` is filled in at the launch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Command {
    /// A leading `-`: a failure is noted and ignored.
    pub ignore_failure: bool,
    /// `argv[0]` as written: absolute, relative with a slash, or to be looked up in PATH.
    pub program: String,
    /// `argv[1..]`, variables not yet filled in.
    pub arguments: Vec<String>,
}

/// How a worker gets its listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handoff {
    /// LISTEN_FDS
    Inherit,
    /// supd answers its bind(2).
    Intercept,
}

/// When a worker counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// READY=1
    Notify,
    /// execve(2) succeeded.
    Started,
    /// Every listener of the unit is listened on.
    Listen,
    /// Its generation has accepted a connection at every TCP and UNIX stream listener. Of several workers it
    /// is whichever is first, as with all that clients bring.
    Tcp,
    /// A GET of this address answers with 2xx. `{name}` stands for a listener, at which its generation is
    /// asked, and no other.
    Http(String),
    /// A command that ends with 0.
    Command(Command),
}

/// What launches a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The boot of the machine.
    Boot,
    /// The first connection.
    OnDemand,
    /// A person.
    Manual,
}

/// After which exits a worker is relaunched (systemd.service(5), Restart=).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    No,
    /// A clean exit only.
    OnSuccess,
    /// An unclean exit, a signal, a time-out or the watchdog.
    OnFailure,
    /// A signal, a time-out or the watchdog.
    OnAbnormal,
    /// A signal that is no clean end.
    OnAbort,
    /// The watchdog only.
    OnWatchdog,
    /// Always.
    Always,
}

/// What becomes of connections while nobody runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenDown {
    /// They wait in the queue during RestartSec, and are refused once the start limit is hit.
    Queue,
    /// They are refused.
    Refuse,
}

/// Servers of which two cannot live together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusive {
    /// They can.
    No,
    /// Two may run, one may bind.
    Port,
    /// One may run.
    Process,
}

/// Whose notify messages count (systemd.service(5), NotifyAccess=).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotifyAccess {
    /// Nobody's.
    None,
    /// The main process's.
    Main,
    /// The main process's and those of commands that supd runs for the unit.
    Exec,
    /// Those of every process of the generation.
    All,
}

/// Who is told to stop (systemd.kill(5), KillMode=).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillMode {
    /// KillSignal to the main process; what is left after its exit gets it then, and SIGKILL at
    /// the end. systemd has no word for it. The default: a server's children finish what their parent
    /// gave them, and that of a shell which waits for it is told to stop at all.
    Orderly,
    /// KillSignal to the main process, SIGKILL to what is left after its exit.
    Mixed,
    /// KillSignal to every process of the generation, SIGKILL to what is left at the end.
    ControlGroup,
    /// The main process only, be it KillSignal or SIGKILL.
    Process,
}

/// FileDescriptorStorePreserve of systemd.service(5): how far the descriptors go that a generation's workers
/// have stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preserve {
    /// To the next run of the same worker of the same generation.
    No,
    /// To the generation that takes its place as well, or that goes back to it.
    Restart,
    /// Over a stop as well, to what is started then.
    Yes,
}

/// StandardOutput and StandardError.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The journal, if supd's own messages go there; else the generation's log file.
    Auto,
    /// The journal; the generation's log file where it does not answer.
    Journal,
    /// Written from the start of the file.
    File(PathBuf),
    /// Written at the end of the file.
    Append(PathBuf),
    /// /dev/null
    Null,
    /// StandardError: where StandardOutput goes. StandardOutput: where supd's own goes.
    Inherit,
}

/// One soft and hard limit (setrlimit(2)); `None` is infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Which resource.
    pub resource: Resource,
    /// The limit in force.
    pub soft: Option<u64>,
    /// How far the process itself may raise it.
    pub hard: Option<u64>,
}

/// The resources of setrlimit(2), by the names that systemd's Limit* keys have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "setrlimit(2) documents each")]
pub enum Resource {
    Cpu,
    Fsize,
    Data,
    Stack,
    Core,
    Rss,
    Nofile,
    As,
    Nproc,
    Memlock,
    Locks,
    Sigpending,
    Msgqueue,
    Nice,
    Rtprio,
    Rttime,
}

/// Exits by number and signals: SuccessExitStatus and RestartPreventExitStatus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitSet {
    /// Exit statuses.
    pub codes: Vec<i32>,
    /// Signals.
    pub signals: Vec<Signal>,
}

/// A file of environment assignments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentFile {
    /// Absolute path.
    pub path: PathBuf,
    /// A leading `-`: it may be missing.
    pub optional: bool,
}

/// RuntimeDirectory and its sisters: made before the launch, owned by User.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Which root it is under.
    pub kind: DirectoryKind,
    /// Relative to that root.
    pub path: String,
}

/// The roots of systemd.exec(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DirectoryKind {
    /// /run, RUNTIME_DIRECTORY
    Runtime,
    /// /var/lib, STATE_DIRECTORY
    State,
    /// /var/cache, CACHE_DIRECTORY
    Cache,
    /// /var/log, LOGS_DIRECTORY
    Logs,
}

/// ProtectSystem of systemd.exec(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtectSystem {
    /// Nothing is protected.
    No,
    /// /usr and /boot are read-only.
    Yes,
    /// /etc too.
    Full,
    /// Everything but /dev, /proc and /sys.
    Strict,
}

/// ProtectHome of systemd.exec(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtectHome {
    /// Nothing is protected.
    No,
    /// Inaccessible.
    Yes,
    /// Read-only.
    ReadOnly,
    /// Empty.
    Tmpfs,
}

/// `[Service]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// ExecStart
    pub exec_start: Command,
    /// Releases
    pub releases: bool,
    /// ExecInstall
    pub exec_install: Vec<Command>,
    /// ExecStartPre: one after the other; a failure fails the launch.
    pub exec_start_pre: Vec<Command>,
    /// ExecStartPost: after ready.
    pub exec_start_post: Vec<Command>,
    /// ExecReload
    pub exec_reload: Vec<Command>,
    /// ReloadSignal
    pub reload_signal: Option<Signal>,
    /// ExecStop: before KillSignal.
    pub exec_stop: Vec<Command>,
    /// ExecStopPost: after the exit.
    pub exec_stop_post: Vec<Command>,
    /// ExecOnFailure
    pub exec_on_failure: Vec<Command>,
    /// Handoff
    pub handoff: Handoff,
    /// Ready
    pub ready: Ready,
    /// ReadySettleSec
    pub ready_settle: Duration,
    /// Start
    pub start: Start,
    /// Workers, at least 1.
    pub workers: u32,
    /// User, by name or number; `None`: supd's own.
    pub user: Option<String>,
    /// Group
    pub group: Option<String>,
    /// SupplementaryGroups
    pub supplementary_groups: Vec<String>,
    /// WorkingDirectory; `None`: the release's directory, else `/`.
    pub working_directory: Option<PathBuf>,
    /// Environment
    pub environment: Vec<(String, String)>,
    /// EnvironmentFile, read at each launch.
    pub environment_files: Vec<EnvironmentFile>,
    /// PassEnvironment
    pub pass_environment: Vec<String>,
    /// UMask
    pub umask: u32,
    /// LimitNOFILE and its sisters.
    pub limits: Vec<Limit>,
    /// Nice
    pub nice: Option<i32>,
    /// OOMScoreAdjust
    pub oom_score_adjust: Option<i32>,
    /// NoNewPrivileges
    pub no_new_privileges: bool,
    /// AmbientCapabilities: names such as CAP_NET_ADMIN.
    pub ambient_capabilities: Vec<String>,
    /// CapabilityBoundingSet; `None`: untouched.
    pub capability_bounding_set: Option<Vec<String>>,
    /// RuntimeDirectory, StateDirectory, CacheDirectory, LogsDirectory.
    pub directories: Vec<Directory>,
    /// StandardOutput
    pub standard_output: Output,
    /// StandardError
    pub standard_error: Output,
    /// SyslogIdentifier; `None`: the unit's name.
    pub syslog_identifier: Option<String>,
    /// NotifyAccess
    pub notify_access: NotifyAccess,
    /// SuccessExitStatus: clean besides 0, SIGHUP, SIGINT, SIGTERM and SIGPIPE.
    pub success_exit_status: ExitSet,
    /// RestartPreventExitStatus
    pub restart_prevent_exit_status: ExitSet,
    /// PassListenPID
    pub pass_listen_pid: bool,
    /// KillMode
    pub kill_mode: KillMode,
    /// LogMaxSize in bytes.
    pub log_max_size: u64,
    /// FileDescriptorStoreMax
    pub file_descriptor_store_max: u32,
    /// FileDescriptorStorePreserve
    pub file_descriptor_store_preserve: Preserve,
    /// MemoryMax in bytes.
    pub memory_max: Option<u64>,
    /// TasksMax
    pub tasks_max: Option<u64>,
    /// CPUQuota in percent of one processor.
    pub cpu_quota_percent: Option<u32>,
    /// ProtectSystem
    pub protect_system: ProtectSystem,
    /// ProtectHome
    pub protect_home: ProtectHome,
    /// PrivateTmp
    pub private_tmp: bool,
    /// ReadWritePaths
    pub read_write_paths: Vec<PathBuf>,
    /// SystemCallFilter
    pub system_call_filter: Vec<String>,
    /// TimeoutStartSec
    pub timeout_start: Option<Duration>,
    /// KillSignal
    pub kill_signal: Signal,
    /// TimeoutStopSec
    pub timeout_stop: Option<Duration>,
    /// Restart
    pub restart: Restart,
    /// RestartSec: the first delay; it doubles with each relaunch that does not hold.
    pub restart_delay: Duration,
    /// StartLimitBurst; 0 switches the limit off.
    pub start_limit_burst: u32,
    /// StartLimitIntervalSec
    pub start_limit_interval: Duration,
    /// WhenDown
    pub when_down: WhenDown,
    /// WatchdogSec; zero is off and `None` here.
    pub watchdog: Option<Duration>,
    /// Exclusive
    pub exclusive: Exclusive,
    /// TrafficOff
    pub traffic_off: Vec<Command>,
    /// TrafficOn
    pub traffic_on: Vec<Command>,
    /// TrafficSettleSec
    pub traffic_settle: Duration,
}

/// What becomes of the previous generation at commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retain {
    /// It stays alive.
    Warm,
    /// Its release stays.
    Cold,
    /// Nothing stays.
    None,
}

/// One step of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanaryStep {
    /// Share in hundredths of a percent: 1 to 10,000.
    pub share: u16,
    /// How long it lasts.
    pub hold: Duration,
}

/// `[Swap]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// Retain
    pub retain: Retain,
    /// StandbySec
    pub standby: Option<Duration>,
    /// DrainSec
    pub drain: Option<Duration>,
    /// Canary
    pub canary: Vec<CanaryStep>,
    /// CheckCommand
    pub check_command: Option<Command>,
    /// ProbationSec
    pub probation: Duration,
    /// SettleSec
    pub settle: Duration,
    /// CanarySticky
    pub canary_sticky: bool,
    /// MaxGenerations
    pub max_generations: u32,
    /// StandbySignal
    pub standby_signal: Option<Signal>,
    /// ActiveSignal
    pub active_signal: Option<Signal>,
    /// KeepReleases
    pub keep_releases: u32,
}
