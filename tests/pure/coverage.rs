//! Which (phase, event) pairs a sweep has visited, so that a pair that was never visited fails it.

use crate::world::World;
use std::collections::BTreeMap;
use supd::machine::{Event, Input, Request};
use supd::model::status::UnitStatus;
use supd::model::{Generation, Notice, WorkerId};

type Word = &'static str;

/// Counts of pairs; what was looked at last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coverage {
    /// A worker's phase and what happened to it.
    pub(crate) workers: Table,
    /// A unit's state and what happened to it.
    pub(crate) units: Table,
    /// Phases as they were before the step, by unit, generation and index.
    places: Vec<Slot>,
    subject: Option<WorkerId>,
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

    /// All of it, sorted.
    pub(crate) fn sorted(&self) -> BTreeMap<(Word, Word), u64> {
        let pairs =
            self.0.iter().flat_map(|(row, columns)| columns.iter().map(|(column, n)| ((*row, *column), *n)));
        pairs.collect()
    }
}

impl Coverage {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.workers.merge(&other.workers);
        self.units.merge(&other.units);
    }

    /// Notes what is about to happen, and to whom.
    pub(crate) fn before(&mut self, world: &World, status: &[Option<UnitStatus>], input: &Input) {
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
        self.clock = matches!(input, Input::Clock);
        let Input::Unit(name, event) = input else { return };
        let Some(unit) = world.units.iter().find(|unit| unit.name == *name) else { return };
        let (subject, word) = subject(unit, event);
        if let Some(shown) = &status[unit.place] {
            self.units.count(shown.state.word(), word, 1);
        }
        self.subject = subject;
        let slot = self.places.iter().find(|slot| Some(slot.worker) == subject);
        if let Some(phase) = slot.map(|slot| slot.phase) {
            self.workers.count(phase, word, 1);
        }
    }

    /// Notes whose phase changed although nothing happened to it: its deadline, or supd's will.
    pub(crate) fn after(&mut self, status: &[Option<UnitStatus>]) {
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
    }
}

/// Whom an event is about, and its name.
fn subject(unit: &crate::world::Unit, event: &Event) -> (Option<WorkerId>, Word) {
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
        Event::Recorded { .. } => (None, "recorded"),
        Event::RecordFailed { .. } => (None, "record-failed"),
        Event::Spawned { worker } => (Some(*worker), "spawned"),
        Event::SpawnFailed { worker, .. } => (Some(*worker), "spawn-failed"),
        Event::Exited { worker, .. } => (Some(*worker), "exited"),
        Event::Swept { worker } => (Some(*worker), "swept"),
        Event::Noticed { worker, notice } => (Some(*worker), said(notice)),
        Event::Finished { job, result } => {
            let worker = unit.last_job.filter(|(known, _)| known == job).and_then(|(_, worker)| worker);
            (worker, if result.is_ok() { "passed" } else { "failed" })
        }
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
        Request::Rollback { .. } => "rollback",
        Request::Promote { .. } => "promote",
        Request::Abort => "abort",
        Request::Wait { .. } => "wait",
        Request::Reload => "reload",
        Request::Kill { .. } => "kill",
        Request::Refresh { .. } => "refresh",
    }
}
