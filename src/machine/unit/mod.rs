//! One unit: its life, its generations, and the swap that is under way.
//!
//! Each event is handled where its subject lives; after it, `settle` does what has become due by
//! it, and `check` looks whether the bookkeeping still agrees with itself.
//!
//! | file | subject |
//! |---|---|
//! | `restore`, `adopt` | what boot finds; workers that have outlived their supd |
//! | `handover`, `carry` | whether the next image of supd could go on with it as it is; a swap that goes over |
//! | `ask`, `rollback`, `reload`, `refresh` | what people ask |
//! | `hear` | what workers do and say |
//! | `hold` | supd has crashed too often by its own fault |
//! | `plot/` | the moves of a swap |
//! | `releases`, `install`, `rehearse` | which there are; one on its way in; what a request would do |
//! | `life`, `stop`, `part` | on demand, blocked, stopping, stopped; what a stop or supd's end cuts short |
//! | `standby`, `retire` | a generation that receives nothing: it stands by, or is let go |
//! | `traffic` | what a load balancer is told where nobody serves for a moment |
//! | `stored` | what workers gave into the descriptor store: who gets it, until when |
//! | `rescue` | one that ended while clients waited in its slot |
//! | `ledger`, `untold` | what is on its way to the disk; an end that a later record hides |
//! | `clients` | who waits for an answer |
//! | `alarm` | what a person must know of: ExecOnFailure |
//! | `settle`, `check`, `view` | what has become due; what must hold; what people see |

mod adopt;
mod alarm;
mod ask;
mod carry;
mod check;
mod clients;
pub(super) mod handover;
mod hear;
mod hold;
pub(super) mod install;
mod ledger;
mod life;
mod part;
mod plot;
mod refresh;
mod rehearse;
mod releases;
mod reload;
mod rescue;
mod restore;
mod retire;
mod rollback;
mod settle;
mod standby;
mod stop;
mod stored;
mod traffic;
mod untold;
mod view;

use super::effect::{Action, Launch, Level};
use super::event::Event;
use super::group::Group;
use super::swap::Swap;
use super::swap::table::SwapCueKind;
use super::turn::Turn;
use super::worker::Cue;
use crate::model::settings::Socket;
use crate::model::{
    ClientId, Durable, Few, Generation, JobId, Label, RecordId, Reply, Settings, SwapId, Tick, UnitName,
    WorkerId, status::SwapStatus,
};
use alarm::Alarm;
use clients::{Drain, Waiter};
use ledger::Unsaved;
use part::Parting;
use refresh::Refreshing;
use reload::Reloading;
use rescue::Ended;
pub(super) use restore::restore;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stop::{CutEnd, StopStage, Stopping};
use traffic::Diversion;
use untold::Untold;

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
    groups: Few<Generation, Group>,
    /// Those of which nothing is left but, maybe, clients that wait.
    ended: Few<Generation, Ended>,
    /// How to launch what the ledger names.
    recipes: Few<Generation, Arc<Launch>>,
    /// Generations whose programs are being copied.
    copying: BTreeSet<Generation>,
    swap: Option<Box<Swap>>,
    last_swap: Option<SwapStatus>,
    /// Who is active although new connections may still be led to another: supd has just come up.
    unled: Option<Generation>,
    /// The active generation, as long as it was never ready: nothing to go back to.
    unproven: Option<Generation>,
    waiters: Vec<Waiter>,
    /// A swap that begins once the running one is undone.
    next: Option<Box<(super::swap::Plan, Option<Waiter>)>>,
    /// Where the traffic is not simply on.
    diversion: Option<Box<Diversion>>,
    /// Who served is to be launched again, for what was to take its place has failed.
    again: Option<Box<plot::Again>>,
    reloading: Option<Box<Reloading>>,
    /// A daemon-reload that waits for its listeners.
    refreshing: Option<Refreshing>,
    /// What the hands were told last: which listeners listen, which are bound, what is stored.
    listening: Vec<Arc<Settings>>,
    /// New connections are held off there.
    held_off: bool,
    bound: Vec<Arc<Socket>>,
    stored: BTreeSet<Generation>,
    /// Those of whose workers something may be in the descriptor store.
    storing: BTreeSet<Generation>,
    /// What the last record of an earlier life names, until one of this life is on disk.
    on_disk: BTreeSet<Generation>,
    /// The last record, unless it is on disk: until then a crash goes back to an earlier one.
    unsaved: Option<Unsaved>,
    /// What records said that did not get through before a later one did.
    untold: Vec<Untold>,
    /// What a stop cut short.
    cut_end: Option<Box<CutEnd>>,
    /// Who is to hear of the swap that a stop or supd's own end cuts short, once the ledger has its end.
    parting: Option<Box<Parting>>,
    /// Whom an intent of an earlier supd, or of a swap that was cut short, names, while the ledger
    /// does not bear it out.
    intent_left: Option<Generation>,
    /// A release on its way in, and one on its way out.
    install: Option<install::Install>,
    /// How the last install failed, until something else is begun: who joins late hears it.
    install_failure: Option<Box<Reply>>,
    undeploying: Option<releases::Undeploying>,
    /// The releases whose files are in place.
    trees: BTreeSet<Label>,
    /// A generation that stood by and has failed, and how: a rollback that is refused names it.
    fallen: Option<Box<(Generation, String)>>,
    /// How often in a row the listeners could not be bound.
    bind_failures: u32,
    quarantine: Option<String>,
    /// supd has crashed too often by its own fault: why it begins nothing.
    holding: Option<Arc<str>>,
    /// What its file says is to be launched once supd holds no longer.
    held_start: bool,
    /// ExecOnFailure runs.
    alarm: Option<Box<Alarm>>,
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
            self.forget_alarm(start, turn);
            turn.out.truncate(start);
            turn.act(Action::Dump(format!("{broken}\n{self:#?}")));
            turn.note(Level::Error, None, format!("{broken}: in quarantine; it goes on serving"));
            self.alarm_quarantine(&broken, turn);
            self.quarantine = Some(broken);
        }
    }

    fn refuse_everything(&mut self, event: &Event, turn: &mut Turn<'_>) {
        if let (Event::Asked { client, .. }, Some(broken)) = (event, &self.quarantine) {
            let text =
                format!("is in quarantine ({broken}): it goes on serving, supd decides nothing for it");
            turn.act(Action::Reply(*client, Reply::refused(text, None)));
        } else if let Event::Finished { job, result } = event {
            let _its = self.alarm_finished(*job, result, turn);
        } else if let Event::Clock = event {
            self.alarm_due(turn);
        }
    }

    fn handle(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::Asked { client, request } => self.asked(client, request, turn),
            Event::HungUp { client } => self.hung_up(client),
            Event::Bound { job, steered } => self.bound(job, Ok(steered), turn),
            Event::BindFailed { job, reason } => self.bound(job, Err(reason), turn),
            Event::Unlistened => self.unlistened(turn),
            Event::Knocked => self.knocked(turn),
            Event::IntentSaved { swap_id } if self.is_about(swap_id) => {
                self.swap_cue(SwapCueKind::IntentSaved, "", turn);
            }
            Event::IntentFailed { swap_id, reason } if self.is_about(swap_id) => {
                self.swap_cue(SwapCueKind::IntentFailed, &reason, turn);
            }
            Event::Switched { swap_id, took } if self.is_about(swap_id) => {
                self.switched(took);
                self.swap_cue(SwapCueKind::Switched, "", turn);
            }
            Event::SwitchFailed { swap_id, reason } if self.is_about(swap_id) => {
                self.swap_cue(SwapCueKind::SwitchFailed, &reason, turn);
            }
            Event::ShareFailed { swap_id, reason } if self.is_about(swap_id) => {
                self.share_failed(&reason, turn);
            }
            Event::IntentSaved { .. }
            | Event::IntentFailed { .. }
            | Event::Switched { .. }
            | Event::SwitchFailed { .. }
            | Event::ShareFailed { .. } => {}
            Event::Stalled { generation, reason } => self.stalled(generation, &reason, turn),
            Event::Counted { generation, counts, queues } => self.counted(generation, counts, queues, turn),
            Event::Retired { generation, queued } => self.retired(generation, queued, turn),
            Event::Recorded { record } => self.recorded(record, None, turn),
            Event::RecordFailed { record, reason } => self.recorded(record, Some(&reason), turn),
            Event::Spawned { worker } => self.spawned(worker, turn),
            Event::SpawnFailed { worker, reason } => self.worker_cue(worker, &Cue::SpawnFailed(reason), turn),
            Event::Exited { worker, exit } => self.worker_cue(worker, &Cue::Exited(exit), turn),
            Event::Swept { worker } => self.worker_cue(worker, &Cue::Swept, turn),
            Event::BindWaits { worker } => self.bind_waits(worker, turn),
            Event::Listens { worker } => self.worker_cue(worker, &Cue::Listening, turn),
            Event::Noticed { worker, notice } => self.noticed(worker, notice, turn),
            Event::Finished { job, result } => self.finished(job, result, turn),
            Event::Unpacked { job, result } => self.unpacked(job, result, turn),
            Event::Looked { trees } => self.looked(&trees),
            Event::Pinned { generation, pinned } => self.pinned(generation, pinned, turn),
            Event::Clock => self.clock(turn),
        }
    }

    fn switched(&mut self, took: Duration) {
        if let Some(swap) = &mut self.swap {
            swap.switch = Some(took);
        }
    }

    fn is_about(&self, swap_id: SwapId) -> bool {
        self.swap.as_ref().is_some_and(|swap| swap.id == swap_id)
    }

    /// When [`Event::Clock`] is due.
    pub(super) fn deadline(&self) -> Option<Tick> {
        if self.quarantine.is_some() {
            return self.alarm_deadline();
        }
        let swap = self.swap.as_ref().and_then(|swap| swap.step.deadline());
        let groups = self.groups.values().filter_map(Group::deadline);
        let install = self.install.as_ref().and_then(install::Install::deadline);
        groups
            .chain(swap)
            .chain(install)
            .chain(self.life_deadline())
            .chain(self.ledger_deadline())
            .chain(self.slow_deadline())
            .chain(self.ended_deadline())
            .chain(self.traffic_deadline())
            .chain(self.alarm_deadline())
            .min()
    }

    fn clock(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let due = |deadline: Option<Tick>| deadline.is_some_and(|deadline| deadline <= now);
        if due(self.life_deadline()) {
            self.life_due(turn);
        }
        if due(self.install.as_ref().and_then(install::Install::deadline)) {
            self.install_due(turn);
        }
        // Facts about workers come before what is decided by them: who is ready, or silent, at the
        // very end of a step's time is so in time.
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
        self.roles_due(turn);
        self.ended_due(turn);
        if due(self.swap.as_ref().and_then(|swap| swap.step.deadline())) {
            self.swap_cue(SwapCueKind::Due, "", turn);
        }
        if due(self.traffic_deadline()) {
            self.traffic_due(turn);
        }
        if due(self.ledger_deadline()) {
            self.send_again(turn);
        }
        if due(self.slow_deadline()) {
            self.say_slow(turn);
        }
        self.alarm_due(turn);
    }
}
