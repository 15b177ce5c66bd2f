//! What a unit has of the kernel, told so that another supd can go on with it: the descriptors travel beside this,
//! and are named here by their place among them.

use super::settings::Socket;
use super::{Address, Generation, Tick};
use std::sync::Arc;

/// The place of a descriptor among those that travel beside.
pub type At = u32;

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptUnit {
    /// Each generation gets a slot of its own, where that can be.
    pub steered: bool,
    /// Which generation has which slot.
    pub lent: Vec<KeptLoan>,
    /// Those that have ended, and where they had theirs.
    pub left: Vec<KeptLoan>,
    /// Who receives new connections.
    pub steering: KeptSteering,
    /// In the order in which they were bound.
    pub listeners: Vec<KeptListener>,
    /// The notify sockets of the generations that live.
    pub notify: Vec<KeptNotify>,
    /// The generations that live.
    pub generations: Vec<KeptGeneration>,
    /// What workers have stored.
    pub stored: Vec<KeptStored>,
    /// Workers that bind for themselves.
    pub intercepts: Vec<KeptIntercept>,
}

impl KeptUnit {
    /// Whether there is nothing to go on with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.notify.is_empty() && self.stored.is_empty()
    }
}

/// A generation, and who of it can be gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptGeneration {
    /// Its number.
    pub generation: Generation,
    /// Whose copy of the program its workers are launched from.
    pub origin: Generation,
    /// It has a slot of its own at each listener.
    pub steered: bool,
    /// When it was launched, where that is known.
    pub launched: Option<Tick>,
    /// SUPD_WORKER of those that were ready once: of any other nobody knows whether it has said so.
    pub workers: Vec<u32>,
}

/// A descriptor of the descriptor store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptStored {
    /// For whom.
    pub generation: Generation,
    /// SUPD_WORKER
    pub worker: u32,
    /// FDNAME=
    pub name: String,
    /// It goes when it hangs up.
    pub poll: bool,
    /// The descriptor.
    pub file: At,
}

/// A worker about whose bind(2) and listen(2) the kernel asks supd (Handoff = "intercept").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptIntercept {
    /// Its generation.
    pub generation: Generation,
    /// SUPD_WORKER
    pub worker: u32,
    /// What the kernel asks by.
    pub calls: At,
    /// Which of its unit's listeners it serves, by their place in the unit.
    pub served: Vec<u32>,
    /// One of its generation wants that nothing blocks.
    pub nonblocking: bool,
    /// The number of the last call that was taken.
    pub last: Option<u64>,
    /// The calls that are not answered.
    pub waiting: Vec<KeptCall>,
}

/// A call that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptCall {
    /// Its number.
    pub id: u64,
    /// The thread that waits in it.
    pub thread: i32,
    /// The socket, as the worker numbers it.
    pub fd: i32,
    /// Of bind(2): where the address is in the worker's memory, and how long the worker says it is.
    pub address: Option<(u64, u64)>,
    /// Of listen(2): how many may wait.
    pub backlog: i32,
}

/// A slot of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptLoan {
    /// Whose.
    pub generation: Generation,
    /// Its number.
    pub slot: u32,
}

/// A notify socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptNotify {
    /// Whose.
    pub generation: Generation,
    /// The socket, with what was said and not yet heard.
    pub socket: At,
}

/// The split of a unit, and what its groups share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSteering {
    /// The active slot.
    pub active: u32,
    /// Another one and its part, in hundredths of a percent.
    pub candidate: Option<KeptShare>,
    /// By the client's address.
    pub sticky: bool,
    /// By which clients are drawn.
    pub salt: u32,
    /// The maps of its eBPF programs.
    pub table: Option<KeptTable>,
    /// Of the next group, among the counts.
    pub place: u32,
}

/// A candidate's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptShare {
    /// Its slot.
    pub slot: u32,
    /// In hundredths of a percent.
    pub parts: u32,
}

/// See [`KeptSteering`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptTable {
    /// The words.
    pub words: At,
    /// Who probes.
    pub probes: At,
}

/// What becomes of a client that comes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptTraffic {
    /// It is refused.
    Refused,
    /// It waits outside of the queue.
    HeldOff,
    /// It gets into the queue.
    Open,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptListener {
    /// As it was bound.
    pub socket: Arc<Socket>,
    /// Where, in truth.
    pub bound: Address,
    /// What becomes of clients.
    pub traffic: KeptTraffic,
    /// Why it has one slot for all, though others of its kind do not.
    pub shared: bool,
    /// Its slots, the active one first.
    pub members: Vec<KeptMember>,
    /// What the kernel chooses by.
    pub group: Option<KeptGroup>,
}

/// A slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptMember {
    /// Its number.
    pub slot: u32,
    /// A generation has it.
    pub lent: bool,
    /// The socket.
    pub socket: At,
}

/// The group of a listener's slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptGroup {
    /// The slots, in the order of the kernel's numbers.
    pub row: Vec<u32>,
    /// An eBPF program.
    pub ebpf: Option<KeptProgram>,
    /// Why there is none.
    pub why: String,
}

/// An eBPF program, and its own map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptProgram {
    /// The sockets by their slots.
    pub sockets: At,
    /// The program.
    pub program: At,
    /// Its place among the counts.
    pub place: u32,
}
