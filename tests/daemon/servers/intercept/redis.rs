//! Redis (Debian: 7.0) as Debian configures it: on IPv4 and IPv6, gone into the background, with a title
//! of its own in the place of its environment. The releases are told apart by `dbfilename`.

use super::{put, unit};
use crate::load::Speaks;
use crate::servers::warm::Walk;
use crate::{Need, Test, test_with};
use std::net::{Ipv6Addr, TcpListener};
use std::path::Path;

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::intercept::redis", &[Need::Program("redis-server", "redis-server")], redis)]
}

fn redis() {
    // Redis leaves out what begins with - where the machine has no IPv6, and supd does not.
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let unit = |address: &str, _: &Path| {
        let (_, port) = address.rsplit_once(':').expect("an address with its port");
        let file = "${SUPD_RELEASE}.rdb";
        let unit = unit(address, &["/usr/bin/redis-server", "redis.conf", "--dbfilename", file]);
        let second = format!("[[Socket]]\nName = \"six\"\nListenStream = \"[::1]:{port}\"\n\n[Service]\n");
        if six { unit.replace("[Service]\n", &second) } else { unit }
    };
    let dist = |dist: &Path, address| put(dist, "redis.conf", address, &[]);
    Walk { name: "redis", unit: &unit, dist: &dist, speaks: Speaks::Redis, udp: false }.to_and_fro();
}
