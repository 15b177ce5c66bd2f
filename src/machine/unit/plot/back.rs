//! The way back after the switch: the same steps, once the previous generation is ready.

use super::super::Unit;
use super::want_of;
use crate::machine::effect::{Action, Level};
use crate::machine::group::{Group, Role};
use crate::machine::swap::{Step, Swap, Try};
use crate::machine::turn::Turn;
use crate::model::status::SwapResult;
use crate::model::{ExitStatus, Happening, Intent, Progress, Reply};

impl Unit {
    pub(super) fn doom(swap: &mut Swap, detail: &str) -> bool {
        swap.cause.get_or_insert_with(|| detail.to_owned());
        true
    }

    pub(super) fn turn_back(&mut self, swap: &mut Swap, detail: &str, turn: &mut Turn<'_>) -> bool {
        let detail = if detail.is_empty() { "CheckCommand took too long" } else { detail };
        let cause = swap.cause.get_or_insert_with(|| detail.to_owned()).clone();
        let Some(from) = swap.from else { return true };
        turn.note(Level::Warning, Some(swap.to), format!("rolled back to generation {from}: {cause}"));
        self.progress(&Progress::RollingBack { from: swap.to, to: from, cause }, turn);
        swap.step = Step::Returning;
        if let Some(group) = self.groups.get_mut(&from) {
            let _told_nothing = group.revive(turn);
        }
        if self.groups.get(&from).is_some_and(Group::serves) {
            return self.turn_intend(swap, Try::default(), turn);
        }
        true
    }

    pub(super) fn turn_intend(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let Some(from) = swap.from else { return true };
        turn.act(Action::SaveIntent(Intent { swap_id: swap.id, from: Some(swap.to), to: from }));
        swap.step = Step::TurnIntending { save: Try { again: None, ..save } };
        true
    }

    pub(super) fn turn_switch(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let Some(from) = swap.from else { return true };
        let serves = |generation| self.groups.get(&generation).is_some_and(Group::serves_at_all);
        if !serves(from) && serves(swap.to) {
            // It ended once more while the intent was on its way: who serves goes on.
            turn.act(Action::ClearIntent);
            swap.step = Step::Returning;
            return true;
        }
        turn.act(Action::Switch { swap_id: swap.id, to: from });
        swap.step = Step::TurnSwitching { save: Try { again: None, ..save } };
        true
    }

    pub(super) fn turn_note(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let Some(from) = swap.from else { return true };
        self.set_role(from, Role::Active);
        self.set_role(swap.to, Role::Replaced);
        if let Some(group) = self.groups.get(&from) {
            self.durable.want = want_of(&group.launch.settings);
        }
        self.durable.turn_back();
        turn.note(Level::Info, Some(from), "receives the traffic again");
        self.note_turned(swap, Try::default(), turn)
    }

    pub(super) fn note_turned(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let (result, cause) = (SwapResult::RolledBack, swap.cause.clone());
        let record = self.record(Happening::Ended { swap_id: swap.id, result, cause }, swap.client, turn);
        swap.step = Step::TurnNoting { save: save.sent(record) };
        true
    }

    pub(super) fn turned_back(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        turn.act(Action::ClearIntent);
        let cause = swap.cause.clone().unwrap_or_default();
        let from = swap.from.unwrap_or(swap.to);
        if let Some(group) = self.groups.get_mut(&from) {
            group.needed = false;
        }
        self.last_swap = Some(swap.status(SwapResult::RolledBack));
        let text = format!("{cause}; rolled back to generation {from}");
        let mut reply = Reply::new(ExitStatus::RolledBack, true, text).about(Some(swap.id), Some(from));
        reply.ended = swap.ended.clone();
        self.resolve_all(&reply, turn);
        let text = format!("generation {from} is active again");
        for client in std::mem::take(&mut swap.undoers) {
            self.reply(client, Reply::done(true, text.clone()).about(Some(swap.id), Some(from)), turn);
        }
        false
    }
}
