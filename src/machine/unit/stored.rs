//! What workers have given into the descriptor store: who begins with it, and when it is closed.
//!
//! What a generation stored is its own: its next runs get it, and so does a generation that goes back to
//! it. Whoever takes its place gets a copy, so that whatever becomes of that one changes nothing for the
//! way back.

use super::super::effect::Action;
use super::super::group::Group;
use super::super::swap::{Plan, Swap};
use super::super::turn::Turn;
use super::{Life, Unit};
use crate::model::settings::{Preserve, Service};
use crate::model::{Generation, SwapKind};
use std::collections::BTreeSet;

fn stores(service: &Service) -> bool {
    service.file_descriptor_store_max > 0
}

impl Unit {
    /// Whose stored descriptors this begins with. To be asked before the ledger knows of it: where nobody
    /// serves, it takes the place of who did last.
    pub(super) fn heir_of(&self, plan: &Plan) -> Option<Generation> {
        let service = &plan.settings.service;
        let last = self.durable.active.as_ref().map(|kept| kept.generation);
        let heir_of = match plan.kind {
            // Never of what it leaves.
            SwapKind::Rollback => plan.origin,
            SwapKind::Start | SwapKind::Swap | SwapKind::Restart => plan.origin.or(last),
        };
        heir_of.filter(|_| stores(service) && service.file_descriptor_store_preserve != Preserve::No)
    }

    /// Gives it to the one that is about to be launched.
    pub(super) fn bequeath(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) {
        if let Some(from) = swap.heir_of.take().filter(|from| self.storing.contains(from)) {
            turn.act(Action::Bequeath { from, to: swap.to });
        }
    }

    /// Closes what nobody gets any more.
    pub(super) fn close_stored(&mut self, turn: &mut Turn<'_>) {
        let keep = self.kept_stored();
        if keep == self.storing {
            return;
        }
        let loses = self.storing.difference(&keep).next().is_some();
        self.storing.clone_from(&keep);
        if loses {
            turn.act(Action::CloseStored { keep: keep.into_iter().collect() });
        }
    }

    /// The generations of which something may be stored that somebody may get.
    fn kept_stored(&self) -> BTreeSet<Generation> {
        let alive = self.groups.values().chain(self.ended_groups());
        let alive = alive.filter(|group| stores(&group.launch.settings.service)).map(Group::generation);
        let durable = &self.durable;
        let named = [&durable.active, &durable.previous, &durable.retained].into_iter().flatten();
        let swap = self.swap.as_ref().and_then(|swap| swap.heir_of);
        let named = named.map(|kept| kept.generation).chain(swap);
        let stopped = matches!(self.life, Life::Stopped { .. });
        let stays = |generation: &Generation| {
            let Some(recipe) = self.recipes.get(generation) else { return false };
            let service = &recipe.settings.service;
            stores(service)
                && match service.file_descriptor_store_preserve {
                    Preserve::No => false,
                    Preserve::Restart => !stopped,
                    Preserve::Yes => true,
                }
        };
        alive.chain(named.filter(stays)).collect()
    }
}
