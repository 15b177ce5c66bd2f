//! The queue of a listener's slot.

/// Who waits there, and what tells that somebody accepts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// So many connections.
    pub length: u32,
    /// No more may.
    pub most: u32,
    /// So many have been sent there so far, half-done handshakes among them; `None`: nobody counts.
    pub sent: Option<u64>,
    /// Whoever waits longest; `None`: nobody, or the kernel does not tell.
    pub first: Option<u32>,
}
