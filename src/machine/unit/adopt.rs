//! A unit whose workers have outlived their supd: they go on, and nothing is launched that lives.

use super::super::effect::{Action, Launch, Level};
use super::super::event::Survived;
use super::super::group::{Group, Role};
use super::super::turn::Turn;
use super::plot::exclusive::is_alone;
use super::{Life, Unit};
use crate::model::kept::KeptGeneration;
use crate::model::settings::Retain;
use crate::model::{Generation, SwapId, Tick};
use std::sync::Arc;

impl Unit {
    /// Goes on with these. Who receives the traffic is who the ledger says, and is launched again where nobody
    /// of it lives; the generation before stands by, where it did; every other has done its part.
    pub(super) fn adopt(&mut self, survived: &Survived, turn: &mut Turn<'_>) {
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        let Some(active) = active.filter(|active| self.recipes.contains_key(active)) else {
            // The hands have seen to it that this cannot be.
            turn.note(Level::Error, None, "who serves has no recipe; it is started from its file");
            return self.boot(false, turn);
        };
        self.life = Life::Up;
        let steered = survived.steered;
        let nobody = || {
            let workers = Vec::new();
            KeptGeneration { generation: active, origin: active, steered, launched: None, workers }
        };
        let first = survived.generations.iter().find(|it| it.generation == active);
        let first = first.cloned().unwrap_or_else(nobody);
        let others: Vec<_> = survived.generations.iter().filter(|it| it.generation != active).collect();
        // A switch that was on its way when supd ended may have come to either of the two.
        self.unled = Some(active).filter(|_| self.swap.is_none());
        let alone = first.workers.is_empty() && self.runs_alone(active, &others);
        if alone {
            self.return_alone(active, turn);
        } else {
            self.adopt_one(&first, active, turn);
        }
        for alive in others {
            self.adopt_one(alive, active, turn);
            if alone {
                self.retire(alive.generation, turn);
            }
        }
    }

    /// Whether nobody of that generation may be launched while one of the others lives.
    fn runs_alone(&self, active: Generation, others: &[&KeptGeneration]) -> bool {
        let lives = |other: &&&KeptGeneration| !other.workers.is_empty();
        let lives: Vec<Generation> = others.iter().filter(lives).map(|other| other.generation).collect();
        let recipes = lives.iter().chain(std::iter::once(&active)).filter_map(|one| self.recipes.get(one));
        !lives.is_empty() && recipes.into_iter().any(|recipe| is_alone(&recipe.settings))
    }

    /// Leads new connections to who is active, as soon as that one serves; until then they are led to who had them
    /// when the last supd ended, where anybody else is left.
    pub(super) fn lead(&mut self, turn: &mut Turn<'_>) {
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        let Some(to) = self.unled.filter(|_| self.swap.is_none()) else { return };
        let waits = self.groups.get(&to).is_some_and(|group| !group.serves_at_all())
            && self.groups.values().any(|group| group.generation() != to && group.serves_at_all());
        let counts = active == Some(to) && matches!(self.life, Life::Up);
        if counts && waits {
            return;
        }
        self.unled = None;
        if counts && self.groups.contains_key(&to) {
            turn.act(Action::Switch { swap_id: SwapId(self.durable.swap_last), to });
        }
    }

    fn adopt_one(&mut self, alive: &KeptGeneration, active: Generation, turn: &mut Turn<'_>) {
        let &KeptGeneration { generation, origin, steered, launched, ref workers } = alive;
        let Some(recipe) = self.recipes.get(&generation) else { return };
        let launch = Arc::new(Launch { origin, ..Launch::clone(recipe) });
        self.recipes.insert(generation, launch.clone());
        let role = self.role_of(alive, active, turn.now);
        let mut group = Group::new(launch, role, steered, turn);
        group.pinned = self.durable.kept().find(|kept| kept.generation == generation).map(|kept| kept.pinned);
        group.pinning = group.pinned == Some(true);
        group.diverted = (generation != active && role != Role::Candidate).then_some(turn.now);
        if !workers.is_empty() {
            group.launched = launched.unwrap_or(turn.now);
        }
        let told = group.adopt(workers, turn);
        if group.ready() > 0 {
            let text = format!("goes on with {} worker(s) of a supd that ended", group.ready());
            turn.note(Level::Info, Some(generation), text);
        }
        // That supd may have ended before the program was copied, which is had from who runs it.
        if !workers.is_empty() && group.pinned == Some(false) && group.pin(turn) {
            self.copying.insert(generation);
        }
        self.groups.insert(generation, group);
        self.heard(generation, told, turn);
        // Where its listeners are gone it has nothing to wait for.
        let sockets = self.groups.get(&generation).map(|group| group.launch.settings.sockets.clone());
        let bound = sockets.iter().flatten().all(|socket| self.bound.contains(socket));
        if role == Role::Replaced && !bound {
            self.retire(generation, turn);
        }
    }

    /// See [`Machine::outlasts`](crate::machine::Machine::outlasts).
    pub(in crate::machine) fn outlasts(&self) -> Vec<KeptGeneration> {
        let each = self.groups.values().map(|group| {
            let its = group.workers.iter().filter(|worker| worker.phase.outlasts());
            KeptGeneration {
                launched: Some(group.launched),
                generation: group.generation(),
                origin: group.relaunch.origin,
                steered: group.steered,
                workers: its.map(|worker| worker.index).collect(),
            }
        });
        each.collect()
    }

    /// What a generation that lives is to its unit from here on.
    fn role_of(&self, alive: &KeptGeneration, active: Generation, now: Tick) -> Role {
        if let Some(role) = self.role_in_swap(alive.generation) {
            return role;
        }
        let (generation, lives) = (alive.generation, !alive.workers.is_empty());
        let swap = self.recipes.get(&active).map(|recipe| &recipe.settings.swap);
        let kept = [&self.durable.retained, &self.durable.forward].into_iter().flatten();
        let stands_by = lives && kept.into_iter().any(|kept| kept.generation == generation);
        if generation == active {
            return Role::Active;
        }
        match swap {
            Some(swap) if stands_by && swap.retain == Retain::Warm => {
                Role::Standby { until: swap.standby.map(|span| now.after(span)), resting: None }
            }
            Some(_) | None => Role::Replaced,
        }
    }
}
