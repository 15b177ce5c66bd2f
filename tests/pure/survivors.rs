//! What of the fake world outlives supd: listeners, by its keeper, and the workers that were ready.

use crate::world::{Door, Life, Proc, Unit};
use std::sync::Arc;
use supd::machine::{Launch, Survived};
use supd::model::kept::KeptGeneration;
use supd::model::settings::{Handoff, Socket};
use supd::model::{Address, Generation, Tick, Want, WorkerId};

impl Unit {
    /// Who serves, where it is known how that one is launched.
    fn known_active(&self) -> Option<Generation> {
        let active = self.ledger.active.as_ref().map(|kept| kept.generation);
        let bound = |socket: &Arc<Socket>| self.door(&socket.address) != Door::Closed;
        let whole = |active: &Generation| {
            self.store.get(active).is_some_and(|settings| settings.sockets.iter().all(bound))
        };
        active.filter(|active| self.ledger.want != Want::Down && whole(active))
    }

    /// Takes what it had of the kernel in its last life, where it should serve.
    pub(crate) fn outlives(&mut self, before: Unit) {
        if !self.known || self.ledger.want == Want::Down {
            return;
        }
        self.listeners = before.listeners;
        let Some(active) = self.known_active() else {
            // Whoever waited for one generation alone is moved, or reset.
            self.listeners.iter_mut().for_each(|listener| listener.slots.clear());
            return;
        };
        (self.traffic, self.share, self.late) = (before.traffic.or(Some(active)), before.share, before.late);
        (self.freed, self.spare, self.outlasts) = (before.freed, before.spare, before.outlasts);
        self.outlived = before.outlived;
        for proc in before.procs.into_iter().chain(before.orphans) {
            if !self.freed.contains(&proc.generation()) && self.store.contains_key(&proc.generation()) {
                self.outlived.insert(proc.generation());
            }
            let asks = proc.launch.settings.service.handoff == Handoff::Intercept;
            let mut its = self.outlasts.iter().filter(|it| it.generation == proc.generation());
            let counts = its.any(|it| it.workers.contains(&proc.index));
            let known = self.store.contains_key(&proc.generation());
            if proc.life == Life::Running && proc.told_end.is_none() && counts && known && !asks {
                self.orphans.push(proc);
            }
        }
        if self.booted && self.orphans.is_empty() {
            self.outlived.clear();
            self.listeners.iter_mut().for_each(|listener| listener.slots.clear());
            return;
        }
        self.outlived.insert(active);
        // What waits where nobody is known to have a slot waits for whoever gets it next.
        let slots = self.listeners.iter().flat_map(|listener| listener.slots.keys().copied());
        let nobodys: Vec<Generation> = slots.filter(|it| !self.outlived.contains(it)).collect();
        self.freed.extend(nobodys);
        self.stored = before.stored;
        let outlived = &self.outlived;
        self.stored.retain(|generation, _| outlived.contains(generation));
    }

    /// What the hands say of it.
    pub(crate) fn survived(&self) -> Option<Survived> {
        let active = self.known_active().filter(|active| self.outlived.contains(active))?;
        let each = self.outlived.iter().map(|generation| {
            let its = self.orphans.iter().filter(|proc| proc.generation() == *generation);
            let known = self.outlasts.iter().find(|it| it.generation == *generation);
            let origin = known.map_or(*generation, |known| known.origin);
            let steered = known.map_or(self.has_slots(*generation), |known| known.steered);
            let workers = its.map(|proc| proc.index).collect();
            let launched = known.and_then(|known| known.launched);
            KeptGeneration { generation: *generation, origin, steered, launched, workers }
        });
        let steered = self.has_slots(active);
        Some(Survived { generations: each.collect(), steered, swap: None })
    }

    fn has_slots(&self, generation: Generation) -> bool {
        self.store.get(&generation).is_some_and(|settings| self.knobs(settings).steered())
    }

    /// The sockets that the keeper had.
    pub(crate) fn kept_bound(&self) -> Vec<Arc<Socket>> {
        let open = self.listeners.iter().filter(|listener| listener.door != Door::Closed);
        let named = |address: &Address| {
            let all = self.files.iter().flat_map(|(_, settings)| &settings.sockets);
            all.rev().find(|socket: &&Arc<Socket>| socket.address == *address).cloned()
        };
        open.filter_map(|listener| named(&listener.address)).collect()
    }

    /// supd goes on with one of them under a new number.
    pub(crate) fn go_on_with(&mut self, id: WorkerId, index: u32, launch: Arc<Launch>, now: Tick) {
        let generation = launch.generation;
        let place = self.orphans.iter().position(|it| it.generation() == generation && it.index == index);
        let Some(proc) = place.map(|place| self.orphans.remove(place)) else { return };
        self.procs.push(Proc {
            id,
            launch,
            told_spawned: true,
            told_ready: proc.told_ready.or(Some(now)),
            // What the last supd has told it this one does not know.
            told_by_person: proc.told_by_person || proc.signalled || proc.halted || proc.told_stopping,
            signalled: false,
            halted: false,
            told_stopping: false,
            reloading: false,
            triggered: false,
            sweep_asked: false,
            posts: false,
            doomed: false,
            fed: now,
            ..proc
        });
    }
}
