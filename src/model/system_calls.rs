//! Which system calls a process may make.

/// A list, and what it means. System calls of another architecture, and those that only x32 programs make, are
/// forbidden whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemCalls {
    /// Whether it may make these and no others; else it may make all others.
    pub allowed: bool,
    /// Their numbers on this machine, each once, ascending.
    pub numbers: Vec<u32>,
}
