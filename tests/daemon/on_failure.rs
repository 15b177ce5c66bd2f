//! ExecOnFailure: a person is told of what gets worse, once, and of nothing else.

use crate::harness::{Supd, free_port};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("on_failure::of_swaps", of_swaps),
        test("on_failure::of_the_start_limit_once", of_the_start_limit_once),
        test("on_failure::of_who_is_given_up", of_who_is_given_up),
        test("on_failure::of_a_port_that_is_taken_once", of_a_port_that_is_taken_once),
        test("on_failure::one_at_a_time_and_the_newest", one_at_a_time_and_the_newest),
        test("on_failure::one_that_hangs_is_ended", one_that_hangs_is_ended),
        test_with("on_failure::as_the_units_user", &[Need::Root], as_the_units_user),
    ]
}

/// One line for each time it is run; it waits for the file `go` where there is one called `wait`.
const SCRIPT: &str = "cd \"$1\"; echo >> began
    while [ -e wait ] && [ ! -e go ]; do sleep 0.02; done
    echo \"$SUPD_UNIT/$SUPD_GENERATION $SUPD_FAILURE $SERVICE_RESULT $EXIT_CODE $EXIT_STATUS: $SUPD_REASON\" >> told";

struct Told(PathBuf);

impl Told {
    fn new(supd: &Supd) -> Self {
        Self(supd.app())
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until it was told so often; what it was told last.
    fn wait_for(&self, times: usize) -> String {
        wait_for(&format!("{times} calls of ExecOnFailure"), SOON, || {
            let told = self.lines("told");
            assert!(told.len() <= times, "told too often: {told:#?}");
            (told.len() == times).then(|| told.last().cloned()).flatten()
        })
    }
}

fn key(supd: &Supd) -> String {
    let script = supd.app().join("tell");
    fs::write(&script, SCRIPT).expect("a script");
    format!("ExecOnFailure = [\"/bin/sh\", {script:?}, {:?}]", supd.app())
}

/// A candidate that dies, one that is sent back, one that a person takes back, and a supd that dies after all.
fn of_swaps() {
    let supd = Supd::start();
    supd.install_worker("1");
    let (port, told) = (free_port(), Told::new(&supd));
    let unit = |arguments: &[&str], swap: &str| supd.worker(port, arguments, &key(&supd), swap);
    supd.write_unit("web", &unit(&["die=3"], ""));
    supd.ctl(&["daemon-reload"]).expect(0);
    supd.ctl(&["start", "web"]).expect(7);
    let line = told.wait_for(1);
    assert!(line.starts_with("web/1 start-failed exit-code exited 3: generation 1"), "{line}");
    assert!(line.contains("nothing is serving, supd goes on trying"), "{line}");
    supd.ctl(&["stop", "web"]).expect(0);
    supd.launch("web", &unit(&[], ""));
    supd.write_unit("web", &unit(&["die=4"], ""));
    supd.ctl(&["swap", "web"]).expect(1);
    let line = told.wait_for(2);
    assert!(line.starts_with("web/3 swap-failed exit-code exited 4: generation 3"), "{line}");
    assert!(line.contains("generation 2 was not touched"), "{line}");
    supd.write_unit("web", &unit(&["ready-then-die=300"], "ProbationSec = \"1min\""));
    supd.ctl(&["swap", "web"]).expect(6);
    let line = told.wait_for(3);
    assert!(line.starts_with("web/4 rolled-back") && line.contains("rolled back to generation 2"), "{line}");
    // What a person takes back is told to that person.
    supd.write_unit("web", &unit(&[], ""));
    supd.ctl(&["swap", "web", "--hold"]).expect(0);
    supd.ctl(&["abort", "web"]).expect(0);
    // The next supd tells nothing of it once more.
    let supd = supd.crash_and_go_on();
    supd.wait_for_state("web", "active");
    supd.write_unit("web", &supd.worker(port, &["die=5"], &key(&supd), ""));
    supd.ctl(&["swap", "web"]).expect(1);
    let line = told.wait_for(4);
    assert!(line.contains("swap-failed exit-code exited 5"), "{line}");
}

/// Each end before that is nobody's business.
fn of_the_start_limit_once() {
    let supd = Supd::start();
    supd.install_worker("1");
    let told = Told::new(&supd);
    let service = format!("{}\nStartLimitBurst = 3", key(&supd));
    supd.launch("web", &supd.worker(free_port(), &["ready-then-die=200"], &service, ""));
    let line = told.wait_for(1);
    assert!(line.starts_with("web/1 start-limit start-limit-hit exited"), "{line}");
    assert!(line.contains("StartLimitBurst") && line.contains("nothing is serving"), "{line}");
    let status = supd.ctl(&["status", "web"]).stdout;
    assert!(status.contains("start limit hit"), "{status}");
    let ends = supd.log().matches("after its launch").count();
    assert!(ends >= 3, "{ends} ends:\n{}", supd.log());
    supd.ctl(&["stop", "web"]).expect(0);
    assert_eq!(told.lines("began").len(), 1);
}

/// Restart says no; a clean end is no failure.
fn of_who_is_given_up() {
    let supd = Supd::start();
    supd.install_worker("1");
    let told = Told::new(&supd);
    let service = format!("{}\nRestart = \"no\"", key(&supd));
    supd.launch("web", &supd.worker(free_port(), &[], &service, ""));
    let pid = supd.status("web").pids()[0];
    proc::signal(pid, Signal::SIGKILL);
    let line = told.wait_for(1);
    assert!(line.starts_with("web/1 ended signal killed KILL: generation 1: worker 0 failed"), "{line}");
    supd.ctl(&["start", "web"]).expect(0);
    proc::signal(supd.status("web").pids()[0], Signal::SIGTERM);
    supd.wait_for_state("web", "down");
    supd.ctl(&["stop", "web"]).expect(0);
    assert_eq!(told.lines("began").len(), 1, "{:?}", told.lines("told"));
}

/// It is tried again and again, and told once.
fn of_a_port_that_is_taken_once() {
    let supd = Supd::start();
    supd.install_worker("1");
    let (port, told) = (free_port(), Told::new(&supd));
    supd.launch("web", &supd.worker(port, &[], &key(&supd), ""));
    proc::signal(supd.pid(), Signal::SIGINT);
    let stranger = wait_for("the port to be free", SOON, || TcpListener::bind(("127.0.0.1", port)).ok());
    let supd = supd.restart_ended();
    let line = told.wait_for(1);
    assert!(line.contains(" start-failed ") && line.contains(&port.to_string()), "{line}");
    wait_until("more tries", SOON, || supd.log().matches("not launched").count() >= 3);
    drop(stranger);
    supd.wait_for_state("web", "active");
    assert_eq!(told.lines("began").len(), 1, "{:?}", told.lines("told"));
}

/// While one runs the newest of what happens is kept, and it stands in nobody's way.
fn one_at_a_time_and_the_newest() {
    let supd = Supd::start();
    supd.install_worker("1");
    let (port, told) = (free_port(), Told::new(&supd));
    let unit = |arguments: &[&str]| supd.worker(port, arguments, &key(&supd), "");
    supd.launch("web", &unit(&[]));
    fs::write(supd.app().join("wait"), "").expect("a file");
    for (code, generation) in [("die=3", 2), ("die=4", 3), ("die=5", 4)] {
        supd.write_unit("web", &unit(&[code]));
        supd.ctl(&["swap", "web"]).expect(1);
        if generation == 2 {
            wait_until("the first to begin", SOON, || told.lines("began").len() == 1);
        }
    }
    assert_eq!((told.lines("began").len(), told.lines("told").len()), (1, 0));
    fs::write(supd.app().join("go"), "").expect("a file");
    let line = told.wait_for(2);
    assert!(line.starts_with("web/4 swap-failed exit-code exited 5"), "{line}");
    assert!(told.lines("told")[0].starts_with("web/2 "), "{:?}", told.lines("told"));
    supd.ctl(&["stop", "web"]).expect(0);
    assert_eq!(told.lines("began").len(), 2);
}

/// Its time is TimeoutStartSec; then it and what it started are ended, and nothing else happens.
fn one_that_hangs_is_ended() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    let hangs = "ExecOnFailure = [\"/bin/sh\", \"-c\", \"sleep 4321 & echo $! > \\\"$1\\\"; wait\", \"sh\", ";
    let file = supd.app().join("pid");
    let service = format!("{hangs}{file:?}]\nTimeoutStartSec = \"1s\"");
    supd.launch("web", &supd.worker(port, &[], &service, ""));
    let before = supd.status("web").pids();
    supd.write_unit("web", &supd.worker(port, &["die=3"], &service, ""));
    supd.ctl(&["swap", "web"]).expect(1);
    let pid: u32 = wait_for("it to begin", SOON, || fs::read_to_string(&file).ok()?.trim().parse().ok());
    wait_until("it to be ended", SOON, || supd.log().contains("ExecOnFailure failed: it took longer"));
    wait_until("what it started to end", SOON, || !proc::alive(pid));
    assert_eq!(supd.status("web").pids(), before);
    supd.ctl(&["status", "--check", "web"]).expect(0);
}

fn as_the_units_user() {
    let supd = Supd::start();
    let unit = format!(
        "[[Socket]]\nListenStream = {}\n\n[Service]\nExecStart = \"/bin/false\"\nUser = \"nobody\"\n\
         ExecOnFailure = [[\"/usr/bin/id\", \"-un\"], \"-/bin/false\", [\"/bin/echo\", \"and the last\"]]\n",
        free_port()
    );
    supd.write_unit("web", &unit);
    supd.ctl(&["daemon-reload"]).expect(0);
    supd.ctl(&["start", "web"]).expect(7);
    wait_until("every command to have run", SOON, || {
        let logs = supd.logs();
        logs.contains("\nnobody\n") && logs.contains("and the last")
    });
}
