//! The plot of a swap: how each move of its table is made.

use super::super::effect::{Action, JobKind, JobWork, Launch, Level};
use super::super::group::{Group, Role};
use super::super::swap::table::{SwapCueKind, SwapMove, decide};
use super::super::swap::{Plan, Step, Swap, Try};
use super::super::turn::Turn;
use super::{Drain, Life, Unit, Waiter};
use crate::model::settings::{Retain, Start};
use crate::model::status::{SwapResult, SwapStatus};
use crate::model::{
    ExitStatus, Generation, Happening, Intent, Kept, Progress, Reply, Settings, SwapId, SwapKind, WaitFor,
    Want,
};
use std::sync::Arc;
use std::time::Duration;

/// How long CheckCommand may take where TimeoutStartSec is infinite.
const CHECK_LONGEST: Duration = Duration::from_secs(90);

/// What a unit that runs with these settings should be doing.
fn want_of(settings: &Settings) -> Want {
    match settings.service.start {
        Start::OnDemand => Want::OnDemand,
        Start::Boot | Start::Manual => Want::Up,
    }
}

impl Unit {
    /// Begins a swap: everything that may refuse it was asked before.
    pub(super) fn begin(&mut self, plan: Plan, waiter: Option<Waiter>, turn: &mut Turn<'_>) {
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        let from = active.filter(|active| self.groups.get(active).is_some_and(|group| !group.is_gone()));
        for group in self.groups.values_mut().filter(|group| group.is_gone()) {
            group.role = Role::Leaving;
        }
        self.durable.swap_last += 1;
        self.durable.generation_last += 1;
        let job = turn.job();
        turn.act(Action::Bind { job, settings: plan.settings.clone() });
        self.bound.reserve_exact(plan.settings.sockets.len());
        self.bound.extend(plan.settings.sockets.iter().cloned());
        self.swap = Some(Swap {
            id: SwapId(self.durable.swap_last),
            plan,
            from,
            to: Generation(self.durable.generation_last),
            step: Step::Binding { job },
            cause: None,
            ended: None,
            by_person: false,
            launched: turn.now,
            ready: None,
            switch: None,
            client: waiter.map(|waiter| waiter.client),
            undoers: Vec::new(),
        });
        self.waiters.extend(waiter);
        self.life = Life::Up;
    }

    /// Gives a cue to the running swap: looks the move up and makes it.
    pub(super) fn swap_cue(&mut self, cue: SwapCueKind, detail: &str, turn: &mut Turn<'_>) {
        let Some(mut swap) = self.swap.take() else { return };
        let made = decide(swap.step.kind(), cue);
        let answered = matches!(cue, SwapCueKind::Passed | SwapCueKind::Unpassed);
        if matches!(made, SwapMove::Commit | SwapMove::TurnBack) && !answered {
            Self::end_check(&swap, turn);
        }
        let goes_on = match made {
            SwapMove::Stale | SwapMove::RefusePromote | SwapMove::RefuseAbort => true,
            SwapMove::Drop => self.drop_swap(&mut swap, detail, turn),
            SwapMove::Number => self.number(&mut swap, turn),
            SwapMove::Launch => self.launch(&mut swap, turn),
            SwapMove::Unnumbered => self.unnumbered(&mut swap, detail, turn),
            SwapMove::Proceed => self.proceed(&mut swap, turn),
            SwapMove::Intend => self.intend(&mut swap, turn),
            SwapMove::Switch => self.switch(&mut swap, turn),
            SwapMove::Note => self.note_switched(&mut swap, turn),
            SwapMove::Settle => self.switched_for_good(&mut swap, turn),
            SwapMove::Check => self.check_command(&mut swap, turn),
            SwapMove::Commit => self.commit(&mut swap, turn),
            SwapMove::Finish => self.finish(&mut swap, turn),
            SwapMove::Undo => self.undo(&mut swap, detail, turn),
            SwapMove::Undone => self.undone(&mut swap, turn),
            SwapMove::Doom => Self::doom(&mut swap, detail),
            SwapMove::TurnBack => self.turn_back(&mut swap, detail, turn),
            SwapMove::TurnIntend => self.turn_intend(&mut swap, Try::default(), turn),
            SwapMove::TurnSwitch => self.turn_switch(&mut swap, Try::default(), turn),
            SwapMove::TurnNote => self.turn_note(&mut swap, turn),
            SwapMove::TurnedBack => self.turned_back(&mut swap, turn),
            SwapMove::Retry => self.retry(&mut swap, detail, turn),
            SwapMove::Again => self.again(&mut swap, turn),
        };
        if goes_on {
            self.swap = Some(swap);
        } else if let Some((plan, waiter)) = self.next.take() {
            self.begin(plan, waiter, turn);
        }
    }

    // Before the switch.

    fn drop_swap(&mut self, swap: &mut Swap, cause: &str, turn: &mut Turn<'_>) -> bool {
        let cause = if cause.is_empty() { "aborted" } else { cause };
        swap.cause.get_or_insert_with(|| cause.to_owned());
        // Where the active generation is gone for good, the one that it replaced may serve on.
        let alive = |group: &Group| group.role != Role::Leaving && !group.is_idle();
        let down = swap.is_first() && !self.groups.values().any(alive);
        let status = if down { ExitStatus::Down } else { ExitStatus::Failed };
        turn.note(Level::Error, Some(swap.to), format!("not launched: {cause}"));
        self.durable.candidate = None;
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
        let reply = Reply::new(status, false, cause).about(Some(swap.id), None);
        self.resolve_all(&reply, turn);
        self.answer_undoers(swap, turn);
        false
    }

    fn number(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let release = swap.plan.release.clone();
        let named = Some(Kept { generation: swap.to, release, pinned: false });
        if !swap.is_first() {
            self.durable.candidate = named;
        } else {
            self.durable.want = want_of(&swap.plan.settings);
            let last = std::mem::replace(&mut self.durable.active, named);
            let starts_over = matches!(swap.plan.kind, SwapKind::Start | SwapKind::Restart);
            let unproven = self.unproven.replace(swap.to);
            self.durable.previous = last.filter(|last| !starts_over && unproven != Some(last.generation));
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

    fn unnumbered(&mut self, swap: &mut Swap, reason: &str, turn: &mut Turn<'_>) -> bool {
        if !swap.is_first() {
            return self.drop_swap(swap, &format!("its number cannot be made durable: {reason}"), turn);
        }
        // Nobody serves: to serve matters more than the number, and every later record has it.
        self.launch(swap, turn)
    }

    fn launch(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let Some(launch) = self.recipes.get(&swap.to).cloned() else { return true };
        self.clear_old_intent(turn);
        swap.launched = turn.now;
        swap.step = Step::Launching;
        let workers = launch.settings.service.workers;
        self.progress(&Progress::Launched { generation: swap.to, workers }, turn);
        turn.note(Level::Info, Some(swap.to), format!("launched with {workers} worker(s)"));
        let role = if swap.is_first() { Role::Active } else { Role::Candidate };
        let mut group = Group::new(launch, role, turn);
        let told = group.launch_all(turn);
        self.groups.insert(swap.to, group);
        debug_assert!(told.is_empty(), "a launch tells nothing before its first outcome");
        true
    }

    fn proceed(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        swap.ready = Some(turn.now.since(swap.launched));
        let about = (Some(swap.id), Some(swap.to));
        if swap.is_first() {
            return self.note_commit(swap, Try::default(), turn);
        }
        let ready = Reply::done(true, format!("generation {} is ready", swap.to)).about(about.0, about.1);
        if !swap.plan.hold {
            self.resolve(WaitFor::Ready, &ready, turn);
            return self.intend(swap, turn);
        }
        swap.step = Step::Held;
        self.progress(&Progress::Held { generation: swap.to }, turn);
        turn.note(Level::Info, Some(swap.to), "ready and held");
        let held = Reply {
            next: Some(format!("promote {}", self.name)),
            text: format!("generation {} is ready and held", swap.to),
            ..ready
        };
        self.resolve_all(&held, turn);
        true
    }

    fn intend(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        turn.act(Action::SaveIntent(Intent { swap_id: swap.id, from: swap.from, to: swap.to }));
        swap.step = Step::Intending;
        true
    }

    // The switch.

    fn switch(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if swap.cause.is_some() {
            return self.undo(swap, "", turn);
        }
        turn.act(Action::Switch { swap_id: swap.id, to: swap.to });
        swap.step = Step::Switching { since: turn.now };
        true
    }

    fn note_switched(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if let Step::Switching { since } = swap.step {
            swap.switch = Some(turn.now.since(since));
        }
        let probation = self.has_probation(swap);
        self.set_role(swap.to, Role::Active);
        if let Some(from) = swap.from {
            self.set_role(from, Role::Previous);
        }
        self.durable.want = want_of(&swap.plan.settings);
        self.durable.candidate = None;
        self.durable.previous = self.durable.active.take();
        self.durable.active = self.kept(swap.to);
        turn.note(Level::Info, Some(swap.to), "receives the traffic");
        if !probation && swap.cause.is_none() {
            return self.note_commit(swap, Try::default(), turn);
        }
        self.note_switch(swap, Try::default(), turn)
    }

    fn note_switch(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let happening = Happening::Switched { swap_id: swap.id, to: swap.to };
        let record = self.record(happening, swap.client, turn);
        swap.step = Step::Noting { save: save.sent(record), commits: false };
        true
    }

    fn note_commit(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let record = self.record_commit(swap, turn);
        swap.step = Step::Noting { save: save.sent(record), commits: true };
        true
    }

    /// A rollback is committed at the switch, and so is what has nothing to go back to.
    fn has_probation(&self, swap: &Swap) -> bool {
        let policy = &swap.plan.settings.swap;
        let asks = !policy.probation.is_zero() || policy.check_command.is_some();
        let previous_serves =
            swap.from.and_then(|from| self.groups.get(&from)).is_some_and(Group::serves_at_all);
        asks && previous_serves && swap.plan.kind != SwapKind::Rollback
    }

    fn switched_for_good(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if matches!(swap.step, Step::Noting { commits: true, .. }) {
            return self.finish(swap, turn);
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

    // Probation and commit.

    fn check_command(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let Some(command) = swap.plan.settings.swap.check_command.clone() else {
            return self.commit(swap, turn);
        };
        let Some(launch) = self.recipes.get(&swap.to).cloned() else { return true };
        let (job, work) = (turn.job(), JobWork::Command(command));
        turn.act(Action::Run { job, kind: JobKind::Check, work, launch, worker: None });
        let limit = swap.plan.settings.service.timeout_start.unwrap_or(CHECK_LONGEST);
        swap.step = Step::Checking { job, until: turn.now.after(limit) };
        true
    }

    /// Ends a check whose answer is no longer waited for.
    pub(super) fn end_check(swap: &Swap, turn: &mut Turn<'_>) {
        if let Step::Checking { job, .. } = swap.step {
            turn.act(Action::EndJob { job });
        }
    }

    fn commit(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let record = self.record_commit(swap, turn);
        swap.step = Step::Committing { save: Try::default().sent(record) };
        true
    }

    /// What a commit makes of the durable state; saying it twice changes nothing.
    fn record_commit(&mut self, swap: &Swap, turn: &mut Turn<'_>) -> crate::model::RecordId {
        let previous = self.durable.previous.take();
        let retains = self.recipe_retain(swap.to) != Retain::None;
        match (swap.plan.kind, previous) {
            (SwapKind::Swap, Some(previous)) => {
                self.durable.retained = Some(previous).filter(|_| retains);
                self.durable.forward = None;
            }
            (SwapKind::Rollback, previous) => {
                self.durable.retained = None;
                self.durable.forward = previous.or(self.durable.forward.take());
            }
            (SwapKind::Swap, None) => self.durable.forward = None,
            (SwapKind::Start | SwapKind::Restart, _) => {}
        }
        let happening = Happening::Ended { swap_id: swap.id, result: SwapResult::Committed, cause: None };
        self.record(happening, swap.client, turn)
    }

    fn recipe_retain(&self, generation: Generation) -> Retain {
        self.recipes.get(&generation).map_or(Retain::None, |launch| launch.settings.swap.retain)
    }

    fn finish(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        turn.act(Action::ClearIntent);
        if let Some(from) = swap.from {
            self.set_role(from, Role::Replaced);
        }
        turn.note(Level::Info, Some(swap.to), "committed");
        self.last_swap = Some(SwapStatus { cause: None, ..swap.status(SwapResult::Committed) });
        let stays = if swap.is_first() { "active" } else { "committed" };
        let reply = Reply::done(true, format!("generation {} is {stays}", swap.to))
            .about(Some(swap.id), Some(swap.to));
        self.resolve(WaitFor::Committed, &reply, turn);
        // The answer said it to the others.
        self.progress(&Progress::Committed { generation: swap.to }, turn);
        match swap.from.filter(|from| self.groups.contains_key(from)) {
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
    fn wait_for_drain(&mut self, generation: Generation, swap: &Swap, turn: &mut Turn<'_>) {
        let workers = self.groups.get(&generation).map_or(0, Group::remaining);
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.drained.is_none()) {
            waiter.drained = Some(Drain { of: generation, swap_id: Some(swap.id), to: Some(swap.to) });
            turn.act(Action::Progress(waiter.client, Progress::Draining { generation, workers }));
        }
    }

    // Undone before the switch.

    pub(super) fn undo(&mut self, swap: &mut Swap, detail: &str, turn: &mut Turn<'_>) -> bool {
        let cause = if detail.is_empty() { "aborted" } else { detail };
        swap.cause.get_or_insert_with(|| cause.to_owned());
        let result = if swap.by_person { SwapResult::Aborted } else { SwapResult::Failed };
        self.clear_old_intent(turn);
        self.durable.candidate = None;
        if swap.is_first() {
            self.retain_previous();
        } else {
            self.dismiss(swap.to, turn);
        }
        let happening = Happening::Ended { swap_id: swap.id, result, cause: swap.cause.clone() };
        swap.step = Step::Undoing { record: self.record(happening, swap.client, turn), result };
        true
    }

    fn undone(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let Step::Undoing { result, .. } = swap.step else { return true };
        let cause = swap.cause.clone().unwrap_or_default();
        self.last_swap = Some(swap.status(result));
        let status = if swap.is_first() { ExitStatus::Down } else { ExitStatus::Failed };
        turn.note(Level::Warning, Some(swap.to), format!("{}: {cause}", result.word()));
        let mut reply = Reply::new(status, swap.is_first(), self.tell_undone(swap, &cause));
        reply.ended = swap.ended.clone();
        self.resolve_all(&reply.about(Some(swap.id), Some(swap.to)), turn);
        self.answer_undoers(swap, turn);
        false
    }

    fn tell_undone(&self, swap: &Swap, cause: &str) -> String {
        let Some(from) = swap.from else {
            let tries_on = self.groups.get(&swap.to).is_some_and(|group| !group.is_gone());
            let then = if tries_on { "supd goes on trying" } else { "Restart says not to try again" };
            return format!("{cause}; nothing is serving, {then}");
        };
        format!("{cause}; generation {from} was not touched")
    }

    fn answer_undoers(&self, swap: &mut Swap, turn: &mut Turn<'_>) {
        let text = format!("the swap to generation {} is undone", swap.to);
        for client in std::mem::take(&mut swap.undoers) {
            self.reply(client, Reply::done(true, text.clone()).about(Some(swap.id), Some(swap.to)), turn);
        }
    }

    // Back after the switch.

    fn doom(swap: &mut Swap, detail: &str) -> bool {
        swap.cause.get_or_insert_with(|| detail.to_owned());
        true
    }

    fn turn_back(&mut self, swap: &mut Swap, detail: &str, turn: &mut Turn<'_>) -> bool {
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

    fn turn_intend(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let Some(from) = swap.from else { return true };
        turn.act(Action::SaveIntent(Intent { swap_id: swap.id, from: Some(swap.to), to: from }));
        swap.step = Step::TurnIntending { save: Try { again: None, ..save } };
        true
    }

    fn turn_switch(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let Some(from) = swap.from else { return true };
        let serves = |generation| self.groups.get(&generation).is_some_and(Group::serves_at_all);
        if !serves(from) && serves(swap.to) {
            // It ended once more while the intent was on its way: who serves goes on.
            turn.act(Action::ClearIntent);
            swap.step = Step::Returning;
            return true;
        }
        turn.act(Action::Switch { swap_id: swap.id, to: from });
        swap.step = Step::TurnSwitching { save: Try { again: None, ..save }, since: turn.now };
        true
    }

    fn turn_note(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        let Some(from) = swap.from else { return true };
        if let Step::TurnSwitching { since, .. } = swap.step {
            swap.switch = Some(turn.now.since(since));
        }
        self.set_role(from, Role::Active);
        self.set_role(swap.to, Role::Replaced);
        if let Some(group) = self.groups.get(&from) {
            self.durable.want = want_of(&group.launch.settings);
        }
        self.durable.forward = self.durable.active.take();
        self.durable.active = self.durable.previous.take();
        turn.note(Level::Info, Some(from), "receives the traffic again");
        self.note_turned(swap, Try::default(), turn)
    }

    fn note_turned(&mut self, swap: &mut Swap, save: Try, turn: &mut Turn<'_>) -> bool {
        let (result, cause) = (SwapResult::RolledBack, swap.cause.clone());
        let record = self.record(Happening::Ended { swap_id: swap.id, result, cause }, swap.client, turn);
        swap.step = Step::TurnNoting { save: save.sent(record) };
        true
    }

    fn turned_back(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
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

    // Once more.

    fn retry(&mut self, swap: &mut Swap, reason: &str, turn: &mut Turn<'_>) -> bool {
        let (Step::Noting { save, .. }
        | Step::Committing { save }
        | Step::TurnIntending { save }
        | Step::TurnSwitching { save, .. }
        | Step::TurnNoting { save }) = &mut swap.step
        else {
            return true;
        };
        *save = save.failed(turn.now);
        let pause = save.again.map_or(Duration::ZERO, |again| again.since(turn.now));
        let text = format!("{reason}, retrying in {pause:?}");
        turn.note(Level::Error, Some(swap.to), text.clone());
        self.progress(&Progress::Note(text), turn);
        true
    }

    fn again(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        match swap.step {
            Step::Noting { save, commits: true } => self.note_commit(swap, save, turn),
            Step::Noting { save, commits: false } => self.note_switch(swap, save, turn),
            Step::Committing { save } => {
                let record = self.record_commit(swap, turn);
                swap.step = Step::Committing { save: save.sent(record) };
                true
            }
            Step::TurnIntending { save } => self.turn_intend(swap, save, turn),
            Step::TurnSwitching { save, .. } => self.turn_switch(swap, save, turn),
            Step::TurnNoting { save } => self.note_turned(swap, save, turn),
            Step::Binding { .. }
            | Step::Numbering { .. }
            | Step::Launching
            | Step::Held
            | Step::Intending
            | Step::Switching { .. }
            | Step::Probation { .. }
            | Step::Checking { .. }
            | Step::Undoing { .. }
            | Step::Returning => true,
        }
    }

    // Odds and ends.

    /// Lets go of an intent that an earlier supd left, once the ledger has this one's first word.
    pub(super) fn clear_old_intent(&self, turn: &mut Turn<'_>) {
        if self.intent_left.is_none() {
            turn.act(Action::ClearIntent);
        }
    }

    fn set_role(&mut self, generation: Generation, role: Role) {
        if let Some(group) = self.groups.get_mut(&generation) {
            group.role = role;
        }
    }

    /// What was active before stays within reach, although nothing was committed.
    pub(super) fn retain_previous(&mut self) {
        if let Some(previous) = self.durable.previous.take() {
            if self.recipe_retain(previous.generation) != Retain::None {
                self.durable.retained = Some(previous);
            }
        }
    }

    fn kept(&self, generation: Generation) -> Option<Kept> {
        self.groups.get(&generation).map(Group::as_kept)
    }

    /// Tells a generation to stop.
    pub(super) fn dismiss(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get_mut(&generation) else { return };
        let told = group.leave(turn);
        self.heard(generation, told, turn);
    }

    /// What to type to undo what is committed.
    pub(super) fn way_back(&self) -> String {
        format!("rollback {}", self.name)
    }
}
