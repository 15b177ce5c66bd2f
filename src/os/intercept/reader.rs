//! Looks at what workers' calls are about, in a child: it may have to wait for as long as a worker likes
//! ([`Facts`]). The child may be killed, supd may not.

use super::calls::{Call, What};
use super::facts::{Facts, Ours};
use super::sets::{self, Watch};
use crate::os::Error;
use crate::os::fork::{close_all_but, fork};
use crate::os::pidfd::PidFd;
use crate::os::process::Stat;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// No question and no answer is longer: the paths and ports of a unit with 256 sockets; an address, a path, and
/// 64 sets.
const MESSAGE_MAX: usize = 65_536;

#[derive(Serialize, Deserialize)]
struct Question {
    tag: u64,
    thread: i32,
    fd: RawFd,
    address: u64,
    length: usize,
    ours: Ours,
    /// What is there now is to be put into these: nothing else is asked then.
    watches: Vec<Watch>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    tag: u64,
    /// The errno, where there are no facts. None and no errno: it is put into the sets.
    found: Result<Option<Facts>, i32>,
}

/// The child.
#[derive(Debug)]
pub struct Reader {
    process: PidFd,
    socket: OwnedFd,
}

/// What was found or done: the tag of its question, and the facts, if it was asked for these.
pub type Found = (u64, Result<Option<Facts>, Errno>);

impl Reader {
    /// Begins one. It ends when this is dropped, and when supd ends.
    ///
    /// # Errors
    /// EMFILE, ENFILE, and what [`fork`] says.
    pub fn begin() -> Result<Self, Error> {
        const WHAT: &str = "the child that looks at what workers bind";
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|errno| Error::new("make sockets for", WHAT, errno))?;
        let forked = fork(WHAT, |_| {
            let _ = setsid();
            let _ = prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
            if close_all_but(&[theirs.as_raw_fd()]).is_ok() {
                serve(theirs);
            }
        })?;
        Ok(Self { process: forked.process, socket: ours })
    }

    /// Whether it only waits for a processor, or has one: then it hangs at nothing.
    #[must_use]
    pub fn runs(&self) -> bool {
        Stat::read(self.process.pid()).is_some_and(|stat| stat.runs)
    }

    /// Asks about a call; the answer has the same tag.
    ///
    /// # Errors
    /// EAGAIN: too many wait already; EPIPE: the child has ended; EINVAL: nothing is to be known of it.
    pub fn ask(&self, tag: u64, call: &Call, ours: &Ours) -> Result<(), Errno> {
        let (fd, address, length) = match call.what {
            What::Bind { fd, address, length } => (fd, address, length),
            What::Listen { fd, .. } => (fd, 0, 0),
            What::Foreign => return Err(Errno::EINVAL),
        };
        let ours = ours.clone();
        let watches = Vec::new();
        self.send(&Question { tag, thread: call.thread, fd, address, length, ours, watches })
    }

    /// Has what is at descriptor `fd` of the caller's put into these epoll sets of its; the answer has the same
    /// tag.
    ///
    /// # Errors
    /// As [`Reader::ask`].
    pub fn watch(&self, tag: u64, call: &Call, watches: &[Watch]) -> Result<(), Errno> {
        let fd = match call.what {
            What::Bind { fd, .. } | What::Listen { fd, .. } => fd,
            What::Foreign => return Err(Errno::EINVAL),
        };
        let (ours, watches) = (Ours::default(), watches.to_vec());
        self.send(&Question { tag, thread: call.thread, fd, address: 0, length: 0, ours, watches })
    }

    fn send(&self, question: &Question) -> Result<(), Errno> {
        let bytes = serde_json::to_vec(question).map_err(|_| Errno::EINVAL)?;
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        send(self.socket.as_raw_fd(), &bytes, flags).map(drop)
    }

    /// The next answer, if there is one.
    ///
    /// # Errors
    /// EPIPE: the child has ended.
    pub fn answer(&self) -> Result<Option<Found>, Errno> {
        let mut bytes = vec![0; MESSAGE_MAX];
        match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                let answer: Answer = serde_json::from_slice(&bytes[..length]).map_err(|_| Errno::EPIPE)?;
                Ok(Some((answer.tag, answer.found.map_err(Errno::from_raw))))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(_) => Err(Errno::EPIPE),
        }
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may be stuck where the end of its socket does not reach it.
        let _ = self.process.send(crate::model::Signal::KILL);
    }
}

/// The child's whole life.
fn serve(mut socket: OwnedFd) {
    let mut bytes = vec![0; MESSAGE_MAX];
    loop {
        wait(&socket, PollFlags::POLLIN);
        let question: Question = match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Ok(0) | Err(_) => return,
            Ok(length) => match serde_json::from_slice(&bytes[..length]) {
                Ok(question) => question,
                Err(_) => return,
            },
        };
        let (tag, found) = (question.tag, done(&question, &mut socket).map_err(|errno| errno as i32));
        let Ok(answer) = serde_json::to_vec(&Answer { tag, found }) else { return };
        while send(socket.as_raw_fd(), &answer, MsgFlags::MSG_NOSIGNAL) == Err(Errno::EAGAIN) {
            wait(&socket, PollFlags::POLLOUT);
        }
    }
}

fn done(question: &Question, own: &mut OwnedFd) -> Result<Option<Facts>, Errno> {
    let Question { thread, fd, address, length, ours, watches, .. } = question;
    if watches.is_empty() {
        Facts::of(*thread, *fd, (*address, *length), ours).map(Some)
    } else {
        sets::join(*thread, *fd, watches, own).map(|()| None)
    }
}

fn wait(socket: &OwnedFd, flags: PollFlags) {
    let _ = poll(&mut [PollFd::new(socket.as_fd(), flags)], PollTimeout::NONE);
}
