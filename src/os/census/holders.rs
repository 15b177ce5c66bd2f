//! Which sockets processes hold, by /proc/PID/fd.

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

/// So many descriptors of one group are looked at: with more of them it is not told in time.
const MOST_DESCRIPTORS: usize = 400_000;

/// The clock is looked at after so many.
const BETWEEN_LOOKS: usize = 1024;

/// Says the inode of every socket that one of these has open, by this /proc. Whether these were all: not
/// where a process may not be looked at, or they take too long.
pub(super) fn each_socket(
    proc: BorrowedFd<'_>,
    pids: impl Iterator<Item = i32>,
    end: Instant,
    mut each: impl FnMut(u32),
) -> bool {
    let mut left = MOST_DESCRIPTORS;
    let (mut all, mut counted) = (true, 0);
    for pid in pids {
        let is_over = counted >= BETWEEN_LOOKS && Instant::now() >= end;
        if is_over || left == 0 {
            return false;
        }
        let before = left;
        match of_process(proc, pid, &mut left, end, &mut each) {
            Ok(told) => all &= told,
            // It has ended meanwhile.
            Err(Errno::ENOENT | Errno::ESRCH) => {}
            Err(_) => all = false,
        }
        counted += before - left;
    }
    all
}

/// One process, in a child of supd's, which takes no descriptors of its own but this folder and /proc.
fn of_process(
    proc: BorrowedFd<'_>,
    pid: i32,
    left: &mut usize,
    end: Instant,
    each: &mut impl FnMut(u32),
) -> Result<bool, Errno> {
    let path = format!("{pid}/fd");
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut folder = Dir::openat(proc, path.as_str(), flags, Mode::empty())?;
    let mut names: Vec<u32> = Vec::new();
    for entry in folder.iter() {
        // Not `.` and `..`.
        names.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
        if names.len() > *left {
            *left = 0;
            return Ok(false);
        }
    }
    *left -= names.len();
    for (number, name) in names.iter().enumerate() {
        if number % BETWEEN_LOOKS == BETWEEN_LOOKS - 1 && Instant::now() >= end {
            return Ok(false);
        }
        match readlinkat(folder.as_fd(), name.to_string().as_str()) {
            Ok(target) => socket(target.as_encoded_bytes()).into_iter().for_each(&mut *each),
            // Closed meanwhile.
            Err(Errno::ENOENT | Errno::ESRCH) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

/// `socket:[INODE]`
fn socket(target: &[u8]) -> Option<u32> {
    let number = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::socket;

    #[test]
    fn a_socket_is_told_from_what_only_looks_like_one() {
        assert_eq!(socket(b"socket:[4294967295]"), Some(u32::MAX));
        for other in [&b"socket:[]"[..], b"socket:[1", b"/tmp/socket:[1]", b"pipe:[1]", b"socket:[\xff]", b""]
        {
            assert_eq!(socket(other), None);
        }
    }
}
