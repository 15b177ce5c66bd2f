//! Every interleaving of a small alphabet, not a random one: from a fresh unit, and from each
//! point of the plot of a swap.

use crate::oracle::Violation;
use crate::read::parse;
use crate::sim::Sim;
use crate::step::{Act, Ask, Step, Turn, WorkerRef};
use crate::world::{Life, Unit};
use supd::machine::Machine;
use supd::model::{Signal, WaitFor, WorkerExit};

/// What a path may still do besides what the world does by itself.
#[derive(Clone, Copy)]
struct Budget {
    /// Steps.
    depth: u32,
    /// Requests.
    asks: u32,
    /// Failures and deaths, of which supd's own is one.
    faults: u32,
}

/// A search under way.
struct Search {
    paths: u64,
    steps: u64,
    path: Vec<Step>,
}

impl Search {
    /// Tries everything that can happen next.
    fn explore(&mut self, sim: &Sim<Machine>, budget: Budget) -> Result<(), Violation> {
        let choices = if budget.depth == 0 { Vec::new() } else { enabled(sim, budget) };
        if choices.is_empty() {
            self.paths += 1;
            return Ok(());
        }
        for (step, asks, faults) in choices {
            let mut next = sim.clone();
            self.path.push(step.clone());
            self.steps += 1;
            if next.apply(&step)? {
                let (asks, faults) = (budget.asks - asks, budget.faults - faults);
                self.explore(&next, Budget { depth: budget.depth - 1, asks, faults })?;
            }
            self.path.pop();
        }
        Ok(())
    }
}

/// What can happen next, and what of the budget it takes.
fn enabled(sim: &Sim<Machine>, budget: Budget) -> Vec<(Step, u32, u32)> {
    let mut choices = Vec::new();
    if sim.world.quit {
        return vec![(Step::Boot, 0, 0)];
    }
    let Some(unit) = sim.world.units.first() else { return choices };
    outcomes(unit, budget, &mut choices);
    workers(sim, unit, budget, &mut choices);
    if sim.world.units[0].knobs(unit.file().1).broken() {
        return choices;
    }
    if budget.asks > 0 {
        let client = sim.world.clients.len() as u64 + 1;
        for ask in [
            Ask::Swap { unbound: false, hold: false, canary: None, replace: true, wait: WaitFor::Committed },
            Ask::Rollback { from: None, stop: false, anyway: true, wait: WaitFor::Drained },
            Ask::Stop { now: false, keep_listening: false },
            Ask::Start(WaitFor::Ready),
            Ask::Promote(WaitFor::Active),
        ] {
            choices.push((Step::Asks { client, unit: 0, ask }, 1, 0));
        }
    }
    if sim.brain.deadline().is_some() {
        choices.push((Step::Deadline, 0, 0));
    }
    if budget.faults > 0 {
        choices.push((Step::Crash { after: 0, saved: 1, kept: false }, 0, 1));
    }
    choices
}

fn outcomes(unit: &Unit, budget: Budget, choices: &mut Vec<(Step, u32, u32)>) {
    let at = |turn: Turn| Step::At { unit: 0, turn };
    let pairs = [
        (!unit.binds.is_empty(), Turn::Bound, None),
        (!unit.records.is_empty(), Turn::Recorded, Some(Turn::RecordFails)),
        (!unit.intents.is_empty(), Turn::IntentSaved, Some(Turn::IntentFails)),
        (!unit.switches.is_empty(), Turn::Switched, Some(Turn::SwitchFails)),
        (unit.unlistens > 0, Turn::Unlistened, None),
    ];
    for (due, good, bad) in pairs {
        if due {
            choices.push((at(good), 0, 0));
            if let Some(bad) = bad.filter(|_| budget.faults > 0) {
                choices.push((at(bad), 0, 1));
            }
        }
    }
}

fn workers(sim: &Sim<Machine>, unit: &Unit, budget: Budget, choices: &mut Vec<(Step, u32, u32)>) {
    for proc in &unit.procs {
        let Some(worker) = unit.name_of(proc.id) else { continue };
        let mut may = |act: Act, faults: u32| may(worker, act, faults, choices);
        match proc.life {
            Life::Unlaunched => {}
            Life::Dead(_) if proc.sweep_asked && !proc.told_swept => may(Act::Swept, 0),
            Life::Dead(_) => {}
            Life::Launching => may(Act::Spawned, 0),
            Life::Running if proc.killed => {
                may(Act::Exits(WorkerExit::Killed { signal: Signal::KILL, core: false }), 0);
            }
            Life::Running if proc.signalled => may(Act::Exits(WorkerExit::Code(0)), 0),
            Life::Running => {
                if proc.told_ready.is_none() {
                    may(Act::Says(crate::step::Say::Ready), 0);
                }
                if budget.faults > 0 {
                    may(Act::Exits(WorkerExit::Code(1)), 1);
                }
            }
        }
    }
    let _ = sim;
}

fn may(worker: WorkerRef, act: Act, faults: u32, choices: &mut Vec<(Step, u32, u32)>) {
    choices.push((Step::Worker(worker, act), 0, faults));
}

/// Plays `story`, then searches from where it ends.
fn search(story: &str, budget: Budget) -> (u64, u64) {
    let mut sim = Sim::new(Machine::default());
    let steps = parse(story).unwrap();
    for step in &steps {
        assert!(sim.apply(step).unwrap_or_else(|fault| panic!("{step}: {fault}")), "{step}: cannot happen");
    }
    let mut search = Search { paths: 0, steps: 0, path: steps };
    if let Err(violation) = search.explore(&sim, budget) {
        let lines: Vec<String> = search.path.iter().map(ToString::to_string).collect();
        panic!("{violation}\n{}", lines.join("\n"));
    }
    (search.paths, search.steps)
}

/// The plot of a swap, an event a line: the search begins at each of them.
const PLOT: &[&str] = &[
    "unit web settle=1s\nweb bound\nweb recorded\nweb/1.0 spawned\nweb/1.0 says ready\ndeadline\nweb recorded",
    "c1 asks web swap",
    "web bound",
    "web recorded",
    "web/2.0 spawned",
    "web/2.0 says ready",
    "deadline",
    "web intent-saved",
    "web switched",
    "web recorded",
    "deadline",
    "web recorded",
    "web/1.0 exits 0",
    "web/1.0 swept",
];

#[test]
fn from_a_fresh_unit_every_interleaving_of_nine() {
    let (paths, steps) = search("unit web", Budget { depth: 9, asks: 2, faults: 1 });
    println!("{paths} paths, {steps} steps");
    assert!(steps > 50_000, "the search has become smaller: {steps}");
}

#[test]
fn from_each_point_of_the_plot_every_interleaving_of_five() {
    let mut all = 0;
    for end in 1..=PLOT.len() {
        let (_, steps) = search(&PLOT[..end].join("\n"), Budget { depth: 5, asks: 2, faults: 2 });
        all += steps;
    }
    println!("{all} steps");
    assert!(all > 50_000, "the search has become smaller: {all}");
}
