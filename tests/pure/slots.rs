//! The slots of the fake world: whom a new connection reaches, and where those wait that nobody has accepted.

use crate::world::{Door, Listener, Unit};
use supd::machine::JobKind;
use supd::model::{Generation, Settings, Tick};

impl Listener {
    /// Connections that nobody has accepted, in all slots.
    pub(crate) fn waiting(&self) -> u32 {
        self.queue + self.slots.values().sum::<u32>()
    }

    /// Whether nobody is refused there.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.door, Door::Listening | Door::HeldOff)
    }

    /// All of them are reset.
    pub(crate) fn reset(&mut self) {
        self.queue = 0;
        self.slots.clear();
    }
}

impl Unit {
    /// The generations to whose slots new connections lead; none: all have one slot, or nobody has one yet.
    pub(crate) fn receivers(&self) -> Vec<Generation> {
        let Some(traffic) = self.traffic.filter(|traffic| self.has_slot(*traffic)) else { return Vec::new() };
        match self.share {
            None if self.spare => Vec::new(),
            Some((_, candidate, share)) if share.is_full() => vec![candidate],
            Some((_, candidate, _)) => vec![traffic, candidate],
            None => vec![traffic],
        }
    }

    pub(crate) fn has_slot(&self, generation: Generation) -> bool {
        self.settings_of(generation).is_some_and(|settings| self.knobs(settings).steered())
    }

    /// Of one that has its slots.
    fn settings_of(&self, generation: Generation) -> Option<&Settings> {
        let proc = self.procs.iter().rev().find(|proc| proc.generation() == generation);
        let launch = proc.map(|proc| &proc.launch).or_else(|| self.lent.get(&generation))?;
        Some(&launch.settings)
    }

    /// Whether this one and any other may not serve at the same time.
    pub(crate) fn excludes(&self, generation: Generation) -> bool {
        let settings = self.settings_of(generation).into_iter();
        let others =
            self.procs.iter().map(|proc| &proc.launch.settings).chain(self.store.values()).map(|it| &**it);
        settings.chain(others).any(|settings| self.knobs(settings).alone())
    }

    /// Whether this one may bind only once nobody is led to another.
    pub(crate) fn binds_alone(&self, generation: Generation) -> bool {
        self.settings_of(generation).is_some_and(|settings| self.knobs(settings).binds_alone())
    }

    /// A command has told it, if it was one of those.
    pub(crate) fn balancer_told(&mut self, kind: JobKind) {
        if kind == JobKind::TrafficOff {
            (self.offs, self.ons) = (self.offs + 1, 0);
        } else if kind == JobKind::TrafficOn {
            self.ons += 1;
            self.offs = if self.ons >= 2 { 0 } else { self.offs };
        }
    }

    /// Whether a load balancer is to be told that nobody serves until this one does.
    pub(crate) fn tells(&self, generation: Generation) -> bool {
        self.settings_of(generation).is_some_and(|settings| self.knobs(settings).tells())
    }

    pub(crate) fn names(&self, generation: Generation, listener: &Listener) -> bool {
        let sockets = self.settings_of(generation).into_iter().flat_map(|settings| &settings.sockets);
        sockets.into_iter().any(|socket| socket.address == listener.address)
    }

    /// New connections lead elsewhere from now on: whose handshake had begun still ends here for a while.
    pub(crate) fn diverted(&mut self, generation: Generation, now: Tick) {
        let proc = self.procs.iter().rev().find(|proc| proc.generation() == generation);
        let settle = proc.filter(|proc| self.is_steered(proc)).map(|proc| proc.launch.settings.swap.settle);
        self.late = settle.map(|settle| (generation, now.after(settle)));
    }

    /// All new connections lead there from now on.
    pub(crate) fn led_to(&mut self, to: Generation, now: Tick) {
        let before = self.receivers();
        (self.share, self.spare) = (None, false);
        self.traffic = Some(to);
        if let Some(before) = before.into_iter().rfind(|before| *before != to) {
            self.diverted(before, now);
        }
    }

    /// A connection arrives at every address that the unit ever had, at each slot that has a share, and one
    /// where all arrived a moment ago.
    pub(crate) fn connect(&mut self, now: Tick) {
        let receivers = self.receivers();
        let late = self.late.filter(|(_, until)| now < *until).map(|(generation, _)| generation);
        // Where its slot is closed by now the kernel has moved the handshake.
        let late = late.filter(|late| self.live_of(*late).next().is_some() && !receivers.contains(late));
        let mut listeners = std::mem::take(&mut self.listeners);
        for listener in &mut listeners {
            match listener.door {
                Door::Listening => {}
                Door::HeldOff => continue,
                Door::Closed | Door::Bound => {
                    listener.refused += 1;
                    continue;
                }
            }
            let there = |generation: &&Generation| self.names(**generation, listener);
            let slots: Vec<Generation> = receivers.iter().chain(&late).filter(there).copied().collect();
            if slots.is_empty() {
                listener.queue += 1;
            }
            slots.into_iter().for_each(|slot| *listener.slots.entry(slot).or_default() += 1);
        }
        self.listeners = listeners;
        self.accept();
    }

    /// How many wait in the slot of this generation.
    pub(crate) fn queued_for(&self, generation: Generation) -> u32 {
        self.listeners.iter().filter_map(|listener| listener.slots.get(&generation)).sum()
    }

    /// The kernel moves what waits there to a slot that receives, where there is one.
    pub(crate) fn migrate(&mut self, generation: Generation) {
        let receivers = self.receivers();
        let mut listeners = std::mem::take(&mut self.listeners);
        for listener in &mut listeners {
            let there = |to: &&Generation| **to != generation && self.names(**to, listener);
            let Some(to) = receivers.iter().find(there) else { continue };
            let moved = listener.slots.remove(&generation).unwrap_or_default();
            *listener.slots.entry(*to).or_default() += moved;
        }
        self.listeners = listeners;
    }

    /// A generation gives its slot back: how many wait there for nobody. `stays`: the kernel moves none, and
    /// there is one; `None`: there can be none. `up`: the unit was up ever since.
    pub(crate) fn give_back(&mut self, generation: Generation, up: bool, stays: bool) -> Option<u32> {
        let waits = up && self.may_wait_for(generation);
        match stays {
            true if !waits => return None,
            true => self.strand(generation),
            false => self.migrate(generation),
        }
        self.freed.insert(generation);
        self.lent.remove(&generation);
        Some(if waits { self.queued_for(generation) } else { 0 })
    }

    /// Somebody waits for one that has ended, whose slot the kernel does not close.
    fn strand(&mut self, generation: Generation) {
        let mut listeners = std::mem::take(&mut self.listeners);
        let mut open = listeners.iter_mut().filter(|listener| listener.door == Door::Listening);
        if let Some(listener) = open.find(|listener| self.names(generation, listener)) {
            listener.slots.entry(generation).or_insert(1);
        }
        self.listeners = listeners;
    }

    /// A generation is launched for the first time: it gets a slot that somebody has given back, with what
    /// waits there.
    pub(crate) fn borrow(&mut self, generation: Generation) {
        let lent = self.lent.contains_key(&generation);
        if lent
            || self.freed.remove(&generation)
            || self.procs.iter().any(|proc| proc.generation() == generation)
        {
            return;
        }
        for freed in std::mem::take(&mut self.freed) {
            for listener in &mut self.listeners {
                let left = listener.slots.remove(&freed).unwrap_or_default();
                if left > 0 {
                    *listener.slots.entry(generation).or_default() += left;
                }
            }
        }
    }

    /// Lets every connection be accepted by whoever accepts it.
    pub(crate) fn accept(&mut self) {
        let mut listeners = std::mem::take(&mut self.listeners);
        for listener in listeners.iter_mut().filter(|listener| listener.door != Door::Closed) {
            for proc in self.procs.iter().rev().filter(|proc| proc.accepts()) {
                let generation = proc.generation();
                if !proc.launch.settings.sockets.iter().any(|socket| socket.address == listener.address) {
                    continue;
                }
                let steered = self.is_steered(proc);
                let leads = self.share.is_some_and(|(_, candidate, _)| candidate == generation)
                    || !self.spare && self.traffic.is_none_or(|traffic| traffic == generation);
                let mut taken = listener.slots.remove(&generation).unwrap_or_default();
                if !steered || leads {
                    taken += std::mem::take(&mut listener.queue);
                }
                if taken > 0 {
                    *listener.served.entry(generation).or_default() += taken;
                }
            }
        }
        self.listeners = listeners;
    }
}
