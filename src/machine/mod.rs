//! Every decision of supd, and nothing else: events go in, effects come out.
//!
//! **What is absent:** no I/O, no clock, no log, no `unsafe`, no `_` arm over phases or events.

pub mod effect;
pub mod event;

pub use effect::{Action, Effect, JobKind, JobWork, Launch, Level};
pub use event::{Event, Input, Request, Restored};
