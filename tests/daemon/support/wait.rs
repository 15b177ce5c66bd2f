//! Waiting for facts. Nothing here sleeps for a time: each wait has something that it waits for and
//! a bound after which the test fails and says what never came.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long between two looks at a fact that cannot be waited for with poll(2).
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The bound for what takes milliseconds on an idle machine. Generous, for two busy cores; a test
/// that passes never waits for it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Asks `fact` again and again until it answers.
///
/// # Panics
/// After `bound`, naming `what` was waited for.
pub(crate) fn wait_for<T>(what: &str, bound: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(began.elapsed() < bound, "waited {bound:?} in vain for: {what}");
        pause(LOOK_AGAIN);
    }
}

/// As [`wait_for`], for a fact that is a truth value.
pub(crate) fn wait_until(what: &str, bound: Duration, mut fact: impl FnMut() -> bool) {
    wait_for(what, bound, || fact().then_some(()));
}

/// Checks that `fact` holds at every look for as long as `span`.
///
/// # Panics
/// When it does not, naming `what` broke.
pub(crate) fn holds_for(what: &str, span: Duration, mut fact: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < span {
        assert!(fact(), "did not hold for {span:?}, broke after {:?}: {what}", began.elapsed());
        pause(LOOK_AGAIN);
    }
}

/// Lets `span` pass: the think time of a load client, or the gap between two looks.
pub(crate) fn pause(span: Duration) {
    let until = Instant::now() + span;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match poll(&mut [], timeout(left)) {
            Ok(_) => return,
            Err(Errno::EINTR) => {}
            Err(errno) => panic!("poll without descriptors failed: {errno}"),
        }
    }
}

/// Waits until `fd` has one of `flags` (POLLHUP and POLLERR always count), or `bound` is over:
/// what poll(2) reported, empty after the bound.
pub(crate) fn ready(fd: BorrowedFd<'_>, flags: PollFlags, bound: Duration) -> PollFlags {
    let until = Instant::now() + bound;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(fd, flags)];
        match poll(&mut fds, timeout(left)) {
            Ok(_) => return fds[0].revents().unwrap_or(PollFlags::empty()),
            Err(Errno::EINTR) => {}
            Err(errno) => panic!("poll failed: {errno}"),
        }
    }
}

/// poll(2) counts in milliseconds: rounded up, so that a short rest is no busy loop.
fn timeout(left: Duration) -> PollTimeout {
    let millis = left.as_micros().div_ceil(1000);
    PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
}
