//! Redis (Debian: 7.0) as Debian configures it: on IPv4 and IPv6, gone into the background, with a title
//! of its own in the place of its environment. The releases are told apart by `dbfilename`.

use super::{example, instead, put};
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
        let unit = instead(&example("redis.unit", address), "User = ", "");
        let start = "ExecStart = [\"/usr/bin/redis-server\", \"redis.conf\", \"--dbfilename\", \
                     \"${SUPD_RELEASE}.rdb\"]";
        let unit = instead(&unit, "ExecStart = ", start);
        let four = unit.split_once("[[Socket]]\nName = \"six\"").expect("two listeners").0;
        let rest = unit.split_once("[Service]").expect("a service").1;
        if six { unit } else { format!("{four}[Service]{rest}") }
    };
    let dist = |dist: &Path, address| put(dist, "redis.conf", address, &[]);
    Walk { name: "redis", unit: &unit, dist: &dist, speaks: Speaks::Redis, udp: false }.to_and_fro();
}
