//! daemon-reload: every unit file once more; new units, changed ones, gone ones. One that is
//! faulty changes nothing of what runs.

use super::gather::Round;
use super::hands::Hands;
use super::hint::{Seen, hint};
use super::launch::Logged;
use super::requests::bad_files;
use super::units::Unreadable;
use crate::codec::request::Stamp;
use crate::codec::varlink::Outcome;
use crate::machine::{Event, Input, Launch, Machine, Request};
use crate::model::{ClientId, Reply, Signal, Tick, UnitName, WorkerExit};
use crate::os::clock;
use crate::os::logfile::tail;
use crate::os::room::Room;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many lines are shown of what a failed generation wrote.
const LINES: usize = 20;

impl Hands {
    /// Where somebody has removed the control socket, a SIGHUP is the one way left to be heard.
    fn republish_control(&mut self) {
        match self.control.republish() {
            Ok(false) => {}
            Ok(true) => log::warn!("the control socket had been removed: it is there again"),
            Err(error) => log::error!("the control socket has been removed: {error}"),
        }
    }

    /// Reads everything again. The answer comes when every changed unit has said what it makes of
    /// that.
    pub fn daemon_reload(&mut self, client: Option<ClientId>, machine: &Machine) {
        super::upward::reloading();
        self.republish_control();
        self.read_metrics(clock::now());
        let listing = self.units.list();
        let mut round = Round { client, faults: listing.faults, ..Round::default() };
        self.hold_no_longer(&mut round);
        let room = Room::now();
        self.units.forget_faults_but(&listing.units);
        let mut asked = Vec::new();
        let known: BTreeSet<UnitName> = machine.units().cloned().collect();
        for unit in listing.units.iter().chain(known.iter().filter(|unit| !listing.units.contains(unit))) {
            let loaded = match self.units.read(unit) {
                Ok(loaded) => loaded,
                Err(Unreadable::Faulty(faults)) => {
                    round.faults.extend(faults);
                    continue;
                }
                Err(Unreadable::Missing | Unreadable::Masked(_)) => {
                    if self.units.get(unit).is_some_and(|its| !its.orphaned) {
                        round.said.push(format!("{unit}: its file is gone"));
                        round.changed = true;
                        self.units.orphan(unit);
                        self.inbox.push_back(Input::Orphaned(unit.clone()));
                    }
                    continue;
                }
            };
            self.units.warn(unit, &loaded);
            let settings = Arc::new(loaded.settings);
            if let Some(text) = self.lacks_room(&settings, known.contains(unit), room) {
                round.said.push(text);
                round.failed = true;
                continue;
            }
            match self.units.get(unit) {
                Some(its) if *its.settings == *settings && !its.orphaned => {}
                Some(_) if known.contains(unit) => {
                    let client = self.clients.internal();
                    asked.push(client);
                    self.units.set(settings.clone());
                    self.say(unit, Event::Asked { client, request: Request::Refresh { settings } });
                }
                Some(_) | None => {
                    round.said.push(format!("{unit}: new"));
                    round.changed = true;
                    self.add(settings);
                }
            }
        }
        if let Some(round) = self.gather.begin(round, &asked) {
            self.inbox_answer(&round);
        }
    }

    /// Whoever says daemon-reload has seen to it.
    fn hold_no_longer(&mut self, round: &mut Round) {
        let Some(why) = self.holding.take() else { return };
        if let Err(error) = self.crashes.clear() {
            log::error!("{error}: the next supd may hold again");
        }
        log::info!("holds no longer ({why})");
        round.said.push("supd holds no longer".to_owned());
        round.changed = true;
        self.inbox.push_back(Input::HoldNoLonger);
    }

    /// Says what daemon-reload would find.
    pub(super) fn rehearse_reload(&mut self, client: ClientId, machine: &Machine) {
        let listing = self.units.list();
        let held = self.holding.iter().map(|_| "supd would hold no longer".to_owned());
        let (mut said, mut faults) = (held.collect::<Vec<_>>(), listing.faults);
        let all: BTreeSet<&UnitName> = listing.units.iter().chain(machine.units()).collect();
        for unit in all {
            let known = self.units.get(unit);
            match (self.units.read_afresh(unit), known) {
                (Err(Unreadable::Faulty(its)), _) => faults.extend(its),
                (Err(Unreadable::Missing | Unreadable::Masked(_)), Some(known)) if !known.orphaned => {
                    said.push(format!("{unit}: its file is gone"));
                }
                (Err(Unreadable::Missing | Unreadable::Masked(_)), _) => {}
                (Ok(loaded), Some(known)) if *known.settings == loaded.settings && !known.orphaned => {}
                (Ok(_), Some(known)) if known.orphaned => said.push(format!("{unit}: its file is back")),
                (Ok(_), Some(_)) => said.push(format!("{unit}: changed")),
                (Ok(_), None) => said.push(format!("{unit}: new")),
            }
        }
        if !faults.is_empty() {
            return self.control.refuse(client, &bad_files(false, &faults));
        }
        let text = match said.is_empty() {
            true => "nothing would change".to_owned(),
            false => format!("would take in: {}", said.join("; ")),
        };
        self.control.reply(client, &Reply::done(false, text), Vec::new(), None);
    }

    fn inbox_answer(&mut self, round: &Round) {
        for fault in &round.faults {
            log::error!("{fault}");
        }
        let reply = round.reply();
        log::info!("daemon-reload: {}", reply.text);
        if round.changed {
            self.tell_reloaded(round.client, &reply.text);
        }
        super::upward::ready();
        let Some(client) = round.client else { return };
        let outcome = if round.faults.is_empty() {
            Outcome::of_reply(&reply, Vec::new(), None)
        } else {
            Outcome::of_error(&bad_files(round.changed, &round.faults))
        };
        self.tell(client, &outcome, clock::now());
    }

    /// The machine has answered.
    pub(super) fn reply(&mut self, client: ClientId, reply: &Reply, machine: &Machine, now: Tick) {
        // Whoever is answered may count on it, whoever dies next.
        self.keep(machine, now);
        if super::clients::Clients::is_internal(client) {
            if let Some(round) = self.gather.answer(client, reply) {
                self.inbox_answer(&round);
            }
            return;
        }
        self.installs.forget(client);
        let reply = &self.with_lender(client, reply);
        self.tell_done(client, reply);
        let (mut log, mut log_file, mut helps) = (Vec::new(), None, None);
        let onlooker = self.onlookers.remove(&client);
        if let (Some(ended), Some(unit), false) = (&reply.ended, self.clients.unit(client), onlooker) {
            let launch = machine.launch(unit, ended.generation);
            let path = self.ground.log(unit, ended.generation);
            // One that is gone already, or an install, has a log if anything of it went there.
            let kept = launch.map(|launch| self.ground.kept(&launch.settings.service));
            let logged = kept == Some(Logged::File) || (kept != Some(Logged::Elsewhere) && path.exists());
            // What goes elsewhere is not said to be nothing.
            if logged {
                log = tail(&path, LINES);
                log_file = Some(path.display().to_string());
            }
            let seen = |launch: &Launch| Seen {
                ended_by_supd: ended.exit.is_none(),
                forbidden: matches!(ended.exit, Some(WorkerExit::Killed { signal: Signal::SYS, .. })),
                missing: self.intercepts.missing(launch),
                strangers: self.intercepts.strangers(unit, ended.generation),
            };
            helps = launch.and_then(|launch| hint(&launch.settings, &log, &seen(launch)));
        }
        let text = helps.map_or_else(|| reply.text.clone(), |helps| format!("{}; {helps}", reply.text));
        let reply = Reply { text, ..reply.clone() };
        self.tell(client, &Outcome::of_reply(&reply, log, log_file), now);
    }

    /// Tells it; to a request with an id not before a repetition would be told the same after a crash,
    /// also where nothing has changed: who asks without end waits for the disk, and does not fill the
    /// way to it for others. A disk that does not take it costs no more than that.
    pub(super) fn tell(&mut self, client: ClientId, outcome: &Outcome, now: Tick) {
        let stamp = self.stamp(now);
        let kept = self.clients.outcome(client, outcome, stamp);
        match kept.map(|note| self.recorder.keep(note, Some(client))) {
            Some(Ok(())) => {}
            None => self.answer(client, outcome, now),
            Some(Err(why)) => {
                log::warn!("{why}");
                self.answer(client, outcome, now);
            }
        }
    }

    fn answer(&mut self, client: ClientId, outcome: &Outcome, now: Tick) {
        for client in self.clients.answered(client, outcome, now) {
            self.control.answer(client, outcome);
        }
    }

    /// What was to be on the disk first is there.
    pub(super) fn kept(&mut self, client: ClientId, now: Tick) {
        if let Some(outcome) = self.clients.written(client) {
            self.answer(client, &outcome, now);
        }
    }

    /// This moment, for a file.
    pub(super) fn stamp(&self, now: Tick) -> Stamp {
        Stamp { at: clock::wall_micros(), boot: self.boot.to_string(), tick: now }
    }
}
