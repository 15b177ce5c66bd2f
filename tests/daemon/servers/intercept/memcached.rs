//! memcached (Debian: 1.6) in the background, on TCP and UDP with one port, the UDP socket shared by its
//! threads. It goes into the background before it binds anything. The releases are told apart by
//! `maxconns`, which a shell adds up from the release's number.

use super::{example, instead};
use crate::load::Speaks;
use crate::servers::warm::Walk;
use crate::{Need, Test, test_with};
use std::fs;
use std::path::Path;

pub(super) fn tests() -> Vec<Test> {
    let needs = &[Need::Program("memcached", "memcached")];
    vec![test_with("servers::intercept::memcached", needs, memcached)]
}

fn memcached() {
    let unit = |address: &str, _: &Path| {
        let (_, port) = address.rsplit_once(':').expect("an address with its port");
        let command = format!(
            "exec /usr/bin/memcached -d -u root -m 64 -l 127.0.0.1 -p {port} -U {port} -c $$((1000 + SUPD_RELEASE))"
        );
        let start = format!("Releases = true\nExecStart = [\"/bin/sh\", \"-c\", {command:?}]");
        let unit = instead(&example("memcached.unit", address), "ExecStart = ", &start);
        instead(&unit, "User = ", "")
    };
    let dist = |dist: &Path, _| fs::create_dir(dist).expect("a folder");
    let speaks = Speaks::Memcached;
    Walk { name: "memcached", unit: &unit, dist: &dist, speaks, udp: true }.to_and_fro();
}
