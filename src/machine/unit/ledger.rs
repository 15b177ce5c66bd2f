//! What is on its way into the ledger.

use super::super::disk::{Owed, Try};
use super::super::effect::{Action, Level};
use super::super::swap::Step;
use super::super::swap::table::SwapCueKind;
use super::super::turn::Turn;
use super::Unit;
use crate::model::status::SwapResult;
use crate::model::{ClientId, Happening, RecordId, SwapId, Tick};

/// The last record, on its way or to be tried again.
#[derive(Debug, Clone)]
pub(super) struct Unsaved {
    pub(super) happening: Happening,
    pub(super) client: Option<ClientId>,
    pub(super) save: Try,
    /// Since when the disk has owed an answer, for this record or one before it.
    owed: Owed,
    /// Why it failed last.
    why: String,
}

impl Unsaved {
    /// Whether it says that this swap began.
    pub(super) fn began(&self, swap: SwapId) -> bool {
        matches!(self.happening, Happening::Began { swap_id, .. } if swap_id == swap)
    }

    /// How it says that this swap ended.
    pub(super) fn ended(&self, swap: SwapId) -> Option<SwapResult> {
        ended(&self.happening, swap)
    }

    /// The disk has yet to answer.
    pub(super) fn is_on_its_way(&self) -> bool {
        self.save.record.is_some()
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
        let last = self.unsaved.take();
        if let Some(last) = &last {
            self.supersede(last, &happening);
        }
        let why = last.as_ref().map(|last| last.why.clone()).unwrap_or_default();
        // Records are answered in order: one that waits behind another waits as long.
        let waits = last.filter(Unsaved::is_on_its_way);
        let owed = waits.map_or(Owed::new(turn.now), |last| last.owed);
        self.send(Unsaved { happening, client, save: Try::default(), owed, why }, turn)
    }

    /// Sends what failed once more.
    pub(super) fn send_again(&mut self, turn: &mut Turn<'_>) {
        if let Some(unsaved) = self.unsaved.take() {
            self.send(Unsaved { owed: Owed::new(turn.now), ..unsaved }, turn);
        }
    }

    fn send(&mut self, unsaved: Unsaved, turn: &mut Turn<'_>) -> RecordId {
        let Unsaved { happening, client, save, owed, why } = unsaved;
        let id = turn.record();
        let (unit, durable) = (self.name.clone(), self.durable.clone());
        let record = crate::model::Record { unit, durable, happening: happening.clone() };
        turn.act(Action::Record { id, record, client });
        self.unsaved = Some(Unsaved { happening, client, save: save.sent(id), owed, why });
        id
    }

    /// When a record that failed, and that nobody waits for any more, is tried again: the ledger
    /// must come to say what is.
    pub(super) fn ledger_deadline(&self) -> Option<Tick> {
        if self.swap.as_ref().is_some_and(|swap| swap.step.says_again()) {
            return None;
        }
        self.unsaved.as_ref().and_then(|unsaved| unsaved.save.again)
    }

    fn note_outcome(&mut self, record: RecordId, failure: Option<&str>, turn: &mut Turn<'_>) {
        self.untold_outcome(record, failure.is_none());
        let Some(unsaved) = &mut self.unsaved else { return };
        if let (true, Some(waited)) = (unsaved.owed.told, unsaved.owed.slow(turn.now)) {
            turn.note(Level::Warning, None, format!("the disk has answered after {}s", waited.as_secs()));
        }
        unsaved.owed = Owed::new(turn.now);
        if unsaved.save.record != Some(record) {
            return;
        }
        match failure {
            Some(why) => {
                unsaved.save = unsaved.save.failed(turn.now);
                why.clone_into(&mut unsaved.why);
            }
            None => {
                self.unsaved = None;
                self.intent_left = None;
                self.on_disk.clear();
            }
        }
    }

    pub(super) fn recorded(&mut self, record: RecordId, failure: Option<&str>, turn: &mut Turn<'_>) {
        if let Some(reason) = failure {
            turn.note(Level::Error, None, format!("ledger: {reason}"));
        }
        self.note_outcome(record, failure, turn);
        self.parted(record, failure, turn);
        self.undeploy_recorded(record, failure, turn);
        if self.swap.as_ref().is_some_and(|swap| swap.step.record() == Some(record)) {
            match failure {
                None => self.swap_cue(SwapCueKind::Recorded, "", turn),
                Some(reason) => self.swap_cue(SwapCueKind::RecordFailed, reason, turn),
            }
            return;
        }
        if self.install_recorded(record, failure, turn) {
            return;
        }
        self.life_recorded(record, failure, turn);
    }

    // A disk that takes its time.

    /// What the disk owes an answer for.
    fn owed(&self) -> impl Iterator<Item = (&'static str, Owed)> {
        let record = self.unsaved.as_ref().filter(|unsaved| unsaved.is_on_its_way());
        let intent = match self.swap.as_ref().map(|swap| swap.step) {
            Some(Step::Intending { owed } | Step::TurnIntending { save: Try { again: None, .. }, owed }) => {
                Some(("the intent of a switch", owed))
            }
            Some(_) | None => None,
        };
        record.map(|unsaved| ("a record", unsaved.owed)).into_iter().chain(intent)
    }

    /// When to say that it takes long.
    pub(super) fn slow_deadline(&self) -> Option<Tick> {
        self.owed().filter_map(|(_, owed)| owed.due()).min()
    }

    /// Says once that it takes long.
    pub(super) fn say_slow(&mut self, turn: &mut Turn<'_>) {
        for text in slow_notes(self.owed().filter(|(_, owed)| !owed.told), turn.now) {
            turn.note(Level::Error, None, text);
        }
        if let Some(unsaved) = &mut self.unsaved {
            unsaved.owed.told |= unsaved.owed.slow(turn.now).is_some();
        }
        if let Some(Step::Intending { owed } | Step::TurnIntending { owed, .. }) =
            self.swap.as_mut().map(|swap| &mut swap.step)
        {
            owed.told |= owed.slow(turn.now).is_some();
        }
    }

    /// What status says of the disk.
    pub(super) fn disk_notes(&self, now: Tick) -> Vec<String> {
        let mut notes = slow_notes(self.owed(), now);
        if let Some(unsaved) = self.unsaved.as_ref().filter(|unsaved| !unsaved.why.is_empty()) {
            notes.push(format!("the ledger cannot be written: {}", unsaved.why));
        }
        notes
    }
}

fn slow_notes(owed: impl Iterator<Item = (&'static str, Owed)>, now: Tick) -> Vec<String> {
    let slow = owed.filter_map(|(what, owed)| Some((what, owed.slow(now)?.as_secs())));
    let text = |(what, waited)| {
        format!("the disk has not taken {what} for {waited}s: what serves goes on, answers wait for the disk")
    };
    slow.map(text).collect()
}

/// How this says that a swap ended, if it does.
pub(super) fn ended(happening: &Happening, swap: SwapId) -> Option<SwapResult> {
    match *happening {
        Happening::Ended { swap_id, result, .. } if swap_id == swap => Some(result),
        Happening::Ended { .. }
        | Happening::Began { .. }
        | Happening::Switched { .. }
        | Happening::Waiting
        | Happening::Stopped
        | Happening::Installed { .. }
        | Happening::Undeployed { .. }
        | Happening::Pinned { .. } => None,
    }
}
