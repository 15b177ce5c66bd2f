//! When memory is given back: what supd runs stays mapped, and boot, and a change of many units, take
//! much of the heap for a moment.

use crate::model::Tick;
use std::time::Duration;

/// So many inputs may have left something in the heap that is worth the look, which takes a millisecond
/// or two.
const WORTH: usize = 1000;

/// How long there must have been rest: in between, what is free is about to be used again.
const AFTER: Duration = Duration::from_secs(1);

/// What is to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// Pages of code, which cost little to let go and little to have again.
    Code,
    /// And free pages of the heap.
    CodeAndHeap,
}

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
        if inputs > 0 {
            self.due = Some(now.after(AFTER));
        }
    }

    /// When memory is to be given back.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.due
    }

    /// What is to be given back now; once.
    pub fn due(&mut self, now: Tick) -> Option<Worth> {
        self.due.take_if(|due| *due <= now)?;
        if self.inputs < WORTH {
            return Some(Worth::Code);
        }
        self.inputs = 0;
        Some(Worth::CodeAndHeap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_boot_and_after_much() {
        let second = |n: u64| Tick(n * 1_000_000);
        let mut thrift = Thrift::default();
        assert_eq!((thrift.deadline(), thrift.due(second(9))), (None, None), "nothing was done yet");
        thrift.took(1, second(10));
        assert_eq!((thrift.deadline(), thrift.due(second(10))), (Some(second(11)), None));
        thrift.took(1, second(11));
        assert_eq!(thrift.due(second(11)), None, "it goes on");
        assert_eq!((thrift.due(second(12)), thrift.due(second(12))), (Some(Worth::CodeAndHeap), None));
        thrift.took(WORTH - 1, second(13));
        assert_eq!(thrift.due(second(14)), Some(Worth::Code));
        thrift.took(0, second(15));
        assert_eq!(thrift.deadline(), None);
        thrift.took(1, second(16));
        assert_eq!(thrift.due(second(17)), Some(Worth::CodeAndHeap));
    }
}
