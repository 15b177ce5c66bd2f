//! Which generation has which slot, and who receives new connections.

use super::super::sources::Sources;
use super::{Listeners, names};
use crate::model::{Address, Few, Generation, Settings, Share, Waiting};
use crate::os::listener::{Listener, Queues, Traffic};
use crate::os::steering::{Mechanism, SLOTS, Slot, Split, Steering};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The slots of one unit.
#[derive(Debug, Default)]
pub(super) struct Lending {
    /// Each generation gets one of its own, where that can be.
    pub(super) steered: bool,
    pub(super) steering: Steering,
    pub(super) lent: Few<Generation, Slot>,
    /// Where those had theirs that have ended: there what waits for one is, should it be launched again.
    pub(super) left: Few<Generation, Slot>,
    /// Who received what before the last switch.
    before: Split,
    /// Those of which it was told that one of them has changed who receives how much.
    pub(super) named: Vec<Generation>,
}

impl Lending {
    /// The slot for a generation that has none. If the active one is nobody's, what waits there is its
    /// own; else one that is free, rather one where something may wait.
    fn choose(&self, listeners: &[&Listener]) -> Option<Slot> {
        let is_free = |slot: &Slot| self.is_free(*slot);
        let active = self.steering.split().active;
        if is_free(&active) {
            return Some(active);
        }
        let is_there = |slot: &Slot| listeners.iter().any(|one| one.slots().any(|(known, _)| known == *slot));
        let mut free = (0..SLOTS).filter(is_free);
        free.clone().find(is_there).or_else(|| free.next())
    }

    fn is_free(&self, slot: Slot) -> bool {
        !self.lent.values().any(|lent| *lent == slot)
    }

    /// The slot that this generation has, or had before it ended: what waits for it waits there.
    fn known(&self, generation: Generation) -> Result<Option<Slot>, String> {
        if let Some(lent) = self.lent.get(&generation) {
            return Ok(Some(*lent));
        }
        match self.left.get(&generation) {
            Some(left) if !self.is_free(*left) => {
                Err(format!("another generation has the slot that generation {generation} had"))
            }
            left => Ok(left.copied()),
        }
    }

    fn slot(&self, generation: Generation) -> Result<Slot, String> {
        let known = self.lent.get(&generation).copied();
        known.ok_or_else(|| format!("generation {generation} has no slot"))
    }

    /// The slot of a generation, if no other has the same.
    fn own_slot(&self, generation: Generation) -> Result<Slot, String> {
        let slot = self.slot(generation)?;
        match self.lent.iter().find(|(other, its)| **other != generation && **its == slot) {
            None => Ok(slot),
            Some((other, _)) => Err(format!(
                "generations {other} and {generation} share one slot, so that either could answer"
            )),
        }
    }
}

impl Listeners {
    /// Gives a generation its slot of each listener that its settings name and that can have more than
    /// one; the one that it has, if it has one. Nobody is led there before [`Listeners::switch`], but
    /// for a generation that is alone. Gives what a person should know although it is no error.
    ///
    /// To be called before each launch, of a crashed worker as well: a path that a worker shut down gets
    /// another socket.
    ///
    /// # Errors
    /// There is no slot, in a sentence: nothing has changed then.
    pub fn lend(
        &mut self,
        generation: Generation,
        settings: &Arc<Settings>,
        sources: &mut Sources,
    ) -> Result<Vec<String>, String> {
        let known = self.lending.known(generation)?;
        // Where it cannot have one of its own it has that of who is active.
        let known = known.or((!self.lending.steered).then_some(self.lending.steering.split().active));
        let all: Vec<&Listener> = self.all().collect();
        let slot = known.or_else(|| self.lending.choose(&all)).ok_or_else(|| {
            format!("all {SLOTS} slots are lent: end a generation that drains, or wait for it")
        })?;
        let Self { bound, lending, .. } = self;
        let mut done = Vec::new();
        for (at, one) in bound.iter_mut().enumerate() {
            if !names(std::slice::from_ref(settings), one.listener.address()) {
                continue;
            }
            let had = one.listener.slots().any(|(known, lent)| known == slot && lent);
            if let Err(error) = one.listener.lend(slot, &mut lending.steering) {
                done.into_iter().for_each(|at: usize| bound[at].listener.give_back(slot));
                // Those before it may have another socket now.
                self.guard(sources).into_iter().for_each(|fault| log::warn!("{}: {fault}", self.unit));
                return Err(error.to_string());
            }
            if !had {
                done.push(at);
            }
        }
        self.lending.lent.insert(generation, slot);
        self.lending.left.remove(&generation);
        Ok(self.guard(sources))
    }

    /// Leads new connections to these generations from here on, and says how long that took. `salt`
    /// makes each swap draw its clients anew.
    ///
    /// # Errors
    /// A sentence; whoever received new connections before does so still.
    pub fn switch(
        &mut self,
        active: Generation,
        candidate: Option<(Generation, Share)>,
        (sticky, salt): (bool, u32),
        sources: &mut Sources,
    ) -> Result<Duration, String> {
        let active = self.lending.slot(active)?;
        let candidate = match candidate {
            Some((generation, share)) => Some((self.lending.slot(generation)?, share)),
            None => None,
        };
        // What is waited for is waited for by its descriptor, which is another's from here on.
        self.unwatch(sources);
        let before = self.lending.steering.split();
        let since = Instant::now();
        self.steer(Split { active, candidate, sticky, salt })?;
        self.lending.before = before;
        let took = since.elapsed();
        for fault in self.guard(sources) {
            log::warn!("{}: {fault}", self.unit);
        }
        Ok(took)
    }

    /// Leads all new connections to this generation, as far as that can be: on the way back from one that must
    /// not stay, one listener that cannot go back is no reason for the others to stay with it. Says what could
    /// not be led.
    ///
    /// # Errors
    /// Nothing of it could be, and there is no end to wait for.
    pub fn lead_back(
        &mut self,
        to: Generation,
        salt: u32,
        sources: &mut Sources,
    ) -> Result<Vec<String>, String> {
        let active = self.lending.slot(to)?;
        self.unwatch(sources);
        let Self { bound, lending: Lending { steering, before, .. }, .. } = self;
        let last = steering.split();
        steering.set(Split { active, candidate: None, sticky: false, salt });
        let (mut faults, mut ports) = (Vec::new(), 0);
        for one in bound.iter_mut() {
            let Err(error) = one.listener.steer(steering) else { continue };
            // A path is led back at the latest when who has taken it has ended.
            ports += usize::from(matches!(one.listener.address(), Address::Ip { .. }));
            faults.push(error.to_string());
        }
        if ports > 0 && faults.len() == bound.len() {
            steering.set(last);
            return Err(faults.swap_remove(0));
        }
        steering.flip();
        *before = last;
        self.all_mut().for_each(Listener::close_idle);
        faults.extend(self.guard(sources));
        Ok(faults)
    }

    /// Leads the clients of paths where the split says, where somebody had the path at the switch.
    pub(super) fn lead_paths(&mut self) {
        let Self { bound, lending: Lending { steering, .. }, .. } = self;
        for one in bound.iter_mut().filter(|one| matches!(one.listener.address(), Address::Unix { .. })) {
            // As it was at the switch: the log has it.
            let _ = one.listener.steer(steering);
        }
    }

    /// The last switch was a mistake: as before.
    ///
    /// # Errors
    /// In a sentence.
    pub fn switch_back(&mut self, sources: &mut Sources) -> Result<(), String> {
        self.unwatch(sources);
        self.steer(self.lending.before)
    }

    /// Leads this part of the new connections to a candidate, and the rest to whom all of them led; no
    /// part: all of them. `salt` as in [`Listeners::switch`].
    ///
    /// # Errors
    /// A sentence; the candidate has what it had then.
    pub fn share(
        &mut self,
        candidate: Generation,
        share: Share,
        (sticky, salt): (bool, u32),
    ) -> Result<(), String> {
        let slot = self.lending.slot(candidate)?;
        let active = self.lending.steering.split().active;
        let candidate = (!share.is_zero()).then_some((slot, share));
        self.steer(Split { active, candidate, sticky, salt })
    }

    /// Why these settings' listeners do not have a slot for each generation from here on.
    ///
    /// # Errors
    /// The first that has not, and why.
    pub fn steers(&self, settings: &Settings) -> Result<(), String> {
        let own = settings.sockets.iter().filter_map(|socket| self.at(&socket.address));
        for listener in own {
            if let Mechanism::Shared(why) = listener.mechanism() {
                return Err(format!("{}: {why}", listener.address()));
            }
        }
        Ok(())
    }

    /// Whether each generation gets a slot of its own from here on.
    pub fn set_steered(&mut self, steered: bool) {
        self.lending.steered = steered;
    }

    /// The split, for all listeners or for none. The eBPF programs come last, all at once: by then
    /// nothing can fail any more.
    fn steer(&mut self, split: Split) -> Result<(), String> {
        let Self { bound, lending: Lending { steering, .. }, .. } = self;
        let before = steering.split();
        steering.set(split);
        for at in 0..bound.len() {
            let Err(error) = bound[at].listener.steer(steering) else { continue };
            steering.set(before);
            for one in &mut bound[..=at] {
                // Where even this fails, it is as in the error: nobody let us change anything there.
                let _ = one.listener.steer(steering);
            }
            return Err(error.to_string());
        }
        steering.flip();
        self.all_mut().for_each(Listener::close_idle);
        Ok(())
    }

    /// Makes sure that the kernel goes by the split. A worker may have put a program of its own in the
    /// place of ours, or none, through any slot that it has, and the kernel tells nobody; nor does
    /// SO_LOCK_FILTER keep it from taking ours away. An error for each port where no slot let us.
    pub fn lead_again(&mut self) -> Vec<String> {
        let Self { bound, lending: Lending { steering, .. }, .. } = self;
        let ports = bound.iter_mut().map(|bound| &mut bound.listener);
        let ports = ports.filter(|listener| matches!(listener.address(), Address::Ip { .. }));
        ports.filter_map(|listener| listener.steer(steering).err()).map(|error| error.to_string()).collect()
    }

    /// Every process of this generation is gone: its slots are free for others.
    pub fn give_back(&mut self, generation: Generation, sources: &mut Sources) -> Vec<String> {
        let Some(slot) = self.lending.lent.remove(&generation) else { return Vec::new() };
        self.lending.named.retain(|named| *named != generation);
        if self.lending.lent.values().any(|lent| *lent == slot) {
            return Vec::new();
        }
        let mut faults = Vec::new();
        let split = self.lending.steering.split();
        if let Some((_, share)) = split.candidate.filter(|(own, _)| *own == slot && split.active != slot) {
            // The next that has this slot is not to receive what was meant for this one. But where all wait
            // for it alone, they go on waiting there, for whoever comes next.
            let active = if share.is_full() { slot } else { split.active };
            faults.extend(self.steer(Split { active, candidate: None, ..split }).err());
        }
        self.all_mut().for_each(|listener| listener.give_back(slot));
        self.lending.left.retain(|_, left| *left != slot);
        self.lending.left.insert(generation, slot);
        self.await_idle();
        faults.extend(self.guard(sources));
        faults
    }

    /// How many clients wait where a generation has ended, and nobody else is to accept them: where the
    /// kernel moves them to others there are none, and the active slot is for whoever comes next.
    #[must_use]
    pub fn left_to(&self, generation: Generation) -> u32 {
        let lending = &self.lending;
        let alone = |slot: &&Slot| lending.is_free(**slot) && **slot != lending.steering.split().active;
        let Some(slot) = lending.left.get(&generation).filter(alone) else { return 0 };
        let own = |listener: &&Listener| {
            let shared = matches!(listener.mechanism(), Mechanism::Shared(_));
            let port = matches!(listener.address(), Address::Ip { .. });
            listener.traffic() == Traffic::Open && (port || listener.address().listens()) && !shared
        };
        // Whoever's the datagrams are: there is one at least.
        let queue = |one: &Listener| {
            let length = one.queue_length_of_slot(*slot, &Queues::default())?;
            Some(if one.address().listens() { length } else { length.min(1) })
        };
        self.all().filter(own).filter_map(queue).fold(0, u32::saturating_add)
    }

    /// What waits for a generation to which nobody is led moves to the others, where the kernel does
    /// that. Gives what is to be told.
    pub fn pass_on(&mut self, generation: Generation) -> Vec<String> {
        let Ok(slot) = self.lending.own_slot(generation) else { return Vec::new() };
        self.all_mut()
            .filter_map(|listener| listener.pass_on(slot).err())
            .map(|error| error.to_string())
            .collect()
    }

    /// See [`Listener::remind`].
    pub(super) fn remind(&mut self) -> Vec<String> {
        self.all_mut().filter_map(|listener| listener.remind().err()).map(|error| error.to_string()).collect()
    }

    /// What comes from this address gets to this generation, and to no other.
    ///
    /// # Errors
    /// In a sentence: as many probe already as may, or the generation has no slot.
    pub fn probe(&mut self, generation: Generation, from: SocketAddr) -> Result<(), String> {
        if !self.lending.steered {
            return Ok(());
        }
        let slot = self.lending.slot(generation)?;
        self.lending.steering.probe(from, slot).map_err(|error| error.to_string())?;
        self.let_checks_in()?;
        self.steer(self.lending.steering.split()).inspect_err(|_| {
            // Where not all are told, none is: nobody would end it.
            let _ = self.unprobe(from);
        })
    }

    /// No longer.
    ///
    /// # Errors
    /// In a sentence.
    pub fn unprobe(&mut self, from: SocketAddr) -> Result<(), String> {
        self.lending.steering.unprobe(from).map_err(|error| error.to_string())?;
        self.let_checks_in()?;
        self.steer(self.lending.steering.split())
    }

    /// Whoever else is held off, what is led to one generation by its source is to get there.
    fn let_checks_in(&self) -> Result<(), String> {
        let ports: Vec<u16> = self.lending.steering.sources().map(|source| source.port()).collect();
        self.all().try_for_each(|listener| listener.let_in_from(&ports)).map_err(|error| error.to_string())
    }

    /// Whether a connection can be made to this generation and to no other.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn is_apart(&self, generation: Generation) -> Result<(), String> {
        self.lending.own_slot(generation).map(drop).map_err(|what| {
            let how = |listener: &Listener| match listener.mechanism() {
                Mechanism::Shared(why) => Some(format!("{what} ({}: {why})", listener.address())),
                Mechanism::Ebpf | Mechanism::Classic(_) | Mechanism::Path => None,
            };
            self.all().find_map(how).unwrap_or_else(|| what.clone())
        })
    }

    /// A path that leads to this generation and to no other, for supd alone.
    pub(super) fn private_path(&self, generation: Generation, address: &Address) -> Option<&Path> {
        self.at(address)?.private_path(self.lending.slot(generation).ok()?)
    }

    /// How new connections get to their generation, for each address.
    #[must_use]
    pub fn mechanisms(&self) -> Vec<(Address, Mechanism)> {
        let of = |listener: &Listener| match self.lending.steered {
            true => listener.mechanism(),
            false => match listener.mechanism() {
                shared @ Mechanism::Shared(_) => shared,
                _ => Mechanism::Shared("another listener of the unit has one slot for all".to_owned()),
            },
        };
        self.all().map(|listener| (listener.address().clone(), of(listener))).collect()
    }

    /// The descriptor that a worker of this generation gets for this address. One that nothing was
    /// lent to gets the active slot.
    #[must_use]
    pub fn fd(&self, generation: Generation, address: &Address) -> Option<BorrowedFd<'_>> {
        let listener = self.at(address)?;
        match self.lending.lent.get(&generation) {
            Some(slot) => listener.fd_of(*slot),
            None => Some(listener.fd()),
        }
    }

    /// What waits there for this generation.
    #[must_use]
    pub fn queue_of(&self, generation: Generation, address: &Address, queues: &Queues) -> Option<u32> {
        let slot = self.lending.slot(generation).ok()?;
        self.at(address)?.queue_length_of_slot(slot, queues)
    }

    /// What waits there for this generation, and what tells that it accepts.
    #[must_use]
    pub fn waiting(&self, generation: Generation, address: &Address) -> Option<Waiting> {
        let slot = self.lending.own_slot(generation).ok()?;
        self.at(address)?.waiting(slot, &self.lending.steering)
    }

    /// Whether this generation has a slot of its own.
    #[must_use]
    pub fn has_slot(&self, generation: Generation) -> bool {
        self.lending.lent.contains_key(&generation)
    }
}
