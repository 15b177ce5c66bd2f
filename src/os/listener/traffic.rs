//! Refused, held off, open: said to all slots of a listener.

use super::bind_error::{BindError, Why, in_use};
use super::member::Member;
use super::place::Place;
use super::unix::{self, Park};
use super::{Listener, Traffic, filter, inet, note, recount};
use crate::model::{Address, SocketKind};
use crate::os::{Error, sockopt};
use nix::errno::Errno;
use std::os::fd::BorrowedFd;

impl Listener {
    /// Listens: at first, again, or after it was held off. A UNIX path becomes public, with the right
    /// owner and mode from the first moment.
    ///
    /// An abstract stream that was refused gets a new descriptor: look at [`Listener::fd`] again.
    ///
    /// # Errors
    /// [`BindError`]; the state is as before then.
    pub fn listen(&mut self) -> Result<(), BindError> {
        self.open().map_err(|why| BindError::new(&self.socket, why))?;
        self.traffic = Traffic::Open;
        Ok(())
    }

    fn open(&mut self) -> Result<(), Why> {
        let failed = |errno| Error::new("listen on", &self.bound, errno);
        match &self.bound {
            Address::Ip { kind: SocketKind::Datagram, .. }
            | Address::Abstract { kind: SocketKind::Datagram, .. } => {
                for member in self.members() {
                    filter::let_in(member.fd()).map_err(failed)?;
                }
            }
            Address::Ip { .. } => {
                self.open_tcp()?;
                self.let_in().map_err(|errno| Error::new("listen on", &self.bound, errno))?;
            }
            Address::Abstract { .. } => self.open_abstract()?,
            Address::Unix { .. } | Address::Fifo { .. } => {
                self.start_queues()?;
                let parked = self.park.as_ref().map(|park| park.place.id());
                if let Some(place) = &self.front.place {
                    place.publish(parked)?;
                }
                self.park = None;
            }
        }
        Ok(())
    }

    /// listen(2) on each slot that does not, the active one first: with it comes the program, so that
    /// the next that joins gets nobody who is not meant for it.
    fn open_tcp(&mut self) -> Result<(), Why> {
        let was_beside = self.further.is_empty() && !self.front.is_listening() && self.be_alone_again();
        let Self { socket, bound, shared, front, further, group, troubles, .. } = self;
        let backlog = socket.options.backlog;
        let failed = |errno| in_use(bound, Error::new("listen on", &*bound, errno));
        let Some(group) = group else {
            // Somebody may have a copy of a slot that there was, and listen on it.
            let alone = shared.is_none() && (!was_beside || inet::is_alone(front.fd()));
            if was_beside && !alone {
                recount::share_port(std::iter::once(&*front));
            }
            return inet::listen(front.fd(), backlog, alone).map_err(failed);
        };
        let held = self.traffic == Traffic::HeldOff;
        // What moved before is counted first: else what begins to listen now would stand before it in our count.
        recount::recount(group, front, further, (bound, backlog, held), troubles);
        let mut begun: Vec<BorrowedFd<'_>> = Vec::new();
        let listens = |member: &&Member| member.is_listening();
        let others: Vec<BorrowedFd<'_>> =
            std::iter::once(&*front).chain(&*further).filter(listens).map(Member::fd).collect();
        let mut failed_first = None;
        recount::share_port(std::iter::once(&*front).chain(&*further));
        for member in std::iter::once(&*front).chain(&*further) {
            let listened = member.is_listening();
            let result = inet::listen(member.fd(), backlog, false).map_err(failed).and_then(|()| {
                if listened && group.has(member.slot) {
                    return Ok(group.enter(member.slot, member.fd())?);
                }
                recount::join(group, member.slot, member.fd())?;
                begun.push(member.fd());
                // By one that was there before, if there is one: a worker may have shut the new one down
                // already, and a program attached to that makes a group of its own, which never listens.
                Ok(group.attach(others.iter().chain(&begun).copied().filter(|fd| listens_now(*fd)), bound)?)
            });
            if let Err(why) = result {
                failed_first.get_or_insert(why);
            }
        }
        let Some(why) = failed_first else { return Ok(()) };
        // Where somebody listens, one that cannot is no reason for the others not to.
        if others.is_empty() {
            for fd in begun {
                let _ = inet::refuse(fd);
            }
        }
        Err(why)
    }

    /// Takes the filter off TCP sockets. Tried even if there should be none, for a worker or a supd
    /// before this one may have left one; then it is no error that a worker has locked what is not
    /// there (SO_LOCK_FILTER).
    fn let_in(&self) -> Result<(), Errno> {
        let mut result = Ok(());
        for member in self.members() {
            result = filter::let_in(member.fd()).and(result);
        }
        result.or_else(|errno| match self.traffic {
            Traffic::HeldOff => Err(errno),
            Traffic::Refused | Traffic::Open => Ok(()),
        })
    }

    /// listen(2) on UNIX streams by path; nobody comes before they are public.
    pub(super) fn start_queues(&self) -> Result<(), Error> {
        if !self.bound.listens() {
            return Ok(());
        }
        for member in self.members() {
            sockopt::listen(member.fd(), self.socket.options.backlog)
                .map_err(|errno| Error::new("listen on", &self.bound, errno))?;
        }
        Ok(())
    }

    /// A UNIX socket that was shut down cannot listen again, and no other path leads to its name.
    fn open_abstract(&mut self) -> Result<(), Why> {
        let Address::Abstract { name, .. } = &self.bound else { return Ok(()) };
        // 0: never listened. ENOTSOCK: the last attempt to do this failed.
        let fresh = inet::is_listening(self.front.fd()) == Ok(false);
        if self.traffic == Traffic::Refused && !fresh {
            let null = std::fs::File::open("/dev/null")
                .map_err(|error| Error::from_io("open", "/dev/null", &error))?;
            // Ours has to go first. If a worker has a copy the name stays taken, and it is named.
            self.front.fd = null.into();
            self.front.fd = unix::bind_abstract(&self.bound, name, &self.socket.options, &mut self.cuts)?;
        }
        Ok(self.start_queues()?)
    }

    /// New clients wait outside of the queue, and what is in it can still be served.
    ///
    /// False: this kind cannot be held off, or supd may not do it ([`Listener::notes`]); it is open
    /// instead, so that they wait in the queue.
    ///
    /// # Errors
    /// [`BindError`]; the state is as before then.
    pub fn hold_off(&mut self) -> Result<bool, BindError> {
        let held = self.shut_out().map_err(|why| BindError::new(&self.socket, why))?;
        if held {
            self.traffic = Traffic::HeldOff;
        } else {
            self.listen()?;
        }
        Ok(held)
    }

    /// While it is held off: who comes from these ports is let in all the same.
    ///
    /// # Errors
    /// EPERM: a worker has locked its filter. What else the kernel says.
    pub fn let_in_from(&self, ports: &[u16]) -> Result<(), Error> {
        let tcp = matches!(self.bound, Address::Ip { kind: SocketKind::Stream, .. });
        if self.traffic != Traffic::HeldOff || !tcp {
            return Ok(());
        }
        let failed = |errno| Error::new("let a check in at", &self.bound, errno);
        self.members().try_for_each(|member| filter::drop_all_but(member.fd(), ports)).map_err(failed)
    }

    fn shut_out(&mut self) -> Result<bool, Why> {
        if self.borrowed {
            return Ok(false);
        }
        match &self.bound {
            Address::Ip { kind: SocketKind::Stream, .. } => {
                let dropped = |member: &Member| filter::drop_new_connections(member.fd());
                let refused = self.members().map(dropped).find(Result::is_err);
                match refused {
                    Some(Err(Errno::EPERM)) => {
                        note(&mut self.notes, NO_FILTER);
                        return Ok(false);
                    }
                    Some(Err(errno)) => return Err(Error::new("hold off", &self.bound, errno).into()),
                    Some(Ok(())) | None => {}
                }
                if self.traffic == Traffic::Refused {
                    let opened = self.open_tcp();
                    if opened.is_err() {
                        let _ = self.let_in();
                    }
                    opened?;
                }
                Ok(true)
            }
            Address::Unix { path, .. } if self.bound.listens() => {
                let Some(place) = &self.front.place else { return Ok(false) };
                if self.park.is_none() {
                    self.start_queues()?;
                    let park = Park::make(&self.socket, path, &self.private_folder, place)?;
                    park.place.publish(Some(place.id()))?;
                    self.park = Some(Box::new(park));
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// From here on clients are refused. A TCP queue is reset: see [`Listener::hold_off`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn refuse(&mut self) -> Result<(), Error> {
        let failed = |errno| Error::new("stop listening on", &self.bound, errno);
        match &self.bound {
            // The socket is another server's as well, and so is the path.
            _ if self.borrowed => {}
            Address::Ip { kind: SocketKind::Datagram, .. }
            | Address::Abstract { kind: SocketKind::Datagram, .. } => {
                for member in self.members() {
                    filter::drop_datagrams(member.fd()).map_err(failed)?;
                }
            }
            Address::Ip { .. } => {
                for member in std::iter::once(&self.front).chain(&self.further) {
                    inet::refuse(member.fd()).map_err(failed)?;
                    if let Some(group) = &mut self.group {
                        group.left(member.slot)?;
                    }
                }
                self.let_in().map_err(failed)?;
            }
            Address::Abstract { .. } => unix::refuse(self.front.fd()).map_err(failed)?,
            Address::Unix { .. } | Address::Fifo { .. } => {
                // Those who wait at the park look the path up again when it goes: it is gone by then.
                for place in [self.park.as_ref().map(|park| &park.place), self.front.place.as_ref()] {
                    place.map(Place::unpublish);
                }
                self.park = None;
            }
        }
        self.traffic = Traffic::Refused;
        Ok(())
    }
}

fn listens_now(fd: BorrowedFd<'_>) -> bool {
    inet::is_listening(fd) == Ok(true)
}

/// What a missing privilege takes away.
const NO_FILTER: &str = "new connections cannot be held off: this kernel wants CAP_NET_ADMIN for that";
