//! The hands: each file wraps one thing of the kernel. They touch and decide nothing.

pub mod error;
pub mod inherited;

pub use error::Error;
