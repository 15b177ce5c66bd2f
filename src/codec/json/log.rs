//! Where a log is.

use serde::{Deserialize, Serialize};

/// The answer to `Logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogView {
    /// [`FORMAT`](super::FORMAT)
    pub format: u32,
    /// Whose log it is.
    pub generation: u64,
    /// Where it is; the caller may well not be allowed to open it.
    pub path: String,
    /// The number of the descriptor that comes with the answer, counted from 0.
    pub descriptor: u32,
}
