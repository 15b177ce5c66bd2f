//! One step of one unit: the time, fresh numbers, and the effects so far.

use super::effect::{Action, Effect, Level};
use crate::model::{Generation, JobId, RecordId, Tick, UnitName, WorkerId};

/// Counters that never go back within one life of supd.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    worker: u64,
    job: u64,
    record: u64,
}

impl Numbers {
    /// From this worker on.
    pub(super) fn after(worker: WorkerId) -> Self {
        Self { worker: worker.0, ..Self::default() }
    }

    /// Whether this worker's number was given out.
    pub(super) fn gave(&self, worker: WorkerId) -> bool {
        (1..=self.worker).contains(&worker.0)
    }
}

/// What every decision has at hand.
pub(super) struct Turn<'a> {
    pub(super) now: Tick,
    pub(super) unit: &'a UnitName,
    pub(super) numbers: &'a mut Numbers,
    pub(super) out: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    /// Wants something done for the unit.
    pub(super) fn act(&mut self, action: Action) {
        self.out.push(Effect::Unit(self.unit.clone(), action));
    }

    /// Wants a line in the log.
    pub(super) fn note(&mut self, level: Level, generation: Option<Generation>, text: impl Into<String>) {
        self.act(Action::Note { level, generation, text: text.into() });
    }

    /// A worker's number.
    pub(super) fn worker(&mut self) -> WorkerId {
        self.numbers.worker += 1;
        WorkerId(self.numbers.worker)
    }

    /// A command's number.
    pub(super) fn job(&mut self) -> JobId {
        self.numbers.job += 1;
        JobId(self.numbers.job)
    }

    /// A record's number.
    pub(super) fn record(&mut self) -> RecordId {
        self.numbers.record += 1;
        RecordId(self.numbers.record)
    }
}
