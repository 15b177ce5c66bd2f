//! What the machine wants done. Effects of one step do not depend on each other's outcomes;
//! an outcome that matters comes back as an event.

use super::restart::Fault;
use crate::model::settings::Command;
use crate::model::{
    ClientId, Generation, Intent, JobId, Label, Progress, Record, RecordId, Reply, Settings, Share, Signal,
    SwapId, UnitName, WorkerExit, WorkerId,
};
use std::sync::Arc;

/// A generation's recipe: whatever happens to the files, a relaunch uses this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Its number.
    pub generation: Generation,
    /// The settings as they were.
    pub settings: Arc<Settings>,
    /// The label of its release.
    pub release: Option<Label>,
    /// Whose pinned program it runs: its own number, or that of the generation it goes back to.
    pub origin: Generation,
    /// Whether to run the pinned copy where the file on disk is another one by now: true for
    /// relaunches and rollbacks, false for a first launch.
    pub pinned: bool,
}

/// What a command is for; decides its environment, its log and its time limit's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// ExecStartPre
    StartPre,
    /// ExecStartPost
    StartPost,
    /// ExecReload
    Reload,
    /// ExecStop
    Stop,
    /// ExecStopPost
    StopPost,
    /// ExecOnFailure
    OnFailure,
    /// `Ready` is a command or an address
    ReadyCheck,
    /// CheckCommand
    Check,
    /// ExecInstall
    Install,
    /// TrafficOff
    TrafficOff,
    /// TrafficOn
    TrafficOn,
}

/// What a job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobWork {
    /// A command of the unit file.
    Command(Command),
    /// A GET that must answer with 2xx; where it names a listener, of this generation alone.
    Http(String),
    /// A connection to each stream listener, which this generation must accept.
    Tcp,
    /// A command of ExecOnFailure, and what it is told.
    Tell(Command, Arc<Failure>),
}

/// What of a unit a person must know: it serves worse than it did, or not what it was meant to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of thing it is.
    pub what: FailureKind,
    /// What happened, why, and what follows: one line, of at most [`REASON_MAX`] bytes.
    pub reason: String,
    /// How the worker ended that was the reason, where one was and its end is known.
    pub exit: Option<WorkerExit>,
}

/// The longest [`Failure::reason`]; an environment has room for it, and so has a message.
pub const REASON_MAX: usize = 1000;

/// What kind of thing [`Failure`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// Nothing served before, and what was launched does not either.
    StartFailed,
    /// A swap, rollback or restart never took over; who served goes on.
    SwapFailed,
    /// It took over, and was sent back.
    RolledBack,
    /// It took over and is to be sent back, and the one before does not get ready.
    NotBack,
    /// A worker of the active generation ends too often: from now on there are long pauses.
    StartLimit,
    /// A worker of the active generation failed, and Restart says not to launch it again.
    Ended,
    /// The bookkeeping contradicts itself.
    Quarantine,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::StartFailed,
        Self::SwapFailed,
        Self::RolledBack,
        Self::NotBack,
        Self::StartLimit,
        Self::Ended,
        Self::Quarantine,
    ];

    /// The word that the command reads.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::StartFailed => "start-failed",
            Self::SwapFailed => "swap-failed",
            Self::RolledBack => "rolled-back",
            Self::NotBack => "not-back",
            Self::StartLimit => "start-limit",
            Self::Ended => "ended",
            Self::Quarantine => "quarantine",
        }
    }
}

/// How grave a note is; the words of syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is not as it should be.
    Warning,
    /// Something that a person wants to read next morning.
    Info,
    /// Everything else.
    Debug,
}

/// One thing to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// For one unit.
    Unit(UnitName, Action),
    /// Answer a client that asked nothing of a unit.
    Reply(ClientId, Reply),
    /// Every unit has stopped after [`Shutdown`](super::Input::Shutdown): end supd.
    Quit,
}

impl Effect {
    /// Whether it makes a process.
    #[must_use]
    pub fn launches(&self) -> bool {
        matches!(self, Self::Unit(_, Action::Spawn { .. } | Action::Run { .. }))
    }
}

/// One thing to be done for one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Bind each listener that these settings name and that is not bound, without listening.
    /// Comes back as `Bound` or `BindFailed`.
    Bind {
        /// Its number, new.
        job: JobId,
        /// Whose listeners.
        settings: Arc<Settings>,
    },
    /// Listen on exactly the listeners that any of these names, and let new connections in. What
    /// is bound beside them refuses from now on but stays bound. With none: all of them refuse.
    Listen(Vec<Arc<Settings>>),
    /// The same, but new connections wait outside of the queue: whoever runs would take them too early.
    HoldOff(Vec<Arc<Settings>>),
    /// End listening: new connections are refused, queued ones still served (at most for a
    /// moment). Comes back as `Unlistened`.
    Unlisten,
    /// Close the listeners that none of these names, and give their addresses free.
    CloseExcept(Vec<Arc<Settings>>),
    /// Say `Knocked` once when a connection waits.
    Watch,
    /// No longer.
    Unwatch,
    /// Give this generation its slots before anything of it runs: who comes waits there. It is no error
    /// here that it cannot have them: a share of it fails then.
    Lend(Arc<Launch>),
    /// What this generation binds of its unit's listeners is left unanswered. Comes back as `BindWaits`, once
    /// for each worker.
    HoldBinds(Generation),
    /// It is answered from now on, what waits and what comes.
    AnswerBinds(Generation),
    /// Give this generation, of which nothing runs yet, copies of all that the workers of another have stored:
    /// each the same index's.
    Bequeath {
        /// Whose they are, and stay.
        from: Generation,
        /// Who begins with them.
        to: Generation,
    },
    /// Close what the workers of every generation but these have stored.
    CloseStored {
        /// Who may get theirs once more, or hand it on.
        keep: Vec<Generation>,
    },
    /// Launch one worker. Comes back as `Spawned` or `SpawnFailed`, later `Exited`.
    Spawn {
        /// Its number, new.
        worker: WorkerId,
        /// SUPD_WORKER, from 0.
        index: u32,
        /// The generation's recipe.
        launch: Arc<Launch>,
    },
    /// Go on with a worker that has outlived its supd: it runs, and has said that it is ready.
    Adopt {
        /// Its number from here on.
        worker: WorkerId,
        /// SUPD_WORKER
        index: u32,
        /// Its recipe.
        launch: Arc<Launch>,
    },
    /// Send a signal by pidfd; a worker that has exited meanwhile is no error.
    Signal {
        /// To whom.
        worker: WorkerId,
        /// Which.
        signal: Signal,
        /// To every process of the worker, not only to its main one.
        everyone: bool,
    },
    /// Signal every process that a worker left behind; comes back as `Swept` once none is left.
    Sweep {
        /// Whose.
        worker: WorkerId,
        /// Which signal; `None`: only look.
        signal: Option<Signal>,
    },
    /// Run a command or a check. Comes back as `Finished`.
    Run {
        /// Its number, new.
        job: JobId,
        /// What it is for.
        kind: JobKind,
        /// What to run.
        work: JobWork,
        /// With the environment of this generation.
        launch: Arc<Launch>,
        /// Of this worker in particular (MAINPID, SUPD_WORKER).
        worker: Option<WorkerId>,
        /// Why supd ended that worker, where it did (SERVICE_RESULT).
        fault: Option<Fault>,
    },
    /// End a command with SIGKILL; its `Finished` still comes.
    EndJob {
        /// Which.
        job: JobId,
    },
    /// Write the intent. Comes back as `IntentSaved` or `IntentFailed`.
    SaveIntent(Intent),
    /// The ledger says it by now.
    ClearIntent,
    /// Send new connections to this generation. Comes back as `Switched` or `SwitchFailed`.
    Switch {
        /// By which swap.
        swap_id: SwapId,
        /// To whom.
        to: Generation,
    },
    /// Let what waits in this generation's slot move to the others: it accepts nothing, and nobody is led
    /// to it any more.
    PassOn(Generation),
    /// Count what clients still have of this generation. Comes back as `Counted`.
    Count(Generation),
    /// Give the candidate this share of the new connections, and the active generation the rest. Comes
    /// back as `ShareFailed` if the kernel does not.
    Share {
        /// By which swap.
        swap_id: SwapId,
        /// Whose share.
        candidate: Generation,
        /// How much; zero: nothing, as before.
        share: Share,
        /// By the client's address, so that nobody changes from one to the other and back.
        sticky: bool,
    },
    /// Append to the ledger and sync. Comes back as `Recorded` or `RecordFailed`.
    Record {
        /// Its number, new.
        id: RecordId,
        /// What.
        record: Record,
        /// Who asked for it.
        client: Option<ClientId>,
    },
    /// Keep a copy of the program that this generation runs. Comes back as `Pinned`.
    Pin(Arc<Launch>),
    /// Unpack the source that this client gave into a folder of its own. Comes back as `Unpacked`.
    Unpack {
        /// Its number, new; it names the folder.
        job: JobId,
        /// What it is to become.
        label: Label,
        /// Of the unit, as its file is now.
        settings: Arc<Settings>,
        /// Whose source.
        client: ClientId,
    },
    /// Put an unpacked folder where its release will be, for ExecInstall to work on. Comes back as
    /// `Finished`.
    Place {
        /// Its number, new.
        job: JobId,
        /// The job that unpacked it.
        staging: JobId,
        /// The release.
        label: Label,
        /// Whose user may write there from now on.
        settings: Arc<Settings>,
    },
    /// Take a release out of everybody's hands and write it to the disk. Comes back as `Finished`.
    Seal {
        /// Its number, new.
        job: JobId,
        /// The release.
        label: Label,
        /// Whose user may read there.
        settings: Arc<Settings>,
    },
    /// Remove what this job unpacked, if it is still there.
    Discard {
        /// The job that unpacked it.
        job: JobId,
    },
    /// Remove the files of a release.
    Remove {
        /// The release.
        label: Label,
    },
    /// No process of this generation is left: its notify socket goes, and its slots are given back. Comes
    /// back as `Retired`. Said once more where a half-done handshake may still end there.
    Retire(Generation),
    /// Nothing names these any more: everything stored under them but the named ones goes.
    Prune {
        /// What stays.
        keep: Vec<Generation>,
    },
    /// The one final answer.
    Reply(ClientId, Reply),
    /// Something on the way to it.
    Progress(ClientId, Progress),
    /// A line for the log.
    Note {
        /// How grave.
        level: Level,
        /// About which generation.
        generation: Option<Generation>,
        /// What happened, why, and what follows.
        text: String,
    },
    /// For the history: a worker that served ended unasked, or had to be ended.
    WorkerFailed {
        /// Of which generation.
        generation: Generation,
        /// Which one, and why.
        cause: String,
    },
    /// For the history: an install came to nothing, of which no record tells.
    InstallFailed {
        /// What it was to become.
        label: Label,
        /// Who asked for it.
        client: ClientId,
        /// Why.
        cause: String,
    },
    /// The unit contradicts itself: write down all that is known of it.
    Dump(String),
    /// The unit is stopped and its file is gone: forget it.
    Forget,
}
