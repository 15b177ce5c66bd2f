//! The way back after the switch: the same steps, once the previous generation is ready.

use super::super::Unit;
use super::want_of;
use crate::machine::disk::{Owed, Try};
use crate::machine::effect::{Action, Level};
use crate::machine::group::{Group, Role, START_LONGEST};
use crate::machine::swap::{Step, Swap};
use crate::machine::turn::Turn;
use crate::model::status::SwapResult;
use crate::model::{ExitStatus, Generation, Happening, Progress, Reply};
use std::time::Duration;

/// After that time the pauses between two words about it grow up to this.
const LATE_LONGEST: Duration = Duration::from_secs(600);

impl Unit {
    pub(super) fn doom(swap: &mut Swap, detail: &str) -> bool {
        swap.cause.get_or_insert_with(|| detail.to_owned());
        true
    }

    pub(super) fn turn_back(&mut self, swap: &mut Swap, detail: &str, turn: &mut Turn<'_>) -> bool {
        let detail = if detail.is_empty() { "CheckCommand took too long" } else { detail };
        let cause = swap.cause.get_or_insert_with(|| detail.to_owned()).clone();
        let Some(from) = swap.from else { return true };
        turn.note(
            Level::Warning,
            Some(swap.to),
            format!("must not stay, so back to generation {from}: {cause}"),
        );
        self.progress(&Progress::RollingBack { from: swap.to, to: from, cause }, turn);
        if self.groups.get(&from).is_some_and(Group::serves) {
            return self.turn_intend(swap, Try::default(), turn);
        }
        // It may take a while: should supd end meanwhile, the next one goes back, too.
        turn.act(Action::SaveIntent(self.intent(swap, Some(swap.to), from)));
        self.wait_for_previous(from, swap, 0, turn);
        true
    }

    /// Whoever serves goes on, however badly, until the previous generation is ready again.
    fn wait_for_previous(&mut self, from: Generation, swap: &mut Swap, late: u32, turn: &mut Turn<'_>) {
        if let Some(group) = self.groups.get_mut(&from) {
            let _told_nothing = group.revive(turn);
        }
        let within = self.back_within(from);
        let pause = within.saturating_mul(1 << late.min(16)).min(LATE_LONGEST.max(within));
        swap.step = Step::Returning { until: turn.now.after(pause), late };
    }

    /// How long this generation may take to be ready again, by its own times.
    fn back_within(&self, generation: Generation) -> Duration {
        self.groups.get(&generation).map_or(START_LONGEST, Group::start_longest)
    }

    /// The previous generation is not ready in time. No deadline removes the last one that serves:
    /// it goes on being tried, and whoever waits is told how things are.
    pub(super) fn not_back(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let (Some(from), Step::Returning { late, .. }) = (swap.from, swap.step) else { return true };
        let serves = |generation| self.groups.get(&generation).is_some_and(Group::serves_at_all);
        if serves(from) {
            // Not all of it, but some: it takes over, and what it takes over from goes on serving
            // until the rest is ready, too.
            return self.turn_intend(swap, Try::default(), turn);
        }
        let (alone, to) = (serves(swap.to), swap.to);
        self.wait_for_previous(from, swap, late + 1, turn);
        let who =
            if alone { format!("generation {to} goes on serving") } else { "nothing is serving".to_owned() };
        let within = self.back_within(from);
        let text = format!(
            "generation {from} is to take over again and is not ready after {within:?}; {who}, supd goes on trying"
        );
        turn.note(Level::Error, Some(to), text.clone());
        if late == 0 {
            self.alarm_not_back(swap, &text, turn);
        }
        let cause = swap.cause.clone().unwrap_or_default();
        let status = if alone { ExitStatus::Timeout } else { ExitStatus::Down };
        let mut reply = Reply::new(status, true, format!("{cause}; {text}")).about(Some(swap.id), Some(to));
        (reply.next, reply.ended) = (Some(format!("wait {}", self.name)), swap.ended.clone());
        self.resolve_all(&reply, turn);
        for client in std::mem::take(&mut swap.undoers) {
            self.reply(client, reply.clone(), turn);
        }
        if let Some((_, Some(waiter))) = self.next.take().map(|next| *next) {
            let text = format!("{}; what was to replace it is not begun", reply.text);
            self.reply(waiter.client, Reply { text, ..reply }, turn);
        }
        true
    }

    pub(super) fn turn_intend(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let Some(from) = swap.from else { return true };
        turn.act(Action::SaveIntent(self.intent(swap, Some(swap.to), from)));
        swap.step = Step::TurnIntending { save: Try { again: None, ..save }, owed: Owed::new(turn.now) };
        true
    }

    pub(super) fn turn_switch(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let Some(from) = swap.from else { return true };
        let serves = |generation| self.groups.get(&generation).is_some_and(Group::serves_at_all);
        if !serves(from) && serves(swap.to) {
            // It ended once more while the intent was on its way: who serves goes on.
            self.wait_for_previous(from, swap, 0, turn);
            return true;
        }
        turn.act(Action::Switch { swap_id: swap.id, to: from });
        swap.step = Step::TurnSwitching { save: Try { again: None, ..save } };
        true
    }

    pub(super) fn turn_note(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let Some(from) = swap.from else { return true };
        self.set_role(from, Role::Active);
        self.divert(swap.to, turn);
        if swap.by_person {
            self.leave_behind(swap.to, swap, turn);
        } else {
            self.set_role(swap.to, Role::Replaced);
        }
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
        self.alarm_back(swap, from, turn);
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
