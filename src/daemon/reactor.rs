//! The loop: wait until something happens or is due; say it to the machine; do what it decides.

use super::chores::Chore;
use super::control::Arrival;
use super::hands::Hands;
use super::leave::End;
use super::lock::Lock;
use super::sources::{Ready, Source};
use super::thrift::{Thrift, Worth};
use super::upward::{self, Pulse};
use crate::machine::{Effect, Event, Input, Level, Machine};
use crate::model::{Generation, Tick, UnitName, WorkerId};
use crate::os::process::{Reaped, reap_orphans};
use crate::os::{clock, code, heap, image, looked_up};
use signal_hook_mio::v1_0::Signals;
use std::os::fd::AsFd;
use std::time::Duration;

/// How many inputs a turn takes; what follows from them waits for the next, after a look at the
/// descriptors.
const INPUTS_PER_TURN: usize = 4096;

/// How many processes a turn launches: each takes up to a millisecond or two, and nobody is answered
/// meanwhile. A thousand units that start at once were three turns of a second, without it.
const LAUNCHES_PER_TURN: usize = 16;

/// How many orphans a turn reaps.
const ORPHANS_PER_TURN: usize = 256;

/// No worker that has ended is reaped later than this for what others looked up of it.
const FORGET_BOUND: Duration = Duration::from_secs(1);

/// supd, ready to run.
pub struct Reactor {
    machine: Machine,
    hands: Hands,
    signals: Signals,
    /// Ended children may be left to be reaped.
    orphans: bool,
    thrift: Thrift,
    pulse: Pulse,
    locks: [Lock; 2],
}

impl Reactor {
    /// Everything is there; nothing has begun.
    #[must_use]
    pub fn new(hands: Hands, signals: Signals, locks: [Lock; 2]) -> Self {
        // A child may have ended before its signal could be caught.
        Self {
            machine: Machine::after(hands.runtime.last_worker()),
            hands,
            signals,
            orphans: true,
            thrift: Thrift::default(),
            pulse: Pulse::asked(clock::now()),
            locks,
        }
    }

    /// Runs until every unit has stopped, or the next supd is to go on with them.
    ///
    /// # Errors
    /// The poller itself is broken.
    pub fn run(mut self) -> std::io::Result<End> {
        self.step(clock::now());
        self.hands.write();
        self.hands.keep(&self.machine, clock::now());
        upward::ready();
        upward::status(&format!("{} units", self.machine.units().count()));
        while !self.is_over(clock::now()) {
            let ready = self.wait()?;
            let now = clock::now();
            self.hear(ready, now);
            // Whoever the image before has told of a step hears of the next one, too.
            let heard = self.hands.reexecuted.is_none();
            if heard && self.machine.deadline().is_some_and(|deadline| deadline <= now) {
                self.hands.inbox.push_back(Input::Clock);
            }
            self.step(now);
            // Last: a step may leave something to begin that no descriptor will tell of.
            self.hands.tend(&self.machine, now);
            self.hands.write();
            self.hands.keep(&self.machine, now);
            // Whoever waits at one knows that the next supd knows.
            if self.hands.inbox.is_empty() {
                self.hands.notifiers.lift_barriers();
            }
            self.pulse.beat(now);
            self.hands.end_with_unit(&self.machine, now);
            if self.hands.is_to_reexec(&self.machine) {
                self.become_next(now);
            }
            if let Some(worth) = self.thrift.due(now) {
                self.give_back(worth);
            }
        }
        if self.hands.leaving.is_some() {
            self.hands.keep(&self.machine, clock::now());
            self.hands.keeping.part();
            if let Err(why) = self.hands.mirror.settle() {
                log::warn!("{why}");
            }
        } else {
            self.hands.keeping.end();
        }
        log::info!("supd ends");
        Ok(self.hands.end())
    }

    /// Memory that is not needed at rest.
    fn give_back(&mut self, worth: Worth) {
        if worth == Worth::CodeAndHeap {
            self.hands.inbox.shrink_to_fit();
            heap::trim();
        }
        if let Err(error) = code::let_go() {
            log::info!("the pages of supd's own program stay mapped: {error}");
        }
    }

    /// Every unit has stopped, nothing is left of a command that was ended meanwhile, and the last word is
    /// written and told; or that takes too long.
    fn is_over(&self, now: Tick) -> bool {
        let told = self.hands.inbox.is_empty()
            && self.hands.recorder.is_idle()
            && !self.hands.control.pending()
            && !self.hands.story.watches.pending();
        let left =
            !self.hands.jobs.is_idle() || self.hands.sweeper.is_asked() || self.hands.chores.searches() > 0;
        match (self.hands.quit_by, self.hands.leaving) {
            (Some(quit_by), _) => (told && !left) || now >= quit_by,
            (None, Some(leave_by)) => told || now >= leave_by,
            (None, None) => false,
        }
    }

    fn wait(&mut self) -> std::io::Result<Ready> {
        let hands = &mut self.hands;
        debug_assert!(!hands.recorder.is_forgotten(), "a record would wait until something else happens");
        let busy = !hands.inbox.is_empty()
            || hands.control.pending()
            || hands.notifiers.pending()
            || hands.intercepts.pending()
            || hands.story.watches.pending()
            || self.orphans;
        let due = || {
            let own = self.machine.deadline().into_iter().chain(self.thrift.deadline());
            let own = own.chain(self.pulse.deadline());
            own.chain(hands.deadline()).min()
        };
        let timeout = if busy { Some(Duration::ZERO) } else { due().map(|due| due.since(clock::now())) };
        hands.sources.wait(timeout)
    }

    /// Everything that became ready, in its order: last words before the end of who said them.
    fn hear(&mut self, ready: Ready, now: Tick) {
        for (unit, generation) in self.hands.notifiers.take_pending() {
            self.hands.hear(&unit, generation, now);
        }
        self.hands.take_pending_calls(now);
        for source in ready.sources {
            match source {
                Source::Notify(unit, generation) => self.hands.hear(&unit, generation, now),
                Source::WorkerOutcome(worker) => self.hands.launched(worker),
                Source::JobOutcome(job) => {
                    let (jobs, mut around) = self.hands.jobs();
                    jobs.launched(job, &mut around);
                }
                Source::Call(worker) => self.hands.take_calls(worker, now),
                Source::Read => self.hands.looked(now),
                Source::Flusher => self.hands.flush(),
                Source::Chore(number) => self.hands.chore(number, &self.machine, now),
                Source::Knock(unit) => self.hands.knocked(&unit),
                Source::Deaf(unit) => self.hands.revive(&unit, now),
                Source::Lender(unit) => self.hands.lender_ended(&unit),
                Source::Child(worker) => self.hands.child_over(worker),
                Source::Main(worker) => self.hands.main_ended(worker),
                Source::Left(worker) => self.hands.sweeper.left(worker, &mut self.hands.sources),
                Source::Job(job) => self.hands.job_ended(job),
                Source::Logs => self.hands.logs.fired(now),
                Source::Stored(number) => self.hands.stored_hung_up(number),
                Source::MetricsDoor => self.hands.metrics_knocked(),
                // The turn goes on with each of them.
                Source::Metrics(_) => {}
                Source::Keeper => self.hands.keeper_spoke(),
                Source::Signals => self.signalled(),
            }
        }
        if self.orphans {
            self.reap();
        }
        for event in &ready.control {
            self.hands.control.ready(event);
        }
        // What was asked of the image before is about units of which this one has yet to hear.
        if self.hands.reexecuted.is_some() {
            return;
        }
        let mut arrivals: Vec<Arrival> = Vec::new();
        self.hands.control.turn(now, &mut arrivals);
        for arrival in arrivals {
            self.hands.arrival(arrival, &self.machine, now);
        }
    }

    /// Becomes the program that is on the disk now. What signals have said to this one it does first; those that come
    /// from here on wait for the next.
    fn become_next(&mut self, now: Tick) {
        let before = image::block();
        let said: Vec<i32> = self.signals.pending().collect();
        if said.iter().all(|signal| *signal == libc::SIGCHLD) {
            let [first, second] = &self.locks;
            self.hands.become_next(&self.machine, [first.as_fd(), second.as_fd()], now);
        }
        let _ = before.thread_set_mask();
        self.heed(said);
    }

    fn signalled(&mut self) {
        let said = self.signals.pending().collect();
        self.heed(said);
    }

    fn heed(&mut self, said: Vec<i32>) {
        for signal in said {
            match signal {
                libc::SIGCHLD => self.orphans = true,
                libc::SIGHUP => self.hands.daemon_reload(None, &self.machine),
                libc::SIGUSR2 => self.hands.reexec(None, &self.machine, clock::now()),
                libc::SIGUSR1 => log::warn!("signal {signal} means nothing to supd, and changes nothing"),
                libc::SIGTERM if self.hands.one.is_none() => self.hands.terminated(clock::now()),
                _ if self.hands.one.is_some() && self.hands.story.ending.is_some() => self.hands.end_now(),
                _ => {
                    log::info!("stopping every unit, as asked by signal {signal}");
                    self.hands.shutdown(None);
                }
            }
        }
    }

    /// Collects ended children that nobody holds; the others are heard now, for as long as they
    /// are not collected they stand in the way.
    fn reap(&mut self) {
        self.orphans = false;
        for _ in 0..ORPHANS_PER_TURN {
            let hands = &mut self.hands;
            let held = |pid| hands.workers.holds(pid).is_some() || hands.jobs.holds(pid).is_some();
            match reap_orphans(held, ORPHANS_PER_TURN) {
                Ok(Reaped::All) => return,
                Ok(Reaped::More) => break,
                Ok(Reaped::Known(pid)) => match (hands.workers.holds(pid), hands.jobs.holds(pid)) {
                    // The end of what it waits for is the end of a child too.
                    (Some(worker), _) if hands.is_held_back(worker) => return,
                    (Some(worker), _) => hands.worker_ended(worker),
                    (None, Some(job)) => hands.job_ended(job),
                    (None, None) => return,
                },
                Err(error) => {
                    log::error!("{error}");
                    return;
                }
            }
        }
        self.orphans = true;
    }

    /// Lets the machine take what is in the inbox, and does what it decides.
    fn step(&mut self, now: Tick) {
        let mut effects: Vec<Effect> = Vec::new();
        let (mut taken, mut launched) = (0, 0);
        while taken < INPUTS_PER_TURN && launched < LAUNCHES_PER_TURN {
            let Some(input) = self.hands.inbox.pop_front() else { break };
            taken += 1;
            log::trace!("{input:?}");
            if let Input::Unit(unit, _) = &input {
                self.hands.keeping.touch(unit);
            }
            self.hands.remember_launch(&input);
            let added = match &input {
                Input::Add(restored) => Some(restored.settings.unit.clone()),
                _others => None,
            };
            self.hands.one.iter_mut().for_each(|one| one.hear(&input));
            self.machine.step(now, input, &mut effects);
            launched += effects.iter().filter(|effect| effect.launches()).count();
            for effect in effects.drain(..) {
                log::trace!("  {effect:?}");
                self.hands.perform(effect, &self.machine, now);
            }
            if let Some(unit) = added {
                self.hands.try_out_again(&unit, &self.machine, now);
            }
        }
        self.thrift.took(taken, now);
        if self.hands.inbox.is_empty() {
            self.hands.end_survivors();
        }
    }
}

impl Hands {
    /// For status: why a launch failed is in no exit status.
    fn remember_launch(&mut self, input: &Input) {
        match input {
            Input::Unit(unit, Event::SpawnFailed { reason, .. }) => {
                self.unlaunched.insert(unit.clone(), reason.clone());
            }
            Input::Unit(unit, Event::Spawned { .. }) => drop(self.unlaunched.remove(unit)),
            _ => {}
        }
    }

    /// The launch of a worker has news; one that succeeded has a log by now.
    fn launched(&mut self, id: WorkerId) {
        let (workers, mut around) = self.workers();
        if workers.launched(id, &mut around) {
            return;
        }
        self.hear_of_group(id);
        self.begin_intercept(id);
        if let Some(worker) = self.workers.get(id) {
            let launch = worker.launch.clone();
            let path = self.ground.log(&worker.unit, launch.generation);
            let kept = self.ground.kept(&launch.settings.service);
            self.logs.add(&launch, &path, kept, &mut self.sources, clock::now());
        }
    }

    /// Hears of the end of a worker now, before its descriptor says so.
    pub(super) fn worker_ended(&mut self, id: WorkerId) {
        self.child_ended(id);
        self.main_ended(id);
    }

    /// A worker's first process may have ended.
    fn child_over(&mut self, id: WorkerId) {
        if !self.is_held_back(id) {
            self.child_ended(id);
        }
    }

    /// Whether that one is to be reaped only after a child: see [`looked_up`].
    fn is_held_back(&mut self, id: WorkerId) -> bool {
        let Self { workers, chores, sources, .. } = self;
        workers.waits(id, |process, count| {
            let task = looked_up::forget(process, count, FORGET_BOUND).map_err(|error| error.to_string())?;
            chores.begin(Chore::Forget(id), task, sources)
        })
    }

    /// That child is over. Where it could not look, the reaping takes what it takes.
    pub(super) fn forgotten(&mut self, id: WorkerId, result: &Result<Vec<u8>, String>) {
        if let Err(why) = result {
            log::debug!("what others looked up of worker {} is not forgotten: {why}", id.0);
        }
        self.workers.waits_no_longer(id);
        self.worker_ended(id);
    }

    /// A worker's first process ended; what it said last is heard first.
    fn child_ended(&mut self, id: WorkerId) {
        self.last_words(id);
        self.begin_intercept(id);
        let goes_on = self.intercepts.may_have_forked(id);
        let (workers, mut around) = self.workers();
        workers.child_ended(id, goes_on, &mut around);
        self.hear_of_group(id);
        self.look_for_heir(id);
        self.put_back_paths(id);
    }

    /// From the moment in which a worker runs, supd is asked about what it binds.
    fn begin_intercept(&mut self, id: WorkerId) {
        match self.workers.take_calls(id) {
            None => {}
            Some(Ok(calls)) => self.intercept(id, calls),
            Some(Err(errno)) => {
                let Some(worker) = self.workers.get(id) else { return };
                let text =
                    format!("supd cannot take what it is asked by, so that its bind(2) fails: {errno}");
                super::perform::note(&worker.unit, Level::Error, Some(worker.launch.generation), &text);
            }
        }
    }

    fn main_ended(&mut self, id: WorkerId) {
        self.last_words(id);
        let goes_on = self.intercepts.may_have_forked(id);
        let (workers, mut around) = self.workers();
        workers.main_ended(id, goes_on, &mut around);
        self.look_for_heir(id);
        self.put_back_paths(id);
    }

    /// Some servers remove the path that they were lent when they end, and others put their own there.
    fn put_back_paths(&mut self, id: WorkerId) {
        let Some(unit) = self.workers.get(id).map(|worker| worker.unit.clone()) else { return };
        let Some(listeners) = self.listeners.get_mut(&unit) else { return };
        for text in listeners.put_back() {
            super::perform::note(&unit, Level::Warning, None, &text);
        }
    }

    fn last_words(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let (unit, generation): (UnitName, Generation) = (worker.unit.clone(), worker.launch.generation);
        self.hear(&unit, generation, clock::now());
    }

    /// A connection waits, if it is still there.
    fn knocked(&mut self, unit: &UnitName) {
        let Some(listeners) = self.listeners.get_mut(unit) else { return };
        if listeners.is_knocked() {
            listeners.unwatch(&mut self.sources);
            self.say(unit, Event::Knocked);
        }
    }
}
