//! `start --take-from`: a server that runs gives its listening sockets to supd, and nobody notices.

use crate::harness::{Output, Running, SUPCTL_BOUND, Setup, Supd, free_port, whole_machine};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, holds_for, wait_until};
use crate::{Need, Test, proc, test_with};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PYTHON: Need = Need::File("/usr/bin/python3", "apt-get install python3");
const OTHERS: &[Need] = &[Need::Root, PYTHON, Need::Program("setpriv", "util-linux")];

/// Answers before, between and after the moves of a test.
const BETWEEN: u64 = 500;

pub(crate) fn tests() -> Vec<Test> {
    let python = &[PYTHON];
    vec![
        test_with("take_from::nothing_is_lost_over_ipv4", python, ipv4),
        test_with("take_from::nothing_is_lost_over_ipv6", python, ipv6),
        test_with("take_from::nothing_is_lost_at_a_path", python, path),
        test_with("take_from::a_path_that_the_old_one_removes", python, removed_path),
        test_with("take_from::a_socket_that_the_old_one_shuts_down", python, shut_down),
        test_with("take_from::what_a_child_listens_on", python, of_a_child),
        test_with("take_from::the_old_one_is_stopped_by_a_signal", python, sigstopped),
        test_with("take_from::a_start_that_fails_and_a_stop_leave_the_old_one_alone", python, fails),
        test_with("take_from::refused", python, refused),
        test_with("take_from::two_queues_at_one_address", python, two_queues),
        test_with("take_from::the_rest_is_bound", python, rest_is_bound),
        test_with("take_from::the_old_one_ends_meanwhile", python, ends_meanwhile),
        test_with("take_from::by_the_name_of_a_service", python, by_name),
        test_with("take_from::rehearsed", python, rehearsed),
        test_with("take_from::of_an_ordinary_user", OTHERS, of_a_user),
        test_with("take_from::of_another_user", OTHERS, of_another_user),
    ]
}

fn script() -> String {
    format!("{}/tests/daemon/apps/olden.py", env!("CARGO_MANIFEST_DIR"))
}

/// A server that nobody supervises.
pub(crate) struct Old(Child);

impl Old {
    pub(crate) fn start(address: &str, how: &[&str]) -> Self {
        Self::start_as(&mut Command::new("/usr/bin/python3"), &script(), address, how)
    }

    fn start_as(command: &mut Command, script: &str, address: &str, how: &[&str]) -> Self {
        let command = command.args([script, "old", address]).args(how);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a python");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        output.read_line(&mut line).expect("its output");
        assert_eq!(line, "ready\n");
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    fn is_alive(&self) -> bool {
        proc::alive(self.pid())
    }

    pub(crate) fn end(&mut self) {
        proc::signal(self.pid(), Signal::SIGTERM);
        self.0.wait().expect("its end");
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        for pid in proc::children(self.pid()).into_iter().chain([self.pid()]) {
            proc::signal(pid, Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

/// The same server under supd, as this version.
fn unit(address: &str, version: &str) -> String {
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = {address:?}\n\n[Service]\n\
         ExecStart = [\"/usr/bin/python3\", {:?}, {version:?}, {address:?}, \"lent\"]\nReadySettleSec = \"100ms\"\n\
         TimeoutStopSec = \"10s\"\n\n[Swap]\nProbationSec = \"300ms\"\nDrainSec = \"500ms\"\n",
        script()
    )
}

fn local() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

fn supd_with(address: &str) -> Supd {
    let supd = Supd::start();
    supd.write_unit("web", &unit(address, "new"));
    supd.ctl(&["daemon-reload"]).expect(0);
    supd
}

fn take(supd: &Supd, old: &Old) -> Output {
    supd.ctl(&["start", "web", "--take-from", &old.pid().to_string()])
}

fn load(target: &Target) -> Load {
    Load::start(Plan::new(target.clone(), Mode::Close, 8).think(Duration::from_millis(4)))
}

/// Who answers one request.
fn who(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("a connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let by = answer.lines().find_map(|line| line.strip_prefix("X-Served-By: ")).expect("a version");
    by.split('/').next().unwrap_or_default().to_owned()
}

fn who_at(address: SocketAddr) -> String {
    let stream = TcpStream::connect_timeout(&address, SOON).expect("somebody listens");
    stream.set_read_timeout(Some(SOON)).expect("a time above zero");
    who(stream)
}

fn has_ended(supd: &Supd) -> bool {
    supd.log().contains("has ended: nobody else accepts there any more")
}

/// From the old server to supd, the old one ended, and a swap after it: all under load.
fn moves(address: &str, target: &Target) {
    let _alone = whole_machine();
    let supd = supd_with(address);
    let mut old = Old::start(address, &[]);
    let load = load(target);
    load.wait_for_more(BETWEEN, SOON);

    let told = take(&supd, &old).expect(0).stdout;
    let remedy = format!("still accepts there: kill {}, after that only web serves", old.pid());
    assert!(told.contains(&remedy), "{told}");
    assert!(told.contains(&format!("took {address} from python3")), "{told}");
    load.wait_for_more(BETWEEN, SOON);
    assert!(old.is_alive(), "supd signals nobody");
    let shown = supd.ctl(&["status", "web"]).expect(0).stdout;
    assert!(shown.contains(&format!("still accepts there: kill {}", old.pid())), "{shown}");

    old.end();
    wait_until("supd to hear of its end", SOON, || has_ended(&supd));
    let alone = load.now();
    load.wait_for_more(BETWEEN, SOON);
    let shown = supd.ctl(&["status", "web"]).expect(0).stdout;
    assert!(!shown.contains("still accepts there"), "{shown}");
    // What it has now is a listener like any other.
    supd.write_unit("web", &unit(address, "newer"));
    supd.ctl(&["swap", "web"]).expect(0);
    load.wait_for_more(BETWEEN, SOON);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    let versions = tally.versions();
    assert!(["old", "new", "newer"].iter().all(|version| versions.contains_key(*version)), "{tally}");
    assert!(!tally.versions_since(alone).contains_key("old"), "{tally}");
    assert!(history(&supd).iter().any(|entry| entry["what"] == "taken"), "{:?}", history(&supd));
}

fn history(supd: &Supd) -> Vec<Value> {
    let output = supd.ctl(&["--json", "history", "web"]).expect(0);
    let mut reply: Value = serde_json::from_str(&output.stdout).expect("JSON");
    reply["entries"].as_array_mut().map(std::mem::take).unwrap_or_else(|| panic!("{output}"))
}

fn ipv4() {
    let address = local();
    moves(&address.to_string(), &Target::Tcp(address));
}

fn ipv6() {
    let address: SocketAddr = format!("[::1]:{}", free_port()).parse().expect("an address");
    moves(&address.to_string(), &Target::Tcp(address));
}

fn path() {
    let folder = crate::harness::folder();
    let path = folder.path().join("web.sock");
    moves(&path.to_string_lossy(), &Target::Unix(path.clone()));
}

/// Nobody asks for a status, which would put it back as well.
fn removed_path() {
    let folder = crate::harness::folder();
    let path = folder.path().join("web.sock");
    let address = path.to_string_lossy().into_owned();
    let supd = supd_with(&address);
    let mut old = Old::start(&address, &["unlink"]);
    take(&supd, &old).expect(0);
    old.end();
    wait_until("the path to be back", SOON, || UnixStream::connect(&path).is_ok());
    assert_eq!(who(UnixStream::connect(&path).expect("a path")), "new");
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(!path.exists(), "it was supd's alone");
}

fn shut_down() {
    let address = local();
    let supd = supd_with(&address.to_string());
    let mut old = Old::start(&address.to_string(), &["shutdown"]);
    take(&supd, &old).expect(0);
    old.end();
    wait_until("the listener to listen again", SOON, || supd.log().contains("it listens again"));
    assert_eq!(who_at(address), "new");
}

fn of_a_child() {
    let address = local();
    let supd = supd_with(&address.to_string());
    let mut old = Old::start(&address.to_string(), &["child"]);
    take(&supd, &old).expect(0);
    assert!(!has_ended(&supd));
    old.end();
    wait_until("supd to hear of its end", SOON, || has_ended(&supd));
    assert_eq!(who_at(address), "new");
}

/// It is as good as any other: whom nobody accepts for is served by the new one.
fn sigstopped() {
    let address = local();
    let supd = supd_with(&address.to_string());
    let old = Old::start(&address.to_string(), &[]);
    proc::signal(old.pid(), Signal::SIGSTOP);
    let waits = TcpStream::connect_timeout(&address, SOON).expect("a place in the queue");
    take(&supd, &old).expect(0);
    waits.set_read_timeout(Some(SOON)).expect("a time above zero");
    assert_eq!(who(waits), "new");
}

/// Whatever becomes of the unit, nobody is kept from the server that runs.
fn fails() {
    let address = local();
    let supd = Supd::start();
    let text = unit(&address.to_string(), "new");
    let broken = text.replace("[\"/usr/bin/python3\"", "[\"/bin/false\", \"/usr/bin/python3\"");
    let once = "ReadySettleSec = \"100ms\"\nRestart = \"no\"\nWhenDown = \"refuse\"";
    supd.write_unit("web", &broken.replace("ReadySettleSec = \"100ms\"", once));
    supd.ctl(&["daemon-reload"]).expect(0);
    let old = Old::start(&address.to_string(), &[]);
    let load = load(&Target::Tcp(address));
    load.wait_for_more(BETWEEN, SOON);
    let told = take(&supd, &old).expect(7).text();
    assert!(told.contains("accepts there as before"), "{told}");
    load.wait_for_more(BETWEEN, SOON);
    supd.ctl(&["stop", "web"]).expect(0);
    load.wait_for_more(BETWEEN, SOON);
    // Once more, and this time it works; then it is stopped, although the old one still serves.
    supd.write_unit("web", &text);
    take(&supd, &old).expect(0);
    load.wait_for_more(BETWEEN, SOON);
    supd.ctl(&["stop", "web"]).expect(0);
    load.wait_for_more(BETWEEN, SOON);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.versions().contains_key("new"), "{tally}");
    assert_eq!(who_at(address), "old");
}

fn refused() {
    let address = local();
    let supd = supd_with(&address.to_string());
    let start = |from: &str| supd.ctl(&["start", "web", "--take-from", from]);
    // The number of a process that was.
    let mut gone = Command::new("/bin/true").spawn().expect("a program");
    gone.wait().expect("its end");
    let told = start(&gone.id().to_string()).expect(3).stderr;
    assert!(told.contains(&format!("there is no process {}", gone.id())), "{told}");
    assert!(start(&supd.pid().to_string()).expect(3).stderr.contains("that is supd itself"));
    start("0").expect(2);
    start("nginx.socket").expect(2);

    // One that listens somewhere else.
    let elsewhere = local();
    let old = Old::start(&elsewhere.to_string(), &[]);
    let told = take(&supd, &old).expect(3).stderr;
    let expected =
        format!("does not listen on {address}: it listens on {elsewhere}; let the file of web say the same");
    assert!(told.contains(&expected), "{told}");
    assert_eq!(supd.status("web").state(), "stopped");
    assert!(TcpListener::bind(address).is_ok(), "nothing is bound");
    drop(old);

    // What serves is left alone.
    supd.ctl(&["start", "web"]).expect(0);
    let old = Old::start(&elsewhere.to_string(), &[]);
    let told = take(&supd, &old).expect(0).stdout;
    assert!(told.contains("is active already"), "{told}");
    assert!(!history(&supd).iter().any(|entry| entry["what"] == "taken"));
    supd.ctl(&["stop", "web", "--keep-listening"]).expect(0);
    let told = take(&supd, &old).expect(3).stderr;
    assert!(told.contains("there is nothing to take") && told.contains("supctl start web"), "{told}");
}

/// The queue of one of them would be lost with the server.
fn two_queues() {
    let address = local();
    let supd = supd_with(&address.to_string());
    let old = Old::start(&address.to_string(), &["twice"]);
    let told = take(&supd, &old).expect(3).stderr;
    assert!(told.contains(&format!("2 sockets listen at {address}")), "{told}");
    assert!(told.contains("turn SO_REUSEPORT off"), "{told}");
    assert_eq!(supd.status("web").state(), "stopped");
}

/// What the server has not is bound, if it is free; else it is said who has it, and nothing is taken.
fn rest_is_bound() {
    let (address, second) = (local(), local());
    let supd = Supd::start();
    let more = format!("[[Socket]]\nName = \"more\"\nListenStream = \"{second}\"\n\n[Service]");
    supd.write_unit("web", &unit(&address.to_string(), "new").replace("[Service]", &more));
    supd.ctl(&["daemon-reload"]).expect(0);
    let old = Old::start(&address.to_string(), &[]);
    let taken = TcpListener::bind(second).expect("a free port");
    let told = take(&supd, &old).expect(7).stderr;
    assert!(told.contains(&format!("{second} was in use by")), "{told}");
    assert_eq!(who_at(address), "old");
    drop(taken);
    let told = take(&supd, &old).expect(0).stdout;
    assert!(told.contains(&format!("took {address} from")) && !told.contains(&second.to_string()), "{told}");
    TcpStream::connect_timeout(&second, SOON).expect("it is bound");
    // Wider than the file says is not what the file says.
    supd.ctl(&["stop", "web"]).expect(0);
    drop(old);
    let old = Old::start(&address.to_string(), &["wild"]);
    let told = take(&supd, &old).expect(3).stderr;
    assert!(told.contains(&format!("it listens on 0.0.0.0:{}", address.port())), "{told}");
}

/// Whenever it ends, either its sockets were taken, or nothing has begun.
fn ends_meanwhile() {
    let supd = Supd::start();
    for round in 0..8 {
        let address = local();
        supd.write_unit("web", &unit(&address.to_string(), "new"));
        supd.ctl(&["daemon-reload"]).expect(0);
        let old = Old::start(&address.to_string(), &[]);
        let asked = supd.ctl_start(&["start", "web", "--take-from", &old.pid().to_string()]);
        crate::wait::pause(Duration::from_millis(3 * round));
        proc::signal(old.pid(), Signal::SIGKILL);
        let output = asked.finish(SUPCTL_BOUND);
        match output.code() {
            0 => assert_eq!(who_at(address), "new", "{output}"),
            3 => {
                let gone =
                    ["there is no process", "has ended", "does not listen on", "has changed meanwhile"];
                assert!(gone.iter().any(|text| output.stderr.contains(text)), "{output}");
                assert_eq!(supd.status("web").state(), "stopped");
            }
            _ => panic!("{output}"),
        }
        drop(old);
        supd.ctl(&["stop", "web"]).expect(0);
        assert!(TcpListener::bind(address).is_ok(), "nobody has it any more: {output}");
    }
}

/// A systemctl of the test's own stands for systemd's.
fn by_name() {
    let address = local();
    let supd = supd_with(&address.to_string());
    let old = Old::start(&address.to_string(), &[]);
    let programs = supd.path().join("programs");
    fs::create_dir(&programs).expect("a folder");
    let start = |name: &str| {
        let mut command = supd.ctl_command(&["start", "web", "--take-from", name]);
        Running::start(command.env("PATH", &programs)).finish(SUPCTL_BOUND)
    };
    let told = start("shop").expect(3).stderr;
    assert!(told.contains("there is no systemctl") && told.contains("--take-from PID"), "{told}");

    let systemctl = |script: &str| {
        let path = programs.join("systemctl");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    };
    systemctl("echo 'System has not been booted with systemd' >&2; exit 1");
    assert!(start("shop").expect(3).stderr.contains("System has not been booted with systemd"));
    systemctl("echo MainPID=0; echo LoadState=not-found; echo ActiveState=inactive");
    assert!(start("shop").expect(3).stderr.contains("systemd knows no shop.service"));
    systemctl(&format!(
        "case \"$*\" in *'-- shop.service') echo MainPID={}; echo LoadState=loaded; echo ActiveState=active;; esac",
        old.pid()
    ));
    start("shop.service").expect(0);
    assert!(supd.ctl(&["status", "web"]).expect(0).stdout.contains("still accepts there"));
}

fn rehearsed() {
    let address = local();
    let supd = supd_with(&address.to_string());
    let old = Old::start(&address.to_string(), &[]);
    let pid = old.pid().to_string();
    let rehearse = |pid: &str| supd.ctl(&["--dry-run", "start", "web", "--take-from", pid]);
    let told = rehearse(&pid).expect(0).stdout;
    assert!(told.contains(&format!("would take {address} from python3")), "{told}");
    assert!(told.contains("and launch generation 1"), "{told}");
    assert_eq!(supd.status("web").state(), "stopped");
    let mut idle = Command::new("sleep").arg("60").spawn().expect("a program");
    let told = rehearse(&idle.id().to_string()).expect(3).stderr;
    idle.kill().expect("it runs");
    idle.wait().expect("its end");
    assert!(told.contains(&format!("does not listen on {address}: it listens on nothing")), "{told}");
    holds_for("it to serve alone", Duration::from_millis(200), || who_at(address) == "old");
}

/// For the user whose process it is, supd needs no right that he has not.
fn of_a_user() {
    let user = 65534;
    let supd = Supd::start_with(&Setup { user: Some(user), ..Setup::default() });
    let (address, script) = (local(), supd.app().join("olden.py"));
    fs::copy(self::script(), &script).expect("a program");
    let script = script.to_string_lossy().into_owned();
    supd.write_unit("web", &unit(&address.to_string(), "new").replace(&self::script(), &script));
    supd.ctl(&["daemon-reload"]).expect(0);
    let mut command = as_user(user, Path::new("/usr/bin/python3"));
    let old = Old::start_as(&mut command, &script, &address.to_string(), &[]);
    let asked = ask_as(&supd, user, old.pid());
    asked.expect(0);
    drop(old);
    assert_eq!(who_at(address), "new");
}

/// Who may act on the unit may not for that reach into somebody else's process.
fn of_another_user() {
    let user = 65534;
    let supd = Supd::start_with(&Setup { user: Some(user), ..Setup::default() });
    let address = local();
    supd.write_unit("web", &unit(&address.to_string(), "new"));
    supd.ctl(&["daemon-reload"]).expect(0);
    // Root's.
    let old = Old::start(&address.to_string(), &[]);
    let told = ask_as(&supd, user, old.pid()).expect(77).stderr;
    let expected = format!("--take-from is for root and for the user that process {} runs as", old.pid());
    assert!(told.contains(&expected), "{told}");
    // Root may, and yet this supd cannot.
    let told = take(&supd, &old).expect(3).stderr;
    assert!(told.contains("the kernel does not let supd take a socket"), "{told}");
    assert!(told.contains("run supd as root") || told.contains("run it as root"), "{told}");
    assert_eq!(supd.status("web").state(), "stopped");
}

fn as_user(user: u32, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]);
    command.arg(program);
    command
}

fn ask_as(supd: &Supd, user: u32, pid: u32) -> Output {
    let mut command = as_user(user, &supd.app().join("supctl"));
    command.arg("--runtime").arg(supd.runtime()).args(["start", "web", "--take-from", &pid.to_string()]);
    Running::start(&mut command).finish(SUPCTL_BOUND)
}
