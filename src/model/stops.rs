//! Where a swap stops on its way to the commit, and waits for a person.

use super::Share;

/// What a person asked for beside the swap itself; by default it stops nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stops {
    /// Before it is on any port: its binds are left unanswered until `promote`.
    pub unbound: bool,
    /// When it is ready, until `promote`.
    pub hold: bool,
    /// At this share of the new connections, until `promote` or another `share`.
    pub canary: Option<Share>,
}
