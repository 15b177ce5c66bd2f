//! `History` and `Watch`; and what no record says, told to the history.

use super::chores::Chore;
use super::control::Call;
use super::crashes::{Crash, Crashes};
use super::hands::Hands;
use super::watches::{Next, PAGE_BYTES, Watches};
use crate::codec::history;
use crate::codec::json::{ByView, FORMAT, HistoryEntry, RawEventsView, RawHistoryView};
use crate::codec::ledger::Course;
use crate::codec::span;
use crate::codec::varlink::{self, Method};
use crate::machine::Machine;
use crate::model::ledger::Happening;
use crate::model::{ClientId, ExitStatus, Generation, Label, Reply, Tick, UnitName};
use crate::os::clock;
use crate::os::task::Task;
use crate::store::history::{Found, Page, Query, read};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::time::Duration;

/// How many entries are told to who does not say how many.
const ENTRIES: u64 = 100;
/// No more in one reply, however short.
const ENTRIES_MAX: u64 = 1_000;
/// How many children may read for `History` at once; for root and supd's own user a few more.
const READS_MAX: usize = 4;
const READS_RESERVE: usize = 2;
/// How many may read for `Watch`.
const CATCHING_UP: usize = 2;
/// How long a child may read.
const READ_BOUND: Duration = Duration::from_secs(30);
/// How many who watch are told something in one turn: a thousand of them must not be in the way.
const TOLD_PER_TURN: usize = 32;

/// On its way into the history, and out of it.
#[derive(Debug, Default)]
pub struct Story {
    /// Workers that fail again and again.
    pub crashes: Crashes,
    /// Who follows what happens.
    pub watches: Watches,
    /// Those of them who wait for a child that reads for another.
    behind: VecDeque<ClientId>,
    /// supd is to end; who asked for it, if that was a client.
    pub ending: Option<Option<ByView>>,
    /// That is a shutdown: it is not to be started again before somebody says so.
    pub stays_away: bool,
}

/// How a swap went, for the record of its end.
pub(super) fn course(unit: &UnitName, happening: &Happening, machine: &Machine) -> Option<Course> {
    let Happening::Ended { swap_id, .. } = happening else { return None };
    let swap = machine.swap(unit, *swap_id)?;
    let release = |generation: Generation| machine.launch(unit, generation)?.release.clone();
    Some(Course {
        from: swap.from,
        from_release: swap.from.and_then(release),
        to: Some(swap.to),
        to_release: release(swap.to),
        ready_ms: swap.ready.map(span::millis),
        switch_us: swap.switch.map(span::micros),
    })
}

/// What supd says of itself when it begins; `boot` is that of the machine.
pub(super) fn began(found: &Found, boot: &str) -> HistoryEntry {
    let ended = |last: &crate::store::history::Last| matches!(&*last.what, "supd-ended" | "reexec");
    let cause = match &found.last {
        Some(last) if found.existed && !ended(last) && last.boot == boot => {
            Some("the one before was killed, or it crashed")
        }
        Some(last) if found.existed && !ended(last) => {
            Some("the one before ended with the machine, which was not shut down in order")
        }
        Some(_) | None => None,
    };
    HistoryEntry { what: "supd-started".into(), cause: cause.map(Into::into), ..HistoryEntry::default() }
}

/// An entry of a request that no record tells of.
pub(super) fn done(verb: &str) -> Option<&'static str> {
    match verb {
        "reload" => Some("reloaded"),
        "kill" => Some("signalled"),
        _ => None,
    }
}

impl Hands {
    /// A request is carried out that no record tells of.
    pub(super) fn tell_done(&mut self, client: ClientId, reply: &Reply) {
        let Some(author) = self.clients.author(client) else { return };
        let Some(what) = done(&author.verb).filter(|_| reply.changed || reply.status == ExitStatus::Done)
        else {
            return;
        };
        let (by, unit) = (Some(history::by(author)), self.clients.unit(client).map(ToString::to_string));
        let cause = Some(history::cut(&reply.text));
        self.recorder.tell(HistoryEntry { what: what.into(), unit, by, cause, ..HistoryEntry::default() });
    }

    /// What was to be a release is none.
    pub(super) fn tell_not_installed(&mut self, unit: &UnitName, label: &Label, client: ClientId, why: &str) {
        self.recorder.tell(HistoryEntry {
            what: "install-failed".into(),
            unit: Some(unit.to_string()),
            by: self.clients.author(client).map(history::by),
            release: Some(label.to_string()),
            cause: Some(history::cut(why)),
            ..HistoryEntry::default()
        });
    }

    /// The files were read again, and something is different.
    pub(super) fn tell_reloaded(&mut self, client: Option<ClientId>, text: &str) {
        let by = client.and_then(|client| self.clients.author(client)).map(history::by);
        let (what, cause) = ("daemon-reload".into(), Some(history::cut(text)));
        self.recorder.tell(HistoryEntry { what, by, cause, ..HistoryEntry::default() });
    }

    /// A unit goes into quarantine; `text` is all that is known of it, the reason first.
    pub(super) fn quarantined(&mut self, unit: &UnitName, text: &str) {
        log::error!("{}", self.recorder.dump(unit, text));
        let (what, cause) = ("quarantined".into(), text.lines().next().map(history::cut));
        let unit = Some(unit.to_string());
        self.recorder.tell(HistoryEntry { what, unit, cause, ..HistoryEntry::default() });
    }

    /// supd ends, as its last word.
    pub(super) fn tell_ended(&mut self) {
        let by = self.story.ending.take().flatten();
        self.recorder.tell(HistoryEntry { what: "supd-ended".into(), by, ..HistoryEntry::default() });
    }

    /// A worker failed by itself.
    pub(super) fn tell_failed(&mut self, unit: &UnitName, generation: Generation, cause: &str, now: Tick) {
        let crash = Crash { unit: unit.clone(), generation, cause: history::cut(cause), times: 1 };
        if let Some(crash) = self.story.crashes.heard(&crash, now) {
            self.tell_crash(crash);
        }
    }

    fn tell_crash(&mut self, crash: Crash) {
        self.recorder.tell(HistoryEntry {
            what: "worker-failed".into(),
            unit: Some(crash.unit.to_string()),
            generation: Some(crash.generation.0),
            cause: Some(crash.cause),
            times: Some(crash.times),
            ..HistoryEntry::default()
        });
    }

    /// Writes what is due, and tells those who watch. Never blocks.
    pub(super) fn tend_history(&mut self, now: Tick) {
        for crash in self.story.crashes.due(now) {
            self.tell_crash(crash);
        }
        for fresh in self.recorder.take_fresh() {
            self.story.watches.publish(fresh.seq, fresh.json);
        }
        for client in self.control.take_drained() {
            self.story.watches.go_on(client);
        }
        for _ in 0..TOLD_PER_TURN {
            let Some(client) = self.story.watches.pop() else { break };
            if self.control.is_behind(client) {
                self.story.watches.stuck(client);
                continue;
            }
            let told = self.recorder.told_seq();
            match self.story.watches.next(client, told) {
                Next::Nothing => {}
                Next::Tell(entries, cursor) => self.tell_watcher(client, &entries, cursor),
                Next::Ahead(cursor) => {
                    let why = format!("number {cursor} was not reached yet: it is another supd's, or lost");
                    let gap = gap(told, &why, &self.boot.to_string());
                    self.story.watches.greet(client);
                    self.tell_watcher(client, &[gap], told);
                }
                Next::Read(query) => self.begin_catching_up(client, query, told),
                Next::Ask(unit) => self.begin_asking(client, unit),
            }
        }
    }

    fn tell_watcher(&mut self, client: ClientId, entries: &[Box<RawValue>], cursor: u64) {
        let view = RawEventsView { format: FORMAT, cursor, entries };
        self.control.stream(client, varlink::reply(&view, true));
    }

    /// Answers `History`.
    pub(super) fn pass_history(&mut self, call: &Call) {
        let Method::History { unit, since_us, before, limit } = &call.method else { return };
        let privileged = self.control.masters().is_privileged(call.peer.uid);
        let most = READS_MAX + if privileged { READS_RESERVE } else { 0 };
        if self.chores.histories() >= most {
            let reason = "too many read the history at once: try again".to_owned();
            let plain = varlink::error::Plain { changed: false, reason };
            return self.control.refuse(call.client, &varlink::Error::Busy(plain));
        }
        let limit = limit.unwrap_or(ENTRIES).clamp(1, ENTRIES_MAX);
        let query = Query {
            unit: unit.as_ref().map(ToString::to_string),
            since_us: since_us.unwrap_or(0),
            before: *before,
            newest: true,
            entries_max: usize::try_from(limit).unwrap_or(usize::MAX),
            bytes_max: PAGE_BYTES,
            ..Query::default()
        };
        let state = self.recorder.state().to_path_buf();
        let work = move || read(&state, &query).map(|page| answer(&page)).map_err(|error| error.to_string());
        let begun = Task::run("reading the history", READ_BOUND, &[], work)
            .map_err(|error| error.to_string())
            .and_then(|task| self.chores.begin(Chore::History(call.client), task, &mut self.sources));
        if let Err(why) = begun {
            self.unread(call.client, &why);
        }
    }

    /// A child has read for `History`.
    pub(super) fn history_read(&mut self, client: ClientId, result: Result<Vec<u8>, String>) {
        match result {
            Ok(bytes) => self.control.finish_bytes(client, bytes),
            Err(why) => self.unread(client, &why),
        }
    }

    fn unread(&mut self, client: ClientId, why: &str) {
        let text = format!("the history cannot be read: {why}");
        let reply = Reply { next: Some("status".into()), ..Reply::new(ExitStatus::Failed, false, text) };
        self.control.reply(client, &reply, Vec::new(), None);
    }

    /// Begins to answer `Watch`.
    pub(super) fn watch_history(&mut self, call: &Call, machine: &Machine) {
        let Method::Watch { unit, after } = &call.method else { return };
        if !call.more {
            let text = "Watch answers again and again: call it with \"more\"".to_owned();
            return self.refuse(call.client, text, Some("events".into()));
        }
        self.recorder.listen(true);
        self.story.watches.add(call.client, unit.clone(), *after, self.recorder.told_seq());
        // Nothing may ever happen to a name that is mistyped, and nobody would know why.
        let known = |unit: &UnitName| {
            machine.units().chain(self.recorder.units()).any(|known| known == unit)
                || self.units.list().units.contains(unit)
        };
        if unit.as_ref().is_some_and(|unit| !known(unit)) {
            self.story.watches.doubt(call.client, true);
        }
    }

    /// Somebody wants to watch a unit that only the history may know.
    fn begin_asking(&mut self, client: ClientId, unit: UnitName) {
        if !self.may_read_for(client) {
            return;
        }
        let state = self.recorder.state().to_path_buf();
        let query = Query {
            unit: Some(unit.to_string()),
            newest: true,
            entries_max: 1,
            bytes_max: 1,
            ..Query::default()
        };
        let work = move || {
            let page = read(&state, &query).map_err(|error| error.to_string())?;
            Ok(vec![u8::from(!page.entries.is_empty())])
        };
        self.begin_reading(client, Chore::Known(client, unit), work);
    }

    /// A child has looked whether the history knows this unit.
    pub(super) fn watched_unit(
        &mut self,
        client: ClientId,
        unit: &UnitName,
        result: Result<Vec<u8>, String>,
        machine: &Machine,
    ) {
        self.next_behind();
        match result {
            Ok(known) if known == [1] => self.story.watches.doubt(client, false),
            Ok(_) => {
                self.unwatch(client);
                self.refuse_unit(client, Some(unit), machine);
            }
            Err(why) => {
                self.unwatch(client);
                self.unread(client, &why);
            }
        }
    }

    /// Somebody is gone who may have watched.
    pub(super) fn unwatch(&mut self, client: ClientId) {
        if self.story.watches.remove(client) {
            self.recorder.listen(false);
        }
    }

    fn begin_catching_up(&mut self, client: ClientId, query: Query, told: u64) {
        if !self.may_read_for(client) {
            return;
        }
        let (state, boot) = (self.recorder.state().to_path_buf(), self.boot.to_string());
        let work = move || {
            let page = read(&state, &query).map_err(|error| error.to_string())?;
            Ok(caught_up(&page, query.after, told, &boot))
        };
        self.begin_reading(client, Chore::CatchUp(client), work);
    }

    /// Whether a child may read for who watches; else its turn comes when another one is done.
    fn may_read_for(&mut self, client: ClientId) -> bool {
        let may = self.chores.catching_up() < CATCHING_UP;
        if !may {
            self.story.behind.push_back(client);
        }
        may
    }

    fn begin_reading(
        &mut self,
        client: ClientId,
        chore: Chore,
        work: impl FnOnce() -> Result<Vec<u8>, String>,
    ) {
        let begun = Task::run("reading the history", READ_BOUND, &[], work)
            .map_err(|error| error.to_string())
            .and_then(|task| self.chores.begin(chore, task, &mut self.sources));
        if let Err(why) = begun {
            self.unwatch(client);
            self.unread(client, &why);
            self.next_behind();
        }
    }

    /// Lets the next one be read to.
    fn next_behind(&mut self) {
        while let Some(next) = self.story.behind.pop_front() {
            if self.story.watches.go_on(next) {
                return;
            }
        }
    }

    /// A child has read for `Watch`.
    pub(super) fn watcher_read(&mut self, client: ClientId, result: Result<Vec<u8>, String>) {
        self.next_behind();
        let split = |bytes: Vec<u8>| {
            let (cursor, reply) = bytes.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*cursor), reply.to_vec()))
        };
        match result.map(split) {
            Ok(Some((cursor, reply))) => {
                if self.story.watches.has(client, cursor) {
                    let greeting = self.story.watches.greet(client);
                    if greeting || !reply.is_empty() {
                        let empty =
                            || varlink::reply(&RawEventsView { format: FORMAT, cursor, entries: &[] }, true);
                        self.control.stream(client, if reply.is_empty() { empty() } else { reply });
                    }
                    self.story.watches.go_on(client);
                }
            }
            Ok(None) => {
                self.unwatch(client);
                self.unread(client, "the child that reads it says nothing");
            }
            Err(why) => {
                self.unwatch(client);
                self.unread(client, &why);
            }
        }
    }
}

/// The whole reply of `History`.
fn answer(page: &Page) -> Vec<u8> {
    let before = page.first.filter(|_| page.more);
    let view = RawHistoryView { format: FORMAT, entries: &page.entries, before, forgotten: page.forgotten };
    varlink::reply(&view, false)
}

/// Where to go on, then a reply of `Watch`, if there is anything to be said. Everything up to `told` was
/// on the disk before it was read. What is missing is said behind what is kept of the time before.
fn caught_up(page: &Page, after: u64, told: u64, boot: &str) -> Vec<u8> {
    let cursor = if page.more { page.cursor } else { page.cursor.max(told) };
    let mut entries = page.entries.clone();
    if after < page.forgotten && page.forgotten <= cursor {
        let why = match page.scattered {
            0 => format!("what followed number {after} is no longer kept"),
            _ => format!("not all of what followed number {after} is kept"),
        };
        entries.insert(page.scattered.min(entries.len()), gap(page.forgotten, &why, boot));
    }
    let mut bytes = cursor.to_le_bytes().to_vec();
    if !entries.is_empty() {
        bytes.extend(varlink::reply(&RawEventsView { format: FORMAT, cursor, entries: &entries }, true));
    }
    bytes
}

/// An entry that says that others are missing, up to a number.
fn gap(seq: u64, why: &str, boot: &str) -> Box<RawValue> {
    let entry = HistoryEntry {
        format: FORMAT,
        seq,
        at_us: clock::wall_micros(),
        boot: boot.to_owned(),
        what: "gap".into(),
        cause: Some(why.to_owned()),
        ..HistoryEntry::default()
    };
    RawValue::from_string(history::encode(&entry)).expect("an entry is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::history::Last;

    fn found(what: &str, boot: &str) -> Found {
        let last = Some(Last { seq: 7, boot: boot.into(), what: what.into() });
        Found { existed: true, last, ..Found::default() }
    }

    #[test]
    fn a_supd_that_begins_says_how_the_one_before_ended() {
        let cause = |found| began(&found, "b").cause.unwrap_or_default();
        assert_eq!(cause(found("supd-ended", "b")), "");
        assert_eq!(cause(found("supd-ended", "a")), "");
        assert!(cause(found("committed", "b")).contains("killed"));
        assert!(cause(found("committed", "a")).contains("the machine"));
        assert_eq!(cause(Found::default()), "");
        assert_eq!(cause(Found { existed: false, ..found("committed", "a") }), "");
    }

    #[test]
    fn a_cursor_that_is_too_old_is_answered_with_a_gap() {
        let page = Page { forgotten: 5_000, cursor: 5_003, ..Page::default() };
        let bytes = caught_up(&page, 17, 5_010, "b");
        assert_eq!(bytes[..8], 5_010u64.to_le_bytes());
        let text = String::from_utf8_lossy(&bytes[8..]);
        assert!(text.contains("\"what\":\"gap\"") && text.contains("\"seq\":5000"), "{text}");
        assert_eq!(caught_up(&page, 5_000, 5_010, "b").len(), 8);
        let raw = |seq: u64| RawValue::from_string(format!("{{\"seq\":{seq}}}")).unwrap();
        let kept = Page { entries: vec![raw(40), raw(5_001)], scattered: 1, ..page };
        let text = String::from_utf8(caught_up(&kept, 17, 5_010, "b").split_off(8)).unwrap();
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
        assert!(at("\"seq\":40") < at("\"seq\":5000,") && at("\"seq\":5000,") < at("\"seq\":5001"));
        let begun = Page { entries: vec![raw(40)], more: true, cursor: 40, ..kept };
        let text = String::from_utf8(caught_up(&begun, 17, 5_010, "b").split_off(8)).unwrap();
        assert!(!text.contains("gap"), "it is said once, when it is passed: {text}");
        let page = Page { forgotten: 5_000, cursor: 5_003, ..Page::default() };
        let more = Page { more: true, ..page };
        assert_eq!(caught_up(&more, 5_000, 5_010, "b")[..8], 5_003u64.to_le_bytes());
    }
}
