//! What becomes due by what has just happened, whatever it was: derived from the state, never
//! remembered, so that no path can forget it.

use super::super::effect::Action;
use super::super::group::{Group, Role};
use super::super::turn::Turn;
use super::{Life, StopStage, Stopping, Unit};
use crate::model::settings::{Handoff, Ready, Socket, WhenDown};
use crate::model::{Generation, Reply, Settings, Want};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Unit {
    /// `start` is where the effects of this step begin.
    pub(super) fn settle(&mut self, start: usize, turn: &mut Turn<'_>) {
        self.lead(turn);
        self.stop_replaced(turn);
        self.retire_standbys(turn);
        self.forget_gone(turn);
        self.end_clearing(turn);
        self.launch_again(turn);
        self.tend_traffic(turn);
        self.end_reload(turn);
        match &self.life {
            Life::Stopping(Stopping { stage: StopStage::Ending, .. }) if self.groups.is_empty() => {
                self.ended(turn);
            }
            Life::Up => self.rest_on_demand(turn),
            Life::Stopped { .. }
            | Life::Arming { .. }
            | Life::Waiting { .. }
            | Life::Blocked { .. }
            | Life::Stopping(_) => {}
        }
        self.listen(start, turn);
        self.close_unnamed(start, turn);
        self.tell_untold(turn);
        self.close_stored(turn);
        self.prune(turn);
        self.remove_unlisted(turn);
        if self.is_forgettable() {
            turn.act(Action::Forget);
        }
    }

    /// Law: whoever serves is told to stop only when another is ready.
    fn stop_replaced(&mut self, turn: &mut Turn<'_>) {
        let active = self.groups.values().find(|group| group.role == Role::Active);
        if self.unled.is_some() || !active.is_some_and(|active| active.serves() || active.serves_as_ever()) {
            return;
        }
        let replaced: Vec<Generation> = self
            .groups
            .values()
            .filter(|group| group.role == Role::Replaced)
            .map(Group::generation)
            .collect();
        for generation in replaced {
            self.retire(generation, turn);
        }
    }

    fn forget_gone(&mut self, turn: &mut Turn<'_>) {
        let gone: Vec<Generation> = self
            .groups
            .values()
            .filter(|group| {
                (group.role.ends() || matches!(group.role, Role::Standby { .. })) && group.is_gone()
            })
            .map(Group::generation)
            .collect();
        for generation in gone {
            self.bury(generation, turn);
        }
    }

    pub(super) fn drained(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let reply = Reply::done(true, format!("generation {generation} is drained"));
        self.waiters.retain(|waiter| {
            let Some(drain) = waiter.drained.filter(|drain| drain.of == generation) else { return true };
            let reply = reply.clone().about(drain.swap_id, drain.to);
            turn.act(Action::Reply(waiter.client, reply));
            false
        });
    }

    /// A unit on demand whose workers ended as they should waits again.
    fn rest_on_demand(&mut self, turn: &mut Turn<'_>) {
        if self.swap.is_some() || self.again.is_some() || self.durable.want != Want::OnDemand {
            return;
        }
        let clean = |group: &Group| {
            let service = &group.launch.settings.service;
            group.is_gone() && group.workers.iter().all(|worker| worker.ended_clean(service))
        };
        let standby = |role| matches!(role, Role::Standby { .. });
        if !self.groups.values().filter(|group| !standby(group.role)).all(clean) {
            return;
        }
        for generation in self.with_role(standby) {
            self.retire(generation, turn);
        }
        if self.groups.values().all(clean) {
            for group in self.groups.values_mut() {
                group.role = Role::Leaving;
            }
            self.forget_gone(turn);
            self.wait_again(turn);
        }
    }

    // Listeners.

    /// Tells the hands which listeners shall listen, if that has changed: before anything else of
    /// this step, for a worker that is launched finds its listeners listening.
    fn listen(&mut self, start: usize, turn: &mut Turn<'_>) {
        let Some(wanted) = self.wanted_listening() else { return };
        let held = !wanted.is_empty() && self.holds_off();
        let same = wanted.len() == self.listening.len()
            && wanted.iter().zip(&self.listening).all(|(one, other)| one.sockets == other.sockets);
        if !same || held != self.held_off {
            self.listening.clone_from(&wanted);
            self.held_off = held;
            let action = if held { Action::HoldOff(wanted) } else { Action::Listen(wanted) };
            turn.out.insert(start, super::super::Effect::Unit(self.name.clone(), action));
        }
    }

    /// Whether new connections are for somebody who is not ready, and would take them all the same: who binds
    /// for itself may accept long before it says, or a check says, that it is ready. supd's own checks get
    /// through; a command that somebody wrote would not.
    fn holds_off(&self) -> bool {
        let steered = match &self.swap {
            Some(swap) => swap.steered,
            None => self.groups.values().all(|group| group.steered),
        };
        let early = |settings: &Settings| {
            let service = &settings.service;
            let by_itself = match &service.ready {
                Ready::Notify => true,
                Ready::Tcp => steered,
                Ready::Http(url) => steered && url.starts_with("http://{"),
                Ready::Listen | Ready::Started | Ready::Command(_) => false,
            };
            service.handoff == Handoff::Intercept && by_itself
        };
        if !matches!(self.life, Life::Up) {
            return false;
        }
        if let Some((next, settings)) = self.comes_after_gap() {
            let next = next.and_then(|generation| self.groups.get(&generation));
            return early(settings) && !next.is_some_and(Group::serves_at_all);
        }
        let mut receives = self.groups.values().filter(|group| group.role.receives());
        let active = self.groups.values().find(|group| group.role == Role::Active);
        active.is_some_and(|active| early(&active.launch.settings)) && !receives.any(Group::serves_at_all)
    }

    /// `None`: not for now to say.
    fn wanted_listening(&self) -> Option<Vec<Arc<Settings>>> {
        match &self.life {
            Life::Waiting { origin, .. } => {
                let recipe = origin.and_then(|origin| self.recipes.get(&origin));
                let settings = recipe.map_or(&self.settings, |recipe| &recipe.settings);
                return Some(vec![settings.clone()]);
            }
            Life::Up => {}
            Life::Stopped { keep_listening: false, .. } | Life::Blocked { .. } => return Some(Vec::new()),
            Life::Stopped { .. } | Life::Arming { .. } | Life::Stopping(_) => return None,
        }
        if let Some(both) = self.listening_over_gap() {
            return Some(both);
        }
        let receives = self.groups.values().any(|group| group.role.receives());
        if self.again.is_some() || (!receives && self.swap.is_some()) {
            // Connections may be waiting for what is about to be launched.
            return None;
        }
        if self.refuses() {
            return Some(Vec::new());
        }
        let mut wanted: Vec<Arc<Settings>> = Vec::new();
        for group in self.groups.values().filter(|group| group.role.receives()) {
            let settings = &group.launch.settings;
            if wanted.iter().all(|known| known.sockets != settings.sockets) {
                wanted.push(settings.clone());
            }
        }
        Some(wanted)
    }

    /// While nobody runs: whether connections are refused rather than left to wait.
    fn refuses(&self) -> bool {
        let mut kept = self.groups.values().filter(|group| group.role.receives());
        let Some(active) = self.groups.values().find(|group| group.role == Role::Active) else {
            return self.groups.is_empty();
        };
        if !kept.all(Group::is_idle) {
            return false;
        }
        let service = &active.launch.settings.service;
        service.when_down == WhenDown::Refuse
            || active.is_limited()
            || (active.is_gone() && self.swap.is_none())
    }

    /// Gives addresses free that nothing names any more: before anybody is told that it is done.
    fn close_unnamed(&mut self, start: usize, turn: &mut Turn<'_>) {
        let named = self.naming();
        let is_named = |socket: &&Arc<Socket>| named.iter().any(|settings| settings.sockets.contains(socket));
        let before = self.bound.len();
        let mut left: Vec<_> = self.bound.iter().filter(is_named).cloned().collect();
        left.dedup();
        if left.len() == before {
            return;
        }
        let closes = self.bound.iter().any(|socket| !left.contains(socket));
        self.bound = left;
        if closes {
            let whole =
                |settings: &Arc<Settings>| settings.sockets.iter().all(|one| self.bound.contains(one));
            self.listening.retain(whole);
            let effect = super::super::Effect::Unit(self.name.clone(), Action::CloseExcept(named));
            turn.out.insert(start, effect);
        }
    }

    /// Every settings whose listeners stay bound.
    fn naming(&self) -> Vec<Arc<Settings>> {
        match &self.life {
            Life::Stopped { keep_listening: false, .. } | Life::Blocked { .. } => return Vec::new(),
            Life::Stopped { .. }
            | Life::Arming { .. }
            | Life::Waiting { .. }
            | Life::Up
            | Life::Stopping(_) => {}
        }
        let groups = self.groups.values().chain(self.ended_groups()).map(|group| &group.launch.settings);
        let kept = self.durable.kept().filter_map(|kept| self.recipes.get(&kept.generation));
        let swap = self.swap.iter().map(|swap| &swap.plan.settings);
        let refreshed = self.refreshing.iter().map(|refreshing| &refreshing.settings);
        let file = std::iter::once(&self.settings).chain(refreshed);
        groups.chain(kept.map(|launch| &launch.settings)).chain(swap).chain(file).cloned().collect()
    }

    // What is stored.

    /// Lets go of what is stored for generations that nothing names any more. Not while a record
    /// is on its way: until it is on disk, a crash would go back to what the last one names.
    fn prune(&mut self, turn: &mut Turn<'_>) {
        if self.swap.is_some() || self.unsaved.is_some() || matches!(self.life, Life::Stopping(_)) {
            return;
        }
        let mut keep: BTreeSet<Generation> = self.durable.kept().map(|kept| kept.generation).collect();
        keep.extend(&self.on_disk);
        keep.extend(self.intent_left);
        for group in self.groups.values().chain(self.ended_groups()) {
            keep.extend([group.generation(), group.relaunch.origin, group.launch.origin]);
        }
        // Who ran the copy of an earlier one has its own made of that.
        let copying = self.copying.iter().filter_map(|generation| self.recipes.get(generation));
        keep.extend(copying.flat_map(|recipe| [recipe.generation, recipe.origin]));
        if keep == self.stored {
            return;
        }
        let loses = self.stored.difference(&keep).next().is_some();
        self.recipes.retain(|generation, _| keep.contains(generation));
        self.stored.clone_from(&keep);
        if !loses {
            return;
        }
        turn.act(Action::Prune { keep: keep.into_iter().collect() });
    }
}
