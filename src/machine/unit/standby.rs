//! A generation that stands by: alive and ready, it receives nothing, and may be told so.

use super::super::drain::Drain;
use super::super::effect::{Action, Level};
use super::super::group::Role;
use super::super::turn::Turn;
use super::Unit;
use crate::model::settings::Swap as Policy;
use crate::model::{Generation, Tick};

impl Unit {
    /// It receives nothing from here on, and stands by for as long as `policy` says.
    pub(super) fn stand_by(&mut self, generation: Generation, policy: &Policy, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get_mut(&generation) else { return };
        let until = policy.standby.map(|span| turn.now.after(span));
        group.role = Role::Standby { until, resting: None };
        self.pass_on(generation, turn);
        self.rest(generation, turn);
    }

    /// StandbySignal, where there is one: once nobody waits there any more, for who rests may accept
    /// nothing.
    pub(super) fn rest(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let under_way = self.swap.as_ref().is_some_and(|swap| swap.to == generation);
        let Some(group) = self.groups.get_mut(&generation).filter(|_| !under_way) else { return };
        let policy = &group.launch.settings.swap;
        if let (Role::Standby { resting, .. }, Some(_)) = (&mut group.role, policy.standby_signal) {
            let settle = group.diverted.map(|since: Tick| since.after(policy.settle));
            *resting = Some(Drain::new(turn.now, settle, policy.drain));
            turn.act(Action::Count(generation));
        }
    }

    /// Tells it to rest, if nobody waits there any more.
    pub(super) fn end_rest(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get_mut(&generation) else { return };
        let Role::Standby { resting, .. } = &mut group.role else { return };
        if resting.take_if(|resting| resting.is_quiet()).is_none() {
            return;
        }
        // One that is launched again may have no handler yet. Once it is ready it is told to rest.
        let starts = group.workers.iter().any(|worker| worker.phase.runs() && !worker.phase.serves());
        if let Some(signal) = group.launch.settings.swap.standby_signal.filter(|_| !starts) {
            group.signal(signal, turn);
            turn.note(Level::Info, Some(generation), format!("rests: {signal} was sent to it"));
        }
    }

    /// ActiveSignal, where there is one, before it receives anything.
    pub(super) fn wake(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get_mut(&generation) else { return };
        group.role = Role::Standby { until: None, resting: None };
        if let Some(signal) = group.launch.settings.swap.active_signal {
            group.signal(signal, turn);
            turn.note(Level::Info, Some(generation), format!("wakes up: {signal} was sent to it"));
        }
    }

    /// What waits where nobody accepts waits for another, once new clients do.
    pub(super) fn pass_on(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get_mut(&generation) else { return };
        if group.steered && group.diverted.is_some() && std::mem::take(&mut group.stalled) {
            turn.act(Action::PassOn(generation));
        }
    }
}
