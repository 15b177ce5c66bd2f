//! nginx (Debian: 1.22) as Debian configures it: in the foreground, as Debian's unit for systemd has it; and
//! with `daemon on`, its default, where the process that supd started binds, forks and ends with 0, and the
//! one that goes on has left the session and wrote its title over its environment. With `reuseport` it
//! binds once for each of its workers.

use super::{WRK, deploy, example, put, unit};
use crate::harness::{Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::proc;
use crate::servers::DIST;
use crate::servers::warm::Walk;
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, test_with};
use nix::sys::signal::Signal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

const NEEDS: &[Need] = &[WRK, Need::Program("nginx", "nginx-light")];
const BACKGROUND: [&str; 5] = ["/usr/sbin/nginx", "-p", ".", "-c", "nginx.conf"];

pub(super) fn tests() -> Vec<Test> {
    vec![
        test_with("servers::intercept::nginx", NEEDS, nginx),
        test_with("servers::intercept::nginx::reuseport", NEEDS, reuseport),
        test_with("servers::intercept::nginx::daemon", NEEDS, daemon),
        test_with("servers::intercept::nginx::daemon_that_dies", NEEDS, daemon_that_dies),
    ]
}

fn nginx() {
    let unit = |address: &str, _: &Path| example("nginx.unit", address);
    course("nginx", &unit, "");
}

fn reuseport() {
    let unit = |address: &str, _: &Path| example("nginx.unit", address);
    course("nginx with reuseport", &unit, " reuseport");
}

fn daemon() {
    let unit = |address: &str, _: &Path| quitting(address, &BACKGROUND);
    course("nginx in the background", &unit, "");
}

/// By SIGQUIT it lets its requests end.
fn quitting(address: &str, exec_start: &[&str]) -> String {
    unit(address, exec_start).replace("[Service]\n", "[Service]\nKillSignal = \"SIGQUIT\"\n")
}

fn course(name: &str, unit: &dyn Fn(&str, &Path) -> String, reuseport: &str) {
    let dist = |dist: &Path, address| put(dist, "nginx.conf", address, &[("@REUSEPORT@", reuseport)]);
    Walk::http(name, unit, &dist).to_and_fro();
}

/// No mark of supd's is on its processes but their sessions: whoever dies, its workers or supd, none is left.
fn daemon_that_dies() {
    let supd = Supd::start();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    put(&supd.app().join(DIST), "nginx.conf", address, &[("@REUSEPORT@", "")]);
    deploy(&supd, &quitting(&address.to_string(), &BACKGROUND));

    let first = family(&supd);
    proc::signal(first[0], Signal::SIGKILL);
    wait_until("no worker of a master that was killed", SOON, || !first.iter().any(|pid| proc::alive(*pid)));
    wait_until("another", SOON, || !supd.wait_for_state("web", "active").pids().is_empty());

    let second = family(&supd);
    let supd = supd.crash_and_restart();
    wait_until("nobody of the supd before", SOON, || !second.iter().any(|pid| proc::alive(*pid)));
    supd.wait_for_state("web", "active");
    let load = Load::start(Plan::new(Target::Tcp(address), Mode::Close, 2));
    load.wait_for_more(100, SOON);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
}

/// The master first.
fn family(supd: &Supd) -> Vec<u32> {
    let master = supd.status("web").pids()[0];
    wait_until("its workers", SOON, || proc::children(master).len() == 2);
    [vec![master], proc::children(master)].concat()
}
