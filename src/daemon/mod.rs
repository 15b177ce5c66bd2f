//! The shell of supd: boot, the loop, effects performed, outcomes returned as events.

pub mod chores;
pub mod clients;
pub mod control;
pub mod flusher;
pub mod jobs;
pub mod launch;
pub mod listeners;
pub mod lock;
pub mod probe;
pub mod recorder;
pub mod sources;
pub mod sweeper;
pub mod units;
pub mod workers;
