//! Servers that know nothing of LISTEN_FDS or READY=1 and are changed in nothing: they bind and listen by
//! themselves (`Handoff = "intercept"`). Each is deployed ten times under load, and each time led back and
//! forward again ([`Walk`]).
//!
//! Their programs and configurations are in tests/daemon/apps/intercept: as the server's own documentation
//! or Debian has them, with a port and folders of the test's.

mod go;
mod java;
mod lighttpd;
mod memcached;
mod nginx;
mod node;
mod perl;
mod python;
mod redis;
mod tomcat;

use super::DIST;
use super::warm::Walk;
use crate::harness::Supd;
use crate::{Need, Test};
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

/// One server whose release is this file.
fn walk(name: &str, file: &str, exec_start: &[&str]) {
    let unit = |address: &str, _: &Path| unit(address, exec_start);
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
