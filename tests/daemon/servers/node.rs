//! Node.js listening on `{ fd: 3 }`. READY=1 comes from systemd-notify, run once the server listens:
//! a child process, so NotifyAccess must let it (the default does); it also sends BARRIER=1 and waits
//! for supd to close the descriptor that comes with it.
//!
//! `server.close()` stops accepting and closes idle kept-alive connections at once; the application
//! says `Connection: close` in the answers that it still gives (apps/server.js). Node.js 20 keeps a
//! connection alive after that close otherwise, and then waits for it.

use super::{Server, version_file};
use crate::{Need, Test, test_with};
use std::path::Path;

const NEEDS: &[Need] = &[
    Need::Program("node", "nodejs"),
    Need::Program("systemd-notify", "systemd"),
    Need::Program("wrk", "wrk"),
];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::node", NEEDS, node)]
}

fn unit(address: &str, app: &Path) -> String {
    let (node, server) = (crate::find_program("node").expect("a need"), app.join("server.js"));
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = \"{address}\"\nBacklog = 4096\n\n[Service]\n\
         ExecStart = [{node:?}, {server:?}]\nReadySettleSec = \"500ms\"\nTimeoutStopSec = \"30s\"\n\n\
         [Swap]\nProbationSec = \"2s\"\n"
    )
}

fn node() {
    Server::new("node", unit, version_file).swaps_and_rolls_back();
}
