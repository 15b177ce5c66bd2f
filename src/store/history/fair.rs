//! Which entries stay where there is no room for all of them: whoever has most gives way, its oldest first.
//! By age alone, one unit's users could push out what happened to everybody else's with requests of theirs.

use super::scan::number;
use crate::codec::history::{Line, open};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// What stays.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stays {
    /// Whole lines, in the order of their numbers.
    pub(super) lines: Vec<u8>,
    /// The highest number of those that go.
    pub(super) gone: Option<u64>,
    /// It is all of the last file, and nothing else.
    pub(super) only_last: bool,
}

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

/// A unit's entries; supd's own count as one unit's.
#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    /// Which ones, oldest first.
    entries: VecDeque<usize>,
}

/// Every entry, and whose they are.
#[derive(Debug, Default)]
struct All<'a> {
    /// Number and line; empty once it goes.
    lines: Vec<(u64, &'a [u8])>,
    /// How many of them are of the older file.
    old: usize,
    shares: BTreeMap<Option<Cow<'a, str>>, Share>,
    bytes: usize,
}

impl<'a> All<'a> {
    /// Of both files; a number that comes twice is one entry.
    fn of(old: &'a [u8], last: &'a [u8]) -> Self {
        let mut all = Self::default();
        all.read(old);
        all.old = all.lines.len();
        all.read(last);
        all
    }

    fn read(&mut self, file: &'a [u8]) {
        let mut last = self.lines.last().map_or(0, |(seq, _)| *seq);
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            if number(line).is_some_and(|seq| seq <= last) {
                continue;
            }
            let Ok(Line::Entry(head, _)) = open(line) else { continue };
            if head.seq > last {
                last = head.seq;
                let share = self.shares.entry(head.unit).or_default();
                share.entries.push_back(self.lines.len());
                share.bytes += line.len();
                self.bytes += line.len();
                self.lines.push((head.seq, line));
            }
        }
    }

    /// Lets the oldest go of whoever has most: entries, or bytes. Gives its number.
    fn let_go(&mut self, by_count: bool) -> Option<u64> {
        let weight = |share: &Share| if by_count { share.entries.len() } else { share.bytes };
        let most = self
            .shares
            .values_mut()
            .max_by_key(|share| (weight(share), Reverse(share.entries.front().copied())))?;
        let (seq, line) = &mut self.lines[most.entries.pop_front()?];
        most.bytes -= line.len();
        self.bytes -= line.len();
        *line = &[];
        Some(*seq)
    }
}

/// Chooses from two files, the older one first.
pub(super) fn choose(old: &[u8], last: &[u8], room: Room) -> Stays {
    let mut all = All::of(old, last);
    let (mut left, mut gone) = (all.lines.len(), None);
    while left > room.entries || all.bytes > room.bytes {
        let Some(seq) = all.let_go(left > room.entries) else { break };
        left -= 1;
        gone = gone.max(Some(seq));
    }
    let is_gone = |(_, line): &(u64, &[u8])| line.is_empty();
    let (old, last) = all.lines.split_at(all.old);
    let only_last = old.iter().all(is_gone) && !last.iter().any(is_gone);
    let lines: Vec<&[u8]> = all.lines.iter().map(|(_, line)| *line).collect();
    Stays { lines: lines.concat(), gone, only_last }
}

#[cfg(test)]
mod tests {
    use super::super::scan::walk;
    use super::*;
    use crate::codec::history::seal;

    fn file(entries: &[(u64, &str, usize)]) -> String {
        let line = |(seq, unit, long): &(u64, &str, usize)| {
            let unit = if unit.is_empty() { "null".into() } else { format!("\"{unit}\"") };
            seal(&format!("{{\"seq\":{seq},\"unit\":{unit},\"cause\":\"{}\"}}", "x".repeat(*long)))
        };
        entries.iter().map(line).collect()
    }

    fn stays(old: &str, last: &str, entries: usize, bytes: usize) -> (Vec<u64>, Option<u64>, bool) {
        let Stays { lines, gone, only_last } =
            choose(old.as_bytes(), last.as_bytes(), Room { entries, bytes });
        let (mut seqs, mut last) = (Vec::new(), 0);
        walk(&lines, &mut last, |head, _| {
            seqs.push(head.seq);
            true
        });
        (seqs, gone, only_last)
    }

    #[test]
    fn of_one_unit_the_newest_stay() {
        let (one, two) = (file(&[(1, "a", 9), (2, "a", 9)]), file(&[(2, "a", 9), (3, "a", 9), (5, "a", 9)]));
        let last = file(&[(3, "a", 9), (5, "a", 9)]);
        assert_eq!(stays(&one, &two, 4, 10_000), (vec![1, 2, 3, 5], None, false), "each once");
        assert_eq!(stays(&one, &last, 2, 10_000), (vec![3, 5], Some(2), true));
        assert_eq!(stays("", &last, 2, 10_000), (vec![3, 5], None, true));
        assert_eq!(stays(&one, &two, 4, two.len()), (vec![2, 3, 5], Some(1), false));
        assert_eq!(stays(&one, &two, 0, 0), (vec![], Some(5), false));
        assert_eq!(stays("", "", 4, 4), (vec![], None, true));
    }

    #[test]
    fn whoever_has_most_gives_way() {
        let mut entries = vec![(1, "a", 9), (2, "b", 9), (3, "", 9), (4, "b", 9)];
        entries.extend((5..105).map(|seq| (seq, "c", 9)));
        assert_eq!(
            stays("", &file(&entries), 7, 100_000),
            (vec![1, 2, 3, 4, 102, 103, 104], Some(101), false)
        );
        // Long ones count by their length, whoever has how many.
        let long = file(&[(1, "a", 9), (2, "a", 9), (3, "a", 9), (4, "c", 900), (5, "c", 900), (6, "a", 9)]);
        assert_eq!(stays(&long, "", 9, 1_300), (vec![1, 2, 3, 5, 6], Some(4), false));
    }
}
