//! The unit files as supd last read them.

use super::one_unit::Alone;
use crate::codec::fault::Fault;
use crate::codec::unitfile::{self, Conflict, Loaded, Runner, collision_key};
use crate::model::metrics::MetricsSettings;
use crate::model::settings::Socket;
use crate::model::{Settings, UnitName};
use crate::os::groups::gid_of;
use crate::store::units::{Listing, ReadError, UnitFolders};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The files, and what was last made of each.
#[derive(Debug)]
pub struct Units {
    folders: UnitFolders,
    runner: Runner,
    /// There is no other.
    alone: Option<Alone>,
    known: BTreeMap<UnitName, Known>,
    /// Where each of them has listeners, by [`collision_key`].
    places: BTreeMap<u64, Vec<UnitName>>,
    /// What was wrong with the files of a unit when they were read last, in a line.
    faulty: BTreeMap<UnitName, String>,
    /// A digest of the warnings that were logged last.
    warned: BTreeMap<UnitName, u64>,
}

/// A unit that the machine knows.
#[derive(Debug, Clone)]
pub struct Known {
    /// What its file said when it was last read without a fault.
    pub settings: Arc<Settings>,
    /// Its file was gone when it was last looked for.
    pub orphaned: bool,
}

/// Why there are no settings.
#[derive(Debug)]
pub enum Unreadable {
    /// There is no such file.
    Missing,
    /// In a sentence.
    Masked(String),
    /// Every fault.
    Faulty(Vec<Fault>),
}

impl Units {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(folders: UnitFolders) -> Self {
        let root = nix::unistd::geteuid().is_root();
        let runner = if root { Runner::Root } else { Runner::Ordinary };
        Self {
            folders,
            runner,
            alone: None,
            known: BTreeMap::new(),
            places: BTreeMap::new(),
            faulty: BTreeMap::new(),
            warned: BTreeMap::new(),
        }
    }

    /// The same of one unit alone, whatever lies beside its file.
    #[must_use]
    pub fn alone(self, alone: Alone) -> Self {
        Self { alone: Some(alone), ..self }
    }

    /// Every unit that has a file.
    #[must_use]
    pub fn list(&self) -> Listing {
        let Some(alone) = &self.alone else { return self.folders.list() };
        let there = self.folders.file(&alone.unit).map(|_| alone.unit.clone());
        Listing { units: there.into_iter().collect(), faults: Vec::new() }
    }

    /// What supd.toml says of metrics.
    ///
    /// # Errors
    /// Every fault.
    pub fn metrics(&self) -> Result<MetricsSettings, Vec<Fault>> {
        self.folders.metrics()
    }

    /// Reads the files of a unit as they are now, and remembers what is wrong with them.
    ///
    /// # Errors
    /// [`Unreadable`]
    pub fn read(&mut self, unit: &UnitName) -> Result<Loaded, Unreadable> {
        let read = self.read_afresh(unit);
        match &read {
            // supd ran out of something: that says nothing about the files.
            Err(Unreadable::Faulty(faults)) if faults.iter().any(|fault| fault.exhausted) => {}
            Err(Unreadable::Faulty(faults)) => {
                let told = self.tell(unit, faults);
                self.faulty.insert(unit.clone(), told);
            }
            Ok(_) | Err(Unreadable::Missing | Unreadable::Masked(_)) => {
                self.faulty.remove(unit);
            }
        }
        read
    }

    /// The same, and remembers nothing.
    ///
    /// # Errors
    /// [`Unreadable`]
    pub fn read_afresh(&self, unit: &UnitName) -> Result<Loaded, Unreadable> {
        if self.alone.as_ref().is_some_and(|alone| alone.unit != *unit) {
            return Err(Unreadable::Missing);
        }
        let sources = self.folders.read(unit).map_err(|error| match error {
            ReadError::NotFound { .. } => Unreadable::Missing,
            ReadError::Masked { .. } => Unreadable::Masked(error.to_string()),
            ReadError::Faults(faults) => Unreadable::Faulty(faults),
        })?;
        let mut loaded = unitfile::parse_for(&sources, self.runner).map_err(Unreadable::Faulty)?;
        self.alone.iter().for_each(|alone| alone.suit(&mut loaded.settings));
        Ok(loaded)
    }

    /// Logs the warnings, unless they are those of the last time: a file is read at each swap.
    pub fn warn(&mut self, unit: &UnitName, loaded: &Loaded) {
        if loaded.warnings.is_empty() {
            self.warned.remove(unit);
            return;
        }
        let mut hasher = DefaultHasher::new();
        loaded.warnings.iter().for_each(|warning| warning.to_string().hash(&mut hasher));
        let digest = hasher.finish();
        if self.warned.insert(unit.clone(), digest) != Some(digest) {
            loaded.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        }
    }

    /// The first fault, and where to see them all.
    fn tell(&self, unit: &UnitName, faults: &[Fault]) -> String {
        let first = faults.first().map(Fault::to_string).unwrap_or_default();
        let more = match faults.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let check = self.folders.file(unit).map(|file| format!(": supctl check {}", file.display()));
        format!("its file is wrong: {first}{more}{}", check.unwrap_or_default())
    }

    /// What was wrong with the files of a unit when they were read last.
    #[must_use]
    pub fn fault(&self, unit: &UnitName) -> Option<&str> {
        self.faulty.get(unit).map(String::as_str)
    }

    /// Every unit whose files were wrong when they were read last.
    pub fn faulty(&self) -> impl Iterator<Item = &UnitName> {
        self.faulty.keys()
    }

    /// Files that are gone are not wrong any more.
    pub fn forget_faults_but(&mut self, listed: &[UnitName]) {
        self.faulty.retain(|unit, _| listed.contains(unit));
    }

    /// What the machine was told of a unit.
    #[must_use]
    pub fn get(&self, unit: &UnitName) -> Option<&Known> {
        self.known.get(unit)
    }

    /// The machine is told this.
    pub fn set(&mut self, settings: Arc<Settings>) {
        self.unset(&settings.unit);
        for socket in &settings.sockets {
            let units = self.places.entry(collision_key(&socket.address)).or_default();
            // Mostly there is one, and a vector begins with room for four.
            units.reserve_exact(1);
            units.push(settings.unit.clone());
        }
        self.known.insert(settings.unit.clone(), Known { settings, orphaned: false });
    }

    /// Its file is gone.
    pub fn orphan(&mut self, unit: &UnitName) {
        if let Some(known) = self.known.get_mut(unit) {
            known.orphaned = true;
        }
    }

    /// The machine knows it no more.
    pub fn forget(&mut self, unit: &UnitName) {
        self.warned.remove(unit);
        self.unset(unit);
    }

    fn unset(&mut self, unit: &UnitName) {
        let Some(known) = self.known.remove(unit) else { return };
        for socket in &known.settings.sockets {
            let key = collision_key(&socket.address);
            let Some(units) = self.places.get_mut(&key) else { continue };
            units.retain(|there| there != unit);
            if units.is_empty() {
                self.places.remove(&key);
            }
        }
    }

    /// The other units that may have a listener where one of these is to be.
    pub fn rivals<'a>(&'a self, settings: &'a Settings) -> impl Iterator<Item = &'a Arc<Settings>> {
        let there = settings.sockets.iter().filter_map(|it| self.places.get(&collision_key(&it.address)));
        let others = there.flatten().filter(|unit| **unit != settings.unit);
        others.filter_map(|unit| Some(&self.known.get(unit)?.settings))
    }

    /// The group that may act on a unit.
    #[must_use]
    pub fn control_group(settings: &Settings) -> Option<u32> {
        gid_of(settings.control_group.as_deref()?)
    }

    /// A listener of these settings that one of `others` is in the way of.
    #[must_use]
    pub fn conflict<'a>(
        settings: &Settings,
        mut others: impl Iterator<Item = (&'a UnitName, &'a Socket)>,
    ) -> Option<Conflict> {
        others.find_map(|(unit, other)| {
            let socket = settings.sockets.iter().find(|socket| unitfile::collide(socket, other))?;
            Some(Conflict::between((&settings.unit, socket), (unit, other)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::unitfile::{Source, Sources};

    fn settings(name: &str, listen: &str) -> Arc<Settings> {
        let text = format!("[[Socket]]\n{listen}\n[Service]\nExecStart = \"/bin/x\"\n");
        let (unit, main) = (UnitName::new(name).unwrap(), Source::new("x.unit", text));
        let sources = Sources { unit, defaults: None, main, drop_ins: Vec::new() };
        Arc::new(unitfile::parse(&sources).unwrap().settings)
    }

    #[test]
    fn rivals_are_found_as_long_as_they_are_in_the_way() {
        let mut units = Units::new(UnitFolders { folders: Vec::new(), defaults: "x".into() });
        let web = settings("web", "ListenStream = 80");
        let rivals = |units: &Units| {
            let conflict =
                Units::conflict(&web, units.rivals(&web).map(|other| (&other.unit, &*other.sockets[0])));
            (units.rivals(&web).count(), conflict.is_some())
        };
        units.set(web.clone());
        units.set(settings("api", "ListenStream = '127.0.0.1:80'"));
        units.set(settings("other", "ListenStream = 81"));
        assert_eq!(rivals(&units), (1, true));
        units.set(settings("api", "ListenDatagram = 80"));
        assert_eq!(rivals(&units), (0, false));
        units.set(settings("api", "ListenStream = 80"));
        units.forget(&UnitName::new("api").unwrap());
        assert_eq!(rivals(&units), (0, false));
        units.forget(&UnitName::new("other").unwrap());
        units.forget(&web.unit);
        assert!(units.places.is_empty());
    }
}
