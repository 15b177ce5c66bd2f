//! The fake world: what is true of listeners, processes, disks and clients, whatever the machine
//! believes. It decides nothing; [`sim`](crate::sim) changes it, the oracle reads it.

use crate::knobs::{Knobs, settings};
use crate::step::{Ask, UNITS, WorkerRef};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use supd::machine::{JobKind, Launch};
use supd::model::kept::KeptGeneration;
use supd::model::settings::{KillMode, Restart};
use supd::model::{
    Address, ClientId, Durable, Generation, Intent, JobId, Kept, Label, Record, RecordId, Reply, Settings,
    Share, SwapId, Tick, UnitName, WorkerExit, WorkerId,
};

/// Everything that is true at one moment.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) now: Tick,
    pub(crate) units: Vec<Unit>,
    pub(crate) clients: Vec<Client>,
    /// supd has ended in order.
    pub(crate) quit: bool,
    /// supd was told to end.
    pub(crate) shutdown: bool,
    /// Lives of supd so far.
    pub(crate) life: u32,
}

/// One unit, known to the machine or not.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) place: usize,
    pub(crate) name: UnitName,
    /// Whether the machine was told of it, and has not forgotten it.
    pub(crate) known: bool,
    /// Its file is gone.
    pub(crate) orphaned: bool,
    /// Every file it ever had; the last one is on disk now.
    pub(crate) files: Vec<(Knobs, Arc<Settings>)>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) watched: bool,
    pub(crate) binds: VecDeque<(JobId, Arc<Settings>)>,
    /// Addresses among these that were to be closed since: bind(2) does not take time, only its
    /// answer does.
    pub(crate) binds_closed: Vec<Address>,
    pub(crate) unlistens: u32,
    pub(crate) intents: VecDeque<Intent>,
    /// So many of these were cleared before they were written.
    pub(crate) intents_void: usize,
    /// In the runtime folder.
    pub(crate) intent: Option<Intent>,
    pub(crate) switches: VecDeque<(SwapId, Generation)>,
    /// So many of these were overtaken by a start from nothing.
    pub(crate) switches_void: usize,
    /// Generations of which clients' connections are being counted.
    pub(crate) counts: VecDeque<Generation>,
    /// Those that gave their slots back, and whether the unit has been up since: else nobody waits there.
    pub(crate) retires: VecDeque<(Generation, bool)>,
    /// Who receives a share of them beside, by which swap, and how much.
    pub(crate) share: Option<(SwapId, Generation, Share)>,
    /// Who received all of them a moment ago, and until when a handshake of then may end there.
    pub(crate) late: Option<(Generation, Tick)>,
    /// Those that have given their slots back. What is left there waits for whoever borrows one next.
    pub(crate) freed: BTreeSet<Generation>,
    /// New connections lead to a slot that is nobody's, and wait there for whoever comes next.
    pub(crate) spare: bool,
    /// Where new connections go: the last switch that succeeded.
    pub(crate) traffic: Option<Generation>,
    pub(crate) records: VecDeque<InFlight>,
    /// When the disk answered last, or was asked after that.
    pub(crate) disk_since: Tick,
    /// The last record that is on disk.
    pub(crate) ledger: Durable,
    /// The machine booted and nothing was recorded since.
    pub(crate) booted: bool,
    /// Settings on disk beside the ledger.
    pub(crate) store: BTreeMap<Generation, Arc<Settings>>,
    pub(crate) pins: VecDeque<Arc<Launch>>,
    /// Sources that are being unpacked, and trees that are being placed or sealed.
    pub(crate) unpacks: VecDeque<(JobId, Label)>,
    pub(crate) storing: VecDeque<Storing>,
    /// Trees on disk: what is unpacked, and what is in the place of a release.
    pub(crate) staged: BTreeSet<JobId>,
    pub(crate) trees: BTreeSet<Label>,
    /// Generations whose binds are left unanswered.
    pub(crate) held: BTreeSet<Generation>,
    /// Those that were lent their slots before anything of them runs.
    pub(crate) lent: BTreeMap<Generation, Arc<Launch>>,
    /// What workers gave into the descriptor store.
    pub(crate) stored: BTreeMap<Generation, crate::stored::Stored>,
    pub(crate) procs: Vec<Proc>,
    /// Those that have outlived their supd, until the next one goes on with them.
    pub(crate) orphans: Vec<Proc>,
    /// Generations that have outlived it, whether anybody of them lives or not.
    pub(crate) outlived: BTreeSet<Generation>,
    /// Who could, by the last word of the machine.
    pub(crate) outlasts: Vec<KeptGeneration>,
    pub(crate) jobs: Vec<Job>,
    /// The last job that ended, and whose it was.
    pub(crate) last_job: Option<(JobId, JobKind, Option<WorkerId>)>,
    /// So many commands have told the load balancer that the traffic is off, since it was told that it is on.
    pub(crate) offs: u32,
    /// So many have told it that it is on, since it was told otherwise.
    pub(crate) ons: u32,
}

/// A tree that is being placed or sealed.
#[derive(Debug, Clone)]
pub(crate) struct Storing {
    pub(crate) job: JobId,
    pub(crate) label: Label,
    /// It comes from here; `None`: it is being sealed.
    pub(crate) staging: Option<JobId>,
}

/// A record that is being written.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    pub(crate) id: RecordId,
    pub(crate) record: Record,
    /// What is stored with it.
    pub(crate) launches: Vec<(Generation, Arc<Settings>)>,
}

/// How an address treats a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Nobody has the address.
    Closed,
    /// Bound, not listening: refused.
    Bound,
    /// Accepted, or queued.
    Listening,
    /// Told to come again.
    HeldOff,
}

/// One address.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) address: Address,
    pub(crate) door: Door,
    /// Connections that nobody has accepted yet, and that wait for anybody.
    pub(crate) queue: u32,
    /// Those that wait for one generation, in its own slot.
    pub(crate) slots: BTreeMap<Generation, u32>,
    /// By the generation that accepted.
    pub(crate) served: BTreeMap<Generation, u32>,
    pub(crate) refused: u32,
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Forked; exec is neither known to have succeeded nor to have failed.
    Launching,
    Running,
    Dead(WorkerExit),
    /// There never was a process.
    Unlaunched,
}

/// One process of a unit, with what supd has been told of it.
#[derive(Clone)]
pub(crate) struct Proc {
    pub(crate) id: WorkerId,
    pub(crate) index: u32,
    pub(crate) launch: Arc<Launch>,
    pub(crate) born: Tick,
    pub(crate) life: Life,
    /// It did something that only a running program can do.
    pub(crate) acted: bool,
    pub(crate) told_spawned: bool,
    /// When the machine heard of its end, or that it could not be launched.
    pub(crate) told_end: Option<Tick>,
    pub(crate) told_swept: bool,
    /// It waits in a bind that is left unanswered.
    pub(crate) waits: bool,
    /// When the machine heard what makes it ready.
    pub(crate) told_ready: Option<Tick>,
    /// ExecStartPost has yet to pass.
    pub(crate) posts: bool,
    pub(crate) told_stopping: bool,
    pub(crate) reloading: bool,
    /// ExecStop was run for it.
    pub(crate) halted: bool,
    /// KillSignal, SIGABRT or SIGKILL was sent.
    pub(crate) signalled: bool,
    pub(crate) killed: bool,
    /// A person sent it KillSignal: it will end, whatever supd thinks.
    pub(crate) told_by_person: bool,
    /// When its watchdog was last fed.
    pub(crate) fed: Tick,
    /// The period of its watchdog, as the unit file or it itself says.
    pub(crate) period: Option<Duration>,
    pub(crate) triggered: bool,
    /// Children that do not end with it.
    pub(crate) leftovers: bool,
    pub(crate) sweep_asked: bool,
    /// It was there when a person stopped the unit.
    pub(crate) doomed: bool,
}

/// A command or a check that supd runs.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) kind: JobKind,
    pub(crate) generation: Generation,
    pub(crate) worker: Option<WorkerId>,
    /// supd ended it: it can only fail.
    pub(crate) ended: bool,
}

/// Somebody who asked.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    /// `None`: shutdown.
    pub(crate) asked: Option<(usize, Ask)>,
    /// The file as it was then.
    pub(crate) file: usize,
    pub(crate) reply: Option<Reply>,
    pub(crate) gone: bool,
    /// What the ledger said then.
    pub(crate) before: Option<Durable>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: Tick(1_000_000),
            units: Vec::new(),
            clients: Vec::new(),
            quit: false,
            shutdown: false,
            life: 1,
        }
    }

    pub(crate) fn unit(&self, place: usize) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.place == place)
    }

    pub(crate) fn unit_mut(&mut self, place: usize) -> Option<&mut Unit> {
        self.units.iter_mut().find(|unit| unit.place == place)
    }

    /// The place of a unit that an effect names.
    pub(crate) fn place(&self, name: &UnitName) -> Option<usize> {
        self.units.iter().find(|unit| unit.name == *name).map(|unit| unit.place)
    }

    pub(crate) fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.iter().find(|client| client.id == id)
    }
}

impl World {
    /// Whether anybody is owed an answer about a unit.
    pub(crate) fn anyone_waits_for_a_unit(&self) -> bool {
        self.clients.iter().any(|client| client.waits() && client.asked.is_some())
    }

    /// How long it is until then.
    pub(crate) fn span_until(&self, then: Tick) -> Duration {
        then.since(self.now)
    }
}

impl Client {
    /// Whether it asked for a swap that stops before it binds.
    pub(crate) fn unbinds(&self) -> bool {
        matches!(self.asked, Some((_, Ask::Swap { unbound: true, .. })))
    }

    /// Whether it asked for a swap that stops at ready, or at a share.
    pub(crate) fn holds(&self) -> bool {
        let stops = |canary: Option<u16>| canary.is_some_and(|parts| parts < 10_000);
        matches!(self.asked, Some((_, Ask::Swap { unbound, hold, canary, .. })) if unbound || hold || stops(canary))
    }

    pub(crate) fn waits(&self) -> bool {
        self.reply.is_none() && !self.gone
    }
}

impl Unit {
    pub(crate) fn new(place: usize, knobs: Knobs) -> Self {
        let name = UnitName::new(UNITS[place]).unwrap();
        let file = settings(&name, place, knobs, 0);
        Self {
            place,
            name,
            known: true,
            orphaned: false,
            files: vec![(knobs, file)],
            listeners: Vec::new(),
            watched: false,
            binds: VecDeque::new(),
            binds_closed: Vec::new(),
            unlistens: 0,
            intents: VecDeque::new(),
            intents_void: 0,
            intent: None,
            switches: VecDeque::new(),
            switches_void: 0,
            counts: VecDeque::new(),
            retires: VecDeque::new(),
            share: None,
            late: None,
            freed: BTreeSet::new(),
            spare: false,
            traffic: None,
            records: VecDeque::new(),
            disk_since: Tick(0),
            ledger: Durable::fresh(),
            booted: true,
            store: BTreeMap::new(),
            pins: VecDeque::new(),
            unpacks: VecDeque::new(),
            storing: VecDeque::new(),
            staged: BTreeSet::new(),
            trees: BTreeSet::new(),
            held: BTreeSet::new(),
            lent: BTreeMap::new(),
            stored: BTreeMap::new(),
            procs: Vec::new(),
            orphans: Vec::new(),
            outlived: BTreeSet::new(),
            outlasts: Vec::new(),
            jobs: Vec::new(),
            last_job: None,
            offs: 0,
            ons: 0,
        }
    }

    /// The file on disk, and its number.
    pub(crate) fn file(&self) -> (usize, &Arc<Settings>) {
        let last = self.files.len() - 1;
        (last, &self.files[last].1)
    }

    pub(crate) fn edit(&mut self, knobs: Knobs) {
        let file = settings(&self.name, self.place, knobs, self.files.len());
        self.files.push((knobs, file));
    }

    /// The knobs behind these settings.
    pub(crate) fn knobs(&self, settings: &Settings) -> Knobs {
        self.files[crate::knobs::version(settings)].0
    }

    /// Whether this generation has a slot of its own.
    pub(crate) fn is_steered(&self, proc: &Proc) -> bool {
        self.knobs(&proc.launch.settings).steered()
    }

    pub(crate) fn listener(&mut self, address: &Address) -> &mut Listener {
        let found = self.listeners.iter().position(|listener| listener.address == *address);
        let at = found.unwrap_or_else(|| {
            self.listeners.push(Listener {
                address: address.clone(),
                door: Door::Closed,
                queue: 0,
                slots: BTreeMap::new(),
                served: BTreeMap::new(),
                refused: 0,
            });
            self.listeners.len() - 1
        });
        &mut self.listeners[at]
    }

    pub(crate) fn door(&self, address: &Address) -> Door {
        self.listeners
            .iter()
            .find(|listener| listener.address == *address)
            .map_or(Door::Closed, |listener| listener.door)
    }

    /// Whether every listener of these settings is in this state.
    pub(crate) fn doors_are(&self, settings: &Settings, door: Door) -> bool {
        settings.sockets.iter().all(|socket| self.door(&socket.address) == door)
    }

    pub(crate) fn proc(&self, id: WorkerId) -> Option<&Proc> {
        self.procs.iter().find(|proc| proc.id == id)
    }

    pub(crate) fn proc_mut(&mut self, id: WorkerId) -> Option<&mut Proc> {
        self.procs.iter_mut().find(|proc| proc.id == id)
    }

    /// Whom a scenario means.
    pub(crate) fn find(&self, worker: WorkerRef) -> Option<WorkerId> {
        let generation = Generation(worker.generation);
        let mut same = self
            .procs
            .iter()
            .rev()
            .filter(|proc| proc.generation() == generation && proc.index == worker.index);
        same.nth(worker.back).map(|proc| proc.id)
    }

    /// How a scenario names this one.
    pub(crate) fn name_of(&self, id: WorkerId) -> Option<WorkerRef> {
        let at = self.procs.iter().position(|proc| proc.id == id)?;
        let (generation, index) = (self.procs[at].generation(), self.procs[at].index);
        let later = self.procs[at + 1..].iter();
        let back = later.filter(|proc| proc.generation() == generation && proc.index == index).count();
        Some(WorkerRef { unit: self.place, generation: generation.0, index, back })
    }

    /// Processes whose end the machine has not heard of.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Proc> {
        self.procs.iter().filter(|proc| proc.told_end.is_none())
    }

    /// Whether the copy of its program is yet to be made.
    pub(crate) fn is_copied(&self, generation: Generation) -> bool {
        self.pins.iter().any(|launch| launch.generation == generation)
    }

    pub(crate) fn live_of(&self, generation: Generation) -> impl Iterator<Item = &Proc> {
        self.live().filter(move |proc| proc.generation() == generation)
    }

    /// Workers of this generation that the machine may count on: ready, and told nothing else.
    pub(crate) fn ready_of(&self, generation: Generation) -> impl Iterator<Item = &Proc> {
        self.live_of(generation).filter(|proc| proc.is_ready())
    }

    /// Whether all workers of this generation are ready and settled, as far as anybody can know.
    pub(crate) fn complete(&self, generation: Generation, now: Tick) -> bool {
        let mut count = 0;
        let mut wanted = u32::MAX;
        for proc in self.ready_of(generation) {
            wanted = proc.launch.settings.service.workers;
            count += u32::from(proc.has_settled(now));
        }
        count >= wanted
    }

    /// Whether it serves as well as it ever will: some are ready, and the others are gone for good.
    pub(crate) fn serves_as_ever(&self, generation: Generation) -> bool {
        let of = || self.procs.iter().rev().filter(|proc| proc.generation() == generation);
        let wanted = of().next().map_or(0, |proc| proc.launch.settings.service.workers);
        let stays = |index: u32| {
            let last = of().find(|proc| proc.index == index);
            last.is_some_and(|last| {
                let gone = last.is_over() && last.launch.settings.service.restart != Restart::Always;
                last.is_ready() || gone
            })
        };
        of().any(Proc::is_ready) && (0..wanted).all(stays)
    }

    /// Every generation that has processes, oldest first.
    pub(crate) fn generations(&self) -> Vec<Generation> {
        let mut all: Vec<_> = self.live().map(Proc::generation).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether anything that was asked of the world is still to be answered.
    pub(crate) fn busy(&self) -> bool {
        !self.binds.is_empty()
            || self.unlistens > 0
            || !self.intents.is_empty()
            || !self.switches.is_empty()
            || !self.records.is_empty()
            || !self.pins.is_empty()
            || !self.counts.is_empty()
            || !self.retires.is_empty()
            || !self.unpacks.is_empty()
            || !self.storing.is_empty()
            || !self.jobs.is_empty()
    }

    /// Whether somebody may wait in the slot that this generation has given back.
    pub(crate) fn may_wait_for(&self, generation: Generation) -> bool {
        let led = self.traffic == Some(generation)
            || self.share.is_some_and(|(_, candidate, _)| candidate == generation);
        let proc = self.procs.iter().find(|proc| proc.generation() == generation);
        let open =
            |proc: &Proc| self.is_steered(proc) && self.doors_are(&proc.launch.settings, Door::Listening);
        !led && proc.is_some_and(open)
    }

    /// What the ledger will say once everything under way is written.
    pub(crate) fn ledger_soon(&self) -> &Durable {
        self.records.back().map_or(&self.ledger, |in_flight| &in_flight.record.durable)
    }
}

impl fmt::Debug for Proc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.told_end.is_some() { ", its end is known" } else { "" };
        let swept = if self.told_swept { ", swept" } else { "" };
        write!(f, "worker {} = {}.{} ({:?}{end}{swept})", self.id, self.generation(), self.index, self.life)
    }
}

impl Proc {
    pub(crate) fn new(id: WorkerId, index: u32, launch: Arc<Launch>, now: Tick) -> Self {
        let period = launch.settings.service.watchdog;
        let posts = !launch.settings.service.exec_start_post.is_empty();
        Self {
            id,
            index,
            launch,
            born: now,
            life: Life::Launching,
            acted: false,
            told_spawned: false,
            told_end: None,
            told_swept: false,
            waits: false,
            told_ready: None,
            posts,
            told_stopping: false,
            reloading: false,
            halted: false,
            signalled: false,
            killed: false,
            told_by_person: false,
            fed: now,
            period,
            triggered: false,
            leftovers: false,
            sweep_asked: false,
            doomed: false,
        }
    }

    /// The machine has heard what makes it ready.
    pub(crate) fn became_ready(&mut self, now: Tick) {
        if self.told_ready.is_none() {
            (self.told_ready, self.fed) = (Some(now), now);
        }
    }

    /// Whether its watchdog has cause to fire.
    pub(crate) fn is_silent(&self, now: Tick) -> bool {
        self.triggered || self.period.is_some_and(|period| self.fed.after(period) <= now)
    }

    pub(crate) fn generation(&self) -> Generation {
        self.launch.generation
    }

    /// A process is there.
    pub(crate) fn runs(&self) -> bool {
        match self.life {
            Life::Launching | Life::Running => true,
            Life::Dead(_) | Life::Unlaunched => false,
        }
    }

    /// Nothing of it is left that supd would look after; with KillMode=process the rest is not.
    pub(crate) fn is_over(&self) -> bool {
        let alone = self.launch.settings.service.kill_mode == KillMode::Process && !self.sweep_asked;
        self.told_end.is_some() && (self.life == Life::Unlaunched || self.told_swept || alone)
    }

    /// It has lived on for as long as `ReadySettleSec` wants.
    pub(crate) fn has_settled(&self, now: Tick) -> bool {
        let span = self.launch.settings.service.ready_settle;
        self.told_ready.is_some_and(|since| since.after(span) <= now)
    }

    /// The machine may count on it.
    pub(crate) fn is_ready(&self) -> bool {
        self.told_ready.is_some()
            && self.told_end.is_none()
            && !self.posts
            && !self.halted
            && !self.signalled
            && !self.told_stopping
            && !self.triggered
    }

    /// It takes connections from the queue.
    pub(crate) fn accepts(&self) -> bool {
        let leaves = self.signalled || self.told_by_person || self.told_stopping;
        self.life == Life::Running && self.told_ready.is_some() && !leaves
    }
}

/// The numbers of what the ledger names.
pub(crate) fn number(kept: Option<&Kept>) -> Option<Generation> {
    kept.map(|kept| kept.generation)
}
