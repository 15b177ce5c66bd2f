//! The HTTP server that every JDK has. It binds `[::]:port` for both families, and gets an IPv4 listener.

use super::{WRK, example, put};
use crate::servers::warm::Walk;
use crate::{Need, Test, test_with};
use std::path::Path;
use std::process::Command;

const NEEDS: &[Need] = &[WRK, Need::Program("javac", "default-jdk-headless")];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::intercept::java", NEEDS, java)]
}

fn java() {
    let unit = |address: &str, _: &Path| example("java.unit", address);
    let dist = |dist: &Path, address| {
        put(dist, "Http.java", address, &[]);
        let status = Command::new("javac").arg("Http.java").current_dir(dist).status().expect("javac");
        assert!(status.success());
    };
    Walk::http("java", &unit, &dist).to_and_fro();
}
