//! Where each effective key comes from.

use super::document::Value;
use super::layer::{Layer, Rows, socket_name};
use super::report::{Place, Report};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The source of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No file sets it.
    Default,
    /// The last file that sets it.
    File {
        /// Which.
        file: PathBuf,
        /// From 1.
        line: u32,
        /// From 1.
        column: u32,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line, .. } => write!(f, "{}:{line}", file.to_string_lossy().escape_debug()),
        }
    }
}

/// The sources of all keys of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    files: Vec<PathBuf>,
    /// Table and key to file, line and column. The table of a socket is `Socket.NAME`; a variable of a
    /// table is `Environment.NAME`.
    rows: BTreeMap<(String, String), (usize, u32, u32)>,
}

impl Origins {
    pub(super) fn new(merged: &Layer, unit: &str, report: &Report<'_>) -> Self {
        let mut origins = Self { files: report.paths(), rows: BTreeMap::new() };
        origins.add("Unit", &merged.unit, report);
        origins.add("Service", &merged.service, report);
        origins.add("Swap", &merged.swap, report);
        for rows in &merged.sockets {
            origins.add(&format!("Socket.{}", socket_name(rows, unit)), rows, report);
        }
        origins
    }

    fn add(&mut self, table: &str, rows: &Rows, report: &Report<'_>) {
        let mut add = |key: String, place: Place| {
            let (line, column) = report.position(place);
            self.rows.insert((table.to_owned(), key), (place.file, line, column));
        };
        for (key, entry) in &rows.table.entries {
            add(key.clone(), entry.key);
            if let Value::Table(inner) = &entry.node.value {
                for (name, entry) in &inner.entries {
                    add(format!("{key}.{name}"), entry.key);
                }
            }
        }
    }

    /// Where a key of `Unit`, `Service`, `Swap` or `Socket.NAME` comes from; one variable of
    /// Environment is `Environment.NAME`.
    #[must_use]
    pub fn of(&self, table: &str, key: &str) -> Origin {
        match self.rows.get(&(table.to_owned(), key.to_owned())) {
            Some((file, line, column)) => {
                Origin::File { file: self.files[*file].clone(), line: *line, column: *column }
            }
            None => Origin::Default,
        }
    }
}
