//! The sweep: thousands of seeds, each a different world, first with faults and then without.
//!
//! `SUPD_SEED=n` replays one and prints what happened; `SUPD_SEEDS=n` widens the sweep.

use crate::brain::Brain;
use crate::coverage::Coverage;
use crate::driver::Driver;
use crate::oracle::Violation;
use crate::shrink::shrink;
use crate::sim::Sim;
use crate::step::Step;
use std::fmt::Write;
use supd::machine::Machine;

/// Seeds of an ordinary run.
const SEEDS: u64 = 60_000;

/// A seed that broke a rule.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) steps: Vec<Step>,
    pub(crate) violation: Violation,
}

/// Runs one seed to its end.
pub(crate) fn run_seed<B: Brain>(seed: u64, brain: B, trace: bool) -> (Sim<B>, Result<u64, Failure>) {
    let mut driver = Driver::new(seed);
    let mut sim = Sim::new(brain);
    sim.trace = trace.then(Vec::new);
    sim.coverage = Some(Box::default());
    let mut steps = Vec::new();
    let length = driver.length();
    let mut queue: std::collections::VecDeque<Step> = driver.first_steps().into();
    let mut count = 0;
    loop {
        let step = match queue.pop_front() {
            Some(step) => step,
            None if count < length => driver.next(&sim),
            None if count == length => {
                queue.extend(driver.last_steps());
                count += 1;
                continue;
            }
            None => return (sim, Ok(count)),
        };
        count += u64::from(count < length);
        steps.push(step);
        if let Err(violation) = sim.apply(&steps[steps.len() - 1]) {
            return (sim, Err(Failure { seed, steps, violation }));
        }
    }
}

/// A failure as a person wants it: where, why, and a file to commit.
pub(crate) fn report<B: Brain>(failure: &Failure, brain: &B) -> String {
    let Failure { seed, steps, violation } = failure;
    let (small, still) = shrink(steps, violation.rule, brain);
    let mut text = format!("seed {seed}, step {}: {violation}\n\n", steps.len());
    let _ = writeln!(
        text,
        "# tests/pure/scenarios/{}-{seed}.txt, shrunk from {} steps",
        violation.rule.word(),
        steps.len()
    );
    let _ = writeln!(text, "# {still}");
    for step in &small {
        let _ = writeln!(text, "{step}");
    }
    let mut sim = Sim::new(brain.reborn());
    sim.trace = Some(Vec::new());
    for step in &small {
        let _ = sim.apply(step);
    }
    let _ = writeln!(text, "\n{}", sim.trace.unwrap_or_default().join("\n"));
    text
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value:?} is no number")))
}

/// Runs `seeds` on all processors.
pub(crate) fn sweep(seeds: std::ops::Range<u64>) -> (Coverage, Vec<Failure>) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        let work = || {
            let mut coverage = Coverage::default();
            let mut failures = Vec::new();
            loop {
                let first = next.fetch_add(64, std::sync::atomic::Ordering::Relaxed);
                if first >= seeds.end || failures.len() > 20 {
                    return (coverage, failures);
                }
                for seed in first..seeds.end.min(first + 64) {
                    let (sim, outcome) = run_seed(seed, Machine::default(), false);
                    coverage.merge(sim.coverage.as_deref().unwrap());
                    failures.extend(outcome.err());
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = (Coverage::default(), Vec::new());
        for worker in workers {
            let (coverage, failures) = worker.join().unwrap();
            all.0.merge(&coverage);
            all.1.extend(failures);
        }
        all.1.sort_by_key(|failure| failure.seed);
        all
    })
}

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = number("SUPD_SEED") {
        let (sim, outcome) = run_seed(seed, Machine::default(), true);
        println!("{}", sim.trace.unwrap_or_default().join("\n"));
        if let Err(failure) = outcome {
            panic!("{}", report(&failure, &Machine::default()));
        }
        return;
    }
    let (coverage, failures) = sweep(0..number("SUPD_SEEDS").unwrap_or(SEEDS));
    if let Some(first) = failures.first() {
        let others: Vec<_> = failures
            .iter()
            .skip(1)
            .map(|failure| format!("{}: {}", failure.seed, failure.violation))
            .collect();
        panic!("{}\nothers:\n{}", report(first, &Machine::default()), others.join("\n"));
    }
    let unvisited = crate::matrix::unvisited(&coverage);
    assert!(unvisited.is_empty(), "never visited, so never tested:\n{}", unvisited.join("\n"));
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in [1, 7, 42, 1234] {
        let story = |seed| run_seed(seed, Machine::default(), true).0.trace;
        assert_eq!(story(seed), story(seed), "seed {seed}");
    }
}
