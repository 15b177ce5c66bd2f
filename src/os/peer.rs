#![allow(unsafe_code)]
//! Who is at the other end of a UNIX socket, by the kernel's word at the time of connect(2).

use super::Error;
use super::pidfd::PidFd;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The process that connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its number; 0 where it lives in a pid namespace that is not ours to see.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Asks the kernel: SO_PEERCRED and SO_PEERGROUPS (unix(7), Linux 4.13).
    ///
    /// # Errors
    /// What the kernel answered; a socket without a peer has none.
    pub fn of(socket: &impl AsFd) -> Result<Self, Error> {
        let told = |errno| Error::new("read", "the credentials of a client", errno);
        let credentials = getsockopt(socket, sockopt::PeerCredentials).map_err(told)?;
        let groups = groups_of(socket).map_err(told)?;
        Ok(Self { pid: credentials.pid(), uid: credentials.uid(), gid: credentials.gid(), groups })
    }

    /// Whether the process is in this group, as its own or as a supplementary one.
    #[must_use]
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// Who logged in, to become the user that is at the other end (audit(7)): the kernel's word, which only
/// a login changes. `None`: nobody did, this kernel does not count it, or the process has ended.
///
/// /proc knows a process by its number, which may be another one's by now. So it is held first, by the
/// socket's own word (SO_PEERPIDFD, Linux 6.5); if it lives when all is read, it was read of that one.
#[must_use]
pub fn login_uid(socket: &impl AsFd) -> Option<u32> {
    let fd = pidfd_of(socket).ok()?;
    let process = PidFd::identify(fd)?;
    let text = std::fs::read_to_string(format!("/proc/{}/loginuid", process.pid())).ok()?;
    let uid = text.trim().parse().ok().filter(|uid| *uid != u32::MAX)?;
    (!process.is_over()).then_some(uid)
}

/// SO_PEERPIDFD, which neither nix nor libc has for every machine.
fn pidfd_of(socket: &impl AsFd) -> Result<OwnedFd, Errno> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(|_| Errno::ERANGE)?;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `fd`, and the descriptor is
    // borrowed for the whole call.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    Errno::result(answer)?;
    // SAFETY: the kernel has just made it for us alone, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// SO_PEERGROUPS, which nix does not wrap. The kernel answers ERANGE with the room it needs.
fn groups_of(socket: &impl AsFd) -> Result<Vec<u32>, Errno> {
    const EACH: usize = size_of::<libc::gid_t>();
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let room = groups.len() * EACH;
        let mut length = libc::socklen_t::try_from(room).map_err(|_| Errno::ERANGE)?;
        // SAFETY: the kernel writes at most `length` bytes, which is the size of `groups`, and the
        // descriptor is borrowed for the whole call.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let needed = length as usize;
        match Errno::result(answer) {
            Ok(_) => {
                groups.truncate(needed / EACH);
                return Ok(groups);
            }
            // NGROUPS_MAX is 65,536, so this ends.
            Err(Errno::ERANGE) if needed > room => groups.resize(needed.div_ceil(EACH), 0),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Peer, login_uid};
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_other_end_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
        let mut own: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let mut seen = peer.groups.clone();
        own.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, own);
        assert!(peer.is_in(peer.gid));
        assert!(!peer.is_in(u32::MAX - 1));
    }

    #[test]
    fn who_logged_in_is_read_of_the_process_that_connected() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own = std::fs::read_to_string("/proc/self/loginuid").ok();
        let own = own.and_then(|text| text.trim().parse::<u32>().ok()).filter(|uid| *uid != u32::MAX);
        // A kernel before 6.5 cannot tell.
        if super::pidfd_of(&one).is_ok() {
            assert_eq!(login_uid(&one), own);
        }
        let path = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(path.path().join("x")).unwrap();
        let connect = format!("import socket; socket.socket(1).connect({:?})", path.path().join("x"));
        if let Ok(mut child) = std::process::Command::new("python3").args(["-c", &connect]).spawn() {
            let (gone, _) = listener.accept().unwrap();
            child.wait().unwrap();
            assert_eq!(login_uid(&gone), None, "its number may be another one's");
        }
    }
}
