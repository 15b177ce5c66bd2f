//! The history's two files in the state folder: what happened, for people, bounded.
//!
//! `history` is appended to; once it is full, what both files have becomes `history.1`, less what has no
//! room there: a unit with many entries gives way to those with few (`fair`).
//! What a record of the ledger says too is not synced here: the ledger is, and whatever a crash of
//! the machine takes from this file's end is made again from there. So a swap waits for no flush
//! more than without a history. What no record says is synced when nobody waits for an answer.

mod fair;
mod read;
mod scan;

pub use read::{Page, Query, read};

use super::files;
use crate::codec::history::{begin, encode, of_record, seal};
use crate::codec::ledger::Entry;
use crate::os::Error;
use fair::{Room, choose};
use nix::errno::Errno;
use scan::{Scan, begins_after, scan};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file that is written to.
const NAME: &str = "history";
/// The one before.
const BEFORE: &str = "history.1";

/// How many entries one file holds. So many at least are kept, if they are not very long.
pub const ENTRIES_MAX: usize = 5_000;
/// How many bytes.
pub const BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Of these, what the first line may take.
const BEGIN_MAX: usize = 100;

/// So many entries that the ledger has too may be unsynced: fewer than it keeps of the newest, when
/// it is compacted.
const UNSYNCED_MAX: usize = 500;

/// A line to be written.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Its number.
    pub seq: u64,
    /// As JSON.
    pub json: &'a str,
    /// The ledger says it too.
    pub carried: bool,
}

/// The last entry that was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// Its number.
    pub seq: u64,
    /// In which boot of the machine.
    pub boot: String,
    /// What it said.
    pub what: String,
}

/// What was found when it was opened.
#[derive(Debug, Default)]
pub struct Found {
    /// There was a history.
    pub existed: bool,
    /// Its last entry, before the ledger was asked.
    pub last: Option<Last>,
    /// How many bytes at its end were torn, and are cut off.
    pub torn: usize,
    /// Lines that are passed over, in words.
    pub damaged: Vec<String>,
}

/// The file that entries go to.
#[derive(Debug)]
pub struct History {
    state: PathBuf,
    file: File,
    /// How long the file is: whole lines only.
    length: u64,
    entries: usize,
    last_seq: u64,
    /// How many of the last are not synced, and whether one of them is nowhere else.
    unsynced: usize,
    alone: bool,
}

impl History {
    /// Opens the history of a state folder, or begins one; writes down what the ledger's records
    /// have that it has not.
    ///
    /// # Errors
    /// What the kernel answered, or that the file is somebody else's.
    pub fn open<'a>(state: &Path, ledger: impl Iterator<Item = &'a Entry>) -> Result<(Self, Found), Error> {
        let path = state.join(NAME);
        let mut file = open_file(&path)?;
        let bytes = read_all(&mut file, &path)?;
        let Scan { entries, after, last, whole, damaged } = scan(&bytes);
        let found = Found { existed: !bytes.is_empty(), torn: bytes.len() - whole, last, damaged };
        let last_seq = found.last.as_ref().map(|last| last.seq).max(after);
        let mut history = Self {
            state: state.into(),
            file,
            length: whole as u64,
            entries,
            last_seq: last_seq.unwrap_or(0),
            unsynced: 0,
            alone: false,
        };
        if found.torn > 0 {
            history.cut()?;
        }
        let found = if found.last.is_some() { found } else { history.before(found)? };
        if history.length == 0 {
            history.put(&begin(history.last_seq), 0)?;
            files::sync_folder(state)?;
        }
        let missing: Vec<(u64, String)> = ledger
            .filter(|entry| entry.seq > history.last_seq)
            .filter_map(|entry| Some((entry.seq, encode(&of_record(entry)?))))
            .collect();
        let lines: Vec<Line<'_>> =
            missing.iter().map(|(seq, json)| Line { seq: *seq, json, carried: true }).collect();
        history.append(&lines)?;
        Ok((history, found))
    }

    /// A file without an entry goes on after the one before.
    fn before(&mut self, found: Found) -> Result<Found, Error> {
        let path = self.state.join(BEFORE);
        let Some(bytes) = files::read(&path, 2 * BYTES_MAX)? else { return Ok(found) };
        let Scan { last, .. } = scan(&bytes);
        self.last_seq = self.last_seq.max(last.as_ref().map_or(0, |last| last.seq));
        Ok(Found { existed: true, last, ..found })
    }

    /// The number of the last entry.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Appends lines, in the order of their numbers; one whose number is not above the last is there
    /// already.
    ///
    /// # Errors
    /// What the kernel answered; what follows the fault is not written.
    pub fn append(&mut self, lines: &[Line<'_>]) -> Result<(), Error> {
        let mut text = String::new();
        let (mut count, mut last) = (0, self.last_seq);
        for line in lines {
            if line.seq <= last {
                continue;
            }
            let sealed = seal(line.json);
            let length = self.length + (text.len() + sealed.len()) as u64;
            if self.entries + count >= ENTRIES_MAX || length > BYTES_MAX {
                self.put(&text, count)?;
                self.last_seq = last;
                (text, count) = (String::new(), 0);
                self.rotate()?;
            }
            text.push_str(&sealed);
            (count, last) = (count + 1, line.seq);
            self.alone |= !line.carried;
        }
        self.put(&text, count)?;
        self.last_seq = last;
        Ok(())
    }

    /// Syncs, if something is only here or if much is not synced.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn settle(&mut self) -> Result<(), Error> {
        if self.alone || self.unsynced >= UNSYNCED_MAX { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), Error> {
        (self.unsynced, self.alone) = (0, false);
        self.file.sync_data().map_err(|error| Error::from_io("write", self.path().display(), &error))
    }

    fn path(&self) -> PathBuf {
        self.state.join(NAME)
    }

    /// Writes whole lines, or nothing.
    fn put(&mut self, text: &str, entries: usize) -> Result<(), Error> {
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            let error = Error::from_io("write", self.path().display(), &error);
            self.cut()?;
            return Err(error);
        }
        self.length += text.len() as u64;
        self.entries += entries;
        self.unsynced += entries;
        Ok(())
    }

    /// Drops what was written but does not count.
    fn cut(&self) -> Result<(), Error> {
        let told = |error| Error::from_io("cut off the torn end of", self.path().display(), &error);
        self.file.set_len(self.length).map_err(told)
    }

    /// The file is full: what is to stay of both is the one before from now on, and a new one begins.
    /// After the first step this one says nothing that the one before does not, and a number that comes
    /// twice is passed over: cut off there, it is done once more.
    fn rotate(&mut self) -> Result<(), Error> {
        let (path, before) = (self.path(), self.state.join(BEFORE));
        // One that cannot be read has nothing that could stay; it must not end the history for good.
        let old = files::read(&before, 2 * BYTES_MAX).ok().flatten().unwrap_or_default();
        self.file.rewind().map_err(|error| Error::from_io("read", path.display(), &error))?;
        let now = read_all(&mut self.file, &path)?;
        let room = Room { entries: ENTRIES_MAX, bytes: BYTES_MAX as usize - BEGIN_MAX };
        let stays = choose(&old, &now, room);
        if stays.only_last {
            // It is on the disk already, but for its end.
            self.sync()?;
            let told = |error: io::Error| Error::from_io("rename", path.display(), &error);
            fs::rename(&path, &before).map_err(told)?;
        } else {
            let after = begins_after(if old.is_empty() { &now } else { &old });
            let text = [begin(after.max(stays.gone).unwrap_or(0)).as_bytes(), &stays.lines].concat();
            files::put_durably(&before, &text, 0o600)?;
        }
        let first = begin(self.last_seq);
        files::put(&path, first.as_bytes(), 0o600)?;
        self.file = open_file(&path)?;
        (self.length, self.entries) = (first.len() as u64, 0);
        (self.unsynced, self.alone) = (0, false);
        files::sync_folder(&self.state)
    }
}

fn open_file(path: &Path) -> Result<File, Error> {
    let told = |error: &io::Error| Error::from_io("open", path.display(), error);
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| told(&error))?;
    let found = file.metadata().map_err(|error| told(&error))?;
    if !found.is_file() {
        return Err(Error::new("use as the history", path.display(), Errno::EINVAL));
    }
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(Error::new(
            "use what belongs to somebody else as the history",
            path.display(),
            Errno::EPERM,
        ));
    }
    Ok(file)
}

fn read_all(file: &mut File, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = file.take(2 * BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::from_io("read", path.display(), &error))?;
    if bytes.len() as u64 > 2 * BYTES_MAX {
        return Err(Error::new("read", path.display(), Errno::EFBIG));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
