//! A server that binds for itself, unmodified: the kernel asks supd about each bind(2) and listen(2) of
//! a worker, and supd puts its own socket in the place of the worker's (seccomp_unotify(2)).
//!
//! The worker's thread waits in the call until [`Calls::finish`]. What it points at is read once, by a
//! child ([`Reader`]), for memory may be such that reading it never ends; supd acts on what was read, with
//! a socket of its own, so that nothing the worker changes afterwards matters.
mod caller;
mod calls;
mod filter;
mod options;
mod reader;
#[cfg(test)]
mod tests;

pub use caller::Caller;
pub use calls::{Answer, Call, Calls, What};
pub(in crate::os) use filter::install;
pub use options::{carry_over, set_nonblocking};
pub use reader::{BYTES_MAX, Bytes, Reader};
