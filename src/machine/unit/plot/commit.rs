//! Probation and commit.

use super::super::{Drain, Unit};
use crate::machine::disk::Try;
use crate::machine::effect::{Action, JobKind, JobWork, Level};
use crate::machine::group::Group;
use crate::machine::swap::{Step, Swap};
use crate::machine::turn::Turn;
use crate::model::status::{SwapResult, SwapStatus};
use crate::model::{Generation, Happening, Progress, RecordId, Reply, WaitFor};
use std::time::Duration;

/// How long CheckCommand may take where TimeoutStartSec is infinite.
const CHECK_LONGEST: Duration = Duration::from_secs(90);

impl Unit {
    pub(super) fn check_command(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let Some(command) = swap.plan.settings.swap.check_command.clone() else {
            return self.commit(swap, turn);
        };
        let Some(launch) = self.recipes.get(&swap.to).cloned() else { return true };
        let (job, work) = (turn.job(), JobWork::Command(command));
        turn.act(Action::Run { job, kind: JobKind::Check, work, launch, worker: None, fault: None });
        let limit = swap.plan.settings.service.timeout_start.unwrap_or(CHECK_LONGEST);
        swap.step = Step::Checking { job, until: turn.now.after(limit) };
        true
    }

    /// Ends a check whose answer is no longer waited for.
    pub(in crate::machine::unit) fn end_check(swap: &Swap, turn: &mut Turn<'_>) {
        if let Some(job) = swap.step.check() {
            turn.act(Action::EndJob { job });
        }
    }

    pub(super) fn commit(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let record = self.record_commit(swap, turn);
        swap.step = Step::Committing { save: Try::default().sent(record) };
        true
    }

    pub(super) fn record_commit(&mut self, swap: &Swap, turn: &mut Turn<'_>) -> RecordId {
        self.conclude();
        self.drop_old_releases(&swap.plan.settings);
        let (result, cause) = (SwapResult::Committed, swap.fell.clone());
        let happening = Happening::Ended { swap_id: swap.id, result, cause };
        self.record(happening, swap.client, turn)
    }

    pub(super) fn finish(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        turn.act(Action::ClearIntent);
        if let Some(from) = swap.from {
            self.leave_behind(from, swap, turn);
        }
        turn.note(Level::Info, Some(swap.to), "committed");
        self.last_swap = Some(SwapStatus { cause: swap.fell.clone(), ..swap.status(SwapResult::Committed) });
        if let Some(cause) = &swap.fell {
            self.tell_fallen(swap, cause, turn);
            return false;
        }
        let stays = if swap.is_first() { "active" } else { "committed" };
        let stands_by = |from: &Generation| self.groups.get(from).is_some_and(Group::stands_by);
        let beside = swap.from.filter(stands_by).map(|from| format!("; generation {from} stands by"));
        let beside = beside.unwrap_or_default();
        let gap = swap.gap.map(|gap| format!("; new connections waited for {} ms", gap.as_millis()));
        let gap = gap.unwrap_or_default();
        let reply = Reply::done(true, format!("generation {} is {stays}{beside}{gap}", swap.to))
            .about(Some(swap.id), Some(swap.to));
        self.resolve(WaitFor::Committed, &reply, turn);
        // The answer said it to the others.
        self.progress(&Progress::Committed { generation: swap.to }, turn);
        let leaves = |from: &Generation| self.groups.get(from).is_some_and(|group| !group.stands_by());
        match swap.from.filter(leaves) {
            Some(from) => self.wait_for_drain(from, swap, turn),
            None => self.resolve_all(&reply, turn),
        }
        let late = Reply::refused(format!("generation {} is committed", swap.to), Some(self.way_back()));
        for client in std::mem::take(&mut swap.undoers) {
            self.reply(client, late.clone(), turn);
        }
        false
    }

    /// Those who asked for `--wait=drained` go on waiting for the end of this generation.
    pub(super) fn wait_for_drain(&mut self, generation: Generation, swap: &Swap, turn: &mut Turn<'_>) {
        let workers = self.groups.get(&generation).map_or(0, Group::remaining);
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.drained.is_none()) {
            waiter.drained = Some(Drain { of: generation, swap_id: Some(swap.id), to: Some(swap.to) });
            let (connections, oldest, queued, left) = (None, None, None, None);
            let queues = Vec::new();
            let progress =
                Progress::Draining { generation, workers, connections, oldest, queued, queues, left };
            turn.act(Action::Progress(waiter.client, progress));
        }
    }
}
