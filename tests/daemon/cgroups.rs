//! A cgroup for each generation: nobody escapes, status says what it uses, and what is missing.

use crate::harness::{Setup, Supd, free_port};
use crate::wait::{SOON, holds_for, wait_for, wait_until};
use crate::{Need, Test, proc, test_with};
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    let needs = &[Need::Cgroups];
    vec![
        test_with("cgroups::each_generation_has_one", needs, each_generation_has_one),
        test_with("cgroups::nobody_escapes_a_stop", needs, nobody_escapes_a_stop),
        test_with("cgroups::nobody_escapes_a_crash_of_one_worker", needs, nobody_escapes_a_crash_of_a_worker),
        test_with("cgroups::another_supd_goes_on_in_them", needs, another_supd_goes_on_in_them),
        test_with("cgroups::what_a_dead_supd_left_is_ended", needs, what_a_dead_supd_left_is_ended),
        test_with("cgroups::of_an_ordinary_users_supd", needs, of_an_ordinary_users_supd),
        test_with("cgroups::limits_are_in_force_or_missed", needs, limits_are_in_force_or_missed),
        test_with("cgroups::without_any", needs, without_any),
        test_with("cgroups::two_supd_in_one_place", needs, two_supd_in_one_place),
        test_with("cgroups::what_kill_mode_process_leaves", needs, what_kill_mode_process_leaves),
        test_with("cgroups::a_worker_that_moves_supd", needs, a_worker_that_moves_supd),
    ]
}

fn setup() -> Setup {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("supd-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Setup { cgroup: Some(name), ..Setup::default() }
}

/// The group that supd was started in.
fn folder(supd: &Supd) -> PathBuf {
    supd.cgroup().expect("a cgroup")
}

fn name(supd: &Supd) -> String {
    folder(supd).file_name().expect("a name").to_string_lossy().into_owned()
}

/// The cgroup of version 2 that a process is in.
fn group_of(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
}

/// Whether it is in a group right below this one.
fn is_in(pid: u32, generation: &str) -> bool {
    group_of(pid).rsplit_once('/').is_some_and(|(above, own)| above == generation && own.len() == 32)
}

/// The groups of generations that are there.
fn groups(supd: &Supd) -> Vec<String> {
    let entries = fs::read_dir(folder(supd)).expect("a cgroup").flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != "supd").collect();
    names.sort();
    names
}

/// A unit whose worker first runs `before` in a shell.
fn unit_after(supd: &Supd, before: &str, service: &str) -> String {
    let text = supd.worker(free_port(), &[], service, "");
    let plain = format!("ExecStart = [{:?}]", supd.app().join("worker"));
    let script = format!("{before}; exec {}", supd.app().join("worker").display());
    let quoted = serde_json::to_string(&script).expect("a string");
    assert!(text.contains(&plain), "{text}");
    text.replace(&plain, &format!("ExecStart = [\"/bin/sh\", \"-c\", {quoted}]"))
}

/// Leaves a process that no session, no parent and no environment leads to, and that bears SIGTERM. Its number
/// is in `file`.
fn escape(file: &Path) -> String {
    let stay =
        format!("trap '' TERM; echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 1; done", file.display());
    let quoted = stay.replace("$$", "\\$\\$");
    format!("(env -i /usr/bin/setsid /bin/sh -c \"{quoted}\" </dev/null >/dev/null 2>&1 &)")
}

fn escaped(file: &Path) -> u32 {
    let read = || fs::read_to_string(file).ok()?.trim().parse().ok();
    let pid = wait_for("an escapee", SOON, read);
    assert!(proc::alive(pid));
    fs::remove_file(file).expect("its file");
    pid
}

fn each_generation_has_one() {
    let supd = Supd::start_with(&setup());
    let (port, name) = (free_port(), name(&supd));
    supd.install_worker("1");
    supd.launch("web", &supd.worker(port, &[], "Workers = 2", "Retain = \"cold\""));
    let keeper = supd.keeper().expect("a keeper");
    for pid in [Some(supd.pid()), Some(keeper), supd.launcher(), supd.writer()].into_iter().flatten() {
        assert_eq!(group_of(pid), format!("/{name}/supd"));
    }
    let status = supd.status("web");
    assert_eq!(status.pids().len(), 2);
    let [one, two] = status.pids()[..] else { panic!("not two") };
    for pid in [one, two] {
        assert!(is_in(pid, &format!("/{name}/web.g1")), "{}", supd.log());
    }
    assert_ne!(group_of(one), group_of(two));
    let shown = &status.0["generations"][0];
    assert_eq!(shown["cgroup"], format!("/{name}/web.g1"));
    assert!(shown["cpu_us"].as_u64().is_some_and(|used| used > 0), "{shown}");
    assert!(shown["tasks"].as_u64().is_some_and(|tasks| tasks >= 2), "{shown}");
    assert!(status.0["cgroup_missing"].is_null(), "{}", status.0);
    let text = supd.ctl(&["status", "web"]).expect(0).stdout;
    assert!(text.contains(" of CPU, ") && text.contains(" tasks") && !text.contains("cgroup"), "{text}");
    // No controller is on where nobody asks for one.
    let enabled = fs::read_to_string(folder(&supd).join("cgroup.subtree_control")).expect("a file");
    assert_eq!(enabled.trim(), "");

    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    wait_until("the old group to go", SOON, || groups(&supd) == ["web.g2"]);
    supd.ctl(&["stop", "web"]).expect(0);
    wait_until("all groups to go", SOON, || groups(&supd).is_empty());
}

fn nobody_escapes_a_stop() {
    for with in [true, false] {
        let supd = Supd::start_with(&if with { setup() } else { hidden() });
        let file = supd.path().join("escaped");
        supd.install_worker("1");
        supd.launch("web", &unit_after(&supd, &escape(&file), "TimeoutStopSec = \"500ms\""));
        let pid = escaped(&file);
        supd.ctl(&["stop", "web"]).expect(0);
        if with {
            assert!(!proc::alive(pid), "{}", supd.log());
            wait_until("the group to go", SOON, || groups(&supd).is_empty());
        } else {
            // Else this test would show nothing.
            assert!(proc::alive(pid));
            proc::signal(pid, Signal::SIGKILL);
        }
    }
}

/// What the other one has started has nothing to do with it.
fn nobody_escapes_a_crash_of_a_worker() {
    let supd = Supd::start_with(&setup());
    let escaped_to = |index: u32| supd.path().join(format!("escaped.{index}"));
    supd.install_worker("1");
    let before = escape(&supd.path().join("escaped.$SUPD_WORKER"));
    supd.launch("web", &unit_after(&supd, &before, "Workers = 2\nTimeoutStopSec = \"500ms\""));
    let [mine, others] = [0, 1].map(|index| escaped(&escaped_to(index)));
    let workers = supd.status("web").pids();
    let left = group_of(workers[0]);
    assert_eq!((group_of(mine), group_of(others)), (left.clone(), group_of(workers[1])));
    proc::signal(workers[0], Signal::SIGKILL);
    let again = escaped(&escaped_to(0));
    assert!(!proc::alive(mine) && proc::alive(workers[1]) && proc::alive(others), "{}", supd.log());
    let own = left.rsplit('/').next().expect("a name");
    assert!(!folder(&supd).join("web.g1").join(own).exists(), "its group is gone");
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(!proc::alive(again) && !proc::alive(others), "{}", supd.log());
}

fn another_supd_goes_on_in_them() {
    let supd = Supd::start_with(&setup());
    let (file, name) = (supd.path().join("escaped"), name(&supd));
    supd.install_worker("1");
    supd.launch("web", &unit_after(&supd, &escape(&file), "TimeoutStopSec = \"500ms\""));
    let (pid, workers) = (escaped(&file), supd.status("web").pids());
    let supd = supd.crash_and_go_on().crash_and_go_on().restart();
    // Another image begins where this one has moved to.
    supd.ctl(&["reexec"]).expect(0);
    let status = supd.wait_for_state("web", "active");
    assert_eq!(status.pids(), workers, "{}", supd.log());
    assert_eq!(status.0["generations"][0]["cgroup"], format!("/{name}/web.g1"));
    assert_eq!(status.0["notes"].as_array().map(Vec::len), Some(0), "{}", status.0);
    assert_eq!(group_of(supd.pid()), format!("/{name}/supd"));
    assert!(proc::alive(pid));
    // One that is launched again is where the others of its generation are.
    proc::signal(workers[0], Signal::SIGKILL);
    let again = wait_for("another worker", SOON, || {
        supd.status("web").pids().first().copied().filter(|pid| *pid != workers[0])
    });
    wait_until("it to join", SOON, || is_in(again, &format!("/{name}/web.g1")));
    assert!(!proc::alive(pid), "what the one before it had left: {}", supd.log());
    let pid = escaped(&file);
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(!proc::alive(pid), "{}", supd.log());
    wait_until("the group to go", SOON, || groups(&supd).is_empty());
}

/// Nobody goes on with a unit of which neither the keeper nor a worker is left: all of it is ended, and launched anew.
fn what_a_dead_supd_left_is_ended() {
    let supd = Supd::start_with(&setup());
    let file = supd.path().join("escaped");
    supd.install_worker("1");
    supd.launch("web", &unit_after(&supd, &escape(&file), ""));
    let (pid, keeper) = (escaped(&file), supd.keeper().expect("a keeper"));
    fs::create_dir(folder(&supd).join("gone.g7")).expect("an empty group");
    let worker = supd.status("web").pids()[0];
    let supd = supd.crash_and_go_on_after(|_| {
        [keeper, worker].into_iter().for_each(|pid| proc::signal(pid, Signal::SIGKILL));
        wait_until("the keeper to end", SOON, || !proc::alive(keeper));
    });
    supd.wait_for_state("web", "active");
    assert!(!proc::alive(pid), "{}", supd.log());
    wait_until("only the new group to be there", SOON, || groups(&supd).len() == 1);
    assert_ne!(groups(&supd), ["gone.g7"]);
    let pid = escaped(&file);
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(!proc::alive(pid), "{}", supd.log());
}

fn of_an_ordinary_users_supd() {
    let supd = Supd::start_with(&Setup { user: Some(65_534), ..setup() });
    let (file, name) = (supd.app().join("escaped"), name(&supd));
    supd.install_worker("1");
    supd.launch("web", &unit_after(&supd, &escape(&file), "TimeoutStopSec = \"500ms\""));
    let (pid, worker) = (escaped(&file), supd.status("web").pids()[0]);
    assert!(is_in(worker, &format!("/{name}/web.g1")), "{}", supd.log());
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(!proc::alive(pid), "{}", supd.log());
    wait_until("the group to go", SOON, || groups(&supd).is_empty());
}

fn limits_are_in_force_or_missed() {
    let supd = Supd::start_with(&setup());
    supd.install_worker("1");
    let limits = "MemoryMax = \"512M\"\nTasksMax = 100\nCPUQuota = \"150%\"";
    supd.launch("web", &supd.worker(free_port(), &[], limits, ""));
    let status = supd.status("web");
    assert_eq!(status.state(), "active");
    let had = fs::read_to_string(folder(&supd).join("cgroup.controllers")).expect("a file");
    let notes = status.0["notes"].to_string();
    let all = [
        ("MemoryMax", "memory", "memory.max", "536870912\n"),
        ("TasksMax", "pids", "pids.max", "100\n"),
        ("CPUQuota", "cpu", "cpu.max", "150000 100000\n"),
    ];
    for (key, controller, limit, value) in all {
        let said = format!("generation 1: {key} is not in force: ");
        if had.split_whitespace().any(|one| one == controller) {
            assert_eq!(fs::read_to_string(folder(&supd).join("web.g1").join(limit)).expect("a limit"), value);
            assert!(!notes.contains(&said), "{notes}");
        } else {
            let why = format!("has no {controller} controller (its cgroup.controllers)");
            assert!(notes.contains(&said) && notes.contains(&why), "{notes}");
            assert_eq!(supd.log().matches(&format!("{key} is not in force")).count(), 1, "{}", supd.log());
        }
    }
    // What is missed goes with the generation.
    supd.ctl(&["stop", "web"]).expect(0);
    wait_until("no note", SOON, || !supd.status("web").0["notes"].to_string().contains("in force"));
}

/// As where no cgroup2 is mounted.
fn hidden() -> Setup {
    let script = "umount -a -t cgroup2 && exec \"$0\" \"$@\"";
    let wrapper = ["unshare", "--mount", "sh", "-c", script].map(str::to_owned).to_vec();
    Setup { wrapper, ..Setup::default() }
}

fn without_any() {
    let supd = Supd::start_with(&hidden());
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "TasksMax = 100", ""));
    let status = supd.status("web");
    let why = "no cgroup2 file system is mounted";
    assert_eq!(status.0["cgroup_missing"], why);
    assert!(status.0["generations"][0]["cgroup"].is_null());
    let note = format!("generation 1: TasksMax is not in force without a cgroup: {why}");
    assert_eq!(status.0["notes"].as_array().expect("notes").as_slice(), [note]);
    let text = supd.ctl(&["status", "web"]).expect(0).stdout;
    assert!(text.contains(&format!("none: {why}")), "{text}");
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    let supd = supd.crash_and_go_on();
    supd.wait_for_state("web", "active");
    assert!(supd.status("web").0["notes"].to_string().contains("TasksMax is not in force"));
    supd.ctl(&["stop", "web"]).expect(0);
}

/// Both have a unit of the same name.
fn two_supd_in_one_place() {
    let setup = setup();
    let (one, other) = (Supd::start_with(&setup), Supd::start_with(&setup));
    for supd in [&one, &other] {
        supd.install_worker("1");
        supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    }
    let why = other.status("web").0["cgroup_missing"].to_string();
    assert!(why.contains("another supd has them"), "{why}");
    let (first, second) = (one.status("web").pids()[0], other.status("web").pids()[0]);
    assert!(group_of(first).contains("/web.g1/") && !group_of(second).contains("web.g1"));
    other.ctl(&["stop", "web"]).expect(0);
    assert!(proc::alive(first) && !proc::alive(second));
    drop(other);
    // Whoever is in a group of that name and is none of its own is left alone.
    let mut stranger = std::process::Command::new("sleep").arg("600").spawn().expect("sleep");
    let strange = folder(&one).join("web.g1/strange");
    fs::create_dir(&strange).expect("a group");
    fs::write(strange.join("cgroup.procs"), stranger.id().to_string()).expect("to join");
    one.ctl(&["stop", "web"]).expect(0);
    assert!(!proc::alive(first));
    assert!(stranger.try_wait().expect("a child").is_none(), "a stranger was ended");
    stranger.kill().expect("a child");
    stranger.wait().expect("a child");
    wait_until("the group to go", SOON, || groups(&one).is_empty());
}

fn what_kill_mode_process_leaves() {
    let supd = Supd::start_with(&setup());
    let file = supd.path().join("escaped");
    supd.install_worker("1");
    supd.launch("web", &unit_after(&supd, &escape(&file), "KillMode = \"process\""));
    let pid = escaped(&file);
    supd.ctl(&["stop", "web"]).expect(0);
    let supd = supd.crash_and_go_on();
    holds_for("what was left on purpose", Duration::from_millis(300), || proc::alive(pid));
    assert_eq!(groups(&supd), ["web.g1"]);
    proc::signal(pid, Signal::SIGKILL);
    let events = folder(&supd).join("web.g1/cgroup.events");
    wait_until("it to end", SOON, || {
        fs::read_to_string(&events).is_ok_and(|list| list.contains("populated 0"))
    });
    let supd = supd.crash_and_go_on();
    assert!(groups(&supd).is_empty());
}

/// It runs as root. What it does to others is its own doing, but a stop of it is not to end supd.
fn a_worker_that_moves_supd() {
    let supd = Supd::start_with(&setup());
    let file = supd.path().join("escaped");
    supd.install_worker("1");
    let unit = unit_after(&supd, &escape(&file), "TimeoutStopSec = \"500ms\"");
    supd.launch("web", &unit);
    let pid = escaped(&file);
    let worker = group_of(supd.status("web").pids()[0]);
    let own = folder(&supd).join("web.g1").join(worker.rsplit('/').next().expect("a name"));
    fs::write(own.join("cgroup.procs"), supd.pid().to_string()).expect("to move it");
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(supd.is_alive() && !proc::alive(pid), "{}", supd.log());
    assert_eq!(group_of(supd.pid()), format!("/{}/supd", name(&supd)), "it is back where it was");
    wait_until("the group to go", SOON, || groups(&supd).is_empty());
    supd.ctl(&["start", "web"]).expect(0);
    supd.ctl(&["stop", "web"]).expect(0);
}
