//! The switch, and the first word of it in the ledger.

use super::super::Unit;
use super::want_of;
use crate::machine::disk::Try;
use crate::machine::effect::{Action, Level};
use crate::machine::group::{Group, Role};
use crate::machine::swap::{Step, Swap};
use crate::machine::turn::Turn;
use crate::model::{Happening, Progress, Reply, SwapKind, WaitFor};

impl Unit {
    pub(super) fn switch(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if swap.cause.is_some() {
            return self.undo(swap, "", turn);
        }
        turn.act(Action::Switch { swap_id: swap.id, to: swap.to });
        swap.step = Step::Switching;
        true
    }

    pub(super) fn note_switched(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if self.has_failed_alone(swap) {
            return self.undo(swap, "", turn);
        }
        let probation = self.has_probation(swap);
        self.set_role(swap.to, Role::Active);
        if let Some(group) = self.groups.get_mut(&swap.to) {
            group.diverted = None;
        }
        if let Some(from) = swap.from {
            self.set_role(from, Role::Previous);
            self.divert(from, turn);
        }
        self.durable.want = want_of(&swap.plan.settings);
        let to = self.groups.get(&swap.to).map(Group::as_kept);
        self.durable.switch(to);
        turn.note(Level::Info, Some(swap.to), "receives the traffic");
        if (!probation && swap.cause.is_none()) || self.is_without_previous(swap) {
            return self.note_commit(swap, Try::default(), turn);
        }
        self.note_switch(swap, Try::default(), turn)
    }

    pub(super) fn note_switch(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let happening = Happening::Switched { swap_id: swap.id, to: swap.to };
        let record = self.record(happening, swap.client, turn);
        swap.step = Step::Noting { save: save.sent(record), commits: false };
        true
    }

    pub(super) fn note_commit(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let record = self.record_commit(swap, turn);
        swap.step = Step::Noting { save: save.sent(record), commits: true };
        true
    }

    /// A rollback is committed at the switch, and so is what has nothing to go back to.
    pub(super) fn has_probation(&self, swap: &Swap) -> bool {
        let policy = &swap.plan.settings.swap;
        let asks = !policy.probation.is_zero() || policy.check_command.is_some();
        let previous_serves =
            swap.from.and_then(|from| self.groups.get(&from)).is_some_and(Group::serves_at_all);
        asks && previous_serves && swap.plan.kind != SwapKind::Rollback
    }

    pub(super) fn switched_for_good(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if matches!(swap.step, Step::Noting { commits: true, .. }) {
            return self.committed(swap, turn);
        }
        turn.act(Action::ClearIntent);
        let probation = swap.plan.settings.swap.probation;
        self.progress(&Progress::Switched { from: swap.from, to: swap.to, probation }, turn);
        if swap.cause.is_some() {
            return self.turn_back(swap, "", turn);
        }
        let active = Reply::done(true, format!("generation {} is active", swap.to));
        self.resolve(WaitFor::Active, &active.about(Some(swap.id), Some(swap.to)), turn);
        swap.step = Step::Probation { until: turn.now.after(probation) };
        true
    }
}
