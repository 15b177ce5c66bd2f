//! The process itself.
#![allow(unsafe_code)]

use super::{BYTES_MAX, DONE, DROP, KEEP, LIST, Lot, QUIT, is_ours, lot, packets};
use crate::os::ancillary::{Raw, receive_datagram, send_packet};
use crate::os::closing::promptly;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{Backlog, SockFlag, UnixAddr, accept4, bind, listen};
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// A socket at `path`, in the place of what is there. Nobody listens there yet: whoever does is who is seen at the
/// other end.
pub(super) fn door(path: &Path) -> Result<OwnedFd, Errno> {
    match nix::unistd::unlink(path) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let door = packets()?;
    bind(door.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(door)
}

fn open(door: OwnedFd) -> Result<OwnedFd, Errno> {
    listen(&door, Backlog::new(1)?)?;
    Ok(door)
}

/// Nothing of supd's surroundings is held by a process that outlives it.
pub(super) fn become_keeper() {
    // But for SIGTERM: who ends everything of a service waits for each process of it, and would wait long.
    let mut blocked = SigSet::all();
    blocked.remove(Signal::SIGTERM);
    blocked.remove(Signal::SIGUSR1);
    let woken = SigAction::new(SigHandler::Handler(wake), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    let _ = unsafe { sigaction(Signal::SIGUSR1, &woken) };
    let _ = blocked.thread_set_mask();
    let _ = prctl::set_name(c"supd-keeper");
    let _ = setsid();
    let _ = chdir("/");
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
    }
}

extern "C" fn wake(_: i32) {}

/// The process. One supd after the other.
pub(super) fn serve(door: OwnedFd, first: OwnedFd, path: &Path) {
    let Ok(mut door) = open(door) else { return };
    let mut all: BTreeMap<Vec<u8>, Lot> = BTreeMap::new();
    if serve_one(&first, &mut all) {
        return;
    }
    drop(first);
    loop {
        match accept4(door.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Ok(number) => {
                // SAFETY: the kernel has just made it for us alone.
                let supd = unsafe { OwnedFd::from_raw_fd(number) };
                if is_ours(supd.as_fd()) && serve_one(&supd, &mut all) {
                    return;
                }
            }
            // Somebody does not find it.
            Err(Errno::EINTR) => door = self::door(path).and_then(open).unwrap_or(door),
            // Out of memory or descriptors, for a moment or for good: it is not to spin.
            Err(_) => drop(poll(&mut [], PollTimeout::from(100_u8))),
        }
    }
}

/// One supd, until it is gone. True: it said that this is the end.
fn serve_one(supd: &OwnedFd, all: &mut BTreeMap<Vec<u8>, Lot>) -> bool {
    let mut bytes = vec![0; BYTES_MAX];
    loop {
        let raw = match receive_datagram(supd, &mut bytes) {
            Ok(Raw { length: 0, .. }) => return false,
            Ok(raw) => raw,
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [PollFd::new(supd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
                continue;
            }
            // It has died, and has not read all answers: what it has said is still there.
            Err(Errno::EINTR | Errno::ECONNRESET) => continue,
            Err(_) => return false,
        };
        let Some((what, rest)) = bytes.get(..raw.length).and_then(<[u8]>::split_first) else { return false };
        match *what {
            KEEP => {
                // What it could not take whole it does not say that it has.
                let Some((key, said)) = lot(rest).filter(|_| !raw.truncated) else { return false };
                let lot = Lot { bytes: said.to_vec(), descriptors: raw.ancillary.descriptors };
                promptly(all.insert(key.to_vec(), lot));
            }
            DROP => promptly(all.remove(rest)),
            LIST => {
                if !all.iter().all(|(key, lot)| tell(supd, key, lot)) {
                    return false;
                }
            }
            QUIT => return true,
            _ => return false,
        }
        // Whoever hears nothing any more may have said more.
        let _ = send_waiting(supd, &[DONE], &[]);
    }
}

fn tell(supd: &OwnedFd, key: &[u8], lot: &Lot) -> bool {
    let message = [&[KEEP], key, &[0], &lot.bytes].concat();
    let all: Vec<BorrowedFd<'_>> = lot.descriptors.iter().map(AsFd::as_fd).collect();
    send_waiting(supd, &message, &all).is_ok()
}

/// However long supd takes to read: it is what this process is for.
fn send_waiting(supd: &OwnedFd, message: &[u8], all: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    loop {
        match send_packet(supd, message, all) {
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [PollFd::new(supd.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
