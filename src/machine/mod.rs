//! Every decision of supd, and nothing else: events go in, effects come out.
//!
//! **What is absent:** no I/O, no clock, no log, no `unsafe`, no `_` arm over phases or events.
//!
//! | file | subject |
//! |---|---|
//! | [`event`], [`effect`] | the vocabulary |
//! | `worker/` | one process: its phases, and the table of what each makes of each cue |
//! | `group` | a generation: its workers and what it is to the unit |
//! | `swap/` | a change of generation: its steps, and the table of the plot |
//! | `drain` | a generation that is let go: how long its clients may take |
//! | [`stall`] | a queue that grows while nobody accepts |
//! | `disk` | what the disk must take: again, and how long it takes |
//! | `succession` | what a change of generation makes of the durable state, crash or not |
//! | `unit/` | one unit: requests, the plot's moves, start and stop, what becomes due, the checks |
//! | `restart` | whether and when a worker is launched again |

mod disk;
mod drain;
pub mod effect;
pub mod event;
mod group;
mod restart;
pub mod stall;
mod succession;
mod swap;
mod turn;
mod unit;
mod worker;

use crate::model::kept::KeptGeneration;
use crate::model::status::{ReleaseStatus, SwapStatus, UnitStatus};
use crate::model::{ClientId, Generation, Reply, SwapId, Tick, UnitName, WorkerId};
pub use drain::Counts;
pub use effect::{Action, Effect, Failure, FailureKind, JobKind, JobWork, Launch, Level, REASON_MAX};
pub use event::{CarriedSwap, Event, Input, Request, Restored, Survived};
pub use restart::Fault;
use std::collections::BTreeMap;
pub use succession::{RESTARTED, unfinished};
pub use swap::table as swap_table;
use turn::{Numbers, Turn};
use unit::Unit;
pub use unit::handover::Unsettled;
pub use unit::install::Deploy;
pub use worker::table as worker_table;

/// How many deadlines of one unit may follow from each other in one step.
const DUE_AT_ONCE: usize = 16;

/// All units and what becomes of them.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Boxed: the nodes of a map are half empty, and a unit is large.
    units: BTreeMap<UnitName, Box<Unit>>,
    numbers: Numbers,
    ending: Option<Ending>,
}

/// supd is ending: whom to tell.
#[derive(Debug, Clone, Default)]
struct Ending {
    clients: Vec<ClientId>,
    said: bool,
}

impl Machine {
    /// None, which gives no worker a number up to this one: another supd has used them.
    #[must_use]
    pub fn after(worker: WorkerId) -> Self {
        Self { numbers: Numbers::after(worker), ..Self::default() }
    }

    /// Takes one input and says what is to be done. The only way anything changes.
    pub fn step(&mut self, now: Tick, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Unit(name, event) => self.step_unit(now, &name, event, out),
            Input::Add(restored) => self.add(now, *restored, out),
            Input::Orphaned(name) => self.each(now, out, |unit, turn| {
                if *turn.unit == name {
                    unit.orphan(turn);
                }
            }),
            Input::Shutdown { client } => {
                self.ending.get_or_insert_default().clients.extend(client);
                self.each(now, out, Unit::shut_down);
            }
            Input::HoldNoLonger => self.each(now, out, Unit::hold_no_longer),
            Input::Clock => self.each(now, out, |unit, turn| {
                // What is due may make the next thing due; an empty span must not spin the loop.
                for _ in 0..DUE_AT_ONCE {
                    if unit.deadline().is_none_or(|deadline| deadline > turn.now) {
                        break;
                    }
                    unit.step(Event::Clock, turn);
                }
            }),
        }
        self.end(out);
    }

    fn step_unit(&mut self, now: Tick, name: &UnitName, event: Event, out: &mut Vec<Effect>) {
        if let (Event::Asked { client, .. }, true) = (&event, self.ending.is_some()) {
            out.push(Effect::Reply(*client, Reply::refused("supd is ending", None)));
            return;
        }
        let Some(unit) = self.units.get_mut(name) else {
            if let Event::Asked { client, .. } = event {
                out.push(Effect::Reply(client, Reply::refused(format!("there is no unit {name}"), None)));
            }
            return;
        };
        let first = out.len();
        let mut turn = Turn { now, unit: name, numbers: &mut self.numbers, out };
        unit.step(event, &mut turn);
        if out.iter().skip(first).any(|effect| matches!(effect, Effect::Unit(_, Action::Forget))) {
            self.units.remove(name);
        }
    }

    fn add(&mut self, now: Tick, restored: Restored, out: &mut Vec<Effect>) {
        let name = restored.settings.unit.clone();
        if self.units.contains_key(&name) {
            return;
        }
        let mut turn = Turn { now, unit: &name, numbers: &mut self.numbers, out };
        let unit = unit::restore(restored, &mut turn);
        self.units.insert(name, Box::new(unit));
    }

    fn each(&mut self, now: Tick, out: &mut Vec<Effect>, mut act: impl FnMut(&mut Unit, &mut Turn<'_>)) {
        let first = out.len();
        for (name, unit) in &mut self.units {
            act(unit, &mut Turn { now, unit: name, numbers: &mut self.numbers, out });
        }
        for effect in out.iter().skip(first) {
            if let Effect::Unit(name, Action::Forget) = effect {
                self.units.remove(name);
            }
        }
    }

    /// Once every unit is over, supd may end.
    fn end(&mut self, out: &mut Vec<Effect>) {
        let Some(ending) = &mut self.ending else { return };
        if ending.said || !self.units.values().all(|unit| unit.is_over()) {
            return;
        }
        ending.said = true;
        for client in std::mem::take(&mut ending.clients) {
            out.push(Effect::Reply(client, Reply::done(true, "supd has stopped every unit and ends")));
        }
        out.push(Effect::Quit);
    }

    /// When [`Input::Clock`] is due: the earliest deadline of all phases; computed, never stored.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.units.values().filter_map(|unit| unit.deadline()).min()
    }

    /// What `supctl status` shows.
    #[must_use]
    pub fn status(&self, unit: &UnitName, now: Tick) -> Option<UnitStatus> {
        self.units.get(unit).map(|unit| unit.status(now))
    }

    /// This swap of a unit, if it is under way or the last one that was.
    #[must_use]
    pub fn swap(&self, unit: &UnitName, swap: SwapId) -> Option<SwapStatus> {
        self.units.get(unit)?.swap_status(swap)
    }

    /// The releases of a unit, in the order of installation.
    #[must_use]
    pub fn releases(&self, unit: &UnitName) -> Option<Vec<ReleaseStatus>> {
        self.units.get(unit).map(|unit| unit.releases())
    }

    /// What would come of a request; nothing is changed.
    #[must_use]
    pub fn rehearse(&self, now: Tick, name: &UnitName, request: Request) -> Option<Reply> {
        let unit = self.units.get(name)?.clone();
        let (mut numbers, mut out) = (self.numbers.clone(), Vec::new());
        let mut turn = Turn { now, unit: name, numbers: &mut numbers, out: &mut out };
        Some(unit.rehearse(request, &mut turn))
    }

    /// What the running swap of a unit is doing: a row of [`swap_table`].
    #[must_use]
    pub fn swap_step(&self, unit: &UnitName) -> Option<swap_table::StepKind> {
        self.units.get(unit)?.swap_step()
    }

    /// The generation that the running swap of a unit tries out with real connections.
    #[must_use]
    pub fn on_trial(&self, unit: &UnitName) -> Option<Generation> {
        self.units.get(unit)?.on_trial()
    }

    /// The generations of a unit that live, and the workers with whom another supd could go on.
    #[must_use]
    pub fn outlasts(&self, unit: &UnitName) -> Vec<KeptGeneration> {
        self.units.get(unit).map_or(Vec::new(), |unit| unit.outlasts())
    }

    /// The first unit with which the next image of supd could not go on as it is; a worker that is on its way
    /// counts only where nothing else does.
    #[must_use]
    pub fn unsettled(&self) -> Option<(&UnitName, Unsettled)> {
        let all = || self.units.iter().filter_map(|(name, unit)| Some((name, unit.unsettled()?)));
        all().find(|(_, unsettled)| !unsettled.is_worker).or_else(|| all().next())
    }

    /// The swaps with which the next image of supd goes on: where nothing is on its way.
    pub fn resting(&self) -> impl Iterator<Item = CarriedSwap> {
        self.units.values().filter_map(|unit| unit.resting())
    }

    /// Whether what this client waits for is brought to its end by the next image of supd, too.
    #[must_use]
    pub fn goes_on_waiting(&self, client: ClientId) -> bool {
        self.units.values().any(|unit| unit.goes_on_waiting(client))
    }

    /// Every unit, by name.
    pub fn units(&self) -> impl Iterator<Item = &UnitName> {
        self.units.keys()
    }

    /// The recipe of a generation that is known.
    #[must_use]
    pub fn launch(&self, unit: &UnitName, generation: Generation) -> Option<&Launch> {
        self.units.get(unit)?.recipe(generation)
    }
}
