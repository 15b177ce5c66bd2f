//! Whether the next image of supd could go on with a unit as it is: what is under way would not be.

use super::{Life, Unit};

/// What would be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsettled {
    /// In a few words, after the unit's name.
    pub what: &'static str,
    /// A worker alone: it would be ended, and launched again.
    pub is_worker: bool,
}

impl Unit {
    /// See [`Machine::unsettled`](crate::machine::Machine::unsettled).
    pub(in crate::machine) fn unsettled(&self) -> Option<Unsettled> {
        let life = match &self.life {
            Life::Arming { .. } => Some("its listeners are being bound"),
            Life::Waiting { record, clients, .. } => {
                (record.is_some() || !clients.is_empty()).then_some("a start is under way")
            }
            Life::Stopping(_) => Some("a stop is under way"),
            Life::Stopped { .. } | Life::Blocked { .. } | Life::Up => None,
        };
        let own = || {
            let all = [
                (self.swap_moves(), "a swap is under way"),
                (self.again.is_some(), "what served before is about to be launched again"),
                (self.install.is_some(), "an install is under way"),
                (self.undeploying.is_some(), "a release is being removed"),
                (self.reloading.is_some() || self.refreshing.is_some(), "a reload is under way"),
                (self.diversion.is_some(), "its traffic is off for a moment"),
                (self.alarm.is_some(), "ExecOnFailure runs"),
                (self.unled.is_some() || self.parting.is_some(), "its swap has just ended"),
            ];
            all.into_iter().find_map(|(is, what)| is.then_some(what))
        };
        let settles = |what| Unsettled { what, is_worker: false };
        let mut workers = self.groups.values().flat_map(|group| &group.workers);
        let starts = workers.any(|worker| !worker.phase.outlasts() && !worker.phase.is_still());
        let starts = starts.then_some(Unsettled { what: "a worker is starting or ending", is_worker: true });
        life.or_else(own).map(settles).or(starts)
    }
}
