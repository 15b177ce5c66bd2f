//! How each move of the table is made.

use super::super::effect::{Action, JobKind, JobWork, Launch, Level};
use super::super::restart::{Ending, Fault};
use super::super::turn::Turn;
use super::table::{Move, decide};
use super::{Cue, Phase, Probe, ReloadStage, Step, Told, Worker, ending};
use crate::model::settings::{Command, KillMode, Ready, Service};
use crate::model::{Signal, Tick};
use std::sync::Arc;
use std::time::Duration;

/// Between two checks of readiness.
const RECHECK: Duration = Duration::from_secs(1);
/// A process that SIGKILL does not end is mentioned this often.
const UNKILLABLE: Duration = Duration::from_secs(30);
/// How long a worker may be silent after ReloadSignal before the reload counts as done.
const RELOAD_GRACE: Duration = Duration::from_secs(1);

/// What a worker's moves need to know of its generation.
pub(in crate::machine) struct Terms<'a> {
    /// The recipe of this run.
    pub(in crate::machine) launch: &'a Arc<Launch>,
    /// The recipe of the next run, should there be one.
    pub(in crate::machine) relaunch: &'a Arc<Launch>,
    /// Whether there is a next run.
    pub(in crate::machine) upkeep: Upkeep,
    /// What the worker tells its unit.
    pub(in crate::machine) told: &'a mut Vec<Told>,
}

/// Whether a worker that ended is launched again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) enum Upkeep {
    /// Its generation is on its way out, or has yet to prove itself.
    Never,
    /// As the unit file says.
    AsRestartSays,
    /// Whatever the unit file says: a rollback waits for it.
    Always,
}

impl Terms<'_> {
    fn service(&self) -> &Service {
        &self.launch.settings.service
    }

    fn until(now: Tick, span: Option<Duration>) -> Option<Tick> {
        span.map(|span| now.after(span))
    }

    fn start_until(&self, now: Tick) -> Option<Tick> {
        Self::until(now, self.service().timeout_start)
    }

    fn stop_until(&self, now: Tick) -> Option<Tick> {
        Self::until(now, self.service().timeout_stop)
    }
}

impl Worker {
    /// Launches a run in this place: hooks first.
    pub(in crate::machine) fn launch(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.born = turn.now;
        self.pace.launched(turn.now, terms.service());
        self.prepare(0, terms, turn);
    }

    /// Takes a cue: looks the move up and makes it.
    pub(in crate::machine) fn cue(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        match decide(self.phase.kind(), cue.kind()) {
            Move::Stale => {}
            Move::Prepare => self.prepare(self.next_index(), terms, turn),
            Move::Post => self.post(self.next_index(), terms, turn),
            Move::NextHalt => self.halt(self.next_index(), terms, turn),
            Move::NextClose => {
                self.end_job_unless_over(cue, turn);
                self.close(self.next_index(), terms, turn);
            }
            Move::NextReload => self.reload_command(self.next_index(), terms, turn),
            Move::Begin => self.begin(terms, turn),
            Move::BeginReady | Move::Settle => self.said_ready(cue, terms, turn),
            Move::Recheck => self.recheck(turn.now),
            Move::StartDue => self.start_due(terms, turn),
            Move::GiveUp => self.give_up(cue, terms, turn),
            Move::Abandon => self.abandon(cue, terms, turn),
            Move::PostFail => self.post_fail(cue, terms, turn),
            Move::Overdue => self.overdue(terms, turn),
            Move::Leave => self.leave(terms, turn),
            Move::Abort => self.abort(cue, terms, turn),
            Move::Feed | Move::SetPeriod | Move::Extend => self.move_deadline(cue, terms, turn.now),
            Move::Reload => self.reload_command(0, terms, turn),
            Move::Announce => self.announce(cue, terms, turn.now),
            Move::Reloaded => self.ready_again(terms),
            Move::ReloadFail => self.reloaded(Err(cue.why("ExecReload", "TimeoutStartSec")), terms),
            Move::ReloadDue => self.reload_due(cue, terms, turn),
            Move::Halt => {
                self.end_job(turn);
                self.asked = true;
                self.halt(0, terms, turn);
            }
            Move::Terminate => {
                self.end_job(turn);
                self.asked |= *cue == Cue::Stop;
                self.terminate(terms, turn);
            }
            Move::Kill | Move::KillAgain => self.kill_because(cue, terms, turn),
            Move::Bury => self.bury(cue, terms, turn),
            Move::Close => self.close(0, terms, turn),
            Move::SweepKill => {
                turn.act(Action::Sweep { worker: self.id, signal: Some(Signal::KILL) });
                self.phase = Phase::Sweeping { until: Some(turn.now.after(UNKILLABLE)) };
            }
            Move::Relaunch => self.relaunch(terms, turn),
            Move::Stay => self.phase = Phase::Gone,
        }
    }

    /// The place in the list of commands that comes after the one that runs.
    fn next_index(&self) -> usize {
        match self.phase {
            Phase::Preparing(step) | Phase::Posting(step) | Phase::Halting(step) | Phase::Closing(step) => {
                step.index + 1
            }
            Phase::Reloading { stage: ReloadStage::Command { index, .. }, .. } => index + 1,
            Phase::Spawning { .. }
            | Phase::Starting { .. }
            | Phase::Settling { .. }
            | Phase::Serving { .. }
            | Phase::Reloading { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Sweeping { .. }
            | Phase::Resting { .. }
            | Phase::Gone => 0,
        }
    }

    fn end_job(&self, turn: &mut Turn<'_>) {
        if let Some(job) = self.phase.job() {
            turn.act(Action::EndJob { job });
        }
    }

    fn end_job_unless_over(&self, cue: &Cue, turn: &mut Turn<'_>) {
        if !matches!(cue, Cue::Passed | Cue::Failed(_)) {
            self.end_job(turn);
        }
    }

    /// Starts command `index` of a list, or says that the list is over.
    fn run(
        &self,
        kind: JobKind,
        index: usize,
        commands: &[Command],
        until: Option<Tick>,
        launch: &Arc<Launch>,
        turn: &mut Turn<'_>,
    ) -> Option<Step> {
        let command = commands.get(index)?.clone();
        let job = turn.job();
        let work = JobWork::Command(command);
        turn.act(Action::Run { job, kind, work, launch: launch.clone(), worker: Some(self.id) });
        Some(Step { job, index, until })
    }

    fn prepare(&mut self, index: usize, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
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

    fn post(&mut self, index: usize, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
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

    fn halt(&mut self, index: usize, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let until = terms.stop_until(turn.now);
        let commands = &terms.launch.settings.service.exec_stop;
        match self.run(JobKind::Stop, index, commands, until, terms.launch, turn) {
            Some(step) => self.phase = Phase::Halting(step),
            None => self.terminate(terms, turn),
        }
    }

    fn close(&mut self, index: usize, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let until = terms.stop_until(turn.now);
        let commands = &terms.launch.settings.service.exec_stop_post;
        match self.run(JobKind::StopPost, index, commands, until, terms.launch, turn) {
            Some(step) => self.phase = Phase::Closing(step),
            None => self.rest(terms, turn),
        }
    }

    fn said_ready(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        if *cue == Cue::Passed || terms.service().ready == Ready::Notify {
            self.settle(terms, turn);
        }
    }

    fn recheck(&mut self, now: Tick) {
        if let Phase::Starting { until, .. } = self.phase {
            self.phase = Phase::Starting { until, probe: Probe::Pause(now.after(RECHECK)) };
        }
    }

    fn begin(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let until = terms.start_until(turn.now);
        match self.probe(terms, turn) {
            Some(probe) => self.phase = Phase::Starting { until, probe },
            None => self.settle(terms, turn),
        }
    }

    /// The first check; `None`: running is being ready.
    fn probe(&self, terms: &Terms<'_>, turn: &mut Turn<'_>) -> Option<Probe> {
        let work = match &terms.launch.settings.service.ready {
            Ready::Started => return None,
            Ready::Notify => return Some(Probe::None),
            Ready::Command(command) => JobWork::Command(command.clone()),
            Ready::Http(address) => JobWork::Http(address.clone()),
            // Refused when the unit file is checked, until a candidate has a slot of its own.
            Ready::Listen | Ready::Tcp => return Some(Probe::None),
        };
        let job = turn.job();
        let launch = terms.launch.clone();
        turn.act(Action::Run { job, kind: JobKind::ReadyCheck, work, launch, worker: Some(self.id) });
        Some(Probe::Running(job))
    }

    fn start_due(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let Phase::Starting { until, .. } = self.phase else { return };
        if until.is_some_and(|until| until <= turn.now) {
            let limit = terms.service().timeout_start.unwrap_or_default();
            self.tell_failed(
                terms,
                Fault::TimedOut,
                format!("was not ready within {limit:?} (TimeoutStartSec)"),
            );
            self.terminate(terms, turn);
        } else if let Some(probe) = self.probe(terms, turn) {
            self.phase = Phase::Starting { until, probe };
        }
    }

    fn settle(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        let span = terms.service().ready_settle;
        if span.is_zero() {
            self.post(0, terms, turn);
        } else {
            self.phase = Phase::Settling { until: turn.now.after(span) };
        }
    }

    /// Tells the unit once that this run is no good.
    fn tell_failed(&mut self, terms: &mut Terms<'_>, fault: Fault, cause: String) {
        self.fault.get_or_insert(fault);
        if !self.failed && !self.asked {
            self.failed = true;
            terms.told.push(Told::Failed(cause));
        }
    }

    fn give_up(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job_unless_over(cue, turn);
        let cause = match cue.spawn_failure() {
            Some(reason) => reason.to_owned(),
            None => cue.why("ExecStartPre", "TimeoutStartSec"),
        };
        self.forked = false;
        self.tell_failed(terms, Fault::Unlaunched, cause);
        self.close(0, terms, turn);
    }

    fn abandon(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job_unless_over(cue, turn);
        self.asked = true;
        self.rest(terms, turn);
    }

    fn post_fail(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job_unless_over(cue, turn);
        self.tell_failed(terms, Fault::TimedOut, cue.why("ExecStartPost", "TimeoutStartSec"));
        self.terminate(terms, turn);
    }

    fn overdue(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.tell_failed(terms, Fault::TimedOut, "exec did not end within TimeoutStartSec".to_owned());
        self.kill(turn);
    }

    fn leave(&mut self, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job(turn);
        self.note_served(turn.now);
        if !self.failed {
            self.failed = true;
            terms.told.push(Told::Failed("said STOPPING=1 without being asked to".to_owned()));
        }
        self.phase = Phase::Stopping { until: terms.stop_until(turn.now) };
    }

    fn abort(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
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

    fn watchdog(&self, terms: &Terms<'_>, now: Tick) -> Option<Tick> {
        self.period
            .or(terms.service().watchdog)
            .filter(|period| !period.is_zero())
            .map(|period| now.after(period))
    }

    fn move_deadline(&mut self, cue: &Cue, terms: &Terms<'_>, now: Tick) {
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

    fn reload_due(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
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

    /// The next ExecReload; after the last one ReloadSignal; with neither left it has reloaded.
    fn reload_command(&mut self, index: usize, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
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

    fn announce(&mut self, cue: &Cue, terms: &Terms<'_>, now: Tick) {
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
    fn ready_again(&mut self, terms: &mut Terms<'_>) {
        if matches!(self.phase, Phase::Reloading { stage: ReloadStage::Announced, .. }) {
            self.reloaded(Ok(String::new()), terms);
        }
    }

    fn reloaded(&mut self, outcome: Result<String, String>, terms: &mut Terms<'_>) {
        let (Phase::Serving { since, watchdog } | Phase::Reloading { since, watchdog, .. }) = self.phase
        else {
            return;
        };
        self.phase = Phase::Serving { since, watchdog };
        terms.told.push(Told::Reloaded(outcome));
    }

    fn kill_because(&mut self, cue: &Cue, terms: &Terms<'_>, turn: &mut Turn<'_>) {
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
        self.kill(turn);
    }

    /// How long the run has served, before its phase forgets it.
    fn note_served(&mut self, now: Tick) {
        if let Phase::Serving { since, .. } | Phase::Reloading { since, .. } = self.phase {
            self.served = now.since(since);
        }
    }

    fn terminate(&mut self, terms: &Terms<'_>, turn: &mut Turn<'_>) {
        self.note_served(turn.now);
        let service = terms.service();
        let everyone = service.kill_mode == KillMode::ControlGroup;
        for signal in ending(service.kill_signal) {
            turn.act(Action::Signal { worker: self.id, signal, everyone });
        }
        self.phase = Phase::Stopping { until: terms.stop_until(turn.now) };
    }

    fn kill(&mut self, turn: &mut Turn<'_>) {
        self.note_served(turn.now);
        turn.act(Action::Signal { worker: self.id, signal: Signal::KILL, everyone: true });
        self.phase = Phase::Killing { until: turn.now.after(UNKILLABLE) };
    }

    fn bury(&mut self, cue: &Cue, terms: &mut Terms<'_>, turn: &mut Turn<'_>) {
        self.end_job(turn);
        self.note_served(turn.now);
        if let Some(reason) = cue.spawn_failure() {
            self.forked = false;
            self.tell_failed(terms, Fault::Unlaunched, reason.to_owned());
        } else if let Cue::Exited(exit) = cue {
            self.exit = Some(*exit);
            if !self.asked && !self.failed {
                self.failed = true;
                terms.told.push(Told::Failed(format!("ended: {exit}")));
            }
        }
        let service = terms.service();
        if !self.forked || service.kill_mode == KillMode::Process {
            self.close(0, terms, turn);
        } else {
            turn.act(Action::Sweep { worker: self.id, signal: Some(service.kill_signal) });
            self.phase = Phase::Sweeping { until: terms.stop_until(turn.now) };
        }
    }

    /// Nothing of the run is left: another one later, or none.
    fn rest(&mut self, terms: &Terms<'_>, turn: &mut Turn<'_>) {
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
            return;
        }
        let rest = self.pace.ended(turn.now, self.served, service);
        let limit = if rest.limited { "; it ends too often (StartLimitBurst)" } else { "" };
        let text = format!("worker {} is launched again in {:?}{limit}", self.index, rest.delay);
        turn.note(Level::Info, Some(terms.launch.generation), text);
        self.phase = Phase::Resting { until: turn.now.after(rest.delay), limited: rest.limited };
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
