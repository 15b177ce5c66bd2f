//! The check over HTTP: one GET, in a forked child, so that a server that does not answer keeps
//! nobody waiting.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long each of connecting, asking and answering may take. The machine has a limit of its own
/// for the check as a whole.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many bytes of the answer are read: the status line is in them.
const ANSWER_MAX: u64 = 4096;

/// Asks, and is content with 2xx.
///
/// # Errors
/// Why the answer is none that counts, in a sentence.
pub fn get(url: &str) -> Result<(), String> {
    let failed = |why: String| format!("GET {url}: {why}");
    let (address, path) = split(url).ok_or_else(|| failed("it is no http://ADDRESS:PORT/PATH".into()))?;
    let answer = ask(address, path).map_err(|error| failed(error.to_string()))?;
    match status(&answer) {
        Some(200..=299) => Ok(()),
        Some(other) => Err(failed(format!("it answered with {other}"))),
        None => Err(failed("what it answered is no HTTP".into())),
    }
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: supd\r\nConnection: close\r\n\r\n");
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
