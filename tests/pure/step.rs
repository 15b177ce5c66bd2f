//! What can happen in the simulated world, one line of text each, so that a failing run is a file.
//!
//! A step that cannot happen where it stands (a worker that is not there dies) is skipped: that
//! lets the shrinker drop any line.

use crate::knobs::{Knobs, print_span};
use std::fmt;
use std::time::Duration;
use supd::machine::JobKind;
use supd::model::{Signal, WaitFor, WorkerExit};

/// The units of a simulation, by place.
pub(crate) const UNITS: [&str; 2] = ["web", "api"];

/// A worker by what it is, not by number, so that a line stays true when earlier ones are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerRef {
    pub(crate) unit: usize,
    pub(crate) generation: u64,
    pub(crate) index: u32,
    /// How many runs ago: 0 is the newest.
    pub(crate) back: usize,
}

/// A request, without the settings: they are the unit's file as it is then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Start(WaitFor),
    Stop {
        now: bool,
        keep_listening: bool,
    },
    Restart(WaitFor),
    /// `canary`: stop at so many hundredths of a percent.
    Swap {
        unbound: bool,
        hold: bool,
        canary: Option<u16>,
        replace: bool,
        wait: WaitFor,
    },
    Share(u16, WaitFor),
    SwapTo {
        label: u8,
        wait: WaitFor,
    },
    Install {
        label: u8,
        deploy: bool,
        wait: WaitFor,
    },
    Undeploy(u8),
    Rollback {
        from: Option<u64>,
        stop: bool,
        anyway: bool,
        wait: WaitFor,
    },
    RollbackTo {
        label: u8,
        wait: WaitFor,
    },
    Drain(u64),
    Promote(WaitFor),
    Abort,
    Wait(WaitFor),
    Reload,
    Kill(Signal),
    Refresh,
}

/// What a worker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    Ready,
    /// It listens everywhere, which is being ready where the unit says so.
    Listening,
    /// It waits in a bind that is left unanswered.
    Waits,
    Reloading,
    /// With a stamp from before the reload was asked for.
    ReloadingOld,
    /// Without a stamp.
    ReloadingBare,
    Stopping,
    Alive,
    Trigger,
    Period(Duration),
    Extend(Duration),
    Reset,
    Status,
}

/// What happens to one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Spawned,
    SpawnFails,
    Says(Say),
    /// The process ends; supd has yet to hear of it.
    Dies(WorkerExit),
    /// supd hears of it.
    Reaped,
    /// Both at once.
    Exits(WorkerExit),
    /// It leaves a child that does not end with it.
    Forks,
    /// What it left behind ends by itself.
    LeftoversEnd,
    Swept,
}

/// What happens to a unit's listeners, records and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Bound,
    BindFails,
    Unlistened,
    Connect,
    Knocked,
    IntentSaved,
    IntentFails,
    Switched,
    SwitchFails,
    ShareFails,
    /// Nobody of the newest generation accepts.
    Stalls,
    /// Nobody is connected to who is being let go, or somebody.
    Counted,
    CountedBusy,
    /// Nobody waits in the slot of one that has ended, or somebody does.
    Retired,
    RetiredQueued,
    Recorded,
    RecordFails,
    Pinned,
    NotPinned,
    Orphaned,
    /// What was unpacked is what every source of this label contains, or something else.
    Unpacked,
    UnpackedOther,
    UnpackFails,
    /// A release is placed or sealed.
    Stored,
    StoreFails,
}

impl Turn {
    pub(crate) const ALL: [(&'static str, Self); 25] = [
        ("bound", Self::Bound),
        ("bind-fails", Self::BindFails),
        ("unlistened", Self::Unlistened),
        ("connect", Self::Connect),
        ("knocked", Self::Knocked),
        ("intent-saved", Self::IntentSaved),
        ("intent-fails", Self::IntentFails),
        ("switched", Self::Switched),
        ("switch-fails", Self::SwitchFails),
        ("share-fails", Self::ShareFails),
        ("stalls", Self::Stalls),
        ("counted", Self::Counted),
        ("counted-busy", Self::CountedBusy),
        ("retired", Self::Retired),
        ("retired-queued", Self::RetiredQueued),
        ("recorded", Self::Recorded),
        ("record-fails", Self::RecordFails),
        ("pinned", Self::Pinned),
        ("not-pinned", Self::NotPinned),
        ("orphaned", Self::Orphaned),
        ("unpacked", Self::Unpacked),
        ("unpacked-other", Self::UnpackedOther),
        ("unpack-fails", Self::UnpackFails),
        ("stored", Self::Stored),
        ("store-fails", Self::StoreFails),
    ];
}

pub(crate) const JOBS: [(&str, JobKind); 11] = [
    ("start-pre", JobKind::StartPre),
    ("start-post", JobKind::StartPost),
    ("reload", JobKind::Reload),
    ("stop", JobKind::Stop),
    ("stop-post", JobKind::StopPost),
    ("on-failure", JobKind::OnFailure),
    ("ready-check", JobKind::ReadyCheck),
    ("check", JobKind::Check),
    ("traffic-off", JobKind::TrafficOff),
    ("traffic-on", JobKind::TrafficOn),
    ("install", JobKind::Install),
];

pub(crate) const WAITS: [(&str, WaitFor); 4] = [
    ("ready", WaitFor::Ready),
    ("active", WaitFor::Active),
    ("committed", WaitFor::Committed),
    ("drained", WaitFor::Drained),
];

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A unit becomes known: at supd's boot, or later by daemon-reload.
    Unit {
        unit: usize,
        knobs: Knobs,
        later: bool,
    },
    /// Its file changes on disk.
    Edit {
        unit: usize,
        knobs: Knobs,
    },
    Asks {
        client: u64,
        unit: usize,
        ask: Ask,
    },
    HangsUp {
        client: u64,
    },
    Shutdown {
        client: Option<u64>,
    },
    At {
        unit: usize,
        turn: Turn,
    },
    Worker(WorkerRef, Act),
    /// The oldest running command of this kind ends.
    Job {
        unit: usize,
        kind: JobKind,
        passes: bool,
    },
    /// A message from a worker that never was.
    Forged {
        unit: usize,
        say: Say,
    },
    /// Time passes; supd is not woken.
    Advance(Duration),
    /// supd looks at the clock.
    Clock,
    /// Time passes until supd's deadline, and supd looks at the clock.
    Deadline,
    /// The same, but the machine was suspended meanwhile.
    Late(Duration),
    /// supd dies after so many more effects; so many of the records under way reach the disk. `kept`: the next one
    /// gets its listeners from the keeper, and its workers live on.
    Crash {
        after: u32,
        saved: u32,
        kept: bool,
    },
    /// It has crashed twice by its own fault: the next one holds.
    Marked,
    /// A person has seen to that.
    Released,
    /// The machine is switched off and on.
    Reboot {
        saved: u32,
    },
    /// supd is started again after it has quit.
    Boot,
    /// Everything goes well for so long.
    Run(Duration),
    /// Everything goes well until nothing is left to do; then all must be as it should.
    Settle,
    /// What a hand-written scenario wants to be true; words, checked when reached.
    Expect(String),
}

pub(crate) fn find<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
}

fn name<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, known)| known == value).map_or("?", |(name, _)| name)
}

impl fmt::Display for WorkerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", UNITS[self.unit], self.generation, self.index)?;
        if self.back > 0 { write!(f, "~{}", self.back) } else { Ok(()) }
    }
}

fn flag(f: &mut fmt::Formatter<'_>, set: bool, word: &str) -> fmt::Result {
    if set { write!(f, " {word}") } else { Ok(()) }
}

fn waits(f: &mut fmt::Formatter<'_>, wait: WaitFor) -> fmt::Result {
    if wait == WaitFor::Committed { Ok(()) } else { write!(f, " wait={}", name(&WAITS, &wait)) }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Start(wait) => f.write_str("start").and_then(|()| waits(f, wait)),
            Self::Stop { now, keep_listening } => {
                f.write_str("stop")?;
                flag(f, now, "now")?;
                flag(f, keep_listening, "keep-listening")
            }
            Self::Restart(wait) => f.write_str("restart").and_then(|()| waits(f, wait)),
            Self::Swap { unbound, hold, canary, replace, wait } => {
                f.write_str("swap")?;
                flag(f, unbound, "unbound")?;
                flag(f, hold, "hold")?;
                if let Some(canary) = canary {
                    write!(f, " canary={canary}")?;
                }
                flag(f, replace, "replace")?;
                waits(f, wait)
            }
            Self::Rollback { from, stop, anyway, wait } => {
                f.write_str("rollback")?;
                if let Some(from) = from {
                    write!(f, " from={from}")?;
                }
                flag(f, stop, "stop")?;
                flag(f, anyway, "anyway")?;
                waits(f, wait)
            }
            Self::SwapTo { label, wait } => {
                write!(f, "swap-to {label}")?;
                waits(f, wait)
            }
            Self::Install { label, deploy, wait } => {
                write!(f, "{} {label}", if deploy { "deploy" } else { "install" })?;
                waits(f, wait)
            }
            Self::Undeploy(label) => write!(f, "undeploy {label}"),
            Self::RollbackTo { label, wait } => {
                write!(f, "rollback-to {label}")?;
                waits(f, wait)
            }
            Self::Share(parts, wait) => write!(f, "share {parts}").and_then(|()| waits(f, wait)),
            Self::Drain(generation) => write!(f, "drain {generation}"),
            Self::Promote(wait) => f.write_str("promote").and_then(|()| waits(f, wait)),
            Self::Abort => f.write_str("abort"),
            Self::Wait(wait) => f.write_str("wait").and_then(|()| waits(f, wait)),
            Self::Reload => f.write_str("reload"),
            Self::Kill(signal) => write!(f, "kill {}", signal.0),
            Self::Refresh => f.write_str("refresh"),
        }
    }
}

impl fmt::Display for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ready => f.write_str("ready"),
            Self::Listening => f.write_str("listening"),
            Self::Waits => f.write_str("waits"),
            Self::Reloading => f.write_str("reloading"),
            Self::ReloadingOld => f.write_str("reloading-old"),
            Self::ReloadingBare => f.write_str("reloading-bare"),
            Self::Stopping => f.write_str("stopping"),
            Self::Alive => f.write_str("alive"),
            Self::Trigger => f.write_str("trigger"),
            Self::Reset => f.write_str("reset"),
            Self::Period(span) => write!(f, "period={}", print_span(span)),
            Self::Extend(span) => write!(f, "extend={}", print_span(span)),
            Self::Status => f.write_str("status"),
        }
    }
}

fn print_exit(exit: WorkerExit) -> String {
    match exit {
        WorkerExit::Code(code) => code.to_string(),
        WorkerExit::Killed { signal, core } => format!("SIG{}{}", signal.0, if core { "core" } else { "" }),
        WorkerExit::Unknown => "unknown".to_owned(),
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawned => f.write_str("spawned"),
            Self::SpawnFails => f.write_str("spawn-fails"),
            Self::Says(say) => write!(f, "says {say}"),
            Self::Dies(exit) => write!(f, "dies {}", print_exit(*exit)),
            Self::Reaped => f.write_str("reaped"),
            Self::Exits(exit) => write!(f, "exits {}", print_exit(*exit)),
            Self::Forks => f.write_str("forks"),
            Self::LeftoversEnd => f.write_str("leftovers-end"),
            Self::Swept => f.write_str("swept"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit { unit, knobs, later: false } => write!(f, "unit {}{knobs}", UNITS[*unit]),
            Self::Unit { unit, knobs, later: true } => write!(f, "new {}{knobs}", UNITS[*unit]),
            Self::Edit { unit, knobs } => write!(f, "edit {}{knobs}", UNITS[*unit]),
            Self::Asks { client, unit, ask } => write!(f, "c{client} asks {} {ask}", UNITS[*unit]),
            Self::HangsUp { client } => write!(f, "c{client} hangs-up"),
            Self::Shutdown { client: Some(client) } => write!(f, "c{client} shutdown"),
            Self::Shutdown { client: None } => f.write_str("shutdown"),
            Self::At { unit, turn } => write!(f, "{} {}", UNITS[*unit], name(&Turn::ALL, turn)),
            Self::Worker(worker, act) => write!(f, "{worker} {act}"),
            Self::Job { unit, kind, passes } => {
                let outcome = if *passes { "passes" } else { "fails" };
                write!(f, "{}/{} {outcome}", UNITS[*unit], name(&JOBS, kind))
            }
            Self::Forged { unit, say } => write!(f, "{} forged {say}", UNITS[*unit]),
            Self::Advance(span) => write!(f, "advance {}", print_span(*span)),
            Self::Clock => f.write_str("clock"),
            Self::Deadline => f.write_str("deadline"),
            Self::Late(span) => write!(f, "late {}", print_span(*span)),
            Self::Crash { after, saved, kept } => {
                write!(f, "crash after={after} saved={saved}{}", if *kept { " kept" } else { "" })
            }
            Self::Marked => f.write_str("marked"),
            Self::Released => f.write_str("released"),
            Self::Reboot { saved } => write!(f, "reboot saved={saved}"),
            Self::Boot => f.write_str("boot"),
            Self::Run(span) => write!(f, "run {}", print_span(*span)),
            Self::Settle => f.write_str("settle"),
            Self::Expect(words) => write!(f, "expect {words}"),
        }
    }
}
