//! The words of the design as types: what a unit, a listener, a generation and a worker are.
//!
//! Nothing here does I/O, reads a clock or logs; std only. Every other layer imports this one.

pub mod address;
pub mod author;
pub mod binding;
pub mod exit;
pub mod few;
pub mod handover;
pub mod id;
pub mod interpreters;
pub mod kept;
pub mod ledger;
pub mod metrics;
pub mod notice;
pub mod release;
pub mod reply;
pub mod sandbox;
pub mod settings;
pub mod share;
pub mod signal;
pub mod status;
pub mod stops;
pub mod system_calls;
pub mod text;
pub mod tick;
pub mod waiting;

pub use address::{Address, SocketKind};
pub use author::Author;
pub use exit::{ExitStatus, SHUT_DOWN, WorkerExit};
pub use few::Few;
pub use id::{
    ClientId, Generation, InvalidLabel, InvalidName, JobId, Label, ListenerName, RecordId, SwapId, UnitName,
    WorkerId,
};
pub use ledger::{Durable, Happening, Intent, Kept, Record, SwapKind, Want};
pub use notice::Notice;
pub use reply::{Ended, Progress, Reply, WaitFor};
pub use settings::Settings;
pub use share::{Share, ShareFault};
pub use signal::Signal;
pub use stops::Stops;
pub use tick::Tick;
pub use waiting::{Queue, Queued, Waiting};

/// So many of a unit can be reached at a time by whoever checks a generation, or connects to it alone.
pub const PROBES_MAX: usize = 16;
