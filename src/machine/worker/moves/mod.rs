//! How each move of the table is made.
//!
//! | file | the moves |
//! |---|---|
//! | `up` | from the launch to ready |
//! | `serving` | of what serves: its watchdog, its reloads |
//! | `down` | from the word to stop, or the end, to the next run |

mod down;
mod serving;
mod up;

use super::super::effect::{Action, JobKind, JobWork, Launch};
use super::super::restart::Fault;
use super::super::turn::Turn;
use super::table::{Move, decide};
use super::{Cue, Phase, ReloadStage, Step, Told, Worker};
use crate::model::Tick;
use crate::model::settings::{Command, Service};
use std::sync::Arc;
use std::time::Duration;

/// A process that SIGKILL does not end is mentioned this often.
const UNKILLABLE: Duration = Duration::from_secs(30);

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
            Move::Wait => self.wait_unbound(terms, turn),
            Move::NoteReady => self.note_ready(terms),
            Move::GoOn => self.go_on(terms, turn),
            Move::Recheck => self.recheck(cue, turn.now),
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
            Move::SweepKill => self.sweep_kill(turn),
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
            | Phase::Unbound { .. }
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
        let (launch, worker, fault) = (launch.clone(), Some(self.id), self.fault);
        turn.act(Action::Run { job, kind, work, launch, worker, fault });
        Some(Step { job, index, until })
    }

    /// Tells the unit once that this run is no good.
    fn tell_failed(&mut self, terms: &mut Terms<'_>, fault: Fault, cause: String) {
        self.fault.get_or_insert(fault);
        if !self.failed && !self.asked {
            self.failed = true;
            terms.told.push(Told::Failed(cause));
        }
    }

    /// How long the run has served, before its phase forgets it.
    fn note_served(&mut self, now: Tick) {
        if let Phase::Serving { since, .. } | Phase::Reloading { since, .. } = self.phase {
            self.served = now.since(since);
        }
    }
}
