//! What supd says about units, as JSON: the shapes that `supctl --json` prints, that the
//! interface description names, and that supctl reads back for its tables.
//!
//! A number that is not known (yet) is null. Words such as a state are text here and not an enum:
//! a reader must bear one that it does not know, for its supd may be newer.

mod cat;
mod connect;
mod history;
mod log;
mod outcome;
mod releases;
mod unit;

pub use cat::{CatView, SettingView};
pub use connect::ConnectView;
pub use history::{
    ByView, CameEventsView, EventsView, HistoryEntry, HistoryView, RawEventsView, RawHistoryView, SideView,
};
pub use log::{JournalView, LogView};
pub use outcome::{EndedView, FaultView, OutcomeView, ProgressView, clients, progress_text};
pub use releases::{ReleaseView, ReleasesView};
pub use unit::{
    GenerationView, ListenerView, QueueView, RollbackView, StatusView, SwapView, UnitView, WorkerView,
};

use crate::model::WaitFor;

/// The number of these shapes; it grows when a reader of the old ones would be wrong.
pub const FORMAT: u32 = 1;

/// The word of `--wait=` and of the interface.
#[must_use]
pub fn wait_word(wait: WaitFor) -> &'static str {
    match wait {
        WaitFor::Ready => "ready",
        WaitFor::Active => "active",
        WaitFor::Committed => "committed",
        WaitFor::Drained => "drained",
    }
}

/// The other way round.
#[must_use]
pub fn wait_for(word: &str) -> Option<WaitFor> {
    [WaitFor::Ready, WaitFor::Active, WaitFor::Committed, WaitFor::Drained]
        .into_iter()
        .find(|wait| wait_word(*wait) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_wait_go_both_ways() {
        for wait in [WaitFor::Ready, WaitFor::Active, WaitFor::Committed, WaitFor::Drained] {
            assert_eq!(wait_for(wait_word(wait)), Some(wait));
        }
        assert_eq!(wait_for("soon"), None);
    }
}
