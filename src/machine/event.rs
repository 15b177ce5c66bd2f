//! What reaches the machine: requests of people, facts about processes, outcomes of effects.

use super::drain::Counts;
use super::unit::install::Deploy;
use crate::model::handover::HeldSwap;
use crate::model::kept::KeptGeneration;
use crate::model::ledger::Durable;
use crate::model::release::Content;
use crate::model::settings::Socket;
use crate::model::{
    ClientId, Generation, Intent, JobId, Label, Notice, Queue, RecordId, Settings, Share, Signal, Stops,
    SwapId, UnitName, WaitFor, WorkerExit, WorkerId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// One entry of the inbox.
#[derive(Debug, Clone)]
pub enum Input {
    /// Something about one unit.
    Unit(UnitName, Event),
    /// A unit that is new to the machine: from its file, from the ledger, or from both.
    Add(Box<Restored>),
    /// The unit's file is gone: it serves until it is stopped, then it is forgotten.
    Orphaned(UnitName),
    /// Stop every unit in order, then say [`Quit`](super::Effect::Quit).
    Shutdown {
        /// Whom to answer.
        client: Option<ClientId>,
    },
    /// A person has seen to why supd holds (daemon-reload).
    HoldNoLonger,
    /// A deadline may be over.
    Clock,
}

/// A unit as boot finds it.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Its settings, from the file as it is now.
    pub settings: Arc<Settings>,
    /// The last record of the ledger, or [`Durable::fresh`].
    pub durable: Durable,
    /// The pinned settings of the generations that `durable` names.
    pub launches: BTreeMap<Generation, Arc<Settings>>,
    /// The releases whose files are in place.
    pub trees: BTreeSet<Label>,
    /// An intent that the last supd left in the runtime folder.
    pub intent: Option<Intent>,
    /// Whether the machine booted since the last record, or there is none: what a person stopped
    /// then starts again.
    pub machine_booted: bool,
    /// Whether supd is booting: then what should serve is launched. A unit that becomes known
    /// later waits for its `start`.
    pub supd_booting: bool,
    /// What the hands have got back that the last supd had bound.
    pub bound: Vec<Arc<Socket>>,
    /// Who has outlived the last supd, and can be gone on with.
    pub survived: Option<Survived>,
    /// supd has crashed too often by its own fault: why it holds.
    pub holding: Option<Arc<str>>,
}

/// What of a unit has outlived its supd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survived {
    /// Every generation that has a slot or a worker, with those of its workers that live and were ready.
    pub generations: Vec<KeptGeneration>,
    /// Whether they have a slot of their own at each listener.
    pub steered: bool,
    /// The swap that rested when another image took supd's place.
    pub swap: Option<CarriedSwap>,
}

/// A swap that goes over to the next image of supd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedSwap {
    /// It.
    pub held: HeldSwap,
    /// Who asked for it.
    pub client: Option<ClientId>,
}

/// What a person asks of a unit, after the daemon has checked who it is and has read the files.
#[derive(Debug, Clone)]
pub enum Request {
    /// Begin to serve.
    Start {
        /// The file as it is now.
        settings: Arc<Settings>,
        /// How far to wait.
        wait: WaitFor,
    },
    /// End every generation.
    Stop {
        /// Skip the waits.
        now: bool,
        /// Leave the listeners as they are.
        keep_listening: bool,
    },
    /// A swap to the same release.
    Restart {
        /// The file as it is now.
        settings: Arc<Settings>,
        /// How far to wait.
        wait: WaitFor,
    },
    /// Bring a new generation.
    Swap {
        /// The file as it is now.
        settings: Arc<Settings>,
        /// Its release; `None`: the newest, where there are releases.
        label: Option<Label>,
        /// Even a release that failed, or was rolled back from, is the newest.
        force: bool,
        /// Where to stop on the way.
        stops: Stops,
        /// Abort a running swap first.
        replace: bool,
        /// How far to wait.
        wait: WaitFor,
    },
    /// Make a release of the source that came with the request.
    Install {
        /// The file as it is now.
        settings: Arc<Settings>,
        /// Its name.
        label: Label,
        /// Whether it is swapped to then, and how.
        deploy: Option<Deploy>,
    },
    /// Take a release away.
    Undeploy {
        /// Which.
        label: Label,
    },
    /// Back to what was before.
    Rollback {
        /// To this release; `None`: to what is retained.
        label: Option<Label>,
        /// Only if this generation is active.
        from: Option<Generation>,
        /// Let go of what it leaves, rather than keep it as standby.
        stop: bool,
        /// Even if the program of the retained generation is not pinned.
        anyway: bool,
        /// How far to wait.
        wait: WaitFor,
    },
    /// Give the candidate a share.
    Share {
        /// Of the new connections; zero is a hold, everything a promotion.
        share: Share,
        /// How far to wait.
        wait: WaitFor,
    },
    /// Let a generation go that receives nothing any more.
    Drain {
        /// Which.
        generation: Generation,
    },
    /// The next step of a held swap, or commit in probation.
    Promote {
        /// How far to wait.
        wait: WaitFor,
    },
    /// Undo a swap that is not committed.
    Abort,
    /// Join the running swap.
    Wait {
        /// How far to wait.
        wait: WaitFor,
    },
    /// Tell the workers to read their configuration again.
    Reload,
    /// Send a signal to the active generation's workers.
    Kill {
        /// Which.
        signal: Signal,
    },
    /// daemon-reload: the file says something else now.
    Refresh {
        /// The file as it is now.
        settings: Arc<Settings>,
    },
}

/// What happens to one unit.
#[derive(Debug, Clone)]
pub enum Event {
    /// Somebody asks.
    Asked {
        /// Whom to answer.
        client: ClientId,
        /// What.
        request: Request,
    },
    /// The client is gone: what it asked for goes on, nothing more is said to it.
    HungUp {
        /// Which.
        client: ClientId,
    },
    /// Every listener is bound.
    Bound {
        /// Which [`Bind`](super::Action::Bind) this answers.
        job: JobId,
        /// Each of them can have a slot for every generation; `Err`: the first that cannot, and why.
        steered: Result<(), String>,
    },
    /// At least one is not; of those that this bind would have added none is kept.
    BindFailed {
        /// Which [`Bind`](super::Action::Bind) this answers.
        job: JobId,
        /// Which, why, and what to do.
        reason: String,
    },
    /// Listening has ended and what was queued is served, or its time is over.
    Unlistened,
    /// A connection waits at a watched listener.
    Knocked,
    /// The intent is in the runtime folder.
    IntentSaved {
        /// Whose.
        swap_id: SwapId,
    },
    /// It is not.
    IntentFailed {
        /// Whose.
        swap_id: SwapId,
        /// Why.
        reason: String,
    },
    /// New connections reach the generation that the intent named.
    Switched {
        /// By which swap.
        swap_id: SwapId,
        /// From the intent saved to that, by a clock that was read around it.
        took: Duration,
    },
    /// They do not.
    SwitchFailed {
        /// By which swap.
        swap_id: SwapId,
        /// Why.
        reason: String,
    },
    /// The candidate does not have the share that it should.
    ShareFailed {
        /// By which swap.
        swap_id: SwapId,
        /// Why.
        reason: String,
    },
    /// What reaches a generation waits, and nobody of it accepts.
    Stalled {
        /// Which.
        generation: Generation,
        /// How much, and for how long.
        reason: String,
    },
    /// What clients still have of a generation.
    Counted {
        /// Of which.
        generation: Generation,
        /// How much of it.
        counts: Counts,
        /// And what waits in each of its listeners, for those who look on.
        queues: Vec<Queue>,
    },
    /// Its slots are given back.
    Retired {
        /// Whose.
        generation: Generation,
        /// So many connections wait there still, and nobody will accept them.
        queued: u32,
    },
    /// The record is on disk.
    Recorded {
        /// Which.
        record: RecordId,
    },
    /// It is not.
    RecordFailed {
        /// Which.
        record: RecordId,
        /// Why.
        reason: String,
    },
    /// execve(2) succeeded.
    Spawned {
        /// Which worker.
        worker: WorkerId,
    },
    /// There is no such process: fork or exec failed.
    SpawnFailed {
        /// Which worker.
        worker: WorkerId,
        /// Step, path and errno.
        reason: String,
    },
    /// The worker's main process ended.
    Exited {
        /// Which worker.
        worker: WorkerId,
        /// How.
        exit: WorkerExit,
    },
    /// No process of this worker is left.
    Swept {
        /// Which worker.
        worker: WorkerId,
    },
    /// A bind of the worker is left unanswered, as its generation's are to be.
    BindWaits {
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker has every listener of its unit, and listens there.
    Listens {
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker said something.
    Noticed {
        /// Which worker.
        worker: WorkerId,
        /// What.
        notice: Notice,
    },
    /// Which releases have their files on the disk.
    Looked {
        /// Their labels.
        trees: BTreeSet<Label>,
    },
    /// A source is unpacked, or cannot be.
    Unpacked {
        /// Which.
        job: JobId,
        /// What it contained, or why it is not used.
        result: Result<Content, String>,
    },
    /// A command ended, or a step of an install.
    Finished {
        /// Which.
        job: JobId,
        /// `Err`: why it counts as failed.
        result: Result<(), String>,
    },
    /// The copy of the program is in place, or cannot be.
    Pinned {
        /// Of which generation.
        generation: Generation,
        /// Whether it is.
        pinned: bool,
    },
    /// A deadline may be over.
    Clock,
}
