//! supd's own lives in the simulation: how one begins, and how it ends.

use crate::brain::Brain;
use crate::hands::save_next;
use crate::oracle::{Rule, Violation};
use crate::sim::{Checked, Sim};
use crate::step::UNITS;
use crate::world::{Client, Unit};
use supd::machine::{Input, Restored};
use supd::model::settings::Start;
use supd::model::{ClientId, Generation, Label};

/// How supd ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It alone dies: the next one gets its listeners from the keeper.
    Crash,
    /// With everything of it.
    OfAll,
    /// The machine is switched off and on.
    Reboot,
}

impl<B: Brain> Sim<B> {
    pub(crate) fn restore(&mut self, place: usize, supd_booting: bool) -> Checked<()> {
        let Some(unit) = self.world.unit(place) else { return Ok(()) };
        let intent = unit.intent;
        let survived = unit.survived().filter(|_| supd_booting);
        let named = unit.ledger.kept().map(|kept| kept.generation);
        let named = named.chain(intent.iter().flat_map(|intent| intent.from.into_iter().chain([intent.to])));
        let alive = survived.iter().flat_map(|it| it.generations.iter().map(|it| it.generation));
        let stored = |number: Generation| Some((number, unit.store.get(&number)?.clone()));
        let restored = Restored {
            settings: unit.file().1.clone(),
            durable: unit.ledger.clone(),
            launches: named.chain(alive).filter_map(stored).collect(),
            trees: unit.trees.clone(),
            intent,
            machine_booted: unit.booted,
            supd_booting,
            bound: if supd_booting { unit.kept_bound() } else { Vec::new() },
            survived,
            holding: self.oracle.holding().filter(|_| supd_booting),
        };
        let (name, orphaned) = (unit.name.clone(), unit.orphaned);
        self.deliver(Input::Add(Box::new(restored)))?;
        if let Some(left) = self.world.unit(place).and_then(|unit| unit.orphans.first()) {
            return Err(Violation::new(Rule::Accounts, format!("nobody goes on with {left:?}")));
        }
        if orphaned { self.deliver(Input::Orphaned(name)) } else { Ok(()) }
    }

    /// supd dies, and the next one is at once there: it ends what it cannot go on with.
    pub(crate) fn die(&mut self, saved: u32, end: End) -> Checked<()> {
        let reboot = end == End::Reboot;
        self.crash = None;
        self.began = true;
        self.say(|| format!("             ✝ supd dies: {end:?}"));
        for unit in &mut self.world.units {
            for _ in 0..saved {
                save_next(unit, &mut self.oracle);
            }
            if saved > 0 && unit.intents_void == 0 {
                unit.intent = unit.intents.pop_front().or(unit.intent);
            }
            let trees = swept(unit);
            let ledger = std::mem::replace(&mut unit.ledger, supd::model::Durable::fresh());
            let mut fresh = Unit {
                known: unit.known,
                orphaned: unit.orphaned,
                files: std::mem::take(&mut unit.files),
                intent: if reboot { None } else { unit.intent },
                ledger,
                booted: unit.booted || reboot,
                store: std::mem::take(&mut unit.store),
                trees,
                ..Unit::new(unit.place, crate::knobs::Knobs::default())
            };
            if end == End::Crash {
                fresh.outlives(std::mem::replace(
                    unit,
                    Unit::new(fresh.place, crate::knobs::Knobs::default()),
                ));
            }
            *unit = fresh;
        }
        for client in &mut self.world.clients {
            client.gone = true;
        }
        (self.world.quit, self.world.shutdown) = (false, false);
        self.world.life += 1;
        self.brain = self.brain.reborn();
        self.status = [const { None }; UNITS.len()];
        self.oracle.marked &= !reboot;
        self.oracle.reborn();
        let known: Vec<usize> =
            self.world.units.iter().filter(|unit| unit.known).map(|unit| unit.place).collect();
        for place in known {
            self.oracle.restored(&self.world, place, true);
            self.restore(place, true)?;
        }
        Ok(())
    }

    pub(crate) fn shut_down(&mut self, client: Option<u64>) -> Checked<bool> {
        let client = client.map(ClientId);
        if let Some(id) = client {
            if self.world.client(id).is_some() {
                return Ok(false);
            }
            self.world.clients.push(Client {
                id,
                asked: None,
                file: 0,
                reply: None,
                gone: false,
                before: None,
            });
        }
        self.world.shutdown = true;
        for unit in &mut self.world.units {
            unit.procs.iter_mut().for_each(|proc| proc.doomed = true);
        }
        self.deliver(Input::Shutdown { client }).map(|()| true)
    }
}

/// What a boot of supd leaves of the trees: those that the ledger names.
fn swept(unit: &mut Unit) -> std::collections::BTreeSet<Label> {
    let mut trees = std::mem::take(&mut unit.trees);
    trees.retain(|label| unit.ledger.releases.iter().any(|release| release.label == *label));
    trees
}

/// Whether a fresh boot of the machine makes the unit start, whatever the ledger says.
pub(crate) fn boot_starts(start: Start) -> bool {
    match start {
        Start::Boot | Start::OnDemand => true,
        Start::Manual => false,
    }
}
