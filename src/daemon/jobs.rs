//! Commands and checks beside the workers, each with one end and one `Finished`.

use super::chores::{Chore, Chores};
use super::connect::Connecting;
use super::launch::{Beside, Ground};
use super::sources::Source;
use super::workers::Around;
use crate::machine::{Event, Input, JobKind, Launch};
use crate::model::{ClientId, Generation, JobId, Signal, UnitName, WorkerExit, WorkerId};
use crate::os::members::Marks;
use crate::os::pidfd::{PidFd, Wait};
use crate::os::process::Identity;
use crate::os::spawn::{Outcome, Spawned};
use crate::os::task::Task;
use crate::store::runtime::WorkerRecord;
use mio::Token;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::task::Poll;
use std::time::Duration;

/// A check over the network ends by itself after this; the machine ends it earlier.
const PROBE_BOUND: Duration = Duration::from_secs(60);

/// Commands and checks under way.
#[derive(Debug, Default)]
pub struct Jobs {
    commands: BTreeMap<JobId, Job>,
    probes: BTreeMap<JobId, Probe>,
    /// Connections to one generation, for who asked.
    pub connecting: BTreeMap<ClientId, Connecting>,
}

/// One check over the network.
#[derive(Debug)]
struct Probe {
    unit: UnitName,
    sources: Vec<SocketAddr>,
}

/// One command.
#[derive(Debug)]
pub struct Job {
    /// Of which unit.
    pub unit: UnitName,
    /// Of which generation.
    pub generation: Generation,
    kind: JobKind,
    worker: Option<WorkerId>,
    invocation: String,
    process: PidFd,
    token: Token,
    outcome: Option<(Outcome, Token)>,
    /// A leading `-` in the unit file.
    ignore_failure: bool,
    /// By [`Jobs::end`].
    ended: bool,
}

/// What a command may have left running.
#[derive(Debug)]
pub enum Left {
    /// To be ended beside what comes next.
    Beside(Marks),
    /// To be ended before the command counts as over.
    Before {
        /// Whose processes.
        marks: Marks,
        /// Of which unit.
        unit: UnitName,
        /// What is to be said then.
        result: Result<(), String>,
    },
}

impl Jobs {
    /// Begins a command.
    ///
    /// # Errors
    /// Why it cannot be begun, in a sentence.
    pub fn run(
        &mut self,
        id: JobId,
        kind: JobKind,
        launch: &Launch,
        ground: &Ground,
        beside: &Beside<'_>,
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        let Spawned { process, outcome, asks: _ } =
            ground.run(launch, beside).map_err(|error| error.to_string())?;
        let unit = &launch.settings.unit;
        if let Some(identity) = Identity::of(&process, around.boot) {
            let record = WorkerRecord {
                unit: unit.to_string(),
                generation: launch.generation.0,
                index: beside.index.unwrap_or(0),
                pid: identity.pid,
                start_time: identity.start,
                inode: identity.inode,
                boot: around.boot.to_string(),
                invocation: beside.invocation.to_owned(),
                // As by [`Jobs::end`].
                kill_signal: Signal::KILL.0,
                ready: None,
            };
            if let Err(error) = around.runtime.save_job(id, &record) {
                log::warn!("{unit}/g{}: {error}; if supd dies now it will not be found", launch.generation);
            }
        }
        outcome.go();
        let outcome_token = around.sources.watch(&outcome, Source::JobOutcome(id));
        let token = around.sources.watch(&process, Source::Job(id));
        let (Ok(outcome_token), Ok(token)) = (outcome_token, token) else {
            let _ = process.send(Signal::KILL);
            around.runtime.clear_job(id);
            return Err("cannot wait for the new process: the kernel is out of memory or watches".into());
        };
        let job = Job {
            unit: launch.settings.unit.clone(),
            generation: launch.generation,
            kind,
            worker: beside.worker,
            invocation: beside.invocation.to_owned(),
            process,
            token,
            outcome: Some((outcome, outcome_token)),
            ignore_failure: beside.command.ignore_failure,
            ended: false,
        };
        self.commands.insert(id, job);
        Ok(())
    }

    /// Begins a check over the network. `kept`: what the child has of supd's descriptors; `sources`: what
    /// is to be led to its generation meanwhile.
    ///
    /// # Errors
    /// Why it cannot be begun, in a sentence.
    pub fn probe(
        &mut self,
        id: JobId,
        unit: &UnitName,
        (kept, sources): (&[BorrowedFd<'_>], Vec<SocketAddr>),
        check: impl FnOnce() -> Result<(), String>,
        (chores, around): (&mut Chores, &mut Around<'_>),
    ) -> Result<(), String> {
        let task = Task::run("a check", PROBE_BOUND, kept, move || check().map(|()| Vec::new()))
            .map_err(|error| error.to_string())?;
        chores.begin(Chore::Probe(id), task, around.sources)?;
        self.probes.insert(id, Probe { unit: unit.clone(), sources });
        Ok(())
    }

    /// Whether this process is a command here, so that its end is not to be taken away.
    #[must_use]
    pub fn holds(&self, pid: i32) -> Option<JobId> {
        self.commands.iter().find(|(_, job)| job.process.pid() == pid).map(|(id, _)| *id)
    }

    /// If this process is a command of that generation: the worker that it is about, if it is
    /// about one.
    #[must_use]
    pub fn of(&self, pid: i32, unit: &UnitName, generation: Generation) -> Option<Option<WorkerId>> {
        let its = |job: &&Job| job.process.pid() == pid && job.generation == generation && job.unit == *unit;
        self.commands.values().find(its).map(|job| job.worker)
    }

    /// Ends a job with SIGKILL; its end still comes.
    pub fn end(&mut self, id: JobId, chores: &mut Chores) {
        if let Some(job) = self.commands.get_mut(&id) {
            job.ended = true;
            // ESRCH: it has ended by itself.
            let _ = job.process.send(Signal::KILL);
        }
        chores.end_job(id);
    }

    /// Whether no command runs, or has yet to be collected.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.commands.is_empty()
    }

    /// The launch of a command has news.
    pub fn launched(&mut self, id: JobId, around: &mut Around<'_>) {
        let Some(job) = self.commands.get_mut(&id) else { return };
        let Some((mut outcome, token)) = job.outcome.take() else { return };
        match outcome.poll() {
            Poll::Pending => job.outcome = Some((outcome, token)),
            Poll::Ready(Ok(())) => around.sources.unwatch(token, &outcome),
            Poll::Ready(Err(failure)) => {
                around.sources.unwatch(token, &outcome);
                self.finish(id, Err(failure.to_string()), around);
            }
        }
    }

    /// A command ended, or it did not. Gives what it may have left behind.
    pub fn exited(&mut self, id: JobId, around: &mut Around<'_>) -> Option<Left> {
        self.launched(id, around);
        let job = self.commands.get(&id)?;
        let exit = match job.process.wait() {
            Ok(Wait::Running) => return None,
            Ok(Wait::Exited(exit)) => exit,
            Ok(Wait::Unreaped) | Err(_) => WorkerExit::Unknown,
        };
        let result = if exit.is_success() { Ok(()) } else { Err(exit.to_string()) };
        // What ExecStartPre leaves would stand in the worker's way, and what TrafficOff leaves in that of
        // TrafficOn; a check that hangs hangs with everything that it started.
        let alone = matches!(job.kind, JobKind::StartPre | JobKind::TrafficOff | JobKind::TrafficOn);
        let leaves = job.ended || alone;
        // What ExecInstall leaves has the release open, and could write into it behind the seal.
        let before = job.kind == JobKind::Install && !job.ended;
        // Reaped, its number is no mark any more.
        let marks = Marks { invocation_ids: vec![job.invocation.clone()], ..Marks::default() };
        if before {
            let (unit, result) = self.take(id, result, around)?;
            return Some(Left::Before { marks, unit, result });
        }
        self.finish(id, result, around);
        leaves.then_some(Left::Beside(marks))
    }

    /// A check over the network is over. Gives its unit, and what need not be led anywhere any more.
    pub fn probed(&mut self, id: JobId) -> Option<(UnitName, Vec<SocketAddr>)> {
        self.probes.remove(&id).map(|Probe { unit, sources }| (unit, sources))
    }

    fn finish(&mut self, id: JobId, result: Result<(), String>, around: &mut Around<'_>) {
        if let Some((unit, result)) = self.take(id, result, around) {
            around.runtime.clear_job(id);
            around.inbox.push_back(Input::Unit(unit, Event::Finished { job: id, result }));
        }
    }

    /// It is none of those under way any more. What came of it.
    fn take(
        &mut self,
        id: JobId,
        result: Result<(), String>,
        around: &mut Around<'_>,
    ) -> Option<(UnitName, Result<(), String>)> {
        let job = self.commands.remove(&id)?;
        let result = match result {
            // Whose time is over has failed all the same, as in systemd.
            Err(why) if job.ignore_failure && !job.ended => {
                log::info!("{}/g{}: a command failed, ignoring: {why}", job.unit, job.generation);
                Ok(())
            }
            result => result,
        };
        around.sources.unwatch(job.token, &job.process);
        if let Some((outcome, token)) = job.outcome {
            around.sources.unwatch(token, &outcome);
        }
        Some((job.unit, result))
    }
}
