//! Servers that bind for themselves: what becomes of each bind(2) and listen(2) of their workers.
//!
//! The kernel does most of them as if supd were not there. A bind to an address of the unit gets the
//! generation's slot in the place of the worker's socket; a UNIX socket is bound where BindAs says, by the
//! worker and with its own rights, and is the slot from listen(2) on.

use super::chores::Chore;
use super::hands::Hands;
use super::perform::note;
use super::sources::{Source, Sources};
use super::workers::Worker;
use crate::codec::sockaddr;
use crate::machine::{Event, Launch, Level};
use crate::model::binding::{Asked, Fit, Place, find};
use crate::model::settings::Socket;
use crate::model::{SocketKind, Tick, UnitName, WorkerExit, WorkerId};
use crate::os::holders::{self, Holder};
use crate::os::intercept::{
    Answer, BYTES_MAX, Call, Caller, Calls, Reader, What, carry_over, set_nonblocking,
};
use mio::Token;
use nix::errno::Errno;
use nix::sys::stat::fstat;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// As many calls of one worker are taken in a turn, and are being answered at a time.
const PER_WORKER: usize = 8;

/// An address that cannot be read within this is none: the page lies in a file that does not answer.
const READ_BOUND: Duration = Duration::from_secs(1);

/// Whoever listens has to do so for as long, or it was a child that only tried.
const LISTENS_FOR: Duration = Duration::from_millis(50);

/// The search for who listens takes no longer.
const SEARCH_BOUND: Duration = Duration::from_secs(10);

/// A server that forks into the background does that before it has listened for so long.
const FORKS_WITHIN: Duration = Duration::from_secs(10);

/// Whoever goes on is looked for so often.
const LOOKS_MAX: u32 = 10;

/// So many addresses of one worker that are not the unit's are told.
const STRANGERS_TOLD: usize = 8;

/// Everybody who is asked about.
#[derive(Debug, Default)]
pub struct Intercepts {
    open: BTreeMap<WorkerId, Box<Intercept>>,
    /// Those with more calls than one turn takes.
    more: BTreeSet<WorkerId>,
    reader: Option<(Reader, Token)>,
    /// What is being read, the oldest first.
    questions: VecDeque<Question>,
    last: u64,
}

/// One worker.
#[derive(Debug)]
struct Intercept {
    calls: Calls,
    token: Token,
    unit: UnitName,
    launch: Arc<Launch>,
    /// Which of the unit's sockets it has bound, or listens on.
    served: BTreeSet<usize>,
    listening: Listening,
    /// Addresses that are not the unit's, and were told.
    strangers: BTreeSet<String>,
    /// How often it was looked in vain for the process that goes on.
    looks: u32,
}

/// How far it is from being ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listening {
    /// It does not listen everywhere.
    Not,
    /// It does; whether it still does is looked at then.
    Till(Tick),
    /// That is being looked at.
    Looked,
    /// It does so since then.
    Since(Tick),
}

/// A bind(2) whose address is being read.
#[derive(Debug)]
struct Question {
    tag: u64,
    worker: WorkerId,
    call: Call,
    caller: Caller,
    kind: SocketKind,
    address: u64,
    length: usize,
    since: Tick,
}

impl Intercepts {
    /// When something is due although no descriptor says so.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        let till = |one: &Intercept| match one.listening {
            Listening::Till(at) => Some(at),
            Listening::Not | Listening::Looked | Listening::Since(_) => None,
        };
        let overdue = self.questions.front().map(|question| question.since.after(READ_BOUND));
        self.open.values().filter_map(|one| till(one)).chain(overdue).min()
    }

    /// Whether a call waits that no event announces.
    #[must_use]
    pub fn pending(&self) -> bool {
        !self.more.is_empty()
    }

    /// Whether the end of this worker's first process may be that of a parent which has forked its server
    /// into the background.
    #[must_use]
    pub fn may_have_forked(&self, worker: WorkerId, now: Tick) -> bool {
        self.open.get(&worker).is_some_and(|one| {
            !one.calls.is_over()
                && match one.listening {
                    Listening::Not | Listening::Till(_) | Listening::Looked => true,
                    Listening::Since(since) => now.since(since) < FORKS_WITHIN,
                }
        })
    }

    /// Asks for the bytes of an address. A reader that is not there is begun.
    fn ask(&mut self, question: Question, sources: &mut Sources) -> Result<(), (Question, Errno)> {
        let failed = |question, errno| Err((question, errno));
        if self.reader.is_none() {
            let begun = Reader::begin().map_err(|error| error.errno);
            let reader = match begun {
                Ok(reader) => reader,
                Err(errno) => return failed(question, errno),
            };
            match sources.watch(&reader, Source::Read) {
                Ok(token) => self.reader = Some((reader, token)),
                Err(_) => return failed(question, Errno::ENOMEM),
            }
        }
        let Some((reader, _)) = &self.reader else { return failed(question, Errno::EAGAIN) };
        match reader.ask(question.tag, question.call.thread, question.address, question.length) {
            Ok(()) => {
                self.questions.push_back(question);
                Ok(())
            }
            Err(errno) => failed(question, errno),
        }
    }

    fn end_reader(&mut self, sources: &mut Sources) {
        if let Some((reader, token)) = self.reader.take() {
            sources.unwatch(token, &reader);
        }
    }

    fn answer(&self, worker: WorkerId, call: &Call, answer: Answer) {
        let Some(one) = self.open.get(&worker) else { return };
        if let Err(errno) = one.calls.finish(call, answer) {
            log::warn!("{}/g{}: cannot answer a bind: {errno}", one.unit, one.launch.generation);
        }
    }
}

impl Hands {
    /// A worker that is asked about runs from now on.
    pub(super) fn intercept(&mut self, id: WorkerId, calls: Calls) {
        let Some(worker) = self.workers.get(id) else { return };
        let (unit, launch) = (worker.unit.clone(), worker.launch.clone());
        match self.sources.watch(&calls, Source::Call(id)) {
            Ok(token) => {
                let one = Intercept {
                    calls,
                    token,
                    unit,
                    launch,
                    served: BTreeSet::new(),
                    listening: Listening::Not,
                    strangers: BTreeSet::new(),
                    looks: 0,
                };
                self.intercepts.open.insert(id, Box::new(one));
            }
            Err(error) => {
                let text = format!("cannot hear what it binds, and it will fail to: {error}");
                note(&unit, Level::Error, Some(launch.generation), &text);
            }
        }
    }

    /// Calls of workers of which a turn took as many as it may.
    pub(super) fn take_pending_calls(&mut self, now: Tick) {
        for worker in std::mem::take(&mut self.intercepts.more) {
            self.take_calls(worker, now);
        }
    }

    /// Takes what waits of one worker.
    pub(super) fn take_calls(&mut self, id: WorkerId, now: Tick) {
        for _ in 0..PER_WORKER {
            let under_way = self.intercepts.questions.iter().filter(|question| question.worker == id);
            if under_way.count() >= PER_WORKER {
                // The next is taken when one of these is answered.
                return;
            }
            let Some(one) = self.intercepts.open.get(&id) else { return };
            match one.calls.next() {
                Ok(Some(call)) => self.called(id, call, now),
                Ok(None) => return self.end_if_over(id),
                Err(errno) => {
                    log::warn!("{}/g{}: cannot hear its calls: {errno}", one.unit, one.launch.generation);
                    return;
                }
            }
        }
        self.intercepts.more.insert(id);
    }

    /// No process of it is left.
    fn end_if_over(&mut self, id: WorkerId) {
        let Some(one) = self.intercepts.open.get(&id).filter(|one| one.calls.is_over()) else { return };
        self.sources.unwatch(one.token, &one.calls);
        self.intercepts.open.remove(&id);
        self.intercepts.questions.retain(|question| question.worker != id);
    }

    fn called(&mut self, id: WorkerId, call: Call, now: Tick) {
        let answer = match call.what {
            What::Bind { fd, address, length } => self.binds(id, call, (fd, address, length), now),
            What::Listen { fd, backlog } => Some(self.listens(id, &call, fd, backlog, now)),
            What::Foreign => {
                let text = "it is a 32-bit program, whose bind(2) supd cannot answer: write Handoff = \
                            \"inherit\", or run a 64-bit one";
                self.warn_once(id, "32-bit", text);
                Some(Answer::Refused(Errno::EPERM))
            }
        };
        if let Some(answer) = answer {
            self.intercepts.answer(id, &call, answer);
        }
    }

    /// Takes hold of who calls. What cannot be one of ours the kernel answers, and what supd may not see.
    fn caller(&mut self, id: WorkerId, call: &Call, fd: RawFd) -> Option<Caller> {
        let one = self.intercepts.open.get(&id)?;
        match Caller::take(&one.calls, call, fd) {
            Ok(caller) => Some(caller),
            Err(error) if error.errno == Errno::EPERM => {
                let text = format!("{error}; supd needs CAP_SYS_PTRACE, or the worker's own user");
                self.warn_once(id, "ptrace", &text);
                None
            }
            Err(_) => None,
        }
    }

    /// `None`: it is answered later.
    fn binds(
        &mut self,
        id: WorkerId,
        call: Call,
        (fd, address, length): (RawFd, u64, usize),
        now: Tick,
    ) -> Option<Answer> {
        let Some(caller) = self.caller(id, &call, fd) else { return Some(Answer::Continue) };
        let Some(kind) = caller.kind().filter(|_| caller.is_ip() && (1..=BYTES_MAX).contains(&length)) else {
            return Some(Answer::Continue);
        };
        self.intercepts.last += 1;
        let tag = self.intercepts.last;
        let question = Question { tag, worker: id, call, caller, kind, address, length, since: now };
        match self.intercepts.ask(question, &mut self.sources) {
            Ok(()) => None,
            Err((_, errno)) => {
                let text = format!("cannot read what it binds: {errno}");
                self.warn_once(id, "read", &text);
                Some(Answer::Refused(Errno::ENOBUFS))
            }
        }
    }

    /// The reader has answers, or has ended.
    pub(super) fn addresses_read(&mut self, now: Tick) {
        loop {
            let Some((reader, _)) = &self.intercepts.reader else { return };
            match reader.answer() {
                Ok(Some((tag, bytes))) => {
                    let questions = &mut self.intercepts.questions;
                    let at = questions.iter().position(|question| question.tag == tag);
                    if let Some(question) = at.and_then(|at| questions.remove(at)) {
                        self.read(question, bytes, now);
                    }
                }
                Ok(None) => return,
                Err(_) => return self.read_no_more(now),
            }
        }
    }

    /// The reader has ended, or hangs at the oldest question: that one is not answered, the others are
    /// asked again.
    fn read_no_more(&mut self, now: Tick) {
        self.intercepts.end_reader(&mut self.sources);
        if let Some(question) = self.intercepts.questions.pop_front() {
            self.read(question, Err(Errno::EFAULT), now);
        }
        for question in std::mem::take(&mut self.intercepts.questions) {
            let again = Question { since: now, ..question };
            if let Err((question, errno)) = self.intercepts.ask(again, &mut self.sources) {
                self.read(question, Err(errno), now);
            }
        }
    }

    fn read(&mut self, question: Question, bytes: Result<Vec<u8>, Errno>, now: Tick) {
        let (worker, call) = (question.worker, question.call);
        let answer = match bytes {
            Ok(bytes) => self.bound_by(question, sockaddr::read(&bytes), now),
            Err(errno) => Answer::Refused(errno),
        };
        self.intercepts.answer(worker, &call, answer);
        self.take_calls(worker, now);
    }

    fn bound_by(&mut self, question: Question, place: Place, now: Tick) -> Answer {
        let Question { worker, call, caller, kind, .. } = question;
        let Some(one) = self.intercepts.open.get(&worker) else { return Answer::Continue };
        if !one.calls.waits(&call) {
            return Answer::Continue;
        }
        let asked = Asked { place, kind: Some(kind), v6only: caller.is_v6only() };
        let launch = one.launch.clone();
        let sockets = launch.settings.sockets.iter().map(|socket| &**socket);
        let Some((at, fit)) = find(sockets, &asked) else {
            self.bound_elsewhere_by(worker, &asked);
            return Answer::Continue;
        };
        let socket = &launch.settings.sockets[at];
        if fit == Fit::More {
            let text = format!(
                "it binds {} and gets the listener {} ({}), which more clients reach",
                show(&asked.place),
                socket.name,
                socket.address
            );
            self.warn_once(worker, &text, &text);
        }
        match self.give(worker, &call, &caller, socket) {
            Ok(()) => {
                if kind == SocketKind::Datagram {
                    self.serves(worker, at, now);
                }
                Answer::Done
            }
            Err(errno) => Answer::Refused(errno),
        }
    }

    /// Puts the generation's slot in the place of the worker's socket.
    fn give(&mut self, id: WorkerId, call: &Call, caller: &Caller, socket: &Socket) -> Result<(), Errno> {
        let one = self.intercepts.open.get(&id).ok_or(Errno::EADDRINUSE)?;
        let listeners = self.listeners.get(&one.unit);
        let slot = listeners.and_then(|bound| bound.fd(one.launch.generation, &socket.address));
        let Some(slot) = slot else {
            // Nobody asks for this generation any more.
            return Err(Errno::EADDRINUSE);
        };
        let flags = caller.flags();
        carry_over(caller.socket(), slot)?;
        set_nonblocking(slot, flags.nonblocking)?;
        one.calls.put(call, slot, caller.place(), flags.close_on_exec)
    }

    fn listens(&mut self, id: WorkerId, call: &Call, fd: RawFd, backlog: i32, now: Tick) -> Answer {
        let Some(caller) = self.caller(id, call, fd) else { return Answer::Continue };
        let Some(one) = self.intercepts.open.get(&id) else { return Answer::Continue };
        let launch = one.launch.clone();
        let path = if caller.is_ip() { None } else { caller.path() };
        let Some(listeners) = self.listeners.get(&one.unit) else { return Answer::Continue };
        for (at, socket) in launch.settings.sockets.iter().enumerate() {
            let Some(slot) = listeners.fd(launch.generation, &socket.address) else { continue };
            let is_its_path = || {
                let asked = |path| Asked { place: Place::Path(path), kind: caller.kind(), v6only: false };
                path.clone().is_some_and(|path| find(std::iter::once(&**socket), &asked(path)).is_some())
            };
            if caller.means(slot) {
                caller.wants_backlog(slot, backlog, socket.options.backlog);
            } else if is_its_path() {
                if let Err(errno) = self.give(id, call, &caller, socket) {
                    return Answer::Refused(errno);
                }
            } else {
                continue;
            }
            self.serves(id, at, now);
            return Answer::Done;
        }
        Answer::Continue
    }

    /// The worker has one more of its unit's listeners.
    fn serves(&mut self, id: WorkerId, at: usize, now: Tick) {
        let Some(one) = self.intercepts.open.get_mut(&id) else { return };
        one.served.insert(at);
        let all = one.served.len() == one.launch.settings.sockets.len();
        if all && one.listening == Listening::Not {
            one.listening = Listening::Till(now.after(LISTENS_FOR));
        }
    }

    /// It binds what is not its unit's: the kernel lets it, once.
    fn bound_elsewhere_by(&mut self, id: WorkerId, asked: &Asked) {
        let (Place::Ip(_, port), Some(SocketKind::Stream)) = (&asked.place, asked.kind) else { return };
        if *port != 0 {
            let place = show(&asked.place);
            let text = format!(
                "it binds {place}, which is no [[Socket]] of the unit: the next generation will fail to, as long \
                 as this one runs"
            );
            self.warn_once(id, &place, &text);
        }
    }

    fn warn_once(&mut self, id: WorkerId, key: &str, text: &str) {
        let Some(one) = self.intercepts.open.get_mut(&id) else { return };
        if one.strangers.len() < STRANGERS_TOLD && one.strangers.insert(key.to_owned()) {
            note(&one.unit, Level::Warning, Some(one.launch.generation), text);
        }
    }

    /// Looks who listens, where that is due; gives up on what cannot be read.
    pub(super) fn tend_intercepts(&mut self, now: Tick) {
        let overdue = self.intercepts.questions.front().is_some_and(|it| it.since.after(READ_BOUND) <= now);
        if overdue {
            self.read_no_more(now);
        }
        let due = |one: &Intercept| matches!(one.listening, Listening::Till(at) if at <= now);
        let due: Vec<WorkerId> =
            self.intercepts.open.iter().filter(|(_, one)| due(one)).map(|(id, _)| *id).collect();
        for id in due {
            let next = if self.look_who_listens(id) { Listening::Looked } else { Listening::Not };
            if let Some(one) = self.intercepts.open.get_mut(&id) {
                one.listening = next;
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
        let others = self.workers.all().map(Worker::marks).filter(|other| *other != marks).collect();
        let begun = holders::search(&marks, others, &inodes, SEARCH_BOUND)
            .map_err(|error| error.to_string())
            .and_then(|task| self.chores.begin(Chore::Holders(id), task, &mut self.sources));
        begun.map_err(|why| note(&one.unit, Level::Warning, Some(one.launch.generation), &why)).is_ok()
    }

    /// Who listens is known.
    pub(super) fn holders_found(&mut self, id: WorkerId, result: Result<Vec<u8>, String>, now: Tick) {
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
        let held: BTreeSet<usize> = found.iter().flat_map(|holder| holder.held.iter().copied()).collect();
        one.served.retain(|at| held.contains(at));
        if one.served.len() < one.launch.settings.sockets.len() {
            one.listening = Listening::Not;
            return;
        }
        one.listening = Listening::Since(now);
        let unit = one.unit.clone();
        self.say(&unit, Event::Listens { worker: id });
    }

    /// Where the main process has ended well, and others of the worker are there: which of them is the
    /// server?
    pub(super) fn look_for_heir(&mut self, id: WorkerId) {
        let asked = self.workers.get(id).is_some_and(|worker| worker.is_parent_gone());
        if asked && !self.look_who_listens(id) {
            if let Some(exit) = self.workers.take_parent(id) {
                self.follow(id, exit, &[]);
            }
        }
    }

    fn follow(&mut self, id: WorkerId, exit: WorkerExit, found: &[Holder]) {
        let process = heir(found).find_map(|holder| holder.identity.matches_live(&self.boot));
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
}

impl Hands {
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

fn show(place: &Place) -> String {
    match place {
        Place::Ip(host, port) => std::net::SocketAddr::new(*host, *port).to_string(),
        Place::Path(path) => path.display().to_string(),
        Place::Other => "something".to_owned(),
    }
}
