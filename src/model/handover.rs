//! What supd hands to its next image across execve(2), besides what the keeper has: who is connected to it, what
//! keeps a second supd away, and the swaps that rest. Descriptors stay open under their numbers.

use super::{Author, Generation, Share, Stops, SwapId, SwapKind, Tick, UnitName};
use std::time::Duration;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Which process: what is found in any other is not for that.
    pub pid: u32,
    /// When it began, as field 22 of /proc/PID/stat says.
    pub start_time: u64,
    /// Of the image that writes this.
    pub version: String,
    /// In which format the keeper has what is the kernel's.
    pub kept_format: u64,
    /// In which format the ledger is written.
    pub ledger_format: u64,
    /// In which format settings are pinned.
    pub pinned_format: u64,
    /// The lock of the runtime folder, and that of the state.
    pub locks: Vec<u32>,
    /// Where clients connect.
    pub control: u32,
    /// Device and inode of its file.
    pub control_file: (u64, u64),
    /// The highest number that a client has had.
    pub client_last: u64,
    /// What whoever started supd has passed to it, and nobody has taken.
    pub inherited: Vec<u32>,
    /// What is in the descriptor store of whoever started supd, by name.
    pub mirrored: Vec<String>,
    /// Who is connected.
    pub clients: Vec<HeldClient>,
    /// The swaps that wait for a person, or for a time; `None`: there are none.
    pub swaps: Option<Vec<HeldSwap>>,
    /// By which swaps draw their clients.
    pub salts: Option<u64>,
    /// How many images there were before the one that writes this.
    pub reexecs: Option<u64>,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldClient {
    /// Its socket.
    pub socket: u32,
    /// What it said and nobody has answered, in base64: the call that it waits for, whole, and what came after.
    pub input: String,
    /// What it was told and has not read, in base64.
    pub output: String,
    /// It asked for this reexec.
    pub asked: bool,
    /// Its input begins with a call that the image before had taken.
    pub taken: Option<bool>,
}

/// A swap where nothing is on its way: neither to the disk, nor a worker to ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSwap {
    /// Whose.
    pub unit: UnitName,
    /// Its number.
    pub swap_id: SwapId,
    /// Its kind.
    pub kind: SwapKind,
    /// Who has the traffic, or had it.
    pub from: Option<Generation>,
    /// Who is to have it, or has it.
    pub to: Generation,
    /// The generation whose copy of the program it was to run.
    pub origin: Option<Generation>,
    /// Where it rests.
    pub rest: Rest,
    /// Its listeners have a slot for each generation.
    pub steered: bool,
    /// What `to` receives until the switch.
    pub share: Share,
    /// It goes to one that stood by.
    pub warm: bool,
    /// Where a person wants it to stop.
    pub stops: Stops,
    /// What it leaves is not to stand by.
    pub stops_left: bool,
    /// When it was launched.
    pub launched: Tick,
    /// How long it took to be ready.
    pub ready: Option<Duration>,
    /// How long the switch took.
    pub switch: Option<Duration>,
    /// How long nobody accepted.
    pub gap: Option<Duration>,
    /// Who asked for it.
    pub by: Option<Author>,
}

/// Where a swap can rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It is ready, and receives nothing until a person says so.
    Held,
    /// It receives a part.
    Canary {
        /// Which step of its file; `None`: a person names the part.
        stage: Option<u64>,
        /// `None`: until a person says so.
        until: Option<Tick>,
    },
    /// It receives everything, and what was before could have it back.
    Probation {
        /// When it is committed.
        until: Tick,
    },
}
