//! Before the switch: listeners, number, launch, ready; and what is undone there.

use super::super::Unit;
use super::want_of;
use crate::machine::disk::{Owed, Try};
use crate::machine::effect::{Action, Launch, Level};
use crate::machine::group::{Group, Role};
use crate::machine::swap::{Plan, Step, Swap};
use crate::machine::turn::Turn;
use crate::model::release::Verdict;
use crate::model::status::SwapResult;
use crate::model::{ExitStatus, Happening, Kept, Progress, Reply, SwapKind, WaitFor};
use std::sync::Arc;

impl Unit {
    /// Asks for the listeners of what is about to be launched.
    pub(super) fn bind(&mut self, plan: &Plan, turn: &mut Turn<'_>) -> Step {
        let job = turn.job();
        turn.act(Action::Bind { job, settings: plan.settings.clone() });
        self.bound.reserve_exact(plan.settings.sockets.len());
        self.bound.extend(plan.settings.sockets.iter().cloned());
        Step::Binding { job }
    }

    pub(super) fn bind_copied(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        swap.step = self.bind(&swap.plan, turn);
        true
    }

    /// What a rollback would launch is not pinned, or not yet.
    pub(super) fn uncopied(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let (Some(origin), Step::Copying { anyway, .. }) = (swap.plan.origin, swap.step) else { return true };
        if anyway {
            return self.bind_copied(swap, turn);
        }
        let still = self.copying.contains(&origin);
        let refusal = if still { self.still_copied(origin) } else { self.unpinned(origin) };
        turn.note(Level::Warning, Some(origin), format!("no rollback: {}", refusal.text));
        self.resolve_all(&refusal, turn);
        false
    }

    pub(super) fn number(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let release = swap.plan.release.clone();
        // A release never changes: it is its own pin.
        let named = Kept { generation: swap.to, pinned: release.is_some(), release };
        swap.heir_of = self.heir_of(&swap.plan);
        if swap.is_first() {
            self.durable.want = want_of(&swap.plan.settings);
            let last = self.durable.active.as_ref().map(|kept| kept.generation);
            let proven = self.unproven.replace(swap.to).is_none_or(|unproven| Some(unproven) != last);
            self.durable.succeed(swap.plan.kind, named, proven);
        } else {
            self.durable.challenge(swap.plan.kind, named);
        }
        let origin = swap.plan.origin.unwrap_or(swap.to);
        let launch = Launch {
            generation: swap.to,
            settings: swap.plan.settings.clone(),
            release: swap.plan.release.clone(),
            origin,
            pinned: swap.plan.origin.is_some(),
        };
        self.recipes.insert(swap.to, Arc::new(launch));
        let happening =
            Happening::Began { swap_id: swap.id, kind: swap.plan.kind, from: swap.from, to: swap.to };
        swap.step = Step::Numbering { record: self.record(happening, swap.client, turn) };
        true
    }

    pub(super) fn unnumbered(&mut self, swap: &mut Swap, reason: &str, turn: &mut Turn<'_>) -> bool {
        if !swap.is_first() {
            return self.drop_swap(swap, &format!("its number cannot be made durable: {reason}"), turn);
        }
        // Nobody serves: to serve matters more than the number, and every later record has it.
        self.launch(swap, turn)
    }

    pub(super) fn launch(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let Some(launch) = self.recipes.get(&swap.to).cloned() else { return true };
        self.clear_old_intent(turn);
        if self.clears_first(swap) {
            return self.make_way(swap, turn);
        }
        swap.launched = turn.now;
        swap.step = Step::Launching;
        let workers = launch.settings.service.workers;
        self.progress(&Progress::Launched { generation: swap.to, workers }, turn);
        turn.note(Level::Info, Some(swap.to), format!("launched with {workers} worker(s)"));
        let role = if swap.is_first() { Role::Active } else { Role::Candidate };
        self.hold_binds(swap, turn);
        self.bequeath(swap, turn);
        let mut group = Group::new(launch, role, swap.steered, turn);
        let told = group.launch_all(turn);
        self.groups.insert(swap.to, group);
        debug_assert!(told.is_empty(), "a launch tells nothing before its first outcome");
        true
    }

    pub(super) fn proceed(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        swap.ready = Some(turn.now.since(swap.launched));
        swap.gap = swap.gap_since.map(|since| turn.now.since(since));
        let about = (Some(swap.id), Some(swap.to));
        if swap.is_first() {
            return self.note_commit(swap, Try::default(), turn);
        }
        let ready = Reply::done(true, format!("generation {} is ready", swap.to)).about(about.0, about.1);
        if swap.unbound {
            return self.ready_unbound(swap, turn);
        }
        if !swap.plan.stops.hold {
            self.resolve(WaitFor::Ready, &ready, turn);
        }
        self.admit(swap, turn)
    }

    /// Stops at ready: the rest is a person's to say.
    pub(super) fn hold(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        swap.step = Step::Held;
        self.progress(&Progress::Held { generation: swap.to }, turn);
        turn.note(Level::Info, Some(swap.to), "ready and held");
        let held = Reply::done(true, format!("generation {} is ready and held", swap.to));
        let held = Reply { next: Some(format!("promote {}", self.name)), ..held };
        self.resolve_all(&held.about(Some(swap.id), Some(swap.to)), turn);
        true
    }

    pub(super) fn intend(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        turn.act(Action::SaveIntent(self.intent(swap, swap.from, swap.to)));
        swap.step = Step::Intending { owed: Owed::new(turn.now) };
        true
    }

    pub(super) fn drop_swap(&mut self, swap: &mut Swap, cause: &str, turn: &mut Turn<'_>) -> bool {
        let cause = if cause.is_empty() { "aborted" } else { cause };
        swap.cause.get_or_insert_with(|| cause.to_owned());
        // Where the active generation is gone for good, the one that it replaced may serve on.
        let alive = |group: &Group| !group.role.ends() && !group.is_idle();
        let down = swap.is_first() && !self.groups.values().any(alive);
        let status = if down { ExitStatus::Down } else { ExitStatus::Failed };
        turn.note(Level::Error, Some(swap.to), format!("not launched: {cause}"));
        self.durable.give_up();
        if down {
            let alone = swap.client.is_none();
            self.life = self.unbound(cause, alone, swap.plan.origin.filter(|_| alone), turn);
        }
        let result = if swap.by_person { SwapResult::Aborted } else { SwapResult::Failed };
        self.last_swap = Some(swap.status(result));
        let numbering = matches!(swap.step, Step::Numbering { .. });
        if numbering && self.unsaved.as_ref().is_none_or(|unsaved| !unsaved.began(swap.id)) {
            // A later record is on its way, or on the disk, and says that it began.
            let happening = Happening::Ended { swap_id: swap.id, result, cause: swap.cause.clone() };
            self.record(happening, swap.client, turn);
        } else if let Some(unsaved) = self.unsaved.as_mut().filter(|unsaved| unsaved.began(swap.id)) {
            // When the disk takes records again, this is what there is to say.
            unsaved.happening = Happening::Ended { swap_id: swap.id, result, cause: swap.cause.clone() };
        }
        self.alarm_dropped(swap, (result, cause), turn);
        self.bring_back(swap, turn);
        if self.wait_for_again(swap, turn) {
            return false;
        }
        let reply = Reply::new(status, false, cause).about(Some(swap.id), None);
        self.resolve_all(&reply, turn);
        self.answer_undoers(swap, turn);
        false
    }

    pub(in crate::machine::unit) fn undo(
        &mut self,
        swap: &mut Swap,
        detail: &str,
        turn: &mut Turn<'_>,
    ) -> bool {
        let cause = if detail.is_empty() { "aborted" } else { detail };
        swap.cause.get_or_insert_with(|| cause.to_owned());
        let result = if swap.by_person { SwapResult::Aborted } else { SwapResult::Failed };
        self.clear_old_intent(turn);
        self.conclude();
        if self.is_to_blame(swap) {
            let failed = self.groups.get(&swap.to).map(Group::as_kept);
            self.durable.judge(failed.as_ref(), Verdict::Bad);
        }
        if self.bring_back(swap, turn) {
            self.leave_to_next(swap, turn);
        } else {
            self.take_share(swap, turn);
        }
        // Who served serves again, as far as anybody does.
        let back = self.again.is_none() && self.next.is_none();
        swap.gap = swap.gap.or_else(|| swap.gap_since.filter(|_| back).map(|since| turn.now.since(since)));
        if swap.warm {
            // It stands by as before, for as long again.
            self.stand_by(swap.to, &swap.plan.settings.swap, turn);
        } else if !swap.is_first() {
            self.retire_candidate(swap.to, turn);
        }
        let happening = Happening::Ended { swap_id: swap.id, result, cause: swap.cause.clone() };
        swap.step = Step::Undoing { record: self.record(happening, swap.client, turn), result };
        true
    }

    /// Whether its release is not to be taken again unasked: it failed, or a person did not want it. (What
    /// serves already is launched once more by a restart; that one was ended says nothing of it.)
    fn is_to_blame(&self, swap: &Swap) -> bool {
        if !swap.by_person {
            return swap.unfit || swap.ended.is_some();
        }
        let other = swap.plan.release.as_ref().is_some_and(|label| !self.is_active(label));
        swap.plan.kind == SwapKind::Swap && other
    }

    pub(super) fn undone(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let Step::Undoing { result, .. } = swap.step else { return true };
        let cause = swap.cause.clone().unwrap_or_default();
        self.last_swap = Some(swap.status(result));
        turn.note(Level::Warning, Some(swap.to), format!("{}: {cause}", result.word()));
        self.alarm_undone(swap, (result, &cause), turn);
        if self.wait_for_again(swap, turn) {
            return false;
        }
        let serves = self.groups.values().any(Group::answers);
        let status = if swap.is_first() || !serves { ExitStatus::Down } else { ExitStatus::Failed };
        let mut reply = Reply::new(status, swap.is_first(), self.tell_undone(swap, &cause));
        // Without the one that stood by there is still its release.
        let cold = (swap.warm && !swap.by_person).then(|| self.way_back());
        let cold = cold.filter(|_| swap.plan.kind == SwapKind::Rollback);
        reply.next = if status == ExitStatus::Down { self.command("status") } else { cold };
        reply.ended = swap.ended.clone();
        self.resolve_all(&reply.about(Some(swap.id), Some(swap.to)), turn);
        self.answer_undoers(swap, turn);
        false
    }

    pub(in crate::machine::unit) fn tell_undone(&self, swap: &Swap, cause: &str) -> String {
        let left = swap.from.unwrap_or(swap.to);
        let group = self.groups.get(&left);
        if let (Some(from), true) = (swap.from, group.is_some_and(Group::answers)) {
            return format!("{cause}; generation {from} was not touched");
        }
        let tries = match (group.is_some_and(Group::goes_on), swap.from) {
            (true, None) => "supd goes on trying".to_owned(),
            (true, Some(from)) => format!("supd goes on trying generation {from}"),
            (false, _) => "Restart says not to try again".to_owned(),
        };
        format!("{cause}; nothing is serving, {tries}")
    }

    pub(super) fn answer_undoers(&self, swap: &mut Swap, turn: &mut Turn<'_>) {
        let text = format!("the swap to generation {} is undone", swap.to);
        for client in std::mem::take(&mut swap.undoers) {
            self.reply(client, Reply::done(true, text.clone()).about(Some(swap.id), Some(swap.to)), turn);
        }
    }
}
