//! Bytes ↔ model. Total: any input gives a value or a fault, never a panic. No I/O.

pub mod notify;
