//! What the workers of a unit do and say, and what that means to the unit.

use super::super::effect::{Action, FailureKind, Launch, Level};
use super::super::group::Role;
use super::super::swap::table::SwapCueKind;
use super::super::turn::Turn;
use super::super::worker::{Cue, Told};
use super::Unit;
use crate::model::{Ended, Generation, Happening, JobId, Notice, Progress, WorkerId};
use std::sync::Arc;

impl Unit {
    pub(super) fn find(&self, worker: WorkerId) -> Option<(Generation, usize)> {
        self.groups.iter().find_map(|(generation, group)| Some((*generation, group.worker(worker)?)))
    }

    pub(super) fn worker_cue(&mut self, worker: WorkerId, cue: &Cue, turn: &mut Turn<'_>) {
        match self.find(worker) {
            Some((generation, index)) => self.group_cue(generation, index, cue, turn),
            None => turn.note(Level::Debug, None, format!("stale event of worker run {worker}: {cue:?}")),
        }
    }

    pub(super) fn group_cue(&mut self, generation: Generation, index: usize, cue: &Cue, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get_mut(&generation) else { return };
        let told = group.cue(index, cue, turn);
        self.heard(generation, told, turn);
    }

    pub(super) fn spawned(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        if let Some(group) = self.find(worker).and_then(|(generation, _)| self.groups.get_mut(&generation)) {
            if group.pin(turn) {
                self.copying.insert(group.generation());
            }
        }
        self.worker_cue(worker, &Cue::Spawned, turn);
    }

    pub(super) fn noticed(&mut self, worker: WorkerId, notice: Notice, turn: &mut Turn<'_>) {
        let cue = match notice {
            Notice::Ready => Cue::Ready,
            Notice::Reloading { monotonic_usec } => Cue::Reloading { monotonic_usec },
            Notice::Stopping => Cue::Stopping,
            Notice::Watchdog => Cue::Alive,
            Notice::WatchdogTrigger => Cue::Trigger,
            Notice::WatchdogPeriod(period) => Cue::Period(period),
            Notice::ExtendTimeout(span) => Cue::Extend(span),
            Notice::RestartReset => return self.reset_restarts(worker, turn),
            Notice::Status(text) => return self.says(worker, text),
            Notice::Errno(errno) => return self.note_said(worker, &format!("ERRNO={errno}"), turn),
            Notice::Error(error) => return self.note_said(worker, &error, turn),
            Notice::ExitStatus(code) => {
                return self.note_said(worker, &format!("EXIT_STATUS={code}"), turn);
            }
            // The hands follow the main process and heed the access; nothing is decided here.
            Notice::MainPid(_) | Notice::NotifyAccess(_) => return,
        };
        self.worker_cue(worker, &cue, turn);
    }

    pub(super) fn says(&mut self, worker: WorkerId, text: String) {
        let Some((generation, index)) = self.find(worker) else { return };
        let group = self.groups.get_mut(&generation);
        if let Some(worker) = group.and_then(|group| group.workers.get_mut(index)) {
            worker.status_text = text;
        }
    }

    /// Its earlier ends count no more: the next delay is RestartSec again, and StartLimitBurst begins anew.
    fn reset_restarts(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        let Some((generation, index)) = self.find(worker) else { return };
        let group = self.groups.get_mut(&generation);
        let run = group.and_then(|group| group.workers.get_mut(index)).filter(|run| run.exit().is_none());
        if let Some(run) = run {
            run.pace.reset();
            turn.note(Level::Debug, Some(generation), format!("worker {index} says RESTART_RESET=1"));
        }
    }

    pub(super) fn note_said(&self, worker: WorkerId, text: &str, turn: &mut Turn<'_>) {
        if let Some((generation, index)) = self.find(worker) {
            turn.note(Level::Info, Some(generation), format!("worker {index} says {text}"));
        }
    }

    /// Hears what the workers of a generation tell.
    pub(super) fn heard(&mut self, generation: Generation, told: Vec<(usize, Told)>, turn: &mut Turn<'_>) {
        for (index, told) in told {
            match told {
                Told::Unbound => self.heard_unbound(generation, turn),
                Told::Ready => self.heard_ready(generation, index, turn),
                Told::Failed(cause) => self.heard_failed(generation, index, &cause, turn),
                Told::Reloaded(outcome) => self.heard_reloaded(generation, index, outcome, turn),
                Told::Limited => self.heard_lost(generation, index, FailureKind::StartLimit, turn),
                Told::GivenUp => self.heard_lost(generation, index, FailureKind::Ended, turn),
            }
        }
    }

    pub(super) fn heard_ready(&mut self, generation: Generation, index: usize, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.get(&generation) else { return };
        let (serves, ready, workers) = (group.serves(), group.ready(), group.launch.settings.service.workers);
        let rescues = group.rescues;
        let after = turn.now.since(group.launched);
        self.unproven = self.unproven.filter(|unproven| !serves || *unproven != generation);
        turn.note(Level::Info, Some(generation), format!("worker {index} is ready"));
        if serves {
            self.rest(generation, turn);
        }
        if rescues {
            return self.begin_rescue(generation, ready, turn);
        }
        let Some(swap) = &self.swap else { return };
        let (from, to) = (swap.from, swap.to);
        if to == generation {
            self.progress(&Progress::Ready { generation, ready, workers, after }, turn);
        }
        if serves && to == generation {
            self.swap_cue(SwapCueKind::Ready, "", turn);
        } else if to == generation {
            // The others may all wait in a bind.
            self.heard_unbound(generation, turn);
        } else if serves && from == Some(generation) {
            self.swap_cue(SwapCueKind::BackReady, "", turn);
        }
    }

    pub(super) fn heard_failed(
        &mut self,
        generation: Generation,
        index: usize,
        cause: &str,
        turn: &mut Turn<'_>,
    ) {
        let Some(group) = self.groups.get(&generation) else { return };
        let Some(worker) = group.workers.get(index) else { return };
        let (run, lived) = (worker.id, turn.now.since(worker.born));
        if let Role::Standby { .. } = group.role {
            self.fallen = Some(Box::new((generation, format!("worker {index} {cause}"))));
        }
        // The swap that brought it has heard of its end.
        let rescues = group.rescues;
        if let Some(swap) = self.swap.as_mut().filter(|swap| swap.to == generation && !rescues) {
            swap.ended.get_or_insert(Ended { generation, exit: worker.exit(), lived });
        }
        turn.note(
            Level::Warning,
            Some(generation),
            format!("worker {index} {cause}, {lived:?} after its launch"),
        );
        self.reload_done(run, Err(cause.to_owned()), turn);
        if self.swap.as_ref().is_some_and(|swap| swap.to == generation && !rescues) {
            let detail = format!("generation {generation}: worker {index} {cause}");
            self.swap_cue(SwapCueKind::Failed, &detail, turn);
        } else {
            // The end of a swap says by itself of whom it failed.
            turn.act(Action::WorkerFailed { generation, cause: format!("worker {index} {cause}") });
        }
    }

    pub(super) fn finished(&mut self, job: JobId, result: Result<(), String>, turn: &mut Turn<'_>) {
        if self.install_finished(job, &result, turn)
            || self.traffic_finished(job, &result, turn)
            || self.alarm_finished(job, &result, turn)
        {
            return;
        }
        if self.swap.as_ref().is_some_and(|swap| swap.step.check() == Some(job)) {
            match result {
                Ok(()) => self.swap_cue(SwapCueKind::Passed, "", turn),
                Err(reason) => {
                    self.swap_cue(SwapCueKind::Unpassed, &format!("CheckCommand failed: {reason}"), turn);
                }
            }
            return;
        }
        let found =
            self.groups.iter().find_map(|(generation, group)| Some((*generation, group.worker_of_job(job)?)));
        let Some((generation, index)) = found else { return };
        let cue = result.map_or_else(Cue::Failed, |()| Cue::Passed);
        self.group_cue(generation, index, &cue, turn);
    }

    pub(super) fn pinned(&mut self, generation: Generation, pinned: bool, turn: &mut Turn<'_>) {
        self.copying.remove(&generation);
        if let Some(group) = self.groups.get_mut(&generation) {
            group.pinned = Some(pinned);
            if pinned {
                let own = Launch { origin: generation, pinned: true, ..Launch::clone(&group.launch) };
                group.relaunch = Arc::new(own);
            }
            self.recipes.insert(generation, group.relaunch.clone());
        }
        let mut changed = false;
        for kept in self.durable.kept_mut().filter(|kept| kept.generation == generation) {
            changed |= kept.pinned != pinned;
            kept.pinned = pinned;
        }
        if changed {
            let happening = Happening::Pinned { generation, pinned };
            self.record(happening, None, turn);
        }
        if self.swap.as_ref().is_some_and(|swap| swap.plan.origin == Some(generation)) {
            let cue = if pinned { SwapCueKind::Copied } else { SwapCueKind::Uncopied };
            self.swap_cue(cue, "", turn);
        }
    }
}
