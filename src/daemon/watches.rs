//! Who follows what happens, and how far each has come.
//!
//! Nothing is kept for a slow one: what is recent is held once for all, in a bounded ring, and whoever
//! is behind that is read to from the disk, a page at a time, when it has taken the one before.

use crate::codec::history::Head;
use crate::model::{ClientId, UnitName};
use crate::store::history::Query;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};

/// What is recent: so many entries, and so many bytes.
const RECENT_MAX: usize = 256;
const RECENT_BYTES: usize = 128 * 1024;
/// Bytes of entries in one reply; a child's answer has a bound.
pub const PAGE_BYTES: usize = 56 * 1024;
/// Entries in one reply.
const PAGE_ENTRIES: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing for it, as far as is known.
    Idle,
    /// In the queue.
    Queued,
    /// A child reads for it.
    Reading,
    /// It has not taken what it was told last.
    Stuck,
}

#[derive(Debug)]
struct Watcher {
    unit: Option<UnitName>,
    cursor: u64,
    greeted: bool,
    /// Nothing is known of its unit: it may be mistyped.
    doubtful: bool,
    turn: Turn,
}

#[derive(Debug)]
struct Recent {
    seq: u64,
    unit: Option<String>,
    json: Box<RawValue>,
}

/// What is to be done for one of them.
#[derive(Debug)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// To be told this, and where to go on.
    Tell(Vec<Box<RawValue>>, u64),
    /// To be read to from the disk.
    Read(Query),
    /// To be asked of the disk: whether anything ever happened to this unit.
    Ask(UnitName),
    /// It comes from a future that this supd has not seen: its cursor was this.
    Ahead(u64),
}

/// All of them.
#[derive(Debug, Default)]
pub struct Watches {
    watchers: BTreeMap<ClientId, Watcher>,
    queue: VecDeque<ClientId>,
    recent: VecDeque<Recent>,
    bytes: usize,
    /// Everything above this number is in `recent`.
    from: u64,
}

impl Watches {
    /// One more, from after a number; `told` is the last of all.
    pub fn add(&mut self, client: ClientId, unit: Option<UnitName>, after: Option<u64>, told: u64) {
        if self.watchers.is_empty() {
            self.forget(told);
        }
        let cursor = after.unwrap_or(told);
        self.watchers
            .insert(client, Watcher { unit, cursor, greeted: false, doubtful: false, turn: Turn::Queued });
        self.queue.push_back(client);
    }

    /// Nothing is known of the unit that it asked for; or its history has something after all.
    pub fn doubt(&mut self, client: ClientId, doubtful: bool) {
        if let Some(watcher) = self.watchers.get_mut(&client) {
            watcher.doubtful = doubtful;
        }
        self.go_on(client);
    }

    /// One is gone. Whether it was the last.
    pub fn remove(&mut self, client: ClientId) -> bool {
        self.watchers.remove(&client).is_some() && self.watchers.is_empty()
    }

    /// Up to where each has been told.
    pub fn cursors(&self) -> impl Iterator<Item = (ClientId, u64)> {
        self.watchers.iter().filter(|(_, its)| its.greeted).map(|(client, its)| (*client, its.cursor))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.watchers.len()
    }

    /// Whether somebody is to be told something now.
    #[must_use]
    pub fn pending(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Nothing is known of what is numbered up to this.
    fn forget(&mut self, seq: u64) {
        self.recent.clear();
        (self.bytes, self.from) = (0, self.from.max(seq));
    }

    /// An entry is written. Without its text it is on the disk only.
    pub fn publish(&mut self, seq: u64, json: Option<Box<str>>) {
        let raw = json.and_then(|json| RawValue::from_string(json.into()).ok());
        match raw {
            None => self.forget(seq),
            Some(json) => {
                let head = serde_json::from_str::<Head<'_>>(json.get()).ok();
                let unit = head.and_then(|head| Some(head.unit?.into_owned()));
                self.bytes += json.get().len();
                self.recent.push_back(Recent { seq, unit, json });
            }
        }
        while self.recent.len() > RECENT_MAX || self.bytes > RECENT_BYTES {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.bytes -= oldest.json.get().len();
            self.from = oldest.seq;
        }
        let idle = self.watchers.iter_mut().filter(|(_, watcher)| watcher.turn == Turn::Idle);
        for (client, watcher) in idle {
            watcher.turn = Turn::Queued;
            self.queue.push_back(*client);
        }
    }

    /// Whose turn it is.
    pub fn pop(&mut self) -> Option<ClientId> {
        self.queue.pop_front()
    }

    /// It has not taken what it was told last.
    pub fn stuck(&mut self, client: ClientId) {
        self.set(client, Turn::Stuck);
    }

    /// It has by now, or a child has read for it. Whether it is still there.
    pub fn go_on(&mut self, client: ClientId) -> bool {
        let Some(watcher) = self.watchers.get_mut(&client) else { return false };
        if matches!(watcher.turn, Turn::Stuck | Turn::Reading | Turn::Idle) {
            watcher.turn = Turn::Queued;
            self.queue.push_back(client);
        }
        true
    }

    fn set(&mut self, client: ClientId, turn: Turn) {
        if let Some(watcher) = self.watchers.get_mut(&client) {
            watcher.turn = turn;
        }
    }

    /// It was told everything up to this. Whether it is still there.
    pub fn has(&mut self, client: ClientId, cursor: u64) -> bool {
        let Some(watcher) = self.watchers.get_mut(&client) else { return false };
        watcher.cursor = watcher.cursor.max(cursor);
        true
    }

    /// Whether it has never been told anything; from now on it has.
    pub fn greet(&mut self, client: ClientId) -> bool {
        self.watchers.get_mut(&client).is_some_and(|watcher| !std::mem::replace(&mut watcher.greeted, true))
    }

    /// What to do for it; `told` is the last number of all.
    pub fn next(&mut self, client: ClientId, told: u64) -> Next {
        let Some(watcher) = self.watchers.get_mut(&client) else { return Next::Nothing };
        if let (true, Some(unit)) = (watcher.doubtful, &watcher.unit) {
            watcher.turn = Turn::Reading;
            return Next::Ask(unit.clone());
        }
        if watcher.cursor > told && !watcher.greeted {
            watcher.turn = Turn::Idle;
            let ahead = std::mem::replace(&mut watcher.cursor, told);
            return Next::Ahead(ahead);
        }
        if watcher.cursor < self.from {
            watcher.turn = Turn::Reading;
            return Next::Read(Query {
                unit: watcher.unit.as_ref().map(ToString::to_string),
                after: watcher.cursor,
                entries_max: PAGE_ENTRIES,
                bytes_max: PAGE_BYTES,
                ..Query::default()
            });
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        watcher.turn = Turn::Idle;
        let after = watcher.cursor;
        for recent in self.recent.iter().filter(|recent| recent.seq > after) {
            if watcher.unit.is_none() || watcher.unit.as_ref().map(UnitName::as_str) == recent.unit.as_deref()
            {
                bytes += recent.json.get().len() + 1;
                if bytes > PAGE_BYTES && !entries.is_empty() {
                    watcher.turn = Turn::Queued;
                    self.queue.push_back(client);
                    break;
                }
                entries.push(recent.json.clone());
            }
            watcher.cursor = recent.seq;
        }
        let greeting = !std::mem::replace(&mut watcher.greeted, true);
        if entries.is_empty() && !greeting { Next::Nothing } else { Next::Tell(entries, watcher.cursor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, unit: &str) -> Option<Box<str>> {
        Some(format!("{{\"seq\":{seq},\"unit\":\"{unit}\"}}").into())
    }

    /// What is told to whoever's turn it is.
    fn told(watches: &mut Watches, last: u64) -> Vec<(u64, Vec<u64>, u64)> {
        let mut all = Vec::new();
        while let Some(client) = watches.pop() {
            if let Next::Tell(entries, cursor) = watches.next(client, last) {
                let seq = |raw: &RawValue| serde_json::from_str::<Head<'_>>(raw.get()).unwrap().seq;
                all.push((client.0, entries.iter().map(|raw| seq(raw)).collect(), cursor));
            }
        }
        all
    }

    #[test]
    fn everyone_is_greeted_and_told_what_is_new_once() {
        let mut watches = Watches::default();
        watches.add(ClientId(1), None, None, 7);
        watches.add(ClientId(2), UnitName::new("api").ok(), None, 7);
        assert_eq!(told(&mut watches, 7), [(1, vec![], 7), (2, vec![], 7)]);
        assert!(!watches.pending());
        watches.publish(8, entry(8, "web"));
        watches.publish(9, entry(9, "api"));
        assert_eq!(told(&mut watches, 9), [(1, vec![8, 9], 9), (2, vec![9], 9)]);
        watches.publish(10, entry(10, "web"));
        assert_eq!(told(&mut watches, 10), [(1, vec![10], 10)]);
        assert!(!watches.remove(ClientId(1)) && watches.remove(ClientId(2)) && !watches.remove(ClientId(2)));
    }

    #[test]
    fn whoever_is_behind_is_read_to_and_then_told_the_rest() {
        let mut watches = Watches::default();
        watches.add(ClientId(1), None, Some(3), 7);
        assert_eq!(watches.pop(), Some(ClientId(1)));
        let Next::Read(query) = watches.next(ClientId(1), 7) else { panic!("it is behind") };
        assert_eq!(query.after, 3);
        watches.publish(8, entry(8, "web"));
        assert!(!watches.pending(), "one read at a time");
        assert!(watches.has(ClientId(1), 7));
        watches.go_on(ClientId(1));
        assert!(watches.greet(ClientId(1)));
        assert_eq!(told(&mut watches, 8), [(1, vec![8], 8)]);
    }

    #[test]
    fn a_slow_one_holds_no_memory() {
        let mut watches = Watches::default();
        watches.add(ClientId(1), None, None, 0);
        assert_eq!(told(&mut watches, 0).len(), 1);
        for seq in 1..=100_000 {
            watches.publish(seq, entry(seq, "web"));
            if let Some(client) = watches.pop() {
                watches.stuck(client);
            }
        }
        assert!(watches.recent.len() <= RECENT_MAX && watches.bytes <= RECENT_BYTES);
        assert!(watches.queue.is_empty());
        watches.go_on(ClientId(1));
        watches.pop();
        let Next::Read(query) = watches.next(ClientId(1), 100_000) else { panic!("it is behind") };
        assert_eq!(query.after, 0);
    }

    #[test]
    fn what_was_begun_before_anybody_listened_is_on_the_disk() {
        let mut watches = Watches::default();
        watches.add(ClientId(1), None, None, 5);
        assert_eq!(told(&mut watches, 5).len(), 1);
        watches.publish(6, None);
        assert_eq!(watches.pop(), Some(ClientId(1)));
        assert!(matches!(watches.next(ClientId(1), 6), Next::Read(query) if query.after == 5));
    }

    #[test]
    fn a_unit_of_which_nothing_is_known_is_asked_for_first() {
        let mut watches = Watches::default();
        watches.add(ClientId(1), UnitName::new("old").ok(), None, 7);
        watches.doubt(ClientId(1), true);
        assert_eq!(watches.pop(), Some(ClientId(1)));
        assert!(matches!(watches.next(ClientId(1), 7), Next::Ask(unit) if unit.as_str() == "old"));
        assert!(!watches.pending(), "one look at a time");
        watches.doubt(ClientId(1), false);
        assert_eq!(told(&mut watches, 7), [(1, vec![], 7)]);
    }

    #[test]
    fn a_cursor_of_the_future_is_said() {
        let mut watches = Watches::default();
        watches.add(ClientId(1), None, Some(99), 5);
        watches.pop();
        assert!(matches!(watches.next(ClientId(1), 5), Next::Ahead(99)));
        watches.greet(ClientId(1));
        watches.publish(6, entry(6, "web"));
        assert_eq!(told(&mut watches, 6), [(1, vec![6], 6)]);
    }
}
