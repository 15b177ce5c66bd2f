//! One unit: its life, its generations, and the swap that is under way.
//!
//! Each event is handled where its subject lives; after it, `settle` does what has become due by
//! it, and `check` looks whether the bookkeeping still agrees with itself.

mod ask;
mod check;
mod life;
mod plot;
mod restore;
mod settle;
mod view;

use super::effect::{Action, Launch, Level};
use super::event::Event;
use super::group::Group;
use super::swap::table::SwapCueKind;
use super::swap::{Step, Swap, Try};
use super::turn::Turn;
use super::worker::{Cue, Told};
use crate::model::settings::Socket;
use crate::model::{
    ClientId, Durable, Ended, Generation, Happening, JobId, Notice, Progress, RecordId, Reply, Settings,
    SwapId, Tick, UnitName, WaitFor, WorkerId, status::SwapStatus,
};
pub(super) use restore::restore;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the unit is doing as a whole.
#[derive(Debug, Clone)]
enum Life {
    /// Nothing runs.
    Stopped { keep_listening: bool },
    /// On demand: the listeners are being bound.
    Arming { job: JobId, clients: Vec<ClientId> },
    /// On demand: bound; the first connection launches it. The record may be on its way.
    /// With an `origin` it is what served before that is launched again, whatever the file says.
    Waiting { record: Option<RecordId>, clients: Vec<ClientId>, origin: Option<Generation> },
    /// The listeners cannot be bound; tried again then, with the recipe of `origin` where supd
    /// alone was started again, else with the file as it is.
    Blocked { until: Tick, reason: String, origin: Option<Generation> },
    /// It serves, or is about to, or tries to.
    Up,
    /// On its way to stopped.
    Stopping(Stopping),
}

/// How far a stop is.
#[derive(Debug, Clone)]
struct Stopping {
    stage: StopStage,
    clients: Vec<ClientId>,
    /// supd itself is ending: what the unit should do is not changed by that.
    shutdown: bool,
    /// A person asked for it, whether still connected or not: that is for the ledger.
    by_person: bool,
    keep_listening: bool,
    /// Workers that are left then are killed.
    kill: Option<Tick>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopStage {
    /// New connections are refused, queued ones still served.
    Unlistening { until: Tick },
    /// The workers are on their way out.
    Ending,
    /// It is on its way into the ledger.
    Recording { record: RecordId },
}

/// A client that waits for a swap to get somewhere.
#[derive(Debug, Clone, Copy)]
struct Waiter {
    client: ClientId,
    wait: WaitFor,
    /// The swap is over; this one waits for the end of a generation.
    drained: Option<Drain>,
}

/// The end of a generation, and which swap it is the end of.
#[derive(Debug, Clone, Copy)]
struct Drain {
    of: Generation,
    swap_id: Option<SwapId>,
    to: Option<Generation>,
}

/// A daemon-reload whose new listeners are being bound: until they are, the old file counts.
#[derive(Debug, Clone)]
struct Refreshing {
    job: JobId,
    client: Option<ClientId>,
    settings: Arc<Settings>,
}

/// The last record, on its way or to be tried again.
#[derive(Debug, Clone)]
struct Unsaved {
    happening: Happening,
    client: Option<ClientId>,
    save: Try,
}

impl Unsaved {
    /// Whether it says that this swap began.
    fn began(&self, swap: SwapId) -> bool {
        matches!(self.happening, Happening::Began { swap_id, .. } if swap_id == swap)
    }
}

/// A reload under way.
#[derive(Debug, Clone)]
struct Reloading {
    client: Option<ClientId>,
    waiting: BTreeSet<WorkerId>,
    remarks: BTreeSet<String>,
    failures: BTreeSet<String>,
}

/// One unit.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    name: UnitName,
    /// The file as it was read last.
    settings: Arc<Settings>,
    /// The file is gone: once stopped, the unit is forgotten.
    orphaned: bool,
    durable: Durable,
    life: Life,
    groups: BTreeMap<Generation, Group>,
    /// How to launch what the ledger names.
    recipes: BTreeMap<Generation, Arc<Launch>>,
    swap: Option<Swap>,
    last_swap: Option<SwapStatus>,
    /// The active generation, as long as it was never ready: nothing to go back to.
    unproven: Option<Generation>,
    waiters: Vec<Waiter>,
    /// A swap that begins once the running one is undone.
    next: Option<(super::swap::Plan, Option<Waiter>)>,
    reloading: Option<Reloading>,
    /// A daemon-reload that waits for its listeners.
    refreshing: Option<Refreshing>,
    /// What the hands were told last: which listeners listen, which are bound, what is stored.
    listening: Vec<Arc<Settings>>,
    bound: Vec<Socket>,
    stored: BTreeSet<Generation>,
    /// What the last record of an earlier life names, until one of this life is on disk.
    on_disk: BTreeSet<Generation>,
    /// The last record, unless it is on disk: until then a crash goes back to an earlier one.
    unsaved: Option<Unsaved>,
    /// Whom an intent of an earlier supd, or of a swap that was cut short, names, while the ledger
    /// does not bear it out.
    intent_left: Option<Generation>,
    /// How often in a row the listeners could not be bound.
    bind_failures: u32,
    quarantine: Option<String>,
}

impl Life {
    /// Nothing runs, nothing is bound.
    const STOPPED: Self = Self::Stopped { keep_listening: false };
}

impl Unit {
    /// Takes one event. The only way anything about the unit changes.
    pub(super) fn step(&mut self, event: Event, turn: &mut Turn<'_>) {
        if self.quarantine.is_some() {
            self.refuse_everything(&event, turn);
            return;
        }
        let start = turn.out.len();
        self.handle(event, turn);
        self.settle(start, turn);
        if let Err(broken) = self.check(turn) {
            turn.out.truncate(start);
            turn.act(Action::Dump(format!("{broken}\n{self:#?}")));
            turn.note(Level::Error, None, format!("{broken}: in quarantine; it goes on serving"));
            self.quarantine = Some(broken);
        }
    }

    fn refuse_everything(&self, event: &Event, turn: &mut Turn<'_>) {
        if let (Event::Asked { client, .. }, Some(broken)) = (event, &self.quarantine) {
            let text =
                format!("is in quarantine ({broken}): it goes on serving, supd decides nothing for it");
            turn.act(Action::Reply(*client, Reply::refused(text, None)));
        }
    }

    fn handle(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::Asked { client, request } => self.asked(client, request, turn),
            Event::HungUp { client } => self.hung_up(client),
            Event::Bound { job } => self.bound(job, None, turn),
            Event::BindFailed { job, reason } => self.bound(job, Some(reason), turn),
            Event::Unlistened => self.unlistened(turn),
            Event::Knocked => self.knocked(turn),
            Event::IntentSaved { swap_id } if self.is_about(swap_id) => {
                self.swap_cue(SwapCueKind::IntentSaved, "", turn);
            }
            Event::IntentFailed { swap_id, reason } if self.is_about(swap_id) => {
                self.swap_cue(SwapCueKind::IntentFailed, &reason, turn);
            }
            Event::Switched { swap_id } if self.is_about(swap_id) => {
                self.swap_cue(SwapCueKind::Switched, "", turn);
            }
            Event::SwitchFailed { swap_id, reason } if self.is_about(swap_id) => {
                self.swap_cue(SwapCueKind::SwitchFailed, &reason, turn);
            }
            Event::IntentSaved { .. }
            | Event::IntentFailed { .. }
            | Event::Switched { .. }
            | Event::SwitchFailed { .. } => {}
            Event::Recorded { record } => self.recorded(record, None, turn),
            Event::RecordFailed { record, reason } => self.recorded(record, Some(&reason), turn),
            Event::Spawned { worker } => self.spawned(worker, turn),
            Event::SpawnFailed { worker, reason } => self.worker_cue(worker, &Cue::SpawnFailed(reason), turn),
            Event::Exited { worker, exit } => self.worker_cue(worker, &Cue::Exited(exit), turn),
            Event::Swept { worker } => self.worker_cue(worker, &Cue::Swept, turn),
            Event::Noticed { worker, notice } => self.noticed(worker, notice, turn),
            Event::Finished { job, result } => self.finished(job, result, turn),
            Event::Pinned { generation, pinned } => self.pinned(generation, pinned, turn),
            Event::Clock => self.clock(turn),
        }
    }

    fn is_about(&self, swap_id: SwapId) -> bool {
        self.swap.as_ref().is_some_and(|swap| swap.id == swap_id)
    }

    fn hung_up(&mut self, client: ClientId) {
        self.waiters.retain(|waiter| waiter.client != client);
        if let Some(swap) = &mut self.swap {
            swap.undoers.retain(|undoer| *undoer != client);
        }
        if let Some((_, waiter)) = &mut self.next {
            *waiter = waiter.filter(|waiter| waiter.client != client);
        }
        if let Some(refreshing) = &mut self.refreshing {
            refreshing.client = refreshing.client.filter(|asker| *asker != client);
        }
        if let Some(reloading) = &mut self.reloading {
            reloading.client = reloading.client.filter(|asker| *asker != client);
        }
        match &mut self.life {
            Life::Arming { clients, .. } | Life::Waiting { clients, .. } => {
                clients.retain(|one| *one != client);
            }
            Life::Stopping(stopping) => stopping.clients.retain(|one| *one != client),
            Life::Stopped { .. } | Life::Blocked { .. } | Life::Up => {}
        }
    }

    // Workers.

    fn find(&self, worker: WorkerId) -> Option<(Generation, usize)> {
        self.groups.iter().find_map(|(generation, group)| Some((*generation, group.worker(worker)?)))
    }

    fn worker_cue(&mut self, worker: WorkerId, cue: &Cue, turn: &mut Turn<'_>) {
        match self.find(worker) {
            Some((generation, index)) => self.group_cue(generation, index, cue, turn),
            None => turn.note(Level::Debug, None, format!("stale event of worker run {worker}: {cue:?}")),
        }
    }

    fn group_cue(&mut self, generation: Generation, index: usize, cue: &Cue, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get_mut(&generation) else { return };
        let told = group.cue(index, cue, turn);
        self.heard(generation, told, turn);
    }

    fn spawned(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        if let Some(group) = self.find(worker).and_then(|(generation, _)| self.groups.get_mut(&generation)) {
            group.pin(turn);
        }
        self.worker_cue(worker, &Cue::Spawned, turn);
    }

    fn noticed(&mut self, worker: WorkerId, notice: Notice, turn: &mut Turn<'_>) {
        let cue = match notice {
            Notice::Ready => Cue::Ready,
            Notice::Reloading { monotonic_usec } => Cue::Reloading { monotonic_usec },
            Notice::Stopping => Cue::Stopping,
            Notice::Watchdog => Cue::Alive,
            Notice::WatchdogTrigger => Cue::Trigger,
            Notice::WatchdogPeriod(period) => Cue::Period(period),
            Notice::ExtendTimeout(span) => Cue::Extend(span),
            Notice::Status(text) => return self.says(worker, text),
            Notice::Errno(errno) => return self.note_said(worker, &format!("ERRNO={errno}"), turn),
            Notice::Error(error) => return self.note_said(worker, &error, turn),
            Notice::ExitStatus(code) => {
                return self.note_said(worker, &format!("EXIT_STATUS={code}"), turn);
            }
            // The hands follow the main process and heed the access; nothing is decided here.
            Notice::MainPid(_) | Notice::NotifyAccess(_) => return,
        };
        self.worker_cue(worker, &cue, turn);
    }

    fn says(&mut self, worker: WorkerId, text: String) {
        let Some((generation, index)) = self.find(worker) else { return };
        let group = self.groups.get_mut(&generation);
        if let Some(worker) = group.and_then(|group| group.workers.get_mut(index)) {
            worker.status_text = text;
        }
    }

    fn note_said(&self, worker: WorkerId, text: &str, turn: &mut Turn<'_>) {
        if let Some((generation, index)) = self.find(worker) {
            turn.note(Level::Info, Some(generation), format!("worker {index} says {text}"));
        }
    }

    /// Hears what the workers of a generation tell.
    fn heard(&mut self, generation: Generation, told: Vec<(usize, Told)>, turn: &mut Turn<'_>) {
        for (index, told) in told {
            match told {
                Told::Ready => self.heard_ready(generation, index, turn),
                Told::Failed(cause) => self.heard_failed(generation, index, &cause, turn),
                Told::Reloaded(outcome) => self.heard_reloaded(generation, index, outcome, turn),
            }
        }
    }

    fn heard_ready(&mut self, generation: Generation, index: usize, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get(&generation) else { return };
        let (serves, ready, workers) = (group.serves(), group.ready(), group.launch.settings.service.workers);
        let after = turn.now.since(group.launched);
        self.unproven = self.unproven.filter(|unproven| !serves || *unproven != generation);
        turn.note(Level::Info, Some(generation), format!("worker {index} is ready"));
        let Some(swap) = &self.swap else { return };
        let (from, to) = (swap.from, swap.to);
        if to == generation {
            self.progress(&Progress::Ready { generation, ready, workers, after }, turn);
        }
        if serves && to == generation {
            self.swap_cue(SwapCueKind::Ready, "", turn);
        } else if serves && from == Some(generation) {
            self.swap_cue(SwapCueKind::BackReady, "", turn);
        }
    }

    fn heard_failed(&mut self, generation: Generation, index: usize, cause: &str, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get(&generation) else { return };
        let Some(worker) = group.workers.get(index) else { return };
        let (run, lived) = (worker.id, turn.now.since(worker.born));
        if let Some(swap) = self.swap.as_mut().filter(|swap| swap.to == generation) {
            swap.ended.get_or_insert(Ended { generation, exit: worker.exit(), lived });
        }
        turn.note(
            Level::Warning,
            Some(generation),
            format!("worker {index} {cause}, {lived:?} after its launch"),
        );
        self.reload_done(run, Err(cause.to_owned()), turn);
        if self.swap.as_ref().is_some_and(|swap| swap.to == generation) {
            let detail = format!("generation {generation}: worker {index} {cause}");
            self.swap_cue(SwapCueKind::Failed, &detail, turn);
        }
    }

    fn heard_reloaded(
        &mut self,
        generation: Generation,
        index: usize,
        outcome: Result<String, String>,
        turn: &mut Turn<'_>,
    ) {
        let run =
            self.groups.get(&generation).and_then(|group| group.workers.get(index)).map(|worker| worker.id);
        if let Err(why) = &outcome {
            // Also where nobody asked, and so nobody is answered.
            let text = format!("worker {index} did not reload: {why}");
            turn.note(Level::Warning, Some(generation), text);
        }
        if let Some(run) = run {
            self.reload_done(run, outcome, turn);
        }
    }

    fn finished(&mut self, job: JobId, result: Result<(), String>, turn: &mut Turn<'_>) {
        if matches!(&self.swap, Some(Swap { step: Step::Checking { job: asked, .. }, .. }) if *asked == job) {
            match result {
                Ok(()) => self.swap_cue(SwapCueKind::Passed, "", turn),
                Err(reason) => {
                    self.swap_cue(SwapCueKind::Unpassed, &format!("CheckCommand failed: {reason}"), turn);
                }
            }
            return;
        }
        let found =
            self.groups.iter().find_map(|(generation, group)| Some((*generation, group.worker_of_job(job)?)));
        let Some((generation, index)) = found else { return };
        let cue = result.map_or_else(Cue::Failed, |()| Cue::Passed);
        self.group_cue(generation, index, &cue, turn);
    }

    fn pinned(&mut self, generation: Generation, pinned: bool, turn: &mut Turn<'_>) {
        if let Some(group) = self.groups.get_mut(&generation) {
            group.pinned = Some(pinned);
            if pinned {
                let own = Launch { origin: generation, pinned: true, ..Launch::clone(&group.launch) };
                group.relaunch = Arc::new(own);
            }
            self.recipes.insert(generation, group.relaunch.clone());
        }
        let named = [
            &mut self.durable.candidate,
            &mut self.durable.active,
            &mut self.durable.previous,
            &mut self.durable.retained,
            &mut self.durable.forward,
        ];
        let mut changed = false;
        for kept in named.into_iter().flatten().filter(|kept| kept.generation == generation) {
            changed |= kept.pinned != pinned;
            kept.pinned = pinned;
        }
        if changed {
            let happening = Happening::Pinned { generation, pinned };
            self.record(happening, None, turn);
        }
    }

    // Time.

    /// When [`Event::Clock`] is due.
    pub(super) fn deadline(&self) -> Option<Tick> {
        if self.quarantine.is_some() {
            return None;
        }
        let swap = self.swap.as_ref().and_then(|swap| swap.step.deadline());
        let groups = self.groups.values().filter_map(Group::deadline);
        groups.chain(swap).chain(self.life_deadline()).chain(self.ledger_deadline()).min()
    }

    fn clock(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let due = |deadline: Option<Tick>| deadline.is_some_and(|deadline| deadline <= now);
        if due(self.life_deadline()) {
            self.life_due(turn);
        }
        if due(self.swap.as_ref().and_then(|swap| swap.step.deadline())) {
            self.swap_cue(SwapCueKind::Due, "", turn);
        }
        let workers: Vec<WorkerId> = self
            .groups
            .values()
            .flat_map(|group| &group.workers)
            .filter(|worker| due(worker.phase.deadline()))
            .map(|worker| worker.id)
            .collect();
        for worker in workers {
            self.worker_cue(worker, &Cue::Due, turn);
        }
        if due(self.ledger_deadline()) {
            if let Some(unsaved) = self.unsaved.take() {
                self.send(unsaved, turn);
            }
        }
    }

    // The ledger.

    /// Sends the durable state and what happened on its way to the disk.
    fn record(&mut self, happening: Happening, client: Option<ClientId>, turn: &mut Turn<'_>) -> RecordId {
        let save = Try::default();
        self.send(Unsaved { happening, client, save }, turn)
    }

    fn send(&mut self, unsaved: Unsaved, turn: &mut Turn<'_>) -> RecordId {
        let Unsaved { happening, client, save } = unsaved;
        let id = turn.record();
        let (unit, durable) = (self.name.clone(), self.durable.clone());
        let record = crate::model::Record { unit, durable, happening: happening.clone() };
        turn.act(Action::Record { id, record, client });
        self.unsaved = Some(Unsaved { happening, client, save: save.sent(id) });
        id
    }

    /// When a record that failed, and that nobody waits for any more, is tried again: the ledger
    /// must come to say what is.
    fn ledger_deadline(&self) -> Option<Tick> {
        let sent_again_by_swap = match self.swap.as_ref().map(|swap| swap.step) {
            Some(Step::Noting { .. } | Step::Committing { .. } | Step::TurnNoting { .. }) => true,
            Some(_) | None => false,
        };
        if sent_again_by_swap {
            return None;
        }
        self.unsaved.as_ref().and_then(|unsaved| unsaved.save.again)
    }

    fn note_outcome(&mut self, record: RecordId, failed: bool, now: Tick) {
        let Some(unsaved) = &mut self.unsaved else { return };
        if unsaved.save.record != Some(record) {
            return;
        }
        if failed {
            unsaved.save = unsaved.save.failed(now);
        } else {
            self.unsaved = None;
            self.intent_left = None;
            self.on_disk.clear();
        }
    }

    fn recorded(&mut self, record: RecordId, failure: Option<&str>, turn: &mut Turn<'_>) {
        if let Some(reason) = failure {
            turn.note(Level::Error, None, format!("ledger: {reason}"));
        }
        self.note_outcome(record, failure.is_some(), turn.now);
        if self.swap.as_ref().is_some_and(|swap| swap.step.record() == Some(record)) {
            match failure {
                None => self.swap_cue(SwapCueKind::Recorded, "", turn),
                Some(reason) => self.swap_cue(SwapCueKind::RecordFailed, reason, turn),
            }
            return;
        }
        self.life_recorded(record, failure, turn);
    }

    // Clients.

    fn progress(&self, progress: &Progress, turn: &mut Turn<'_>) {
        for waiter in self.waiters.iter().filter(|waiter| waiter.drained.is_none()) {
            turn.act(Action::Progress(waiter.client, progress.clone()));
        }
    }

    /// Answers those who waited for no more than `reached`.
    fn resolve(&mut self, reached: WaitFor, reply: &Reply, turn: &mut Turn<'_>) {
        self.waiters.retain(|waiter| {
            let waits_on = waiter.drained.is_some() || waiter.wait > reached;
            if !waits_on {
                turn.act(Action::Reply(waiter.client, reply.clone()));
            }
            waits_on
        });
    }

    /// Answers everybody who waits for the swap.
    fn resolve_all(&mut self, reply: &Reply, turn: &mut Turn<'_>) {
        self.resolve(WaitFor::Drained, reply, turn);
    }

    fn reply(&self, client: ClientId, reply: Reply, turn: &mut Turn<'_>) {
        turn.act(Action::Reply(client, reply));
    }
}
