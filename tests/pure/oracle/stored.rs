//! What workers have stored: who gets it, and that it is closed once nobody does.

use super::books::Book;
use super::{Checked, Oracle, Rule, must, show};
use crate::stored::{Stored, preserve, stores};
use crate::world::{Unit, World, number};
use std::collections::BTreeSet;
use supd::machine::Launch;
use supd::model::settings::Preserve;
use supd::model::status::{UnitState, UnitStatus};
use supd::model::{Generation, SwapKind, Want};

impl Book {
    /// A generation is given what another has stored.
    pub(super) fn bequeaths(&mut self, unit: &Unit, from: Generation, to: Generation) -> Checked {
        let begun = unit.procs.iter().any(|proc| proc.generation() == to) || unit.stored.contains_key(&to);
        must(Rule::Stored, !begun, || format!("{to} has begun, and is given what {from} stored"))?;
        self.given.insert(to, from);
        let Some(swap) = self.maker(to).filter(|swap| swap.kind == SwapKind::Rollback) else { return Ok(()) };
        let left = number(swap.before.active.as_ref());
        must(Rule::Stored, left != Some(from), || {
            format!("{to} goes back with what {from} stored, which it leaves")
        })
    }

    /// A worker is launched.
    pub(super) fn is_given(&self, unit: &Unit, launch: &Launch) -> Checked {
        let generation = launch.generation;
        if !stores(&launch.settings) {
            return Ok(());
        }
        let own = unit.stored.get(&generation);
        if unit.procs.iter().any(|proc| proc.generation() == generation) {
            return must(Rule::Stored, own.is_some(), || {
                format!("what {generation} stored is gone, and it lives")
            });
        }
        // What it had the last time is its own.
        let Some(swap) = self.maker(generation).filter(|_| !self.outlived.contains(&generation)) else {
            return Ok(());
        };
        let heir_of = match swap.kind {
            SwapKind::Rollback => Some(launch.origin).filter(|origin| *origin != generation),
            SwapKind::Start | SwapKind::Swap | SwapKind::Restart => number(swap.before.active.as_ref()),
        };
        let heir_of = heir_of.filter(|_| preserve(&launch.settings) != Preserve::No);
        let open = heir_of.filter(|of| unit.stored.contains_key(of));
        let given = self.given.get(&generation).copied();
        let right = if given.is_some() { given == heir_of } else { open.is_none() };
        must(Rule::Stored, right, || {
            format!("{generation} begins with what {} stored, not {}", show(given), show(heir_of))
        })?;
        let all = own.is_none_or(|own| given.is_some_and(|given| own.by.iter().all(|by| *by <= given)));
        must(Rule::Stored, all, || format!("{generation} begins with {own:?}"))
    }

    /// Everything else is closed.
    pub(super) fn closes_stored(&self, unit: &Unit, keep: &[Generation]) -> Checked {
        for (generation, stored) in unit.stored.iter().filter(|(generation, _)| !keep.contains(generation)) {
            let lives = unit.live_of(*generation).next().is_some();
            must(Rule::Stored, !lives, || format!("{generation} lives, and what it stored is closed"))?;
            let Some(settings) = &stored.settings else { continue };
            let stays = match preserve(settings) {
                Preserve::No => false,
                Preserve::Restart => self.sent.want != Want::Down && !self.halted,
                Preserve::Yes => true,
            };
            let durable = &self.sent;
            let named = [&durable.active, &durable.previous, &durable.retained];
            let named = named.into_iter().any(|kept| number(kept.as_ref()) == Some(*generation));
            must(Rule::Stored, !(stays && named), || {
                format!("what {generation} stored is closed, and is of use")
            })?;
        }
        Ok(())
    }

    /// Looks at all of it once a step is done.
    pub(super) fn stores_well(&self, unit: &Unit, shown: &UnitStatus) -> Checked {
        // Who has ended may live once more, for those that wait in its slot.
        let ended = self.ended.iter().filter(|generation| !self.rescued.contains_key(generation));
        let waiting = unit.retires.iter().map(|(generation, _)| *generation);
        stored_for_somebody(unit, shown, &waiting.chain(ended.copied()).collect())
    }
}

impl Oracle {
    /// Everything has come to rest: who has ended lives no more.
    pub(crate) fn stored_at_rest(&self, world: &World, status: &[Option<UnitStatus>]) -> Checked {
        world.units.iter().filter(|unit| unit.known).try_for_each(|unit| {
            let shown = status[unit.place].as_ref();
            shown.map_or(Ok(()), |shown| stored_for_somebody(unit, shown, &BTreeSet::new()))
        })
    }
}

/// What is stored is of somebody who is there, or of one to whom there is a way.
fn stored_for_somebody(unit: &Unit, shown: &UnitStatus, others: &BTreeSet<Generation>) -> Checked {
    let alive = |generation| shown.generations.iter().any(|one| one.generation == generation);
    let gone =
        |(generation, _): &(&Generation, &Stored)| !alive(**generation) && !others.contains(generation);
    let dead: Vec<(&Generation, &Stored)> = unit.stored.iter().filter(gone).collect();
    for (generation, stored) in &dead {
        let Some(settings) = &stored.settings else { continue };
        let stays = match preserve(settings) {
            Preserve::No => false,
            Preserve::Restart => shown.state != UnitState::Stopped,
            Preserve::Yes => true,
        };
        must(Rule::Stored, stays, || format!("what {generation} stored is open for nobody"))?;
    }
    // Who serves, who did before or is gone back to, and one that who is on the way goes on from.
    must(Rule::Stored, dead.len() <= 4, || format!("of {} dead generations something is stored", dead.len()))
}
