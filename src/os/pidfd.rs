//! Processes by descriptor: the number of a process may be given to another one, a pidfd never is
//! (pidfd_open(2)).
#![allow(unsafe_code)]

use super::Error;
use crate::model::{Signal, WorkerExit};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A process, held fast: it may end, but this will never mean another one.
///
/// Its descriptor polls readable from the process's end on, child or not.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    pid: i32,
}

/// What [`PidFd::wait`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It has not ended.
    Running,
    /// It has ended; a child is reaped by this.
    Exited(WorkerExit),
    /// It is no child of ours and has ended, but its parent has not collected it yet: ask again
    /// at the next event, or take [`WorkerExit::Unknown`].
    Unreaped,
}

/// `struct pidfd_info` of linux/pidfd.h in its first version, which every kernel that knows the
/// call accepts.
#[repr(C)]
#[derive(Default)]
struct PidFdInfo {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

/// PIDFD_INFO_EXIT of linux/pidfd.h (6.15).
const INFO_EXIT: u64 = 1 << 3;

/// PID_FS_MAGIC of linux/magic.h: a pidfd whose inode is a number of its own (6.9).
const PIDFS: FsType = FsType(0x5049_4446);

nix::ioctl_readwrite!(
    /// PIDFD_GET_INFO of linux/pidfd.h (6.13).
    pidfd_get_info,
    0xFF,
    11,
    PidFdInfo
);

impl PidFd {
    /// Takes hold of the process that has this number now.
    ///
    /// # Errors
    /// ESRCH where there is none; EINVAL for the number of a thread; EMFILE, ENFILE, ENOMEM.
    pub fn open(pid: i32) -> Result<Self, Error> {
        // SAFETY: takes two numbers and touches no memory.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = Errno::result(fd).map_err(|errno| Error::new("open process", pid, errno))?;
        let fd = i32::try_from(fd).expect("a descriptor is an int");
        // SAFETY: the kernel has just made it for us alone, close-on-exec.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, pid })
    }

    /// A pidfd that came from elsewhere: from clone3(2) or with SCM_PIDFD.
    #[must_use]
    pub fn from_fd(fd: OwnedFd, pid: i32) -> Self {
        Self { fd, pid }
    }

    /// A descriptor that a stranger says is a pidfd, with the number that the kernel says it has
    /// (/proc/self/fdinfo); `None`: it is none, or its process has ended.
    #[must_use]
    pub fn identify(fd: OwnedFd) -> Option<Self> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
        let pid: i32 = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
        (pid > 0).then_some(Self { fd, pid })
    }

    /// The number that the process has while it is not reaped; for people and for
    /// /proc, never to signal by.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal to exactly this process.
    ///
    /// # Errors
    /// ESRCH: it has ended; EPERM: it is not ours to signal.
    pub fn send(&self, signal: Signal) -> Result<(), Error> {
        let nothing = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open, and a null siginfo means "as kill(2) does".
        let done =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal.0, nothing, 0) };
        Errno::result(done)
            .map(drop)
            .map_err(|errno| Error::new("send", format!("{signal} to process {}", self.pid), errno))
    }

    /// A copy of one of its descriptors, of the same open file (pidfd_getfd(2)).
    ///
    /// # Errors
    /// EPERM: this process may not trace that one (ptrace(2)); EBADF: it has no such descriptor; ESRCH: it
    /// has ended; ENOSYS: a sandbox does not know the call, which came with Linux 5.6; EMFILE, ENFILE.
    pub fn descriptor(&self, number: RawFd) -> Result<OwnedFd, Errno> {
        // SAFETY: takes three numbers and touches no memory.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.fd.as_raw_fd(), number, 0) };
        let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just made it for us alone, close-on-exec.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Whether it has ended, be it reaped or not.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over_within(Duration::ZERO)
    }

    /// The same; waits so long for it.
    #[must_use]
    pub fn is_over_within(&self, bound: Duration) -> bool {
        let mut entry = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let bound = PollTimeout::try_from(bound.as_millis()).unwrap_or(PollTimeout::MAX);
        // An error (ENOMEM) cannot prove an end.
        poll(&mut entry, bound).is_ok_and(|ready| ready > 0)
    }

    /// How it ended, if it did. Reaps a child. Never blocks.
    ///
    /// waitid(2) is called as it is: nix has no value for a real-time signal, and would reap the
    /// process and then answer EINVAL.
    ///
    /// # Errors
    /// What waitid(2) or the pidfd's ioctl says, other than "no child" and "too old to know".
    pub fn wait(&self) -> Result<Wait, Error> {
        // SAFETY: a siginfo_t of zeros is a valid one, and "nothing ended" leaves it so.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = self.fd.as_raw_fd().unsigned_abs();
        // SAFETY: the descriptor is open and the kernel fills the siginfo it is given.
        let done = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED | libc::WNOHANG) };
        match Errno::result(done) {
            Err(Errno::ECHILD) => self.wait_for_a_stranger(),
            Err(errno) => Err(Error::new("wait for process", self.pid, errno)),
            // SAFETY: waitid has filled these fields, or left them zero.
            Ok(_) => Ok(match unsafe { (info.si_pid(), info.si_status()) } {
                (0, _) => Wait::Running,
                (_, status) => Wait::Exited(exit_of(info.si_code, status)),
            }),
        }
    }

    /// PIDFD_GET_INFO tells the end of a process that is no child, once its parent reaped it.
    fn wait_for_a_stranger(&self) -> Result<Wait, Error> {
        if !self.is_over() {
            return Ok(Wait::Running);
        }
        let mut info = PidFdInfo { mask: INFO_EXIT, ..PidFdInfo::default() };
        // SAFETY: the structure has the size and layout that the request's number encodes.
        match unsafe { pidfd_get_info(self.fd.as_raw_fd(), &raw mut info) } {
            Ok(_) if info.mask & INFO_EXIT != 0 => Ok(Wait::Exited(exit_of_status(info.exit_code))),
            // Linux 6.13 and 6.14 know the call but not this answer; after the reaping they say ESRCH.
            Ok(_) => Ok(Wait::Unreaped),
            Err(Errno::ESRCH | Errno::ENOTTY | Errno::EINVAL | Errno::ENOSYS) => {
                Ok(Wait::Exited(WorkerExit::Unknown))
            }
            Err(errno) => Err(Error::new("ask for the end of process", self.pid, errno)),
        }
    }

    /// Its inode on pidfs, unique for the whole boot; `None` on kernels without pidfs, where all
    /// pidfds share one inode.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        let on_pidfs = fstatfs(&self.fd).is_ok_and(|fs| fs.filesystem_type() == PIDFS);
        on_pidfs.then(|| fstat(&self.fd).ok()).flatten().map(|stat| stat.st_ino)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// si_code and si_status of waitid(2).
fn exit_of(code: i32, status: i32) -> WorkerExit {
    match code {
        libc::CLD_EXITED => WorkerExit::Code(status),
        libc::CLD_KILLED => WorkerExit::Killed { signal: Signal(status), core: false },
        libc::CLD_DUMPED => WorkerExit::Killed { signal: Signal(status), core: true },
        _ => WorkerExit::Unknown,
    }
}

/// The status word of wait(2).
fn exit_of_status(status: i32) -> WorkerExit {
    match status & 0x7f {
        0 => WorkerExit::Code((status >> 8) & 0xff),
        signal => WorkerExit::Killed { signal: Signal(signal), core: status & 0x80 != 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::{PidFd, Wait, exit_of_status};
    use crate::model::{Signal, WorkerExit};
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::io::{BufRead, BufReader, Write};
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    /// Waits, with a bound, for the end that the descriptor announces.
    fn ended(process: &PidFd) {
        let mut entry = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut entry, PollTimeout::from(20_000u16)), Ok(1), "it did not end");
    }

    #[allow(clippy::zombie_processes, reason = "the pidfd reaps it: that is what is tested")]
    fn end_of(script: &str, signal: Option<Signal>) -> WorkerExit {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let process = PidFd::open(i32::try_from(child.id()).unwrap()).unwrap();
        if let Some(signal) = signal {
            assert_eq!(process.wait().unwrap(), Wait::Running);
            process.send(signal).unwrap();
        }
        ended(&process);
        let Wait::Exited(exit) = process.wait().unwrap() else { panic!("over, but not reaped") };
        assert!(process.is_over());
        assert_eq!(process.send(Signal::TERM).unwrap_err().errno, nix::errno::Errno::ESRCH);
        exit
    }

    #[test]
    fn every_way_to_end() {
        assert_eq!(end_of("exit 0", None), WorkerExit::Code(0));
        assert_eq!(end_of("exit 203", None), WorkerExit::Code(203));
        let killed = |n| WorkerExit::Killed { signal: Signal(n), core: false };
        assert_eq!(end_of("exec sleep 60", Some(Signal::TERM)), killed(15));
        assert_eq!(end_of("exec sleep 60", Some(Signal::KILL)), killed(9));
        // A real-time signal, which nix's types cannot say.
        assert_eq!(end_of("exec sleep 60", Some(Signal(37))), killed(37));
    }

    #[test]
    fn status_words() {
        assert_eq!(exit_of_status(0x0300), WorkerExit::Code(3));
        assert_eq!(exit_of_status(0x8b), WorkerExit::Killed { signal: Signal(11), core: true });
    }

    #[test]
    fn nobody_has_that_number() {
        assert_eq!(PidFd::open(i32::MAX).unwrap_err().errno, nix::errno::Errno::ESRCH);
        assert!(PidFd::open(0).is_err() && PidFd::open(-1).is_err());
    }

    #[test]
    fn the_end_of_a_process_that_is_no_child() {
        // The shell is its parent and reaps it; where the kernel keeps the status it is told.
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "exec 3<&0; (read go <&3; exit 7) & echo $!; wait $!; echo reaped; read end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let pid: i32 = lines.next().unwrap().unwrap().parse().unwrap();
        let process = PidFd::open(pid).unwrap();
        assert_eq!(process.wait().unwrap(), Wait::Running);
        let mut stdin = shell.stdin.take().unwrap();
        stdin.write_all(b"go\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "reaped");
        let Wait::Exited(exit) = process.wait().unwrap() else { panic!("not reaped") };
        assert!(matches!(exit, WorkerExit::Code(7) | WorkerExit::Unknown), "{exit}");
        drop(stdin);
        shell.wait().unwrap();
    }
}
