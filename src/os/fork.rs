//! One fork: a child that starts clean, held by a pidfd, with a pipe or a socket to say how it went.
//!
//! supd has one thread, so the child may allocate, look names up and run ordinary code: no lock
//! can be held by a thread that did not come along. (In tests there are other threads; glibc's
//! fork makes its allocator and its name services safe, which is why a bare clone3 is only for a child
//! of such a fork.)
#![allow(unsafe_code)]

use super::Error;
use super::pidfd::PidFd;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::{ForkResult, pipe2, read, write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// A forked child and what it will have said by the time that its end of the pipe closes.
#[derive(Debug)]
pub struct Forked {
    /// The child. It is to be reaped, by [`PidFd::wait`] or by [`super::process::reap_orphans`].
    pub process: PidFd,
    /// Its report.
    pub report: Report,
}

/// The reading end of a child's report. Never blocks; readable when there is news.
#[derive(Debug)]
pub struct Report {
    fd: OwnedFd,
    said: Vec<u8>,
}

/// No report is longer: more than this is cut off, which its reader takes for garbage.
const REPORT_MAX: usize = 65_536;

impl Report {
    /// The end of a socket that a child speaks into, which does not block.
    pub(super) fn on(fd: OwnedFd) -> Self {
        Self { fd, said: Vec::new() }
    }

    /// Tells a child that waits for it to go on. Nobody waits at a pipe.
    pub(super) fn go(&self) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        // One that has ended meanwhile has said why.
        let _ = send(self.fd.as_raw_fd(), b"+", flags);
    }

    /// Everything the child said, once it has closed its end: by execve(2), or by ending.
    pub fn poll(&mut self) -> Poll<Vec<u8>> {
        let mut buffer = [0; 4096];
        while self.said.len() < REPORT_MAX {
            match read(&self.fd, &mut buffer) {
                Ok(0) => break,
                Ok(count) => self.said.extend_from_slice(&buffer[..count]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Poll::Pending,
                // A pipe has no other errors, and a socket only that of an end that left something unread:
                // this is all that will ever come.
                Err(_) => break,
            }
        }
        Poll::Ready(std::mem::take(&mut self.said))
    }

    /// Everything a child said that has ended, whoever holds its end of the pipe open beside it.
    pub fn end(&mut self) -> Vec<u8> {
        match self.poll() {
            Poll::Ready(said) => said,
            Poll::Pending => std::mem::take(&mut self.said),
        }
    }
}

impl AsFd for Report {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The child's end of the pipe, close-on-exec.
#[derive(Debug)]
pub struct Reporter {
    fd: RawFd,
}

impl Reporter {
    /// Says `bytes`. They fit into the empty pipe, so this does not block; if nobody reads any
    /// more there is nobody to tell.
    pub fn say(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match write(self.as_fd(), bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Waits at a socket until the other end has said [`Report::go`]. At a pipe there is nothing to wait for.
    ///
    /// # Errors
    /// EPIPE: nobody is there any more to say it.
    pub(super) fn wait_for_go(&self) -> Result<(), Errno> {
        loop {
            match recv(self.fd, &mut [0], MsgFlags::empty()) {
                Ok(1..) | Err(Errno::ENOTSOCK) => return Ok(()),
                Ok(0) => return Err(Errno::EPIPE),
                Err(Errno::EAGAIN) => {
                    let _ = poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The descriptor, for those who move descriptors about.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.fd
    }

    /// The same pipe at another number, close-on-exec as well. The old number is left as it is,
    /// to be overwritten or closed.
    ///
    /// # Errors
    /// EMFILE where no number from `lowest` on is allowed.
    pub fn move_up(&mut self, lowest: RawFd) -> Result<(), Errno> {
        self.fd = fcntl(self.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
        Ok(())
    }

    /// The same pipe at exactly this number, whatever was there before.
    ///
    /// # Errors
    /// EBADF where the number is not allowed.
    pub fn move_to(&mut self, number: RawFd) -> Result<(), Errno> {
        // SAFETY: the child owns its descriptor table; who calls this has planned the numbers.
        Errno::result(unsafe { libc::dup3(self.fd, number, libc::O_CLOEXEC) })?;
        self.fd = number;
        Ok(())
    }
}

impl AsFd for Reporter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open from the fork to the child's end; only `move_…` change the number.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

/// Whether this process is a forked child that has not run another program yet. A panic hook or
/// a handler that leaves a mark ("supd crashed") has to ask, for the child has them too.
#[must_use]
pub fn is_child() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Set in the child only. A flag instead of a hook taken away: that would take a lock.
static FORKED: AtomicBool = AtomicBool::new(false);

/// A child must never return, or unwind, into its parent's code: two supds would be one too many.
struct EndHere;

impl Drop for EndHere {
    fn drop(&mut self) {
        // SAFETY: _exit(2) runs no handler and flushes no buffer, which are the parent's.
        unsafe { libc::_exit(1) }
    }
}

/// Forks. The child has every signal at its default and none blocked, then runs `child` and ends.
///
/// # Errors
/// EMFILE and ENFILE for the pipe, EAGAIN and ENOMEM for the process. Then there is no child.
pub fn fork(what: &str, child: impl FnOnce(&mut Reporter)) -> Result<Forked, Error> {
    let pipe = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
    fork_with(pipe.map_err(|errno| Error::new("make a pipe for", what, errno))?, what, child)
}

/// The same of a child that can be told to go on, and sees when nobody will tell it: it reports on a socket.
///
/// # Errors
/// As [`fork`].
pub(super) fn fork_held(what: &str, child: impl FnOnce(&mut Reporter)) -> Result<Forked, Error> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, flags);
    fork_with(pair.map_err(|errno| Error::new("make sockets for", what, errno))?, what, child)
}

fn fork_with(
    (reader, writer): (OwnedFd, OwnedFd),
    what: &str,
    child: impl FnOnce(&mut Reporter),
) -> Result<Forked, Error> {
    let failed = |doing| move |errno| Error::new(doing, what, errno);
    // Held until the pidfd is opened, so that a full descriptor table is found before the fork:
    // afterwards there would be a child that nobody can hold.
    let place = reader.try_clone().map_err(|e| Error::from_io("keep a descriptor for", what, &e))?;
    keep_ended_children();
    // A handler that runs in the child would write into the pipe of its parent's handlers, so no
    // signal is delivered there before all are back at their defaults.
    let before =
        SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(failed("block signals for"))?;
    // SAFETY: see the top of the file: one thread, and the child leaves by execve or _exit only.
    match unsafe { nix::unistd::fork() } {
        Err(errno) => {
            restore(&before);
            Err(Error::new("fork for", what, errno))
        }
        Ok(ForkResult::Child) => {
            let _end = EndHere;
            drop((reader, place));
            become_child(&writer, child)
        }
        Ok(ForkResult::Parent { child }) => {
            restore(&before);
            drop((writer, place));
            let process = PidFd::open(child.as_raw()).inspect_err(|_| {
                // ENFILE or ENOMEM: the one moment where a bare number is safe, since the child
                // cannot be reaped by anyone but us, and was not. It is reaped as an orphan.
                // SAFETY: takes two numbers.
                unsafe { libc::kill(child.as_raw(), libc::SIGKILL) };
            })?;
            Ok(Forked { process, report: Report { fd: reader, said: Vec::new() } })
        }
    }
}

/// The child's whole life.
fn become_child(writer: &OwnedFd, child: impl FnOnce(&mut Reporter)) -> ! {
    let _end = EndHere;
    FORKED.store(true, Ordering::Relaxed);
    default_dispositions();
    restore(&SigSet::empty());
    child(&mut Reporter { fd: writer.as_raw_fd() });
    // SAFETY: as in `EndHere`.
    unsafe { libc::_exit(0) }
}

/// Makes a child of this process's parent, which reports into `writer`: a sibling, which the parent
/// reaps. For a forked child with one thread and every signal blocked: this is a bare clone3(2), which
/// leaves the C library's locks as they are.
///
/// # Errors
/// EAGAIN, ENOMEM, EMFILE; ENOSYS where the call is forbidden. Then there is no child.
pub(super) fn fork_for_parent(writer: &OwnedFd, child: impl FnOnce(&mut Reporter)) -> Result<PidFd, Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: a clone_args of zeros is a valid one. The signal at its end is that of this process's own.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    // SAFETY: no shared memory and no new stack, so this is a fork; the kernel writes one int.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    match i32::try_from(Errno::result(pid)?).expect("a process number is an int") {
        0 => become_child(writer, child),
        // SAFETY: the kernel has just made it for us alone, close-on-exec.
        pid => Ok(PidFd::from_fd(unsafe { OwnedFd::from_raw_fd(pidfd) }, pid)),
    }
}

/// Somebody who ignores SIGCHLD has their children reaped by the kernel, and a program inherits
/// that: then a child's number could be another's before it is held, and its exit is lost.
fn keep_ended_children() {
    // SAFETY: a sigaction of zeros is a valid one: the default, without flags.
    let (mut now, default): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the structure it is given.
    unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut now) };
    if now.sa_sigaction == libc::SIG_IGN || now.sa_flags & libc::SA_NOCLDWAIT != 0 {
        // SAFETY: to the default only from "ignored": no handler is lost.
        unsafe { libc::sigaction(libc::SIGCHLD, &raw const default, std::ptr::null_mut()) };
    }
}

/// sigprocmask cannot fail with a valid `how`.
fn restore(mask: &SigSet) {
    mask.thread_set_mask().expect("SIG_SETMASK is a valid request");
}

/// Every signal at its default. By the bare call: the C library hides two signals from
/// sigaction(3), and an ignored signal stays ignored over execve(2).
fn default_dispositions() {
    /// The kernel's struct sigaction: a handler (SIG_DFL is 0), flags, a restorer on some
    /// architectures, a mask of 64 bits.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=64 {
        let old = std::ptr::null_mut::<u64>();
        // SAFETY: the action is as long as the kernel's structure or longer, nothing is written.
        // SIGKILL and SIGSTOP answer EINVAL, and are at their default anyway.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), old, 8usize) };
    }
}

/// Closes every descriptor from `first` on (close_range(2), 5.9).
///
/// # Errors
/// ENOSYS on kernels that are too old for supd.
pub fn close_from(first: RawFd) -> Result<(), Errno> {
    close_between(first, RawFd::MAX)
}

/// Closes the descriptors from `first` to `last`, both included.
fn close_between(first: RawFd, last: RawFd) -> Result<(), Errno> {
    if first > last {
        return Ok(());
    }
    // SAFETY: called in a child about to exec or end, whose descriptors nobody else uses.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first.unsigned_abs(), last.unsigned_abs(), 0u32) };
    Errno::result(done).map(drop)
}

/// Closes every descriptor from 3 on but those in `kept`.
///
/// # Errors
/// As [`close_from`].
pub fn close_all_but(kept: &[RawFd]) -> Result<(), Errno> {
    let mut kept: Vec<RawFd> = kept.iter().copied().filter(|fd| *fd >= 3).collect();
    kept.sort_unstable();
    let mut next = 3;
    for fd in kept {
        close_between(next, fd - 1)?;
        next = fd + 1;
    }
    close_from(next)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Forked, close_all_but, fork};
    use crate::model::{Signal, WorkerExit};
    use crate::os::pidfd::Wait;
    use nix::libc;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::task::Poll;

    /// Waits, with a bound, for the report and the end. Other tests fork at the same time, and
    /// their children hold copies of this pipe for a moment: the end of the one is no proof of
    /// the end of the other.
    pub(in crate::os) fn finish(mut forked: Forked) -> (Vec<u8>, WorkerExit) {
        fn ready(fd: BorrowedFd<'_>) {
            let mut entry = [PollFd::new(fd, PollFlags::POLLIN)];
            assert_eq!(poll(&mut entry, PollTimeout::from(20_000u16)), Ok(1), "nothing came");
        }
        let said = loop {
            ready(forked.report.as_fd());
            if let Poll::Ready(said) = forked.report.poll() {
                break said;
            }
        };
        ready(forked.process.as_fd());
        let Wait::Exited(exit) = forked.process.wait().unwrap() else { panic!("not over") };
        (said, exit)
    }

    #[test]
    fn what_the_child_says_arrives_whole() {
        let long = vec![b'x'; 60_000];
        let (said, exit) = finish(fork("a test", |reporter| reporter.say(&long)).unwrap());
        assert_eq!((said.len(), exit), (60_000, WorkerExit::Code(0)));
    }

    #[test]
    fn silence_until_it_ends() {
        let mut forked = fork("a test", |_| {
            nix::unistd::pause();
        })
        .unwrap();
        assert_eq!(forked.report.poll(), Poll::Pending);
        // SIGTERM ends it although libtest, like supd, may have handlers or masks of its own.
        forked.process.send(Signal::TERM).unwrap();
        let killed = WorkerExit::Killed { signal: Signal::TERM, core: false };
        assert_eq!(finish(forked), (Vec::new(), killed));
    }

    #[test]
    fn a_panic_ends_the_child_there() {
        // Not `panic!`: its hook prints under a lock that another test's thread may hold.
        let forked = fork("a test", |_| std::panic::resume_unwind(Box::new(()))).unwrap();
        let (_, exit) = finish(forked);
        assert!(!exit.is_success(), "{exit}");
        assert!(!super::is_child());
    }

    /// Alone, since every child of the process would be lost.
    #[test]
    fn an_inherited_ignored_sigchld_loses_no_exit() {
        crate::os::alone::alone("os::fork::tests::an_inherited_ignored_sigchld_loses_no_exit", || {
            // SAFETY: takes two numbers.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            for _ in 0..50 {
                let (_, exit) = finish(fork("a test", |_| {}).unwrap());
                assert_eq!(exit, WorkerExit::Code(0));
            }
            String::new()
        });
    }

    #[test]
    fn all_but_the_kept_are_closed() {
        let (kept, _closed) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let kept = std::os::fd::AsRawFd::as_raw_fd(&kept);
        let forked = fork("a test", |reporter| {
            close_all_but(&[kept, reporter.number(), 1]).unwrap();
            let names = std::fs::read_dir("/proc/self/fd").unwrap();
            let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
            let open: Vec<i32> = names.map(|name| name.parse().unwrap()).collect();
            // The standard three, the pipe, the kept one, and the folder that is being read.
            reporter.say(format!("{} {}", open.contains(&kept), open.len()).as_bytes());
        })
        .unwrap();
        assert_eq!(finish(forked), (b"true 6".to_vec(), WorkerExit::Code(0)));
    }
}
