#![allow(unsafe_code)]
//! Who is at the other end of a UNIX socket, by the kernel's word at the time of connect(2).

use super::Error;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use std::os::fd::{AsFd, AsRawFd};

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
    use super::Peer;
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
}
