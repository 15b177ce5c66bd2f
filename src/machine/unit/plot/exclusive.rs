//! Servers of which two cannot live together: one ends before the next is launched; or cannot have their port
//! at once: the next one is started beside it, and its binds are answered once nobody is led to the first.
//! Meanwhile new connections wait where the next one will accept them.
//!
//! Nothing else of a swap changes. If the next one fails, who served before has them again; one that has
//! ended is launched again.

use super::super::{Unit, Waiter};
use crate::machine::effect::{Action, Launch, Level};
use crate::machine::group::{Group, Role};
use crate::machine::swap::table::SwapCueKind;
use crate::machine::swap::{Plan, Step, Swap};
use crate::machine::turn::Turn;
use crate::model::settings::Exclusive;
use crate::model::{
    ClientId, Ended, ExitStatus, Generation, Progress, Reply, Settings, Share, Tick, WaitFor,
};
use std::sync::Arc;

/// Who served is to be launched again, once nothing is left of what was to replace it.
#[derive(Debug, Clone)]
pub(in crate::machine::unit) struct Again {
    generation: Generation,
    /// Since when nobody has accepted new connections.
    gap_since: Option<Tick>,
    /// Why it is.
    cause: String,
    ended: Option<Ended>,
    /// They hear how that ends.
    waiters: Vec<Waiter>,
    undoers: Vec<ClientId>,
}

/// Whether no other generation may run beside one of these.
pub(in crate::machine::unit) fn is_alone(settings: &Settings) -> bool {
    settings.service.exclusive == Exclusive::Process
}

/// Whether one of these may bind only when nobody else is led to the port.
fn binds_alone(settings: &Settings) -> bool {
    settings.service.exclusive == Exclusive::Port
}

impl Again {
    pub(in crate::machine::unit) fn hung_up(&mut self, client: ClientId) {
        self.waiters.retain(|waiter| waiter.client != client);
        self.undoers.retain(|undoer| *undoer != client);
    }
}

impl Unit {
    /// Whether a person may have this stop on its way; why not, and what to type.
    pub(in crate::machine::unit) fn may_stop_midway(&self, plan: &Plan) -> Result<(), Reply> {
        let stops = plan.stops;
        let shares = stops.canary.is_some_and(|share| !share.is_full());
        let alone = self.groups.values().any(|group| is_alone(&group.launch.settings));
        let text = if (stops.hold || stops.unbound || shares) && (alone || is_alone(&plan.settings)) {
            "Exclusive = \"process\": only one may run, so nobody would serve meanwhile"
        } else if (stops.hold || shares) && binds_alone(&plan.settings) {
            "Exclusive = \"port\": only one may be bound, so nobody would serve meanwhile; --unbound holds it \
             before that"
        } else if shares && stops.canary != Some(Share::ZERO) && plan.settings.is_by_path_alone() {
            "a path leads to one generation at a time: new connections cannot be shared; --hold stops before them"
        } else {
            return Ok(());
        };
        Err(Reply::refused(text, self.command("swap")))
    }

    /// Whether it is started beside who serves, and binds once nobody is led there.
    pub(super) fn binds_after(swap: &Swap) -> bool {
        binds_alone(&swap.plan.settings) && swap.from.is_some()
    }

    /// Where two may not be bound at once they need a slot each, so that nobody is led to the first.
    pub(super) fn binds_apart(plan: &Plan, why: &str) -> Result<(), String> {
        if !binds_alone(&plan.settings) {
            return Ok(());
        }
        Err(format!("Exclusive = \"port\" needs a slot for each generation: {why}"))
    }

    /// Whether everybody else has to end before this one is launched.
    pub(super) fn clears_first(&self, swap: &Swap) -> bool {
        let one = is_alone(&swap.plan.settings);
        !self.groups.is_empty() && (one || self.groups.values().any(|group| is_alone(&group.launch.settings)))
    }

    /// Whether what is left of this one's clients may not have it launched once more.
    pub(in crate::machine::unit) fn is_never_beside(&self, group: &Group) -> bool {
        let runs = self.groups.values().map(|other| &other.launch.settings);
        let comes = self.swap.iter().map(|swap| &swap.plan.settings);
        is_alone(&group.launch.settings) || runs.chain(comes).any(|settings| is_alone(settings))
    }

    /// Whoever has to know that nobody will serve for a moment is told first.
    pub(super) fn make_way(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if !self.is_to_divert(swap) {
            return self.make_way_now(swap, turn);
        }
        swap.step = Step::Diverting;
        self.progress(&Progress::Note("the traffic is being taken off".to_owned()), turn);
        self.divert_traffic(swap, turn);
        true
    }

    /// By now nobody serves, until the next one does.
    pub(super) fn make_way_now(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if self.groups.contains_key(&swap.to) {
            return self.bind_in_gap(swap, turn);
        }
        match self.recipes.get(&swap.to).cloned() {
            // Whoever it is for may have ended meanwhile.
            Some(launch) if self.clears_first(swap) => self.clear(swap, launch, turn),
            Some(_) | None => self.launch(swap, turn),
        }
    }

    /// New connections wait for the one that is to come; everybody else is let go.
    fn clear(&mut self, swap: &mut Swap, launch: Arc<Launch>, turn: &mut Turn<'_>) -> bool {
        swap.step = Step::Clearing;
        let text =
            format!("only one may run: generation {} is launched once the one before has ended", swap.to);
        turn.note(Level::Info, Some(swap.to), text.clone());
        self.progress(&Progress::Note(text), turn);
        if !swap.is_first() {
            if swap.steered {
                turn.act(Action::Lend(launch));
            }
            self.wait_for_next(swap, turn);
        }
        for generation in self.with_role(|role| !role.ends()) {
            if swap.steered {
                // Else its slot is that of who comes next, too.
                self.divert(generation, turn);
            }
            self.retire(generation, turn);
        }
        true
    }

    /// From here on nobody is led to who served, and whoever comes waits where the next one will accept.
    pub(super) fn wait_for_next(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) {
        swap.gap_since.get_or_insert(turn.now);
        if swap.steered {
            self.set_share(swap, Share::FULL, turn);
        }
    }

    /// Whether nobody is left beside whom it may not run.
    pub(in crate::machine::unit) fn end_clearing(&mut self, turn: &mut Turn<'_>) {
        let clears = self.swap.as_ref().is_some_and(|swap| swap.step == Step::Clearing);
        if clears && self.groups.is_empty() {
            self.swap_cue(SwapCueKind::Cleared, "", turn);
        }
    }

    /// Whether new connections wait for one that is not launched yet, or not ready.
    pub(in crate::machine::unit) fn has_gap(&self) -> bool {
        let open = |swap: &Swap| swap.gap_since.is_some() && swap.gap.is_none();
        self.again.is_some() || self.swap.as_deref().is_some_and(open)
    }

    /// Until it is known which of the two stays, connections may wait for either.
    pub(in crate::machine::unit) fn listening_over_gap(&self) -> Option<Vec<Arc<Settings>>> {
        let open = |swap: &&Swap| swap.gap_since.is_some() && !swap.step.has_switched();
        let swap = self.swap.as_deref().filter(open)?;
        let from = self.recipes.get(&swap.from?).map(|recipe| &recipe.settings);
        let mut both: Vec<Arc<Settings>> = from.cloned().into_iter().collect();
        let is_bound = !matches!(swap.step, Step::Copying { .. } | Step::Binding { .. });
        if is_bound && both.iter().all(|known| known.sockets != swap.plan.settings.sockets) {
            both.push(swap.plan.settings.clone());
        }
        Some(both)
    }

    /// For whom new connections wait while nobody serves; `None`: it has no number yet.
    pub(in crate::machine::unit) fn comes_after_gap(&self) -> Option<(Option<Generation>, &Settings)> {
        let again = self.again.as_ref().and_then(|again| self.recipes.get(&again.generation));
        let again = again.map(|recipe| (None, &*recipe.settings));
        let open = |swap: &&Swap| {
            let undone = matches!(swap.step, Step::Undoing { .. });
            swap.gap_since.is_some() && !swap.step.has_switched() && !undone
        };
        let swap = self.swap.as_deref().filter(open).map(|swap| (Some(swap.to), &*swap.plan.settings));
        again.or(swap)
    }

    /// The hands cannot lead new connections to where they were to wait: nobody waits there.
    pub(in crate::machine::unit) fn share_failed(&mut self, reason: &str, turn: &mut Turn<'_>) {
        if let Some(swap) = self.swap.as_mut().filter(|swap| swap.gap_since.is_some()) {
            swap.share = Share::ZERO;
            if let Some(group) = self.groups.get_mut(&swap.to) {
                group.diverted = Some(turn.now);
            }
        }
        self.swap_cue(SwapCueKind::ShareFailed, reason, turn);
    }

    /// Whether nobody is left to go back to, who could have the traffic at once.
    pub(super) fn is_without_previous(&self, swap: &Swap) -> bool {
        let gone = |from| !self.groups.contains_key(&from);
        swap.gap_since.is_some() && swap.from.is_some_and(gone)
    }

    /// What has the traffic by now has failed meanwhile, with nobody to go back to at once.
    pub(super) fn has_failed_alone(&self, swap: &Swap) -> bool {
        let serves = self.groups.get(&swap.to).is_some_and(Group::serves_at_all);
        swap.cause.is_some() && !serves && self.is_without_previous(swap)
    }

    /// It is undone: who served before goes on if it still can, else it is to be launched again, and that is
    /// what everybody waits for. Says whether new connections wait on meanwhile where they do.
    pub(super) fn bring_back(&mut self, swap: &Swap, turn: &mut Turn<'_>) -> bool {
        let Some(from) = swap.from.filter(|_| swap.gap_since.is_some()) else { return false };
        match self.groups.get_mut(&from) {
            Some(group) if group.role == Role::Active => return false,
            // Whoever waits elsewhere it would never accept.
            Some(group) if swap.share.is_zero() && group.drains_since(swap.gap_since) && group.serves() => {
                (group.role, group.diverted) = (Role::Active, None);
                turn.note(Level::Info, Some(from), "goes on serving");
            }
            // The gap is that of what takes its place from here on.
            Some(_) | None if self.next.is_some() => {}
            Some(_) | None => {
                let cause = swap.cause.clone().unwrap_or_default();
                self.again = Some(Box::new(Again {
                    generation: from,
                    gap_since: swap.gap_since,
                    cause,
                    ended: swap.ended.clone(),
                    waiters: Vec::new(),
                    undoers: Vec::new(),
                }));
            }
        }
        true
    }

    /// The one that was to come is let go, with what waits where it is.
    pub(super) fn leave_to_next(&mut self, swap: &Swap, turn: &mut Turn<'_>) {
        if let Some(group) = self.groups.get_mut(&swap.to) {
            // What it has it may finish, though new ones wait there as well: for nobody else is there to
            // take them.
            (group.diverted, group.stalled) = (Some(turn.now), false);
        } else {
            self.give_back_lent(swap, turn);
        }
    }

    /// The slot that one was lent which is never launched is for whoever comes next, with those who wait there.
    pub(in crate::machine::unit) fn give_back_lent(&self, swap: &Swap, turn: &mut Turn<'_>) {
        let launched = self.groups.contains_key(&swap.to) || swap.step.has_switched();
        if swap.gap_since.is_some() && swap.steered && !launched {
            turn.act(Action::Retire(swap.to));
        }
    }

    /// What takes the place of a swap in whose gap nobody serves: the same clients wait for it.
    pub(super) fn inherit_gap(&mut self, before: &Swap) {
        let serves = self.groups.values().any(|group| group.role == Role::Active);
        if let (Some(since), Some(swap), false) = (before.gap_since, &mut self.swap, serves) {
            (swap.gap_since, swap.from) = (Some(since), swap.from.or(before.from));
        }
    }

    /// Whoever waits for the swap that is undone waits for that; says whether there is such a thing.
    pub(super) fn wait_for_again(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if self.next.is_some() {
            self.again = None;
        }
        let Some(again) = &mut self.again else { return false };
        let (from, to) = (swap.to, again.generation);
        let all = std::mem::take(&mut self.waiters);
        let (waiters, drains) = all.into_iter().partition(|waiter: &Waiter| waiter.drained.is_none());
        (again.waiters, self.waiters) = (waiters, drains);
        again.undoers.append(&mut swap.undoers);
        let progress = Progress::RollingBack { from, to, cause: again.cause.clone() };
        for waiter in &again.waiters {
            turn.act(Action::Progress(waiter.client, progress.clone()));
        }
        true
    }

    /// Whether it is not about to be launched again.
    pub(in crate::machine::unit) fn is_not_returning(&self) -> Result<(), Reply> {
        if self.again.is_none() {
            return Ok(());
        }
        Err(Reply::refused("what served before is about to be launched again", self.command("wait")))
    }

    /// Launches again who served before, once nothing else is left.
    pub(in crate::machine::unit) fn launch_again(&mut self, turn: &mut Turn<'_>) {
        let free = self.swap.is_none() && self.groups.is_empty();
        let Some(again) = self.again.take_if(|_| free) else { return };
        let Again { generation, gap_since, cause, ended, waiters, undoers } = *again;
        turn.note(Level::Warning, Some(generation), "is launched again");
        self.waiters.extend(waiters);
        match self.plan_again(Some(generation)) {
            Ok(plan) => {
                self.begin(plan, None, turn);
                if let Some(swap) = &mut self.swap {
                    (swap.fell, swap.ended, swap.undoers) = (Some(cause), ended, undoers);
                    swap.gap_since = gap_since;
                }
            }
            Err(refused) => {
                let text =
                    format!("{cause}; generation {generation} cannot be launched again: {}", refused.text);
                turn.note(Level::Error, None, text.clone());
                let reply = Reply::new(ExitStatus::Down, true, text);
                undoers.into_iter().for_each(|client| self.reply(client, reply.clone(), turn));
                self.resolve_all(&reply, turn);
                self.stay_down(turn);
            }
        }
    }

    /// supd has ended after the one before had made way, and what was to come lives: it ends first.
    pub(in crate::machine::unit) fn return_alone(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let cause = "supd ended before the swap had".to_owned();
        let text = "only one may run: it is launched once what outlived that supd has ended";
        turn.note(Level::Info, Some(generation), text);
        let (waiters, undoers) = (Vec::new(), Vec::new());
        let gap_since = Some(turn.now);
        self.again = Some(Box::new(Again { generation, gap_since, cause, ended: None, waiters, undoers }));
    }

    /// Whoever waits from here on waits for that.
    pub(in crate::machine::unit) fn join_again(&mut self, client: ClientId, wait: WaitFor) -> bool {
        let Some(again) = &mut self.again else { return false };
        again.waiters.push(Waiter { client, wait, drained: None });
        true
    }

    /// The unit stops: nobody is launched again.
    pub(in crate::machine::unit) fn drop_again(&mut self, turn: &mut Turn<'_>) {
        let Some(again) = self.again.take() else { return };
        let reply =
            Reply::new(ExitStatus::Down, true, format!("{}; the unit was stopped meanwhile", again.cause));
        let waiters = again.waiters.iter().map(|waiter| waiter.client);
        for client in waiters.chain(again.undoers) {
            self.reply(client, reply.clone(), turn);
        }
    }
}
