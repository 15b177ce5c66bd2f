//! Generations that have ended, and live once more for who waits in their slots.

use super::books::Book;
use super::{Checked, Rule, must};
use std::collections::BTreeSet;
use std::sync::Arc;
use supd::machine::Launch;
use supd::model::Generation;
use supd::model::status::{GenerationState, UnitStatus};

impl Book {
    /// Nothing of it is left.
    pub(super) fn buries(&mut self, generation: Generation) {
        self.ended.insert(generation);
        self.standbys.remove(&generation);
        self.drains.remove(&generation);
        self.rescued.entry(generation).and_modify(|places| *places = None);
    }

    /// Somebody waits for one that has ended.
    pub(super) fn waited_for(&mut self, generation: Generation) {
        self.rescued.entry(generation).or_insert_with(|| {
            self.owed = Some(generation);
            Some(BTreeSet::new())
        });
    }

    /// A launch of one that has ended.
    pub(super) fn rescues(&mut self, index: u32, launch: &Arc<Launch>) -> Checked {
        let generation = launch.generation;
        self.same_recipe(launch)?;
        must(Rule::Pinned, launch.pinned, || format!("{generation} lives once more with what is on disk"))?;
        let places = self.rescued.get_mut(&generation).and_then(Option::as_mut);
        let once = places.is_some_and(|places| places.insert(index));
        must(Rule::Rescue, once, || format!("launches {generation}.{index}, which has ended, for nobody"))
    }

    /// New connections are led there.
    pub(super) fn leads_to(&self, generation: Generation) -> Checked {
        must(Rule::Rescue, !self.ended.contains(&generation), || {
            format!("leads new connections to {generation}, which has ended")
        })
    }

    /// Looks at them once a step is done.
    pub(super) fn rescues_well(&self, shown: &UnitStatus) -> Checked {
        if let Some(owed) = self.owed {
            let lives = shown.generations.iter().any(|one| one.generation == owed);
            must(Rule::Rescue, lives, || format!("somebody waits for {owed}, and will for ever"))?;
        }
        for one in shown.generations.iter().filter(|one| self.rescued.contains_key(&one.generation)) {
            let leaves = matches!(one.state, GenerationState::Draining | GenerationState::Failed);
            must(Rule::Rescue, leaves && one.share == Some(0), || {
                format!("{} lives for who waits in its slot, yet {one:?}", one.generation)
            })?;
        }
        Ok(())
    }
}
