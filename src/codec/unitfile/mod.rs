//! The unit file: TOML with systemd's names, typed, checked, every fault at once.
//!
//! # How sources join
//! supd.toml lies at the bottom, the unit's own file on it, its drop-ins on top in the order of
//! their names. Keys of a table join; `[[Socket]]` joins by Name; everything else, lists too, takes
//! the place of what was there. `Key = ""` takes a key back to its default, as in systemd. A
//! `Listen…` key takes the place of any other `Listen…` key of the same socket.
//!
//! # supd.toml
//! Defaults for every unit: `[Unit]`, `[Service]`, `[Swap]` as in a unit file, and `[Socket]` in
//! one bracket, which lies under every `[[Socket]]`. What can only be of one unit is refused there:
//! Description, Name, the Listen keys, BindAs, ExecStart, ExecInstall. `[Metrics]` is of supd
//! itself, and only there.
//!
//! # How values are written
//! - Yes and no are TOML's `true` and `false`; systemd's other words are refused with the remedy.
//! - Times are numbers of seconds or texts as in systemd.time(7); sizes are numbers of bytes or
//!   texts with K, M, G … to the base 1024; modes are octal texts.
//! - A command is a text, split as systemd splits it, or a list of words. Several commands are a
//!   list that holds lists (or texts beside lists). No shell; `${VAR}` is left for the launch. A
//!   leading `-` ignores a failure, but not where the failure is the point (ExecStart, Ready,
//!   CheckCommand).
//! - Several words (SupplementaryGroups, EnvironmentFile …) are a list, or one text that is split.
//! - Environment is a table, a list of `NAME=value`, or one text that is split. Only tables join.
//! - A port alone is `[::]`; a kernel without IPv6 is for the hands to notice.
//!
//! A unit without `[[Socket]]` is a worker that nobody connects to; its swaps overlap all the same.

mod address;
mod advice;
pub mod as_toml;
mod brackets;
mod capabilities;
mod check;
mod command;
pub mod conflict;
mod defaults;
mod document;
mod exits;
mod foreign;
mod keys;
mod layer;
mod limits;
mod metrics;
mod origin;
mod page;
mod process;
mod ready;
mod render;
mod report;
mod section;
mod service;
mod socket;
mod source;
mod swap;
mod values;

#[cfg(test)]
mod tests;

pub use conflict::{Conflict, collide, collision_key, conflicts};
pub use document::BYTES_MAX;
pub use foreign::{remedy as foreign_remedy, table_remedy as foreign_table_remedy};
pub use keys::keys_of;
pub use metrics::{METRICS, metrics_of};
pub use origin::{Origin, Origins};
pub use page::{Row, Table};
pub use ready::{Authority, asked as ready_asks};
pub use render::{effective, effective_with_origins, rows};
pub use source::{Source, Sources};

use super::fault::Fault;
use crate::model::Settings;
use layer::{Kind, Layer};
use report::{Report, bad};
use section::Section;
use std::sync::Arc;

/// Whose rights a worker without User has: those of supd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    /// supd is root.
    Root,
    /// supd is an ordinary user, and so is every worker.
    Ordinary,
}

/// A unit as its files describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Every key, defaults filled in.
    pub settings: Settings,
    /// What will work, and is hardly what was meant.
    pub warnings: Vec<Fault>,
    /// Where each key comes from.
    pub origins: Origins,
}

/// Reads a unit for a supd that is root. See [`parse_for`].
///
/// # Errors
/// Every fault of every source, in the order of the sources and their lines.
pub fn parse(sources: &Sources) -> Result<Loaded, Vec<Fault>> {
    parse_for(sources, Runner::Root)
}

/// Reads a unit. Total: whatever the bytes, the result is settings or faults.
///
/// # Errors
/// Every fault of every source, in the order of the sources and their lines.
pub fn parse_for(sources: &Sources, runner: Runner) -> Result<Loaded, Vec<Fault>> {
    // Faults are told in this order: what the reader most likely has open comes first.
    let order = || std::iter::once(&sources.main).chain(&sources.drop_ins).chain(&sources.defaults);
    let mut report = Report::new(order());
    let unit = sources.unit.as_str();
    let mut layer = |file: usize, kind: Kind| {
        let document = document::read(file, &mut report);
        Layer::new(document, kind, unit, &mut report)
    };
    let main = layer(0, Kind::Unit);
    let drop_ins: Vec<Layer> = (1..=sources.drop_ins.len()).map(|file| layer(file, Kind::Unit)).collect();
    let defaults = sources.defaults.is_some().then(|| layer(sources.drop_ins.len() + 1, Kind::Defaults));
    let merged = layer::merge(defaults.as_ref(), &main, &drop_ins, unit, &mut report);

    let (settings, rows) = read(&merged, sources, &mut report);
    // A fault that another source covers is a fault all the same: the cover may go.
    report.alone = true;
    for alone in std::iter::once(&main).chain(&drop_ins).chain(&defaults) {
        read(alone, sources, &mut report);
    }
    defaults.iter().for_each(|layer| drop(metrics::read(&layer.metrics, &mut report)));
    report.alone = false;

    check::faults(&settings, &merged, &rows, runner, &mut report);
    advice::warnings(&settings, &merged, &rows, runner, 1 + sources.drop_ins.len(), &mut report);
    let origins = Origins::new(&merged, unit, &report);
    let has_faults = report.has_faults();
    let (faults, warnings) = report.finish();
    if has_faults { Err(faults) } else { Ok(Loaded { settings, warnings, origins }) }
}

/// Everything that is wrong with a supd.toml by itself, whatever the units say.
#[must_use]
pub fn check_defaults(source: &Source) -> Vec<Fault> {
    let mut report = Report::new(std::iter::once(source));
    // A name is needed to read anything; it is in none of the faults.
    let Ok(unit) = crate::model::UnitName::new("supd") else { return Vec::new() };
    let layer = Layer::new(document::read(0, &mut report), Kind::Defaults, unit.as_str(), &mut report);
    let sources = Sources { unit, defaults: None, main: source.clone(), drop_ins: Vec::new() };
    report.alone = true;
    read(&layer, &sources, &mut report);
    metrics::read(&layer.metrics, &mut report);
    report.finish().0
}

/// Every key with the table that it is of, as tables are written in a unit file.
pub fn keys() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    keys::TABLES.iter().map(|(_, written, keys)| (*written, *keys))
}

/// Types every key. The second value says which `[[Socket]]` each listener is from.
fn read(layer: &Layer, sources: &Sources, report: &mut Report<'_>) -> (Settings, Vec<usize>) {
    let mut section = Section::new(&layer.unit, report);
    let description = section.get("Description", |node| match values::text(node)? {
        text if text.len() > 500 => bad("it is longer than 500 bytes", "say it in one line"),
        text => Ok(text),
    });
    let control_group = section.get("ControlGroup", values::account_node);
    let service = service::read(&layer.service, report);
    let swap = swap::read(&layer.swap, report);
    let (mut sockets, mut rows) = (Vec::new(), Vec::new());
    for (index, socket) in layer.sockets.iter().enumerate() {
        if let Some(socket) = socket::read(socket, &sources.unit, report) {
            sockets.push(Arc::new(socket));
            rows.push(index);
        }
    }
    // Settings live as long as their generation; a vector begins with room for four.
    sockets.shrink_to_fit();
    let settings = Settings {
        unit: sources.unit.clone(),
        description: description.unwrap_or_default(),
        control_group,
        sockets,
        service,
        swap,
    };
    (settings, rows)
}
