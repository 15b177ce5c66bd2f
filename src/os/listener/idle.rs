//! Slots that no generation has any more.
//!
//! One that stays in the kernel's row is a trap: whoever changes who is chosen there (a worker that shuts its slot
//! down and listens again, or attaches a program of its own) sends clients where nobody accepts, even where one
//! generation is alone. And what a worker did to it would be for the next one. So it goes as soon as nothing waits
//! there and nobody is half-way through a handshake to it.
//!
//! With a classic program the kernel goes by places, and close(2) is not enough: somebody may have a copy, which
//! would keep its place, or get one behind supd's back by another listen(2). So a slot is first bound to an
//! interface that does not exist, for everybody who has it: no packet is for it, and it is in no row of others. To
//! bind it elsewhere again takes CAP_NET_RAW.

use super::member::Member;
use super::{Listener, Queues, Traffic, filter, inet, queue, recount};
use crate::model::{Address, SocketKind, Tick};
use crate::os::steering::{Group, Slot};
use crate::os::{clock, sockopt};
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// So long a handshake may take that had begun when clients were led elsewhere.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// The number of no interface.
const NOWHERE: i32 = i32::MAX;

impl Listener {
    /// Closes what nobody has and nobody is led to. The number of a slot is free then.
    pub fn close_idle(&mut self) {
        if self.further.iter().all(|member| member.lent) {
            return;
        }
        if self.group.as_ref().is_some_and(|group| !group.closes()) {
            return self.retire_idle();
        }
        let Self { bound, further, group, .. } = self;
        let empty = |member: &Member| queue::length(member.fd(), bound, &Queues::default()) == Some(0);
        let migrates = group.as_ref().is_some_and(|group| group.migrates());
        let mut gone = Vec::new();
        for at in (0..further.len()).rev() {
            if !further[at].lent && (migrates || empty(&further[at])) {
                gone.push(further.swap_remove(at));
            }
        }
        for Member { slot, place, fd, .. } in gone {
            drop(place);
            if let Some(group) = group {
                close(group, slot, fd, group.migrates());
            }
        }
    }

    /// Where the kernel goes by places: those without whom the program that is attached leads nobody astray, not
    /// even for a moment.
    fn retire_idle(&mut self) {
        let Self { socket, bound, traffic, front, further, group: Some(group), troubles, .. } = self else {
            return;
        };
        let held = *traffic == Traffic::HeldOff;
        recount::recount(group, front, further, (bound, socket.options.backlog, held), troubles);
        let now = clock::now();
        let mut went = false;
        for at in (0..further.len()).rev() {
            let member = &further[at];
            let stays = member.lent || member.settles(bound, now) || member.is_waited_for(bound);
            if !stays && group.can_lose(member.slot) && retire(member.fd(), bound).is_ok() {
                let _ = group.left(member.slot);
                further.swap_remove(at);
                went = true;
            }
        }
        if went && !group.is_empty() {
            let heard = std::iter::once(&*front).chain(&*further).filter(|it| it.may_be_heard(bound));
            // Whom it leads to has not moved, or is alone.
            let _ = group.attach(heard.map(Member::fd), bound);
        }
    }

    /// When a slot that nobody has can be closed that cannot be yet.
    #[must_use]
    pub fn idle_until(&self) -> Option<Tick> {
        self.group.as_ref().filter(|group| !group.closes())?;
        let now = clock::now();
        let idle = self.further.iter().filter(|member| !member.lent && member.settles(&self.bound, now));
        idle.filter_map(|member| member.led).min().map(|led| led.after(HANDSHAKE))
    }

    /// Another socket in the place of one that nobody has and where nobody waits: what a worker did to it (its
    /// options, a mark of shutdown(2), which every connection inherits, that it is tied to one peer, or that it can
    /// listen no more) is not for the next one. Where slots are closed once nobody has them there is none.
    pub(super) fn freshen(&mut self, slot: Slot) {
        let Self { socket, bound, front, further, group, traffic, troubles, .. } = self;
        let Some(group) = group.as_deref_mut().filter(|group| !group.closes()) else { return };
        let tcp = matches!(bound, Address::Ip { kind: SocketKind::Stream, .. });
        let idle = |member: &Member| member.slot == slot && !member.lent && !member.is_waited_for(bound);
        let Some(at) = further.iter().position(idle).filter(|_| *traffic != Traffic::Refused) else { return };
        // What it did is seen by its mark, which goes with it.
        let held = *traffic == Traffic::HeldOff;
        recount::recount(group, front, further, (bound, socket.options.backlog, held), troubles);
        if !(group.has(slot) && further[at].may_be_heard(bound)) {
            let _ = group.left(slot);
            let _ = retire(further[at].fd(), bound);
            further.swap_remove(at);
            return;
        }
        // Into the row behind all others, where nobody is led; the kernel puts the last one where one has left
        // it, so that every other keeps its number.
        recount::share_port(std::iter::once(&*front).chain(&*further));
        let made = inet::join(front.fd(), bound, &socket.options, false).ok().filter(|fd| {
            !tcp || (!held || filter::drop_new_connections(fd.as_fd()).is_ok())
                && inet::listen(fd.as_fd(), socket.options.backlog, false).is_ok()
                && recount::mark(fd.as_fd()).is_ok()
        });
        let Some(made) = made else { return };
        if retire(further[at].fd(), bound).is_ok() {
            further[at].fd = made;
            further[at].led = None;
        } else if !tcp {
            // It is in the row from its bind(2) on.
            let _ = retire(made.as_fd(), bound);
        }
    }
}

impl Member {
    /// Whether a handshake may be under way to it.
    fn settles(&self, address: &Address, now: Tick) -> bool {
        address.listens() && self.led.is_some_and(|led| now < led.after(HANDSHAKE))
    }

    /// Whether something waits there that somebody can still have.
    fn is_waited_for(&self, address: &Address) -> bool {
        self.may_be_heard(address)
            && queue::length(self.fd(), address, &Queues::default()).is_some_and(|length| length > 0)
    }

    /// Whether clients can get there at all.
    fn may_be_heard(&self, address: &Address) -> bool {
        if address.listens() { self.is_listening() } else { !recount::is_out(self.fd()) }
    }
}

/// Takes a socket out of the row, for whoever has a copy. Somebody may listen on that: it is in no row of ours then.
fn retire(fd: BorrowedFd<'_>, address: &Address) -> Result<(), Errno> {
    let nowhere = to_nowhere(fd);
    // UDP leaves the row with that (net/ipv4/udp.c, udp_lib_rehash). Of TCP it is no matter of life and death: where a
    // worker has bound it to an interface, and supd may not change that, it listens no more at least.
    if address.listens() { sockopt::disconnect(fd) } else { nowhere }
}

pub(super) fn to_nowhere(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let go = || sockopt::set(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, NOWHERE);
    let datagrams = || sockopt::get(fd, libc::SOL_SOCKET, libc::SO_TYPE) == Ok(libc::SOCK_DGRAM);
    match go() {
        // One interface for another takes CAP_NET_RAW; but who has no peer any more has no interface either
        // (net/ipv4/udp.c, __udp_disconnect).
        Err(Errno::EPERM) if datagrams() => sockopt::disconnect(fd).and_then(|()| go()),
        gone => gone,
    }
}

pub(super) fn is_nowhere(fd: BorrowedFd<'_>) -> bool {
    sockopt::get(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX) == Ok(NOWHERE)
}

/// Closes a slot for everybody, where the kernel goes by names: somebody may have a copy. `migrates`: what waits there
/// moves to the other slots at the shutdown(2).
pub(super) fn close(group: &mut Group, slot: Slot, fd: OwnedFd, migrates: bool) {
    if migrates {
        let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
    }
    let _ = to_nowhere(fd.as_fd());
    let _ = group.left(slot);
    drop(fd);
}
