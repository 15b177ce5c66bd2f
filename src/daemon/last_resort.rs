//! Where supd and its keeper were killed in one moment and nobody stores descriptors for supd, the listening sockets
//! are in the hands of the workers alone. They are taken out of those who receive the traffic (pidfd_getfd(2)), and
//! the next supd goes on with both.
//!
//! What only supd and its keeper had is gone: who shares the traffic, whoever stands by, what is stored. A server
//! that binds for itself waits for an answer that nobody can give any more, and a UNIX path leads to a socket of
//! another name: these are ended and launched again, as before.

use super::cgroups::Cgroups;
use super::leftovers::{self, finish};
use super::parcels::{Lots, Whole};
use super::taking::closed;
use crate::codec::kept;
use crate::model::kept::{
    KeptGeneration, KeptListener, KeptLoan, KeptMember, KeptNotify, KeptSteering, KeptTraffic, KeptUnit,
};
use crate::model::settings::{Handoff, Settings};
use crate::model::{Address, Durable, Generation, UnitName, Want};
use crate::os::clock::{self, BootId};
use crate::os::notify::NotifySocket;
use crate::os::pidfd::PidFd;
use crate::os::process::Identity;
use crate::os::running;
use crate::store::runtime::{Ready, Runtime, WorkerRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long the search for the sockets of one unit may take.
const BOUND: Duration = Duration::from_secs(5);

/// How long all of them may take: nobody hears supd before.
const ALL_BOUND: Duration = Duration::from_secs(30);

/// The slot that a unit begins with.
const SLOT: u32 = 0;

/// Who receives the traffic of a unit of which nobody has kept anything.
struct Orphaned {
    generation: Generation,
    settings: Arc<Settings>,
    /// Those that were ready, how supd goes on with them, and where they are written down.
    workers: Vec<(PidFd, WorkerRecord, Ready)>,
    paths: Vec<PathBuf>,
}

/// With what can be had of the units that are not among `lots`, or cannot be read there. `recipe` knows what a generation was launched with.
#[must_use]
pub fn complete(
    lots: Lots,
    (runtime, cgroups): (&Runtime, &Cgroups),
    boot: &BootId,
    last: &BTreeMap<UnitName, Durable>,
    recipe: impl Fn(&UnitName, Generation) -> Option<Arc<Settings>>,
) -> Lots {
    let orphaned = find(&lots, runtime, boot, last, recipe);
    let (mut whole, mut stay, until) = (BTreeMap::new(), BTreeSet::new(), clock::now().after(ALL_BOUND));
    for (unit, one) in orphaned {
        let late = || format!("so many units have lost their keeper that {}s are over", ALL_BOUND.as_secs());
        let had = if clock::now() < until { one.take(&unit, runtime, boot) } else { Err(late()) };
        match had {
            Ok(had) => {
                log::warn!(
                    "{unit}: what supd had of it is lost with its keeper; its workers have the sockets still"
                );
                whole.insert(unit, had);
                stay.extend(one.paths);
            }
            Err(why) => {
                log::warn!("{unit}: {why}: its workers are ended, and launched again");
            }
        }
    }
    if !whole.is_empty() {
        // Whose shares nobody knows any more must not be led to: the kernel would, once the program is gone that
        // chose. Those of other units stay for whoever looks at them next.
        let goes = |record: &WorkerRecord| whole.keys().any(|unit| unit.as_str() == record.unit);
        let others = runtime.leftovers().into_iter().filter(|(_, record)| record.as_ref().is_some_and(goes));
        let others: BTreeSet<PathBuf> = others
            .map(|(path, _)| path)
            .filter(|path| !runtime.is_job(path) && !stay.contains(path))
            .collect();
        leftovers::end((runtime, cgroups), boot, |path| !others.contains(path));
    }
    lots.with(whole)
}

fn find(
    lots: &Lots,
    runtime: &Runtime,
    boot: &BootId,
    last: &BTreeMap<UnitName, Durable>,
    recipe: impl Fn(&UnitName, Generation) -> Option<Arc<Settings>>,
) -> BTreeMap<UnitName, Orphaned> {
    let lives = |record: &WorkerRecord| {
        let (pid, start, inode) = (record.pid, record.start_time, record.inode);
        let identity = Identity { pid, start, boot: boot.clone(), inode };
        Some(identity).filter(|_| record.boot == boot.to_string())?.matches_live(boot)
    };
    let mut orphaned = BTreeMap::new();
    for (path, record) in runtime.leftovers() {
        let Some(record) = record.filter(|_| !runtime.is_job(&path)) else { continue };
        // Who was not ready may have said so to nobody.
        let Some(ready) = record.ready.clone() else { continue };
        let (Some(process), Ok(unit)) = (lives(&record), UnitName::new(&record.unit)) else { continue };
        let wanted = last.get(&unit).filter(|durable| durable.want != Want::Down && !is_kept(lots, &unit));
        let active = wanted.and_then(|durable| durable.active.as_ref()).map(|active| active.generation);
        let Some(generation) = active.filter(|active| active.0 == record.generation) else { continue };
        let Some(settings) = recipe(&unit, generation).filter(|settings| is_fit(settings)) else { continue };
        let new = || Orphaned { generation, settings, workers: Vec::new(), paths: Vec::new() };
        let one = orphaned.entry(unit).or_insert_with(new);
        one.workers.push((process, record, ready));
        one.paths.push(path);
    }
    orphaned
}

/// What cannot be read is not had.
fn is_kept(lots: &Lots, unit: &UnitName) -> bool {
    lots.of_unit(unit).is_some_and(|whole| kept::decode(&whole.words).is_ok())
}

fn is_fit(settings: &Settings) -> bool {
    settings.service.handoff == Handoff::Inherit
        && settings.sockets.iter().all(|socket| matches!(socket.address, Address::Ip { .. }))
}

impl Orphaned {
    fn take(&self, unit: &UnitName, runtime: &Runtime, boot: &BootId) -> Result<Whole, String> {
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        let mut listeners = Vec::new();
        let steered = self.workers.iter().all(|(_, _, ready)| ready.steered);
        let shared: BTreeSet<&String> = self.workers.iter().flat_map(|(_, _, ready)| &ready.shared).collect();
        for (socket, fd) in self.settings.sockets.iter().zip(self.sockets(boot)?) {
            listeners.push(KeptListener {
                socket: socket.clone(),
                bound: socket.address.clone(),
                traffic: KeptTraffic::Open,
                shared: shared.contains(&socket.address.to_string()),
                members: vec![KeptMember { slot: SLOT, lent: true, socket: at(&descriptors) }],
                group: None,
            });
            descriptors.push(fd);
        }
        let path = runtime.notify(unit, self.generation);
        let notify = NotifySocket::bind_again(&path).map_err(|error| error.to_string())?;
        let notify = notify.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
        let generation = self.generation;
        let kept = KeptUnit {
            steered,
            lent: vec![KeptLoan { generation, slot: SLOT }],
            left: Vec::new(),
            steering: KeptSteering {
                active: SLOT,
                candidate: None,
                sticky: false,
                salt: 0,
                table: None,
                place: 0,
            },
            listeners,
            notify: vec![KeptNotify { generation, socket: at(&descriptors) }],
            generations: vec![KeptGeneration {
                generation,
                origin: generation,
                steered,
                launched: None,
                workers: self.workers.iter().map(|(_, record, _)| record.index).collect(),
            }],
            stored: Vec::new(),
            intercepts: Vec::new(),
        };
        descriptors.push(notify);
        let words = kept::encode(&kept).into_bytes();
        Ok(Whole { words, descriptors: descriptors.into_iter().map(Some).collect() })
    }

    /// That of each of its listeners, in their order: of the first worker that has it. One may have closed what
    /// another serves.
    fn sockets(&self, boot: &BootId) -> Result<Vec<OwnedFd>, String> {
        let wanted: Vec<Address> =
            self.settings.sockets.iter().map(|socket| socket.address.clone()).collect();
        let mut had: BTreeMap<usize, OwnedFd> = BTreeMap::new();
        let (mut faults, until) = (Vec::new(), clock::now().after(BOUND));
        for (process, record, _) in &self.workers {
            let left = until.since(clock::now());
            if had.len() == wanted.len() || left.is_zero() {
                break;
            }
            let search =
                running::search(record.pid, None, &wanted, left).map_err(|error| error.to_string())?;
            let found = finish(search, left).map(|found| running::decode(&found));
            // Its number was its own all the time.
            if process.is_over() {
                continue;
            }
            match found {
                Ok(found) => {
                    faults.extend(found.closed.map(|(pid, errno)| closed(pid, errno)));
                    // The worker itself is looked into before what descends from it.
                    for held in found.sockets {
                        let address = &wanted[held.wanted];
                        let taken = running::take(&held, None, boot);
                        let taken = taken.map_err(|why| faults.push(format!("{address}: {why}"))).ok();
                        taken.map(|fd| had.entry(held.wanted).or_insert(fd));
                    }
                }
                Err(why) => faults.push(why),
            }
        }
        let missing = (0..wanted.len()).find(|at| !had.contains_key(at)).map(|at| &wanted[at]);
        let why = faults.first().map_or(String::new(), |fault| format!(": {fault}"));
        missing
            .map_or(Ok(()), |address| Err(format!("none of its workers has a socket at {address}{why}")))?;
        Ok(had.into_values().collect())
    }
}

fn at(descriptors: &[OwnedFd]) -> u32 {
    u32::try_from(descriptors.len()).unwrap_or(u32::MAX)
}
