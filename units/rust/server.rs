#![allow(unsafe_code)]
//! Serves on the socket that supd lends, says when it does, and ends gracefully on SIGTERM.
//!
//! Cargo.toml: nix (features "poll"), sd-notify, signal-hook. With tokio it is the same: `from_std` for the
//! listener, and `with_graceful_shutdown` of hyper, axum or actix-web.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a client may take to bring a request, or to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a request may be, before its body.
const HEAD_MAX: usize = 16 << 10;
/// How long a kept-alive connection may bring one more request once the server ends.
const LAST_REQUEST: Duration = Duration::from_millis(500);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = borrowed()?;
    // Another generation may be faster to accept what poll has told to both.
    listener.set_nonblocking(true)?;
    let (term, sender) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, sender)?;
    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;

    let ending = Arc::new(AtomicBool::new(false));
    let mut connections = Vec::new();
    loop {
        let mut fds =
            [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(term.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            result => result?,
        };
        if fds[1].any() == Some(true) {
            break;
        }
        match listener.accept() {
            Ok((stream, _)) => {
                let ending = Arc::clone(&ending);
                connections.retain(|thread: &JoinHandle<_>| !thread.is_finished());
                connections.push(thread::spawn(move || serve(&stream, &ending)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => eprintln!("accept: {error}"),
        }
    }
    drop(listener); // this process's copy: supd's socket goes on
    ending.store(true, Ordering::Relaxed);
    for thread in connections {
        let _ended_by_its_client = thread.join();
    }
    Ok(())
}

/// Descriptor 3, if it is meant for this process (LISTEN_PID) and was not inherited by mistake.
fn borrowed() -> io::Result<TcpListener> {
    let mut fds = sd_notify::listen_fds()?;
    let fd = fds.next().ok_or_else(|| io::Error::other("no socket: start me under supd"))?;
    // SAFETY: the descriptor is this process's by the protocol, and nothing else here takes it.
    Ok(unsafe { TcpListener::from_raw_fd(fd) })
}

/// One request after the other, until the client goes, is idle for too long, or the server ends.
fn serve(mut stream: &TcpStream, ending: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LAST_REQUEST))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let release = std::env::var("SUPD_RELEASE").unwrap_or_default();
    let mut bytes = Vec::new();
    while let Some(request) = next_request(stream, &mut bytes, ending)? {
        if request.starts_with("GET /slow ") {
            thread::park_timeout(Duration::from_millis(100)); // a swap lets it finish
        }
        let last = ending.load(Ordering::Relaxed) || request.contains("\r\nConnection: close");
        let body = format!("hello from release {release}\n");
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Served-By: {release}/{}\r\nConnection: {}\r\n\r\n{body}",
            body.len(),
            std::process::id(),
            // Told that it is the last answer on its connection, a client loses nothing.
            if last { "close" } else { "keep-alive" },
        )?;
        if last {
            break;
        }
    }
    Ok(())
}

/// The head of the next request, if one comes in time. What follows it stays in `bytes`.
fn next_request(
    mut stream: &TcpStream,
    bytes: &mut Vec<u8>,
    ending: &AtomicBool,
) -> io::Result<Option<String>> {
    let began = Instant::now();
    let mut was_ending = false;
    loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = bytes.drain(..at + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        let mut buffer = [0; 2048];
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(_) if bytes.len() > HEAD_MAX => return Err(io::Error::other("a request without an end")),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Once ended, a whole LAST_REQUEST more; otherwise PATIENCE.
                if was_ending || began.elapsed() > PATIENCE {
                    return Ok(None);
                }
                was_ending = ending.load(Ordering::Relaxed);
            }
            Err(error) => return Err(error),
        }
    }
}
