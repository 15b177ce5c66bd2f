//! The keeper: a small process that holds copies of descriptors, each lot under a key with some bytes that say
//! what they are, and hands them to the next supd. It knows nothing of what they are for.
//!
//! It outlives supd. It is reached by a socket in a folder that is supd's alone, serves one supd at a time, and
//! takes in only who is of supd's own user by the kernel's word. It waits for nothing but the next message, and for
//! no close ([`super::closing`]), so each of them is answered at once; a supd that hears nothing for half a second
//! takes it for gone, and begins another. Should the file of its socket be lost, SIGUSR1 has it make another.
//!
//! **What is absent:** whoever kills it loses nothing while supd lives, which begins another and gives it
//! everything again. When both are gone at once, what nobody else holds is closed.

mod process;

use super::Error;
use super::ancillary::{Raw, receive_datagram, send_packet};
use super::clock;
use super::fork::{close_all_but, fork};
use super::pidfd::PidFd;
use crate::model::Signal as Number;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::geteuid;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// No message has more bytes.
pub const BYTES_MAX: usize = 128 * 1024;

/// No message has more descriptors (SCM_MAX_FD of the kernel).
pub const DESCRIPTORS_MAX: usize = 253;

/// How long supd waits for its word.
const BOUND: Duration = Duration::from_millis(500);

/// How long a new supd waits to be taken in, where another was before it a moment ago.
const TAKEN_IN: Duration = Duration::from_secs(2);

// The first byte of a message.
const KEEP: u8 = b'k';
const DROP: u8 = b'd';
const LIST: u8 = b'l';
const QUIT: u8 = b'q';
const DONE: u8 = b'.';

/// What is kept under one key.
#[derive(Debug)]
pub struct Lot {
    /// What they are.
    pub bytes: Vec<u8>,
    /// In the order in which they were given.
    pub descriptors: Vec<OwnedFd>,
}

/// supd's end of it.
#[derive(Debug)]
pub struct Keeper {
    socket: OwnedFd,
    /// So many messages are not answered yet.
    unanswered: usize,
}

impl Keeper {
    /// Begins one that is reached at `path`, in the place of what is there.
    ///
    /// # Errors
    /// What the kernel says; the path is too long. ETIME: it does not answer.
    pub fn begin(path: &Path) -> Result<(Self, PidFd), Error> {
        const WHAT: &str = "the keeper";
        let failed = |errno| Error::new("make a socket for", WHAT, errno);
        // It leaves the folder in which supd is.
        let path =
            std::path::absolute(path).map_err(|error| Error::from_io("find", path.display(), &error))?;
        let door = process::door(&path).map_err(failed)?;
        let (socket, its) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(failed)?;
        let mut doors = Some((door, its));
        let forked = fork(WHAT, |_| {
            let Some((door, supd)) = doors.take() else { return };
            if close_all_but(&[door.as_raw_fd(), supd.as_raw_fd()]).is_err() {
                return;
            }
            process::become_keeper();
            process::serve(door, supd, &path);
        })?;
        let keeper = Self { socket, unanswered: 0 };
        // Then whoever comes next can reach it.
        let begun =
            send_packet(&keeper.socket, &[DROP], &[]).and_then(|()| keeper.receive(&mut [0; 1], TAKEN_IN));
        if let Err(errno) = begun {
            let _ = forked.process.send(Number::KILL);
            return Err(Error::new("begin", WHAT, errno));
        }
        Ok((keeper, forked.process))
    }

    /// Reaches one that is there.
    ///
    /// # Errors
    /// ENOENT, ECONNREFUSED: there is none. EPERM: it is not of supd's own user. ETIME: it does not answer.
    pub fn reach(path: &Path) -> Result<Self, Error> {
        let failed = |errno| Error::new("reach the keeper at", path.display(), errno);
        let socket = packets().map_err(failed)?;
        // So many supds that have died may wait at one that hangs that there is no room.
        let bound = TimeVal::new(i64::try_from(TAKEN_IN.as_secs()).unwrap_or(1), 0);
        setsockopt(&socket, sockopt::SendTimeout, &bound).map_err(failed)?;
        let address = UnixAddr::new(path).map_err(failed)?;
        loop {
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(failed(Errno::ETIME)),
                Err(errno) => return Err(failed(errno)),
            }
        }
        if !is_ours(socket.as_fd()) {
            return Err(failed(Errno::EPERM));
        }
        Ok(Self { socket, unanswered: 0 })
    }

    /// Reaches that process, whose socket has lost its file.
    ///
    /// # Errors
    /// As of [`Keeper::reach`].
    pub fn reach_without_file(process: &PidFd, path: &Path) -> Result<Self, Error> {
        let end = clock::now().after(TAKEN_IN);
        loop {
            // Again and again: it may be busy with the end of another supd.
            let _ = process.send(Number(Signal::SIGUSR1 as i32));
            let over = process.is_over_within(Duration::from_millis(20));
            match Self::reach(path) {
                Err(_) if !over && !end.since(clock::now()).is_zero() => {}
                other => return other,
            }
        }
    }

    /// The process at the other end, where it was reached at its path.
    #[must_use]
    pub fn process(&self) -> Option<PidFd> {
        let pid = getsockopt(&self.socket, sockopt::PeerCredentials).ok()?.pid();
        PidFd::open(pid).ok()
    }

    /// Everything that is kept, by its key.
    ///
    /// # Errors
    /// ETIME: it does not answer. EMFILE: this process may not have so many open. EPROTO: it says what no keeper
    /// says.
    pub fn take(&mut self) -> Result<BTreeMap<String, Lot>, Error> {
        let failed = |errno| Error::new("ask", "the keeper", errno);
        self.settle()?;
        send_packet(&self.socket, &[LIST], &[]).map_err(failed)?;
        let mut all = BTreeMap::new();
        let mut bytes = vec![0; BYTES_MAX];
        loop {
            let raw = self.receive(&mut bytes, TAKEN_IN).map_err(failed)?;
            let said = bytes.get(..raw.length).ok_or_else(|| failed(Errno::EPROTO))?;
            match (said.split_first(), raw.truncated) {
                (Some((&DONE, [])), _) => return Ok(all),
                (Some((&KEEP, _)), true) => return Err(failed(Errno::EMFILE)),
                (Some((&KEEP, rest)), false) => {
                    let (key, said) = lot(rest).ok_or_else(|| failed(Errno::EPROTO))?;
                    let key = String::from_utf8_lossy(key).into_owned();
                    all.insert(key, Lot { bytes: said.to_vec(), descriptors: raw.ancillary.descriptors });
                }
                (_, _) => return Err(failed(Errno::EPROTO)),
            }
        }
    }

    /// Gives it these, in the place of what it keeps under that key. [`Keeper::settle`] says whether it has them.
    ///
    /// # Errors
    /// EMSGSIZE: too much for one message. EPIPE: it is gone. ETIME: it does not answer.
    pub fn keep(&mut self, key: &str, bytes: &[u8], all: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let failed = |errno| Error::new("give to the keeper", key, errno);
        let message = [&[KEEP], key.as_bytes(), &[0], bytes].concat();
        if message.len() > BYTES_MAX || all.len() > DESCRIPTORS_MAX || key.contains('\0') {
            return Err(failed(Errno::EMSGSIZE));
        }
        self.send(&message, all).map_err(failed)
    }

    /// It keeps nothing under that key from here on.
    ///
    /// # Errors
    /// As of [`Keeper::keep`].
    pub fn forget(&mut self, key: &str) -> Result<(), Error> {
        let message = [&[DROP], key.as_bytes()].concat();
        self.send(&message, &[]).map_err(|errno| Error::new("take from the keeper", key, errno))
    }

    /// Whether it answers now.
    ///
    /// # Errors
    /// As of [`Keeper::keep`].
    pub fn ask(&mut self) -> Result<(), Error> {
        // Nothing is kept under no name.
        self.forget("")?;
        self.settle()
    }

    /// It has done all that it was told.
    ///
    /// # Errors
    /// As of [`Keeper::keep`].
    pub fn settle(&mut self) -> Result<(), Error> {
        self.answers(0).map_err(|errno| Error::new("hear", "the keeper", errno))
    }

    /// Takes the answers that are there, and waits for none.
    ///
    /// # Errors
    /// EPIPE: it is gone. EPROTO: it says what no keeper says.
    pub fn hear(&mut self) -> Result<(), Error> {
        let failed = |errno| Error::new("hear", "the keeper", errno);
        loop {
            match receive_datagram(&self.socket, &mut [0; 1]) {
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno)),
                Ok(Raw { length: 0, .. }) => return Err(failed(Errno::EPIPE)),
                Ok(_) => {
                    self.unanswered = self.unanswered.checked_sub(1).ok_or_else(|| failed(Errno::EPROTO))?;
                }
            }
        }
    }

    /// It ends, with all that it keeps.
    pub fn end(self) {
        if send_packet(&self.socket, &[QUIT], &[]).is_ok() {
            // Nothing more comes but its end.
            while self.receive(&mut [0; 1], BOUND).is_ok() {}
        }
    }

    fn send(&mut self, message: &[u8], all: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        loop {
            match send_packet(&self.socket, message, all) {
                Err(Errno::EAGAIN) if self.unanswered > 0 => self.answers(self.unanswered - 1)?,
                other => {
                    self.unanswered += usize::from(other.is_ok());
                    return other;
                }
            }
        }
    }

    /// Waits until no more than so many answers are to come.
    fn answers(&mut self, left: usize) -> Result<(), Errno> {
        while self.unanswered > left {
            let raw = self.receive(&mut [0; 1], BOUND)?;
            if raw.length != 1 {
                return Err(Errno::EPIPE);
            }
            self.unanswered -= 1;
        }
        Ok(())
    }

    fn receive(&self, bytes: &mut [u8], bound: Duration) -> Result<Raw, Errno> {
        let end = clock::now().after(bound);
        loop {
            match receive_datagram(&self.socket, bytes) {
                Err(Errno::EAGAIN) => {}
                Ok(Raw { length: 0, .. }) => return Err(Errno::EPIPE),
                other => return other,
            }
            let left = end.since(clock::now());
            if left.is_zero() {
                return Err(Errno::ETIME);
            }
            let limit = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], limit) {
                Err(Errno::EINTR) | Ok(_) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn packets() -> Result<OwnedFd, Errno> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
}

/// Whether the other end is of supd's own user.
fn is_ours(fd: BorrowedFd<'_>) -> bool {
    getsockopt(&fd, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

/// A key and what is behind it.
fn lot(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some((rest.get(..end)?, rest.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::alone::alone;
    use crate::os::closing::{promptly, tests::lingering};
    use nix::sys::stat::fstat;
    use std::fs::File;

    fn inode(fd: impl AsFd) -> u64 {
        fstat(fd).unwrap().st_ino
    }

    /// A keeper of a test's own, its process, and where it is.
    fn begun() -> (Keeper, PidFd, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let (keeper, process) = Keeper::begin(&folder.path().join("socket")).unwrap();
        (keeper, process, folder)
    }

    fn is_over_soon(process: &PidFd) {
        let limit = PollTimeout::from(20_000_u16);
        assert_eq!(poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], limit), Ok(1));
    }

    #[test]
    fn what_one_supd_gives_the_next_one_gets() {
        alone("os::keeper::tests::what_one_supd_gives_the_next_one_gets", || {
            let (mut keeper, process, folder) = begun();
            let files: Vec<File> = (0..3).map(|_| tempfile::tempfile().unwrap()).collect();
            keeper.keep("web", b"old", &[files[0].as_fd()]).unwrap();
            keeper.keep("api", b"gone", &[files[1].as_fd()]).unwrap();
            keeper.keep("web", b"new\0\xff", &[files[1].as_fd(), files[2].as_fd()]).unwrap();
            keeper.forget("api").unwrap();
            keeper.forget("nobody").unwrap();
            keeper.settle().unwrap();
            for _ in 0..3 {
                drop(keeper);
                keeper = Keeper::reach(&folder.path().join("socket")).unwrap();
                let all = keeper.take().unwrap();
                assert_eq!(all.keys().collect::<Vec<_>>(), ["web"]);
                assert_eq!(all["web"].bytes, b"new\0\xff");
                let found: Vec<u64> = all["web"].descriptors.iter().map(inode).collect();
                assert_eq!(found, [inode(&files[1]), inode(&files[2])]);
            }
            keeper.end();
            is_over_soon(&process);
            assert!(Keeper::reach(&folder.path().join("socket")).is_err());
            String::new()
        });
    }

    /// More messages than a socket has room for, and nobody takes the answers meanwhile.
    #[test]
    fn a_thousand_lots_are_kept_and_none_is_mixed_up() {
        alone("os::keeper::tests::a_thousand_lots_are_kept_and_none_is_mixed_up", || {
            let (mut keeper, _process, folder) = begun();
            let file = tempfile::tempfile().unwrap();
            for number in 0..1000 {
                keeper.keep(&format!("u{number}"), format!("{number}").as_bytes(), &[file.as_fd()]).unwrap();
            }
            drop(keeper);
            let mut next = Keeper::reach(&folder.path().join("socket")).unwrap();
            let all = next.take().unwrap();
            assert_eq!(all.len(), 1000);
            assert!(all.iter().all(|(key, lot)| key.as_bytes()[1..] == lot.bytes));
            next.end();
            String::new()
        });
    }

    #[test]
    fn too_much_for_one_message_is_refused_and_changes_nothing() {
        alone("os::keeper::tests::too_much_for_one_message_is_refused_and_changes_nothing", || {
            let (mut keeper, _process, _folder) = begun();
            let file = tempfile::tempfile().unwrap();
            keeper.keep("web", b"as it is", &[file.as_fd()]).unwrap();
            let many = vec![file.as_fd(); DESCRIPTORS_MAX + 1];
            assert_eq!(keeper.keep("web", b"", &many).unwrap_err().errno, Errno::EMSGSIZE);
            assert_eq!(keeper.keep("web", &vec![0; BYTES_MAX], &[]).unwrap_err().errno, Errno::EMSGSIZE);
            assert_eq!(keeper.keep("we\0b", b"", &[]).unwrap_err().errno, Errno::EMSGSIZE);
            assert_eq!(keeper.take().unwrap()["web"].bytes, b"as it is");
            keeper.end();
            String::new()
        });
    }

    /// What is no message of supd's ends the connection, and no more.
    #[test]
    fn nonsense_is_no_harm() {
        alone("os::keeper::tests::nonsense_is_no_harm", || {
            let (mut keeper, _process, folder) = begun();
            let file = tempfile::tempfile().unwrap();
            keeper.keep("web", b"x", &[file.as_fd()]).unwrap();
            keeper.settle().unwrap();
            for nonsense in [&b"?"[..], b"kno end", b"\0", b"lll?"] {
                drop(keeper);
                keeper = Keeper::reach(&folder.path().join("socket")).unwrap();
                send_packet(&keeper.socket, nonsense, &[]).unwrap();
                let answer = keeper.receive(&mut [0; 16], TAKEN_IN).map(|raw| raw.length);
                assert!(
                    nonsense == b"lll?" || matches!(answer, Err(Errno::EPIPE)),
                    "{nonsense:?}: {answer:?}"
                );
            }
            drop(keeper);
            let mut keeper = Keeper::reach(&folder.path().join("socket")).unwrap();
            assert_eq!(keeper.take().unwrap().len(), 1);
            keeper.end();
            String::new()
        });
    }

    /// systemd waits for every process of a service that it has told to end.
    #[test]
    fn whoever_ends_everything_ends_it() {
        alone("os::keeper::tests::whoever_ends_everything_ends_it", || {
            let (_keeper, process, _folder) = begun();
            for ignored in [1, 2, 10, 12] {
                process.send(Number(ignored)).unwrap();
            }
            assert!(Keeper::reach(&_folder.path().join("socket")).is_ok());
            process.send(Number(15)).unwrap();
            is_over_soon(&process);
            String::new()
        });
    }

    /// Half a minute is what it would wait.
    #[test]
    fn what_would_wait_at_its_close_holds_nobody_up() {
        alone("os::keeper::tests::what_would_wait_at_its_close_holds_nobody_up", || {
            let (mut keeper, _process, _folder) = begun();
            let (waits, others): (Vec<_>, Vec<_>) = (0..3).map(|_| lingering()).unzip();
            let all: Vec<BorrowedFd<'_>> = waits.iter().map(AsFd::as_fd).collect();
            keeper.keep("web", b"", &all[..2]).unwrap();
            keeper.keep("api", b"", &all[2..]).unwrap();
            keeper.settle().unwrap();
            promptly(waits);
            keeper.keep("web", b"", &[]).unwrap();
            keeper.forget("api").unwrap();
            keeper.settle().unwrap();
            keeper.end();
            drop(others);
            String::new()
        });
    }

    /// Supds that have died one after the other wait there still.
    #[test]
    fn there_may_be_no_room_at_one_that_hangs() {
        alone("os::keeper::tests::there_may_be_no_room_at_one_that_hangs", || {
            let (keeper, process, folder) = begun();
            let path = folder.path().join("socket");
            process.send(Number(19)).unwrap();
            let mut waiting = Vec::new();
            let error = loop {
                match Keeper::reach(&path) {
                    Ok(one) => waiting.push(one),
                    Err(error) => break error,
                }
            };
            assert_eq!((error.errno, waiting.is_empty()), (Errno::ETIME, false));
            assert_eq!(waiting[0].process().unwrap().pid(), process.pid());
            process.send(Number(18)).unwrap();
            drop((keeper, waiting));
            Keeper::reach(&path).unwrap().end();
            is_over_soon(&process);
            String::new()
        });
    }

    #[test]
    fn one_whose_socket_has_lost_its_file_is_reached() {
        alone("os::keeper::tests::one_whose_socket_has_lost_its_file_is_reached", || {
            let (mut keeper, process, folder) = begun();
            let path = folder.path().join("socket");
            keeper.keep("web", b"x", &[]).unwrap();
            for _ in 0..3 {
                std::fs::remove_file(&path).unwrap();
                assert_eq!(Keeper::reach(&path).unwrap_err().errno, Errno::ENOENT);
                drop(keeper);
                keeper = Keeper::reach_without_file(&process, &path).unwrap();
                assert_eq!(keeper.take().unwrap().len(), 1);
            }
            keeper.end();
            is_over_soon(&process);
            assert!(Keeper::reach_without_file(&process, &path).is_err());
            String::new()
        });
    }

    #[test]
    fn one_that_is_killed_or_hangs_is_told_from_one_that_answers() {
        alone("os::keeper::tests::one_that_is_killed_or_hangs_is_told_from_one_that_answers", || {
            let (mut keeper, process, _folder) = begun();
            keeper.keep("web", b"", &[]).unwrap();
            keeper.settle().unwrap();
            keeper.hear().unwrap();
            keeper.ask().unwrap();
            process.send(Number(19)).unwrap();
            assert_eq!(keeper.ask().unwrap_err().errno, Errno::ETIME);
            keeper.keep("web", b"", &[]).unwrap();
            assert_eq!(keeper.settle().unwrap_err().errno, Errno::ETIME);
            process.send(Number::KILL).unwrap();
            is_over_soon(&process);
            // The first word is that something of what was said was not read.
            assert!(matches!(keeper.hear().unwrap_err().errno, Errno::ECONNRESET | Errno::EPIPE));
            assert_eq!(keeper.hear().unwrap_err().errno, Errno::EPIPE);
            assert_eq!(keeper.keep("web", b"", &[]).unwrap_err().errno, Errno::EPIPE);
            String::new()
        });
    }
}
