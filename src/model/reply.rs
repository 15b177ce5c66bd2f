//! What supd answers to a request, and what it tells on the way.

use super::exit::{ExitStatus, WorkerExit};
use super::id::{Generation, SwapId};
use super::share::Share;
use super::waiting::Queue;
use std::time::Duration;

/// The one final answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// How supctl is to exit: Done, Failed, Refused, Timeout, RolledBack or Down.
    pub status: ExitStatus,
    /// Whether anything is different from before.
    pub changed: bool,
    /// One sentence: what happened and why.
    pub text: String,
    /// The next command to type, without the leading `supctl`.
    pub next: Option<String>,
    /// The generation that this was about.
    pub generation: Option<Generation>,
    /// The swap that this was about.
    pub swap_id: Option<SwapId>,
    /// How a failed generation ended.
    pub ended: Option<Ended>,
}

impl Reply {
    /// Done as asked.
    #[must_use]
    pub fn done(changed: bool, text: impl Into<String>) -> Self {
        Self::new(ExitStatus::Done, changed, text)
    }

    /// Not begun, and why not.
    #[must_use]
    pub fn refused(text: impl Into<String>, next: impl Into<Option<String>>) -> Self {
        Self { next: next.into(), ..Self::new(ExitStatus::Refused, false, text) }
    }

    /// Any other ending.
    #[must_use]
    pub fn new(status: ExitStatus, changed: bool, text: impl Into<String>) -> Self {
        Self { status, changed, text: text.into(), next: None, generation: None, swap_id: None, ended: None }
    }

    /// The same answer, naming the swap and the generation it was about.
    #[must_use]
    pub fn about(self, swap_id: Option<SwapId>, generation: Option<Generation>) -> Self {
        Self { swap_id, generation, ..self }
    }
}

/// How a generation that failed came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The generation; 0: it was ExecInstall.
    pub generation: Generation,
    /// How its first worker to die exited; `None`: it was ended by supd, or never began.
    pub exit: Option<WorkerExit>,
    /// How long that worker lived.
    pub lived: Duration,
}

/// How far a command waits (`--wait=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitFor {
    /// The candidate is ready and settled.
    Ready,
    /// It receives the traffic.
    Active,
    /// It stays.
    Committed,
    /// What it replaced is gone.
    Drained,
}

/// One step on the way, for those who asked with `more`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A generation was launched.
    Launched {
        /// Its number.
        generation: Generation,
        /// How many workers.
        workers: u32,
    },
    /// One more of its workers is ready.
    Ready {
        /// Which generation.
        generation: Generation,
        /// How many are.
        ready: u32,
        /// Of how many.
        workers: u32,
        /// Since the launch.
        after: Duration,
    },
    /// Started, and on no port until somebody promotes it.
    Unbound {
        /// Which generation.
        generation: Generation,
    },
    /// Ready and settled; held until somebody promotes it.
    Held {
        /// Which generation.
        generation: Generation,
    },
    /// It receives a share of the new connections.
    Canary {
        /// Which generation.
        generation: Generation,
        /// How much.
        share: Share,
        /// For how long; `None`: until a person says something else.
        lasts: Option<Duration>,
    },
    /// It receives the traffic; durable.
    Switched {
        /// From which generation.
        from: Option<Generation>,
        /// To which.
        to: Generation,
        /// How long probation takes; zero: there is none.
        probation: Duration,
    },
    /// It stays.
    Committed {
        /// Which generation.
        generation: Generation,
    },
    /// On the way back, and why.
    RollingBack {
        /// From which generation.
        from: Generation,
        /// To which.
        to: Generation,
        /// Why.
        cause: String,
    },
    /// Workers that have yet to exit.
    Draining {
        /// Which generation.
        generation: Generation,
        /// How many live.
        workers: u32,
        /// How many connections they have open; `None`: not known.
        connections: Option<u32>,
        /// So long at least the oldest has been open; `None`: not known.
        oldest: Option<Duration>,
        /// How many wait to be accepted; `None`: not known.
        queued: Option<u32>,
        /// What waits in each of its listeners; none: not known.
        queues: Vec<Queue>,
        /// How long these may still take; `None`: there is no such bound.
        left: Option<Duration>,
    },
    /// Anything else worth a line.
    Note(String),
}
