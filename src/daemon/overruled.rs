//! Workers that take supd's BPF program off their socket, or put another there: it is put back, and told.
//!
//! The kernel tells nobody, so it has to be looked at: while a generation is tried out, as often as its
//! queues; else with each count of connections, that is at most once a second, and only while somebody looks
//! or something drains. A look of its own, however seldom, would wake supd for ever for what matters only
//! where there is more than one generation to choose from; and each switch puts the program back anyway.

use super::hands::Hands;
use super::perform::note;
use crate::machine::Level;
use crate::model::{Address, Generation, UnitName};
use crate::os::clock;
use std::collections::BTreeSet;

/// So many units are looked at with a count; the others have the next ones.
const UNITS: usize = 8;

impl Hands {
    /// Makes sure that the kernel goes by supd's word in these units, or in the next few of them.
    pub(super) fn set_some_right<'a>(&mut self, units: impl Iterator<Item = &'a UnitName>) {
        let listeners = &self.listeners;
        let several = |unit: &&UnitName| listeners.get(*unit).is_some_and(|bound| bound.has_several());
        let units: BTreeSet<&UnitName> = units.filter(several).collect();
        let last = self.counter.set_right.take();
        let (before, after): (Vec<_>, Vec<_>) =
            units.into_iter().partition(|unit| Some(*unit) <= last.as_ref());
        for unit in after.into_iter().chain(before).take(UNITS) {
            // Who is tried out is seen to by the trial, and told of there; each switch tells it again.
            let _ = self.set_right(unit);
            self.counter.set_right = Some(unit.clone());
        }
    }

    /// Makes sure that the kernel goes by supd's word, and says so if it did not. Gives why it still may not.
    pub(super) fn set_right(&mut self, unit: &UnitName) -> Vec<String> {
        if self.listeners.get_mut(unit).is_some_and(|listeners| listeners.takes_back()) {
            self.revive(unit, clock::now());
        }
        let Some(listeners) = self.listeners.get_mut(unit) else { return Vec::new() };
        let overruled = listeners.overruled();
        let faults = listeners.lead_again();
        if !overruled.is_empty() {
            let suspects = listeners.name();
            if !suspects.is_empty() {
                self.accuse(unit, &overruled, &suspects, faults.is_empty());
            }
        }
        faults
    }

    fn accuse(&self, unit: &UnitName, at: &[Address], suspects: &[Generation], is_right: bool) {
        let who: Vec<String> = suspects.iter().map(|one| self.whereabouts(unit, *one)).collect();
        let at: Vec<String> = at.iter().map(Address::to_string).collect();
        let (at, who) = (at.join(", "), who.join(" or "));
        let now = if is_right { "it is put back" } else { "it cannot be put back yet" };
        let text = format!(
            "a process of {who} has taken supd's BPF program off the socket of {at}, or put its own there, \
             so that it chose itself who receives how much: {now}"
        );
        let alone = (suspects.len() == 1).then(|| suspects[0]);
        note(unit, Level::Warning, alone, &text);
    }

    /// A generation, and the main processes of its workers.
    fn whereabouts(&self, unit: &UnitName, generation: Generation) -> String {
        let its = self.workers.of_unit(unit).filter(|(_, worker)| worker.launch.generation == generation);
        let pids = its.filter_map(|(_, worker)| worker.main()).map(|main| main.pid().to_string());
        let pids: Vec<String> = pids.collect();
        format!("generation {generation} (pid {})", pids.join(" "))
    }
}
