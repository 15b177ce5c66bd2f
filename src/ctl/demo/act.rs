//! The acts of the story: what was typed, what is being waited for, and how it ended.

use std::time::Duration;

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Act {
    /// Its mark under the chart.
    pub(super) mark: char,
    /// When it began, on the clock of the load.
    pub(super) began: Duration,
    /// What a person would have typed, or what happens.
    pub(super) command: String,
    /// What it is about.
    pub(super) about: String,
    /// The last news of it.
    pub(super) news: String,
    /// `None`: under way.
    pub(super) end: Option<End>,
}

/// How an act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// When, on the clock of the load.
    pub(super) at: Duration,
    /// Whether it went as told.
    pub(super) as_told: bool,
}

impl Act {
    /// An act that begins.
    pub(super) fn new(
        mark: char,
        began: Duration,
        command: impl Into<String>,
        about: impl Into<String>,
    ) -> Self {
        let (command, about) = (command.into(), about.into());
        Self { mark, began, command, about, news: String::new(), end: None }
    }
}

/// Seconds with one decimal.
pub(super) fn seconds(span: Duration) -> String {
    let tenths = span.as_millis() / 100;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// Milliseconds with one decimal below ten.
pub(super) fn millis(span: Duration) -> String {
    let tenths = span.as_micros() / 100;
    if tenths < 100 { format!("{}.{} ms", tenths / 10, tenths % 10) } else { format!("{} ms", tenths / 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_exact_enough() {
        assert_eq!(seconds(Duration::from_millis(1549)), "1.5 s");
        assert_eq!(millis(Duration::from_micros(5_450)), "5.4 ms");
        assert_eq!(millis(Duration::from_micros(123_456)), "123 ms");
    }
}
