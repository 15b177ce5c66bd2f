//! What the fake hands do at once, and what a step's words are to the machine.

use crate::oracle::Oracle;
use crate::sim::label;
use crate::step::{Ask, Say};
use crate::world::{Door, InFlight, Job, Proc, Storing, Unit};
use supd::machine::{Action, Deploy, Event, JobKind, Request};
use supd::model::{Generation, Notice, Share, Signal, Stops, Tick, WorkerId};

pub(crate) fn perform_for(unit: &mut Unit, action: Action, now: Tick) {
    match action {
        Action::Bind { job, settings } => {
            unit.binds_closed.retain(|address| !named(std::slice::from_ref(&settings), address));
            unit.binds.push_back((job, settings));
        }
        Action::Listen(list) => open_doors(unit, &list, Door::Listening),
        Action::HoldOff(list) => open_doors(unit, &list, Door::HeldOff),
        Action::Unlisten => {
            unit.unlistens += 1;
            let open = unit.listeners.iter_mut().filter(|listener| listener.is_open());
            open.for_each(|listener| listener.door = Door::Bound);
        }
        Action::CloseExcept(list) => {
            let binding = unit.binds.iter().flat_map(|(_, settings)| &settings.sockets);
            let closed =
                binding.map(|socket| socket.address.clone()).filter(|address| !named(&list, address));
            unit.binds_closed.extend(closed.collect::<Vec<_>>());
            for listener in &mut unit.listeners {
                if !named(&list, &listener.address) {
                    listener.door = Door::Closed;
                    listener.reset();
                }
            }
            if unit.listeners.iter().all(|listener| listener.door == Door::Closed) {
                unit.share = None;
            }
        }
        Action::Watch => unit.watched = true,
        Action::Unwatch => unit.watched = false,
        Action::Spawn { worker, index, launch } => {
            unit.borrow(launch.generation);
            unit.store_of(&launch);
            unit.procs.push(Proc::new(worker, index, launch, now));
        }
        Action::Adopt { worker, index, launch } => unit.go_on_with(worker, index, launch, now),
        Action::Signal { worker, signal, everyone } => {
            let Some(proc) = unit.proc_mut(worker) else { return };
            proc.waits = false;
            let kills = signal == Signal::KILL;
            proc.killed |= kills;
            proc.signalled |=
                kills || signal == proc.launch.settings.service.kill_signal || signal == Signal::ABRT;
            proc.leftovers &= !(kills && everyone);
        }
        Action::Sweep { worker, signal } => {
            let Some(proc) = unit.proc_mut(worker) else { return };
            proc.sweep_asked = true;
            proc.leftovers &= signal != Some(Signal::KILL);
        }
        Action::Run { job, kind, launch, worker, .. } => {
            if let (JobKind::Stop, Some(proc)) = (kind, worker.and_then(|worker| unit.proc_mut(worker))) {
                proc.halted = true;
            }
            let generation = launch.generation;
            unit.jobs.push(Job { id: job, kind, generation, worker, ended: false });
        }
        Action::EndJob { job } => {
            unit.jobs.iter_mut().filter(|known| known.id == job).for_each(|known| known.ended = true);
        }
        Action::HoldBinds(generation) => drop(unit.held.insert(generation)),
        Action::AnswerBinds(generation) => {
            unit.held.remove(&generation);
            let its = unit.procs.iter_mut().filter(|proc| proc.generation() == generation);
            its.for_each(|proc| proc.waits = false);
        }
        Action::SaveIntent(intent) => unit.intents.push_back(intent),
        Action::ClearIntent => {
            // What was asked to be written before is written before, and goes with it.
            unit.intent = None;
            unit.intents_void = unit.intents.len();
        }
        Action::Switch { swap_id, to } => unit.switches.push_back((swap_id, to)),
        Action::Share { swap_id, candidate, share, sticky: _ } => {
            let before = unit.receivers();
            unit.share = (!share.is_zero()).then_some((swap_id, candidate, share));
            if share.is_zero() && before.contains(&candidate) {
                unit.diverted(candidate, now);
            }
            if let (true, Some(traffic)) = (share.is_full(), unit.traffic) {
                unit.diverted(traffic, now);
            }
        }
        Action::Count(generation) => unit.counts.push_back(generation),
        Action::Retire(generation) => {
            unit.held.remove(&generation);
            let share = unit.share.take_if(|(_, candidate, _)| *candidate == generation);
            unit.spare |= share.is_some_and(|(_, _, share)| share.is_full());
            unit.retires.push_back((generation, true));
        }
        Action::Pin(launch) => unit.pins.push_back(launch),
        Action::Prune { keep } => unit.store.retain(|number, _| keep.contains(number)),
        Action::Unpack { job, label, .. } => {
            unit.staged.insert(job);
            unit.unpacks.push_back((job, label));
        }
        Action::Place { job, staging, label, .. } => {
            unit.storing.push_back(Storing { job, label, staging: Some(staging) });
        }
        Action::Seal { job, label, .. } => unit.storing.push_back(Storing { job, label, staging: None }),
        Action::Discard { job } => drop(unit.staged.remove(&job)),
        Action::Remove { label } => drop(unit.trees.remove(&label)),
        Action::Forget => {
            let files = std::mem::take(&mut unit.files);
            *unit = Unit { known: false, files, ..Unit::new(unit.place, crate::knobs::Knobs::default()) };
        }
        Action::Bequeath { from, to } => unit.bequeath(from, to),
        Action::CloseStored { keep } => unit.stored.retain(|number, _| keep.contains(number)),
        Action::PassOn(generation) => unit.migrate(generation),
        Action::Lend(launch) => {
            unit.borrow(launch.generation);
            unit.lent.insert(launch.generation, launch);
        }
        Action::Progress(..)
        | Action::Note { .. }
        | Action::WorkerFailed { .. }
        | Action::InstallFailed { .. }
        | Action::Dump(_)
        | Action::Record { .. }
        | Action::Reply(..) => {}
    }
}

/// The others refuse from here on.
fn open_doors(unit: &mut Unit, list: &[std::sync::Arc<supd::model::Settings>], door: Door) {
    for listener in &mut unit.listeners {
        if named(list, &listener.address) {
            listener.door = door;
        } else if listener.is_open() {
            listener.door = Door::Bound;
            listener.reset();
        }
    }
}

fn named(list: &[std::sync::Arc<supd::model::Settings>], address: &supd::model::Address) -> bool {
    list.iter().any(|settings| settings.sockets.iter().any(|socket| socket.address == *address))
}

pub(crate) fn request(ask: Ask, settings: std::sync::Arc<supd::model::Settings>) -> Request {
    match ask {
        Ask::Start(wait) => Request::Start { settings, wait },
        Ask::Stop { now, keep_listening } => Request::Stop { now, keep_listening },
        Ask::Restart(wait) => Request::Restart { settings, wait },
        Ask::Swap { unbound, hold, canary, replace, wait } => {
            let stops = Stops { unbound, hold, canary: canary.and_then(Share::of_parts) };
            Request::Swap { settings, label: None, force: false, stops, replace, wait }
        }
        Ask::Share(parts, wait) => {
            Request::Share { share: Share::of_parts(parts).unwrap_or(Share::FULL), wait }
        }
        Ask::SwapTo { label: number, wait } => {
            let label = Some(label(number));
            Request::Swap { settings, label, force: false, stops: Stops::default(), replace: false, wait }
        }
        Ask::Install { label: number, deploy, wait } => {
            let deploy = deploy.then_some(Deploy { stops: Stops::default(), replace: false, wait });
            Request::Install { settings, label: label(number), deploy }
        }
        Ask::Undeploy(number) => Request::Undeploy { label: label(number) },
        Ask::RollbackTo { label: number, wait } => {
            let label = Some(label(number));
            Request::Rollback { label, from: None, stop: false, anyway: false, wait }
        }
        Ask::Rollback { from, stop, anyway, wait } => {
            Request::Rollback { label: None, from: from.map(Generation), stop, anyway, wait }
        }
        Ask::Drain(generation) => Request::Drain { generation: Generation(generation) },
        Ask::Promote(wait) => Request::Promote { wait },
        Ask::Abort => Request::Abort,
        Ask::Wait(wait) => Request::Wait { wait },
        Ask::Reload => Request::Reload,
        Ask::Kill(signal) => Request::Kill { signal },
        Ask::Refresh => Request::Refresh { settings },
    }
}

pub(crate) fn said(worker: WorkerId, say: Say, now: Tick) -> Event {
    let notice = match say {
        Say::Listening => return Event::Listens { worker },
        Say::Waits => return Event::BindWaits { worker },
        Say::Ready => Notice::Ready,
        Say::Reloading => Notice::Reloading { monotonic_usec: Some(now.0) },
        Say::ReloadingOld => Notice::Reloading { monotonic_usec: Some(0) },
        Say::ReloadingBare => Notice::Reloading { monotonic_usec: None },
        Say::Stopping => Notice::Stopping,
        Say::Alive => Notice::Watchdog,
        Say::Trigger => Notice::WatchdogTrigger,
        Say::Period(span) => Notice::WatchdogPeriod(span),
        Say::Extend(span) => Notice::ExtendTimeout(span),
        Say::Reset => Notice::RestartReset,
        Say::Status => Notice::Status("busy".to_owned()),
    };
    Event::Noticed { worker, notice }
}

/// The oldest record under way reaches the disk.
pub(crate) fn save_next(unit: &mut Unit, oracle: &mut Oracle) -> Option<supd::model::RecordId> {
    let InFlight { id, record, launches } = unit.records.pop_front()?;
    for (number, settings) in launches {
        unit.store.entry(number).or_insert(settings);
    }
    oracle.saved(unit.place, &record);
    unit.ledger = record.durable;
    unit.booted = false;
    Some(id)
}

/// What the hands say of the listeners.
pub(crate) fn steered(knobs: crate::knobs::Knobs) -> Result<(), String> {
    if knobs.steered() { Ok(()) } else { Err("a FIFO has one slot".to_owned()) }
}
