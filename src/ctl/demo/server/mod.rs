//! The demo's own server: HTTP/1.1 over inherited sockets, as a good server does it.
//!
//! It says READY=1 once it accepts. Told to stop, it accepts no more, finishes what it has, says
//! `Connection: close` in the last answer on each kept-alive connection, and exits. It knows nothing
//! of supd but the protocols that any server may use: LISTEN_FDS and NOTIFY_SOCKET.

mod connection;
mod serve;

use super::version::Version;
use crate::model::ExitStatus;
use crate::os::inherited;
use sd_notify::NotifyState;
use serve::Server;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a version does before it can serve: long enough to be seen in the picture.
const WARM_UP: Duration = Duration::from_millis(400);

/// How long the loop may go without a look at the signals and at the folder.
const TURN: Duration = Duration::from_millis(50);

/// Serves as `version` on the first inherited descriptor until told to stop, and no longer than the
/// folder `home` is there: whatever became of supd, the demo leaves no server behind.
pub(super) fn run(version: Version, home: &Path) -> ExitStatus {
    let served = match version {
        Version::Broken => Err(io::Error::other("there is no table \"prices\" in its database")),
        Version::Old | Version::New | Version::Faulty => serve(version, home),
    };
    match served {
        Ok(status) => status,
        Err(error) => {
            eprintln!("{version}: cannot serve: {error}");
            ExitStatus::Failed
        }
    }
}

fn serve(version: Version, home: &Path) -> io::Result<ExitStatus> {
    let (stop, fault) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
    signal_hook::flag::register(SIGINT, Arc::clone(&stop))?;
    signal_hook::flag::register(SIGUSR1, Arc::clone(&fault))?;
    let listener = inherited::take().into_iter().map(|(_, fd)| fd).next();
    let listener =
        TcpListener::from(listener.ok_or_else(|| io::Error::other("LISTEN_FDS passes no socket"))?);
    let mut server = Server::new(version.word(), listener)?;
    let mut warm = Some(Instant::now() + WARM_UP);
    while !server.is_over() {
        if warm.is_some_and(|at| at <= Instant::now()) {
            warm = None;
            server.accept()?;
            sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("serving")])?;
            eprintln!("{version}: serving");
        }
        let faulty = version == Version::Faulty && fault.load(Ordering::Relaxed);
        if !server.is_stopping() && (faulty || stop.load(Ordering::Relaxed)) {
            let why = if faulty { "its database is gone" } else { "told to stop" };
            eprintln!("{version}: {why}; finishes {} connections", server.connections());
            sd_notify::notify(&[NotifyState::Stopping])?;
            server.stop();
        }
        if !home.exists() {
            return Ok(ExitStatus::Failed);
        }
        server.turn(TURN)?;
    }
    eprintln!("{version}: answered {} requests", server.answered());
    Ok(if fault.load(Ordering::Relaxed) { ExitStatus::Failed } else { ExitStatus::Done })
}
