//! A candidate killed at any moment leaves the active one serving.

use super::Serving;
use crate::wait::{SOON, pause, wait_for};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use std::time::Duration;

pub(super) fn tests() -> Vec<Test> {
    vec![test("hostile::moments::candidate_is_killed", candidate_is_killed)]
}

/// Ready after 100 ms, settled after 200 ms, then in probation for longer than the test looks.
const STEP: Duration = Duration::from_millis(20);
const STEPS: u32 = 20;

/// The candidate accepts nothing itself: what SIGKILL takes away with an accepted connection is no
/// fault of the supervisor, and would hide one that is.
fn candidate_is_killed() {
    let serving = Serving::start();
    serving.candidate(&["late=100", "deaf"], "StartLimitBurst = 0", "ProbationSec = \"30s\"");
    let (mut failed, mut rolled_back) = (0, 0);
    for step in 0..STEPS {
        let last = serving.supd.status("web").pids();
        let swap = serving.supd.ctl_start(&["swap", "web"]);
        let candidate = wait_for("a candidate", SOON, || {
            let now = proc::with_environment("DAEMON_TEST_ROLE=worker", &last);
            let here = serving.supd.path().to_string_lossy().into_owned();
            let ours = proc::with_environment(&here, &last);
            now.into_iter().find(|pid| ours.contains(pid))
        });
        pause(STEP * step);
        proc::signal(candidate, Signal::SIGKILL);
        let ended = swap.finish(SOON);
        match ended.code() {
            1 => failed += 1,
            6 => rolled_back += 1,
            other => panic!("killed after {:?}, exit status {other}:\n{ended}", STEP * step),
        }
        assert!(ended.text().contains("SIGKILL"), "how it ended is not said:\n{ended}");
        serving.untouched();
    }
    assert!(
        failed > 3 && rolled_back > 3,
        "{failed} before the switch, {rolled_back} after: widen the steps"
    );
    println!("candidate killed {STEPS} times: {failed} before the switch, {rolled_back} after it");
    serving.unharmed();
}
