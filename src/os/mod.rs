//! The hands: each file wraps one thing of the kernel. They touch and decide nothing.

pub mod error;
pub mod groups;
pub mod peer;
pub mod places;
pub mod sun_path;

pub use error::Error;
