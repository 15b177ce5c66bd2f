//! A person is told once of what went wrong by itself, of nothing else, and of one thing at a time.

use super::books::{Book, SwapBook};
use super::{Checked, Rule, Violation, must};
use crate::knobs::Knob;
use crate::world::{Life, Unit, World, number};
use std::collections::{BTreeMap, BTreeSet};
use supd::machine::{Event, FailureKind, JobKind, JobWork, Launch, REASON_MAX, Request};
use supd::model::settings::Restart;
use supd::model::status::SwapResult;
use supd::model::{Generation, Happening, Record, SwapId};

/// What the oracle knows of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Alarms {
    /// Swaps of whose end somebody was told: over crashes, too.
    told: BTreeSet<SwapId>,
    /// So many things have gone wrong in this life of supd that keep a swap from its launch.
    drops: u32,
    /// The end of this one is on the disk: by the record of the last step, and of this one.
    saved: Option<(SwapId, Generation)>,
    owed: Option<(SwapId, Generation)>,
    /// Somebody has asked for something since the last swap began.
    meddled: bool,
    /// So many workers of each generation have failed in this life, by the history.
    failed: BTreeMap<Generation, usize>,
}

impl Alarms {
    pub(super) fn next_step(&mut self) {
        self.owed = self.saved.take();
    }

    /// The number of a swap that never reached the disk is that of another one from now on.
    pub(super) fn reborn(&mut self, swaps: &[SwapBook]) {
        let mut told = std::mem::take(&mut self.told);
        told.retain(|told| swaps.iter().any(|swap| swap.id == *told));
        *self = Self { told, ..Self::default() };
    }

    pub(super) fn began(&mut self) {
        self.meddled = false;
    }

    pub(super) fn failed(&mut self, generation: Generation) {
        *self.failed.entry(generation).or_default() += 1;
    }

    pub(super) fn hears(&mut self, event: &Event) {
        match event {
            Event::BindFailed { .. }
            | Event::Bound { steered: Err(_), .. }
            | Event::RecordFailed { .. }
            | Event::Pinned { pinned: false, .. } => self.drops += 1,
            Event::Asked {
                request: Request::Wait { .. } | Request::Kill { .. } | Request::Reload, ..
            } => {}
            Event::Asked { .. } => self.meddled = true,
            _ => {}
        }
    }
}

impl Book {
    /// A record of this life is on the disk.
    pub(super) fn may_owe_alarm(&mut self, record: &Record) {
        let Happening::Ended { swap_id, result, .. } = record.happening else { return };
        let by_itself = match result {
            SwapResult::Failed => true,
            SwapResult::RolledBack => !self.alarms.meddled,
            SwapResult::Running | SwapResult::Committed | SwapResult::Aborted | SwapResult::Stopped => false,
        };
        let first = |swap: &&SwapBook| swap.ends == 1 && !swap.past && !swap.end_failed;
        let swap = self.swap(swap_id).filter(first).filter(|_| by_itself);
        self.alarms.saved = swap.map(|swap| (swap.id, swap.to));
    }

    /// Somebody is told.
    pub(super) fn tells(
        &mut self,
        world: &World,
        unit: &Unit,
        launch: &Launch,
        (kind, work): (JobKind, &JobWork),
    ) -> Checked {
        let JobWork::Tell(_, failure) = work else {
            return must(Rule::Alarm, kind != JobKind::OnFailure, || "tells nothing".to_owned());
        };
        must(Rule::Alarm, kind == JobKind::OnFailure, || format!("{kind:?} is told {failure:?}"))?;
        let sound = !failure.reason.is_empty() && failure.reason.len() <= REASON_MAX;
        must(Rule::Alarm, sound, || format!("tells {failure:?}"))?;
        let beside = unit.jobs.iter().any(|job| job.kind == JobKind::OnFailure);
        must(Rule::Alarm, !beside && !world.shutdown, || format!("tells {failure:?} beside another"))?;
        // The second command of a list is told the same.
        let JobWork::Tell(command, _) = work else { return Ok(()) };
        if launch.settings.service.exec_on_failure.first() != Some(command) {
            return Ok(());
        }
        let generation = launch.generation;
        let of = || unit.procs.iter().filter(|proc| proc.generation() == generation);
        let dead = of().filter(|proc| matches!(proc.life, Life::Dead(_) | Life::Unlaunched)).count();
        // One whose ExecStartPre fails was never there.
        let ends = dead + self.alarms.failed.get(&generation).copied().unwrap_or(0);
        let grounds = match failure.what {
            FailureKind::StartFailed | FailureKind::SwapFailed => {
                self.told_of(generation, |swap| {
                    swap.ended_sent == Some(SwapResult::Failed) || swap.dropped || swap.began_failed
                }) || self.was_kept_from_launch()
            }
            FailureKind::RolledBack => {
                self.told_of(generation, |swap| swap.ended == Some(SwapResult::RolledBack))
                    || self.fell_from(generation)
            }
            FailureKind::NotBack => {
                self.running().is_some_and(|swap| swap.to == generation) || of().count() > 0
            }
            FailureKind::StartLimit => {
                let burst = launch.settings.service.start_limit_burst as usize;
                burst > 0 && ends >= burst
            }
            FailureKind::Ended => {
                let service = &launch.settings.service;
                let prevented = !service.restart_prevent_exit_status.codes.is_empty();
                ends > 0 && (service.restart != Restart::Always || prevented)
            }
            FailureKind::Quarantine => false,
        };
        must(Rule::Alarm, grounds, || format!("nothing has gone wrong, or it was told: {failure:?}"))
    }

    /// Whether there is a swap to that generation of which nobody was told; from now on somebody was.
    fn told_of(&mut self, generation: Generation, ended: impl Fn(&SwapBook) -> bool) -> bool {
        let told = &self.alarms.told;
        let untold = |swap: &&SwapBook| swap.to == generation && !told.contains(&swap.id);
        let swap = self.swaps.iter().rev().filter(untold).find(|swap| ended(swap)).map(|swap| swap.id);
        swap.is_some_and(|id| self.alarms.told.insert(id))
    }

    /// Whether something has gone wrong that may have kept a swap from its launch, of which no record tells.
    fn was_kept_from_launch(&mut self) -> bool {
        let left = self.alarms.drops.checked_sub(1);
        self.alarms.drops = left.unwrap_or(0);
        left.is_some()
    }

    /// Whether a swap has just gone back from what was committed.
    fn fell_from(&mut self, generation: Generation) -> bool {
        let told = &self.alarms.told;
        let back = self.swaps.iter().rev().find(|swap| {
            // Who had the traffic may have nobody left by then.
            (swap.from == Some(generation) || number(swap.before.active.as_ref()) == Some(generation))
                && swap.ended == Some(SwapResult::Committed)
                && !told.contains(&swap.id)
        });
        back.map(|swap| swap.id).is_some_and(|id| self.alarms.told.insert(id))
    }

    /// Somebody has been told of what went wrong, or will be once the one before is over.
    pub(super) fn alarms_well(&self, world: &World, unit: &Unit) -> Checked {
        let Some((id, to)) = self.alarms.owed.filter(|_| !self.halted && !world.shutdown) else {
            return Ok(());
        };
        let version = self.recipe(unit, to);
        let asks = version.is_some_and(|version| unit.files[version].0.at(Knob::OnFailure) != 0);
        let busy = unit.jobs.iter().any(|job| job.kind == JobKind::OnFailure);
        if !asks || busy || self.alarms.told.contains(&id) {
            return Ok(());
        }
        Err(Violation::new(Rule::Alarm, format!("swap {id} to {to} is over, and nobody is told")))
    }
}
