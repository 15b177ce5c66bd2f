//! Reading the keys of one table, each at most once, every fault noted in its place.

use super::command::{self, Use};
use super::document::Node;
use super::layer::Rows;
use super::report::{Reading, Report};
use crate::model::settings::Command;

/// One table while it is read.
pub(super) struct Section<'a, 's> {
    pub rows: &'a Rows,
    pub report: &'a mut Report<'s>,
}

impl<'a, 's> Section<'a, 's> {
    pub(super) fn new(rows: &'a Rows, report: &'a mut Report<'s>) -> Self {
        Self { rows, report }
    }

    /// The value of a key: `None` where it is not set or wrong, and what is wrong is noted.
    pub(super) fn get<T>(&mut self, key: &'static str, read: impl FnOnce(&Node) -> Reading<T>) -> Option<T> {
        #[cfg(test)]
        self.report.asked.insert(key);
        let node = &self.rows.table.entries.get(key)?.node;
        match read(node) {
            Ok(value) => Some(value),
            Err(bads) => {
                for bad in bads {
                    self.report.fault(node.place, key, bad);
                }
                None
            }
        }
    }

    /// Puts the value of a key into `slot` if it is set and right.
    pub(super) fn set<T>(&mut self, slot: &mut T, key: &'static str, read: impl FnOnce(&Node) -> Reading<T>) {
        if let Some(value) = self.get(key, read) {
            *slot = value;
        }
    }

    /// The same for a value that may be absent.
    pub(super) fn set_some<T>(
        &mut self,
        slot: &mut Option<T>,
        key: &'static str,
        read: impl FnOnce(&Node) -> Reading<T>,
    ) {
        if let Some(value) = self.get(key, read) {
            *slot = Some(value);
        }
    }

    /// Commands that run one after the other.
    pub(super) fn set_commands(&mut self, slot: &mut Vec<Command>, key: &'static str) {
        let mut warnings = Vec::new();
        self.set(slot, key, |node| command::many(node, Use::Hook, &mut warnings));
        for warning in warnings {
            self.report.warn(self.rows.place(key), key, warning);
        }
    }

    /// One command whose failure is what it is for.
    pub(super) fn command(&mut self, key: &'static str) -> Option<Command> {
        let mut warnings = Vec::new();
        let command = self.get(key, |node| command::one(node, Use::Verdict, &mut warnings));
        for warning in warnings {
            self.report.warn(self.rows.place(key), key, warning);
        }
        command
    }
}
