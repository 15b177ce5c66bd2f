//! What must outlive supd, a unit at a time.
//!
//! Each record carries the unit's whole durable state beside what happened, so that restoring is
//! to take the last record, and no replay can go wrong.

use super::id::{Generation, Label, SwapId, UnitName};
use super::release::Release;
use super::status::SwapResult;

/// A generation that something may still go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number; its settings and its pinned program are stored under it.
    pub generation: Generation,
    /// The label of its release.
    pub release: Option<Label>,
    /// Whether a relaunch runs what it ran.
    pub pinned: bool,
}

/// Whether the unit should serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Yes.
    Up,
    /// Bound, and launched by the first connection.
    OnDemand,
    /// No: a person stopped it, or nobody started it yet.
    Down,
}

/// The durable state of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable {
    /// Whether it should serve.
    pub want: Want,
    /// The highest generation ever used; 0: none.
    pub generation_last: u64,
    /// The highest swap ever used; 0: none.
    pub swap_last: u64,
    /// What kind of change of generation has yet to be committed or undone. `None`: none; or,
    /// beside a `previous`, a record of a supd that did not write it.
    pub swap: Option<SwapKind>,
    /// Who was launched where nobody served, until that change is over: nobody has seen it ready.
    pub unseen: Option<Generation>,
    /// Who is being launched to take over.
    pub candidate: Option<Kept>,
    /// Who receives the traffic; of a stopped unit, who did last.
    pub active: Option<Kept>,
    /// Who received it before, until commit.
    pub previous: Option<Kept>,
    /// What a rollback after commit goes to.
    pub retained: Option<Kept>,
    /// What the last rollback left: the way forward.
    pub forward: Option<Kept>,
    /// What is installed, in the order of installation.
    pub releases: Vec<Release>,
}

impl Durable {
    /// A unit that was never started.
    #[must_use]
    pub fn fresh() -> Self {
        Self {
            want: Want::Down,
            generation_last: 0,
            swap_last: 0,
            swap: None,
            unseen: None,
            candidate: None,
            active: None,
            previous: None,
            retained: None,
            forward: None,
            releases: Vec::new(),
        }
    }

    /// Every generation that is named, and so must not be pruned.
    pub fn kept(&self) -> impl Iterator<Item = &Kept> {
        let named = [&self.candidate, &self.active, &self.previous, &self.retained, &self.forward];
        named.into_iter().flatten()
    }

    /// The same, to be changed.
    pub fn kept_mut(&mut self) -> impl Iterator<Item = &mut Kept> {
        let Self { candidate, active, previous, retained, forward, .. } = self;
        [candidate, active, previous, retained, forward].into_iter().flatten()
    }
}

/// What kind of change of generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SwapKind {
    /// From nothing.
    Start,
    /// A new launch.
    Swap,
    /// The same release once more.
    Restart,
    /// Back to the retained one.
    Rollback,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A generation got its number and is about to be launched.
    Began {
        /// The swap's number.
        swap_id: SwapId,
        /// Its kind.
        kind: SwapKind,
        /// Who receives the traffic.
        from: Option<Generation>,
        /// Who shall.
        to: Generation,
    },
    /// The traffic changed over.
    Switched {
        /// The swap's number.
        swap_id: SwapId,
        /// To whom.
        to: Generation,
    },
    /// The swap is over.
    Ended {
        /// The swap's number.
        swap_id: SwapId,
        /// How.
        result: SwapResult,
        /// Why, where it did not commit.
        cause: Option<String>,
    },
    /// The unit was started on demand: it is bound and waits.
    Waiting,
    /// The unit was stopped.
    Stopped,
    /// A release was installed.
    Installed {
        /// Its name.
        label: Label,
    },
    /// A release was taken away.
    Undeployed {
        /// Its name.
        label: Label,
    },
    /// The copy of a generation's program is in place, or cannot be.
    Pinned {
        /// Which generation.
        generation: Generation,
        /// Whether it is.
        pinned: bool,
    },
}

/// One record of the ledger, less the time and the person, which the daemon adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The unit.
    pub unit: UnitName,
    /// Its state from now on.
    pub durable: Durable,
    /// What happened.
    pub happening: Happening,
}

/// What is written before a switch: at a restart of supd it is finished forward, never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    /// The swap's number.
    pub swap_id: SwapId,
    /// Who received the traffic.
    pub from: Option<Generation>,
    /// Who does from now on.
    pub to: Generation,
    /// By what kind of change: the ledger does not know of one to a standby before it is made.
    pub kind: SwapKind,
}
