//! RuntimeDirectory: gone once nothing of its unit lives, as by systemd's RuntimeDirectoryPreserve=no.

use super::chores::Chore;
use super::hands::Hands;
use super::perform::note;
use crate::machine::{Launch, Level, Machine};
use crate::model::settings::{Directory, DirectoryKind};
use crate::model::{Tick, UnitName};
use crate::os::remove;
use crate::os::spawn::set_aside;
use crate::os::task::Task;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long the removal of one may take.
const BOUND: Duration = Duration::from_secs(600);

/// Those that launches have made.
#[derive(Debug, Default)]
pub struct RunDirs {
    made: BTreeMap<UnitName, BTreeSet<String>>,
    /// How many have been moved out of their names.
    aside: u64,
}

impl RunDirs {
    /// This launch makes its own.
    pub(super) fn note(&mut self, launch: &Launch) {
        let is_one = |directory: &&Directory| directory.kind == DirectoryKind::Runtime;
        for directory in launch.settings.service.directories.iter().filter(is_one) {
            self.made.entry(launch.settings.unit.clone()).or_default().insert(directory.path.clone());
        }
    }

    /// Those of a unit of which nothing lives, less what another unit has, too.
    fn take(&mut self, unit: &UnitName) -> Vec<String> {
        let mut own = self.made.remove(unit).unwrap_or_default();
        own.retain(|path| self.made.values().all(|others| !others.contains(path)));
        own.into_iter().collect()
    }
}

impl Hands {
    /// A generation is gone: with the last one the directories go.
    pub(super) fn clear_run_dirs(&mut self, unit: &UnitName, machine: &Machine, now: Tick) {
        if machine.status(unit, now).is_some_and(|status| !status.generations.is_empty()) {
            return;
        }
        for path in self.run_dirs.take(unit) {
            if let Err(why) = self.clear(unit, &path) {
                note(unit, Level::Warning, None, &format!("RuntimeDirectory {path} stays: {why}"));
            }
        }
    }

    /// Out of its name at once, so that the next start makes a new one; removed by a child.
    fn clear(&mut self, unit: &UnitName, path: &str) -> Result<(), String> {
        self.run_dirs.aside += 1;
        let aside = format!(".supd-gone-{}-{}", std::process::id(), self.run_dirs.aside);
        let directory = Directory { kind: DirectoryKind::Runtime, path: path.to_owned() };
        let Some(folder) = set_aside(&self.ground.roots, &directory, &aside).map_err(|e| e.to_string())?
        else {
            return Ok(());
        };
        let work = || remove::tree(&folder, aside.as_ref()).map(|()| Vec::new()).map_err(|e| e.to_string());
        let task = Task::run("removing a RuntimeDirectory", BOUND, &[folder.as_fd()], work)
            .map_err(|error| error.to_string())?;
        self.chores.begin(Chore::Clear(unit.clone()), task, &mut self.sources)
    }
}
