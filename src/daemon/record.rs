//! What is written down of each worker, that the next supd finds it if this one dies.

use super::workers::{Around, Worker, Workers};
use crate::machine::Launch;
use crate::model::kept::KeptUnit;
use crate::model::{UnitName, WorkerId};
use crate::os::process::Identity;
use crate::store::runtime::{Ready, Runtime, WorkerRecord};

/// No more addresses that are shared with strangers are written down: what is too long could not be read.
const SHARED_MAX: usize = 256;

/// Of one that begins, or that is gone on with.
pub(super) fn write(
    id: WorkerId,
    launch: &Launch,
    index: u32,
    invocation: &str,
    identity: &Identity,
    around: &Around<'_>,
) {
    let (unit, generation) = (&launch.settings.unit, launch.generation);
    let record = WorkerRecord {
        unit: unit.to_string(),
        generation: generation.0,
        index,
        pid: identity.pid,
        start_time: identity.start,
        inode: identity.inode,
        boot: around.boot.to_string(),
        invocation: invocation.to_owned(),
        kill_signal: launch.settings.service.kill_signal.0,
        ready: None,
    };
    if let Err(error) = around.runtime.save_worker(id, &record) {
        log::warn!("{unit}/g{generation}: {error}; if supd dies now it will not be found");
    }
}

/// Changes that; whether it could.
pub(super) fn change(
    id: WorkerId,
    worker: &Worker,
    runtime: &Runtime,
    change: impl FnOnce(&mut WorkerRecord),
) -> bool {
    let changed = runtime.change_worker(id, change);
    if let Err(error) = &changed {
        let (unit, generation) = (&worker.unit, worker.launch.generation);
        log::warn!("{unit}/g{generation}: {error}; if supd dies now it may not be found");
    }
    changed.is_ok()
}

/// Writes down of the workers of a unit that have become ready how another supd can go on with them.
pub(super) fn note_ready(workers: &mut Workers, unit: &UnitName, kept: &KeptUnit, runtime: &Runtime) {
    let is_ready = |worker: &Worker| {
        let its = kept.generations.iter().find(|its| its.generation == worker.launch.generation);
        its.filter(|its| its.workers.contains(&worker.index)).map(|its| its.steered)
    };
    let shared = kept.listeners.iter().filter(|listener| listener.shared);
    let shared: Vec<String> =
        shared.map(|listener| listener.socket.address.to_string()).take(SHARED_MAX + 1).collect();
    for (id, worker) in workers.all_mut().filter(|(_, worker)| worker.unit == *unit) {
        let Some(steered) = is_ready(worker) else { continue };
        // Of whom not all can be told, nothing is: it will be launched again.
        let ready = (shared.len() <= SHARED_MAX).then(|| Ready { steered, shared: shared.clone() });
        if worker.noted != ready && change(id, worker, runtime, |record| record.ready.clone_from(&ready)) {
            worker.noted = ready;
        }
    }
}
