//! Everything that effects touch.

use super::cgroups::Cgroups;
use super::chores::Chores;
use super::clients::Clients;
use super::control::Control;
use super::counter::Counter;
use super::fdstore::FdStore;
use super::gather::Gather;
use super::history::Story;
use super::installs::Installs;
use super::intercept::Intercepts;
use super::jobs::Jobs;
use super::keeping::Keeping;
use super::launch::Ground;
use super::listeners::{Inherited, Listeners};
use super::logs::Logs;
use super::metrics::Metrics;
use super::mirror::Mirror;
use super::notifier::Notifiers;
use super::one_unit::OneUnit;
use super::pinner::Pinner;
use super::recorder::Recorder;
use super::reexec::Reexec;
use super::run_dirs::RunDirs;
use super::sources::Sources;
use super::steer::{Intended, Salts};
use super::survivors::Survivors;
use super::sweeper::Sweeper;
use super::taking::Takings;
use super::trials::Trials;
use super::unfinished::Unfinished;
use super::units::Units;
use super::workers::{Around, Workers};
use crate::machine::{Event, Input, Machine};
use crate::model::settings::Socket;
use crate::model::{ClientId, Settings, Tick, UnitName};
use crate::os::clock::{self, BootId};
use crate::store::crashes::Crashes;
use crate::store::pins::Pins;
use crate::store::runtime::Runtime;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The shell around the machine, less the machine.
#[derive(Debug)]
pub struct Hands {
    /// The one inbox.
    pub inbox: VecDeque<Input>,
    /// What is waited for.
    pub sources: Sources,
    /// The control socket.
    pub control: Control,
    /// Who waits for an answer.
    pub clients: Clients,
    /// Those who wait for what they may not do themselves: they are told no log.
    pub onlookers: BTreeSet<ClientId>,
    /// Answers that are put together from several.
    pub gather: Gather,
    /// Unit files.
    pub units: Units,
    /// The way into the ledger.
    pub recorder: Recorder,
    /// By unit. Boxed, as in other maps by unit: their nodes are half empty.
    pub listeners: BTreeMap<UnitName, Box<Listeners>>,
    /// By which swaps draw the clients of a canary.
    pub salts: Salts,
    /// Units whose listening ends, or comes back.
    pub last_calls: BTreeSet<UnitName>,
    /// Descriptors that supd was given.
    pub inherited: Inherited,
    /// What the next supd is to have.
    pub keeping: Keeping,
    /// The same once more, where a service manager stores it.
    pub mirror: Mirror,
    /// Those who have outlived the last supd, until the machine goes on with them.
    pub survivors: Survivors,
    /// Every worker.
    pub workers: Workers,
    /// What they are in.
    pub cgroups: Cgroups,
    /// Workers whose bind(2) supd answers.
    pub intercepts: Intercepts,
    /// What workers left behind.
    pub sweeper: Sweeper,
    /// Commands beside the workers.
    pub jobs: Jobs,
    /// Forked children with long work.
    pub chores: Chores,
    /// Counts of open connections.
    pub counter: Counter,
    /// What is counted for those who watch many machines.
    pub metrics: Metrics,
    /// Sockets on their way out of servers that run.
    pub takings: Takings,
    /// Whether those accept whom a swap tries out.
    pub trials: Trials,
    /// Programs that are to be copied.
    pub pinner: Pinner,
    /// Releases on their way in.
    pub installs: Installs,
    /// Log files.
    pub logs: Logs,
    /// Notify sockets.
    pub notifiers: Notifiers,
    /// What workers gave to keep.
    pub fdstore: FdStore,
    /// RuntimeDirectory of every unit.
    pub run_dirs: RunDirs,
    /// Why the last launch of a unit failed, until one succeeds.
    pub unlaunched: BTreeMap<UnitName, String>,
    /// What all launches have in common.
    pub ground: Ground,
    /// The runtime folder.
    pub runtime: Runtime,
    /// Intents that are saved and whose switch is not yet made.
    pub intended: BTreeMap<UnitName, Intended>,
    /// Pinned generations.
    pub pins: Pins,
    /// Which boot this is.
    pub boot: BootId,
    /// What the last supd did not outlive.
    pub unfinished: Unfinished,
    /// On its way into the history, and out of it.
    pub story: Story,
    /// Set by [`Effect::Quit`](crate::machine::Effect::Quit): until when the last answers may take.
    pub quit_by: Option<Tick>,
    /// supd goes, and its workers stay: until then its last words may take.
    pub leaving: Option<Tick>,
    /// supd is to become the program that is on the disk now.
    pub reexec: Option<Reexec>,
    /// It has: who waits to be told, and what was before.
    pub reexecuted: Option<(Vec<ClientId>, String)>,
    /// The only unit, where there is to be no other (`supd --unit`).
    pub one: Option<OneUnit>,
    /// The marks of supd's own crashes.
    pub crashes: Crashes,
    /// Why supd holds, where it does.
    pub holding: Option<Arc<str>>,
}

impl Hands {
    /// An event for the machine.
    pub fn say(&mut self, unit: &UnitName, event: Event) {
        self.inbox.push_back(Input::Unit(unit.clone(), event));
    }

    /// Every listener of other units that is bound and may be in the way of these settings, of those
    /// that their files name.
    pub(super) fn bound_elsewhere<'a>(
        &'a self,
        settings: &'a Settings,
    ) -> impl Iterator<Item = (&'a UnitName, &'a Socket)> {
        let others = self.units.rivals(settings);
        others.filter_map(|other| Some((other, self.listeners.get(&other.unit)?))).flat_map(
            |(other, bound)| {
                let sockets = other.sockets.iter().filter(|socket| bound.has(&socket.address));
                sockets.map(|socket| (&other.unit, &**socket))
            },
        )
    }

    /// The parts that processes need, and the rest.
    pub fn workers(&mut self) -> (&mut Workers, Around<'_>) {
        let Self { workers, sources, inbox, runtime, boot, .. } = self;
        (workers, Around { sources, inbox, runtime, boot })
    }

    /// The same for commands.
    pub fn jobs(&mut self) -> (&mut Jobs, Around<'_>) {
        let Self { jobs, sources, inbox, runtime, boot, .. } = self;
        (jobs, Around { sources, inbox, runtime, boot })
    }

    /// When something is due although no descriptor says so.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        let calls = self.last_calls.iter().filter_map(|unit| self.listeners.get(unit)?.deadline());
        calls
            .chain(self.sweeper.deadline())
            .chain(self.logs.deadline())
            .chain(self.counter.deadline())
            .chain(self.metrics.deadline())
            .chain(self.trials.deadline())
            .chain(self.intercepts.deadline())
            .chain(self.story.crashes.deadline())
            .chain(self.keeping.deadline())
            .chain(self.mirror.deadline())
            .chain(self.cgroups.deadline())
            .chain(self.quit_by)
            .chain(self.leaving)
            .chain(self.reexec.as_ref().map(Reexec::deadline))
            .min()
    }

    /// Does what is due, and begins what waits.
    pub fn tend(&mut self, machine: &Machine, now: Tick) {
        for unit in self.last_calls.clone() {
            let Some(listeners) = self.listeners.get_mut(&unit) else { continue };
            self.keeping.touch(&unit);
            let mut faults = Vec::new();
            faults.extend(listeners.revive(now, true, &mut self.sources));
            faults.extend(listeners.look_again(now, &mut self.sources));
            listeners.look_at_fading(now, &mut faults);
            if listeners.look(now, &mut faults) {
                self.say(&unit, Event::Unlistened);
            }
            for fault in faults {
                log::warn!("{unit}: {fault}");
            }
            if self.listeners.get(&unit).is_none_or(|listeners| listeners.deadline().is_none()) {
                self.last_calls.remove(&unit);
            }
        }
        self.tend_history(now);
        self.logs.tend(now, &mut self.chores, &mut self.sources);
        self.begin_pins();
        self.cgroups.tend(now);
        let Self { sweeper, workers, chores, sources, inbox, runtime, boot, .. } = self;
        sweeper.pump(now, workers, chores, &mut Around { sources, inbox, runtime, boot });
        self.tend_counts(machine, now);
        self.tend_metrics(machine, now);
        self.tend_trials(machine, now);
        self.tend_intercepts(now);
        self.tend_reexec(machine, now);
        self.tell_reexecuted();
    }

    /// Lets listeners listen again that somebody has shut down.
    pub fn revive(&mut self, unit: &UnitName, now: Tick) {
        let Some(listeners) = self.listeners.get_mut(unit) else { return };
        self.keeping.touch(unit);
        for note in listeners.heard(now, &mut self.sources) {
            log::warn!("{unit}: {note}");
        }
        if listeners.deadline().is_some() {
            self.last_calls.insert(unit.clone());
        }
    }

    /// Gives on what this turn has to record: the file that is written to tells of nothing that it was not given.
    pub fn write(&mut self) {
        if !self.recorder.is_idle() {
            self.flush();
        }
    }

    /// Moves records along.
    pub fn flush(&mut self) {
        for complaint in self.recorder.pump(&mut self.sources, &mut self.inbox) {
            log::warn!("{complaint}");
        }
        let kept = self.recorder.take_kept();
        if !kept.is_empty() {
            let now = clock::now();
            kept.into_iter().for_each(|client| self.kept(client, now));
        }
    }
}
