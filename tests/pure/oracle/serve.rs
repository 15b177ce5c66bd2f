//! Launching, signalling and burying workers: make before break, and nothing that is not ours.

use super::books::Book;
use super::{Checked, Rule, must, show};
use crate::knobs::{REST, WAKE, version};
use crate::world::{Life, Proc, Unit, World, number};
use std::sync::Arc;
use std::time::Duration;
use supd::machine::{JobKind, Launch};
use supd::model::settings::{KillMode, Restart};
use supd::model::status::SwapResult;
use supd::model::{Generation, Settings, Share, Signal, SwapId, SwapKind, Tick, Want, WorkerId};

/// More relaunches of one worker's place than this within a minute is a crash loop let loose.
const RELAUNCHES_MAX: usize = 20;

impl Book {
    pub(super) fn spawns(&mut self, world: &World, unit: &Unit, index: u32, launch: &Arc<Launch>) -> Checked {
        let generation = launch.generation;
        must(Rule::Stopped, !self.halted, || format!("launches generation {generation} of a stopped unit"))?;
        Self::is_alone(unit, launch)?;
        must(Rule::Stopped, !world.shutdown, || "launches during shutdown".to_owned())?;
        must(Rule::Accounts, index < launch.settings.service.workers, || {
            format!("worker {index} is one too many")
        })?;
        let double = unit.live_of(generation).chain(&unit.orphans);
        let double = double.filter(|proc| proc.generation() == generation).any(|proc| proc.index == index);
        must(Rule::Accounts, !double, || format!("launches {generation}.{index} while the last one lives"))?;
        if self.ended.contains(&generation) {
            return self.rescues(index, launch);
        }
        let last =
            unit.procs.iter().rev().find(|proc| proc.generation() == generation && proc.index == index);
        match last {
            Some(last) => self.relaunches(world, unit, last, launch),
            None if self.outlived.contains(&generation) => {
                must(Rule::Pinned, launch.pinned, || format!("{generation} goes on with what is on disk"))?;
                self.same_recipe(launch)
            }
            None if unit.procs.iter().any(|proc| proc.generation() == generation) => self.same_recipe(launch),
            None => self.launches(world, unit, launch),
        }
    }

    /// supd goes on with a worker that has outlived the last one.
    pub(super) fn adopts(&mut self, unit: &Unit, index: u32, launch: &Arc<Launch>) -> Checked {
        let generation = launch.generation;
        let its = |proc: &&Proc| proc.generation() == generation && proc.index == index;
        let there = unit.orphans.iter().any(|proc| its(&proc));
        must(Rule::Accounts, there, || format!("goes on with {generation}.{index}, which is not there"))?;
        must(Rule::Stopped, !self.halted, || format!("goes on with {generation} of a stopped unit"))?;
        self.same_recipe(launch)
    }

    /// The first launch of a generation.
    fn launches(&mut self, world: &World, unit: &Unit, launch: &Arc<Launch>) -> Checked {
        let generation = launch.generation;
        self.used = self.used.max(generation.0);
        let Some(swap) = self.maker(generation).cloned() else {
            // It never sent a record: only what serves from nothing may do so, and not even that.
            return must(Rule::Numbers, false, || format!("generation {generation} without a record"));
        };
        // Where nobody served, it serves without a number rather than not at all.
        let excused = swap.began_failed && swap.from.is_none();
        must(Rule::Numbers, swap.began_saved || excused, || {
            format!("launches generation {generation} before its number is saved")
        })?;
        self.first_recipe(world, unit, &swap, launch)?;
        self.note_recipe(generation, &launch.settings);
        Ok(())
    }

    /// Rollbacks run what ran, everything else what is on disk.
    fn first_recipe(
        &self,
        world: &World,
        unit: &Unit,
        swap: &super::books::SwapBook,
        launch: &Launch,
    ) -> Checked {
        let found = version(&launch.settings);
        if swap.kind == SwapKind::Rollback {
            let named = swap.client.and_then(|client| world.client(client)).and_then(|client| client.asked);
            if let Some((_, crate::step::Ask::RollbackTo { label, .. })) = named {
                let label = crate::sim::label(label);
                return must(Rule::Pinned, launch.release.as_ref() == Some(&label), || {
                    format!("a rollback to release {label} launches {:?}", launch.release)
                });
            }
            let before = &swap.before;
            let target = number(before.retained.as_ref().or(before.previous.as_ref()));
            let wanted = target.and_then(|target| self.recipe(unit, target));
            must(Rule::Pinned, launch.pinned, || "a rollback runs what is on disk".to_owned())?;
            must(Rule::Pinned, launch.origin != launch.generation, || "a rollback pins itself".to_owned())?;
            let asked = swap.client.and_then(|client| world.client(client)).and_then(|client| client.asked);
            let anyway = !matches!(asked, Some((_, crate::step::Ask::Rollback { anyway: false, .. })));
            let pinned = before.retained.as_ref().is_some_and(|kept| kept.pinned);
            must(Rule::Pinned, anyway || pinned, || {
                format!("a rollback to {} without a copy, and without --anyway", show(target))
            })?;
            return must(Rule::Pinned, wanted.is_none_or(|wanted| wanted == found), || {
                format!("a rollback to {} runs v{found}, not v{wanted:?}", show(target))
            });
        }
        let before = &swap.before;
        let last = number(before.active.as_ref()).and_then(|active| self.recipe(unit, active));
        // At a boot of the machine the file counts, until something has been launched from it.
        let from_file = self.machine_booted && self.served.len() <= 1;
        if let (SwapKind::Start, None, false, Some(last)) =
            (swap.kind, swap.client, from_file, last.filter(|_| launch.pinned))
        {
            // supd alone was started again: what was running goes on.
            // Who waits for a first connection may do so with the file as it is; a person's start
            // that could not bind is tried again as asked.
            let asked = before.want == Want::OnDemand || self.told.len() > 1;
            let waited = asked && self.told.contains(&found);
            return must(Rule::Pinned, last == found || waited, || {
                format!("goes on with v{found}, v{last} was running")
            });
        }
        let asked = swap.client.and_then(|client| world.client(client));
        let wanted = asked.filter(|client| client.asked.is_some_and(|(_, ask)| reads_file(ask)));
        let wanted = wanted.map_or(self.told.clone(), |client| vec![client.file]);
        must(Rule::Pinned, wanted.contains(&found), || {
            format!("launches v{found}, the file says v{wanted:?}")
        })?;
        let own = launch.origin == launch.generation;
        must(Rule::Pinned, own, || format!("a first launch that is not of its own: {:?}", launch.origin))
    }

    pub(super) fn same_recipe(&self, launch: &Launch) -> Checked {
        let (found, wanted) = (version(&launch.settings), self.recipes.get(&launch.generation));
        must(Rule::Pinned, wanted == Some(&found), || {
            format!("generation {} was launched with v{wanted:?}, now v{found}", launch.generation)
        })
    }

    /// A launch after a crash.
    fn relaunches(&mut self, world: &World, unit: &Unit, last: &Proc, launch: &Arc<Launch>) -> Checked {
        let generation = launch.generation;
        self.same_recipe(launch)?;
        must(Rule::Pinned, launch.pinned, || format!("a relaunch of {generation} runs what is on disk"))?;
        let service = &launch.settings.service;
        let ended = last.told_end.unwrap_or(world.now);
        // A rollback needs it, or needed it when it was set to come back.
        let back = |swap: &super::books::SwapBook| {
            swap.from == Some(generation) && swap.ended_sent == Some(SwapResult::RolledBack)
        };
        let needed = self.revived >= ended || self.running().is_some() || self.swaps.iter().any(back);
        let never = service.restart == Restart::No && last.life != Life::Unlaunched;
        must(Rule::Restarts, !never || needed, || "Restart=no, and launched again".to_owned())?;
        let eager = service.restart == Restart::Always && world.now < ended.after(service.restart_delay);
        must(Rule::Restarts, !eager, || {
            format!(
                "{generation}.{} is launched again {:?} after its end",
                last.index,
                world.now.since(ended)
            )
        })?;
        let times = self.relaunches.entry((generation, last.index)).or_default();
        times.retain(|time| time.after(Duration::from_secs(60)) > world.now);
        times.push(world.now);
        let count = times.len();
        must(Rule::Restarts, count <= RELAUNCHES_MAX, || {
            format!("{count} launches of {generation} in a minute")
        })?;
        let candidate = !self.served.contains(&generation) && unit.live().any(Proc::is_ready);
        must(Rule::FailedSwap, !candidate, || format!("candidate {generation} is launched again"))
    }

    pub(super) fn signals(
        &self,
        world: &World,
        unit: &Unit,
        worker: WorkerId,
        signal: Signal,
        everyone: bool,
    ) -> Checked {
        let Some(proc) = unit.proc(worker) else {
            return must(Rule::Accounts, false, || format!("signals worker {worker}, which never was"));
        };
        must(Rule::Accounts, proc.told_end.is_none(), || {
            format!("signals worker {worker}, which has ended")
        })?;
        if self.kill == Some(signal) {
            return Ok(());
        }
        if [REST, WAKE].contains(&signal) {
            // Before that it may have no handler.
            must(Rule::Standby, signal == WAKE || proc.is_ready(), || {
                format!("worker {worker} is told to rest before it is ready")
            })?;
            return self.rests(world, unit, proc.generation(), signal);
        }
        let service = &proc.launch.settings.service;
        if ![service.kill_signal, Signal::KILL, Signal::ABRT].contains(&signal) {
            return Ok(());
        }
        self.breaks(world, unit, proc, &signal.to_string())?;
        self.has_finished(world, unit, proc, &signal.to_string())?;
        let all = match service.kill_mode {
            KillMode::ControlGroup => signal != Signal::ABRT,
            KillMode::Orderly | KillMode::Mixed => signal == Signal::KILL,
            KillMode::Process => false,
        };
        must(Rule::KillMode, everyone == all, || {
            let whom = if everyone { "every process" } else { "the main process" };
            format!("{:?}: {signal} to {whom} of worker {worker}", service.kill_mode)
        })
    }

    pub(super) fn runs(
        &self,
        world: &World,
        unit: &Unit,
        kind: JobKind,
        launch: &Launch,
        worker: Option<WorkerId>,
    ) -> Checked {
        if let (JobKind::Stop, Some(proc)) = (kind, worker.and_then(|worker| unit.proc(worker))) {
            self.breaks(world, unit, proc, "ExecStop")?;
            self.has_finished(world, unit, proc, "ExecStop")?;
        }
        let begins =
            matches!(kind, JobKind::StartPre | JobKind::StartPost | JobKind::ReadyCheck | JobKind::Check);
        must(Rule::Stopped, !begins || !self.halted, || {
            format!("runs {kind:?} of generation {} of a stopped unit", launch.generation)
        })
    }

    /// A standby is told to rest once nobody waits for it, and to wake up before anybody does.
    fn rests(&self, world: &World, unit: &Unit, generation: Generation, signal: Signal) -> Checked {
        let led = unit.traffic == Some(generation)
            || unit.share.is_some_and(|(_, candidate, _)| candidate == generation);
        must(Rule::Standby, !led, || format!("{signal} to {generation}, which receives connections"))?;
        if signal == WAKE {
            return Ok(());
        }
        let since = self.standbys.get(&generation);
        // Whom a person sent back in probation stands by too, to go forward to.
        let forward = number(self.sent.forward.as_ref()) == Some(generation);
        must(Rule::Standby, since.is_some() || forward, || {
            format!("{generation} is told to rest and is no standby")
        })?;
        let settings = self.recipe(unit, generation).map(|version| &unit.files[version].1);
        let drain = settings.and_then(|settings| settings.swap.drain).unwrap_or(Duration::MAX);
        let over = since.is_some_and(|since| since.after(drain) <= world.now);
        must(Rule::Standby, over || self.quiet.contains(&generation), || {
            format!("{generation} is told to rest while somebody waits there")
        })
    }

    /// What clients have of a generation is counted from when it is let go.
    pub(super) fn counts(&mut self, world: &World, unit: &Unit, generation: Generation) -> Checked {
        let first = self.goes_first(unit, generation);
        let receives = unit.traffic == Some(generation) && !self.halted && !first && !unit.spare;
        must(Rule::MakeBeforeBreak, !receives, || format!("lets {generation} go, which has the traffic"))?;
        let named = [&self.sent.retained, &self.sent.forward].map(|kept| number(kept.as_ref()));
        let stands_by = self.standbys.get(&generation).filter(|_| named.contains(&Some(generation)));
        let over = |since: &Tick| since.after(proc_standby(unit, generation)) <= world.now;
        let rests = self.sent.want == Want::OnDemand;
        let settings = self.recipe(unit, generation).map(|version| &unit.files[version].1);
        let told = settings.is_some_and(|settings| settings.swap.standby_signal.is_some());
        if told && !self.halted && stands_by.is_some_and(|since| !over(since)) {
            // Before it is told to rest.
            return Ok(());
        }
        must(Rule::Standby, self.halted || rests || stands_by.is_none_or(over), || {
            format!("lets {generation} go, which stands by")
        })?;
        self.drains.entry(generation).or_insert((world.now, false));
        Ok(())
    }

    /// Only who is ready receives a share, and only beside one that serves.
    pub(super) fn shares(
        &mut self,
        world: &World,
        unit: &Unit,
        swap_id: SwapId,
        (candidate, share): (Generation, Share),
    ) -> Checked {
        self.leads_to(candidate)?;
        let swap = self.running();
        let own = swap.is_some_and(|swap| swap.id == swap_id && swap.to == candidate);
        // One that stands by is known by its intent only, which comes after its shares.
        let warm = self.served.contains(&candidate) && swap.is_none();
        must(Rule::Shares, own || warm, || format!("a share for {candidate}, beside {swap:?}"))?;
        must(Rule::Shares, unit.traffic != Some(candidate), || {
            format!("a share for {candidate}, which has all")
        })?;
        // Where only one may run, or be bound, new connections wait for it.
        let binds = unit.held.contains(&candidate) && unit.binds_alone(candidate);
        let waits = share.is_full() && (unit.excludes(candidate) || binds);
        let ready = share.is_zero() || waits || unit.complete(candidate, world.now);
        must(Rule::Shares, ready, || format!("a share for {candidate}, which is not ready"))?;
        let steered = unit.has_slot(candidate);
        must(Rule::Shares, steered, || format!("a share for {candidate}, which has no slot of its own"))?;
        self.shared.insert(candidate);
        Ok(())
    }

    /// Whether it has to go before the next is launched.
    fn goes_first(&self, unit: &Unit, generation: Generation) -> bool {
        let Some(swap) = self.running().filter(|swap| swap.to != generation && swap.began_saved) else {
            return false;
        };
        let new = unit.procs.iter().all(|proc| proc.generation() != swap.to);
        let alone = |settings: &Arc<Settings>| unit.knobs(settings).alone();
        let old = unit.procs.iter().filter(|proc| proc.generation() == generation);
        let mut old = old.map(|proc| &proc.launch.settings);
        new && (unit.store.get(&swap.to).is_some_and(alone) || old.any(alone))
    }

    /// Where only one may run there is nobody beside it.
    fn is_alone(unit: &Unit, launch: &Launch) -> Checked {
        let generation = launch.generation;
        let mut others = unit.live().filter(|proc| proc.generation() != generation);
        let one = unit.knobs(&launch.settings).alone();
        let other = others.find(|proc| one || unit.knobs(&proc.launch.settings).alone());
        must(Rule::Exclusive, other.is_none(), || {
            format!("launches generation {generation} beside {:?}", other.map(Proc::generation))
        })
    }

    /// Whether a worker that receives nothing any more has had the time to finish.
    fn has_finished(&self, world: &World, unit: &Unit, proc: &Proc, how: &str) -> Checked {
        let generation = proc.generation();
        // Whether what has said ready has settled as well is known to who looks at the clock.
        let settled = proc.launch.settings.service.ready_settle.is_zero();
        let serves = settled
            && proc.is_ready()
            && !proc.is_silent(world.now)
            && (self.served.contains(&generation) || self.shared.contains(&generation));
        if !serves || self.in_haste || !(unit.is_steered(proc) || self.halted) {
            return Ok(());
        }
        let span = proc.launch.settings.swap.drain;
        let drained = self
            .drains
            .get(&generation)
            .is_some_and(|(since, quiet)| *quiet || span.is_some_and(|span| since.after(span) <= world.now));
        must(Rule::Drained, drained, || {
            format!("worker {} of generation {generation} gets {how}: {:?}", proc.id, self.drains)
        })
    }

    /// Whether it is right to tell this worker to stop.
    fn breaks(&self, world: &World, unit: &Unit, proc: &Proc, how: &str) -> Checked {
        let generation = proc.generation();
        let serves = proc.is_ready() && self.served.contains(&generation);
        // New connections go to another's slot, whether anybody answers there or not.
        let deaf = unit.is_steered(proc) && self.drains.contains_key(&generation);
        let cleared = self.goes_first(unit, generation);
        if !serves || deaf || cleared || proc.doomed || self.halted || proc.is_silent(world.now) {
            return Ok(());
        }
        let others = unit.generations();
        let successor = others.iter().find(|other| {
            let ready = unit.complete(**other, world.now) || unit.serves_as_ever(**other);
            **other != generation && self.served.contains(other) && ready
        });
        must(Rule::MakeBeforeBreak, successor.is_some(), || {
            format!(
                "worker {} of generation {generation} serves and gets {how}; nobody else is ready",
                proc.id
            )
        })
    }

    pub(super) fn switches(
        &mut self,
        world: &World,
        unit: &Unit,
        swap_id: SwapId,
        to: Generation,
    ) -> Checked {
        must(Rule::Durable, unit.switches.is_empty(), || "two switches at once".to_owned())?;
        self.leads_to(to)?;
        self.leads_anew = false;
        if self.running().is_none() && !self.outlived.is_empty() && self.active_soon() == Some(to) {
            // Whatever was under way when the last supd died is over.
            self.leads_anew = true;
            let nobody = !unit.live().any(Proc::is_ready);
            return must(Rule::MakeBeforeBreak, nobody || unit.ready_of(to).next().is_some(), || {
                format!("leads to {to}, of which nobody is ready, and somebody else is")
            });
        }
        let swap = self.swap(swap_id).cloned();
        must(Rule::Numbers, swap.is_some(), || format!("switches by swap {swap_id}, which never began"))?;
        let Some(swap) = swap else { return Ok(()) };
        must(Rule::Retained, swap.ended_sent.is_none(), || {
            format!("switches by swap {swap_id}, which is over")
        })?;
        let back = Some(to) == swap.from;
        let intent = unit.intent.filter(|intent| intent.swap_id == swap_id && intent.to == to);
        must(Rule::Durable, intent.is_some(), || {
            format!("switches to {to} before that intent is saved: {:?}", unit.intent)
        })?;
        if back {
            let other = unit.generations().iter().any(|it| *it != to && unit.complete(*it, world.now));
            let ready = unit.ready_of(to).next().is_some();
            return must(Rule::MakeBeforeBreak, ready || !other, || {
                format!("switches back to {to}: not ready")
            });
        }
        must(Rule::MakeBeforeBreak, !unit.held.contains(&to), || {
            format!("switches to {to}, whose binds are left unanswered")
        })?;
        must(Rule::MakeBeforeBreak, unit.complete(to, world.now), || {
            format!("switches to {to}, which is not ready")
        })
    }
}

fn reads_file(ask: crate::step::Ask) -> bool {
    use crate::step::Ask;
    match ask {
        Ask::Start(_)
        | Ask::Restart(_)
        | Ask::Swap { .. }
        | Ask::SwapTo { .. }
        | Ask::Install { .. }
        | Ask::Refresh => true,
        Ask::Stop { .. }
        | Ask::Rollback { .. }
        | Ask::RollbackTo { .. }
        | Ask::Undeploy(_)
        | Ask::Share(..)
        | Ask::Drain(_)
        | Ask::Promote(_)
        | Ask::Abort
        | Ask::Wait(_)
        | Ask::Reload
        | Ask::Kill(_) => false,
    }
}

/// How long this generation may stand by.
/// What waits is moved away from who receives nothing.
pub(super) fn passes_on(unit: &Unit, generation: Generation) -> Checked {
    let led = unit.traffic == Some(generation)
        || unit.share.is_some_and(|(_, candidate, _)| candidate == generation);
    must(Rule::MakeBeforeBreak, !led, || format!("what waits for {generation} moves, and it has a share"))
}

fn proc_standby(unit: &Unit, generation: Generation) -> Duration {
    let proc = unit.procs.iter().find(|proc| proc.generation() == generation);
    proc.and_then(|proc| proc.launch.settings.swap.standby).unwrap_or(Duration::MAX)
}

pub(super) fn sweeps(unit: &Unit, worker: WorkerId, signal: Option<Signal>) -> Checked {
    let Some(proc) = unit.proc(worker) else {
        return must(Rule::Accounts, false, || format!("sweeps after worker {worker}, which never was"));
    };
    let due = proc.told_end.is_some() && !proc.told_swept && proc.life != Life::Unlaunched;
    must(Rule::Accounts, due, || format!("sweeps after worker {worker}: {:?}", proc.life))?;
    let service = &proc.launch.settings.service;
    let first = match service.kill_mode {
        KillMode::Orderly | KillMode::ControlGroup => Some(service.kill_signal),
        KillMode::Mixed => Some(Signal::KILL),
        KillMode::Process => None,
    };
    let says = if proc.sweep_asked { first.and(Some(Signal::KILL)) } else { first };
    must(Rule::KillMode, signal == says && says.is_some(), || {
        format!("{:?}: what worker {worker} left gets {signal:?}, not {says:?}", service.kill_mode)
    })
}

/// Nothing of a generation that is retired may be left.
pub(super) fn retires(unit: &Unit, generation: Generation) -> Checked {
    let left = unit.procs.iter().find(|proc| proc.generation() == generation && !proc.is_over());
    must(Rule::Accounts, left.is_none(), || {
        format!("retires generation {generation}, of which {left:?} is left")
    })
}

/// What is to be left unanswered is told before anything can bind.
pub(super) fn holds_binds(unit: &Unit, generation: Generation) -> Checked {
    let runs = unit.procs.iter().any(|proc| proc.generation() == generation);
    must(Rule::MakeBeforeBreak, !runs, || format!("holds the binds of {generation}, which may have bound"))
}

pub(super) fn lends(unit: &Unit, launch: &Launch) -> Checked {
    is_told(unit, launch.generation, unit.knobs(&launch.settings).tells())
}

/// Whoever is to be told that nobody serves for a moment knows it before that.
fn is_told(unit: &Unit, generation: Generation, tells: bool) -> Checked {
    let serves =
        unit.live().any(|proc| proc.generation() != generation && proc.is_ready() && !proc.signalled);
    let told = !tells || unit.offs >= 2;
    must(Rule::Exclusive, told || !serves, || {
        format!("nobody serves until {generation} does, and the load balancer does not know")
    })
}

pub(super) fn answers_binds(unit: &Unit, generation: Generation) -> Checked {
    must(Rule::Accounts, unit.held.contains(&generation), || {
        format!("answers the binds of {generation}, which are not held")
    })?;
    is_told(unit, generation, unit.tells(generation))?;
    let other = unit.receivers().into_iter().find(|led| *led != generation);
    must(Rule::Exclusive, !unit.binds_alone(generation) || other.is_none(), || {
        format!("lets {generation} bind while connections are led to {other:?}")
    })
}
