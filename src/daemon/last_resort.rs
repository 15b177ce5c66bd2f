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
use crate::codec::kept;
use crate::model::kept::{
    KeptGeneration, KeptListener, KeptLoan, KeptMember, KeptNotify, KeptSteering, KeptTraffic, KeptUnit,
};
use crate::model::settings::{Handoff, Settings};
use crate::model::{Address, Durable, Generation, UnitName, Want};
use crate::os::clock::{self, BootId};
use crate::os::notify::NotifySocket;
use crate::os::process::Identity;
use crate::os::running;
use crate::store::runtime::{Runtime, WorkerRecord};
use std::collections::BTreeMap;
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
    workers: Vec<WorkerRecord>,
    /// Where the others of its unit are written down.
    others: Vec<PathBuf>,
}

/// With what can be had of the units that are not among `lots`. `recipe` knows what a generation was launched with.
#[must_use]
pub fn complete(
    lots: Lots,
    (runtime, cgroups): (&Runtime, &Cgroups),
    boot: &BootId,
    last: &BTreeMap<UnitName, Durable>,
    recipe: impl Fn(&UnitName, Generation) -> Option<Arc<Settings>>,
) -> Lots {
    let orphaned = find(&lots, runtime, boot, last, recipe);
    if orphaned.is_empty() {
        return lots;
    }
    // Whose shares nobody knows any more must not be led to: the kernel would, once the program is gone that chose.
    let others: Vec<&PathBuf> = orphaned.values().flat_map(|one| &one.others).collect();
    leftovers::end((runtime, cgroups), boot, |path| !others.iter().any(|other| *other == path));
    let (mut whole, until) = (BTreeMap::new(), clock::now().after(ALL_BOUND));
    for (unit, one) in orphaned {
        let late = || format!("so many units have lost their keeper that {}s are over", ALL_BOUND.as_secs());
        let had = if clock::now() < until { one.take(&unit, runtime, boot) } else { Err(late()) };
        match had {
            Ok(had) => {
                log::warn!(
                    "{unit}: what supd had of it is lost with its keeper; its workers have the sockets still"
                );
                whole.insert(unit, had);
            }
            Err(why) => {
                log::warn!("{unit}: {why}: its workers are ended, and launched again");
            }
        }
    }
    lots.or(Lots::whole(whole))
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
        record.boot == boot.to_string()
            && Identity { pid, start, boot: boot.clone(), inode }.matches_live(boot).is_some()
    };
    let mut orphaned = BTreeMap::new();
    for (path, record) in runtime.leftovers() {
        let Some(record) = record.filter(|record| !runtime.is_job(&path) && lives(record)) else { continue };
        let Ok(unit) = UnitName::new(&record.unit) else { continue };
        let wanted = last.get(&unit).filter(|durable| durable.want != Want::Down && !lots.has(&unit));
        let Some(active) = wanted.and_then(|durable| durable.active.as_ref()) else { continue };
        let generation = active.generation;
        let Some(settings) = recipe(&unit, generation).filter(|settings| is_fit(settings)) else { continue };
        let new = || Orphaned { generation, settings, workers: Vec::new(), others: Vec::new() };
        let one = orphaned.entry(unit).or_insert_with(new);
        if record.generation == generation.0 {
            one.workers.push(record);
        } else {
            one.others.push(path);
        }
    }
    orphaned.retain(|_, one| !one.workers.is_empty());
    orphaned
}

fn is_fit(settings: &Settings) -> bool {
    settings.service.handoff == Handoff::Inherit
        && settings.sockets.iter().all(|socket| matches!(socket.address, Address::Ip { .. }))
}

impl Orphaned {
    fn take(&self, unit: &UnitName, runtime: &Runtime, boot: &BootId) -> Result<Whole, String> {
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        let mut listeners = Vec::new();
        for (socket, fd) in self.settings.sockets.iter().zip(self.sockets(boot)?) {
            listeners.push(KeptListener {
                socket: socket.clone(),
                bound: socket.address.clone(),
                traffic: KeptTraffic::Open,
                shared: false,
                members: vec![KeptMember { slot: SLOT, lent: true, socket: at(&descriptors) }],
                group: None,
            });
            descriptors.push(fd);
        }
        let path = runtime.notify(unit, self.generation);
        let notify = NotifySocket::bind(&path).map_err(|error| error.to_string())?;
        let notify = notify.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
        let generation = self.generation;
        let kept = KeptUnit {
            steered: true,
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
                steered: true,
                launched: None,
                workers: self.workers.iter().map(|record| record.index).collect(),
            }],
            stored: Vec::new(),
            intercepts: Vec::new(),
        };
        descriptors.push(notify);
        let words = kept::encode(&kept).into_bytes();
        Ok(Whole { words, descriptors: descriptors.into_iter().map(Some).collect() })
    }

    /// That of each of its listeners, in their order.
    fn sockets(&self, boot: &BootId) -> Result<Vec<OwnedFd>, String> {
        let wanted: Vec<Address> =
            self.settings.sockets.iter().map(|socket| socket.address.clone()).collect();
        let first = self.workers.first().ok_or("none of its workers lives")?;
        let search = running::search(first.pid, None, &wanted, BOUND).map_err(|error| error.to_string())?;
        let found = running::decode(&finish(search, BOUND)?);
        let take = |(at, address): (usize, &Address)| {
            // The worker itself is looked into before what descends from it.
            let held = found.sockets.iter().find(|held| held.wanted == at);
            let held = held.ok_or_else(|| format!("none of its workers has a socket at {address}"))?;
            running::take(held, None, boot).map_err(|why| format!("{address}: {why}"))
        };
        wanted.iter().enumerate().map(take).collect()
    }
}

fn at(descriptors: &[OwnedFd]) -> u32 {
    u32::try_from(descriptors.len()).unwrap_or(u32::MAX)
}
