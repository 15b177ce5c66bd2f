//! Which (phase, event) pairs a sweep has visited, so that a pair that was never visited fails it.

use crate::world::{Unit, World};
use supd::machine::swap_table::{StepKind, SwapCueKind as Cue};
use supd::machine::{Action, Effect, Event, Input, JobKind, JobWork, Request};
use supd::model::status::UnitStatus;
use supd::model::{Generation, Notice, Signal, WorkerId};

type Word = &'static str;

/// Counts of pairs; what was looked at last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coverage {
    /// A worker's phase and what happened to it.
    pub(crate) workers: Table,
    /// A unit's state and what happened to it.
    pub(crate) units: Table,
    /// A swap's step and what happened to it.
    pub(crate) swaps: Table,
    /// What ExecOnFailure was told.
    pub(crate) alarms: Table,
    /// Phases as they were before the step, by unit, generation and index.
    places: Vec<Slot>,
    subject: Option<WorkerId>,
    /// The unit that the event was about, the swap's step then, and what that may mean to the swap.
    plot: Option<(usize, StepKind, Option<Cue>)>,
    clock: bool,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    unit: usize,
    generation: Generation,
    index: usize,
    worker: WorkerId,
    phase: Word,
}

/// Pairs of words and how often each was seen; few words, so looking them up in a row is quick.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(Vec<(Word, Vec<(Word, u64)>)>);

impl Table {
    fn count(&mut self, row: Word, column: Word, more: u64) {
        let at = self.0.iter().position(|(known, _)| *known == row).unwrap_or_else(|| {
            self.0.push((row, Vec::new()));
            self.0.len() - 1
        });
        let columns = &mut self.0[at].1;
        match columns.iter_mut().find(|(known, _)| *known == column) {
            Some((_, count)) => *count += more,
            None => columns.push((column, more)),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (row, columns) in &other.0 {
            for (column, count) in columns {
                self.count(row, column, *count);
            }
        }
    }

    pub(crate) fn get(&self, row: &str, column: &str) -> u64 {
        let columns = self.0.iter().find(|(known, _)| *known == row);
        let found = columns.and_then(|(_, columns)| columns.iter().find(|(known, _)| *known == column));
        found.map_or(0, |(_, count)| *count)
    }
}

impl Coverage {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.workers.merge(&other.workers);
        self.units.merge(&other.units);
        self.swaps.merge(&other.swaps);
        self.alarms.merge(&other.alarms);
    }

    /// Notes what is about to happen, and to whom.
    pub(crate) fn before(
        &mut self,
        world: &World,
        status: &[Option<UnitStatus>],
        input: &Input,
        step_of: impl Fn(&Unit) -> Option<StepKind>,
    ) {
        self.places.clear();
        for unit in &world.units {
            let Some(shown) = &status[unit.place] else { continue };
            for generation in &shown.generations {
                self.places.extend(generation.workers.iter().enumerate().map(|(index, worker)| Slot {
                    unit: unit.place,
                    generation: generation.generation,
                    index,
                    worker: worker.worker,
                    phase: worker.phase,
                }));
            }
        }
        self.subject = None;
        self.plot = None;
        self.clock = matches!(input, Input::Clock);
        let Input::Unit(name, event) = input else {
            // One unit is enough: what the clock does to a swap does not depend on the others.
            let unit = world.units.first().filter(|_| self.clock);
            self.plot = unit.and_then(|unit| Some((unit.place, step_of(unit)?, None)));
            return;
        };
        let Some(unit) = world.units.iter().find(|unit| unit.name == *name) else { return };
        let (subject, word) = subject(unit, event);
        let shown = status[unit.place].as_ref();
        if let Some(shown) = shown {
            self.units.count(shown.state.word(), word, 1);
        }
        self.subject = subject;
        let slot = self.places.iter().find(|slot| Some(slot.worker) == subject);
        if let Some(phase) = slot.map(|slot| slot.phase) {
            self.workers.count(phase, word, 1);
        }
        let Some(step) = step_of(unit) else { return };
        let to = shown.and_then(|shown| shown.last_swap.as_ref()).map(|swap| swap.to);
        let new = slot.is_some_and(|slot| Some(slot.generation) == to);
        let check = unit.last_job.is_some_and(|(_, kind, _)| kind == JobKind::Check);
        let cue = cue(event, new, check);
        if let Some(cue) = cue {
            self.swaps.count(step.name(), cue.name(), 1);
        }
        self.plot = Some((unit.place, step, cue));
    }

    /// Notes what is done where no phase changes: SIGKILL once more, a record once more.
    pub(crate) fn sees(&mut self, effect: &Effect) {
        let Effect::Unit(_, action) = effect else { return };
        if let Action::Run { work: JobWork::Tell(_, failure), .. } = action {
            self.alarms.count(failure.what.word(), "told", 1);
        }
        let worker = match action {
            Action::Signal { worker, signal: Signal::KILL, .. } => Some(*worker),
            Action::Sweep { worker, signal: Some(Signal::KILL) } => Some(*worker),
            _ => None,
        };
        let slot = self.places.iter().find(|slot| Some(slot.worker) == worker);
        if let Some(phase) = slot.map(|slot| slot.phase) {
            self.workers.count(phase, "kill", 1);
        }
        let Some((_, step, None)) = self.plot.filter(|_| self.clock) else { return };
        let again = matches!(
            (step, action),
            (StepKind::Noting | StepKind::Committing | StepKind::TurnNoting, Action::Record { .. })
                | (StepKind::TurnIntending, Action::SaveIntent(_))
                | (StepKind::TurnSwitching, Action::Switch { .. })
        );
        // Only the clock says this, and it is said to the log whoever waits.
        let late = matches!(action, Action::Note { text, .. } if text.contains("is to take over again"));
        if again || (step == StepKind::Returning && late) {
            self.swaps.count(step.name(), Cue::Due.name(), 1);
        }
    }

    /// Notes whose phase changed although nothing happened to it: its deadline, or supd's will.
    pub(crate) fn after(
        &mut self,
        world: &World,
        status: &[Option<UnitStatus>],
        step_of: impl Fn(&Unit) -> Option<StepKind>,
    ) {
        for slot in &self.places {
            if Some(slot.worker) == self.subject {
                continue;
            }
            let shown = status[slot.unit].as_ref();
            let generation = shown
                .and_then(|shown| shown.generations.iter().find(|shown| shown.generation == slot.generation));
            let now = generation.and_then(|shown| shown.workers.get(slot.index));
            if now.is_some_and(|worker| worker.phase != slot.phase) {
                self.workers.count(slot.phase, if self.clock { "due" } else { "told" }, 1);
            }
        }
        // What a worker or the clock meant to the swap shows in what the swap did next.
        let Some((place, before, None)) = self.plot else { return };
        let Some(unit) = world.unit(place) else { return };
        let after = step_of(unit);
        if after == Some(before) {
            return;
        }
        let cue = match (before, after) {
            (StepKind::Returning, _) => Cue::BackReady,
            (StepKind::Launching, Some(StepKind::Undoing)) => Cue::Failed,
            (StepKind::Diverting, Some(StepKind::Undoing)) => Cue::Undiverted,
            (StepKind::Diverting, Some(_)) => Cue::Diverted,
            (StepKind::Clearing, Some(StepKind::Launching)) => Cue::Cleared,
            (StepKind::Launching, Some(StepKind::Unbound)) => Cue::Unbound,
            (StepKind::Launching, _) => Cue::Ready,
            _ if self.clock => Cue::Due,
            _ => return,
        };
        self.swaps.count(before.name(), cue.name(), 1);
    }
}

/// What an event means to a swap that is under way, where that is certain.
fn cue(event: &Event, of_new: bool, check: bool) -> Option<Cue> {
    Some(match event {
        Event::Pinned { pinned: true, .. } => Cue::Copied,
        Event::Pinned { pinned: false, .. } => Cue::Uncopied,
        Event::Bound { .. } => Cue::Bound,
        Event::BindFailed { .. } => Cue::BindFailed,
        Event::Recorded { .. } => Cue::Recorded,
        Event::RecordFailed { .. } => Cue::RecordFailed,
        Event::IntentSaved { .. } => Cue::IntentSaved,
        Event::IntentFailed { .. } => Cue::IntentFailed,
        Event::Switched { .. } => Cue::Switched,
        Event::SwitchFailed { .. } => Cue::SwitchFailed,
        Event::ShareFailed { .. } => Cue::ShareFailed,
        Event::Stalled { .. } if of_new => Cue::Failed,
        Event::Finished { result, .. } if check => {
            if result.is_ok() {
                Cue::Passed
            } else {
                Cue::Unpassed
            }
        }
        Event::Exited { .. } | Event::SpawnFailed { .. } if of_new => Cue::Failed,
        Event::Noticed { notice: Notice::Stopping | Notice::WatchdogTrigger, .. } if of_new => Cue::Failed,
        Event::Asked { request: Request::Share { .. }, .. } => Cue::Share,
        Event::Asked { request: Request::Promote { .. }, .. } => Cue::Promote,
        Event::Asked { request: Request::Abort | Request::Rollback { .. }, .. } => Cue::Abort,
        Event::Asked { .. }
        | Event::HungUp { .. }
        | Event::Unlistened
        | Event::Stalled { .. }
        | Event::Counted { .. }
        | Event::Retired { .. }
        | Event::Knocked
        | Event::Spawned { .. }
        | Event::SpawnFailed { .. }
        | Event::Exited { .. }
        | Event::Swept { .. }
        | Event::BindWaits { .. }
        | Event::Listens { .. }
        | Event::Noticed { .. }
        | Event::Finished { .. }
        | Event::Unpacked { .. }
        | Event::Looked { .. }
        | Event::Clock => return None,
    })
}

/// Whom an event is about, and its name.
fn subject(unit: &Unit, event: &Event) -> (Option<WorkerId>, Word) {
    match event {
        Event::Asked { request, .. } => (None, verb(request)),
        Event::HungUp { .. } => (None, "hung-up"),
        Event::Bound { .. } => (None, "bound"),
        Event::BindFailed { .. } => (None, "bind-failed"),
        Event::Unlistened => (None, "unlistened"),
        Event::Knocked => (None, "knocked"),
        Event::IntentSaved { .. } => (None, "intent-saved"),
        Event::IntentFailed { .. } => (None, "intent-failed"),
        Event::Switched { .. } => (None, "switched"),
        Event::SwitchFailed { .. } => (None, "switch-failed"),
        Event::ShareFailed { .. } => (None, "share-failed"),
        Event::Stalled { .. } => (None, "stalled"),
        Event::Counted { .. } => (None, "counted"),
        Event::Retired { .. } => (None, "retired"),
        Event::Recorded { .. } => (None, "recorded"),
        Event::RecordFailed { .. } => (None, "record-failed"),
        Event::Spawned { worker } => (Some(*worker), "spawned"),
        Event::SpawnFailed { worker, .. } => (Some(*worker), "spawn-failed"),
        Event::Exited { worker, .. } => (Some(*worker), "exited"),
        Event::Swept { worker } => (Some(*worker), "swept"),
        Event::BindWaits { worker } => (Some(*worker), "waits"),
        Event::Listens { worker } => (Some(*worker), "listening"),
        Event::Noticed { worker, notice } => (Some(*worker), said(notice)),
        Event::Finished { job, result } => {
            let worker = unit.last_job.filter(|(known, ..)| known == job).and_then(|(.., worker)| worker);
            (worker, if result.is_ok() { "passed" } else { "failed" })
        }
        Event::Unpacked { .. } => (None, "unpacked"),
        Event::Looked { .. } => (None, "looked"),
        Event::Pinned { .. } => (None, "pinned"),
        Event::Clock => (None, "clock"),
    }
}

fn said(notice: &Notice) -> Word {
    match notice {
        Notice::Ready => "ready",
        Notice::Reloading { .. } => "reloading",
        Notice::Stopping => "stopping",
        Notice::Watchdog => "alive",
        Notice::WatchdogTrigger => "trigger",
        Notice::WatchdogPeriod(_) => "period",
        Notice::ExtendTimeout(_) => "extend",
        Notice::Status(_)
        | Notice::RestartReset
        | Notice::Errno(_)
        | Notice::Error(_)
        | Notice::ExitStatus(_)
        | Notice::MainPid(_)
        | Notice::NotifyAccess(_) => "remark",
    }
}

fn verb(request: &Request) -> Word {
    match request {
        Request::Start { .. } => "start",
        Request::Stop { .. } => "stop",
        Request::Restart { .. } => "restart",
        Request::Swap { .. } => "swap",
        Request::Install { .. } => "install",
        Request::Undeploy { .. } => "undeploy",
        Request::Rollback { .. } => "rollback",
        Request::Share { .. } => "share",
        Request::Drain { .. } => "drain",
        Request::Promote { .. } => "promote",
        Request::Abort => "abort",
        Request::Wait { .. } => "wait",
        Request::Reload => "reload",
        Request::Kill { .. } => "kill",
        Request::Refresh { .. } => "refresh",
    }
}
