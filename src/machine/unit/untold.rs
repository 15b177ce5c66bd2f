//! What a record said that did not get through before a later one did: the state is in the later one, but
//! the history would never have what happened. It is said once more as soon as the disk takes records.

use super::Unit;
use super::ledger::{Unsaved, ended};
use crate::machine::swap::Swap;
use crate::machine::turn::Turn;
use crate::model::status::SwapResult;
use crate::model::{ClientId, Happening, RecordId, SwapId};

/// No more are remembered; each is of a swap or a release, of which one is under way at a time.
const UNTOLD_MAX: usize = 8;

/// What happened, of which a later record has taken the place.
#[derive(Debug, Clone)]
pub(super) struct Untold {
    /// It may still get through.
    record: Option<RecordId>,
    happening: Happening,
    client: Option<ClientId>,
}

impl Unit {
    /// Another record takes the place of this one.
    pub(super) fn supersede(&mut self, last: &Unsaved, next: &Happening) {
        if self.swap.as_ref().is_some_and(|swap| swap.step.says_again() && last.ended(swap.id).is_some()) {
            return;
        }
        let happening = match (&last.happening, next) {
            // The same once more.
            (Happening::Ended { swap_id: one, .. }, Happening::Ended { swap_id: other, .. })
                if one == other =>
            {
                return;
            }
            (Happening::Ended { .. }, _next) => last.happening.clone(),
            (
                Happening::Began { .. }
                | Happening::Switched { .. }
                | Happening::Waiting
                // It has begun again since: that it was stopped is no more.
                | Happening::Stopped
                | Happening::Installed { .. }
                | Happening::Undeployed { .. }
                | Happening::Pinned { .. },
                _next,
            ) => return,
        };
        self.remember(Untold { record: last.save.record, happening, client: last.client });
    }

    /// This is true by a record that says something else.
    pub(super) fn tell_later(&mut self, happening: Happening, client: Option<ClientId>) {
        self.remember(Untold { record: None, happening, client });
    }

    /// Nobody waits any more for the record that says the end of this swap; it may be behind a later one.
    pub(super) fn keep_telling(&mut self, swap: &Swap) {
        let Some(result) = swap.step.end() else { return };
        let last = self.unsaved.as_ref().is_some_and(|unsaved| unsaved.ended(swap.id).is_some());
        if last || self.untold.iter().any(|untold| ended(&untold.happening, swap.id).is_some()) {
            return;
        }
        let cause = if result == SwapResult::Committed { swap.fell.clone() } else { swap.cause.clone() };
        let happening = Happening::Ended { swap_id: swap.id, result, cause };
        self.remember(Untold { record: swap.step.record(), happening, client: swap.client });
    }

    /// It is said otherwise.
    pub(super) fn forget_untold_end(&mut self, swap: SwapId) {
        self.untold.retain(|untold| ended(&untold.happening, swap).is_none());
    }

    fn remember(&mut self, untold: Untold) {
        if self.untold.len() == UNTOLD_MAX {
            self.untold.remove(0);
        }
        self.untold.push(untold);
    }

    /// The disk has answered a record that was not the last one.
    pub(super) fn untold_outcome(&mut self, record: RecordId, saved: bool) {
        self.untold.retain(|untold| !(saved && untold.record == Some(record)));
        for untold in self.untold.iter_mut().filter(|untold| untold.record == Some(record)) {
            untold.record = None;
        }
    }

    /// The disk takes records, and none is on its way: the next one that is owed.
    pub(super) fn tell_untold(&mut self, turn: &mut Turn<'_>) {
        if self.unsaved.is_some() {
            return;
        }
        let Some(at) = self.untold.iter().position(|untold| untold.record.is_none()) else { return };
        let Untold { happening, client, .. } = self.untold.remove(at);
        self.record(happening, client, turn);
    }
}
