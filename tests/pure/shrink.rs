//! Makes a failing scenario small: drops lines, then resets what differs from the defaults.

use crate::brain::Brain;
use crate::knobs::{Knob, Knobs};
use crate::oracle::{Rule, Violation};
use crate::sim::Sim;
use crate::step::Step;

/// How often a scenario may be tried.
const TRIES_MAX: u32 = 20_000;

/// Runs a scenario; the steps that could happen, and how it broke.
pub(crate) fn play<B: Brain>(steps: &[Step], brain: &B) -> (Vec<Step>, Result<(), Violation>) {
    let mut sim = Sim::new(brain.reborn());
    let mut happened = Vec::new();
    for step in steps {
        match sim.apply(step) {
            Ok(true) => happened.push(step.clone()),
            Ok(false) => {}
            Err(violation) => {
                happened.push(step.clone());
                return (happened, Err(violation));
            }
        }
    }
    (happened, Ok(()))
}

/// The smallest scenario found that still breaks `rule`, and how it does.
pub(crate) fn shrink<B: Brain>(steps: &[Step], rule: Rule, brain: &B) -> (Vec<Step>, String) {
    let mut tries = 0;
    let mut attempt = |steps: &[Step]| {
        tries += 1;
        if tries > TRIES_MAX {
            return None;
        }
        match play(steps, brain) {
            (happened, Err(violation)) if violation.rule == rule => Some((happened, violation.to_string())),
            _ => None,
        }
    };
    let Some((mut best, mut text)) = attempt(steps) else {
        return (steps.to_vec(), "does not break when it is played again".to_owned());
    };
    loop {
        let before = best.len();
        let mut size = best.len() / 2;
        while size > 0 {
            let mut at = 0;
            while at + size <= best.len() {
                let mut fewer = best.clone();
                fewer.drain(at..at + size);
                match attempt(&fewer) {
                    Some(smaller) => (best, text) = smaller,
                    None => at += size,
                }
            }
            size /= 2;
        }
        reset_knobs(&mut best, &mut text, &mut attempt);
        if best.len() == before {
            return (best, text);
        }
    }
}

fn knobs(step: &mut Step) -> Option<&mut Knobs> {
    match step {
        Step::Unit { knobs, .. } | Step::Edit { knobs, .. } => Some(knobs),
        _ => None,
    }
}

/// Sets every knob to its default where that changes nothing.
fn reset_knobs(
    best: &mut Vec<Step>,
    text: &mut String,
    attempt: &mut impl FnMut(&[Step]) -> Option<(Vec<Step>, String)>,
) {
    for at in 0..best.len() {
        for knob in Knob::ALL {
            let mut plainer = best.clone();
            let Some(knobs) = plainer.get_mut(at).and_then(knobs) else { break };
            if knobs.at(*knob) == 0 {
                continue;
            }
            *knobs = knobs.with(*knob, 0);
            if let Some((happened, still)) = attempt(&plainer) {
                if happened.len() == best.len() {
                    (*best, *text) = (happened, still);
                }
            }
        }
    }
}
