//! Servers that bind for themselves: what becomes of each bind(2) and listen(2) of their workers.
//!
//! | file | what is in it |
//! |---|---|
//! | `look` | what a call is about, by a child: one call of a worker at a time |
//! | `bind` | what a call is answered |
//! | `listen` | who listens, and which process is the server |
//! | `wait` | what is left unanswered until a person says |
//! | `kept` | what the next supd is to know of them |
//!
//! The kernel does most of them as if supd were not there. A bind to an address of the unit gets the
//! generation's slot in the place of the worker's socket; a UNIX socket is bound where BindAs says, by the
//! worker and with its own rights, and is the slot from listen(2) on.

mod bind;
mod kept;
mod listen;
mod look;
mod wait;

use super::hands::Hands;
use super::perform::note;
use super::sources::{Source, Sources};
use crate::machine::{Launch, Level};
use crate::model::{Address, Generation, Settings, Tick, UnitName, WorkerId};
use crate::os::intercept::{Answer, Call, Calls, Ours, Reader};
use look::Question;
use mio::Token;
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// So many things about one generation are told.
const TOLD_MAX: usize = 8;

/// So many ports that are not its unit's, and so many of UDP: whoever asks name servers binds one for each
/// question.
const STRANGERS_MAX: usize = 8;
const UDP_STRANGERS_MAX: usize = 4;

/// So many generations that have ended are still known.
const PAST_MAX: usize = 16;

/// Everybody who is asked about.
#[derive(Debug, Default)]
pub struct Intercepts {
    open: BTreeMap<WorkerId, Box<Intercept>>,
    /// Those with more calls than one turn takes.
    more: BTreeSet<WorkerId>,
    reader: Option<(Reader, Token)>,
    /// What is being looked at, the oldest first, and then what is yet to be.
    questions: VecDeque<Question>,
    /// As many of these have been asked.
    asked: usize,
    last: u64,
    /// Generations whose binds are left unanswered.
    held: BTreeSet<(UnitName, Generation)>,
    generations: BTreeMap<(UnitName, Generation), Common>,
    /// Those of them that have ended, the oldest first.
    past: VecDeque<(UnitName, Generation)>,
}

/// What the workers of a generation have in common, those too that are launched again.
#[derive(Debug, Default)]
struct Common {
    /// One of them wants that nothing blocks: they share one open file.
    nonblocking: bool,
    /// Which of the unit's sockets somebody has bound, or listens on.
    served: BTreeSet<usize>,
    /// What was told of them.
    told: BTreeSet<String>,
    /// What they bind that is not their unit's, by its port and whether it is UDP.
    strangers: BTreeMap<(u16, bool), String>,
}

/// One worker.
#[derive(Debug)]
struct Intercept {
    calls: Calls,
    token: Token,
    unit: UnitName,
    launch: Arc<Launch>,
    ours: Ours,
    /// Which of the unit's sockets it has bound, or listens on.
    served: BTreeSet<usize>,
    /// Those of them since the last search for who listens began.
    fresh: BTreeSet<usize>,
    listening: Listening,
    /// Calls of it that are left unanswered.
    waiting: Vec<Call>,
    /// Those that were, and are answered now.
    again: VecDeque<Call>,
    /// The number of the last call that was taken.
    last: Option<u64>,
    /// The numbers of those that an earlier supd took.
    earlier: Vec<u64>,
    /// Whether it was told that it waits.
    waits: bool,
    /// How often it was looked in vain for the process that goes on.
    looks: u32,
    /// What it points at cannot be read in time: nobody waits for that a second time.
    mute: bool,
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
    /// It was found to.
    Done,
}

impl Intercept {
    fn is_of(&self, unit: &UnitName, generation: Generation) -> bool {
        self.unit == *unit && self.launch.generation == generation
    }

    /// The next call that is to be answered.
    fn next(&mut self) -> Result<Option<Call>, Errno> {
        match self.again.pop_front() {
            Some(call) => Ok(Some(call)),
            None => {
                let call = self.calls.next()?;
                self.last = call.map(|call| call.id).or(self.last);
                Ok(call)
            }
        }
    }
}

impl Intercepts {
    /// When something is due although no descriptor says so.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        let till = |one: &Intercept| match one.listening {
            Listening::Till(at) => Some(at),
            Listening::Not | Listening::Looked | Listening::Done => None,
        };
        self.open.values().filter_map(|one| till(one)).chain(self.look_overdue()).min()
    }

    /// Whether a call waits that no event announces.
    #[must_use]
    pub fn pending(&self) -> bool {
        !self.more.is_empty()
    }

    /// Whether others of this worker may be there once its first process has ended.
    #[must_use]
    pub fn may_have_forked(&self, worker: WorkerId) -> bool {
        self.open.get(&worker).is_some_and(|one| !one.calls.is_over())
    }

    /// The generation has ended. Whoever asked for it may be told why only after that.
    pub fn forget(&mut self, unit: &UnitName, generation: Generation) {
        let key = (unit.clone(), generation);
        self.held.remove(&key);
        if self.generations.contains_key(&key) {
            self.past.push_back(key);
        }
        if self.past.len() > PAST_MAX {
            self.past.pop_front().map(|oldest| self.generations.remove(&oldest));
        }
    }

    /// What this generation binds that is not its unit's.
    pub fn strangers(&self, unit: &UnitName, generation: Generation) -> Vec<&str> {
        let common = self.generations.get(&(unit.clone(), generation));
        common.into_iter().flat_map(|common| common.strangers.values()).map(String::as_str).collect()
    }

    /// On which of its unit's sockets nobody of a generation listens, by their place; none if no worker of it
    /// has run.
    pub fn missing(&self, launch: &Launch) -> Vec<usize> {
        let key = (launch.settings.unit.clone(), launch.generation);
        let Some(common) = self.generations.get(&key) else { return Vec::new() };
        (0..launch.settings.sockets.len()).filter(|at| !common.served.contains(at)).collect()
    }

    fn common(&mut self, worker: WorkerId) -> Option<&mut Common> {
        let one = self.open.get(&worker)?;
        self.generations.get_mut(&(one.unit.clone(), one.launch.generation))
    }

    /// Another one listens, or one no longer does.
    fn note_served(&mut self, worker: WorkerId) {
        let Some(one) = self.open.get(&worker) else { return };
        let whose = (&one.unit, one.launch.generation);
        let same = self.open.values().filter(|other| (&other.unit, other.launch.generation) == whose);
        let served = same.flat_map(|other| other.served.iter().copied()).collect();
        if let Some(common) = self.common(worker) {
            common.served = served;
        }
    }

    fn answer(&self, worker: WorkerId, call: &Call, answer: Answer) {
        let Some(one) = self.open.get(&worker) else { return };
        if let Err(errno) = one.calls.finish(call, answer) {
            log::warn!("{}/g{}: cannot answer a bind: {errno}", one.unit, one.launch.generation);
        }
    }

    fn end_reader(&mut self, sources: &mut Sources) {
        if let Some((reader, token)) = self.reader.take() {
            sources.unwatch(token, &reader);
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
                self.intercepts.generations.entry((unit.clone(), launch.generation)).or_default();
                self.keeping.touch(&unit);
                let one = Intercept {
                    calls,
                    token,
                    unit,
                    ours: ours(&launch.settings),
                    launch,
                    served: BTreeSet::new(),
                    fresh: BTreeSet::new(),
                    listening: Listening::Not,
                    waiting: Vec::new(),
                    again: VecDeque::new(),
                    last: None,
                    earlier: Vec::new(),
                    waits: false,
                    looks: 0,
                    mute: false,
                };
                self.intercepts.open.insert(id, Box::new(one));
            }
            Err(error) => {
                let text = format!("cannot hear what it binds, and it will fail to: {error}");
                note(&unit, Level::Error, Some(launch.generation), &text);
            }
        }
    }

    /// No process of it is left. What is being looked at for it stays until that look is over: whoever
    /// looks may hang there.
    fn end_if_over(&mut self, id: WorkerId) {
        let Some(one) = self.intercepts.open.get(&id).filter(|one| one.calls.is_over()) else { return };
        self.sources.unwatch(one.token, &one.calls);
        self.keeping.touch(&one.unit);
        self.intercepts.open.remove(&id);
        self.intercepts.more.remove(&id);
    }

    fn warn_once(&mut self, id: WorkerId, key: &str, text: &str) {
        let Some(common) = self.intercepts.common(id) else { return };
        if common.told.len() < TOLD_MAX && common.told.insert(key.to_owned()) {
            self.warn(id, text);
        }
    }

    fn warn(&self, id: WorkerId, text: &str) {
        let Some(one) = self.intercepts.open.get(&id) else { return };
        note(&one.unit, Level::Warning, Some(one.launch.generation), text);
    }
}

fn ours(settings: &Settings) -> Ours {
    let port = |address: &Address| match address {
        Address::Ip { port, .. } => Some(*port),
        Address::Unix { .. } | Address::Abstract { .. } | Address::Fifo { .. } => None,
    };
    Ours {
        ports: settings.sockets.iter().filter_map(|socket| port(&socket.address)).collect(),
        paths: settings.sockets.iter().filter_map(|socket| socket.bind_as.clone()).collect(),
    }
}
