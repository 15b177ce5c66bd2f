//! Servers of which two may run and only one may be bound: the next waits in its bind, and whoever comes
//! meanwhile waits for it.

use crate::exclusive::{answer, ask, gap, more};
use crate::harness::{Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, holds_for, wait_until};
use crate::{Need, Test, proc, test_with};
use nix::sys::signal::Signal;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    let python = &[Need::File("/usr/bin/python3", "apt-get install python3")];
    let setpriv =
        &[Need::File("/usr/bin/python3", "apt-get install python3"), Need::Program("setpriv", "util-linux")];
    // Holding connections off takes CAP_NET_ADMIN.
    let holds = &[Need::File("/usr/bin/python3", "apt-get install python3"), Need::Root];
    let curl = &[Need::File("/usr/bin/python3", "apt-get install python3"), Need::Program("curl", "curl")];
    vec![
        test_with("one_bound::nothing_is_lost", python, nothing_is_lost),
        test_with("one_bound::nothing_is_lost_without_ebpf", setpriv, nothing_is_lost_without_ebpf),
        test_with("one_bound::given_up_in_the_gap", python, given_up),
        test_with("one_bound::it_dies_in_the_gap", python, dies),
        test_with("one_bound::the_old_one_dies_in_the_gap", python, old_dies),
        test_with("one_bound::held_by_a_person_first", python, held),
        test_with("one_bound::checks_get_through", curl, checks_get_through),
        test_with("one_bound::held_off_until_a_check_passes", holds, held_off_until_a_check_passes),
        test_with("one_bound::ready_without_a_bind", python, ready_without_a_bind),
        test_with("one_bound::what_cannot_be_is_refused", python, refused),
    ]
}

/// It binds, and listens some seconds later.
const SERVER: &str = "
import http.server, os, sys, time
version, late = sys.argv[1], float(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('X-Served-By', f'{version}/{os.getpid()}')
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    def server_activate(self):
        time.sleep(late)
        super().server_activate()
Server(('127.0.0.1', int(sys.argv[3])), Handler).serve_forever()
";

fn unit(supd: &Supd, port: u16, version: &str, late: &str, more: &str) -> String {
    let program = supd.app().join("server.py");
    std::fs::write(&program, SERVER).expect("a program");
    format!(
        "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\n\
         ExecStart = [\"/usr/bin/python3\", {program:?}, {version:?}, {late:?}, \"{port}\"]\n\
         Handoff = \"intercept\"\nExclusive = \"port\"\nReadySettleSec = \"0\"\n{more}\n\
         [Swap]\nRetain = \"warm\"\nProbationSec = \"0\"\nDrainSec = \"10s\"\nSettleSec = \"200ms\"\n"
    )
}

fn serving(supd: &Supd) -> u16 {
    let port = free_port();
    supd.launch("web", &unit(supd, port, "1", "0", ""));
    port
}

fn edit(supd: &Supd, port: u16, version: &str, late: &str) {
    supd.write_unit("web", &unit(supd, port, version, late, ""));
}

fn loads(port: u16) -> [Load; 2] {
    let target = Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let loads = [Mode::Close, Mode::KeepAlive].map(|mode| Load::start(Plan::new(target.clone(), mode, 4)));
    more(&loads);
    loads
}

fn to_and_fro(supd: &Supd) {
    let port = serving(supd);
    let loads = loads(port);
    for version in ["2", "3", "4"] {
        edit(supd, port, version, "0.3");
        let told = supd.ctl(&["swap", "web"]).expect(0);
        assert!(told.text().contains("new connections waited for"), "{told}");
        assert!(gap(supd) >= 300, "{}", supd.status("web").0);
        more(&loads);
        // To one that is bound already, and whom nobody was led to: there is nothing to wait for.
        supd.ctl(&["rollback", "web"]).expect(0);
        let status = supd.status("web");
        assert!(status.last_swap()["gap_ms"].is_null(), "{}", status.0);
        more(&loads);
    }
    for tally in loads.map(Load::stop) {
        assert_eq!(tally.lost(), 0, "{tally}");
    }
}

fn nothing_is_lost() {
    to_and_fro(&Supd::start());
}

fn nothing_is_lost_without_ebpf() {
    to_and_fro(&Supd::without_ebpf());
}

/// Begins a swap to one that does not listen for long, and waits until it has bound.
fn in_the_gap(supd: &Supd, port: u16) -> (crate::harness::Running, u32, u32) {
    let old = supd.status("web").pids()[0];
    edit(supd, port, "2", "60");
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("its binds to be answered", SOON, || supd.log().contains("g2: its binds are answered"));
    let new = supd.status("web").pids_in(2)[0];
    (swap, old, new)
}

fn given_up() {
    let supd = Supd::start();
    let port = serving(&supd);
    let (swap, old, new) = in_the_gap(&supd, port);
    assert_eq!(supd.status("web").state(), "starting", "{}", supd.status("web").0);
    let early = ask(port);
    holds_for("both run and nobody answers", Duration::from_millis(300), || {
        let mut byte = [0];
        let waits = early.peek(&mut byte).is_err();
        waits && proc::alive(old) && proc::alive(new)
    });
    supd.ctl(&["abort", "web"]).expect(0);
    swap.finish(SOON).expect(1);
    assert!(answer(early).contains("X-Served-By: 1/"));
    assert!(answer(ask(port)).contains("X-Served-By: 1/"));
    wait_until("the new one to be gone", SOON, || !proc::alive(new));
    assert_eq!(supd.status("web").pids(), [old]);
}

fn dies() {
    let supd = Supd::start();
    let port = serving(&supd);
    let loads = loads(port);
    let (swap, old, new) = in_the_gap(&supd, port);
    let early = ask(port);
    proc::signal(new, Signal::SIGKILL);
    let told = swap.finish(SOON).expect(1);
    assert!(told.text().contains("generation 1 was not touched"), "{told}");
    assert!(supd.status("web").last_swap()["gap_ms"].is_u64(), "{}", supd.status("web").0);
    assert!(answer(early).contains(&format!("X-Served-By: 1/{old}")));
    more(&loads);
    for tally in loads.map(Load::stop) {
        assert_eq!(tally.lost(), 0, "{tally}");
    }
}

/// Nobody serves: whoever waits is served by who comes up first.
fn old_dies() {
    let supd = Supd::start();
    let port = serving(&supd);
    let (swap, old, _) = in_the_gap(&supd, port);
    let early = ask(port);
    proc::signal(old, Signal::SIGKILL);
    supd.ctl(&["abort", "web"]).expect(0);
    swap.finish(SOON);
    assert!(answer(early).contains("X-Served-By: 1/"));
    assert_eq!(supd.wait_for_state("web", "active").pids().len(), 1);
}

fn held() {
    let supd = Supd::start();
    let port = serving(&supd);
    edit(&supd, port, "2", "0");
    supd.ctl(&["swap", "web", "--unbound"]).expect(0);
    assert!(answer(ask(port)).contains("X-Served-By: 1/"));
    supd.ctl(&["promote", "web"]).expect(0);
    assert!(answer(ask(port)).contains("X-Served-By: 2/"));
    assert!(supd.status("web").last_swap()["gap_ms"].is_u64(), "{}", supd.status("web").0);
}

fn refused() {
    let supd = Supd::start();
    let port = serving(&supd);
    for stops in [&["--hold"][..], &["--canary", "5%"]] {
        let arguments = [&["swap", "web"], stops].concat();
        let refused = supd.ctl(&arguments).expect(3);
        assert!(refused.text().contains("only one may be bound"), "{refused}");
    }
    for (from, to, what) in [
        ("Handoff = \"intercept\"", "Handoff = \"inherit\"", "binds nothing that could wait"),
        ("ReadySettleSec", "Ready = \"started\"\nReadySettleSec", "counts as ready before it binds"),
        ("Retain = \"warm\"", "Canary = [\"5% 1min\"]", "nobody else is bound"),
        ("ReadySettleSec", "Ready = [\"/bin/true\"]\nReadySettleSec", "a command can only reach who serves"),
        ("Exclusive = \"port\"", "TrafficOff = [\"/bin/true\"]", "somebody serves at every moment"),
    ] {
        let text = unit(&supd, port, "2", "0", "");
        assert!(text.contains(from), "{text}");
        supd.write_unit("web", &text.replace(from, to));
        let refused = supd.ctl(&["swap", "web"]).expect(78);
        assert!(refused.text().contains(what), "{refused}");
    }
    assert!(answer(ask(port)).contains("X-Served-By: 1/"));
}

/// Who asks whether it is ready gets through to it, and everybody else waits until it is: this one accepts at
/// once, and says for a while that it is not.
fn held_off_until_a_check_passes() {
    let (supd, port) = (Supd::start(), free_port());
    let late = SERVER.replace(
        "        self.send_response(200)",
        "        self.send_response(200 if time.monotonic() > began + 1.5 else 503)",
    );
    let late = late.replace("class Server", "began = time.monotonic()\nclass Server");
    let at = |version: &str| {
        let text = unit(&supd, port, version, "0", "Ready = \"http://{web}/\"");
        std::fs::write(supd.app().join("server.py"), &late).expect("a program");
        text.replace("Exclusive = \"port\"", "Exclusive = \"process\"")
            .replace("Retain = \"warm\"", "Retain = \"cold\"")
    };
    supd.write_unit("web", &at("1"));
    supd.ctl(&["daemon-reload"]).expect(0);
    let start = supd.ctl_start(&["start", "web"]);
    wait_until("it to be launched", SOON, || supd.log().contains("web/g1: launched"));
    assert!(answer(ask(port)).contains("X-Served-By: 1/"), "held off");
    start.finish(SOON).expect(0);
    supd.write_unit("web", &at("2"));
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("the next one to be launched", SOON, || supd.log().contains("web/g2: launched"));
    assert!(answer(ask(port)).contains("X-Served-By: 2/"), "held off in the gap");
    swap.finish(SOON).expect(0);
}

/// Who asks whether it is ready gets through to it, whoever else has to wait.
fn checks_get_through() {
    for exclusive in ["\"port\"", "\"process\"", "false"] {
        for ready in
            ["\"tcp\"", "\"http://{web}/\"", "[\"/usr/bin/curl\", \"-sf\", \"http://127.0.0.1:PORT/\"]"]
        {
            let (supd, port) = (Supd::start(), free_port());
            if exclusive == "\"port\"" && ready.starts_with('[') {
                continue; // Refused: it would reach who serves.
            }
            let ready = format!("Ready = {}", ready.replace("PORT", &port.to_string()));
            let at = |version: &str| {
                let text = unit(&supd, port, version, "0", &ready);
                let text = text.replace("Exclusive = \"port\"", &format!("Exclusive = {exclusive}"));
                // Two that live may both be asked by a command: which one answers is not for this test.
                text.replace("Retain = \"warm\"", "Retain = \"cold\"")
            };
            supd.launch("web", &at("1"));
            let first = supd.status("web").pids()[0];
            proc::signal(first, Signal::SIGKILL);
            wait_until("another in its place", SOON, || {
                let status = supd.status("web");
                status.state() == "active" && status.pids().first().is_some_and(|pid| *pid != first)
            });
            assert!(answer(ask(port)).contains("X-Served-By: 1/"), "{exclusive}, {ready}");
            supd.write_unit("web", &at("2"));
            supd.ctl(&["swap", "web"]).expect(0);
            assert!(answer(ask(port)).contains("X-Served-By: 2/"), "{exclusive}, {ready}");
        }
    }
}

/// Nobody is led to who says that it is ready and has bound nothing.
fn ready_without_a_bind() {
    let supd = Supd::start();
    let port = serving(&supd);
    let text = unit(&supd, port, "2", "0", "Ready = \"notify\"");
    let say = "import os, socket, time\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
               s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\ntime.sleep(600)\n";
    std::fs::write(supd.app().join("server.py"), say).expect("a program");
    supd.write_unit("web", &text);
    let told = supd.ctl(&["swap", "web"]).expect(1);
    assert!(told.text().contains("has bound no listener of the unit"), "{told}");
    assert!(answer(ask(port)).contains("X-Served-By: 1/"));
}
