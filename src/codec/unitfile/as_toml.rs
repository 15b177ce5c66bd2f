//! Values as a unit file writes them, for those who write one.

use super::page;
use crate::model::settings::Command;

/// A text in quotes.
#[must_use]
pub fn text(value: &str) -> String {
    page::text(value)
}

/// A list of texts.
#[must_use]
pub fn list(values: &[String]) -> String {
    page::list(values.iter().map(|value| page::text(value)))
}

/// Commands: one is a list of words, several a list of lists.
#[must_use]
pub fn commands(commands: &[Command]) -> String {
    page::command_list(commands)
}
