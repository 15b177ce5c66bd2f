//! The flusher itself: a child of supd that may wait for the disk.

use super::super::lock::Lock;
use super::wire::{Answer, Taken, Text, Work, frame, take};
use crate::store::files::{self, Unsynced};
use crate::store::{ledger::Ledger, pins};
use nix::sys::signal::{SigSet, Signal};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Component, Path};

/// How much is read at a time, in bytes.
const CHUNK: usize = 1024 * 1024;

/// Serves supd until its end of the socket closes.
pub(super) fn serve(mut socket: UnixStream, state: &Path) {
    // Who stops supd with its whole group of processes must not take this one away before the
    // last record is synced. SIGXFSZ blocked, a write over the file limit answers EFBIG.
    let spared = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGXFSZ];
    let _ = SigSet::from_iter(spared).thread_block();
    let mut disk = Disk { state, ledger: None, lock: Lock::write(state).ok() };
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
        if socket.write_all(&answers).is_err() {
            return;
        }
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
    /// Never two who write: an earlier one may hang in the kernel although it was killed. Where the
    /// lock cannot be opened at all, what is to be written says why by itself.
    lock: Option<Lock>,
}

impl Disk<'_> {
    /// Does a batch: its files, then its records, with one sync for all of either as far as that
    /// can be.
    fn perform(&mut self, batch: &[Work<'_>]) -> Vec<Answer> {
        if self.lock.is_none() {
            self.lock = Lock::write(self.state).ok();
        }
        let mut unsynced = Unsynced::default();
        let mut answers: Vec<Answer> = batch
            .iter()
            .map(|work| Answer { id: work.id, fault: self.write_files(work, &mut unsynced).err() })
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
        answers
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

    fn append(&mut self, lines: &[(u64, &[u8])]) -> Result<(), String> {
        if lines.is_empty() {
            return Ok(());
        }
        let ledger = match &mut self.ledger {
            Some(ledger) => ledger,
            None => self.ledger.insert(Ledger::open(self.state).map_err(|error| error.to_string())?.0),
        };
        ledger.append(lines).map_err(|error| {
            // Opened anew, it is looked at from the start: a failed sync leaves no certainty.
            self.ledger = None;
            error.to_string()
        })
    }
}
