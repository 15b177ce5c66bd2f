//! The epoll sets that a worker's socket is in before it binds (Netty's native transport puts it there): the
//! socket that it gets is put into them in its place. The worker's own would stay where it is if supd bound it
//! and kept a copy, but then it would be the worker's to lead elsewhere, each process and each launch had
//! another one, and what waits in one could not be passed on to the next.
#![allow(unsafe_code)]

use super::facts::take;
use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// No more descriptors of one process are looked at, in milliseconds. A server that watches before it binds
/// has just begun, and has few.
const DESCRIPTORS_MAX: usize = 4096;

/// In no more sets is it looked for.
const SETS_MAX: usize = 64;

/// No more is read of what one set watches: a line of 70 bytes for each.
const READ_MAX: u64 = 1 << 20;

/// That a socket is in an epoll set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The set, as the worker numbers it.
    set: RawFd,
    /// What it is watched for.
    events: u32,
    /// What the worker is told then.
    data: u64,
}

/// The sets in which descriptor `place` of this thread's process is, with this inode.
pub(super) fn find(thread: i32, place: RawFd, inode: u64) -> Vec<Watch> {
    let Ok(entries) = fs::read_dir(format!("/proc/{thread}/fd")) else { return Vec::new() };
    let is_set = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]")
    };
    let sets = entries.flatten().take(DESCRIPTORS_MAX).filter(is_set);
    let sets = sets.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(SETS_MAX);
    sets.filter_map(|set| watched(thread, set, place, inode)).collect()
}

fn watched(thread: i32, set: RawFd, place: RawFd, inode: u64) -> Option<Watch> {
    let info = File::open(format!("/proc/{thread}/fdinfo/{set}")).ok()?;
    let lines = BufReader::new(info.take(READ_MAX)).lines().map_while(Result::ok);
    lines.filter_map(|line| line_of(&line, set, place, inode)).next()
}

/// `tfd:        5 events:       19 data:                5  pos:0 ino:2a3f sdev:8` (proc_pid_fdinfo(5))
fn line_of(line: &str, set: RawFd, place: RawFd, inode: u64) -> Option<Watch> {
    let mut words =
        line.split(|char: char| char == ':' || char.is_whitespace()).filter(|word| !word.is_empty());
    let mut after = |name: &str| words.by_ref().skip_while(|word| *word != name).nth(1);
    let target: RawFd = after("tfd")?.parse().ok()?;
    let (events, data) = (after("events")?, after("data")?);
    let (events, data) = (u32::from_str_radix(events, 16).ok()?, u64::from_str_radix(data, 16).ok()?);
    let its = u64::from_str_radix(after("ino")?, 16).ok()?;
    (target == place && its == inode).then_some(Watch { set, events, data })
}

/// Puts what is at `place` now into these sets. The kernel knows an entry by its file and by the number that
/// it was added under, so that has to be the worker's: `own` is moved away if it is there.
///
/// # Errors
/// What pidfd_getfd(2), dup3(2) and epoll_ctl(2) say.
pub(super) fn join(thread: i32, place: RawFd, watches: &[Watch], own: &mut OwnedFd) -> Result<(), Errno> {
    if own.as_raw_fd() == place {
        *own = own.try_clone().map_err(|_| Errno::EMFILE)?;
    }
    let there = at(take(thread, place)?, place)?;
    for watch in watches {
        let set = take(thread, watch.set)?;
        let mut event = libc::epoll_event { events: watch.events, u64: watch.data };
        let (set, there) = (set.as_raw_fd(), there.as_raw_fd());
        // SAFETY: three numbers, and a structure that lives through the call.
        let added = unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, there, &raw mut event) };
        match Errno::result(added) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The same file at this number, which nothing of this process has.
fn at(file: OwnedFd, place: RawFd) -> Result<OwnedFd, Errno> {
    if file.as_raw_fd() == place {
        return Ok(file);
    }
    // SAFETY: two numbers; the caller has seen to it that nobody here counts on `place`.
    let number = Errno::result(unsafe { libc::dup3(file.as_raw_fd(), place, libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just put it there for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_set() {
        let line = "tfd:        5 events: 80000019 data: ffffffff00000005  pos:0 ino:2a3f sdev:8";
        let watch = Watch { set: 3, events: 0x8000_0019, data: 0xffff_ffff_0000_0005 };
        assert_eq!(line_of(line, 3, 5, 0x2a3f), Some(watch));
        assert_eq!(line_of(line, 3, 6, 0x2a3f), None, "another descriptor");
        assert_eq!(line_of(line, 3, 5, 0x2a40), None, "another file had that number before");
        for bad in ["", "pos:\t0", "tfd: x events: 1 data: 1 ino:1", "tfd: 5 events: 1"] {
            assert_eq!(line_of(bad, 3, 5, 1), None);
        }
    }
}
