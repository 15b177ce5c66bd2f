//! lighttpd (Debian: 1.4.69) with `server.systemd-socket-activation`.
//!
//! It has no sd_notify, and on a listener that two generations share a probe may be answered by the
//! old one. So its readiness is a fact of the new process alone: apps/accepting.py looks whether its
//! epoll set watches the listener.
//!
//! At SIGTERM it cuts every connection; SIGINT is the graceful end: it stops accepting, says
//! `Connection: close` in the answers under way, and closes idle connections by half: shutdown(2),
//! then it reads and throws away until the client hangs up. A request that crosses such a close gets
//! neither an answer nor a reset. That none of them was taken as a request is proved by the access
//! log, where each request has its line: as many lines as answers.

use super::{Server, Totals, configure};
use crate::{Need, Test, test_with};
use std::fs;
use std::path::Path;

const NEEDS: &[Need] = &[Need::Program("lighttpd", "lighttpd"), Need::Program("wrk", "wrk")];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::lighttpd", NEEDS, lighttpd)]
}

fn unit(address: &str, app: &Path) -> String {
    let (configuration, check) = (app.join("lighttpd.conf"), app.join("accepting.py"));
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = \"{address}\"\nBacklog = 4096\n\n[Service]\n\
         ExecStart = [\"/usr/sbin/lighttpd\", \"-D\", \"-f\", {configuration:?}]\n\
         Ready = [\"/usr/bin/python3\", \"-SE\", {check:?}]\nKillSignal = \"SIGINT\"\n\
         ReadySettleSec = \"500ms\"\nTimeoutStopSec = \"30s\"\n\n[Swap]\nProbationSec = \"2s\"\n"
    )
}

fn install(app: &Path, version: &str) {
    configure(app, "lighttpd.conf", version);
    fs::write(app.join("page.txt"), ".".repeat(1000)).expect("the page");
}

fn lighttpd() {
    let server = Server {
        slow_every: None,
        interpreted: false,
        half_closes: true,
        afterwards: every_request_was_answered,
        ..Server::new("lighttpd", unit, install)
    };
    server.swaps_and_rolls_back();
}

fn every_request_was_answered(app: &Path, totals: &Totals) {
    let log = fs::read_to_string(app.join("access.log")).expect("lighttpd's access log");
    // wrk leaves when its time is over, in the middle of a request: its lines are counted apart.
    let ours = log.lines().filter(|line| line.ends_with(" test")).count() as u64;
    assert_eq!(
        ours, totals.answered,
        "requests taken by lighttpd and answers received differ, with {} closes by half",
        totals.by_half
    );
}
