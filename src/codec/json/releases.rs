//! Releases as the protocol shows them.

use crate::model::release::Verdict;
use crate::model::status::ReleaseStatus;
use serde::{Deserialize, Serialize};

/// What `Releases` answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReleasesView {
    /// The number of this shape.
    pub format: u32,
    /// By unit, in the order of installation.
    pub releases: Vec<ReleaseView>,
}

/// One release.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReleaseView {
    /// Whose.
    pub unit: String,
    /// Its name.
    pub label: String,
    /// `sha256:HEX` of its content.
    pub digest: String,
    /// How many files.
    pub files: u64,
    /// How many bytes in these.
    pub bytes: u64,
    /// Microseconds since 1970.
    pub installed_at_us: u64,
    /// new, good or bad.
    pub verdict: String,
    /// A swap without a label takes it.
    pub newest: bool,
    /// Why it cannot be taken away.
    pub held: Option<String>,
}

impl ReleaseView {
    /// One release of this unit.
    #[must_use]
    pub fn new(unit: &str, status: &ReleaseStatus) -> Self {
        let content = &status.release.content;
        let verdict = match status.release.verdict {
            Verdict::New => "new",
            Verdict::Good => "good",
            Verdict::Bad => "bad",
        };
        Self {
            unit: unit.to_owned(),
            label: status.release.label.to_string(),
            digest: content.digest.clone(),
            files: content.files,
            bytes: content.bytes,
            installed_at_us: content.at,
            verdict: verdict.to_owned(),
            newest: status.newest,
            held: status.held.clone(),
        }
    }
}
