//! Bytes ↔ model. Total: any input gives a value or a fault, never a panic. No I/O.

pub mod json;
pub mod ledger;
pub mod pinned;
mod shape;
pub mod span;
pub mod varlink;
