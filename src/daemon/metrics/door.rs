//! Where those knock who ask for metrics: a loopback port, or a path.

use super::super::sources::{Source, Sources};
use super::client::Stream;
use crate::model::metrics::MetricsPlace;
use mio::Token;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Whoever may reach the path may ask, as with `supctl status`.
const MODE: u32 = 0o666;

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Path(UnixListener, PathBuf, (u64, u64)),
}

/// One that listens.
#[derive(Debug)]
pub(super) struct Door {
    listener: Listener,
    token: Token,
}

impl Door {
    /// Listens there.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn open(place: &MetricsPlace, sources: &mut Sources) -> Result<Self, String> {
        let listener = match place {
            MetricsPlace::Tcp(address) => TcpListener::bind(address)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| Listener::Tcp(listener)))
                .map_err(|error| refused(&address.to_string(), &error)),
            MetricsPlace::Path(path) => {
                bind(path).map_err(|error| refused(&path.display().to_string(), &error))
            }
        }?;
        let token = sources
            .watch(&listener, Source::MetricsDoor)
            .map_err(|error| format!("cannot wait for who asks: {error}"))?;
        Ok(Self { listener, token })
    }

    /// The next one.
    ///
    /// # Errors
    /// Out of descriptors, or memory.
    pub(super) fn accept(&self) -> io::Result<Option<Stream>> {
        let accepted = match &self.listener {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Listener::Path(listener, ..) => listener.accept().map(|(stream, _)| Stream::Path(stream)),
        };
        match accepted {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Listens no longer.
    pub(super) fn close(self, sources: &mut Sources) {
        sources.unwatch(self.token, &self.listener);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Self::Path(_, path, which) = self else { return };
        // Another one may be there by now.
        if identity(path).ok() == Some(*which) {
            let _ = fs::remove_file(path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Path(listener, ..) => listener.as_fd(),
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listener {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "http://{address}/metrics"),
                Err(error) => write!(f, "a port: {error}"),
            },
            Listener::Path(_, path, _) => write!(f, "{}", path.display()),
        }
    }
}

fn refused(place: &str, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("{place} is somebody else's: name another in supd.toml, or free it"),
        _ => format!("cannot listen at {place}: {error}"),
    }
}

fn bind(path: &Path) -> io::Result<Listener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_left(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    listener.set_nonblocking(true)?;
    let listener = Listener::Path(listener, path.to_owned(), identity(path)?);
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok(listener)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// A socket at which nobody listens any more: of a supd that was killed, or of the image before.
fn is_left(path: &Path) -> bool {
    if !fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return false;
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let tried = UnixAddr::new(path).and_then(|address| {
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(fd.as_raw_fd(), &address)
    });
    tried == Err(Errno::ECONNREFUSED)
}
