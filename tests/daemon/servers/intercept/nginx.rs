//! nginx (Debian: 1.22) as Debian configures it: in the foreground, as Debian's unit for systemd has it; and
//! with `daemon on`, its default, where the process that supd started binds, forks and ends with 0, and the
//! one that goes on has left the session and wrote its title over its environment. With `reuseport` it
//! binds once for each of its workers.

use super::{WRK, put, unit};
use crate::servers::warm::Walk;
use crate::{Need, Test, test_with};
use std::path::Path;

const NEEDS: &[Need] = &[WRK, Need::Program("nginx", "nginx-light")];
const FOREGROUND: [&str; 7] = ["/usr/sbin/nginx", "-p", ".", "-c", "nginx.conf", "-g", "daemon off;"];

pub(super) fn tests() -> Vec<Test> {
    vec![
        test_with("servers::intercept::nginx", NEEDS, nginx),
        test_with("servers::intercept::nginx::reuseport", NEEDS, reuseport),
        test_with("servers::intercept::nginx::daemon", NEEDS, daemon),
    ]
}

fn nginx() {
    course("nginx", &FOREGROUND, "");
}

fn reuseport() {
    course("nginx with reuseport", &FOREGROUND, " reuseport");
}

fn daemon() {
    course("nginx in the background", &FOREGROUND[..5], "");
}

fn course(name: &str, exec_start: &[&str], reuseport: &str) {
    let unit = |address: &str, _: &Path| {
        unit(address, exec_start).replace("[Service]\n", "[Service]\nKillSignal = \"SIGQUIT\"\n")
    };
    let dist = |dist: &Path, address| put(dist, "nginx.conf", address, &[("@REUSEPORT@", reuseport)]);
    Walk::http(name, &unit, &dist).to_and_fro();
}
