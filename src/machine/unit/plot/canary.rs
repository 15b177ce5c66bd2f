//! A share of the new connections for the candidate, before it gets all of them.

use super::super::{Unit, Waiter};
use crate::machine::effect::{Action, JobKind, JobWork, Level};
use crate::machine::swap::table::{StepKind, SwapCueKind, SwapMove, decide};
use crate::machine::swap::{Step, Swap};
use crate::machine::turn::Turn;
use crate::model::settings::CanaryStep;
use crate::model::{ClientId, Generation, Progress, Reply, Share, SwapKind, WaitFor};
use std::time::Duration;

/// How long CheckCommand may take where TimeoutStartSec is infinite.
const CHECK_LONGEST: Duration = Duration::from_secs(90);

impl Unit {
    /// From ready on: held, the first share, or everything.
    pub(super) fn admit(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if swap.plan.stops.hold {
            return self.hold(swap, turn);
        }
        match swap.plan.stops.canary {
            Some(share) => {
                let goes_on = self.share_without_end(swap, share, turn);
                if let Some(reply) = self.stands_at(swap) {
                    self.resolve_all(&reply, turn);
                }
                goes_on
            }
            None => self.take_stage(swap, 0, turn),
        }
    }

    /// The file's step of this number; after the last one it gets everything.
    fn take_stage(&mut self, swap: &mut Swap, stage: usize, turn: &mut Turn<'_>) -> bool {
        let steps =
            swap.plan.kind == SwapKind::Swap && swap.steered && swap.from.is_some() && swap.gap.is_none();
        let step = swap.plan.settings.swap.canary.get(stage).filter(|_| steps).copied();
        let Some(CanaryStep { share, hold }) = step else { return self.intend(swap, turn) };
        let share = Share::of_parts(share).unwrap_or(Share::FULL);
        self.set_share(swap, share, turn);
        self.progress(&Progress::Canary { generation: swap.to, share, lasts: Some(hold) }, turn);
        swap.step = Step::Canary { stage, until: Some(turn.now.after(hold)) };
        true
    }

    /// The share that a person names: it stays so until one says something else.
    fn share_without_end(&mut self, swap: &mut Swap, share: Share, turn: &mut Turn<'_>) -> bool {
        if share.is_full() || swap.from.is_none() {
            return self.intend(swap, turn);
        }
        self.set_share(swap, share, turn);
        if share.is_zero() {
            swap.step = Step::Held;
            self.progress(&Progress::Held { generation: swap.to }, turn);
            return true;
        }
        self.progress(&Progress::Canary { generation: swap.to, share, lasts: None }, turn);
        swap.step = Step::Canary { stage: usize::MAX, until: None };
        true
    }

    /// What a swap that waits for a person has come to, for who wanted it that far.
    pub(super) fn stands_at(&self, swap: &Swap) -> Option<Reply> {
        let text = match (swap.step.kind(), swap.share) {
            (StepKind::Unbound, _) => format!("generation {} is started and on no port", swap.to),
            (StepKind::Held, _) => format!("generation {} is ready and held", swap.to),
            (StepKind::Canary, share) => {
                format!("generation {} receives {share} % of the new connections", swap.to)
            }
            (_under_way, _) => return None,
        };
        let reply = Reply { next: self.command("promote"), ..Reply::done(true, text) };
        Some(reply.about(Some(swap.id), Some(swap.to)))
    }

    pub(super) fn set_share(&mut self, swap: &mut Swap, share: Share, turn: &mut Turn<'_>) {
        if swap.share == share {
            return;
        }
        swap.share = share;
        if share.is_zero() {
            self.divert(swap.to, turn);
        }
        let sticky = swap.plan.settings.swap.canary_sticky;
        turn.act(Action::Share { swap_id: swap.id, candidate: swap.to, share, sticky });
        let text = format!("receives {share} % of the new connections");
        turn.note(Level::Info, Some(swap.to), text);
    }

    /// Whatever it received, it receives nothing any more.
    pub(super) fn take_share(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) {
        self.set_share(swap, Share::ZERO, turn);
    }

    /// The time of a step is over: CheckCommand is asked, if there is one.
    pub(super) fn ask_check(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let Step::Canary { stage, .. } = swap.step else { return true };
        let launch = self.recipes.get(&swap.to).cloned();
        let (Some(command), Some(launch)) = (swap.plan.settings.swap.check_command.clone(), launch) else {
            return self.take_stage(swap, stage.saturating_add(1), turn);
        };
        let (job, work) = (turn.job(), JobWork::Command(command));
        turn.act(Action::Run { job, kind: JobKind::Check, work, launch, worker: None, fault: None });
        let limit = swap.plan.settings.service.timeout_start.unwrap_or(CHECK_LONGEST);
        swap.step = Step::Asking { stage, job, until: turn.now.after(limit) };
        true
    }

    pub(super) fn grow(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let Step::Asking { stage, .. } = swap.step else { return true };
        self.take_stage(swap, stage.saturating_add(1), turn)
    }

    pub(super) fn reshare(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        Self::end_check(swap, turn);
        self.share_without_end(swap, swap.wanted, turn)
    }

    /// `share`: a person sets what the candidate receives.
    pub(in crate::machine::unit) fn ask_share(
        &mut self,
        client: ClientId,
        share: Share,
        wait: WaitFor,
        turn: &mut Turn<'_>,
    ) {
        let Some(swap) = &mut self.swap else {
            let canary = Some(format!("swap {} --canary {share}%", self.name));
            let canary = if self.settings.is_by_path_alone() { self.command("swap") } else { canary };
            let text = "no swap is under way, so there is no candidate to share with";
            let (text, next) = self.no_swap(text, canary);
            return self.refuse(client, text, next, turn);
        };
        if decide(swap.step.kind(), SwapCueKind::Share) == SwapMove::RefuseShare {
            let text = format!("generation {} can be given no share: {}", swap.to, swap.step.kind().doing());
            return self.refuse(client, text, self.command("wait"), turn);
        }
        if !swap.steered {
            let text = "its listeners have one slot for all: new connections cannot be shared";
            return self.refuse(client, text, self.command("promote"), turn);
        }
        if !share.is_zero() && !share.is_full() && swap.plan.settings.is_by_path_alone() {
            let text = "a path leads to one generation at a time: new connections cannot be shared";
            return self.refuse(client, text, self.command("promote"), turn);
        }
        swap.wanted = share;
        self.swap_cue(SwapCueKind::Share, "", turn);
        match self.swap.as_ref().and_then(|swap| self.stands_at(swap)) {
            Some(reply) => self.reply(client, reply, turn),
            None => self.waiters.push(Waiter { client, wait, drained: None }),
        }
    }

    /// Whom the running swap tries out with real connections, in whole or in part.
    pub(in crate::machine) fn on_trial(&self) -> Option<Generation> {
        let swap = self.swap.as_ref().filter(|swap| swap.steered && swap.from.is_some())?;
        match swap.step.kind() {
            StepKind::Canary
            | StepKind::Asking
            | StepKind::Intending
            | StepKind::Switching
            | StepKind::Noting
            | StepKind::Probation
            | StepKind::Checking => Some(swap.to),
            StepKind::Copying
            | StepKind::Binding
            | StepKind::Numbering
            | StepKind::Diverting
            | StepKind::Clearing
            | StepKind::Launching
            | StepKind::Unbound
            | StepKind::Held
            | StepKind::Committing
            | StepKind::Undoing
            | StepKind::Returning
            | StepKind::TurnIntending
            | StepKind::TurnSwitching
            | StepKind::TurnNoting => None,
        }
    }

    /// The candidate, or one in probation, does not take what reaches it.
    pub(in crate::machine::unit) fn stalled(
        &mut self,
        generation: Generation,
        reason: &str,
        turn: &mut Turn<'_>,
    ) {
        if self.on_trial() == Some(generation) {
            if let Some(group) = self.groups.get_mut(&generation) {
                group.stalled = true;
            }
            self.swap_cue(SwapCueKind::Failed, &format!("generation {generation}: {reason}"), turn);
        }
    }
}
