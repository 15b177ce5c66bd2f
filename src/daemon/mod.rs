//! The shell of supd: boot, the loop, effects performed, outcomes returned as events.
pub mod control;
