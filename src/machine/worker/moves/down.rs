//! The way down: told to stop, killed, buried; and the rest before the next run.

use super::super::{Cue, Phase, Told, Worker, ending};
use super::{Terms, UNKILLABLE, Upkeep};
use crate::machine::effect::{Action, JobKind, Level};
use crate::machine::restart::{Ending, Fault};
use crate::machine::turn::Turn;
use crate::model::settings::{Handoff, KillMode};
use crate::model::{Signal, WorkerExit};

/// What to do about a worker that ended well and too soon.
const FORKED: &str = " before it was ready (supd runs workers in the foreground: take away --daemon or the \
                      like, or send MAINPID=)";

/// The same of one that is followed.
const LEFT: &str = " before it was ready (a server that goes into the background is followed, but no process \
                    was left that holds a socket of the unit)";

impl Worker {
    pub(super) fn leave(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job(turn);
        self.note_served(turn.now);
        if !self.failed {
            self.failed = true;
            terms.told.push(Told::Failed("said STOPPING=1 without being asked to".to_owned()));
        }
        self.phase = Phase::Stopping { until: terms.stop_until(turn.now) };
    }

    pub(super) fn abort(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let cause = if *cue == Cue::Trigger {
            "said WATCHDOG=trigger"
        } else {
            "was silent for longer than its watchdog allows"
        };
        self.end_job(turn);
        self.note_served(turn.now);
        self.tell_failed(terms, Fault::Watchdog, cause.to_owned());
        turn.act(Action::Signal { worker: self.id, signal: Signal::ABRT, everyone: false });
        self.phase = Phase::Stopping { until: terms.stop_until(turn.now) };
    }

    pub(super) fn abandon(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job_unless_over(cue, turn);
        self.asked = true;
        self.rest(terms, turn);
    }

    pub(super) fn halt(&mut self, index: usize, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let until = terms.stop_until(turn.now);
        let commands = &terms.launch.settings.service.exec_stop;
        match self.run(JobKind::Stop, index, commands, until, terms.launch, turn) {
            Some(step) => self.phase = Phase::Halting(step),
            None => self.terminate(terms, turn),
        }
    }

    pub(super) fn terminate(&mut self, terms: &Terms<'_>, turn: &mut Turn<'_>) {
        self.note_served(turn.now);
        let service = terms.service();
        let everyone = service.kill_mode == KillMode::ControlGroup;
        for signal in ending(service.kill_signal) {
            turn.act(Action::Signal { worker: self.id, signal, everyone });
        }
        self.phase = Phase::Stopping { until: terms.stop_until(turn.now) };
    }

    pub(super) fn kill_because(&mut self, cue: &Cue, terms: &Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job(turn);
        self.asked |= *cue == Cue::Kill;
        let generation = Some(terms.launch.generation);
        if matches!(self.phase, Phase::Killing { .. }) {
            let text = format!("worker {} is still there after SIGKILL, waiting", self.index);
            turn.note(Level::Error, generation, text);
        } else if *cue == Cue::Due {
            self.fault.get_or_insert(Fault::TimedOut);
            let text = format!("worker {} did not stop within TimeoutStopSec: SIGKILL", self.index);
            turn.note(Level::Warning, generation, text);
        }
        self.kill(terms, turn);
    }

    pub(super) fn kill(&mut self, terms: &Terms<'_>, turn: &mut Turn<'_>) {
        self.note_served(turn.now);
        let everyone = terms.service().kill_mode != KillMode::Process;
        turn.act(Action::Signal { worker: self.id, signal: Signal::KILL, everyone });
        self.phase = Phase::Killing { until: turn.now.after(UNKILLABLE) };
    }

    pub(super) fn bury(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job(turn);
        self.note_served(turn.now);
        if let Some(reason) = cue.spawn_failure() {
            self.forked = false;
            self.tell_failed(terms, Fault::Unlaunched, reason.to_owned());
        } else if let Cue::Exited(exit) = cue {
            self.exit = Some(*exit);
            if !self.asked && !self.failed {
                self.failed = true;
                let hint = match (self.may_have_forked(*exit), terms.service().handoff) {
                    (false, Handoff::Inherit | Handoff::Intercept) => "",
                    (true, Handoff::Inherit) => FORKED,
                    (true, Handoff::Intercept) => LEFT,
                };
                terms.told.push(Told::Failed(format!("ended: {exit}{hint}")));
            }
        }
        match terms.service().kill_mode {
            _unlaunched if !self.forked => self.close(0, terms, turn),
            KillMode::Process => self.close(0, terms, turn),
            KillMode::Mixed => self.sweep_kill(turn),
            KillMode::Orderly | KillMode::ControlGroup => {
                let signal = Some(terms.service().kill_signal);
                turn.act(Action::Sweep { worker: self.id, signal });
                self.phase = Phase::Sweeping { until: terms.stop_until(turn.now) };
            }
        }
    }

    /// Whether it ended as the parent does of a server that goes into the background: well, before it
    /// has served.
    fn may_have_forked(&self, exit: WorkerExit) -> bool {
        exit == WorkerExit::Code(0)
            && match self.phase {
                Phase::Spawning { .. }
                | Phase::Starting { .. }
                | Phase::Unbound { .. }
                | Phase::Settling { .. }
                | Phase::Posting(_) => true,
                Phase::Preparing(_)
                | Phase::Serving { .. }
                | Phase::Reloading { .. }
                | Phase::Halting(_)
                | Phase::Stopping { .. }
                | Phase::Killing { .. }
                | Phase::Sweeping { .. }
                | Phase::Closing(_)
                | Phase::Resting { .. }
                | Phase::Gone => false,
            }
    }

    /// What the run left behind is killed.
    pub(super) fn sweep_kill(&mut self, turn: &mut Turn<'_>) {
        turn.act(Action::Sweep { worker: self.id, signal: Some(Signal::KILL) });
        self.phase = Phase::Sweeping { until: Some(turn.now.after(UNKILLABLE)) };
    }

    pub(super) fn close(&mut self, index: usize, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let until = terms.stop_until(turn.now);
        let commands = &terms.launch.settings.service.exec_stop_post;
        match self.run(JobKind::StopPost, index, commands, until, terms.launch, turn) {
            Some(step) => self.phase = Phase::Closing(step),
            None => self.rest(terms, turn),
        }
    }

    /// Nothing of the run is left: another one later, or none.
    pub(super) fn rest(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.last = Some((self.exit, turn.now.since(self.born)));
        let service = terms.service();
        let ending = Ending { exit: self.exit, fault: self.fault };
        let again = match terms.upkeep {
            Upkeep::Never => false,
            Upkeep::AsRestartSays => ending.wants_relaunch(service),
            Upkeep::Always => true,
        };
        if self.asked || !again {
            self.phase = Phase::Gone;
            if !self.asked && terms.upkeep == Upkeep::AsRestartSays && !ending.is_clean(service) {
                terms.told.push(Told::GivenUp);
            }
            return;
        }
        let rest = self.pace.ended(turn.now, self.served, service);
        let limit = if rest.limited { "; it ends too often (StartLimitBurst)" } else { "" };
        let text = format!("worker {} is launched again in {:?}{limit}", self.index, rest.delay);
        turn.note(Level::Info, Some(terms.launch.generation), text);
        self.phase = Phase::Resting { until: turn.now.after(rest.delay), limited: rest.limited };
        if rest.newly {
            terms.told.push(Told::Limited);
        }
    }

    /// A new run in the same place, with what the generation was launched with.
    pub(in crate::machine) fn relaunch(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let pace = std::mem::take(&mut self.pace);
        let last = self.last;
        *self = Self { pace, last, ..Self::new(turn.worker(), self.index, turn.now) };
        let relaunch = terms.relaunch;
        let mut terms = Terms { launch: relaunch, relaunch, upkeep: terms.upkeep, told: terms.told };
        self.launch(&mut terms, turn);
    }
}
