//! Every worker that was launched and is not yet swept up: its processes by pidfd, its launch, its
//! end.

use super::held::Held;
use super::launch::{self, Ground};
use super::logging::tell_launched;
use super::record;
use super::sources::{Source, Sources};
use super::survivors::Survivor;
use crate::machine::{Event, Input, Launch};
use crate::model::settings::{KillMode, NotifyAccess};
use crate::model::{Generation, Signal, UnitName, WorkerExit, WorkerId};
use crate::os::cgroup::Joining;
use crate::os::clock::BootId;
use crate::os::intercept::Calls;
use crate::os::members::Marks;
use crate::os::pidfd::PidFd;
use crate::os::process::{Identity, Stat};
use crate::os::spawn::{Asks, Outcome, SpawnFailure, Spawned};
use crate::store::runtime::{Ready, Runtime};
use mio::Token;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// Of which unit.
    pub unit: UnitName,
    /// SUPD_WORKER
    pub index: u32,
    /// The recipe that it was launched by.
    pub launch: Arc<Launch>,
    /// INVOCATION_ID
    pub invocation: String,
    /// NOTIFYACCESS, where it said so itself.
    pub access: Option<NotifyAccess>,
    /// Whether [`Event::Exited`] was said.
    pub exited: bool,
    /// How its main process ended.
    exit: Option<WorkerExit>,
    /// Sessions of its own that may still have members: then their numbers cannot be anyone else's.
    pub sessions: Vec<i32>,
    /// The process that supd forked.
    child: Held,
    /// The one that it named with MAINPID.
    main: Option<Held>,
    outcome: Option<(Outcome, Token)>,
    /// What it will ask supd by.
    asks: Option<Asks>,
    /// How the process ended that supd forked, while it is looked for another that goes on.
    parent: Option<WorkerExit>,
    /// It was told something by a signal: from then on its end is its end.
    pub signalled: bool,
    /// It has outlived the supd that launched it.
    pub adopted: bool,
    /// What is written down of it since it was ready.
    pub noted: Option<Ready>,
    /// Whether it is reaped at once.
    reaping: Reaping,
    /// Its own cgroup.
    pub group: Option<PathBuf>,
    /// What could not be done at its launch, to be told.
    pub notes: Vec<String>,
}

/// From so many connections on, what others looked up of a process makes supd stand still when it reaps it:
/// half a millisecond of 512.
const CROWDED: u32 = 512;

/// Whether what others looked up of a worker's first process is to be forgotten before it is reaped.
#[derive(Debug, Default)]
enum Reaping {
    /// It had few connections, as far as it was counted.
    #[default]
    AtOnce,
    /// Its generation was seen with so many.
    Crowded(u32),
    /// It has ended; a child makes the kernel forget.
    Waits,
    /// That is done, or cannot be done.
    Forgotten,
}

/// How many ends of forgotten workers are remembered.
const ENDED_MAX: usize = 256;

/// All of them.
#[derive(Debug, Default)]
pub struct Workers {
    /// Boxed: the nodes of a map are half empty.
    all: BTreeMap<WorkerId, Box<Worker>>,
    /// How the last ended that are forgotten: their ExecStopPost may be still to come.
    ended: VecDeque<(WorkerId, WorkerExit)>,
}

/// What a launch needs of the rest of the shell.
#[derive(Debug)]
pub struct Around<'a> {
    /// What is waited for.
    pub sources: &'a mut Sources,
    /// Where outcomes go.
    pub inbox: &'a mut VecDeque<Input>,
    /// Where the next supd looks.
    pub runtime: &'a Runtime,
    /// Which boot this is.
    pub boot: &'a BootId,
}

impl Workers {
    /// Launches one.
    ///
    /// # Errors
    /// Why there is no process, in a sentence.
    pub fn spawn(
        &mut self,
        id: WorkerId,
        launch: &Arc<Launch>,
        ground: &Ground,
        worker: &launch::Worker<'_>,
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        let (index, invocation) = (worker.index, worker.invocation.to_owned());
        let group = worker.group.as_ref().map(Joining::folder);
        let Spawned { process, outcome, asks } =
            ground.launch(launch, worker).map_err(|error| error.to_string())?;
        let unit = launch.settings.unit.clone();
        if let Some(identity) = Identity::of(&process, around.boot) {
            record::write(id, launch, index, &invocation, &identity, around);
        }
        // Before it can write.
        tell_launched(launch, index, process.pid(), ground.kept(&launch.settings.service));
        outcome.go();
        let outcome_token = around.sources.watch(&outcome, Source::WorkerOutcome(id));
        let child_token = around.sources.watch(&process, Source::Child(id));
        let (Ok(outcome_token), Ok(child_token)) = (outcome_token, child_token) else {
            // Reaped as an orphan.
            let _ = process.send(Signal::KILL);
            around.runtime.clear_worker(id);
            return Err("cannot wait for the new process: the kernel is out of memory or watches".into());
        };
        let child = Held { process, token: Some(child_token) };
        let outcome = Some((outcome, outcome_token));
        let worker = Worker {
            unit,
            index,
            launch: launch.clone(),
            invocation,
            access: None,
            exited: false,
            exit: None,
            sessions: vec![child.process.pid()],
            child,
            main: None,
            outcome,
            asks,
            parent: None,
            signalled: false,
            adopted: false,
            noted: None,
            reaping: Reaping::default(),
            group,
            notes: Vec::new(),
        };
        self.all.insert(id, Box::new(worker));
        Ok(())
    }

    /// Goes on with one that has outlived its supd.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn adopt(
        &mut self,
        id: WorkerId,
        launch: &Arc<Launch>,
        index: u32,
        survivor: Survivor,
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        let Survivor { process, record: known, paths } = survivor;
        let token = around
            .sources
            .watch(&process, Source::Child(id))
            .map_err(|error| format!("cannot wait for process {}: {error}", process.pid()))?;
        // In this order: should supd die in between, the next one finds it twice, and not at all otherwise.
        if let Some(identity) = Identity::of(&process, around.boot) {
            record::write(id, launch, index, &known.invocation, &identity, around);
        }
        paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
        let worker = Worker {
            unit: launch.settings.unit.clone(),
            index,
            launch: launch.clone(),
            invocation: known.invocation,
            access: None,
            exited: false,
            exit: None,
            sessions: Stat::read(process.pid())
                .map(|stat| stat.session)
                .into_iter()
                .chain([process.pid()])
                .collect(),
            child: Held { process, token: Some(token) },
            main: None,
            outcome: None,
            asks: None,
            parent: None,
            signalled: false,
            adopted: true,
            noted: None,
            reaping: Reaping::default(),
            group: None,
            notes: Vec::new(),
        };
        self.all.insert(id, Box::new(worker));
        Ok(())
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.all.get(&id).map(|worker| &**worker)
    }

    /// How the main process of one ended.
    #[must_use]
    pub fn exit(&self, id: WorkerId) -> Option<WorkerExit> {
        let ended = || self.ended.iter().find(|(ended, _)| *ended == id).map(|(_, exit)| *exit);
        self.all.get(&id).map_or_else(ended, |worker| worker.exit)
    }

    /// One of them.
    pub fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.all.get_mut(&id).map(|worker| &mut **worker)
    }

    /// Each of them.
    pub fn all(&self) -> impl Iterator<Item = &Worker> {
        self.all.values().map(|worker| &**worker)
    }

    /// Each of them.
    pub fn all_mut(&mut self) -> impl Iterator<Item = (WorkerId, &mut Worker)> {
        self.all.iter_mut().map(|(id, worker)| (*id, &mut **worker))
    }

    /// Those of one generation.
    pub fn of<'a>(
        &'a self,
        unit: &'a UnitName,
        generation: Generation,
    ) -> impl Iterator<Item = (WorkerId, &'a Worker)> {
        let its = move |worker: &Worker| worker.launch.generation == generation && worker.unit == *unit;
        self.all.iter().filter(move |(_, worker)| its(worker)).map(|(id, worker)| (*id, &**worker))
    }

    /// Those of one unit.
    pub fn of_unit<'a>(&'a self, unit: &'a UnitName) -> impl Iterator<Item = (WorkerId, &'a Worker)> {
        let all = self.all.iter().map(|(id, worker)| (*id, &**worker));
        all.filter(move |(_, worker)| worker.unit == *unit)
    }

    /// Whether a process of this number is held here, so that its end is not to be taken away.
    #[must_use]
    pub fn holds(&self, pid: i32) -> Option<WorkerId> {
        let holds =
            |worker: &Worker| worker.held().any(|held| held.token.is_some() && held.process.pid() == pid);
        self.all.iter().find(|(_, worker)| holds(worker)).map(|(id, _)| *id)
    }

    /// The launch of a worker has news. `true`: it failed, and the worker is gone.
    pub fn launched(&mut self, id: WorkerId, around: &mut Around<'_>) -> bool {
        let Some(worker) = self.all.get_mut(&id) else { return false };
        let Some((outcome, _)) = &mut worker.outcome else { return false };
        match outcome.poll() {
            Poll::Pending => false,
            Poll::Ready(result) => self.became(id, result, around),
        }
    }

    /// It is the program now, or it never will be. Gives whether it failed.
    fn became(&mut self, id: WorkerId, result: Result<(), SpawnFailure>, around: &mut Around<'_>) -> bool {
        let Some(worker) = self.all.get_mut(&id) else { return false };
        let Some((mut outcome, token)) = worker.outcome.take() else { return false };
        worker.notes = outcome.take_notes();
        around.sources.unwatch(token, &outcome);
        let (unit, failed) = (worker.unit.clone(), result.is_err());
        let event = match result {
            Ok(()) => Event::Spawned { worker: id },
            Err(failure) => Event::SpawnFailed { worker: id, reason: failure.to_string() },
        };
        around.inbox.push_back(Input::Unit(unit, event));
        if failed {
            self.forget(id, around);
        }
        failed
    }

    /// The forked process of a worker ended, or it did not. `goes_on`: others of it are there, and one of
    /// them may be the server.
    pub fn child_ended(&mut self, id: WorkerId, goes_on: bool, around: &mut Around<'_>) {
        // A launch that failed is no exit.
        if self.launched(id, around) {
            return;
        }
        let Some(worker) = self.all.get_mut(&id) else { return };
        let Some(exit) = worker.child.end(around.sources) else { return };
        // It has said all that it ever will, even if another process holds its report open for a moment.
        let said = worker.outcome.as_mut().map(|(outcome, _)| outcome.end());
        if said.is_some_and(|said| self.became(id, said, around)) {
            return;
        }
        let Some(worker) = self.all.get_mut(&id) else { return };
        if worker.main.is_none() {
            self.exited_unless(goes_on, id, exit, around);
        }
    }

    /// A parent that ends well and leaves its server in the background is not the end of the worker.
    fn exited_unless(&mut self, goes_on: bool, id: WorkerId, exit: WorkerExit, around: &mut Around<'_>) {
        let Some(worker) = self.all.get_mut(&id) else { return };
        if goes_on && exit.is_success() && !worker.signalled {
            worker.parent = Some(exit);
        } else {
            self.exited(id, exit, around);
        }
    }

    /// How the process ended that supd forked, where that is not known to be the worker's end.
    pub fn take_parent(&mut self, id: WorkerId) -> Option<WorkerExit> {
        self.all.get_mut(&id)?.parent.take()
    }

    /// It is looked for once more.
    pub fn keep_parent(&mut self, id: WorkerId, exit: WorkerExit) {
        if let Some(worker) = self.all.get_mut(&id) {
            worker.parent = Some(exit);
        }
    }

    /// Nobody goes on in its place.
    pub fn parent_ended(&mut self, id: WorkerId, exit: WorkerExit, around: &mut Around<'_>) {
        if self.all.get(&id).is_some_and(|worker| !worker.exited) {
            self.exited(id, exit, around);
        }
    }

    /// So many connections a generation has by a count.
    pub fn counted(&mut self, unit: &UnitName, generation: Generation, connections: u32) {
        if connections < CROWDED {
            return;
        }
        for worker in self.all.values_mut() {
            let its = worker.launch.generation == generation && worker.unit == *unit;
            if its && matches!(worker.reaping, Reaping::AtOnce) {
                worker.reaping = Reaping::Crowded(connections);
            }
        }
    }

    /// Whether the first process of this one has ended and is to be reaped only when the child is over that
    /// this may begin, for so many descriptors.
    pub fn waits(&mut self, id: WorkerId, begin: impl FnOnce(&PidFd, u32) -> Result<(), String>) -> bool {
        let Some(worker) = self.all.get_mut(&id).filter(|worker| worker.child.token.is_some()) else {
            return false;
        };
        match worker.reaping {
            Reaping::Waits => true,
            Reaping::Crowded(connections) if worker.child.process.is_over() => {
                // Of a proxy each takes two; and it has files of its own.
                let descriptors = connections.saturating_mul(2).saturating_add(1024);
                let begun = begin(&worker.child.process, descriptors);
                worker.reaping = if begun.is_ok() { Reaping::Waits } else { Reaping::Forgotten };
                begun.is_ok()
            }
            Reaping::AtOnce | Reaping::Crowded(_) | Reaping::Forgotten => false,
        }
    }

    /// That child is over.
    pub fn waits_no_longer(&mut self, id: WorkerId) {
        if let Some(worker) = self.all.get_mut(&id) {
            worker.reaping = Reaping::Forgotten;
        }
    }

    /// What a worker asks supd by, once it runs.
    ///
    /// # Errors
    /// supd has no room for it.
    pub fn take_calls(&mut self, id: WorkerId) -> Option<Result<Calls, nix::errno::Errno>> {
        let worker = self.all.get_mut(&id).filter(|worker| worker.outcome.is_none())?;
        worker.asks.take().map(|asks| asks.take())
    }

    /// The process that a worker named with MAINPID ended, or it did not.
    pub fn main_ended(&mut self, id: WorkerId, goes_on: bool, around: &mut Around<'_>) {
        let Some(worker) = self.all.get_mut(&id) else { return };
        let Some(exit) = worker.main.as_mut().and_then(|main| main.end(around.sources)) else { return };
        self.exited_unless(goes_on, id, exit, around);
    }

    fn exited(&mut self, id: WorkerId, exit: WorkerExit, around: &mut Around<'_>) {
        let Some(worker) = self.all.get_mut(&id) else { return };
        worker.exited = true;
        worker.exit = Some(exit);
        let over = worker.launch.settings.service.kill_mode == KillMode::Process;
        around.inbox.push_back(Input::Unit(worker.unit.clone(), Event::Exited { worker: id, exit }));
        if over {
            // Whatever is left of it is nobody's business.
            self.forget(id, around);
        }
    }

    /// Whether this process is the main one only from now on.
    fn set_main(&mut self, id: WorkerId, process: PidFd, sources: &mut Sources) -> Result<bool, String> {
        let Some(worker) = self.all.get_mut(&id).filter(|worker| !worker.exited) else { return Ok(false) };
        if let Some(old) = worker.main.take_if(|old| old.process.pid() != process.pid()) {
            old.unwatch(sources);
        }
        if worker.main.is_some() || process.pid() == worker.child.process.pid() {
            return Ok(false);
        }
        let token = sources
            .watch(&process, Source::Main(id))
            .map_err(|error| format!("cannot wait for process {}: {error}", process.pid()))?;
        worker.main = Some(Held { process, token: Some(token) });
        Ok(true)
    }

    /// This process is the main one of a worker from now on: its session is the worker's own, and a later supd is to
    /// find it.
    ///
    /// # Errors
    /// Why it cannot be, in a sentence.
    pub fn follow(&mut self, id: WorkerId, process: PidFd, around: &mut Around<'_>) -> Result<(), String> {
        let identity = Identity::of(&process, around.boot);
        let session = Stat::read(process.pid()).map(|stat| stat.session);
        if !self.set_main(id, process, around.sources)? {
            return Ok(());
        }
        let Some(worker) = self.all.get_mut(&id) else { return Ok(()) };
        worker.sessions.extend(session.filter(|session| !worker.sessions.contains(session)));
        if let Some(Identity { pid, start, inode, .. }) = identity {
            record::change(id, worker, around.runtime, |record| {
                (record.pid, record.start_time, record.inode) = (pid, start, inode);
            });
        }
        Ok(())
    }

    /// No process of it is left, or nobody asks any more.
    pub fn forget(&mut self, id: WorkerId, around: &mut Around<'_>) {
        around.runtime.clear_worker(id);
        let Some(mut worker) = self.all.remove(&id) else { return };
        if let Some(exit) = worker.exit {
            self.ended.truncate(ENDED_MAX - 1);
            self.ended.push_front((id, exit));
        }
        if let Some((outcome, token)) = worker.outcome.take() {
            around.sources.unwatch(token, &outcome);
        }
        for held in [Some(worker.child), worker.main].into_iter().flatten() {
            held.unwatch(around.sources);
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl Worker {
    /// Whether its first process has ended, and nobody knows yet whether another goes on.
    #[must_use]
    pub fn is_parent_gone(&self) -> bool {
        self.parent.is_some()
    }

    fn held(&self) -> impl Iterator<Item = &Held> {
        std::iter::once(&self.child).chain(&self.main)
    }

    /// The process that it is told about and measured by, while that lives.
    #[must_use]
    pub fn main(&self) -> Option<&PidFd> {
        let main = self.main.as_ref().unwrap_or(&self.child);
        (main.token.is_some() && !self.exited).then_some(&main.process)
    }

    /// The numbers that tell its processes: only those that cannot be anyone else's.
    #[must_use]
    pub fn numbers(&self) -> Vec<i32> {
        let own = self.held().filter(|held| held.token.is_some()).map(|held| held.process.pid());
        let mut numbers: Vec<i32> = own.chain(self.sessions.iter().copied()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// What its processes are known by.
    #[must_use]
    pub fn marks(&self) -> Marks {
        let invocation_ids = vec![self.invocation.clone()];
        let groups = self.group.iter().cloned().collect();
        Marks { workers: self.numbers(), invocation_ids, groups, doomed: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testbed::{Bed, recipe};
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_no_exit() {
        let mut bed = Bed::new();
        bed.spawn(1, &recipe(1, "ExecStart = [\"/nonexistent/server\"]")).unwrap();
        let Event::SpawnFailed { worker: WorkerId(1), reason } = bed.event() else { panic!("launched") };
        assert!(reason.contains("/nonexistent/server") && reason.contains("No such file"), "{reason}");
        for _ in 0..5 {
            bed.turn();
        }
        assert!(bed.inbox.is_empty() && bed.workers.is_empty() && bed.runtime.leftovers().is_empty());
    }

    #[test]
    fn the_end_of_a_worker_is_that_of_the_process_it_named() {
        let mut bed = Bed::new();
        let pids = bed.folder.path().join("pids");
        let service = format!(
            "ExecStart = [\"/bin/sh\", \"-c\", \"sh -c 'sleep 600; exit 9' & echo $! > {}; wait; sleep 600\"]",
            pids.display()
        );
        bed.spawn(1, &recipe(1, &service)).unwrap();
        assert!(matches!(bed.event(), Event::Spawned { .. }));
        let pid: i32 = bed.lines(&pids, 1)[0].parse().unwrap();
        let (main, copy) = (PidFd::open(pid).unwrap(), PidFd::open(pid).unwrap());
        bed.workers.set_main(WorkerId(1), main, &mut bed.sources).unwrap();
        assert_eq!(bed.workers.get(WorkerId(1)).unwrap().main().unwrap().pid(), pid);
        assert_eq!(bed.workers.holds(pid), Some(WorkerId(1)));
        copy.send(Signal::KILL).unwrap();
        let Event::Exited { exit, .. } = bed.event() else { panic!("no exit") };
        // The shell, its parent, collects it; the kernel may be too old to tell us how it ended.
        let killed = WorkerExit::Killed { signal: Signal::KILL, core: false };
        assert!(exit == killed || exit == WorkerExit::Unknown, "{exit}");
        assert!(bed.workers.get(WorkerId(1)).unwrap().main().is_none());
        bed.sweeper.sweep(WorkerId(1), Some(Signal::KILL));
        assert!(matches!(bed.event(), Event::Swept { .. }), "and no second exit");
    }

    #[test]
    fn what_a_worker_of_kill_mode_process_leaves_is_nobodys() {
        let mut bed = Bed::new();
        bed.spawn(1, &recipe(1, "KillMode = \"process\"\nExecStart = [\"/bin/false\"]")).unwrap();
        // In either order: another test's child may hold the report open for a moment longer.
        let events = [bed.event(), bed.event()];
        assert!(events.iter().any(|event| matches!(event, Event::Spawned { .. })), "{events:?}");
        let ended = |event: &Event| matches!(event, Event::Exited { exit: WorkerExit::Code(1), .. });
        assert!(events.iter().any(ended), "{events:?}");
        assert!(bed.workers.is_empty() && bed.runtime.leftovers().is_empty());
    }
}
