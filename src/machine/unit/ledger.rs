//! What is on its way into the ledger.

use super::super::effect::{Action, Level};
use super::super::swap::table::SwapCueKind;
use super::super::swap::{Step, Try};
use super::super::turn::Turn;
use super::Unit;
use crate::model::{ClientId, Happening, RecordId, SwapId, Tick};

/// The last record, on its way or to be tried again.
#[derive(Debug, Clone)]
pub(super) struct Unsaved {
    pub(super) happening: Happening,
    pub(super) client: Option<ClientId>,
    pub(super) save: Try,
}

impl Unsaved {
    /// Whether it says that this swap began.
    pub(super) fn began(&self, swap: SwapId) -> bool {
        matches!(self.happening, Happening::Began { swap_id, .. } if swap_id == swap)
    }
}

impl Unit {
    /// Sends the durable state and what happened on its way to the disk.
    pub(super) fn record(
        &mut self,
        happening: Happening,
        client: Option<ClientId>,
        turn: &mut Turn<'_>,
    ) -> RecordId {
        let save = Try::default();
        self.send(Unsaved { happening, client, save }, turn)
    }

    pub(super) fn send(&mut self, unsaved: Unsaved, turn: &mut Turn<'_>) -> RecordId {
        let Unsaved { happening, client, save } = unsaved;
        let id = turn.record();
        let (unit, durable) = (self.name.clone(), self.durable.clone());
        let record = crate::model::Record { unit, durable, happening: happening.clone() };
        turn.act(Action::Record { id, record, client });
        self.unsaved = Some(Unsaved { happening, client, save: save.sent(id) });
        id
    }

    /// When a record that failed, and that nobody waits for any more, is tried again: the ledger
    /// must come to say what is.
    pub(super) fn ledger_deadline(&self) -> Option<Tick> {
        let sent_again_by_swap = match self.swap.as_ref().map(|swap| swap.step) {
            Some(Step::Noting { .. } | Step::Committing { .. } | Step::TurnNoting { .. }) => true,
            Some(_) | None => false,
        };
        if sent_again_by_swap {
            return None;
        }
        self.unsaved.as_ref().and_then(|unsaved| unsaved.save.again)
    }

    pub(super) fn note_outcome(&mut self, record: RecordId, failed: bool, now: Tick) {
        let Some(unsaved) = &mut self.unsaved else { return };
        if unsaved.save.record != Some(record) {
            return;
        }
        if failed {
            unsaved.save = unsaved.save.failed(now);
        } else {
            self.unsaved = None;
            self.intent_left = None;
            self.on_disk.clear();
        }
    }

    pub(super) fn recorded(&mut self, record: RecordId, failure: Option<&str>, turn: &mut Turn<'_>) {
        if let Some(reason) = failure {
            turn.note(Level::Error, None, format!("ledger: {reason}"));
        }
        self.note_outcome(record, failure.is_some(), turn.now);
        if self.swap.as_ref().is_some_and(|swap| swap.step.record() == Some(record)) {
            match failure {
                None => self.swap_cue(SwapCueKind::Recorded, "", turn),
                Some(reason) => self.swap_cue(SwapCueKind::RecordFailed, reason, turn),
            }
            return;
        }
        self.life_recorded(record, failure, turn);
    }
}
