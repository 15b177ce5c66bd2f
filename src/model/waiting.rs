//! The queue of a listener's slot.

use super::{Address, ListenerName};

/// How much waits. Connections and bytes are never added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// So many wait for accept(2).
    Connections(u32),
    /// Datagrams, or what was written to a FIFO: so many wait to be read. For UDP it is the memory that
    /// the kernel holds for them.
    Bytes(u32),
}

impl Queued {
    /// What a number is that the kernel has told of such an address.
    #[must_use]
    pub fn at(address: &Address, length: u32) -> Self {
        if address.listens() { Self::Connections(length) } else { Self::Bytes(length) }
    }

    /// How many connections.
    #[must_use]
    pub fn connections(self) -> Option<u32> {
        match self {
            Self::Connections(count) => Some(count),
            Self::Bytes(_) => None,
        }
    }

    /// How many bytes.
    #[must_use]
    pub fn bytes(self) -> Option<u32> {
        match self {
            Self::Connections(_) => None,
            Self::Bytes(count) => Some(count),
        }
    }
}

/// What waits in one listener for one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// LISTEN_FDNAMES
    pub name: ListenerName,
    /// Where.
    pub address: Address,
    /// Other generations have the same slot, and may take what waits there.
    pub shared: bool,
    /// How much; `None`: the kernel does not tell.
    pub queued: Option<Queued>,
}

impl Queue {
    /// How much keeps who has these from being done: connections that nobody has accepted, and queues of
    /// datagrams that are its own and that it has not read.
    #[must_use]
    pub fn unfinished(queues: &[Self]) -> u32 {
        let unread =
            |queue: &&Self| !queue.shared && queue.queued.and_then(Queued::bytes).is_some_and(|it| it > 0);
        let unread = queues.iter().filter(unread).count();
        Self::connections(queues).saturating_add(u32::try_from(unread).unwrap_or(u32::MAX))
    }

    /// The connections of all of these.
    #[must_use]
    pub fn connections(queues: &[Self]) -> u32 {
        let each = queues.iter().filter_map(|queue| queue.queued?.connections());
        each.fold(0, u32::saturating_add)
    }
}

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

impl Waiting {
    /// Whether half of those wait that may.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.length >= self.most.div_ceil(2)
    }
}
