//! The descriptor store of the fake world: every worker gives something into it as soon as it is launched.

use crate::world::Unit;
use std::collections::BTreeSet;
use std::sync::Arc;
use supd::machine::Launch;
use supd::model::settings::Preserve;
use supd::model::{Generation, Settings};

/// What is stored for one generation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    /// Whose workers gave it, here or before it was handed on.
    pub(crate) by: BTreeSet<Generation>,
    /// `None`: nothing of the generation was launched yet.
    pub(crate) settings: Option<Arc<Settings>>,
}

impl Unit {
    /// A worker is launched, and stores something of its own.
    pub(crate) fn store_of(&mut self, launch: &Launch) {
        if stores(&launch.settings) {
            let stored = self.stored.entry(launch.generation).or_default();
            stored.by.insert(launch.generation);
            stored.settings = Some(launch.settings.clone());
        }
    }

    pub(crate) fn bequeath(&mut self, from: Generation, to: Generation) {
        if let Some(by) = self.stored.get(&from).map(|stored| stored.by.clone()) {
            self.stored.entry(to).or_default().by.extend(by);
        }
    }
}

pub(crate) fn stores(settings: &Settings) -> bool {
    settings.service.file_descriptor_store_max > 0
}

pub(crate) fn preserve(settings: &Settings) -> Preserve {
    settings.service.file_descriptor_store_preserve
}
