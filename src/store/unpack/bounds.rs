//! How much an archive may be.

use std::time::Duration;

/// Past any of these an archive is refused. The defaults are far above what a server's release
/// holds, and far below what fills a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the archive once it is decompressed, headers and all: what a bomb blows up. 16 GiB.
    pub bytes: u64,
    /// Bytes of one file. 4 GiB.
    pub file_bytes: u64,
    /// Members, and headers that describe one. 500,000.
    pub members: u64,
    /// Bytes of one name from the top, or of what a link leads to. 2,048: with the release's own
    /// folder before it, every name has to be shorter than the kernel's 4,096.
    pub path_bytes: usize,
    /// Folders in one another. 100.
    pub depth: usize,
    /// Bytes of all names and targets together, which are kept in memory. 64 MiB.
    pub names_bytes: u64,
    /// Bytes of the header that carries what others have no room for (long names, extended
    /// attributes). 1 MiB.
    pub header_bytes: u64,
    /// Bytes that a decoder may look back (the window of zstd, the dictionary of xz). 128 MiB, what
    /// zstd itself grants unasked.
    pub window_bytes: u64,
    /// How long nothing may come, where the archive does not stand in a file. 5 minutes.
    pub silence: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            bytes: 16 << 30,
            file_bytes: 4 << 30,
            members: 500_000,
            path_bytes: 2_048,
            depth: 100,
            names_bytes: 64 << 20,
            header_bytes: 1 << 20,
            window_bytes: 128 << 20,
            silence: Duration::from_secs(300),
        }
    }
}

/// A number of bytes as a person says it.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in UNITS {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}
