//! When memory is given back: boot, and a change of many units, take much of it for a moment.

use crate::model::Tick;
use std::time::Duration;

/// So many inputs may have left something worth the look, which takes a millisecond or two.
const WORTH: usize = 1000;

/// How long there must have been rest: in between, what is free is about to be used again.
const AFTER: Duration = Duration::from_secs(1);

/// Counts what was done since memory was last given back.
#[derive(Debug)]
pub struct Thrift {
    inputs: usize,
    due: Option<Tick>,
}

impl Default for Thrift {
    /// Boot alone is worth it.
    fn default() -> Self {
        Self { inputs: WORTH, due: None }
    }
}

impl Thrift {
    /// So many inputs were taken now.
    pub fn took(&mut self, inputs: usize, now: Tick) {
        self.inputs = self.inputs.saturating_add(inputs);
        if inputs > 0 && self.inputs >= WORTH {
            self.due = Some(now.after(AFTER));
        }
    }

    /// When memory is to be given back.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.due
    }

    /// Whether that is now; once.
    pub fn is_due(&mut self, now: Tick) -> bool {
        let due = self.due.take_if(|due| *due <= now).is_some();
        if due {
            self.inputs = 0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_boot_and_after_much() {
        let second = |n: u64| Tick(n * 1_000_000);
        let mut thrift = Thrift::default();
        assert!(thrift.deadline().is_none() && !thrift.is_due(second(9)), "nothing was done yet");
        thrift.took(1, second(10));
        assert!(thrift.deadline() == Some(second(11)) && !thrift.is_due(second(10)));
        thrift.took(1, second(11));
        assert!(!thrift.is_due(second(11)), "it goes on");
        assert!(thrift.is_due(second(12)) && !thrift.is_due(second(12)));
        thrift.took(WORTH - 1, second(13));
        assert_eq!(thrift.deadline(), None);
        thrift.took(0, second(14));
        thrift.took(1, second(15));
        assert_eq!(thrift.deadline(), Some(second(16)));
    }
}
