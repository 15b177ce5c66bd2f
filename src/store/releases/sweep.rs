//! What a supd that was killed, or a machine that lost power, left of installs and removals.

use super::{Releases, remove};
use crate::model::{Label, UnitName};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What the ledger knows of one unit's releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// These and no others.
    Only(BTreeSet<Label>),
    /// It could not be read: whatever is there stays.
    Unreadable,
}

impl Releases {
    /// At boot, before the first install: whatever is being unpacked or removed goes, and each
    /// folder that the ledger does not name, also those of units that are not in `known` at all.
    /// Gives what was no release after all, for the log.
    ///
    /// # Errors
    /// What could not be removed. The rest was.
    pub fn sweep(&self, known: &BTreeMap<UnitName, Known>) -> Result<Vec<PathBuf>, String> {
        let moved = self.set_aside(known)?;
        remove::empty(&self.trash())?;
        Ok(moved)
    }

    /// The first half, a few renames: once it is done, installs may begin while
    /// [`Releases::empty_trash`] goes on.
    ///
    /// # Errors
    /// What could not be moved away.
    pub fn set_aside(&self, known: &BTreeMap<UnitName, Known>) -> Result<Vec<PathBuf>, String> {
        self.prepare().map_err(|error| error.to_string())?;
        for (path, _) in entries(&self.staging())? {
            remove::set_aside(&path, &self.trash())?;
        }
        let mut moved = Vec::new();
        for (folder, name) in entries(&self.root)? {
            // supd's own begin with a dot; whatever else is there is not supd's to remove.
            let Ok(unit) = UnitName::new(&name) else { continue };
            match known.get(&unit) {
                Some(Known::Unreadable) => {}
                Some(Known::Only(labels)) => self.set_aside_but(&folder, labels, &mut moved)?,
                None => {
                    self.set_aside_but(&folder, &BTreeSet::new(), &mut moved)?;
                    remove::set_aside(&folder, &self.trash())?;
                }
            }
        }
        Ok(moved)
    }

    /// The second half.
    ///
    /// # Errors
    /// What could not be removed. The rest was.
    pub fn empty_trash(&self) -> Result<(), String> {
        remove::empty(&self.trash())
    }

    /// Whether there is anything for [`Releases::empty_trash`].
    #[must_use]
    pub fn has_trash(&self) -> bool {
        entries(&self.trash()).is_ok_and(|entries| !entries.is_empty())
    }

    /// What stands in the place of releases of a unit, be it releases or not.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self, unit: &UnitName) -> Result<Vec<Label>, String> {
        Ok(entries(&self.unit(unit))?.into_iter().filter_map(|(_, name)| Label::new(&name).ok()).collect())
    }

    fn set_aside_but(
        &self,
        folder: &Path,
        labels: &BTreeSet<Label>,
        moved: &mut Vec<PathBuf>,
    ) -> Result<(), String> {
        for (path, name) in entries(folder)? {
            if !Label::new(&name).is_ok_and(|label| labels.contains(&label)) {
                remove::set_aside(&path, &self.trash())?;
                moved.push(path);
            }
        }
        Ok(())
    }
}

/// Paths and names in a folder, in order. One that is not there is empty, and so is a file.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let failed = |error: std::io::Error| format!("cannot list {}: {error}", folder.display());
    let found = match fs::read_dir(folder) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry.map_err(failed)?;
        entries.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    entries.sort();
    Ok(entries)
}
