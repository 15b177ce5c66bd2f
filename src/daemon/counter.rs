//! What clients have of generations: counted for the machine while one is let go, and for people while
//! they look. Nobody who asks, nothing that is counted.
//!
//! One child counts for all who ask in a turn ([`census`]), and no two are begun within a second. Whoever
//! asks meanwhile is answered by the next one.

use super::chores::Chore;
use super::hands::Hands;
use super::view::MANY;
use crate::machine::{Counts, Event, Machine};
use crate::model::settings::Socket;
use crate::model::{Address, ClientId, Generation, Queue, Queued, Settings, Tick, UnitName};
use crate::os::census::{self, Ages, Count, Group, Place, Tally};
use crate::os::listener::Queues;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// No two counts are begun within this, and one is news for as long.
const PACE: Duration = Duration::from_secs(1);

/// A person waits no longer for one: the rest is told at once.
const LOOK_BOUND: Duration = Duration::from_millis(1500);

/// What was counted is shown for as long: until the next one, which takes a moment.
const SHOWN_FOR: Duration = Duration::from_secs(2);

/// A child that takes longer is ended, and nothing is known.
const CENSUS_BOUND: Duration = Duration::from_secs(5);

/// Up to so many generations one count is for all of them, whoever asks; above, for the units that are
/// asked about. Whoever asks about every unit is then not told.
const FEW: usize = 64;

/// One count is for no more generations: its answer has to fit into a pipe. The others have the next.
const MOST: usize = 1024;

/// One count looks closer at so many of those that are tried out; the others have the next.
const CLOSER: usize = 16;

/// So many people are answered in a turn, as many as are heard in one.
const ANSWERS_PER_TURN: usize = 16;

/// That nothing can be counted is told again after this.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Who asks, and what is known.
#[derive(Debug, Default)]
pub struct Counter {
    /// Asked by the machine, in that order.
    asked: VecDeque<(UnitName, Generation)>,
    /// Asked by people.
    looks: VecDeque<Look>,
    /// Units of which one is tried out that seems to accept nothing, in that order.
    doubted: VecDeque<UnitName>,
    /// Some of them may be answered by now.
    news: bool,
    under_way: Option<Vec<Row>>,
    /// When the last count was begun.
    begun: Option<Tick>,
    known: BTreeMap<UnitName, Known>,
    ages: Option<Ages>,
    /// Metrics wait for a count, no longer than until then.
    scraped: Option<Tick>,
    /// When it was told last that nothing can be counted.
    told: Option<Tick>,
    /// The unit that was set right last.
    pub(super) set_right: Option<UnitName>,
}

/// A person who waits.
#[derive(Debug)]
struct Look {
    client: ClientId,
    unit: Option<UnitName>,
    until: Tick,
}

/// What a count is about.
#[derive(Debug)]
struct Row {
    unit: UnitName,
    generation: Generation,
    queues: Vec<Queue>,
    /// The listeners that have connections.
    places: Vec<Address>,
    /// By the machine.
    asked: bool,
}

/// What a unit's generations were counted to.
#[derive(Debug, Default)]
struct Known {
    at: Tick,
    of: BTreeMap<Generation, Seen>,
}

/// What clients have of a generation.
#[derive(Debug)]
pub struct Seen {
    /// Connections.
    pub tally: Tally,
    /// What waits in each of its listeners.
    pub queues: Vec<Queue>,
}

impl Counter {
    /// The machine wants to know what is left of this one.
    pub fn ask(&mut self, unit: UnitName, generation: Generation) {
        self.asked.push_back((unit, generation));
    }

    /// Whether one that is tried out accepts anybody is to be looked at.
    pub fn doubt(&mut self, unit: &UnitName) {
        if !self.doubted.contains(unit) {
            self.doubted.push_back(unit.clone());
        }
    }

    fn is_wanted(&self) -> bool {
        !self.asked.is_empty() || !self.looks.is_empty() || !self.doubted.is_empty() || self.scraped.is_some()
    }

    /// Nobody waits there any more.
    pub fn hung_up(&mut self, client: ClientId) {
        self.looks.retain(|look| look.client != client);
    }

    /// What is known of a generation, and how old that is, if it is not too old to be shown.
    #[must_use]
    pub fn known(&self, unit: &UnitName, generation: Generation, now: Tick) -> Option<(&Seen, Duration)> {
        let known = self.known.get(unit)?;
        let age = now.since(known.at);
        (age < SHOWN_FOR).then_some((known.of.get(&generation)?, age))
    }

    /// When something is due although nothing happened.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        let wanted = self.is_wanted();
        let next = || self.begun.map_or(Tick(0), |begun| begun.after(PACE));
        let next = (wanted && self.under_way.is_none()).then(next);
        let news = (self.news && !self.looks.is_empty()).then_some(Tick(0));
        self.looks.iter().map(|look| look.until).chain(self.scraped).chain(next).chain(news).min()
    }

    fn is_due(&self, now: Tick) -> bool {
        let paced = self.begun.is_none_or(|begun| begun.after(PACE) <= now);
        self.under_way.is_none() && paced && self.is_wanted()
    }

    fn is_news(&self, unit: &UnitName, now: Tick) -> bool {
        self.known.get(unit).is_some_and(|known| now.since(known.at) < PACE)
    }
}

impl Hands {
    /// Answers `Status`, at once unless it is to be counted first.
    pub(super) fn look(
        &mut self,
        client: ClientId,
        unit: Option<&UnitName>,
        count: bool,
        machine: &Machine,
        now: Tick,
    ) -> bool {
        if count && !self.is_known(unit, now) {
            let until = now.after(LOOK_BOUND);
            self.counter.looks.push_back(Look { client, unit: unit.cloned(), until });
            return true;
        }
        let Some(units) = self.views(unit, machine, now) else { return false };
        self.control.status(client, units, self.notes());
        true
    }

    /// Whether metrics can be told: all was counted just now, or is not to be, or takes too long.
    pub(super) fn is_counted(&mut self, now: Tick) -> bool {
        let until = *self.counter.scraped.get_or_insert(now.after(LOOK_BOUND));
        let told = self.is_known(None, now) || until <= now;
        if told {
            self.counter.scraped = None;
        }
        told
    }

    /// Counts if that is due, and answers those who need not wait any longer.
    pub(super) fn tend_counts(&mut self, machine: &Machine, now: Tick) {
        if self.counter.deadline().is_none() {
            return;
        }
        self.answer_looks(machine, now);
        if self.counter.is_due(now) {
            self.begin_count(machine, now);
        }
    }

    fn answer_looks(&mut self, machine: &Machine, now: Tick) {
        let news = std::mem::take(&mut self.counter.news);
        let mut answered = 0;
        for _ in 0..self.counter.looks.len() {
            let Some(look) = self.counter.looks.pop_front() else { break };
            let ready = look.until <= now || (news && self.is_known(look.unit.as_ref(), now));
            if !ready || answered == ANSWERS_PER_TURN {
                self.counter.news |= ready;
                self.counter.looks.push_back(look);
                continue;
            }
            answered += 1;
            if !self.look(look.client, look.unit.as_ref(), false, machine, now) {
                self.refuse_unit(look.client, look.unit.as_ref(), machine);
            }
        }
    }

    /// Whether what a person asks about was counted just now, or is not to be.
    fn is_known(&self, unit: Option<&UnitName>, now: Tick) -> bool {
        let mut units = self.workers.all().map(|worker| &worker.unit);
        match unit {
            Some(asked) => self.counter.is_news(asked, now) || !units.any(|unit| unit == asked),
            None => !self.run_few() || units.all(|unit| self.counter.is_news(unit, now)),
        }
    }

    /// Whether so few generations run that one count is for all of them.
    fn run_few(&self) -> bool {
        let mut running = BTreeSet::new();
        self.workers.all().all(|worker| {
            running.insert((&worker.unit, worker.launch.generation));
            running.len() <= FEW
        })
    }

    fn begin_count(&mut self, machine: &Machine, now: Tick) {
        self.counter.begun = Some(now);
        let doubted: Vec<UnitName> = {
            let doubted = &mut self.counter.doubted;
            doubted.drain(..doubted.len().min(CLOSER)).collect()
        };
        let (rows, mut groups) = self.rows(&doubted, machine);
        for (row, group) in rows.iter().zip(&mut groups).filter(|(row, _)| doubted.contains(&row.unit)) {
            self.look_closer(row, group);
        }
        self.set_some_right(rows.iter().map(|row| &row.unit));
        let ages = match self.counter.ages.take() {
            Some(ages) => Some(ages),
            // Then no age is known, which status shows.
            None => Ages::new().ok(),
        };
        self.counter.ages = ages;
        let begun = census::begin(&groups, self.counter.ages.as_ref(), CENSUS_BOUND)
            .map_err(|error| error.to_string())
            .and_then(|task| self.chores.begin(Chore::Census, task, &mut self.sources));
        match begun {
            Ok(()) => self.counter.under_way = Some(rows),
            Err(why) => self.not_counted(rows, &why, now),
        }
    }

    /// Every generation that the next count is for. Of a unit that is asked about it is each one: what the
    /// others hold is not to be taken for a connection that nobody was seen with.
    fn rows(&mut self, doubted: &[UnitName], machine: &Machine) -> (Vec<Row>, Vec<Group>) {
        let mut running: BTreeMap<(UnitName, Generation), (Group, Arc<Settings>)> = BTreeMap::new();
        for worker in self.workers.all() {
            let key = (worker.unit.clone(), worker.launch.generation);
            let (group, _) =
                running.entry(key).or_insert_with(|| (Group::default(), worker.launch.settings.clone()));
            let marks = worker.marks();
            group.marks.workers.extend(marks.workers);
            group.marks.invocation_ids.extend(marks.invocation_ids);
        }
        let mut asked = BTreeSet::new();
        while asked.len() < MOST / 2 {
            let Some(one) = self.counter.asked.pop_front() else { break };
            asked.insert(one);
        }
        if running.len() > FEW {
            let looked = self.counter.looks.iter().filter_map(|look| look.unit.as_ref());
            let units: BTreeSet<&UnitName> =
                asked.iter().map(|(unit, _)| unit).chain(looked).chain(doubted).collect();
            running.retain(|(unit, _), _| units.contains(unit));
        }
        for (unit, generation) in &asked {
            // All of its workers are gone: what has reached its listener may be there still.
            if let Some(launch) = machine.launch(unit, *generation) {
                let key = (unit.clone(), *generation);
                running.entry(key).or_insert_with(|| (Group::default(), launch.settings.clone()));
            }
        }
        let queues = if running.len() >= MANY { Queues::read() } else { Queues::default() };
        let counted = running.into_iter().take(MOST).map(|((unit, generation), (mut group, settings))| {
            let (places, queues) = self.slots(&unit, generation, &settings, &queues);
            let (addresses, places) = places.into_iter().unzip();
            group.places = places;
            let asked = asked.remove(&(unit.clone(), generation));
            (Row { unit, generation, queues, places: addresses, asked }, group)
        });
        let counted = counted.unzip();
        // Forgotten meanwhile, or too many at once.
        self.counter
            .asked
            .extend(asked.into_iter().filter(|(unit, one)| machine.launch(unit, *one).is_some()));
        counted
    }

    /// The slots that a generation was lent: their places, and what waits in them. It is looked at before
    /// the kernel lists its connections, so that what is accepted in between is there.
    fn slots(
        &self,
        unit: &UnitName,
        generation: Generation,
        settings: &Settings,
        queues: &Queues,
    ) -> (Vec<(Address, Place)>, Vec<Queue>) {
        let Some(bound) = self.listeners.get(unit) else { return (Vec::new(), Vec::new()) };
        let of = |socket: &Arc<Socket>| {
            let (name, address) = (socket.name.clone(), socket.address.clone());
            let length = match bound.has_slot(generation) {
                true => bound.queue_of(generation, &address, queues),
                false => bound.queue(&address, queues),
            };
            let queued = length.map(|length| Queued::at(&address, length));
            Queue { name, address, shared: bound.is_apart(generation).is_err(), queued }
        };
        let at = |socket: &Arc<Socket>| {
            let fd = bound.fd(generation, &socket.address)?;
            Some((socket.address.clone(), Place::of(&socket.address, fd)?))
        };
        (settings.sockets.iter().filter_map(at).collect(), settings.sockets.iter().map(of).collect())
    }

    /// Each listener of one that is tried out is looked at by itself. What waits in its slot, and in the others, is
    /// looked at before the kernel lists it, so that whoever waited then and is not accepted is there.
    fn look_closer(&mut self, row: &Row, group: &mut Group) {
        let Some(bound) = self.listeners.get(&row.unit) else { return };
        let queued = |address: &Address| {
            let own = bound.queue_of(row.generation, address, &Queues::default())?;
            Some((own, bound.queue(address, &Queues::default())?.saturating_sub(own)))
        };
        group.closer = self.trials.begin_count(&row.unit, row.generation, &row.places, queued);
    }

    /// The child has counted, or not.
    pub(super) fn counted(&mut self, result: Result<Vec<u8>, String>, now: Tick) {
        let Some(rows) = self.counter.under_way.take() else { return };
        let answer = result.and_then(|answer| {
            census::decode(&answer, rows.len()).ok_or_else(|| "the child's answer is cut short".to_owned())
        });
        let counts = match answer {
            Ok(counts) => counts,
            Err(why) => return self.not_counted(rows, &why, now),
        };
        let at = self.counter.begun.unwrap_or(now);
        self.counter.known.retain(|_, known| now.since(known.at) < SHOWN_FOR);
        for (row, count) in rows.into_iter().zip(counts) {
            let known = self.counter.known.entry(row.unit.clone()).or_default();
            if known.at != at {
                *known = Known { at, of: BTreeMap::new() };
            }
            self.trials.counted(&row.unit, row.generation, (row.places.as_slice(), &count), (at, now));
            let Count { tally, .. } = count;
            self.workers.counted(&row.unit, row.generation, tally.connections.unwrap_or(0));
            known.of.insert(row.generation, Seen { tally, queues: row.queues.clone() });
            self.say_counted(row, tally);
        }
        self.counter.news = true;
    }

    /// Nothing is known: those who wait are told so, and the machine goes by the time.
    fn not_counted(&mut self, rows: Vec<Row>, why: &str, now: Tick) {
        if self.counter.told.is_none_or(|told| now.since(told) >= TELL_EVERY) {
            self.counter.told = Some(now);
            log::warn!("open connections cannot be counted: {why}; what drains has all of its DrainSec");
        }
        self.counter.looks.iter_mut().for_each(|look| look.until = now);
        self.counter.scraped = self.counter.scraped.map(|_| now);
        self.counter.news = true;
        for row in rows {
            self.counter.known.remove(&row.unit);
            self.say_counted(row, Tally { connections: None, arriving: None, oldest: None });
        }
    }

    fn say_counted(&mut self, row: Row, tally: Tally) {
        if row.asked {
            // Where the kernel does not tell there may be some.
            let half_open = tally.arriving.unwrap_or(1);
            let Tally { connections, oldest, .. } = tally;
            let Row { unit, generation, queues, .. } = row;
            let counts = Counts { connections, oldest, queued: Queue::unfinished(&queues), half_open };
            self.say(&unit, Event::Counted { generation, counts, queues });
        }
    }
}
