//! The world at its best: whatever was asked of it succeeds, programs do what they should, and
//! time passes only when nothing is left to do. Then everything must end where it should.

use crate::brain::Brain;
use crate::knobs::Knob;
use crate::oracle::{Rule, Violation};
use crate::sim::{CLEAN, Checked, Sim};
use crate::step::{Act, Ask, Say, Step, Turn};
use crate::world::{Client, Door, Life, Proc, Unit, number};
use std::time::Duration;
use supd::model::settings::{Ready, Restart, Retain, Start};
use supd::model::status::{GenerationState, GenerationStatus, Traffic, UnitState, UnitStatus};
use supd::model::{ExitStatus, Signal, Tick, WaitFor, Want, WorkerExit};

/// All times that a unit can wait for are over by then.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Nobody has to be promoted as often: a few stops for each swap that is under way, or comes.
const PROMOTED_MAX: u32 = 100;
/// More than this without time passing is a spin.
const ACTIONS_MAX: u32 = 3000;
/// Clients that the healthy world itself plays.
const CLIENTS: u64 = 1_000_000;

impl<B: Brain> Sim<B> {
    /// Everything goes well for `span`.
    pub(crate) fn run(&mut self, span: Duration) -> Checked<()> {
        let end = self.world.now.after(span);
        loop {
            self.do_all()?;
            if self.world.quit || !self.pass(end)? {
                return Ok(());
            }
        }
    }

    /// Does whatever can be done without time passing.
    fn do_all(&mut self) -> Checked<()> {
        for _ in 0..ACTIONS_MAX {
            let Some(step) = self.next_good_step() else { return Ok(()) };
            self.apply(&step)?;
        }
        let text = format!("{ACTIONS_MAX} things happen and no time passes");
        Err(Violation::new(Rule::Restarts, text))
    }

    /// Lets time pass until something is due, at most until `end`. False: nothing is.
    fn pass(&mut self, end: Tick) -> Checked<bool> {
        let feed = self.world.units.iter().flat_map(Unit::live).filter_map(feed_at).min();
        let deadline = self.brain.deadline();
        let next = deadline.into_iter().chain(feed).min().unwrap_or(end);
        if next > end {
            self.world.now = self.world.now.max(end);
            return Ok(false);
        }
        if next > self.world.now {
            self.apply(&Step::Advance(self.world.span_until(next)))?;
        }
        if deadline.is_some_and(|deadline| deadline <= self.world.now) {
            self.apply(&Step::Clock)?;
        }
        Ok(self.world.now < end)
    }

    /// The next thing that a healthy world does by itself.
    fn next_good_step(&self) -> Option<Step> {
        if self.world.quit {
            return None;
        }
        self.world.units.iter().find_map(|unit| {
            outcome(unit).map(|turn| Step::At { unit: unit.place, turn }).or_else(|| job(unit)).or_else(
                || {
                    unit.procs.iter().find_map(|proc| {
                        let act = deed(unit, proc, self.world.now)?;
                        Some(Step::Worker(unit.name_of(proc.id)?, act))
                    })
                },
            )
        })
    }

    /// Everything goes well until all is as it should be; it is a fault if that never comes.
    pub(crate) fn settle(&mut self) -> Checked<()> {
        self.crash = None;
        if !self.world.quit {
            self.release()?;
        }
        let end = self.world.now.after(PATIENCE);
        let mut clients = CLIENTS + u64::from(self.world.life) * 1000 + self.world.clients.len() as u64;
        let mut promoted = 0;
        loop {
            self.do_all()?;
            if self.world.quit {
                self.apply(&Step::Boot)?;
                self.release()?;
                continue;
            }
            if let Some(unit) = self.held() {
                promoted += 1;
                if promoted > PROMOTED_MAX {
                    let text = "it waits for a person, and no promote helps".to_owned();
                    return Err(Violation::new(Rule::Liveness, text));
                }
                clients += 1;
                self.apply(&Step::Asks { client: clients, unit, ask: Ask::Promote(WaitFor::Committed) })?;
                continue;
            }
            let Err(missing) = self.converged() else { break };
            if !self.pass(end)? {
                return Err(Violation::new(Rule::Liveness, missing));
            }
        }
        self.goes_on()?;
        if self.brain.deadline().is_none() {
            self.oracle.stored_at_rest(&self.world, &self.status)?;
        }
        self.oracle.all_ended(&self.world, |unit| self.brain.swap_step(&unit.name).is_some())
    }

    /// A unit whose candidate waits for a person.
    fn held(&self) -> Option<usize> {
        let holds = |unit: &&Unit| {
            let Some(shown) = &self.status[unit.place] else { return false };
            let waits = [GenerationState::Candidate, GenerationState::Canary];
            let candidate = shown.generations.iter().find(|generation| waits.contains(&generation.state));
            // A load balancer has its time first.
            if shown.traffic != Traffic::On {
                return false;
            }
            let unbound = shown.generations.iter().any(|it| it.state == GenerationState::Unbound);
            unbound
                || candidate.is_some_and(|candidate| {
                    unit.complete(candidate.generation, self.world.now)
                        && candidate.workers.iter().all(|worker| worker.phase == "serving")
                })
        };
        self.world.units.iter().find(holds).map(|unit| unit.place)
    }

    /// Whether everything is as it should be; else what is not.
    fn converged(&self) -> Result<(), String> {
        if self.world.shutdown {
            return Err("supd was told to end and has not".to_owned());
        }
        // Whoever serves is not stopped for one that never comes up.
        let hopeless = |client: &Client| {
            let unit = client.asked.and_then(|(place, _)| self.world.unit(place));
            let drains = matches!(
                client.asked,
                Some((
                    _,
                    Ask::Swap { wait: WaitFor::Drained, .. }
                        | Ask::Start(WaitFor::Drained)
                        | Ask::Restart(WaitFor::Drained)
                        | Ask::Share(_, WaitFor::Drained)
                        | Ask::Promote(WaitFor::Drained)
                        | Ask::Drain(_)
                        | Ask::Rollback { wait: WaitFor::Drained, .. }
                        | Ask::SwapTo { wait: WaitFor::Drained, .. }
                        | Ask::RollbackTo { wait: WaitFor::Drained, .. }
                        | Ask::Install { wait: WaitFor::Drained, .. }
                        | Ask::Wait(WaitFor::Drained)
                ))
            );
            unit.is_some_and(|unit| {
                let down = number(unit.ledger.active.as_ref())
                    .is_some_and(|active| unit.ready_of(active).next().is_none());
                drains && down
            })
        };
        if let Some(client) = self.world.clients.iter().find(|client| client.waits() && !hopeless(client)) {
            return Err(format!("client {} still waits: {:?}", client.id, client.asked));
        }
        for unit in self.world.units.iter().filter(|unit| unit.known) {
            let shown = self.status[unit.place].as_ref().ok_or("no status")?;
            let halted = self.oracle.halted(unit.place);
            let keeps = self.world.clients.iter().any(|client| {
                matches!(client.asked, Some((place, Ask::Stop { keep_listening: true, .. })) if place == unit.place)
            });
            unit_converged(unit, shown, (halted, keeps), self.world.now)
                .map_err(|missing| format!("{}: {missing}; state {}", unit.name, shown.state))?;
        }
        Ok(())
    }

    /// What should serve serves a connection that arrives now; who cannot will be tried again.
    fn goes_on(&mut self) -> Checked<()> {
        for place in 0..self.world.units.len() {
            let unit = &self.world.units[place];
            let place = unit.place;
            let Some(shown) = &self.status[place] else { continue };
            let wants = unit.known && unit.ledger.want != Want::Down;
            let nobody = unit.live().next().is_none();
            let waits = shown.state == UnitState::Waiting;
            let again = number(unit.ledger.active.as_ref()).is_some_and(|active| always(unit, active));
            if wants
                && nobody
                && !waits
                && again
                && !self.oracle.halted(place)
                && self.brain.deadline().is_none()
            {
                let text = format!("{} should serve, nobody does, and nothing will be tried", unit.name);
                return Err(Violation::new(Rule::Restarts, text));
            }
            let broken = unit.files.iter().any(|(knobs, _)| knobs.broken());
            if !waits || unit.file().1.service.start != Start::OnDemand || broken {
                continue;
            }
            self.apply(&Step::At { unit: place, turn: Turn::Connect })?;
            self.run(Duration::from_secs(120))?;
            let left = self
                .world
                .unit(place)
                .map_or(0, |unit| unit.listeners.iter().map(crate::world::Listener::waiting).sum::<u32>());
            if left > 0 {
                return Err(Violation::new(Rule::Liveness, format!("{left} connections wait for ever")));
            }
        }
        Ok(())
    }

    /// Checks the words of a hand-written scenario.
    pub(crate) fn expect(&mut self, words: &str) -> Checked<()> {
        let (subject, rest) = words.split_once(' ').unwrap_or((words, ""));
        let fault = |found: String| Err(Violation::new(Rule::Expected, format!("{words:?}, but {found}")));
        if let Some(number) = subject.strip_prefix('c') {
            let client = self.world.clients.iter().find(|client| client.id.0.to_string() == number);
            let found = match client.map(|client| (&client.reply, client.gone)) {
                None => "nobody".to_owned(),
                Some((None, false)) => "waiting".to_owned(),
                Some((None, true)) => "gone".to_owned(),
                Some((Some(reply), _)) => {
                    let changed = if reply.changed { "changed" } else { "unchanged" };
                    format!("{} {changed}", answer(reply.status))
                }
            };
            let reply = client.and_then(|client| client.reply.as_ref());
            let next = reply.and_then(|reply| reply.next.as_deref()).unwrap_or_default();
            let text = reply.map(|reply| format!("{}: {next}", reply.text)).unwrap_or_default();
            let (status, says) = rest.split_once(" says ").unwrap_or((rest, ""));
            let met = found.starts_with(status) && text.contains(says);
            return if met { Ok(()) } else { fault(format!("{found}: {text:?}")) };
        }
        let Some(unit) = self.world.units.iter().find(|unit| unit.name.as_str() == subject) else {
            return fault("there is no such unit".to_owned());
        };
        let Some(shown) = &self.status[unit.place] else { return fault("it has no status".to_owned()) };
        for word in rest.split_whitespace() {
            let (key, wanted) = word.split_once('=').unwrap_or((word, ""));
            let found = fact(unit, shown, key);
            if found.as_deref() != Some(wanted) {
                return fault(format!("{key} is {found:?}"));
            }
        }
        Ok(())
    }
}

fn answer(status: ExitStatus) -> String {
    format!("{status:?}").to_lowercase()
}

/// What a scenario may ask about a unit.
fn fact(unit: &Unit, shown: &UnitStatus, key: &str) -> Option<String> {
    let number = |generation: Option<supd::model::Generation>| {
        generation.map_or("none".to_owned(), |generation| generation.to_string())
    };
    let sum = |count: fn(&crate::world::Listener) -> u32| unit.listeners.iter().map(count).sum::<u32>();
    let listening = unit.listeners.iter().filter(|listener| listener.door == Door::Listening).count();
    Some(match key {
        "state" => shown.state.to_string(),
        "active" => number(shown.active),
        "retained" => number(shown.retained),
        "traffic" => number(unit.traffic),
        "ledger" => number(crate::world::number(unit.ledger.active.as_ref())),
        "forward" => number(crate::world::number(unit.ledger.forward.as_ref())),
        "candidate" => {
            let candidates =
                shown.generations.iter().filter(|generation| generation.state == GenerationState::Candidate);
            number(candidates.map(|generation| generation.generation).next())
        }
        "live" => unit.live().count().to_string(),
        "runs" => unit.procs.len().to_string(),
        "want" => format!("{:?}", unit.ledger.want).to_lowercase(),
        "listening" => listening.to_string(),
        "bound" => unit.listeners.iter().filter(|listener| listener.door != Door::Closed).count().to_string(),
        "queued" => sum(crate::world::Listener::waiting).to_string(),
        "refused" => sum(|listener| listener.refused).to_string(),
        "served" => sum(|listener| listener.served.values().sum()).to_string(),
        "slow-disk" => shown.notes.iter().filter(|note| note.contains("has not taken")).count().to_string(),
        _ => return None,
    })
}

/// The first answer that the hands owe the machine.
fn outcome(unit: &Unit) -> Option<Turn> {
    let queued = unit.listeners.iter().any(|listener| listener.waiting() > 0);
    [
        (!unit.binds.is_empty(), Turn::Bound),
        (!unit.records.is_empty(), Turn::Recorded),
        (!unit.intents.is_empty(), Turn::IntentSaved),
        (!unit.switches.is_empty(), Turn::Switched),
        (!unit.counts.is_empty(), Turn::Counted),
        (!unit.retires.is_empty(), Turn::Retired),
        (!unit.pins.is_empty(), Turn::Pinned),
        (!unit.unpacks.is_empty(), Turn::Unpacked),
        (!unit.storing.is_empty(), Turn::Stored),
        (unit.unlistens > 0, Turn::Unlistened),
        (unit.watched && queued, Turn::Knocked),
    ]
    .into_iter()
    .find_map(|(due, turn)| due.then_some(turn))
}

fn job(unit: &Unit) -> Option<Step> {
    let job = unit.jobs.first()?;
    // The oldest of its kind ends; one that supd ended can only fail.
    let passes = unit.jobs.iter().any(|other| other.kind == job.kind && !other.ended);
    Some(Step::Job { unit: unit.place, kind: job.kind, passes })
}

/// When this worker feeds its watchdog next.
fn feed_at(proc: &Proc) -> Option<Tick> {
    let period = proc.period.filter(|_| proc.accepts())?;
    Some(proc.fed.after(period / 2))
}

/// What a healthy worker does next without being waited for.
fn deed(unit: &Unit, proc: &Proc, now: Tick) -> Option<Act> {
    match proc.life {
        Life::Launching => return Some(Act::Spawned),
        Life::Running if !proc.told_spawned => return Some(Act::Spawned),
        Life::Unlaunched => return None,
        Life::Dead(_) if proc.told_end.is_none() => return Some(Act::Reaped),
        Life::Dead(_) => {
            let sweeps = proc.sweep_asked && !proc.told_swept;
            return match (sweeps, proc.leftovers) {
                (true, true) => Some(Act::LeftoversEnd),
                (true, false) => Some(Act::Swept),
                (false, _) => None,
            };
        }
        Life::Running => {}
    }
    if proc.killed {
        return Some(Act::Exits(WorkerExit::Killed { signal: Signal::KILL, core: false }));
    }
    if proc.signalled || proc.told_by_person || proc.told_stopping {
        return Some(Act::Exits(CLEAN));
    }
    if unit.knobs(&proc.launch.settings).broken() {
        return Some(Act::Exits(WorkerExit::Code(1)));
    }
    let (ready, unready) = (&proc.launch.settings.service.ready, proc.told_ready.is_none());
    let fed = || feed_at(proc).is_some_and(|due| due <= now).then_some(Act::Says(Say::Alive));
    if unit.held.contains(&proc.generation()) {
        // Another thread of it goes on.
        return if proc.waits { fed() } else { Some(Act::Says(Say::Waits)) };
    }
    if *ready == Ready::Listen && unready {
        return Some(Act::Says(Say::Listening));
    }
    if (*ready == Ready::Notify && unready) || proc.reloading {
        return Some(Act::Says(Say::Ready));
    }
    fed()
}

/// Whether a unit is where it should be.
fn unit_converged(
    unit: &Unit,
    shown: &UnitStatus,
    (halted, keeps): (bool, bool),
    now: Tick,
) -> Result<(), String> {
    let must = |holds: bool, text: &str| if holds { Ok(()) } else { Err(text.to_owned()) };
    must(!unit.busy(), "something is still under way")?;
    must(unit.staged.is_empty(), "what was unpacked is still there")?;
    let listed = unit.trees.iter().all(|label| unit.ledger.releases.iter().any(|its| its.label == *label));
    must(
        listed && unit.trees.len() == unit.ledger.releases.len(),
        "the disk has other releases than the ledger",
    )?;
    let unswept = unit.procs.iter().any(|proc| matches!(proc.life, Life::Dead(_)) && !proc.is_over());
    must(!unswept, "a worker was never swept")?;
    let transient = [GenerationState::Candidate, GenerationState::Canary, GenerationState::Unbound];
    let candidate = shown.generations.iter().any(|generation| transient.contains(&generation.state));
    let active = number(unit.ledger.active.as_ref());
    let generations = unit.generations();
    let broken = |generation: &supd::model::Generation| {
        unit.procs
            .iter()
            .any(|proc| proc.generation() == *generation && unit.knobs(&proc.launch.settings).broken())
    };
    let unreleased = unit.file().1.service.releases && shown.state == UnitState::Stopped;
    let never_up = halted && (unit.booted || unreleased);
    match unit.ledger.want {
        Want::Up | Want::OnDemand if never_up && shown.state == UnitState::Stopped => {
            return must(generations.is_empty(), "stopped, and somebody lives");
        }
        Want::Down => {
            must(shown.state == UnitState::Stopped, "it should be stopped")?;
            must(generations.is_empty(), "stopped, and somebody lives")?;
            let open = unit.listeners.iter().any(|listener| listener.door != Door::Closed);
            must(!open || keeps, "stopped, and an address is still bound")?;
            return must(!unit.watched, "stopped, and still watches");
        }
        Want::OnDemand if shown.state == UnitState::Waiting => {
            must(generations.is_empty(), "it waits, and somebody lives")?;
            must(
                unit.doors_are(unit.file().1, Door::Listening) || unit.files.len() > 1,
                "it does not listen",
            )?;
            return must(unit.watched, "it waits, and does not watch");
        }
        Want::OnDemand | Want::Up => {}
    }
    let previous = number(unit.ledger.previous.as_ref());
    if [active, previous].iter().flatten().any(broken) || unit.knobs(unit.file().1).broken() {
        // A rollback to what never comes up again waits for ever; nothing else does.
        let waits = shown.state == UnitState::Probation && previous.is_none();
        return must(!waits, "it is in probation for ever");
    }
    must(!candidate, "there is still a candidate")?;
    must(unit.ledger.previous.is_none(), "the previous one is still kept")?;
    must(shown.active == active, "the ledger names another one active")?;
    let Some(active) = active else { return Err("it should be up, and nothing is active".to_owned()) };
    // Somebody may go back, or forward, to it.
    let named = [&unit.ledger.retained, &unit.ledger.forward].map(|kept| number(kept.as_ref()));
    let stands_by = |generation| {
        let stands = |shown: &GenerationStatus| {
            shown.generation == generation && shown.state == GenerationState::Standby
        };
        let warm = |proc: &Proc| unit.is_steered(proc) && proc.launch.settings.swap.retain == Retain::Warm;
        let warm = unit.live_of(active).all(warm);
        warm && named.contains(&Some(generation)) && shown.generations.iter().any(stands)
    };
    let gone = |generation: &GenerationStatus| {
        generation.generation == active && generation.workers.iter().any(|worker| worker.phase == "gone")
    };
    if gave_up(unit, active) || (shown.generations.iter().any(gone) && !always(unit, active)) {
        let alone = generations.iter().all(|other| *other == active || stands_by(*other));
        // Who serves in its place is not told to stop.
        let down = unit.ready_of(active).next().is_none();
        return must(alone || down, "another generation still lives");
    }
    must(shown.state == UnitState::Active, "it should be active")?;
    must(shown.traffic == Traffic::On && unit.offs == 0, "the load balancer thinks that nobody serves")?;
    must(unit.traffic == Some(active), "the traffic goes elsewhere")?;
    must(unit.complete(active, now), "the active generation is not ready")?;
    must(generations.iter().all(|one| *one == active || stands_by(*one)), "another generation still lives")?;
    let open = unit.files.iter().any(|(_, file)| {
        unit.procs.iter().any(|proc| proc.generation() == active && proc.launch.settings == *file)
            && unit.doors_are(file, Door::Listening)
    });
    must(open, "it serves, and does not listen")?;
    // Who has ended twice is not launched for them again: they wait for whoever borrows that slot.
    let waits = |listener: &crate::world::Listener| {
        let left = listener.slots.iter().filter(|(generation, _)| !unit.freed.contains(generation));
        listener.queue > 0 || left.map(|(_, count)| *count).sum::<u32>() > 0
    };
    must(!unit.listeners.iter().any(waits), "connections wait")
}

/// Whether `Restart` wants another run after every end of a worker of this generation.
fn always(unit: &Unit, generation: supd::model::Generation) -> bool {
    unit.store.get(&generation).is_some_and(|settings| {
        let service = &settings.service;
        service.restart == Restart::Always && service.restart_prevent_exit_status.codes.is_empty()
    })
}

/// Whether a worker of this generation ended in a way after which `Restart` wants no other.
fn gave_up(unit: &Unit, generation: supd::model::Generation) -> bool {
    let ended = unit.procs.iter().filter(|proc| proc.generation() == generation && proc.told_end.is_some());
    let mut ended = ended.filter(|proc| {
        !unit.live_of(generation).any(|other| other.index == proc.index) && unit.name_of(proc.id).is_some()
    });
    ended.any(|proc| {
        let always = unit.knobs(&proc.launch.settings).word(Knob::Restart) == "always";
        let prevented = unit.knobs(&proc.launch.settings).word(Knob::Prevent) != "no";
        !always || prevented
    })
}
