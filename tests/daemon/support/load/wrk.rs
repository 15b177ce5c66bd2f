//! wrk from Debian: load at full speed, and a second opinion on what was lost.

use crate::proc;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// One that is told to stop has not come to its end by then.
const LONGEST: Duration = Duration::from_secs(600);

/// wrk under way.
pub(crate) struct Wrk(Option<Child>);

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
        let close: &[&str] = if close { &["-H", "Connection: close"] } else { &[] };
        Self::spawn(address, connections, span, close)
    }

    /// Until [`Wrk::stop`], with connections that end by their client's word alone: after each request if
    /// `close`, else after some seconds. So a server that is let go when its connections have ended has
    /// no reason to close one, and whatever wrk holds for an error is a loss.
    pub(crate) fn start_renewing(address: SocketAddr, connections: usize, close: bool) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/apps/renewing.lua");
        let script = script.to_str().expect("a plain path");
        let more: &[&str] = if close { &["-H", "Connection: close"] } else { &["-s", script] };
        Self::spawn(address, connections, LONGEST, more)
    }

    fn spawn(address: SocketAddr, connections: usize, span: Duration, more: &[&str]) -> Self {
        let mut command = Command::new("wrk");
        command.args(["-t1", "--latency", "--timeout", "10s"]).args(more);
        command.arg(format!("-c{connections}")).arg(format!("-d{}s", span.as_secs().max(1)));
        command.arg(format!("http://{address}/")).stdin(Stdio::null()).stdout(Stdio::piped());
        Self(Some(command.spawn().expect("wrk: apt-get install wrk, or run ./tests/run")))
    }

    /// Ends it before its time, as Ctrl-C does: it sums up what it has.
    pub(crate) fn stop(self) -> Summary {
        self.0.iter().for_each(|child| proc::signal(child.id(), Signal::SIGINT));
        self.finish()
    }

    /// Waits for its end, which it knows itself.
    pub(crate) fn finish(mut self) -> Summary {
        let child = self.0.take().expect("wrk, which is waited for once");
        let output = child.wait_with_output().expect("wrk's output");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "wrk: {}\n{text}", output.status);
        parse(&text).unwrap_or_else(|| panic!("wrk's summary has a new shape:\n{text}"))
    }
}

/// A test that fails leaves none behind.
impl Drop for Wrk {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            proc::signal(child.id(), Signal::SIGKILL);
            drop(child.wait());
        }
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
