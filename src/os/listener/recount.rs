//! Who has left the kernel's row of sockets, and come back, while nobody looked.
//!
//! A worker that calls shutdown(2) on its slot takes it out of the row, and listen(2) puts it back as the last:
//! from then on a classic program, which goes by places, leads clients to somebody else. Once it listens again
//! nothing polls, and the kernel tells nobody. But shutdown(2) of a listening socket takes back what was set on
//! it with TCP_WINDOW_CLAMP (net/ipv4/tcp.c, tcp_disconnect), so that each carries a mark that only such a one
//! has lost. The mark is the largest window that there is, which is what no clamp at all comes to.
//!
//! **What is absent:** eBPF programs, which go by names; UDP, which is in the row for as long as it is bound.

use super::member::Member;
use crate::model::{Address, SocketKind};
use crate::os::steering::{Group, Slot};
use crate::os::{Error, sock_diag, sockopt};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// The largest window of TCP (RFC 7323, 2.3).
const MARK: i32 = 65_535 << 14;

/// From here on it is seen whether somebody shuts it down.
pub(super) fn mark(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    sockopt::set(fd, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, MARK)
}

fn has_mark(fd: BorrowedFd<'_>) -> bool {
    sockopt::get(fd, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP) != Ok(0)
}

/// Counts again who has which place. Where several have moved since the last time, they are taken to have done
/// so one after the other, in the order in which they listen.
pub(super) fn recount<'a>(
    group: &mut Group,
    members: impl Iterator<Item = &'a Member> + Clone,
    address: &Address,
) {
    let Address::Ip { kind: SocketKind::Stream, host, port } = address else { return };
    if group.closes() {
        return;
    }
    let known = members.filter(|member| group.has(member.slot));
    let (there, gone): (Vec<&Member>, Vec<&Member>) = known.partition(|member| member.is_listening());
    let mut moved: Vec<&Member> = there.into_iter().filter(|member| !has_mark(member.fd())).collect();
    if moved.len() > 1 {
        let order = order(*host, *port);
        let at = |member: &&Member| order.iter().position(|inode| Some(*inode) == inode_of(member.fd()));
        moved.sort_by_key(at);
    }
    for member in gone {
        let _ = group.left(member.slot);
    }
    for member in moved {
        let _ = join(group, member.slot, member.fd());
    }
}

/// Who listens at this port, in the order of listen(2). The kernel puts an IPv4 socket before those that were
/// there, and one of IPv6 behind them (net/ipv4/inet_hashtables.c, __inet_hash).
fn order(host: IpAddr, port: u16) -> Vec<u32> {
    let all = sock_diag::inet(false, port, sock_diag::States::LISTENING).unwrap_or_default();
    let mut inodes: Vec<u32> =
        all.iter().filter(|socket| socket.host == host).map(|socket| socket.inode).collect();
    if host.is_ipv4() {
        inodes.reverse();
    }
    inodes
}

fn inode_of(fd: BorrowedFd<'_>) -> Option<u32> {
    u32::try_from(fstat(fd).ok()?.st_ino).ok()
}

/// A socket that has just begun to listen, or (UDP) is bound, is the last of the row.
pub(super) fn join(group: &mut Group, slot: Slot, fd: BorrowedFd<'_>) -> Result<(), Error> {
    // Of UDP there is none to be seen, and none is missed.
    let _ = mark(fd);
    group.joined(slot, fd)
}
