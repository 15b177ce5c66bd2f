//! An installed version of a unit's program, and what becomes of one.

use super::id::Label;

/// What is known of how a release serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing yet: it was installed.
    New,
    /// It was committed.
    Good,
    /// It failed, was aborted or rolled back from: it is never taken as the newest.
    Bad,
}

/// One release of a unit, as the ledger knows it; its files are in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub label: Label,
    /// What was installed.
    pub content: Content,
    /// How it served.
    pub verdict: Verdict,
}

/// What a source turned out to contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// `sha256:` and the digest of names, kinds and contents: no times and no owners.
    pub digest: String,
    /// How many members.
    pub files: u64,
    /// How many bytes in all files together.
    pub bytes: u64,
    /// When it was unpacked, in microseconds since 1970 by the wall clock: for people.
    pub at: u64,
}
