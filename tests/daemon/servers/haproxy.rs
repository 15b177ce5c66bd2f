//! HAProxy (Debian: 2.6, built with systemd support) on `bind fd@3`, as master and worker (-Ws).
//!
//! The master says RELOADING=1 (without MONOTONIC_USEC, and at its first start too), then READY=1
//! with MAINPID once its worker is forked with the listener in its epoll set. At SIGTERM it cuts
//! every connection; SIGUSR1 is the graceful end: it stops accepting, answers `Connection: close` to
//! what comes on kept-alive connections, closes idle ones, and the master ends with 0 after the last.

use super::{Server, configure};
use crate::{Need, Test, test_with};
use std::path::Path;

const NEEDS: &[Need] = &[Need::Program("haproxy", "haproxy"), Need::Program("wrk", "wrk")];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::haproxy", NEEDS, haproxy)]
}

fn unit(address: &str, app: &Path) -> String {
    let configuration = app.join("haproxy.cfg");
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = \"{address}\"\nBacklog = 4096\n\n[Service]\n\
         ExecStart = [\"/usr/sbin/haproxy\", \"-Ws\", \"-f\", {configuration:?}]\n\
         KillSignal = \"SIGUSR1\"\nReadySettleSec = \"500ms\"\nTimeoutStopSec = \"30s\"\n\n\
         [Swap]\nProbationSec = \"2s\"\n"
    )
}

fn install(app: &Path, version: &str) {
    configure(app, "haproxy.cfg", version);
}

/// One whose configuration is part of its release.
pub(super) fn released(address: &str, app: &Path) -> String {
    unit(address, app)
        .replace(&format!("{:?}", app.join("haproxy.cfg")), "\"haproxy.cfg\"")
        .replace("[Service]\n", "[Service]\nReleases = true\n")
}

/// Its configuration, which says by which release it is read.
pub(super) fn released_configuration(folder: &Path) {
    configure(folder, "haproxy.cfg", "${SUPD_RELEASE}");
}

fn haproxy() {
    // No slow page: HAProxy answers by itself. The binary is pinned, its configuration is not: a
    // rollback brings back the program, and what it reads is what is on disk.
    let server = Server { slow_every: None, interpreted: false, ..Server::new("haproxy", unit, install) };
    server.swaps_and_rolls_back();
}
