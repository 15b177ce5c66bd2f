//! Who has left the kernel's row of sockets, and come back, while nobody looked.
//!
//! A worker that calls shutdown(2) on its slot takes it out of the row, and the last one gets its place; listen(2)
//! puts it back as the last. From then on a classic program, which goes by places, leads clients to somebody
//! else. Once it listens again nothing polls, and the kernel tells nobody. But shutdown(2) of a listening socket
//! takes back what was set on it with TCP_WINDOW_CLAMP (net/ipv4/tcp.c, tcp_disconnect), so that each carries a
//! mark that only such a one has lost. The mark is the largest window that there is, which is what no clamp at
//! all comes to.
//!
//! One that has moved has one place that it can have now. Of two nobody knows which was the first, and it makes
//! a difference: then all but the active one are taken out and put back, in an order that is known. What waits
//! there is reset by that, where a generation that is not the active one has a queue; anything else would lead
//! clients to the wrong one for good. One that cannot listen again (its worker has taken SO_REUSEPORT from it) is
//! told, and says HUP, which leads to another attempt ([`super::Listener::listen`]).
//!
//! **What is absent:** eBPF programs, which go by names.

use super::member::Member;
use super::{filter, inet, note};
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

/// Counts again who has which place. What cannot be put right is added to `troubles`.
pub(super) fn recount(
    group: &mut Group,
    active: &Member,
    others: &[Member],
    (address, backlog, held): (&Address, u32, bool),
    troubles: &mut Vec<String>,
) {
    if group.closes() {
        return;
    }
    let all = || std::iter::once(active).chain(others);
    if !matches!(address, Address::Ip { kind: SocketKind::Stream, .. }) {
        let tied: Vec<Slot> =
            all().filter(|it| group.has(it.slot) && is_tied(it.fd())).map(|it| it.slot).collect();
        tied.into_iter().for_each(|slot| tell(group.left(slot), troubles));
        return;
    }
    let gone: Vec<&Member> = all().filter(|it| group.has(it.slot) && !it.is_listening()).collect();
    let moved: Vec<&Member> =
        all().filter(|it| it.is_listening() && !(group.has(it.slot) && has_mark(it.fd()))).collect();
    match (gone.as_slice(), moved.as_slice()) {
        ([], []) => {}
        ([one], []) => tell(group.left(one.slot), troubles),
        ([], [one]) => tell(join(group, one.slot, one.fd()), troubles),
        (_, _) => set_right(group, active, others, (address, backlog, held), troubles),
    }
}

/// Makes a row that is known: the active one, and the others in their order behind it.
fn set_right(
    group: &mut Group,
    active: &Member,
    others: &[Member],
    (address, backlog, held): (&Address, u32, bool),
    troubles: &mut Vec<String>,
) {
    let failed = |verb: &'static str, member: &Member| {
        let what = format!("slot {} of {address}", member.slot);
        move |errno| Error::new(verb, what, errno)
    };
    let there: Vec<&Member> = others.iter().filter(|member| member.is_listening()).collect();
    for member in &there {
        // For the moment until the program knows it, too.
        tell(inet::refuse(member.fd()).map_err(failed("take out", member)), troubles);
    }
    for member in others.iter().chain([active]) {
        tell(group.left(member.slot), troubles);
    }
    if active.is_listening() {
        tell(join(group, active.slot, active.fd()), troubles);
        tell(group.attach(std::iter::once(active.fd()), address), troubles);
    }
    for member in there {
        // Where supd may not, a few stray into its queue.
        let kept_out = !held && filter::drop_new_connections(member.fd()).is_ok();
        let listens = inet::listen(member.fd(), backlog, false).map_err(failed("listen again at", member));
        tell(listens.and_then(|()| join(group, member.slot, member.fd())), troubles);
        if kept_out {
            tell(filter::let_in(member.fd()).map_err(failed("let clients in at", member)), troubles);
        }
    }
}

fn tell(result: Result<(), Error>, troubles: &mut Vec<String>) {
    if let Err(error) = result {
        note(troubles, &error.to_string());
    }
}
