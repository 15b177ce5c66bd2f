//! A machine that has run out of descriptors, processes, memory or disk, at any moment.

use super::Serving;
use super::clients::{STATUS, reply};
use crate::harness::{Output, Running, Setup, Status, Supd, free_port};
use crate::wait::{SOON, holds_for, wait_until};
use crate::{Need, Test, proc, test_with};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PRLIMIT: &[Need] = &[Need::Program("prlimit", "util-linux"), Need::Program("setpriv", "util-linux")];
const NAMESPACE: &[Need] =
    &[Need::Root, Need::Program("unshare", "util-linux"), Need::Program("setpriv", "util-linux")];
const DISK: &[Need] = &[Need::Root, Need::Program("unshare", "util-linux"), Need::Program("mount", "mount")];

const ROLLBACK: &[u8] = b"{\"method\":\"dev.supd.Manager.Rollback\",\"parameters\":{\"unit\":\"web\"}}\0";

pub(super) fn tests() -> Vec<Test> {
    vec![
        test_with("hostile::limits::no_more_descriptors", PRLIMIT, no_more_descriptors),
        test_with("hostile::limits::descriptors_taken_by_clients", PRLIMIT, descriptors_taken_by_clients),
        test_with("hostile::limits::no_more_processes", PRLIMIT, no_more_processes),
        test_with("hostile::limits::no_process_for_a_crash", PRLIMIT, no_process_for_a_crash),
        test_with("hostile::limits::no_descriptor_for_a_crash", PRLIMIT, no_descriptor_for_a_crash),
        test_with("hostile::limits::no_process_for_the_writer", PRLIMIT, no_process_for_the_writer),
        test_with("hostile::limits::no_descriptor_for_the_writer", PRLIMIT, no_descriptor_for_the_writer),
        test_with("hostile::limits::no_process_for_a_copy", NAMESPACE, no_process_for_a_copy),
        test_with("hostile::limits::no_memory_for_any_fork", NAMESPACE, no_memory_for_any_fork),
        test_with("hostile::limits::no_memory_to_end_with", NAMESPACE, no_memory_to_end_with),
        test_with("hostile::limits::state_disk_is_full", DISK, state_disk_is_full),
        test_with("hostile::limits::runtime_disk_is_full", DISK, runtime_disk_is_full),
    ]
}

/// Sets a limit of supd alone (its workers keep what they were started with); the soft one, so that
/// it can be taken back.
fn limit(supd: &Supd, which: &str, value: &str) {
    // As supd's own user: for another's processes root needs CAP_SYS_RESOURCE, which containers
    // withhold.
    let mut command = match supd.user() {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={user}")).arg(format!("--regid={user}"));
            command.args(["--clear-groups", "prlimit"]);
            command
        }
        None => Command::new("prlimit"),
    };
    command.arg(format!("--pid={}", supd.pid())).arg(format!("--{which}={value}:"));
    Running::start(&mut command).finish(SOON).expect(0);
}

/// The hard limit of supd by its name in /proc/PID/limits, as prlimit takes it.
fn hard_limit(supd: &Supd, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{}/limits", supd.pid())).expect("its limits");
    let line = limits.lines().find(|line| line.starts_with(name)).expect("a limit of this name");
    line[name.len()..].split_ascii_whitespace().nth(1).expect("a hard limit").to_owned()
}

/// Any of the ends that say what happened; and where supd could not be asked at all, 4 or 5.
fn is_honest(output: &Output) {
    assert!(matches!(output.code(), 0 | 1 | 3 | 4 | 5 | 6), "{output}");
    assert!(output.code() == 0 || !output.text().trim().is_empty(), "a failure without a word:\n{output}");
}

/// A swap is tried, whatever comes of it; then the limit is lifted and all is well.
fn swap_in_need(serving: &Serving, need: impl Fn(bool)) {
    need(true);
    serving.supd.install_worker("2");
    // Where supd cannot even accept(2), supctl is what has a bound.
    let output = serving.supd.ctl(&["swap", "web", "--timeout", "15s"]);
    is_honest(&output);
    serving.serving_or_waiting();
    need(false);
    println!("exit status {}: {}", output.code(), output.text().lines().last().unwrap_or_default());
    // Unknown outcomes become known: nothing may be half done.
    serving.supd.ctl(&["wait", "web"]);
    serving.serving();
    if matches!(output.code(), 1 | 3 | 6) {
        assert_eq!(serving.supd.status("web").active(), serving.before.active(), "{output}");
    }
}

impl Serving {
    /// The load is answered, whether or not supd can be asked.
    fn serving_or_waiting(&self) {
        self.load.wait_for_more(50, SOON);
        assert_eq!(self.load.lost(), 0, "requests were lost");
    }
}

/// From none to a dozen free descriptors: the swap fails at another one each time.
fn no_more_descriptors() {
    for free in 0..14 {
        let serving = Serving::start();
        let used = proc::descriptors(serving.supd.pid());
        swap_in_need(&serving, |on| {
            let value = if on { (used + free).to_string() } else { "1024".into() };
            limit(&serving.supd, "nofile", &value);
        });
        serving.supd.install_worker("2");
        serving.supd.ctl(&["swap", "web"]).expect(0);
        serving.took_over();
    }
}

/// Clients hold all descriptors: accept(2) fails with EMFILE, and the loop does not spin over it.
fn descriptors_taken_by_clients() {
    let serving = Serving::start();
    let used = proc::descriptors(serving.supd.pid());
    limit(&serving.supd, "nofile", &(used + 3).to_string());
    let clients: Vec<UnixStream> =
        (0..20).filter_map(|_| UnixStream::connect(serving.supd.control()).ok()).collect();
    let before = proc::ticks(serving.supd.pid());
    holds_for("supd to live", Duration::from_secs(1), || serving.supd.is_alive());
    let spent = proc::ticks(serving.supd.pid()) - before;
    assert!(spent < 30, "supd spun for {spent} of 100 ticks while it had no descriptor");
    serving.serving_or_waiting();
    drop(clients);
    limit(&serving.supd, "nofile", "1024");
    serving.supd.ctl(&["status"]).expect(0);
    serving.unharmed();
}

/// EAGAIN from fork. The limit does not bind root, so root's supd runs as nobody here.
fn no_more_processes() {
    let user = nix::unistd::geteuid().is_root().then_some(65_534);
    let serving = Serving::start_with(&Setup { user, ..Setup::default() });
    let hard = hard_limit(&serving.supd, "Max processes");
    swap_in_need(&serving, |on| limit(&serving.supd, "nproc", if on { "0" } else { &hard }));
    serving.supd.install_worker("2");
    serving.supd.ctl(&["swap", "web"]).expect(0);
    serving.took_over();
}

const EAGAIN: &str = "(EAGAIN: as many processes as may be";
const EMFILE: &str = "Too many open files";
const ENOMEM: &str = "(ENOMEM: no memory";

/// A supd with a unit `web`, without load. Root's runs as a user of its own: RLIMIT_NPROC does not
/// bind root, and counts what a user has in all.
fn quiet(wrapper: &[&str], user: u32) -> (Supd, u16) {
    let user = (nix::unistd::geteuid().is_root() && user != 0).then_some(user);
    let wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
    let supd = Supd::start_with(&Setup { user, wrapper, ..Setup::default() });
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "StartLimitBurst = 0", ""));
    (supd, port)
}

/// Says GET and hands out the way to the answer, which may take its time.
fn request(port: u16) -> TcpStream {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect(address).expect("the listener is open");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    stream
}

fn is_served(mut stream: TcpStream) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The worker dies while it cannot be launched again: the log says why, supd does not spin over it,
/// who comes waits, and is served when there is what was missing.
fn crash_in_need(lack: &str, soft: &str, limits_name: &str, errno: &str, user: u32) {
    let (supd, port) = quiet(&[], user);
    let hard = hard_limit(&supd, limits_name);
    limit(&supd, lack, soft);
    let worker = supd.worker_of("web");
    proc::signal(worker, Signal::SIGKILL);
    wait_until("supd to say why", SOON, || supd.log().contains(errno));
    let waiting = request(port);
    let before = proc::ticks(supd.pid());
    holds_for("supd to live", Duration::from_secs(1), || supd.is_alive());
    let spent = proc::ticks(supd.pid()) - before;
    assert!(spent < 30, "supd spun for {spent} of 100 ticks");
    limit(&supd, lack, &hard);
    is_served(waiting);
    supd.wait_for_state("web", "active");
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
}

impl Supd {
    /// The worker of the unit's active generation, asked for before nothing can be asked any more.
    fn worker_of(&self, unit: &str) -> u32 {
        proc::with_environment(&format!("SUPD_UNIT={unit}"), &[])
            .into_iter()
            .find(|pid| proc::parent(*pid) == Some(self.pid()))
            .expect("a worker")
    }
}

fn no_process_for_a_crash() {
    crash_in_need("nproc", "0", "Max processes", EAGAIN, 60_001);
}

/// Below what is open already: not one descriptor more, whichever it is for.
fn no_descriptor_for_a_crash() {
    crash_in_need("nofile", "3", "Max open files", EMFILE, 0);
}

/// The child that writes the ledger dies and cannot be launched again: a rollback fails for that
/// reason (a swap would read the unit's file first), nothing of what runs is touched, and the next one
/// works.
fn writer_in_need(lack: &str, soft: &str, limits_name: &str, errno: &str, user: u32) {
    let (supd, port) = quiet(&[], user);
    let hard = hard_limit(&supd, limits_name);
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    let before = supd.status("web");
    // Before nobody can be accepted any more.
    let mut client = UnixStream::connect(supd.control()).expect("the control socket");
    client.write_all(STATUS).expect("a call");
    assert!(reply(&mut client).is_some());
    limit(&supd, lack, soft);
    proc::signal(supd.writer().expect("it has written"), Signal::SIGKILL);
    client.write_all(ROLLBACK).expect("a call");
    let refused = reply(&mut client).expect("an answer");
    assert!(refused.contains("dev.supd.Manager.Failed") && refused.contains(errno), "{refused}");
    assert!(supd.log().contains(errno), "{}", supd.log());
    is_served(request(port));
    limit(&supd, lack, &hard);
    let after = supd.status("web");
    let active = before.active().expect("an active generation");
    assert_eq!((after.active(), after.pids_in(active)), (Some(active), before.pids_in(active)));
    supd.ctl(&["rollback", "web"]).expect(0);
    let supd = supd.crash_and_restart();
    assert!(supd.wait_for_state("web", "active").active() > before.active());
}

fn no_process_for_the_writer() {
    writer_in_need("nproc", "0", "Max processes", EAGAIN, 60_002);
}

fn no_descriptor_for_the_writer() {
    writer_in_need("nofile", "3", "Max open files", EMFILE, 0);
}

/// Room for one process more: the candidate has it, and the copy of its program does not. That costs
/// the copy, and it is said.
fn no_process_for_a_copy() {
    const USER: u32 = 60_003;
    let (supd, port) = quiet(&[], USER);
    let pinned = |status: &Status| {
        let generations = status.0["generations"].as_array().expect("generations");
        let active = generations.iter().find(|one| one["generation"].as_u64() == status.active());
        active.and_then(|active| active["pinned"].as_bool())
    };
    wait_until("the first copy", SOON, || pinned(&supd.status("web")) == Some(true));
    let hard = hard_limit(&supd, "Max processes");
    supd.install_worker("2");
    let tasks = proc::tasks_of(USER);
    limit(&supd, "nproc", &(tasks + 1).to_string());
    supd.ctl(&["swap", "web"]).expect(0);
    assert_eq!(pinned(&supd.status("web")), Some(false));
    let log = supd.log();
    let why = log.lines().find(|line| line.contains("its program is not pinned")).expect("a warning");
    assert!(why.contains(EAGAIN), "{why}");
    is_served(request(port));
    limit(&supd, "nproc", &hard);
    supd.install_worker("3");
    supd.ctl(&["swap", "web"]).expect(0);
    wait_until("a copy again", SOON, || pinned(&supd.status("web")) == Some(true));
}

/// A supd in a PID namespace whose first process has ended: the kernel forks no more for it, ENOMEM. It
/// has ended the others there too, so nobody serves.
fn out_of_forks() -> (Supd, u16) {
    let (supd, port) = quiet(&["unshare", "--pid", "--"], 0);
    let before = supd.status("web");
    proc::signal(supd.launcher().expect("its first child"), Signal::SIGKILL);
    wait_until("the worker to be ended", SOON, || before.pids().iter().all(|pid| !proc::alive(*pid)));
    wait_until("supd to say why", SOON, || supd.log().contains(ENOMEM));
    (supd, port)
}

/// supd lives, at rest, answers, and keeps the listener.
fn no_memory_for_any_fork() {
    let (supd, port) = out_of_forks();
    let waiting = request(port);
    let (ticks, lines) = (proc::ticks(supd.pid()), supd.log().lines().count());
    holds_for("supd to live", Duration::from_secs(2), || supd.is_alive());
    let spent = proc::ticks(supd.pid()) - ticks;
    assert!(spent < 30, "supd spun for {spent} of 200 ticks");
    assert!(supd.log().lines().count() < lines + 5, "supd floods its log:\n{}", supd.log());
    for verb in ["swap", "restart"] {
        let failed = supd.ctl(&[verb, "web", "--timeout", "2s"]).expect(1);
        assert!(failed.text().contains(ENOMEM), "{failed}");
    }
    let state = supd.status("web").state().to_owned();
    assert!(state != "active" && state != "quarantine", "{state}");
    drop(waiting);
}

/// Asked to end it does, although it can look for nothing that may be left.
fn no_memory_to_end_with() {
    let (supd, _) = out_of_forks();
    supd.ctl_start(&["shutdown"]);
    wait_until("supd to end", Duration::from_secs(30), || !supd.is_alive());
    assert!(supd.log().contains("supd ends without a look"), "{}", supd.log());
}

/// Fills a disk, but for some bytes.
fn fill(folder: &Path, free: u64) {
    let mut file = File::create(folder.join("ballast")).expect("a file on the small disk");
    let block = vec![0; 64 << 10];
    while file.write_all(&block).is_ok() {}
    while file.write_all(&[0]).is_ok() {}
    let full = file.metadata().expect("its size").len();
    file.set_len(full - free.min(full)).expect("giving some back");
}

/// With nothing free, then a page, then two …: ENOSPC hits another write each time. Room for the
/// copies of the worker is there before.
fn disk_is_full(name: &'static str, size: u32) {
    for pages in [0, 1, 2, 3, 5, 8, 3000] {
        let serving = Serving::start_with(&Setup { disk: Some((name, size)), ..Setup::default() });
        let folder = if name == "state" { serving.supd.state_folder() } else { serving.supd.runtime() };
        swap_in_need(&serving, |on| {
            if on {
                fill(&folder, pages * 4096);
            } else {
                fs::remove_file(folder.join("ballast")).expect("removing the ballast");
            }
        });
        serving.supd.install_worker("2");
        serving.supd.ctl(&["swap", "web"]).expect(0);
        serving.took_over();
    }
}

fn state_disk_is_full() {
    disk_is_full("state", 96);
}

fn runtime_disk_is_full() {
    disk_is_full("run", 4);
}
