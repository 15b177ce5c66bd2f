//! A fragment with its drop-ins: what counts of all their assignments.

use super::lines::{Ignored, parse};
use crate::codec::fault::Fault;
use crate::codec::unitfile::Source;
use std::collections::HashMap;
use std::path::PathBuf;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The section, without brackets.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value.
    pub text: String,
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: u32,
}

/// All that the files of a unit say, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    values: Vec<Value>,
    /// Lines that systemd passes over.
    pub ignored: Vec<(PathBuf, u32, Ignored)>,
}

impl Unit {
    /// Reads the files: the fragment first, its drop-ins in the order of their names.
    ///
    /// # Errors
    /// What makes systemd refuse a file as a whole.
    pub fn read<'s>(sources: impl IntoIterator<Item = &'s Source>) -> Result<Self, Vec<Fault>> {
        let (mut unit, mut faults) = (Self::default(), Vec::new());
        for Source { path, text } in sources {
            let lines = parse(text);
            if text.contains('\0') {
                faults.push(Fault::of_file(path, "a NUL byte", "this is no unit file of systemd"));
            }
            if let Some(line) = lines.broken {
                let remedy = "close it as in [Service]; systemd refuses this file too";
                let fault = Fault::of_file(path, "the bracket of this section is not closed", remedy);
                faults.push(Fault { line, column: 1, ..fault });
            }
            unit.ignored.extend(lines.ignored.into_iter().map(|(line, why)| (path.clone(), line, why)));
            unit.values.extend(lines.assignments.into_iter().map(|one| Value {
                section: one.section,
                key: one.key,
                text: one.value,
                file: path.clone(),
                line: one.line,
            }));
        }
        if faults.is_empty() { Ok(unit) } else { Err(faults) }
    }

    fn every<'u, 'k>(
        &'u self,
        section: &'k str,
        key: &'k str,
    ) -> impl DoubleEndedIterator<Item = &'u Value> + use<'u, 'k> {
        self.values.iter().filter(move |value| value.section == section && value.key == key)
    }

    /// The value of a key that has one: the last; `None` also where the last is empty.
    #[must_use]
    pub fn last(&self, section: &str, key: &str) -> Option<&Value> {
        self.every(section, key).next_back().filter(|value| !value.text.is_empty())
    }

    /// The values of a key that collects them: those behind the last empty one.
    #[must_use]
    pub fn all(&self, section: &str, key: &str) -> Vec<&Value> {
        let mut values: Vec<&Value> =
            self.every(section, key).rev().take_while(|value| !value.text.is_empty()).collect();
        values.reverse();
        values
    }

    /// Where a key was set to nothing at last, which for some means an empty set.
    #[must_use]
    pub fn emptied(&self, section: &str, key: &str) -> Option<&Value> {
        self.every(section, key).next_back().filter(|value| value.text.is_empty())
    }

    /// Every assignment that counts, in order: not those that a later empty one took back.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        let mut emptied: HashMap<(&str, &str), usize> = HashMap::new();
        for (at, value) in self.values.iter().enumerate().filter(|(_, value)| value.text.is_empty()) {
            emptied.insert((&value.section, &value.key), at);
        }
        let counts = move |at: usize, value: &Value| {
            let last = emptied.get(&(value.section.as_str(), value.key.as_str()));
            last.is_none_or(|last| at > *last)
        };
        self.values.iter().enumerate().filter(move |(at, value)| counts(*at, value)).map(|(_, value)| value)
    }

    /// Whether any file opens this section with something in it.
    #[must_use]
    pub fn has_section(&self, section: &str) -> bool {
        self.values.iter().any(|value| value.section == section)
    }
}
