//! Tomcat (Debian: 10.1). It listens long before its applications are there, and who comes meanwhile waits
//! in the queue of its listener: nothing would be lost, but 2 s pass without an answer. So its unit asks for a
//! page before clients come; `bindOnInit="false"` in its server.xml would do the same.

use super::{WRK, example, instead, put};
use crate::servers::warm::Walk;
use crate::{Need, Test, test_with};
use std::path::Path;

const NEEDS: &[Need] =
    &[WRK, Need::Root, Need::File("/usr/share/tomcat10/bin/catalina.sh", "apt-get install tomcat10")];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::intercept::tomcat", NEEDS, tomcat)]
}

fn tomcat() {
    let unit = |address: &str, _: &Path| {
        let unit = instead(&example("tomcat.unit", address), "User = ", "Releases = true");
        instead(&unit, "ExecStart = ", "ExecStart = [\"/bin/sh\", \"tomcat.sh\"]")
    };
    let dist = |dist: &Path, address| put(dist, "tomcat.sh", address, &[]);
    Walk::http("tomcat", &unit, &dist).to_and_fro();
}
