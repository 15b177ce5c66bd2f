//! A slot for each generation that asks for one, and how clients get there.

use super::bind_error::{BindError, Why, in_use};
use super::idle::close;
use super::member::Member;
use super::owner::Owner;
use super::place::Place;
use super::{Listener, Queues, Traffic, filter, inet, note, queue, recount, unix};
use crate::model::{Address, SocketKind, Waiting};
use crate::os::steering::{self, Mechanism, Slot, Steering};
use crate::os::{Error, clock, sockopt};
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

impl Listener {
    /// How clients get to their slot.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        match (self.shared, &self.group, &self.bound) {
            (Some(why), _, _) => Mechanism::Shared(why.to_owned()),
            (None, Some(group), _) => group.mechanism(),
            (None, None, Address::Ip { .. }) => steering::best(),
            (None, None, _) => Mechanism::Path,
        }
    }

    /// Gives a generation this slot: one that is there, or a new one, which nobody is led to before
    /// the split says so ([`Listener::steer`]). It listens if the listener does. Where all share one
    /// slot, nothing is done.
    ///
    /// # Errors
    /// [`BindError`]: there is no such slot then, and all is as before.
    pub fn lend(&mut self, slot: Slot, steering: &mut Steering) -> Result<(), BindError> {
        let whose = if self.shared.is_some() { self.front.slot } else { slot };
        self.renew_path(whose).map_err(|why| BindError::new(&self.socket, why))?;
        if self.shared.is_some() {
            return Ok(());
        }
        self.freshen(slot);
        if self.member(slot).is_none() {
            let made = if !self.front.lent && self.further.iter().all(|member| !member.lent) {
                self.rename(slot)
            } else {
                self.add(slot, steering)
            };
            made.map_err(|why| BindError::new(&self.socket, why))?;
        }
        self.members_mut().filter(|member| member.slot == slot).for_each(|member| member.lent = true);
        Ok(())
    }

    /// Nobody has the active slot: whoever comes first gets it, with what waits there.
    fn rename(&mut self, slot: Slot) -> Result<(), Why> {
        let Self { front, group, .. } = self;
        if let Some(group) = group.as_mut().filter(|group| group.has(front.slot)) {
            group.renamed(front.slot, slot, front.fd())?;
        }
        front.slot = slot;
        Ok(())
    }

    fn add(&mut self, slot: Slot, steering: &mut Steering) -> Result<(), Why> {
        match &self.bound {
            Address::Ip { kind, .. } => {
                let udp = *kind == SocketKind::Datagram;
                self.add_socket(slot, udp, steering).inspect_err(|_| {
                    self.be_alone_again();
                })
            }
            Address::Unix { .. } | Address::Abstract { .. } | Address::Fifo { .. } => self.add_path(slot),
        }
    }

    /// Bound at a private name, and public once the split says so.
    fn add_path(&mut self, slot: Slot) -> Result<(), Why> {
        let (place, fd) = self.make_path()?;
        self.further.push(Member { slot, lent: false, led: None, place: Some(place), fd });
        Ok(())
    }

    /// A path that a worker has shut down can never listen again, whoever has it: who is launched with it next has
    /// another socket, at the same place.
    fn renew_path(&mut self, slot: Slot) -> Result<(), Why> {
        let open = self.traffic == Traffic::Open && self.bound.listens();
        let is_path = matches!(self.bound, Address::Unix { .. }) && open;
        if !is_path || !self.member(slot).is_some_and(|member| queue::is_hung_up(member.fd())) {
            return Ok(());
        }
        let (place, fd) = self.make_path()?;
        if self.front.slot == slot {
            place.publish(self.front.place.as_ref().map(|place| place.id()))?;
        }
        let name = &self.socket.name;
        note(
            &mut self.troubles,
            &format!("{name} {} was shut down by a worker: it is bound anew", self.bound),
        );
        let renewed = std::iter::once(&mut self.front).chain(&mut self.further);
        if let Some(member) = renewed.into_iter().find(|member| member.slot == slot) {
            (member.place, member.fd) = (Some(place), fd);
        }
        Ok(())
    }

    fn make_path(&self) -> Result<(Place, OwnedFd), Why> {
        let Some(place) = &self.front.place else {
            return Err(Error::new("bind another slot of", &self.bound, Errno::EOPNOTSUPP).into());
        };
        let owner = Owner::look_up(&self.socket.options)?;
        let kind = self.bound.kind().unwrap_or(SocketKind::Stream);
        let (place, fd) =
            place.make_sibling(&self.private_folder, self.socket.name.as_str(), &owner, |private| {
                unix::bind_at(private, kind)
            })?;
        super::options::at_any_time(fd.as_fd(), &self.bound, &self.socket.options, &mut Vec::new())?;
        if self.traffic != Traffic::Refused {
            sockopt::listen(fd.as_fd(), self.socket.options.backlog)
                .map_err(|errno| Error::new("listen on", place.private().display(), errno))?;
        }
        Ok((place, fd))
    }

    /// The program that chooses who is there already comes first; only then SO_REUSEPORT is switched
    /// on, and the new one joins.
    fn add_socket(&mut self, slot: Slot, udp: bool, steering: &mut Steering) -> Result<(), Why> {
        let begun = self.begin_group(udp, steering)?;
        let Self { socket, bound, traffic, front, further, group, troubles, .. } = self;
        let Some(group) = group else {
            return Err(Error::new("steer", &*bound, Errno::EINVAL).into());
        };
        recount::recount(
            group,
            front,
            further,
            (bound, socket.options.backlog, *traffic == Traffic::HeldOff),
            troubles,
        );
        // A worker may have taken it from its slot: then nobody could be bound beside that.
        recount::share_port(std::iter::once(&*front).chain(&*further));
        let fd = inet::join(front.fd(), bound, &socket.options, *traffic == Traffic::Refused)?;
        if udp || *traffic != Traffic::Refused {
            let failed = |errno| Error::new("listen on", &*bound, errno);
            let held = *traffic == Traffic::HeldOff;
            if !udp {
                if held || !begun {
                    // Where it is for that moment alone and supd may not, a few stray into its queue.
                    let kept_out = filter::drop_new_connections(fd.as_fd());
                    kept_out.or_else(|errno| if held { Err(failed(errno)) } else { Ok(()) })?;
                }
                inet::listen(fd.as_fd(), socket.options.backlog, false)
                    .map_err(|errno| in_use(bound, failed(errno)))?;
            }
            let known = std::iter::once(&*front).chain(&*further).map(Member::fd);
            let entered = recount::join(group, slot, fd.as_fd())
                .and_then(|()| if begun { Ok(()) } else { group.enter(front.slot, front.fd()) })
                // Whoever has locked its own slot cannot lock this one.
                .and_then(|()| group.attach(std::iter::once(fd.as_fd()).chain(known), bound));
            if !held && !begun {
                let _ = filter::let_in(fd.as_fd());
            }
            if let Err(error) = entered {
                close(group, slot, fd, !udp);
                return Err(error.into());
            }
        }
        further.push(Member { slot, lent: false, led: None, place: None, fd });
        Ok(())
    }

    /// Makes a group of the first slot, if it is not one yet. False: the kernel does so only when another joins,
    /// for a worker has shut this one down, and let it listen again.
    fn begin_group(&mut self, udp: bool, steering: &mut Steering) -> Result<bool, Why> {
        if self.group.is_some() {
            return Ok(true);
        }
        let Self { bound, front, group, .. } = self;
        let group = group.insert(Box::new(steering.group(udp)));
        let mut begun = true;
        if udp || front.is_listening() {
            let joined = recount::join(group, front.slot, front.fd());
            match joined.and_then(|()| group.attach(std::iter::once(front.fd()), bound)) {
                // Locked: the new one will let us, a moment after it has joined. Until then the program
                // that chooses the first one is there, unless a worker has put another in its place.
                Err(Error { errno: Errno::EPERM, .. }) => {}
                Err(Error { errno: Errno::EINVAL, .. }) if !udp => begun = false,
                other => other?,
            }
        }
        sockopt::set(front.fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
            .map_err(|errno| Error::new("share", &*bound, errno))?;
        Ok(begun)
    }

    /// Where there is no second slot, the port is closed to all others again, from the next listen(2)
    /// on at the latest. Whether there had been one.
    pub(super) fn be_alone_again(&mut self) -> bool {
        let group = if self.further.is_empty() { self.group.take() } else { None };
        let Some(mut group) = group else { return false };
        let _ = group.left(self.front.slot);
        let _ = sockopt::set(self.front.fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 0);
        true
    }

    /// Leads new clients where the split says; for an eBPF program it makes sure that it is asked, and
    /// [`Steering::flip`] follows. What nobody has any more is for [`Listener::close_idle`] then.
    ///
    /// # Errors
    /// [`BindError`]: no slot let us attach the program, somebody else has the path by now, or the slot
    /// was shut down. Where they are led is as before then.
    pub fn steer(&mut self, steering: &Steering) -> Result<(), BindError> {
        let led = match &self.bound {
            Address::Ip { .. } => self.attach(steering),
            Address::Unix { .. } | Address::Abstract { .. } | Address::Fifo { .. } => {
                self.lead(steering.split().whole())
            }
        };
        led.map_err(|why| BindError::new(&self.socket, why))
    }

    fn attach(&mut self, steering: &Steering) -> Result<(), Why> {
        let Self { socket, bound, traffic, front, further, group, troubles, .. } = self;
        if let Some(group) = group {
            let left = |slot: Slot| group.leads_to(slot) && !steering.split().leads_to(slot);
            for member in std::iter::once(&mut *front).chain(&mut *further).filter(|it| left(it.slot)) {
                member.led = Some(clock::now());
            }
            steering.tell(group);
            recount::recount(
                group,
                front,
                further,
                (bound, socket.options.backlog, *traffic == Traffic::HeldOff),
                troubles,
            );
            // A worker may have taken its slot out of the kernel's choice, or left it alone in it.
            for member in std::iter::once(&*front).chain(&*further).filter(|it| group.has(it.slot)) {
                sockopt::set(member.fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
                    .map_err(|errno| Error::new("share the port of", &*bound, errno))?;
                let entered = group.enter(member.slot, member.fd());
                // Of a slot that receives nothing that is no fault yet.
                entered
                    .or_else(|why| if steering.split().leads_to(member.slot) { Err(why) } else { Ok(()) })?;
            }
            let tcp = matches!(bound, Address::Ip { kind: SocketKind::Stream, .. });
            let deaf = |member: &Member| tcp && *traffic != Traffic::Refused && !member.is_listening();
            let led = |member: &&Member| steering.split().leads_to(member.slot);
            let known = std::iter::once(&*front).chain(&*further).filter(led);
            if !tcp && known.clone().any(|it| recount::is_out(it.fd()) || !group.has(it.slot)) {
                return Err(Error::new("steer", &*bound, Errno::EINVAL).into());
            }
            if let Some(deaf) = std::iter::once(&*front).chain(&*further).filter(led).find(|it| deaf(it)) {
                let what = format!("lead clients to slot {} of", deaf.slot);
                return Err(Error::new(
                    "find somebody who listens, to",
                    format!("{what} {bound}"),
                    Errno::EPIPE,
                )
                .into());
            }
            if !group.is_empty() {
                let heard = std::iter::once(&*front).chain(&*further).filter(|member| !tcp || !deaf(member));
                group.attach(heard.map(Member::fd), bound)?;
            }
        }
        self.bring_forward(steering.split().active);
        self.put_away();
        Ok(())
    }

    /// Whoever was active, and had left the kernel's choice (UDP), has nobody led to it any more.
    fn put_away(&mut self) {
        let Self { socket, bound, traffic, front, further, group: Some(group), troubles, .. } = self else {
            return;
        };
        if matches!(bound, Address::Ip { kind: SocketKind::Datagram, .. }) {
            let held = *traffic == Traffic::HeldOff;
            recount::recount(group, front, further, (bound, socket.options.backlog, held), troubles);
        }
    }

    /// Publishes another slot over the one that the path leads to.
    fn lead(&mut self, slot: Slot) -> Result<(), Why> {
        let Some(next) = self.further.iter().find(|member| member.slot == slot) else { return Ok(()) };
        if self.bound.listens() && queue::is_hung_up(next.fd()) {
            return Err(
                Error::new("lead clients to a slot that was shut down:", &self.bound, Errno::EPIPE).into()
            );
        }
        // What refuses has no public name, and while it is held off the path leads to the park.
        if self.traffic == Traffic::Open {
            if let (Some(next), Some(front)) = (&next.place, &self.front.place) {
                next.publish(Some(front.id()))?;
            }
        }
        self.bring_forward(slot);
        Ok(())
    }

    fn bring_forward(&mut self, slot: Slot) {
        if let Some(next) = self.further.iter_mut().find(|member| member.slot == slot) {
            std::mem::swap(&mut self.front, next);
        }
    }

    /// Every process of the generation that had this slot is gone. It is closed if that loses nothing;
    /// else it stays for the next that borrows it, with what waits there.
    pub fn give_back(&mut self, slot: Slot) {
        self.members_mut().filter(|member| member.slot == slot).for_each(|member| member.lent = false);
        self.close_idle();
    }

    /// Lets the kernel's choice know again what it may have lost: somebody has shut a slot down and
    /// let it listen again, before we looked. With a classic program the places are counted again then.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remind(&mut self) -> Result<(), Error> {
        let Self { socket, bound, traffic, front, further, group, troubles, .. } = self;
        let Some(group) = group else { return Ok(()) };
        recount::recount(
            group,
            front,
            further,
            (bound, socket.options.backlog, *traffic == Traffic::HeldOff),
            troubles,
        );
        let mut entered = Ok(());
        for member in std::iter::once(&*front).chain(&*further).filter(|it| group.has(it.slot)) {
            // One that cannot be is no reason for the others not to.
            entered = entered.and(group.enter(member.slot, member.fd()));
        }
        if group.is_empty() {
            return entered;
        }
        let tcp = matches!(bound, Address::Ip { kind: SocketKind::Stream, .. });
        let heard = std::iter::once(&*front).chain(&*further).filter(|it| !tcp || it.is_listening());
        group.attach(heard.map(Member::fd), bound).and(entered)
    }

    /// Moves what waits in a slot to which nobody is led to the others: the kernel does that where a slot
    /// stops listening, with an eBPF program. It listens again at once, for whoever has it may come to.
    ///
    /// # Errors
    /// It cannot listen again.
    pub fn pass_on(&mut self, slot: Slot) -> Result<(), Error> {
        let Self { bound, front, further, group: Some(group), socket, traffic: Traffic::Open, .. } = self
        else {
            return Ok(());
        };
        let Some(member) = further.iter().find(|member| member.slot == slot) else { return Ok(()) };
        if !group.migrates() || front.slot == slot {
            return Ok(());
        }
        let fd = member.fd();
        shutdown(fd.as_raw_fd(), Shutdown::Both).map_err(|errno| Error::new("shut down", &*bound, errno))?;
        sockopt::listen(fd, socket.options.backlog).map_err(|errno| Error::new("listen", &*bound, errno))?;
        group.enter(slot, fd)
    }

    /// What a worker inherits whose generation has this slot. Where all share one, it is that one.
    #[must_use]
    pub fn fd_of(&self, slot: Slot) -> Option<BorrowedFd<'_>> {
        if self.shared.is_some() {
            return Some(self.front.fd());
        }
        self.member(slot).map(Member::fd)
    }

    /// Which socket of the machine this slot is (SO_COOKIE): one that is lent anew may be another one than before.
    #[must_use]
    pub fn socket_of(&self, slot: Slot) -> Option<u64> {
        self.fd_of(slot).and_then(|fd| sockopt::cookie(fd).ok())
    }

    /// Every slot that is there, and whether a generation has it.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, bool)> {
        self.members().map(|member| (member.slot, member.lent))
    }

    /// What waits in this slot: see [`Listener::queue_length`].
    #[must_use]
    pub fn queue_length_of_slot(&self, slot: Slot, queues: &Queues) -> Option<u32> {
        queue::length(self.fd_of(slot)?, &self.bound, queues)
    }

    /// What waits in this slot, and what tells that somebody accepts.
    #[must_use]
    pub fn waiting(&self, slot: Slot, steering: &Steering) -> Option<Waiting> {
        let waiting = queue::waiting(self.fd_of(slot)?, &self.bound)?;
        let sent = self.group.as_ref().and_then(|group| steering.sent(group, slot));
        Some(Waiting { sent, ..waiting })
    }

    /// A path that leads to this slot and to no other, for supd alone.
    #[must_use]
    pub fn private_path(&self, slot: Slot) -> Option<&Path> {
        Some(self.member(slot)?.place.as_ref()?.private())
    }
}
