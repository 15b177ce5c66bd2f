//! The hands: each file wraps one thing of the kernel. They touch and decide nothing.

pub mod error;
pub mod listener;
pub mod port_holder;
pub mod sock_diag;

pub use error::Error;
