//! An address that supd bound; it outlives every worker.
//!
//! A [`Listener`] is in one of three states, and each can be reached from each at any time, while
//! workers hold copies of its descriptor: *refused* ([`Listener::refuse`], and at first), *held off*
//! ([`Listener::hold_off`]) and *open* ([`Listener::listen`]). What each means for each kind:
//!
//! | | refused | held off | open |
//! |---|---|---|---|
//! | TCP | RST; the port stays ours | SYNs are dropped and come again after 1 s, 3 s … (CAP_NET_ADMIN) | listening |
//! | UDP, abstract datagrams | dropped in silence | as open | received |
//! | UNIX stream, seqpacket, by path | no such file | connect(2) waits, EAGAIN if it may not | public |
//! | UNIX datagrams by path, FIFO | no such file | as open | public |
//! | abstract stream, seqpacket | refused, and [`Listener::listen`] takes a new socket | as open | listening |
//!
//! Refusing resets what is in a TCP queue: hold off first, and refuse once
//! [`Listener::queue_length`] is 0. All others keep their queues.
//!
//! Descriptors are close-on-exec and blocking. O_NONBLOCK would belong to the open file description
//! and so to all workers at once; systemd's default is blocking, and supd itself never accepts.

mod adopt;
mod bind_error;
mod fifo;
mod filter;
mod inet;
mod occupant;
mod options;
mod owner;
mod place;
mod queue;
mod unix;

pub use bind_error::{BindError, Why};
pub use queue::Queues;

use crate::model::settings::{Socket, SocketOptions};
use crate::model::{Address, ListenerName, SocketKind};
use crate::os::{Error, sockopt};
use nix::errno::Errno;
use owner::Owner;
use place::Place;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use unix::Park;

/// What becomes of a client that comes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// It is refused.
    Refused,
    /// It waits outside of the queue.
    HeldOff,
    /// It gets into the queue.
    Open,
}

/// An address that supd bound. When it is dropped, what it put into the file system goes with it;
/// [`Listener::leave`] keeps that for a successor.
#[derive(Debug)]
pub struct Listener {
    socket: Arc<Socket>,
    /// Where it is bound in truth: 0.0.0.0 for `[::]` on a kernel without IPv6.
    bound: Address,
    private_folder: PathBuf,
    traffic: Traffic,
    /// Told once and for all.
    notes: Vec<String>,
    /// What the kernel cut of the options in force.
    cuts: Vec<String>,
    // Dropped in this order, so that a client finds no file rather than a dead one.
    park: Option<Box<Park>>,
    place: Option<Place>,
    fd: OwnedFd,
}

impl Listener {
    /// Bound with all options, and refusing: a TCP port is ours alone, a UNIX path or FIFO made with
    /// its owner and mode under a private name in `private_folder` (made if missing, for supd alone;
    /// on another file system than the public path, the private name is a hidden one beside that).
    /// A public path left behind by somebody who is gone is replaced once it listens.
    ///
    /// Never waits for anybody, but for NSS where SocketUser or SocketGroup is a name.
    ///
    /// # Errors
    /// [`BindError`], which says what to do.
    pub fn bind(socket: &Arc<Socket>, private_folder: &Path) -> Result<Self, BindError> {
        let mut notes = Vec::new();
        let mut cuts = Vec::from_iter(backlog_note(socket));
        let bound = match &socket.address {
            Address::Ip { .. } => inet::bind(&socket.address, &socket.options, &mut notes, &mut cuts)
                .map(|(fd, bound)| (fd, None, bound)),
            Address::Abstract { name, .. } => {
                unix::bind_abstract(&socket.address, name, &socket.options, &mut cuts)
                    .map(|fd| (fd, None, socket.address.clone()))
            }
            Address::Unix { path, .. } => unix::bind_path(socket, path, private_folder, &mut cuts)
                .map(|(fd, place)| (fd, Some(place), socket.address.clone())),
            Address::Fifo { path } => fifo::bind(socket, path, private_folder)
                .map(|(fd, place)| (fd, Some(place), socket.address.clone())),
        };
        let (fd, place, bound) = bound.map_err(|why| BindError::new(socket, why))?;
        Ok(Self {
            socket: socket.clone(),
            bound,
            private_folder: private_folder.into(),
            traffic: Traffic::Refused,
            notes,
            cuts,
            park: None,
            place,
            fd,
        })
    }

    /// Takes over a descriptor that supd inherited (LISTEN_FDS), if it is what `socket` says.
    ///
    /// It is open if it listens already. A UNIX path stays when the listener goes, for whoever made it
    /// may go on with it; unless it was a supd with the same private folder.
    ///
    /// # Errors
    /// [`Why::Mismatch`] says what it is instead; the descriptor is closed.
    pub fn adopt(socket: &Arc<Socket>, fd: OwnedFd, private_folder: &Path) -> Result<Self, BindError> {
        adopt::adopt(socket, fd, private_folder).map_err(|why| BindError::new(socket, why))
    }

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
                filter::let_in(self.fd.as_fd()).map_err(failed)?;
            }
            Address::Ip { .. } => {
                inet::listen(self.fd.as_fd(), self.socket.options.backlog)
                    .map_err(|errno| bind_error::in_use(&self.bound, failed(errno)))?;
                self.let_in().map_err(failed)?;
            }
            Address::Abstract { .. } => self.open_abstract()?,
            Address::Unix { .. } | Address::Fifo { .. } => {
                self.start_queue()?;
                let parked = self.park.as_ref().map(|park| park.place.id());
                if let Some(place) = &self.place {
                    place.publish(parked)?;
                }
                self.park = None;
            }
        }
        Ok(())
    }

    /// Takes the filter off a TCP socket. Tried even if there should be none, for a worker or a supd
    /// before this one may have left one; then it is no error that a worker has locked what is not
    /// there (SO_LOCK_FILTER).
    fn let_in(&self) -> Result<(), Errno> {
        filter::let_in(self.fd.as_fd()).or_else(|errno| match self.traffic {
            Traffic::HeldOff => Err(errno),
            Traffic::Refused | Traffic::Open => Ok(()),
        })
    }

    /// listen(2) on a UNIX stream by path; nobody comes before it is public.
    fn start_queue(&self) -> Result<(), Error> {
        if !self.bound.listens() {
            return Ok(());
        }
        sockopt::listen(self.fd.as_fd(), self.socket.options.backlog)
            .map_err(|errno| Error::new("listen on", &self.bound, errno))
    }

    /// A UNIX socket that was shut down cannot listen again, and no other path leads to its name.
    fn open_abstract(&mut self) -> Result<(), Why> {
        let Address::Abstract { name, .. } = &self.bound else { return Ok(()) };
        // 0: never listened. ENOTSOCK: the last attempt to do this failed.
        let fresh = sockopt::get(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Ok(0);
        if self.traffic == Traffic::Refused && !fresh {
            let null = std::fs::File::open("/dev/null")
                .map_err(|error| Error::from_io("open", "/dev/null", &error))?;
            // Ours has to go first. If a worker has a copy the name stays taken, and it is named.
            self.fd = null.into();
            self.fd = unix::bind_abstract(&self.bound, name, &self.socket.options, &mut self.cuts)?;
        }
        Ok(self.start_queue()?)
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

    fn shut_out(&mut self) -> Result<bool, Why> {
        match &self.bound {
            Address::Ip { kind: SocketKind::Stream, .. } => {
                let failed = |errno| Error::new("hold off", &self.bound, errno);
                match filter::drop_new_connections(self.fd.as_fd()) {
                    Err(Errno::EPERM) => {
                        note(&mut self.notes, NO_FILTER);
                        return Ok(false);
                    }
                    other => other.map_err(failed)?,
                }
                if self.traffic == Traffic::Refused {
                    inet::listen(self.fd.as_fd(), self.socket.options.backlog).map_err(|errno| {
                        let _ = filter::let_in(self.fd.as_fd());
                        bind_error::in_use(&self.bound, failed(errno))
                    })?;
                }
                Ok(true)
            }
            Address::Unix { path, .. } if self.bound.listens() => {
                let Some(place) = &self.place else { return Ok(false) };
                if self.park.is_none() {
                    self.start_queue()?;
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
            Address::Ip { kind: SocketKind::Datagram, .. }
            | Address::Abstract { kind: SocketKind::Datagram, .. } => {
                filter::drop_datagrams(self.fd.as_fd()).map_err(failed)?;
            }
            Address::Ip { .. } => {
                inet::refuse(self.fd.as_fd()).map_err(failed)?;
                self.let_in().map_err(failed)?;
            }
            Address::Abstract { .. } => unix::refuse(self.fd.as_fd()).map_err(failed)?,
            Address::Unix { .. } | Address::Fifo { .. } => {
                // Those who wait at the park look the path up again when it goes: it is gone by then.
                for place in [self.park.as_ref().map(|park| &park.place), self.place.as_ref()] {
                    place.map(Place::unpublish);
                }
                self.park = None;
            }
        }
        self.traffic = Traffic::Refused;
        Ok(())
    }

    /// Connections that wait for accept(2); bytes that wait, for datagrams and FIFOs. `None`: the
    /// kernel does not tell. Two system calls at most, four for UNIX sockets.
    #[must_use]
    pub fn queue_length(&self) -> Option<u32> {
        self.queue_length_of(&Queues::default())
    }

    /// The same, where the queues of many are asked for.
    #[must_use]
    pub fn queue_length_of(&self, queues: &Queues) -> Option<u32> {
        queue::length(self.fd.as_fd(), &self.bound, queues)
    }

    /// Whether somebody who holds a copy has called shutdown(2): nobody can connect any more.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.bound.listens() && queue::is_hung_up(self.fd.as_fd())
    }

    /// Whether [`Listener::listen`] helps then. The mark stays on a UNIX socket for ever.
    #[must_use]
    pub fn can_listen_again(&self) -> bool {
        matches!(self.bound, Address::Ip { .. })
    }

    /// Whether clients find the public path; true for what has none.
    #[must_use]
    pub fn is_published(&self) -> bool {
        match (&self.park, &self.place) {
            (Some(park), _) => park.place.is_public(),
            (None, Some(place)) => place.is_public(),
            (None, None) => true,
        }
    }

    /// Puts a public path back that somebody removed, folders included. Whether that was needed.
    ///
    /// # Errors
    /// [`Why::InUse`] if somebody else listens there by now; they are not pushed aside.
    pub fn republish(&self) -> Result<bool, BindError> {
        let place = match (self.traffic, &self.park, &self.place) {
            (Traffic::HeldOff, Some(park), _) => &park.place,
            (Traffic::Open, _, Some(place)) => place,
            _ => return Ok(false),
        };
        place.publish(None).map_err(|why| BindError::new(&self.socket, why))
    }

    /// Changes what can be changed on a socket that is bound, and says what cannot, by the unit file's
    /// names: that takes a new bind and is left as it was.
    ///
    /// # Errors
    /// The first option that failed; those before it are in force.
    pub fn apply_options(&mut self, new: &SocketOptions) -> Result<Vec<&'static str>, BindError> {
        let later = options::needs_new_bind(&self.bound, &self.socket.options, new);
        let options = options::in_force(&self.socket.options, new);
        let wanted = Socket { options, ..Socket::clone(&self.socket) };
        let mut cuts = Vec::from_iter(backlog_note(&wanted));
        self.change(&wanted, &mut cuts).map_err(|why| BindError::new(&wanted, why))?;
        // Unchanged, it stays shared with the unit's settings.
        if wanted != *self.socket {
            self.socket = Arc::new(wanted);
        }
        self.cuts = cuts;
        Ok(later)
    }

    fn change(&self, wanted: &Socket, cuts: &mut Vec<String>) -> Result<(), Why> {
        options::at_any_time(self.fd.as_fd(), &self.bound, &wanted.options, cuts)?;
        let owner = Owner::look_up(&wanted.options)?;
        for place in [self.park.as_ref().map(|park| &park.place), self.place.as_ref()].into_iter().flatten() {
            owner.give_known(place.private(), place.id())?;
        }
        if self.bound.listens() && self.traffic != Traffic::Refused {
            sockopt::listen(self.fd.as_fd(), wanted.options.backlog)
                .map_err(|errno| Error::new("set", format!("Backlog of {}", self.bound), errno))?;
        }
        Ok(())
    }

    /// What a worker inherits. Valid until [`Listener::listen`] is called again or the listener goes.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its name within the unit.
    #[must_use]
    pub fn name(&self) -> &ListenerName {
        &self.socket.name
    }

    /// Where it listens, as the unit file says it.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.socket.address
    }

    /// What becomes of clients now.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// What a person should know although it is no error, such as a backlog that the kernel cut.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().chain(&self.cuts).map(String::as_str)
    }

    /// Closes supd's copy. Its public path goes if it is still its own, and the private one. Clients
    /// in the queue of a TCP socket are reset if nobody else holds it.
    pub fn close(self) {
        drop(self);
    }

    /// The descriptor for a successor ([`Listener::adopt`]), who finds both names in the file system.
    /// A UNIX path that was held off is open from here on: what holds it off goes with this supd.
    #[must_use]
    pub fn leave(self) -> OwnedFd {
        if let Some(place) = self.place {
            if let Some(park) = self.park {
                let _ = place.publish(Some(park.place.id()));
            }
            place.leave();
        }
        self.fd
    }
}

/// What a missing privilege takes away.
const NO_FILTER: &str = "new connections cannot be held off: this kernel wants CAP_NET_ADMIN for that";

/// Adds a note once, however often its reason comes up.
fn note(notes: &mut Vec<String>, text: &str) {
    if !notes.iter().any(|known| known == text) {
        notes.push(text.into());
    }
}

fn backlog_note(socket: &Socket) -> Option<String> {
    if socket.address.listens() { options::backlog_note(socket.options.backlog) } else { None }
}

/// What is asked for is not what the descriptor is, in words.
fn mismatch(found: impl Into<String>) -> Why {
    Why::Mismatch(found.into())
}

#[cfg(test)]
mod tests;
