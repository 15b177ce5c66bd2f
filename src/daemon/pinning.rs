//! Pinned programs: the copy that a relaunch or a rollback runs where the file on disk is another
//! one by now.

use super::chores::Chore;
use super::hands::Hands;
use super::perform::note;
use crate::machine::{Event, Launch, Level};
use crate::model::{Generation, UnitName};
use crate::os::pin::{self, FileIdentity, Pinned};
use crate::store::requirements::DEFAULT_PATH;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The copy of a program may take that long.
const PIN_BOUND: Duration = Duration::from_secs(120);
/// A larger program is not copied, in bytes.
const PROGRAM_MAX: u64 = 4 << 30;

impl Hands {
    /// The file to run instead of what is on disk; `None`: what is on disk, because that is still
    /// what the generation ran, or because there is no copy.
    pub(super) fn executable(&self, unit: &UnitName, launch: &Launch) -> Option<PathBuf> {
        if !launch.pinned {
            return None;
        }
        let copy = self.pins.program(unit, launch.origin);
        // Unknown after a crash of the machine: then the copy is the safe side.
        let was = self.pins.identity(unit, launch.origin);
        let on_disk = candidates(launch).into_iter().find_map(|path| FileIdentity::of(&path).ok());
        let unchanged = was.is_some() && on_disk == was;
        (!unchanged && copy.exists()).then_some(copy)
    }

    /// Keeps a copy of the program that this generation runs: of the very file that a worker of it
    /// has open for execution, whatever lies at its path by now.
    pub(super) fn pin(&mut self, unit: &UnitName, launch: &Launch) {
        let pid = self.workers.of(unit, launch.generation).next().map(|(_, worker)| worker.session_number());
        let begun = pid.ok_or_else(|| "its worker has ended".to_owned()).and_then(|pid| {
            let source = PathBuf::from(format!("/proc/{pid}/exe"));
            let mut same_as = candidates(launch);
            same_as.push(self.pins.program(unit, launch.origin));
            let target = self.pins.program(unit, launch.generation);
            let task = pin::pin(source, same_as, target, PROGRAM_MAX, PIN_BOUND);
            let chore = Chore::Pin(unit.clone(), launch.generation);
            let task = task.map_err(|error| error.to_string())?;
            self.chores.begin(chore, task, &mut self.sources)
        });
        if let Err(why) = begun {
            self.pinned(unit, launch.generation, &Err(why));
        }
    }

    /// The copy is in place, or cannot be.
    pub(super) fn pinned(
        &mut self,
        unit: &UnitName,
        generation: Generation,
        result: &Result<Vec<u8>, String>,
    ) {
        let outcome = match result {
            Ok(answer) => pin::decode(answer).ok_or_else(|| "the copying child answered nonsense".to_owned()),
            Err(why) => Err(why.clone()),
        };
        let pinned = match outcome {
            Ok(Pinned::Copied(identity)) => {
                self.pins.set_identity(unit, generation, &identity).map_err(|error| error.to_string())
            }
            // Its nature, and no fault: status and the refusal of a rollback say it.
            Ok(Pinned::Not(_, reason)) => {
                note(unit, Level::Debug, Some(generation), &format!("not pinned: {reason}"));
                self.say(unit, Event::Pinned { generation, pinned: false });
                return;
            }
            Err(why) => Err(why),
        };
        if let Err(why) = &pinned {
            note(unit, Level::Warning, Some(generation), &format!("not pinned: {why}"));
        }
        self.say(unit, Event::Pinned { generation, pinned: pinned.is_ok() });
    }
}

/// The files that ExecStart may mean, the likeliest first.
fn candidates(launch: &Launch) -> Vec<PathBuf> {
    let service = &launch.settings.service;
    let program = Path::new(&service.exec_start.program);
    if service.exec_start.program.contains('/') {
        return vec![program.to_path_buf()];
    }
    let path = service.environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or(DEFAULT_PATH, |(_, value)| value.as_str());
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| Path::new(folder).join(program))
        .collect()
}
