//! The ledger's file: read at boot, appended to and synced by a child of supd.

use super::files;
use crate::codec::ledger::{Future, Replay, decode};
use crate::model::{Generation, UnitName};
use crate::os::Error;
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file's name in the state folder.
const NAME: &str = "ledger";

/// Where a ledger with damaged lines is kept before they are dropped.
const DAMAGED: &str = "ledger.damaged";

/// A ledger is never this long, in bytes: it is compacted long before.
const SIZE_MAX: u64 = 256 * 1024 * 1024;

/// Above this it is compacted.
const COMPACT_ABOVE: u64 = 4 * 1024 * 1024;

/// How many of the newest records a compaction keeps for history, beside the last of each unit.
const RECENT: usize = 1000;

/// Why a ledger cannot be used. It is never overwritten then.
#[derive(Debug)]
pub enum Unusable {
    /// The kernel said no.
    Os(Error),
    /// It belongs to somebody else, who could write into it what supd then runs.
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// It was written by a newer supd.
    Future {
        /// The file.
        path: PathBuf,
        /// Which line.
        future: Future,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(error) => error.fmt(f),
            Self::Foreign { path, uid } => write!(
                f,
                "{0} belongs to uid {uid}, not to supd's own user: see who wrote it, then chown or move it",
                path.display()
            ),
            Self::Future { path, future } => write!(
                f,
                "{}: {future}; install the newer supd again, or move the file away and lose what it knows",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Unusable {}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        Self::Os(error)
    }
}

/// The file that the records go to.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    /// How long the file is: whole records only.
    length: u64,
    last_seq: u64,
    /// Compaction waits until the file is longer than this.
    compact_above: u64,
}

impl Ledger {
    /// Opens the ledger of a state folder, or makes an empty one. What a cut-off write left at its
    /// end is cut off for good; the replay tells how much that was.
    ///
    /// # Errors
    /// [`Unusable`]; the file is as it was.
    pub fn open(state: &Path) -> Result<(Self, Replay), Unusable> {
        let path = state.join(NAME);
        let told = |error: &io::Error| Error::from_io("open", path.display(), error);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(&path)
            .map_err(|error| told(&error))?;
        let found = file.metadata().map_err(|error| told(&error))?;
        if !found.is_file() {
            return Err(Error::new("use as a ledger", path.display(), Errno::EINVAL).into());
        }
        if found.uid() != nix::unistd::geteuid().as_raw() {
            return Err(Unusable::Foreign { path, uid: found.uid() });
        }
        if found.len() > SIZE_MAX {
            return Err(Error::new("read", path.display(), Errno::EFBIG).into());
        }
        let mut bytes = Vec::new();
        (&mut file)
            .take(SIZE_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::from_io("read", path.display(), &error))?;
        let replay = decode(&bytes).map_err(|future| Unusable::Future { path: path.clone(), future })?;
        let (length, last_seq) = (replay.whole as u64, replay.last_seq());
        let mut ledger = Self { path, file, length, last_seq, compact_above: COMPACT_ABOVE };
        if bytes.is_empty() {
            files::sync_folder(state)?;
        }
        let copied = || files::put_durably(&state.join(DAMAGED), &bytes, 0o600);
        if replay.torn > 0 {
            if replay.is_rubbish() {
                // Not a write that was cut off alone: somebody may want to know what it was.
                copied()?;
            }
            ledger.cut()?;
        }
        let fresh = of_use(&bytes, &replay).concat();
        let damaged = !replay.damaged.is_empty();
        let pays = ledger.length > COMPACT_ABOVE / 4 && fresh.len() as u64 <= ledger.length / 2;
        if (damaged && copied().is_ok()) || pays {
            // On a full disk it stays as it is: what is damaged is passed over the next time too.
            let _ = ledger.rewrite(&fresh);
        }
        Ok((ledger, replay))
    }

    /// The number of the last record.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Appends lines, each with its number, and syncs: all of them, or none. One whose number is
    /// not above the last is there already, from a try whose answer was lost.
    ///
    /// # Errors
    /// What the kernel answered; the file is as it was.
    pub fn append(&mut self, lines: &[(u64, &[u8])]) -> Result<(), Error> {
        let mut last = self.last_seq;
        let mut bytes = Vec::new();
        for (seq, line) in lines {
            if *seq > last {
                bytes.extend_from_slice(line);
                last = *seq;
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            let error = Error::from_io("write", self.path.display(), &error);
            // A half line would be taken for damage once others follow it.
            self.cut()?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        self.last_seq = last;
        if self.length > self.compact_above {
            // The records are on disk: a failure costs room and is tried again further on.
            if self.compact().is_err() {
                self.compact_above = self.length + COMPACT_ABOVE;
            }
        }
        Ok(())
    }

    /// Drops what was written but does not count.
    fn cut(&self) -> Result<(), Error> {
        let told = |error: &io::Error| Error::from_io("cut off the torn end of", self.path.display(), error);
        self.file.set_len(self.length).map_err(|error| told(&error))?;
        self.file.sync_data().map_err(|error| told(&error))
    }

    /// Reads the file again and keeps of it what is still of use.
    fn compact(&mut self) -> Result<(), Error> {
        let bytes = files::read(&self.path, SIZE_MAX)?.unwrap_or_default();
        let replay =
            decode(&bytes).map_err(|_| Error::new("compact", self.path.display(), Errno::EPROTONOSUPPORT))?;
        self.rewrite(&of_use(&bytes, &replay).concat())
    }

    /// Puts a file in place that holds only this.
    fn rewrite(&mut self, fresh: &[u8]) -> Result<(), Error> {
        self.file = files::replace(&self.path, fresh, 0o600)?;
        self.length = fresh.len() as u64;
        self.compact_above = COMPACT_ABOVE.max(2 * self.length);
        self.path.parent().map_or(Ok(()), files::sync_folder)
    }
}

/// The lines to be kept: the last of each unit, those that carry the settings of a generation that
/// it names, and the newest of all.
fn of_use<'a>(bytes: &'a [u8], replay: &Replay) -> Vec<&'a [u8]> {
    let mut units = BTreeSet::new();
    // What the last record of a unit names and no later line carries.
    let mut wanted: BTreeSet<(&UnitName, Generation)> = BTreeSet::new();
    let mut kept: Vec<&[u8]> = Vec::new();
    for (age, (entry, place)) in replay.entries.iter().rev().enumerate() {
        let unit = &entry.record.unit;
        let last = units.insert(unit);
        if last {
            wanted.extend(entry.record.durable.kept().map(|kept| (unit, kept.generation)));
        }
        let carries = entry.settings.keys().filter(|generation| wanted.remove(&(unit, **generation))).count();
        if last || carries > 0 || age < RECENT {
            kept.push(&bytes[place.clone()]);
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ledger::{encode, tests::carrying, tests::sample};
    use crate::model::Happening;
    use std::fs;

    fn line(seq: u64, unit: &str) -> Vec<u8> {
        encode(&sample(seq, unit, Happening::Waiting))
    }

    fn append(ledger: &mut Ledger, seqs: std::ops::RangeInclusive<u64>) -> Result<(), Error> {
        let lines: Vec<(u64, Vec<u8>)> = seqs.map(|seq| (seq, line(seq, "web"))).collect();
        ledger.append(&lines.iter().map(|(seq, line)| (*seq, line.as_slice())).collect::<Vec<_>>())
    }

    fn seqs(state: &Path) -> Vec<u64> {
        let replay = decode(&fs::read(state.join(NAME)).unwrap()).unwrap();
        assert_eq!((replay.torn, replay.damaged.len()), (0, 0));
        replay.entries.iter().map(|(entry, _)| entry.seq).collect()
    }

    #[test]
    fn what_is_sent_again_is_written_once() {
        let state = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(state.path()).unwrap();
        append(&mut ledger, 1..=3).unwrap();
        append(&mut ledger, 2..=5).unwrap();
        append(&mut ledger, 5..=5).unwrap();
        let (ledger, replay) = Ledger::open(state.path()).unwrap();
        assert_eq!((ledger.last_seq(), replay.entries.len()), (5, 5));
        assert_eq!(seqs(state.path()), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_torn_end_is_cut_off_before_the_next_record() {
        let state = tempfile::tempdir().unwrap();
        let torn = [line(1, "web"), line(2, "web")[..40].to_vec()].concat();
        fs::write(state.path().join(NAME), torn).unwrap();
        let (mut ledger, replay) = Ledger::open(state.path()).unwrap();
        assert_eq!(replay.torn, 40);
        append(&mut ledger, 2..=2).unwrap();
        assert_eq!(seqs(state.path()), [1, 2]);
    }

    #[test]
    fn damage_is_kept_for_a_person_and_dropped_from_use() {
        let state = tempfile::tempdir().unwrap();
        let bytes = [line(1, "web"), b"\xff\xff\n".to_vec(), line(2, "api")].concat();
        fs::write(state.path().join(NAME), &bytes).unwrap();
        let (ledger, replay) = Ledger::open(state.path()).unwrap();
        assert_eq!((replay.damaged.len(), ledger.last_seq()), (1, 2));
        assert_eq!(seqs(state.path()), [1, 2]);
        assert_eq!(fs::read(state.path().join(DAMAGED)).unwrap(), bytes);
    }

    #[test]
    fn what_is_no_ledger_at_all_is_kept_for_a_person() {
        let state = tempfile::tempdir().unwrap();
        let rubbish = b"dear diary,\nnothing of this is a record\n".repeat(50);
        fs::write(state.path().join(NAME), &rubbish).unwrap();
        let (mut ledger, replay) = Ledger::open(state.path()).unwrap();
        assert!(replay.is_rubbish());
        append(&mut ledger, 1..=1).unwrap();
        assert_eq!(seqs(state.path()), [1]);
        assert_eq!(fs::read(state.path().join(DAMAGED)).unwrap(), rubbish);
    }

    #[test]
    fn a_ledger_of_the_future_is_not_touched() {
        let state = tempfile::tempdir().unwrap();
        let json = r#"{"format":7}"#;
        let bytes = format!("{:08x} {json}\nhalf", crc32fast::hash(json.as_bytes()));
        fs::write(state.path().join(NAME), &bytes).unwrap();
        let error = Ledger::open(state.path()).unwrap_err().to_string();
        assert!(error.contains("line 1 has format 7"), "{error}");
        assert_eq!(fs::read_to_string(state.path().join(NAME)).unwrap(), bytes);
    }

    #[test]
    fn a_folder_or_a_stranger_in_its_place_is_refused() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join(NAME)).unwrap();
        assert!(Ledger::open(state.path()).is_err());
        fs::remove_dir(state.path().join(NAME)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", state.path().join(NAME)).unwrap();
        assert!(Ledger::open(state.path()).is_err());
        if nix::unistd::geteuid().is_root() {
            fs::remove_file(state.path().join(NAME)).unwrap();
            fs::write(state.path().join(NAME), "").unwrap();
            std::os::unix::fs::chown(state.path().join(NAME), Some(65534), None).unwrap();
            let error = Ledger::open(state.path()).unwrap_err().to_string();
            assert!(error.contains("belongs to uid 65534"), "{error}");
        }
    }

    #[test]
    fn compaction_keeps_the_last_of_each_unit_and_the_newest_of_all() {
        let state = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(state.path()).unwrap();
        ledger.append(&[(1, &line(1, "api")), (2, &line(2, "old")), (3, &line(3, "api"))]).unwrap();
        append(&mut ledger, 4..=12_000).unwrap();
        assert!(ledger.length < COMPACT_ABOVE / 4, "{}", ledger.length);
        append(&mut ledger, 12_001..=12_001).unwrap();
        let kept = seqs(state.path());
        assert_eq!(kept[..3], [2, 3, 11_001]);
        assert_eq!(kept.last(), Some(&12_001));
        assert_eq!(Ledger::open(state.path()).unwrap().0.last_seq(), 12_001);
    }

    /// `sample` names its own number as active and 1 as retained.
    #[test]
    fn compaction_keeps_the_settings_that_something_may_go_back_to() {
        let state = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(state.path()).unwrap();
        let carries = |seq| encode(&carrying(seq, "web", Happening::Waiting));
        ledger.append(&[(1, &carries(1)), (2, &line(2, "web")), (3, &carries(3))]).unwrap();
        let lines: Vec<Vec<u8>> = (4..=12_001).map(|seq| line(seq, "api")).collect();
        ledger.append(&(4..).zip(lines.iter().map(Vec::as_slice)).collect::<Vec<_>>()).unwrap();
        assert_eq!(seqs(state.path())[..3], [1, 3, 11_002], "2 says nothing that 3 does not");
        append(&mut ledger, 12_002..=24_003).unwrap();
        assert_eq!(seqs(state.path())[..3], [1, 12_001, 23_004], "nothing names 3 any more");
    }
}
