//! lighttpd (Debian: 1.4.69) with `server.port`, in the foreground and gone into the background.

use super::{WRK, walk};
use crate::{Need, Test, test_with};

const NEEDS: &[Need] = &[WRK, Need::Program("lighttpd", "lighttpd")];

pub(super) fn tests() -> Vec<Test> {
    vec![
        test_with("servers::intercept::lighttpd", NEEDS, foreground),
        test_with("servers::intercept::lighttpd::daemon", NEEDS, daemon),
    ]
}

fn foreground() {
    walk("lighttpd", "lighttpd.conf", &["/usr/sbin/lighttpd", "-D", "-f", "lighttpd.conf"]);
}

fn daemon() {
    walk("lighttpd in the background", "lighttpd.conf", &["/usr/sbin/lighttpd", "-f", "lighttpd.conf"]);
}
