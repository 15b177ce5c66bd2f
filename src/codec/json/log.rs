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
    /// Where it is, or would be; the caller may well not be allowed to open it.
    pub path: String,
    /// The number of the descriptor that comes with the answer, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<u32>,
    /// Where the journal has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalView>,
}

/// How to find it in the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalView {
    /// SYSLOG_IDENTIFIER
    pub identifier: String,
    /// The user as whom supd says in the journal what it has launched.
    pub uid: u32,
    /// The cgroup of the generation, as supd sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}
