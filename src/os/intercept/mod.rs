//! A server that binds for itself, unmodified: the kernel asks supd about each bind(2) and listen(2) of
//! a worker, and supd puts its own socket in the place of the worker's (seccomp_unotify(2)).
//!
//! The worker's thread waits in the call until [`Calls::finish`]. What the call is about is looked at once,
//! by a child ([`Reader`]), for a look can take as long as the worker likes; supd acts on what was found,
//! with a socket of its own, so that nothing the worker changes afterwards matters.

mod calls;
mod facts;
mod filter;
mod lost;
mod options;
mod paths;
mod reader;
mod sets;
#[cfg(test)]
mod tests;

pub use calls::{Answer, Call, Calls, What};
pub(in crate::os) use facts::is_elsewhere;
pub use facts::{BYTES_MAX, Facts, Ours};
pub(in crate::os) use filter::install;
pub use lost::waiting;
pub use options::{carry_over, is_listening, lengthen, set_nonblocking};
pub use reader::{Found, Reader};
pub use sets::Watch;
