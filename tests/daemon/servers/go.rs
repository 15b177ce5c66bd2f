//! Go's net/http (Debian: 1.19) on a listener from descriptor 3, as in units/go.
//!
//! `Shutdown` closes idle connections at once and waits for the others; a new one that has sent
//! nothing counts as busy for 5 s, so it is answered. It may return while `Serve` still holds a
//! connection that it has just accepted: so the example closes the listener first, waits for `Serve`
//! to return, and then shuts down.

use super::{DIST, Server};
use crate::{Need, Test, examples, test_with};
use std::path::Path;
use std::process::Command;

const NEEDS: &[Need] = &[Need::Program("go", "golang-go"), Need::Program("wrk", "wrk")];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::go", NEEDS, go)]
}

fn install(app: &Path, _: &str) {
    let program = app.join(DIST).join("bin/server");
    if !program.exists() {
        let mut build = Command::new(crate::find_program("go").expect("a need"));
        build.args(["build", "-o"]).arg(&program).arg("server.go").current_dir(examples::folder("go"));
        build.env("GOCACHE", app.join("go-cache")).env("GOFLAGS", "-mod=mod").env("GOPROXY", "off");
        assert!(build.status().expect("go").success(), "{build:?}");
    }
}

fn go() {
    let unit = |address: &str, app: &Path| examples::unit("go/web.unit", address, app);
    Server::released("go", unit, install).swaps_and_rolls_back();
}
