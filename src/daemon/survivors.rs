//! The workers that have outlived their supd, and what it had of the kernel: until the machine goes on with them.

use super::hands::Hands;
use super::leftovers;
use super::listeners::Listeners;
use super::parcels::{Lots, Whole};
use super::perform::note;
use crate::codec::kept;
use crate::machine::{Event, Launch, Level, Survived};
use crate::model::handover::{Handover, HeldSwap};
use crate::model::kept::{KeptGeneration, KeptIntercept, KeptNotify, KeptStored, KeptUnit};
use crate::model::settings::{Handoff, Settings, Socket};
use crate::model::{Durable, Generation, UnitName, Want, WorkerExit, WorkerId};
use crate::os::clock::{self, BootId};
use crate::os::intercept::Calls;
use crate::os::kept::Given;
use crate::os::pidfd::PidFd;
use crate::os::process::Identity;
use crate::store::runtime::{Runtime, WorkerRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One that lives.
#[derive(Debug)]
pub struct Survivor {
    /// The process.
    pub process: PidFd,
    /// What is written down of it.
    pub record: WorkerRecord,
    /// Where; twice if a supd died as it went on with it.
    pub paths: Vec<PathBuf>,
}

/// Those of one unit.
#[derive(Debug)]
struct Family {
    /// What supd had of the kernel.
    kept: KeptUnit,
    /// Its descriptors.
    given: Given,
    /// Who serves, where it is known how that one is launched; else there is nobody to go on with.
    active: Option<Generation>,
    /// Generations that can be gone on with.
    known: BTreeSet<Generation>,
    /// By generation and SUPD_WORKER.
    workers: BTreeMap<(Generation, u32), Survivor>,
    /// What those of them that bind for themselves ask by.
    asking: BTreeMap<(Generation, u32), (Calls, KeptIntercept)>,
    /// The swap that rested when another image took supd's place.
    swap: Option<HeldSwap>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Survivors(BTreeMap<UnitName, Family>);

impl Family {
    fn of(
        whole: Whole,
        durable: &Durable,
        recipe: impl Fn(Generation) -> Option<Arc<Settings>>,
    ) -> Result<Self, kept::Unreadable> {
        let kept = kept::decode(&whole.words)?;
        let active = durable.active.as_ref().map(|kept| kept.generation);
        // Where a listener is missing, nobody was launched yet.
        let bound =
            |socket: &Arc<Socket>| kept.listeners.iter().any(|it| it.socket.address == socket.address);
        let active = active
            .filter(|active| recipe(*active).is_some_and(|settings| settings.sockets.iter().all(bound)));
        let named = kept.lent.iter().map(|loan| loan.generation);
        let all = named.chain(kept.generations.iter().map(|alive| alive.generation)).chain(active);
        let known = all.filter(|generation| active.is_some() && recipe(*generation).is_some()).collect();
        let (given, workers) = (Given::new(whole.descriptors), BTreeMap::new());
        Ok(Self { kept, given, active, known, workers, asking: BTreeMap::new(), swap: None })
    }

    /// Whether supd can go on with this one, if it lives: whoever was not ready may have said so to nobody.
    fn goes_on(&self, generation: Generation, worker: u32, handoff: Handoff) -> bool {
        let alive = self.kept.generations.iter().find(|alive| alive.generation == generation);
        let mut asking = self.kept.intercepts.iter().map(|it| (it.generation, it.worker));
        // Whoever asks supd about its binds waits in the next one for ever, where nobody hears it.
        let heard = match handoff {
            Handoff::Inherit => true,
            Handoff::Intercept => asking.any(|it| it == (generation, worker)),
        };
        heard
            && self.known.contains(&generation)
            && alive.is_some_and(|alive| alive.workers.contains(&worker))
    }
}

impl Survivors {
    /// Those with whom supd can go on: of units that should serve, and whose listeners it has. `recipe` knows what
    /// a generation was launched with.
    #[must_use]
    pub fn find(
        runtime: &Runtime,
        boot: &BootId,
        lots: Lots,
        (last, booted): (&BTreeMap<UnitName, Durable>, &BTreeMap<UnitName, bool>),
        recipe: impl Fn(&UnitName, Generation) -> Option<Arc<Settings>>,
    ) -> Self {
        let mut all = Self::default();
        for (unit, whole) in lots.into_whole() {
            let Some(durable) = last.get(&unit).filter(|durable| durable.want != Want::Down) else {
                continue;
            };
            match Family::of(whole, durable, |generation| recipe(&unit, generation)) {
                Ok(family) => drop(all.0.insert(unit, family)),
                Err(why) => log::error!("{unit}: what the keeper has of it cannot be read: {why}"),
            }
        }
        for (path, record) in runtime.leftovers() {
            let Some(record) = record.filter(|_| !runtime.is_job(&path)) else { continue };
            let Some(unit) = UnitName::new(&record.unit).ok() else { continue };
            let Some(family) = all.0.get_mut(&unit) else { continue };
            let generation = Generation(record.generation);
            let Some(handoff) = recipe(&unit, generation).map(|settings| settings.service.handoff) else {
                continue;
            };
            let identity = Identity {
                pid: record.pid,
                start: record.start_time,
                boot: boot.clone(),
                inode: record.inode,
            };
            let counts = family.goes_on(generation, record.index, handoff) && record.boot == boot.to_string();
            if let Some(process) = Some(()).filter(|()| counts).and_then(|()| identity.matches_live(boot)) {
                match family.workers.get_mut(&(generation, record.index)) {
                    Some(known) if known.process.pid() == process.pid() => known.paths.push(path),
                    Some(_) | None => {
                        let survivor = Survivor { process, record, paths: vec![path] };
                        family.workers.insert((generation, survivor.record.index), survivor);
                    }
                }
            }
        }
        for (unit, family) in &mut all.0 {
            // Since the boot of the machine nobody has come as far as a record: then the file counts.
            if family.workers.is_empty() && booted.get(unit) != Some(&false) {
                (family.active, family.known) = (None, BTreeSet::new());
            }
        }
        all
    }

    /// And with their swaps.
    #[must_use]
    pub fn with(mut self, handover: Option<&Handover>) -> Self {
        for held in handover.into_iter().filter_map(|handover| handover.swaps.as_ref()).flatten() {
            if let Some(family) = self.0.get_mut(&held.unit) {
                family.swap = Some(held.clone());
            }
        }
        self
    }

    /// Whether the worker that is written down there is among them.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        let mut all = self.0.values().flat_map(|family| family.workers.values());
        all.any(|one| one.paths.iter().any(|its| its == path))
    }

    /// The notify sockets that are still those of somebody.
    #[must_use]
    pub fn notify(&self, path: impl Fn(&UnitName, Generation) -> PathBuf) -> Vec<PathBuf> {
        let all = self
            .0
            .iter()
            .flat_map(|(unit, family)| family.known.iter().map(move |generation| (unit, *generation)));
        all.map(|(unit, generation)| path(unit, generation)).collect()
    }

    /// Every generation of a unit that has a slot or a worker, with SUPD_WORKER of those who live.
    #[must_use]
    pub fn of(&self, unit: &UnitName) -> Vec<KeptGeneration> {
        let Some(family) = self.0.get(unit) else { return Vec::new() };
        let each = family.known.iter().map(|generation| {
            let its = family.workers.keys().filter(|(of, _)| of == generation);
            let known = family.kept.generations.iter().find(|known| known.generation == *generation);
            // The end of one that a swap counts on is to be heard, and not to be made up for.
            let counted = known.filter(|_| family.swap.is_some()).map(|known| known.workers.clone());
            let workers = counted.unwrap_or_else(|| its.map(|(_, worker)| *worker).collect());
            let origin = known.map_or(*generation, |known| known.origin);
            let steered = known.map_or(family.kept.steered, |known| known.steered);
            let launched = known.and_then(|known| known.launched);
            KeptGeneration { generation: *generation, origin, steered, launched, workers }
        });
        each.collect()
    }

    /// One of them, to go on with.
    pub fn take(&mut self, unit: &UnitName, generation: Generation, index: u32) -> Option<Survivor> {
        self.0.get_mut(unit)?.workers.remove(&(generation, index))
    }

    /// What that one asks by, where it binds for itself.
    fn asking(&mut self, unit: &UnitName, whose: (Generation, u32)) -> Option<(Calls, KeptIntercept)> {
        self.0.get_mut(unit)?.asking.remove(&whose)
    }
}

impl Hands {
    /// Takes over what the last supd had of the kernel for a unit: what is bound, and who of it lives. Where that
    /// cannot be, its workers are ended: two would serve beside each other.
    pub(super) fn go_on(&mut self, unit: &UnitName) -> (Vec<Arc<Socket>>, Option<Survived>) {
        self.take_over(unit).unwrap_or_default()
    }

    fn take_over(&mut self, unit: &UnitName) -> Option<(Vec<Arc<Socket>>, Option<Survived>)> {
        let folder = self.runtime.listeners(unit);
        let Family { kept, given, known, active, asking, .. } = self.survivors.0.get_mut(unit)?;
        let (mut listeners, faults) = match Listeners::go_on(unit.clone(), kept, given, &folder) {
            Ok(gone_on) => gone_on,
            Err(why) => {
                log::error!("{unit}: {why}; its workers are ended, and launched anew");
                self.survivors.0.remove(unit);
                leftovers::end((&self.runtime, &self.cgroups), &self.boot, |path| self.survivors.has(path));
                return None;
            }
        };
        for fault in faults.into_iter().chain(listeners.listen_on(&mut self.sources)) {
            log::warn!("{unit}: {fault}");
        }
        for loan in kept.lent.iter().filter(|loan| !known.contains(&loan.generation)) {
            for fault in listeners.give_back(loan.generation, &mut self.sources) {
                log::warn!("{unit}/g{}: {fault}", loan.generation);
            }
        }
        if listeners.deadline().is_some() {
            self.last_calls.insert(unit.clone());
        }
        for KeptNotify { generation, socket } in
            kept.notify.iter().filter(|it| known.contains(&it.generation))
        {
            let path = self.runtime.notify(unit, *generation);
            let heard = given.take(*socket).map_err(|error| error.to_string()).and_then(|socket| {
                self.notifiers.go_on((unit.clone(), *generation), socket, &path, &mut self.sources)
            });
            if let Err(why) = heard {
                log::warn!("{unit}/g{generation}: what it says is not heard: {why}");
            }
        }
        let stored = kept.stored.iter().filter(|it| known.contains(&it.generation));
        for KeptStored { generation, worker, name, poll, file } in stored {
            let owner = (unit.clone(), *generation, *worker);
            match given.take(*file) {
                Ok(file) => {
                    let how = (&**name, *poll);
                    let outcome = self.fdstore.keep(&owner, how, vec![file], u32::MAX, &mut self.sources);
                    if let Some((_, why)) = outcome.closed {
                        log::warn!("{unit}/g{generation}: {name}, which was stored, is closed: {why}");
                    }
                }
                Err(error) => log::warn!("{unit}/g{generation}: {name}, which was stored: {error}"),
            }
        }
        for it in &kept.intercepts {
            match given.take(it.calls) {
                Ok(fd) => drop(asking.insert((it.generation, it.worker), (Calls::new(fd), it.clone()))),
                Err(error) => log::warn!("{unit}/g{}: what it binds is not heard: {error}", it.generation),
            }
        }
        let (steered, goes_on) = (kept.steered, active.is_some());
        let bound = kept.listeners.iter().map(|listener| listener.socket.clone()).collect();
        // What nobody has taken is closed.
        *given = Given::default();
        self.listeners.insert(unit.clone(), Box::new(listeners));
        let generations = self.survivors.of(unit);
        let swap = self.survivors.0.get_mut(unit).and_then(|family| family.swap.take());
        let swap = swap.map(|held| self.with_author(held));
        let survived = goes_on.then_some(Survived { generations, steered, swap });
        Some((bound, survived))
    }

    /// Goes on with a worker that has outlived its supd.
    pub(super) fn adopt(&mut self, unit: &UnitName, id: WorkerId, index: u32, launch: &Arc<Launch>) {
        if let Err(reason) = self.try_to_adopt(unit, id, index, launch) {
            note(unit, Level::Warning, Some(launch.generation), &reason);
            self.say(unit, Event::Exited { worker: id, exit: WorkerExit::Unknown });
            self.say(unit, Event::Swept { worker: id });
        }
    }

    fn try_to_adopt(
        &mut self,
        unit: &UnitName,
        id: WorkerId,
        index: u32,
        launch: &Arc<Launch>,
    ) -> Result<(), String> {
        let survivor = self.survivors.take(unit, launch.generation, index);
        let survivor = survivor.ok_or("a worker of the supd before is not there any more")?;
        self.run_dirs.note(launch);
        let (workers, mut around) = self.workers();
        workers.adopt(id, launch, index, survivor, &mut around)?;
        self.go_on_in_group(id);
        if let Some((calls, kept)) = self.survivors.asking(unit, (launch.generation, index)) {
            self.go_on_answering(id, calls, &kept);
        }
        let path = self.ground.log(unit, launch.generation);
        let kept = self.ground.kept(&launch.settings.service);
        self.logs.add(launch, &path, kept, &mut self.sources, clock::now());
        Ok(())
    }

    /// Every unit has been gone on with: whoever is left over is nobody's, and is ended.
    pub(super) fn end_survivors(&mut self) {
        let all = std::mem::take(&mut self.survivors);
        let left: Vec<&Survivor> = all.0.values().flat_map(|family| family.workers.values()).collect();
        if !left.is_empty() {
            let pids: Vec<String> = left.iter().map(|one| one.record.pid.to_string()).collect();
            log::warn!("{} of a supd that ended belong to no unit any more, and are ended", pids.join(", "));
            let paths: Vec<PathBuf> = left.iter().flat_map(|one| one.paths.clone()).collect();
            let within = (&self.runtime, &self.cgroups);
            leftovers::end(within, &self.boot, |path| !paths.iter().any(|its| its == path));
        }
    }
}
