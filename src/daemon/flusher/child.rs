//! The flusher itself: a child of supd that may wait for the disk.

use super::super::lock::Lock;
use super::wire::{Answer, Taken, Text, Work, frame, take};
use crate::store::files::{self, Unsynced};
use crate::store::{history, ledger::Ledger, pins};
use nix::sys::signal::{SigSet, Signal};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Component, Path};
use std::time::{Duration, Instant};

/// How much is read at a time, in bytes.
const CHUNK: usize = 1024 * 1024;

/// A history that could not be written is not tried again sooner: the whole ledger is read for it.
const AGAIN: Duration = Duration::from_secs(5);

/// Serves supd until its end of the socket closes.
pub(super) fn serve(mut socket: UnixStream, state: &Path) {
    // Who stops supd with its whole group of processes must not take this one away before the
    // last record is synced. SIGXFSZ blocked, a write over the file limit answers EFBIG.
    let spared = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGXFSZ];
    let _ = SigSet::from_iter(spared).thread_block();
    let mut disk =
        Disk { state, ledger: None, history: Past::Unknown, told_from: 0, lock: Lock::write(state).ok() };
    let mut stream = Vec::new();
    while read_more(&mut socket, &mut stream) {
        let mut batch = Vec::new();
        loop {
            match take::<Work<'static>>(&mut stream) {
                Taken::Whole(work) => batch.push(work),
                Taken::Part => break,
                Taken::Garbled => return,
            }
        }
        let mut answers = Vec::new();
        for answer in disk.perform(&batch) {
            answers.extend(frame(&answer));
        }
        // Where supd is gone, what it gave before is written all the same: reading finds the end.
        let _nobody_hears = socket.write_all(&answers);
        disk.settle();
    }
}

/// Waits for bytes. What came while the disk was busy makes one batch, and shares one sync.
/// `false`: supd is gone.
fn read_more(socket: &mut UnixStream, stream: &mut Vec<u8>) -> bool {
    let length = stream.len();
    stream.resize(length + CHUNK, 0);
    loop {
        match socket.read(&mut stream[length..]) {
            Ok(0) => return false,
            Ok(count) => {
                stream.truncate(length + count);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

struct Disk<'a> {
    state: &'a Path,
    /// Opened at the first record, and again after a failure.
    ledger: Option<Ledger>,
    history: Past,
    /// The first number that the batch at hand has for the history.
    told_from: u64,
    /// Never two who write: an earlier one may hang in the kernel although it was killed. Where the
    /// lock cannot be opened at all, what is to be written says why by itself.
    lock: Option<Lock>,
}

/// The history, as far as it is open.
enum Past {
    /// Nobody has opened it.
    Unknown,
    Open(history::History),
    /// It cannot be written, and why.
    Broken {
        why: String,
        since: Instant,
    },
}

impl Past {
    fn broken(why: &impl ToString) -> Self {
        Self::Broken { why: why.to_string(), since: Instant::now() }
    }
}

impl Disk<'_> {
    /// Does a batch: its files, then its records, with one sync for all of either as far as that
    /// can be.
    fn perform(&mut self, batch: &[Work<'_>]) -> Vec<Answer> {
        if self.lock.is_none() {
            self.lock = Lock::write(self.state).ok();
        }
        // What is sent once more may be in the ledger already; the history has it in its turn.
        let told = batch.iter().filter_map(|work| work.told.as_ref());
        self.told_from = told.map(|line| line.seq).min().unwrap_or(u64::MAX);
        let mut unsynced = Unsynced::default();
        let mut answers: Vec<Answer> = batch
            .iter()
            .map(|work| {
                let fault = self.write_files(work, &mut unsynced).err();
                Answer { id: work.id, fault, untold: None }
            })
            .collect();
        if let Err(error) = unsynced.sync(self.state) {
            let synced = |work: &Work<'_>| work.files.iter().any(|put| matches!(put.text, Text::Own(_)));
            for (_, answer) in batch.iter().zip(&mut answers).filter(|(work, _)| synced(work)) {
                answer.fault.get_or_insert_with(|| error.to_string());
            }
        }
        let mut lines = Vec::new();
        for (work, answer) in batch.iter().zip(&answers) {
            if let (Some(line), None) = (&work.line, &answer.fault) {
                lines.push((line.seq, line.text.as_bytes()));
            }
        }
        if let Err(fault) = self.append(&lines) {
            for (work, answer) in batch.iter().zip(&mut answers) {
                if work.line.is_some() {
                    answer.fault.get_or_insert_with(|| fault.clone());
                }
            }
        }
        self.tell(batch, &mut answers);
        answers
    }

    /// Writes down for the history what came true.
    fn tell(&mut self, batch: &[Work<'_>], answers: &mut [Answer]) {
        let is_true =
            |(work, answer): &(&Work<'_>, &mut Answer)| work.line.is_none() || answer.fault.is_none();
        let told: Vec<(&Work<'_>, &mut Answer)> =
            batch.iter().zip(answers).filter(|(work, _)| work.told.is_some()).filter(is_true).collect();
        let line = |(work, _): &(&'_ Work<'_>, &mut Answer)| {
            let line = work.told.as_ref();
            line.map(|line| (line.seq, line.text.to_string(), work.line.is_some()))
        };
        let lines: Vec<(u64, String, bool)> = told.iter().filter_map(line).collect();
        if let Err(why) = self.append_told(&lines) {
            told.into_iter().for_each(|(_, answer)| answer.untold = Some(why.clone()));
        }
    }

    fn append_told(&mut self, lines: &[(u64, String, bool)]) -> Result<(), String> {
        if lines.is_empty() {
            return Ok(());
        }
        match &self.history {
            Past::Broken { why, since } if since.elapsed() < AGAIN => return Err(why.clone()),
            Past::Open(_) => {}
            // What it lacks is in the ledger, which is only looked through when it is opened.
            Past::Broken { .. } | Past::Unknown => self.open()?,
        }
        let Past::Open(history) = &mut self.history else { return Err("it is not open".to_owned()) };
        let lines: Vec<history::Line<'_>> = lines
            .iter()
            .map(|(seq, json, carried)| history::Line { seq: *seq, json, carried: *carried })
            .collect();
        history.append(&lines).map_err(|error| {
            self.history = Past::broken(&error);
            error.to_string()
        })
    }

    /// Now nobody waits.
    fn settle(&mut self) {
        if let Past::Open(history) = &mut self.history {
            if let Err(error) = history.settle() {
                self.history = Past::broken(&error);
            }
        }
    }

    /// Opens the ledger, and the history, which takes from it what it lacks. Only the ledger's fault
    /// is one.
    fn open(&mut self) -> Result<(), String> {
        let (ledger, replay) = Ledger::open(self.state).map_err(|error| {
            self.history = Past::broken(&error);
            error.to_string()
        })?;
        self.ledger = Some(ledger);
        let earlier =
            replay.entries.iter().map(|(entry, _)| entry).filter(|entry| entry.seq < self.told_from);
        let opened = history::History::open(self.state, earlier);
        self.history = opened.map_or_else(|error| Past::broken(&error), |(history, _)| Past::Open(history));
        match &self.history {
            Past::Broken { why, .. } => Err(why.clone()),
            Past::Open(_) | Past::Unknown => Ok(()),
        }
    }

    /// Each is in place before it is synced: nothing names it before that, so a crash in between
    /// leaves rubbish at worst.
    fn write_files(&self, work: &Work<'_>, unsynced: &mut Unsynced) -> Result<(), String> {
        for put in &work.files {
            let relative = Path::new(put.path.as_ref());
            if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(format!("cannot write {}: not below the state folder", relative.display()));
            }
            let path = self.state.join(relative);
            let (text, synced) = match &put.text {
                Text::Own(text) => (Some(text.as_ref()), true),
                Text::Carried(part) => {
                    (work.line.as_ref().and_then(|line| line.text.get(part.clone())), false)
                }
            };
            let text = text.ok_or_else(|| format!("cannot write {}: no such line", path.display()))?;
            let made = path.parent().map_or(Ok(()), |folder| pins::make_folders(self.state, folder));
            let file = made.and_then(|()| files::put_open(&path, text.as_bytes(), 0o600));
            let file = file.map_err(|error| error.to_string())?;
            if synced {
                unsynced.add(path, file);
            }
        }
        Ok(())
    }

    fn open_ledger(&mut self) -> Result<(), String> {
        self.ledger = Some(Ledger::open(self.state).map_err(|error| error.to_string())?.0);
        Ok(())
    }

    fn append(&mut self, lines: &[(u64, &[u8])]) -> Result<(), String> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.ledger.is_none() {
            let history_is_open = matches!(self.history, Past::Open(_));
            let opened = if history_is_open { self.open_ledger() } else { self.open() };
            if self.ledger.is_none() {
                return opened;
            }
        }
        let Some(ledger) = &mut self.ledger else { return Err("it is not open".to_owned()) };
        ledger.append(lines).map_err(|error| {
            // Opened anew, it is looked at from the start: a failed sync leaves no certainty.
            self.ledger = None;
            error.to_string()
        })
    }
}
