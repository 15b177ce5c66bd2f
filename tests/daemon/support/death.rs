//! supd's death at a chosen moment: see `daemon::death`.

use super::harness::Supd;
use crate::wait::{SOON, wait_until};
use std::fs;

/// Says when, in the runtime folder of a supd.
const FILE: &str = "death";

impl Supd {
    /// supd dies after so many more moments: before an effect, and before the keeper is told of it. (A supd built
    /// for release does not.)
    pub(crate) fn dies_after(&self, moments: u64) {
        let new = self.runtime().join("death.new");
        fs::write(&new, moments.to_string()).expect("a file");
        fs::rename(&new, self.runtime().join(FILE)).expect("a file");
    }

    /// It does not, if it has not yet. Whether it has.
    pub(crate) fn has_died(&self) -> bool {
        match fs::remove_file(self.runtime().join(FILE)) {
            Ok(()) => false,
            Err(_) => {
                wait_until("a supd that dies to end", SOON, || self.has_ended());
                true
            }
        }
    }
}
