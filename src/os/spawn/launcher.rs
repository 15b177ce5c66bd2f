//! The launcher: a small process of supd's own that forks workers for it.
//!
//! A fork copies the tables of memory and of descriptors of who forks, and the child tears both down
//! again: of a supd with a thousand units that is most of a launch. The launcher is forked before supd
//! has grown. To ask it and to hear its answer takes longer than a fork of a supd that is small, which
//! forks by itself. What the launcher forks is supd's own child all the same (CLONE_PARENT), goes through the very code
//! that a child of a plain fork does, and reports on a socket that was made for this launch alone.
//!
//! It may be killed or stopped at any moment, and so may supd. So supd waits for its word only so long,
//! and a child does nothing before supd, which has noted it by then, has told it to go on. One that
//! supd never heard of finds the end of its socket, and ends: each launch is made once, and none runs
//! that a later supd would not find.

use super::child;
use super::failure::{SpawnFailure, Step};
use super::{Common, Outcome, Plan, Spawned, asking, spawn};
use crate::model::{Signal, Tick};
use crate::os::Error;
use crate::os::ancillary::{Raw, receive_datagram, send_packet};
use crate::os::clock;
use crate::os::fork::{Report, close_all_but, fork, fork_for_parent};
use crate::os::pidfd::PidFd;
use crate::os::process::Stat;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::sched_getaffinity;
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Pid, setsid};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A plan of more bytes goes by a plain fork. (Environment files are read by the child.)
const REQUEST_MAX: usize = 65_536;

/// So many listeners and two more descriptors fit into one message (SCM_MAX_FD).
const LISTENERS_MAX: usize = 250;

/// How long supd waits for a word: a fork takes a fraction of a millisecond, and a machine that is
/// busy makes the launcher wait for its turn.
const BOUND: Duration = Duration::from_millis(200);

/// A launcher is begun only so long after the one before: one that is killed or stopped each time
/// must not cost each launch more than no launcher.
const APART: Duration = Duration::from_secs(5);

/// Launches: from so many descriptors on through a process of its own, where there is one.
#[derive(Debug, Default)]
pub struct Launcher {
    /// The open descriptors that make supd big.
    crowd: i32,
    helper: RefCell<Option<Helper>>,
    /// When the last was begun, or lost; `None`: there is to be none.
    pub(super) begun: Cell<Option<Tick>>,
    /// What became of it, to be told.
    note: RefCell<Option<String>>,
}

/// The process.
#[derive(Debug)]
struct Helper {
    process: PidFd,
    socket: OwnedFd,
}

/// What the process says to a request.
enum Answer {
    /// The child of supd's that it made.
    Made(PidFd),
    /// It could not.
    Refused,
    /// It ends, and said nothing.
    End,
    /// Nothing in time.
    Nothing,
}

/// Why a helper did not launch.
enum Refusal {
    /// Not to be asked, or it began nothing: it is as good as before.
    Unfit,
    /// Its workers would be in another control group than supd's, or on other processors.
    Elsewhere,
    /// It is gone.
    Ended,
    /// It said nothing for too long.
    Silent,
}

impl Launcher {
    /// Begins one, best before supd grows, for when `crowd` descriptors are open. One that cannot be
    /// begun is tried again later.
    #[must_use]
    pub fn begin(common: Common<'_>, crowd: i32) -> Self {
        let launcher = Self { crowd, ..Self::default() };
        launcher.renew(common);
        launcher
    }

    fn renew(&self, common: Common<'_>) {
        self.begun.set(Some(clock::now()));
        match Helper::begin(common) {
            Ok(helper) => *self.helper.borrow_mut() = Some(helper),
            Err(error) => self.tell(&error.to_string()),
        }
    }

    fn tell(&self, what: &str) {
        *self.note.borrow_mut() = Some(format!("{what}; supd forks workers by itself for now"));
    }

    /// What is to be told of the launcher itself since the last time.
    pub fn note(&self) -> Option<String> {
        self.note.take()
    }

    /// Its number, while there is one.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.helper.borrow().as_ref().map(|helper| helper.process.pid())
    }

    /// As [`spawn`], and cheaper where supd is big. Never waits long.
    ///
    /// # Errors
    /// As [`spawn`].
    pub fn spawn(&self, plan: &Plan<'_>) -> Result<Spawned, Error> {
        let due = self.begun.get().is_some_and(|begun| clock::now() >= begun.after(APART));
        if due && self.helper.borrow().is_none() {
            self.renew(plan.common);
        }
        let asked = self.helper.borrow().as_ref().map(|helper| {
            if helper.beside_a_crowd(self.crowd) { helper.launch(plan) } else { Err(Refusal::Unfit) }
        });
        let what = match asked {
            Some(Ok(spawned)) => return Ok(spawned),
            None | Some(Err(Refusal::Unfit)) => return spawn(plan),
            Some(Err(Refusal::Elsewhere)) => "supd was moved without its launcher",
            Some(Err(Refusal::Ended)) => "the launcher has ended",
            Some(Err(Refusal::Silent)) => "the launcher does not answer",
        };
        self.helper.take();
        // Counted from here: else the very next launch could wait for another one, in the same turn.
        self.begun.set(self.begun.get().map(|_| clock::now()));
        self.tell(what);
        spawn(plan)
    }
}

impl Helper {
    fn begin(common: Common<'_>) -> Result<Self, Error> {
        const WHAT: &str = "the launcher";
        let failed = |errno| Error::new("make sockets for", WHAT, errno);
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(failed)?;
        let forked = fork(WHAT, |_| {
            // Not even the pipe of the report: nobody reads it.
            if close_all_but(&[theirs.as_raw_fd()]).is_err() {
                return;
            }
            // Whoever stops supd with all that is around it stops it by ending supd: until then it is needed.
            let _ = SigSet::all().thread_block();
            // Where supd has ended already, its socket says so.
            let _ = prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
            let _ = prctl::set_name(c"supd-launcher");
            let _ = setsid();
            serve(&theirs, common);
        })?;
        Ok(Self { process: forked.process, socket: ours })
    }

    /// Whether so many descriptors are open: the kernel gives the lowest number that is free.
    fn beside_a_crowd(&self, crowd: i32) -> bool {
        self.socket.try_clone().is_ok_and(|next| next.as_raw_fd() >= crowd)
    }

    fn launch(&self, plan: &Plan<'_>) -> Result<Spawned, Refusal> {
        let bytes = plan.pack();
        if bytes.len() > REQUEST_MAX || plan.listeners.len() > LISTENERS_MAX {
            return Err(Refusal::Unfit);
        }
        if !self.is_beside_us() {
            // Of one that is about to end /proc says the root's group.
            let ends = Stat::read(self.process.pid()).is_none_or(|stat| stat.exiting);
            return Err(if ends { Refusal::Ended } else { Refusal::Elsewhere });
        }
        // Without descriptors the plain fork fails too, and says so.
        let (asks, way) = match plan.intercept.then(|| asking(&plan.program)).transpose() {
            Ok(pair) => pair.unzip(),
            Err(_) => return Err(Refusal::Unfit),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (report, theirs) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, flags).map_err(|_| Refusal::Unfit)?;
        let beside = [Some(theirs.as_fd()), way.as_ref().map(AsFd::as_fd)].into_iter().flatten();
        let descriptors: Vec<BorrowedFd<'_>> = beside.chain(plan.listeners.iter().copied()).collect();
        match send_packet(&self.socket, &bytes, &descriptors) {
            Ok(()) => {}
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(Refusal::Ended),
            Err(Errno::EAGAIN) => return Err(Refusal::Silent),
            // Too long for this kernel, too many descriptors under way, no memory: it was not sent.
            Err(_) => return Err(Refusal::Unfit),
        }
        // Others have it now: its end is theirs. And there is room for a pidfd.
        drop((theirs, way));
        match self.answer() {
            Answer::Made(process) => Ok(Spawned { process, outcome: Outcome::on(Report::on(report)), asks }),
            Answer::Refused => Err(Refusal::Unfit),
            // With the report goes the ear of a child that it may have made.
            Answer::End => Err(Refusal::Ended),
            Answer::Nothing => Err(Refusal::Silent),
        }
    }

    /// Whether a child of it inherits what a child of supd's own would. What the child does not set for
    /// itself may be changed for supd alone, and from outside.
    fn is_beside_us(&self) -> bool {
        let pid = self.process.pid();
        let group = |who: &str| std::fs::read(format!("/proc/{who}/cgroup")).ok();
        let processors = |pid| sched_getaffinity(Pid::from_raw(pid)).ok();
        // One that has ended says nothing of either.
        group(&pid.to_string()).is_none_or(|there| group("self") == Some(there))
            && processors(pid).is_none_or(|there| processors(0) == Some(there))
    }

    fn answer(&self) -> Answer {
        let end = clock::now().after(BOUND);
        loop {
            // A child of it that is about to close it may hold its socket: its end is told by its pidfd.
            let over = self.process.is_over();
            let mut bytes = [0; size_of::<i32>()];
            match receive_datagram(&self.socket, &mut bytes) {
                Ok(Raw { length: 4, ancillary, .. }) => {
                    let fd = ancillary.descriptors.into_iter().next();
                    return match (i32::from_ne_bytes(bytes), fd) {
                        (pid, Some(fd)) => Answer::Made(PidFd::from_fd(fd, pid)),
                        (0, None) => Answer::Refused,
                        // It made one, and there is no room here to hold it by.
                        (_, None) => Answer::Nothing,
                    };
                }
                Err(Errno::EAGAIN | Errno::EINTR) if over => return Answer::End,
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Ok(_) | Err(_) => return Answer::End,
            }
            let left = end.since(clock::now());
            if left.is_zero() {
                return Answer::Nothing;
            }
            // Interrupted by a child's end, it is asked again.
            self.is_readable(PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        }
    }

    /// Waits for a word of it, or its end.
    fn is_readable(&self, bound: PollTimeout) -> bool {
        let mut entries =
            [&self.socket as &dyn AsFd, &self.process].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        poll(&mut entries, bound).is_ok_and(|ready| ready > 0)
    }
}

/// It may be stopped, and would launch when it goes on.
impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.process.send(Signal::KILL);
    }
}

/// The launcher's whole life.
fn serve(socket: &OwnedFd, common: Common<'_>) {
    // Others of an ordinary supd's user may not trace it, or take descriptors out of it.
    let dumpable = prctl::get_dumpable().unwrap_or(false);
    let _ = prctl::set_dumpable(false);
    let mut bytes = vec![0; REQUEST_MAX];
    loop {
        let _ = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        let made = match receive_datagram(socket, &mut bytes) {
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Ok(Raw { length: 0, .. }) | Err(_) => return,
            Ok(raw) => launch(raw, &bytes, common, dumpable),
        };
        // Whatever came with the request is closed by now: its end must not hang on the launcher.
        // Why it could not is said by the plain fork that follows.
        let (said, fd) = made.as_ref().map_or((0, None), |process| (process.pid(), Some(process.as_fd())));
        if send_packet(socket, &said.to_ne_bytes(), fd.as_slice()).is_err() {
            return;
        }
    }
}

fn launch(raw: Raw, bytes: &[u8], common: Common<'_>, dumpable: bool) -> Result<PidFd, Errno> {
    let bytes = bytes.get(..raw.length).filter(|_| !raw.truncated).ok_or(Errno::EMFILE)?;
    let mut descriptors = raw.ancillary.descriptors.into_iter();
    let report = descriptors.next().ok_or(Errno::EBADF)?;
    let passed: Vec<OwnedFd> = descriptors.collect();
    fork_for_parent(&report, |reporter| {
        // Without root its own /proc/self/oom_score_adj would be closed to it.
        let _ = prctl::set_dumpable(dumpable);
        let listeners = passed.iter().map(AsFd::as_fd).collect();
        match Plan::unpack(bytes, listeners, common) {
            Some(mut plan) => {
                let way = plan.intercept.then(|| plan.listeners.remove(0));
                child::run(&plan, way, reporter);
            }
            None => {
                let failure = SpawnFailure::reason(Step::Vanish, "the program", "its plan is garbled");
                reporter.say(&failure.encode());
            }
        }
    })
}
