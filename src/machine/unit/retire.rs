//! How a generation is let go: it receives nothing new, finishes what it has, and only then is told to
//! stop. The same for every way in which one ends.

use super::super::drain::{Counts, Drain};
use super::super::effect::{Action, Level};
use super::super::group::{Group, Role};
use super::super::turn::Turn;
use super::{Life, Unit};
use crate::model::Generation;

impl Unit {
    /// Lets a generation go to which no new connection leads any more.
    pub(super) fn retire(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let (stopping, in_haste) = match &self.life {
            Life::Stopping(stopping) => (true, stopping.kill.is_some()),
            Life::Stopped { .. }
            | Life::Arming { .. }
            | Life::Waiting { .. }
            | Life::Blocked { .. }
            | Life::Up => (false, false),
        };
        let Some(group) = self.groups.get_mut(&generation) else { return };
        if let Role::Draining(_) = group.role {
            return;
        }
        // In a slot that is lent to others as well it would accept for as long as it lives.
        let deaf = group.steered || stopping;
        if !deaf || in_haste || !group.serves_at_all() {
            return self.dismiss(generation, turn);
        }
        let policy = &group.launch.settings.swap;
        let settle = group.diverted.map(|since| since.after(policy.settle));
        group.role = Role::Draining(Drain::new(turn.now, settle, policy.drain));
        turn.act(Action::Count(generation));
        self.end_drain(generation, turn);
    }

    /// Tells a generation to stop.
    pub(super) fn dismiss(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get_mut(&generation) else { return };
        let told = group.leave(turn);
        self.heard(generation, told, turn);
    }

    /// What clients still have of a generation was counted.
    pub(super) fn counted(&mut self, generation: Generation, counts: Counts, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get_mut(&generation) else { return };
        if let Role::Draining(drain) = &mut group.role {
            drain.counted(turn.now, counts);
            self.end_drain(generation, turn);
        }
    }

    /// Whoever drains has no more time for it.
    pub(super) fn cut_drains(&mut self, turn: &mut Turn<'_>) {
        for generation in self.with_role(|role| matches!(role, Role::Draining(_))) {
            self.dismiss(generation, turn);
        }
    }

    /// What of the generations that receive nothing is due by now.
    pub(super) fn roles_due(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let due = |role: Role| role.deadline().is_some_and(|deadline| deadline <= now);
        for generation in self.with_role(due) {
            let Some(group) = self.groups.get_mut(&generation) else { continue };
            match &mut group.role {
                Role::Draining(drain) => {
                    if drain.due(now) {
                        turn.act(Action::Count(generation));
                    }
                    self.end_drain(generation, turn);
                }
                Role::Candidate | Role::Active | Role::Previous | Role::Replaced | Role::Leaving => {}
            }
        }
    }

    fn end_drain(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let Some(Role::Draining(drain)) = self.groups.get(&generation).map(|group| group.role) else {
            return;
        };
        if !drain.is_over() {
            return;
        }
        if let Some(Counts { connections: Some(left @ 1..), .. }) = drain.seen() {
            let text = format!("told to stop with {left} connection(s) open: DrainSec is over");
            turn.note(Level::Warning, Some(generation), text);
        }
        self.dismiss(generation, turn);
    }

    pub(super) fn with_role(&self, is: impl Fn(Role) -> bool) -> Vec<Generation> {
        self.groups.values().filter(|group| is(group.role)).map(Group::generation).collect()
    }
}
