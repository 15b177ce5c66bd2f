//! The addresses of one unit: bound, opened and closed as the machine says.

mod fading;
mod kept;
mod lender;
mod lending;
mod overruled;
mod revival;
mod way;

use super::sources::{Source, Sources};
use crate::model::settings::Settings;
use crate::model::{Address, Tick, UnitName};
use crate::os::listener::{Listener, Queues, Traffic};
use crate::os::steering::Slot;
use fading::Fading;
use lender::Lender;
pub use lender::Taken;
use lending::Lending;
use mio::Token;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
pub use way::Way;

/// How long a queue may take to be served once new connections are held off.
const LAST_CALL: Duration = Duration::from_secs(1);

/// How often the queues are looked at meanwhile; the kernel does not tell when one is empty.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Descriptors that supd was given (LISTEN_FDS), until a unit names their address.
pub type Inherited = Vec<OwnedFd>;

/// The listeners of one unit, in the order in which they were bound. They are known by their
/// addresses: the name is the unit file's to change.
#[derive(Debug)]
pub struct Listeners {
    unit: UnitName,
    /// A list and no map: a map has room for eleven from its first entry on, and most units have
    /// one.
    bound: Vec<Bound>,
    /// Since when, and how often, they were opened again.
    revived: Option<(Tick, u32)>,
    /// When to do so next, after too often. Nothing is guarded meanwhile: each shutdown(2) says
    /// the same again, and one that comes in a loop would keep supd as busy as its worker.
    revive_at: Option<Tick>,
    /// When it was last told that this happens again and again.
    told: Option<Tick>,
    /// When to look whether all is as it should be, and how long after the look before: see [`Listeners::look_again`].
    again: Option<(Tick, Duration)>,
    /// While listening ends: until when the queues may take, and when to look again.
    last_call: Option<(Tick, Tick)>,
    /// Addresses whose last clients are waited for.
    fading: Fading,
    /// Which generation has which slot.
    lending: Lending,
    /// Boxed, both: hardly a unit has any.
    taken: Option<Box<Taken>>,
    lender: Option<Box<Lender>>,
}

/// One of them, and how supd hears of it.
#[derive(Debug)]
struct Bound {
    listener: Listener,
    /// One for each slot.
    guards: Vec<Guard>,
    /// Its own descriptor is waited for: somebody knocks.
    watched: Option<Token>,
}

/// A copy of a slot's descriptor by which supd hears that it was shut down.
#[derive(Debug)]
struct Guard {
    slot: Slot,
    /// See [`Listener::socket_of`].
    socket: u64,
    copy: OwnedFd,
    token: Token,
}

impl Listeners {
    /// None yet.
    #[must_use]
    pub fn new(unit: UnitName) -> Self {
        Self {
            unit,
            bound: Vec::new(),
            revived: None,
            revive_at: None,
            told: None,
            again: None,
            last_call: None,
            fading: Fading::default(),
            lending: Lending::default(),
            taken: None,
            lender: None,
        }
    }

    fn at(&self, address: &Address) -> Option<&Listener> {
        self.all().find(|listener| listener.address() == address)
    }

    fn all(&self) -> impl Iterator<Item = &Listener> {
        self.bound.iter().map(|bound| &bound.listener)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Listener> {
        self.bound.iter_mut().map(|bound| &mut bound.listener)
    }

    /// Binds what these settings name and is not bound, or goes on with what was taken or inherited, and lets
    /// the options of what is be as they say. Gives what a person should know although it is no error.
    /// `steered`: each generation gets a slot of its own from here on, where that can be.
    ///
    /// # Errors
    /// The first that cannot be bound, in a sentence; of those that this would have added none is
    /// kept.
    pub fn bind(
        &mut self,
        settings: &Settings,
        steered: bool,
        private_folder: &Path,
        inherited: &mut Inherited,
        sources: &mut Sources,
    ) -> Result<Vec<String>, String> {
        self.lending.steered = steered;
        let mut taken = self.taken.take();
        let mut notes = Vec::new();
        let reopened = !notes.is_empty();
        let mut added = Vec::new();
        for socket in &settings.sockets {
            if let Some(listener) = self.all_mut().find(|known| *known.address() == socket.address) {
                match listener.apply_options(&socket.options) {
                    Ok(later) if later.is_empty() => {}
                    Ok(later) => {
                        let keys = later.join(", ");
                        notes.push(format!("{}: {keys} can only change over a stop", socket.address));
                    }
                    Err(error) => notes.push(error.to_string()),
                }
                continue;
            }
            let from_server = taken.as_mut().and_then(|taken| taken.at(&socket.address));
            let listener = match from_server {
                Some(fd) => Listener::borrow(socket, fd, private_folder),
                None => match take(inherited, |fd| Listener::adopt(socket, fd, private_folder).ok()) {
                    Some(listener) => Ok(listener),
                    None => Listener::bind(socket, private_folder),
                },
            };
            match listener {
                Ok(mut listener) => {
                    if reopened {
                        listener.listen().map_err(|error| error.to_string())?;
                    }
                    notes.extend(listener.notes().map(|note| format!("{}: {note}", socket.address)));
                    added.push(Bound { listener, guards: Vec::new(), watched: None });
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        self.bound.reserve_exact(added.len());
        self.bound.extend(added);
        if let Some(taken) = taken.filter(|_| self.borrowed().next().is_some()) {
            notes.extend(self.borrow(*taken, sources));
        }
        notes.extend(self.guard(sources));
        Ok(notes)
    }

    /// Opens exactly the listeners that any of these names, or holds new connections off there; the others
    /// refuse, once what waits there is served where somebody is named at all. Gives what went wrong.
    pub fn listen(
        &mut self,
        named: &[Arc<Settings>],
        (traffic, now): (Traffic, Tick),
        sources: &mut Sources,
    ) -> Vec<String> {
        self.forget_fading(|address| named.is_empty() || names(named, address));
        self.last_call = None;
        self.revive_at = None;
        let mut faults = Vec::new();
        // An abstract name is free for a new socket only when there is no copy of the old one.
        for bound in self.bound.iter_mut().filter(|bound| bound.listener.traffic() == Traffic::Refused) {
            bound.unguard(sources);
        }
        let mut unnamed = Vec::new();
        for (at, listener) in self.all_mut().enumerate() {
            // At a path whoever may not wait would fail (EAGAIN), as a proxy does: there they wait in the queue.
            let holds = traffic == Traffic::HeldOff && matches!(listener.address(), Address::Ip { .. });
            if names(named, listener.address()) && holds {
                if listener.traffic() != traffic {
                    faults.extend(listener.hold_off().err().map(|error| error.to_string()));
                }
            } else if names(named, listener.address()) {
                let fit =
                    listener.is_published() && !(listener.can_listen_again() && listener.is_shut_down());
                if listener.traffic() != Traffic::Open || !fit {
                    faults.extend(listener.listen().err().map(|error| error.to_string()));
                }
            } else if listener.traffic() != Traffic::Refused && !named.is_empty() {
                unnamed.push(at);
            } else if listener.traffic() != Traffic::Refused {
                faults.extend(listener.refuse().err().map(|error| error.to_string()));
            }
        }
        unnamed.into_iter().for_each(|at| self.fade(at, now, &mut faults));
        faults.extend(self.guard(sources));
        faults
    }

    /// Begins to end listening. [`Listeners::look`] is due now, and says when it is done.
    pub fn unlisten(&mut self, now: Tick, sources: &mut Sources) -> Vec<String> {
        let mut faults = Vec::new();
        for listener in self.all_mut().filter(|listener| listener.traffic() == Traffic::Open) {
            faults.extend(listener.hold_off().err().map(|error| error.to_string()));
        }
        self.forget_fading(|_| true);
        self.revive_at = None;
        self.last_call = Some((now.after(LAST_CALL), now));
        faults.extend(self.guard(sources));
        faults
    }

    /// When [`Listeners::look`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        let last_call = self.last_call.map(|(_, look)| look);
        let again = self.again.map(|(at, _)| at);
        last_call.into_iter().chain(self.revive_at).chain(again).chain(self.fading.deadline()).min()
    }

    /// Whether listening has ended just now: every queue is served, or its time is over.
    pub fn look(&mut self, now: Tick, faults: &mut Vec<String>) -> bool {
        let Some((end, look)) = self.last_call else { return false };
        if now < look {
            return false;
        }
        let waiting = |listener: &Listener| {
            listener.traffic() != Traffic::Refused && listener.queue_length().is_some_and(|length| length > 0)
        };
        if now < end && self.all().any(waiting) {
            self.last_call = Some((end, now.after(LOOK_EVERY)));
            return false;
        }
        for listener in self.all_mut().filter(|listener| listener.traffic() != Traffic::Refused) {
            faults.extend(listener.refuse().err().map(|error| error.to_string()));
        }
        self.last_call = None;
        true
    }

    /// Puts back the public paths that somebody removed. Gives what is to be told.
    pub fn republish(&self) -> Vec<String> {
        let told = |listener: &Listener| match listener.republish() {
            Ok(false) => None,
            Ok(true) => {
                let (name, address) = (listener.name(), listener.address());
                Some(format!("{name} {address} had been removed: it is public again"))
            }
            Err(error) => Some(error.to_string()),
        };
        self.all().filter_map(told).collect()
    }

    /// The same at the price of one look: whether the private name is there as well is not asked.
    pub fn republish_if_gone(&self) -> Vec<String> {
        if self.all().all(Listener::is_published) { Vec::new() } else { self.republish() }
    }

    /// The same once somebody has ended, who may have had the path: new clients are led where the split says,
    /// too, where they could not be led there as long as he lived.
    pub fn put_back(&mut self) -> Vec<String> {
        let paths = self.all().any(|listener| matches!(listener.address(), Address::Unix { .. }));
        if !paths {
            return Vec::new();
        }
        self.lead_paths();
        self.republish_if_gone()
    }

    /// Closes the listeners that none of these names.
    pub fn close_except(&mut self, named: &[Arc<Settings>], sources: &mut Sources) {
        let gone = |bound: &Bound| !names(named, bound.listener.address());
        while let Some(at) = self.bound.iter().position(gone) {
            self.bound.remove(at).let_go(sources);
        }
        self.forget_lender(sources);
    }

    /// Says [`Source::Knock`] when a connection waits.
    ///
    /// # Errors
    /// What the kernel answered: the unit will not wake up by itself.
    pub fn watch(&mut self, sources: &mut Sources) -> Result<(), String> {
        for Bound { listener, watched, .. } in &mut self.bound {
            if watched.is_some() || listener.traffic() != Traffic::Open {
                continue;
            }
            let token = sources
                .watch(&listener.fd(), Source::Knock(self.unit.clone()))
                .map_err(|error| format!("cannot wait for connections at {}: {error}", listener.address()))?;
            *watched = Some(token);
        }
        Ok(())
    }

    /// No longer.
    pub fn unwatch(&mut self, sources: &mut Sources) {
        self.bound.iter_mut().for_each(|bound| bound.unwatch(sources));
    }

    /// Whether something waits indeed: an event may have been for a connection that is gone.
    #[must_use]
    pub fn is_knocked(&self) -> bool {
        let knocked = |listener: &Listener| listener.queue_length().is_none_or(|length| length > 0);
        self.bound.iter().any(|bound| bound.watched.is_some() && knocked(&bound.listener))
    }

    /// What waits there in all slots, if it is bound.
    #[must_use]
    pub fn queue(&self, address: &Address, queues: &Queues) -> Option<u32> {
        self.at(address)?.queue_length_of(queues)
    }

    /// Whether this address is bound.
    #[must_use]
    pub fn has(&self, address: &Address) -> bool {
        self.at(address).is_some()
    }

    /// Whether nothing is bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty()
    }

    /// Every address that is bound.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.all().map(Listener::address)
    }
}

impl Bound {
    fn unwatch(&mut self, sources: &mut Sources) {
        if let Some(token) = self.watched.take() {
            sources.unwatch(token, &self.listener.fd());
        }
    }

    /// Closes it.
    fn let_go(mut self, sources: &mut Sources) {
        self.unwatch(sources);
        self.unguard(sources);
        self.listener.close();
    }
}

/// Shut down for good.
fn is_dead(listener: &Listener) -> bool {
    listener.traffic() == Traffic::Open && !listener.can_listen_again() && listener.is_shut_down()
}

fn names(named: &[Arc<Settings>], address: &Address) -> bool {
    named.iter().flat_map(|settings| &settings.sockets).any(|socket| socket.address == *address)
}

/// The first of the inherited descriptors that can be made use of; it is taken out of the list.
fn take<T>(inherited: &mut Inherited, mut make: impl FnMut(OwnedFd) -> Option<T>) -> Option<T> {
    for at in 0..inherited.len() {
        // A copy is tried, for adopting closes what does not fit.
        let Ok(copy) = inherited[at].try_clone() else { continue };
        if let Some(made) = make(copy) {
            inherited.remove(at);
            return Some(made);
        }
    }
    None
}

#[cfg(test)]
mod tests;
