//! wrk from Debian: load at full speed, and a second opinion on what was lost.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// wrk under way.
pub(crate) struct Wrk(Child);

/// What wrk printed, as numbers. It counts an idle close as a read error, so with kept-alive
/// connections `read` is an upper bound of what was lost.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) requests: u64,
    pub(crate) connect: u64,
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) timeout: u64,
    /// Answers with a status other than 2xx and 3xx.
    pub(crate) bad_status: u64,
    /// The whole of it.
    pub(crate) text: String,
}

impl Summary {
    /// Everything that wrk holds for an error.
    pub(crate) fn errors(&self) -> u64 {
        self.connect + self.read + self.write + self.timeout + self.bad_status
    }
}

impl Wrk {
    /// `connections` clients for `span` (whole seconds), each request on a new connection if `close`.
    pub(crate) fn start(address: SocketAddr, connections: usize, span: Duration, close: bool) -> Self {
        let mut command = Command::new("wrk");
        command.args(["-t1", "--latency", "--timeout", "10s"]);
        command.arg(format!("-c{connections}")).arg(format!("-d{}s", span.as_secs().max(1)));
        if close {
            command.args(["-H", "Connection: close"]);
        }
        command.arg(format!("http://{address}/")).stdin(Stdio::null()).stdout(Stdio::piped());
        Self(command.spawn().expect("wrk: apt-get install wrk, or run ./tests/run"))
    }

    /// Waits for its end, which it knows itself.
    pub(crate) fn finish(self) -> Summary {
        let output = self.0.wait_with_output().expect("wrk's output");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "wrk: {}\n{text}", output.status);
        parse(&text).unwrap_or_else(|| panic!("wrk's summary has a new shape:\n{text}"))
    }
}

fn parse(text: &str) -> Option<Summary> {
    let mut summary = Summary { text: text.to_owned(), ..Summary::default() };
    let mut seen = false;
    for line in text.lines().map(str::trim) {
        if let Some((requests, _)) = line.split_once(" requests in ") {
            summary.requests = requests.parse().ok()?;
            seen = true;
        } else if let Some(errors) = line.strip_prefix("Socket errors: ") {
            for error in errors.split(", ") {
                let (name, count) = error.split_once(' ')?;
                let count = count.parse().ok()?;
                match name {
                    "connect" => summary.connect = count,
                    "read" => summary.read = count,
                    "write" => summary.write = count,
                    "timeout" => summary.timeout = count,
                    _ => return None,
                }
            }
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses: ") {
            summary.bad_status = count.parse().ok()?;
        }
    }
    seen.then_some(summary)
}

pub(crate) fn tests() -> Vec<crate::Test> {
    vec![crate::test("load::wrk::summary_is_read", summary_is_read)]
}

fn summary_is_read() {
    let text = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 4 connections\n  \
                3841 requests in 1.10s, 3.59MB read\n  Socket errors: connect 1, read 22, write 3, timeout 4\n  \
                Non-2xx or 3xx responses: 5\nRequests/sec:   3491.70\n";
    let summary = parse(text).expect("a summary");
    assert_eq!((summary.requests, summary.connect, summary.read), (3841, 1, 22));
    assert_eq!((summary.write, summary.timeout, summary.bad_status, summary.errors()), (3, 4, 5, 35));
    assert!(parse("unable to connect to 127.0.0.1:1 Connection refused\n").is_none());
}
