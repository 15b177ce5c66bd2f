//! The phases of a worker. A deadline lives inside the phase that it ends, and dies with it.

use super::table::Kind;
use crate::model::{JobId, Tick};

/// A command of a list that runs one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) struct Step {
    pub(super) job: JobId,
    pub(super) index: usize,
    /// `None`: never.
    pub(super) until: Option<Tick>,
}

/// The check of readiness that supd makes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) enum Probe {
    /// The worker says it, by READY=1 or by listening.
    None,
    /// The check runs.
    Running(JobId),
    /// It failed; the next one is due then.
    Pause(Tick),
}

/// How far a reload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) enum ReloadStage {
    /// ExecReload runs.
    Command { job: JobId, index: usize },
    /// ReloadSignal was sent then.
    Signalled { at: Tick },
    /// RELOADING=1 was said; READY=1 ends it.
    Announced,
}

/// See [`Kind`] for what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) enum Phase {
    Preparing(Step),
    Spawning {
        until: Option<Tick>,
    },
    Starting {
        until: Option<Tick>,
        probe: Probe,
    },
    /// `ready`: it said so meanwhile.
    Unbound {
        ready: bool,
    },
    Settling {
        until: Tick,
    },
    Posting(Step),
    Serving {
        since: Tick,
        watchdog: Option<Tick>,
    },
    Reloading {
        since: Tick,
        watchdog: Option<Tick>,
        stage: ReloadStage,
        until: Option<Tick>,
    },
    Halting(Step),
    Stopping {
        until: Option<Tick>,
    },
    Killing {
        until: Tick,
    },
    Sweeping {
        until: Option<Tick>,
    },
    Closing(Step),
    Resting {
        until: Tick,
        limited: bool,
    },
    Gone,
}

impl Phase {
    /// The row of the table.
    pub(in crate::machine) fn kind(self) -> Kind {
        match self {
            Self::Preparing(_) => Kind::Preparing,
            Self::Spawning { .. } => Kind::Spawning,
            Self::Starting { .. } => Kind::Starting,
            Self::Unbound { .. } => Kind::Unbound,
            Self::Settling { .. } => Kind::Settling,
            Self::Posting(_) => Kind::Posting,
            Self::Serving { .. } => Kind::Serving,
            Self::Reloading { .. } => Kind::Reloading,
            Self::Halting(_) => Kind::Halting,
            Self::Stopping { .. } => Kind::Stopping,
            Self::Killing { .. } => Kind::Killing,
            Self::Sweeping { .. } => Kind::Sweeping,
            Self::Closing(_) => Kind::Closing,
            Self::Resting { .. } => Kind::Resting,
            Self::Gone => Kind::Gone,
        }
    }

    /// Whether another supd could go on with it: it was ready once, and runs.
    pub(in crate::machine) fn outlasts(self) -> bool {
        match self {
            Self::Serving { .. } | Self::Reloading { .. } | Self::Halting(_) | Self::Stopping { .. } => true,
            Self::Preparing(_)
            | Self::Spawning { .. }
            | Self::Starting { .. }
            | Self::Unbound { .. }
            | Self::Settling { .. }
            | Self::Posting(_)
            | Self::Killing { .. }
            | Self::Sweeping { .. }
            | Self::Closing(_)
            | Self::Resting { .. }
            | Self::Gone => false,
        }
    }

    /// Whether there is nothing of it.
    pub(in crate::machine) fn is_still(self) -> bool {
        match self {
            Self::Resting { .. } | Self::Gone => true,
            Self::Preparing(_)
            | Self::Spawning { .. }
            | Self::Starting { .. }
            | Self::Unbound { .. }
            | Self::Settling { .. }
            | Self::Posting(_)
            | Self::Serving { .. }
            | Self::Reloading { .. }
            | Self::Halting(_)
            | Self::Stopping { .. }
            | Self::Killing { .. }
            | Self::Sweeping { .. }
            | Self::Closing(_) => false,
        }
    }

    /// The word that status shows.
    pub(in crate::machine) fn word(self) -> &'static str {
        match self {
            Self::Preparing(_) => "preparing",
            Self::Spawning { .. } => "spawning",
            Self::Starting { .. } => "starting",
            Self::Unbound { .. } => "unbound",
            Self::Settling { .. } => "settling",
            Self::Posting(_) => "posting",
            Self::Serving { .. } => "serving",
            Self::Reloading { .. } => "reloading",
            Self::Halting(_) => "halting",
            Self::Stopping { .. } => "stopping",
            Self::Killing { .. } => "killing",
            Self::Sweeping { .. } => "sweeping",
            Self::Closing(_) => "closing",
            Self::Resting { .. } => "resting",
            Self::Gone => "gone",
        }
    }

    /// When the phase ends by itself.
    pub(in crate::machine) fn deadline(self) -> Option<Tick> {
        match self {
            Self::Preparing(step) | Self::Posting(step) | Self::Halting(step) | Self::Closing(step) => {
                step.until
            }
            Self::Spawning { until } | Self::Stopping { until } | Self::Sweeping { until } => until,
            Self::Starting { until, probe } => match probe {
                Probe::Pause(again) => Some(until.map_or(again, |until| until.min(again))),
                Probe::None | Probe::Running(_) => until,
            },
            Self::Settling { until } | Self::Killing { until } | Self::Resting { until, .. } => Some(until),
            Self::Serving { watchdog, .. } => watchdog,
            Self::Reloading { watchdog, until, .. } => match (watchdog, until) {
                (Some(watchdog), Some(until)) => Some(watchdog.min(until)),
                (one, other) => one.or(other),
            },
            Self::Unbound { .. } | Self::Gone => None,
        }
    }

    /// Moves the deadline to `later`, if there is one and it is earlier.
    pub(super) fn extend(&mut self, later: Tick) {
        let push = |until: &mut Option<Tick>| *until = until.map(|until| until.max(later));
        match self {
            Self::Spawning { until } | Self::Starting { until, .. } | Self::Stopping { until } => push(until),
            Self::Posting(step) | Self::Halting(step) => push(&mut step.until),
            Self::Serving { watchdog, .. } => push(watchdog),
            Self::Reloading { watchdog, until, .. } => {
                push(watchdog);
                push(until);
            }
            Self::Preparing(_)
            | Self::Unbound { .. }
            | Self::Settling { .. }
            | Self::Killing { .. }
            | Self::Sweeping { .. }
            | Self::Closing(_)
            | Self::Resting { .. }
            | Self::Gone => {}
        }
    }

    /// The command that runs in this phase.
    pub(in crate::machine) fn job(self) -> Option<JobId> {
        match self {
            Self::Preparing(step) | Self::Posting(step) | Self::Halting(step) | Self::Closing(step) => {
                Some(step.job)
            }
            Self::Starting { probe: Probe::Running(job), .. } => Some(job),
            Self::Reloading { stage: ReloadStage::Command { job, .. }, .. } => Some(job),
            Self::Spawning { .. }
            | Self::Starting { .. }
            | Self::Unbound { .. }
            | Self::Settling { .. }
            | Self::Serving { .. }
            | Self::Reloading { .. }
            | Self::Stopping { .. }
            | Self::Killing { .. }
            | Self::Sweeping { .. }
            | Self::Resting { .. }
            | Self::Gone => None,
        }
    }

    /// Whether it is ready.
    pub(in crate::machine) fn serves(self) -> bool {
        matches!(self, Self::Serving { .. } | Self::Reloading { .. })
    }

    /// Whether its main process may be there.
    pub(in crate::machine) fn runs(self) -> bool {
        match self {
            Self::Preparing(_)
            | Self::Sweeping { .. }
            | Self::Closing(_)
            | Self::Resting { .. }
            | Self::Gone => false,
            Self::Spawning { .. }
            | Self::Starting { .. }
            | Self::Unbound { .. }
            | Self::Settling { .. }
            | Self::Posting(_)
            | Self::Serving { .. }
            | Self::Reloading { .. }
            | Self::Halting(_)
            | Self::Stopping { .. }
            | Self::Killing { .. } => true,
        }
    }
}
