//! Work that may block, in a child of its own: copying, searching /proc, resolving. supd's loop
//! waits for nothing but its answer.

use super::Error;
use super::fork::{Report, close_all_but, fork};
use super::pidfd::PidFd;
use nix::unistd::{alarm, setsid};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::Poll;
use std::time::Duration;

/// A piece of work under way.
#[derive(Debug)]
pub struct Task {
    process: PidFd,
    report: Report,
}

/// The first byte of an answer.
const DONE: u8 = b'+';
/// The first byte of a refusal.
const FAILED: u8 = b'-';

impl Task {
    /// Runs `work` in a forked child that has none of supd's descriptors but those in `kept` and
    /// ends within `bound` (whole seconds, at least one): by SIGALRM, so that no bug of supd's,
    /// not even its death, lets it run on.
    ///
    /// # Errors
    /// What [`fork`] says; then nothing was begun.
    pub fn run(
        what: &str,
        bound: Duration,
        kept: &[BorrowedFd<'_>],
        work: impl FnOnce() -> Result<Vec<u8>, String>,
    ) -> Result<Self, Error> {
        let mut kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
        let forked = fork(what, |reporter| {
            // Its own session: Ctrl-C at supd's terminal is for supd to act on.
            let _ = setsid();
            alarm::set(u32::try_from(bound.as_secs()).unwrap_or(u32::MAX).max(1));
            kept.push(reporter.number());
            let result = match close_all_but(&kept) {
                Ok(()) => work(),
                Err(errno) => Err(format!("cannot close what is supd's own: {}", errno.desc())),
            };
            let (mark, text) = match result {
                Ok(answer) => (DONE, answer),
                Err(reason) => (FAILED, reason.into_bytes()),
            };
            reporter.say(&[&[mark], text.as_slice()].concat());
        })?;
        Ok(Self { process: forked.process, report: forked.report })
    }

    /// The answer, or why there is none. Never blocks; once it has said `Ready` the task is over
    /// and may be dropped: the child is reaped as an orphan, or by its pidfd.
    pub fn poll(&mut self) -> Poll<Result<Vec<u8>, String>> {
        self.report.poll().map(|said| match said.split_first() {
            Some((&DONE, answer)) => Ok(answer.to_vec()),
            Some((&FAILED, reason)) => Err(String::from_utf8_lossy(reason).into_owned()),
            _ => Err("the child that did it was killed, or took too long".to_owned()),
        })
    }

    /// The child, to be ended early or reaped.
    #[must_use]
    pub fn process(&self) -> &PidFd {
        &self.process
    }
}

/// Readable when [`Task::poll`] has news.
impl AsFd for Task {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Task;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    use std::task::Poll;
    use std::time::Duration;

    /// Waits, with a bound, for the answer, and reaps the child.
    pub(crate) fn finish(mut task: Task) -> Result<Vec<u8>, String> {
        loop {
            if let Poll::Ready(result) = task.poll() {
                let mut entry = [PollFd::new(task.process().as_fd(), PollFlags::POLLIN)];
                assert_eq!(poll(&mut entry, PollTimeout::from(60_000u16)), Ok(1), "it did not end");
                task.process().wait().unwrap();
                return result;
            }
            let mut entry = [PollFd::new(task.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut entry, PollTimeout::from(60_000u16)), Ok(1), "no answer");
        }
    }

    /// Runs a test's body in a child: for what takes locks of the C library (name services), under
    /// which another test could fork.
    pub(crate) fn in_child(body: impl FnOnce()) {
        let body = || {
            body();
            Ok(Vec::new())
        };
        assert_eq!(finish(Task::run("a test", Duration::from_secs(60), &[], body).unwrap()), Ok(Vec::new()));
    }

    #[test]
    fn an_answer_and_a_refusal() {
        let minute = Duration::from_secs(60);
        let task = Task::run("a test", minute, &[], || Ok(b"42".to_vec())).unwrap();
        assert_eq!(finish(task), Ok(b"42".to_vec()));
        let task = Task::run("a test", minute, &[], || Err("no disk".to_owned())).unwrap();
        assert_eq!(finish(task), Err("no disk".to_owned()));
    }

    #[test]
    fn the_bound_holds_without_anyone_watching() {
        let task = Task::run("a test", Duration::ZERO, &[], || {
            loop {
                nix::unistd::pause();
            }
        });
        assert!(finish(task.unwrap()).unwrap_err().contains("too long"));
    }

    #[test]
    fn a_killed_child_is_a_failure() {
        let task = Task::run("a test", Duration::from_secs(60), &[], || {
            loop {
                nix::unistd::pause();
            }
        })
        .unwrap();
        task.process().send(crate::model::Signal::KILL).unwrap();
        assert!(finish(task).unwrap_err().contains("killed"));
    }
}
