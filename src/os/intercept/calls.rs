//! The calls that the kernel asks about, and what they are answered.
#![allow(unsafe_code)]

use super::filter::{self, Kind};
use crate::model::kept::KeptCall;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// More than a supd takes of one worker in a turn, at whose end it tells of them.
const LOST_MAX: u64 = 64;

/// What one worker asks by: a descriptor that is readable while a call waits. Once the last process of
/// the worker is gone it says so ([`Calls::is_over`]). When it is closed, each call that still comes
/// fails with ENOSYS: it is to be kept as long as the worker lives.
#[derive(Debug)]
pub struct Calls(OwnedFd);

/// A call that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Its number; never used twice for one worker.
    pub id: u64,
    /// The thread that waits in it, as supd's PID namespace counts; 0: it is in none of supd's.
    pub thread: i32,
    /// What it asks for.
    pub what: What,
}

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// bind(2)
    Bind {
        /// The socket, as the worker numbers it.
        fd: RawFd,
        /// Where the address is in the worker's memory.
        address: u64,
        /// How long the worker says it is.
        length: usize,
    },
    /// listen(2)
    Listen {
        /// The socket, as the worker numbers it.
        fd: RawFd,
        /// How many may wait.
        backlog: i32,
    },
    /// Either, through an entry whose arguments are not known (32 bits).
    Foreign,
}

impl Call {
    /// Told so that another supd can answer it. One through an entry that is not known is answered at once.
    #[must_use]
    pub fn keep(&self) -> Option<KeptCall> {
        let Self { id, thread, what } = *self;
        match what {
            What::Bind { fd, address, length } => {
                Some(KeptCall { id, thread, fd, address: Some((address, length as u64)), backlog: 0 })
            }
            What::Listen { fd, backlog } => Some(KeptCall { id, thread, fd, address: None, backlog }),
            What::Foreign => None,
        }
    }

    /// As another supd told it.
    #[must_use]
    pub fn of(kept: &KeptCall) -> Self {
        let KeptCall { id, thread, fd, address, backlog } = *kept;
        let what = match address {
            Some((address, length)) => {
                What::Bind { fd, address, length: usize::try_from(length).unwrap_or(0) }
            }
            None => What::Listen { fd, backlog },
        };
        Self { id, thread, what }
    }
}

/// What a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It has worked.
    Done,
    /// It has not.
    Refused(Errno),
    /// The kernel does it, as if nobody had been asked.
    Continue,
}

nix::ioctl_readwrite!(receive, b'!', 0, libc::seccomp_notif);
nix::ioctl_readwrite!(send, b'!', 1, libc::seccomp_notif_resp);
nix::ioctl_write_ptr!(is_valid, b'!', 2, u64);
nix::ioctl_write_ptr!(add_descriptor, b'!', 3, libc::seccomp_notif_addfd);

impl Calls {
    /// What the child's filter gave.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The next call that waits, if one does. Never blocks: the kernel is asked first whether it would,
    /// and nobody else takes calls from here.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn next(&self) -> Result<Option<Call>, Errno> {
        if !self.poll().contains(PollFlags::POLLIN) {
            return Ok(None);
        }
        // SAFETY: plain numbers; the kernel wants them to be zero.
        let mut asked: libc::seccomp_notif = unsafe { zeroed() };
        // SAFETY: the structure has the layout of the request, and lives through the call.
        match unsafe { receive(self.0.as_raw_fd(), &raw mut asked) } {
            Ok(_) => Ok(Some(read(&asked))),
            // Whoever asked was killed meanwhile.
            Err(Errno::ENOENT | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether no process is left that could ask.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.poll().contains(PollFlags::POLLHUP)
    }

    fn poll(&self) -> PollFlags {
        let mut entry = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut entry, PollTimeout::ZERO);
        entry[0].revents().unwrap_or(PollFlags::empty())
    }

    /// Whether the thread still waits in this call: what was read of it under its number was its own.
    #[must_use]
    pub fn waits(&self, call: &Call) -> bool {
        self.is_taken(call.id)
    }

    /// Whether the call of this number was taken, and is not answered.
    fn is_taken(&self, id: u64) -> bool {
        // SAFETY: the kernel reads one number.
        unsafe { is_valid(self.0.as_raw_fd(), &raw const id) }.is_ok()
    }

    /// Calls that were taken after the one numbered `last`, and are not answered: of a supd that died before it
    /// could tell anybody of them. The kernel counts one by one (kernel/seccomp.c, seccomp_do_user_notification).
    #[must_use]
    pub fn taken_after(&self, last: u64) -> Vec<u64> {
        (1..=LOST_MAX).map(|more| last.wrapping_add(more)).filter(|id| self.is_taken(*id)).collect()
    }

    /// Puts a copy of `socket` where the worker has its descriptor `place`, which is closed by that.
    ///
    /// # Errors
    /// ENOENT: the worker has gone; EBADF, EMFILE: `place` is beyond its limit.
    pub fn put(
        &self,
        call: &Call,
        socket: BorrowedFd<'_>,
        place: RawFd,
        close_on_exec: bool,
    ) -> Result<(), Errno> {
        let request = libc::seccomp_notif_addfd {
            id: call.id,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: socket.as_raw_fd().unsigned_abs(),
            newfd: place.unsigned_abs(),
            newfd_flags: if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 },
        };
        // SAFETY: the structure has the layout of the request, and lives through the call.
        unsafe { add_descriptor(self.0.as_raw_fd(), &raw const request) }.map(drop)
    }

    /// Lets the worker go on. That it has gone meanwhile is no error.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn finish(&self, call: &Call, answer: Answer) -> Result<(), Errno> {
        let (error, flags) = match answer {
            Answer::Done => (0, 0),
            Answer::Refused(errno) => (-(errno as i32), 0),
            Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        };
        let mut said = libc::seccomp_notif_resp { id: call.id, val: 0, error, flags };
        // SAFETY: the structure has the layout of the request, and lives through the call.
        match unsafe { send(self.0.as_raw_fd(), &raw mut said) } {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Calls {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn read(asked: &libc::seccomp_notif) -> Call {
    let arguments = &asked.data.args;
    // The kernel passes registers; of an int it looks at the lower half.
    let int = |at: usize| arguments[at] as u32 as i32;
    let what = match filter::kind(asked.data.arch, asked.data.nr) {
        Kind::Bind => {
            let length = usize::try_from(int(2)).unwrap_or(0);
            What::Bind { fd: int(0), address: arguments[1], length }
        }
        Kind::Listen => What::Listen { fd: int(0), backlog: int(1) },
        Kind::Foreign => What::Foreign,
    };
    Call { id: asked.id, thread: i32::try_from(asked.pid).unwrap_or(0), what }
}
