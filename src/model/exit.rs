//! How processes end: workers, and supctl itself.

use super::signal::Signal;
use std::fmt;

/// How a process ended, as the kernel says it (wait(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkerExit {
    /// It returned or called exit(3).
    Code(i32),
    /// A signal ended it.
    Killed {
        /// Which one.
        signal: Signal,
        /// Whether the kernel wrote a core file.
        core: bool,
    },
    /// It was no child of ours and the kernel is too old to say (KERNEL.md: before 6.15).
    Unknown,
}

impl WorkerExit {
    /// Exit status 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Killed { signal, core: false } => write!(f, "killed by {signal}"),
            Self::Killed { signal, core: true } => write!(f, "killed by {signal} (core dumped)"),
            Self::Unknown => f.write_str("exit status unknown"),
        }
    }
}

/// The exit status of supd after a shutdown, under a service manager: no failure, and no reason to start it again
/// (RestartPreventExitStatus=). Not 0, with which it ends where the next one is to go on. One of those that are free
/// for applications (Linux Standard Base, Init Script Actions: 150 to 199).
pub const SHUT_DOWN: u8 = 150;

/// The exit status of supctl. Scripts branch on it, so a number never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done, or nothing to do.
    Done = 0,
    /// Failed before the switch: the old generation was not touched.
    Failed = 1,
    /// Wrong use of the command line.
    Usage = 2,
    /// Refused, with the reason and the next command to type.
    Refused = 3,
    /// No answer in time: the outcome is unknown.
    Timeout = 4,
    /// No supd answers at the control socket.
    NoSupd = 5,
    /// Switched, then rolled back.
    RolledBack = 6,
    /// Failed, and nothing is serving.
    Down = 7,
    /// Not allowed.
    NotAllowed = 77,
    /// A unit file is wrong.
    BadUnitFile = 78,
}

impl ExitStatus {
    /// Every status, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Refused,
        Self::Timeout,
        Self::NoSupd,
        Self::RolledBack,
        Self::Down,
        Self::NotAllowed,
        Self::BadUnitFile,
    ];

    /// The number that the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}
