//! Ties brain, world and oracle together: applies a step to the world, tells the brain, performs
//! what it wants, and lets the oracle look at everything.

use crate::brain::Brain;
use crate::coverage::Coverage;
use crate::hands::{perform_for, request, said, save_next, steered};
use crate::lives::End;
use crate::oracle::{Oracle, Rule, Violation};
use crate::print::print_effect;
use crate::step::{Act, Ask, Say, Step, Turn, UNITS, WorkerRef};
use crate::world::{Client, Door, InFlight, Life, Storing, Unit, World};
use supd::machine::{Action, Counts, Effect, Event, Input, JobKind};
use supd::model::release::Content;
use supd::model::settings::Ready;
use supd::model::status::{UnitState, UnitStatus};
use supd::model::{ClientId, Label, WorkerExit, WorkerId};

/// How many steps one event may take to be looked at before it counts as endless.
const EFFECTS_MAX: usize = 400;

/// A simulation under way.
#[derive(Clone)]
pub(crate) struct Sim<B> {
    pub(crate) brain: B,
    pub(crate) world: World,
    pub(crate) oracle: Oracle,
    /// `None`: nobody counts what is visited.
    pub(crate) coverage: Option<Box<Coverage>>,
    /// What the brain said of each unit after the last step.
    pub(crate) status: [Option<UnitStatus>; UNITS.len()],
    /// supd dies after so many more effects; so many records under way are saved; whether its workers live on.
    pub(crate) crash: Option<(u32, u32, bool)>,
    /// What happened, for people; `None`: nobody reads it.
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) began: bool,
    /// A person is sending a signal: what becomes of that is none of supd's doing.
    killing: bool,
}

pub(crate) type Checked<T> = Result<T, Violation>;

impl<B: Brain> Sim<B> {
    pub(crate) fn new(brain: B) -> Self {
        Self {
            brain,
            world: World::new(),
            oracle: Oracle::new(),
            coverage: None,
            status: [const { None }; UNITS.len()],
            crash: None,
            trace: None,
            began: false,
            killing: false,
        }
    }

    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// Lets one thing happen. False: it cannot happen here.
    pub(crate) fn apply(&mut self, step: &Step) -> Checked<bool> {
        if self.trace.is_some() {
            let seconds = self.world.now.0 / 1_000_000 - 1;
            let millis = self.world.now.0 / 1000 % 1000;
            self.say(|| format!("{seconds:>5}.{millis:03}  {step}"));
        }
        if self.world.quit
            && !matches!(step, Step::Boot | Step::Reboot { .. } | Step::Settle | Step::Edit { .. })
        {
            return Ok(false);
        }
        match *step {
            Step::Unit { unit, knobs, later } => self.add(unit, knobs, later),
            Step::Edit { unit, knobs } => {
                Ok(self.world.unit_mut(unit).map(|unit| unit.edit(knobs)).is_some())
            }
            Step::Asks { client, unit, ask } => self.asks(client, unit, ask),
            Step::HangsUp { client } => self.hangs_up(client),
            Step::Shutdown { client } => self.shut_down(client),
            Step::At { unit, turn } => self.turn(unit, turn),
            Step::Worker(worker, act) => self.act(worker, act),
            Step::Job { unit, kind, passes } => self.job(unit, kind, passes),
            Step::Forged { unit, say } => self.forged(unit, say),
            Step::Advance(span) => {
                self.world.now = self.world.now.after(span);
                Ok(true)
            }
            Step::Clock => self.deliver(Input::Clock).map(|()| true),
            Step::Deadline => self.deadline(std::time::Duration::ZERO),
            Step::Late(span) => self.deadline(span),
            Step::Crash { after, saved, kept } => {
                self.crash = Some((after, saved, kept));
                let end = if kept { End::Crash } else { End::OfAll };
                if after == 0 { self.die(saved, end).map(|()| true) } else { Ok(true) }
            }
            Step::Reboot { saved } => self.die(saved, End::Reboot).map(|()| true),
            Step::Boot => {
                if !self.world.quit {
                    return Ok(false);
                }
                self.die(0, End::OfAll).map(|()| true)
            }
            Step::Run(span) => self.run(span).map(|()| true),
            Step::Settle => self.settle().map(|()| true),
            Step::Marked => self.mark(),
            Step::Released => self.release(),
            Step::Expect(ref words) => self.expect(words).map(|()| true),
        }
    }

    /// Gives the brain one input, performs what it wants, and looks at what came of it.
    pub(crate) fn deliver(&mut self, input: Input) -> Checked<()> {
        let clock = matches!(input, Input::Clock);
        let place = match &input {
            Input::Unit(name, _) => self.world.place(name),
            _ => None,
        };
        if let Some(coverage) = &mut self.coverage {
            let step = |unit: &Unit| self.brain.swap_step(&unit.name);
            coverage.before(&self.world, &self.status, &input, step);
        }
        self.oracle.hears(&self.world, &input);
        let mut effects = Vec::new();
        self.brain.step(self.world.now, input, &mut effects);
        if effects.len() > EFFECTS_MAX {
            return Err(Violation::new(Rule::Bounded, format!("{} effects in one step", effects.len())));
        }
        for effect in effects {
            if let Some((after, saved, kept)) = &mut self.crash {
                if *after == 0 {
                    let (saved, end) = (*saved, if *kept { End::Crash } else { End::OfAll });
                    return self.die(saved, end);
                }
                *after -= 1;
            }
            self.say(|| format!("             → {}", print_effect(&effect)));
            if let Some(coverage) = &mut self.coverage {
                coverage.sees(&effect);
            }
            self.oracle.sees(&self.world, &effect)?;
            self.perform(effect);
        }
        for unit in &mut self.world.units {
            unit.accept();
        }
        self.look(place);
        if let Some(coverage) = &mut self.coverage {
            let step = |unit: &Unit| self.brain.swap_step(&unit.name);
            coverage.after(&self.world, &self.status, step);
        }
        self.oracle.judges(&self.world, &self.status, self.brain.deadline(), clock)
    }

    /// Asks the brain what it would show of one unit, or of all.
    fn look(&mut self, place: Option<usize>) {
        for unit in &self.world.units {
            if place.is_none_or(|place| place == unit.place) {
                self.status[unit.place] = self.brain.status(&unit.name, self.world.now);
            }
        }
        for unit in &mut self.world.units {
            unit.outlasts = self.brain.outlasts(&unit.name);
            let state = self.status[unit.place].as_ref().map(|shown| shown.state);
            let serves = matches!(state, Some(UnitState::Active | UnitState::Canary | UnitState::Probation));
            unit.retires.iter_mut().for_each(|(_, up)| *up &= serves);
        }
    }

    fn tell(&mut self, place: usize, event: Event) -> Checked<bool> {
        let Some(name) = self.world.unit(place).map(|unit| unit.name.clone()) else { return Ok(false) };
        self.deliver(Input::Unit(name, event)).map(|()| true)
    }

    fn add(&mut self, place: usize, knobs: crate::knobs::Knobs, later: bool) -> Checked<bool> {
        match self.world.unit_mut(place) {
            Some(unit) if unit.known => return Ok(false),
            Some(unit) => {
                unit.known = true;
                unit.orphaned = false;
                unit.edit(knobs);
            }
            None => self.world.units.push(Unit::new(place, knobs)),
        }
        let booting = !later && !self.began;
        self.oracle.restored(&self.world, place, booting);
        self.restore(place, booting).map(|()| true)
    }

    fn asks(&mut self, client: u64, place: usize, ask: Ask) -> Checked<bool> {
        let id = ClientId(client);
        self.began = true;
        let Some(unit) = self.world.unit_mut(place) else { return Ok(false) };
        if !unit.known {
            return Ok(false);
        }
        let (file, settings) = unit.file();
        let request = request(ask, settings.clone());
        let before = unit.ledger_soon().clone();
        if matches!(ask, Ask::Stop { .. }) {
            unit.procs.iter_mut().for_each(|proc| proc.doomed = true);
        }
        if self.world.client(id).is_some() {
            return Ok(false);
        }
        let asked = Some((place, ask));
        self.world.clients.push(Client { id, asked, file, reply: None, gone: false, before: Some(before) });
        self.killing = matches!(ask, Ask::Kill(_));
        let asked = self.tell(place, Event::Asked { client: id, request });
        self.killing = false;
        asked
    }

    fn hangs_up(&mut self, client: u64) -> Checked<bool> {
        let id = ClientId(client);
        let Some(client) = self.world.clients.iter_mut().find(|client| client.id == id) else {
            return Ok(false);
        };
        let Some((place, _)) = client.asked else { return Ok(false) };
        if client.gone {
            return Ok(false);
        }
        client.gone = true;
        self.tell(place, Event::HungUp { client: id })
    }

    fn turn(&mut self, place: usize, turn: Turn) -> Checked<bool> {
        let now = self.world.now;
        let Some(unit) = self.world.unit_mut(place) else { return Ok(false) };
        let reason = || "ENOSPC (No space left on device)".to_owned();
        let event = match turn {
            Turn::Bound | Turn::BindFails => {
                let Some((job, settings)) = unit.binds.front().cloned() else { return Ok(false) };
                if turn == Turn::BindFails
                    && !settings.sockets.iter().any(|it| unit.door(&it.address) == Door::Closed)
                {
                    // What is bound already cannot fail to be.
                    return Ok(false);
                }
                unit.binds.pop_front();
                let all_closed = unit.binds_closed.clone();
                if unit.binds.is_empty() {
                    unit.binds_closed.clear();
                }
                if turn == Turn::BindFails {
                    Event::BindFailed { job, reason: "127.0.0.1:8000: EADDRINUSE".to_owned() }
                } else {
                    for socket in &settings.sockets {
                        let closed = all_closed.contains(&socket.address);
                        let listener = unit.listener(&socket.address);
                        if listener.door == Door::Closed && !closed {
                            listener.door = Door::Bound;
                        }
                    }
                    Event::Bound { job, steered: steered(unit.knobs(&settings)) }
                }
            }
            Turn::Unlistened => {
                if unit.unlistens == 0 {
                    return Ok(false);
                }
                unit.unlistens -= 1;
                unit.listeners.iter_mut().for_each(crate::world::Listener::reset);
                Event::Unlistened
            }
            Turn::Connect => {
                unit.connect(now);
                return self.oracle.connected(&self.world, place).map(|()| true);
            }
            Turn::Knocked => {
                if !unit.watched || unit.listeners.iter().all(|listener| listener.waiting() == 0) {
                    return Ok(false);
                }
                unit.watched = false;
                Event::Knocked
            }
            Turn::IntentSaved | Turn::IntentFails => {
                let Some(intent) = unit.intents.pop_front() else { return Ok(false) };
                let swap_id = intent.swap_id;
                let void = unit.intents_void;
                unit.intents_void = void.saturating_sub(1);
                if turn == Turn::IntentSaved {
                    if void == 0 {
                        unit.intent = Some(intent);
                    }
                    Event::IntentSaved { swap_id }
                } else {
                    Event::IntentFailed { swap_id, reason: reason() }
                }
            }
            Turn::Switched | Turn::SwitchFails => {
                let Some((swap_id, to)) = unit.switches.pop_front() else { return Ok(false) };
                let void = unit.switches_void;
                unit.switches_void = void.saturating_sub(1);
                if turn == Turn::Switched {
                    if void == 0 {
                        unit.led_to(to, now);
                    }
                    Event::Switched { swap_id, took: std::time::Duration::ZERO }
                } else {
                    Event::SwitchFailed { swap_id, reason: "EPERM".to_owned() }
                }
            }
            Turn::ShareFails => {
                let Some((swap_id, candidate, _)) = unit.share.take() else { return Ok(false) };
                unit.diverted(candidate, now);
                Event::ShareFailed { swap_id, reason: "EPERM".to_owned() }
            }
            Turn::Stalls => {
                let newest = unit.generations().into_iter().next_back();
                let Some(generation) =
                    newest.filter(|it| unit.live_of(*it).any(|proc| unit.is_steered(proc)))
                else {
                    return Ok(false);
                };
                Event::Stalled { generation, reason: "accepts nothing".to_owned() }
            }
            Turn::Counted | Turn::CountedBusy => {
                let Some(generation) = unit.counts.pop_front() else { return Ok(false) };
                let left = u32::from(turn == Turn::CountedBusy);
                let queued = left.max(unit.queued_for(generation));
                let counts = Counts { connections: Some(left), oldest: None, queued, half_open: left };
                Event::Counted { generation, counts, queues: Vec::new() }
            }
            Turn::Retired | Turn::RetiredQueued => {
                let Some(&(generation, up)) = unit.retires.front() else { return Ok(false) };
                let stays = turn == Turn::RetiredQueued;
                let Some(queued) = unit.give_back(generation, up, stays) else { return Ok(false) };
                unit.retires.pop_front();
                Event::Retired { generation, queued }
            }
            Turn::Recorded => match save_next(unit, &mut self.oracle) {
                Some(record) => {
                    unit.disk_since = now;
                    Event::Recorded { record }
                }
                None => return Ok(false),
            },
            Turn::RecordFails => {
                let Some(InFlight { id, record, .. }) = unit.records.pop_front() else { return Ok(false) };
                unit.disk_since = now;
                self.oracle.unsaved(place, &record);
                Event::RecordFailed { record: id, reason: reason() }
            }
            Turn::Pinned | Turn::NotPinned => {
                let Some(launch) = unit.pins.pop_front() else { return Ok(false) };
                Event::Pinned { generation: launch.generation, pinned: turn == Turn::Pinned }
            }
            Turn::Unpacked | Turn::UnpackedOther | Turn::UnpackFails => {
                let Some((job, label)) = unit.unpacks.pop_front() else { return Ok(false) };
                let digest = match turn {
                    Turn::Unpacked => Some(format!("sha256:{label}")),
                    Turn::UnpackedOther => Some("sha256:other".to_owned()),
                    _ => None,
                };
                let content = digest.map(|digest| Content { digest, files: 1, bytes: 1, at: 1 });
                Event::Unpacked { job, result: content.ok_or_else(reason) }
            }
            Turn::Stored | Turn::StoreFails => {
                let Some(Storing { job, label, staging }) = unit.storing.pop_front() else {
                    return Ok(false);
                };
                // A job that was ended, or whose tree was thrown away meanwhile, moves nothing.
                let there = staging.is_none_or(|staging| unit.staged.remove(&staging));
                if turn == Turn::Stored && there {
                    unit.trees.insert(label);
                    Event::Finished { job, result: Ok(()) }
                } else {
                    Event::Finished { job, result: Err(reason()) }
                }
            }
            Turn::Orphaned => {
                if unit.orphaned || !unit.known {
                    return Ok(false);
                }
                unit.orphaned = true;
                let name = unit.name.clone();
                return self.deliver(Input::Orphaned(name)).map(|()| true);
            }
        };
        self.tell(place, event)
    }

    fn act(&mut self, worker: WorkerRef, act: Act) -> Checked<bool> {
        let now = self.world.now;
        let Some(unit) = self.world.unit_mut(worker.unit) else { return Ok(false) };
        let Some(id) = unit.find(worker) else { return Ok(false) };
        let Some(proc) = unit.proc_mut(id) else { return Ok(false) };
        let event = match act {
            Act::Spawned => {
                if proc.life == Life::Unlaunched || proc.told_spawned || proc.told_end.is_some() {
                    return Ok(false);
                }
                if proc.life == Life::Launching {
                    proc.life = Life::Running;
                }
                proc.told_spawned = true;
                if proc.launch.settings.service.ready == Ready::Started {
                    proc.became_ready(now);
                }
                Event::Spawned { worker: id }
            }
            Act::SpawnFails => {
                if proc.life != Life::Launching || proc.acted {
                    return Ok(false);
                }
                proc.life = Life::Unlaunched;
                proc.told_end = Some(now);
                let reason = "fork: EAGAIN (Resource temporarily unavailable)".to_owned();
                Event::SpawnFailed { worker: id, reason }
            }
            Act::Says(say) => return self.says(worker.unit, id, say),
            Act::Dies(exit) | Act::Exits(exit) => {
                if !proc.runs() {
                    return Ok(false);
                }
                proc.life = Life::Dead(exit);
                proc.acted = true;
                if let Act::Dies(_) = act {
                    return Ok(true);
                }
                return self.act(worker, Act::Reaped);
            }
            Act::Reaped => {
                let Life::Dead(exit) = proc.life else { return Ok(false) };
                if proc.told_end.is_some() {
                    return Ok(false);
                }
                proc.told_end = Some(now);
                Event::Exited { worker: id, exit }
            }
            Act::Forks => {
                if !proc.runs() || proc.life == Life::Launching {
                    return Ok(false);
                }
                proc.leftovers = true;
                return Ok(true);
            }
            Act::LeftoversEnd => return Ok(std::mem::take(&mut proc.leftovers)),
            Act::Swept => {
                if !proc.sweep_asked || proc.told_swept || proc.leftovers {
                    return Ok(false);
                }
                proc.told_swept = true;
                Event::Swept { worker: id }
            }
        };
        self.tell(worker.unit, event)
    }

    fn says(&mut self, place: usize, id: WorkerId, say: Say) -> Checked<bool> {
        let now = self.world.now;
        let Some(unit) = self.world.unit_mut(place) else { return Ok(false) };
        if unit.procs.iter().any(|proc| proc.id == id && proc.life == Life::Unlaunched) {
            return Ok(false);
        }
        let held = unit.held.clone();
        let Some(proc) = unit.proc_mut(id) else { return Ok(false) };
        let unbound = proc.told_spawned && proc.told_end.is_none() && held.contains(&proc.generation());
        // Nobody listens whose bind has no answer, and nobody waits who has one.
        let waits = match say {
            Say::Waits => !unbound || proc.waits,
            Say::Listening => unbound,
            _ => false,
        };
        if waits {
            return Ok(false);
        }
        if proc.told_end.is_none() {
            proc.acted = true;
            match say {
                Say::Ready => {
                    proc.reloading = false;
                    if proc.launch.settings.service.ready == Ready::Notify {
                        proc.became_ready(now);
                    }
                }
                Say::Listening => {
                    if proc.launch.settings.service.ready == Ready::Listen {
                        proc.became_ready(now);
                    }
                }
                Say::Waits => proc.waits = true,
                Say::Reloading | Say::ReloadingOld | Say::ReloadingBare => proc.reloading = true,
                Say::Stopping => proc.told_stopping = true,
                Say::Alive => proc.fed = proc.fed.max(now),
                Say::Trigger => proc.triggered = true,
                Say::Period(span) => {
                    proc.period = Some(span);
                    proc.fed = proc.fed.max(now);
                }
                Say::Extend(_) | Say::Reset | Say::Status => {}
            }
        }
        self.tell(place, said(id, say, now))
    }

    fn forged(&mut self, place: usize, say: Say) -> Checked<bool> {
        self.tell(place, said(WorkerId(u64::MAX), say, self.world.now))
    }

    fn job(&mut self, place: usize, kind: JobKind, passes: bool) -> Checked<bool> {
        let now = self.world.now;
        let Some(unit) = self.world.unit_mut(place) else { return Ok(false) };
        let found = unit.jobs.iter().position(|job| job.kind == kind && !(passes && job.ended));
        let Some(at) = found else { return Ok(false) };
        let job = unit.jobs.remove(at);
        unit.last_job = Some((job.id, job.kind, job.worker));
        if passes && kind == JobKind::ReadyCheck {
            let checked = unit.procs.iter_mut().filter(|proc| {
                job.worker.map_or(proc.generation() == job.generation, |worker| proc.id == worker)
            });
            checked.for_each(|proc| proc.became_ready(now));
        }
        if passes {
            unit.balancer_told(kind);
        }
        if passes && kind == JobKind::StartPost {
            let posted = unit.procs.iter_mut().filter(|proc| job.worker == Some(proc.id));
            posted.for_each(|proc| proc.posts = false);
        }
        let result = if passes { Ok(()) } else { Err("exit status 1".to_owned()) };
        self.tell(place, Event::Finished { job: job.id, result })
    }

    fn deadline(&mut self, late: std::time::Duration) -> Checked<bool> {
        let Some(deadline) = self.brain.deadline() else { return Ok(false) };
        self.world.now = self.world.now.max(deadline).after(late);
        self.deliver(Input::Clock).map(|()| true)
    }

    /// Does what the brain wants, as far as that is done at once; the rest is answered later.
    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Reply(client, reply) => self.answer(client, reply),
            Effect::Quit => self.world.quit = true,
            Effect::Unit(name, action) => {
                let Some(place) = self.world.place(&name) else { return };
                match action {
                    Action::Reply(client, reply) => self.answer(client, reply),
                    Action::Record { id, record, .. } => {
                        let (to, first) = match record.happening {
                            supd::model::Happening::Began { to, from, .. } => (Some(to), from.is_none()),
                            _ => (None, false),
                        };
                        let named = record.durable.kept().map(|kept| kept.generation).chain(to);
                        let recipe = |number| Some((number, self.brain.launch(&name, number)?.settings));
                        let launches = named.filter_map(recipe).collect();
                        let now = self.world.now;
                        if let Some(unit) = self.world.unit_mut(place) {
                            if first {
                                // Nobody has the traffic, so there is nothing to switch; what
                                // was under way has been overtaken.
                                (unit.traffic, unit.spare) = (to, false);
                                unit.switches_void = unit.switches.len();
                            }
                            if unit.records.is_empty() {
                                unit.disk_since = now;
                            }
                            unit.records.push_back(InFlight { id, record, launches });
                        }
                    }
                    Action::Signal { worker, signal, .. } if self.killing => {
                        let proc = self.world.unit_mut(place).and_then(|unit| unit.proc_mut(worker));
                        let Some(proc) = proc else { return };
                        proc.told_by_person |= signal == proc.launch.settings.service.kill_signal;
                    }
                    // The hands do so at once, before anything else happens.
                    Action::Switch { to, .. } if self.oracle.leads_anew(place) => {
                        let now = self.world.now;
                        if let Some(unit) = self.world.unit_mut(place) {
                            unit.led_to(to, now);
                        }
                    }
                    other => {
                        let now = self.world.now;
                        if let Some(unit) = self.world.unit_mut(place) {
                            perform_for(unit, other, now);
                        }
                    }
                }
            }
        }
    }

    fn answer(&mut self, client: ClientId, reply: supd::model::Reply) {
        if let Some(client) = self.world.clients.iter_mut().find(|known| known.id == client) {
            client.reply = Some(reply);
        }
    }
}

pub(crate) fn label(number: u8) -> Label {
    Label::new(&format!("r{number}")).unwrap()
}

/// An exit as the healthy world has it.
pub(crate) const CLEAN: WorkerExit = WorkerExit::Code(0);
