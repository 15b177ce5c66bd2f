//! A disk that takes its time is no secret.

use super::books::Book;
use super::{Checked, Rule, must};
use crate::world::{Unit, World};
use std::time::Duration;
use supd::model::status::UnitStatus;

/// An answer that takes longer is worth a word.
const SLOW: Duration = Duration::from_secs(5);
/// The word.
const STUCK: &str = "has not taken a record";

impl Book {
    /// The log says it once, until the disk answers.
    pub(super) fn notes(&mut self, unit: &Unit, text: &str) -> Checked {
        if !text.contains(STUCK) {
            return Ok(());
        }
        let before = self.told_slow.replace(unit.disk_since);
        must(Rule::Told, before != Some(unit.disk_since), || format!("says it twice: {text}"))
    }

    /// Status says it for as long as it lasts and no longer, and a look at the clock is enough for
    /// the log to say it.
    pub(super) fn says_slow(&self, world: &World, unit: &Unit, shown: &UnitStatus, clock: bool) -> Checked {
        let slow = !unit.records.is_empty() && world.now >= unit.disk_since.after(SLOW);
        let said = shown.notes.iter().any(|note| note.contains(STUCK));
        let since = world.now.since(unit.disk_since);
        must(Rule::Told, slow == said, || {
            format!(
                "{} records on their way for {since:?}, and status says {:?}",
                unit.records.len(),
                shown.notes
            )
        })?;
        must(Rule::Told, !(slow && clock) || self.told_slow == Some(unit.disk_since), || {
            format!("a record is on its way for {since:?}, and the log does not say so")
        })
    }
}
