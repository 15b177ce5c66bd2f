//! What supd has of the kernel, a second time in the descriptor store of the systemd that started it
//! (`FileDescriptorStoreMax=`, FDSTORE=1 of sd_notify(3)): should supd and its keeper die at once, the next supd has
//! it from there.
//!
//! systemd stores an open file once, whoever gives it under whatever name. So a name says which file it is, and the
//! words about a unit, in a file of their own, list the names that they are about. New ones are stored before old ones
//! go: at each moment the words of one of the two are there with all that they name.

use super::parcels::{Lots, Whole};
use crate::codec::mirror::{Words, decode, encode};
use crate::model::kept::KeptUnit;
use crate::model::{Tick, UnitName};
use crate::os::manager::Manager;
use crate::os::open_file;
use crate::os::sealed::{seal, unseal};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What is supd's own in that store begins so.
const PREFIX: &str = "supd-";
/// The words of a unit, with their number.
const WORDS: &str = "supd-words-";

/// The longest words that are read.
const WORDS_MAX: u64 = 4 << 20;

/// systemd that reads no more is tried again so late.
const AGAIN: Duration = Duration::from_millis(50);

/// It may take so long to confirm all.
const SETTLE: Duration = Duration::from_secs(1);

/// The store.
#[derive(Debug, Default)]
pub struct Mirror {
    /// `None`: nobody has one for supd.
    manager: Option<Manager>,
    /// So many descriptors have room in it.
    most: usize,
    /// That there is not enough was told.
    full: bool,
    /// Every name that is there, and how many units name it.
    has: BTreeMap<String, usize>,
    /// What each unit names, its words included.
    units: BTreeMap<UnitName, Vec<String>>,
    /// Units that systemd had no room for in its socket.
    behind: BTreeSet<UnitName>,
    again: Option<Tick>,
    /// Of the last words.
    serial: u64,
    /// Every unit has been given since supd came up: what none of them names is nobody's.
    complete: bool,
}

impl Mirror {
    /// The store that the environment tells of (FDSTORE, systemd 254), and what `passed` has of it by name: units as
    /// an earlier supd had them. What is not supd's own stays in `passed`.
    #[must_use]
    pub fn begin(passed: &mut Vec<(String, OwnedFd)>) -> (Self, Lots) {
        let mut mirror = Self::default();
        let (own, others): (Vec<_>, Vec<_>) =
            std::mem::take(passed).into_iter().partition(|(name, _)| name.starts_with(PREFIX));
        *passed = others;
        mirror.most = std::env::var("FDSTORE").ok().and_then(|most| most.parse().ok()).unwrap_or(0);
        match Manager::reach() {
            Ok(manager) => mirror.manager = manager.filter(|_| mirror.most > 0),
            Err(error) => log::warn!("the service manager's descriptor store is not to be had: {error}"),
        }
        mirror.has = own.iter().map(|(name, _)| (name.clone(), 0)).collect();
        let lots = mirror.read(own);
        (mirror, lots)
    }

    /// Goes on with a store in which these are.
    #[must_use]
    pub fn go_on(names: &[String]) -> Self {
        let (mut mirror, _) = Self::begin(&mut Vec::new());
        mirror.has = names.iter().map(|name| (name.clone(), 0)).collect();
        let numbers = names.iter().filter_map(|name| name.strip_prefix(WORDS)?.parse().ok());
        mirror.serial = numbers.max().unwrap_or(0);
        mirror
    }

    /// Every name that is there.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.has.keys()
    }

    fn read(&mut self, own: Vec<(String, OwnedFd)>) -> Lots {
        let mut files: BTreeMap<String, OwnedFd> = BTreeMap::new();
        let mut words: BTreeMap<u64, Words> = BTreeMap::new();
        for (name, fd) in own {
            match name.strip_prefix(WORDS).and_then(|number| number.parse().ok()) {
                Some(serial) => {
                    self.serial = self.serial.max(serial);
                    match unseal(&File::from(fd), WORDS_MAX).and_then(|text| decode(&text)) {
                        Ok(its) => drop(words.insert(serial, its)),
                        Err(why) => log::warn!("{name}, which was stored: {why}"),
                    }
                }
                None => drop(files.insert(name, fd)),
            }
        }
        let mut whole: BTreeMap<UnitName, Whole> = BTreeMap::new();
        // The newest first: what it names is its own.
        for its in words.into_values().rev() {
            if whole.contains_key(&its.unit) || !its.is_whole(|name| files.contains_key(name)) {
                continue;
            }
            // Two may name one: what generations share, for one.
            let copy = |name: &Option<String>| files.get(name.as_ref()?)?.try_clone().ok();
            let descriptors = its.names.iter().map(copy).collect();
            whole.insert(its.unit, Whole { words: its.kept.into_bytes(), descriptors });
        }
        Lots::default().with(whole)
    }

    /// When those that it had no room for are given once more.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.again
    }

    /// Those, if it is time.
    pub fn take_behind(&mut self, now: Tick) -> BTreeSet<UnitName> {
        if self.again.take_if(|again| *again <= now).is_none() {
            return BTreeSet::new();
        }
        if self.forget_unnamed().is_err() {
            self.again = Some(now.after(AGAIN));
        }
        std::mem::take(&mut self.behind)
    }

    /// Gives it these in the place of what it has of a unit. Never blocks.
    pub fn give(&mut self, unit: &UnitName, kept: Option<(KeptUnit, &[BorrowedFd<'_>])>, now: Tick) {
        if self.manager.is_none() {
            return;
        }
        match self.try_to_give(unit, kept) {
            Ok(()) => {}
            Err(errno) if !matches!(errno, Errno::ECONNREFUSED | Errno::ENOTCONN | Errno::EPIPE) => {
                // It reads too slowly, or there is no room or memory for a moment.
                self.behind.insert(unit.clone());
                self.again = Some(now.after(AGAIN));
            }
            Err(errno) => {
                log::warn!(
                    "the service manager's descriptor store is not to be had any more: {}",
                    errno.desc()
                );
                self.manager = None;
            }
        }
    }

    fn try_to_give(
        &mut self,
        unit: &UnitName,
        kept: Option<(KeptUnit, &[BorrowedFd<'_>])>,
    ) -> Result<(), Errno> {
        let mut named: Vec<String> = Vec::new();
        if let Some((kept, all)) = kept {
            let names: Vec<Option<String>> =
                all.iter().map(|fd| open_file::name(*fd).map(|name| format!("{PREFIX}{name}"))).collect();
            let new = names.iter().flatten().filter(|name| !self.has.contains_key(*name)).count();
            if self.has.len() + new >= self.most {
                // What is too much systemd closes without a word.
                return self.leave_out(unit);
            }
            for (name, fd) in names.iter().zip(all).filter_map(|(name, fd)| Some((name.as_ref()?, fd))) {
                if !self.has.contains_key(name) {
                    self.store(name, fd.as_fd())?;
                }
                named.push(name.clone());
            }
            self.serial += 1;
            let words = encode(&Words::of(unit, &kept, names));
            let file = seal("supd-words", words.as_bytes()).map_err(|error| error.errno)?;
            let name = format!("{WORDS}{}", self.serial);
            self.store(&name, file.as_fd())?;
            named.push(name);
        }
        named.iter().for_each(|name| *self.has.entry(name.clone()).or_default() += 1);
        let old = match named.is_empty() {
            true => self.units.remove(unit),
            false => self.units.insert(unit.clone(), named),
        };
        self.let_go(old)
    }

    /// A unit names these no more.
    fn let_go(&mut self, names: Option<Vec<String>>) -> Result<(), Errno> {
        for name in names.into_iter().flatten() {
            if let Some(count) = self.has.get_mut(&name) {
                *count = count.saturating_sub(1);
            }
        }
        self.forget_unnamed()
    }

    /// There is no room for it, and what is there of it is old.
    fn leave_out(&mut self, unit: &UnitName) -> Result<(), Errno> {
        if !std::mem::replace(&mut self.full, true) {
            log::warn!(
                "{unit}: the service manager stores {} descriptors for supd, which is not enough: raise \
                 FileDescriptorStoreMax=; what does not fit only the keeper has",
                self.most
            );
        }
        let old = self.units.remove(unit);
        self.let_go(old)
    }

    fn store(&mut self, name: &str, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let Some(manager) = &self.manager else { return Ok(()) };
        // FDPOLL=0: a socket that does not listen hangs up, and would be dropped.
        manager.say(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n"), &[fd])?;
        self.has.entry(name.to_owned()).or_default();
        Ok(())
    }

    /// What no unit names goes.
    ///
    /// # Errors
    /// EAGAIN: some stays for now.
    fn forget_unnamed(&mut self) -> Result<(), Errno> {
        let Some(manager) = self.manager.as_ref().filter(|_| self.complete) else { return Ok(()) };
        let unnamed: Vec<String> =
            self.has.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name.clone()).collect();
        for name in unnamed {
            manager.say(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), &[])?;
            self.has.remove(&name);
        }
        Ok(())
    }

    /// Every unit has been given: what an earlier supd has left goes.
    pub fn complete(&mut self, now: Tick) {
        if !self.complete {
            self.complete = true;
            if self.forget_unnamed().is_err() {
                self.again = Some(now.after(AGAIN));
            }
        }
    }

    /// Waits, with a bound, until it has all.
    ///
    /// # Errors
    /// Why it may not have.
    pub fn settle(&self) -> Result<(), String> {
        let settled = self.manager.as_ref().map_or(Ok(()), |manager| manager.settle(SETTLE));
        match (settled, self.behind.is_empty()) {
            (Ok(()), true) => Ok(()),
            (Ok(()), false) => Err("the service manager reads too slowly what it is to store".to_owned()),
            (Err(errno), _) => {
                Err(format!("the service manager does not say what it has stored: {}", errno.desc()))
            }
        }
    }
}
