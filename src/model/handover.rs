//! What supd hands to its next image across execve(2), besides what the keeper has: who is connected to it, and
//! what keeps a second supd away. Descriptors stay open under their numbers.

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
}
