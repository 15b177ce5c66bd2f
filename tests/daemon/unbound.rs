//! Started, and on no port: a swap whose binds wait for a person.

use crate::harness::{Supd, free_port};
use crate::intercept::{ask, at, unit};
use crate::proc;
use crate::support::test::{Test, test};
use crate::wait::{SOON, holds_for, wait_for, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("unbound::waits_as_long_as_a_person_likes", waits),
        test("unbound::goes_on_to_where_it_stops_next", goes_on),
        test("unbound::aborted_it_hears_its_kill_signal", aborted),
        test("unbound::dies_while_it_waits", dies),
        test("unbound::every_kind_of_socket_waits", every_kind),
        test("unbound::says_ready_itself", notify),
        test("unbound::ready_without_a_bind_is_held", ready_without),
        test("unbound::supd_dies_while_it_waits", supd_dies),
        test("unbound::what_cannot_wait_is_refused", refused),
    ]
}

fn plain(port: u16) -> String {
    format!("s = tcp('127.0.0.1', {port}); s.listen(5)\nserve(s)\n")
}

/// What status calls the newest generation.
fn state(supd: &Supd) -> String {
    let status = supd.status("web");
    let generations = status.0["generations"].as_array().expect("generations").clone();
    let newest = generations.iter().max_by_key(|one| one["generation"].as_u64()).expect("a generation");
    newest["state"].as_str().expect("a state").to_owned()
}

fn newest_pid(supd: &Supd) -> u32 {
    let status = supd.status("web");
    status.pids_in(status.newest().expect("a generation"))[0]
}

fn waits() {
    let supd = Supd::start();
    let port = free_port();
    let text = unit(&supd, &at(port), &plain(port)).replace("StartSec = \"10s\"", "StartSec = \"1s\"");
    supd.launch("web", &text);
    let old = ask(port);
    let output = supd.ctl(&["swap", "web", "--unbound"]).expect(0);
    assert!(output.text().contains("generation 2 is started and on no port"), "{output}");
    assert!(output.text().contains("supctl promote web"), "what to type next: {output}");
    assert_eq!(state(&supd), "unbound");
    assert_eq!(supd.status("web").state(), "active");
    let new = newest_pid(&supd);
    // Longer than TimeoutStartSec.
    holds_for("the old one serves, the new one waits", Duration::from_millis(2500), || {
        ask(port) == old && proc::alive(new) && state(&supd) == "unbound"
    });
    let told = supd.ctl(&["status", "web"]).expect(0);
    assert!(told.text().contains("unbound"), "{told}");
    assert!(supd.ctl(&["swap", "web"]).expect(3).text().contains("on no port"));
    supd.ctl(&["share", "web", "50"]).expect(3);
    supd.ctl(&["bind", "web"]).expect(0);
    assert_eq!(ask(port), new);
    assert_eq!(supd.status("web").state(), "active");
    let history = supd.ctl(&["history", "web"]).expect(0);
    assert!(history.text().contains("committed"), "{history}");
}

fn goes_on() {
    let supd = Supd::start();
    let port = free_port();
    supd.launch("web", &unit(&supd, &at(port), &plain(port)));
    let old = ask(port);
    supd.ctl(&["swap", "web", "--unbound", "--hold"]).expect(0);
    let new = newest_pid(&supd);
    let held = supd.ctl(&["promote", "web"]).expect(0);
    assert!(held.text().contains("generation 2 is ready and held"), "{held}");
    assert_eq!((state(&supd), ask(port)), ("candidate".to_owned(), old));
    supd.ctl(&["promote", "web"]).expect(0);
    assert_eq!(ask(port), new);
    // One takes the place of another that waits.
    supd.ctl(&["swap", "web", "--unbound"]).expect(0);
    let waits = newest_pid(&supd);
    supd.ctl(&["swap", "web", "--unbound", "--replace", "--canary", "50%"]).expect(0);
    wait_until("the first to be gone", SOON, || !proc::alive(waits));
    supd.ctl(&["promote", "web"]).expect(0);
    assert_eq!(state(&supd), "canary");
    supd.ctl(&["abort", "web"]).expect(0);
    assert_eq!(ask(port), new);
}

fn aborted() {
    let supd = Supd::start();
    let port = free_port();
    // What it is told while it waits it does, as at any other time.
    let program = format!(
        "def end(*_):
    open('term', 'w').close(); os._exit(0)
signal.signal(signal.SIGTERM, end)
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try: s.bind(('127.0.0.1', {port}))
except OSError as error:
    open('errno', 'w').write(str(error.errno))
    while True: time.sleep(60)
s.listen(5); serve(s)
"
    );
    let text = unit(&supd, &at(port), &program).replace("StopSec = \"5s\"", "StopSec = \"60s\"");
    supd.launch("web", &text);
    let old = ask(port);
    for end in ["abort", "stop"] {
        supd.ctl(&["swap", "web", "--unbound"]).expect(0);
        let new = newest_pid(&supd);
        for file in ["term", "errno"] {
            let _ = fs::remove_file(supd.app().join(file));
        }
        supd.ctl(&[end, "web"]).expect(0);
        wait_until("the candidate to end", SOON, || !proc::alive(new));
        assert!(supd.app().join("term").exists(), "it did not hear its KillSignal");
        let errno = fs::read_to_string(supd.app().join("errno")).unwrap_or_default();
        assert!(errno.is_empty() || errno == "98", "{errno}");
        if end == "abort" {
            assert_eq!(ask(port), old);
        }
    }
}

fn dies() {
    let supd = Supd::start();
    let port = free_port();
    supd.launch("web", &unit(&supd, &at(port), &plain(port)));
    let old = ask(port);
    supd.ctl(&["swap", "web", "--unbound"]).expect(0);
    proc::signal(newest_pid(&supd), Signal::SIGKILL);
    let output = supd.ctl(&["wait", "web"]).expect(1);
    assert!(output.text().contains("SIGKILL"), "{output}");
    assert_eq!(ask(port), old);
    let why = supd.ctl(&["promote", "web"]).expect(3);
    assert!(why.text().contains("no swap is under way"), "{why}");
    // A thread that is gone waits for nothing.
    let threads = format!(
        "import threading
def bind(): tcp('127.0.0.1', {port})
for _ in range(3): threading.Thread(target=bind, daemon=True).start()
{}",
        plain(port)
    );
    supd.write_unit("web", &unit(&supd, &at(port), &threads));
    supd.ctl(&["swap", "web", "--unbound"]).expect(0);
    supd.ctl(&["promote", "web"]).expect(0);
    assert_ne!(ask(port), old);
}

fn every_kind() {
    let supd = Supd::start();
    let (four, udp) = (free_port(), free_port());
    let (public, bind) = (supd.path().join("web.sock"), supd.app().join("own.sock"));
    let sockets = format!(
        "{}[[Socket]]\nName = \"udp\"\nListenDatagram = \"[::]:{udp}\"\n\
         [[Socket]]\nName = \"path\"\nListenStream = {public:?}\nBindAs = {bind:?}\n",
        at(four)
    );
    // Two threads in a bind of their own, and later a third call, listen(2) on a path.
    let program = format!(
        "import threading
found = []
def datagram():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind(('::', {udp})); found.append(s)
first = threading.Thread(target=datagram); first.start()
s = tcp('127.0.0.1', {four}); s.listen(5)
first.join()
p = socket.socket(socket.AF_UNIX)
try: os.unlink('own.sock')
except FileNotFoundError: pass
p.bind('own.sock'); p.listen(5)
serve(s, p, *found)
"
    );
    supd.launch("web", &unit(&supd, &sockets, &program));
    let old = ask(four);
    supd.ctl(&["swap", "web", "--unbound"]).expect(0);
    let new = newest_pid(&supd);
    holds_for("the old one serves", Duration::from_millis(300), || ask(four) == old);
    supd.ctl(&["promote", "web"]).expect(0);
    assert_eq!(ask(four), new);
    let client = std::net::UdpSocket::bind("[::1]:0").expect("a socket");
    client.set_read_timeout(Some(SOON)).expect("a bound");
    client.send_to(b"x", ("::1", udp)).expect("sent");
    assert_eq!(client.recv(&mut [0; 10]).expect("an answer"), 3);
    let stream = std::os::unix::net::UnixStream::connect(&public).expect("the public path");
    assert_eq!(crate::intercept::said(stream), new);
}

fn notify() {
    let supd = Supd::start();
    let port = free_port();
    // Both orders: a server that is ready when it listens, and one that says so before its bind ends.
    for early in ["", "say()\n"] {
        let program = format!(
            "import threading
def say():
    n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    n.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
def later():
    time.sleep(0.3)
    {}
threading.Thread(target=later).start()
s = tcp('127.0.0.1', {port}); s.listen(5)
{}
serve(s)
",
            if early.is_empty() { "pass" } else { "say()" },
            if early.is_empty() { "say()" } else { "" },
        );
        let text = unit(&supd, &at(port), &program).replace("[Swap]", "Ready = \"notify\"\n[Swap]");
        if supd.ctl(&["is-active", "web"]).code() == 0 {
            supd.write_unit("web", &text);
            supd.ctl(&["swap", "web"]).expect(0);
        } else {
            supd.launch("web", &text);
        }
        let old = ask(port);
        supd.ctl(&["swap", "web", "--unbound"]).expect(0);
        let new = newest_pid(&supd);
        holds_for("it waits, whatever it says", Duration::from_millis(600), || {
            ask(port) == old && state(&supd) == "unbound"
        });
        supd.ctl(&["promote", "web"]).expect(0);
        assert_eq!(ask(port), new);
    }
}

/// Such a one cannot be left unbound; nor is it let take over without a word.
fn ready_without() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!(
        "n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
n.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
while os.path.exists('wait'): time.sleep(0.02)
{}",
        plain(port)
    );
    let text = unit(&supd, &at(port), &program).replace("[Swap]", "Ready = \"notify\"\n[Swap]");
    supd.launch("web", &text);
    let old = ask(port);
    fs::write(supd.app().join("wait"), "").expect("a file");
    let output = supd.ctl(&["swap", "web", "--unbound"]).expect(0);
    assert!(output.text().contains("has bound no listener of the unit yet"), "{output}");
    assert_eq!((state(&supd), ask(port)), ("candidate".to_owned(), old));
    fs::remove_file(supd.app().join("wait")).expect("the file");
    let new = newest_pid(&supd);
    supd.ctl(&["promote", "web"]).expect(0);
    assert_eq!(ask(port), new);
}

fn supd_dies() {
    let supd = Supd::start();
    let port = free_port();
    supd.launch("web", &unit(&supd, &at(port), &plain(port)));
    supd.ctl(&["swap", "web", "--unbound"]).expect(0);
    let waits = newest_pid(&supd);
    let supd = supd.crash_and_restart();
    wait_until("the candidate to be gone", SOON, || !proc::alive(waits));
    let pid = wait_for("a worker", SOON, || {
        let status = supd.status("web");
        (status.state() == "active").then(|| status.pids_in(status.active()?).first().copied()).flatten()
    });
    assert_eq!(ask(port), pid);
}

fn refused() {
    let supd = Supd::start();
    let port = free_port();
    let program = plain(port);
    let text = unit(&supd, &at(port), &program);
    supd.write_unit("web", &text);
    supd.ctl(&["daemon-reload"]).expect(0);
    supd.ctl(&["stop", "web"]).expect(0);
    let refuse = |why: &str, next: &str| {
        let output = supd.ctl(&["swap", "web", "--unbound"]).expect(3);
        assert!(output.text().contains(why) && output.text().contains(next), "{output}");
    };
    refuse("nothing serves", "supctl start web");
    supd.ctl(&["start", "web"]).expect(0);
    let pid = ask(port);
    supd.write_unit("web", &text.replace("[Swap]", "Ready = \"started\"\n[Swap]"));
    refuse("counts as ready before it binds", "write Ready = \"listen\"");
    supd.write_unit("web", &text.replace("Handoff = \"intercept\"", "Handoff = \"inherit\""));
    refuse("it binds nothing itself", "supctl swap web --hold");
    assert_eq!((ask(port), supd.status("web").pids().len()), (pid, 1));
}
