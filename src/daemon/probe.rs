//! Checks over the network, in a forked child, so that a server that does not answer keeps nobody
//! waiting: a GET, or whether connections are accepted.

use super::listeners::Way;
use crate::model::Address;
use crate::os::dial;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long each of connecting, asking, answering and accepting may take. The machine has a limit of
/// its own for the check as a whole.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether a connection is accepted: the kernel does not tell who made it.
const LOOK_EVERY: u16 = 10;

/// How many bytes of the answer are read: the status line is in them.
const ANSWER_MAX: u64 = 4096;

/// Asks, and is content with 2xx.
///
/// # Errors
/// Why the answer is none that counts, in a sentence.
pub fn get(url: &str) -> Result<(), String> {
    let failed = |why: String| format!("GET {url}: {why}");
    let (address, path) = split(url).ok_or_else(|| failed("it is no http://ADDRESS:PORT/PATH".into()))?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE);
    let answer = stream.and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        ask(stream, &address.to_string(), path)
    });
    judge(&answer.map_err(|error| failed(error.to_string()))?).map_err(failed)
}

/// The same of one generation; `path` begins with `/`.
///
/// # Errors
/// As [`get`].
pub fn get_by(way: &Way, path: &str) -> Result<(), String> {
    let answer = match way {
        Way::Port(dial) => {
            let stream = dial.connect(PATIENCE).map_err(|error| error.to_string())?;
            ask(stream, &dial.to().to_string(), path)
        }
        Way::Path(name, _) => {
            let stream = dial::connect_path(name, PATIENCE).map_err(|error| error.to_string())?;
            ask(stream, "localhost", path)
        }
    };
    let failed = |why: String| format!("GET {path}: {why}");
    judge(&answer.map_err(|error| failed(error.to_string()))?).map_err(failed)
}

/// Connects to each listener, and waits until a process has accepted the connection: supd itself
/// listens, so that the connection alone says nothing of the server.
///
/// # Errors
/// The first that was not accepted, in a sentence.
pub fn accepts(ways: &[(Address, Way)]) -> Result<(), String> {
    for (address, way) in ways {
        let accepted = match way {
            Way::Port(dial) => {
                let stream = dial.connect(PATIENCE).map_err(|error| error.to_string())?;
                until(stream, || dial.is_accepted())
            }
            Way::Path(name, listener) => {
                let stream = dial::connect_path(name, PATIENCE).map_err(|error| error.to_string())?;
                until(&stream, || dial::is_accepted(&stream, *listener))
            }
        };
        if !accepted? {
            return Err(format!("nobody accepted a connection at {address} within {PATIENCE:?}"));
        }
    }
    Ok(())
}

/// Looks again and again; whatever the server says ends the pause.
fn until(stream: &impl AsFd, accepted: impl Fn() -> Result<bool, crate::os::Error>) -> Result<bool, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        if accepted().map_err(|error| error.to_string())? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        let mut word = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        // Interrupted, it is looked a little earlier.
        let _ = poll(&mut word, PollTimeout::from(LOOK_EVERY));
    }
}

fn ask(mut stream: impl Read + Write, host: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: supd\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 512];
    let mut rest = stream.take(ANSWER_MAX);
    // Not to its end: a server that streams for ever has answered too.
    while !answer.contains(&b'\n') {
        match rest.read(&mut chunk)? {
            0 => break,
            count => answer.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(answer)
}

fn judge(answer: &[u8]) -> Result<(), String> {
    match status(answer) {
        Some(200..=299) => Ok(()),
        Some(other) => Err(format!("it answered with {other}")),
        None => Err("what it answered is no HTTP".into()),
    }
}

/// The address and the path of `http://ADDRESS[:PORT][/PATH]`.
fn split(url: &str) -> Option<(SocketAddr, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = || authority.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let address = authority.parse().ok().or_else(|| Some(SocketAddr::new(host()?, 80)))?;
    Some((address, if path.is_empty() { "/" } else { path }))
}

/// The number in `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What a server that answers so makes of a check.
    fn check(answer: &'static [u8], path: &str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream.write_all(answer).unwrap();
            String::from_utf8(request).unwrap()
        });
        let result = get(&url).map_err(|why| why.replace(&url, "URL"));
        let asked = server.join().unwrap();
        assert!(asked.starts_with(&format!(
            "GET {} HTTP/1.1\r\nHost: 127.0.0.1:",
            if path.is_empty() { "/" } else { path }
        )));
        result
    }

    #[test]
    fn two_hundred_and_something_is_well() {
        assert_eq!(check(b"HTTP/1.1 200 OK\r\n\r\n", "/health?x=1"), Ok(()));
        assert_eq!(check(b"HTTP/1.0 204\r\n\r\n", ""), Ok(()));
        let bad = |answer, why: &str| assert_eq!(check(answer, "/"), Err(format!("GET URL: {why}")));
        bad(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "it answered with 503");
        bad(b"HTTP/1.1 301 Moved\r\n\r\n", "it answered with 301");
        bad(b"SSH-2.0-OpenSSH\r\n", "what it answered is no HTTP");
        bad(b"", "what it answered is no HTTP");
        bad(b"\xff\xfe\n", "what it answered is no HTTP");
    }

    #[test]
    fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        assert!(get(&url).unwrap_err().contains("onnection refused"));
        assert!(get("http://localhost/").unwrap_err().contains("it is no http://"));
    }
}
