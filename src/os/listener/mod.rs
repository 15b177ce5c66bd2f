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
//! # Slots
//! One socket at first; a generation may have one of its own ([`Listener::lend`]), and the kernel, or
//! the path, leads new clients to the right one ([`crate::os::steering`]). Whatever is said to the
//! listener is said to all of them. A TCP or UDP port is ours alone until the second slot is made, for
//! SO_REUSEPORT is off. From then on, and until all of them are closed, a process of supd's own user
//! that sets SO_REUSEPORT can bind the same port: an eBPF program gives it nothing, and a classic one
//! neither, unless it came before a slot that is made later, whose place it then has.
//!
//! Descriptors are close-on-exec and blocking. O_NONBLOCK would belong to the open file description
//! and so to all workers at once; systemd's default is blocking, and supd itself never accepts.

mod adopt;
mod bind_error;
mod fifo;
mod filter;
mod idle;
mod inet;
mod kept;
mod member;
mod occupant;
mod options;
mod overruled;
mod owner;
mod place;
mod queue;
mod recount;
mod slots;
mod traffic;
mod unix;

use adopt::From;
pub(in crate::os) use adopt::is_at;
pub use bind_error::{BindError, Why};
pub use queue::Queues;

use crate::model::settings::{Socket, SocketOptions};
use crate::model::{Address, ListenerName};
use crate::os::steering::{self, Group};
use crate::os::{Error, sockopt};
use member::Member;
use owner::Owner;
use std::iter;
use std::os::fd::{BorrowedFd, OwnedFd};
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
    /// What went wrong beside what was to be done, and was not told yet.
    troubles: Vec<String>,
    /// Why every generation gets the same slot, if it is so.
    shared: Option<&'static str>,
    /// Another server may still accept there, by the same socket: it is neither refused nor held off.
    borrowed: bool,
    // Dropped in this order, so that a client finds no file rather than a dead one.
    park: Option<Box<Park>>,
    /// The active slot: a path leads to this one.
    front: Member,
    /// All others. None for as long as nobody needs them.
    further: Vec<Member>,
    /// What the kernel chooses by, once there was a second slot of a port.
    group: Option<Box<Group>>,
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
            troubles: Vec::new(),
            shared: steering::shared(&socket.address),
            borrowed: false,
            park: None,
            front: Member::new(place, fd),
            further: Vec::new(),
            group: None,
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
        adopt::adopt(socket, fd, private_folder, From::Handed).map_err(|why| BindError::new(socket, why))
    }

    /// The same for a socket of a server that runs and goes on accepting there, in which supd has no part
    /// ([`crate::os::running`]). Until [`Listener::is_ours`] is called, nothing that is done here keeps a client
    /// from it: what should be refused or held off is not.
    ///
    /// # Errors
    /// [`Why::Otherwise`] says what is not as `socket` says; the descriptor is closed.
    pub fn borrow(socket: &Arc<Socket>, fd: OwnedFd, private_folder: &Path) -> Result<Self, BindError> {
        let adopted = adopt::adopt(socket, fd, private_folder, From::Running);
        adopted.map_err(|why| BindError::new(socket, why))
    }

    /// Whether the server that it was taken from may still accept there.
    #[must_use]
    pub fn is_borrowed(&self) -> bool {
        self.borrowed
    }

    /// That server is gone: what should be refused is, from here on, and its path goes with the listener.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_ours(&mut self) -> Result<(), Error> {
        if let Some(place) = self.front.place.as_mut().filter(|_| self.borrowed) {
            place.is_ours();
        }
        let refuses = std::mem::take(&mut self.borrowed) && self.traffic == Traffic::Refused;
        if refuses { self.refuse() } else { Ok(()) }
    }

    /// Connections that wait for accept(2) in all slots; bytes that wait, for datagrams and FIFOs.
    /// `None`: the kernel does not tell. Two system calls at most for a slot, four for UNIX sockets.
    #[must_use]
    pub fn queue_length(&self) -> Option<u32> {
        self.queue_length_of(&Queues::default())
    }

    /// The same, where the queues of many are asked for.
    #[must_use]
    pub fn queue_length_of(&self, queues: &Queues) -> Option<u32> {
        self.members().map(|member| queue::length(member.fd(), &self.bound, queues)).sum()
    }

    /// Whether somebody who holds a copy has called shutdown(2): nobody can connect any more. Of a
    /// port this is said if it is so for any slot, of a path for the one that it leads to.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        let further = self.further.iter().filter(|_| self.can_listen_again());
        self.bound.listens()
            && iter::once(&self.front).chain(further).any(|member| queue::is_hung_up(member.fd()))
    }

    /// Whether [`Listener::listen`] helps then. The mark stays on a UNIX socket for ever.
    #[must_use]
    pub fn can_listen_again(&self) -> bool {
        matches!(self.bound, Address::Ip { .. })
    }

    /// Whether clients find the public path; true for what has none.
    #[must_use]
    pub fn is_published(&self) -> bool {
        match (&self.park, &self.front.place) {
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
        let place = match (self.traffic, &self.park, &self.front.place) {
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
        let mut cuts = if wanted == *self.socket {
            self.cuts.clone()
        } else {
            backlog_note(&wanted).into_iter().collect()
        };
        self.change(&wanted, &mut cuts).map_err(|why| BindError::new(&wanted, why))?;
        // Unchanged, it stays shared with the unit's settings.
        if wanted != *self.socket {
            self.socket = Arc::new(wanted);
        }
        self.cuts = cuts;
        Ok(later)
    }

    fn change(&self, wanted: &Socket, cuts: &mut Vec<String>) -> Result<(), Why> {
        let owner = Owner::look_up(&wanted.options)?;
        let parked = self.park.as_ref().map(|park| &park.place);
        // What a worker set on its own slot by itself (TCP_NODELAY, a longer queue) stays.
        let is_done = |member: &Member| member.lent && wanted.options == self.socket.options;
        for member in self.members().filter(|member| !is_done(member)) {
            // What the kernel cuts of one it cuts of all, and it is told once.
            cuts.truncate(usize::from(backlog_note(wanted).is_some()));
            options::at_any_time(member.fd(), &self.bound, &wanted.options, cuts)?;
        }
        for place in parked.into_iter().chain(self.members().filter_map(|member| member.place.as_ref())) {
            owner.give_known(place.private(), place.id())?;
        }
        if !self.bound.listens() || self.traffic == Traffic::Refused {
            return Ok(());
        }
        for member in self.members() {
            // What was shut down is not opened here: its group would not know of it.
            if member.is_listening() && !is_done(member) {
                sockopt::listen(member.fd(), wanted.options.backlog)
                    .map_err(|errno| Error::new("set", format!("Backlog of {}", self.bound), errno))?;
            }
        }
        Ok(())
    }

    /// The active slot. Valid until [`Listener::listen`] is called again or the listener goes.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.front.fd()
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

    /// Where it is bound in truth: 0.0.0.0 for `[::]` on a kernel without IPv6.
    #[must_use]
    pub fn bound(&self) -> &Address {
        &self.bound
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

    /// What went wrong beside what was to be done, each once: a slot that could not be put back where it belongs.
    pub fn take_troubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.troubles)
    }

    /// Closes supd's copy. Its public path goes if it is still its own, and the private one. Clients
    /// in the queue of a TCP socket are reset if nobody else holds it.
    pub fn close(self) {
        drop(self);
    }

    /// The descriptor for a successor ([`Listener::adopt`]), who finds both names in the file system.
    /// A UNIX path that was held off is open from here on: what holds it off goes with this supd.
    /// Slots beside the active one are closed.
    #[must_use]
    pub fn leave(self) -> OwnedFd {
        let Member { place, fd, .. } = self.front;
        if let Some(place) = place {
            if let Some(park) = self.park {
                let _ = place.publish(Some(park.place.id()));
            }
            place.leave();
        }
        fd
    }
}

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

/// What a worker can do to its slot: nobody changes a filter or a program by it any more.
#[cfg(test)]
pub(crate) fn lock_filter(fd: BorrowedFd<'_>) {
    sockopt::set(fd, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 1).expect("nobody may not");
}

#[cfg(test)]
mod tests;
