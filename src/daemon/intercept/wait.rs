//! Binds that are left unanswered: the server is started, and on no port, until a person says.

use super::super::hands::Hands;
use crate::machine::Event;
use crate::model::{Generation, Tick, UnitName, WorkerId};
use crate::os::intercept::{Answer, Call};
use nix::errno::Errno;

/// As many threads of one worker may wait; a server has one, or one for each listener.
const WAITING_MAX: usize = 64;

impl Hands {
    /// What this generation binds of its unit's listeners waits from now on.
    pub(in super::super) fn hold_binds(&mut self, unit: &UnitName, generation: Generation) {
        self.intercepts.held.insert((unit.clone(), generation));
    }

    /// It is answered from now on, what waits and what comes. Each call is looked at anew: an hour may have
    /// passed since, and other threads of the worker went on.
    pub(in super::super) fn answer_binds(&mut self, unit: &UnitName, generation: Generation, now: Tick) {
        self.intercepts.held.remove(&(unit.clone(), generation));
        let its = self.intercepts.open.iter_mut().filter(|(_, one)| one.is_of(unit, generation));
        let waited: Vec<WorkerId> = its
            .filter(|(_, one)| !one.waiting.is_empty())
            .map(|(id, one)| {
                one.again.extend(one.waiting.drain(..));
                *id
            })
            .collect();
        waited.into_iter().for_each(|id| self.take_calls(id, now));
    }

    /// What the call of this worker is answered at once, if it is not to wait.
    pub(super) fn waits(&mut self, id: WorkerId, call: &Call) -> Result<(), Errno> {
        let Some(one) = self.intercepts.open.get_mut(&id) else { return Err(Errno::EADDRINUSE) };
        if one.waiting.len() >= WAITING_MAX {
            return Err(Errno::EADDRINUSE);
        }
        one.waiting.push(*call);
        let first = !std::mem::replace(&mut one.waits, true);
        let unit = one.unit.clone();
        if first {
            self.say(&unit, Event::BindWaits { worker: id });
        }
        Ok(())
    }

    /// Whether what this worker binds of its unit's listeners is to wait.
    pub(super) fn is_unbound(&self, id: WorkerId) -> bool {
        let Some(one) = self.intercepts.open.get(&id) else { return false };
        self.intercepts.held.contains(&(one.unit.clone(), one.launch.generation))
    }

    /// It is about to be told to end. Signals wait for as long as the call does that they come upon
    /// (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, linux/seccomp.h), all but SIGKILL.
    pub(in super::super) fn refuse_waiting(&mut self, id: WorkerId) {
        let Some(one) = self.intercepts.open.get_mut(&id) else { return };
        let waiting: Vec<Call> = one.waiting.drain(..).chain(one.again.drain(..)).collect();
        for call in waiting {
            self.intercepts.answer(id, &call, Answer::Refused(Errno::EADDRINUSE));
        }
    }
}
