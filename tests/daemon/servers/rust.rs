//! A server in Rust that is units/rust: a thread for each connection, and an end that answers what was
//! accepted, with `Connection: close`, and gives an idle connection half a second for one more request.

use super::{DIST, Server};
use crate::{Need, Test, examples, test_with};
use std::path::Path;
use std::process::Command;

const NEEDS: &[Need] = &[Need::Program("wrk", "wrk")];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::rust", NEEDS, rust)]
}

/// `cargo test` has built it, as an example of this package; alone, this test builds it itself.
fn install(app: &Path, _: &str) {
    let program = app.join(DIST).join("bin/server");
    if !program.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--offline", "--profile", "test", "--example", "server"]);
        assert!(
            build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo").success(),
            "{build:?}"
        );
        let tests = std::env::current_exe().expect("this program");
        let built = tests.ancestors().nth(2).expect("target/debug").join("examples/server");
        std::fs::create_dir_all(program.parent().expect("bin")).expect("a folder");
        std::fs::copy(&built, &program).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
    }
}

fn rust() {
    let unit = |address: &str, app: &Path| examples::unit("rust/web.unit", address, app);
    Server::released("rust", unit, install).swaps_and_rolls_back();
}
