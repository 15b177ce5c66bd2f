//! Tomcat (Debian: 10.1). It listens long before its applications are there: who comes meanwhile waits in
//! the queue of its listener (with `bindOnInit="false"` it would listen last of all).

use super::{WRK, walk};
use crate::{Need, Test, test_with};

const NEEDS: &[Need] =
    &[WRK, Need::Root, Need::File("/usr/share/tomcat10/bin/catalina.sh", "apt-get install tomcat10")];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::intercept::tomcat", NEEDS, tomcat)]
}

fn tomcat() {
    walk("tomcat", "tomcat.sh", &["/bin/sh", "tomcat.sh"]);
}
