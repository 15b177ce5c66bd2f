//! How one generation is reached, and no other, whoever receives new connections.

use super::Listeners;
use crate::model::{Address, Generation, SocketKind};
use crate::os::dial::{self, Dial};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// A way to one slot of one listener.
#[derive(Debug)]
pub enum Way {
    /// What comes from this socket's source address is led there, until
    /// [`Listeners::unprobe`].
    Port(Dial),
    /// The slot's own name, and the number of its socket.
    Path(PathBuf, u32),
}

impl Way {
    /// What is led there, to be led there no longer.
    #[must_use]
    pub fn source(&self) -> Option<SocketAddr> {
        match self {
            Self::Port(dial) => Some(dial.from()),
            Self::Path(..) => None,
        }
    }

    /// For the child that connects.
    #[must_use]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Port(dial) => Some(dial.as_fd()),
            Self::Path(..) => None,
        }
    }
}

impl Listeners {
    /// Opens a way to this generation at this listener. It is to be closed again
    /// ([`Listeners::unprobe`]).
    ///
    /// # Errors
    /// In a sentence: another generation could answer there, or there can be no such way.
    pub fn way(&mut self, generation: Generation, address: &Address) -> Result<Way, String> {
        self.is_apart(generation)?;
        let fd = self.fd(generation, address);
        let fd = fd.ok_or_else(|| format!("generation {generation} has no slot of {address}"))?;
        let inode = dial::inode(fd).map_err(|error| error.to_string())?;
        match self.at(address).map(|listener| listener.bound()) {
            Some(Address::Ip { kind: SocketKind::Stream, host, port }) => {
                let dial = Dial::reserve(*host, *port).map_err(|error| error.to_string())?;
                self.probe(generation, dial.from())?;
                Ok(Way::Port(dial))
            }
            Some(Address::Unix { kind: SocketKind::Stream, .. }) => {
                let path = self.private_path(generation, address);
                let path = path.ok_or_else(|| format!("the path of {address} is not supd's own"))?;
                Ok(Way::Path(path.to_owned(), inode))
            }
            _ => Err(format!("{address} is neither TCP nor a UNIX stream socket with a path")),
        }
    }
}
