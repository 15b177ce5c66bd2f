//! Servers that know nothing of LISTEN_FDS or READY=1 and are changed in nothing: they bind and listen by
//! themselves (`Handoff = "intercept"`). Each is deployed ten times under load, and each time led back and
//! forward again ([`Walk`]).
//!
//! Their programs and configurations are in tests/daemon/apps/intercept: as the server's own documentation
//! or Debian has them, with a port and folders of the test's. Their units are the examples of units/unmodified,
//! where those are not about another way to start them.

mod go;
mod java;
mod lighttpd;
mod memcached;
mod nginx;
mod node;
mod perl;
mod postgresql;
mod python;
mod redis;
mod tomcat;

use super::DIST;
use super::warm::Walk;
use crate::harness::Supd;
use crate::{Need, Test, examples};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

const WRK: Need = Need::Program("wrk", "wrk");

pub(super) fn tests() -> Vec<Test> {
    [
        go::tests(),
        java::tests(),
        lighttpd::tests(),
        memcached::tests(),
        nginx::tests(),
        node::tests(),
        perl::tests(),
        postgresql::tests(),
        python::tests(),
        redis::tests(),
        tomcat::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A unit for one listener that the program binds for itself.
fn unit(address: &str, exec_start: &[&str]) -> String {
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = \"{address}\"\nBacklog = 4096\n\n[Service]\n\
         Releases = true\nHandoff = \"intercept\"\nExecStart = {exec_start:?}\n\n[Swap]\n"
    )
}

/// An example of units/unmodified as it is, but for its port, its host, and its user where what the test has is
/// root's alone.
fn example(name: &str, address: &str) -> String {
    let text = fs::read_to_string(examples::folder("unmodified").join(name)).expect("an example");
    let (_, port) = address.rsplit_once(':').expect("an address with its port");
    let listener = text.lines().find(|line| line.starts_with("ListenStream = ")).expect("a listener");
    let (_, its) = listener.split('"').nth(1).and_then(|its| its.rsplit_once(':')).expect("its address");
    let text = text.replace("0.0.0.0", "127.0.0.1").replace(its, port);
    let is_kept = |line: &&str| !line.starts_with("User = ") || nix::unistd::geteuid().is_root();
    text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
}

/// The same with another line in the place of the one that begins so.
fn instead(unit: &str, key: &str, line: &str) -> String {
    assert!(unit.lines().any(|line| line.starts_with(key)), "no {key} in {unit}");
    let lines = unit.lines().map(|its| if its.starts_with(key) { line } else { its });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Puts a file of tests/daemon/apps/intercept into a folder, its placeholders filled.
fn put(dist: &Path, file: &str, address: SocketAddr, more: &[(&str, &str)]) {
    fs::create_dir_all(dist).expect("a folder");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/apps/intercept").join(file);
    let text = fs::read_to_string(source).expect("a file of tests/daemon/apps/intercept");
    let folder = dist.parent().expect("the test's folder").to_string_lossy();
    let mut text = text.replace("@PORT@", &address.port().to_string()).replace("@FOLDER@", &folder);
    for (name, value) in more {
        text = text.replace(name, value);
    }
    fs::write(dist.join(file), text).expect("a file of a release");
}

/// One server whose release is this file, by its example.
fn walk(name: &str, file: &str) {
    let unit = |address: &str, _: &Path| example(&format!("{name}.unit"), address);
    Walk::http(name, &unit, &|dist, address| put(dist, file, address, &[])).to_and_fro();
}

/// Deploys release 1, with a page that says so.
fn deploy(supd: &Supd, unit: &str) {
    let dist = supd.app().join(DIST);
    fs::create_dir_all(&dist).expect("a folder");
    fs::write(dist.join("index.html"), "X-Served-By: 1/0\n").expect("the page");
    supd.write_unit("web", unit);
    supd.ctl(&["daemon-reload"]).expect(0);
    supd.ctl(&["deploy", "web", "1", dist.to_str().expect("a plain path")]).expect(0);
}
