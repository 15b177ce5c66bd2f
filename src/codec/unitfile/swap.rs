//! `[Swap]`

use super::defaults;
use super::document::{Node, Value};
use super::layer::Rows;
use super::report::{Bad, Reading, Report, bad};
use super::section::Section;
use super::values::{STOP, boolean, each, percent, signal, span, span_or_infinity, text, unsigned, word};
use crate::codec::fault::quoted;
use crate::codec::timespan;
use crate::model::Signal;
use crate::model::settings::{CanaryStep, Retain, Swap};

/// The most steps of a canary.
const STEPS_MAX: usize = 32;

pub(super) fn read(rows: &Rows, report: &mut Report<'_>) -> Swap {
    let mut section = Section::new(rows, report);
    let mut swap = defaults::SWAP;
    section.set(&mut swap.retain, "Retain", |node| {
        word(node, &[("warm", Retain::Warm), ("cold", Retain::Cold), ("none", Retain::None)])
    });
    section.set(&mut swap.standby, "StandbySec", span_or_infinity);
    section.set(&mut swap.drain, "DrainSec", span_or_infinity);
    section.set(&mut swap.canary, "Canary", canary);
    if let Some(command) = section.command("CheckCommand") {
        swap.check_command = Some(command);
    }
    section.set(&mut swap.probation, "ProbationSec", span);
    section.set(&mut swap.settle, "SettleSec", span);
    section.set(&mut swap.canary_sticky, "CanarySticky", boolean);
    section.set(&mut swap.max_generations, "MaxGenerations", |node| unsigned(node, 2..=16));
    section.set(&mut swap.standby_signal, "StandbySignal", state_signal);
    section.set(&mut swap.active_signal, "ActiveSignal", state_signal);
    section.set(&mut swap.keep_releases, "KeepReleases", |node| unsigned(node, 1..=1000));
    swap
}

/// A signal that tells a worker something, or "none".
fn state_signal(node: &Node) -> Reading<Option<Signal>> {
    if matches!(&node.value, Value::Text(text) if text == "none") {
        return Ok(None);
    }
    match signal(node)? {
        deadly @ (Signal::KILL | STOP) => {
            bad(format!("{deadly} cannot be handled"), "write one that the server handles, as in \"SIGUSR1\"")
        }
        other => Ok(Some(other)),
    }
}

/// Steps such as "5% 2min", each with a larger share than the one before.
fn canary(node: &Node) -> Reading<Vec<CanaryStep>> {
    const REMEDY: &str = "write steps as in [\"5% 2min\", \"25% 5min\"]";
    let steps = match &node.value {
        Value::Text(_) => vec![step(node)?],
        Value::List(nodes) if nodes.len() > STEPS_MAX => {
            return bad(format!("{} steps, where {STEPS_MAX} are the most", nodes.len()), REMEDY);
        }
        Value::List(nodes) => each(nodes, step)?,
        other => return bad(format!("{} where steps are wanted", other.kind()), REMEDY),
    };
    if steps.windows(2).any(|pair| pair[0].share >= pair[1].share) {
        return bad("a step does not grow", "each step has a larger share than the one before");
    }
    Ok(steps)
}

fn step(node: &Node) -> Reading<CanaryStep> {
    const REMEDY: &str = "write a share and a time, as in \"5% 2min\"";
    let text = text(node)?;
    let Some((share_text, hold_text)) = text.split_once('%') else {
        return bad(format!("{} is no step", quoted(&text)), REMEDY);
    };
    let share = percent(&format!("{}%", share_text.trim())).and_then(|share| u16::try_from(share).ok());
    let Some(share) = share.filter(|share| (1..10_000).contains(share)) else {
        let what = format!("{} is no share", quoted(&format!("{share_text}%")));
        return bad(what, "write more than 0% and less than 100%; 100% comes after the last step");
    };
    match timespan::parse(hold_text) {
        Ok(Some(hold)) if !hold.is_zero() => Ok(CanaryStep { share, hold }),
        Ok(Some(_)) => bad("a step of no time is no step", REMEDY),
        Ok(None) => bad("a step without end", "use supctl swap --canary for a hold; write a time here"),
        Err(fault) => Err(vec![Bad::new(fault.to_string(), REMEDY)]),
    }
}
