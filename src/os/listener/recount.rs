//! Who has left the kernel's row of sockets, and come back, while nobody looked.
//!
//! A worker that calls shutdown(2) on its slot takes it out of the row, and the last one gets its place; listen(2)
//! puts it back as the last. From then on a classic program, which goes by places, leads clients to somebody
//! else. Once it listens again nothing polls, and the kernel tells nobody. But shutdown(2) of a listening socket
//! takes back what was set on it with TCP_WINDOW_CLAMP (net/ipv4/tcp.c, tcp_disconnect), so that each carries a
//! mark that only such a one has lost. The mark is the largest window that there is, which is what no clamp at
//! all comes to.
//!
//! One that has moved has one place that it can have now. Of several nobody knows which was the first, and it may
//! make a difference: then those are taken out and put back without whom all others have one place that they can
//! have ([`crate::os::steering::row::Row::settle`]). That resets what waits there, and an accept(2) that waits says
//! EINVAL, so it is done to those that have just done so themselves, the active one of them last; to others only
//! where nothing else would tell, for clients would be led to the wrong one for good. One that cannot listen again
//! (its worker has taken SO_REUSEPORT from it) is told, and says HUP, which leads to another attempt
//! ([`super::Listener::listen`]).
//! One that was known to be shut, listens and is shut again before supd looks leaves no trace; beside others that
//! move meanwhile it could make a difference.
//!
//! **What is absent:** eBPF programs over TCP, which go by names.

use super::idle::{is_nowhere, to_nowhere};
use super::member::Member;
use super::{Queues, filter, inet, note, queue};
use crate::model::{Address, SocketKind};
use crate::os::steering::{Group, Slot};
use crate::os::{Error, sockopt};
use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, getpeername};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The largest window of TCP (RFC 7323, 2.3).
const MARK: i32 = 65_535 << 14;

/// From here on it is seen whether somebody shuts it down.
pub(super) fn mark(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    sockopt::set(fd, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, MARK)
}

fn has_mark(fd: BorrowedFd<'_>) -> bool {
    sockopt::get(fd, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP) != Ok(0)
}

/// A socket that has just begun to listen, or (UDP) is bound, is the last of the row.
pub(super) fn join(group: &mut Group, slot: Slot, fd: BorrowedFd<'_>) -> Result<(), Error> {
    // Of UDP there is none to be seen, and none is missed.
    let _ = mark(fd);
    group.joined(slot, fd)
}

/// Whether a worker has tied a UDP socket to one peer (connect(2)): the kernel takes it out of the row for good.
pub(super) fn is_tied(fd: BorrowedFd<'_>) -> bool {
    getpeername::<SockaddrStorage>(fd.as_raw_fd()).is_ok()
}

/// Whether a UDP socket is out of the row for good: a worker has tied it, or supd has put it away for that.
pub(super) fn is_out(fd: BorrowedFd<'_>) -> bool {
    is_tied(fd) || is_nowhere(fd)
}

/// A UDP socket that the kernel has taken out of the row, for a worker has tied it to a peer or bound it to an
/// interface, stays bound beside the others: the next bind(2) that is to join the row may meet it, and makes a row of
/// those two. So it is bound to no interface. Not the active one: who has it may be served by its peer still.
fn shed(
    group: &mut Group,
    (member, active): (&Member, &Member),
    address: &Address,
    troubles: &mut Vec<String>,
) {
    let fresh = group.has(member.slot);
    tell(group.left(member.slot), troubles);
    if member.slot != active.slot {
        let put = to_nowhere(member.fd()).map_err(failed("put away", member, address));
        // Where a worker has bound it to an interface that takes CAP_NET_RAW: it is told once, and tried again.
        tell(put.or_else(|error| if fresh { Err(error) } else { Ok(()) }), troubles);
    }
}

/// Counts again who has which place. What cannot be put right is added to `troubles`.
pub(super) fn recount(
    group: &mut Group,
    active: &Member,
    others: &[Member],
    (address, backlog, held): (&Address, u32, bool),
    troubles: &mut Vec<String>,
) {
    let all = || std::iter::once(active).chain(others);
    if !matches!(address, Address::Ip { kind: SocketKind::Stream, .. }) {
        let gone = |it: &&Member| {
            let seen = group.has(it.slot) || (it.slot != active.slot && !is_nowhere(it.fd()));
            seen && (!group.has(it.slot) || is_out(it.fd()) || !group.is_in_a_row(it.fd()))
        };
        let gone: Vec<&Member> = all().filter(gone).collect();
        gone.into_iter().for_each(|member| shed(group, (member, active), address, troubles));
        return;
    }
    if group.closes() {
        return;
    }
    let movers: Vec<&Member> = all().filter(|it| has_moved(group, it)).collect();
    if movers.is_empty() {
        return;
    }
    let seen: Vec<(Slot, bool)> = movers.iter().map(|it| (it.slot, it.is_listening())).collect();
    let costs: Vec<(Slot, u8)> = all()
        .map(|it| {
            let idle = !it.lent && queue::length(it.fd(), address, &Queues::default()) == Some(0);
            let moved = seen.iter().any(|(mover, _)| *mover == it.slot);
            (it.slot, u8::from(!idle) * (u8::from(it.slot == active.slot) + 2 * u8::from(!moved)))
        })
        .collect();
    // From here on it is seen whether they do it again.
    for it in &movers {
        let _ = mark(it.fd());
    }
    let out = group.settle(&seen, |slot| {
        costs.iter().find(|(known, _)| *known == slot).map_or(u8::MAX, |(_, cost)| *cost)
    });
    // The active one comes back first: as long as it is out, clients get to others.
    let mut out: Vec<&Member> = out.iter().filter_map(|slot| all().find(|it| it.slot == *slot)).collect();
    for member in &out {
        // For the moment until the program knows it, too.
        tell(inet::refuse(member.fd()).map_err(failed("take out", member, address)), troubles);
    }
    out.sort_by_key(|it| it.slot != active.slot);
    share_port(out.iter().copied());
    let stayed = |it: &&Member| group.has(it.slot);
    let told =
        if group.is_empty() { Ok(()) } else { group.attach(all().filter(stayed).map(Member::fd), address) };
    tell(told, troubles);
    for member in out {
        let kept_out = !held && member.slot != active.slot;
        tell(put_back(group, member, (address, backlog, kept_out)), troubles);
        if member.slot == active.slot {
            tell(group.attach(std::iter::once(member.fd()), address), troubles);
        }
    }
}

/// Switches SO_REUSEPORT on again, which a worker may have taken from its slot: beside one that lacks it none can be
/// bound, and itself it cannot listen beside others. Where it is not to be had, bind(2) or listen(2) says so.
pub(super) fn share_port<'a>(members: impl Iterator<Item = &'a Member>) {
    for member in members {
        let _ = sockopt::set(member.fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1);
    }
}

impl super::Listener {
    /// Takes slots back that a worker has bound to an interface (SO_BINDTODEVICE): one that listens anew has a row of
    /// its own then, which the kernel prefers for all that comes in there. It is shut down for that, and can listen
    /// again where it belongs ([`super::Listener::listen`]). Where supd may not (CAP_NET_RAW) it is told.
    pub fn take_back(&mut self) {
        let Self { socket, bound, front, further, troubles, .. } = self;
        let tcp = matches!(bound, Address::Ip { kind: SocketKind::Stream, .. });
        if !tcp || socket.options.bind_to_device.is_some() {
            return;
        }
        let bound_to = |it: &Member| sockopt::get(it.fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX);
        for member in std::iter::once(&*front).chain(&*further).filter(|it| bound_to(it) != Ok(0)) {
            let freed = sockopt::set(member.fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, 0);
            // One that has listened all the time is in the row still, and what waits there stays.
            let listened = member.is_listening() && has_mark(member.fd());
            let shut = freed.and_then(|()| if listened { Ok(()) } else { inet::refuse(member.fd()) });
            tell(shut.map_err(failed("take back from an interface", member, bound)), troubles);
        }
    }
}

/// Whether a socket has left the row, or come, since it was counted last.
fn has_moved(group: &Group, member: &Member) -> bool {
    let there = group.has(member.slot);
    if member.is_listening() { !(there && has_mark(member.fd())) } else { there }
}

/// `kept_out`: nobody is to come before the program knows it.
fn put_back(
    group: &mut Group,
    member: &Member,
    (address, backlog, kept_out): (&Address, u32, bool),
) -> Result<(), Error> {
    // Where supd may not, a few stray into its queue.
    let kept_out = kept_out && filter::drop_new_connections(member.fd()).is_ok();
    let listens =
        inet::listen(member.fd(), backlog, false).map_err(failed("listen again at", member, address));
    let joined = listens.and_then(|()| join(group, member.slot, member.fd()));
    let let_in = if kept_out { filter::let_in(member.fd()) } else { Ok(()) };
    joined.and(let_in.map_err(failed("let clients in at", member, address)))
}

fn failed(verb: &'static str, member: &Member, address: &Address) -> impl FnOnce(Errno) -> Error {
    let what = format!("slot {} of {address}", member.slot);
    move |errno| Error::new(verb, what, errno)
}

fn tell(result: Result<(), Error>, troubles: &mut Vec<String>) {
    if let Err(error) = result {
        note(troubles, &error.to_string());
    }
}
