//! Work that may take long, in forked children: what it is for, and what came of it.

use super::pinner::Batch;
use super::sources::{Source, Sources};
use crate::model::{ClientId, Generation, JobId, Signal, UnitName, WorkerId};
use crate::os::task::Task;
use mio::Token;
use std::collections::BTreeMap;
use std::task::Poll;

/// What a forked child does.
#[derive(Debug, Clone)]
pub enum Chore {
    /// It looks for what workers left behind.
    Sweep(Vec<WorkerId>),
    /// It looks for every process of a worker or a command, to send them a signal.
    Signal(Signal),
    /// It looks who of a worker listens.
    Holders(WorkerId),
    /// It counts open connections.
    Census,
    /// It checks over the network.
    Probe(JobId),
    /// It connects to one generation, for this client.
    Connect(ClientId),
    /// It looks for sockets in a server that runs, for this client.
    TakeFrom(ClientId),
    /// It makes the kernel forget what others looked up of a worker that has ended.
    Forget(WorkerId),
    /// It copies the programs of generations.
    Pin(Batch),
    /// It trims the logs of these generations.
    Trim(Vec<(UnitName, Generation)>),
    /// It removes a RuntimeDirectory of a unit.
    Clear(UnitName),
    /// It unpacks what is to be a release.
    Unpack(UnitName, JobId),
    /// It ends what a command left running, before the command counts as over, with this result.
    End(UnitName, JobId, Result<(), String>),
    /// It does a step of an install.
    Install(UnitName, JobId),
    /// It removes files of releases.
    Discard,
    /// It removes what is stored of a unit's old generations.
    Prune(UnitName),
    /// It reads the history for who asks once.
    History(ClientId),
    /// It reads the history for who watches, and is behind.
    CatchUp(ClientId),
    /// It asks the program that is on the disk now whether it can go on in the place of this one.
    CheckHandover,
    /// It writes the file of metrics.
    Metrics,
    /// It asks systemd whether the machine stops.
    Machine,
    /// It looks whether the history knows this unit, for who wants to watch it.
    Known(ClientId, UnitName),
}

/// Those under way.
#[derive(Debug, Default)]
pub struct Chores {
    last: u64,
    running: BTreeMap<u64, (Task, Token, Chore)>,
}

impl Chores {
    /// Waits for a task that was begun.
    ///
    /// # Errors
    /// It cannot be waited for, and is ended.
    pub fn begin(&mut self, chore: Chore, task: Task, sources: &mut Sources) -> Result<(), String> {
        let number = self.last + 1;
        match sources.watch(&task, Source::Chore(number)) {
            Ok(token) => {
                self.last = number;
                self.running.insert(number, (task, token, chore));
                Ok(())
            }
            Err(error) => {
                let _ = task.process().send(Signal::KILL);
                Err(format!("cannot wait for a child: {error}"))
            }
        }
    }

    /// What came of it, if it is over.
    pub fn poll(&mut self, number: u64, sources: &mut Sources) -> Option<(Chore, Result<Vec<u8>, String>)> {
        let (task, ..) = self.running.get_mut(&number)?;
        let Poll::Ready(result) = task.poll() else { return None };
        let (task, token, chore) = self.running.remove(&number)?;
        sources.unwatch(token, &task);
        Some((chore, result))
    }

    /// Ends what is done for this job; its outcome still comes.
    pub fn end_job(&mut self, job: JobId) {
        for (task, _, chore) in self.running.values() {
            let its = match chore {
                Chore::Probe(of) | Chore::Unpack(_, of) | Chore::Install(_, of) => *of == job,
                _ => false,
            };
            if its {
                let _ = task.process().send(Signal::KILL);
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// How many do something that the next image of supd would not do again. What is only read or counted is asked
    /// for again.
    #[must_use]
    pub fn that_matter(&self) -> usize {
        let matters = |chore: &Chore| match chore {
            Chore::Census
            | Chore::Connect(_)
            | Chore::History(_)
            | Chore::CatchUp(_)
            | Chore::Machine
            | Chore::Metrics
            | Chore::Known(..) => false,
            Chore::Sweep(_)
            | Chore::Signal(_)
            | Chore::Holders(_)
            | Chore::Probe(_)
            | Chore::TakeFrom(_)
            | Chore::Forget(_)
            | Chore::Pin(_)
            | Chore::Trim(_)
            | Chore::Clear(_)
            | Chore::Unpack(..)
            | Chore::End(..)
            | Chore::Install(..)
            | Chore::Discard
            | Chore::Prune(_)
            | Chore::CheckHandover => true,
        };
        self.running.values().filter(|(_, _, chore)| matters(chore)).count()
    }

    /// How many children copy programs.
    #[must_use]
    pub fn pins(&self) -> usize {
        self.running.values().filter(|(_, _, chore)| matches!(chore, Chore::Pin(_))).count()
    }

    /// How many children read the history for who asks once.
    #[must_use]
    pub fn histories(&self) -> usize {
        self.running.values().filter(|(_, _, chore)| matches!(chore, Chore::History(_))).count()
    }

    /// How many read it for who watches.
    #[must_use]
    pub fn catching_up(&self) -> usize {
        let watches = |chore: &Chore| matches!(chore, Chore::CatchUp(_) | Chore::Known(..));
        self.running.values().filter(|(_, _, chore)| watches(chore)).count()
    }

    /// How many searches for processes are under way.
    #[must_use]
    pub fn searches(&self) -> usize {
        let search = |chore: &Chore| matches!(chore, Chore::Sweep(_) | Chore::Signal(..));
        self.running.values().filter(|(_, _, chore)| search(chore)).count()
    }
}
