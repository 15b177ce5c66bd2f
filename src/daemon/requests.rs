//! Calls from the control socket: who may, what the files say, what the machine is asked.

use super::control::{Arrival, Call, rights};
use super::hands::Hands;
use super::outcomes::{Crowd, Repeated};
use super::units::{Units, Unreadable};
use crate::codec::fault::Fault;
use crate::codec::history::by;
use crate::codec::json::{FaultView, ReleaseView};
use crate::codec::varlink::{self, Method, Scope};
use crate::machine::{Deploy, Event, Input, Machine, Request, Restored};
use crate::model::status::ReleaseStatus;
use crate::model::{ClientId, Durable, Generation, Label, Reply, Settings, Tick, UnitName};
use crate::store::pins;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Settings of generations as the ledger's records carry them.
pub(super) type Carried = BTreeMap<(UnitName, Generation), Box<str>>;

impl Hands {
    /// Takes what came in at the control socket.
    pub fn arrival(&mut self, arrival: Arrival, machine: &Machine, now: Tick) {
        match arrival {
            Arrival::Call(mut call) => {
                let source = call.descriptor.take();
                self.call(&call, source, machine, now);
            }
            Arrival::HungUp(client) => {
                self.onlookers.remove(&client);
                self.counter.hung_up(client);
                self.unwatch(client);
                if let Some(unit) = self.clients.hung_up(client) {
                    self.takings.hung_up(client);
                    self.say(&unit, Event::HungUp { client });
                }
            }
        }
    }

    /// Answers what is for anyone; whether it was that.
    fn tell_anyone(&mut self, call: &Call, machine: &Machine, now: Tick) -> bool {
        match &call.method {
            Method::Status { unit, count } => {
                if !self.look(call.client, unit.as_ref(), *count, machine, now) {
                    self.no_such_unit(call, machine);
                }
            }
            // Whoever only waits has nothing read and brings nothing to the machine.
            Method::Wait { unit, .. } => match machine.units().any(|known| known == unit) {
                true => self.wait(call, unit, machine, now),
                false => self.no_such_unit(call, machine),
            },
            Method::Releases { unit } => self.list_releases(call, unit.as_ref(), machine),
            Method::History { .. } => self.pass_history(call),
            Method::Watch { .. } => self.watch_history(call, machine),
            _ => return false,
        }
        true
    }

    fn call(&mut self, call: &Call, source: Option<OwnedFd>, machine: &Machine, now: Tick) {
        if self.tell_anyone(call, machine, now) {
            return;
        }
        let on_disk = self.on_disk(&call.method, machine);
        if !self.may(call, on_disk.as_ref()) {
            return;
        }
        if let Method::Cat { unit, generation } = &call.method {
            return self.cat(call, unit, *generation, machine, now);
        }
        if let Method::Logs { unit, generation } = &call.method {
            // What a unit wrote stays when its file goes.
            if self.has_logs(unit)
                || self.has_journal(unit)
                || !matches!(on_disk, Some(Err(Unreadable::Missing)))
            {
                return self.pass_log(call, unit, *generation, machine, now);
            }
        }
        if let (Method::Connect { .. }, None | Some(Ok(_))) = (&call.method, &on_disk) {
            return self.connect(call, machine);
        }
        if call.meta.dry_run {
            return match self.clients.known(call, now) {
                Some(known) => self.rehearse_again(call, known),
                None => self.rehearse(call, on_disk, machine, now),
            };
        }
        if call.method.takes_descriptor() && source.is_none() {
            let text = "no source came with the request: pass its descriptor (SCM_RIGHTS)";
            return self.refuse(call.client, text.to_owned(), None);
        }
        match self.clients.repeated(call, now) {
            None => {}
            Some(Repeated::Joined) => return,
            Some(Repeated::Outcome(outcome)) => return self.control.answer(call.client, &outcome),
            Some(Repeated::Other(method)) => return self.used_before(call, method),
            Some(Repeated::Full(crowd)) => return self.crowded(call, crowd),
        }
        match &call.method {
            Method::Status { .. }
            | Method::Releases { .. }
            | Method::History { .. }
            | Method::Watch { .. }
            | Method::Cat { .. } => {}
            Method::DaemonReload => {
                self.asked(call, now);
                self.daemon_reload(Some(call.client), machine);
            }
            Method::Reexec => {
                self.asked(call, now);
                self.reexec(Some(call.client), machine, now);
            }
            Method::Shutdown => {
                self.asked(call, now);
                self.shutdown(Some(call.client));
            }
            method => match (method.unit(), on_disk) {
                (None, _) => {}
                (Some(unit), Some(Err(why))) => self.unreadable(call, unit, why, machine),
                (Some(_), Some(Ok(settings))) => self.ask(call, source, Some(settings), machine, now),
                (Some(_), None) => self.ask(call, source, None, machine, now),
            },
        }
    }

    /// The answer where the request_id is another request's.
    fn used_before(&mut self, call: &Call, method: &str) {
        let text = format!("this request_id was used for {method} before; take a new one");
        let unit = call.method.unit().map(|unit| format!(" {unit}")).unwrap_or_default();
        self.refuse(call.client, text, Some(format!("history{unit}")));
    }

    /// Says what would come of a call whose request_id is known.
    fn rehearse_again(&mut self, call: &Call, known: Repeated) {
        let text = match known {
            Repeated::Other(method) => return self.used_before(call, method),
            Repeated::Full(crowd) => return self.crowded(call, crowd),
            Repeated::Joined => "is under way under this request_id; would wait for what comes of it".into(),
            Repeated::Outcome(outcome) => {
                let what = outcome.sentence().unwrap_or_default();
                format!("was answered under this request_id already; would only say once more: {what}")
            }
        };
        self.control.reply(call.client, &Reply::done(false, text), Vec::new(), None);
    }

    /// The answer where too many are under way.
    fn crowded(&mut self, call: &Call, crowd: Crowd) {
        let unit = call.method.unit().map(|unit| format!(" {unit}")).unwrap_or_default();
        let what = match crowd {
            Crowd::OfUnit(count) if unit.is_empty() => format!("{count} requests of yours about supd"),
            Crowd::OfUnit(count) => format!("{count} requests of yours about{unit}"),
            Crowd::OfUser(count) => format!("{count} requests of yours"),
            Crowd::All => "too many requests".to_owned(),
        };
        let text = format!("{what} with a request_id are under way, and no more are taken; try again later");
        self.refuse(call.client, text, Some(format!("status{unit}")));
    }

    /// Says what a call would do.
    fn rehearse(
        &mut self,
        call: &Call,
        on_disk: Option<Result<Arc<Settings>, Unreadable>>,
        machine: &Machine,
        now: Tick,
    ) {
        let Some(unit) = call.method.unit().cloned() else {
            if call.method == Method::DaemonReload {
                return self.rehearse_reload(call.client, machine);
            }
            let text = match call.method {
                Method::Shutdown => {
                    format!("would stop all {} unit(s) in order, then end supd", machine.units().count())
                }
                Method::Reexec => match super::reexec::program() {
                    Ok(program) => format!("would go on as what is {program} now"),
                    Err(why) => return self.refuse(call.client, why, None),
                },
                _ => format!("would do: {}", call.method.verb()),
            };
            return self.control.reply(call.client, &Reply::done(false, text), Vec::new(), None);
        };
        let settings = match on_disk {
            Some(Err(why)) => return self.unreadable(call, &unit, why, machine),
            Some(Ok(settings)) => settings,
            None => match self.units.get(&unit) {
                Some(known) => known.settings.clone(),
                None => return self.no_such_unit(call, machine),
            },
        };
        let request = match request(&call.method, &settings) {
            Ok(request) => request,
            Err(text) => return self.refuse(call.client, text, None),
        };
        if let Err(text) = self.has_room(&settings, &request, machine) {
            return self.refuse(call.client, text, None);
        }
        let reply = machine.rehearse(now, &unit, request.clone()).or_else(|| {
            // supd would get to know the unit first.
            let (mut fresh, mut effects) = (Machine::default(), Vec::new());
            let restored = self.restored(settings.clone());
            fresh.step(now, Input::Add(Box::new(restored)), &mut effects);
            fresh.rehearse(now, &unit, request.clone())
        });
        match (reply, &call.method) {
            (Some(reply), Method::Start { take_from: Some(pid), .. }) => {
                self.take_from(call, *pid, (settings, request), Some(reply), (machine, now));
            }
            (Some(reply), _) => self.control.reply(call.client, &reply, Vec::new(), None),
            (None, _) => self.no_such_unit(call, machine),
        }
    }

    /// Answers `Releases`.
    fn list_releases(&mut self, call: &Call, unit: Option<&UnitName>, machine: &Machine) {
        let units: Vec<UnitName> = match unit {
            Some(unit) => vec![unit.clone()],
            None => {
                let all: BTreeSet<&UnitName> = machine.units().chain(self.recorder.units()).collect();
                all.into_iter().cloned().collect()
            }
        };
        let mut views = Vec::new();
        for unit in &units {
            match machine.releases(unit) {
                Some(releases) => {
                    views.extend(releases.iter().map(|release| ReleaseView::new(unit.as_str(), release)));
                }
                // A unit that supd has not met yet may have some from an earlier life.
                None if self.units.read(unit).is_ok() => {}
                None => {
                    let left = self.left_releases(unit);
                    if left.is_empty() && call.method.unit().is_some() {
                        return self.no_such_unit(call, machine);
                    }
                    views.extend(left.iter().map(|release| ReleaseView::new(unit.as_str(), release)));
                }
            }
        }
        self.control.releases(call.client, views);
    }

    /// Those of a unit that is forgotten, its file being gone: they stay in case it comes back.
    fn left_releases(&self, unit: &UnitName) -> Vec<ReleaseStatus> {
        let held = || Some("the unit's file is gone".to_owned());
        let releases = self.recorder.durable(unit).releases.into_iter();
        releases.map(|release| ReleaseStatus { release, newest: false, held: held() }).collect()
    }

    /// What is said of a unit of which nothing but releases is there.
    fn left_behind(&self, unit: &UnitName) -> Option<String> {
        let count = Some(self.left_releases(unit).len()).filter(|count| *count > 0)?;
        let folder = self.ground.releases.unit(unit);
        Some(format!(
            "{unit}: its file is gone, and {count} release(s) stay in {} in case it comes back: put the file \
             back to have them, or remove that folder by hand",
            folder.display()
        ))
    }

    /// The answer where a unit's files give no settings.
    pub(super) fn unreadable(&mut self, call: &Call, unit: &UnitName, why: Unreadable, machine: &Machine) {
        match why {
            Unreadable::Missing if machine.units().any(|known| known == unit) => {
                let text = format!("{unit}: its file is gone; put it back, or stop the unit");
                self.refuse(call.client, text, Some(format!("stop {unit}")));
            }
            Unreadable::Missing => self.no_such_unit(call, machine),
            Unreadable::Masked(text) => self.refuse(call.client, format!("{unit}: {text}"), None),
            Unreadable::Faulty(faults) => self.control.refuse(call.client, &bad_files(false, &faults)),
        }
    }

    /// Joins what is under way: for anyone, but what a worker wrote is for those who may act.
    fn wait(&mut self, call: &Call, unit: &UnitName, machine: &Machine, now: Tick) {
        let settings = self.units.get(unit).map(|known| &*known.settings);
        let gid = settings.and_then(Units::control_group);
        if !rights::may(&call.peer, Scope::Unit, self.control.masters(), gid) {
            self.onlookers.insert(call.client);
        }
        self.ask(call, None, None, machine, now);
    }

    /// What the files say now, for the methods that go by it and for a unit that is unknown.
    fn on_disk(&mut self, method: &Method, machine: &Machine) -> Option<Result<Arc<Settings>, Unreadable>> {
        let unit = method.unit()?;
        let launches = matches!(
            method,
            Method::Start { .. }
                | Method::Swap { .. }
                | Method::Restart { .. }
                | Method::Install { .. }
                | Method::Deploy { .. }
        );
        let known = machine.units().any(|known| known == unit);
        (launches || !known).then(|| {
            let loaded = self.units.read(unit)?;
            self.units.warn(unit, &loaded);
            Ok(Arc::new(loaded.settings))
        })
    }

    /// Whether this client may; if not it is told.
    fn may(&mut self, call: &Call, on_disk: Option<&Result<Arc<Settings>, Unreadable>>) -> bool {
        // The group of a file that is not in force yet does not count for a unit that is.
        let known = call.method.unit().and_then(|unit| self.units.get(unit));
        let settings = match (known, on_disk) {
            (Some(known), _) => Some(known.settings.clone()),
            (None, Some(Ok(settings))) => Some(settings.clone()),
            (None, _) => None,
        };
        let gid = settings.as_deref().and_then(Units::control_group);
        let masters = self.control.masters();
        let may = rights::may(&call.peer, call.method.scope(), masters, gid);
        if !may {
            let group = settings.as_deref().and_then(|settings| settings.control_group.as_deref());
            let refusal = rights::refusal(&call.method, masters, group);
            self.control.refuse(call.client, &refusal);
        }
        may
    }

    /// Gives a call to the machine, which may have to get to know the unit first.
    fn ask(
        &mut self,
        call: &Call,
        source: Option<OwnedFd>,
        settings: Option<Arc<Settings>>,
        machine: &Machine,
        now: Tick,
    ) {
        let Some(unit) = call.method.unit().cloned() else { return };
        let settings = match settings.or_else(|| Some(self.units.get(&unit)?.settings.clone())) {
            Some(settings) => settings,
            None => return self.no_such_unit(call, machine),
        };
        let request = match request(&call.method, &settings) {
            Ok(request) => request,
            Err(text) => {
                let next = format!("{} {unit}", call.method.verb());
                return self.refuse(call.client, text, Some(next));
            }
        };
        // What is not bound is in nobody's way: a unit that is down for its port has none.
        let conflict =
            launches(&request).then(|| Units::conflict(&settings, self.bound_elsewhere(&settings))).flatten();
        if let Some(conflict) = conflict {
            let next = format!("stop {}", conflict.second.0);
            return self.refuse(call.client, conflict.to_string(), Some(next));
        }
        if let Err(text) = self.has_room(&settings, &request, machine) {
            return self.refuse(call.client, text, None);
        }
        if let Method::Start { take_from: Some(pid), .. } = call.method {
            return self.take_from(call, pid, (settings, request), None, (machine, now));
        }
        self.asked(call, now);
        source.into_iter().for_each(|source| self.installs.keep(call.client, source));
        self.bring(call.client, settings, request, machine);
    }

    /// Gives the machine what a client asks for, and the unit first if it does not know that.
    pub(super) fn bring(
        &mut self,
        client: ClientId,
        settings: Arc<Settings>,
        request: Request,
        machine: &Machine,
    ) {
        let unit = settings.unit.clone();
        if !machine.units().any(|known| *known == unit) {
            self.add(settings);
        } else if launches(&request) {
            self.units.set(settings);
        }
        // Somebody may have removed files, or put them back.
        if !self.recorder.durable(&unit).releases.is_empty() {
            if let Some(trees) = self.on_disk_of(&unit) {
                self.say(&unit, Event::Looked { trees });
            }
        }
        self.say(&unit, Event::Asked { client, request });
    }

    /// The machine has this call from now on; one with a name of its own is on the disk as begun.
    pub(super) fn asked(&mut self, call: &Call, now: Tick) {
        let (stamp, seq) = (self.stamp(now), self.recorder.seq());
        let login_uid = self.control.login_uid(call.client);
        let Some(note) = self.clients.ask(call, login_uid, stamp, seq) else { return };
        if let Err(why) = self.recorder.keep(note, None) {
            log::warn!("{why}");
        }
    }

    /// A unit that becomes known while supd runs: it waits for its start.
    pub(super) fn add(&mut self, settings: Arc<Settings>) {
        self.units.set(settings.clone());
        let restored = self.restored(settings);
        self.inbox.push_back(Input::Add(Box::new(restored)));
    }

    fn restored(&mut self, settings: Arc<Settings>) -> Restored {
        let unit = settings.unit.clone();
        let mut durable = self.recorder.durable(&unit);
        let launches = self.launches(&unit, &mut durable, &Carried::new());
        Restored {
            settings,
            durable,
            launches,
            trees: self.trees(&unit),
            intent: None,
            machine_booted: false,
            supd_booting: false,
            bound: Vec::new(),
            survived: None,
            holding: None,
        }
    }

    /// The releases of a unit whose files are in place. What else is there is not supd's to remove.
    pub(super) fn trees(&self, unit: &UnitName) -> BTreeSet<Label> {
        let known = self.recorder.durable(unit).releases.into_iter().map(|release| release.label);
        match self.on_disk_of(unit) {
            Some(there) => known.filter(|label| there.contains(label)).collect(),
            None => known.collect(),
        }
    }

    /// The releases of a unit that the disk has; `None`: it does not say.
    fn on_disk_of(&self, unit: &UnitName) -> Option<BTreeSet<Label>> {
        let listed = self.ground.releases.list(unit);
        let failed = |why: &String| log::error!("{unit}: its releases cannot be read: {why}");
        listed.inspect_err(failed).ok().map(|labels| labels.into_iter().collect())
    }

    /// The pinned settings of every generation that the ledger names, as far as they can be read:
    /// as a record carries them, which is durable, or else from their file.
    pub(super) fn launches(
        &mut self,
        unit: &UnitName,
        durable: &mut Durable,
        carried: &Carried,
    ) -> BTreeMap<Generation, Arc<Settings>> {
        let mut launches = BTreeMap::new();
        for kept in durable.kept() {
            let text = carried.get(&(unit.clone(), kept.generation));
            let loaded = match text.map(|text| pins::read(text.as_bytes(), unit, &"what the ledger has")) {
                Some(Ok(settings)) => {
                    if let Err(error) = self.pins.restore(unit, kept.generation, &settings) {
                        log::warn!("{unit}/g{}: {error}", kept.generation);
                    }
                    Ok(settings)
                }
                Some(Err(_)) | None => self.pins.load(unit, kept.generation),
            };
            match loaded {
                Ok(settings) => {
                    self.recorder.is_stored(unit, kept.generation);
                    launches.insert(kept.generation, Arc::new(settings));
                }
                Err(why) => log::warn!("{unit}/g{}: {why}; it cannot be launched again", kept.generation),
            }
        }
        // Who lives is told how to go on, whatever the ledger has to say of it.
        let alive = self.survivors.of(unit);
        let alive = alive.into_iter().map(|alive| alive.generation);
        let untold: Vec<Generation> = alive.filter(|it| !launches.contains_key(it)).collect();
        for generation in untold {
            if let Ok(settings) = self.pins.load(unit, generation) {
                self.recorder.is_stored(unit, generation);
                launches.insert(generation, Arc::new(settings));
            }
        }
        // A ledger that lost its last line must not give a number out twice.
        let highest = self.pins.generations(unit).last().map_or(0, |generation| generation.0);
        durable.generation_last = durable.generation_last.max(highest);
        launches
    }

    /// Stops every unit, then supd, and it stays away: whoever started it is told so by how it ends.
    pub fn shutdown(&mut self, client: Option<ClientId>) {
        self.story.stays_away = true;
        self.stop_all(client);
    }

    /// Stops every unit, then supd.
    pub(super) fn stop_all(&mut self, client: Option<ClientId>) {
        super::upward::stopping();
        self.leaving = None;
        self.sweeper.end();
        self.story.ending.get_or_insert_with(|| self.clients.author(client?).map(by));
        self.inbox.push_back(Input::Shutdown { client });
    }

    pub(super) fn refuse(&mut self, client: ClientId, text: String, next: Option<String>) {
        self.control.reply(client, &Reply::refused(text, next), Vec::new(), None);
    }

    fn no_such_unit(&mut self, call: &Call, machine: &Machine) {
        self.refuse_unit(call.client, call.method.unit(), machine);
    }

    /// The same for whoever asked about it.
    pub(super) fn refuse_unit(&mut self, client: ClientId, unit: Option<&UnitName>, machine: &Machine) {
        let asked = unit.map_or("", UnitName::as_str);
        if let Some(fault) = UnitName::new(asked).ok().and_then(|unit| self.units.fault(&unit)) {
            return self.refuse(client, format!("{asked}: {fault}"), None);
        }
        let listed = self.units.list().units;
        if listed.iter().any(|unit| unit.as_str() == asked) {
            let text = format!("{asked}: its file is new, and supd has not read it yet");
            return self.refuse(client, text, Some("daemon-reload".to_owned()));
        }
        if let Some(text) = unit.and_then(|unit| self.left_behind(unit)) {
            return self.refuse(client, text, Some(format!("releases {asked}")));
        }
        let known = machine.units().chain(&listed).map(UnitName::as_str);
        let error = varlink::Error::no_such_unit(asked, known);
        self.control.refuse(client, &error);
    }
}

/// All faults as the protocol tells them.
pub(super) fn bad_files(changed: bool, faults: &[Fault]) -> varlink::Error {
    if let Some(need) = faults.iter().find(|fault| fault.exhausted) {
        // The files may well be right: whoever tries again later is not to be told otherwise.
        let reason = format!("supd cannot read the unit files: {need}");
        let failure = varlink::error::Failure { changed, reason, ..Default::default() };
        return varlink::Error::Failed(Box::new(failure));
    }
    let view = |fault: &Fault| FaultView {
        file: fault.file.display().to_string(),
        line: fault.line,
        column: fault.column,
        key: fault.key.clone(),
        what: fault.what.clone(),
        remedy: fault.remedy.clone(),
    };
    let faults = faults.iter().map(view).collect();
    varlink::Error::BadUnitFile(varlink::error::BadUnitFile { changed, faults })
}

/// Whether a request may launch what the unit's file says.
fn launches(request: &Request) -> bool {
    matches!(request, Request::Start { .. } | Request::Swap { .. } | Request::Restart { .. })
        || matches!(request, Request::Install { deploy: Some(_), .. })
}

/// What the machine is asked; or why it is not, in a sentence.
fn request(method: &Method, settings: &Arc<Settings>) -> Result<Request, String> {
    let settings = settings.clone();
    Ok(match method {
        Method::Start { wait, .. } => Request::Start { settings, wait: *wait },
        Method::Stop { now, keep_listening, .. } => {
            Request::Stop { now: *now, keep_listening: *keep_listening }
        }
        Method::Restart { wait, .. } => Request::Restart { settings, wait: *wait },
        Method::Swap { label, stops, replace, wait, force, unit: _ } => Request::Swap {
            settings,
            label: label.clone(),
            force: *force,
            stops: *stops,
            replace: *replace,
            wait: *wait,
        },
        Method::Install { label, .. } => Request::Install { settings, label: label.clone(), deploy: None },
        Method::Deploy { label, stops, replace, wait, unit: _ } => {
            let deploy = Deploy { stops: *stops, replace: *replace, wait: *wait };
            Request::Install { settings, label: label.clone(), deploy: Some(deploy) }
        }
        Method::Undeploy { label, .. } => Request::Undeploy { label: label.clone() },
        Method::Rollback { label, from, stop, anyway, wait, unit: _ } => {
            Request::Rollback { label: label.clone(), from: *from, stop: *stop, anyway: *anyway, wait: *wait }
        }
        Method::Share { share, wait, .. } => Request::Share { share: *share, wait: *wait },
        Method::Drain { generation, .. } => Request::Drain { generation: *generation },
        Method::Promote { wait, .. } => Request::Promote { wait: *wait },
        Method::Abort { .. } => Request::Abort,
        Method::Wait { wait, .. } => Request::Wait { wait: *wait },
        Method::Reload { .. } => Request::Reload,
        Method::Kill { signal, .. } => Request::Kill { signal: *signal },
        Method::Status { .. }
        | Method::Releases { .. }
        | Method::History { .. }
        | Method::Watch { .. }
        | Method::Cat { .. }
        | Method::Logs { .. }
        | Method::Connect { .. }
        | Method::DaemonReload
        | Method::Reexec
        | Method::Shutdown => {
            return Err(format!("{} is not about a unit", method.name()));
        }
    })
}
