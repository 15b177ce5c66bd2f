//! The workers that a dead supd left: ended before anything is bound, for they hold the
//! addresses. Until a new supd can take them over, two would serve beside each other.

use super::cgroups::Cgroups;
use crate::model::Signal;
use crate::os::clock::{self, BootId};
use crate::os::members::{self, Marks};
use crate::os::pidfd::PidFd;
use crate::os::process::Identity;
use crate::os::task::Task;
use crate::store::runtime::{Runtime, WorkerRecord};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

/// How long they may take to finish by themselves.
const GRACE: Duration = Duration::from_secs(10);

/// How long SIGKILL may take.
const KILL: Duration = Duration::from_secs(5);

/// How long a search for their processes may take.
const SEARCH: Duration = Duration::from_secs(10);

/// How often what they left is looked for: a process may start another while it is looked for.
const ROUNDS: usize = 5;

/// Ends what the last supd left behind, within a bound, but for those whose file `stays`. Only what is proven to
/// be a worker is signalled: by start time and boot, held by pidfd; or by an INVOCATION_ID that supd made up.
pub fn end(within: (&Runtime, &Cgroups), boot: &BootId, stays: impl Fn(&Path) -> bool) {
    end_within(GRACE, within, boot, stays);
}

fn end_within(
    grace: Duration,
    (runtime, cgroups): (&Runtime, &Cgroups),
    boot: &BootId,
    stays: impl Fn(&Path) -> bool,
) {
    let mut left = runtime.leftovers();
    left.retain(|(path, _)| !stays(path));
    for (path, _) in left.iter().filter(|(_, record)| record.is_none()) {
        let path = path.display();
        log::error!("{path}: cannot be read; if its worker lives it is not found, and may hold an address");
    }
    let records: Vec<WorkerRecord> = left.iter().filter_map(|(_, record)| record.clone()).collect();
    let records: Vec<WorkerRecord> =
        records.into_iter().filter(|record| record.boot == boot.to_string()).collect();
    let heads: Vec<(PidFd, &WorkerRecord)> =
        records.iter().filter_map(|record| Some((head(record, boot)?, record))).collect();
    for (process, record) in &heads {
        let what = format!("{}/g{}", record.unit, record.generation);
        log::warn!("{what}: process {} is left from a supd that died: ending it", process.pid());
        // As the machine says it: a stopped process sees no other signal.
        for signal in [Signal(record.kill_signal), Signal::CONT] {
            let _ = process.send(signal);
        }
    }
    // While a head is held and not over, its number is nobody else's.
    let mut marks = Marks {
        workers: heads.iter().map(|(process, _)| process.pid()).collect(),
        invocation_ids: records.iter().map(|record| record.invocation.clone()).collect(),
        groups: records.iter().filter_map(|record| cgroups.of_record(record)).collect(),
        doomed: Vec::new(),
    };
    let first = if records.is_empty() { Vec::new() } else { search(&marks, boot) };
    wait(heads.iter().map(|(process, _)| process), grace);
    for process in heads.iter().map(|(process, _)| process).chain(&first) {
        let _ = process.send(Signal::KILL);
    }
    wait(heads.iter().map(|(process, _)| process).chain(&first), KILL);
    marks.workers.clear();
    marks.doomed.clone_from(&marks.groups);
    for _ in 0..ROUNDS {
        let more = if records.is_empty() { Vec::new() } else { search(&marks, boot) };
        if more.is_empty() {
            break;
        }
        more.iter().for_each(|process| drop(process.send(Signal::KILL)));
        wait(more.iter(), KILL);
    }
    for (process, record) in heads.iter().filter(|(process, _)| !process.is_over()) {
        log::error!("{}: process {} cannot be ended; its addresses stay in use", record.unit, process.pid());
    }
    for (path, _) in left {
        let _ = std::fs::remove_file(path);
    }
}

/// The worker itself, if it lives.
pub(super) fn head(record: &WorkerRecord, boot: &BootId) -> Option<PidFd> {
    let start = record.start_time;
    Identity { pid: record.pid, start, boot: boot.clone(), inode: record.inode }.matches_live(boot)
}

fn search(marks: &Marks, boot: &BootId) -> Vec<PidFd> {
    let task = members::search(marks, SEARCH).map_err(|error| error.to_string());
    match task.and_then(|task| finish(task, SEARCH)) {
        Ok(answer) => {
            let found = members::decode(&answer, boot);
            found.iter().filter_map(|member| member.matches_live(boot)).collect()
        }
        Err(why) => {
            log::error!("cannot look for what a dead supd left: {why}");
            Vec::new()
        }
    }
}

/// Waits for a task that has this bound; before there is a loop that could.
pub(super) fn finish(mut task: Task, bound: Duration) -> Result<Vec<u8>, String> {
    loop {
        match task.poll() {
            // The task ends itself when its time is over.
            Poll::Pending => wait_for(task.as_fd(), bound + KILL),
            Poll::Ready(answer) => return answer,
        }
    }
}

/// Until all have ended, or the time is over.
fn wait<'a>(processes: impl Iterator<Item = &'a PidFd>, bound: Duration) {
    let end = clock::now().after(bound);
    for process in processes {
        while !process.is_over() && clock::now() < end {
            wait_for(process.as_fd(), end.since(clock::now()));
        }
    }
}

fn wait_for(fd: BorrowedFd<'_>, bound: Duration) {
    let millis = u16::try_from(bound.as_millis() + 1).unwrap_or(u16::MAX);
    let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::from(millis));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WorkerId;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    /// A session of its own, as a worker has.
    #[allow(clippy::zombie_processes, reason = "each is waited for by its test")]
    fn start(script: &str, invocation: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).env("INVOCATION_ID", invocation).process_group(0);
        command.spawn().unwrap()
    }

    fn record(child: &Child, boot: &BootId, invocation: &str) -> WorkerRecord {
        let process = PidFd::open(i32::try_from(child.id()).unwrap()).unwrap();
        let identity = Identity::of(&process, boot).unwrap();
        WorkerRecord {
            unit: "web".into(),
            generation: 3,
            index: 0,
            pid: identity.pid,
            start_time: identity.start,
            inode: identity.inode,
            boot: boot.to_string(),
            invocation: invocation.into(),
            kill_signal: 15,
            ready: None,
        }
    }

    #[test]
    fn workers_and_what_they_started_are_ended_and_strangers_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::make(&folder.path().join("run")).unwrap();
        let boot = BootId::read().unwrap();
        let id =
            |n: u128| format!("{:032x}", 0x5bd1_e995_u128 << 64 | u128::from(std::process::id()) << 8 | n);
        let mut worker = start("sleep 600 & wait", &id(1));
        let mut stubborn = start("trap '' TERM; sleep 600 & while :; do wait; done", &id(2));
        // The same number as a worker had, but another process: start time, boot.
        let mut strangers = [start("exec sleep 600", ""), start("exec sleep 600", "")];
        runtime.save_worker(WorkerId(1), &record(&worker, &boot, &id(1))).unwrap();
        runtime.save_worker(WorkerId(2), &record(&stubborn, &boot, &id(2))).unwrap();
        let one = record(&strangers[0], &boot, &id(3));
        let one = WorkerRecord { start_time: one.start_time - 1, ..one };
        runtime.save_worker(WorkerId(3), &one).unwrap();
        let other = WorkerRecord { boot: "another".into(), ..record(&strangers[1], &boot, &id(4)) };
        runtime.save_worker(WorkerId(4), &other).unwrap();
        // Its head is dead, what it started is not.
        let mut dead = start("sleep 600 & exit 0", &id(5));
        let gone = record(&dead, &boot, &id(5));
        dead.wait().unwrap();
        runtime.save_worker(WorkerId(5), &gone).unwrap();

        let within = (&runtime, &Cgroups::default());
        end_within(Duration::from_millis(500), within, &boot, |_| false);
        worker.wait().unwrap();
        stubborn.wait().unwrap();
        assert!(runtime.leftovers().is_empty());
        let all = (1..=5).map(id).collect();
        assert!(search(&Marks { invocation_ids: all, ..Marks::default() }, &boot).is_empty());
        for stranger in &mut strangers {
            assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
            stranger.kill().unwrap();
            stranger.wait().unwrap();
        }
    }
}
