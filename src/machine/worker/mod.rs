//! One worker: a process that is launched, becomes ready, serves, and is seen off.
//!
//! What a phase makes of a cue stands in [`table`]; how each move is made stands in [`moves`].

pub(super) mod moves;
mod phase;
pub mod table;

use super::restart::{Fault, Pace};
use crate::model::{Signal, Tick, WorkerExit, WorkerId};
pub(super) use phase::Phase;
use phase::{Probe, ReloadStage, Step};
use std::time::Duration;
use table::CueKind;

/// What happens to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cue {
    Spawned,
    SpawnFailed(String),
    Exited(WorkerExit),
    Swept,
    Ready,
    Listening,
    Waits,
    Bind,
    Reloading { monotonic_usec: Option<u64> },
    Stopping,
    Alive,
    Trigger,
    Period(Duration),
    Extend(Duration),
    Passed,
    Failed(String),
    Due,
    Stop,
    Kill,
    Reload,
}

impl Cue {
    fn kind(&self) -> CueKind {
        match self {
            Self::Spawned => CueKind::Spawned,
            Self::SpawnFailed(_) => CueKind::SpawnFailed,
            Self::Exited(_) => CueKind::Exited,
            Self::Swept => CueKind::Swept,
            Self::Ready => CueKind::Ready,
            Self::Listening => CueKind::Listening,
            Self::Waits => CueKind::Waits,
            Self::Bind => CueKind::Bind,
            Self::Reloading { .. } => CueKind::Reloading,
            Self::Stopping => CueKind::Stopping,
            Self::Alive => CueKind::Alive,
            Self::Trigger => CueKind::Trigger,
            Self::Period(_) => CueKind::Period,
            Self::Extend(_) => CueKind::Extend,
            Self::Passed => CueKind::Passed,
            Self::Failed(_) => CueKind::Failed,
            Self::Due => CueKind::Due,
            Self::Stop => CueKind::Stop,
            Self::Kill => CueKind::Kill,
            Self::Reload => CueKind::Reload,
        }
    }
}

impl Cue {
    /// Why a hook of this name counts as failed.
    fn why(&self, hook: &str, limit: &str) -> String {
        match self {
            Self::Failed(reason) => format!("{hook} failed: {reason}"),
            Self::Spawned
            | Self::SpawnFailed(_)
            | Self::Exited(_)
            | Self::Swept
            | Self::Ready
            | Self::Listening
            | Self::Waits
            | Self::Bind
            | Self::Reloading { .. }
            | Self::Stopping
            | Self::Alive
            | Self::Trigger
            | Self::Period(_)
            | Self::Extend(_)
            | Self::Passed
            | Self::Due
            | Self::Stop
            | Self::Kill
            | Self::Reload => format!("{hook} did not end within {limit}"),
        }
    }

    fn spawn_failure(&self) -> Option<&str> {
        if let Self::SpawnFailed(reason) = self { Some(reason) } else { None }
    }
}

/// What a worker tells its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// It became ready.
    Ready,
    /// It waits in a bind that is left unanswered.
    Unbound,
    /// It failed: died, or is being ended because it is broken. Once for each run.
    Failed(String),
    /// A reload is over.
    Reloaded(Result<String, String>),
    /// It ends too often: from now on there are long pauses.
    Limited,
    /// It failed, and Restart says not to launch it again.
    GivenUp,
}

/// One worker's place in its generation, and the run that fills it now.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    /// The run; a relaunch gets a new number.
    pub(super) id: WorkerId,
    /// SUPD_WORKER
    pub(super) index: u32,
    pub(super) phase: Phase,
    /// When the run was launched.
    pub(super) born: Tick,
    /// Whether supd asked this run to end.
    pub(super) asked: bool,
    /// Whether the failure of this run was told.
    failed: bool,
    /// Why supd ended this run, where it did.
    fault: Option<Fault>,
    /// Whether this run has a process, dead or alive.
    forked: bool,
    /// How long this run has served, once it is over.
    served: Duration,
    /// How this run ended.
    exit: Option<WorkerExit>,
    /// How the last run ended, and how long it lived.
    pub(super) last: Option<(Option<WorkerExit>, Duration)>,
    /// WATCHDOG_USEC= of this run.
    period: Option<Duration>,
    /// What the last check of readiness said against this run.
    unready: Option<Box<str>>,
    /// STATUS= of this run.
    pub(super) status_text: String,
    pub(super) pace: Pace,
}

impl Worker {
    /// A place that is yet to be filled.
    pub(super) fn new(id: WorkerId, index: u32, now: Tick) -> Self {
        Self {
            id,
            index,
            phase: Phase::Gone,
            born: now,
            asked: false,
            failed: false,
            fault: None,
            forked: false,
            served: Duration::ZERO,
            exit: None,
            last: None,
            period: None,
            unready: None,
            status_text: String::new(),
            pace: Pace::default(),
        }
    }

    /// How this run ended, if it did.
    pub(super) fn exit(&self) -> Option<WorkerExit> {
        self.exit
    }

    /// Whether this run failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether it comes back in long pauses, or never, and nobody asked for that.
    pub(super) fn is_lost(&self) -> bool {
        self.pace.is_hit() || (self.phase == Phase::Gone && self.failed && !self.asked)
    }

    /// Whether there is a run of it, or will be another one.
    pub(super) fn goes_on(&self, service: &crate::model::settings::Service) -> bool {
        let ending = super::restart::Ending { exit: self.exit, fault: self.fault };
        let runs = self.exit.is_none() && self.fault.is_none();
        let comes_back = self.phase != Phase::Gone && !self.asked && ending.wants_relaunch(service);
        matches!(self.phase, Phase::Resting { .. }) || comes_back || (runs && self.phase != Phase::Gone)
    }

    /// Whether the last run ended as a server should that was not asked to.
    pub(super) fn ended_clean(&self, service: &crate::model::settings::Service) -> bool {
        super::restart::Ending { exit: self.exit, fault: self.fault }.is_clean(service)
    }
}

/// The signals that end a worker: a stopped process does not see KillSignal before SIGCONT.
fn ending(kill_signal: Signal) -> impl Iterator<Item = Signal> {
    [kill_signal, Signal::CONT].into_iter().take(if kill_signal == Signal::KILL { 1 } else { 2 })
}
