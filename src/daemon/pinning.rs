//! Pinned programs: the copy that a relaunch or a rollback runs where the file on disk is another
//! one by now.

use super::hands::Hands;
use crate::machine::{Event, Launch};
use crate::model::{Generation, UnitName};
use std::path::PathBuf;

impl Hands {
    /// The file to run instead of what is on disk; `None`: what is on disk.
    pub(super) fn executable(&self, _unit: &UnitName, _launch: &Launch) -> Option<PathBuf> {
        None
    }

    /// Keeps a copy of the program that this generation runs.
    pub(super) fn pin(&mut self, unit: &UnitName, launch: &Launch) {
        self.say(unit, Event::Pinned { generation: launch.generation, pinned: false });
    }

    /// The copy is in place, or cannot be.
    pub(super) fn pinned(
        &mut self,
        unit: &UnitName,
        generation: Generation,
        result: &Result<Vec<u8>, String>,
    ) {
        self.say(unit, Event::Pinned { generation, pinned: result.is_ok() });
    }
}
