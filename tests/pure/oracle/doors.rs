//! Listeners: bound and listening as long as the unit runs.

use super::books::{Book, SwapBook};
use super::{Checked, Rule, must, show};
use crate::world::{Door, InFlight, Life, Proc, Unit, number};
use std::sync::Arc;
use supd::model::settings::{Restart, WhenDown};
use supd::model::status::SwapResult;
use supd::model::{Address, Generation, Happening, Settings, Tick, Want};

fn names(settings: &Settings, address: &Address) -> bool {
    settings.sockets.iter().any(|socket| socket.address == *address)
}

fn any_names(list: &[Arc<Settings>], address: &Address) -> bool {
    list.iter().any(|settings| names(settings, address))
}

impl Book {
    pub(super) fn listens(&mut self, unit: &Unit, list: &[Arc<Settings>]) -> Checked {
        for settings in list {
            for socket in &settings.sockets {
                let bound = unit.door(&socket.address) != Door::Closed;
                must(Rule::Listeners, bound, || {
                    format!("listens on {}, which is not bound", socket.address)
                })?;
            }
        }
        let open = unit.listeners.iter().filter(|listener| listener.is_open());
        let refused = open.filter(|listener| !any_names(list, &listener.address));
        self.refused.extend(refused.map(|listener| listener.address.clone()));
        Ok(())
    }

    /// Nobody is kept out whom somebody would take who is ready.
    pub(super) fn holds_off(&self, unit: &Unit, now: Tick) -> Checked {
        // In mid swap it is the next one that they may be for.
        if self.running().is_some() {
            return Ok(());
        }
        let serves = |proc: &&Proc| {
            let generation = proc.generation();
            unit.traffic == Some(generation)
                && unit.complete(generation, now)
                && !(proc.signalled || proc.told_stopping || proc.is_silent(now))
        };
        let serves = unit.live().find(serves);
        must(Rule::Listeners, serves.is_none(), || {
            format!("holds new connections off while {} serves", show(serves.map(Proc::generation)))
        })
    }

    /// Looks at what is refused once the step has said who is to be kept.
    pub(super) fn refused_well(&self, unit: &Unit) -> Checked {
        let on_demand = self.sent.want == Want::OnDemand && self.served.is_empty();
        let file = self.told.last().map(|told| &unit.files[*told].1);
        let named = |address: &Address| file.is_some_and(|file| names(file, address));
        must(Rule::Listeners, !self.refused.iter().any(named) || !on_demand || self.halted, || {
            format!("refuses {:?}, where the first connection waits", self.refused)
        })?;
        self.refused.iter().try_for_each(|address| self.may_refuse(unit, address))
    }

    pub(super) fn unlistens(&self, unit: &Unit) -> Checked {
        let never_served = self.served.is_empty();
        must(Rule::Listeners, self.halted || never_served, || {
            format!("ends listening while {} serves and nobody stopped it", show(unit.traffic))
        })
    }

    /// Whether connections to this address may be refused from now on.
    fn may_refuse(&self, unit: &Unit, address: &Address) -> Checked {
        if self.halted {
            return Ok(());
        }
        let kept = [unit.traffic, number(self.sent.active.as_ref()), number(self.sent.previous.as_ref())];
        for generation in kept.into_iter().flatten() {
            let recipe = self.recipe(unit, generation).map(|version| &unit.files[version].1);
            if recipe.is_some_and(|settings| names(settings, address)) && self.served.contains(&generation) {
                must(Rule::Listeners, Self::may_be_down(unit, generation), || {
                    format!("refuses connections to {address} while generation {generation} serves")
                })?;
            }
        }
        Ok(())
    }

    /// Whoever a new connection leads to lives, or is about to; and a candidate that died has no share.
    pub(super) fn received(&self, unit: &Unit) -> Checked {
        let lives = |generation: Generation| unit.live_of(generation).next().is_some();
        // Whoever is to have it next is on its way.
        let moves = !unit.switches.is_empty() || !unit.intents.is_empty();
        // So is who takes over from what died while its commit was on its way to the disk.
        let commits = |in_flight: &InFlight| {
            matches!(in_flight.record.happening, Happening::Ended { result: SwapResult::Committed, .. })
        };
        let moves = moves || unit.records.iter().any(commits);
        let waits = |generation: &Generation| !lives(*generation) && !unit.lent.contains_key(generation);
        for generation in unit.receivers().into_iter().filter(waits) {
            let candidate = unit.traffic != Some(generation);
            // A swap brings another one, if only when a person says so.
            let back = !candidate && (Self::may_come_back(unit) || unit.ledger_soon().swap.is_some());
            // Nobody leads them to what was gone back from, or given up.
            let fell = |swap: &SwapBook| {
                matches!(swap.ended_sent, Some(SwapResult::RolledBack | SwapResult::Aborted))
            };
            let fallen = self.swaps.last().filter(|swap| fell(swap)).map(|swap| swap.to);
            let serves =
                |proc: &Proc| unit.is_steered(proc) && proc.is_ready() && Some(proc.generation()) != fallen;
            let other = unit.procs.iter().any(serves);
            must(Rule::Queues, moves || self.halted || back || !other, || {
                format!("new connections lead to {generation}, of which nobody lives")
            })?;
        }
        Ok(())
    }

    /// Nobody waits where it is closed, for one that would still accept.
    pub(super) fn closes_nobody_out(&self, unit: &Unit, list: &[Arc<Settings>]) -> Checked {
        for listener in unit.listeners.iter().filter(|listener| !any_names(list, &listener.address)) {
            let mut waited_for = listener.slots.iter().filter(|(_, count)| **count > 0);
            let lost = waited_for.find(|(generation, _)| {
                // Where only one may run, nobody comes back to where the next is not.
                let last = unit.procs.iter().rev().find(|proc| proc.generation() == **generation);
                // What nobody has told supd yet it cannot know.
                let untold =
                    last.is_some_and(|last| matches!(last.life, Life::Dead(_)) && last.told_end.is_none());
                !untold
                    && unit.names(**generation, listener)
                    && !unit.freed.contains(generation)
                    && !Self::may_be_down(unit, **generation)
            });
            must(Rule::Queues, lost.is_none() || self.halted, || {
                format!("closes {}, where {lost:?} wait", listener.address)
            })?;
        }
        Ok(())
    }

    /// Whether what had the traffic may be launched again by itself: how it ended says whether it is.
    fn may_come_back(unit: &Unit) -> bool {
        let last = unit.procs.iter().rev().find(|proc| Some(proc.generation()) == unit.traffic);
        last.is_some_and(|last| last.launch.settings.service.restart != Restart::No)
    }

    /// Whether what had the traffic will be launched again by itself.
    fn comes_back(&self, unit: &Unit) -> bool {
        let last = unit.procs.iter().rev().find(|proc| Some(proc.generation()) == unit.traffic);
        last.is_some_and(|last| last.launch.settings.service.restart == Restart::Always)
    }

    /// Whether nobody of this generation serves, and nobody is about to.
    fn may_be_down(unit: &Unit, generation: Generation) -> bool {
        if unit.ready_of(generation).next().is_some() {
            return false;
        }
        let Some(last) = unit.procs.iter().rev().find(|proc| proc.generation() == generation) else {
            return true;
        };
        // Whom a person has stopped nobody brings back.
        if last.doomed {
            return true;
        }
        let service = &last.launch.settings.service;
        // With "queue" connections wait for a relaunch that is due soon.
        let burst = service.start_limit_burst;
        let limited_at = |last: &Proc| {
            let same = unit.procs.iter().filter(|proc| {
                proc.generation() == generation
                    && proc.index == last.index
                    && last.told_end.is_some_and(|end| proc.born.after(service.start_limit_interval) > end)
            });
            same.count() >= burst as usize
        };
        let over = unit.procs.iter().any(|proc| proc.generation() == generation && limited_at(proc));
        // What did not get as far as a process counts as a launch too.
        let unseen = !service.exec_start_pre.is_empty();
        let limited = burst > 0 && (unseen || over);
        let prevented = !service.restart_prevent_exit_status.codes.is_empty();
        let comes_back = service.restart == Restart::Always && !prevented;
        service.when_down == WhenDown::Refuse || limited || !comes_back
    }

    pub(super) fn closes(&mut self, unit: &Unit, list: &[Arc<Settings>]) {
        let open = unit.listeners.iter().filter(|listener| listener.door != Door::Closed);
        let closed = open.filter(|listener| !any_names(list, &listener.address));
        self.closed.extend(closed.map(|listener| listener.address.clone()));
    }

    /// Looks at what was closed once the step has said who is to be kept.
    pub(super) fn closed_well(&self, unit: &Unit) -> Checked {
        let lives = unit.traffic.is_some_and(|traffic| unit.live_of(traffic).next().is_some());
        let down = unit.ledger_soon().want == Want::Down;
        if self.halted || down || (!lives && !self.comes_back(unit)) {
            return Ok(());
        }
        let kept = [&self.sent.active, &self.sent.previous, &self.sent.retained];
        let kept = kept.into_iter().filter_map(|kept| number(kept.as_ref()));
        let live = unit.procs.iter().filter(|proc| proc.runs()).map(Proc::generation);
        for generation in kept.chain(live) {
            let Some(version) = self.recipe(unit, generation) else { continue };
            let lost = self.closed.iter().find(|address| names(&unit.files[version].1, address));
            must(Rule::Listeners, lost.is_none(), || {
                format!("closes {lost:?}, which generation {generation} names")
            })?;
        }
        Ok(())
    }
}
