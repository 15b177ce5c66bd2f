//! What must hold after every step, in release builds too. What fails here puts the unit into
//! quarantine: to go on serving costs nothing, to decide on from a contradiction may cost all.

use super::super::group::Role;
use super::super::swap::Step;
use super::super::turn::Turn;
use super::{Life, Unit};

impl Unit {
    /// `Err`: which rule is broken.
    pub(super) fn check(&self, turn: &Turn<'_>) -> Result<(), String> {
        self.check_numbers(turn)?;
        self.check_roles()?;
        self.check_life()
    }

    fn check_numbers(&self, turn: &Turn<'_>) -> Result<(), String> {
        for (generation, group) in self.groups.iter() {
            if generation.0 == 0 || generation.0 > self.durable.generation_last {
                return Err(format!("generation {generation} was never numbered"));
            }
            if group.generation() != *generation {
                return Err(format!("generation {generation} is filed under another number"));
            }
            for worker in &group.workers {
                if !turn.numbers.gave(worker.id) {
                    return Err(format!("worker run {} was never numbered", worker.id));
                }
            }
        }
        if let Some(both) = self.groups.keys().find(|generation| self.ended.contains_key(generation)) {
            return Err(format!("generation {both} has ended, and is there"));
        }
        Ok(())
    }

    fn check_roles(&self) -> Result<(), String> {
        let with = |role: Role| self.groups.values().filter(move |group| group.role == role);
        if with(Role::Active).count() > 1 {
            return Err("two generations are active".to_owned());
        }
        if with(Role::Candidate).count() > 1 {
            return Err("two generations are candidates".to_owned());
        }
        if let Some(active) = with(Role::Active).next() {
            if self.durable.active.as_ref().map(|kept| kept.generation) != Some(active.generation()) {
                return Err(format!(
                    "generation {} is active, the ledger says otherwise",
                    active.generation()
                ));
            }
        }
        let cold = self.swap.as_ref().filter(|swap| !swap.warm);
        let launched = match cold.map(|swap| (swap.is_first(), swap.step)) {
            // Where only one may be bound it runs by then, where only one may run it does not.
            Some((false, Step::Diverting)) => with(Role::Candidate).next().is_some(),
            Some((
                false,
                Step::Launching
                | Step::Unbound
                | Step::Held
                | Step::Canary { .. }
                | Step::Asking { .. }
                | Step::Intending { .. }
                | Step::Switching,
            )) => true,
            Some(_) | None => false,
        };
        if launched != with(Role::Candidate).next().is_some() {
            return Err("candidate and swap do not agree".to_owned());
        }
        let over = self.swap.is_none() && !matches!(self.life, Life::Stopping(_) | Life::Stopped { .. });
        if over && (self.durable.swap.is_some() || self.durable.previous.is_some()) {
            return Err("the ledger is told of a change under way, and there is none".to_owned());
        }
        if self.swap.is_none() && with(Role::Previous).next().is_some() {
            return Err("a previous generation is kept for no swap".to_owned());
        }
        Ok(())
    }

    fn check_life(&self) -> Result<(), String> {
        match &self.life {
            Life::Stopped { .. } | Life::Blocked { .. } | Life::Waiting { .. } | Life::Arming { .. } => {
                // What was undone may still be on its way out; a stop has waited for all of it.
                let stopped = matches!(self.life, Life::Stopped { .. });
                let mut there = self.groups.values().filter(|group| stopped || !group.role.ends());
                if there.any(|group| !group.is_idle()) {
                    return Err("stopped or waiting, but there are processes".to_owned());
                }
                if self.swap.is_some() {
                    return Err("stopped or waiting, but a swap is under way".to_owned());
                }
            }
            Life::Stopping(_) if self.swap.is_some() => {
                return Err("stopping, but a swap is under way".to_owned());
            }
            Life::Up | Life::Stopping(_) => {}
        }
        if self.swap.is_none() && self.waiters.iter().any(|waiter| waiter.drained.is_none()) {
            return Err("somebody waits for a swap that is over".to_owned());
        }
        Ok(())
    }
}
