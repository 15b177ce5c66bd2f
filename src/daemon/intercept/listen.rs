//! Who of a worker listens: whether it is ready, and which process is the server once the first has left it
//! in the background.

use super::super::chores::Chore;
use super::super::hands::Hands;
use super::super::perform::note;
use super::super::workers::Worker;
use super::{Intercept, Listening};
use crate::machine::{Event, Level};
use crate::model::settings::{Ready, Socket};
use crate::model::{Tick, WorkerExit, WorkerId};
use crate::os::holders::{self, Holder};
use nix::sys::stat::fstat;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Whoever listens has to do so for as long, or it was a child that only tried.
const LISTENS_FOR: Duration = Duration::from_millis(50);

/// After a search that could not be made.
const AGAIN: Duration = Duration::from_secs(1);

/// The search for who listens takes no longer.
const SEARCH_BOUND: Duration = Duration::from_secs(10);

/// Whoever goes on is looked for so often.
const LOOKS_MAX: u32 = 10;

impl Intercept {
    fn listens_everywhere(&self) -> bool {
        self.served.len() == self.launch.settings.sockets.len()
    }

    /// Who may be the server that the first process has left: who holds a socket of the unit. Where nobody
    /// has bound anything yet and readiness is still to come, it is whoever is there.
    fn may_go_on(&self, holder: &Holder) -> bool {
        let comes_later = match self.launch.settings.service.ready {
            Ready::Listen | Ready::Tcp | Ready::Http(_) | Ready::Command(_) => true,
            Ready::Notify | Ready::Started => false,
        };
        !holder.held.is_empty() || (self.served.is_empty() && comes_later)
    }
}

impl Hands {
    /// The worker has one more of its unit's listeners.
    pub(super) fn serves(&mut self, id: WorkerId, at: usize, now: Tick) {
        let Some(one) = self.intercepts.open.get_mut(&id) else { return };
        one.served.insert(at);
        one.fresh.insert(at);
        self.keeping.touch(&one.unit);
        if one.listens_everywhere() && one.listening == Listening::Not {
            one.listening = Listening::Till(now.after(LISTENS_FOR));
        }
        self.intercepts.note_served(id);
    }

    /// Looks who listens, where that is due; gives up on what cannot be looked at.
    pub(in super::super) fn tend_intercepts(&mut self, now: Tick) {
        self.tend_looks(now);
        let due = |one: &Intercept| matches!(one.listening, Listening::Till(at) if at <= now);
        let due: Vec<WorkerId> =
            self.intercepts.open.iter().filter(|(_, one)| due(one)).map(|(id, _)| *id).collect();
        for id in due {
            let begun = self.look_who_listens(id);
            if let Some(one) = self.intercepts.open.get_mut(&id) {
                one.fresh.clear();
                one.listening = if begun { Listening::Looked } else { Listening::Till(now.after(AGAIN)) };
            }
        }
    }

    /// Whether the search has begun.
    fn look_who_listens(&mut self, id: WorkerId) -> bool {
        let (Some(worker), Some(one)) = (self.workers.get(id), self.intercepts.open.get(&id)) else {
            return false;
        };
        let listeners = self.listeners.get(&one.unit);
        let slot = |socket: &Arc<Socket>| listeners?.fd(one.launch.generation, &socket.address);
        let inode = |socket| slot(socket).and_then(|fd| fstat(fd).ok()).map_or(0, |stat| stat.st_ino);
        let inodes: Vec<u64> = one.launch.settings.sockets.iter().map(inode).collect();
        let marks = worker.marks();
        let others = self.workers.all().map(Worker::marks).filter(|other| *other != marks);
        let others = others.chain(self.keeping.marks()).collect();
        let begun = holders::search(&marks, others, &inodes, SEARCH_BOUND)
            .map_err(|error| error.to_string())
            .and_then(|task| self.chores.begin(Chore::Holders(id), task, &mut self.sources));
        begun.map_err(|why| note(&one.unit, Level::Warning, Some(one.launch.generation), &why)).is_ok()
    }

    /// Who listens is known.
    pub(in super::super) fn holders_found(
        &mut self,
        id: WorkerId,
        result: Result<Vec<u8>, String>,
        now: Tick,
    ) {
        let failed = result.is_err();
        let found = match result {
            Ok(answer) => holders::decode(&answer, &self.boot),
            Err(why) => {
                log::warn!("worker run {id}: {why}");
                Vec::new()
            }
        };
        if let Some(exit) = self.workers.take_parent(id) {
            self.follow(id, exit, &found);
        }
        let Some(one) = self.intercepts.open.get_mut(&id) else { return };
        if one.listening != Listening::Looked {
            return;
        }
        if failed {
            one.listening = Listening::Till(now.after(AGAIN));
            return;
        }
        let held: BTreeSet<usize> = found.iter().flat_map(|holder| holder.held.iter().copied()).collect();
        let all = one.served.iter().all(|at| held.contains(at));
        // What came while it was looked may not have been seen.
        one.served.retain(|at| held.contains(at) || one.fresh.contains(at));
        one.listening = match (all && one.listens_everywhere(), one.listens_everywhere()) {
            (true, _) => Listening::Done,
            (false, true) => Listening::Till(now.after(LISTENS_FOR)),
            (false, false) => Listening::Not,
        };
        if one.listening == Listening::Done {
            let unit = one.unit.clone();
            self.say(&unit, Event::Listens { worker: id });
        }
        self.intercepts.note_served(id);
    }

    /// Where the main process has ended well, and others of the worker are there: which of them is the
    /// server?
    pub(in super::super) fn look_for_heir(&mut self, id: WorkerId) {
        let asked = self.workers.get(id).is_some_and(Worker::is_parent_gone);
        if asked && !self.look_who_listens(id) {
            if let Some(exit) = self.workers.take_parent(id) {
                self.follow(id, exit, &[]);
            }
        }
    }

    fn follow(&mut self, id: WorkerId, exit: WorkerExit, found: &[Holder]) {
        let may = |holder: &&Holder| self.intercepts.open.get(&id).is_some_and(|one| one.may_go_on(holder));
        let process = heir(found).filter(may).find_map(|holder| holder.identity.matches_live(&self.boot));
        if process.is_none() && self.looks_again(id, exit) {
            return;
        }
        let pid = process.as_ref().map(crate::os::pidfd::PidFd::pid);
        let (workers, mut around) = self.workers();
        let followed = process.map(|process| workers.follow(id, process, &mut around));
        match (followed, pid, self.workers.get(id)) {
            (Some(Ok(())), Some(pid), Some(worker)) => {
                let generation = Some(worker.launch.generation);
                let text = format!("it has gone into the background: process {pid} is the server");
                note(&worker.unit, Level::Info, generation, &text);
            }
            _ => {
                let (workers, mut around) = self.workers();
                workers.parent_ended(id, exit, &mut around);
            }
        }
    }

    /// Whoever was found has ended since, as the middle one of three does; others may be there.
    fn looks_again(&mut self, id: WorkerId, exit: WorkerExit) -> bool {
        let Some(one) = self.intercepts.open.get_mut(&id) else { return false };
        one.looks += 1;
        if one.looks > LOOKS_MAX || one.calls.is_over() {
            return false;
        }
        self.workers.keep_parent(id, exit);
        self.look_who_listens(id) || self.workers.take_parent(id).is_none()
    }
}

/// The best first: who listens; of those one whose parent is gone; of those the oldest.
fn heir(found: &[Holder]) -> impl Iterator<Item = &Holder> {
    let mut found: Vec<&Holder> = found.iter().collect();
    found.sort_by_key(|it| (std::cmp::Reverse((it.held.len(), it.orphan)), it.identity.start));
    found.into_iter()
}
