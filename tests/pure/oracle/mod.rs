//! Says what must never be, step by step, from the promises and laws of the design alone: it
//! knows the world and what the brain wants of it, and nothing of how the brain decides.

mod alarm;
mod books;
mod disk;
mod doors;
mod ends;
mod holding;
mod ledger;
mod releases;
mod reply;
mod rescue;
mod serve;
mod stored;

use crate::world::{Unit, World};
use books::Book;
use std::fmt;
use supd::machine::{Action, Effect, Event, Input, Level, Request};
use supd::model::status::{GenerationState, UnitState, UnitStatus};
use supd::model::{ExitStatus, Generation, JobId, Record, RecordId, SwapKind, Tick, Want, WorkerId};

macro_rules! rules {
    ($($(#[$doc:meta])* $Rule:ident = $word:literal,)+) => {
        /// What must hold.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Rule { $($(#[$doc])* $Rule,)+ }

        impl Rule {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$Rule),+];

            pub(crate) fn word(self) -> &'static str {
                match self { $(Self::$Rule => $word,)+ }
            }
        }
    };
}

rules! {
    /// A listener lives and listens as long as its unit runs, whoever dies.
    Listeners = "listeners",
    /// Who serves is told to stop only when another is ready.
    MakeBeforeBreak = "make-before-break",
    /// Of what may not run twice there is one at a time.
    Exclusive = "exclusive",
    /// At most one active generation and one candidate; status hides nobody.
    OneOfEach = "one-of-each",
    /// A failed swap changes nothing for the active generation.
    FailedSwap = "failed-swap",
    /// Each request gets one final answer, and an honest one.
    Replies = "replies",
    /// What is started is reaped and swept; only what is ours and there is signalled.
    Accounts = "accounts",
    /// Who receives nothing any more finishes what it has before it is told to stop.
    Drained = "drained",
    /// New connections are shared among who is ready, and the shares are the whole.
    Shares = "shares",
    /// Somebody receives every new connection, and no queue is closed full.
    Queues = "queues",
    /// Who waits where a generation has ended is served by that one, which receives nothing else, and once.
    Rescue = "rescue",
    /// What stands by stays alive and ready until its time is over.
    Standby = "standby",
    /// Who is told to stop, and by which signal (systemd.kill(5)).
    KillMode = "kill-mode",
    /// After a look at the clock the next deadline is in the future.
    Spin = "spin",
    /// Numbers only grow, over crashes too.
    Numbers = "numbers",
    /// Crash loops are slowed down, and never given up for ever.
    Restarts = "restarts",
    /// Intent before act, durable before answer.
    Durable = "durable",
    /// After every answer the state is one that the ledger describes.
    Described = "described",
    /// A release counts once it is on the disk, never changes, and stays as long as it is of use.
    Releases = "releases",
    /// Crash restarts and rollbacks run what ran, everything else what is on disk.
    Pinned = "pinned",
    /// What workers stored is given to who comes after them, and is closed once nobody does.
    Stored = "stored",
    /// Each swap that began has one end in the history, over crashes too.
    Ends = "ends",
    /// What a rollback goes back to.
    Retained = "retained",
    /// What a person stopped stays stopped.
    Stopped = "stopped",
    /// The bookkeeping never contradicts itself; a unit is no other unit's business.
    Sound = "sound",
    /// An event of the past changes nothing.
    Stale = "stale",
    /// Every step does a bounded amount of work.
    Bounded = "bounded",
    /// Without faults everything ends where it should.
    Liveness = "liveness",
    /// What goes wrong is said, in the log once.
    Told = "told",
    /// After crashes of its own supd begins nothing until a person has seen to it.
    Holding = "holding",
    /// ExecOnFailure tells once of what went wrong by itself, of nothing else, and of one thing at a time.
    Alarm = "alarm",
    /// What a hand-written scenario expects.
    Expected = "expected",
}

/// A rule that was broken, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) text: String,
}

impl Violation {
    pub(crate) fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.rule.word(), self.text)
    }
}

type Checked = Result<(), Violation>;

/// Breaks `rule` unless `holds`.
fn must(rule: Rule, holds: bool, text: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation::new(rule, text())) }
}

/// What the oracle remembers beside the world.
#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    books: Vec<Book>,
    worker_ids: Vec<WorkerId>,
    job_last: JobId,
    record_last: RecordId,
    /// The unit that the present event is about; `None`: all of them.
    subject: Option<usize>,
    /// Why the present event must change nothing.
    stale: Option<String>,
    /// A final answer was given in this step.
    answered: Option<usize>,
    /// The next supd holds; this one does.
    pub(crate) marked: bool,
    held: bool,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self {
            books: Vec::new(),
            worker_ids: Vec::new(),
            job_last: JobId(0),
            record_last: RecordId(0),
            subject: None,
            stale: None,
            answered: None,
            marked: false,
            held: false,
        }
    }

    fn book(&mut self, place: usize) -> &mut Book {
        let at = self.books.iter().position(|book| book.place == place).unwrap_or_else(|| {
            self.books.push(Book::new(place));
            self.books.len() - 1
        });
        &mut self.books[at]
    }

    /// Whether nobody may be launched until a person says so.
    pub(crate) fn halted(&self, place: usize) -> bool {
        self.books.iter().any(|book| book.place == place && book.halted)
    }

    /// Whether a switch of this unit is none of a swap.
    pub(crate) fn leads_anew(&self, place: usize) -> bool {
        self.books.iter().any(|book| book.place == place && book.leads_anew)
    }

    /// supd has died: nothing of its life counts any more but what was saved.
    pub(crate) fn reborn(&mut self) {
        self.held = self.marked;
        self.worker_ids.clear();
        (self.job_last, self.record_last) = (JobId(0), RecordId(0));
        for book in &mut self.books {
            book.reborn();
        }
    }

    /// A unit is about to become known.
    pub(crate) fn restored(&mut self, world: &World, place: usize, booting: bool) {
        if let Some(unit) = world.unit(place) {
            let held = self.held && booting;
            let book = self.book(place);
            book.restored(unit, booting);
            if held {
                book.hold(unit);
            }
        }
    }

    /// A record is on disk.
    pub(crate) fn saved(&mut self, place: usize, record: &Record) {
        self.book(place).saved(record);
    }

    /// A record is not on disk, and never will be.
    pub(crate) fn unsaved(&mut self, place: usize, record: &Record) {
        self.book(place).unsaved(record);
    }

    /// A new connection has come to each slot that has a share.
    pub(crate) fn connected(&self, world: &World, place: usize) -> Checked {
        let book = self.books.iter().find(|book| book.place == place);
        world.unit(place).zip(book).map_or(Ok(()), |(unit, book)| book.received(unit))
    }

    /// Takes note of what the brain is about to hear.
    pub(crate) fn hears(&mut self, world: &World, input: &Input) {
        self.stale = None;
        self.answered = None;
        self.subject = None;
        for book in &mut self.books {
            book.next_step();
        }
        match input {
            Input::Unit(name, event) => {
                let Some(unit) = world.units.iter().find(|unit| unit.name == *name) else { return };
                self.subject = Some(unit.place);
                self.stale = stale(unit, event);
                self.book(unit.place).hears(world.now, unit, event);
            }
            Input::Add(restored) => self.subject = world.place(&restored.settings.unit),
            Input::Orphaned(name) => self.subject = world.place(name),
            Input::Shutdown { .. } => self.books.iter_mut().for_each(Book::shut_down),
            Input::HoldNoLonger => {
                self.books.iter_mut().for_each(|book| book.hold_no_longer(world.unit(book.place)));
            }
            Input::Clock => {}
        }
    }

    /// Looks at one effect before it is performed.
    pub(crate) fn sees(&mut self, world: &World, effect: &Effect) -> Checked {
        let (name, action) = match effect {
            Effect::Unit(name, action) => (name, action),
            Effect::Reply(client, reply) => {
                if let (Some(place), true) = (self.subject, reply.status == ExitStatus::Refused) {
                    self.book(place).unasked(*client);
                }
                return reply::to_nobodys(world, *client, reply);
            }
            Effect::Quit => return self.quits(world),
        };
        let unit = world.units.iter().find(|unit| unit.name == *name && unit.known);
        let Some(unit) = unit else {
            return Err(Violation::new(Rule::Sound, format!("{name} is no unit, yet {action:?}")));
        };
        let place = unit.place;
        if let Some(subject) = self.subject {
            must(Rule::Sound, subject == place, || {
                format!("an event of another unit makes {name}: {action:?}")
            })?;
        }
        if let Some(why) = &self.stale {
            let harmless = matches!(action, Action::Note { .. });
            must(Rule::Stale, harmless, || format!("{why}, yet {action:?}"))?;
        }
        match action {
            Action::Spawn { worker, index, launch } => {
                must(Rule::Accounts, !self.worker_ids.contains(worker), || format!("worker {worker} twice"))?;
                self.worker_ids.push(*worker);
                Book::runs_release(unit, launch)?;
                self.book(place).is_given(unit, launch)?;
                self.book(place).spawns(world, unit, *index, launch)
            }
            Action::Adopt { worker, index, launch } => {
                must(Rule::Accounts, !self.worker_ids.contains(worker), || format!("worker {worker} twice"))?;
                self.worker_ids.push(*worker);
                self.book(place).adopts(unit, *index, launch)
            }
            Action::Signal { worker, signal, everyone } => {
                self.book(place).signals(world, unit, *worker, *signal, *everyone)
            }
            Action::Sweep { worker, signal } => serve::sweeps(unit, *worker, *signal),
            Action::Run { job, kind, work, launch, worker, .. } => {
                must(Rule::Accounts, *job > self.job_last, || format!("job {job} twice"))?;
                self.job_last = *job;
                self.book(place).tells(world, unit, launch, (*kind, work))?;
                self.book(place).runs(world, unit, *kind, launch, *worker)
            }
            Action::EndJob { job } => {
                let stores = unit.unpacks.iter().any(|(known, _)| known == job)
                    || unit.storing.iter().any(|storing| storing.job == *job);
                let known = stores || unit.jobs.iter().any(|known| known.id == *job);
                must(Rule::Accounts, known, || format!("ends job {job}, which does not run"))
            }
            Action::Unpack { job, .. } | Action::Seal { job, .. } => {
                must(Rule::Accounts, *job > self.job_last, || format!("job {job} twice"))?;
                self.job_last = *job;
                Ok(())
            }
            Action::Place { job, label, staging, .. } => {
                must(Rule::Accounts, *job > self.job_last, || format!("job {job} twice"))?;
                self.job_last = *job;
                must(Rule::Releases, unit.staged.contains(staging), || format!("places nothing as {label}"))?;
                self.book(place).places(unit, label)
            }
            Action::Discard { .. } => Ok(()),
            Action::Remove { label } => self.book(place).removes(unit, label),
            Action::Bind { job, .. } => {
                must(Rule::Accounts, *job > self.job_last, || format!("job {job} twice"))?;
                self.job_last = *job;
                Ok(())
            }
            Action::Listen(list) | Action::HoldOff(list) => {
                if let Action::HoldOff(_) = action {
                    self.book(place).holds_off(unit, world.now)?;
                }
                self.book(place).listens(unit, list)?;
                self.book(place).closes_nobody_out(unit, list)
            }
            Action::Unlisten => self.book(place).unlistens(unit),
            Action::CloseExcept(list) => {
                self.book(place).closes(unit, list);
                self.book(place).closes_nobody_out(unit, list)
            }
            Action::Record { id, record, client } => {
                must(Rule::Accounts, *id > self.record_last, || format!("record {id} twice"))?;
                self.record_last = *id;
                self.book(place).relists(unit, record)?;
                self.book(place).begins_held(record)?;
                // One whose listeners could not be bound at once begins as a start.
                if let supd::model::Happening::Began {
                    swap_id, kind: SwapKind::Swap | SwapKind::Start, ..
                } = record.happening
                {
                    self.book(place).deploys(world, swap_id, *client);
                }
                self.book(place).records(world, unit, record, *client)
            }
            Action::SaveIntent(intent) => self.book(place).intends(world, unit, intent),
            Action::ClearIntent => self.book(place).clears(unit),
            Action::Share { swap_id, candidate, share, .. } => {
                self.book(place).shares(world, unit, *swap_id, (*candidate, *share))
            }
            Action::Lend(launch) => serve::lends(unit, launch),
            Action::Bequeath { from, to } => self.book(place).bequeaths(unit, *from, *to),
            Action::CloseStored { keep } => self.book(place).closes_stored(unit, keep),
            Action::HoldBinds(generation) => serve::holds_binds(unit, *generation),
            Action::AnswerBinds(generation) => serve::answers_binds(unit, *generation),
            Action::PassOn(generation) => serve::passes_on(unit, *generation),
            Action::Count(generation) => self.book(place).counts(world, unit, *generation),
            Action::Pin(_) => Ok(()),
            Action::Switch { swap_id, to } => self.book(place).switches(world, unit, *swap_id, *to),
            Action::Retire(generation) => {
                self.book(place).buries(*generation);
                serve::retires(unit, *generation)
            }
            Action::Prune { keep } => self.book(place).prunes(world, unit, keep),
            Action::Reply(client, answer) => {
                self.answered = Some(place);
                self.book(place).replies(world, unit, *client, answer)
            }
            Action::Progress(client, progress) => {
                let waits = world.client(*client).is_some_and(crate::world::Client::waits);
                must(Rule::Replies, waits, || {
                    format!("tells client {client}, who does not wait: {progress:?}")
                })
            }
            // A worker may fail before it has a process.
            Action::WorkerFailed { generation, cause } => {
                self.book(place).alarms.failed(*generation);
                let sound = generation.0 > 0 && !cause.is_empty() && cause.len() < 2000;
                must(Rule::Bounded, sound, || format!("a failure in generation {generation}: {cause:?}"))
            }
            Action::InstallFailed { label, cause, .. } => {
                must(Rule::Bounded, !cause.is_empty() && cause.len() < 2000, || format!("{label}: {cause:?}"))
            }
            Action::Note { level, text, .. } => {
                self.book(place).notes(unit, text)?;
                must(Rule::Bounded, !text.is_empty() && text.len() < 2000, || format!("note {text:?}"))?;
                must(Rule::Sound, *level != Level::Error || !text.contains("quarantine"), || text.clone())
            }
            Action::Dump(text) => {
                Err(Violation::new(Rule::Sound, format!("quarantine: {}", first_line(text))))
            }
            Action::Watch | Action::Unwatch => Ok(()),
            Action::Forget => {
                let may = unit.orphaned && unit.live().next().is_none();
                must(Rule::Accounts, may, || "forgets a unit that has a file or processes".to_owned())?;
                *self.book(place) = Book::new(place);
                Ok(())
            }
        }
    }

    /// supd may end only when everything of it has.
    fn quits(&self, world: &World) -> Checked {
        must(Rule::Stopped, world.shutdown, || "quits without being told to".to_owned())?;
        for unit in &world.units {
            let left = unit.procs.iter().find(|proc| !proc.is_over());
            must(Rule::Accounts, left.is_none(), || format!("quits while {left:?} is there"))?;
        }
        must(Rule::Replies, !world.anyone_waits_for_a_unit(), || "quits while somebody waits".to_owned())?;
        for book in &self.books {
            let Some(unit) = world.unit(book.place) else { continue };
            let known = unit.known && !unit.booted;
            let lost = book.stopped_by_person && known && unit.ledger.want != Want::Down;
            must(Rule::Stopped, !lost || book.unsaved, || {
                format!("a person stopped {}, and the next supd would start it", unit.name)
            })?;
        }
        Ok(())
    }

    /// Looks at everything once a step is done.
    pub(crate) fn judges(
        &self,
        world: &World,
        status: &[Option<UnitStatus>],
        deadline: Option<Tick>,
        clock: bool,
    ) -> Checked {
        if clock {
            let later = deadline.is_none_or(|deadline| deadline > world.now);
            must(Rule::Spin, later, || {
                format!("after the clock the deadline is {deadline:?}, now {:?}", world.now)
            })?;
        }
        for unit in world.units.iter().filter(|unit| unit.known) {
            if self.subject.is_some_and(|subject| subject != unit.place) {
                continue;
            }
            let Some(shown) = &status[unit.place] else {
                return Err(Violation::new(Rule::OneOfEach, format!("no status of {}", unit.name)));
            };
            shows_all(unit, shown)?;
            let Some(book) = self.books.iter().find(|book| book.place == unit.place) else { continue };
            book.ends_well(world)?;
            book.says_slow(world, unit, shown, clock)?;
            book.rescues_well(shown)?;
            book.stores_well(unit, shown)?;
            book.commits_well(world, unit)?;
            book.alarms_well(world, unit)?;
            book.shows_held(shown)?;
            book.closed_well(unit)?;
            book.refused_well(unit)?;
            if self.answered == Some(unit.place) {
                book.describes(unit, shown)?;
            }
        }
        Ok(())
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Why an event is one of the past, if it is.
fn stale(unit: &Unit, event: &Event) -> Option<String> {
    match event {
        Event::Noticed { worker, .. } | Event::BindWaits { worker } | Event::Listens { worker } => {
            match unit.proc(*worker) {
                None => Some(format!("worker {worker} never was")),
                Some(proc) => proc.told_end.map(|_| format!("worker {worker} has ended")),
            }
        }
        Event::Asked { request, .. } => match request {
            Request::Start { .. }
            | Request::Stop { .. }
            | Request::Restart { .. }
            | Request::Swap { .. }
            | Request::Install { .. }
            | Request::Undeploy { .. }
            | Request::Rollback { .. }
            | Request::Share { .. }
            | Request::Drain { .. }
            | Request::Promote { .. }
            | Request::Abort
            | Request::Wait { .. }
            | Request::Reload
            | Request::Kill { .. }
            | Request::Refresh { .. } => None,
        },
        Event::HungUp { .. }
        | Event::Bound { .. }
        | Event::BindFailed { .. }
        | Event::Unlistened
        | Event::Knocked
        | Event::IntentSaved { .. }
        | Event::IntentFailed { .. }
        | Event::Switched { .. }
        | Event::SwitchFailed { .. }
        | Event::ShareFailed { .. }
        | Event::Stalled { .. }
        | Event::Counted { .. }
        | Event::Retired { .. }
        | Event::Recorded { .. }
        | Event::RecordFailed { .. }
        | Event::Spawned { .. }
        | Event::SpawnFailed { .. }
        | Event::Exited { .. }
        | Event::Swept { .. }
        | Event::Finished { .. }
        | Event::Unpacked { .. }
        | Event::Looked { .. }
        | Event::Pinned { .. }
        | Event::Clock => None,
    }
}

/// At most one of each, and everybody is there.
fn shows_all(unit: &Unit, shown: &UnitStatus) -> Checked {
    let count = |wanted: &[GenerationState]| {
        shown.generations.iter().filter(|generation| wanted.contains(&generation.state)).count()
    };
    use GenerationState as S;
    must(Rule::OneOfEach, count(&[S::Active]) <= 1, || format!("two active generations: {shown:?}"))?;
    let candidates = count(&[S::Candidate, S::Canary, S::Unbound]);
    must(Rule::OneOfEach, candidates <= 1, || format!("two candidates: {shown:?}"))?;
    must(Rule::Sound, shown.state != UnitState::Quarantine, || "is in quarantine".to_owned())?;
    for proc in unit.live() {
        let listed = shown.generations.iter().any(|generation| {
            generation.generation == proc.generation()
                && generation.workers.iter().any(|worker| worker.worker == proc.id)
        });
        must(Rule::OneOfEach, listed, || {
            format!("status hides worker {} of {}", proc.id, proc.generation())
        })?;
    }
    let all: Option<Vec<u16>> = shown.generations.iter().map(|one| one.share).collect();
    if let (Some(all), true) = (all, count(&[S::Active]) == 1) {
        let sum: u32 = all.iter().copied().map(u32::from).sum();
        must(Rule::Shares, sum == 10_000, || format!("the shares add up to {sum}: {shown:?}"))?;
    }
    let serving = matches!(shown.state, UnitState::Active | UnitState::Probation);
    if serving && unit.switches.is_empty() {
        must(Rule::OneOfEach, shown.active == unit.traffic, || {
            format!("status says {:?} is active, the traffic goes to {:?}", shown.active, unit.traffic)
        })?;
    }
    must(Rule::OneOfEach, shown.generations.is_sorted_by_key(|shown| shown.generation), || {
        "generations out of order".to_owned()
    })
}

/// What anybody may print of a generation.
fn show(generation: Option<Generation>) -> String {
    generation.map_or("none".to_owned(), |generation| generation.to_string())
}
