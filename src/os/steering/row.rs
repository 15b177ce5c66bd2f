//! Which slot has which place in the kernel's row of sockets.
//!
//! No system call is in here: this is what the kernel does (net/core/sock_reuseport.c), counted along.
//! Whoever begins to listen (TCP) or is bound (UDP) is the last; whoever leaves, by close, by
//! shutdown(2) or because it listens no more, gives its place to the last one.

use super::Slot;

/// The members of one SO_REUSEPORT group, in the order of the kernel's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row(Vec<Slot>);

impl Row {
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
}
