//! What the ledger may say, and when.

use super::books::{Book, SwapBook, forward_after_way_back};
use super::releases::launchable;
use super::{Checked, Rule, must, show};
use crate::world::{Client, Unit, World, number};
use supd::model::settings::Retain;
use supd::model::status::{SwapResult, UnitState, UnitStatus};
use supd::model::{
    ClientId, Durable, Generation, Happening, Intent, Kept, Record, SwapId, SwapKind, Tick, Want,
};

/// The numbers that a durable state names: active, previous, retained.
pub(super) fn numbers(durable: &Durable) -> [Option<Generation>; 3] {
    [&durable.active, &durable.previous, &durable.retained].map(|kept| number(kept.as_ref()))
}

/// Whether the way forward after a rollback is this one.
fn leads_forward(swap: &SwapBook, durable: &Durable, wanted: Option<&Kept>) -> Checked {
    let (found, wanted) = (number(durable.forward.as_ref()), number(wanted));
    must(Rule::Retained, found == wanted, || {
        format!("{:?}: forward is {}, should be {}", swap.kind, show(found), show(wanted))
    })
}

impl Book {
    pub(super) fn records(
        &mut self,
        world: &World,
        unit: &Unit,
        record: &Record,
        client: Option<ClientId>,
    ) -> Checked {
        let durable = &record.durable;
        must(Rule::Sound, record.unit == unit.name, || {
            format!("a record of {} for {}", record.unit, unit.name)
        })?;
        let grows =
            durable.generation_last >= self.sent.generation_last && durable.swap_last >= self.sent.swap_last;
        must(Rule::Numbers, grows, || format!("numbers fall: {durable:?} after {:?}", self.sent))?;
        let highest = durable.kept().map(|kept| kept.generation.0).max().unwrap_or(0);
        must(Rule::Numbers, highest <= durable.generation_last, || {
            format!("names one too high: {durable:?}")
        })?;
        match &record.happening {
            Happening::Began { swap_id, kind, from, to } => {
                self.began(world, unit, durable, client, (*swap_id, *kind, *from, *to))?;
            }
            Happening::Switched { swap_id, to } => {
                self.switched(unit, *swap_id, *to, durable)?;
            }
            Happening::Ended { swap_id, result, .. } if self.tells_past(*swap_id, *result, durable)? => {}
            Happening::Ended { swap_id, result, .. } => {
                let Some(swap) = self.swap(*swap_id).cloned() else {
                    return must(Rule::Numbers, false, || format!("swap {swap_id} ends and never began"));
                };
                self.ended(unit, &swap, *result, durable)?;
                self.stands_by(world, unit, &swap, *result);
                if let Some(swap) = self.swap_mut(*swap_id) {
                    swap.ended_sent = Some(*result);
                }
            }
            Happening::Stopped => {
                must(Rule::Stopped, durable.want == Want::Down, || {
                    format!("stopped, and wants {:?}", durable.want)
                })?;
                self.over(SwapResult::Stopped);
            }
            Happening::Installed { .. } | Happening::Undeployed { .. } => {
                let same = numbers(durable) == numbers(&self.sent) || self.unsaved;
                must(Rule::Retained, same, || "an install changes who is active".to_owned())?;
            }
            Happening::Waiting => {
                must(Rule::Described, durable.want != Want::Down, || "waits, and wants Down".to_owned())?;
            }
            Happening::Pinned { generation, .. } => {
                let named = durable.kept().any(|kept| kept.generation == *generation);
                must(Rule::Described, named || self.unsaved, || {
                    format!("pinned {generation}, which nothing names")
                })?;
                let same = numbers(durable) == numbers(&self.sent);
                // A stop ends what is under way, and the next record says so.
                must(Rule::Retained, same || self.halted, || {
                    "a copy of a program changes who is active".to_owned()
                })?;
            }
        }
        self.wants(unit, durable)?;
        self.sent = durable.clone();
        Ok(())
    }

    /// Only a person makes a unit stop.
    fn wants(&self, unit: &Unit, durable: &Durable) -> Checked {
        let falls = durable.want == Want::Down && self.sent.want != Want::Down;
        let first_failed = self.sent.active.is_none();
        // What a boot could not launch for want of a release is not to come up by itself later.
        let released = self.told.iter().any(|told| unit.files[*told].1.service.releases);
        let nothing = released && !launchable(durable);
        let fated = self.stopped_by_person || first_failed || self.halted || nothing;
        must(Rule::Stopped, !falls || fated, || {
            format!("nobody stopped it, and it wants {:?} after {:?}", durable.want, self.sent.want)
        })
    }

    /// Every swap that is under way is over.
    fn over(&mut self, result: SwapResult) {
        for swap in self.swaps.iter_mut().filter(|swap| swap.ended_sent.is_none()) {
            swap.ended_sent = Some(result);
        }
    }

    fn began(
        &mut self,
        world: &World,
        unit: &Unit,
        durable: &Durable,
        client: Option<ClientId>,
        (id, kind, from, to): (SwapId, SwapKind, Option<Generation>, Generation),
    ) -> Checked {
        if self.swap(id).is_some_and(|swap| swap.to == to && swap.began_failed && !swap.began_saved) {
            // The same once more, now that the disk may take it.
            return Ok(());
        }
        self.alarms.began();
        must(Rule::OneOfEach, self.running().is_none(), || {
            format!("swap {id} begins beside {:?}", self.running())
        })?;
        let (last_id, last_to) =
            self.swaps.iter().fold((0, self.base.max(self.used)), |(last_id, last_to), swap| {
                (swap.id.0.max(last_id), swap.to.0.max(last_to))
            });
        must(Rule::Numbers, id.0 > last_id, || format!("swap {id} after {last_id}"))?;
        must(Rule::Numbers, to.0 > last_to, || format!("generation {to} begins after {last_to}"))?;
        must(Rule::Numbers, durable.generation_last >= to.0 && durable.swap_last >= id.0, || {
            format!("begins {to} and does not say so: {durable:?}")
        })?;
        let [active, _, retained] = numbers(durable);
        let [_, _, retained_before] = numbers(&self.sent);
        let untouched = match from {
            Some(_) => numbers(durable) == numbers(&self.sent),
            // Nobody serves: the new one is what should, from now on.
            None => active == Some(to) && retained == retained_before,
        };
        must(Rule::FailedSwap, untouched, || {
            format!("a beginning changes who is active: {durable:?} after {:?}", self.sent)
        })?;
        if from.is_none() {
            self.served.insert(to);
        }
        // Who is active is led to once it serves, where another lives that had the traffic when supd died.
        let yet_to_be_led = !self.outlived.is_empty() && !self.leads_anew;
        let honest = from.is_none() || from == unit.traffic || yet_to_be_led;
        must(Rule::Described, honest, || {
            format!("from {}, but the traffic is {:?}", show(from), unit.traffic)
        })?;
        self.swaps.push(SwapBook {
            id,
            kind,
            from,
            to,
            client,
            hold: client.and_then(|client| world.client(client)).is_none_or(Client::holds),
            unbound: client.and_then(|client| world.client(client)).is_none_or(Client::unbinds),
            before: self.sent.clone(),
            began_saved: false,
            on_disk: false,
            began_failed: false,
            end_failed: false,
            dropped: false,
            was_ready: false,
            switched_saved: false,
            ended_sent: None,
            ended: None,
            ends: 0,
            lost: false,
            past: false,
        });
        Ok(())
    }

    fn switched(&self, unit: &Unit, swap_id: SwapId, to: Generation, durable: &Durable) -> Checked {
        must(Rule::Described, number(durable.active.as_ref()) == Some(to), || {
            format!("switched to {to}, and calls {} active", show(number(durable.active.as_ref())))
        })?;
        must(Rule::Durable, unit.traffic == Some(to), || {
            format!("records the switch to {to}, the traffic is {}", show(unit.traffic))
        })?;
        let Some(swap) = self.swap(swap_id) else {
            return must(Rule::Numbers, false, || format!("swap {swap_id} switches and never began"));
        };
        if Some(to) != swap.from {
            let kept = number(durable.previous.as_ref());
            must(Rule::Retained, kept == swap.from, || {
                format!("before commit {} must be kept, not {}", show(swap.from), show(kept))
            })?;
        }
        Ok(())
    }

    fn ended(&self, unit: &Unit, swap: &SwapBook, result: SwapResult, durable: &Durable) -> Checked {
        must(Rule::Described, swap.ended_sent.is_none() || swap.end_failed, || {
            format!("swap {} ends twice", swap.id)
        })?;
        match result {
            SwapResult::Failed | SwapResult::Aborted if swap.from.is_none() => Ok(()),
            SwapResult::Failed | SwapResult::Aborted => {
                must(Rule::FailedSwap, durable.want == swap.before.want, || {
                    format!("swap {} {result}, and the unit wants {:?}", swap.id, durable.want)
                })?;
                must(Rule::FailedSwap, numbers(durable) == numbers(&swap.before), || {
                    format!("swap {} {result}: {durable:?} after {:?}", swap.id, swap.before)
                })
            }
            SwapResult::Committed => self.committed(unit, swap, durable),
            SwapResult::RolledBack => {
                must(Rule::Described, numbers(durable) == numbers(&swap.before), || {
                    format!("swap {} rolled back: {durable:?} after {:?}", swap.id, swap.before)
                })?;
                leads_forward(swap, durable, forward_after_way_back(swap).as_ref())
            }
            SwapResult::Stopped => Ok(()),
            SwapResult::Running => must(Rule::Described, false, || "ends by running".to_owned()),
        }
    }

    /// Notes who stands by from now on.
    fn stands_by(&mut self, world: &World, unit: &Unit, swap: &SwapBook, result: SwapResult) {
        self.standbys.remove(&swap.to);
        let asked = swap.client.and_then(|client| world.client(client)).and_then(|client| client.asked);
        let stops = matches!(asked, Some((_, crate::step::Ask::Rollback { stop: true, .. })));
        let by_request = matches!(swap.kind, SwapKind::Swap | SwapKind::Rollback) && !stops;
        let warm = |generation| {
            let version = self.recipe(unit, generation);
            version.is_some_and(|version| {
                let (knobs, settings) = &unit.files[version];
                knobs.steered() && settings.swap.retain == Retain::Warm
            })
        };
        let both = |left: &Generation| warm(swap.to) && self.steers(unit, *left);
        let left = swap.from.filter(|left| by_request && both(left));
        if let (Some(left), SwapResult::Committed) = (left, result) {
            if unit.complete(left, world.now) {
                self.standbys.insert(left, world.now);
            }
            self.left = Some((swap.id, left));
        }
    }

    pub(super) fn steers(&self, unit: &Unit, generation: Generation) -> bool {
        self.recipe(unit, generation).is_some_and(|version| unit.files[version].0.steered())
    }

    fn committed(&self, unit: &Unit, swap: &SwapBook, durable: &Durable) -> Checked {
        let [active, previous, retained] = numbers(durable);
        must(Rule::Described, active == Some(swap.to), || {
            format!("committed {}, and calls {} active", swap.to, show(active))
        })?;
        must(Rule::Durable, unit.traffic == Some(swap.to), || {
            format!("commits {}, the traffic is {}", swap.to, show(unit.traffic))
        })?;
        must(Rule::Retained, previous.is_none(), || {
            format!("committed, and {} is still kept", show(previous))
        })?;
        let before = number(swap.before.retained.as_ref());
        let retains = self.recipe(unit, swap.to).map(|version| unit.files[version].1.swap.retain);
        if let SwapKind::Start | SwapKind::Restart = swap.kind {
            leads_forward(swap, durable, swap.before.forward.as_ref())?;
        }
        let wanted = match (swap.kind, retains) {
            (SwapKind::Swap, Some(Retain::None)) if swap.from.is_some() => None,
            (SwapKind::Swap, Some(Retain::Cold | Retain::Warm) | None) if swap.from.is_some() => swap.from,
            // Nothing served before: what was active once may be what to go back to.
            (SwapKind::Swap, _) => return leads_forward(swap, durable, None),
            (SwapKind::Start | SwapKind::Restart, _) => before,
            (SwapKind::Rollback, _) => {
                let forward = number(durable.forward.as_ref());
                must(Rule::Retained, forward == swap.from || swap.from.is_none(), || {
                    format!("rolled back from {}, and the way forward is {}", show(swap.from), show(forward))
                })?;
                None
            }
        };
        must(Rule::Retained, retained == wanted, || {
            format!("{:?} committed: retains {}, should retain {}", swap.kind, show(retained), show(wanted))
        })
    }

    /// A change to one that stands by: nothing is launched, so the intent is the first of it.
    fn began_warm(&mut self, unit: &Unit, intent: &Intent, now: Tick) -> Checked {
        let id = intent.swap_id;
        let known = self.swaps.iter().all(|swap| swap.id < id) && self.sent.swap_last < id.0;
        must(Rule::Numbers, known, || format!("intends by swap {id}, which never began"))?;
        self.alarms.began();
        must(Rule::OneOfEach, self.running().is_none(), || {
            format!("swap {id} begins beside {:?}", self.running())
        })?;
        let other = self.served.contains(&intent.to) && unit.traffic != Some(intent.to);
        let stands_by = other && unit.complete(intent.to, now);
        must(Rule::Standby, stands_by, || format!("goes to {}, which does not stand by", intent.to))?;
        self.swaps.push(SwapBook {
            id,
            kind: intent.kind,
            from: unit.traffic.filter(|traffic| unit.live_of(*traffic).next().is_some()),
            to: intent.to,
            client: self.asker,
            hold: false,
            unbound: false,
            before: self.sent.clone(),
            began_saved: true,
            on_disk: true,
            began_failed: false,
            end_failed: false,
            dropped: false,
            was_ready: true,
            switched_saved: false,
            ended_sent: None,
            ended: None,
            ends: 0,
            lost: false,
            past: false,
        });
        Ok(())
    }

    pub(super) fn intends(&mut self, world: &World, unit: &Unit, intent: &Intent) -> Checked {
        let now = world.now;
        if self.swap(intent.swap_id).is_none() {
            self.began_warm(unit, intent, now)?;
        }
        let Some(swap) = self.swap_mut(intent.swap_id) else {
            return must(Rule::Durable, false, || {
                format!("intends by swap {}, which never began", intent.swap_id)
            });
        };
        let forward = intent.to == swap.to;
        must(Rule::Durable, forward || Some(intent.to) == swap.from, || {
            format!("intends {intent:?} by {swap:?}")
        })?;
        if forward {
            swap.was_ready |= unit.complete(intent.to, now);
            must(Rule::MakeBeforeBreak, swap.was_ready, || {
                format!("intends {}, which is not ready", intent.to)
            })?;
        }
        Ok(())
    }

    /// An intent may go once the ledger says the same, or once it is sure that nothing came of it.
    pub(super) fn clears(&self, unit: &Unit) -> Checked {
        let Some(intent) = unit.intent else { return Ok(()) };
        let active = number(unit.ledger.active.as_ref());
        let said = active == Some(intent.to)
            || self.saved_in_life && self.inherited
            || unit.ledger.want == Want::Down;
        let happened = unit.traffic == Some(intent.to) || !self.served.contains(&intent.to) && self.inherited;
        // Where only one may run, who served before is launched again.
        let again = unit.excludes(intent.to) && unit.ready_of(intent.to).next().is_none();
        must(Rule::Durable, said || !happened || again, || {
            format!(
                "forgets {intent:?}, and the ledger says {} is active",
                show(number(unit.ledger.active.as_ref()))
            )
        })
    }

    pub(super) fn prunes(&self, world: &World, unit: &Unit, keep: &[Generation]) -> Checked {
        // At its end supd lets go of a candidate, as every start of it would.
        let past = |durable: &Durable| {
            let candidate = durable.candidate.clone().filter(|_| !world.shutdown);
            let durable = durable.clone();
            [durable.active, durable.previous, durable.retained, durable.forward, candidate]
                .into_iter()
                .flatten()
        };
        let saved = past(&unit.ledger).chain(past(unit.ledger_soon())).map(|kept| kept.generation);
        let live = unit.live().flat_map(|proc| [proc.generation(), proc.launch.origin]);
        let copied = unit.pins.iter().map(|launch| launch.origin);
        let lost = saved.chain(live).chain(copied).find(|generation| !keep.contains(generation));
        must(Rule::Retained, lost.is_none(), || {
            format!("prunes all but {keep:?}, and {} is needed", show(lost))
        })
    }

    /// Whether the ledger describes the unit, now that somebody was answered.
    pub(super) fn describes(&self, unit: &Unit, shown: &UnitStatus) -> Checked {
        if self.unsaved || !unit.records.is_empty() || !unit.switches.is_empty() {
            return Ok(());
        }
        let kept = |kept: &Option<Kept>| number(kept.as_ref());
        let ledger = &unit.ledger;
        if matches!(shown.state, UnitState::Active | UnitState::Probation | UnitState::Canary) {
            must(Rule::Described, kept(&ledger.active) == shown.active, || {
                format!(
                    "the ledger says {} is active, status says {}",
                    show(kept(&ledger.active)),
                    show(shown.active)
                )
            })?;
            must(Rule::Described, ledger.want != Want::Down, || {
                "serves, and the ledger wants it down".to_owned()
            })?;
        }
        if shown.state == UnitState::Stopped && !unit.ledger.want.eq(&Want::Down) {
            must(Rule::Described, self.halted, || "stopped, and the ledger wants it up".to_owned())?;
        }
        Ok(())
    }
}
