//! Node.js listening on `{ fd: 3 }`. READY=1 comes from systemd-notify, run once the server listens:
//! a child process, so NotifyAccess must let it (the default does); it also sends BARRIER=1 and waits
//! for supd to close the descriptor that comes with it.
//!
//! `server.close()` stops accepting and closes idle kept-alive connections at once; the application
//! says `Connection: close` in the answers that it still gives (units/node). Node.js 20 keeps a
//! connection alive after that close otherwise, and then waits for it.

use super::Server;
use crate::{Need, Test, examples, test_with};

const NEEDS: &[Need] = &[
    Need::Program("node", "nodejs"),
    Need::Program("systemd-notify", "systemd"),
    Need::Program("wrk", "wrk"),
];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::node", NEEDS, node)]
}

fn node() {
    let install = |app: &std::path::Path, _: &str| examples::copy("node/app", &app.join(super::DIST));
    Server::released("node", |address, app| examples::unit("node/web.unit", address, app), install)
        .swaps_and_rolls_back();
}
