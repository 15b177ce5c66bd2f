//! Jetty (Debian: 9.4) in a Java program of its own, as in units/java.
//!
//! `System.inheritedChannel` takes the listener at descriptor 0. Jetty's own ways to end lose requests:
//! `stop` ends those under way (the page of 100 ms is cut short); with a `StatisticsHandler`, which
//! waits for them, those that come meanwhile on kept-alive connections get 503; and once its connector
//! is shut down, Jetty ends a connection by half behind an answer that was begun before and so did not
//! say `Connection: close`, and drops the next request unseen (1 of 11,000, in 1 of 4 runs). So the
//! example closes the listener alone, says `Connection: close` in what it answers from then on, and
//! stops the server when no connection is left. A virtual machine that ends on SIGTERM says 143.

use super::{DIST, Server};
use crate::{Need, Test, examples, test_with};
use std::path::Path;

const NEEDS: &[Need] = &[
    Need::Program("javac", "default-jdk-headless"),
    Need::File("/usr/share/java/jetty9-server.jar", "apt-get install libjetty9-java"),
    Need::Program("systemd-notify", "systemd"),
    Need::Program("wrk", "wrk"),
];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::jetty", NEEDS, jetty)]
}

fn jetty() {
    let install = |app: &Path, _: &str| examples::copy("java/app", &app.join(DIST));
    let unit = |address: &str, app: &Path| examples::unit("java/web.unit", address, app);
    Server::released("jetty", unit, install).swaps_and_rolls_back();
}
