//! What the oracle writes down of one unit: promises are about the past as much as about now.

use super::alarm::Alarms;
use super::holding::Held;
use super::{Checked, Rule, must};
use crate::knobs::version;
use crate::lives::boot_starts;
use crate::world::{Unit, World, number};
use std::collections::{BTreeMap, BTreeSet};
use supd::machine::{Event, Request};
use supd::model::settings::Retain;
use supd::model::status::SwapResult;
use supd::model::{
    Address, ClientId, Durable, Generation, Happening, Kept, Notice, Record, Signal, SwapId, SwapKind, Tick,
    Want,
};

/// One swap, rollback, restart or start.
#[derive(Debug, Clone)]
pub(super) struct SwapBook {
    pub(super) id: SwapId,
    pub(super) kind: SwapKind,
    pub(super) from: Option<Generation>,
    pub(super) to: Generation,
    pub(super) client: Option<ClientId>,
    /// Whoever asked for it wanted it held.
    pub(super) hold: bool,
    /// And before that, on no port.
    pub(super) unbound: bool,
    /// The durable state before it began.
    pub(super) before: Durable,
    pub(super) began_saved: bool,
    /// A record that is on disk names its generation.
    pub(super) on_disk: bool,
    pub(super) began_failed: bool,
    /// That it ended could not be saved, and may be said again.
    pub(super) end_failed: bool,
    /// Its number could not be saved, so it was not launched.
    pub(super) dropped: bool,
    pub(super) was_ready: bool,
    pub(super) switched_saved: bool,
    pub(super) ended_sent: Option<SwapResult>,
    pub(super) ended: Option<SwapResult>,
    /// So many records that are on disk say its end.
    pub(super) ends: u32,
    /// A supd that died could not write its end, and no later one can know it.
    pub(super) lost: bool,
    /// supd has not outlived it.
    pub(super) past: bool,
}

/// What a rollback that supd makes by itself leaves as the way forward.
pub(super) fn forward_after_way_back(swap: &SwapBook) -> Option<Kept> {
    match swap.kind {
        SwapKind::Rollback => swap.before.forward.clone(),
        SwapKind::Start | SwapKind::Swap | SwapKind::Restart => {
            Some(Kept { generation: swap.to, release: None, pinned: false })
        }
    }
}

/// The oracle's notes on one unit.
#[derive(Debug, Clone)]
pub(super) struct Book {
    pub(super) place: usize,
    /// The highest number that was saved.
    pub(super) floor: u64,
    /// The highest number that the ledger knew when supd started.
    pub(super) base: u64,
    /// The highest number that was launched in this life of supd.
    pub(super) used: u64,
    /// What each generation was launched with: it must be so again.
    pub(super) recipes: BTreeMap<Generation, usize>,
    pub(super) swaps: Vec<SwapBook>,
    /// The durable state as the last record sent it.
    pub(super) sent: Durable,
    /// A record was lost since the last one that was saved.
    pub(super) unsaved: bool,
    /// Generations that had the traffic in this life of supd.
    pub(super) served: BTreeSet<Generation>,
    /// Nobody may be launched until a person says so.
    pub(super) halted: bool,
    halted_before: bool,
    stopped_before: bool,
    told_before: usize,
    /// The files that the machine was told of in this life, the last one last.
    pub(super) told: Vec<usize>,
    /// Somebody asked for something that brings back who is gone for good.
    pub(super) revived: Tick,
    /// What a person had sent to the workers, in this step.
    pub(super) kill: Option<Signal>,
    /// Who asks in this step.
    pub(super) asker: Option<ClientId>,
    /// A rollback that is asked for in this step.
    pub(super) rollback: bool,
    /// Addresses that were closed, or refused, in this step.
    pub(super) closed: Vec<Address>,
    pub(super) refused: Vec<Address>,
    /// When each place of a generation was launched again.
    pub(super) relaunches: BTreeMap<(Generation, u32), Vec<Tick>>,
    /// What starts now starts because the machine booted: its file counts.
    pub(super) machine_booted: bool,
    /// A record of this life is on disk.
    pub(super) saved_in_life: bool,
    /// The intent in the runtime folder is that of a supd that died.
    pub(super) inherited: bool,
    /// The log says that the disk is stuck, since then.
    pub(super) told_slow: Option<Tick>,
    /// A person has stopped the unit, and nobody has started it since.
    pub(super) stopped_by_person: bool,
    /// Generations that are let go: since when, and whether the last count found nobody.
    pub(super) drains: BTreeMap<Generation, (Tick, bool)>,
    /// The last switch was none of a swap: supd has come up, and leads to who is active.
    pub(super) leads_anew: bool,
    /// Those that have outlived the last supd.
    pub(super) outlived: BTreeSet<Generation>,
    /// Generations that stand by, and since when.
    pub(super) standbys: BTreeMap<Generation, Tick>,
    /// Those where nobody waited when it was counted last.
    pub(super) quiet: BTreeSet<Generation>,
    /// Generations that had a share in this life of supd.
    pub(super) shared: BTreeSet<Generation>,
    /// Those that have ended, and those of them for which somebody waited: with the places that were
    /// launched once more, while they may be.
    pub(super) ended: BTreeSet<Generation>,
    pub(super) rescued: BTreeMap<Generation, Option<BTreeSet<u32>>>,
    /// Somebody waits for this one, says the present event for the first time.
    pub(super) owed: Option<Generation>,
    /// Whose stored descriptors a generation was given.
    pub(super) given: BTreeMap<Generation, Generation>,
    /// A person wants no wait.
    pub(super) in_haste: bool,
    /// The swap that was committed just before the present event, by the disk; and by this event.
    saved_commit: Option<SwapId>,
    committed_now: Option<SwapId>,
    /// Who asked for a deploy.
    pub(super) deploying: BTreeSet<ClientId>,
    /// The swap whose end a supd owes that has just come up, and that end.
    pub(super) owed_end: Option<(SwapId, SwapResult)>,
    /// Who stands by once this commit is on the disk, if it is ready by then.
    pub(super) left: Option<(SwapId, Generation)>,
    /// supd holds.
    pub(super) held: Option<Held>,
    /// supd was told to end.
    pub(super) shut: bool,
    /// What ExecOnFailure may tell.
    pub(super) alarms: Alarms,
}

impl Book {
    pub(super) fn new(place: usize) -> Self {
        Self {
            place,
            floor: 0,
            base: 0,
            used: 0,
            recipes: BTreeMap::new(),
            swaps: Vec::new(),
            sent: Durable::fresh(),
            unsaved: false,
            served: BTreeSet::new(),
            halted: false,
            halted_before: false,
            stopped_before: false,
            told_before: 0,
            told: Vec::new(),
            revived: Tick(0),
            kill: None,
            asker: None,
            rollback: false,
            closed: Vec::new(),
            refused: Vec::new(),
            relaunches: BTreeMap::new(),
            machine_booted: true,
            saved_in_life: false,
            inherited: false,
            told_slow: None,
            stopped_by_person: false,
            drains: BTreeMap::new(),
            leads_anew: false,
            outlived: BTreeSet::new(),
            standbys: BTreeMap::new(),
            quiet: BTreeSet::new(),
            shared: BTreeSet::new(),
            ended: BTreeSet::new(),
            rescued: BTreeMap::new(),
            owed: None,
            given: BTreeMap::new(),
            in_haste: false,
            saved_commit: None,
            committed_now: None,
            deploying: BTreeSet::new(),
            owed_end: None,
            left: None,
            held: None,
            shut: false,
            alarms: Alarms::default(),
        }
    }

    /// The version that this generation runs.
    pub(super) fn recipe(&self, unit: &Unit, generation: Generation) -> Option<usize> {
        let stored = || unit.store.get(&generation).map(|settings| version(settings));
        self.recipes.get(&generation).copied().or_else(stored)
    }

    pub(super) fn swap(&self, id: SwapId) -> Option<&SwapBook> {
        self.swaps.iter().rev().find(|swap| swap.id == id)
    }

    pub(super) fn swap_mut(&mut self, id: SwapId) -> Option<&mut SwapBook> {
        self.swaps.iter_mut().rev().find(|swap| swap.id == id)
    }

    /// The swap that made this generation.
    pub(super) fn maker(&self, generation: Generation) -> Option<&SwapBook> {
        self.swaps.iter().rev().find(|swap| swap.to == generation)
    }

    /// The swap that is neither committed nor undone.
    pub(super) fn running(&self) -> Option<&SwapBook> {
        self.swaps.iter().rev().find(|swap| swap.ended_sent.is_none() && !swap.dropped)
    }

    pub(super) fn reborn(&mut self) {
        self.served.clear();
        self.drains.clear();
        self.shared.clear();
        self.standbys.clear();
        self.outlived.clear();
        self.ended.clear();
        self.rescued.clear();
        self.given.clear();
        self.in_haste = false;
        self.left = None;
        (self.held, self.shut) = (None, false);
        self.saved_commit = None;
        self.deploying.clear();
        self.relaunches.clear();
        self.told_slow = None;
        self.unsaved = false;
        // What was not saved never was.
        self.swaps.retain(|swap| swap.began_saved || swap.on_disk);
        let swaps = &self.swaps;
        self.alarms.reborn(swaps);
        self.recipes.retain(|generation, _| swaps.iter().any(|swap| swap.to == *generation));
        for swap in &mut self.swaps {
            swap.past = true;
            swap.lost |= swap.ended.is_none() && swap.end_failed;
            // What the last life has not said, nobody will ever say; but for what was under way.
            swap.ended_sent = swap.ended_sent.or(Some(SwapResult::Stopped));
        }
        self.used = 0;
    }

    pub(super) fn restored(&mut self, unit: &Unit, booting: bool) {
        let durable = &unit.ledger;
        let (told, settings) = unit.file();
        self.base = durable.generation_last;
        self.floor = self.floor.max(durable.generation_last);
        self.sent = self.finished(unit);
        self.owe_end(unit);
        self.told = vec![told];
        let wanted = match (unit.booted, durable.want) {
            (true, _) => boot_starts(settings.service.start),
            (false, Want::Up | Want::OnDemand) => true,
            (false, Want::Down) => false,
        };
        let nothing = settings.service.releases
            && (unit.booted || durable.active.is_none())
            && !super::releases::launchable(durable);
        self.halted = !(wanted && booting) || nothing;
        self.stopped_by_person = false;
        self.inherited = unit.intent.is_some();
        self.saved_in_life = false;
        self.machine_booted = unit.booted;
        if let Some(survived) = unit.survived().filter(|_| booting) {
            self.halted = false;
            self.outlived = survived.generations.iter().map(|it| it.generation).collect();
            self.served.extend(number(self.sent.active.as_ref()));
            for generation in &self.outlived {
                if let Some(settings) = unit.store.get(generation) {
                    self.recipes.entry(*generation).or_insert(version(settings));
                }
            }
        }
    }

    /// What becomes of a change that was under way when supd died: what its own commit would have
    /// made of it, whatever its kind; or its way back.
    fn finished(&self, unit: &Unit) -> Durable {
        let ledger = &unit.ledger;
        let named = |generation| {
            let known = ledger.kept().find(|kept| kept.generation == generation).cloned();
            known.or(Some(Kept { generation, release: None, pinned: false }))
        };
        let mut after = Durable { swap: None, candidate: None, previous: None, ..ledger.clone() };
        if let Some(after) = self.finished_warm(unit) {
            return after;
        }
        let under_way = self.swaps.iter().rev().find(|swap| swap.on_disk && swap.ended.is_none());
        let Some(swap) = under_way else { return after };
        let active = number(ledger.active.as_ref());
        let intent = unit.intent.filter(|intent| intent.from.is_some() && intent.from == active);
        if swap.from.is_some() && intent.is_some_and(|intent| Some(intent.to) == swap.from) {
            after.active = swap.from.and_then(named);
            after.forward = forward_after_way_back(swap);
            return after;
        }
        let switches = intent.is_some_and(|intent| intent.to == swap.to);
        if !switches && active != Some(swap.to) {
            return after;
        }
        after.active = named(swap.to);
        let before = swap.from.and_then(named).or(ledger.previous.clone());
        match swap.kind {
            SwapKind::Start | SwapKind::Restart => {}
            SwapKind::Rollback => (after.retained, after.forward) = (None, before.or(after.forward)),
            SwapKind::Swap => {
                let recipe = self.recipe(unit, swap.to).map(|version| unit.files[version].1.swap.retain);
                if before.is_some() {
                    after.retained = before.filter(|_| recipe != Some(Retain::None));
                }
                after.forward = None;
            }
        }
        after
    }

    /// What becomes of a switch to one that stood by: the ledger knows nothing of it yet.
    pub(super) fn finished_warm(&self, unit: &Unit) -> Option<Durable> {
        let ledger = &unit.ledger;
        // One that is no newer than the ledger has its end there.
        let intent = unit.intent.filter(|intent| intent.swap_id.0 > ledger.swap_last)?;
        let left = ledger.active.clone().filter(|active| Some(active.generation) == intent.from)?;
        let named = [&ledger.previous, &ledger.candidate].into_iter().flatten();
        if named.map(|kept| kept.generation).any(|generation| generation == intent.to) {
            return None;
        }
        let standby = [&ledger.retained, &ledger.forward].into_iter().flatten();
        let standby = standby.into_iter().find(|kept| kept.generation == intent.to)?.clone();
        let recipe = self.recipe(unit, intent.to).map(|version| unit.files[version].1.swap.retain);
        let (retained, forward) = match intent.kind {
            SwapKind::Rollback => (None, Some(left)),
            _ => (Some(left).filter(|_| recipe != Some(Retain::None)), None),
        };
        let rest = Durable { swap: None, candidate: None, previous: None, ..ledger.clone() };
        Some(Durable { active: Some(standby), retained, forward, ..rest })
    }

    pub(super) fn next_step(&mut self) {
        self.kill = None;
        self.asker = None;
        self.rollback = false;
        self.owed = None;
        self.alarms.next_step();
        self.committed_now = self.saved_commit.take();
        self.closed.clear();
        self.refused.clear();
    }

    pub(super) fn shut_down(&mut self) {
        (self.halted, self.shut) = (true, true);
    }

    /// The request of this step came to nothing. One that is refused later has changed nothing.
    pub(super) fn unasked(&mut self, client: ClientId) {
        self.deploying.remove(&client);
        if self.asker != Some(client) {
            return;
        }
        self.halted = self.halted_before;
        self.told.truncate(self.told_before);
        self.stopped_by_person = self.stopped_before;
    }

    pub(super) fn hears(&mut self, now: Tick, unit: &Unit, event: &Event) {
        self.alarms.hears(event);
        if let Event::Switched { .. } = event {
            self.served.extend(unit.traffic);
            self.quiet.retain(|generation| unit.traffic != Some(*generation));
        }
        if let (Event::Recorded { .. }, Some(committed)) = (event, self.committed_now) {
            let left = self.left.take_if(|(id, _)| *id == committed);
            if let Some((_, left)) = left.filter(|(_, left)| unit.complete(*left, now)) {
                self.standbys.entry(left).or_insert(now);
            }
        }
        if let Event::Counted { generation, counts, .. } = event {
            let quiet = counts.connections == Some(0) && counts.queued == 0 && counts.half_open == 0;
            self.drains.entry(*generation).and_modify(|(_, last)| *last = quiet);
            self.quiet.remove(generation);
            self.quiet.extend(quiet.then_some(*generation));
        }
        if let Event::Noticed { worker, notice: Notice::RestartReset } = event {
            let live = unit.proc(*worker).filter(|proc| proc.told_end.is_none());
            live.and_then(|proc| self.relaunches.remove(&(proc.generation(), proc.index)));
        }
        if let Event::Retired { generation, queued: 1.. } = event {
            self.waited_for(*generation);
        }
        let Event::Asked { client, request } = event else { return };
        self.asker = Some(*client);
        self.halted_before = self.halted;
        self.told_before = self.told.len();
        self.stopped_before = self.stopped_by_person;
        match request {
            Request::Start { .. } | Request::Restart { .. } | Request::Swap { .. } => {
                self.in_haste &= self.stopped_by_person;
                self.halted = false;
                self.stopped_by_person = false;
                self.revived = now;
                self.told.push(unit.file().0);
            }
            Request::Install { deploy, .. } => {
                self.deploying.extend(deploy.map(|_| *client));
                self.told.push(unit.file().0);
            }
            Request::Undeploy { .. } => {}
            Request::Rollback { .. } => {
                self.halted = false;
                self.stopped_by_person = false;
                self.revived = now;
                self.rollback = true;
            }
            Request::Stop { now, keep_listening } => {
                // Who goes on listening goes on accepting, so nothing of it would ever be over.
                self.in_haste |= *now || *keep_listening;
                self.halted = true;
                self.stopped_by_person = true;
            }
            Request::Kill { signal } => self.kill = Some(*signal),
            Request::Refresh { .. } => self.told.push(unit.file().0),
            Request::Abort => self.revived = now,
            Request::Drain { generation } => drop(self.standbys.remove(generation)),
            Request::Share { .. } => {
                if let Some(swap) = self.swaps.iter_mut().rev().find(|swap| swap.ended_sent.is_none()) {
                    swap.hold = true;
                }
            }
            Request::Promote { .. } | Request::Wait { .. } | Request::Reload => {}
        }
    }

    pub(super) fn saved(&mut self, record: &Record) {
        self.floor = self.floor.max(record.durable.generation_last);
        self.unsaved = false;
        self.saved_in_life = true;
        for kept in record.durable.kept() {
            let swap = self.swaps.iter_mut().rev().find(|swap| swap.to == kept.generation);
            swap.into_iter().for_each(|swap| swap.on_disk = true);
        }
        match &record.happening {
            Happening::Began { swap_id, .. } => {
                if let Some(swap) = self.swap_mut(*swap_id) {
                    swap.began_saved = true;
                }
            }
            Happening::Switched { swap_id, .. } => {
                if let Some(swap) = self.swap_mut(*swap_id) {
                    swap.switched_saved = true;
                }
            }
            Happening::Ended { swap_id, result, .. } => {
                self.saved_commit = Some(*swap_id).filter(|_| *result == SwapResult::Committed);
                if let Some(swap) = self.swap_mut(*swap_id) {
                    swap.ended = Some(*result);
                    swap.ends += 1;
                    // A commit says the switch too.
                    swap.switched_saved |= *result == SwapResult::Committed;
                }
            }
            Happening::Stopped
            | Happening::Installed { .. }
            | Happening::Undeployed { .. }
            | Happening::Waiting
            | Happening::Pinned { .. } => {}
        }
        self.may_owe_alarm(record);
    }

    pub(super) fn unsaved(&mut self, record: &Record) {
        self.unsaved = true;
        match &record.happening {
            Happening::Began { swap_id, .. } => {
                if let Some(swap) = self.swap_mut(*swap_id) {
                    swap.began_failed = true;
                    // Where somebody serves, nothing is launched without a number.
                    swap.dropped = swap.from.is_some();
                }
            }
            Happening::Ended { swap_id, result, .. } => {
                // It may be said again; what never took over is over without being said.
                let again = matches!(result, SwapResult::Committed | SwapResult::RolledBack);
                if let Some(swap) = self.swap_mut(*swap_id) {
                    swap.dropped |= !again;
                    swap.end_failed = true;
                }
            }
            Happening::Stopped => {
                let cut = |swap: &&mut SwapBook| swap.ended_sent == Some(SwapResult::Stopped);
                self.swaps.iter_mut().filter(cut).for_each(|swap| swap.end_failed = true);
            }
            Happening::Switched { .. }
            | Happening::Installed { .. }
            | Happening::Undeployed { .. }
            | Happening::Waiting
            | Happening::Pinned { .. } => {}
        }
    }

    /// What this generation was launched with at first.
    pub(super) fn note_recipe(&mut self, generation: Generation, settings: &supd::model::Settings) {
        self.recipes.insert(generation, version(settings));
    }

    /// Someone alive receives every new connection at a commit: who is committed, or who had them before, if
    /// that one could have them at once.
    pub(super) fn commits_well(&self, world: &World, unit: &Unit) -> Checked {
        let Some(swap) = self.committed_now.and_then(|id| self.swap(id)) else { return Ok(()) };
        let Some(from) = swap.from.filter(|_| !self.halted && !world.shutdown) else { return Ok(()) };
        let named = [&self.sent.retained, &self.sent.forward].map(|kept| number(kept.as_ref()));
        let could = named.contains(&Some(from))
            && self.steers(unit, from)
            && self.steers(unit, swap.to)
            && unit.complete(from, world.now);
        let down = unit.traffic == Some(swap.to) && unit.ready_of(swap.to).next().is_none();
        let goes_back = self.running().is_some_and(|back| back.to == from);
        must(Rule::MakeBeforeBreak, !(down && could) || goes_back, || {
            format!("commits {}, of which nothing is left, while {from} is ready", swap.to)
        })
    }

    /// The generation that the ledger will call active.
    pub(super) fn active_soon(&self) -> Option<Generation> {
        number(self.sent.active.as_ref())
    }
}
