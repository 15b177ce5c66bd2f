//! What a generation is relaunched from: its settings and a copy of its program, in
//! `generations/UNIT/NUMBER/` of the state folder.

use super::files;
use crate::codec::pinned;
use crate::model::{Generation, Settings, UnitName};
use crate::os::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Pinned settings are never longer, in bytes: a unit file has at most 1 MiB.
const SETTINGS_MAX: u64 = 16 * 1024 * 1024;

/// Bits of the folders: a worker's user goes through to its program and sees nothing else.
const THROUGH: u32 = 0o711;

/// The pinned generations of one state folder.
#[derive(Debug, Clone)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Those of this state folder.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { root: state.join("generations") }
    }

    /// The state folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    /// The folder of one unit's generations.
    #[must_use]
    pub fn unit(&self, unit: &UnitName) -> PathBuf {
        self.root.join(unit.as_str())
    }

    /// The folder of one generation.
    #[must_use]
    pub fn folder(&self, unit: &UnitName, generation: Generation) -> PathBuf {
        self.unit(unit).join(generation.to_string())
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self, unit: &UnitName, generation: Generation) -> PathBuf {
        self.folder(unit, generation).join("settings.json")
    }

    /// The copy of its program.
    #[must_use]
    pub fn program(&self, unit: &UnitName, generation: Generation) -> PathBuf {
        self.folder(unit, generation).join("program")
    }

    /// The pinned settings of a generation.
    ///
    /// # Errors
    /// Why they cannot be had, with the path.
    pub fn load(&self, unit: &UnitName, generation: Generation) -> Result<Settings, String> {
        let path = self.settings(unit, generation);
        let bytes = files::read(&path, SETTINGS_MAX).map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or_else(|| format!("{} is gone", path.display()))?;
        read(&bytes, unit, &path.display())
    }

    /// Puts the settings of a generation in place as a record of the ledger carries them, if they are
    /// not there: a crash of the machine may have left an empty file, or none.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn restore(&self, unit: &UnitName, generation: Generation, settings: &Settings) -> Result<(), Error> {
        let (path, text) = (self.settings(unit, generation), pinned::encode(settings));
        if files::read(&path, SETTINGS_MAX).is_ok_and(|there| there.as_deref() == Some(text.as_bytes())) {
            return Ok(());
        }
        make_folders(self.state(), &self.folder(unit, generation))?;
        files::put(&path, text.as_bytes(), 0o600)
    }

    /// The generations that have a folder, in order. They tell which numbers were used even where
    /// the ledger's last line was lost.
    #[must_use]
    pub fn generations(&self, unit: &UnitName) -> Vec<Generation> {
        numbered(&self.unit(unit), "")
    }
}

/// Settings of this unit, from a file or a line of the ledger.
///
/// # Errors
/// Why they are none, with `place`.
pub fn read(text: &[u8], unit: &UnitName, place: &dyn fmt::Display) -> Result<Settings, String> {
    let settings = pinned::decode(text).map_err(|why| format!("cannot use {place}: {why}"))?;
    if settings.unit == *unit {
        Ok(settings)
    } else {
        Err(format!("{place} is of another unit: {}", settings.unit))
    }
}

/// Makes the folders from the state folder on the way to `folder`, as far as they are missing.
/// They are not synced.
///
/// # Errors
/// What the kernel answered.
pub fn make_folders(state: &Path, folder: &Path) -> Result<(), Error> {
    let below = folder.ancestors().take_while(|path| *path != state && path.starts_with(state));
    let missing: Vec<&Path> = below.take_while(|path| !path.is_dir()).collect();
    for path in missing.into_iter().rev() {
        files::make_folder(path, THROUGH)?;
    }
    Ok(())
}

/// Removes what is stored under the generations up to `last` that are not in `keep`: folders, or
/// files with this ending. Errors cost disk space and nothing else; they are returned to be noted.
#[must_use]
pub fn prune(folder: &Path, ending: &str, keep: &[Generation], last: Generation) -> Vec<Error> {
    let mut faults = Vec::new();
    for generation in numbered(folder, ending) {
        if generation > last || keep.contains(&generation) {
            continue;
        }
        let path = folder.join(format!("{generation}{ending}"));
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { files::remove_if_there(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                faults.push(Error::from_io("remove", path.display(), &error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    faults
}

/// The numbers that the entries of a folder are named by, in order.
#[must_use]
pub fn numbered(folder: &Path, ending: &str) -> Vec<Generation> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut numbers: Vec<Generation> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(ending)?.parse().ok())
        .map(Generation)
        .collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::pinned::tests::sample;

    #[test]
    fn pinned_settings_come_back_and_only_to_their_unit() {
        let state = tempfile::tempdir().unwrap();
        let pins = Pins::new(state.path());
        let (web, api) = (UnitName::new("web").unwrap(), UnitName::new("api").unwrap());
        make_folders(state.path(), &pins.folder(&web, Generation(3))).unwrap();
        let text = pinned::encode(&sample("web"));
        files::put_durably(&pins.settings(&web, Generation(3)), text.as_bytes(), 0o600).unwrap();
        assert_eq!(pins.load(&web, Generation(3)), Ok(sample("web")));
        assert!(pins.load(&web, Generation(4)).unwrap_err().ends_with("is gone"));
        fs::rename(pins.unit(&web), pins.unit(&api)).unwrap();
        assert!(pins.load(&api, Generation(3)).unwrap_err().contains("of another unit: web"));
    }

    #[test]
    fn settings_that_a_crash_took_away_are_restored() {
        let state = tempfile::tempdir().unwrap();
        let pins = Pins::new(state.path());
        let web = UnitName::new("web").unwrap();
        let settings = sample("web");
        for left in
            [None, Some(&b""[..]), Some(b"{\"format\":1,"), Some(pinned::encode(&settings).as_bytes())]
        {
            if let Some(left) = left {
                fs::write(pins.settings(&web, Generation(3)), left).unwrap();
            }
            pins.restore(&web, Generation(3), &settings).unwrap();
            assert_eq!(pins.load(&web, Generation(3)), Ok(settings.clone()));
        }
        let text = pinned::encode(&settings);
        assert_eq!(read(text.as_bytes(), &web, &"x"), Ok(settings));
        let api = UnitName::new("api").unwrap();
        assert_eq!(read(text.as_bytes(), &api, &"x"), Err("x is of another unit: web".into()));
    }

    #[test]
    fn pruning_spares_the_kept_and_those_that_came_later() {
        let state = tempfile::tempdir().unwrap();
        let pins = Pins::new(state.path());
        let web = UnitName::new("web").unwrap();
        for generation in [1, 2, 3, 10, 11] {
            make_folders(state.path(), &pins.folder(&web, Generation(generation))).unwrap();
        }
        fs::write(pins.unit(&web).join("a person's notes"), "").unwrap();
        assert!(prune(&pins.unit(&web), "", &[Generation(2)], Generation(10)).is_empty());
        assert_eq!(pins.generations(&web), [Generation(2), Generation(11)]);
        assert!(pins.unit(&web).join("a person's notes").exists());
        assert!(prune(Path::new("/nonexistent"), "", &[], Generation(9)).is_empty());

        let logs = tempfile::tempdir().unwrap();
        for name in ["1.log", "2.log", "x.log", "1"] {
            fs::write(logs.path().join(name), "").unwrap();
        }
        assert!(prune(logs.path(), ".log", &[Generation(2)], Generation(10)).is_empty());
        assert_eq!(fs::read_dir(logs.path()).unwrap().count(), 3);
    }
}
