//! What somebody shuts down listens again: how supd hears of it, and how often it bears it.

use super::super::sources::{Source, Sources};
use super::{Bound, Guard, Listeners, is_dead};
use crate::model::{Address, Tick};
use crate::os::listener::{Listener, Traffic};
use std::time::Duration;

/// How often in [`REVIVE_SPAN`] what somebody shuts down is opened again.
const REVIVALS: u32 = 5;

/// See [`REVIVALS`].
const REVIVE_SPAN: Duration = Duration::from_secs(1);

/// Who shuts a listener down all the time is told of once in this span.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// After word that somebody was shut down it is looked again so soon, and then each time after twice as long.
const AGAIN_FIRST: Duration = Duration::from_millis(50);

/// The longest pause before such a look: the last one.
const AGAIN_LAST: Duration = Duration::from_millis(3_200);

impl Listeners {
    /// Hears from here on when somebody shuts an open listener down, and of no other: what refuses
    /// already, or can never listen again, has nothing to be told. Says what has gone wrong with slots before.
    pub(super) fn guard(&mut self, sources: &mut Sources) -> Vec<String> {
        let mut faults: Vec<String> = self.all_mut().flat_map(Listener::take_troubles).collect();
        let resting = self.last_call.is_some() || self.revive_at.is_some();
        for bound in &mut self.bound {
            let (listener, address) = (&bound.listener, bound.listener.address());
            let open = !resting && address.listens() && listener.traffic() == Traffic::Open;
            if !open || is_dead(listener) {
                bound.unguard(sources);
                continue;
            }
            // By its socket: a slot that is lent anew may have another one.
            bound.guards.retain(|guard| {
                let stays = listener.socket_of(guard.slot) == Some(guard.socket);
                if !stays {
                    sources.unwatch(guard.token, &guard.copy);
                }
                stays
            });
            for (slot, _) in listener.slots() {
                if bound.guards.iter().any(|guard| guard.slot == slot) {
                    continue;
                }
                let (Some(fd), Some(socket)) = (listener.fd_of(slot), listener.socket_of(slot)) else {
                    continue;
                };
                let guarded = fd.try_clone_to_owned().and_then(|copy| {
                    let token = sources.watch_end(&copy, Source::Deaf(self.unit.clone()))?;
                    Ok(Guard { slot, socket, copy, token })
                });
                match guarded {
                    Ok(guard) => bound.guards.push(guard),
                    Err(error) => {
                        faults.push(format!("nobody will tell if a worker shuts {address} down: {error}"));
                    }
                }
            }
        }
        faults
    }

    /// Somebody was shut down. That it is so for good may not be seen at that moment: a listen(2) that fails (for
    /// another has the port) is in force for an instant, and what follows is told to nobody. So it is looked again,
    /// a few times.
    pub fn heard(&mut self, now: Tick, sources: &mut Sources) -> Vec<String> {
        self.again = Some((now.after(AGAIN_FIRST), AGAIN_FIRST));
        self.revive(now, false, sources)
    }

    /// If that is due: opens again what is shut, leads clients where the split says, and closes slots that nobody has.
    pub fn look_again(&mut self, now: Tick, sources: &mut Sources) -> Vec<String> {
        let Some((_, pause)) = self.again.filter(|(at, _)| *at <= now) else { return Vec::new() };
        self.again = (pause < AGAIN_LAST).then(|| (now.after(pause * 2), pause * 2));
        let deaf = self.takes_back();
        let notes = if deaf { self.heard(now, sources) } else { self.revive(now, false, sources) };
        self.all_mut().for_each(Listener::close_idle);
        self.await_idle();
        self.guard(sources).into_iter().chain(notes).collect()
    }

    /// What cannot be closed yet will be.
    pub(super) fn await_idle(&mut self) {
        let until = self.all().filter_map(Listener::idle_until).min();
        self.again = self.again.or(until.map(|until| (until, AGAIN_LAST)));
    }

    /// Takes back what a worker has bound elsewhere. Whether a port is shut by now, by that or by somebody, that is
    /// to be open.
    pub fn takes_back(&mut self) -> bool {
        self.all_mut().filter(|listener| listener.traffic() == Traffic::Open).for_each(Listener::take_back);
        let deaf =
            |it: &Listener| it.traffic() == Traffic::Open && it.can_listen_again() && it.is_shut_down();
        self.all().any(deaf)
    }

    /// Opens again what somebody shut down, `later`: where that was put off. Within bounds: a worker
    /// may do it in a loop. Gives what is to be told.
    pub fn revive(&mut self, now: Tick, later: bool, sources: &mut Sources) -> Vec<String> {
        let due = self.revive_at.is_none_or(|at| at <= now);
        // While listening ends it is as good.
        if self.last_call.is_some() || !due || (later && self.revive_at.is_none()) {
            return Vec::new();
        }
        self.revive_at = None;
        // Whoever does it in a loop is told of; what else comes of it is no news each time.
        let told = self.told.is_some_and(|told| now < told.after(TELL_EVERY));
        let mut notes = Vec::new();
        let shut = |listener: &Listener| listener.traffic() == Traffic::Open && listener.is_shut_down();
        let shut: Vec<usize> = self.all().enumerate().filter(|(_, it)| shut(it)).map(|(at, _)| at).collect();
        for at in shut {
            notes.extend(self.revive_one(at, now));
        }
        // Or it listens again already, which takes it out of the kernel's map of sockets all the same.
        notes.extend(self.remind());
        notes.extend(self.guard(sources));
        if told { Vec::new() } else { notes }
    }

    fn revive_one(&mut self, at: usize, now: Tick) -> Option<String> {
        let Bound { listener, guards, .. } = self.bound.get_mut(at)?;
        let address = listener.address();
        let what = format!("{} {address} was shut down by a worker", listener.name());
        if !listener.can_listen_again() {
            let cure = match address {
                Address::Unix { .. } => "swap or restart it",
                _ => "stop and start it",
            };
            // Not guarded any more, so this is said once.
            return (!guards.is_empty()).then(|| {
                format!(
                    "{what}; a UNIX socket cannot listen again, and clients are refused until it is bound \
                     anew: {cure}, and mend the program"
                )
            });
        }
        let told = self.told.is_some_and(|told| now < told.after(TELL_EVERY));
        let (since, times) =
            self.revived.filter(|(since, _)| now < since.after(REVIVE_SPAN)).unwrap_or((now, 0));
        if times >= REVIVALS {
            self.revive_at = Some(since.after(REVIVE_SPAN));
            self.told = if told { self.told } else { Some(now) };
            return (!told).then(|| {
                format!("{what} again and again; it listens again after a pause each time. Mend the program")
            });
        }
        self.revived = Some((since, times + 1));
        match listener.listen() {
            Ok(()) => (!told).then(|| format!("{what}; it listens again. Mend the program")),
            Err(error) => {
                self.revive_at = Some(now.after(REVIVE_SPAN));
                self.told = if told { self.told } else { Some(now) };
                (!told).then(|| format!("{what}, and cannot listen again for now: {error}"))
            }
        }
    }
}

impl Bound {
    pub(super) fn unguard(&mut self, sources: &mut Sources) {
        for guard in self.guards.drain(..) {
            sources.unwatch(guard.token, &guard.copy);
        }
    }
}
