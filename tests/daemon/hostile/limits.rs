//! A machine that has run out of descriptors, processes or disk, at any moment. A lack of memory is
//! left to the simulation: the kernel has no way to make fork(2) alone fail with ENOMEM.

use super::Serving;
use crate::harness::{Output, Running, Setup, Supd};
use crate::wait::{SOON, holds_for};
use crate::{Need, Test, proc, test_with};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PRLIMIT: &[Need] = &[Need::Program("prlimit", "util-linux"), Need::Program("setpriv", "util-linux")];
const DISK: &[Need] = &[Need::Root, Need::Program("unshare", "util-linux"), Need::Program("mount", "mount")];

pub(super) fn tests() -> Vec<Test> {
    vec![
        test_with("hostile::limits::no_more_descriptors", PRLIMIT, no_more_descriptors),
        test_with("hostile::limits::descriptors_taken_by_clients", PRLIMIT, descriptors_taken_by_clients),
        test_with("hostile::limits::no_more_processes", PRLIMIT, no_more_processes),
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
