//! supd and its keeper die in one moment, and nobody stores anything for supd: its workers alone have the listeners.

use crate::harness::{Running, Setup, Status, Supd, free_port};
use crate::survival::{address, loads, more, nothing_is_lost, serving};
use crate::take_from::Old;
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::net::TcpStream;
use std::process::Command;

const PYTHON_AS_ROOT: &[Need] = &[Need::Root, Need::File("/usr/bin/python3", "apt-get install python3")];

pub(crate) fn tests() -> Vec<Test> {
    let root = &[Need::Root];
    let python = &[Need::File("/usr/bin/python3", "apt-get install python3")];
    vec![
        test("last_resort::under_load", || under_load(Supd::start())),
        test_with("last_resort::under_load_without_ebpf", root, || under_load(Supd::without_ebpf())),
        test_with("last_resort::of_an_ordinary_user", root, of_an_ordinary_user),
        test_with("last_resort::what_workers_of_another_user_say", PYTHON_AS_ROOT, what_another_user_says),
        test("last_resort::who_is_not_ready_is_ended", who_is_not_ready),
        test_with("last_resort::what_one_closed_another_has", python, what_one_closed),
        test_with("last_resort::who_has_none_is_launched_again", python, who_has_none),
        test_with("last_resort::why_a_socket_cannot_be_had", root, why_it_cannot_be_had),
        test_with("last_resort::what_is_shared_with_a_stranger_stays_so", python, shared_with_a_stranger),
        test("last_resort::one_unit_alone_begins_from_nothing", one_unit_alone),
    ]
}

/// What `happens` while nobody is there.
fn dies_with_its_keeper(supd: Supd, happens: impl FnOnce(&Supd)) -> Supd {
    let keeper = supd.keeper().expect("a keeper");
    supd.crash_and_go_on_after(|supd| {
        proc::signal(keeper, Signal::SIGKILL);
        wait_until("its end", SOON, || !proc::alive(keeper));
        happens(supd);
    })
}

fn settled(supd: &Supd) -> Status {
    supd.wait_for_state("web", "active")
}

/// Nobody but the workers has a listener any more, and it is had from those who receive the traffic.
fn under_load(supd: Supd) {
    let port = serving(&supd, "Workers = 2", "Retain = \"warm\"");
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    let (before, loads) = (settled(&supd), loads(address(port)));
    let supd = dies_with_its_keeper(supd, |_| ());
    let after = settled(&supd);
    assert_eq!(after.pids_in(2), before.pids_in(2), "{}", supd.log());
    assert!(after.pids_in(1).is_empty(), "it could be led to");
    more(&loads);
    // All is as it was: slots, shares, what workers say.
    supd.install_worker("3");
    supd.ctl(&["swap", "web", "--canary", "50%"]).expect(0);
    more(&loads);
    supd.ctl(&["promote", "web"]).expect(0);
    more(&loads);
    supd.ctl(&["rollback", "web"]).expect(0);
    assert_eq!(supd.status("web").active(), Some(2), "to who stood by");
    more(&loads);
    nothing_is_lost(loads);
}

fn of_an_ordinary_user() {
    under_load(Supd::start_with(&Setup { user: Some(1234), ..Setup::default() }));
}

/// The new notify socket is theirs as the old one was: one whose watchdog is not heard would be ended.
fn what_another_user_says() {
    let supd = Supd::start();
    let port = free_port();
    let script = "import os, socket, time\nlistener = socket.socket(fileno=3)\nlistener.settimeout(0.1)\n\
                  def say(text):\n    n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n    \
                  n.connect(os.environ['NOTIFY_SOCKET'])\n    n.send(text)\n    n.close()\n\
                  say(b'READY=1')\nwhile True:\n    \
                  try: say(b'WATCHDOG=1\\nSTATUS=%d' % time.monotonic_ns())\n    except OSError: pass\n    \
                  try: listener.accept()\n    except OSError: pass\n";
    let script = serde_json::to_string(script).expect("a string");
    supd.launch(
        "web",
        &format!(
            "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n[Service]\nReadySettleSec = \"100ms\"\n\
             User = \"nobody\"\nWatchdogSec = \"1s\"\nExecStart = [\"/usr/bin/python3\", \"-c\", {script}]\n"
        ),
    );
    let said =
        |supd: &Supd| supd.status("web").0["generations"][0]["status_text"].as_str().map(str::to_owned);
    let before = settled(&supd).pids();
    let supd = dies_with_its_keeper(supd, |_| ());
    assert_eq!(settled(&supd).pids(), before, "{}", supd.log());
    let first = wait_for("a word of it", SOON, || said(&supd).filter(|said| !said.is_empty()));
    let since = std::time::Instant::now();
    wait_until("words for longer than its watchdog", SOON, || {
        said(&supd).is_some_and(|said| said != first) && since.elapsed() > std::time::Duration::from_secs(2)
    });
    assert_eq!(supd.status("web").pids(), before, "{}", supd.log());
}

/// A relaunched worker that has not said that it is ready: whoever goes on with it would wait for ever.
fn who_is_not_ready() {
    let supd = Supd::start();
    let port = free_port();
    supd.install_worker("1");
    // The second launch says nothing.
    let (worker, flag) = (supd.app().join("worker"), supd.app().join("launched"));
    let script =
        format!("test -e {0} && exec {1} never-ready; : > {0}; exec {1}", flag.display(), worker.display());
    let text = supd.worker(port, &[], "", "");
    let (head, tail) = text.split_once("ExecStart = [").expect("what is started");
    let (_, tail) = tail.split_once("]\n").expect("its end");
    supd.launch("web", &format!("{head}ExecStart = [\"/bin/sh\", \"-c\", {script:?}]\n{tail}"));
    let first = settled(&supd).pids()[0];
    proc::signal(first, Signal::SIGKILL);
    let deaf = wait_for("another worker", SOON, || {
        supd.status("web").pids().first().copied().filter(|pid| *pid != first)
    });
    wait_until("it to serve", SOON, || proc::command_line(deaf).contains("never-ready"));
    let supd = dies_with_its_keeper(supd, |_| fs::remove_file(&flag).expect("the flag"));
    let after = settled(&supd);
    assert!(!proc::alive(deaf), "{}", supd.log());
    assert!(!supd.log().contains("have the sockets still"), "{}", supd.log());
    assert!(!after.pids().contains(&deaf), "{}", after.0);
    nothing_is_lost(loads(address(port)));
}

/// Each of the workers has closed one of two listeners, or (`all`) one that no other has.
fn halves(supd: &Supd, all: bool) -> [u16; 2] {
    let ports = [free_port(), free_port()];
    let keeps = if all { "3" } else { "3 + int(os.environ['SUPD_WORKER'])" };
    let script = format!(
        "import os, socket\nkept = {keeps}\nos.close(7 - kept)\n\
         s = socket.socket(fileno=kept)\n\
         n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         n.connect(os.environ['NOTIFY_SOCKET'])\nn.send(b'READY=1')\n\
         while True:\n    c = s.accept()[0]\n    c.sendall(b'x')\n    c.close()\n"
    );
    supd.launch(
        "web",
        &format!(
            "[[Socket]]\nName = \"a\"\nListenStream = \"127.0.0.1:{}\"\n\
             [[Socket]]\nName = \"b\"\nListenStream = \"127.0.0.1:{}\"\n\
             [Service]\nWorkers = 2\nReadySettleSec = \"100ms\"\n\
             ExecStart = [\"/usr/bin/python3\", \"-c\", {}]\n[Swap]\nProbationSec = \"100ms\"\n",
            ports[0],
            ports[1],
            serde_json::to_string(&script).expect("a string"),
        ),
    );
    ports
}

fn what_one_closed() {
    let supd = Supd::start();
    let ports = halves(&supd, false);
    let before = settled(&supd).pids();
    let supd = dies_with_its_keeper(supd, |_| ());
    assert_eq!(settled(&supd).pids(), before, "{}", supd.log());
    for port in ports {
        let mut stream = TcpStream::connect(address(port)).expect("a listener");
        stream.set_read_timeout(Some(SOON)).expect("a time above zero");
        assert_eq!(std::io::Read::read(&mut stream, &mut [0; 2]).expect("an answer"), 1);
    }
}

fn who_has_none() {
    let supd = Supd::start();
    let [_, closed] = halves(&supd, true);
    let before = settled(&supd).pids();
    let supd = dies_with_its_keeper(supd, |_| ());
    let after = settled(&supd).pids();
    assert!(after.len() == 2 && after.iter().all(|pid| !before.contains(pid)), "{}", supd.log());
    let why = format!("web: none of its workers has a socket at 127.0.0.1:{closed}: its workers are ended");
    assert!(supd.log().contains(&why), "{}", supd.log());
}

/// Linux lets nobody but root look into a process that may not be dumped (prctl(2)).
fn why_it_cannot_be_had() {
    let supd = Supd::start_with(&Setup { user: Some(1234), ..Setup::default() });
    let port = free_port();
    let script = "import ctypes, os, socket\nctypes.CDLL(None).prctl(4, 0)\ns = socket.socket(fileno=3)\n\
                  n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\nn.connect(os.environ['NOTIFY_SOCKET'])\n\
                  n.send(b'READY=1')\nwhile True:\n    s.accept()\n";
    let script = serde_json::to_string(script).expect("a string");
    supd.launch(
        "web",
        &format!(
            "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n[Service]\nReadySettleSec = \"100ms\"\n\
             ExecStart = [\"/usr/bin/python3\", \"-c\", {script}]\n"
        ),
    );
    let before = settled(&supd).pids()[0];
    let supd = dies_with_its_keeper(supd, |_| ());
    assert_ne!(settled(&supd).pids()[0], before, "{}", supd.log());
    let why =
        format!("the kernel does not let supd take a socket out of process {before}: supd runs as user 1234");
    assert!(supd.log().contains(&why), "{}", supd.log());
}

/// A server that supd has taken its listener from runs on: that one is not supd's to steer, in the next one neither.
fn shared_with_a_stranger() {
    let port = free_port();
    let mut old = Old::start(&address(port).to_string(), &[]);
    let supd = Supd::start();
    supd.install_worker("1");
    supd.write_unit("web", &supd.worker(port, &[], "", ""));
    supd.ctl(&["daemon-reload"]).expect(0);
    supd.ctl(&["start", "web", "--take-from", &old.pid().to_string()]).expect(0);
    let how = |status: &Status| status.0["listeners"][0]["mechanism"].as_str().map(str::to_owned);
    let before = settled(&supd);
    assert!(how(&before).is_some_and(|how| how.starts_with("shared")), "{}", before.0);
    let supd = dies_with_its_keeper(supd, |_| ());
    let after = settled(&supd);
    assert_eq!(after.pids(), before.pids(), "{}", supd.log());
    assert!(how(&after).is_some_and(|how| how.starts_with("shared")), "{}", after.0);
    assert_eq!(after.0["listeners"][0]["steered"], Value::Bool(false), "{}", after.0);
    // And a swap goes as it goes there.
    let loads = loads(address(port));
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    old.end();
    more(&loads);
    nothing_is_lost(loads);
}

/// `supd --unit` leaves nobody to go on with, and goes on with nobody.
fn one_unit_alone() {
    let supd = Supd::start();
    serving(&supd, "", "");
    let (before, keeper) = (settled(&supd).pids()[0], supd.keeper().expect("a keeper"));
    for pid in [supd.pid(), keeper] {
        proc::signal(pid, Signal::SIGKILL);
    }
    wait_until("their end", SOON, || supd.has_ended() && !proc::alive(keeper));
    let mut command = Command::new(env!("CARGO_BIN_EXE_supd"));
    command.arg("--unit").arg(supd.path().join("units/web.unit")).arg("--runtime").arg(supd.runtime());
    let alone = Running::start(command.arg("--state").arg(supd.state_folder()));
    let after = wait_for("it to serve", SOON, || {
        let status = supd.ctl(&["is-active", "web"]).code() == 0;
        status.then(|| supd.status("web").pids())
    });
    let ended = !proc::alive(before);
    proc::signal(alone.pid(), Signal::SIGTERM);
    let output = alone.finish(SOON).expect(0);
    assert!(ended && !after.contains(&before), "{output}");
}
