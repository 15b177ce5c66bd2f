//! Chooses what happens next: a random subset of all that can, with wild weights, so that each
//! seed is a different world rather than the same average one.

use crate::brain::Brain;
use crate::knobs::{Knob, Knobs};
use crate::mood::{MOODS, Mood};
use crate::rng::Rng;
use crate::sim::{CLEAN, Sim};
use crate::step::{Act, Ask, Say, Step, Turn, UNITS};
use crate::world::{Life, Proc, Unit, number};
use std::collections::BTreeMap;
use std::time::Duration;
use supd::machine::JobKind;
use supd::model::settings::Ready;
use supd::model::{Signal, WaitFor, WorkerExit, WorkerId};

macro_rules! classes {
    ($($Class:ident,)+) => {
        /// Kinds of things that a seed makes frequent, rare or impossible.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Class { $($Class,)+ }

        const CLASSES: usize = [$(Class::$Class),+].len();
    };
}

classes! {
    Odd, BindFails, IntentFails, SwitchFails, RecordFails, DiskFull, NotPinned, SpawnFails, Early, Stale, Forged,
    JobFails, JobHangs, HangUp, Edit, Connect, Late, Spurious, Crash, Reboot, Shutdown, Orphan, Dies, Unanswered,
    SlowCopy,
    Unpacks, Stores, Clings, ShareFails, Stalls,
    Ask, Start, Stop, Restart, Swap, SwapTo, Install, Undeploy, RollbackTo, Rollback, Share, Drain, Promote, Abort, Wait, Reload, Kill, Refresh,
}

/// One thing that may happen, cheap to make: most are never chosen.
#[derive(Debug, Clone, Copy)]
enum Choice {
    At(usize, Turn),
    Worker(usize, WorkerId, Act),
    Job(usize, JobKind, bool),
    Asks(usize),
    GoesBack(usize),
    Shares(usize),
    HangsUp(u64),
    Forged(usize),
    Edit(usize),
    New(usize),
    Deadline,
    Advance,
    Late,
    Clock,
    Crash,
    Marked,
    Released,
    Reboot,
    Shutdown,
    Boot,
}

/// The will behind one seed.
pub(crate) struct Driver {
    rng: Rng,
    /// For what changes nothing else of a seed's story.
    aside: Rng,
    weights: [u64; CLASSES],
    moods: Vec<Mood>,
    mood_of: BTreeMap<(u32, WorkerId), Mood>,
    clients: u64,
    disk_full: bool,
    options: Vec<(Choice, u64)>,
}

impl Driver {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let calm = rng.chance(20);
        let mut weights = [0; CLASSES];
        for (at, weight) in weights.iter_mut().enumerate() {
            let usual = at >= Class::Ask as usize;
            *weight = match (usual, calm) {
                (true, _) => rng.pick(&[0, 1, 4, 16]),
                (false, true) => 0,
                (false, false) => rng.pick(&[0, 0, 0, 1, 4, 16]),
            };
        }
        weights[Class::Ask as usize] = rng.pick(&[4, 10, 30]);
        weights[Class::Start as usize] += 4;
        weights[Class::Swap as usize] += 4;
        for heavy in [Class::Crash, Class::Reboot, Class::Shutdown, Class::Orphan] {
            weights[heavy as usize] = weights[heavy as usize].min(4);
        }
        let moods = (0..rng.below(4)).map(|_| rng.pick(&MOODS)).collect();
        Self {
            rng,
            aside: Rng::new(!seed),
            weights,
            moods,
            mood_of: BTreeMap::new(),
            clients: 0,
            disk_full: false,
            options: Vec::new(),
        }
    }

    /// How many steps the seed takes before all faults end.
    pub(crate) fn length(&mut self) -> u64 {
        let most = self.rng.pick(&[40, 80, 160]);
        20 + self.rng.below(most)
    }

    /// Which units there are at boot.
    pub(crate) fn first_steps(&mut self) -> Vec<Step> {
        let count = if self.rng.chance(20) { UNITS.len() } else { 1 };
        (0..count).map(|unit| Step::Unit { unit, knobs: self.knobs(), later: false }).collect()
    }

    /// What the seed does once everything is well again.
    pub(crate) fn last_steps(&mut self) -> Vec<Step> {
        let mut steps = vec![Step::Settle];
        let mut ask = |ask: Ask| {
            self.clients += 1;
            steps.extend([Step::Asks { client: self.clients, unit: 0, ask }, Step::Settle]);
        };
        match self.rng.below(8) {
            0 => ask(Ask::Swap {
                unbound: false,
                hold: false,
                canary: None,
                replace: false,
                wait: WaitFor::Drained,
            }),
            1 => {
                ask(Ask::Swap {
                    unbound: false,
                    hold: false,
                    canary: None,
                    replace: false,
                    wait: WaitFor::Committed,
                });
                ask(Ask::Rollback { from: None, stop: false, anyway: true, wait: WaitFor::Drained });
            }
            2 => ask(Ask::Stop { now: false, keep_listening: false }),
            3 => ask(Ask::Start(WaitFor::Committed)),
            _ => {}
        }
        steps
    }

    fn knobs(&mut self) -> Knobs {
        let usual = self.rng.pick(&[50, 70, 90]);
        let mut knobs = Knobs::default();
        for knob in Knob::ALL {
            let aside = matches!(knob, Knob::Store | Knob::Preserve);
            let rng = if aside { &mut self.aside } else { &mut self.rng };
            if !rng.chance(usual) {
                let count = knob.words().len() as u64;
                knobs = knobs.with(*knob, usize::try_from(rng.below(count)).unwrap());
            }
        }
        // Together they are rare, and much of the plot needs them together.
        if self.rng.chance(15) {
            let asks = knobs.with(Knob::Steered, 1).with(Knob::Check, 1);
            knobs = asks.with(Knob::Canary, 2);
        }
        let broken = knobs.broken() && self.rng.chance(20);
        knobs.with(Knob::Program, usize::from(broken))
    }

    fn weight(&self, class: Class) -> u64 {
        self.weights[class as usize]
    }

    fn may(&mut self, choice: Choice, weight: u64) {
        if weight > 0 {
            self.options.push((choice, weight));
        }
    }

    /// What happens next.
    pub(crate) fn next<B: Brain>(&mut self, sim: &Sim<B>) -> Step {
        self.options.clear();
        if self.weight(Class::DiskFull) > 0 && self.rng.chance(4) {
            self.disk_full = !self.disk_full;
        }
        if sim.world.quit {
            self.may(Choice::Boot, 8);
            self.may(Choice::Reboot, self.weight(Class::Reboot));
        } else {
            for unit in &sim.world.units {
                self.unit(unit, sim.world.life);
            }
            self.world(sim);
        }
        let total: u64 = self.options.iter().map(|(_, weight)| weight).sum();
        let mut at = self.rng.below(total);
        let mut chosen = Choice::Deadline;
        for (choice, weight) in &self.options {
            chosen = *choice;
            if at < *weight {
                break;
            }
            at -= weight;
        }
        self.step(chosen, sim)
    }

    fn unit(&mut self, unit: &Unit, life: u32) {
        let place = unit.place;
        if !unit.known {
            return self.may(Choice::New(place), 2);
        }
        let good = |answered: bool| if answered { 40 } else { 0 };
        let waits = self.weight(Class::Unanswered).min(1);
        let good = |asked: bool| if waits > 0 { good(asked) / 16 } else { good(asked) };
        let bad = |asked: bool, weight: u64| if asked { weight } else { 0 };
        let (binds, intents) = (!unit.binds.is_empty(), !unit.intents.is_empty());
        let (switches, records) = (!unit.switches.is_empty(), !unit.records.is_empty());
        let pins = !unit.pins.is_empty();
        self.may(Choice::At(place, Turn::Bound), good(binds));
        self.may(Choice::At(place, Turn::BindFails), bad(binds, self.weight(Class::BindFails)));
        self.may(Choice::At(place, Turn::IntentSaved), good(intents));
        self.may(Choice::At(place, Turn::IntentFails), bad(intents, self.weight(Class::IntentFails)));
        self.may(Choice::At(place, Turn::Switched), good(switches));
        self.may(Choice::At(place, Turn::SwitchFails), bad(switches, self.weight(Class::SwitchFails)));
        let shares = unit.share.is_some();
        self.may(Choice::Shares(place), bad(shares || switches, 2) + bad(pins, 1));
        let asked = shares && unit.jobs.iter().any(|job| job.kind == JobKind::Check);
        let fails = self.weight(Class::ShareFails).min(if asked { 32 } else { 2 });
        self.may(Choice::At(place, Turn::ShareFails), bad(shares, fails));
        self.may(Choice::At(place, Turn::Stalls), self.weight(Class::Stalls).min(1));
        let counts = !unit.counts.is_empty();
        self.may(Choice::At(place, Turn::Counted), good(counts) / 2);
        self.may(Choice::At(place, Turn::CountedBusy), bad(counts, self.weight(Class::Clings)));
        let retires = !unit.retires.is_empty();
        self.may(Choice::At(place, Turn::Retired), good(retires) / 2);
        self.may(Choice::At(place, Turn::RetiredQueued), bad(retires, self.weight(Class::Clings) * 2));
        self.may(Choice::At(place, Turn::Recorded), if self.disk_full { 0 } else { good(records) });
        let full = if self.disk_full { 40 } else { self.weight(Class::RecordFails) };
        self.may(Choice::At(place, Turn::RecordFails), bad(records, full));
        // Slow: not before a rollback would need it. Then there is a short while to ask for one.
        let needed = number(unit.ledger.retained.as_ref()).is_some_and(|it| unit.is_copied(it));
        let (copied, uncopied) = match self.weight(Class::SlowCopy) {
            0 => (good(pins) / 4, bad(pins, self.weight(Class::NotPinned))),
            _ => (bad(needed || unit.pins.len() > 4, 3), bad(needed, 2)),
        };
        self.may(Choice::At(place, Turn::Pinned), copied);
        self.may(Choice::At(place, Turn::NotPinned), uncopied);
        self.may(Choice::GoesBack(place), bad(needed, self.weight(Class::Rollback).max(1) * 10));
        let (unpacks, stores) = (!unit.unpacks.is_empty(), !unit.storing.is_empty());
        self.may(Choice::At(place, Turn::Unpacked), good(unpacks) / 2);
        self.may(Choice::At(place, Turn::UnpackedOther), bad(unpacks, self.weight(Class::Unpacks).min(8)));
        self.may(Choice::At(place, Turn::UnpackFails), bad(unpacks, self.weight(Class::Unpacks)));
        self.may(Choice::At(place, Turn::Stored), good(stores) / 2);
        self.may(Choice::At(place, Turn::StoreFails), bad(stores, self.weight(Class::Stores)));
        self.may(Choice::At(place, Turn::Unlistened), good(unit.unlistens > 0));
        self.may(Choice::At(place, Turn::Connect), self.weight(Class::Connect).min(4));
        self.may(Choice::At(place, Turn::Knocked), good(unit.watched));
        self.may(Choice::At(place, Turn::Orphaned), self.weight(Class::Orphan).min(1));
        self.may(Choice::Asks(place), self.weight(Class::Ask));
        self.may(Choice::Edit(place), self.weight(Class::Edit).min(6));
        self.may(Choice::Forged(place), self.weight(Class::Forged));
        for job in &unit.jobs {
            let hangs = self.weight(Class::JobHangs) > 0 && job.id.0 % 3 == 0 && !job.ended;
            let check = job.kind == JobKind::Check;
            let slow = check && (job.id.0 % 2 == 0 || unit.share.is_some());
            self.may(Choice::Shares(place), bad(check, 1));
            let passes = if slow { 1 } else { 40 };
            self.may(Choice::Job(place, job.kind, true), if job.ended || hangs { 0 } else { passes });
            let least = u64::from(job.kind == JobKind::Check);
            if job.kind == JobKind::Check {
                let tested = unit.live_of(job.generation).next();
                let dies = |proc: &Proc| Choice::Worker(place, proc.id, Act::Exits(WorkerExit::Code(1)));
                tested.into_iter().for_each(|proc| self.may(dies(proc), 1));
            }
            let fails = if job.ended { 40 } else { self.weight(Class::JobFails).max(least) };
            self.may(Choice::Job(place, job.kind, false), fails);
        }
        for proc in &unit.procs {
            self.proc(unit, proc, life);
        }
    }

    fn mood(&mut self, unit: &Unit, proc: &Proc, life: u32) -> Mood {
        if let Some(mood) = self.mood_of.get(&(life, proc.id)) {
            return *mood;
        }
        let mood = if unit.knobs(&proc.launch.settings).broken() {
            Mood::CrashLoop
        } else if self.moods.is_empty() || self.rng.chance(60) {
            Mood::Good
        } else {
            self.rng.pick(&self.moods)
        };
        self.mood_of.insert((life, proc.id), mood);
        mood
    }

    fn proc(&mut self, unit: &Unit, proc: &Proc, life: u32) {
        let place = unit.place;
        let act = |act: Act| Choice::Worker(place, proc.id, act);
        let says = |say: Say| Choice::Worker(place, proc.id, Act::Says(say));
        match proc.life {
            Life::Unlaunched => return,
            Life::Dead(_) if proc.told_end.is_none() => return self.may(act(Act::Reaped), 12),
            Life::Dead(_) => {
                let sweeps = proc.sweep_asked && !proc.told_swept;
                self.may(act(Act::Swept), if sweeps && !proc.leftovers { 20 } else { 0 });
                self.may(act(Act::LeftoversEnd), if sweeps && proc.leftovers { 3 } else { 0 });
                let say = self.rng.pick(&[Say::Ready, Say::Stopping, Say::Trigger, Say::Alive]);
                return self.may(says(say), self.weight(Class::Stale).min(2));
            }
            Life::Launching => {
                self.may(act(Act::Spawned), 40);
                let fails = if proc.acted { 0 } else { self.weight(Class::SpawnFails) };
                self.may(act(Act::SpawnFails), fails);
                let early = self.weight(Class::Early);
                self.may(says(Say::Ready), early);
                self.may(says(Say::Listening), early);
                self.may(act(Act::Exits(WorkerExit::Code(1))), early.min(2));
                let odd = self.odd();
                return self.may(says(odd), early.min(3));
            }
            Life::Running if !proc.told_spawned => self.may(act(Act::Spawned), 40),
            Life::Running => {}
        }
        let mood = self.mood(unit, proc, life);
        self.running(place, (proc, unit.held.contains(&proc.generation())), mood);
    }

    /// What a running worker may do, by its mood.
    fn running(&mut self, place: usize, (proc, unbound): (&Proc, bool), mood: Mood) {
        let exit = self.exit();
        let act = |act: Act| Choice::Worker(place, proc.id, act);
        let says = |say: Say| Choice::Worker(place, proc.id, Act::Says(say));
        if proc.killed {
            return self.may(act(Act::Exits(WorkerExit::Killed { signal: Signal::KILL, core: false })), 30);
        }
        if proc.signalled || proc.halted || proc.told_by_person || proc.told_stopping {
            let (leaves, exit) = match mood {
                Mood::IgnoresTerm => (0, CLEAN),
                Mood::FailsDraining => (20, exit),
                _ => (20, CLEAN),
            };
            let leaves = if proc.halted && !proc.signalled { 1 } else { leaves };
            self.may(act(Act::Exits(exit)), leaves);
            self.may(says(Say::Ready), if mood == Mood::ReadyWhenTold { 30 } else { 0 });
            self.may(says(Say::Stopping), 1);
            self.may(says(Say::Extend(Duration::from_secs(60))), if mood == Mood::Extends { 10 } else { 0 });
            return;
        }
        self.may(act(Act::Dies(exit)), self.weight(Class::Dies).min(3));
        let odd = self.odd();
        self.may(
            says(odd),
            if proc.reloading || proc.waits { 3 } else { 0 } + self.weight(Class::Odd).min(2),
        );
        if mood == Mood::Forks && !proc.leftovers {
            self.may(act(Act::Forks), 20);
        }
        if proc.told_ready.is_none() {
            let word = match proc.launch.settings.service.ready {
                Ready::Notify => Some(Say::Ready),
                Ready::Listen => Some(Say::Listening),
                _ => None,
            };
            let (ready, dies) = match mood {
                Mood::NeverReady => (0, 0),
                Mood::ReadyLate => (2, 0),
                Mood::DiesBeforeReady => (0, 20),
                Mood::CrashLoop => (10, 10),
                _ => (40, 0),
            };
            self.may(says(Say::Waits), if unbound && !proc.waits { ready } else { 0 });
            match word {
                // Few are ready before they have bound anything.
                Some(word) => self.may(says(word), if unbound { ready / 20 } else { ready }),
                None => self.may(says(Say::Ready), u64::from(mood == Mood::ReadyTwice)),
            }
            self.may(act(Act::Exits(exit)), dies);
            self.may(says(Say::Extend(Duration::from_secs(60))), if mood == Mood::Extends { 20 } else { 0 });
            return;
        }
        let usual = match mood {
            Mood::ReadyTwice => Some((says(Say::Ready), 10)),
            Mood::DiesAtReady => Some((act(Act::Exits(exit)), 60)),
            Mood::DiesServing => Some((act(Act::Exits(exit)), 3)),
            Mood::CrashLoop => Some((act(Act::Exits(exit)), 10)),
            Mood::ExitsUnasked => Some((act(Act::Exits(CLEAN)), 4)),
            Mood::SaysStopping => Some((says(Say::Stopping), 6)),
            Mood::Triggers => Some((says(Say::Trigger), 3)),
            Mood::Extends => Some((says(Say::Extend(Duration::from_secs(60))), 3)),
            Mood::Reloads => {
                let how = self.rng.pick(&[Say::Reloading, Say::ReloadingOld, Say::ReloadingBare]);
                Some((says(how), 4))
            }
            _ => None,
        };
        if let Some((choice, weight)) = usual {
            self.may(choice, weight);
        }
        self.may(says(Say::Reset), if matches!(mood, Mood::CrashLoop | Mood::DiesServing) { 2 } else { 0 });
        self.may(says(Say::Ready), if proc.reloading && mood != Mood::NeverReady { 20 } else { 0 });
        if proc.period.is_some() && mood != Mood::Silent {
            self.may(says(Say::Alive), 12);
            self.may(says(Say::Period(Duration::from_secs(3))), 1);
        }
    }

    /// Something that few workers say.
    fn odd(&mut self) -> Say {
        self.rng.pick(&[
            Say::Status,
            Say::Stopping,
            Say::Trigger,
            Say::Period(Duration::from_secs(3)),
            Say::Extend(Duration::from_secs(60)),
            Say::Reloading,
            Say::Reset,
        ])
    }

    fn exit(&mut self) -> WorkerExit {
        let signal = self.rng.pick(&[Signal(11), Signal::KILL, Signal::TERM, Signal::ABRT]);
        match self.rng.below(8) {
            0 => CLEAN,
            1 => WorkerExit::Code(3),
            2 => WorkerExit::Code(4),
            3 => WorkerExit::Unknown,
            4 => WorkerExit::Killed { signal, core: false },
            5 => WorkerExit::Killed { signal: Signal(11), core: true },
            _ => WorkerExit::Code(1),
        }
    }

    fn world<B: Brain>(&mut self, sim: &Sim<B>) {
        self.may(Choice::Deadline, if sim.brain.deadline().is_some() { 16 } else { 0 });
        self.may(Choice::Advance, 4);
        self.may(Choice::Late, self.weight(Class::Late).min(4));
        self.may(Choice::Clock, self.weight(Class::Spurious).min(4));
        self.may(Choice::Crash, if sim.crash.is_none() { self.weight(Class::Crash) } else { 0 });
        self.may(Choice::Marked, if sim.oracle.marked { 0 } else { self.weight(Class::Crash).min(2) });
        self.may(Choice::Released, if sim.oracle.holds() { 2 } else { 0 });
        self.may(Choice::Reboot, self.weight(Class::Reboot).min(1));
        self.may(Choice::Shutdown, self.weight(Class::Shutdown).min(2));
        if self.weight(Class::HangUp) > 0 {
            for client in sim.world.clients.iter().filter(|client| client.waits()) {
                self.may(Choice::HangsUp(client.id.0), self.weight(Class::HangUp));
            }
        }
    }

    fn step<B: Brain>(&mut self, choice: Choice, sim: &Sim<B>) -> Step {
        match choice {
            Choice::At(unit, turn) => Step::At { unit, turn },
            Choice::Worker(place, worker, act) => {
                let named = sim.world.unit(place).and_then(|unit| unit.name_of(worker));
                named.map_or(Step::Clock, |named| Step::Worker(named, act))
            }
            Choice::Job(unit, kind, passes) => Step::Job { unit, kind, passes },
            Choice::Asks(unit) => self.asks(unit),
            Choice::GoesBack(unit) => {
                let (anyway, wait) = (self.rng.chance(25), WaitFor::Committed);
                let ask = match self.rng.below(8) {
                    0 => Ask::Promote(wait),
                    _ => Ask::Rollback { from: None, stop: false, anyway, wait },
                };
                Step::Asks { client: self.client(), unit, ask }
            }
            Choice::Shares(unit) => {
                let wait = WaitFor::Committed;
                let ask = match self.rng.below(4) {
                    0 => Ask::Promote(wait),
                    1 => Ask::Abort,
                    _ => Ask::Share(self.rng.pick(&[0, 100, 5000, 10_000]), wait),
                };
                Step::Asks { client: self.client(), unit, ask }
            }
            Choice::HangsUp(client) => Step::HangsUp { client },
            Choice::Forged(unit) => {
                let say = self.rng.pick(&[Say::Ready, Say::Stopping, Say::Trigger, Say::Alive]);
                Step::Forged { unit, say }
            }
            Choice::Edit(unit) => Step::Edit { unit, knobs: self.knobs() },
            Choice::New(unit) => Step::Unit { unit, knobs: self.knobs(), later: true },
            Choice::Deadline => Step::Deadline,
            Choice::Advance => {
                Step::Advance(Duration::from_millis(self.rng.pick(&[1, 50, 700, 3000, 20_000])))
            }
            Choice::Late => Step::Late(Duration::from_secs(self.rng.pick(&[1, 60, 3600]))),
            Choice::Clock => Step::Clock,
            Choice::Crash => {
                let after = self.rng.pick(&[0, 0, 1, 2, 3, 5, 8]);
                Step::Crash { after, saved: self.rng.pick(&[0, 1, 2]), kept: self.rng.chance(50) }
            }
            Choice::Marked => Step::Marked,
            Choice::Released => Step::Released,
            Choice::Reboot => Step::Reboot { saved: self.rng.pick(&[0, 1]) },
            Choice::Shutdown => {
                let client = self.rng.chance(50).then(|| self.client());
                Step::Shutdown { client }
            }
            Choice::Boot => Step::Boot,
        }
    }

    fn client(&mut self) -> u64 {
        self.clients += 1;
        self.clients
    }

    fn asks(&mut self, unit: usize) -> Step {
        let verbs = [
            Class::Start,
            Class::Stop,
            Class::Restart,
            Class::Swap,
            Class::SwapTo,
            Class::Install,
            Class::Undeploy,
            Class::RollbackTo,
            Class::Rollback,
            Class::Share,
            Class::Drain,
            Class::Promote,
            Class::Abort,
            Class::Wait,
            Class::Reload,
            Class::Kill,
            Class::Refresh,
        ];
        let total: u64 = verbs.iter().map(|verb| self.weight(*verb)).sum();
        let mut at = self.rng.below(total);
        let mut verb = Class::Swap;
        for candidate in verbs {
            verb = candidate;
            if at < self.weight(candidate) {
                break;
            }
            at -= self.weight(candidate);
        }
        let wait = self.rng.pick(&[
            WaitFor::Ready,
            WaitFor::Active,
            WaitFor::Committed,
            WaitFor::Committed,
            WaitFor::Drained,
        ]);
        let label = u8::try_from(self.rng.below(4)).unwrap();
        let mut flag = || self.rng.chance(25);
        let ask = match verb {
            Class::Start => Ask::Start(wait),
            Class::Stop => Ask::Stop { now: flag(), keep_listening: flag() },
            Class::Restart => Ask::Restart(wait),
            Class::Rollback => {
                let (stop, anyway) = (flag(), flag());
                let from = flag().then_some(self.rng.below(4));
                Ask::Rollback { from, stop, anyway, wait }
            }
            Class::SwapTo => Ask::SwapTo { label, wait },
            Class::Install => Ask::Install { label, deploy: !flag(), wait },
            Class::Undeploy => Ask::Undeploy(label),
            Class::RollbackTo => Ask::RollbackTo { label, wait },
            Class::Share => Ask::Share(self.rng.pick(&[0, 1, 100, 5000, 9999, 10_000]), wait),
            Class::Drain => Ask::Drain(1 + self.rng.below(4)),
            Class::Promote => Ask::Promote(wait),
            Class::Abort => Ask::Abort,
            Class::Wait => Ask::Wait(wait),
            Class::Reload => Ask::Reload,
            Class::Kill => Ask::Kill(self.rng.pick(&[Signal(1), Signal(10), Signal::TERM])),
            Class::Refresh => Ask::Refresh,
            _ => {
                let (unbound, hold, replace) = (flag(), flag(), flag());
                let canary = self.rng.pick(&[None, None, None, Some(100), Some(0), Some(10_000)]);
                Ask::Swap { unbound, hold, canary: canary.filter(|_| !hold), replace, wait }
            }
        };
        Step::Asks { client: self.client(), unit, ask }
    }
}
