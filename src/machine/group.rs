//! A generation: the workers of one launch, and what they are to the unit.

use super::drain::Drain;
use super::effect::{Action, Launch};
use super::turn::Turn;
use super::worker::moves::{Terms, Upkeep};
use super::worker::{Cue, Phase, Told, Worker};
use crate::model::{Generation, JobId, Kept, Signal, Tick, WorkerId};
use std::sync::Arc;
use std::time::Duration;

/// How long one may take to be ready again where TimeoutStartSec is infinite.
pub(super) const START_LONGEST: Duration = Duration::from_secs(90);
/// The shortest such time: a TimeoutStartSec of nearly nothing must not spin the loop.
const START_SHORTEST: Duration = Duration::from_secs(1);

/// What a generation is to its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Launched to take over; not relaunched when it dies.
    Candidate,
    /// Receives the traffic.
    Active,
    /// Received it before; kept alive and ready until commit.
    Previous,
    /// To be stopped as soon as the active one serves, and kept up until then.
    Replaced,
    /// Kept alive and ready after commit, until then; receives nothing.
    Standby {
        /// `None`: for ever.
        until: Option<Tick>,
        /// What has reached it is to be accepted first; then it hears StandbySignal.
        resting: Option<Drain>,
    },
    /// Receives nothing new, and finishes what it has.
    Draining(Drain),
    /// Told to stop.
    Leaving,
}

impl Role {
    /// Whether its workers are launched again when they die.
    pub(super) fn is_kept(self) -> bool {
        match self {
            Self::Active | Self::Previous | Self::Replaced | Self::Standby { .. } => true,
            Self::Candidate | Self::Draining(_) | Self::Leaving => false,
        }
    }

    /// Whether it is on its way out.
    pub(super) fn ends(self) -> bool {
        match self {
            Self::Draining(_) | Self::Leaving => true,
            Self::Candidate | Self::Active | Self::Previous | Self::Replaced | Self::Standby { .. } => false,
        }
    }

    /// Whether new connections may be its own, now or soon.
    pub(super) fn receives(self) -> bool {
        match self {
            Self::Candidate | Self::Active | Self::Previous | Self::Replaced => true,
            Self::Standby { .. } | Self::Draining(_) | Self::Leaving => false,
        }
    }

    /// When something of it is due.
    pub(super) fn deadline(self) -> Option<Tick> {
        match self {
            Self::Standby { until, resting } => {
                until.into_iter().chain(resting.and_then(|resting| resting.deadline())).min()
            }
            Self::Draining(drain) => drain.deadline(),
            Self::Candidate | Self::Active | Self::Previous | Self::Replaced | Self::Leaving => None,
        }
    }
}

/// One generation.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// What the first run of each worker is launched with.
    pub(super) launch: Arc<Launch>,
    /// What a relaunch is launched with.
    pub(super) relaunch: Arc<Launch>,
    pub(super) role: Role,
    pub(super) workers: Vec<Worker>,
    pub(super) launched: Tick,
    /// Whether a relaunch runs the same program: `None` until the copy is made or refused.
    pub(super) pinned: Option<bool>,
    /// Whether a copy was asked for.
    pub(super) pinning: bool,
    /// A rollback waits for it: it is launched again whatever Restart says.
    pub(super) needed: bool,
    /// It has a slot of its own at each listener.
    pub(super) steered: bool,
    /// Since when new connections have gone to another.
    pub(super) diverted: Option<Tick>,
    /// It let clients wait and accepted none of them.
    pub(super) stalled: bool,
    /// It had ended, and lives once more for those that wait in its slot.
    pub(super) rescues: bool,
}

impl Group {
    pub(super) fn new(launch: Arc<Launch>, role: Role, steered: bool, turn: &mut Turn<'_>) -> Self {
        let relaunch = Arc::new(Launch { pinned: true, ..Launch::clone(&launch) });
        let count = launch.settings.service.workers;
        let workers = (0..count).map(|index| Worker::new(turn.worker(), index, turn.now)).collect();
        let (launched, pinned) = (turn.now, launch.release.is_some().then_some(true));
        Self {
            launch,
            relaunch,
            role,
            workers,
            launched,
            pinned,
            pinning: false,
            needed: false,
            steered,
            diverted: None,
            stalled: false,
            rescues: false,
        }
    }

    pub(super) fn generation(&self) -> Generation {
        self.launch.generation
    }

    /// What the ledger keeps of it.
    pub(super) fn as_kept(&self) -> Kept {
        let pinned = self.pinned.unwrap_or(false);
        Kept { generation: self.generation(), release: self.launch.release.clone(), pinned }
    }

    /// How long it may take to be ready, by its own times.
    pub(super) fn start_longest(&self) -> Duration {
        let service = &self.launch.settings.service;
        let own = service.timeout_start.map(|limit| limit + service.ready_settle);
        own.unwrap_or(START_LONGEST).max(START_SHORTEST)
    }

    /// Whether every worker is ready.
    pub(super) fn serves(&self) -> bool {
        self.workers.iter().all(|worker| worker.phase.serves())
    }

    /// Whether at least one worker is ready.
    pub(super) fn serves_at_all(&self) -> bool {
        self.workers.iter().any(|worker| worker.phase.serves())
    }

    /// Whether it has come as far as it can while its binds are left unanswered.
    pub(super) fn is_unbound(&self) -> bool {
        let unbound = |worker: &Worker| matches!(worker.phase, Phase::Unbound { .. });
        self.workers.iter().any(unbound)
            && self.workers.iter().all(|worker| unbound(worker) || worker.phase.serves())
    }

    /// Whether at least one worker is ready, and every other is gone for good.
    pub(super) fn serves_as_ever(&self) -> bool {
        let settled = |worker: &Worker| worker.phase.serves() || worker.phase == Phase::Gone;
        self.serves_at_all() && self.workers.iter().all(settled)
    }

    /// How many are ready.
    pub(super) fn ready(&self) -> u32 {
        count(self.workers.iter().filter(|worker| worker.phase.serves()))
    }

    /// Whether nothing of it is left and nothing of it comes back.
    pub(super) fn is_gone(&self) -> bool {
        self.workers.iter().all(|worker| worker.phase == Phase::Gone)
    }

    /// Whether at least one worker is ready, or was a moment ago and has yet to settle.
    pub(super) fn answers(&self) -> bool {
        let answers =
            |worker: &Worker| worker.phase.serves() || matches!(worker.phase, Phase::Settling { .. });
        self.workers.iter().any(answers)
    }

    /// Whether supd goes on with at least one worker of it.
    pub(super) fn goes_on(&self) -> bool {
        let service = &self.launch.settings.service;
        self.workers.iter().any(|worker| worker.goes_on(service))
    }

    /// Whether no process of it is left, though one may come back.
    pub(super) fn is_idle(&self) -> bool {
        self.workers.iter().all(|worker| matches!(worker.phase, Phase::Gone | Phase::Resting { .. }))
    }

    /// How many workers are not yet gone.
    pub(super) fn remaining(&self) -> u32 {
        count(self.workers.iter().filter(|worker| worker.phase != Phase::Gone))
    }

    /// Whether a worker rests because it ended too often.
    pub(super) fn is_limited(&self) -> bool {
        self.workers.iter().any(|worker| matches!(worker.phase, Phase::Resting { limited: true, .. }))
    }

    pub(super) fn worker(&self, id: WorkerId) -> Option<usize> {
        self.workers.iter().position(|worker| worker.id == id)
    }

    pub(super) fn worker_of_job(&self, job: JobId) -> Option<usize> {
        self.workers.iter().position(|worker| worker.phase.job() == Some(job))
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        self.workers.iter().filter_map(|worker| worker.phase.deadline()).chain(self.role.deadline()).min()
    }

    /// Does something with one worker and returns what it tells.
    fn with(
        &mut self,
        index: usize,
        turn: &mut Turn<'_>,
        act: impl FnOnce(&mut Worker, &mut Terms<'_>, &mut Turn<'_>),
    ) -> Vec<(usize, Told)> {
        let mut told = Vec::new();
        let Some(worker) = self.workers.get_mut(index) else { return Vec::new() };
        let launch = if worker.last.is_some() { &self.relaunch } else { &self.launch };
        let upkeep = match (self.role.is_kept(), self.needed) {
            (false, _) => Upkeep::Never,
            (true, false) => Upkeep::AsRestartSays,
            (true, true) => Upkeep::Always,
        };
        let mut terms = Terms { launch, relaunch: &self.relaunch, upkeep, told: &mut told };
        act(worker, &mut terms, turn);
        told.into_iter().map(|told| (index, told)).collect()
    }

    /// Gives a cue to one worker.
    pub(super) fn cue(&mut self, index: usize, cue: &Cue, turn: &mut Turn<'_>) -> Vec<(usize, Told)> {
        self.with(index, turn, |worker, terms, turn| worker.cue(cue, terms, turn))
    }

    /// Gives a cue to every worker.
    pub(super) fn cue_all(&mut self, cue: &Cue, turn: &mut Turn<'_>) -> Vec<(usize, Told)> {
        (0..self.workers.len()).flat_map(|index| self.cue(index, cue, turn)).collect()
    }

    /// Launches every worker for the first time.
    pub(super) fn launch_all(&mut self, turn: &mut Turn<'_>) -> Vec<(usize, Told)> {
        (0..self.workers.len()).flat_map(|index| self.with(index, turn, Worker::launch)).collect()
    }

    /// Goes on with those that live, by SUPD_WORKER, and launches the others if that is for it to do.
    pub(super) fn adopt(&mut self, alive: &[u32], turn: &mut Turn<'_>) -> Vec<(usize, Told)> {
        let keeps = self.role.is_kept() && self.role != Role::Replaced;
        let born = self.launched;
        let each = |group: &mut Self, at: usize, turn: &mut Turn<'_>| {
            let lives = group.workers.get(at).is_some_and(|worker| alive.contains(&worker.index));
            match (lives, keeps) {
                (true, _) => group.with(at, turn, |worker, terms, turn| worker.adopt(born, terms, turn)),
                (false, true) => group.with(at, turn, Worker::launch),
                (false, false) => Vec::new(),
            }
        };
        (0..self.workers.len()).flat_map(|at| each(self, at, turn)).collect()
    }

    /// Launches again what is gone, whatever `Restart` says, and goes on doing so: a rollback
    /// needs it.
    pub(super) fn revive(&mut self, turn: &mut Turn<'_>) -> Vec<(usize, Told)> {
        self.needed = true;
        let gone: Vec<usize> = (0..self.workers.len())
            .filter(|index| self.workers.get(*index).is_some_and(|worker| worker.phase == Phase::Gone))
            .collect();
        gone.into_iter().flat_map(|index| self.with(index, turn, Worker::relaunch)).collect()
    }

    /// Launches all of it once more, on its way out: for those that wait in its slot.
    pub(super) fn rescue(&mut self, drain: Drain, turn: &mut Turn<'_>) -> Vec<(usize, Told)> {
        (self.role, self.rescues, self.needed) = (Role::Draining(drain), true, false);
        self.launched = turn.now;
        (0..self.workers.len()).flat_map(|index| self.with(index, turn, Worker::relaunch)).collect()
    }

    /// Whether a worker of it failed, rather than end when it was told to.
    pub(super) fn has_failed(&self) -> bool {
        self.workers.iter().any(Worker::has_failed)
    }

    /// Whether it has finished what it has since then, and was not told to stop yet.
    pub(super) fn drains_since(&self, since: Option<Tick>) -> bool {
        self.steered && self.diverted == since && matches!(self.role, Role::Draining(_))
    }

    /// Whether it is kept, and every worker of it could take over at once.
    pub(super) fn stands_by(&self) -> bool {
        matches!(self.role, Role::Standby { .. }) && self.serves()
    }

    /// Tells every worker to stop.
    pub(super) fn leave(&mut self, turn: &mut Turn<'_>) -> Vec<(usize, Told)> {
        self.role = Role::Leaving;
        self.cue_all(&Cue::Stop, turn)
    }

    /// Tells every worker to stop that is not ready.
    pub(super) fn leave_unready(&mut self, turn: &mut Turn<'_>) -> Vec<(usize, Told)> {
        let unready: Vec<usize> = (0..self.workers.len())
            .filter(|index| self.workers.get(*index).is_some_and(|worker| !worker.phase.serves()))
            .collect();
        unready.into_iter().flat_map(|index| self.cue(index, &Cue::Stop, turn)).collect()
    }

    /// Asks for a copy of the program, once; says whether it did. A release never changes: it is its
    /// own pin.
    pub(super) fn pin(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.launch.release.is_some() {
            self.pinned = Some(true);
            return false;
        }
        let asks = !std::mem::replace(&mut self.pinning, true);
        if asks {
            turn.act(Action::Pin(self.launch.clone()));
        }
        asks
    }

    /// Sends a signal to the main process of every worker; says to how many.
    pub(super) fn signal(&self, signal: Signal, turn: &mut Turn<'_>) -> u32 {
        let running = || self.workers.iter().filter(|worker| worker.phase.runs());
        for worker in running() {
            turn.act(Action::Signal { worker: worker.id, signal, everyone: false });
        }
        count(running())
    }
}

/// There are at most 1,024 workers: the unit file says so.
fn count<'a>(workers: impl Iterator<Item = &'a Worker>) -> u32 {
    u32::try_from(workers.count()).unwrap_or(u32::MAX)
}
