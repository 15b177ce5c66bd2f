//! What a worker's phase makes of each cue: every cell is filled, `Stale` is a decision too.
//!
//! `tests/pure/matrix.rs` prints this table as golden text; the compiler counts its columns.

macro_rules! listed {
    ($(#[$doc:meta])* $Name:ident { $($(#[$variant_doc:meta])* $Variant:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Name { $($(#[$variant_doc])* $Variant,)+ }

        impl $Name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$Variant => stringify!($Variant),)+ }
            }
        }
    };
}
pub(in crate::machine) use listed;

listed!(
    /// A phase of a worker, without what it carries.
    Kind {
        /// ExecStartPre runs.
        Preparing,
        /// Forked; exec has neither succeeded nor failed.
        Spawning,
        /// Runs and is not ready.
        Starting,
        /// Runs, and waits in a bind that is left unanswered.
        Unbound,
        /// Has said ready and has yet to live on for a while.
        Settling,
        /// ExecStartPost runs.
        Posting,
        /// Ready.
        Serving,
        /// Ready, and reading its configuration again.
        Reloading,
        /// ExecStop runs.
        Halting,
        /// Has got KillSignal.
        Stopping,
        /// Has got SIGKILL.
        Killing,
        /// Its main process is gone; what it left behind is being ended.
        Sweeping,
        /// ExecStopPost runs.
        Closing,
        /// Gone; to be launched again.
        Resting,
        /// Gone for good.
        Gone,
    }
);

listed!(
    /// What can happen to a worker, without what it carries.
    CueKind {
        /// exec succeeded.
        Spawned,
        /// fork or exec failed.
        SpawnFailed,
        /// The main process ended.
        Exited,
        /// Nothing of it is left.
        Swept,
        /// READY=1
        Ready,
        /// It listens on every listener.
        Listening,
        /// A bind of it is left unanswered, as the swap wants it.
        Waits,
        /// Its binds are answered.
        Bind,
        /// RELOADING=1
        Reloading,
        /// STOPPING=1
        Stopping,
        /// WATCHDOG=1
        Alive,
        /// WATCHDOG=trigger
        Trigger,
        /// WATCHDOG_USEC=
        Period,
        /// EXTEND_TIMEOUT_USEC=
        Extend,
        /// Its command ended well.
        Passed,
        /// Its command failed.
        Failed,
        /// The deadline of its phase is over.
        Due,
        /// supd wants it to end.
        Stop,
        /// supd wants it to end at once.
        Kill,
        /// supd wants it to reload.
        Reload,
    }
);

listed!(
    /// What is done about it.
    Move {
        /// Nothing: it comes too late, or says nothing new.
        Stale,
        /// The next ExecStartPre, or the process itself.
        Prepare,
        /// It never ran: over to ExecStopPost.
        GiveUp,
        /// Ends its command and is done.
        Abandon,
        /// It runs: wait for ready as the unit says.
        Begin,
        /// It said ready before exec was seen to succeed.
        BeginReady,
        /// It said ready.
        Settle,
        /// It waits in its bind, for as long as a person likes.
        Wait,
        /// It said ready while a bind of it waited: true once that is answered.
        NoteReady,
        /// It goes on towards ready.
        GoOn,
        /// The check of readiness failed: once more, later.
        Recheck,
        /// The check is due, or readiness is overdue.
        StartDue,
        /// The next ExecStartPost, or it serves.
        Post,
        /// ExecStartPost failed: it is ended.
        PostFail,
        /// exec hangs: it is killed.
        Overdue,
        /// Its end is looked after: leftovers first.
        Bury,
        /// It is leaving of its own accord.
        Leave,
        /// ExecStop, then KillSignal.
        Halt,
        /// The next ExecStop, or KillSignal.
        NextHalt,
        /// KillSignal.
        Terminate,
        /// SIGKILL.
        Kill,
        /// SIGKILL has not worked yet.
        KillAgain,
        /// The watchdog is fed.
        Feed,
        /// The watchdog has a new period.
        SetPeriod,
        /// The deadline moves.
        Extend,
        /// It is broken: SIGABRT.
        Abort,
        /// It is told to reload.
        Reload,
        /// It says that it reloads.
        Announce,
        /// It has reloaded.
        Reloaded,
        /// The next ExecReload, or it has reloaded.
        NextReload,
        /// ExecReload failed; it serves as before.
        ReloadFail,
        /// The reload, or the watchdog, is overdue.
        ReloadDue,
        /// What it left behind is killed.
        SweepKill,
        /// ExecStopPost.
        Close,
        /// The next ExecStopPost, or it is done.
        NextClose,
        /// Once more.
        Relaunch,
        /// It stays gone.
        Stay,
    }
);

/// The table itself.
#[must_use]
pub fn decide(kind: Kind, cue: CueKind) -> Move {
    match kind {
        Kind::Preparing
        | Kind::Spawning
        | Kind::Starting
        | Kind::Unbound
        | Kind::Settling
        | Kind::Posting => on_the_way_up(kind, cue),
        Kind::Serving | Kind::Reloading => while_serving(kind, cue),
        Kind::Halting | Kind::Stopping | Kind::Killing => on_the_way_down(kind, cue),
        Kind::Sweeping | Kind::Closing | Kind::Resting | Kind::Gone => without_a_process(kind, cue),
    }
}

fn on_the_way_up(kind: Kind, cue: CueKind) -> Move {
    use CueKind as C;
    use Move as M;
    let [preparing, spawning, starting, unbound, settling, posting] = match cue {
        C::Spawned => [M::Stale, M::Begin, M::Stale, M::Stale, M::Stale, M::Stale],
        C::SpawnFailed => [M::Stale, M::GiveUp, M::Stale, M::Stale, M::Stale, M::Stale],
        C::Exited => [M::Stale, M::Bury, M::Bury, M::Bury, M::Bury, M::Bury],
        C::Swept | C::Alive | C::Reloading | C::Reload => [M::Stale; 6],
        C::Ready => [M::Stale, M::BeginReady, M::Settle, M::NoteReady, M::Stale, M::Stale],
        C::Listening => [M::Stale, M::BeginReady, M::Settle, M::Stale, M::Stale, M::Stale],
        C::Waits => [M::Stale, M::Stale, M::Wait, M::Stale, M::Stale, M::Stale],
        C::Bind => [M::Stale, M::Stale, M::Stale, M::GoOn, M::Stale, M::Stale],
        C::Stopping => [M::Stale, M::Leave, M::Leave, M::Leave, M::Leave, M::Leave],
        C::Trigger => [M::Stale, M::Abort, M::Abort, M::Abort, M::Abort, M::Abort],
        C::Period => [M::Stale, M::SetPeriod, M::SetPeriod, M::SetPeriod, M::SetPeriod, M::SetPeriod],
        C::Extend => [M::Stale, M::Extend, M::Extend, M::Stale, M::Stale, M::Extend],
        C::Passed => [M::Prepare, M::Stale, M::Settle, M::Stale, M::Stale, M::Post],
        C::Failed => [M::GiveUp, M::Stale, M::Recheck, M::Stale, M::Stale, M::PostFail],
        C::Due => [M::GiveUp, M::Overdue, M::StartDue, M::Stale, M::Post, M::PostFail],
        C::Stop => [M::Abandon, M::Terminate, M::Terminate, M::Terminate, M::Terminate, M::Terminate],
        C::Kill => [M::Abandon, M::Kill, M::Kill, M::Kill, M::Kill, M::Kill],
    };
    match kind {
        Kind::Preparing => preparing,
        Kind::Spawning => spawning,
        Kind::Starting => starting,
        Kind::Unbound => unbound,
        Kind::Settling => settling,
        Kind::Posting => posting,
        Kind::Serving
        | Kind::Reloading
        | Kind::Halting
        | Kind::Stopping
        | Kind::Killing
        | Kind::Sweeping
        | Kind::Closing
        | Kind::Resting
        | Kind::Gone => Move::Stale,
    }
}

fn while_serving(kind: Kind, cue: CueKind) -> Move {
    use CueKind as C;
    let reloading = kind == Kind::Reloading;
    match cue {
        C::Spawned | C::SpawnFailed | C::Swept | C::Waits | C::Bind => Move::Stale,
        C::Exited => Move::Bury,
        C::Ready if reloading => Move::Reloaded,
        C::Ready | C::Listening => Move::Stale,
        C::Reloading => Move::Announce,
        C::Stopping => Move::Leave,
        C::Alive => Move::Feed,
        C::Trigger => Move::Abort,
        C::Period => Move::SetPeriod,
        C::Extend => Move::Extend,
        C::Passed if reloading => Move::NextReload,
        C::Failed if reloading => Move::ReloadFail,
        C::Passed | C::Failed => Move::Stale,
        C::Due if reloading => Move::ReloadDue,
        C::Due => Move::Abort,
        C::Stop => Move::Halt,
        C::Kill => Move::Kill,
        C::Reload if reloading => Move::Stale,
        C::Reload => Move::Reload,
    }
}

fn on_the_way_down(kind: Kind, cue: CueKind) -> Move {
    use CueKind as C;
    let halting = kind == Kind::Halting;
    let killing = kind == Kind::Killing;
    match cue {
        C::SpawnFailed | C::Exited => Move::Bury,
        C::Extend if !killing => Move::Extend,
        C::Passed | C::Failed if halting => Move::NextHalt,
        C::Due if halting => Move::Terminate,
        C::Due if killing => Move::KillAgain,
        C::Due => Move::Kill,
        C::Kill if !killing => Move::Kill,
        C::Spawned
        | C::Swept
        | C::Ready
        | C::Listening
        | C::Waits
        | C::Bind
        | C::Reloading
        | C::Stopping
        | C::Alive
        | C::Trigger
        | C::Period
        | C::Extend
        | C::Passed
        | C::Failed
        | C::Stop
        | C::Kill
        | C::Reload => Move::Stale,
    }
}

fn without_a_process(kind: Kind, cue: CueKind) -> Move {
    use CueKind as C;
    let [sweeping, closing, resting] = match cue {
        C::Swept => [Move::Close, Move::Stale, Move::Stale],
        C::Passed | C::Failed => [Move::Stale, Move::NextClose, Move::Stale],
        C::Due => [Move::SweepKill, Move::NextClose, Move::Relaunch],
        C::Stop => [Move::Stale, Move::Stale, Move::Stay],
        C::Kill => [Move::SweepKill, Move::Abandon, Move::Stay],
        C::Spawned
        | C::SpawnFailed
        | C::Exited
        | C::Ready
        | C::Listening
        | C::Waits
        | C::Bind
        | C::Reloading
        | C::Stopping
        | C::Alive
        | C::Trigger
        | C::Period
        | C::Extend
        | C::Reload => [Move::Stale; 3],
    };
    match kind {
        Kind::Sweeping => sweeping,
        Kind::Closing => closing,
        Kind::Resting => resting,
        Kind::Preparing
        | Kind::Spawning
        | Kind::Starting
        | Kind::Unbound
        | Kind::Settling
        | Kind::Posting
        | Kind::Serving
        | Kind::Reloading
        | Kind::Halting
        | Kind::Stopping
        | Kind::Killing
        | Kind::Gone => Move::Stale,
    }
}
