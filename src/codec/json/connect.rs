//! A way to one generation.

use serde::{Deserialize, Serialize};

/// The answer to `Connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectView {
    /// [`FORMAT`](super::FORMAT)
    pub format: u32,
    /// Who has the other end.
    pub generation: u64,
    /// At which listener.
    pub listener: String,
    /// Where that listens.
    pub address: String,
    /// The descriptor is a connection; else the file of a UNIX socket.
    pub connected: bool,
    /// The number of the descriptor that comes with the answer, counted from 0; `None`: a rehearsal.
    pub descriptor: Option<u32>,
}
