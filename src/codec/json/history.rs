//! What happened, as the protocol and the history's file tell it.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What `History` answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryView {
    /// The number of this shape.
    pub format: u32,
    /// Oldest first.
    pub entries: Vec<HistoryEntry>,
    /// There are older ones: ask again with this.
    pub before: Option<u64>,
    /// Of what has this number or a lower one only a part is kept, or nothing; 0: everything is.
    pub forgotten: u64,
}

/// What `Watch` says, again and again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventsView {
    /// The number of this shape.
    pub format: u32,
    /// Where to go on after this.
    pub cursor: u64,
    /// Oldest first.
    pub entries: Vec<HistoryEntry>,
}

/// The same two, with entries as a file has them: a reader of an older supd loses nothing that a
/// newer one wrote.
#[derive(Debug, Serialize)]
pub struct RawHistoryView<'a> {
    /// The number of this shape.
    pub format: u32,
    /// Oldest first.
    pub entries: &'a [Box<RawValue>],
    /// As in [`HistoryView`].
    pub before: Option<u64>,
    /// As in [`HistoryView`].
    pub forgotten: u64,
}

/// As [`EventsView`].
#[derive(Debug, Serialize)]
pub struct RawEventsView<'a> {
    /// The number of this shape.
    pub format: u32,
    /// Where to go on after this.
    pub cursor: u64,
    /// Oldest first.
    pub entries: &'a [Box<RawValue>],
}

/// What supctl reads of it, to print each entry as it came.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct CameEventsView {
    /// Where to go on after this.
    pub cursor: u64,
    /// Oldest first.
    pub entries: Vec<Box<RawValue>>,
}

/// One thing that happened. What does not apply is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// The number of this shape.
    pub format: u32,
    /// Its number: it grows for ever, with gaps.
    pub seq: u64,
    /// Microseconds since 1970 by the wall clock.
    pub at_us: u64,
    /// Which boot of the machine.
    pub boot: String,
    /// What, in a word.
    pub what: String,
    /// About which unit; absent: about supd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Who asked for it; absent: nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<ByView>,
    /// The swap that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_id: Option<u64>,
    /// start, swap, restart or rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Who received the traffic before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<SideView>,
    /// Who was to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<SideView>,
    /// The generation that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The release that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// How a swap ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Why, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// From the launch to ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<u64>,
    /// From the intent saved until new connections reached it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch_us: Option<u64>,
    /// How often it happened, where this stands for several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

/// Who asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ByView {
    /// The user, by the kernel's word.
    pub uid: u32,
    /// Who logged in, to become that user later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// As `swap`.
    pub verb: String,
    /// In that person's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One end of a change of generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SideView {
    /// Its number.
    pub generation: u64,
    /// Its release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
}
