//! lighttpd (Debian: 1.4.69) with `server.port`, in the foreground and gone into the background.

use super::{WRK, put, unit, walk};
use crate::servers::warm::Walk;
use crate::{Need, Test, test_with};
use std::path::Path;

const NEEDS: &[Need] = &[WRK, Need::Program("lighttpd", "lighttpd")];

pub(super) fn tests() -> Vec<Test> {
    vec![
        test_with("servers::intercept::lighttpd", NEEDS, foreground),
        test_with("servers::intercept::lighttpd::daemon", NEEDS, daemon),
    ]
}

fn foreground() {
    walk("lighttpd", "lighttpd.conf");
}

fn daemon() {
    let unit = |address: &str, _: &Path| unit(address, &["/usr/sbin/lighttpd", "-f", "lighttpd.conf"]);
    let dist = |dist: &Path, address| put(dist, "lighttpd.conf", address, &[]);
    Walk::http("lighttpd in the background", &unit, &dist).to_and_fro();
}
