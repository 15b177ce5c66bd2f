//! One source as tables, and sources laid over each other.

use super::document::{Entry, Table, Value};
use super::keys::{self, LISTEN, NOT_IN_DEFAULTS};
use super::report::{Bad, Place, Report};
use crate::codec::fault::quoted;

/// The most listeners that one unit may have.
const SOCKETS_MAX: usize = 256;

/// What a source is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// supd.toml: `[Socket]` is one table, under every listener of every unit.
    Defaults,
    /// The unit's own file, or a drop-in.
    Unit,
}

/// A table with the keys that an empty string takes back.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub table: Table,
    /// `Key = ""`: whatever a lower source says, it is the default again.
    pub resets: Vec<String>,
}

impl Rows {
    fn empty(place: Place) -> Self {
        Self { table: Table::empty(place), resets: Vec::new() }
    }

    /// The place of a key, else that of the table.
    pub(super) fn place(&self, key: &str) -> Place {
        self.table.entries.get(key).map_or(self.table.place, |entry| entry.node.place)
    }

    /// Whether the key is set at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.entries.contains_key(key)
    }

    /// Lays `over` on top: keys of a table join, everything else takes the place of what was.
    fn overlay(&mut self, over: &Self, report: &mut Report<'_>) {
        for key in &over.resets {
            self.table.entries.remove(key);
            if !self.resets.contains(key) {
                self.resets.push(key.clone());
            }
        }
        if LISTEN.iter().any(|key| over.has(key)) {
            // An address has one kind: another one takes its place and does not stand beside it.
            self.table.entries.retain(|key, _| !LISTEN.contains(&key.as_str()));
        }
        for (key, entry) in &over.table.entries {
            match self.table.entries.get_mut(key) {
                Some(below) => overlay_entry(key, below, entry, report),
                None => {
                    self.table.entries.insert(key.clone(), entry.clone());
                }
            }
        }
    }
}

fn overlay_entry(key: &str, below: &mut Entry, over: &Entry, report: &mut Report<'_>) {
    match (&mut below.node.value, &over.node.value) {
        (Value::Table(below), Value::Table(over)) => {
            below.entries.extend(over.entries.iter().map(|(name, entry)| (name.clone(), entry.clone())));
        }
        (Value::Table(_), _) | (_, Value::Table(_)) => {
            let (line, _) = report.position(below.key);
            let path = &report.source(below.key.file).path;
            let what = format!("this takes the place of all that {}:{line} sets", path.display());
            let remedy =
                format!("write both as tables, {key} = {{ NAME = \"value\" }}, and they join by name");
            report.warn(over.key, key, Bad::new(what, remedy));
            *below = over.clone();
        }
        _ => *below = over.clone(),
    }
}

/// The tables of one source, or of all of them together.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub unit: Rows,
    pub sockets: Vec<Rows>,
    pub service: Rows,
    pub swap: Rows,
    /// Of supd.toml alone.
    pub metrics: Rows,
}

impl Layer {
    /// Sorts a document into its tables. Tables and keys that there are not are reported.
    pub(super) fn new(document: Table, kind: Kind, unit: &str, report: &mut Report<'_>) -> Self {
        let start = document.place;
        let mut layer = Self {
            unit: Rows::empty(start),
            sockets: Vec::new(),
            service: Rows::empty(start),
            swap: Rows::empty(start),
            metrics: Rows::empty(start),
        };
        for (name, entry) in document.entries {
            match (name.as_str(), entry.node.value) {
                ("Unit", Value::Table(table)) => layer.unit = rows("Unit", table, kind, report),
                ("Service", Value::Table(table)) => layer.service = rows("Service", table, kind, report),
                ("Swap", Value::Table(table)) => layer.swap = rows("Swap", table, kind, report),
                ("Metrics", Value::Table(table)) => layer.metrics = of_supd(entry.key, table, kind, report),
                ("Socket", Value::Table(table)) => {
                    if kind == Kind::Unit {
                        let what = "a unit may have several sockets, so each is written in two brackets";
                        report.fault(entry.key, "Socket", Bad::new(what, "write [[Socket]]"));
                    }
                    layer.sockets.push(rows("Socket", table, kind, report));
                }
                ("Socket", Value::List(nodes)) => {
                    if kind == Kind::Defaults {
                        let what = "these are defaults for every socket of every unit";
                        report.fault(entry.key, "Socket", Bad::new(what, "write [Socket], in one bracket"));
                    }
                    for node in nodes {
                        match node.value {
                            Value::Table(table) => layer.sockets.push(rows("Socket", table, kind, report)),
                            other => {
                                let what = format!("{} is no socket", other.kind());
                                report.fault(node.place, "Socket", Bad::new(what, "write [[Socket]]"));
                            }
                        }
                    }
                }
                (table @ ("Unit" | "Service" | "Swap"), value) => {
                    let bad = Bad::new("this is a table that a unit has once", format!("write [{table}]"));
                    report.fault(entry.key, table, bad);
                    let Value::List(nodes) = value else { continue };
                    if let Some(Value::Table(inner)) = nodes.into_iter().next().map(|node| node.value) {
                        match table {
                            "Unit" => layer.unit = rows("Unit", inner, kind, report),
                            "Service" => layer.service = rows("Service", inner, kind, report),
                            _ => layer.swap = rows("Swap", inner, kind, report),
                        }
                    }
                }
                (name, Value::Table(_)) => {
                    if !report.is_full() {
                        report.fault(entry.key, name, keys::unknown_table(name));
                    }
                }
                // Below a table header that could not be read every key would be told.
                (_, _) if report.is_broken(start.file) || report.is_full() => {}
                (name, _) => report.fault(entry.key, name, keys::outside_of_tables(name)),
            }
        }
        layer.sockets.sort_by_key(|rows| rows.table.place);
        if let Some(extra) = layer.sockets.get(SOCKETS_MAX) {
            let what = format!("{SOCKETS_MAX} sockets are the most that a unit may have");
            report.fault(extra.table.place, "Socket", Bad::new(what, "split the unit"));
            layer.sockets.truncate(SOCKETS_MAX);
        }
        if kind == Kind::Unit {
            layer.refuse_twins(unit, report);
        }
        layer
    }

    /// Two sockets of one name in one source.
    fn refuse_twins(&self, unit: &str, report: &mut Report<'_>) {
        for (index, rows) in self.sockets.iter().enumerate() {
            let name = socket_name(rows, unit);
            if !self.sockets[..index].iter().any(|other| socket_name(other, unit) == name) {
                continue;
            }
            let bad = if rows.has("Name") {
                Bad::new(format!("another socket is named {} too", quoted(name)), "give each its own name")
            } else {
                let what = "with two sockets or more each needs a name";
                Bad::new(what, "write Name = \"…\"; workers see it in LISTEN_FDNAMES")
            };
            report.fault(rows.place("Name"), "Name", bad);
        }
    }

    /// Lays `over` on top; sockets join by their names.
    fn overlay(&mut self, over: &Self, unit: &str, socket_defaults: Option<&Rows>, report: &mut Report<'_>) {
        self.unit.overlay(&over.unit, report);
        self.service.overlay(&over.service, report);
        self.swap.overlay(&over.swap, report);
        for rows in &over.sockets {
            let name = socket_name(rows, unit);
            if let Some(known) = self.sockets.iter_mut().find(|known| socket_name(known, unit) == name) {
                known.overlay(rows, report);
            } else {
                let mut fresh = socket_defaults.cloned().unwrap_or_else(|| Rows::empty(rows.table.place));
                fresh.table.place = rows.table.place;
                fresh.overlay(rows, report);
                self.sockets.push(fresh);
            }
        }
    }
}

/// What a socket is called where it says nothing.
pub(super) fn socket_name<'r>(rows: &'r Rows, unit: &'r str) -> &'r str {
    match rows.table.entries.get("Name").map(|entry| &entry.node.value) {
        Some(Value::Text(name)) => name,
        _ => unit,
    }
}

/// The keys of `[Metrics]`, which no unit has.
fn of_supd(place: Place, table: Table, kind: Kind, report: &mut Report<'_>) -> Rows {
    if kind == Kind::Unit {
        let bad = Bad::new("this is of supd, and of no unit", "write it in supd.toml");
        report.fault(place, "Metrics", bad);
        return Rows::empty(table.place);
    }
    rows("Metrics", table, kind, report)
}

/// The keys of one table; those that it does not have are reported and left out.
fn rows(name: &'static str, table: Table, kind: Kind, report: &mut Report<'_>) -> Rows {
    let known = keys::own(name);
    let barred = NOT_IN_DEFAULTS.iter().find(|(table, _)| *table == name).map_or(&[][..], |table| table.1);
    let mut rows = Rows::empty(table.place);
    for (key, entry) in table.entries {
        if !known.contains(&key.as_str()) {
            if report.is_full() {
                continue;
            }
            let value = match &entry.node.value {
                Value::Text(text) => Some(text.as_str()),
                Value::Boolean(false) => Some("no"),
                _ => None,
            };
            report.fault(entry.key, &key, keys::unknown_key(name, &key, value));
        } else if kind == Kind::Defaults && barred.contains(&key.as_str()) {
            let bad = Bad::new("this cannot hold for every unit", "write it in the unit's own file");
            report.fault(entry.key, &key, bad);
        } else if matches!(&entry.node.value, Value::Text(text) if text.is_empty()) {
            rows.resets.push(key);
        } else {
            rows.table.entries.insert(key, entry);
        }
    }
    rows
}

/// Everything together: the unit's file over supd.toml, the drop-ins over both, in their order.
pub(super) fn merge(
    defaults: Option<&Layer>,
    main: &Layer,
    drop_ins: &[Layer],
    unit: &str,
    report: &mut Report<'_>,
) -> Layer {
    let socket_defaults = defaults.and_then(|defaults| defaults.sockets.first());
    let mut merged = Layer {
        unit: Rows::empty(main.unit.table.place),
        sockets: Vec::new(),
        service: Rows::empty(main.service.table.place),
        swap: Rows::empty(main.swap.table.place),
        metrics: Rows::empty(main.metrics.table.place),
    };
    if let Some(defaults) = defaults {
        merged.unit.overlay(&defaults.unit, report);
        merged.service.overlay(&defaults.service, report);
        merged.swap.overlay(&defaults.swap, report);
    }
    for layer in std::iter::once(main).chain(drop_ins) {
        merged.overlay(layer, unit, socket_defaults, report);
    }
    merged
}
