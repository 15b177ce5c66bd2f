//! Workers that do not behave.

use super::{Serving, says};
use crate::wait::{SOON, wait_until};
use crate::{Test, proc, test};
use std::time::Duration;

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("hostile::workers::never_ready", never_ready),
        test("hostile::workers::ready_twice", ready_twice),
        test("hostile::workers::ready_and_dies", ready_and_dies),
        test("hostile::workers::dies_in_probation", dies_in_probation),
        test("hostile::workers::dies_at_once", dies_at_once),
        test("hostile::workers::cannot_be_executed", cannot_be_executed),
        test("hostile::workers::ignores_sigterm", ignores_sigterm),
        test("hostile::workers::forks_and_tells", forks_and_tells),
        test("hostile::workers::forks_and_leaves", forks_and_leaves),
        test("hostile::workers::ready_from_a_child", ready_from_a_child),
        test("hostile::workers::floods_the_notify_socket", floods_the_notify_socket),
        test("hostile::workers::sends_rubbish", sends_rubbish),
        test("hostile::workers::claims_another_main_process", claims_another_main_process),
    ]
}

fn never_ready() {
    let serving = Serving::start();
    let failed = serving.swap(&["never-ready"], "TimeoutStartSec = \"1s\"", "").expect(1);
    says(&failed, &["TimeoutStartSec"]);
    let end = all_gone(&serving);
    serving.unharmed_since(end);
}

/// Waits until no process of a candidate is left; since when.
fn all_gone(serving: &Serving) -> Duration {
    let needle = serving.supd.path().to_string_lossy().into_owned();
    let mut known = serving.before.pids();
    known.extend([serving.supd.pid(), std::process::id()]);
    wait_until("the processes of the candidate to be ended", SOON, || {
        proc::with_environment(&needle, &known).is_empty()
    });
    serving.load.now()
}

fn ready_twice() {
    let serving = Serving::start();
    serving.swap(&["ready-twice"], "", "").expect(0);
    serving.took_over();
}

fn ready_and_dies() {
    let serving = Serving::start();
    let failed = serving.swap(&["ready-then-die=0"], "", "").expect(1);
    says(&failed, &["exit status 3", "worker "]);
    serving.unharmed();
}

/// Ready, settled, active, and then it dies: the switch is undone by itself.
fn dies_in_probation() {
    let serving = Serving::start();
    let back = serving.swap(&["deaf", "ready-then-die=600"], "", "ProbationSec = \"20s\"").expect(6);
    says(&back, &["exit status 3"]);
    serving.unharmed();
}

fn dies_at_once() {
    let serving = Serving::start();
    let failed = serving.swap(&["die=7"], "", "").expect(1);
    says(&failed, &["exit status 7"]);
    serving.unharmed();
}

/// No such program, no permission, no program at all, a script whose interpreter is missing: each is
/// known from execve(2) itself, with its name.
fn cannot_be_executed() {
    let serving = Serving::start();
    let app = serving.supd.app();
    std::fs::write(app.join("plain"), "no program").expect("a file");
    std::fs::write(app.join("orphan"), "#!/no/such/interpreter\n").expect("a file");
    make_executable(&app.join("orphan"));
    std::fs::write(app.join("empty"), "").expect("a file");
    make_executable(&app.join("empty"));
    for program in ["missing", "plain", "orphan", "empty", "."] {
        let unit = serving.supd.worker(serving.port, &[], "", "");
        let worker = app.join("worker");
        let text = unit.replace(&format!("{worker:?}"), &format!("{:?}", app.join(program)));
        assert_ne!(unit, text);
        serving.supd.write_unit("web", &text);
        let failed = serving.supd.ctl(&["swap", "web"]).expect(1);
        says(&failed, &[&app.join(program).to_string_lossy()]);
        serving.untouched();
    }
    serving.unharmed();
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// It stops accepting and never ends: SIGKILL after TimeoutStopSec, and meanwhile the next version
/// serves.
fn ignores_sigterm() {
    let serving = Serving::start();
    serving.swap(&["ignore-term"], "TimeoutStopSec = \"1s\"", "").expect(0);
    let stubborn = serving.supd.status("web");
    let pids = stubborn.pids_in(stubborn.active().expect("an active generation"));
    assert!(!pids.is_empty());
    serving.swap(&[], "", "").expect(0);
    wait_until("SIGKILL for the one that does not obey", SOON, || pids.iter().all(|pid| !proc::alive(*pid)));
    serving.took_over();
}

/// A daemon of old that says MAINPID: its child is the worker now, and is ended as one.
fn forks_and_tells() {
    let serving = Serving::start();
    serving.swap(&["fork=told"], "", "").expect(0);
    let now = serving.supd.status("web");
    let pids = now.pids_in(now.active().expect("an active generation"));
    assert!(pids.iter().any(|pid| proc::alive(*pid)), "no living process in {}", now.0);
    serving.swap(&[], "", "").expect(0);
    wait_until("the child to be ended", SOON, || pids.iter().all(|pid| !proc::alive(*pid)));
    serving.took_over();
}

/// One that does not say it: its main process has ended, so the candidate has failed, and the child
/// it left is ended with it.
fn forks_and_leaves() {
    let serving = Serving::start();
    serving.swap(&["fork"], "TimeoutStopSec = \"2s\"", "").expect(1);
    let end = all_gone(&serving);
    serving.unharmed_since(end);
}

/// READY=1 from a helper that is gone before supd looks: a socket for each generation makes it count,
/// and NotifyAccess decides whether it may.
fn ready_from_a_child() {
    let serving = Serving::start();
    let failed = serving
        .swap(&["never-ready", "from-child=READY=1"], "NotifyAccess = \"main\"\nTimeoutStartSec = \"1s\"", "")
        .expect(1);
    says(&failed, &["TimeoutStartSec"]);
    serving.untouched();
    serving.swap(&["never-ready", "from-child=READY=1"], "", "").expect(0);
    serving.took_over();
}

/// supd answers its clients while a worker sends as fast as it can.
fn floods_the_notify_socket() {
    let serving = Serving::start();
    serving.candidate(&["flood"], "", "");
    let swap = serving.supd.ctl_start(&["swap", "web"]);
    let mut asked = 0;
    while asked < 20 {
        let status = serving.supd.ctl(&["status", "web"]).expect(0);
        assert!(status.took < Duration::from_secs(5), "supd is deaf while it is flooded:\n{status}");
        asked += 1;
    }
    swap.finish(SOON).expect(0);
    serving.took_over();
}

/// Bytes that are not UTF-8, 64 KiB, 200 descriptors, a descriptor for a store that is off, words
/// nobody knows: a warning each and nothing else, and no descriptor stays open.
fn sends_rubbish() {
    let serving = Serving::start();
    // The second slot, and what chooses between the two, come with the first swap.
    serving.swap(&[], "", "").expect(0);
    let alone = || serving.supd.status("web").pids().len() == 1;
    wait_until("the first one to end", SOON, alone);
    let before = proc::descriptors(serving.supd.pid());
    let rubbish = [
        "not-utf8",
        "64k",
        "200-fds",
        "fdstore",
        "say=",
        "say=\\n\\n\\n",
        "say==",
        "say=READY",
        "say=ready=1",
        "say=EXTEND_TIMEOUT_USEC=99999999999999999999999999",
        "say=WATCHDOG_USEC=-1",
        "say=NOTIFYACCESS=everyone",
        "say=BARRIER=1",
        "say=MONOTONIC_USEC=1\\nRELOADING=1",
        "say=STATUS=\u{1b}[2J\u{7}",
        "say=X_UNKNOWN=1\\nUNKNOWN=2",
    ];
    serving.swap(&rubbish, "", "").expect(0);
    let log = serving.supd.log();
    assert!(log.to_lowercase().contains("warn"), "no warning in supd's log:\n{log}");
    assert!(!log.contains('\u{1b}'), "a worker's escape sequence reached supd's log");
    let status = serving.supd.ctl(&["status", "web"]).expect(0);
    assert!(!status.stdout.contains('\u{7}'), "a worker's control character reached the terminal");
    wait_until("descriptors that nobody asked for to be closed", SOON, || {
        alone() && proc::descriptors(serving.supd.pid()) <= before + 2
    });
    serving.took_over();
}

/// MAINPID of the active worker, of supd, of init, of nobody: not followed, and never signalled.
fn claims_another_main_process() {
    let serving = Serving::start();
    let others = [serving.before.pids()[0], serving.supd.pid(), 1, std::process::id()];
    let claims = others.map(|pid| format!("say=MAINPID={pid}"));
    let mut arguments: Vec<&str> = claims.iter().map(String::as_str).collect();
    arguments.extend(["say=MAINPID=0", "say=MAINPID=-1", "say=MAINPID=99999999999", "say=MAINPID=x"]);
    serving.swap(&arguments, "", "").expect(0);
    let now = serving.supd.status("web");
    let pids = now.pids_in(now.active().expect("an active generation"));
    assert!(pids.iter().all(|pid| !others.contains(pid)), "MAINPID of another was believed: {}", now.0);
    // Its end and that of its successor end nobody else.
    serving.swap(&[], "", "").expect(0);
    wait_until("the liar to end", SOON, || pids.iter().all(|pid| !proc::alive(*pid)));
    assert!(proc::alive(serving.supd.pid()));
    serving.took_over();
}
