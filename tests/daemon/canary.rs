//! What a person does in the middle of a canary, and who stays on which side of it.

use crate::harness::{Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, holds_for, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("canary::swap_in_the_middle", swap_in_the_middle),
        test("canary::rollback_in_the_middle", rollback_in_the_middle),
        test("canary::reload_in_the_middle", reload_in_the_middle),
        test("canary::stop_in_the_middle", stop_in_the_middle),
        test("canary::a_client_stays_on_its_side", a_client_stays_on_its_side),
        test("canary::abort_says_what_is_left", abort_says_what_is_left),
        test("canary::part_of_a_path_is_refused", part_of_a_path_is_refused),
        test("canary::status_says_the_mechanism", status_says_the_mechanism),
        test(
            "canary::status_says_the_mechanism_of_the_candidates_own",
            status_says_the_mechanism_of_the_candidates_own,
        ),
        test("canary::a_drain_is_watched", a_drain_is_watched),
    ]
}

/// A supd whose unit `web` runs version 1 and gives half of the new connections to version 2.
fn half(service: &str, swap: &str) -> (Supd, u16) {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], service, swap));
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "50%"]).expect(0);
    (supd, port)
}

fn loads(port: u16) -> [Load; 2] {
    let target = Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let loads = [Mode::Close, Mode::KeepAlive].map(|mode| Load::start(Plan::new(target.clone(), mode, 4)));
    more(&loads);
    loads
}

fn more(loads: &[Load; 2]) {
    loads.iter().for_each(|load| load.wait_for_more(200, SOON));
}

fn nothing_is_lost(loads: [Load; 2]) {
    let [closing, kept] = loads.map(Load::stop);
    assert_eq!((closing.lost(), kept.lost()), (0, 0), "{closing}\n{kept}");
    let versions = closing.versions();
    assert!(versions.contains_key("1") && versions.contains_key("2"), "no canary: {closing}");
}

/// A second one is refused, and the first goes on; with --replace the first is undone.
fn swap_in_the_middle() {
    let (supd, port) = half("", "");
    let loads = loads(port);
    supd.install_worker("3");
    let refused = supd.ctl(&["swap", "web"]).expect(3);
    assert!(refused.text().contains("a swap to generation 2 is under way"), "{refused}");
    let status = supd.status("web");
    assert_eq!((status.state(), status.active()), ("canary", Some(1)), "{}", status.0);
    more(&loads);
    supd.ctl(&["swap", "web", "--replace"]).expect(0);
    assert_eq!(supd.status("web").active(), Some(3));
    more(&loads);
    nothing_is_lost(loads);
}

/// Before the switch it is the way back, too: the candidate ends, and who was active never knew.
fn rollback_in_the_middle() {
    let (supd, port) = half("", "");
    let before = supd.status("web").pids_in(1);
    let loads = loads(port);
    supd.ctl(&["rollback", "web"]).expect(0);
    more(&loads);
    let status = supd.status("web");
    assert_eq!((status.state(), status.active()), ("active", Some(1)), "{}", status.0);
    assert_eq!(status.pids_in(1), before, "it was touched");
    nothing_is_lost(loads);
    wait_until("the candidate to end", SOON, || supd.status("web").pids_in(2).is_empty());
}

/// Who is active reads its configuration again, and the candidate keeps its share.
fn reload_in_the_middle() {
    let (supd, port) = half("ExecReload = [\"/bin/true\"]", "");
    let before = supd.status("web").pids();
    let loads = loads(port);
    supd.ctl(&["reload", "web"]).expect(0);
    more(&loads);
    let status = supd.status("web");
    assert_eq!((status.state(), status.active()), ("canary", Some(1)), "{}", status.0);
    assert_eq!(status.pids(), before);
    nothing_is_lost(loads);
}

/// Both end, and the next start is that of the one that was active.
fn stop_in_the_middle() {
    let (supd, port) = half("", "");
    // A stop refuses who comes later, so nobody comes; who is connected is waited for.
    nothing_is_lost(loads(port));
    let all = supd.status("web").pids();
    assert!(all.len() >= 2, "{all:?}");
    supd.ctl(&["stop", "web"]).expect(0);
    let status = supd.status("web");
    assert_eq!((status.state(), status.pids()), ("stopped", Vec::new()), "{}", status.0);
    assert!(all.iter().all(|pid| !proc::alive(*pid)), "stopped, and one of {all:?} lives");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "stopped, and it accepts");
    supd.ctl(&["start", "web"]).expect(0);
    assert_eq!(supd.status("web").state(), "active");
}

/// Which clients of many reach version 2: each asks twice, and is on one side.
pub(crate) fn on_the_new_side(port: u16) -> BTreeSet<u8> {
    let of = |client: u8| {
        let [first, second] = [served_by(client, port), served_by(client, port)];
        assert_eq!(first, second, "127.0.0.{client} changed sides");
        first == "2"
    };
    (2..=201).filter(|client| of(*client)).collect()
}

/// The version that answers 127.0.0.`client`.
fn served_by(client: u8, port: u16) -> String {
    let socket =
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    let at = |host: u8, port| SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), port));
    bind(socket.as_raw_fd(), &at(client, 0)).expect("all of 127/8 is here");
    connect(socket.as_raw_fd(), &at(1, port)).expect("the listener");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).expect("a time");
    stream.write_all(b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let line = text.lines().find_map(|line| line.strip_prefix("X-Served-By: "));
    let served = line.unwrap_or_else(|| panic!("no answer: {text:?}"));
    served.split('/').next().unwrap_or_default().to_owned()
}

/// While the share grows more come to the new side, and nobody flips back. 200 addresses: that none of
/// them is among the first 10 % happens once in 10^9 runs. Another supd, at its own first swap, draws
/// others: that both draw the same half does not happen.
fn a_client_stays_on_its_side() {
    let halves = [(); 2].map(|()| {
        let (supd, port) = half("", "CanarySticky = true");
        let first = on_the_new_side(port);
        supd.ctl(&["share", "web", "10"]).expect(0);
        let mut before = on_the_new_side(port);
        assert!(!before.is_empty() && before.is_subset(&first), "{before:?} of {first:?}");
        for share in ["40", "50", "80"] {
            supd.ctl(&["share", "web", share]).expect(0);
            let now = on_the_new_side(port);
            assert!(before.is_subset(&now), "at {share} %: {before:?} became {now:?}");
            before = now;
        }
        assert!(before.len() > first.len(), "{before:?}");
        first
    });
    assert_ne!(halves[0], halves[1], "two machines draw the same clients");
}

/// A connection to 127.0.0.1 that was served, and stays open.
fn kept(port: u16) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the listener");
    stream.set_read_timeout(Some(SOON)).expect("a time");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    let mut answer = [0; 1024];
    let count = stream.read(&mut answer).expect("an answer");
    (stream, String::from_utf8_lossy(&answer[..count]).into_owned())
}

fn generation(status: &Value, generation: u64) -> Option<&Value> {
    status["generations"].as_array()?.iter().find(|one| one["generation"] == generation)
}

fn connections(supd: &Supd, of: u64) -> Option<u64> {
    generation(&supd.status("web").0, of)?["connections"].as_u64()
}

/// Whoever reached the candidate ends there, and the person is told of it.
fn abort_says_what_is_left() {
    let (supd, port) = half("", "DrainSec = \"60s\"");
    supd.ctl(&["share", "web", "99.99"]).expect(0);
    let clients: Vec<_> = (0..8).map(|_| kept(port)).collect();
    let its = clients.iter().filter(|(_, answer)| answer.contains("X-Served-By: 2/")).count() as u64;
    assert!(its > 1, "{its} of the candidate");
    wait_until("them to be counted", SOON, || connections(&supd, 2) == Some(its));
    let aborted = supd.ctl(&["abort", "web"]).expect(0);
    let told = format!("{its} connections are still on generation 2 (as of ");
    assert!(aborted.text().contains(&told), "{aborted}");
    assert!(aborted.text().contains("s ago), which ends once they have"), "{aborted}");
}

/// A path leads to one generation, and nobody is told that half of its clients get to another.
fn part_of_a_path_is_refused() {
    let supd = Supd::start();
    supd.install_worker("1");
    let (port, path) = (free_port(), supd.path().join("web.sock"));
    let unit = supd.worker(port, &[], "", "");
    supd.launch("web", &unit.replace(&format!("127.0.0.1:{port}"), &path.display().to_string()));
    let refused = supd.ctl(&["swap", "web", "--canary", "5%"]).expect(3);
    assert!(refused.text().contains("a path leads to one generation at a time"), "{refused}");
    supd.ctl(&["swap", "web", "--hold"]).expect(0);
    let refused = supd.ctl(&["share", "web", "50"]).expect(3);
    assert!(refused.text().contains("a path leads to one generation at a time"), "{refused}");
    assert!(refused.text().contains("promote web"), "{refused}");
    supd.ctl(&["share", "web", "100"]).expect(0);
    assert_eq!(supd.status("web").active(), Some(2));
}

/// Which mechanism each listener has, and why not a better one.
fn status_says_the_mechanism() {
    let supd = Supd::start();
    let sleeps = "[Service]\nExecStart = [\"/usr/bin/sleep\", \"600\"]\nReady = \"started\"\n";
    let fifo = supd.path().join("fifo");
    for (unit, place, begins) in [
        ("tcp", format!("ListenStream = \"127.0.0.1:{}\"", free_port()), &["ebpf", "classic: "][..]),
        ("path", format!("ListenStream = {:?}", supd.path().join("path.sock")), &["path"]),
        ("fifo", format!("ListenFIFO = {fifo:?}"), &["shared: "]),
    ] {
        supd.launch(unit, &format!("[[Socket]]\nName = \"in\"\n{place}\n{sleeps}"));
        let listener = supd.status(unit).0["listeners"][0].clone();
        let mechanism = listener["mechanism"].as_str().unwrap_or_default().to_owned();
        assert!(begins.iter().any(|begin| mechanism.starts_with(begin)), "{unit}: {listener}");
        let steered = unit != "fifo";
        assert_eq!(listener["steered"], steered, "{listener}");
        let slots = if steered { "(a slot for each generation, " } else { "(" };
        let shown = supd.ctl(&["status", unit]).expect(0);
        assert!(shown.text().contains(&format!("{slots}{mechanism}")), "{shown}");
    }
}

/// Also of a listener that only the candidate has.
fn status_says_the_mechanism_of_the_candidates_own() {
    let supd = Supd::start();
    supd.install_worker("1");
    let (port, other) = (free_port(), free_port());
    let unit = supd.worker(port, &[], "", "");
    supd.launch("web", &unit);
    let more = format!("\n[[Socket]]\nName = \"more\"\nListenStream = \"127.0.0.1:{other}\"\n[Service]");
    supd.write_unit("web", &unit.replacen("[Service]", &more, 1));
    supd.ctl(&["swap", "web", "--hold"]).expect(0);
    let shown = supd.ctl(&["status", "web"]).expect(0);
    let said = format!("more 127.0.0.1:{other} (of generation 2, a slot for each generation, ");
    assert!(shown.text().contains(&said), "{shown}");
}

/// Line after line, for programs: the connection that it waits for, and at last nobody.
fn a_drain_is_watched() {
    let (supd, port) = half("", "DrainSec = \"60s\"\nProbationSec = \"0\"");
    supd.ctl(&["abort", "web"]).expect(0);
    let (client, _) = kept(port);
    supd.ctl(&["swap", "web"]).expect(0);
    wait_until("it to be counted", SOON, || connections(&supd, 1) == Some(1));
    let watch = supd.ctl_start(&["--json", "status", "web", "--watch"]);
    // Two counts at least are seen while it waits: there is one a second.
    holds_for("the drain", Duration::from_secs(2), || connections(&supd, 1) == Some(1));
    drop(client);
    wait_until("the drain to be over", SOON, || supd.status("web").pids_in(1).is_empty());
    wait_until("no trace of it", SOON, || generation(&supd.status("web").0, 1).is_none());
    holds_for("the end, for a last look", Duration::from_millis(1500), || supd.is_alive());
    proc::signal(watch.pid(), Signal::SIGINT);
    let output = watch.finish(SOON).expect(0);
    let seen: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let of = |status: &Value| generation(status, 1).map(|one| one["connections"].as_u64());
    let first = seen.first().and_then(|status| generation(status, 1)).expect("a drain to watch");
    assert_eq!((first["state"].as_str(), first["connections"].as_u64()), (Some("draining"), Some(1)));
    let oldest = |status: &Value| generation(status, 1)?["oldest_ms"].as_u64();
    let ages: BTreeSet<u64> = seen.iter().filter_map(oldest).collect();
    assert!(ages.len() > 1, "it grows no older: {output}");
    assert_eq!(seen.last().and_then(of), None, "{output}");
}
