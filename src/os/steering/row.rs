//! Which slot has which place in the kernel's row of sockets.
//!
//! No system call is in here: this is what the kernel does (net/core/sock_reuseport.c), counted along.
//! Whoever begins to listen (TCP) or is bound (UDP) is the last; whoever leaves, by close, by
//! shutdown(2) or because it listens no more, gives its place to the last one.

use super::Slot;
use std::collections::BTreeSet;

/// So many rows are thought through at most.
const ROWS_MAX: usize = 1_024;

/// The members of one SO_REUSEPORT group, in the order of the kernel's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row(Vec<Slot>);

impl Row {
    /// As another supd has counted it.
    #[must_use]
    pub fn of(slots: Vec<Slot>) -> Self {
        Self(slots)
    }

    /// The slots, in the order of the kernel's numbers.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.0.iter().copied()
    }

    /// A slot is the last from here on. One that is in the row already left and came back, while
    /// nobody looked.
    pub fn join(&mut self, slot: Slot) {
        self.leave(slot);
        self.0.push(slot);
    }

    /// A slot has left; the last one has its place now. Whether it was there.
    pub fn leave(&mut self, slot: Slot) -> bool {
        let found = self.index(slot);
        if let Some(at) = found {
            self.0.swap_remove(at);
        }
        found.is_some()
    }

    /// The kernel's number of a slot.
    #[must_use]
    pub fn index(&self, slot: Slot) -> Option<usize> {
        self.0.iter().position(|known| *known == slot)
    }

    /// A slot has another number of ours from here on.
    pub fn rename(&mut self, from: Slot, to: Slot) {
        self.0.iter_mut().filter(|slot| **slot == from).for_each(|slot| *slot = to);
    }

    /// Makes it known again who has which place, where nobody looked while `movers` left and joined: those that
    /// were there have left once at least, and the second half says whether they are there now. Gives who has to
    /// be taken out for that, one after the other, and the row that is left then. What costs the least is taken.
    #[must_use]
    pub fn settle(&self, movers: &[(Slot, bool)], cost: impl Fn(Slot) -> u8) -> (Vec<Slot>, Self) {
        let Some(mut rows) = self.possible(movers) else { return self.clear(movers, cost) };
        let mut out = Vec::new();
        loop {
            let Some(first) = rows.first() else { return (out, Self::default()) };
            let differ =
                rows.iter().flat_map(|row| row.0.iter().zip(&first.0)).filter(|(one, other)| one != other);
            let unsure = differ.flat_map(|(one, other)| [*one, *other]);
            let Some(next) = unsure.min_by_key(|slot| (cost(*slot), *slot)) else {
                return (out, first.clone());
            };
            out.push(next);
            rows = rows
                .into_iter()
                .map(|mut row| {
                    row.leave(next);
                    row
                })
                .collect();
        }
    }

    /// Every row that it may be by now. `None`: too many to think them through.
    fn possible(&self, movers: &[(Slot, bool)]) -> Option<BTreeSet<Self>> {
        let there = movers.iter().map(|(slot, _)| *slot).filter(|slot| self.index(*slot).is_some());
        // Each with those that have not left yet.
        let begin = (self.clone(), there.collect::<Vec<Slot>>());
        let (mut seen, mut new) = (BTreeSet::from([begin.clone()]), vec![begin]);
        while let Some((row, stayed)) = new.pop() {
            for (slot, _) in movers {
                let (mut row, mut stayed) = (row.clone(), stayed.clone());
                if row.leave(*slot) {
                    stayed.retain(|other| other != slot);
                } else {
                    row.join(*slot);
                }
                let next = (row, stayed);
                if seen.contains(&next) {
                    continue;
                }
                if seen.len() == ROWS_MAX {
                    return None;
                }
                seen.insert(next.clone());
                new.push(next);
            }
        }
        let is_now = |row: &Self| movers.iter().all(|(slot, there)| row.index(*slot).is_some() == *there);
        let rows = seen.into_iter().filter(|(row, stayed)| stayed.is_empty() && is_now(row));
        Some(rows.map(|(row, _)| row).collect())
    }

    /// All go but the one that costs the most.
    fn clear(&self, movers: &[(Slot, bool)], cost: impl Fn(Slot) -> u8) -> (Vec<Slot>, Self) {
        let mut all: BTreeSet<Slot> = self.0.iter().copied().collect();
        for (slot, there) in movers {
            let _ = if *there { all.insert(*slot) } else { all.remove(slot) };
        }
        let mut out = Vec::from_iter(all);
        out.sort_by_key(|slot| cost(*slot));
        let stays = out.pop();
        (out, Self(stays.into_iter().collect()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Row;

    fn order(row: &Row) -> Vec<u8> {
        row.0.clone()
    }

    #[test]
    fn the_last_one_takes_the_place_of_whoever_leaves() {
        let mut row = Row::default();
        [4, 1, 2, 3].into_iter().for_each(|slot| row.join(slot));
        assert!(row.leave(1));
        assert_eq!(order(&row), [4, 3, 2]);
        assert!(row.leave(2));
        assert_eq!(order(&row), [4, 3]);
        assert!(!row.leave(2));
        assert_eq!((row.index(4), row.index(3), row.index(2), row.len()), (Some(0), Some(1), None, 2));
    }

    #[test]
    fn who_listens_again_is_last() {
        let mut row = Row::default();
        [0, 1, 2].into_iter().for_each(|slot| row.join(slot));
        row.join(0);
        assert_eq!(order(&row), [2, 1, 0]);
        row.join(0);
        assert_eq!(order(&row), [2, 1, 0], "the last one that comes again changes nothing");
        row.rename(1, 7);
        assert_eq!(order(&row), [2, 7, 0]);
        assert!(!row.is_empty() && Row::default().is_empty());
    }

    /// Random histories, each of which ends in a row that is known: whoever left and came, in whatever order.
    #[test]
    fn a_row_is_known_again_whatever_happened_while_nobody_looked() {
        let mut dice = 1_u64;
        let mut below = |limit: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(dice >> 33).unwrap() % limit
        };
        let (mut untouched, mut most) = (0, 0);
        for _ in 0..3_000 {
            let length = 1 + below(7);
            let mut before = Row::default();
            (0..length).for_each(|slot| before.join(u8::try_from(slot).unwrap()));
            let mut now = before.clone();
            let mut seen: Vec<u8> = Vec::new();
            for _ in 0..1 + below(8) {
                // The last two are not there at first.
                let slot = u8::try_from(below(length + 2)).unwrap();
                if seen.len() == 3 && !seen.contains(&slot) {
                    continue;
                }
                if !now.leave(slot) {
                    now.join(slot);
                }
                if !seen.contains(&slot) {
                    seen.push(slot);
                }
            }
            // Who was out before and is out again is not seen.
            let was = |slot: &u8| before.index(*slot).is_some();
            if seen.iter().any(|slot| !was(slot) && now.index(*slot).is_none()) {
                continue;
            }
            let movers: Vec<(u8, bool)> =
                seen.iter().map(|slot| (*slot, now.index(*slot).is_some())).collect();
            let cost = |slot| u8::from(!seen.contains(&slot));
            let (out, row) = before.settle(&movers, cost);
            out.iter().for_each(|slot| assert!(now.leave(*slot)));
            assert_eq!(now, row, "{before:?} {movers:?} {out:?}");
            untouched += u32::from(movers.len() > 1 && out.is_empty());
            most = most.max(out.len());
            if movers.len() == 1 {
                assert_eq!(out, [0; 0], "one that has moved has one place");
            }
        }
        assert!(untouched > 50 && most > 2, "{untouched} {most}");
    }

    #[test]
    fn who_has_not_moved_is_left_alone_where_its_place_is_known() {
        let mut row = Row::default();
        [0, 1, 2].into_iter().for_each(|slot| row.join(slot));
        let both = [(1, true), (2, true)];
        let cost = |slot| [3, 2, 0][usize::from(slot)];
        let (out, left) = row.settle(&both, cost);
        assert_eq!((out, order(&left)), (vec![2], vec![0, 1]));
        // Of these it is not known whether 0 was moved before 1 came back; 1 costs less than 0.
        let mut row = Row::default();
        [1, 2, 0].into_iter().for_each(|slot| row.join(slot));
        let (out, left) = row.settle(&both, cost);
        assert_eq!((out, order(&left)), (vec![2, 1], vec![0]));
        // Too many to think through.
        let mut row = Row::default();
        (0..16).for_each(|slot| row.join(slot));
        let all: Vec<(u8, bool)> = (0..16).map(|slot| (slot, true)).collect();
        let (out, left) = row.settle(&all, |slot| u8::from(slot == 5));
        assert_eq!((out.len(), order(&left)), (15, vec![5]));
    }
}
