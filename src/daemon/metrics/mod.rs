//! Metrics: counted, told to who asks and written to a file, where supd.toml says so. Otherwise this does
//! nothing at all, and supd is at rest.
//!
//! A page is made at most once a second, for all who ask. It says what `supctl status` says, so a scrape is
//! somebody who looks: connections are counted for it.

mod client;
mod door;

use super::chores::Chore;
use super::hands::Hands;
use super::sources::Sources;
use crate::codec::metrics::{Snapshot, text};
use crate::machine::{Action, Machine};
use crate::model::metrics::{MetricsSettings, Tallies};
use crate::model::{Happening, Tick, UnitName};
use crate::os::clock;
use crate::os::process::resident;
use crate::os::task::Task;
use crate::store::files;
use client::Client;
use door::Door;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A page is told for so long.
const PAGE_LIFE: Duration = Duration::from_secs(1);

/// Between two tries to listen.
const RETRY: Duration = Duration::from_secs(5);

/// A child that writes the file is ended after this.
const WRITE_BOUND: Duration = Duration::from_secs(10);

/// So many who ask are borne with at a time; one more, and whoever is there longest has to go.
const CLIENTS_MAX: usize = 16;

/// So many are let in in a turn.
const ACCEPTS_PER_TURN: usize = 16;

/// Everything about metrics.
#[derive(Debug, Default)]
pub struct Metrics {
    settings: MetricsSettings,
    tallies: Tallies,
    door: Option<Door>,
    /// Somebody may stand before it.
    knocked: bool,
    /// When to try to listen again.
    retry: Option<Tick>,
    clients: BTreeMap<u64, Client>,
    last: u64,
    page: Option<(Tick, Arc<[u8]>)>,
    next_file: Option<Tick>,
    /// The file waits for a page.
    due: bool,
    writing: bool,
    /// What was complained of last.
    told: String,
    began: Duration,
    reexecs: u64,
}

impl Metrics {
    /// Nothing yet; this is the image after so many others.
    #[must_use]
    pub fn begin(reexecs: u64) -> Self {
        Self { began: clock::wall(), reexecs, ..Self::default() }
    }

    /// How many images of this supd there were before.
    #[must_use]
    pub fn reexecs(&self) -> u64 {
        self.reexecs
    }

    /// When something is due although no descriptor says so.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        let at_once = self.knocked || self.clients.values().any(Client::is_busy);
        let clients = self.clients.values().map(Client::until);
        let page = self.page.as_ref().map(|(made, _)| made.after(PAGE_LIFE));
        clients.chain(page).chain(self.retry).chain(self.next_file).chain(at_once.then_some(Tick(0))).min()
    }

    /// Counts what the machine has decided.
    pub fn heed(&mut self, unit: &UnitName, action: &Action, machine: &Machine) {
        if !self.settings.is_on() {
            return;
        }
        let counts = matches!(
            action,
            Action::Spawn { .. } | Action::WorkerFailed { .. } | Action::Retire(_) | Action::Record { .. }
        );
        if !counts {
            return;
        }
        let tally = self.tallies.entry(unit.clone()).or_default();
        match action {
            Action::Spawn { index, launch, .. } => tally.launched(launch.generation, *index),
            Action::WorkerFailed { .. } => tally.failures += 1,
            Action::Retire(generation) => tally.retired(*generation),
            Action::Record { record, .. } => match &record.happening {
                Happening::Began { swap_id, kind, .. } => tally.began(*swap_id, *kind),
                Happening::Ended { swap_id, result, .. } => {
                    let swap = machine.swap(unit, *swap_id);
                    let times = swap.map_or((None, None), |swap| (swap.ready, swap.switch));
                    tally.ended(*swap_id, *result, times);
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn complain(&mut self, what: String) {
        if self.told != what {
            log::warn!("metrics: {what}");
            self.told = what;
        }
    }

    /// Takes what the file says now.
    fn configure(&mut self, settings: MetricsSettings, now: Tick, sources: &mut Sources) {
        if settings == self.settings {
            return;
        }
        if settings.listen != self.settings.listen {
            self.clients.retain(|_, client| client.close(sources));
            if let Some(door) = self.door.take() {
                door.close(sources);
            }
            self.retry = settings.listen.is_some().then_some(now);
            self.knocked = false;
        }
        self.next_file = settings.file.is_some().then_some(now);
        if !settings.is_on() {
            self.tallies.clear();
        }
        self.told.clear();
        self.settings = settings;
    }

    /// Listens, if that is due.
    fn listen(&mut self, now: Tick, sources: &mut Sources) {
        if self.retry.is_none_or(|retry| now < retry) {
            return;
        }
        let Some(place) = &self.settings.listen else { return };
        match Door::open(place, sources) {
            Ok(door) => {
                log::info!("metrics: listens at {door}");
                (self.door, self.retry, self.knocked) = (Some(door), None, true);
                self.told.clear();
            }
            Err(why) => {
                self.retry = Some(now.after(RETRY));
                self.complain(format!("{why}; it is tried again every {}s", RETRY.as_secs()));
            }
        }
    }

    /// Lets in who stands before the door.
    fn accept(&mut self, now: Tick, sources: &mut Sources) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(door) = self.door.as_ref().filter(|_| self.knocked) else { return };
            let stream = match door.accept() {
                Ok(Some(stream)) => stream,
                Ok(None) => {
                    self.knocked = false;
                    return;
                }
                Err(error) => {
                    self.knocked = false;
                    self.retry_accept(&error, now, sources);
                    return;
                }
            };
            if self.clients.len() >= CLIENTS_MAX {
                // Numbers grow: the first is there longest.
                if let Some((_, mut oldest)) = self.clients.pop_first() {
                    oldest.close(sources);
                }
            }
            let number = self.last + 1;
            if let Ok(client) = Client::new(stream, number, now, sources) {
                self.last = number;
                self.clients.insert(number, client);
            }
        }
    }

    /// There is no descriptor left: whoever waits is let in later.
    fn retry_accept(&mut self, error: &std::io::Error, now: Tick, sources: &mut Sources) {
        if let Some(door) = self.door.take() {
            door.close(sources);
        }
        self.retry = Some(now.after(RETRY));
        self.complain(format!("cannot accept: {error}"));
    }

    /// Goes on with those who have said or taken something, and parts from who takes too long.
    fn serve(&mut self, now: Tick, sources: &mut Sources) {
        self.clients.retain(|_, client| {
            let stays = client.until() > now && client.turn();
            stays || client.close(sources)
        });
    }

    fn wants_page(&self) -> bool {
        self.due || self.clients.values().any(Client::is_waiting)
    }
}

impl Hands {
    /// Reads what supd.toml says of metrics. What is wrong there changes nothing.
    pub(super) fn read_metrics(&mut self, now: Tick) {
        match self.units.metrics() {
            Ok(settings) => self.metrics.configure(settings, now, &mut self.sources),
            Err(faults) => faults.iter().for_each(|fault| log::error!("metrics: {fault}")),
        }
    }

    /// Somebody stands before the door.
    pub(super) fn metrics_knocked(&mut self) {
        self.metrics.knocked = true;
    }

    /// Does what is due.
    pub(super) fn tend_metrics(&mut self, machine: &Machine, now: Tick) {
        if !self.metrics.settings.is_on() {
            return;
        }
        self.metrics.listen(now, &mut self.sources);
        self.metrics.accept(now, &mut self.sources);
        self.metrics.serve(now, &mut self.sources);
        if self.metrics.next_file.is_some_and(|next| next <= now) {
            self.metrics.next_file = Some(now.after(self.metrics.settings.interval));
            self.metrics.due = !self.metrics.writing;
        }
        if self.metrics.page.as_ref().is_some_and(|(made, _)| made.after(PAGE_LIFE) <= now) {
            self.metrics.page = None;
        }
        if !self.metrics.wants_page() {
            return;
        }
        let made = self.metrics.page.as_ref().map(|(_, page)| page.clone());
        let page = match made {
            Some(page) => page,
            None if !self.is_counted(now) => return,
            None => self.make_page(machine, now),
        };
        for client in self.metrics.clients.values_mut() {
            client.tell(&page);
        }
        self.metrics.serve(now, &mut self.sources);
        if std::mem::take(&mut self.metrics.due) {
            self.write_metrics(&page);
        }
    }

    fn make_page(&mut self, machine: &Machine, now: Tick) -> Arc<[u8]> {
        // A counter that is there from the beginning is one whose first step is seen.
        for unit in machine.units() {
            if !self.metrics.tallies.contains_key(unit) {
                self.metrics.tallies.insert(unit.clone(), Default::default());
            }
        }
        let snapshot = Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            units: self.views(None, machine, now).unwrap_or_default(),
            clients: self.control.clients(),
            resident: resident(),
            began: self.metrics.began,
            reexecs: self.metrics.reexecs,
            holding: self.holding.is_some(),
        };
        let page: Arc<[u8]> = text(&snapshot, &self.metrics.tallies).into_bytes().into();
        self.metrics.page = Some((now, page.clone()));
        page
    }

    /// In a child: the disk may take long.
    fn write_metrics(&mut self, page: &Arc<[u8]>) {
        let Some(file) = self.metrics.settings.file.clone() else { return };
        let write = || files::put(&file, page, 0o644).map(|()| Vec::new()).map_err(|error| error.to_string());
        let begun = Task::run("write metrics", WRITE_BOUND, &[], write)
            .map_err(|error| error.to_string())
            .and_then(|task| self.chores.begin(Chore::Metrics, task, &mut self.sources));
        match begun {
            Ok(()) => self.metrics.writing = true,
            Err(why) => self.metrics.complain(why),
        }
    }

    /// The file is written, or not.
    pub(super) fn metrics_written(&mut self, result: Result<Vec<u8>, String>) {
        self.metrics.writing = false;
        match result {
            Ok(_) => {}
            Err(why) => self.metrics.complain(format!("{why}; the next interval tries again")),
        }
    }
}
