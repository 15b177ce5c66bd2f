//! What may differ between the units of a simulation: one small number for each key of the unit
//! file, so that a scenario can name it, a seed can draw it and the shrinker can reset it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use supd::model::settings::{
    BindIpv6Only, CanaryStep, Command, Exclusive, ExitSet, Handoff, KillMode, NotifyAccess, Output, Preserve,
    ProtectHome, ProtectSystem, Ready, Restart, Retain, Service, Socket, SocketOptions, Start, Swap,
    WhenDown,
};
use supd::model::{Address, ListenerName, Settings, Signal, SocketKind, UnitName};

macro_rules! knobs {
    ($($Knob:ident $key:literal [$($value:literal)+],)+) => {
        /// One key; its values are words, the first is the default.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Knob { $($Knob,)+ }

        impl Knob {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$Knob),+];

            pub(crate) fn key(self) -> &'static str {
                match self { $(Self::$Knob => $key,)+ }
            }

            pub(crate) fn words(self) -> &'static [&'static str] {
                match self { $(Self::$Knob => &[$($value),+],)+ }
            }
        }
    };
}

knobs! {
    Start "start" ["boot" "on-demand" "manual"],
    Workers "workers" ["1" "2" "3"],
    Ready "ready" ["notify" "started" "command" "listen"],
    Settle "settle" ["0s" "1s"],
    Restart "restart" ["on-failure" "always" "no" "on-success" "on-abnormal" "on-abort" "on-watchdog"],
    RestartSec "restart-sec" ["100ms" "2s" "0s"],
    Burst "burst" ["5" "2" "0"],
    Interval "interval" ["10s" "60s"],
    WhenDown "when-down" ["queue" "refuse"],
    Retain "retain" ["cold" "none" "warm"],
    Canary "canary" ["no" "one" "two"],
    Probation "probation" ["10s" "0s"],
    Check "check" ["no" "yes"],
    Pre "pre" ["no" "one" "two" "ignored"],
    Post "post" ["no" "one"],
    Stop "stop" ["no" "one"],
    StopPost "stop-post" ["no" "one"],
    Reload "reload" ["no" "command" "signal"],
    OnFailure "on-failure" ["no" "one" "two"],
    Watchdog "watchdog" ["no" "5s"],
    TimeoutStart "timeout-start" ["30s" "infinity"],
    TimeoutStop "timeout-stop" ["20s" "infinity" "0s"],
    Steered "steered" ["no" "yes"],
    Drain "drain" ["5s" "0s" "infinity"],
    KillMode "kill-mode" ["orderly" "control-group" "process" "mixed"],
    KillSignal "kill-signal" ["TERM" "INT"],
    Success "success" ["no" "3"],
    Prevent "prevent" ["no" "4"],
    Sockets "sockets" ["one" "two" "other"],
    Program "program" ["good" "broken"],
    Releases "releases" ["no" "yes"],
    Install "install" ["no" "two"],
    Keep "keep" ["5" "1"],
    Rests "rests" ["no" "yes"],
    Exclusive "exclusive" ["no" "process" "port"],
    Traffic "traffic" ["no" "told" "slow"],
    Store "store" ["no" "yes"],
    Preserve "preserve" ["restart" "no" "yes"],
}

/// StandbySignal and ActiveSignal, of who has them.
pub(crate) const REST: Signal = Signal(10);
pub(crate) const WAKE: Signal = Signal(12);

const COUNT: usize = Knob::ALL.len();

/// A setting of every knob.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Knobs([u8; COUNT]);

impl Default for Knobs {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

impl Knobs {
    /// The number of the value that is set.
    pub(crate) fn at(self, knob: Knob) -> usize {
        usize::from(self.0[knob as usize])
    }

    /// The word that is set.
    pub(crate) fn word(self, knob: Knob) -> &'static str {
        knob.words()[self.at(knob)]
    }

    /// The same but for one knob.
    pub(crate) fn with(mut self, knob: Knob, value: usize) -> Self {
        assert!(value < knob.words().len(), "{} has no value {value}", knob.key());
        self.0[knob as usize] = u8::try_from(value).unwrap();
        self
    }

    /// Whether the program dies soon after each launch, for ever.
    pub(crate) fn broken(self) -> bool {
        self.at(Knob::Program) == 1
    }

    /// Only one process of it may run. What `supctl check` would refuse beside that is not there.
    pub(crate) fn alone(self) -> bool {
        self.word(Knob::Exclusive) == "process"
    }

    /// Only one may be led to. It needs a slot for each, and binds of its own.
    pub(crate) fn binds_alone(self) -> bool {
        self.word(Knob::Exclusive) == "port" && !matches!(self.word(Knob::Ready), "started" | "command")
    }

    /// Whether somebody may not run, or be bound, beside another.
    pub(crate) fn excludes(self) -> bool {
        self.alone() || self.binds_alone()
    }

    /// Whether a load balancer is told.
    pub(crate) fn tells(self) -> bool {
        self.excludes() && self.is(Knob::Traffic)
    }

    /// Whether each generation gets a slot of its own.
    pub(crate) fn steered(self) -> bool {
        self.is(Knob::Steered)
    }

    fn is(self, knob: Knob) -> bool {
        self.at(knob) != 0
    }

    fn span(self, knob: Knob) -> Option<Duration> {
        match self.word(knob) {
            "infinity" | "no" => None,
            word => Some(parse_span(word).unwrap()),
        }
    }

    fn number(self, knob: Knob) -> u32 {
        self.word(knob).parse().unwrap()
    }

    fn commands(self, knob: Knob) -> Vec<Command> {
        let names: &[&str] = match self.word(knob) {
            "no" => &[],
            "two" => &["first", "second"],
            _ => &["only"],
        };
        let ignore_failure = self.word(knob) == "ignored";
        names.iter().map(|name| command(&format!("/{}/{name}", knob.key()), ignore_failure)).collect()
    }

    /// Reads `key=word` over what is set.
    pub(crate) fn parse(mut self, text: &str) -> Result<Self, String> {
        let (key, word) = text.split_once('=').ok_or_else(|| format!("{text:?} is not key=value"))?;
        let knob = Knob::ALL.iter().find(|knob| knob.key() == key);
        let knob = *knob.ok_or_else(|| format!("no key {key:?}"))?;
        let value = knob.words().iter().position(|known| *known == word);
        self = self.with(knob, value.ok_or_else(|| format!("{key} has no value {word:?}"))?);
        Ok(self)
    }
}

impl fmt::Display for Knobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for knob in Knob::ALL.iter().filter(|knob| self.is(**knob)) {
            write!(f, " {}={}", knob.key(), self.word(*knob))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Knobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Knobs[{self} ]")
    }
}

/// Reads `1500ms`, `10s`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let fault = || format!("{text:?} is no time: say 1500ms or 10s");
    let (digits, millis) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').ok_or_else(fault)?, 1000),
    };
    let number: u64 = digits.parse().map_err(|_| fault())?;
    Ok(Duration::from_millis(number.checked_mul(millis).ok_or_else(fault)?))
}

/// Writes what [`parse_span`] reads; no finer than a millisecond.
pub(crate) fn print_span(span: Duration) -> String {
    match span.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

fn command(program: &str, ignore_failure: bool) -> Command {
    Command { ignore_failure, program: program.to_owned(), arguments: Vec::new() }
}

fn socket(name: &str, port: u16) -> Arc<Socket> {
    Arc::new(Socket {
        name: ListenerName::new(name).unwrap(),
        address: Address::Ip { kind: SocketKind::Stream, host: IpAddr::V4(Ipv4Addr::LOCALHOST), port },
        bind_as: None,
        options: SocketOptions {
            backlog: 4096,
            user: None,
            group: None,
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
        },
    })
}

/// The settings that a unit file with these knobs stands for. `version` counts the unit's files;
/// the description carries it, so that nothing can be mistaken for something else.
pub(crate) fn settings(unit: &UnitName, place: usize, knobs: Knobs, version: usize) -> Arc<Settings> {
    let port = 8000 + 10 * u16::try_from(place).unwrap();
    let (http, admin, other) = (socket("http", port), socket("admin", port + 1), socket("http", port + 2));
    let sockets = match knobs.word(Knob::Sockets) {
        "two" => vec![http, admin],
        "other" => vec![other],
        _ => vec![http],
    };
    Arc::new(Settings {
        unit: unit.clone(),
        description: format!("v{version}"),
        control_group: None,
        sockets,
        service: service(knobs),
        swap: swap(knobs),
    })
}

/// The version that [`settings`] wrote into the description.
pub(crate) fn version(settings: &Settings) -> usize {
    settings.description[1..].parse().unwrap()
}

fn service(knobs: Knobs) -> Service {
    Service {
        exec_start: command("/srv/server", false),
        releases: knobs.is(Knob::Releases),
        exec_install: knobs.commands(Knob::Install),
        exec_start_pre: knobs.commands(Knob::Pre),
        exec_start_post: knobs.commands(Knob::Post),
        exec_reload: if knobs.word(Knob::Reload) == "command" {
            knobs.commands(Knob::Reload)
        } else {
            vec![]
        },
        reload_signal: (knobs.word(Knob::Reload) == "signal").then_some(Signal(1)),
        exec_stop: knobs.commands(Knob::Stop),
        exec_stop_post: knobs.commands(Knob::StopPost),
        exec_on_failure: knobs.commands(Knob::OnFailure),
        // Both ways with each kind of readiness.
        handoff: if knobs.word(Knob::Ready) == "listen"
            || knobs.number(Knob::Workers) > 1
            || knobs.binds_alone()
        {
            Handoff::Intercept
        } else {
            Handoff::Inherit
        },
        ready: [Ready::Notify, Ready::Started, Ready::Command(command("/ready", false)), Ready::Listen]
            [knobs.at(Knob::Ready)]
        .clone(),
        ready_settle: knobs.span(Knob::Settle).unwrap(),
        start: [Start::Boot, Start::OnDemand, Start::Manual][knobs.at(Knob::Start)],
        workers: if knobs.alone() { 1 } else { knobs.number(Knob::Workers) },
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
        success_exit_status: exits(knobs, Knob::Success),
        restart_prevent_exit_status: exits(knobs, Knob::Prevent),
        pass_listen_pid: true,
        kill_mode: [KillMode::Orderly, KillMode::ControlGroup, KillMode::Process, KillMode::Mixed]
            [knobs.at(Knob::KillMode)],
        log_max_size: 1 << 20,
        file_descriptor_store_max: u32::from(knobs.is(Knob::Store)),
        file_descriptor_store_preserve: [Preserve::Restart, Preserve::No, Preserve::Yes]
            [knobs.at(Knob::Preserve)],
        memory_max: None,
        tasks_max: None,
        cpu_quota_percent: None,
        protect_system: ProtectSystem::No,
        protect_home: ProtectHome::No,
        private_tmp: false,
        read_write_paths: Vec::new(),
        system_call_filter: Vec::new(),
        timeout_start: knobs.span(Knob::TimeoutStart),
        kill_signal: Signal::parse(knobs.word(Knob::KillSignal)).unwrap(),
        timeout_stop: knobs.span(Knob::TimeoutStop),
        restart: restart(knobs),
        restart_delay: knobs.span(Knob::RestartSec).unwrap(),
        start_limit_burst: knobs.number(Knob::Burst),
        start_limit_interval: knobs.span(Knob::Interval).unwrap(),
        when_down: [WhenDown::Queue, WhenDown::Refuse][knobs.at(Knob::WhenDown)],
        watchdog: knobs.span(Knob::Watchdog),
        exclusive: match knobs.word(Knob::Exclusive) {
            "process" => Exclusive::Process,
            "port" if knobs.binds_alone() => Exclusive::Port,
            _ => Exclusive::No,
        },
        traffic_off: told(knobs, "/off"),
        traffic_on: told(knobs, "/on"),
        traffic_settle: if knobs.word(Knob::Traffic) == "slow" && knobs.excludes() {
            Duration::from_secs(2)
        } else {
            Duration::ZERO
        },
    }
}

/// Two commands, where somebody is told.
fn told(knobs: Knobs, program: &str) -> Vec<Command> {
    let tells = knobs.excludes() && knobs.is(Knob::Traffic);
    (0..2).filter(|_| tells).map(|_| command(program, false)).collect()
}

fn exits(knobs: Knobs, knob: Knob) -> ExitSet {
    ExitSet { codes: knobs.word(knob).parse().into_iter().collect(), signals: Vec::new() }
}

fn restart(knobs: Knobs) -> Restart {
    match knobs.word(Knob::Restart) {
        "always" => Restart::Always,
        "no" => Restart::No,
        "on-success" => Restart::OnSuccess,
        "on-abnormal" => Restart::OnAbnormal,
        "on-abort" => Restart::OnAbort,
        "on-watchdog" => Restart::OnWatchdog,
        _ => Restart::OnFailure,
    }
}

fn swap(knobs: Knobs) -> Swap {
    Swap {
        retain: match knobs.at(Knob::Retain) {
            1 => Retain::None,
            2 if !knobs.alone() => Retain::Warm,
            _ => Retain::Cold,
        },
        standby: Some(Duration::from_secs(3600)),
        drain: knobs.span(Knob::Drain),
        canary: if knobs.is(Knob::Exclusive) { Vec::new() } else { canary(knobs) },
        check_command: (knobs.is(Knob::Check) && !knobs.alone()).then(|| command("/check", false)),
        probation: knobs.span(Knob::Probation).unwrap(),
        settle: Duration::from_secs(3),
        canary_sticky: false,
        max_generations: 4,
        standby_signal: knobs.is(Knob::Rests).then_some(REST),
        active_signal: knobs.is(Knob::Rests).then_some(WAKE),
        keep_releases: knobs.number(Knob::Keep),
    }
}

/// A quarter for a while, then half for longer.
fn canary(knobs: Knobs) -> Vec<CanaryStep> {
    let steps = [(2500, 4), (5000, 8)].map(|(share, seconds)| {
        let hold = Duration::from_secs(seconds);
        CanaryStep { share, hold }
    });
    steps.into_iter().take(knobs.at(Knob::Canary)).collect()
}

#[test]
fn what_is_printed_is_read_again() {
    let mut knobs = Knobs::default();
    for knob in Knob::ALL {
        knobs = knobs.with(*knob, knob.words().len() - 1);
    }
    let read = knobs.to_string().split_whitespace().try_fold(Knobs::default(), Knobs::parse);
    assert_eq!(read, Ok(knobs));
    assert!(Knobs::default().parse("workers=9").is_err());
    assert!(Knobs::default().parse("nonsense=1").is_err());
    assert_eq!(parse_span("1500ms"), Ok(Duration::from_millis(1500)));
    assert!(parse_span("5").is_err());
}
