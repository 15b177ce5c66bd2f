//! What people see of a unit.

use super::super::effect::Launch;
use super::super::group::{Group, Role};
use super::super::swap::Step;
use super::super::swap::table::StepKind;
use super::super::worker::table::Kind;
use super::{Life, Unit};
use crate::model::status::{
    GenerationState, GenerationStatus, Health, SwapResult, SwapStatus, Traffic, UnitState, UnitStatus,
    WorkerStatus,
};
use crate::model::{Generation, Share, SwapId, Tick, Want};
use std::time::Duration;

impl Unit {
    /// What `supctl status` shows.
    pub(in crate::machine) fn status(&self, now: Tick) -> UnitStatus {
        let state = self.state();
        let traffic = self.traffic(state);
        let named = |kept: &Option<crate::model::Kept>| kept.as_ref().map(|kept| kept.generation);
        let alive = !matches!(state, UnitState::Stopped | UnitState::Waiting);
        let goes_back_to = self.durable.previous.as_ref().or(self.durable.retained.as_ref());
        UnitStatus {
            state,
            traffic,
            health: self.health(state, traffic),
            active: named(&self.durable.active).filter(|_| alive),
            retained: goes_back_to.map(|kept| kept.generation),
            retained_release: goes_back_to.and_then(|kept| kept.release.clone()),
            retained_pinned: goes_back_to.is_some_and(|kept| kept.pinned),
            standby_left: goes_back_to.and_then(|kept| self.standby_left(kept.generation, now)),
            generations: self.groups.values().map(|group| self.generation_status(group, now)).collect(),
            last_swap: self.last_swap(),
            notes: self.notes(now),
        }
    }

    /// The swap that is under way, or the last one that was.
    fn last_swap(&self) -> Option<SwapStatus> {
        let running = self.swap.as_ref().map(|swap| swap.status(SwapResult::Running));
        running.or_else(|| self.last_swap.clone())
    }

    /// This swap, if it is the one under way or the last one that was.
    pub(in crate::machine) fn swap_status(&self, id: SwapId) -> Option<SwapStatus> {
        let running = self.swap.as_ref().map(|swap| swap.status(SwapResult::Running));
        running.into_iter().chain(self.last_swap.clone()).find(|swap| swap.swap_id == id)
    }

    /// What the running swap is doing.
    pub(in crate::machine) fn swap_step(&self) -> Option<StepKind> {
        self.swap.as_ref().map(|swap| swap.step.kind())
    }

    /// How this generation is launched again.
    pub(in crate::machine) fn recipe(&self, generation: Generation) -> Option<&Launch> {
        self.recipes.get(&generation).map(|recipe| &**recipe)
    }

    fn state(&self) -> UnitState {
        if self.quarantine.is_some() {
            return UnitState::Quarantine;
        }
        match self.state_of_life() {
            UnitState::Active if self.holding.is_some() => UnitState::Holding,
            other => other,
        }
    }

    fn state_of_life(&self) -> UnitState {
        match &self.life {
            Life::Stopped { .. } => UnitState::Stopped,
            Life::Arming { .. } => UnitState::Starting,
            Life::Waiting { .. } => UnitState::Waiting,
            Life::Blocked { .. } => UnitState::Down,
            Life::Stopping(_) => UnitState::Stopping,
            Life::Up => self.state_up(),
        }
    }

    fn state_up(&self) -> UnitState {
        let active = self.groups.values().find(|group| group.role == Role::Active);
        let serves = active.is_some_and(Group::serves_at_all);
        match self.swap.as_ref().map(|swap| (swap.is_first(), swap.step)) {
            // Until its commit is on disk nothing can be undone, so nothing else is promised either.
            Some((true, _)) => UnitState::Starting,
            Some((false, Step::Clearing | Step::Launching)) if self.has_gap() => UnitState::Starting,
            Some((
                false,
                Step::Probation { .. } | Step::Checking { .. } | Step::Noting { commits: false, .. },
            )) => UnitState::Probation,
            Some((false, Step::Canary { .. } | Step::Asking { .. })) if serves => UnitState::Canary,
            Some(_) | None if serves => UnitState::Active,
            Some(_) | None => UnitState::Down,
        }
    }

    /// The one place where load balancers' words come from.
    fn traffic(&self, state: UnitState) -> Traffic {
        match state {
            UnitState::Stopped | UnitState::Stopping => Traffic::Off,
            UnitState::Waiting
            | UnitState::Starting
            | UnitState::Active
            | UnitState::Canary
            | UnitState::Probation
            | UnitState::Down
            | UnitState::Quarantine
            | UnitState::Holding => self.traffic_stage(),
        }
    }

    fn health(&self, state: UnitState, traffic: Traffic) -> Health {
        match state {
            UnitState::Stopping => Health::Drain,
            UnitState::Waiting
            | UnitState::Starting
            | UnitState::Active
            | UnitState::Canary
            | UnitState::Probation
            | UnitState::Holding
            | UnitState::Down
                if matches!(traffic, Traffic::Diverting | Traffic::Off) =>
            {
                Health::Drain
            }
            UnitState::Stopped if self.durable.want == Want::Down => Health::Maint,
            UnitState::Active
            | UnitState::Canary
            | UnitState::Probation
            | UnitState::Holding
            | UnitState::Waiting
                if traffic == Traffic::On =>
            {
                Health::Up
            }
            UnitState::Stopped
            | UnitState::Waiting
            | UnitState::Starting
            | UnitState::Active
            | UnitState::Canary
            | UnitState::Probation
            | UnitState::Down
            | UnitState::Quarantine
            | UnitState::Holding => Health::Down,
        }
    }

    fn generation_status(&self, group: &Group, now: Tick) -> GenerationStatus {
        let state = match group.role {
            Role::Candidate | Role::Standby { .. } if self.has_share(group) && !self.has_gap() => {
                GenerationState::Canary
            }
            Role::Candidate if group.is_unbound() => GenerationState::Unbound,
            Role::Candidate => GenerationState::Candidate,
            Role::Active if group.is_gone() => GenerationState::Exited,
            Role::Active => GenerationState::Active,
            // Ready and kept; where one slot is lent to both, it still accepts, and its share is null.
            Role::Previous | Role::Replaced | Role::Standby { .. } => GenerationState::Standby,
            Role::Leaving if self.was_undone(group.generation()) => GenerationState::Failed,
            Role::Draining(_) | Role::Leaving => GenerationState::Draining,
        };
        let workers = group.workers.iter().map(|worker| WorkerStatus {
            worker: worker.id,
            phase: worker.phase.word(),
            status_text: worker.status_text.clone(),
            last_exit: worker.last.and_then(|(exit, _)| exit),
        });
        GenerationStatus {
            generation: group.generation(),
            release: group.launch.release.clone(),
            state,
            share: group.steered.then(|| self.share_of(group).parts()),
            workers: workers.collect(),
            uptime: now.since(group.launched),
            pinned: group.pinned,
        }
    }

    /// What of the new connections reaches a generation that has slots of its own.
    fn share_of(&self, group: &Group) -> Share {
        let generation = group.generation();
        let shared = self.swap.as_ref().filter(|swap| !swap.step.has_switched());
        let (candidate, share) = shared.map_or((None, Share::ZERO), |swap| (Some(swap.to), swap.share));
        match group.role {
            Role::Active => share.rest(),
            Role::Candidate
            | Role::Previous
            | Role::Replaced
            | Role::Standby { .. }
            | Role::Draining(_)
            | Role::Leaving => {
                if candidate == Some(generation) {
                    share
                } else {
                    Share::ZERO
                }
            }
        }
    }

    fn standby_left(&self, generation: Generation, now: Tick) -> Option<Duration> {
        match self.groups.get(&generation)?.role {
            Role::Standby { until, .. } => until.map(|until| until.since(now)),
            Role::Candidate
            | Role::Active
            | Role::Previous
            | Role::Replaced
            | Role::Draining(_)
            | Role::Leaving => None,
        }
    }

    fn has_share(&self, group: &Group) -> bool {
        group.steered && !self.share_of(group).is_zero()
    }

    fn was_undone(&self, generation: Generation) -> bool {
        self.last_swap.as_ref().is_some_and(|last| {
            last.to == generation && matches!(last.result, SwapResult::Failed | SwapResult::Aborted)
        })
    }

    fn notes(&self, now: Tick) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(broken) = &self.quarantine {
            notes.push(format!("quarantine: {broken}"));
        }
        notes.extend(self.hold_note());
        if let Life::Blocked { reason, .. } = &self.life {
            notes.push(reason.clone());
        }
        notes.extend(self.disk_notes(now));
        notes.extend(self.traffic_note());
        if let Some(swap) = &self.swap {
            notes.extend(step_note(swap.to, swap.step, now));
        }
        let resting =
            |group: &&Group| group.workers.iter().any(|worker| worker.phase.kind() == Kind::Resting);
        for group in self.groups.values().filter(resting) {
            let limit = if group.is_limited() { " (start limit hit: long pauses)" } else { "" };
            notes.push(format!("generation {} is launched again{limit}", group.generation()));
        }
        notes.extend(self.install.as_ref().map(super::install::Install::note));
        if self.orphaned {
            notes.push("its file is gone".to_owned());
        }
        notes
    }
}

fn step_note(to: Generation, step: Step, now: Tick) -> Option<String> {
    let seconds = |until: Tick| until.since(now).as_secs();
    match step {
        Step::Copying { .. } => Some("a rollback waits for the copy of the program to go back to".to_owned()),
        Step::Diverting => Some(format!("the traffic is being taken off, for generation {to}")),
        Step::Clearing => Some(format!(
            "generation {to} is launched once the one before has ended: only one may run (Exclusive)"
        )),
        Step::Launching => Some(format!("generation {to} is on its way to ready")),
        Step::Unbound => {
            Some(format!("generation {to} is started and on no port: promote (or bind), or abort"))
        }
        Step::Held => Some(format!("generation {to} is ready and held: promote or abort")),
        Step::Canary { until: Some(until), .. } => {
            Some(format!("canary: generation {to}, {}s to the next step", seconds(until)))
        }
        Step::Canary { until: None, .. } => {
            Some(format!("canary: generation {to} keeps its share: promote, share or abort"))
        }
        Step::Asking { .. } => Some(format!("CheckCommand decides on the share of generation {to}")),
        Step::Probation { until } => Some(format!("probation of generation {to}: {}s left", seconds(until))),
        Step::Checking { .. } => Some(format!("CheckCommand decides on generation {to}")),
        Step::Returning { until, late: 0 } => Some(format!(
            "on the way back from generation {to}: the one before has {}s to be ready",
            seconds(until)
        )),
        Step::Returning { .. } => Some(format!(
            "on the way back from generation {to}: the one before is still not ready; promote keeps {to}"
        )),
        Step::Binding { .. }
        | Step::Numbering { .. }
        | Step::Intending { .. }
        | Step::Switching
        | Step::Noting { .. }
        | Step::Committing { .. }
        | Step::Undoing { .. }
        | Step::TurnIntending { .. }
        | Step::TurnSwitching { .. }
        | Step::TurnNoting { .. } => None,
    }
}
