//! What the disk must take in the end: when it is tried again, and how long its answer takes.

use crate::model::{RecordId, Tick};
use std::time::Duration;

/// The first pause after the disk or the kernel said no; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest such pause.
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Something that must succeed in the end: on its way, or waiting for another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Try {
    /// The record that is on its way.
    pub(super) record: Option<RecordId>,
    /// When to try again.
    pub(super) again: Option<Tick>,
    /// How often it failed.
    pub(super) failures: u32,
}

impl Try {
    /// On its way, as this record.
    pub(super) fn sent(self, record: RecordId) -> Self {
        Self { record: Some(record), again: None, ..self }
    }

    /// It failed: when to try again.
    pub(super) fn failed(self, now: Tick) -> Self {
        let pause = RETRY_FIRST.saturating_mul(1 << self.failures.min(8)).min(RETRY_LONGEST);
        Self { record: None, again: Some(now.after(pause)), failures: self.failures.saturating_add(1) }
    }
}

/// An answer that takes longer than this is worth a word.
const SLOW: Duration = Duration::from_secs(5);

/// An answer of the disk that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owed {
    since: Tick,
    /// Whether the log says already that it takes long.
    pub(super) told: bool,
}

impl Owed {
    /// Asked for now.
    pub(super) fn new(now: Tick) -> Self {
        Self { since: now, told: false }
    }

    /// When to say that it takes long.
    pub(super) fn due(self) -> Option<Tick> {
        (!self.told).then(|| self.since.after(SLOW))
    }

    /// How long it has taken, if that is long.
    pub(super) fn slow(self, now: Tick) -> Option<Duration> {
        Some(now.since(self.since)).filter(|waited| *waited >= SLOW)
    }
}
