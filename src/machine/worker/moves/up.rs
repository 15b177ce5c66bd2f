//! The way up: hooks, exec, ready, settled.

use super::super::{Cue, Phase, Probe, Told, Worker};
use super::Terms;
use crate::machine::effect::{Action, JobKind, JobWork};
use crate::machine::restart::Fault;
use crate::machine::turn::Turn;
use crate::model::Tick;
use crate::model::settings::Ready;
use std::time::Duration;

/// Between two checks of readiness.
const RECHECK: Duration = Duration::from_secs(1);

impl Worker {
    /// Launches a run in this place: hooks first.
    pub(in crate::machine) fn launch(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.born = turn.now;
        self.unready = None;
        self.pace.launched(turn.now, terms.service());
        self.prepare(0, terms, turn);
    }

    pub(super) fn prepare(&mut self, index: usize, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let until = terms.start_until(turn.now);
        let commands = &terms.launch.settings.service.exec_start_pre;
        self.phase = match self.run(JobKind::StartPre, index, commands, until, terms.launch, turn) {
            Some(step) => Phase::Preparing(step),
            None => {
                self.forked = true;
                turn.act(Action::Spawn { worker: self.id, index: self.index, launch: terms.launch.clone() });
                Phase::Spawning { until }
            }
        };
    }

    pub(super) fn begin(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let until = terms.start_until(turn.now);
        match self.probe(terms, turn) {
            Some(probe) => self.phase = Phase::Starting { until, probe },
            None => self.settle(terms, turn),
        }
    }

    /// The first check; `None`: running is being ready.
    pub(super) fn probe(&self, terms: &Terms<'_>, turn: &mut Turn<'_>) -> Option<Probe> {
        let work = match &terms.launch.settings.service.ready {
            Ready::Started => return None,
            Ready::Notify | Ready::Listen => return Some(Probe::None),
            Ready::Command(command) => JobWork::Command(command.clone()),
            Ready::Http(address) => JobWork::Http(address.clone()),
            Ready::Tcp => JobWork::Tcp,
        };
        let job = turn.job();
        let launch = terms.launch.clone();
        turn.act(Action::Run {
            job,
            kind: JobKind::ReadyCheck,
            work,
            launch,
            worker: Some(self.id),
            fault: None,
        });
        Some(Probe::Running(job))
    }

    pub(super) fn said_ready(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let said = match terms.service().ready {
            Ready::Notify => *cue == Cue::Ready,
            Ready::Listen => *cue == Cue::Listening,
            Ready::Started | Ready::Tcp | Ready::Http(_) | Ready::Command(_) => false,
        };
        if said || *cue == Cue::Passed {
            self.settle(terms, turn);
        }
    }

    /// No time runs while it waits for a person.
    pub(super) fn wait_unbound(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job(turn);
        self.phase = Phase::Unbound { ready: false };
        terms.told.push(Told::Unbound);
    }

    pub(super) fn note_ready(&mut self, terms: &Terms<'_>) {
        self.phase = Phase::Unbound { ready: terms.service().ready == Ready::Notify };
    }

    /// Its binds are answered: it has as long to be ready as if it had started now.
    pub(super) fn go_on(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Unbound { ready: true } => self.settle(terms, turn),
            _not_ready => self.begin(terms, turn),
        }
    }

    /// It runs since then, and was ready before supd knew of it.
    pub(in crate::machine) fn adopt(&mut self, born: Tick, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        (self.forked, self.born) = (true, born);
        let launch = terms.launch.clone();
        turn.act(Action::Adopt { worker: self.id, index: self.index, launch });
        self.phase = Phase::Serving { since: turn.now, watchdog: self.watchdog(terms, turn.now) };
    }

    pub(super) fn recheck(&mut self, cue: &Cue, now: Tick) {
        if let Cue::Failed(why) = cue {
            self.unready = Some(why.as_str().into());
        }
        if let Phase::Starting { until, .. } = self.phase {
            self.phase = Phase::Starting { until, probe: Probe::Pause(now.after(RECHECK)) };
        }
    }

    pub(super) fn start_due(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let Phase::Starting { until, .. } = self.phase else { return };
        if until.is_some_and(|until| until <= turn.now) {
            let limit = terms.service().timeout_start.unwrap_or_default();
            let why = self.unready.take().map(|why| format!("; its check says: {why}"));
            let why = why.unwrap_or_default();
            self.tell_failed(
                terms,
                Fault::TimedOut,
                format!("was not ready within {limit:?} (TimeoutStartSec){why}"),
            );
            self.terminate(terms, turn);
        } else if let Some(probe) = self.probe(terms, turn) {
            self.phase = Phase::Starting { until, probe };
        }
    }

    pub(super) fn settle(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let span = terms.service().ready_settle;
        if span.is_zero() {
            self.post(0, terms, turn);
        } else {
            self.phase = Phase::Settling { until: turn.now.after(span) };
        }
    }

    pub(super) fn post(&mut self, index: usize, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let until = terms.start_until(turn.now);
        let commands = &terms.launch.settings.service.exec_start_post;
        self.phase = match self.run(JobKind::StartPost, index, commands, until, terms.launch, turn) {
            Some(step) => Phase::Posting(step),
            None => {
                terms.told.push(Told::Ready);
                Phase::Serving { since: turn.now, watchdog: self.watchdog(terms, turn.now) }
            }
        };
    }

    pub(super) fn give_up(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job_unless_over(cue, turn);
        let cause = match cue.spawn_failure() {
            Some(reason) => reason.to_owned(),
            None => cue.why("ExecStartPre", "TimeoutStartSec"),
        };
        self.forked = false;
        self.tell_failed(terms, Self::fault_of(cue), cause);
        self.close(0, terms, turn);
    }

    pub(super) fn post_fail(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job_unless_over(cue, turn);
        self.tell_failed(terms, Self::fault_of(cue), cue.why("ExecStartPost", "TimeoutStartSec"));
        self.terminate(terms, turn);
    }

    /// What it counts as that this ended a launch.
    fn fault_of(cue: &Cue) -> Fault {
        match cue {
            Cue::Due => Fault::TimedOut,
            Cue::Failed(_) => Fault::Hook,
            Cue::SpawnFailed(_)
            | Cue::Spawned
            | Cue::Exited(_)
            | Cue::Swept
            | Cue::Ready
            | Cue::Listening
            | Cue::Waits
            | Cue::Bind
            | Cue::Reloading { .. }
            | Cue::Stopping
            | Cue::Alive
            | Cue::Trigger
            | Cue::Period(_)
            | Cue::Extend(_)
            | Cue::Passed
            | Cue::Stop
            | Cue::Kill
            | Cue::Reload => Fault::Unlaunched,
        }
    }

    pub(super) fn overdue(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.tell_failed(terms, Fault::TimedOut, "exec did not end within TimeoutStartSec".to_owned());
        self.kill(terms, turn);
    }
}
