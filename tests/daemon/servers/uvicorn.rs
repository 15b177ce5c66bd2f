//! uvicorn (Debian: 0.17) with `--fd 3`, unmodified.
//!
//! It never says that it is ready, and its application knows only when the lifespan begins, which is
//! before it accepts. apps/accepting.py looks whether its epoll set watches the listener, which
//! asyncio does last.
//!
//! It takes the descriptor for a UNIX socket (`socket.fromfd(fd, AF_UNIX, …)`), so asyncio leaves
//! Nagle's algorithm on and each answer on a kept-alive connection waits 40 ms for the client's
//! delayed ACK. `NoDelay = true` in the unit cures it: accepted sockets inherit the listener's option.
//!
//! At SIGTERM it stops accepting, closes idle connections (those whose next request has not been
//! read, and new ones that it has accepted but not read yet), and finishes the others. So a new
//! connection can be reset there, once in some 10,000 requests of a load without a pause: no
//! supervisor can know of it on a listener that two generations share. That it was this, and nothing
//! else, is proved by uvicorn's own log (apps/uvicorn.json): the port, made, and lost after "Shutting
//! down" without a request in between.

use super::{Server, configure, version_file};
use crate::{Need, Test, test_with};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

const NEEDS: &[Need] = &[
    Need::File("/usr/lib/python3/dist-packages/uvicorn/__init__.py", "apt-get install python3-uvicorn"),
    Need::Program("wrk", "wrk"),
];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::uvicorn", NEEDS, uvicorn)]
}

fn unit(address: &str, app: &Path) -> String {
    let (check, log) = (app.join("accepting.py"), app.join("uvicorn.json"));
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = \"{address}\"\nBacklog = 4096\nNoDelay = true\n\n\
         [Service]\nExecStart = [\"/usr/bin/python3\", \"-m\", \"uvicorn\", \"--app-dir\", {app:?}, \
         \"--fd\", \"3\", \"--log-config\", {log:?}, \"asgi:application\"]\n\
         Environment = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\n\
         Ready = [\"/usr/bin/python3\", \"-SE\", {check:?}]\nReadySettleSec = \"500ms\"\n\
         TimeoutStopSec = \"30s\"\n\n[Swap]\nProbationSec = \"2s\"\n"
    )
}

fn uvicorn() {
    let server = Server { closed_unread, ..Server::new("uvicorn", unit, install) };
    server.swaps_and_rolls_back();
}

fn install(app: &Path, version: &str) {
    version_file(app, version);
    configure(app, "uvicorn.json", version);
}

/// Lines of the log: `PID ADDRESS:PORT - HTTP connection made`, `… - "GET / HTTP/1.1" 200`,
/// `… - HTTP connection lost`, and `PID Shutting down`.
fn closed_unread(app: &Path) -> Vec<u16> {
    let log = fs::read_to_string(app.join("uvicorn.log")).expect("uvicorn's log");
    let (mut stopping, mut requests) = (HashSet::new(), HashMap::new());
    let mut unread = Vec::new();
    for (pid, text) in log.lines().filter_map(|line| line.split_once(' ')) {
        if text == "Shutting down" {
            stopping.insert(pid);
        }
        let Some((client, what)) = text.split_once(" - ") else { continue };
        let Some(port) = client.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()) else {
            continue;
        };
        if what == "HTTP connection made" {
            requests.insert((pid, port), 0_u64);
        } else if what == "HTTP connection lost" {
            let none = requests.remove(&(pid, port)) == Some(0);
            unread.extend((none && stopping.contains(pid)).then_some(port));
        } else if what.starts_with('"') {
            *requests.entry((pid, port)).or_default() += 1;
        }
    }
    unread
}
