//! Records on their way into the ledger, each with the pinned settings of the generations that it
//! is the first to name, and the word of each unit that counts.

use super::flusher::{Flusher, Put, Text};
use super::logging::event;
use super::outcomes::Note;
use super::sources::{Source, Sources};
use crate::codec::history;
use crate::codec::json::HistoryEntry;
use crate::codec::ledger::{Course, Entry, encode};
use crate::codec::pinned;
use crate::machine::{Event, Input};
use crate::model::ledger::{Durable, Happening};
use crate::model::{Author, ClientId, Generation, Record, RecordId, Settings, UnitName};
use crate::os::clock;
use mio::Token;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// Where dumps of units in quarantine are, in the state folder.
const QUARANTINE: &str = "quarantine";

/// How many bytes of settings a record carries; what is longer is synced in a file of its own.
const CARRIED_MAX: usize = 64 * 1024;

/// How many dumps one life of supd writes: a unit is quarantined once, so these are many units.
const DUMPS_MAX: u32 = 64;

/// The way into the ledger.
#[derive(Debug)]
pub struct Recorder {
    flusher: Flusher,
    watched: Option<Token>,
    seq: u64,
    boot: String,
    /// By the flusher's numbers.
    waiting: BTreeMap<u64, Waiting>,
    /// The generations whose settings are on disk.
    stored: BTreeSet<(UnitName, Generation)>,
    /// The last state of each unit that was given on, whether it is on disk yet or not.
    last: BTreeMap<UnitName, Box<Durable>>,
    dumps: u32,
    /// Whose outcome is on the disk now, or will never be.
    kept: Vec<ClientId>,
    /// What came true, since somebody listens.
    fresh: Option<Vec<Fresh>>,
    /// The number of the last entry of the history that was answered.
    told_seq: u64,
    /// Why the history is not written, and how much of it is nowhere.
    untold: Option<(String, u64)>,
}

/// An entry of the history that is written.
#[derive(Debug)]
pub struct Fresh {
    /// Its number.
    pub seq: u64,
    /// As JSON; `None`: it was begun when nobody listened.
    pub json: Option<Box<str>>,
}

#[derive(Debug)]
enum Waiting {
    Record { unit: UnitName, record: RecordId, pinned: Vec<Generation>, told: Option<Fresh> },
    Told(Fresh),
    Dump { path: PathBuf },
    Request { path: String, client: Option<ClientId> },
}

/// A line for the log.
pub type Complaint = String;

impl Recorder {
    /// Goes on after record `seq`.
    #[must_use]
    pub fn new(state: PathBuf, boot: String, seq: u64, last: BTreeMap<UnitName, Durable>) -> Self {
        Self {
            flusher: Flusher::new(state),
            watched: None,
            seq,
            boot,
            waiting: BTreeMap::new(),
            stored: BTreeSet::new(),
            last: last.into_iter().map(|(unit, durable)| (unit, Box::new(durable))).collect(),
            dumps: 0,
            kept: Vec::new(),
            fresh: None,
            told_seq: seq,
            untold: None,
        }
    }

    /// The settings of this generation are on disk already.
    pub fn is_stored(&mut self, unit: &UnitName, generation: Generation) {
        self.stored.insert((unit.clone(), generation));
    }

    /// What was last given on of this unit; [`Durable::fresh`] of one that is unknown.
    #[must_use]
    pub fn durable(&self, unit: &UnitName) -> Durable {
        self.last.get(unit).map_or_else(Durable::fresh, |last| Durable::clone(last))
    }

    /// Every unit that the ledger knows.
    pub fn units(&self) -> impl Iterator<Item = &UnitName> {
        self.last.keys()
    }

    /// The state folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.flusher.state()
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.flusher.is_idle()
    }

    /// See [`Flusher::is_forgotten`].
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.flusher.is_forgotten()
    }

    /// Gives a record on. Its outcome comes out of [`Recorder::pump`], or is returned at once.
    ///
    /// # Errors
    /// The event that says why it is not even begun.
    pub fn record<'a>(
        &mut self,
        id: RecordId,
        record: Record,
        (by, course): (Option<Author>, Option<Course>),
        settings: impl Fn(Generation) -> Option<&'a Settings>,
    ) -> Result<(), Event> {
        let unit = record.unit.clone();
        let mut named: Vec<Generation> = record.durable.kept().map(|kept| kept.generation).collect();
        if let Happening::Began { to, .. } = record.happening {
            named.push(to);
        }
        named.retain(|generation| !self.stored.contains(&(unit.clone(), *generation)));
        let texts: BTreeMap<Generation, Box<str>> = named
            .iter()
            .filter_map(|generation| Some((*generation, pinned::encode(settings(*generation)?).into())))
            .collect();
        let fits = texts.values().map(|text| text.len()).sum::<usize>() <= CARRIED_MAX;
        let (carried, own) = if fits { (texts, BTreeMap::new()) } else { (BTreeMap::new(), texts) };
        self.seq += 1;
        self.last.insert(unit.clone(), Box::new(record.durable.clone()));
        let at = clock::wall_micros();
        let boot = self.boot.clone();
        let entry = Entry { seq: self.seq, at, boot, by, record, course, settings: carried };
        let told = history::of_record(&entry).map(|told| self.happened(&told));
        let line = String::from_utf8(encode(&entry)).expect("JSON is UTF-8");
        let put = |generation: &Generation, text| Put {
            path: format!("generations/{unit}/{generation}/settings.json").into(),
            text,
        };
        // Wherever these bytes are first found, they are the same.
        let part = |text: &str| Some(Text::Carried(line.find(text).map(|at| at..at + text.len())?));
        let carried =
            entry.settings.iter().filter_map(|(generation, text)| Some(put(generation, part(text)?)));
        let own = own.iter().map(|(generation, text)| put(generation, Text::Own(text.as_ref().into())));
        let files = carried.chain(own).collect();
        match self.flusher.submit(
            files,
            Some((self.seq, &line)),
            told.as_deref().map(|told| (self.seq, told)),
        ) {
            Ok(flush) => {
                let told = told.map(|told| self.fresh(told));
                self.waiting.insert(flush, Waiting::Record { unit, record: id, pinned: named, told });
                Ok(())
            }
            Err(reason) => Err(Event::RecordFailed { record: id, reason }),
        }
    }

    /// Writes down for the history what is in no record. A disk that does not take it costs no more
    /// than that.
    pub fn tell(&mut self, entry: HistoryEntry) {
        self.seq += 1;
        let (seq, at_us, boot) = (self.seq, clock::wall_micros(), self.boot.clone());
        let entry = HistoryEntry { format: crate::codec::json::FORMAT, seq, at_us, boot, ..entry };
        let json = self.happened(&entry);
        match self.flusher.submit(vec![], None, Some((seq, &json))) {
            Ok(flush) => {
                let fresh = self.fresh(json);
                self.waiting.insert(flush, Waiting::Told(fresh));
            }
            Err(why) => self.lost(why),
        }
    }

    /// For the journal; and as JSON.
    fn happened(&self, entry: &HistoryEntry) -> String {
        event(entry);
        history::encode(entry)
    }

    fn fresh(&self, json: String) -> Fresh {
        Fresh { seq: self.seq, json: self.fresh.is_some().then(|| json.into()) }
    }

    fn lost(&mut self, why: String) {
        let lost = self.untold.take().map_or(0, |(_, lost)| lost);
        self.untold = Some((why, lost + 1));
    }

    /// From now on what comes true is kept for [`Recorder::take_fresh`]; or no longer.
    pub fn listen(&mut self, listens: bool) {
        self.fresh = listens.then(|| self.fresh.take().unwrap_or_default());
    }

    /// What came true, in its order.
    pub fn take_fresh(&mut self) -> Vec<Fresh> {
        self.fresh.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The number of the last entry of the history that is written, or will never be.
    #[must_use]
    pub fn told_seq(&self) -> u64 {
        self.told_seq
    }

    /// What status says of a history that is not written.
    #[must_use]
    pub fn history_note(&self) -> Option<String> {
        let (why, lost) = self.untold.as_ref()?;
        Some(match lost {
            0 => format!("the history is not written: {why}; what the ledger says is made up for later"),
            lost => format!(
                "the history is not written: {why}; what the ledger says is made up for later, {lost} entries are lost"
            ),
        })
    }

    /// The number of the last record that was given on.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Writes down what is known of a request. With a client, [`Recorder::take_kept`] says when it is
    /// on the disk.
    ///
    /// # Errors
    /// Why it will never be.
    pub fn keep(&mut self, (path, text): Note, client: Option<ClientId>) -> Result<(), Complaint> {
        let put = Put { path: path.as_str().into(), text: Text::Own(text.into()) };
        let flush = self.flusher.submit(vec![put], None, None).map_err(|why| forgetful(&why))?;
        self.waiting.insert(flush, Waiting::Request { path, client });
        Ok(())
    }

    /// Those of [`Recorder::keep`] for whom nothing has to be waited for any more.
    pub fn take_kept(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.kept)
    }

    /// Writes down all that is known of a unit that contradicts itself. Gives a line for the log.
    pub fn dump(&mut self, unit: &UnitName, text: &str) -> Complaint {
        self.dumps += 1;
        if self.dumps > DUMPS_MAX {
            return format!("{unit}: in quarantine; too many dumps were written already");
        }
        let path = format!("{QUARANTINE}/{unit}-{}.txt", clock::wall().as_secs());
        let put = Put { path: path.as_str().into(), text: Text::Own(text.into()) };
        match self.flusher.submit(vec![put], None, None) {
            Ok(flush) => {
                self.waiting.insert(flush, Waiting::Dump { path: path.clone().into() });
                format!("{unit}: in quarantine; what is known of it is in {path} of the state folder")
            }
            Err(why) => format!("{unit}: in quarantine; {why}"),
        }
    }

    /// The settings of these generations are gone from the disk.
    pub fn pruned(&mut self, unit: &UnitName, keep: &[Generation], last: Generation) {
        self.stored.retain(|(of, generation)| of != unit || *generation > last || keep.contains(generation));
    }

    /// Moves what can be moved and puts outcomes into the inbox. Never blocks.
    pub fn pump(&mut self, sources: &mut Sources, inbox: &mut VecDeque<Input>) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        loop {
            let mut pumped = self.flusher.pump();
            if pumped.launched {
                if let Err(error) = self.watch(sources) {
                    let why = format!("cannot hear the process that does it: {error}");
                    let abandoned = self.flusher.abandon(&why);
                    pumped.done.extend(abandoned.done);
                    pumped.untold.extend(abandoned.untold);
                    pumped.note = abandoned.note;
                }
            }
            complaints.extend(pumped.note);
            let mut untold: BTreeMap<u64, String> = pumped.untold.into_iter().collect();
            for (flush, result) in pumped.done {
                complaints.extend(self.told(flush, result.is_ok(), untold.remove(&flush)));
                complaints.extend(self.answer(flush, result, inbox));
            }
            // Once more after a launch, for what came before it was watched.
            if !pumped.launched {
                return complaints;
            }
        }
    }

    fn watch(&mut self, sources: &mut Sources) -> std::io::Result<()> {
        if let Some(token) = self.watched.take() {
            sources.forget(token);
        }
        let Some(socket) = self.flusher.socket() else { return Ok(()) };
        self.watched = Some(sources.watch_both(socket, Source::Flusher)?);
        Ok(())
    }

    /// Whether the history has it by now; gives a line for the log, once.
    fn told(&mut self, flush: u64, done: bool, untold: Option<String>) -> Option<Complaint> {
        let (fresh, alone) = match self.waiting.get_mut(&flush)? {
            Waiting::Record { told, .. } => (told.take()?, false),
            Waiting::Told(fresh) => (Fresh { seq: fresh.seq, json: fresh.json.take() }, true),
            Waiting::Dump { .. } | Waiting::Request { .. } => return None,
        };
        self.told_seq = self.told_seq.max(fresh.seq);
        if !done && !alone {
            return None;
        }
        if let Some(list) = &mut self.fresh {
            list.push(fresh);
        }
        let was_well = self.untold.is_none();
        match untold {
            Some(why) if alone => self.lost(why),
            Some(why) => self.untold = Some((why, self.untold.take().map_or(0, |(_, lost)| lost))),
            None if was_well || !done => return None,
            None => {
                self.untold = None;
                return Some("the history is written again".to_owned());
            }
        }
        self.history_note().filter(|_| was_well)
    }

    fn answer(
        &mut self,
        flush: u64,
        result: Result<(), String>,
        inbox: &mut VecDeque<Input>,
    ) -> Option<Complaint> {
        match (self.waiting.remove(&flush)?, result) {
            (Waiting::Record { unit, record, pinned, told: _ }, Ok(())) => {
                self.stored.extend(pinned.into_iter().map(|generation| (unit.clone(), generation)));
                inbox.push_back(Input::Unit(unit, Event::Recorded { record }));
            }
            (Waiting::Record { unit, record, .. }, Err(reason)) => {
                inbox.push_back(Input::Unit(unit, Event::RecordFailed { record, reason }));
            }
            (Waiting::Dump { .. } | Waiting::Told(_), Ok(())) => {}
            (Waiting::Told(_), Err(why)) => self.lost(why),
            (Waiting::Request { client, .. }, Ok(())) => self.kept.extend(client),
            (Waiting::Request { path, client }, Err(why)) => {
                self.kept.extend(client);
                return Some(forgetful(&format!("{path}: {why}")));
            }
            (Waiting::Dump { path }, Err(why)) => {
                return Some(format!("cannot write {}: {why}", path.display()));
            }
        }
        None
    }
}

fn forgetful(why: &str) -> Complaint {
    format!("if supd ends, a repetition of a request will not be known: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ledger::decode;
    use crate::codec::pinned::tests::sample;
    use crate::model::Kept;
    use std::time::Duration;

    #[test]
    fn settings_are_on_disk_before_the_record_that_names_them() {
        let state = tempfile::tempdir().unwrap();
        let mut sources = Sources::new().unwrap();
        let mut inbox = VecDeque::new();
        let mut recorder = Recorder::new(state.path().into(), "b".into(), 41, BTreeMap::new());
        let settings = sample("web");
        let kept =
            |generation| Some(Kept { generation: Generation(generation), release: None, pinned: true });
        for (id, active) in [(1, 7), (2, 7), (3, 8)] {
            let durable = Durable { active: kept(active), ..Durable::fresh() };
            let record = Record { unit: settings.unit.clone(), durable, happening: Happening::Stopped };
            recorder.record(RecordId(id), record, (None, None), |_| Some(&settings)).unwrap();
        }
        loop {
            assert_eq!(recorder.pump(&mut sources, &mut inbox), Vec::<String>::new());
            if inbox.len() == 3 {
                break;
            }
            let ready = sources.wait(Some(Duration::from_secs(20))).unwrap();
            assert!(!ready.sources.is_empty(), "no answer");
        }
        let said = |input: &Input| match input {
            Input::Unit(_, Event::Recorded { record }) => record.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(inbox.iter().map(said).collect::<Vec<_>>(), [1, 2, 3]);
        let replay = decode(&std::fs::read(state.path().join("ledger")).unwrap()).unwrap();
        assert_eq!(replay.last_seq(), 44);
        // A crash that takes the file away, which nobody has synced, leaves what the record says.
        for (entry, generation) in [(0, 7), (2, 8)] {
            let carried = &replay.entries[entry].0.settings[&Generation(generation)];
            assert_eq!(pinned::decode(carried.as_bytes()), Ok(settings.clone()));
        }
        let pins = crate::store::pins::Pins::new(state.path());
        for generation in [7, 8] {
            assert_eq!(pins.load(&settings.unit, Generation(generation)), Ok(settings.clone()));
        }
        assert!(recorder.is_idle() && recorder.stored.len() == 2);
        recorder.pruned(&settings.unit, &[], Generation(7));
        assert_eq!(recorder.stored.len(), 1);
    }

    #[test]
    fn settings_too_long_for_a_record_are_synced_in_their_file() {
        let state = tempfile::tempdir().unwrap();
        let mut sources = Sources::new().unwrap();
        let mut inbox = VecDeque::new();
        let mut recorder = Recorder::new(state.path().into(), "b".into(), 0, BTreeMap::new());
        let mut settings = sample("web");
        settings.service.environment.push(("X".into(), "x".repeat(CARRIED_MAX)));
        let kept = Kept { generation: Generation(1), release: None, pinned: true };
        let durable = Durable { active: Some(kept), ..Durable::fresh() };
        let record = Record { unit: settings.unit.clone(), durable, happening: Happening::Stopped };
        recorder.record(RecordId(1), record, (None, None), |_| Some(&settings)).unwrap();
        while inbox.is_empty() {
            assert_eq!(recorder.pump(&mut sources, &mut inbox), Vec::<String>::new());
            let wait = Duration::from_secs(if inbox.is_empty() { 20 } else { 0 });
            sources.wait(Some(wait)).unwrap();
        }
        let replay = decode(&std::fs::read(state.path().join("ledger")).unwrap()).unwrap();
        assert!(replay.entries[0].0.settings.is_empty());
        let pins = crate::store::pins::Pins::new(state.path());
        assert_eq!(pins.load(&settings.unit, Generation(1)), Ok(settings));
    }
}
