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
//! read, and new ones that have not sent a byte yet: on a shared listener a new connection can be
//! reset there; none was in 36,000 requests by hand), and finishes the others.

use super::{Server, version_file};
use crate::{Need, Test, test_with};
use std::path::Path;

const NEEDS: &[Need] = &[
    Need::File("/usr/lib/python3/dist-packages/uvicorn/__init__.py", "apt-get install python3-uvicorn"),
    Need::Program("wrk", "wrk"),
];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::uvicorn", NEEDS, uvicorn)]
}

fn unit(address: &str, app: &Path) -> String {
    let check = app.join("accepting.py");
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = \"{address}\"\nBacklog = 4096\nNoDelay = true\n\n\
         [Service]\nExecStart = [\"/usr/bin/python3\", \"-m\", \"uvicorn\", \"--app-dir\", {app:?}, \
         \"--fd\", \"3\", \"--log-level\", \"warning\", \"asgi:application\"]\n\
         Environment = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\n\
         Ready = [\"/usr/bin/python3\", \"-SE\", {check:?}]\nReadySettleSec = \"500ms\"\n\
         TimeoutStopSec = \"30s\"\n\n[Swap]\nProbationSec = \"2s\"\n"
    )
}

fn uvicorn() {
    Server::new("uvicorn", unit, version_file).swaps_and_rolls_back();
}
