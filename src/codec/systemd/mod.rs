//! systemd's unit files: text → sections, keys and values, as systemd itself reads them.
//!
//! `lines` is systemd.syntax(7), [`Unit`] joins a fragment and its drop-ins, [`Name`] and
//! [`specifiers`] are systemd.unit(5), [`command`] the command lines of systemd.service(5). What
//! systemd passes over with a log message is passed over here too, and told. Nothing here knows
//! what a directive means: that is for whoever imports it.

pub mod command;
mod lines;
mod name;
pub mod specifiers;
mod unit;

pub use lines::{Assignment, Ignored, Lines, parse};
pub use name::{Kind, Name};
pub use specifiers::Facts;
pub use unit::{Unit, Value};

/// Yes or no as systemd.syntax(7) lists the words; `None`: neither.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
