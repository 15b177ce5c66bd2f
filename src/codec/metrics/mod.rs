//! What supd knows of itself as Prometheus text, exposition format 0.0.4
//! (prometheus.io/docs/instrumenting/exposition_formats).
//!
//! Base units, and `_total` for what only grows. What is not known has no line.

mod page;
mod request;

pub use request::{Asked, HEAD_MAX, asked, reply};

use super::json::{GenerationView, UnitView};
use super::shape::Shape;
use crate::model::metrics::{Histogram, READY_BOUNDS, SWITCH_BOUNDS, Tallies, UnitTally};
use crate::model::status::{GenerationState, SwapResult, UnitState};
use page::Page;
use std::time::Duration;

/// What the content is, for HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All that is told at a moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Of supd.
    pub version: &'static str,
    /// As `supctl status` shows them.
    pub units: Vec<UnitView>,
    /// Clients of the control socket.
    pub clients: usize,
    /// What of supd is in memory, in bytes.
    pub resident: Option<u64>,
    /// When this image of supd began, as seconds since 1970.
    pub began: Duration,
    /// How often supd has become another image of itself.
    pub reexecs: u64,
    /// supd starts no swap, for it has crashed too often.
    pub holding: bool,
}

/// The text. It ends with a line's end.
#[must_use]
pub fn text(snapshot: &Snapshot, tallies: &Tallies) -> String {
    let mut page = Page::default();
    own(&mut page, snapshot);
    let units = &snapshot.units;
    unit_states(&mut page, units);
    of_units(&mut page, units);
    of_generations(&mut page, units);
    of_cgroups(&mut page, units);
    counters(&mut page, tallies);
    page.text()
}

/// A number as Prometheus reads it.
fn number(value: u64) -> String {
    value.to_string()
}

/// Exact to the microsecond.
fn seconds(span: Duration) -> String {
    span.as_secs_f64().to_string()
}

fn millis(millis: u64) -> String {
    seconds(Duration::from_millis(millis))
}

fn own(page: &mut Page, snapshot: &Snapshot) {
    page.family("supd_build_info", "gauge", "The version of supd that runs; always 1.");
    page.line("", &[("version", snapshot.version)], "1");
    page.single("supd_start_time_seconds", "gauge", "When this image of supd began, since 1970.", || {
        Some(seconds(snapshot.began))
    });
    page.single("supd_reexecs_total", "counter", "How often supd went on as another image.", || {
        Some(number(snapshot.reexecs))
    });
    page.single("supd_resident_memory_bytes", "gauge", "What of supd itself is in memory.", || {
        snapshot.resident.map(number)
    });
    page.single("supd_clients", "gauge", "Connections to the control socket.", || {
        Some(snapshot.clients.to_string())
    });
    page.single("supd_holding", "gauge", "1: supd crashed too often and begins nothing new.", || {
        Some(u8::from(snapshot.holding).to_string())
    });
}

fn unit_states(page: &mut Page, units: &[UnitView]) {
    page.family("supd_units", "gauge", "Units in each state.");
    for state in UnitState::ALL {
        let there = units.iter().filter(|unit| unit.state == state.word()).count();
        page.line("", &[("state", state.word())], &there.to_string());
    }
    page.family("supd_unit_up", "gauge", "1: the health of the unit is up.");
    for unit in units {
        let up = u8::from(unit.health == "up").to_string();
        page.line("", &[("unit", &unit.unit)], &up);
    }
    page.family("supd_unit_state", "gauge", "The state that the unit is in; always 1.");
    for unit in units {
        page.line("", &[("unit", &unit.unit), ("state", &unit.state)], "1");
    }
}

fn of_units(page: &mut Page, units: &[UnitView]) {
    page.family("supd_listener_queue", "gauge", "Connections that wait to be accepted.");
    for unit in units {
        for listener in &unit.listeners {
            let Some(queue) = listener.queue else { continue };
            let labels =
                [("unit", unit.unit.as_str()), ("listener", &listener.name), ("address", &listener.address)];
            page.line("", &labels, &number(queue));
        }
    }
    page.family("supd_listener_queue_bytes", "gauge", "Bytes that wait to be read.");
    for unit in units {
        for listener in &unit.listeners {
            let Some(queue) = listener.queue_bytes else { continue };
            let labels =
                [("unit", unit.unit.as_str()), ("listener", &listener.name), ("address", &listener.address)];
            page.line("", &labels, &number(queue));
        }
    }
}

/// A line for each generation of which it is known.
fn each(
    page: &mut Page,
    units: &[UnitView],
    (name, kind, help): (&str, &str, &str),
    value: impl Fn(&GenerationView) -> Option<String>,
) {
    page.family(name, kind, help);
    for unit in units {
        for generation in &unit.generations {
            let Some(value) = value(generation) else { continue };
            let number = generation.generation.to_string();
            page.line("", &[("unit", &unit.unit), ("generation", &number)], &value);
        }
    }
}

fn of_generations(page: &mut Page, units: &[UnitView]) {
    page.family("supd_generation_info", "gauge", "What each generation is; always 1.");
    for unit in units {
        for generation in &unit.generations {
            let number = generation.generation.to_string();
            let labels = [
                ("unit", unit.unit.as_str()),
                ("generation", &number),
                ("release", generation.release.as_deref().unwrap_or_default()),
                ("state", &generation.state),
            ];
            page.line("", &labels, "1");
        }
    }
    let active = GenerationState::Active.word();
    let share = |one: &GenerationView| match one.share {
        Some(percent) => Some((percent / 100.0).to_string()),
        // One slot for all of them: whoever is active has it.
        None => (one.state == active).then(|| "1".to_owned()),
    };
    let gauge = "gauge";
    each(page, units, ("supd_share_ratio", gauge, "The part of new connections that it receives."), share);
    let workers = |one: &GenerationView| Some(one.workers.len().to_string());
    each(page, units, ("supd_workers", gauge, "Its workers, those that are launched again too."), workers);
    let uptime = |one: &GenerationView| Some(millis(one.uptime_ms));
    each(page, units, ("supd_uptime_seconds", gauge, "Since its launch."), uptime);
    let connections = |one: &GenerationView| one.connections.map(number);
    each(
        page,
        units,
        ("supd_connections", gauge, "Open connections, as they were last counted."),
        connections,
    );
    let oldest = |one: &GenerationView| one.oldest_ms.map(millis);
    let family = ("supd_oldest_connection_seconds", gauge, "The age of the oldest of them.");
    each(page, units, family, oldest);
    let counted = |one: &GenerationView| one.counted_ms.map(millis);
    each(page, units, ("supd_counted_age_seconds", gauge, "So long ago connections were counted."), counted);
}

fn of_cgroups(page: &mut Page, units: &[UnitView]) {
    let memory = |one: &GenerationView| one.memory_bytes.map(number);
    let family = ("supd_memory_bytes", "gauge", "Memory of its processes, where cgroups tell.");
    each(page, units, family, memory);
    let cpu = |one: &GenerationView| one.cpu_us.map(|time| seconds(Duration::from_micros(time)));
    let family =
        ("supd_cpu_seconds_total", "counter", "Processor time of its processes, where cgroups tell.");
    each(page, units, family, cpu);
    let tasks = |one: &GenerationView| one.tasks.map(number);
    each(page, units, ("supd_tasks", "gauge", "Its processes and threads, where cgroups tell."), tasks);
}

fn counters(page: &mut Page, tallies: &Tallies) {
    page.family("supd_swaps_total", "counter", "Starts, swaps, restarts and rollbacks that are over.");
    for (unit, tally) in tallies {
        for ((kind, result), count) in &tally.swaps {
            let kind = kind.map(|kind| kind.write()).unwrap_or_default();
            let kind = kind.as_str().unwrap_or_default();
            page.line(
                "",
                &[("unit", unit.as_str()), ("kind", kind), ("result", result.word())],
                &number(*count),
            );
        }
    }
    let sum = |tally: &UnitTally, wanted: SwapResult| {
        let its = tally.swaps.iter().filter(|((_, result), _)| *result == wanted);
        its.map(|(_, count)| *count).sum()
    };
    let mut each = |name: &str, help: &str, count: &dyn Fn(&UnitTally) -> u64| {
        page.family(name, "counter", help);
        for (unit, tally) in tallies {
            page.line("", &[("unit", unit.as_str())], &number(count(tally)));
        }
    };
    each("supd_rollbacks_total", "Switches that were undone before they were committed.", &|tally| {
        sum(tally, SwapResult::RolledBack)
    });
    each("supd_worker_launches_total", "Workers that were launched.", &|tally| tally.launches);
    each("supd_worker_restarts_total", "Workers launched in the place of one that ended.", &|tally| {
        tally.restarts
    });
    each("supd_worker_failures_total", "Workers that failed by themselves.", &|tally| tally.failures);
    let ready = ("supd_ready_seconds", "From the launch to ready.", READY_BOUNDS);
    histogram(page, tallies, ready, |tally| &tally.ready);
    let switch = ("supd_switch_seconds", "From the intent saved to the switch made.", SWITCH_BOUNDS);
    histogram(page, tallies, switch, |tally| &tally.switch);
}

fn histogram(
    page: &mut Page,
    tallies: &Tallies,
    (name, help, bounds): (&str, &str, &[Duration]),
    of: impl Fn(&UnitTally) -> &Histogram,
) {
    page.family(name, "histogram", help);
    for (unit, tally) in tallies {
        let (unit, its) = (unit.as_str(), of(tally));
        if its.count == 0 {
            continue;
        }
        for (bound, bucket) in bounds.iter().zip(&its.buckets) {
            page.line("_bucket", &[("unit", unit), ("le", &seconds(*bound))], &number(*bucket));
        }
        page.line("_bucket", &[("unit", unit), ("le", "+Inf")], &number(its.count));
        page.line("_sum", &[("unit", unit)], &seconds(its.sum));
        page.line("_count", &[("unit", unit)], &number(its.count));
    }
}

#[cfg(test)]
mod tests;
