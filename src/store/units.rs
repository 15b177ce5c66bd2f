//! Finding and reading the files of a unit: folders, drop-ins, supd.toml.
//!
//! As in systemd, a file of a folder that comes earlier hides the one of the same name in a later
//! folder, drop-ins too, and a link to /dev/null hides it with nothing in its place ("masked").

use super::text::{self, Content};
use crate::codec::fault::{Fault, quoted};
use crate::codec::unitfile::{BYTES_MAX, Runner, Source, Sources, metrics_of, parse_for};
use crate::model::UnitName;
use crate::model::metrics::MetricsSettings;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most units that one supd has.
pub const UNITS_MAX: usize = 10_000;

/// The most drop-ins of one unit.
pub const DROP_INS_MAX: usize = 64;

/// The most entries of a folder that are looked at: it may hold other things too.
const ENTRIES_MAX: usize = 20 * UNITS_MAX;

/// Where units are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFolders {
    /// What comes first hides what comes later: /etc/supd/units, /usr/lib/supd/units.
    pub folders: Vec<PathBuf>,
    /// supd.toml, which may be missing.
    pub defaults: PathBuf,
}

/// The units that there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of their names; masked ones are left out.
    pub units: Vec<UnitName>,
    /// Files that are no units because of their names, and folders that cannot be read.
    pub faults: Vec<Fault>,
}

/// Why the files of a unit cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// None of the folders has such a file.
    NotFound {
        /// The unit.
        unit: UnitName,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// The file is a link to /dev/null: somebody wants there to be no such unit.
    Masked {
        /// The link.
        path: PathBuf,
    },
    /// Everything that is wrong with the files.
    Faults(Vec<Fault>),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { unit, searched } => {
                let searched: Vec<String> =
                    searched.iter().map(|folder| folder.display().to_string()).collect();
                write!(f, "there is no {unit}.unit in {}", searched.join(" or "))
            }
            Self::Masked { path } => {
                write!(f, "{} is masked by a link to /dev/null; remove the link to use it", path.display())
            }
            Self::Faults(faults) => {
                for (index, fault) in faults.iter().enumerate() {
                    if index > 0 {
                        f.write_str("\n")?;
                    }
                    write!(f, "{fault}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ReadError {}

impl UnitFolders {
    /// Every unit by name. Its files may be faulty all the same: [`Self::read`] tells.
    #[must_use]
    pub fn list(&self) -> Listing {
        let mut listing = Listing::default();
        let (mut found, mut hidden) = (BTreeSet::new(), BTreeSet::new());
        for folder in &self.folders {
            let entries = match entries(folder) {
                Ok(entries) => entries,
                Err(fault) => {
                    listing.faults.push(fault);
                    continue;
                }
            };
            for file_name in entries {
                let Some(stem) = unit_stem(&file_name) else { continue };
                let path = folder.join(&file_name);
                match UnitName::new(&stem) {
                    Err(rule) => listing.faults.push(bad_name(path, &stem, &rule.to_string())),
                    Ok(name) if found.contains(&name) || hidden.contains(&name) => {}
                    Ok(name) if text::is_null(&path) => {
                        hidden.insert(name);
                    }
                    Ok(name) => {
                        found.insert(name);
                    }
                }
            }
        }
        if found.len() > UNITS_MAX {
            let what = format!("{} units, where {UNITS_MAX} are the most", found.len());
            let folder = self.folders.first().cloned().unwrap_or_default();
            listing.faults.push(Fault::of_file(folder, what, "the last ones by name are left out"));
        }
        listing.units = found.into_iter().take(UNITS_MAX).collect();
        listing
    }

    /// Where the file of a unit is, whatever is in it.
    #[must_use]
    pub fn file(&self, unit: &UnitName) -> Option<PathBuf> {
        let paths = self.folders.iter().map(|folder| folder.join(format!("{unit}.unit")));
        paths.into_iter().find(|path| path.symlink_metadata().is_ok())
    }

    /// What supd.toml says of supd itself.
    ///
    /// # Errors
    /// What is wrong there.
    pub fn metrics(&self) -> Result<MetricsSettings, Vec<Fault>> {
        match text::read(&self.defaults, BYTES_MAX) {
            Ok(Content::Text(text)) => metrics_of(&Source::new(&self.defaults, text)),
            Ok(Content::Missing | Content::Null) => Ok(MetricsSettings::default()),
            Err(fault) => Err(vec![fault]),
        }
    }

    /// Reads every file of a unit.
    ///
    /// # Errors
    /// [`ReadError`]: a unit that is not there is told apart from one that cannot be read.
    pub fn read(&self, unit: &UnitName) -> Result<Sources, ReadError> {
        let file_name = format!("{unit}.unit");
        for folder in &self.folders {
            let path = folder.join(&file_name);
            match text::read(&path, BYTES_MAX) {
                Ok(Content::Missing) => {}
                Ok(Content::Null) => return Err(ReadError::Masked { path }),
                Ok(Content::Text(text)) => {
                    return self.gather(unit.clone(), Ok(Source::new(path, text)), &self.folders);
                }
                Err(fault) => return self.gather(unit.clone(), Err(fault), &self.folders),
            }
        }
        Err(ReadError::NotFound { unit: unit.clone(), searched: self.folders.clone() })
    }

    /// Reads a unit file wherever it is, for a check before it is put in place.
    ///
    /// The drop-ins beside it count; and those of all folders, if it is in one of them. Elsewhere
    /// supd.toml is looked for where a supd of that folder (`--units`) has it, above the folder, and
    /// only then in the usual place.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn read_file(&self, path: &Path) -> Result<Sources, ReadError> {
        let refuse =
            |what: String, remedy: String| Err(ReadError::Faults(vec![Fault::of_file(path, what, remedy)]));
        let file_name = path.file_name().unwrap_or_default();
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent_name = fs::canonicalize(parent).ok();
        let parent_name = parent_name.as_deref().and_then(Path::file_name).unwrap_or_default();
        if let Some(unit) = parent_name.to_str().and_then(|name| name.strip_suffix(".d")) {
            if unit.ends_with(".unit") {
                return refuse(format!("this is a drop-in of {unit}"), format!("check {unit}"));
            }
        }
        let Some(stem) = unit_stem(file_name) else {
            return refuse("the name of a unit file ends in .unit".to_owned(), String::new());
        };
        let unit = match UnitName::new(&stem) {
            Ok(unit) => unit,
            Err(rule) => {
                return Err(ReadError::Faults(vec![bad_name(path.to_owned(), &stem, &rule.to_string())]));
            }
        };
        let main = match text::read(path, BYTES_MAX) {
            Ok(Content::Text(text)) => Ok(Source::new(path, text)),
            Ok(Content::Null) => return Err(ReadError::Masked { path: path.to_owned() }),
            Ok(Content::Missing) => return refuse("there is no such file".to_owned(), String::new()),
            Err(fault) => Err(fault),
        };
        let same = |folder: &PathBuf| match (fs::canonicalize(folder), fs::canonicalize(parent)) {
            (Ok(folder), Ok(parent)) => folder == parent,
            _ => false,
        };
        if self.folders.iter().any(same) {
            return self.gather(unit, main, &self.folders);
        }
        let above = fs::canonicalize(parent).ok().and_then(|full| Some(full.parent()?.join("supd.toml")));
        let above = above.filter(|defaults| defaults.symlink_metadata().is_ok());
        let defaults = above.unwrap_or_else(|| self.defaults.clone());
        Self { folders: Vec::new(), defaults }.gather(unit, main, &[parent.to_owned()])
    }

    /// Adds supd.toml and the drop-ins, and collects what is wrong with any of them.
    fn gather(
        &self,
        unit: UnitName,
        main: Result<Source, Fault>,
        folders: &[PathBuf],
    ) -> Result<Sources, ReadError> {
        let mut faults = Vec::new();
        let defaults = match text::read(&self.defaults, BYTES_MAX) {
            Ok(Content::Text(text)) => Some(Source::new(&self.defaults, text)),
            Ok(Content::Missing | Content::Null) => None,
            Err(fault) => {
                faults.push(fault);
                None
            }
        };
        let mut drop_ins = Vec::new();
        let mut bytes = main.as_ref().map_or(0, |main| main.text.len());
        for path in find_drop_ins(&unit, folders, &mut faults).into_values() {
            match text::read(&path, BYTES_MAX) {
                Ok(Content::Text(text)) => {
                    bytes += text.len();
                    if bytes > BYTES_MAX {
                        let what = format!("with it the unit's files have more than {BYTES_MAX} bytes");
                        faults.push(Fault::of_file(path, what, "take some of the drop-ins out"));
                        break;
                    }
                    drop_ins.push(Source::new(path, text));
                }
                // Gone since the folder was read, or there to hide another.
                Ok(Content::Missing | Content::Null) => {}
                Err(fault) => faults.push(fault),
            }
        }
        match main {
            Ok(main) if faults.is_empty() => Ok(Sources { unit, defaults, main, drop_ins }),
            Ok(main) => {
                // What could be read may be wrong as well: every fault at once.
                let sources = Sources { unit, defaults, main, drop_ins };
                let of = |runner| parse_for(&sources, runner).err().unwrap_or_default();
                // Whoever supd is: what one may not and the other may is no news here.
                let root = of(Runner::Root);
                faults.extend(of(Runner::Ordinary).into_iter().filter(|fault| root.contains(fault)));
                Err(ReadError::Faults(faults))
            }
            Err(fault) => {
                faults.insert(0, fault);
                Err(ReadError::Faults(faults))
            }
        }
    }
}

/// The drop-ins of a unit by file name; of two of one name that of the earlier folder.
fn find_drop_ins(
    unit: &UnitName,
    folders: &[PathBuf],
    faults: &mut Vec<Fault>,
) -> BTreeMap<OsString, PathBuf> {
    let mut found = BTreeMap::new();
    for folder in folders {
        let folder = folder.join(format!("{unit}.unit.d"));
        let entries = match entries(&folder) {
            Ok(entries) => entries,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        for file_name in entries {
            let ending = Path::new(&file_name).extension().unwrap_or_default();
            if ending == "conf" || ending == "toml" {
                let fault = Fault::of_file(
                    folder.join(&file_name),
                    "the name of a drop-in ends in .unit, so this is not read",
                    "rename it, or move it away",
                );
                faults.push(fault);
            } else if unit_stem(&file_name).is_some() && found.len() <= DROP_INS_MAX {
                found.entry(file_name.clone()).or_insert_with(|| folder.join(&file_name));
            }
        }
        if found.len() > DROP_INS_MAX {
            let what = format!("more than {DROP_INS_MAX} drop-ins for one unit");
            faults.push(Fault::of_file(folder, what, "join some of them"));
            break;
        }
    }
    found
}

/// The names in a folder, in order. A folder that is not there has none.
fn entries(folder: &Path) -> Result<Vec<OsString>, Fault> {
    let fault = |error: &std::io::Error| text::unread(folder, "read the folder", error);
    let directory = match fs::read_dir(folder) {
        Ok(directory) => directory,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fault(&error)),
    };
    let mut names = Vec::new();
    for entry in directory.take(ENTRIES_MAX) {
        names.push(entry.map_err(|error| fault(&error))?.file_name());
    }
    names.sort();
    Ok(names)
}

/// The name without `.unit`; `None` for files that are none: hidden ones and those of editors.
fn unit_stem(file_name: &OsStr) -> Option<String> {
    let bytes = file_name.as_bytes();
    let stem = bytes.strip_suffix(b".unit")?;
    (!bytes.starts_with(b".")).then(|| String::from_utf8_lossy(stem).into_owned())
}

fn bad_name(path: PathBuf, stem: &str, rule: &str) -> Fault {
    if stem.contains('@') {
        let what = format!("{}: names with @ are kept for templates", quoted(stem));
        return Fault::of_file(path, what, "not available yet: write one file for each unit");
    }
    Fault::of_file(path, format!("{} is no name for a unit", quoted(stem)), rule)
}

#[cfg(test)]
mod tests;
