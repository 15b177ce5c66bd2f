//! What was answered to requests that came with a `request_id`, for those who ask again: kept for a
//! day, at most [`SLOTS`] of them, over restarts of supd. Whoever has most of them makes room, and
//! nobody has more of them under way than half of what all others leave: so there is room for one
//! who comes late, however many have come before.

use crate::codec::request::{self, RequestRecord, Stamp};
use crate::codec::varlink::{Method, Outcome};
use crate::model::{ClientId, Tick};
use crate::store::requests::{SLOTS, path};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

/// For how long an outcome is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// At least this long, whatever the wall clock says after a boot of the machine: it may be wrong.
const KEPT_ANYWAY: Duration = Duration::from_secs(3600);

/// How many one user may have under way that are about one unit. Whoever hangs up leaves them under
/// way for as long as the unit takes, so without a bound one user had all slots with nothing but that.
const OF_UNIT_MAX: usize = 16;

/// Which request: the same id from another user is another one.
pub type Key = (u32, String);

/// A file to be written, below the state folder, and its text.
pub type Note = (String, String);

/// What is known of a request that came once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repeated {
    /// It has this outcome.
    Outcome(Outcome),
    /// It is under way; this client is told with the first one.
    Joined,
    /// The id was used for another request, of this method.
    Other(&'static str),
    /// It is new, but so many are under way that nothing of it could be kept.
    Full(Crowd),
}

/// Whose requests under way leave no room for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// So many of this user are about this unit.
    OfUnit(usize),
    /// So many are this user's.
    OfUser(usize),
    /// Everybody's: nothing is left that this user may push out.
    All,
}

#[derive(Debug)]
struct Remembered {
    method: Method,
    slot: u16,
    seq: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    UnderWay {
        /// Who asked again meanwhile.
        joined: Vec<ClientId>,
        /// The answer, while it is on its way to the disk.
        writing: Option<Outcome>,
    },
    Over {
        outcome: Outcome,
        until: Tick,
    },
}

/// All of them.
#[derive(Debug, Default)]
pub struct Outcomes {
    all: BTreeMap<Key, Remembered>,
    /// Slots that were used and are free again.
    free: Vec<u16>,
    /// Slots from here on were never used.
    unused: u16,
}

/// How old a record is. Within one boot of the machine its own clock tells, which nobody can set.
/// Over a boot only the wall clock is left, and it is believed within bounds: what comes from the
/// future is as if written now, and what seems old stays for a while yet.
fn age(stamp: &Stamp, now: &Stamp) -> Duration {
    if stamp.boot == now.boot {
        return now.tick.since(stamp.tick);
    }
    Duration::from_micros(now.at.saturating_sub(stamp.at)).min(KEPT_FOR - KEPT_ANYWAY)
}

impl Outcomes {
    /// Takes in what the disk has; those without an outcome are passed over, for nobody would ever
    /// give them one.
    pub fn restore(&mut self, mut kept: Vec<(u16, RequestRecord)>, now: &Stamp) {
        kept.sort_by_key(|(_, record)| (record.seq, record.stamp.at));
        for (slot, record) in kept {
            // A hole that was never used is as good as one that is free again.
            self.free.extend(self.unused..slot);
            self.free.retain(|free| *free != slot);
            self.unused = self.unused.max(slot + 1);
            let left = KEPT_FOR.saturating_sub(age(&record.stamp, now));
            let Some(outcome) = record.outcome.filter(|_| left > Duration::ZERO) else {
                self.free.push(slot);
                continue;
            };
            let state = State::Over { outcome, until: now.tick.after(left) };
            let remembered = Remembered { method: record.method, slot, seq: record.seq, state };
            if let Some(older) = self.all.insert((record.uid, record.id), remembered) {
                self.free.push(older.slot);
            }
        }
    }

    /// Whether this request came before.
    pub fn repeated(&mut self, key: &Key, method: &Method, client: ClientId, now: Tick) -> Option<Repeated> {
        if matches!(self.all.get(key), Some(Remembered { state: State::Over { until, .. }, .. }) if now > *until)
        {
            self.remove(key);
        }
        let repeated = self.known(key, method, now);
        let known = self.all.get_mut(key).map(|known| &mut known.state);
        if let (Some(Repeated::Joined), Some(State::UnderWay { joined, .. })) = (&repeated, known) {
            joined.push(client);
        }
        repeated
    }

    /// The same for who only wants to know; nobody joins.
    #[must_use]
    pub fn known(&self, key: &Key, method: &Method, now: Tick) -> Option<Repeated> {
        let over = |known: &&Remembered| matches!(known.state, State::Over { until, .. } if now > until);
        let Some(known) = self.all.get(key).filter(|known| !over(known)) else {
            return self.crowd(key, method).map(Repeated::Full);
        };
        if known.method != *method {
            return Some(Repeated::Other(known.method.name()));
        }
        Some(match &known.state {
            State::Over { outcome, .. } => Repeated::Outcome(outcome.clone()),
            State::UnderWay { .. } => Repeated::Joined,
        })
    }

    /// What leaves no room for a new request.
    fn crowd(&self, key: &Key, method: &Method) -> Option<Crowd> {
        let under_way = self.all.iter().filter(|(_, known)| matches!(known.state, State::UnderWay { .. }));
        let (of_user, of_others): (Vec<_>, Vec<_>) = under_way.partition(|((uid, _), _)| *uid == key.0);
        let of_user: Vec<_> = of_user.into_iter().map(|(_, known)| known.method.unit()).collect();
        let of_unit = of_user.iter().filter(|unit| **unit == method.unit()).count();
        if of_unit >= OF_UNIT_MAX {
            return Some(Crowd::OfUnit(of_unit));
        }
        // A fixed bound is as many users' as fit into the whole; then nobody else had any room at all.
        let most = usize::from(SLOTS).saturating_sub(of_others.len()).div_ceil(2);
        if most > 0 && of_user.len() >= most {
            return Some(Crowd::OfUser(of_user.len()));
        }
        let room = !self.free.is_empty() || self.unused < SLOTS || self.least_missed(key.0).is_some();
        (!room).then_some(Crowd::All)
    }

    fn remove(&mut self, key: &Key) {
        if let Some(known) = self.all.remove(key) {
            self.free.push(known.slot);
        }
    }

    /// A request begins that is new. Gives what is to be written, so that it is known as begun if
    /// supd dies; nothing where [`Repeated::Full`] was overheard.
    pub fn begin(&mut self, key: &Key, method: &Method, stamp: Stamp, seq: u64) -> Option<Note> {
        if self.crowd(key, method).is_some() {
            return None;
        }
        let slot = self.take_slot(key.0)?;
        let state = State::UnderWay { joined: Vec::new(), writing: None };
        let known = Remembered { method: method.clone(), slot, seq, state };
        let note = known.note(key, stamp, None);
        self.all.insert(key.clone(), known);
        Some(note)
    }

    /// A free slot for this user; if there is none, that of an outcome.
    fn take_slot(&mut self, uid: u32) -> Option<u16> {
        if self.free.is_empty() && self.unused < SLOTS {
            self.unused += 1;
            return Some(self.unused - 1);
        }
        if self.free.is_empty() {
            let least = self.least_missed(uid)?.clone();
            self.remove(&least);
        }
        self.free.pop()
    }

    /// The outcome that goes first for a request of this user: of the user who has most of them, of the
    /// unit that most of those are about, the oldest. By age alone, one user's thousand would have
    /// everybody else's repetitions carried out again; and so would those under way of a user who has
    /// no outcome yet that could go, if those who have no more than that user were not left alone.
    fn least_missed(&self, asker: u32) -> Option<&Key> {
        let (mut users, mut units) = (BTreeMap::<u32, usize>::new(), BTreeMap::<_, usize>::new());
        for ((uid, _), known) in &self.all {
            *users.entry(*uid).or_default() += 1;
            *units.entry((*uid, known.method.unit())).or_default() += 1;
        }
        let has = |key: &Key, known: &Remembered| {
            let unit = units.get(&(key.0, known.method.unit())).copied().unwrap_or_default();
            (users.get(&key.0).copied().unwrap_or_default(), unit)
        };
        let mine = users.get(&asker).copied().unwrap_or_default();
        let may_go = |key: &Key| key.0 == asker || users.get(&key.0).is_some_and(|theirs| *theirs > mine);
        let over = self.all.iter().filter_map(|(key, known)| match known.state {
            State::Over { until, .. } if may_go(key) => Some((Reverse(has(key, known)), until, key)),
            State::Over { .. } | State::UnderWay { .. } => None,
        });
        over.min().map(|(.., key)| key)
    }

    /// A request has its answer, which may not be given yet. Gives what is to be written.
    pub fn end(&mut self, key: &Key, outcome: &Outcome, stamp: Stamp) -> Option<Note> {
        let known = self.all.get_mut(key)?;
        let State::UnderWay { writing, .. } = &mut known.state else { return None };
        *writing = Some(outcome.clone());
        Some(known.note(key, stamp, Some(outcome.kept())))
    }

    /// The answer that was on its way to the disk.
    #[must_use]
    pub fn written(&self, key: &Key) -> Option<Outcome> {
        match &self.all.get(key)?.state {
            State::UnderWay { writing, .. } => writing.clone(),
            State::Over { .. } => None,
        }
    }

    /// The answer is given now: whoever asks from here on gets it at once. Gives who joined.
    pub fn answered(&mut self, key: &Key, outcome: &Outcome, now: Tick) -> Vec<ClientId> {
        let Some(known) = self.all.get_mut(key) else { return Vec::new() };
        let over = State::Over { outcome: outcome.kept(), until: now.after(KEPT_FOR) };
        match std::mem::replace(&mut known.state, over) {
            State::UnderWay { joined, .. } => joined,
            State::Over { .. } => Vec::new(),
        }
    }

    /// Who waits for this request beside the first one.
    #[must_use]
    pub fn joined(&self, key: &Key) -> &[ClientId] {
        match self.all.get(key).map(|known| &known.state) {
            Some(State::UnderWay { joined, .. }) => joined,
            Some(State::Over { .. }) | None => &[],
        }
    }

    /// A client waits no more.
    pub fn hung_up(&mut self, client: ClientId) {
        for known in self.all.values_mut() {
            if let State::UnderWay { joined, .. } = &mut known.state {
                joined.retain(|one| *one != client);
            }
        }
    }
}

impl Remembered {
    fn note(&self, (uid, id): &Key, stamp: Stamp, outcome: Option<Outcome>) -> Note {
        let (method, seq) = (self.method.clone(), self.seq);
        let record = RequestRecord { uid: *uid, id: id.clone(), method, stamp, seq, outcome };
        (path(self.slot), request::encode(&record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::request::tests::sample;
    use crate::model::{Reply, UnitName, WaitFor};

    const DAY: u64 = 24 * 3_600_000_000;

    fn stamp(boot: &str, at: u64, tick: u64) -> Stamp {
        Stamp { at, boot: boot.into(), tick: Tick(tick) }
    }

    fn outcome(text: &str) -> Outcome {
        Outcome::of_reply(&Reply::done(true, text), Vec::new(), None)
    }

    fn key(id: &str) -> Key {
        (1000, id.into())
    }

    fn known(outcomes: &mut Outcomes, id: &str, now: u64) -> Option<Repeated> {
        outcomes.repeated(&key(id), &sample("", None).method, ClientId(9), Tick(now))
    }

    /// Over a restart of supd: what was written is what is read.
    fn reread(notes: &[Note]) -> Vec<(u16, RequestRecord)> {
        let slot =
            |path: &str| path.strip_prefix("requests/").unwrap().strip_suffix(".json").unwrap().parse();
        let mut slots = BTreeMap::new();
        for (path, text) in notes {
            slots.insert(slot(path).unwrap(), request::decode(text.as_bytes()).unwrap());
        }
        slots.into_iter().collect()
    }

    /// One request from its beginning to its end.
    fn whole(outcomes: &mut Outcomes, id: &str, now: u64) -> [Note; 2] {
        whole_of(outcomes, &key(id), now)
    }

    fn whole_of(outcomes: &mut Outcomes, key: &Key, now: u64) -> [Note; 2] {
        let (method, outcome) = (sample("", None).method, outcome(&key.1));
        let begun = outcomes.begin(key, &method, stamp("b", now, now), 0).unwrap();
        let ended = outcomes.end(key, &outcome, stamp("b", now, now)).unwrap();
        let again = outcomes.repeated(key, &method, ClientId(9), Tick(now));
        assert_eq!(again, Some(Repeated::Joined), "it is not on the disk yet");
        assert_eq!(outcomes.written(key), Some(outcome.clone()));
        assert_eq!(outcomes.answered(key, &outcome, Tick(now)), [ClientId(9)]);
        [begun, ended]
    }

    #[test]
    fn an_outcome_outlives_supd_for_a_day_whatever_the_wall_clock_says() {
        let notes = whole(&mut Outcomes::default(), "r", 1000);
        for wall in [0, 1000, 400 * DAY] {
            let mut outcomes = Outcomes::default();
            outcomes.restore(reread(&notes), &stamp("b", wall, 5000));
            assert_eq!(known(&mut outcomes, "r", 1000 + DAY), Some(Repeated::Outcome(outcome("r"))));
            assert_eq!(known(&mut outcomes, "r", 1000 + DAY + 1), None);
            let mut outcomes = Outcomes::default();
            outcomes.restore(reread(&notes), &stamp("b", wall, 1000 + DAY));
            assert_eq!(known(&mut outcomes, "r", 1000 + DAY), None, "a day has passed");
        }
    }

    #[test]
    fn over_a_boot_the_wall_clock_is_believed_within_bounds() {
        let notes = whole(&mut Outcomes::default(), "r", 10 * DAY);
        let hour = DAY / 24;
        // How much later it is by the wall, and how long the outcome is kept from then on.
        for (wall, left) in [
            (10 * DAY + 6 * hour, 18 * hour),
            (10 * DAY + 23 * hour, hour),
            (11 * DAY, hour),
            (4000 * DAY, hour),
            (9 * DAY, DAY),
            (0, DAY),
        ] {
            let mut outcomes = Outcomes::default();
            outcomes.restore(reread(&notes), &stamp("next", wall, 7));
            assert_eq!(known(&mut outcomes, "r", 7 + left), Some(Repeated::Outcome(outcome("r"))), "{wall}");
            assert_eq!(known(&mut outcomes, "r", 8 + left), None, "{wall}");
        }
    }

    #[test]
    fn the_newest_thousand_are_kept_in_as_many_files() {
        let mut outcomes = Outcomes::default();
        let mut notes = Vec::new();
        for n in 0..3000_u64 {
            notes.extend(whole(&mut outcomes, &format!("r{n}"), n));
        }
        assert_eq!((outcomes.all.len(), known(&mut outcomes, "r1999", 3000)), (1000, None));
        let kept = reread(&notes);
        assert_eq!(kept.len(), 1000);
        let mut again = Outcomes::default();
        again.restore(kept, &stamp("b", 3000, 3000));
        for outcomes in [&mut outcomes, &mut again] {
            for n in 2000..3000 {
                let id = format!("r{n}");
                assert_eq!(known(outcomes, &id, 3000), Some(Repeated::Outcome(outcome(&id))));
            }
        }
        whole(&mut again, "next", 4000);
        assert_eq!((again.all.len(), known(&mut again, "r2000", 4000)), (1000, None));
    }

    #[test]
    fn a_flood_pushes_out_its_own() {
        let mut outcomes = Outcomes::default();
        let of = |unit: &str| Method::Restart { unit: UnitName::new(unit).unwrap(), wait: WaitFor::Active };
        let mut now = 0;
        let mut over = |outcomes: &mut Outcomes, key: Key, unit: &str| {
            now += 1;
            outcomes.begin(&key, &of(unit), stamp("b", now, now), 0).unwrap();
            outcomes.end(&key, &outcome("done"), stamp("b", now, now)).unwrap();
            outcomes.answered(&key, &outcome("done"), Tick(now));
        };
        let all = |what: &str, count: usize| (0..count).map(|n| format!("{what}{n}")).collect::<Vec<_>>();
        let known = |outcomes: &Outcomes, uid: u32, ids: &[String]| {
            ids.iter().filter(|id| outcomes.all.contains_key(&(uid, (*id).clone()))).count()
        };
        // One user's are older than everybody's, and few.
        all("mine", 100).into_iter().for_each(|id| over(&mut outcomes, (1000, id), "mine"));
        all("flood", 3000).into_iter().for_each(|id| over(&mut outcomes, (2000, id), "web"));
        assert_eq!(known(&outcomes, 1000, &all("mine", 100)), 100);
        assert_eq!(known(&outcomes, 2000, &all("flood", 3000)), 900);
        // The same user's other unit has a share of its own; two who take what they get have half each.
        all("api", 50).into_iter().for_each(|id| over(&mut outcomes, (2000, id), "api"));
        all("more", 3000).into_iter().for_each(|id| over(&mut outcomes, (2000, id), "web"));
        assert_eq!(known(&outcomes, 2000, &all("api", 50)), 50);
        all("third", 3000).into_iter().for_each(|id| over(&mut outcomes, (3000, id), "web"));
        assert_eq!(known(&outcomes, 1000, &all("mine", 100)), 100);
        assert_eq!(known(&outcomes, 2000, &all("api", 50)), 50);
        assert!((449..=451).contains(&known(&outcomes, 3000, &all("third", 3000))));
    }

    /// As many as there is room for begin and stay under way; gives what the next one is told.
    fn flood(outcomes: &mut Outcomes, uid: u32, unit: &str) -> (usize, Crowd) {
        let method = Method::Restart { unit: UnitName::new(unit).unwrap(), wait: WaitFor::Active };
        for n in 0.. {
            let key = (uid, format!("{unit}-{n}"));
            match outcomes.repeated(&key, &method, ClientId(1), Tick(0)) {
                None => assert!(outcomes.begin(&key, &method, stamp("b", 0, 0), 0).is_some()),
                Some(Repeated::Full(crowd)) => {
                    assert_eq!(outcomes.begin(&key, &method, stamp("b", 0, 0), 0), None);
                    return (n, crowd);
                }
                other => panic!("{other:?}"),
            }
        }
        unreachable!()
    }

    #[test]
    fn what_is_under_way_leaves_room_for_others() {
        let mut outcomes = Outcomes::default();
        // Everybody's outcomes are here, and every slot is taken.
        for uid in 3000..3010 {
            for n in 0..100 {
                whole_of(&mut outcomes, &(uid, format!("{n}")), n);
            }
        }
        let of = |outcomes: &Outcomes, uid| outcomes.all.keys().filter(|key| key.0 == uid).count();
        assert_eq!(flood(&mut outcomes, 2000, "web"), (16, Crowd::OfUnit(16)));
        let (mut more, mut units) = (16, 0);
        while more == 16 {
            units += 1;
            let crowd;
            (more, crowd) = flood(&mut outcomes, 2000, &format!("web{units}"));
            assert_eq!(crowd, if more == 16 { Crowd::OfUnit(16) } else { Crowd::All });
        }
        // Who has most gives nothing up, for nothing of it is over; nobody else loses more than it.
        let (mine, least) = (of(&outcomes, 2000), (3000..3010).map(|uid| of(&outcomes, uid)).min());
        assert!(mine <= 91 && least >= Some(90), "{mine} {least:?}");
        // Others' new ones find room, and the own outcome makes it for the next.
        whole_of(&mut outcomes, &(4000, "new".into()), 0);
        let first = (2000, "web-0".to_owned());
        assert_eq!(outcomes.answered(&first, &outcome("done"), Tick(0)), []);
        assert_eq!(flood(&mut outcomes, 2000, "next"), (1, Crowd::All));
    }

    #[test]
    fn nobody_has_more_than_half_of_what_others_leave() {
        let mut outcomes = Outcomes::default();
        let mut floods = |uid| {
            let all: Vec<_> = (0..100).map(|n| flood(&mut outcomes, uid, &format!("web{n}"))).collect();
            (all.iter().map(|(count, _)| count).sum::<usize>(), all[99])
        };
        for (uid, has) in [(2000, 500), (3000, 250), (4000, 125), (5000, 63), (6000, 31)] {
            assert_eq!(floods(uid), (has, (0, Crowd::OfUser(has))));
        }
        // Whoever comes last has no room only where the whole is full of others, ten users and more.
        let late: usize = (7000..7006).map(|uid| floods(uid).0).sum();
        assert_eq!((late, floods(8000).0), (31, 0));
        assert_eq!(outcomes.all.len(), 1000);
        assert_eq!(known(&mut outcomes, "r", 0), Some(Repeated::Full(Crowd::All)));
        outcomes.answered(&(2000, "web0-0".into()), &outcome("done"), Tick(0));
        assert_eq!(known(&mut outcomes, "r", 0), None, "what is over makes room");
    }

    #[test]
    fn slots_that_are_free_are_found_again() {
        let mut outcomes = Outcomes::default();
        let record =
            |id: &str, seq, tick, text| RequestRecord { seq, stamp: stamp("b", 0, tick), ..sample(id, text) };
        let kept = vec![
            (0, record("old", 1, 0, Some("old"))),
            (4, record("twice", 2, DAY, Some("first"))),
            (2, record("twice", 3, DAY, Some("second"))),
            (5, record("begun", 3, DAY, None)),
        ];
        outcomes.restore(kept, &stamp("b", 0, DAY + 1));
        assert_eq!(known(&mut outcomes, "twice", DAY), Some(Repeated::Outcome(outcome("second"))));
        assert_eq!((known(&mut outcomes, "old", DAY), known(&mut outcomes, "begun", DAY)), (None, None));
        let mut free = outcomes.free.clone();
        free.sort_unstable();
        assert_eq!((free, outcomes.unused), (vec![0, 1, 3, 4, 5], 6));
    }
}
