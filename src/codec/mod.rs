//! Bytes ↔ model. Total: any input gives a value or a fault, never a panic. No I/O.

pub mod environment;
pub mod fault;
pub mod handover;
pub mod history;
pub mod installing;
pub mod journal;
pub mod json;
pub mod kept;
pub mod ledger;
pub mod metrics;
pub mod mirror;
pub mod notify;
pub mod pinned;
pub mod request;
mod sealed;
mod shape;
pub mod size;
pub mod sockaddr;
pub mod span;
pub mod system_calls;
pub mod systemd;
pub mod timespan;
pub mod unitfile;
pub mod variables;
pub mod varlink;
pub mod words;
