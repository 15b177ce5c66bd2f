//! `supd --unit FILE`: one unit in the foreground, which ends supd as it ends itself.

use crate::harness::{Output, Running, SUPCTL_BOUND, folder, free_port};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const CONTAINER: &[Need] = &[Need::Root, Need::Program("unshare", "util-linux")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("one_unit::ends_with_the_status_of_its_worker", status_of_its_worker),
        test("one_unit::what_is_relative_is_beside_the_file", beside_the_file),
        test("one_unit::a_faulty_file", faulty),
        test("one_unit::two_side_by_side_end_when_asked", side_by_side),
        test("one_unit::a_second_request_does_not_wait", second_request),
        test("one_unit::relaunches_and_reads_its_file_again", reads_again),
        test("one_unit::places_that_are_given_stay", given_places),
        test_with("one_unit::as_the_first_process", CONTAINER, first_process),
    ]
}

/// A folder with a unit file, and private folders made there.
struct Place {
    folder: TempDir,
    address: SocketAddr,
}

/// Whoever is left would keep a pipe of the test open.
impl Drop for Place {
    fn drop(&mut self) {
        let needle = self.path().to_string_lossy().into_owned();
        for pid in proc::with_environment(&needle, &[std::process::id()]) {
            proc::signal(pid, Signal::SIGKILL);
        }
    }
}

impl Place {
    fn new(script: &str, more: &str) -> Self {
        let place = Self { folder: folder(), address: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())) };
        fs::create_dir(place.path().join("tmp")).expect("a folder");
        place.write(script, more);
        place
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join("web.unit")
    }

    fn write(&self, script: &str, more: &str) {
        let text = format!(
            "[[Socket]]\nListenStream = \"{}\"\n\n[Service]\nExecStart = [\"/bin/sh\", \"-c\", {script:?}]\n\
             Ready = \"started\"\nReadySettleSec = \"100ms\"\n{more}\n\n[Swap]\nProbationSec = \"100ms\"\n\
             DrainSec = 0\n",
            self.address
        );
        fs::write(self.file(), text).expect("a unit file");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_supd"));
        command.arg("--unit").arg(self.file());
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        command.env("TMPDIR", self.path().join("tmp"));
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "SUPD_UNITS", "SUPD_RUNTIME", "SUPD_STATE"] {
            command.env_remove(name);
        }
    }

    fn start(&self) -> Running {
        Running::start(&mut self.command())
    }

    fn made(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join("tmp")).expect("a folder").flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// supctl, for the supd that has made its own folders.
    fn ctl(&self, arguments: &[&str]) -> Output {
        let made = wait_for("supd's folder", SOON, || self.made().into_iter().next());
        let mut command = Command::new(env!("CARGO_BIN_EXE_supctl"));
        command.arg("--runtime").arg(made.join("run")).args(arguments);
        Running::start(&mut command).finish(SUPCTL_BOUND)
    }

    fn wait_until_active(&self) {
        wait_until("the unit to be active", SOON, || {
            self.ctl(&["status", "web"]).stdout.contains("active")
                && self.ctl(&["is-active", "web"]).code() == 0
        });
    }

    fn is_clean(&self) -> bool {
        self.made().is_empty() && TcpListener::bind(self.address).is_ok()
    }
}

fn status_of_its_worker() {
    let place = Place::new("echo out of $SUPD_UNIT; echo err >&2; sleep 0.5; exit 7", "Restart = \"no\"");
    let output = place.start().finish(SOON).expect(7);
    assert!(output.stdout.contains("out of web\n"), "{output}");
    assert!(output.text().contains("err\n"), "{output}");
    assert!(output.stderr.contains(&format!("{}: supctl --runtime", place.file().display())), "{output}");
    assert!(place.is_clean(), "{:?}", place.made());
    // Before it was ready; by a signal; and well.
    place.write("exit 3", "Restart = \"no\"");
    place.start().finish(SOON).expect(3);
    place.write("sleep 0.5; kill -9 $$$$", "Restart = \"no\"");
    place.start().finish(SOON).expect(137);
    place.write("sleep 0.5; exit 0", "Restart = \"on-failure\"");
    place.start().finish(SOON).expect(0);
    assert!(place.is_clean(), "{:?}", place.made());
}

fn beside_the_file() {
    let place = Place::new("", "Restart = \"no\"");
    let program = place.path().join("bin/server");
    fs::create_dir(place.path().join("bin")).expect("a folder");
    fs::write(&program, "#!/bin/sh\necho in $(pwd) as $0\nsleep 0.5\nexit 4\n").expect("a program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
    let text = fs::read_to_string(place.file()).expect("a unit file");
    let text = text.replace("[\"/bin/sh\", \"-c\", \"\"]", "\"bin/server\"");
    fs::write(place.file(), text).expect("a unit file");
    let output = place.start().finish(SOON).expect(4);
    let told = format!("in {} as {}\n", place.path().display(), program.display());
    assert!(output.stdout.contains(&told), "{output}");
}

fn faulty() {
    let place = Place::new("exit 0", "Restrat = \"no\"\nWorkers = 0");
    let output = place.start().finish(SOON).expect(78);
    for fault in ["Restrat", "Workers", "web.unit:8", "web.unit:9"] {
        assert!(output.stderr.contains(fault), "{fault}: {output}");
    }
    assert!(place.is_clean(), "{:?}", place.made());
    fs::remove_file(place.file()).expect("it was there");
    assert!(place.start().finish(SOON).expect(78).stderr.contains("there is no such file"));
    let mut both = place.command();
    Running::start(both.args(["--units", "/tmp"])).finish(SOON).expect(2);
}

fn side_by_side() {
    let places = [0, 1].map(|_| Place::new("exec sleep 600", ""));
    // Another unit beside it is none of this supd's.
    fs::copy(places[0].file(), places[0].path().join("other.unit")).expect("a copy");
    let running = [places[0].start(), places[1].start()];
    for place in &places {
        place.wait_until_active();
        TcpStream::connect_timeout(&place.address, SOON).expect("it listens");
    }
    let listed = places[0].ctl(&["status"]).expect(0).stdout;
    assert!(listed.contains("web") && !listed.contains("other"), "{listed}");
    places[0].ctl(&["start", "other"]).expect(3);
    // Not that of the machine's supd, nor of the other one.
    let [first, second] = running;
    proc::signal(first.pid(), Signal::SIGTERM);
    first.finish(SOON).expect(0);
    assert!(places[0].is_clean(), "{:?}", places[0].made());
    places[1].wait_until_active();
    // What a person stops ends supd as well.
    places[1].ctl(&["stop", "web"]);
    second.finish(SOON);
    assert!(places[1].is_clean(), "{:?}", places[1].made());
}

fn second_request() {
    let place = Place::new("trap '' TERM INT; while :; do sleep 1; done", "TimeoutStopSec = \"5min\"");
    let running = place.start();
    place.wait_until_active();
    proc::signal(running.pid(), Signal::SIGINT);
    wait_until("the unit to be stopping", SOON, || place.ctl(&["status", "web"]).stdout.contains("stopping"));
    proc::signal(running.pid(), Signal::SIGINT);
    let output = running.finish(SOON).expect(0);
    assert!(output.stderr.contains("at once, as asked once more"), "{output}");
    assert!(place.is_clean(), "{:?}", place.made());
}

/// Restart is as ever, and SIGHUP reads the file.
fn reads_again() {
    let place = Place::new("exec sleep 600", "RestartSec = \"100ms\"");
    let running = place.start();
    place.wait_until_active();
    let worker = || {
        let text = place.ctl(&["--json", "status", "web"]).stdout;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        value.pointer("/generations/0/pids/0")?.as_u64().and_then(|pid| u32::try_from(pid).ok())
    };
    let first = wait_for("a worker", SOON, worker);
    proc::signal(first, Signal::SIGKILL);
    wait_until("another worker", SOON, || worker().is_some_and(|pid| pid != first));
    place.write("exec sleep 601", "RestartSec = \"100ms\"");
    proc::signal(running.pid(), Signal::SIGHUP);
    wait_until("the file to be read", SOON, || {
        place.ctl(&["status", "web"]).stdout.contains("changed on disk: supctl restart web")
    });
    proc::signal(running.pid(), Signal::SIGTERM);
    running.finish(SOON).expect(0);
}

fn given_places() {
    let place = Place::new("sleep 0.5; exit 5", "Restart = \"no\"");
    let (run, state) = (place.path().join("run"), place.path().join("state"));
    let mut command = place.command();
    Running::start(command.arg("--runtime").arg(&run).arg("--state").arg(&state)).finish(SOON).expect(5);
    assert!(state.join("ledger").exists() && place.is_clean(), "{:?}", place.made());
}

/// As PID 1 of a container: it reaps what is left to it, and ends in order when asked.
fn first_process() {
    // An orphan whose parent is gone, and which ends before the worker does.
    let script = "(sleep 0.3 & exec sleep 0.1) & trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done";
    let place = Place::new(script, "");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_supd"), "--unit"]).arg(place.file());
    place.prepare(&mut command);
    let running = Running::start(&mut command);
    place.wait_until_active();
    let supd = wait_for("supd", SOON, || proc::children(running.pid()).first().copied());
    let is_first = fs::read_to_string(format!("/proc/{supd}/status")).expect("it runs");
    assert!(is_first.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")), "{is_first}");
    wait_until("orphans to be reaped", SOON, || {
        let state = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let children = proc::children(supd);
        let zombies = children.iter().filter(|pid| state(pid).contains("State:\tZ")).count();
        let sleeps = children.iter().filter(|pid| proc::command_line(**pid).starts_with("sleep 0.3")).count();
        zombies == 0 && sleeps == 0
    });
    proc::signal(supd, Signal::SIGTERM);
    let output = running.finish(SOON).expect(0);
    assert!(output.stdout.contains("bye\n"), "{output}");
    assert!(place.is_clean(), "{:?}", place.made());
}
