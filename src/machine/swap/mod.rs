//! A swap, rollback, restart or start: from the request until it is committed or undone.
//!
//! What a step makes of a cue stands in [`table`]; how each move is made, in `unit/plot/`.

pub mod table;

use super::disk::{Owed, Try};
use crate::model::{
    ClientId, Ended, Generation, JobId, Label, RecordId, Settings, Share, Stops, SwapId, SwapKind, Tick,
    status::{SwapResult, SwapStatus},
};
use std::sync::Arc;
use std::time::Duration;
use table::StepKind;

impl StepKind {
    /// What is going on, to be read after "generation 7 …:".
    pub(super) fn doing(self) -> &'static str {
        match self {
            Self::Copying => "the program to go back to is still being copied",
            Self::Binding => "its listeners are being bound",
            Self::Numbering => "its number is on its way to the disk",
            Self::Diverting => "the traffic is being taken off",
            Self::Clearing => "only one may run, and the one before is on its way out",
            Self::Launching => "it is on its way to ready",
            Self::Unbound => "it is started and on no port",
            Self::Held => "it is ready and held",
            Self::Canary => "it receives a share of the new connections",
            Self::Asking => "CheckCommand decides on its share",
            Self::Intending => "it is about to take over",
            Self::Switching | Self::Noting => "it is taking over",
            Self::Probation => "it is on probation",
            Self::Checking => "CheckCommand decides on it",
            Self::Committing => "its commit is on its way to the disk",
            Self::Undoing => "it is being undone",
            Self::Returning => "the one before has to be ready first to take over again",
            Self::TurnIntending | Self::TurnSwitching | Self::TurnNoting => "the one before takes over again",
        }
    }
}

/// See [`StepKind`] for what each means. `anyway`: without a copy what is on disk is launched.
/// `late`: how often the time of the step was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Copying { until: Tick, anyway: bool },
    Binding { job: JobId },
    Numbering { record: RecordId },
    Diverting,
    Clearing,
    Launching,
    Unbound,
    Held,
    Canary { stage: usize, until: Option<Tick> },
    Asking { stage: usize, job: JobId, until: Tick },
    Intending { owed: Owed },
    Switching,
    Noting { save: Try, commits: bool },
    Probation { until: Tick },
    Checking { job: JobId, until: Tick },
    Committing { save: Try },
    Undoing { record: RecordId, result: SwapResult },
    Returning { until: Tick, late: u32 },
    TurnIntending { save: Try, owed: Owed },
    TurnSwitching { save: Try },
    TurnNoting { save: Try },
}

impl Step {
    /// The row of the table.
    pub(super) fn kind(self) -> StepKind {
        match self {
            Self::Copying { .. } => StepKind::Copying,
            Self::Binding { .. } => StepKind::Binding,
            Self::Numbering { .. } => StepKind::Numbering,
            Self::Diverting => StepKind::Diverting,
            Self::Clearing => StepKind::Clearing,
            Self::Launching => StepKind::Launching,
            Self::Unbound => StepKind::Unbound,
            Self::Held => StepKind::Held,
            Self::Canary { .. } => StepKind::Canary,
            Self::Asking { .. } => StepKind::Asking,
            Self::Intending { .. } => StepKind::Intending,
            Self::Switching => StepKind::Switching,
            Self::Noting { .. } => StepKind::Noting,
            Self::Probation { .. } => StepKind::Probation,
            Self::Checking { .. } => StepKind::Checking,
            Self::Committing { .. } => StepKind::Committing,
            Self::Undoing { .. } => StepKind::Undoing,
            Self::Returning { .. } => StepKind::Returning,
            Self::TurnIntending { .. } => StepKind::TurnIntending,
            Self::TurnSwitching { .. } => StepKind::TurnSwitching,
            Self::TurnNoting { .. } => StepKind::TurnNoting,
        }
    }

    /// When the step ends by itself.
    pub(super) fn deadline(self) -> Option<Tick> {
        match self {
            Self::Copying { until, .. }
            | Self::Probation { until }
            | Self::Checking { until, .. }
            | Self::Asking { until, .. }
            | Self::Returning { until, .. } => Some(until),
            Self::Canary { until, .. } => until,
            Self::Noting { save, .. }
            | Self::Committing { save }
            | Self::TurnIntending { save, .. }
            | Self::TurnSwitching { save }
            | Self::TurnNoting { save } => save.again,
            Self::Binding { .. }
            | Self::Numbering { .. }
            | Self::Diverting
            | Self::Clearing
            | Self::Launching
            | Self::Unbound
            | Self::Held
            | Self::Intending { .. }
            | Self::Switching
            | Self::Undoing { .. } => None,
        }
    }

    /// The record that the step waits for.
    pub(super) fn record(self) -> Option<RecordId> {
        match self {
            Self::Numbering { record } | Self::Undoing { record, .. } => Some(record),
            Self::Noting { save, .. }
            | Self::Committing { save }
            | Self::TurnIntending { save, .. }
            | Self::TurnSwitching { save }
            | Self::TurnNoting { save } => save.record,
            Self::Copying { .. }
            | Self::Binding { .. }
            | Self::Diverting
            | Self::Clearing
            | Self::Launching
            | Self::Unbound
            | Self::Held
            | Self::Canary { .. }
            | Self::Asking { .. }
            | Self::Intending { .. }
            | Self::Switching
            | Self::Probation { .. }
            | Self::Checking { .. }
            | Self::Returning { .. } => None,
        }
    }

    /// The CheckCommand that it waits for.
    pub(super) fn check(self) -> Option<JobId> {
        match self {
            Self::Asking { job, .. } | Self::Checking { job, .. } => Some(job),
            Self::Copying { .. }
            | Self::Binding { .. }
            | Self::Numbering { .. }
            | Self::Diverting
            | Self::Clearing
            | Self::Launching
            | Self::Unbound
            | Self::Held
            | Self::Canary { .. }
            | Self::Intending { .. }
            | Self::Switching
            | Self::Noting { .. }
            | Self::Probation { .. }
            | Self::Committing { .. }
            | Self::Undoing { .. }
            | Self::Returning { .. }
            | Self::TurnIntending { .. }
            | Self::TurnSwitching { .. }
            | Self::TurnNoting { .. } => None,
        }
    }

    /// Whether it is on the way back, and the ledger is yet to hear of it.
    pub(super) fn is_turning(self) -> bool {
        match self {
            Self::Returning { .. } | Self::TurnIntending { .. } | Self::TurnSwitching { .. } => true,
            Self::Copying { .. }
            | Self::Binding { .. }
            | Self::Numbering { .. }
            | Self::Diverting
            | Self::Clearing
            | Self::Launching
            | Self::Unbound
            | Self::Held
            | Self::Canary { .. }
            | Self::Asking { .. }
            | Self::Intending { .. }
            | Self::Switching
            | Self::Noting { .. }
            | Self::Probation { .. }
            | Self::Checking { .. }
            | Self::Committing { .. }
            | Self::Undoing { .. }
            | Self::TurnNoting { .. } => false,
        }
    }

    /// How the swap ends by the record that the step is to get to the disk.
    pub(super) fn end(self) -> Option<SwapResult> {
        match self {
            Self::Noting { commits: true, .. } | Self::Committing { .. } => Some(SwapResult::Committed),
            Self::TurnNoting { .. } => Some(SwapResult::RolledBack),
            Self::Undoing { result, .. } => Some(result),
            Self::Copying { .. }
            | Self::Binding { .. }
            | Self::Numbering { .. }
            | Self::Diverting
            | Self::Clearing
            | Self::Launching
            | Self::Unbound
            | Self::Held
            | Self::Canary { .. }
            | Self::Asking { .. }
            | Self::Intending { .. }
            | Self::Switching
            | Self::Noting { .. }
            | Self::Probation { .. }
            | Self::Checking { .. }
            | Self::Returning { .. }
            | Self::TurnIntending { .. }
            | Self::TurnSwitching { .. } => None,
        }
    }

    /// Whether it sends its record again itself, should the disk refuse it.
    pub(super) fn says_again(self) -> bool {
        match self {
            Self::Noting { .. } | Self::Committing { .. } | Self::TurnNoting { .. } => true,
            Self::Copying { .. }
            | Self::Binding { .. }
            | Self::Numbering { .. }
            | Self::Diverting
            | Self::Clearing
            | Self::Launching
            | Self::Unbound
            | Self::Held
            | Self::Canary { .. }
            | Self::Asking { .. }
            | Self::Intending { .. }
            | Self::Switching
            | Self::Probation { .. }
            | Self::Checking { .. }
            | Self::Undoing { .. }
            | Self::Returning { .. }
            | Self::TurnIntending { .. }
            | Self::TurnSwitching { .. } => false,
        }
    }

    /// Whether the traffic has changed over, or may have.
    pub(super) fn has_switched(self) -> bool {
        match self {
            Self::Noting { .. }
            | Self::Probation { .. }
            | Self::Checking { .. }
            | Self::Committing { .. }
            | Self::Returning { .. }
            | Self::TurnIntending { .. }
            | Self::TurnSwitching { .. }
            | Self::TurnNoting { .. } => true,
            Self::Copying { .. }
            | Self::Binding { .. }
            | Self::Numbering { .. }
            | Self::Diverting
            | Self::Clearing
            | Self::Launching
            | Self::Unbound
            | Self::Held
            | Self::Canary { .. }
            | Self::Asking { .. }
            | Self::Intending { .. }
            | Self::Switching
            | Self::Undoing { .. } => false,
        }
    }
}

/// What to launch.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) kind: SwapKind,
    pub(super) settings: Arc<Settings>,
    pub(super) release: Option<Label>,
    /// The generation whose pinned program it runs; `None`: what is on disk now.
    pub(super) origin: Option<Generation>,
    /// A share there is without end, in the place of the file's steps.
    pub(super) stops: Stops,
}

/// One change of generation, under way.
#[derive(Debug, Clone)]
pub(super) struct Swap {
    pub(super) id: SwapId,
    pub(super) plan: Plan,
    /// `None`: nothing to go back to, so no probation either.
    pub(super) from: Option<Generation>,
    pub(super) to: Generation,
    /// Whose stored descriptors it begins with, until they are given to it.
    pub(super) heir_of: Option<Generation>,
    pub(super) step: Step,
    /// Whether its listeners have a slot for each generation.
    pub(super) steered: bool,
    /// What it receives of the new connections, until the switch.
    pub(super) share: Share,
    /// What a person has just asked for.
    pub(super) wanted: Share,
    /// It goes to one that stands by already.
    pub(super) warm: bool,
    /// Since when nobody has accepted new connections, and how long that was until it was ready.
    pub(super) gap_since: Option<Tick>,
    pub(super) gap: Option<Duration>,
    /// Its binds are left unanswered.
    pub(super) unbound: bool,
    /// What it leaves is not to stand by.
    pub(super) stops_left: bool,
    /// Why it must not stay.
    pub(super) cause: Option<String>,
    /// It goes back at once from what was committed just before: why.
    pub(super) fell: Option<String>,
    /// How the first worker of its generation to fail did: told even if the generation is gone by
    /// the time that the ledger has it.
    pub(super) ended: Option<Ended>,
    /// Whether the new generation itself gave the reason to undo it, also where nothing of it ended: it
    /// took no connections, or CheckCommand decided against it.
    pub(super) unfit: bool,
    /// Whether a person wants it undone, rather than an event.
    pub(super) by_person: bool,
    pub(super) launched: Tick,
    pub(super) ready: Option<Duration>,
    pub(super) switch: Option<Duration>,
    /// Who asked for it.
    pub(super) client: Option<ClientId>,
    /// Who asked to undo it.
    pub(super) undoers: Vec<ClientId>,
}

impl Swap {
    /// Whether there is nothing before it that could go on serving.
    pub(super) fn is_first(&self) -> bool {
        self.from.is_none() && !self.warm
    }

    /// What status shows.
    pub(super) fn status(&self, result: SwapResult) -> SwapStatus {
        SwapStatus {
            swap_id: self.id,
            from: self.from,
            to: self.to,
            result,
            ready: self.ready,
            switch: self.switch,
            gap: self.gap,
            cause: self.cause.clone().or_else(|| self.fell.clone()),
        }
    }
}
