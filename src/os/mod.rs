//! The hands: each file wraps one thing of the kernel. They touch and decide nothing.

#[cfg(test)]
pub(crate) mod alone;
pub mod ancillary;
pub mod beneath;
pub mod bpf;
pub mod census;
pub mod clock;
pub mod code;
pub mod crash;
pub mod dial;
pub mod error;
pub mod family;
pub mod fork;
pub mod groups;
pub mod heap;
pub mod holders;
pub mod inherited;
pub mod intercept;
pub mod keeper;
pub mod kept;
pub mod listener;
pub mod logfile;
pub mod looked_up;
pub mod members;
pub mod notify;
pub mod open_file;
pub mod original;
mod own_proc;
pub mod peer;
pub mod pidfd;
pub mod pin;
pub mod places;
pub mod port_holder;
pub mod process;
pub mod random;
pub mod remove;
pub mod room;
pub mod running;
pub mod sock_diag;
mod sockopt;
pub mod spawn;
pub mod steering;
pub mod sun_path;
pub mod task;
pub mod unprivileged;

pub use error::Error;
