//! What workers leave behind: looked for in a child, signalled and watched by pidfd, until nothing
//! is left.
//!
//! A search reads all of /proc. So that a thousand units that stop at once do not take a thousand
//! searches, one search is for all that wait; only if it finds anything are they looked at one by
//! one.

use super::chores::{Chore, Chores};
use super::sources::{Source, Sources};
use super::workers::{Around, Workers};
use crate::machine::{Event, Input};
use crate::model::{Signal, Tick, WorkerId};
use crate::os::clock::BootId;
use crate::os::members::{self, Marks};
use crate::os::pidfd::PidFd;
use crate::os::process::Stat;
use mio::Token;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How many searches may run at a time: one that is stuck must not keep the others waiting.
const SEARCHES_MAX: usize = 4;

/// How many workers one search is for at most.
const BATCH_MAX: usize = 256;

/// How long a search may take.
const SEARCH_BOUND: Duration = Duration::from_secs(10);

/// After a search that could not be made.
const AGAIN: Duration = Duration::from_millis(500);

/// That searches cannot be made is told again after this.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// When supd is to end and no search can be made, it ends all the same after this.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// The sweeps under way.
#[derive(Debug, Default)]
pub struct Sweeper {
    sweeps: BTreeMap<WorkerId, Sweep>,
    /// Those to be searched for, and whether alone.
    waiting: VecDeque<(WorkerId, bool)>,
    /// Searches for a signal to everyone, that could not be begun yet.
    signals: VecDeque<(Marks, Signal)>,
    again: Option<Tick>,
    /// Since when no search could be made, and when that was told last.
    failing: Option<(Tick, Tick)>,
    /// supd is to end.
    ending: bool,
    /// Nobody looks any more for what these left.
    given_up: Vec<WorkerId>,
}

#[derive(Debug)]
struct Sweep {
    signal: Option<Signal>,
    left: Vec<(PidFd, Token)>,
}

impl Sweeper {
    /// Begins to sweep up behind a worker, or goes on with another signal.
    pub fn sweep(&mut self, id: WorkerId, signal: Option<Signal>) {
        match self.sweeps.get_mut(&id) {
            Some(sweep) => {
                sweep.signal = signal.or(sweep.signal);
                for (process, _) in &sweep.left {
                    send(process, signal);
                }
            }
            None => {
                self.sweeps.insert(id, Sweep { signal, left: Vec::new() });
                self.waiting.push_back((id, false));
            }
        }
    }

    /// Looks for every process with these marks, to signal it.
    pub fn signal(&mut self, marks: Marks, signal: Signal) {
        self.signals.push_back((marks, signal));
    }

    /// Whether a signal to everyone of somebody's waits for its search.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        !self.signals.is_empty()
    }

    /// supd is to end: where a machine that is out of processes or memory lets no search be made, that
    /// is not waited for without end.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// When [`Sweeper::pump`] is due although nothing happened.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.again
    }

    /// Begins the searches that wait, as far as there is room.
    pub fn pump(&mut self, now: Tick, workers: &mut Workers, chores: &mut Chores, around: &mut Around<'_>) {
        if self.again.is_some_and(|again| now < again) {
            return;
        }
        self.again = None;
        for id in std::mem::take(&mut self.given_up) {
            self.swept(id, workers, around);
        }
        while chores.searches() < SEARCHES_MAX {
            let (chore, marks) = if let Some((marks, signal)) = self.signals.pop_front() {
                (Chore::Signal(signal), marks)
            } else {
                let batch = self.next_batch(workers);
                if batch.is_empty() {
                    return;
                }
                let marks = self.marks(&batch, workers);
                (Chore::Sweep(batch), marks)
            };
            let begun = members::search(&marks, SEARCH_BOUND).map_err(|error| error.to_string());
            let begun = begun.and_then(|task| chores.begin(chore.clone(), task, around.sources));
            if let Err(why) = begun {
                self.failed(chore, &why, now);
                return;
            }
        }
    }

    /// What tells the processes of these.
    fn marks(&self, batch: &[WorkerId], workers: &Workers) -> Marks {
        let mut all = Marks::default();
        for id in batch {
            let Some(worker) = workers.get(*id) else { continue };
            let one = worker.marks();
            all.workers.extend(one.workers);
            all.invocation_ids.extend(one.invocation_ids);
            // Whoever has left the session and the environment is still there.
            if self.sweeps.get(id).is_some_and(|sweep| sweep.signal == Some(Signal::KILL)) {
                all.doomed.extend(one.groups.iter().cloned());
            }
            all.groups.extend(one.groups);
        }
        all
    }

    /// The workers that the next search is for.
    fn next_batch(&mut self, workers: &Workers) -> Vec<WorkerId> {
        let mut batch = Vec::new();
        while let Some((id, alone)) = self.waiting.pop_front() {
            if workers.get(id).is_none() {
                // Its launch failed after all, or its generation was retired.
                self.sweeps.remove(&id);
                continue;
            }
            if alone && !batch.is_empty() {
                self.waiting.push_front((id, alone));
                break;
            }
            batch.push(id);
            if alone || batch.len() == BATCH_MAX {
                break;
            }
        }
        batch
    }

    /// A search could not be made; it is made again.
    fn failed(&mut self, chore: Chore, why: &str, now: Tick) {
        let (since, told) = self.failing.unwrap_or((now, now));
        let tell = self.failing.is_none() || now.since(told) >= TELL_EVERY;
        self.failing = Some((since, if tell { now } else { told }));
        if tell {
            log::warn!("cannot look for what workers left behind: {why}; trying again");
        }
        match chore {
            Chore::Sweep(ids) => self.waiting.extend(ids.into_iter().map(|id| (id, true))),
            // KILL is said again by the machine; to say any other signal late would be wrong.
            Chore::Signal(..)
            | Chore::Holders(_)
            | Chore::Census
            | Chore::Probe(_)
            | Chore::Connect(_)
            | Chore::Forget(_)
            | Chore::Pin(..)
            | Chore::Trim(_)
            | Chore::Unpack(..)
            | Chore::End(..)
            | Chore::Install(..)
            | Chore::Discard
            | Chore::Prune(_)
            | Chore::History(_)
            | Chore::CatchUp(_)
            | Chore::CheckHandover
            | Chore::Machine
            | Chore::Metrics
            | Chore::Known(..)
            | Chore::Clear(_)
            | Chore::TakeFrom(_) => {}
        }
        self.again = Some(now.after(AGAIN));
        if self.ending && now.since(since) >= GIVE_UP_AFTER && !self.waiting.is_empty() {
            log::error!("supd ends without a look for what {} worker(s) left: {why}", self.waiting.len());
            self.given_up.extend(self.waiting.drain(..).map(|(id, _)| id));
        }
    }

    /// A search for these workers is over.
    pub fn searched(
        &mut self,
        ids: Vec<WorkerId>,
        result: Result<Vec<u8>, String>,
        now: Tick,
        workers: &mut Workers,
        around: &mut Around<'_>,
    ) {
        let answer = match result {
            Ok(answer) => answer,
            Err(why) => return self.failed(Chore::Sweep(ids), &why, now),
        };
        self.failing = None;
        let found = members::decode(&answer, around.boot);
        if found.is_empty() {
            for id in ids {
                self.swept(id, workers, around);
            }
            return;
        }
        let [id] = ids[..] else {
            self.waiting.extend(ids.into_iter().map(|id| (id, true)));
            return;
        };
        let (Some(sweep), Some(worker)) = (self.sweeps.get_mut(&id), workers.get_mut(id)) else { return };
        // Once a session is empty, its number may become somebody else's.
        let has_member =
            |head: i32| found.iter().any(|it| Stat::read(it.pid).is_some_and(|stat| stat.session == head));
        worker.sessions.retain(|head| has_member(*head));
        for process in found.iter().filter_map(|member| member.matches_live(around.boot)) {
            send(&process, sweep.signal);
            if let Ok(token) = around.sources.watch(&process, Source::Left(id)) {
                sweep.left.push((process, token));
            }
        }
        if sweep.left.is_empty() {
            // All gone meanwhile, or no descriptor to hold them by.
            self.waiting.push_back((id, true));
            self.again = Some(now.after(AGAIN / 10));
        }
    }

    /// A search for every process of a worker or a command is over.
    pub fn found(
        &mut self,
        signal: Signal,
        result: Result<Vec<u8>, String>,
        now: Tick,
        workers: &Workers,
        boot: &BootId,
    ) {
        let answer = match result {
            Ok(answer) => answer,
            Err(why) => return self.failed(Chore::Signal(signal), &why, now),
        };
        for member in members::decode(&answer, boot) {
            // A main process has had it at once.
            let is_main = |id| workers.get(id).and_then(|worker| worker.main()).map(PidFd::pid);
            if workers.holds(member.pid).and_then(is_main) != Some(member.pid) {
                if let Some(process) = member.matches_live(boot) {
                    send(&process, Some(signal));
                }
            }
        }
    }

    /// A process that a worker left behind has ended.
    pub fn left(&mut self, id: WorkerId, sources: &mut Sources) {
        let Some(sweep) = self.sweeps.get_mut(&id) else { return };
        sweep.left.retain(|(process, token)| {
            let over = process.is_over();
            if over {
                sources.unwatch(*token, process);
            }
            !over
        });
        if sweep.left.is_empty() && !self.waiting.iter().any(|(waiting, _)| *waiting == id) {
            // It may have started others while it was looked for.
            self.waiting.push_back((id, true));
        }
    }

    fn swept(&mut self, id: WorkerId, workers: &mut Workers, around: &mut Around<'_>) {
        if self.sweeps.remove(&id).is_none() {
            return;
        }
        if let Some(worker) = workers.get(id) {
            around.inbox.push_back(Input::Unit(worker.unit.clone(), Event::Swept { worker: id }));
        }
        workers.forget(id, around);
    }
}

/// ESRCH is what is wanted; EPERM, a process that has become another user's, stays to be seen.
fn send(process: &PidFd, signal: Option<Signal>) {
    if let Some(signal) = signal {
        let _ = process.send(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testbed::{Bed, recipe};
    use super::*;
    use crate::model::WorkerExit;

    /// A worker that leaves a child in its session, and one in a session of its own; both bear
    /// SIGTERM. It ends at once.
    fn leaves_two(bed: &Bed) -> String {
        let stay = "trap '' TERM; echo $$ >> {0}; while :; do sleep 1; done";
        let stay = stay.replace("{0}", &bed.folder.path().join("pids").display().to_string());
        let script = format!("sh -c \"{stay}\" & setsid sh -c \"{stay}\" & exit 7").replace('$', "\\$");
        let script = script.replace('\\', "\\\\").replace('"', "\\\"");
        format!("ExecStart = [\"/bin/sh\", \"-c\", \"{script}\"]")
    }

    #[test]
    fn nothing_is_left_before_it_is_said() {
        let mut bed = Bed::new();
        let service = leaves_two(&bed);
        bed.spawn(1, &recipe(1, &service)).unwrap();
        assert!(matches!(bed.event(), Event::Spawned { worker: WorkerId(1) }));
        let Event::Exited { exit, .. } = bed.event() else { panic!("not ended") };
        assert_eq!(exit, WorkerExit::Code(7));
        let pids = bed.folder.path().join("pids");
        let pids: Vec<PidFd> =
            bed.lines(&pids, 2).iter().map(|pid| PidFd::open(pid.parse().unwrap()).unwrap()).collect();
        bed.sweeper.sweep(WorkerId(1), Some(Signal::TERM));
        for _ in 0..20 {
            bed.turn();
        }
        assert!(bed.inbox.is_empty() && pids.iter().all(|process| !process.is_over()));
        assert_eq!(bed.runtime.leftovers().len(), 1, "the next supd is to find it");
        bed.sweeper.sweep(WorkerId(1), Some(Signal::KILL));
        assert!(matches!(bed.event(), Event::Swept { worker: WorkerId(1) }));
        assert!(pids.iter().all(PidFd::is_over));
        assert!(bed.runtime.leftovers().is_empty() && bed.workers.is_empty());
    }

    #[test]
    fn one_search_is_for_all_that_left_nothing() {
        let mut bed = Bed::new();
        let launch = recipe(1, "ExecStart = [\"/bin/true\"]");
        for id in 1..=20 {
            bed.spawn(id, &launch).unwrap();
        }
        let mut exited = 0;
        while exited < 20 {
            exited += usize::from(matches!(bed.event(), Event::Exited { .. }));
        }
        for id in 1..=20 {
            bed.sweeper.sweep(WorkerId(id), None);
        }
        let Bed { sources, inbox, runtime, boot, workers, sweeper, chores, .. } = &mut bed;
        let mut around = Around { sources, inbox, runtime, boot };
        sweeper.pump(Tick(0), workers, chores, &mut around);
        assert_eq!(chores.searches(), 1);
        for _ in 1..=20 {
            assert!(matches!(bed.event(), Event::Swept { .. }));
        }
    }

    #[test]
    fn a_signal_for_everyone_reaches_what_has_left_the_session() {
        let mut bed = Bed::new();
        let service = leaves_two(&bed).replace("exit 7", "sleep 600");
        bed.spawn(1, &recipe(1, &service)).unwrap();
        assert!(matches!(bed.event(), Event::Spawned { .. }));
        let pids = bed.folder.path().join("pids");
        bed.lines(&pids, 2);
        let worker = bed.workers.get(WorkerId(1)).unwrap();
        worker.main().unwrap().send(Signal::KILL).unwrap();
        let marks = worker.marks();
        bed.sweeper.signal(marks, Signal::KILL);
        assert!(matches!(bed.event(), Event::Exited { .. }));
        // Nothing is left to be signalled.
        bed.sweeper.sweep(WorkerId(1), None);
        assert!(matches!(bed.event(), Event::Swept { .. }));
    }
}
