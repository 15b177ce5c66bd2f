//! A UDP echo (units/udp). Both generations read the one socket during a swap, and at SIGTERM
//! the old one ends between two datagrams: what is in the socket's buffer is the new one's.

use crate::harness::{Supd, free_port, whole_machine};
use crate::load::echo::Echo;
use crate::proc;
use crate::wait::{SOON, wait_until};
use crate::{Test, examples, test};
use std::net::{Ipv4Addr, SocketAddr};

pub(super) fn tests() -> Vec<Test> {
    vec![test("servers::udp", udp)]
}

fn udp() {
    let _machine = whole_machine();
    let supd = Supd::start();
    let app = supd.app();
    let version = |version: &str| examples::version("udp/echo.py", &app, version);
    version("1");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let unit = examples::unit("udp/echo.unit", &address.to_string(), &app);
    supd.launch("echo", &unit);
    let echo = Echo::start(address, 8);
    echo.wait_for_more(1_000, SOON);

    let mut switches = Vec::new();
    let mut step = |arguments: &[&str], version: &str, leaves: &[u32]| {
        supd.ctl(arguments).expect(0);
        wait_until("the old generation to end", SOON, || leaves.iter().all(|pid| !proc::alive(*pid)));
        switches.push((echo.now(), version.to_owned()));
        echo.wait_for_more(2_000, SOON);
    };
    let first = supd.status("echo").pids();
    version("2");
    step(&["swap", "echo"], "2", &first);
    let second = supd.status("echo").pids();
    version("3");
    supd.write_unit("echo", &super::long_probation(&unit));
    supd.ctl(&["swap", "echo", "--wait=active"]).expect(0);
    supd.write_unit("echo", &unit);
    let third: Vec<u32> =
        supd.status("echo").pids().into_iter().filter(|pid| !second.contains(pid)).collect();
    step(&["rollback", "echo"], "2", &third);
    step(&["swap", "echo"], "3", &second);
    let fourth = supd.status("echo").pids();
    version("2");
    step(&["rollback", "echo", "--anyway"], "2", &fourth);
    echo.wait_for_more(super::REQUESTS, SOON);

    let tally = echo.stop();
    println!("--- udp echo ---\n{tally}");
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.answered() >= super::REQUESTS);
    for (at, version) in switches {
        let answer = tally.versions_between(at, at + std::time::Duration::from_millis(50));
        assert!(answer.keys().eq([&version]), "who answered after {at:?}: {answer:?}, not only {version}");
    }
}
