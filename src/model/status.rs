//! What `supctl status` shows of a unit, as types; codec/ turns it into JSON, ctl/ into a table.

use super::exit::WorkerExit;
use super::id::{Generation, Label, SwapId};
use std::fmt;
use std::time::Duration;

macro_rules! words {
    ($(#[$doc:meta])* $Name:ident { $($(#[$variant_doc:meta])* $Variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Name { $($(#[$variant_doc])* $Variant,)+ }

        impl $Name {
            /// Every value, in the order of the design.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// The word that users and programs read.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$Variant => $word,)+ }
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words!(
    /// The state of a unit.
    UnitState {
        /// Nothing runs, nothing is bound.
        Stopped = "stopped",
        /// Bound; the first connection launches it.
        Waiting = "waiting",
        /// The first generation is on its way to ready.
        Starting = "starting",
        /// A generation receives the traffic.
        Active = "active",
        /// A candidate has a share.
        Canary = "canary",
        /// The new generation has all traffic and may still be rolled back by itself.
        Probation = "probation",
        /// On its way to stopped.
        Stopping = "stopping",
        /// Should serve, and nobody does.
        Down = "down",
        /// The bookkeeping contradicts itself; supd decides nothing here.
        Quarantine = "quarantine",
        /// supd came up after crashes of its own and starts no swap.
        Holding = "holding",
    }
);
words!(
    /// The state of a generation.
    GenerationState {
        /// Initialised, its bind unanswered.
        Unbound = "unbound",
        /// Starting, or ready and waiting.
        Candidate = "candidate",
        /// Receives a share.
        Canary = "canary",
        /// Receives the traffic.
        Active = "active",
        /// Ready, kept, receives no new connection.
        Standby = "standby",
        /// Finishes and ends.
        Draining = "draining",
        /// Ended before it served.
        Failed = "failed",
        /// Ended.
        Exited = "exited",
    }
);
words!(
    /// Whether new connections are let through; for load balancers.
    Traffic {
        /// They are.
        On = "on",
        /// A load balancer is being told to send none.
        Diverting = "diverting",
        /// They are not.
        Off = "off",
        /// A load balancer is being told to send them again.
        Restoring = "restoring",
    }
);
words!(
    /// One word for a load balancer's check.
    Health {
        /// Active and traffic on.
        Up = "up",
        /// Finishing.
        Drain = "drain",
        /// Stopped by a person.
        Maint = "maint",
        /// Anything else.
        Down = "down",
    }
);
words!(
    /// What became of the last swap.
    SwapResult {
        /// Still under way.
        Running = "running",
        /// The new generation stays.
        Committed = "committed",
        /// It never took over.
        Failed = "failed",
        /// A person ended it before the switch.
        Aborted = "aborted",
        /// It took over and was sent back.
        RolledBack = "rolled-back",
        /// A person stopped the unit meanwhile.
        Stopped = "stopped",
    }
);

/// One unit, as the machine knows it. The daemon adds what only the kernel knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStatus {
    /// Its state.
    pub state: UnitState,
    /// Traffic.
    pub traffic: Traffic,
    /// Health.
    pub health: Health,
    /// The generation that receives the traffic.
    pub active: Option<Generation>,
    /// What a rollback goes to.
    pub retained: Option<Generation>,
    /// The release of the retained generation, which may be alive or not.
    pub retained_release: Option<Label>,
    /// Whether the retained generation's program is pinned.
    pub retained_pinned: bool,
    /// How long the retained generation stands by yet; `None`: for ever, or it does not.
    pub standby_left: Option<Duration>,
    /// Every generation that has processes, in the order of their numbers.
    pub generations: Vec<GenerationStatus>,
    /// The last or the running swap.
    pub last_swap: Option<SwapStatus>,
    /// Remarks for people: one line each.
    pub notes: Vec<String>,
}

/// One release, and what it is to its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseStatus {
    /// What the ledger says.
    pub release: super::release::Release,
    /// Whether a swap without a label takes it.
    pub newest: bool,
    /// Why it cannot be taken away.
    pub held: Option<String>,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationStatus {
    /// Its number.
    pub generation: Generation,
    /// The label of its release.
    pub release: Option<Label>,
    /// Its state.
    pub state: GenerationState,
    /// Hundredths of a percent; `None` where generations share one slot.
    pub share: Option<u16>,
    /// Its workers, in the order of SUPD_WORKER.
    pub workers: Vec<WorkerStatus>,
    /// Since its launch.
    pub uptime: Duration,
    /// Whether its program is pinned; `None`: not yet known.
    pub pinned: Option<bool>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Which one, in this life of supd.
    pub worker: super::id::WorkerId,
    /// What it is doing: a word of the machine's phases.
    pub phase: &'static str,
    /// Its last STATUS=.
    pub status_text: String,
    /// How the one before it ended.
    pub last_exit: Option<WorkerExit>,
}

/// A swap, rollback or restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapStatus {
    /// Its number.
    pub swap_id: SwapId,
    /// What received the traffic before.
    pub from: Option<Generation>,
    /// What it set out to bring.
    pub to: Generation,
    /// How it ended.
    pub result: SwapResult,
    /// From the launch to ready; of one that was left unbound, from the answer to its binds.
    pub ready: Option<Duration>,
    /// From the intent saved until new connections reached `to`.
    pub switch: Option<Duration>,
    /// For how long nobody accepted new connections, where only one may run (or bind) at a time.
    pub gap: Option<Duration>,
    /// Why, where it did not commit.
    pub cause: Option<String>,
}
