//! `python3 -m http.server`: one listen(2) for five that may wait, which would be too few for any load.

use super::{WRK, unit};
use crate::servers::warm::Walk;
use crate::{Test, test_with};
use std::fs;
use std::path::Path;

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::intercept::python", &[WRK], python)]
}

fn python() {
    let unit = |address: &str, _: &Path| {
        let (_, port) = address.rsplit_once(':').expect("an address with its port");
        unit(address, &["/usr/bin/python3", "-m", "http.server", port])
    };
    let dist = |dist: &Path, _| fs::create_dir(dist).expect("a folder");
    Walk::http("python3 -m http.server", &unit, &dist).to_and_fro();
}
