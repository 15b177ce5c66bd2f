//! Generations that a swap tries out with real connections: whether they accept them.
//!
//! Nobody is told by the kernel that nobody accepts: the queues are looked at, seldom while nobody
//! waits, and only for as long as the trial lasts. Nor is anybody told that a worker has changed who gets
//! how much: at each look it is set right.

use super::hands::Hands;
use super::perform::note;
use crate::machine::stall::{Held, Stall};
use crate::machine::swap_table::StepKind;
use crate::machine::{Event, Level, Machine};
use crate::model::settings::Socket;
use crate::model::{Address, Generation, Tick, UnitName};
use crate::os::census::Count;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks where nobody waits.
const SELDOM: Duration = Duration::from_millis(500);

/// Between two looks where somebody does.
const OFTEN: Duration = Duration::from_millis(50);

/// Every trial, by unit.
#[derive(Debug, Default)]
pub struct Trials {
    tried: BTreeMap<UnitName, Trial>,
    /// Units whose next generation lives and is to receive nothing yet: when it is looked that it does not.
    held: BTreeMap<UnitName, Tick>,
}

#[derive(Debug)]
struct Trial {
    generation: Generation,
    queues: Vec<(Arc<Socket>, Stall)>,
    look: Tick,
    /// It was told that what it receives cannot be set right.
    told: bool,
}

impl Trials {
    /// When the next look is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.tried.values().map(|trial| trial.look).chain(self.held.values().copied()).min()
    }

    /// A count begins that looks closer at these listeners of a generation; `queued` says how many wait in its slot
    /// there, and in all others. Until when what was counted at each is known; nothing: it is not tried out.
    pub fn begin_count(
        &mut self,
        unit: &UnitName,
        generation: Generation,
        at: &[Address],
        queued: impl Fn(&Address) -> Option<(u32, u32)>,
    ) -> Vec<Tick> {
        let Some(trial) = self.of(unit, generation) else { return Vec::new() };
        let until = |address: &Address| {
            let (own, others) = queued(address).unwrap_or_default();
            trial.stall(address).map_or(Tick(0), |stall| stall.begin_count(own, others))
        };
        at.iter().map(until).collect()
    }

    /// What there is at each of these listeners of a generation, from `began` till `over`.
    pub fn counted(
        &mut self,
        unit: &UnitName,
        generation: Generation,
        (at, count): (&[Address], &Count),
        (began, over): (Tick, Tick),
    ) {
        let Some(trial) = self.of(unit, generation) else { return };
        // Who holds what, and who is on the way, has to be known.
        let (Some(_), Some(_)) = (count.tally.connections, count.tally.arriving) else { return };
        for (address, spot) in at.iter().zip(&count.spots) {
            let Some(stall) = trial.stall(address) else { continue };
            stall.counted(&Held {
                at: began,
                over,
                fresh: spot.held_since,
                half_open: spot.half_open,
                half_open_fresh: spot.half_open_since,
                waiting: spot.waiting,
                waited: spot.waited,
            });
        }
    }

    fn of(&mut self, unit: &UnitName, generation: Generation) -> Option<&mut Trial> {
        self.tried.get_mut(unit).filter(|trial| trial.generation == generation)
    }
}

impl Trial {
    fn stall(&mut self, address: &Address) -> Option<&mut Stall> {
        self.queues.iter_mut().find(|(socket, _)| socket.address == *address).map(|(_, stall)| stall)
    }
}

impl Hands {
    /// Connections reach this generation from here on.
    pub(super) fn try_out(&mut self, unit: &UnitName, generation: Generation, machine: &Machine, now: Tick) {
        let known = self.trials.tried.get(unit).is_some_and(|trial| trial.generation == generation);
        let apart = self.listeners.get(unit).is_some_and(|listeners| listeners.has_slot(generation));
        if known || !apart || machine.on_trial(unit) != Some(generation) {
            return;
        }
        let Some(launch) = machine.launch(unit, generation) else { return };
        let stream = launch.settings.sockets.iter().filter(|socket| socket.address.listens());
        let queues = stream.map(|socket| (socket.clone(), Stall::default())).collect();
        self.trials
            .tried
            .insert(unit.clone(), Trial { generation, queues, look: now.after(SELDOM), told: false });
    }

    /// A unit has come into being, perhaps with a swap that the image before had under way.
    pub(super) fn try_out_again(&mut self, unit: &UnitName, machine: &Machine, now: Tick) {
        if let Some(generation) = machine.on_trial(unit) {
            self.try_out(unit, generation, machine, now);
        } else if machine.swap_step(unit) == Some(StepKind::Held) {
            self.watch_held(unit, now);
        }
    }

    /// Looks where that is due, and says who accepts nothing.
    pub(super) fn tend_trials(&mut self, machine: &Machine, now: Tick) {
        if self.trials.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        self.look_at_held(machine, now);
        let mut trials = std::mem::take(&mut self.trials.tried);
        trials.retain(|unit, trial| {
            if trial.look > now {
                return true;
            }
            if machine.on_trial(unit) != Some(trial.generation) {
                return false;
            }
            self.lead_again(unit, trial);
            let Some(reason) = self.look_at(unit, trial, now) else {
                if trial.queues.iter().any(|(_, stall)| stall.is_doubtful(now)) {
                    self.counter.doubt(unit);
                }
                return true;
            };
            self.say(unit, Event::Stalled { generation: trial.generation, reason });
            false
        });
        self.trials.tried = trials;
    }

    /// A generation is about to be launched that may be held before it receives anything.
    pub(super) fn watch_held(&mut self, unit: &UnitName, now: Tick) {
        self.trials.held.insert(unit.clone(), now.after(SELDOM));
    }

    /// Whoever is to receive nothing may have moved its socket to where it does.
    fn look_at_held(&mut self, machine: &Machine, now: Tick) {
        let due = self.trials.held.iter().filter(|(_, look)| **look <= now);
        for unit in due.map(|(unit, _)| unit.clone()).collect::<Vec<_>>() {
            let waits = matches!(
                machine.swap_step(&unit),
                Some(StepKind::Launching | StepKind::Unbound | StepKind::Held)
            );
            if waits {
                self.trials.held.insert(unit.clone(), now.after(SELDOM));
                for fault in self.set_right(&unit) {
                    log::debug!("{unit}: {fault}");
                }
            } else {
                self.trials.held.remove(&unit);
            }
        }
    }

    /// Whoever is tried out receives what it was given, whatever a worker has done about it.
    fn lead_again(&mut self, unit: &UnitName, trial: &mut Trial) {
        let faults = self.set_right(unit);
        if !faults.is_empty() && !std::mem::replace(&mut trial.told, true) {
            let text = format!("who receives how much cannot be made sure of: {}", faults.join("; "));
            note(unit, Level::Warning, Some(trial.generation), &text);
        }
    }

    /// Why this generation has failed, if it has.
    fn look_at(&self, unit: &UnitName, trial: &mut Trial, now: Tick) -> Option<String> {
        let listeners = self.listeners.get(unit)?;
        let mut failed = None;
        for (socket, stall) in &mut trial.queues {
            let Some(waiting) = listeners.waiting(trial.generation, &socket.address) else { continue };
            let Some(waited) = stall.look(now, &waiting) else { continue };
            failed.get_or_insert_with(|| {
                format!(
                    "{} connection(s) wait at {}, and for {waited:.1?} it has accepted none or hardly any",
                    waiting.length, socket.address
                )
            });
        }
        let busy = trial.queues.iter().any(|(_, stall)| stall.has_begun());
        trial.look = now.after(if busy { OFTEN } else { SELDOM });
        failed
    }
}
