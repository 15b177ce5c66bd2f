//! Go's net/http (Debian: 1.19), linked statically: no library's bind(2) is called, the kernel's is.

use super::{WRK, example, put};
use crate::servers::warm::Walk;
use crate::{Need, Test, find_program, test_with};
use std::path::Path;
use std::process::Command;

const NEEDS: &[Need] = &[WRK, Need::Program("go", "golang-go")];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::intercept::go", NEEDS, go)]
}

fn go() {
    let unit = |address: &str, _: &Path| example("go.unit", address);
    let dist = |dist: &Path, address| {
        put(dist, "http.go", address, &[]);
        let mut build = Command::new(find_program("go").expect("a need"));
        build.args(["build", "-o", "http", "http.go"]).current_dir(dist).env("CGO_ENABLED", "0");
        build.env("GOCACHE", dist.with_file_name("go-cache")).env("GOFLAGS", "-mod=mod");
        assert!(build.env("GOPROXY", "off").status().expect("go").success(), "{build:?}");
    };
    Walk::http("go", &unit, &dist).to_and_fro();
}
