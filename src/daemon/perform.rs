//! Effects, one by one: what the machine decided, done by the hands. Outcomes go into the inbox.

use super::chores::Chore;
use super::death;
use super::hands::Hands;
use super::history::course;
use super::jobs::Left;
use super::launch::{self, Beside, hears_commands, new_invocation};
use super::logging::say;
use super::pinning::Copy;
use super::steer::{Course, Intended};
use super::verdict;
use super::workers::Around;
use crate::machine::{Action, Effect, Event, Fault, JobKind, JobWork, Launch, Level, Machine};
use crate::model::settings::Settings;
use crate::model::{
    ClientId, Generation, Intent, JobId, Label, Progress, Record, RecordId, Signal, Tick, UnitName, WorkerId,
};
use crate::os::listener::Traffic;
use crate::os::task::Task;
use crate::store::pins;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the last answers and records may take once every unit has stopped.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long it may take to remove what is stored of old generations.
const PRUNE_BOUND: Duration = Duration::from_secs(600);

/// How many of the newest log files stay, whatever became of their generations.
const LOGS_KEPT: usize = 5;

impl Hands {
    /// Does what the machine decided.
    pub fn perform(&mut self, effect: Effect, machine: &Machine, now: Tick) {
        death::moment(self.runtime.root());
        match effect {
            Effect::Unit(unit, action) => {
                self.keeping.touch(&unit);
                self.metrics.heed(&unit, &action, machine);
                self.act(&unit, action, machine, now);
            }
            Effect::Reply(client, reply) => self.reply(client, &reply, machine, now),
            Effect::Quit => {
                self.quit_by = Some(now.after(FAREWELL));
                self.tell_ended();
            }
        }
    }

    fn act(&mut self, unit: &UnitName, action: Action, machine: &Machine, now: Tick) {
        match action {
            Action::Bind { job, settings } => self.bind(unit, job, &settings),
            Action::Listen(named) => self.listen(unit, &named, (Traffic::Open, now)),
            Action::HoldOff(named) => self.listen(unit, &named, (Traffic::HeldOff, now)),
            Action::Unlisten => self.unlisten(unit, now),
            Action::CloseExcept(named) => {
                self.close_except(unit, &named);
                self.let_go(unit, machine);
            }
            Action::Watch => self.watch(unit),
            Action::Unwatch => self.end_watch(unit),
            Action::Spawn { worker, index, launch } => {
                if let Err(reason) = self.spawn(unit, worker, index, &launch, machine) {
                    self.say(unit, Event::SpawnFailed { worker, reason });
                }
            }
            Action::Adopt { worker, index, launch } => self.adopt(unit, worker, index, &launch),
            Action::Signal { worker, signal, everyone } => self.signal(worker, signal, everyone),
            Action::Sweep { worker, signal } => self.sweep(unit, worker, signal),
            Action::Run { job, kind, work, launch, worker, fault } => {
                if let Err(reason) = self.run(unit, job, kind, &work, &launch, (worker, fault)) {
                    self.say(unit, Event::Finished { job, result: Err(reason) });
                }
            }
            Action::EndJob { job } => self.jobs.end(job, &mut self.chores),
            Action::SaveIntent(intent) => self.save_intent(unit, &intent, machine),
            Action::ClearIntent => self.clear_intent(unit),
            Action::Switch { swap_id, to } => {
                self.switch(unit, swap_id, to, Course::of(unit, to, machine));
                self.try_out(unit, to, machine, now);
            }
            Action::Share { swap_id, candidate, share, sticky } => {
                self.keep_one(unit, machine);
                self.share(unit, swap_id, (candidate, share), sticky);
                self.try_out(unit, candidate, machine, now);
            }
            Action::Lend(launch) => self.lend_ahead(unit, &launch),
            Action::Bequeath { from, to } => self.bequeath(unit, (from, to), machine),
            Action::CloseStored { keep } => self.fdstore.close_except(unit, &keep, &mut self.sources),
            Action::HoldBinds(generation) => self.hold_binds(unit, generation),
            Action::AnswerBinds(generation) => self.answer_binds(unit, generation, now),
            Action::PassOn(generation) => self.pass_on(unit, generation),
            Action::Count(generation) => self.counter.ask(unit.clone(), generation),
            Action::Record { id, record, client } => self.record(unit, id, record, client, machine),
            Action::Pin(launch) => self.pin(launch),
            Action::Unpack { job, label, settings, client } => {
                self.unpack(unit, job, label, &settings, client);
            }
            Action::Place { job, staging, label, settings } => {
                self.place(unit, job, staging, label, &settings);
            }
            Action::Seal { job, label, settings } => self.seal(unit, job, label, &settings),
            Action::Discard { job } => self.discard(unit, job),
            Action::Remove { label } => self.remove_release(unit, &label),
            Action::Retire(generation) => self.retire(unit, generation, machine, now),
            Action::Prune { keep } => self.prune(unit, keep),
            Action::Reply(client, reply) => self.reply(client, &reply, machine, now),
            Action::Progress(client, progress) => self.progress(client, &progress),
            Action::Note { level, generation, text } => {
                note_of(unit, level, (generation, release(unit, generation, machine)), &text);
            }
            Action::WorkerFailed { generation, cause } => self.tell_failed(unit, generation, &cause, now),
            Action::InstallFailed { label, client, cause } => {
                self.tell_not_installed(unit, &label, client, &cause);
            }
            Action::Dump(text) => self.quarantined(unit, &text),
            Action::Forget => self.forget(unit),
        }
    }

    fn record(
        &mut self,
        unit: &UnitName,
        id: RecordId,
        record: Record,
        client: Option<ClientId>,
        machine: &Machine,
    ) {
        let asker = client.and_then(|client| self.clients.author(client)).cloned();
        let by = asker.or_else(|| self.unfinished.author(unit, &record.happening));
        let course = course(unit, &record.happening, machine);
        let settings = |generation| machine.launch(unit, generation).map(|launch| &*launch.settings);
        if let Err(event) = self.recorder.record(id, record, (by, course), settings) {
            self.say(unit, event);
        }
    }

    /// No process of it is left.
    fn retire(&mut self, unit: &UnitName, generation: Generation, machine: &Machine, now: Tick) {
        let queued = self.give_back(unit, generation);
        self.say(unit, Event::Retired { generation, queued });
        self.notifiers.close(unit, generation, &mut self.sources);
        self.intercepts.forget(unit, generation);
        self.logs.remove(unit, generation);
        self.cgroups.retire(unit, generation, now);
        self.clear_run_dirs(unit, machine, now);
    }

    fn progress(&mut self, client: ClientId, progress: &Progress) {
        for client in self.clients.listeners(client) {
            self.control.progress(client, progress);
        }
    }

    fn forget(&mut self, unit: &UnitName) {
        self.close_except(unit, &[]);
        self.fdstore.close_except(unit, &[], &mut self.sources);
        self.listeners.remove(unit);
        self.units.forget(unit);
        self.unlaunched.remove(unit);
    }

    fn save_intent(&mut self, unit: &UnitName, intent: &Intent, machine: &Machine) {
        // Should supd die once clients are led there, the next one has to know that it was ready.
        self.keep_one(unit, machine);
        let swap_id = intent.swap_id;
        let event = match self.runtime.save_intent(unit, intent) {
            Ok(()) => {
                // In the same turn as the switch, and not in its time: it reads files of /proc.
                let tried = machine.on_trial(unit) == Some(intent.to);
                let able = tried.then(|| self.is_able(unit, intent.to));
                self.intended.insert(unit.clone(), Intended { since: Instant::now(), able });
                Event::IntentSaved { swap_id }
            }
            Err(error) => Event::IntentFailed { swap_id, reason: error.to_string() },
        };
        self.say(unit, event);
    }

    fn clear_intent(&mut self, unit: &UnitName) {
        self.intended.remove(unit);
        if let Err(error) = self.runtime.clear_intent(unit) {
            log::warn!("{unit}: {error}");
        }
    }

    fn listen(&mut self, unit: &UnitName, named: &[Arc<Settings>], how: (Traffic, Tick)) {
        self.last_calls.remove(unit);
        if let Some(listeners) = self.listeners.get_mut(unit) {
            for fault in listeners.listen(named, how, &mut self.sources) {
                note(unit, Level::Error, None, &fault);
            }
            if listeners.deadline().is_some() {
                self.last_calls.insert(unit.clone());
            }
        }
    }

    fn unlisten(&mut self, unit: &UnitName, now: Tick) {
        match self.listeners.get_mut(unit).filter(|listeners| !listeners.is_empty()) {
            Some(listeners) => {
                for fault in listeners.unlisten(now, &mut self.sources) {
                    note(unit, Level::Warning, None, &fault);
                }
                self.last_calls.insert(unit.clone());
            }
            None => self.say(unit, Event::Unlistened),
        }
    }

    fn close_except(&mut self, unit: &UnitName, named: &[Arc<Settings>]) {
        if let Some(listeners) = self.listeners.get_mut(unit) {
            listeners.close_except(named, &mut self.sources);
        }
    }

    fn watch(&mut self, unit: &UnitName) {
        if let Some(listeners) = self.listeners.get_mut(unit) {
            if let Err(fault) = listeners.watch(&mut self.sources) {
                note(unit, Level::Error, None, &fault);
            }
        }
    }

    fn end_watch(&mut self, unit: &UnitName) {
        if let Some(listeners) = self.listeners.get_mut(unit) {
            listeners.unwatch(&mut self.sources);
        }
    }

    fn spawn(
        &mut self,
        unit: &UnitName,
        id: WorkerId,
        index: u32,
        launch: &Arc<Launch>,
        machine: &Machine,
    ) -> Result<(), String> {
        // Should supd die between the two, the next one has what the worker was lent.
        self.lend(unit, launch)?;
        self.keep_one(unit, machine);
        if machine.swap_step(unit).is_some() {
            self.watch_held(unit, crate::os::clock::now());
        }
        let notify = self.runtime.notify(unit, launch.generation);
        self.notifiers.open(unit, launch.generation, &notify, &mut self.sources)?;
        self.run_dirs.note(launch);
        let invocation = new_invocation().map_err(|error| error.to_string())?;
        let bound = self.listeners.get(unit);
        let mut listeners = Vec::new();
        for socket in &launch.settings.sockets {
            let fd = bound.and_then(|bound| bound.fd(launch.generation, &socket.address));
            let fd = fd.ok_or_else(|| format!("the listener {} is not bound", socket.name))?;
            listeners.push((socket.name.clone(), socket.address.clone(), fd));
        }
        let owner = (unit.clone(), launch.generation, index);
        let stored = self.fdstore.of(&owner);
        let pinned = launch.pinned.then(|| Copy::of(&self.pins, unit, launch.origin));
        let worker = launch::Worker {
            index,
            invocation: &invocation,
            notify_socket: &notify,
            listeners,
            stored,
            pinned,
            group: self.cgroups.place(launch, &invocation),
        };
        let mut around = Around {
            sources: &mut self.sources,
            inbox: &mut self.inbox,
            runtime: &self.runtime,
            boot: &self.boot,
        };
        self.workers.spawn(id, launch, &self.ground, &worker, &mut around)
    }

    fn bequeath(&mut self, unit: &UnitName, way: (Generation, Generation), machine: &Machine) {
        let Some(launch) = machine.launch(unit, way.1) else { return };
        let service = &launch.settings.service;
        self.fdstore.bequeath(unit, way, (service.workers, service.file_descriptor_store_max));
    }

    pub(super) fn signal(&mut self, id: WorkerId, signal: Signal, everyone: bool) {
        self.refuse_waiting(id);
        let Some(worker) = self.workers.get_mut(id) else { return };
        worker.signalled = true;
        if let Some(main) = worker.main() {
            match main.send(signal) {
                Err(error) if error.errno != nix::errno::Errno::ESRCH => {
                    let generation = Some(worker.launch.generation);
                    note(&worker.unit, Level::Warning, generation, &error.to_string());
                }
                Ok(()) | Err(_) => {}
            }
        }
        if everyone {
            self.sweeper.signal(worker.marks(), signal);
        }
    }

    fn sweep(&mut self, unit: &UnitName, id: WorkerId, signal: Option<Signal>) {
        if self.workers.get(id).is_some() {
            self.sweeper.sweep(id, signal);
        } else {
            // Never launched, or given up: nothing of it is known that could be left.
            self.say(unit, Event::Swept { worker: id });
        }
    }

    fn run(
        &mut self,
        unit: &UnitName,
        id: JobId,
        kind: JobKind,
        work: &JobWork,
        launch: &Launch,
        (worker, fault): (Option<WorkerId>, Option<Fault>),
    ) -> Result<(), String> {
        let its = worker.and_then(|worker| self.workers.get(worker));
        let (index, main_pid) = (its.map(|its| its.index), its.and_then(|its| Some(its.main()?.pid())));
        let notify = self.runtime.notify(unit, launch.generation);
        let command = match work {
            JobWork::Command(command) | JobWork::Tell(command, _) => command,
            JobWork::Http(url) => return self.check_http(unit, id, url, launch),
            JobWork::Tcp => return self.check_tcp(unit, id, launch),
        };
        let invocation = new_invocation().map_err(|error| error.to_string())?;
        let heard = hears_commands(&launch.settings.service);
        let open = self.notifiers.is_open(unit, launch.generation);
        // Of whom that is told nothing may be left, and its socket goes with it.
        let beside = kind == JobKind::OnFailure;
        let notify_socket = (heard && open && !beside).then_some(notify.as_path());
        let exit = worker.and_then(|worker| self.workers.exit(worker));
        let told = match work {
            JobWork::Tell(_, failure) => verdict::of_failure(failure, &launch.settings.service),
            JobWork::Command(_) | JobWork::Http(_) | JobWork::Tcp => {
                verdict::variables(kind, exit, fault, &launch.settings.service)
            }
        };
        let beside =
            Beside { command, invocation: &invocation, notify_socket, worker, index, main_pid, told };
        let Hands { jobs, ground, sources, inbox, runtime, boot, .. } = self;
        let mut around = Around { sources, inbox, runtime, boot };
        jobs.run(id, kind, launch, ground, &beside, &mut around)
    }

    fn prune(&mut self, unit: &UnitName, keep: Vec<Generation>) {
        // What comes later is not to be touched by a child that is slow.
        let last = Generation(self.recorder.durable(unit).generation_last);
        self.recorder.pruned(unit, &keep, last);
        let stored = self.pins.generations(unit);
        if stored.iter().all(|generation| keep.contains(generation)) {
            return;
        }
        let (folder, logs) = (self.pins.unit(unit), self.ground.logs.join(unit.as_str()));
        let work = move || {
            let mut faults = pins::prune(&folder, "", &keep, last);
            // A generation that failed is pruned at once; people want to read why.
            let newest = pins::numbered(&logs, ".log").into_iter().rev().take(LOGS_KEPT);
            let keep: Vec<Generation> = keep.into_iter().chain(newest).collect();
            faults.extend(pins::prune(&logs, ".log", &keep, last));
            match faults.first() {
                None => Ok(Vec::new()),
                Some(first) => Err(first.to_string()),
            }
        };
        let begun = Task::run("removing old generations", PRUNE_BOUND, &[], work)
            .map_err(|error| error.to_string())
            .and_then(|task| self.chores.begin(Chore::Prune(unit.clone()), task, &mut self.sources));
        if let Err(why) = begun {
            note(unit, Level::Warning, None, &format!("old generations stay on the disk: {why}"));
        }
    }

    /// A forked child may have its answer.
    pub fn chore(&mut self, number: u64, machine: &Machine, now: Tick) {
        let Some((chore, result)) = self.chores.poll(number, &mut self.sources) else { return };
        match chore {
            Chore::Sweep(ids) => {
                let Self { sweeper, workers, sources, inbox, runtime, boot, .. } = self;
                let mut around = Around { sources, inbox, runtime, boot };
                sweeper.searched(ids, result, now, workers, &mut around);
            }
            Chore::Signal(signal) => self.sweeper.found(signal, result, now, &self.workers, &self.boot),
            Chore::Holders(id) => self.holders_found(id, result, now),
            Chore::Census => self.counted(result, now),
            Chore::Forget(id) => self.forgotten(id, &result),
            Chore::Probe(job) => self.checked(job, result.map(|_| ())),
            Chore::Connect(client) => self.connected(client, result.map(|_| ())),
            Chore::TakeFrom(client) => self.searched(client, result, (machine, now)),
            Chore::Trim(_) => self.logs.trimmed(result.map(|_| ()), now),
            Chore::Pin(batch) => self.copied(&batch, result),
            Chore::Clear(unit) => {
                if let Err(why) = result {
                    note(&unit, Level::Warning, None, &format!("a RuntimeDirectory stays: {why}"));
                }
            }
            Chore::History(client) => self.history_read(client, result),
            Chore::CatchUp(client) => self.watcher_read(client, result),
            Chore::CheckHandover => self.handover_checked(result, now),
            Chore::Metrics => self.metrics_written(result),
            Chore::Machine => self.machine_told(&result, now),
            Chore::Known(client, unit) => self.watched_unit(client, &unit, result, machine),
            Chore::Unpack(unit, job) => self.unpacked(&unit, job, result),
            Chore::End(unit, job, of) => self.left_ended(&unit, job, of, result.map(|_| ())),
            Chore::Install(unit, job) => {
                self.say(&unit, Event::Finished { job, result: result.map(|_| ()) });
            }
            Chore::Discard => {
                if let Err(why) = result {
                    super::installs::stays(&why);
                }
            }
            Chore::Prune(unit) => {
                if let Err(why) = result {
                    note(&unit, Level::Warning, None, &format!("old generations stay on the disk: {why}"));
                }
            }
        }
    }

    /// A command may have ended.
    pub fn job_ended(&mut self, id: JobId) {
        let (jobs, mut around) = self.jobs();
        match jobs.exited(id, &mut around) {
            None => {}
            Some(Left::Beside(marks)) => self.sweeper.signal(marks, Signal::KILL),
            Some(Left::Before { marks, unit, result }) => self.end_left(&unit, id, &marks, result),
        }
    }
}

fn release<'a>(unit: &UnitName, of: Option<Generation>, machine: &'a Machine) -> Option<&'a Label> {
    machine.launch(unit, of?)?.release.as_ref()
}

/// One line of the log.
pub fn note(unit: &UnitName, level: Level, generation: Option<Generation>, text: &str) {
    note_of(unit, level, (generation, None), text);
}

fn note_of(unit: &UnitName, level: Level, of: (Option<Generation>, Option<&Label>), text: &str) {
    let level = match level {
        Level::Error => log::Level::Error,
        Level::Warning => log::Level::Warn,
        Level::Info => log::Level::Info,
        Level::Debug => log::Level::Debug,
    };
    let (generation, release) = of;
    let number = generation.map(|generation| generation.to_string());
    let mut fields = vec![("SUPD_UNIT", unit.as_str())];
    fields.extend(number.as_deref().map(|number| ("SUPD_GENERATION", number)));
    fields.extend(release.map(|release| ("SUPD_RELEASE", release.as_str())));
    match generation {
        Some(generation) => say(level, "", &fields, format_args!("{unit}/g{generation}: {text}")),
        None => say(level, "", &fields, format_args!("{unit}: {text}")),
    }
}
