//! What `supctl status` shows: the machine's word, with what only the kernel knows.

use super::cgroups::READ_MAX;
use super::counter::Seen;
use super::hands::Hands;
use super::perform::note;
use crate::codec::json::{ListenerView, QueueView, UnitView};
use crate::codec::span::millis;
use crate::machine::{Level, Machine};
use crate::model::status::{GenerationState, SwapResult, UnitStatus};
use crate::model::{Address, Generation, Queued, Settings, Tick, UnitName};
use crate::os::listener::Queues;
use crate::os::steering::Mechanism;
use std::collections::BTreeSet;

/// From so many units on their queues are asked for all at once.
pub(super) const MANY: usize = 8;

impl Hands {
    /// One unit, or all by name. `None`: there is no such unit.
    pub(super) fn views(
        &self,
        unit: Option<&UnitName>,
        machine: &Machine,
        now: Tick,
    ) -> Option<Vec<UnitView>> {
        if let Some(unit) = unit {
            return Some(vec![self.view(unit, machine, now, (&Queues::default(), true))?]);
        }
        let all: BTreeSet<&UnitName> = machine.units().chain(self.units.faulty()).collect();
        let few = self.listeners.len() < MANY;
        let queues = if few { Queues::default() } else { Queues::read() };
        let how = (&queues, all.len() <= READ_MAX);
        Some(all.into_iter().filter_map(|unit| self.view(unit, machine, now, how)).collect())
    }

    /// `used`: what its groups use is read.
    fn view(
        &self,
        unit: &UnitName,
        machine: &Machine,
        now: Tick,
        (queues, used): (&Queues, bool),
    ) -> Option<UnitView> {
        let fault = self.units.fault(unit);
        let Some(mut status) = machine.status(unit, now) else {
            return Some(UnitView::unreadable(unit, fault?));
        };
        let file = &self.units.get(unit)?.settings;
        // The kernel tells nobody that a path was removed: whoever looks finds it mended.
        for text in self.listeners.get(unit).map(|bound| bound.republish_if_gone()).unwrap_or_default() {
            note(unit, Level::Warning, None, &text);
        }
        status.notes.extend(fault.map(str::to_owned).or_else(|| changed(unit, &status, machine, file)));
        status.notes.extend(self.causes(unit, &status));
        status.notes.extend(self.cgroups.notes(unit));
        let lender = self.listeners.get(unit).and_then(|bound| bound.lender());
        status.notes.extend(lender.map(|(name, remedy)| format!("{name} still accepts there: {remedy}")));
        let listeners = self.listener_views(unit, &status, machine, file, queues);
        let pid = |worker| Some(self.workers.get(worker)?.main()?.pid());
        let mut view = UnitView::new(unit, &file.description, &status, listeners, pid);
        view.cgroup_missing = self.cgroups.missing().map(str::to_owned);
        for (generation, shown) in status.generations.iter().zip(&mut view.generations) {
            if used {
                self.cgroups.show(unit, generation.generation, shown);
            }
            let launch = machine.launch(unit, generation.generation);
            let stores = launch.is_some_and(|launch| launch.settings.service.file_descriptor_store_max > 0);
            let count = || self.fdstore.count(unit, generation.generation);
            shown.stored = stores.then(|| u64::try_from(count()).unwrap_or(u64::MAX));
            let known = self.counter.known(unit, generation.generation, now);
            let Some((Seen { tally, queues }, age)) = known else { continue };
            shown.connections = tally.connections.map(u64::from);
            shown.oldest_ms = tally.oldest.map(millis);
            shown.queues = queues.iter().map(QueueView::from).collect();
            shown.counted_ms = Some(millis(age));
        }
        Some(view)
    }

    /// Why there is a pause before the next launch, for each generation that makes one.
    fn causes(&self, unit: &UnitName, status: &UnitStatus) -> Vec<String> {
        let mut causes = Vec::new();
        for generation in &status.generations {
            let mut resting = generation.workers.iter().filter(|worker| worker.phase == "resting");
            let Some(worker) = resting.next() else { continue };
            let log = self.ground.log(unit, generation.generation);
            causes.push(match (self.unlaunched.get(unit), worker.last_exit) {
                (Some(reason), _) => format!("its last launch failed: {reason}"),
                (None, Some(exit)) => format!("its worker ended: {exit}; its log: {}", log.display()),
                (None, None) => format!("its log: {}", log.display()),
            });
        }
        causes
    }

    /// Those of the generation that serves; then what other generations have beside them, and what
    /// the file names.
    fn listener_views(
        &self,
        unit: &UnitName,
        status: &UnitStatus,
        machine: &Machine,
        file: &Settings,
        queues: &Queues,
    ) -> Vec<ListenerView> {
        let bound = self.listeners.get(unit);
        let queue = |address: &Address| Some(Queued::at(address, bound?.queue(address, queues)?));
        let mechanisms = bound.map(|bound| bound.mechanisms()).unwrap_or_default();
        let mechanism = |wanted: &Address| {
            mechanisms.iter().find(|(address, _)| address == wanted).map(|(_, mechanism)| mechanism)
        };
        let of = |generation| machine.launch(unit, generation).map(|launch| &*launch.settings);
        let mut named: Vec<(&Settings, String)> = Vec::new();
        named.extend(serving(status).and_then(of).map(|settings| (settings, String::new())));
        // What failed never had any connection there.
        let others = status.generations.iter().filter(|one| one.state != GenerationState::Failed);
        for generation in others.map(|one| one.generation).chain(status.retained) {
            named.extend(of(generation).map(|settings| (settings, format!("of generation {generation}"))));
        }
        let serves = named.first().is_some_and(|(_, note)| note.is_empty());
        named.push((file, if serves { "applies at the next swap".to_owned() } else { String::new() }));
        let (mut views, mut seen) = (Vec::new(), Vec::<&Address>::new());
        for (settings, note) in &named {
            for socket in &settings.sockets {
                if seen.contains(&&socket.address) {
                    continue;
                }
                seen.push(&socket.address);
                let (name, address) = (socket.name.to_string(), socket.address.to_string());
                let queued = queue(&socket.address);
                let queue = queued.and_then(Queued::connections).map(u64::from);
                let queue_bytes = queued.and_then(Queued::bytes).map(u64::from);
                let note = note.clone();
                let how = mechanism(&socket.address);
                let steered = how.is_some_and(|how| !matches!(how, Mechanism::Shared(_)));
                let mechanism = how.map(ToString::to_string);
                views.push(ListenerView { name, address, steered, mechanism, queue, queue_bytes, note });
            }
        }
        views
    }

    /// What concerns supd as a whole.
    pub(super) fn notes(&self) -> Vec<String> {
        self.recorder.history_note().into_iter().collect()
    }
}

/// The active generation, if anything of it is there.
fn serving(status: &UnitStatus) -> Option<Generation> {
    let active = status.active?;
    status.generations.iter().any(|one| one.generation == active).then_some(active)
}

/// Whether the file says something else than what serves, in words for a note.
fn changed(unit: &UnitName, status: &UnitStatus, machine: &Machine, file: &Settings) -> Option<String> {
    let last = status.last_swap.as_ref().map(|swap| swap.result);
    let launch = serving(status).and_then(|active| machine.launch(unit, active))?;
    if last == Some(SwapResult::Running) || *launch.settings == *file {
        return None;
    }
    // It was left on purpose, or did not prove itself: nobody is to be sent there again by a hint.
    let went_back = launch.origin != launch.generation
        || matches!(last, Some(SwapResult::Failed | SwapResult::Aborted | SwapResult::RolledBack));
    Some(if went_back {
        format!("its file is not what serves: supctl swap {unit} brings it")
    } else {
        format!("changed on disk: supctl restart {unit}")
    })
}
