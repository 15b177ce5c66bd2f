//! Addresses that no generation names any more: who waits there is served by the one that goes, and only then
//! is the next client refused.

use super::{LOOK_EVERY, Listeners};
use crate::model::{Address, Tick};
use crate::os::listener::Traffic;
use std::time::Duration;

/// Who goes may have other clients first; longer than this nobody waits who is never served.
const LONGEST: Duration = Duration::from_secs(10);

/// Those of one unit.
#[derive(Debug, Default)]
pub(super) struct Fading {
    all: Vec<(Address, Tick)>,
    look: Option<Tick>,
}

impl Fading {
    pub(super) fn deadline(&self) -> Option<Tick> {
        self.look
    }
}

impl Listeners {
    /// Nobody new is let in there; it refuses once its queue is empty.
    pub(super) fn fade(&mut self, at: usize, now: Tick, faults: &mut Vec<String>) {
        let Some(listener) = self.bound.get_mut(at).map(|bound| &mut bound.listener) else { return };
        let waits = listener.address().listens() && listener.queue_length().is_some_and(|length| length > 0);
        if !waits {
            faults.extend(listener.refuse().err().map(|error| error.to_string()));
            return;
        }
        if listener.traffic() == Traffic::Open {
            faults.extend(listener.hold_off().err().map(|error| error.to_string()));
        }
        let address = listener.address().clone();
        if self.fading.all.iter().all(|(known, _)| *known != address) {
            self.fading.all.push((address, now.after(LONGEST)));
        }
        self.fading.look = Some(now);
    }

    /// Looks whether they are served by now.
    pub fn look_at_fading(&mut self, now: Tick, faults: &mut Vec<String>) {
        if self.fading.look.is_none_or(|look| now < look) {
            return;
        }
        let all = std::mem::take(&mut self.fading.all);
        let left = all.into_iter().filter(|(address, until)| {
            let Some(listener) = self.all_mut().find(|listener| listener.address() == address) else {
                return false;
            };
            let waits = listener.queue_length().is_some_and(|length| length > 0);
            if waits && now < *until {
                return true;
            }
            faults.extend(listener.refuse().err().map(|error| error.to_string()));
            false
        });
        let left = left.collect::<Vec<_>>();
        self.fading.look = (!left.is_empty()).then(|| now.after(LOOK_EVERY));
        self.fading.all = left;
    }

    /// These are named again, or all of them end.
    pub(super) fn forget_fading(&mut self, is_over: impl Fn(&Address) -> bool) {
        self.fading.all.retain(|(address, _)| !is_over(address));
        if self.fading.all.is_empty() {
            self.fading.look = None;
        }
    }
}
