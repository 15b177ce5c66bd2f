//! While it serves: its watchdog, and reading its configuration again.

use super::super::{Cue, Phase, ReloadStage, Step, Told, Worker};
use super::Terms;
use crate::machine::effect::{Action, JobKind};
use crate::machine::turn::Turn;
use crate::model::Tick;
use std::time::Duration;

/// How long a worker may be silent after ReloadSignal before the reload counts as done.
const RELOAD_GRACE: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) fn watchdog(&self, terms: &Terms<'_>, now: Tick) -> Option<Tick> {
        self.period
            .or(terms.service().watchdog)
            .filter(|period| !period.is_zero())
            .map(|period| now.after(period))
    }

    pub(super) fn move_deadline(&mut self, cue: &Cue, terms: &Terms<'_>, now: Tick) {
        if let Cue::Period(period) = cue {
            self.period = Some(*period);
        }
        let fed = self.watchdog(terms, now);
        if let Phase::Serving { watchdog, .. } | Phase::Reloading { watchdog, .. } = &mut self.phase {
            if matches!(cue, Cue::Alive | Cue::Period(_)) {
                *watchdog = fed;
            }
        }
        if let Cue::Extend(span) = cue {
            self.phase.extend(now.after(*span));
        }
    }

    /// The next ExecReload; after the last one ReloadSignal; with neither left it has reloaded.
    pub(super) fn reload_command(&mut self, index: usize, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let (Phase::Serving { since, watchdog } | Phase::Reloading { since, watchdog, .. }) = self.phase
        else {
            return;
        };
        let service = &terms.launch.settings.service;
        let until = terms.start_until(turn.now);
        let step = self.run(JobKind::Reload, index, &service.exec_reload, until, terms.launch, turn);
        if let Some(Step { job, index, until }) = step {
            let stage = ReloadStage::Command { job, index };
            self.phase = Phase::Reloading { since, watchdog, stage, until };
        } else if let Some(signal) = service.reload_signal {
            turn.act(Action::Signal { worker: self.id, signal, everyone: false });
            let stage = ReloadStage::Signalled { at: turn.now };
            let until = Some(turn.now.after(RELOAD_GRACE));
            self.phase = Phase::Reloading { since, watchdog, stage, until };
        } else {
            self.reloaded(Ok(String::new()), terms);
        }
    }

    pub(super) fn announce(&mut self, cue: &Cue, terms: &Terms<'_>, now: Tick) {
        let Cue::Reloading { monotonic_usec } = cue else { return };
        let (Phase::Serving { since, watchdog } | Phase::Reloading { since, watchdog, .. }) = self.phase
        else {
            return;
        };
        if let Phase::Reloading { stage: ReloadStage::Signalled { at }, .. } = self.phase {
            // An answer to an earlier signal carries an earlier stamp (sd_notify(3)).
            if monotonic_usec.is_some_and(|stamp| stamp < at.0) {
                return;
            }
        }
        if matches!(self.phase, Phase::Reloading { stage: ReloadStage::Command { .. }, .. }) {
            return;
        }
        let until = terms.start_until(now);
        self.phase = Phase::Reloading { since, watchdog, stage: ReloadStage::Announced, until };
    }

    /// READY=1 ends a reload that was announced. Before that it is late: the end of an earlier one.
    pub(super) fn ready_again(&mut self, terms: &mut Terms<'_>) {
        if matches!(self.phase, Phase::Reloading { stage: ReloadStage::Announced, .. }) {
            self.reloaded(Ok(String::new()), terms);
        }
    }

    pub(super) fn reload_due(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let Phase::Reloading { watchdog, stage, .. } = self.phase else { return };
        if watchdog.is_some_and(|watchdog| watchdog <= turn.now) {
            self.abort(cue, terms, turn);
            return;
        }
        self.end_job(turn);
        let outcome = match stage {
            ReloadStage::Command { .. } => Err(cue.why("ExecReload", "TimeoutStartSec")),
            ReloadStage::Signalled { .. } => {
                Ok("signalled; the program does not say when it has reloaded".to_owned())
            }
            ReloadStage::Announced => {
                Err("said RELOADING=1, but not READY=1 within TimeoutStartSec".to_owned())
            }
        };
        self.reloaded(outcome, terms);
    }

    pub(super) fn reloaded(&mut self, outcome: Result<String, String>, terms: &mut Terms<'_>) {
        let (Phase::Serving { since, watchdog } | Phase::Reloading { since, watchdog, .. }) = self.phase
        else {
            return;
        };
        self.phase = Phase::Serving { since, watchdog };
        terms.told.push(Told::Reloaded(outcome));
    }
}
