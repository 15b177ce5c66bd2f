//! Where supctl listens for those who want to reach one generation.

use super::super::failure::Failure;
use super::carry::Stream;
use crate::codec::json::ConnectView;
use crate::model::ExitStatus;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use tempfile::TempDir;

/// A port of loopback for a port; for a path a path, so that nobody gets there who could not before.
#[derive(Debug)]
pub(super) struct Door {
    address: String,
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    /// In a folder that is its owner's alone, and goes with this.
    Unix {
        listener: UnixListener,
        _folder: TempDir,
    },
}

impl Door {
    pub(super) fn open(view: &ConnectView) -> Result<Self, Failure> {
        let opened = if view.address.starts_with('/') { Self::path() } else { Self::port() };
        opened
            .map_err(|error| Failure::new(ExitStatus::Failed, format!("cannot listen on this side: {error}")))
    }

    fn port() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?.to_string();
        Ok(Self { address, listener: Listener::Tcp(listener) })
    }

    fn path() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let own = runtime.filter(|folder| folder.is_absolute() && folder.is_dir());
        let mut builder = tempfile::Builder::new();
        builder.prefix("supctl-");
        let folder = match own.map(|folder| builder.tempdir_in(folder)) {
            Some(Ok(folder)) => folder,
            Some(Err(_)) | None => builder.tempdir()?,
        };
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            address: path.display().to_string(),
            listener: Listener::Unix { listener, _folder: folder },
        })
    }

    /// `127.0.0.1:PORT`, or a path.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// How one asks there, if it speaks HTTP.
    pub(super) fn example(&self) -> String {
        match &self.listener {
            Listener::Tcp(_) => format!("curl http://{}/", self.address),
            Listener::Unix { .. } => format!("curl --unix-socket {} http://localhost/", self.address),
        }
    }

    /// Whoever came first; `None`: nobody any more.
    pub(super) fn accept(&self) -> Result<Option<Stream>, Failure> {
        let accepted = match &self.listener {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Listener::Unix { listener, .. } => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        };
        match accepted.and_then(|stream| stream.blocking()) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {
                Ok(None)
            }
            Err(error) => Err(Failure::new(ExitStatus::Failed, format!("cannot accept: {error}"))),
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.listener {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix { listener, .. } => listener.as_fd(),
        }
    }
}
