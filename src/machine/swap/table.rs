//! What each step of a swap makes of each cue: the plot, on one screen.

use super::super::worker::table::listed;

listed!(
    /// A step of a swap, without what it carries.
    StepKind {
        /// The program of the generation to go back to is still being copied.
        Copying,
        /// The listeners of the new settings are being bound.
        Binding,
        /// The generation's number is on its way into the ledger.
        Numbering,
        /// A load balancer is being told that nobody will serve for a moment.
        Diverting,
        /// Only one may run: who served before is on its way out.
        Clearing,
        /// The workers are on their way to ready.
        Launching,
        /// Started, on no port, and waits for `promote`.
        Unbound,
        /// Ready, and waits for `promote`.
        Held,
        /// Receives a share of the new connections.
        Canary,
        /// CheckCommand decides on the next share.
        Asking,
        /// The intent is on its way into the runtime folder.
        Intending,
        /// The kernel is being told.
        Switching,
        /// Switched; the ledger is on its way to the disk.
        Noting,
        /// Serves, and may still be sent back by itself.
        Probation,
        /// CheckCommand has the last word.
        Checking,
        /// The commit is on its way into the ledger.
        Committing,
        /// It never took over; that is on its way into the ledger.
        Undoing,
        /// On the way back: the previous generation must be ready first.
        Returning,
        /// On the way back: the intent.
        TurnIntending,
        /// On the way back: the kernel.
        TurnSwitching,
        /// On the way back: the ledger.
        TurnNoting,
    }
);

listed!(
    /// What can happen to a swap, without what it carries.
    SwapCueKind {
        /// The copy of the program is made.
        Copied,
        /// It cannot be made.
        Uncopied,
        /// The listeners are bound.
        Bound,
        /// They are not.
        BindFailed,
        /// Its record is on disk.
        Recorded,
        /// It is not.
        RecordFailed,
        /// The load balancer has been told, and had its time.
        Diverted,
        /// It could not be told.
        Undiverted,
        /// Nobody is left beside whom it may not run.
        Cleared,
        /// Every worker of the new generation is ready.
        Ready,
        /// Every worker of the new generation waits in a bind, as a person wants it.
        Unbound,
        /// A worker of the new generation failed.
        Failed,
        /// Every worker of the previous generation is ready.
        BackReady,
        /// The intent is saved.
        IntentSaved,
        /// It is not.
        IntentFailed,
        /// New connections reach whom they should.
        Switched,
        /// They do not.
        SwitchFailed,
        /// CheckCommand ended well.
        Passed,
        /// CheckCommand failed.
        Unpassed,
        /// The step's deadline is over.
        Due,
        /// The kernel does not give it its share.
        ShareFailed,
        /// A person says which share it receives.
        Share,
        /// A person says: go on.
        Promote,
        /// A person says: undo it.
        Abort,
    }
);

listed!(
    /// What is done about it.
    SwapMove {
        /// Nothing: it comes too late, or changes nothing now.
        Stale,
        /// Bind the listeners.
        Bind,
        /// Go on without a copy, or refuse.
        Uncopied,
        /// Not begun after all.
        Drop,
        /// Give it a number.
        Number,
        /// Launch the workers.
        Launch,
        /// Go on without a record, or give up.
        Unnumbered,
        /// Leave its binds unanswered until a person says.
        Wait,
        /// Answer its binds.
        AnswerBinds,
        /// Let who serves go, or only its port.
        MakeWay,
        /// Hold, or go on to the intent.
        Proceed,
        /// Ask CheckCommand whether its share may grow.
        Ask,
        /// Give it its next share, or everything.
        Grow,
        /// Give it the share that a person names.
        Reshare,
        /// Save the intent.
        Intend,
        /// Switch.
        Switch,
        /// Write down that it switched.
        Note,
        /// Probation begins, or all is said.
        Settle,
        /// Ask CheckCommand, or commit.
        Check,
        /// Commit.
        Commit,
        /// It stays: tell everybody.
        Finish,
        /// It never took over: stop it, write that down.
        Undo,
        /// It is undone: tell everybody.
        Undone,
        /// Remember that it must not stay, and act when the step is over.
        Doom,
        /// It took over and must not stay: back.
        TurnBack,
        /// Back, but who was there before is not ready in time: say so, and go on.
        NotBack,
        /// Back: save the intent.
        TurnIntend,
        /// Back: switch.
        TurnSwitch,
        /// Back: write it down.
        TurnNote,
        /// It is back: tell everybody.
        TurnedBack,
        /// The disk or the kernel said no: again, later.
        Retry,
        /// Again, now.
        Again,
        /// It cannot be given a share now; say why.
        RefuseShare,
        /// It cannot be promoted now; say why.
        RefusePromote,
        /// It cannot be undone any more; say why.
        RefuseAbort,
    }
);

/// The table itself.
#[must_use]
pub fn decide(step: StepKind, cue: SwapCueKind) -> SwapMove {
    match step {
        StepKind::Copying
        | StepKind::Binding
        | StepKind::Numbering
        | StepKind::Diverting
        | StepKind::Clearing
        | StepKind::Launching
        | StepKind::Unbound => before(step, cue),
        StepKind::Held | StepKind::Canary | StepKind::Asking => at_will(step, cue),
        StepKind::Intending | StepKind::Switching | StepKind::Noting => during(step, cue),
        StepKind::Probation | StepKind::Checking | StepKind::Committing | StepKind::Undoing => {
            after(step, cue)
        }
        StepKind::Returning | StepKind::TurnIntending | StepKind::TurnSwitching | StepKind::TurnNoting => {
            back(step, cue)
        }
    }
}

/// Before the switch: whatever goes wrong, the active generation was not touched.
fn before(step: StepKind, cue: SwapCueKind) -> SwapMove {
    use SwapCueKind as C;
    use SwapMove as M;
    let copying = step == StepKind::Copying;
    let binding = step == StepKind::Binding;
    let numbering = step == StepKind::Numbering;
    let diverting = step == StepKind::Diverting;
    let clearing = step == StepKind::Clearing;
    let launching = step == StepKind::Launching;
    let unbound = step == StepKind::Unbound;
    match cue {
        C::Copied if copying => M::Bind,
        C::Uncopied | C::Due if copying => M::Uncopied,
        C::Bound if binding => M::Number,
        C::BindFailed if binding => M::Drop,
        C::Recorded if numbering => M::Launch,
        C::RecordFailed if numbering => M::Unnumbered,
        C::Diverted if diverting => M::MakeWay,
        C::Undiverted if diverting => M::Undo,
        C::Cleared if clearing => M::Launch,
        C::ShareFailed if clearing || launching => M::Undo,
        C::Ready if launching => M::Proceed,
        C::Unbound if launching => M::Wait,
        C::Failed if diverting || launching || unbound => M::Undo,
        C::Promote if unbound => M::AnswerBinds,
        C::Promote => M::RefusePromote,
        C::Share => M::RefuseShare,
        C::Abort if copying || binding => M::Drop,
        C::Abort => M::Undo,
        C::Copied
        | C::Uncopied
        | C::Bound
        | C::BindFailed
        | C::Recorded
        | C::RecordFailed
        | C::Diverted
        | C::Undiverted
        | C::Cleared
        | C::Ready
        | C::Unbound
        | C::Failed
        | C::BackReady
        | C::IntentSaved
        | C::IntentFailed
        | C::Switched
        | C::SwitchFailed
        | C::ShareFailed
        | C::Passed
        | C::Unpassed
        | C::Due => M::Stale,
    }
}

/// Ready, and with the share that a person or the unit file says: still nothing is decided.
fn at_will(step: StepKind, cue: SwapCueKind) -> SwapMove {
    use SwapCueKind as C;
    use SwapMove as M;
    let canary = step == StepKind::Canary;
    let asking = step == StepKind::Asking;
    match cue {
        C::Due if canary => M::Ask,
        C::Passed if asking => M::Grow,
        C::Unpassed | C::Due if asking => M::Undo,
        C::ShareFailed if canary || asking => M::Undo,
        C::Failed | C::Abort => M::Undo,
        C::Share => M::Reshare,
        C::Promote => M::Intend,
        C::Copied
        | C::Uncopied
        | C::Bound
        | C::BindFailed
        | C::Recorded
        | C::RecordFailed
        | C::Diverted
        | C::Undiverted
        | C::Cleared
        | C::Ready
        | C::Unbound
        | C::BackReady
        | C::IntentSaved
        | C::IntentFailed
        | C::Switched
        | C::SwitchFailed
        | C::ShareFailed
        | C::Passed
        | C::Unpassed
        | C::Due => M::Stale,
    }
}

/// The switch: three steps that follow from each other; who objects is heard after the third.
fn during(step: StepKind, cue: SwapCueKind) -> SwapMove {
    use SwapCueKind as C;
    use SwapMove as M;
    let intending = step == StepKind::Intending;
    let switching = step == StepKind::Switching;
    let noting = step == StepKind::Noting;
    match cue {
        C::IntentSaved if intending => M::Switch,
        C::IntentFailed if intending => M::Undo,
        C::Switched if switching => M::Note,
        C::SwitchFailed if switching => M::Undo,
        C::Recorded if noting => M::Settle,
        C::RecordFailed if noting => M::Retry,
        C::Due if noting => M::Again,
        C::Failed | C::Abort => M::Doom,
        C::Promote => M::RefusePromote,
        C::Share => M::RefuseShare,
        C::Copied
        | C::Uncopied
        | C::Bound
        | C::BindFailed
        | C::Recorded
        | C::RecordFailed
        | C::Diverted
        | C::Undiverted
        | C::Cleared
        | C::Ready
        | C::Unbound
        | C::BackReady
        | C::IntentSaved
        | C::IntentFailed
        | C::Switched
        | C::SwitchFailed
        | C::ShareFailed
        | C::Passed
        | C::Unpassed
        | C::Due => M::Stale,
    }
}

/// After the switch, or after it was given up.
fn after(step: StepKind, cue: SwapCueKind) -> SwapMove {
    use SwapCueKind as C;
    use SwapMove as M;
    let probation = step == StepKind::Probation;
    let checking = step == StepKind::Checking;
    let committing = step == StepKind::Committing;
    let undoing = step == StepKind::Undoing;
    let open = probation || checking;
    match cue {
        C::Due if probation => M::Check,
        C::Due if checking => M::TurnBack,
        C::Due if committing => M::Again,
        C::Passed if checking => M::Commit,
        C::Unpassed if checking => M::TurnBack,
        C::Failed if open => M::TurnBack,
        // What is on its way to the disk says that it stays.
        C::Failed if committing => M::Doom,
        C::Abort if open => M::TurnBack,
        // It is being undone already: who asks hears when it is.
        C::Abort if undoing => M::Doom,
        C::Abort => M::RefuseAbort,
        C::Promote if open => M::Commit,
        C::Promote => M::RefusePromote,
        C::Share => M::RefuseShare,
        C::Recorded if committing => M::Finish,
        C::RecordFailed if committing => M::Retry,
        C::Recorded | C::RecordFailed if !open => M::Undone,
        C::Copied
        | C::Uncopied
        | C::Bound
        | C::BindFailed
        | C::Recorded
        | C::RecordFailed
        | C::Diverted
        | C::Undiverted
        | C::Cleared
        | C::Ready
        | C::Unbound
        | C::Failed
        | C::BackReady
        | C::IntentSaved
        | C::IntentFailed
        | C::Switched
        | C::SwitchFailed
        | C::ShareFailed
        | C::Passed
        | C::Unpassed
        | C::Due => M::Stale,
    }
}

/// The way back: the same three steps, once the previous generation is ready.
fn back(step: StepKind, cue: SwapCueKind) -> SwapMove {
    use SwapCueKind as C;
    use SwapMove as M;
    let returning = step == StepKind::Returning;
    let intending = step == StepKind::TurnIntending;
    let switching = step == StepKind::TurnSwitching;
    let noting = step == StepKind::TurnNoting;
    match cue {
        C::BackReady if returning => M::TurnIntend,
        C::IntentSaved if intending => M::TurnSwitch,
        C::IntentFailed if intending => M::Retry,
        C::Switched if switching => M::TurnNote,
        C::SwitchFailed if switching => M::Retry,
        C::Recorded if noting => M::TurnedBack,
        C::RecordFailed if noting => M::Retry,
        C::Due if returning => M::NotBack,
        C::Due => M::Again,
        // A person decides for the new one, while there is nobody to go back to.
        C::Promote if returning => M::Commit,
        C::Promote => M::RefusePromote,
        C::Share => M::RefuseShare,
        C::Abort => M::Doom,
        C::Copied
        | C::Uncopied
        | C::Bound
        | C::BindFailed
        | C::Recorded
        | C::RecordFailed
        | C::Diverted
        | C::Undiverted
        | C::Cleared
        | C::Ready
        | C::Unbound
        | C::Failed
        | C::BackReady
        | C::IntentSaved
        | C::IntentFailed
        | C::Switched
        | C::SwitchFailed
        | C::ShareFailed
        | C::Passed
        | C::Unpassed => M::Stale,
    }
}
