//! The unit files as supd last read them.

use crate::codec::fault::Fault;
use crate::codec::unitfile::{self, Conflict, Loaded, Runner};
use crate::model::{Settings, UnitName};
use crate::os::groups::gid_of;
use crate::store::units::{Listing, ReadError, UnitFolders};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The files, and what was last made of each.
#[derive(Debug)]
pub struct Units {
    folders: UnitFolders,
    runner: Runner,
    known: BTreeMap<UnitName, Known>,
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
        Self { folders, runner, known: BTreeMap::new() }
    }

    /// Every unit that has a file.
    #[must_use]
    pub fn list(&self) -> Listing {
        self.folders.list()
    }

    /// Reads the files of a unit as they are now.
    ///
    /// # Errors
    /// [`Unreadable`]
    pub fn read(&self, unit: &UnitName) -> Result<Loaded, Unreadable> {
        let sources = self.folders.read(unit).map_err(|error| match error {
            ReadError::NotFound { .. } => Unreadable::Missing,
            ReadError::Masked { .. } => Unreadable::Masked(error.to_string()),
            ReadError::Faults(faults) => Unreadable::Faulty(faults),
        })?;
        unitfile::parse_for(&sources, self.runner).map_err(Unreadable::Faulty)
    }

    /// What the machine was told of a unit.
    #[must_use]
    pub fn get(&self, unit: &UnitName) -> Option<&Known> {
        self.known.get(unit)
    }

    /// The machine is told this.
    pub fn set(&mut self, settings: Arc<Settings>) {
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
        self.known.remove(unit);
    }

    /// Every unit that the machine knows.
    pub fn known(&self) -> impl Iterator<Item = (&UnitName, &Known)> {
        self.known.iter()
    }

    /// The group that may act on a unit.
    #[must_use]
    pub fn control_group(settings: &Settings) -> Option<u32> {
        gid_of(settings.control_group.as_deref()?)
    }

    /// A listener of these settings that one of `others` is in the way of, in a sentence.
    #[must_use]
    pub fn conflict<'a>(
        settings: &'a Settings,
        others: impl Iterator<Item = &'a Settings>,
    ) -> Option<String> {
        let all: Vec<&Settings> = std::iter::once(settings).chain(others).collect();
        // The first of the list is the first of its conflicts.
        let ours = |conflict: &Conflict| conflict.first.0 == settings.unit;
        unitfile::conflicts(&all).into_iter().find(ours).map(|conflict| conflict.to_string())
    }
}
