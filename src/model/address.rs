//! Where a listener listens.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// How bytes travel through a socket (socket(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketKind {
    /// SOCK_STREAM
    Stream,
    /// SOCK_DGRAM
    Datagram,
    /// SOCK_SEQPACKET
    SequentialPacket,
}

/// The address of a listener, as the unit file says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// TCP (stream) or UDP (datagram).
    Ip {
        /// Stream or datagram; the kernel has no sequential packets over IP.
        kind: SocketKind,
        /// The address; a port alone is `[::]`, as in systemd.socket(5).
        host: IpAddr,
        /// The port, never 0: a listener must be found again.
        port: u16,
    },
    /// A UNIX socket at a path (unix(7)).
    Unix {
        /// Any of the three kinds.
        kind: SocketKind,
        /// The absolute public path.
        path: PathBuf,
    },
    /// A UNIX socket with an abstract name, without the leading NUL.
    Abstract {
        /// Any of the three kinds.
        kind: SocketKind,
        /// What follows the `@`.
        name: String,
    },
    /// A named pipe (fifo(7)).
    Fifo {
        /// The absolute path.
        path: PathBuf,
    },
}

impl Address {
    /// The kind of socket; a FIFO has none.
    #[must_use]
    pub fn kind(&self) -> Option<SocketKind> {
        match self {
            Self::Ip { kind, .. } | Self::Unix { kind, .. } | Self::Abstract { kind, .. } => Some(*kind),
            Self::Fifo { .. } => None,
        }
    }

    /// Whether connections queue up in the kernel until somebody accepts them.
    #[must_use]
    pub fn listens(&self) -> bool {
        matches!(self.kind(), Some(SocketKind::Stream | SocketKind::SequentialPacket))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip { host: IpAddr::V4(host), port, .. } => write!(f, "{host}:{port}"),
            Self::Ip { host: IpAddr::V6(host), port, .. } => write!(f, "[{host}]:{port}"),
            Self::Unix { path, .. } | Self::Fifo { path } => write!(f, "{}", path.display()),
            Self::Abstract { name, .. } => write!(f, "@{name}"),
        }
    }
}
