//! What the next supd is to have of this one, should it die: given to the keeper, unit by unit, as it changes.

use super::death;
use super::hands::Hands;
use super::parcels::{Lots, parcels};
use super::record;
use super::sources::{Source, Sources};
use crate::codec::kept;
use crate::machine::Machine;
use crate::model::kept::{KeptNotify, KeptStored, KeptUnit};
use crate::model::{Signal, Tick, UnitName};
use crate::os::Error;
use crate::os::clock::{self, BootId};
use crate::os::keeper::Keeper;
use crate::os::kept::Giving;
use crate::os::members::Marks;
use crate::os::open_file::inode;
use crate::os::pidfd::PidFd;
use crate::os::process::Identity;
use crate::store::runtime::Runtime;
use mio::Token;
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// A keeper is begun only so long after the one before: one that is killed each time must not keep supd busy.
const APART: Duration = Duration::from_secs(5);

/// How long one that is killed may take to end.
const END: Duration = Duration::from_secs(1);

/// The keeper, and what it has.
#[derive(Debug)]
pub struct Keeping {
    /// `false`: nobody comes after this supd.
    wanted: bool,
    keeper: Option<Keeper>,
    /// Its process, where that is known.
    process: Option<PidFd>,
    /// Where its end is told.
    token: Option<Token>,
    /// When the last was begun, or found.
    begun: Tick,
    has: BTreeMap<UnitName, Has>,
    touched: BTreeSet<UnitName>,
    /// Of the last thing that was given.
    serial: u64,
}

/// What the keeper was given of a unit.
#[derive(Debug, Default, PartialEq, Eq)]
struct Has {
    text: String,
    /// Which descriptors: a number may be another's by now, an inode may be.
    which: Vec<(RawFd, u64)>,
    /// Under which keys.
    keys: Vec<String>,
}

impl Keeping {
    /// Reaches the keeper of a supd that ended, or begins one. Gives what it has. `wanted`: another supd may come
    /// after this one.
    #[must_use]
    pub fn begin(runtime: &Runtime, boot: &BootId, wanted: bool, now: Tick) -> (Self, Lots) {
        let mut keeping = Self {
            wanted,
            keeper: None,
            process: None,
            token: None,
            begun: now,
            has: BTreeMap::new(),
            touched: BTreeSet::new(),
            serial: 0,
        };
        if !wanted {
            return (keeping, Lots::default());
        }
        let mut found = Lots::default();
        if let Ok(mut keeper) = reach(runtime, boot) {
            keeping.process = keeper.process();
            match keeper.take() {
                Ok(all) => {
                    found = Lots::of(all);
                    keeping.serial = found.serial();
                    // Of a supd that is none of ours, as a later one.
                    let strange = found.strange().iter().try_for_each(|key| keeper.forget(key));
                    strange.unwrap_or_else(|error| log::warn!("{error}"));
                    keeping.keeper = Some(keeper);
                    // Whoever began it may have died before it was written down.
                    keeping.save(runtime, boot);
                }
                Err(error) => log::error!("{error}: what it has of the supd before is not to be had"),
            }
        }
        for (unit, keys) in found.keys() {
            keeping.has.insert(unit.clone(), Has { keys, ..Has::default() });
            // What is not taken over is not to be kept either.
            keeping.touched.insert(unit);
        }
        if keeping.keeper.is_none() {
            keeping.renew(runtime, boot, now);
        }
        (keeping, found)
    }

    fn renew(&mut self, runtime: &Runtime, boot: &BootId, now: Tick) {
        self.begun = now;
        // One that is there and does not answer would hold what nobody can take from it.
        let known = runtime.keeper_process(boot).and_then(|old| old.matches_live(boot));
        for old in self.process.take().into_iter().chain(known).filter(|old| !old.is_over()) {
            log::warn!("the keeper {} does not answer, and is ended", old.pid());
            let _ = old.send(Signal::KILL);
            // What it holds cannot be bound before.
            if !old.is_over_within(END) {
                log::error!("the keeper {} does not end", old.pid());
            }
        }
        match Keeper::begin(&runtime.keeper()) {
            Ok((keeper, process)) => {
                (self.keeper, self.process) = (Some(keeper), Some(process));
                self.save(runtime, boot);
            }
            Err(error) => log::warn!("{error}; should supd die now, its listeners close with its workers"),
        }
    }

    /// Writes down which process it is.
    fn save(&self, runtime: &Runtime, boot: &BootId) {
        let identity = self.process.as_ref().and_then(|process| Identity::of(process, boot));
        if let Some(Err(error)) = identity.map(|identity| runtime.save_keeper(&identity)) {
            log::warn!("{error}");
        }
    }

    /// Something of this unit may have changed.
    pub fn touch(&mut self, unit: &UnitName) {
        if self.wanted && !self.touched.contains(unit) {
            self.touched.insert(unit.clone());
        }
    }

    /// When a keeper is begun in the place of one that is gone.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        (self.wanted && self.keeper.is_none() && !self.touched.is_empty()).then(|| self.begun.after(APART))
    }

    /// Whether another supd may come after this one.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// By which it is told from workers: it holds what they listen on.
    #[must_use]
    pub fn marks(&self) -> Option<Marks> {
        let pid = self.process.as_ref()?.pid();
        Some(Marks { workers: vec![pid], ..Marks::default() })
    }

    /// This supd goes, and the keeper stays.
    pub fn part(&mut self) {
        let settled = self.keeper.as_mut().map_or(Ok(()), Keeper::settle);
        if let Err(error) = settled {
            log::error!("{error}: what was said last may not be there for the next supd");
        }
        self.keeper = None;
    }

    /// Every unit has stopped: there is nothing to keep.
    pub fn end(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.end();
        }
    }

    /// It has said something, or it is gone.
    fn heard(&mut self, sources: &mut Sources) {
        let Some(keeper) = &mut self.keeper else { return };
        if let Err(error) = keeper.hear() {
            self.lost(&error, sources);
        }
    }

    fn lost(&mut self, error: &Error, sources: &mut Sources) {
        log::warn!("{error}; another keeper is begun");
        if let (Some(keeper), Some(token)) = (self.keeper.take(), self.token.take()) {
            sources.unwatch(token, &keeper);
        }
        // What it has nobody gets from it any more.
        if let Some(process) = self.process.take() {
            let _ = process.send(Signal::KILL);
        }
        self.touched.extend(std::mem::take(&mut self.has).into_keys());
    }

    /// Gives the keeper these in the place of what it has of a unit. Whether they are others.
    fn give(&mut self, unit: &UnitName, kept: Option<(String, &Giving<'_>)>) -> Result<bool, Error> {
        let Some(keeper) = &mut self.keeper else { return Ok(true) };
        let old = self.has.remove(unit).unwrap_or_default();
        let mut new = Has::default();
        if let Some((text, giving)) = kept {
            let which = giving.all().iter().map(|fd| (fd.as_raw_fd(), inode(*fd))).collect();
            if (&old.text, &old.which) == (&text, &which) {
                self.has.insert(unit.clone(), old);
                return Ok(false);
            }
            self.serial += 1;
            for parcel in parcels(unit, self.serial, text.as_bytes(), giving.all()) {
                keeper.keep(&parcel.key, &parcel.bytes, parcel.descriptors)?;
                new.keys.push(parcel.key);
            }
            (new.text, new.which) = (text, which);
        }
        // Last: at each moment one of the two is there whole.
        for key in old.keys.iter().filter(|key| !new.keys.contains(key)) {
            keeper.forget(key)?;
        }
        if !new.keys.is_empty() {
            self.has.insert(unit.clone(), new);
        }
        Ok(true)
    }
}

/// The keeper of the supd before.
fn reach(runtime: &Runtime, boot: &BootId) -> Result<Keeper, Error> {
    let path = runtime.keeper();
    Keeper::reach(&path).or_else(|error| {
        let lost = matches!(error.errno, Errno::ENOENT | Errno::ECONNREFUSED | Errno::ENOTSOCK);
        let process = runtime.keeper_process(boot).filter(|_| lost).and_then(|it| it.matches_live(boot));
        process.map_or(Err(error), |process| Keeper::reach_without_file(&process, &path))
    })
}

impl Hands {
    /// Gives the keeper what has changed, and waits for nothing: what is on its way to it arrives, whoever dies;
    /// but where supd goes, for its answer.
    pub(super) fn keep(&mut self, machine: &Machine, now: Tick) {
        if self.keeping.deadline().is_some_and(|due| due <= now) {
            self.keeping.renew(&self.runtime, &self.boot, now);
        }
        self.keep_all(machine);
        if self.leaving.is_some() && self.has_keeper(now) {
            self.keep_all(machine);
        }
        for unit in self.mirror.take_behind(now) {
            self.keep_again(&unit, machine);
        }
        if self.inbox.is_empty() && self.keeping.touched.is_empty() {
            self.mirror.complete(now);
        }
    }

    /// Whether there is a keeper that answers now, be it another one.
    pub(super) fn has_keeper(&mut self, now: Tick) -> bool {
        let Self { keeping, sources, runtime, boot, .. } = self;
        if let Some(Err(error)) = keeping.keeper.as_mut().map(Keeper::ask) {
            keeping.lost(&error, sources);
        }
        if keeping.wanted && keeping.keeper.is_none() {
            keeping.renew(runtime, boot, now);
        }
        keeping.keeper.is_some()
    }

    /// Everything is in the keeper.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn settle_keeper(&mut self, machine: &Machine, now: Tick) -> Result<(), String> {
        if !self.has_keeper(now) {
            return Err("there is no keeper".to_owned());
        }
        self.keep_all(machine);
        let settled = self.keeping.keeper.as_mut().map(Keeper::settle);
        match settled {
            Some(Ok(())) if self.keeping.touched.is_empty() => {
                // It is there a second time: who has it first is what counts.
                self.mirror.settle().unwrap_or_else(|why| log::warn!("{why}"));
                Ok(())
            }
            Some(Err(error)) => {
                let why = error.to_string();
                self.keeping.lost(&error, &mut self.sources);
                Err(why)
            }
            Some(Ok(())) | None => Err("the keeper does not take what it is given".to_owned()),
        }
    }

    /// What nobody goes on with is closed in the keeper, before anything is bound. Whoever else had it has been
    /// ended.
    pub(super) fn forget_strangers(&mut self) {
        let Self { keeping, listeners, sources, .. } = self;
        let strangers: Vec<UnitName> =
            keeping.has.keys().filter(|unit| !listeners.contains_key(*unit)).cloned().collect();
        let mut done = strangers.iter().try_for_each(|unit| keeping.give(unit, None).map(drop));
        if let Some(keeper) = &mut keeping.keeper {
            done = done.and_then(|()| keeper.settle());
        }
        if let Err(error) = done {
            keeping.lost(&error, sources);
        }
    }

    fn keep_all(&mut self, machine: &Machine) {
        let Self { keeping, sources, .. } = self;
        if let (Some(keeper), None) = (&keeping.keeper, keeping.token) {
            keeping.token = sources.watch(keeper, Source::Keeper).ok();
        }
        while let Some(unit) =
            self.keeping.keeper.is_some().then(|| self.keeping.touched.pop_first()).flatten()
        {
            death::moment(self.runtime.root());
            self.keep_one(&unit, machine);
        }
    }

    /// What was closed is closed in the keeper, too, before anybody is told: a port that is said to be free has
    /// to be.
    pub(super) fn let_go(&mut self, unit: &UnitName, machine: &Machine) {
        self.keep_one(unit, machine);
        let settled = self.keeping.keeper.as_mut().map_or(Ok(()), Keeper::settle);
        if let Err(error) = settled {
            self.keeping.lost(&error, &mut self.sources);
        }
        if let Err(why) = self.mirror.settle() {
            log::debug!("{unit}: {why}");
        }
    }

    pub(super) fn keep_one(&mut self, unit: &UnitName, machine: &Machine) {
        self.keep_where(unit, machine, false);
    }

    /// The service manager had no room for it.
    fn keep_again(&mut self, unit: &UnitName, machine: &Machine) {
        self.keep_where(unit, machine, true);
    }

    fn keep_where(&mut self, unit: &UnitName, machine: &Machine, again: bool) {
        let Self {
            keeping,
            mirror,
            listeners,
            notifiers,
            fdstore,
            intercepts,
            workers,
            sources,
            runtime,
            ..
        } = self;
        let mut giving = Giving::default();
        let kept = listeners.get(unit).map(|listeners| {
            let kept = listeners.keep(&mut giving);
            let socket = |(generation, socket)| KeptNotify { generation, socket: giving.put(socket) };
            let notify = notifiers.of(unit).map(socket).collect();
            let generations = machine.outlasts(unit);
            let stored = fdstore.of_unit(unit).into_iter();
            let stored = stored.map(|((generation, worker), name, poll, file)| KeptStored {
                generation,
                worker,
                name: name.to_owned(),
                poll,
                file: giving.put(file),
            });
            let stored = stored.collect();
            let index = |id| workers.get(id).map(|worker| worker.index);
            let intercepts = intercepts.keep(unit, index, &mut giving);
            KeptUnit { notify, generations, stored, intercepts, ..kept }
        });
        let kept = kept.filter(|kept| !kept.is_empty());
        if let Some(kept) = &kept {
            record::note_ready(workers, unit, kept, runtime);
        }
        let given = keeping.give(unit, kept.as_ref().map(|kept| (kept::encode(kept), &giving)));
        if again || given.as_ref().is_ok_and(|changed| *changed) {
            mirror.give(unit, kept.map(|kept| (kept, giving.all())), clock::now());
        }
        if let Err(error) = given {
            keeping.lost(&error, sources);
            keeping.touch(unit);
        }
    }

    /// The keeper has answered, or it is gone.
    pub(super) fn keeper_spoke(&mut self) {
        self.keeping.heard(&mut self.sources);
    }
}
