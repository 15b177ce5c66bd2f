//! Whether a process and those that it has forked are stopped by a signal.
//!
//! A master that forks before it serves accepts nothing by itself: it runs on while each of its workers is stopped,
//! and nobody accepts. Nor does a wrapper (a shell, npm) that waits for the server it has started.
//!
//! **What is absent:** whoever accepts without being a child, and children where the kernel keeps no list of them
//! (CONFIG_PROC_CHILDREN): then a process is judged alone. Who accepts by itself and has only stopped helpers
//! looks as a master whose workers are stopped.

use super::process::Stat;
use std::fs::{self, File};
use std::io::Read;

/// So many files of /proc are read for one answer, each in some ten microseconds.
const READS_MAX: usize = 512;

/// So many children of one process are looked at.
const CHILDREN_MAX: usize = 256;

/// So many of its threads are asked for theirs: whoever forks servers does so from the first few.
const THREADS_MAX: usize = 8;

/// No more of one list is read: as long as [`CHILDREN_MAX`] of the longest numbers.
const LIST_MAX: u64 = 8 * CHILDREN_MAX as u64;

/// Children, and theirs: a wrapper, its server, and the workers of that.
const LEVELS: u32 = 2;

/// What can be said of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It runs, and so does one of its children, if it has any; or too many had to be looked at.
    Runs,
    /// It runs, and nobody of whom it has forked does.
    ChildrenStopped,
    /// It is stopped itself.
    Stopped,
}

/// A look at some processes, of bounded work for all of them together.
#[derive(Debug, Default)]
pub struct Look {
    reads: usize,
    stopped: Vec<i32>,
}

impl Look {
    /// How it is with this one. One that is gone runs, for who looks at that is told apart.
    pub fn at(&mut self, pid: i32) -> Standing {
        if Stat::read(pid).is_some_and(|stat| stat.stopped) {
            self.stopped.push(pid);
            return Standing::Stopped;
        }
        if self.somebody_runs(pid, LEVELS) { Standing::Runs } else { Standing::ChildrenStopped }
    }

    /// Who was seen to be stopped.
    #[must_use]
    pub fn stopped(&self) -> &[i32] {
        &self.stopped
    }

    /// Whether somebody below a process that runs does so as well, or it is alone.
    fn somebody_runs(&mut self, pid: i32, levels: u32) -> bool {
        let Some(children) = self.children(pid) else { return true };
        let (stopped, running): (Vec<Stat>, Vec<Stat>) = children.into_iter().partition(|stat| stat.stopped);
        if stopped.is_empty() && running.is_empty() {
            return true;
        }
        self.stopped.extend(stopped.iter().map(|stat| stat.pid));
        running.iter().any(|stat| levels <= 1 || self.somebody_runs(stat.pid, levels - 1))
    }

    /// Its living children; `None`: there are too many.
    fn children(&mut self, pid: i32) -> Option<Vec<Stat>> {
        let mut found = Vec::new();
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Some(found) };
        for thread in threads.flatten().take(THREADS_MAX) {
            self.read()?;
            let mut list = String::new();
            // It has ended meanwhile, or the kernel has no such lists.
            let _ = File::open(thread.path().join("children"))
                .and_then(|file| file.take(LIST_MAX).read_to_string(&mut list));
            for child in list.split_ascii_whitespace().filter_map(|word| word.parse().ok()) {
                self.read()?;
                if found.len() == CHILDREN_MAX {
                    return None;
                }
                // Another one has the number by now, or the list was cut within it.
                let its = |stat: &Stat| stat.parent == pid && !stat.zombie && !stat.exiting;
                found.extend(Stat::read(child).filter(its));
            }
        }
        Some(found)
    }

    fn read(&mut self) -> Option<()> {
        self.reads += 1;
        (self.reads <= READS_MAX).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Signal;
    use crate::os::pidfd::PidFd;
    use nix::libc;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    /// A shell, and what it has started. All of them end with it.
    struct Family(Child, Vec<i32>);

    impl Family {
        /// `script` prints the number of each of `count` processes.
        fn new(script: &str, count: usize) -> Self {
            let mut child = Command::new("/bin/bash")
                .args(["-c", script])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(count);
            let pids = lines.map(|line| line.unwrap().trim().parse().unwrap()).collect();
            Self(child, pids)
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.0.id()).unwrap()
        }
    }

    impl Drop for Family {
        fn drop(&mut self) {
            for pid in self.1.iter().copied().chain([self.pid()]) {
                send(pid, Signal::KILL);
            }
            self.0.wait().unwrap();
        }
    }

    fn send(pid: i32, signal: Signal) {
        if let Ok(process) = PidFd::open(pid) {
            let _ = process.send(signal);
        }
    }

    fn set(pid: i32, stopped: bool) {
        send(pid, if stopped { Signal(libc::SIGSTOP) } else { Signal(libc::SIGCONT) });
        let end = Instant::now() + Duration::from_secs(20);
        while Stat::read(pid).unwrap().stopped != stopped {
            assert!(Instant::now() < end, "{pid} is never stopped: {stopped}");
        }
    }

    fn look(pid: i32) -> (Standing, Vec<i32>) {
        let mut look = Look::default();
        (look.at(pid), look.stopped().to_vec())
    }

    #[test]
    fn a_master_whose_workers_are_all_stopped_is_told_from_one_of_whom_some_run() {
        let family = Family::new("for n in 1 2 3; do sleep 600 & echo $!; done; wait", 3);
        let workers = family.1.clone();
        assert_eq!(look(family.pid()), (Standing::Runs, vec![]));
        set(workers[1], true);
        assert_eq!(look(family.pid()), (Standing::Runs, vec![workers[1]]));
        set(workers[0], true);
        set(workers[2], true);
        assert_eq!(look(family.pid()), (Standing::ChildrenStopped, workers.clone()));
        // Whoever is dead and not reaped is none of them.
        set(workers[0], false);
        send(family.pid(), Signal(libc::SIGSTOP));
        send(workers[0], Signal::KILL);
        set(family.pid(), true);
        assert_eq!(look(family.pid()), (Standing::Stopped, vec![family.pid()]));
        assert_eq!(look(workers[1]), (Standing::Stopped, vec![workers[1]]));
        let end = Instant::now() + Duration::from_secs(20);
        let mut below = Look::default();
        while below.somebody_runs(family.pid(), LEVELS) {
            assert!(Instant::now() < end, "a zombie counts");
            below = Look::default();
        }
    }

    #[test]
    fn the_workers_of_a_server_with_a_wrapper_are_looked_at_as_well() {
        let inner = "sleep 600 & echo $!; sleep 600 & echo $!; wait";
        let family = Family::new(&format!("bash -c '{inner}' & wait"), 2);
        assert_eq!(look(family.pid()), (Standing::Runs, vec![]));
        set(family.1[0], true);
        assert_eq!(look(family.pid()), (Standing::Runs, vec![family.1[0]]));
        set(family.1[1], true);
        assert_eq!(look(family.pid()), (Standing::ChildrenStopped, family.1.clone()));
        // A further one that runs may be who accepts.
        let server = Stat::read(family.1[0]).unwrap().parent;
        assert_eq!(look(server), (Standing::ChildrenStopped, family.1.clone()));
        send(server, Signal::KILL);
    }

    #[test]
    fn too_many_are_not_looked_at() {
        let count = CHILDREN_MAX + 1;
        let family =
            Family::new(&format!("for n in {{1..{count}}}; do sleep 600 & echo $!; done; wait"), count);
        family.1.iter().for_each(|pid| set(*pid, true));
        assert_eq!(look(family.pid()).0, Standing::Runs, "nobody can tell");
        assert_eq!(look(i32::MAX), (Standing::Runs, vec![]));
    }
}
