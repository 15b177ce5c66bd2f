//! What workers say: one socket for each generation, so that a late message of the old never
//! counts for the new; and which worker of the generation said it.

use super::hands::Hands;
use super::sources::{Source, Sources};
use super::workers::Worker;
use crate::codec::notify::{MainClaim, Message, Store, parse};
use crate::machine::Event;
use crate::model::notice::Notice;
use crate::model::settings::NotifyAccess;
use crate::model::{Generation, Tick, UnitName, WorkerId};
use crate::os::closing::{Prompt, promptly};
use crate::os::members::{Relation, relation};
use crate::os::notify::{Datagram, NotifySocket, Received};
use crate::os::pidfd::PidFd;
use mio::Token;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How many datagrams of one socket are heard in a turn.
const PER_TURN: usize = 64;

/// How many warnings about one generation's messages go into the log …
const WARNINGS: u32 = 5;

/// So many words of its workers are told, ERRNO=2 and the like; of each a line of the log.
const WORDS: u32 = 20;

/// … in this time.
const WARNINGS_IN: Duration = Duration::from_secs(10);

/// More than the kernel lets wait in one socket (net.unix.max_dgram_qlen).
const EARLIER_MAX: usize = 4096;

type Key = (UnitName, Generation);

/// The notify sockets that are open.
#[derive(Debug, Default)]
pub struct Notifiers {
    open: BTreeMap<Key, Notifier>,
    /// Those with more to hear than one turn takes.
    more: BTreeSet<Key>,
    /// Descriptors of BARRIER=1: closed once the machine has taken everything before them.
    barriers: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Notifier {
    socket: NotifySocket,
    token: Token,
    /// What was said before this supd went on with the socket, and is not heard yet.
    earlier: VecDeque<Received>,
    warned: Warned,
    words: Warned,
    /// It was told that nothing is stored.
    unstored: bool,
}

/// Warnings in the current span of time.
#[derive(Debug, Default)]
struct Warned {
    since: Option<Tick>,
    count: u32,
}

/// When something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// Before this supd went on with the socket: only those can have said it that it went on with. Whoever has
    /// ended since must not speak for the one that is launched in its place.
    Earlier,
    /// After that.
    Now,
}

impl Notifier {
    fn new(socket: NotifySocket, token: Token) -> Self {
        let (warned, words) = (Warned::default(), Warned::default());
        Self { socket, token, earlier: VecDeque::new(), warned, words, unstored: false }
    }
}

impl Warned {
    /// Whether one more may be said; and how many were not said since the last that was.
    fn may(&mut self, now: Tick, most: u32) -> Option<u32> {
        let kept_back = self.count.saturating_sub(most);
        if self.since.is_none_or(|since| now.since(since) > WARNINGS_IN) {
            *self = Self { since: Some(now), count: 1 };
            return Some(kept_back);
        }
        self.count = self.count.saturating_add(1);
        (self.count <= most).then_some(0)
    }
}

impl Notifiers {
    /// Opens the socket of a generation, if it is not open.
    ///
    /// # Errors
    /// Why it cannot be, in a sentence.
    pub fn open(
        &mut self,
        unit: &UnitName,
        generation: Generation,
        path: &Path,
        sources: &mut Sources,
    ) -> Result<(), String> {
        let key = (unit.clone(), generation);
        if self.open.contains_key(&key) {
            return Ok(());
        }
        let socket = NotifySocket::bind(path).map_err(|error| error.to_string())?;
        let token = sources
            .watch(&socket, Source::Notify(unit.clone(), generation))
            .map_err(|error| format!("cannot hear {}: {error}", path.display()))?;
        self.open.insert(key, Notifier::new(socket, token));
        Ok(())
    }

    /// Goes on with the socket that another supd had of a generation, and what was said there meanwhile.
    ///
    /// # Errors
    /// As of [`Notifiers::open`].
    pub fn go_on(
        &mut self,
        (unit, generation): Key,
        fd: OwnedFd,
        path: &Path,
        sources: &mut Sources,
    ) -> Result<(), String> {
        let mut socket = NotifySocket::of(fd, path);
        let mut earlier = VecDeque::new();
        while earlier.len() < EARLIER_MAX {
            match socket.receive() {
                Ok(received @ (Received::Datagram(_) | Received::Dropped { .. })) => {
                    earlier.push_back(received);
                }
                Ok(Received::Nothing) | Err(_) => break,
            }
        }
        if !path.exists() {
            // That supd died as it closed it: nobody reaches it there any more.
            socket = NotifySocket::bind(path).map_err(|error| error.to_string())?;
        }
        let token = sources
            .watch(&socket, Source::Notify(unit.clone(), generation))
            .map_err(|error| format!("cannot hear {}: {error}", path.display()))?;
        let notifier = Notifier { earlier, ..Notifier::new(socket, token) };
        let key = (unit, generation);
        self.more.insert(key.clone());
        self.open.insert(key, notifier);
        Ok(())
    }

    /// Those of one unit.
    pub fn of<'a>(&'a self, unit: &'a UnitName) -> impl Iterator<Item = (Generation, BorrowedFd<'a>)> {
        let its = self.open.iter().filter(move |((of, _), _)| of == unit);
        its.map(|((_, generation), notifier)| (*generation, notifier.socket.as_fd()))
    }

    /// Whether a generation has one.
    #[must_use]
    pub fn is_open(&self, unit: &UnitName, generation: Generation) -> bool {
        self.open.contains_key(&(unit.clone(), generation))
    }

    /// Closes it: no process of the generation is left.
    pub fn close(&mut self, unit: &UnitName, generation: Generation, sources: &mut Sources) {
        if let Some(notifier) = self.open.remove(&(unit.clone(), generation)) {
            sources.unwatch(notifier.token, &notifier.socket);
            let _ = std::fs::remove_file(notifier.socket.path());
            // With what lies in it unheard.
            promptly(notifier);
        }
    }

    /// Whether something is left to be heard that no event announces.
    #[must_use]
    pub fn pending(&self) -> bool {
        !self.more.is_empty()
    }

    /// Those that have something left.
    pub fn take_pending(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.more)
    }

    /// The machine has taken everything: whoever waits at a barrier may go on.
    pub fn lift_barriers(&mut self) {
        if !self.barriers.is_empty() {
            promptly(std::mem::take(&mut self.barriers));
        }
    }

    /// The next of at most [`PER_TURN`] datagrams, and when it was said.
    fn next(&mut self, key: &Key) -> Option<(Received, Since)> {
        let notifier = self.open.get_mut(key)?;
        if let Some(received) = notifier.earlier.pop_front() {
            return Some((received, Since::Earlier));
        }
        match notifier.socket.receive() {
            Ok(Received::Nothing) => None,
            Ok(received) => Some((received, Since::Now)),
            Err(error) => {
                log::error!("{}/g{}: {error}", key.0, key.1);
                None
            }
        }
    }

    fn warn(&mut self, key: &Key, now: Tick, text: &str) {
        let Some(notifier) = self.open.get_mut(key) else { return };
        if let Some(kept_back) = notifier.warned.may(now, WARNINGS) {
            let before =
                if kept_back > 0 { format!(" ({kept_back} others were not told)") } else { String::new() };
            log::warn!("{}/g{}: {text}{before}", key.0, key.1);
        }
    }

    /// Its workers store what the unit wants none of: said once.
    fn warn_unstored(&mut self, key: &Key, now: Tick) {
        let told = self.open.get_mut(key).is_none_or(|open| std::mem::replace(&mut open.unstored, true));
        if !told {
            let text = "FDSTORE=1, and FileDescriptorStoreMax is 0: descriptors are closed, not stored";
            self.warn(key, now, text);
        }
    }

    /// Whether one more word of its workers goes into the log.
    fn may_tell(&mut self, key: &Key, now: Tick) -> bool {
        let Some(kept_back) = self.open.get_mut(key).and_then(|open| open.words.may(now, WORDS)) else {
            return false;
        };
        if kept_back > 0 {
            self.warn(key, now, &format!("{kept_back} words of its workers were not told"));
        }
        true
    }

    /// Whether this is the user whom the socket was given to, or root.
    fn is_owner(&self, key: &Key, uid: u32) -> bool {
        let owner =
            |notifier: &Notifier| std::fs::symlink_metadata(notifier.socket.path()).ok().map(|at| at.uid());
        uid == 0 || self.open.get(key).and_then(owner) == Some(uid)
    }
}

/// Who of a generation sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// A worker's main process.
    Main(WorkerId),
    /// A command that supd runs for it.
    Command(WorkerId),
    /// Any other process of a worker.
    Member(WorkerId),
}

impl Sender {
    fn worker(self) -> WorkerId {
        match self {
            Self::Main(worker) | Self::Command(worker) | Self::Member(worker) => worker,
        }
    }

    fn may(self, access: NotifyAccess) -> bool {
        match access {
            NotifyAccess::None => false,
            NotifyAccess::Main => matches!(self, Self::Main(_)),
            NotifyAccess::Exec => matches!(self, Self::Main(_) | Self::Command(_)),
            NotifyAccess::All => true,
        }
    }
}

impl Hands {
    /// Hears what a generation has said, as far as one turn takes.
    pub fn hear(&mut self, unit: &UnitName, generation: Generation, now: Tick) {
        let key = (unit.clone(), generation);
        // Whatever a message says, descriptors may have come with it.
        let _prompt = Prompt::begin();
        for _ in 0..PER_TURN {
            let Some((received, since)) = self.notifiers.next(&key) else { return };
            match received {
                Received::Nothing => return,
                Received::Datagram(datagram) => self.heard(&key, datagram, since, now),
                Received::Dropped { why, pid } => {
                    let text = format!("dropped a notify message {why}, from process {pid}");
                    self.notifiers.warn(&key, now, &text);
                }
            }
        }
        self.notifiers.more.insert(key);
    }

    fn heard(&mut self, key: &Key, mut datagram: Datagram, since: Since, now: Tick) {
        let message = parse(&datagram.text, datagram.descriptors.len());
        if message.barrier {
            self.notifiers.barriers.append(&mut datagram.descriptors);
            return;
        }
        let sender = match self.sender(key, &datagram, since) {
            Ok(sender) => sender,
            Err(why) => {
                let text = format!("dropped a notify message from process {}: {why}", datagram.pid);
                return self.notifiers.warn(key, now, &text);
            }
        };
        for warning in &message.warnings {
            self.notifiers.warn(key, now, warning);
        }
        let store = message.store.clone();
        let given = std::mem::take(&mut datagram.descriptors);
        let (main, given) = match message.main.as_ref().is_some_and(|claim| claim.by_descriptor) {
            true => (given, Vec::new()),
            false => (Vec::new(), given),
        };
        datagram.descriptors = main;
        self.take_message(key, sender.worker(), message, datagram, now);
        if let Some(store) = store {
            self.take_store(key, sender.worker(), &store, given, now);
        }
    }

    /// What a worker gives to keep, or wants no longer.
    fn take_store(&mut self, key: &Key, id: WorkerId, store: &Store, given: Vec<OwnedFd>, now: Tick) {
        let Some(worker) = self.workers.get(id) else { return };
        let most = worker.launch.settings.service.file_descriptor_store_max;
        let owner = (key.0.clone(), key.1, worker.index);
        let (name, poll) = match store {
            Store::Remove { name } => {
                self.keeping.touch(&key.0);
                self.fdstore.remove(&owner, name, &mut self.sources);
                return;
            }
            Store::Keep { name, poll } => (name.as_str(), *poll),
        };
        if most == 0 {
            return self.notifiers.warn_unstored(key, now);
        }
        if given.is_empty() {
            return self.notifiers.warn(key, now, "FDSTORE=1 without a descriptor, ignored");
        }
        self.keeping.touch(&key.0);
        let outcome = self.fdstore.keep(&owner, (name, poll), given, most, &mut self.sources);
        if let Some((count, why)) = outcome.closed {
            self.notifiers.warn(key, now, &format!("{count} descriptors to be stored were closed: {why}"));
        }
    }

    /// A stored descriptor is of no use any more.
    pub fn stored_hung_up(&mut self, number: u64) {
        if let Some(((unit, generation, worker), name)) = self.fdstore.hung_up(number, &mut self.sources) {
            self.keeping.touch(&unit);
            log::debug!(
                "{unit}/g{generation}: {name}, which worker {worker} has stored, hung up and is closed"
            );
        }
    }

    fn take_message(&mut self, key: &Key, id: WorkerId, message: Message, datagram: Datagram, now: Tick) {
        let mut notices = Vec::new();
        if let Some(claim) = message.main {
            match self.claim(key, id, &claim, datagram) {
                Ok(pid) => notices.push(Notice::MainPid(pid)),
                Err(why) => self.notifiers.warn(key, now, &format!("ignored a MAINPID: {why}")),
            }
        }
        notices.extend(message.notices);
        for notice in notices {
            let words = matches!(notice, Notice::Errno(_) | Notice::Error(_) | Notice::ExitStatus(_));
            if words && !self.notifiers.may_tell(key, now) {
                continue;
            }
            if let (Notice::NotifyAccess(access), Some(worker)) = (&notice, self.workers.get_mut(id)) {
                worker.access = Some(*access);
            }
            self.say(&key.0, Event::Noticed { worker: id, notice });
        }
    }

    /// Who sent this, and whether it counts.
    fn sender(&self, key: &Key, datagram: &Datagram, since: Since) -> Result<Sender, String> {
        // First those whom supd has not reaped: their number is theirs, and what they said last
        // counts as theirs although they have ended.
        let sender = match self.held(key, datagram.pid, since) {
            Some(sender) => sender,
            None => self.member(key, datagram, since)?,
        };
        let worker = self.workers.get(sender.worker()).ok_or("its worker is gone")?;
        let access = worker.access.unwrap_or(worker.launch.settings.service.notify_access);
        if sender.may(access) { Ok(sender) } else { Err("NotifyAccess does not let it speak".into()) }
    }

    /// A main process or a command.
    fn held(&self, key: &Key, pid: i32, since: Since) -> Option<Sender> {
        let main = |worker: &Worker| worker.main().is_some_and(|main| main.pid() == pid);
        let mut workers = self.who_ran(key, since);
        let worker = workers.find(|(_, worker)| main(worker)).map(|(id, _)| Sender::Main(id));
        let command = || self.jobs.of(pid, &key.0, key.1)?.or_else(|| self.only_worker(key, since));
        worker.or_else(|| command().map(Sender::Command))
    }

    /// The workers that were there then.
    fn who_ran<'a>(&'a self, key: &'a Key, since: Since) -> impl Iterator<Item = (WorkerId, &'a Worker)> {
        let all = self.workers.of(&key.0, key.1);
        all.filter(move |(_, worker)| since == Since::Now || worker.adopted)
    }

    /// The worker of a generation that has but one.
    fn only_worker(&self, key: &Key, since: Since) -> Option<WorkerId> {
        let mut all = self.who_ran(key, since).filter(|(_, worker)| !worker.exited).map(|(id, _)| id);
        all.next().filter(|_| all.next().is_none())
    }

    /// Any other process.
    fn member(&self, key: &Key, datagram: &Datagram, since: Since) -> Result<Sender, String> {
        let (unit, generation) = (&key.0, key.1);
        let numbers: Vec<(i32, WorkerId)> = self
            .who_ran(key, since)
            .flat_map(|(id, worker)| worker.numbers().into_iter().map(move |number| (number, id)))
            .collect();
        let pids: Vec<i32> = numbers.iter().map(|(number, _)| *number).collect();
        let owner = |number: i32| numbers.iter().find(|(known, _)| *known == number).map(|(_, id)| *id);
        let only = || self.only_worker(key, since);
        match relation(datagram.pid, datagram.process.as_ref(), &pids, &pids) {
            Relation::Worker(number) | Relation::Descendant(number) => {
                Ok(Sender::Member(owner(number).ok_or("it is of no worker")?))
            }
            Relation::Orphan(head) => match self.jobs.of(head, unit, generation) {
                Some(worker) => {
                    Ok(Sender::Command(worker.or_else(only).ok_or("it is not clear for which worker")?))
                }
                None if self.workers.holds(head).is_some() || self.jobs.holds(head).is_some() => {
                    Err("it is of another generation".into())
                }
                None => Ok(Sender::Member(
                    only().ok_or("its parents are gone, and it is not clear whose it was")?,
                )),
            },
            // The kernel's word about its user is all that is left of it.
            Relation::Gone if self.notifiers.is_owner(key, datagram.uid) => {
                Ok(Sender::Member(only().ok_or("it has ended, and it is not clear whose it was")?))
            }
            Relation::Gone => Err("it has ended, and was another user's".into()),
            Relation::Stranger => Err("it is not of this generation".into()),
        }
    }

    /// Checks that the process which a worker names is its own, and holds it from now on.
    fn claim(
        &mut self,
        key: &Key,
        id: WorkerId,
        claim: &MainClaim,
        mut datagram: Datagram,
    ) -> Result<i32, String> {
        let by_descriptor = datagram.descriptors.pop();
        let process = match (by_descriptor, claim.pid) {
            (Some(fd), _) => PidFd::identify(fd).ok_or("MAINPIDFD is no pidfd of a living process")?,
            (None, Some(pid)) => PidFd::open(pid).map_err(|error| error.to_string())?,
            (None, None) => return Err("it names no process".into()),
        };
        let pid = process.pid();
        if claim.pid.is_some_and(|said| said != pid) {
            return Err(format!("MAINPID and MAINPIDFD do not agree: {pid}"));
        }
        if claim.inode.is_some_and(|said| process.inode().is_some_and(|inode| inode != said)) {
            return Err(format!("MAINPIDFDID is not that of process {pid}"));
        }
        let worker = self.workers.get(id).ok_or("its worker is gone")?;
        let numbers = worker.numbers();
        let its = match relation(pid, Some(&process), &numbers, &numbers) {
            Relation::Worker(_) | Relation::Descendant(_) => true,
            // Its parent has ended already: then it has to say so itself.
            Relation::Orphan(_) => datagram.pid == pid && self.is_nobodys(key, pid),
            Relation::Stranger | Relation::Gone => false,
        };
        if !its {
            return Err(format!("process {pid} is not of this worker"));
        }
        let (workers, mut around) = self.workers();
        workers.follow(id, process, &mut around)?;
        Ok(pid)
    }

    fn is_nobodys(&self, key: &Key, pid: i32) -> bool {
        self.workers.holds(pid).is_none_or(|id| {
            self.workers
                .get(id)
                .is_some_and(|worker| worker.unit == key.0 && worker.launch.generation == key.1)
        }) && self.jobs.holds(pid).is_none()
    }
}
