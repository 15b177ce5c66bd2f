//! Processes by what /proc says of them: who they are, whose they are, and the orphans that supd
//! inherits as subreaper.
#![allow(unsafe_code)]

use super::Error;
use super::clock::BootId;
use super::pidfd::PidFd;
use nix::errno::Errno;
use nix::libc;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;

/// What /proc/PID/stat says (proc_pid_stat(5)). Reading it never waits for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub pid: i32,
    /// Its parent's number; 0 for the first one.
    pub parent: i32,
    /// Its session: for a worker and most of what it starts, the worker's number.
    pub session: i32,
    /// When it started, in clock ticks since the boot.
    pub start: u64,
    /// Ended, but not reaped.
    pub zombie: bool,
    /// Stopped by a signal (SIGSTOP and its like), or by who traces it.
    pub stopped: bool,
    /// It runs, or would if it had a processor.
    pub runs: bool,
    /// It has begun to end, and /proc tells less and less of it.
    pub exiting: bool,
}

/// Longer than 52 numbers and a name: it is read at once, for a file of no known size is otherwise read in eight
/// pieces, and a switch waits for it.
const STAT_MAX: usize = 2048;

/// include/linux/sched.h, among the flags of a task.
const PF_EXITING: u32 = 0x4;

impl Stat {
    /// Reads it; `None`: there is no such process.
    #[must_use]
    pub fn read(pid: i32) -> Option<Self> {
        let mut line = [0; STAT_MAX];
        let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
        Self::parse(pid, &line[..length])
    }

    /// The second field is the program's name, which may hold spaces, brackets and bytes that are
    /// no text; the others begin after the last bracket.
    fn parse(pid: i32, line: &[u8]) -> Option<Self> {
        let end = line.iter().rposition(|byte| *byte == b')')?;
        let mut fields = std::str::from_utf8(line.get(end + 1..)?).ok()?.split_ascii_whitespace();
        // From here on: 3 state, 4 ppid, 5 pgrp, 6 session, … 9 flags, … 20 num_threads, … 22 starttime.
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let flags: u32 = fields.nth(2)?.parse().ok()?;
        let threads: u32 = fields.nth(10)?.parse().ok()?;
        let start = fields.nth(1)?.parse().ok()?;
        // Where the first thread has ended and others go on, the process looks dead and is not.
        let (zombie, stopped) = (matches!(state, "Z" | "X") && threads <= 1, matches!(state, "T" | "t"));
        let runs = state == "R";
        let exiting = flags & PF_EXITING != 0;
        Some(Self { pid, parent, session, start, zombie, stopped, runs, exiting })
    }
}

/// What of this process is in memory, in bytes (proc_pid_statm(5): the second number, in pages).
#[must_use]
pub fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    pages.checked_mul(u64::try_from(page).ok()?)
}

/// Whether a process is this user's in every respect: by all four of its ids, and by the owner that the
/// kernel gives its files in /proc, which is root once it has run with rights that its user has not
/// (proc(5), PR_SET_DUMPABLE). Such a user may do with it whatever it could do by itself.
#[must_use]
pub fn is_of(pid: i32, uid: u32) -> bool {
    let owner = fs::metadata(format!("/proc/{pid}")).map(|folder| folder.uid());
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = text.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let mut ids = ids.split_ascii_whitespace().map(|id| id.parse() == Ok(uid)).peekable();
    ids.peek().is_some() && ids.all(|same| same) && owner.is_ok_and(|owner| owner == uid)
}

/// A process that can be found again, and told from a later one with the same number, after supd
/// itself has been replaced.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// [`Stat::start`]
    pub start: u64,
    /// The boot that both count in.
    pub boot: BootId,
    /// The pidfd's inode, where the kernel has pidfs.
    pub inode: Option<u64>,
}

impl Identity {
    /// That of a process in hand; `None` if it has been reaped.
    #[must_use]
    pub fn of(process: &PidFd, boot: &BootId) -> Option<Self> {
        let stat = Stat::read(process.pid())?;
        // Not reaped after the reading means not reaped before it: the number was its own.
        let ours = !process.is_over() || Stat::read(process.pid()).is_some_and(|again| again.zombie);
        let identity =
            || Self { pid: stat.pid, start: stat.start, boot: boot.clone(), inode: process.inode() };
        ours.then(identity)
    }

    /// The process itself, if it is still alive in this boot. Never another one with its number:
    /// the pidfd is taken first and compared after, and was alive when it was compared.
    #[must_use]
    pub fn matches_live(&self, boot: &BootId) -> Option<PidFd> {
        if *boot != self.boot {
            return None;
        }
        let process = PidFd::open(self.pid).ok()?;
        let stat = Stat::read(self.pid)?;
        let same_inode = match (self.inode, process.inode()) {
            (Some(then), Some(now)) => then == now,
            // One of the two kernels had no pidfs: the start time has to do.
            _ => true,
        };
        let same = stat.start == self.start && same_inode && !stat.zombie && !process.is_over();
        same.then_some(process)
    }
}

/// What [`reap_orphans`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// Every ended child that is not known has been reaped.
    All,
    /// A known child of this number has ended and stands in the way: wait for it by its pidfd,
    /// which is readable, then call again.
    Known(i32),
    /// The limit of this turn is reached; call again.
    More,
}

/// Makes supd the parent of what its workers leave behind (PR_SET_CHILD_SUBREAPER), so that it
/// can find and reap it.
///
/// # Errors
/// None on kernels that supd runs on.
pub fn adopt_orphans() -> Result<(), Error> {
    nix::sys::prctl::set_child_subreaper(true).map_err(|errno| Error::new("adopt", "orphans", errno))
}

/// Reaps ended children that nobody waits for: orphans, and tasks that are done with. At most
/// `limit` of them; what is known is only looked at, never collected, since its exit status
/// belongs to whoever holds its pidfd.
///
/// # Errors
/// What waitid(2) says, other than that there are no children.
pub fn reap_orphans(is_known: impl Fn(i32) -> bool, limit: usize) -> Result<Reaped, Error> {
    for _ in 0..limit {
        let Some(pid) = ended(libc::P_ALL, 0, libc::WNOWAIT)? else { return Ok(Reaped::All) };
        if is_known(pid) {
            return Ok(Reaped::Known(pid));
        }
        // Ended and not reaped, so its number is still its own.
        ended(libc::P_PID, pid.unsigned_abs(), 0)?;
    }
    Ok(Reaped::More)
}

/// The number of an ended child, if there is one. waitid(2) as it is: see [`PidFd::wait`].
fn ended(kind: libc::idtype_t, id: libc::id_t, flags: i32) -> Result<Option<i32>, Error> {
    // SAFETY: a siginfo_t of zeros is a valid one, and "nothing ended" leaves it so.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the siginfo it is given.
    let done = unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | libc::WNOHANG | flags) };
    match Errno::result(done) {
        Err(Errno::ECHILD) => Ok(None),
        Err(errno) => Err(Error::new("wait for", "orphans", errno)),
        // SAFETY: waitid has filled this field, or left it zero.
        Ok(_) => Ok(Some(unsafe { info.si_pid() }).filter(|pid| *pid != 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, Reaped, Stat, adopt_orphans, reap_orphans};
    use crate::model::{Signal, WorkerExit};
    use crate::os::alone::alone;
    use crate::os::clock::BootId;
    use crate::os::fork::fork;
    use crate::os::pidfd::{PidFd, Wait};
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    fn ended(process: &PidFd) {
        let mut entry = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut entry, PollTimeout::from(20_000u16)), Ok(1), "it did not end");
    }

    fn sleeper() -> PidFd {
        fork("a test", |_| {
            loop {
                nix::unistd::pause();
            }
        })
        .unwrap()
        .process
    }

    #[test]
    fn a_name_cannot_forge_the_other_fields() {
        let line = b"7 (a) Z 1 1 1 0) S 5 6 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1000 0\n";
        let stat = Stat {
            pid: 7,
            parent: 5,
            session: 77,
            start: 123_456,
            zombie: false,
            stopped: false,
            runs: false,
            exiting: false,
        };
        assert_eq!(Stat::parse(7, line), Some(stat));
        let exiting = b"7 (a) S 5 6 77 0 -1 4194564 1 2 3 4 5 6 7 8 20 0 1 0 123456 1000 0\n";
        assert_eq!(Stat::parse(7, exiting), Some(Stat { exiting: true, ..stat }));
        let dead = b"7 (\xff\xfe) Z 5 6 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9 0 0";
        assert!(Stat::parse(7, dead).unwrap().zombie);
        let headless = b"7 (a) Z 5 6 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 9 0 0";
        assert!(!Stat::parse(7, headless).unwrap().zombie, "its other threads go on");
        for broken in [&b""[..], b"7", b"7 (a", b"7 (a)", b"7 (a) S 1 2", b"7 (a) S x 6 77 0"] {
            assert_eq!(Stat::parse(7, broken), None);
        }
        let own = Stat::read(nix::unistd::getpid().as_raw()).unwrap();
        assert_eq!(own.parent, nix::unistd::getppid().as_raw());
    }

    #[test]
    fn found_again_while_it_lives_and_not_after() {
        let boot = BootId::read().unwrap();
        let process = sleeper();
        let identity = Identity::of(&process, &boot).unwrap();
        assert_eq!(identity.matches_live(&boot).unwrap().pid(), process.pid());

        let other_boot = BootId::parse("00000000-0000-0000-0000-000000000000").unwrap();
        assert!(identity.matches_live(&other_boot).is_none());
        let earlier = Identity { start: identity.start - 1, ..identity.clone() };
        assert!(earlier.matches_live(&boot).is_none());
        if identity.inode.is_some() {
            let inode = identity.inode.map(|inode| inode + 1);
            assert!(Identity { inode, ..identity.clone() }.matches_live(&boot).is_none());
        }

        process.send(Signal::KILL).unwrap();
        ended(&process);
        assert!(identity.matches_live(&boot).is_none(), "a zombie is not alive");
        assert!(Identity::of(&process, &boot).is_some(), "it still has its number");
        process.wait().unwrap();
        assert!(identity.matches_live(&boot).is_none());
        assert!(Identity::of(&process, &boot).is_none());
    }

    /// The number of a process that has ended is really given to another one.
    #[test]
    fn a_recycled_number_is_refused() {
        if !crate::os::alone::root_or_skip("a_recycled_number_is_refused") {
            return;
        }
        let boot = BootId::read().unwrap();
        let process = sleeper();
        let mut identity = Identity::of(&process, &boot).unwrap();
        process.send(Signal::KILL).unwrap();
        ended(&process);
        process.wait().unwrap();
        // clone3's set_tid gives a new process exactly this number.
        let Some(impostor) = fork_as(identity.pid) else { panic!("the number was taken meanwhile") };
        assert_eq!(impostor.pid(), identity.pid);
        assert!(identity.matches_live(&boot).is_none(), "another process under its number");
        assert_eq!(process.send(Signal::KILL).unwrap_err().errno, nix::errno::Errno::ESRCH);
        // Within one clock tick the start time is the same: then the inode must tell.
        identity.start = Stat::read(impostor.pid()).unwrap().start;
        if identity.inode.is_some() {
            assert!(identity.matches_live(&boot).is_none(), "another process of the same moment");
        }
        impostor.send(Signal::KILL).unwrap();
        ended(&impostor);
        impostor.wait().unwrap();
    }

    /// A child with a number of our choice (clone3(2), set_tid).
    fn fork_as(pid: i32) -> Option<PidFd> {
        use nix::libc;
        #[repr(C)]
        #[derive(Default)]
        struct CloneArgs([u64; 10]);
        let numbers = [pid];
        let mut args = CloneArgs::default();
        args.0[4] = u64::try_from(libc::SIGCHLD).unwrap();
        args.0[8] = numbers.as_ptr() as u64;
        args.0[9] = 1;
        // SAFETY: a plain fork; the child only waits for its end.
        match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) } {
            0 => loop {
                // SAFETY: takes nothing.
                unsafe { libc::pause() };
            },
            -1 => None,
            _ => PidFd::open(pid).ok(),
        }
    }

    #[test]
    fn orphans_are_reaped_and_known_children_are_not() {
        alone("os::process::tests::orphans_are_reaped_and_known_children_are_not", || {
            adopt_orphans().unwrap();
            assert_eq!(reap_orphans(|_| false, 8).unwrap(), Reaped::All);
            let known = fork("a test", |_| std::process::exit(7)).unwrap().process;
            let orphans: Vec<PidFd> = (0..20).map(|_| fork("a test", |_| {}).unwrap().process).collect();
            ended(&known);
            orphans.iter().for_each(ended);

            // The oldest child is looked at first: it must be left, whatever is behind it.
            let is_known = |pid| pid == known.pid();
            assert_eq!(reap_orphans(is_known, 8).unwrap(), Reaped::Known(known.pid()));
            assert_eq!(reap_orphans(is_known, 8).unwrap(), Reaped::Known(known.pid()));
            assert_eq!(known.wait().unwrap(), Wait::Exited(WorkerExit::Code(7)));
            assert_eq!(reap_orphans(is_known, 8).unwrap(), Reaped::More);
            assert_eq!(reap_orphans(is_known, 50).unwrap(), Reaped::All);
            assert!(orphans.iter().all(|orphan| Stat::read(orphan.pid()).is_none()));
            String::new()
        });
    }

    #[test]
    fn a_process_whose_parent_died_becomes_ours() {
        alone("os::process::tests::a_process_whose_parent_died_becomes_ours", || {
            adopt_orphans().unwrap();
            let output = std::process::Command::new("/bin/sh")
                .args(["-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"])
                .output()
                .unwrap();
            let pid: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            let orphan = PidFd::open(pid).unwrap();
            assert_eq!(Stat::read(pid).unwrap().parent, nix::unistd::getpid().as_raw());
            // Killed by a signal that nix has no name for: reaped all the same.
            orphan.send(Signal(40)).unwrap();
            ended(&orphan);
            assert_eq!(reap_orphans(|_| false, 8).unwrap(), Reaped::All);
            assert!(Stat::read(pid).is_none());
            String::new()
        });
    }
}
