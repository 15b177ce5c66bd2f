//! `python3 -m http.server`: it has listen(2) let five wait, which is too few for any load.

use super::{WRK, deploy, example, unit};
use crate::harness::{Supd, free_port};
use crate::proc;
use crate::servers::warm::Walk;
use crate::wait::SOON;
use crate::{Test, test, test_with};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;

pub(super) fn tests() -> Vec<Test> {
    vec![
        test_with("servers::intercept::python", &[WRK], python),
        test("servers::intercept::python::more_may_wait_than_it_says", more_may_wait),
    ]
}

fn server(address: &str) -> String {
    let (_, port) = address.rsplit_once(':').expect("an address with its port");
    unit(address, &["/usr/bin/python3", "-m", "http.server", port])
}

fn python() {
    let unit = |address: &str, _: &Path| example("python.unit", address);
    let dist = |dist: &Path, _| fs::create_dir(dist).expect("a folder");
    Walk::http("python3 -m http.server", &unit, &dist).to_and_fro();
}

/// As many as the unit's Backlog says: a client that finds the queue full gets no connection before the
/// server goes on.
fn more_may_wait() {
    let supd = Supd::start();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    deploy(&supd, &server(&address.to_string()));
    let pid = supd.status("web").pids()[0];
    proc::signal(pid, Signal::SIGSTOP);
    let connect = |_| TcpStream::connect_timeout(&address, SOON).expect("room in the queue");
    let clients: Vec<TcpStream> = (0..100).map(connect).collect();
    proc::signal(pid, Signal::SIGCONT);
    for mut client in clients {
        client.set_read_timeout(Some(SOON)).expect("a time above zero");
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a connection");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.ends_with("X-Served-By: 1/0\n"), "{answer}");
    }
}
