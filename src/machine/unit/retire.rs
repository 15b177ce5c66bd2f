//! How a generation is let go: it receives nothing new, finishes what it has, and only then is told to
//! stop. The same for every way in which one ends.

use super::super::drain::{Counts, Drain};
use super::super::effect::{Action, Level};
use super::super::group::{Group, Role};
use super::super::turn::Turn;
use super::{Life, Unit, Waiter};
use crate::model::{ClientId, Generation, Progress, Queue, Reply, WaitFor};

impl Unit {
    /// Lets a generation go to which no new connection leads any more.
    pub(super) fn retire(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let (refuses, listens, in_haste) = match &self.life {
            Life::Stopping(stopping) => {
                (!stopping.keep_listening, stopping.keep_listening, stopping.kill.is_some())
            }
            Life::Stopped { .. }
            | Life::Arming { .. }
            | Life::Waiting { .. }
            | Life::Blocked { .. }
            | Life::Up => (false, false, false),
        };
        let Some(group) = self.groups.get_mut(&generation) else { return };
        if let Role::Draining(_) = group.role {
            return;
        }
        // Where new connections still lead to it, or to all, it would accept for as long as it lives.
        let deaf = refuses || (group.steered && !(listens && group.diverted.is_none()));
        if !deaf || in_haste || !group.serves_at_all() {
            return self.dismiss(generation, turn);
        }
        self.pass_on(generation, turn);
        let Some(group) = self.groups.get_mut(&generation) else { return };
        let policy = &group.launch.settings.swap;
        let settle = group.diverted.map(|since| since.after(policy.settle));
        group.role = Role::Draining(Drain::new(turn.now, settle, policy.drain));
        turn.act(Action::Count(generation));
        self.end_drain(generation, turn);
    }

    /// Lets a candidate go: one that had a share has connections to finish.
    pub(super) fn retire_candidate(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        match self.groups.get(&generation).and_then(|group| group.diverted) {
            Some(_) => self.retire(generation, turn),
            None => self.dismiss(generation, turn),
        }
    }

    /// Tells a generation to stop.
    pub(super) fn dismiss(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get_mut(&generation) else { return };
        let told = group.leave(turn);
        self.heard(generation, told, turn);
    }

    /// What clients still have of a generation was counted.
    pub(super) fn counted(
        &mut self,
        generation: Generation,
        counts: Counts,
        queues: Vec<Queue>,
        turn: &mut Turn<'_>,
    ) {
        let Some(group) = self.groups.get_mut(&generation) else { return };
        let workers = group.remaining();
        match &mut group.role {
            Role::Draining(drain) => {
                drain.counted(turn.now, counts);
                let Counts { connections, oldest, .. } = counts;
                let (queued, left) = (Some(Queue::connections(&queues)), drain.left(turn.now));
                let progress =
                    Progress::Draining { generation, workers, connections, oldest, queued, queues, left };
                if !drain.is_over() {
                    self.tell_drainers(generation, &progress, turn);
                }
                self.end_drain(generation, turn);
            }
            Role::Standby { resting: Some(resting), .. } => {
                resting.counted(turn.now, counts);
                self.end_rest(generation, turn);
            }
            Role::Standby { resting: None, .. }
            | Role::Candidate
            | Role::Active
            | Role::Previous
            | Role::Replaced
            | Role::Leaving => {}
        }
    }

    /// `drain`: a person lets go of one that receives nothing.
    pub(super) fn ask_drain(&mut self, client: ClientId, generation: Generation, turn: &mut Turn<'_>) {
        let Some(role) = self.groups.get(&generation).map(|group| group.role) else {
            let last = self.durable.generation_last;
            if generation.0 > last {
                let text = format!("there is no generation {generation}: the last one was {last}");
                return self.refuse(client, text, self.command("status"), turn);
            }
            let text = format!("no process of generation {generation} is left");
            return self.reply(client, Reply::done(false, text).about(None, Some(generation)), turn);
        };
        let (text, next) = match role {
            Role::Standby { .. } | Role::Draining(_) | Role::Leaving | Role::Replaced => {
                let (swap_id, to) = (None, None);
                let drained = Some(super::Drain { of: generation, swap_id, to });
                self.waiters.push(Waiter { client, wait: WaitFor::Drained, drained });
                if let Role::Standby { .. } = role {
                    turn.note(Level::Info, Some(generation), "is let go by request");
                    self.retire(generation, turn);
                }
                return;
            }
            Role::Active => ("it is active: it serves".to_owned(), self.command("stop")),
            Role::Candidate => ("it is on its way in".to_owned(), self.command("abort")),
            Role::Previous => {
                let text = "until the one after it is committed, it is what that is rolled back to";
                (text.to_owned(), self.command("promote"))
            }
        };
        self.refuse(client, format!("generation {generation} cannot be drained: {text}"), next, turn);
    }

    /// Those who wait for the end of this generation hear how far it is.
    fn tell_drainers(&self, generation: Generation, progress: &Progress, turn: &mut Turn<'_>) {
        let waits = |of: &super::Drain| of.of == generation;
        for waiter in self.waiters.iter().filter(|waiter| waiter.drained.as_ref().is_some_and(waits)) {
            turn.act(Action::Progress(waiter.client, progress.clone()));
        }
        let Life::Stopping(stopping) = &self.life else { return };
        for client in &stopping.clients {
            turn.act(Action::Progress(*client, progress.clone()));
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
                Role::Standby { until: Some(until), .. } if *until <= now => {
                    turn.note(Level::Info, Some(generation), "has stood by for StandbySec");
                    self.retire(generation, turn);
                }
                Role::Standby { resting, .. } => {
                    if resting.as_mut().is_some_and(|resting| resting.due(now)) {
                        turn.act(Action::Count(generation));
                    }
                    self.end_rest(generation, turn);
                }
                Role::Candidate | Role::Active | Role::Previous | Role::Replaced | Role::Leaving => {}
            }
        }
    }

    /// Lets go of those that stand by for nothing: nobody goes back or forward to them any more.
    pub(super) fn retire_standbys(&mut self, turn: &mut Turn<'_>) {
        if self.swap.is_some() {
            return;
        }
        let named: Vec<Generation> = [&self.durable.retained, &self.durable.forward]
            .into_iter()
            .flatten()
            .map(|kept| kept.generation)
            .collect();
        for generation in self.with_role(|role| matches!(role, Role::Standby { .. })) {
            if !named.contains(&generation) {
                self.retire(generation, turn);
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
