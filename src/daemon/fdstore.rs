//! The descriptor store: what workers gave supd to keep (FDSTORE=1 of sd_notify(3)), for whoever runs after
//! them.
//!
//! What one stored belongs to its generation and its SUPD_WORKER: the next run of that worker gets it, and
//! no other. A generation that takes over begins with copies; how that is decided is the machine's.
//!
//! It is one table for all units, and each row of it says everything: unit, generation, worker, name,
//! whether a hang-up ends it, descriptor.

use super::sources::{Source, Sources};
use crate::model::{Generation, UnitName};
use crate::os::closing::Prompt;
use crate::os::open_file::OpenFile;
use mio::Token;
use nix::sys::resource::{Resource, getrlimit};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// No more are held for all units together, however many supd may open: each is looked at when one hangs up.
const MOST: usize = 4096;

/// The names of all that one worker stored, with a colon each, are no longer: they have to fit into one
/// variable of an environment, which Linux limits to 128 KiB.
const NAMES_MAX: usize = 65_536;

/// Whose: SUPD_WORKER of this generation of this unit.
pub type Owner = (UnitName, Generation, u32);

/// Everything that is stored.
#[derive(Debug)]
pub struct FdStore {
    shelves: BTreeMap<Owner, Shelf>,
    limits: Limits,
    /// How many descriptors each unit has here.
    open: BTreeMap<UnitName, usize>,
    /// Numbers of files, never used twice.
    last: u64,
}

/// How many supd can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    /// Descriptors of all units together.
    most: usize,
    /// No descriptor of a higher number is kept: then others are short of them.
    highest: i32,
}

/// What one worker has stored, in an order of open files, so that one is found among thousands.
#[derive(Debug, Default)]
struct Shelf {
    rows: Vec<Row>,
    /// The length of all names.
    names: usize,
    last: u64,
}

#[derive(Debug)]
struct Row {
    /// As they came.
    serial: u64,
    name: String,
    /// It goes when it hangs up.
    poll: bool,
    file: Rc<Held>,
}

/// A descriptor. Several generations may have it.
#[derive(Debug)]
struct Held {
    number: u64,
    file: OpenFile,
    /// Where a hang-up is told.
    token: Option<Token>,
}

/// What became of the descriptors of one message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// So many are kept, or were there already.
    pub kept: usize,
    /// So many were closed, and why.
    pub closed: Option<(usize, String)>,
}

impl Limits {
    /// A quarter of what supd may open is for stores; and of what there is a quarter stays free.
    fn for_descriptors(descriptors: u64) -> Self {
        let number = |part: u64| i32::try_from(part).unwrap_or(i32::MAX);
        let most = usize::try_from(descriptors / 4).unwrap_or(MOST).min(MOST);
        Self { most, highest: number(descriptors / 4 * 3) }
    }
}

impl FdStore {
    /// An empty one, for a process that may open as many as RLIMIT_NOFILE says now.
    #[must_use]
    pub fn of_process() -> Self {
        let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        Self::new(Limits::for_descriptors(soft))
    }

    fn new(limits: Limits) -> Self {
        Self { shelves: BTreeMap::new(), limits, open: BTreeMap::new(), last: 0 }
    }

    /// Keeps what a worker gave, up to `most` of it; one that it has given before is kept once. What is not
    /// kept is closed.
    pub fn keep(
        &mut self,
        owner: &Owner,
        (name, poll): (&str, bool),
        descriptors: Vec<OwnedFd>,
        most: u32,
        sources: &mut Sources,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let _prompt = Prompt::begin();
        let mut left = descriptors.into_iter();
        while let Some(descriptor) = left.next() {
            // Asked first: that a store is full must cost nothing.
            if let Some(why) = self.full(owner, name, &descriptor, most) {
                outcome.closed = Some((1 + left.len(), why));
                break;
            }
            let file = OpenFile::new(descriptor);
            outcome.kept += 1;
            let shelf = self.shelves.entry(owner.clone()).or_default();
            let Err(place) = shelf.find(&file) else { continue };
            self.last += 1;
            let held = Held { number: self.last, token: watched(&file, poll, self.last, sources), file };
            shelf.insert(place, name.to_owned(), poll, Rc::new(held));
            *self.open.entry(owner.0.clone()).or_default() += 1;
        }
        outcome
    }

    /// Why no more is taken.
    fn full(&self, owner: &Owner, name: &str, descriptor: &OwnedFd, most: u32) -> Option<String> {
        let shelf = self.shelves.get(owner);
        let (count, names) = shelf.map_or((0, 0), |shelf| (shelf.rows.len(), shelf.names));
        if count >= usize::try_from(most).unwrap_or(usize::MAX) {
            return Some(format!(
                "the store of worker {} is full: FileDescriptorStoreMax is {most}",
                owner.2
            ));
        }
        if names + name.len() >= NAMES_MAX {
            return Some(format!("the names in the store of worker {} are too long together", owner.2));
        }
        let all: usize = self.open.values().sum();
        let own = self.open.get(&owner.0).copied().unwrap_or_default();
        let Limits { most, highest } = self.limits;
        // So that nobody comes too late: half of what others leave.
        let half = most.saturating_sub(all - own) / 2;
        (own >= half || descriptor.as_raw_fd() >= highest).then(|| {
            format!(
                "supd can keep no more than {own} for this unit, of {all} in all: raise LimitNOFILE of its service"
            )
        })
    }

    /// Closes what a worker has stored under this name. Gives how many.
    pub fn remove(&mut self, owner: &Owner, name: &str, sources: &mut Sources) -> usize {
        self.take(|of, row| of == owner && row.name == name, sources)
    }

    /// A descriptor has hung up: it is of no use to whoever has not said otherwise. Gives whose it was.
    pub fn hung_up(&mut self, number: u64, sources: &mut Sources) -> Option<(Owner, String)> {
        let dies = |row: &Row| row.poll && row.file.number == number;
        let mut rows =
            self.shelves.iter().flat_map(|(of, shelf)| shelf.rows.iter().map(move |row| (of, row)));
        let first = rows.find(|(_, row)| dies(row)).map(|(of, row)| (of.clone(), row.name.clone()))?;
        self.take(|_, row| dies(row), sources);
        Some(first)
    }

    /// What the next run of this worker gets, in the order in which it came.
    #[must_use]
    pub fn of(&self, owner: &Owner) -> Vec<(&str, BorrowedFd<'_>)> {
        let mut rows: Vec<&Row> =
            self.shelves.get(owner).map_or(&[][..], |shelf| &shelf.rows).iter().collect();
        rows.sort_by_key(|row| row.serial);
        rows.into_iter().map(|row| (row.name.as_str(), row.file.file.as_fd())).collect()
    }

    /// What all workers of a unit have stored, in the order in which each of them gave it: whose, its name, and
    /// whether a hang-up ends it.
    #[must_use]
    pub fn of_unit(&self, unit: &UnitName) -> Vec<((Generation, u32), &str, bool, BorrowedFd<'_>)> {
        let its = self.shelves.range((unit.clone(), Generation(0), 0)..);
        let its = its.take_while(|((of, ..), _)| of == unit);
        let rows = its.flat_map(|((_, generation, worker), shelf)| {
            let mut rows: Vec<&Row> = shelf.rows.iter().collect();
            rows.sort_by_key(|row| row.serial);
            rows.into_iter().map(|row| ((*generation, *worker), &*row.name, row.poll, row.file.file.as_fd()))
        });
        rows.collect()
    }

    /// How many a generation has stored.
    #[must_use]
    pub fn count(&self, unit: &UnitName, generation: Generation) -> usize {
        let its = self.shelves.range((unit.clone(), generation, 0)..=(unit.clone(), generation, u32::MAX));
        its.map(|(_, shelf)| shelf.rows.len()).sum()
    }

    /// Gives a generation of so many workers copies of what another has stored: the same worker's, and those
    /// of one that has no counterpart to another. No worker gets more than `most`.
    pub fn bequeath(
        &mut self,
        unit: &UnitName,
        (from, to): (Generation, Generation),
        (workers, most): (u32, u32),
    ) {
        let its = self.shelves.range((unit.clone(), from, 0)..=(unit.clone(), from, u32::MAX));
        let mut rows: Vec<(u32, u64, String, bool, Rc<Held>)> = Vec::new();
        for ((.., index), shelf) in its {
            let copy = |row: &Row| (*index, row.serial, row.name.clone(), row.poll, row.file.clone());
            rows.extend(shelf.rows.iter().map(copy));
        }
        rows.sort_by_key(|row| (row.0, row.1));
        for (index, _, name, poll, held) in rows {
            let shelf = self.shelves.entry((unit.clone(), to, index % workers.max(1))).or_default();
            let room = shelf.rows.len() < usize::try_from(most).unwrap_or(usize::MAX)
                && shelf.names + name.len() < NAMES_MAX;
            if let (true, Err(place)) = (room, shelf.find(&held.file)) {
                shelf.insert(place, name, poll, held);
            }
        }
    }

    /// Closes what all but these generations of a unit have stored.
    pub fn close_except(&mut self, unit: &UnitName, keep: &[Generation], sources: &mut Sources) {
        self.take(|(of, generation, _), _| of == unit && !keep.contains(generation), sources);
    }

    /// Takes out what `goes`, and closes what nobody else has. Gives how many rows it was.
    fn take(&mut self, goes: impl Fn(&Owner, &Row) -> bool, sources: &mut Sources) -> usize {
        let (mut gone, mut count) = (Vec::new(), 0);
        for (owner, shelf) in &mut self.shelves {
            if !shelf.rows.iter().any(|row| goes(owner, row)) {
                continue;
            }
            let (out, stay) = std::mem::take(&mut shelf.rows).into_iter().partition(|row| goes(owner, row));
            shelf.rows = stay;
            for Row { name, file, .. } in out {
                shelf.names -= name.len() + 1;
                count += 1;
                gone.push((owner.0.clone(), file));
            }
        }
        self.shelves.retain(|_, shelf| !shelf.rows.is_empty());
        let _prompt = (!gone.is_empty()).then(Prompt::begin);
        for (unit, file) in gone {
            let Some(held) = Rc::into_inner(file) else { continue };
            if let Some(token) = held.token {
                sources.unwatch(token, &held.file);
            }
            if let Some(open) = self.open.get_mut(&unit) {
                *open -= 1;
            }
        }
        self.open.retain(|_, open| *open > 0);
        count
    }
}

impl Shelf {
    /// Where it is, or where it would be.
    fn find(&self, file: &OpenFile) -> Result<usize, usize> {
        self.rows.binary_search_by(|row| row.file.file.order(file))
    }

    fn insert(&mut self, place: usize, name: String, poll: bool, file: Rc<Held>) {
        self.names += name.len() + 1;
        self.last += 1;
        self.rows.insert(place, Row { serial: self.last, name, poll, file });
    }
}

/// What cannot be waited for is kept as it is, as systemd keeps it.
fn watched(file: &OpenFile, poll: bool, number: u64, sources: &mut Sources) -> Option<Token> {
    if !poll || !file.may_be_watched() {
        return None;
    }
    sources.watch_hang_up(file, Source::Stored(number)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const MANY: Limits = Limits { most: 1000, highest: i32::MAX };

    fn owner(unit: &str, generation: u64, worker: u32) -> Owner {
        (UnitName::new(unit).unwrap(), Generation(generation), worker)
    }

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn names(store: &FdStore, owner: &Owner) -> Vec<String> {
        store.of(owner).into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    fn give(store: &mut FdStore, owner: &Owner, name: &str, sources: &mut Sources) -> Outcome {
        store.keep(owner, (name, true), vec![null()], 100, sources)
    }

    #[test]
    fn no_unit_takes_more_than_half_of_what_others_leave() {
        let mut sources = Sources::new().unwrap();
        let mut store = FdStore::new(Limits { most: 16, ..MANY });
        for (unit, most) in [("a", 8), ("b", 4), ("c", 2), ("d", 1), ("e", 0), ("a", 0)] {
            let its = owner(unit, 1, 0);
            let before = store.of(&its).len();
            let outcome = store.keep(&its, ("x", true), (0..50).map(|_| null()).collect(), 100, &mut sources);
            assert_eq!((unit, outcome.kept), (unit, most));
            assert_eq!(store.of(&its).len(), before + most);
            let (closed, why) = outcome.closed.unwrap();
            assert_eq!(closed, 50 - most);
            assert!(why.contains("LimitNOFILE"), "{why}");
        }
        // What is given back is for others.
        store.close_except(&owner("a", 1, 0).0, &[], &mut sources);
        assert_eq!(give(&mut store, &owner("e", 1, 0), "x", &mut sources).kept, 1);
    }

    #[test]
    fn the_last_descriptors_are_not_for_stores() {
        let mut sources = Sources::new().unwrap();
        let mut store = FdStore::new(Limits { highest: 0, ..MANY });
        assert_eq!(give(&mut store, &owner("a", 1, 0), "x", &mut sources).kept, 0);
        assert_eq!(Limits::for_descriptors(1024), Limits { most: 256, highest: 768 });
        assert_eq!(Limits::for_descriptors(u64::MAX), Limits { most: MOST, highest: i32::MAX });
    }

    #[test]
    fn names_fit_into_one_variable() {
        let mut sources = Sources::new().unwrap();
        let mut store = FdStore::new(MANY);
        let (its, long) = (owner("a", 1, 0), "x".repeat(255));
        let kept = (0..300).filter(|_| give(&mut store, &its, &long, &mut sources).kept == 1).count();
        // Of all workers together one may get too many by that.
        assert_eq!(kept, 100);
        let kept = (0..300)
            .filter(|_| store.keep(&its, (&long, true), vec![null()], 500, &mut sources).kept == 1)
            .count();
        assert_eq!(100 + kept, NAMES_MAX / 256);
        store.remove(&its, &long, &mut sources);
        assert_eq!(give(&mut store, &its, &long, &mut sources).kept, 1);
    }

    #[test]
    fn copies_are_of_each_worker_and_cost_no_descriptor() {
        let mut sources = Sources::new().unwrap();
        let mut store = FdStore::new(MANY);
        let unit = owner("a", 1, 0).0;
        for (worker, name) in [(0, "a0"), (1, "a1"), (2, "a2"), (0, "b0"), (2, "b2")] {
            give(&mut store, &owner("a", 1, worker), name, &mut sources);
        }
        store.bequeath(&unit, (Generation(1), Generation(2)), (2, 3));
        assert_eq!(names(&store, &owner("a", 2, 0)), ["a0", "b0", "a2"], "no more than there may be");
        assert_eq!(names(&store, &owner("a", 2, 1)), ["a1"]);
        assert_eq!((store.count(&unit, Generation(1)), store.count(&unit, Generation(2))), (5, 4));
        assert_eq!(store.open[&unit], 5);
        // Each goes its own way from here.
        assert_eq!(store.remove(&owner("a", 2, 0), "a0", &mut sources), 1);
        assert_eq!(names(&store, &owner("a", 1, 0)), ["a0", "b0"]);
        store.close_except(&unit, &[Generation(2)], &mut sources);
        assert_eq!((store.count(&unit, Generation(1)), store.open[&unit]), (0, 3));
        store.close_except(&unit, &[], &mut sources);
        assert!(store.open.is_empty() && store.shelves.is_empty());
    }

    #[test]
    fn who_hangs_up_is_told_once_and_gone_everywhere() {
        let mut sources = Sources::new().unwrap();
        let mut store = FdStore::new(MANY);
        let its = owner("a", 1, 0);
        let (one, other) = UnixStream::pair().unwrap();
        store.keep(&its, ("x", true), vec![one.into()], 9, &mut sources);
        store.bequeath(&its.0, (Generation(1), Generation(2)), (1, 9));
        drop(other);
        let [Source::Stored(number)] = sources.wait(None).unwrap().sources[..] else { panic!("no hang-up") };
        assert_eq!(store.hung_up(number, &mut sources), Some((its, "x".to_owned())));
        assert!(store.shelves.is_empty() && store.open.is_empty());
        assert_eq!(store.hung_up(number, &mut sources), None);
    }
}
