//! Log files of generations kept below LogMaxSize. Workers write to them with nobody in between,
//! so the kernel tells when one is written to, and supd looks some seconds later.

use super::chores::{Chore, Chores};
use super::launch::Logged;
use super::sources::{Source, Sources};
use super::units::Units;
use crate::machine::Launch;
use crate::model::{Generation, Tick, UnitName};
use crate::os::logfile::{LogWatch, WatchId, give, is_oversize, trim};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long after a log was written to it is looked at: it may have grown beyond LogMaxSize by what
/// can be written in this time.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// The same, as long as logs turn out to be too large each time.
const LOOK_SOON: Duration = Duration::from_millis(250);

/// How long trimming may take.
const TRIM_BOUND: Duration = Duration::from_secs(300);

type Key = (UnitName, Generation);

/// The logs that are watched.
#[derive(Debug, Default)]
pub struct Logs {
    watch: Option<LogWatch>,
    armed: BTreeMap<WatchId, Key>,
    logs: BTreeMap<Key, Log>,
    written: BTreeSet<Key>,
    look: Option<Tick>,
    trimming: bool,
    /// Some were too large at the last look.
    hurry: bool,
}

#[derive(Debug, Clone)]
struct Log {
    path: PathBuf,
    size_max: u64,
}

impl Logs {
    /// A worker of this generation may write to its log from now on.
    pub fn add(&mut self, launch: &Launch, path: &Path, kept: Logged, sources: &mut Sources, now: Tick) {
        let key = (launch.settings.unit.clone(), launch.generation);
        let has = match kept {
            Logged::File => true,
            // Of one whose journal did not answer, or that was launched when its place was a file.
            Logged::Journal => path.exists(),
            Logged::Elsewhere => false,
        };
        if !has || self.logs.contains_key(&key) {
            return;
        }
        if let Some(Err(error)) = Units::control_group(&launch.settings).map(|gid| give(path, gid)) {
            log::warn!("{}/g{}: {error}; the log is root's alone", key.0, key.1);
        }
        if self.watch.is_none() {
            match LogWatch::new() {
                Ok(watch) => match sources.watch(&watch, Source::Logs) {
                    Ok(_) => self.watch = Some(watch),
                    Err(error) => return log::warn!("cannot watch log files: {error}; they may grow"),
                },
                Err(error) => return log::warn!("{error}; they may grow"),
            }
        }
        let log = Log { path: path.into(), size_max: launch.settings.service.log_max_size };
        self.logs.insert(key.clone(), log);
        self.arm(&key);
        if self.logs.contains_key(&key) {
            // What was written before it was watched tells nobody.
            self.written.insert(key);
            self.look_after(now);
        }
    }

    fn look_after(&mut self, now: Tick) {
        let after = if self.hurry { LOOK_SOON } else { LOOK_AFTER };
        self.look.get_or_insert(now.after(after));
    }

    /// Nobody of this generation writes any more.
    pub fn remove(&mut self, unit: &UnitName, generation: Generation) {
        let key = (unit.clone(), generation);
        self.logs.remove(&key);
        self.written.remove(&key);
    }

    fn arm(&mut self, key: &Key) {
        let (Some(watch), Some(log)) = (&self.watch, self.logs.get(key)) else { return };
        match watch.arm(&log.path) {
            Ok(id) => drop(self.armed.insert(id, key.clone())),
            Err(error) => {
                let (unit, generation) = key;
                match error.errno {
                    Errno::ENOENT | Errno::ENOTDIR => log::warn!(
                        "{unit}/g{generation}: its log {} is not there: what it writes goes where supd's own \
                         log goes, or was removed with its file, and is not capped",
                        log.path.display()
                    ),
                    _ => log::warn!("{unit}/g{generation}: {error}; its log may grow"),
                }
                self.logs.remove(key);
            }
        }
    }

    /// Some were written to.
    pub fn fired(&mut self, now: Tick) {
        let Some(watch) = &self.watch else { return };
        for id in watch.fired() {
            if let Some(key) = self.armed.remove(&id).filter(|key| self.logs.contains_key(key)) {
                self.written.insert(key);
                self.look_after(now);
            }
        }
    }

    /// When [`Logs::tend`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.look.filter(|_| !self.trimming)
    }

    /// Looks at those that were written to, and has the large ones trimmed.
    pub fn tend(&mut self, now: Tick, chores: &mut Chores, sources: &mut Sources) {
        if self.deadline().is_none_or(|due| now < due) {
            return;
        }
        self.look = None;
        let written: Vec<Key> = std::mem::take(&mut self.written).into_iter().collect();
        // First: what is written between the look and the watch would tell nobody.
        written.iter().for_each(|key| self.arm(key));
        let too_large =
            |key: &Key| self.logs.get(key).is_some_and(|log| is_oversize(&log.path, log.size_max));
        let large: Vec<Key> = written.into_iter().filter(too_large).collect();
        self.hurry = !large.is_empty();
        if large.is_empty() {
            return;
        }
        let files =
            large.iter().filter_map(|key| self.logs.get(key)).map(|log| (log.path.clone(), log.size_max));
        let begun = trim(files.collect(), TRIM_BOUND)
            .map_err(|error| error.to_string())
            .and_then(|task| chores.begin(Chore::Trim(large), task, sources));
        self.trimming = true;
        if let Err(why) = begun {
            self.trimmed(Err(why), now);
        }
    }

    /// They are trimmed, or not: then they are looked at again when more was written.
    pub fn trimmed(&mut self, result: Result<(), String>, now: Tick) {
        self.trimming = false;
        // What was written meanwhile has waited for this.
        self.look = self.look.map(|due| due.max(now));
        if let Err(why) = result {
            log::warn!("cannot keep log files below LogMaxSize: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testbed::settings;
    use super::*;
    use crate::os::clock;
    use std::io::Write;
    use std::sync::Arc;

    #[test]
    fn a_log_that_grows_is_trimmed_and_watched_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.log");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let settings = Arc::new(settings("ExecStart = [\"/bin/true\"]\nLogMaxSize = \"1M\""));
        let generation = Generation(1);
        let launch = Launch { generation, settings, release: None, origin: generation, pinned: false };
        let (mut logs, mut chores, mut sources) =
            (Logs::default(), Chores::default(), Sources::new().unwrap());
        logs.add(&launch, &path, Logged::File, &mut sources, clock::now());
        let due = logs.deadline().expect("a first look");
        logs.tend(due, &mut chores, &mut sources);
        assert_eq!((logs.deadline(), chores.count()), (None, 0));
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        for _ in 0..2 {
            file.write_all(&line.repeat(20_000)).unwrap();
            assert_eq!(sources.wait(Some(Duration::from_secs(20))).unwrap().sources, [Source::Logs]);
            logs.fired(clock::now());
            let due = logs.deadline().expect("it was written to");
            logs.tend(clock::now(), &mut chores, &mut sources);
            assert_eq!(chores.count(), 0, "not yet");
            logs.tend(due, &mut chores, &mut sources);
            let (chore, result) = loop {
                let ready = sources.wait(Some(Duration::from_secs(20))).unwrap().sources;
                assert!(!ready.is_empty(), "no answer");
                let chore = ready.iter().find_map(|source| match source {
                    Source::Chore(number) => chores.poll(*number, &mut sources),
                    _ => None,
                });
                if let Some(over) = chore {
                    break over;
                }
            };
            assert_eq!(result, Ok(Vec::new()));
            assert!(matches!(chore, Chore::Trim(_)), "{chore:?}");
            logs.trimmed(Ok(()), clock::now());
            assert!(std::fs::metadata(&path).unwrap().len() <= 1 << 20);
            // The trimming itself may count as writing.
            logs.fired(clock::now());
            if let Some(due) = logs.deadline() {
                logs.tend(due, &mut chores, &mut sources);
            }
        }
        logs.remove(&launch.settings.unit, generation);
        file.write_all(b"more\n").unwrap();
        logs.fired(clock::now());
        assert_eq!(logs.deadline(), None);
    }
}
