//! Slots of a listener, one for each generation, and the kernel that chooses among them.
//!
//! The slots of a TCP or UDP listener are one SO_REUSEPORT group. Where bpf(2) lets us, an eBPF program
//! chooses by the split of the whole unit, which is one word: one store flips all listeners, and what
//! waits in a slot that is closed moves to the others. Elsewhere a classic program is assembled for
//! each split and attached to each group; then slots are kept open, so that the kernel's numbers are
//! known ([`row`]).
//!
//! The first slot alone is no group for the world: SO_REUSEPORT is off, so that nobody can join it.
//! What makes the second slot possible without one connection astray is done before it listens: see
//! [`crate::os::listener`].

mod classic;
mod group;
mod hash;
mod kept;
mod program;
pub mod row;
mod table;

pub use group::Group;
pub use hash::draw;

pub(in crate::os) use classic::always;

use crate::model::{Address, PROBES_MAX, Share, SocketKind};
use crate::os::Error;
use nix::errno::Errno;
use std::fmt;
use std::net::SocketAddr;
use std::sync::OnceLock;
use table::{Place, Table};

/// The number of a slot, the same for every listener of a unit.
pub type Slot = u8;

/// How many slots a listener may have.
pub const SLOTS: Slot = 16;

/// Who receives new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Split {
    /// Whoever the candidate does not receive.
    pub active: Slot,
    /// Another slot and its part.
    pub candidate: Option<(Slot, Share)>,
    /// By the client's address and not by lot.
    pub sticky: bool,
    /// Makes each swap draw its clients anew.
    pub salt: u32,
}

impl Split {
    /// Whether clients may get to this slot.
    #[must_use]
    pub fn leads_to(&self, slot: Slot) -> bool {
        slot == self.active || self.candidate.is_some_and(|(its, share)| its == slot && !share.is_zero())
    }

    /// The one slot that a path can lead to.
    #[must_use]
    pub fn whole(&self) -> Slot {
        match self.candidate {
            Some((slot, share)) if share.is_full() => slot,
            Some(_) | None => self.active,
        }
    }
}

/// Why every generation gets the same slot of such an address, if it is so.
#[must_use]
pub fn shared(address: &Address) -> Option<&'static str> {
    match address {
        Address::Ip { .. } => None,
        Address::Unix { kind: SocketKind::Datagram, .. } => {
            Some("senders of UNIX datagrams stay with the socket that they found first")
        }
        Address::Unix { .. } => None,
        Address::Abstract { .. } => Some("an abstract name cannot be given to another socket"),
        Address::Fifo { .. } => Some("a FIFO is one queue for all of its readers"),
    }
}

/// How new connections of a listener reach their slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mechanism {
    /// An eBPF program.
    Ebpf,
    /// A classic BPF program, and why nothing better.
    Classic(String),
    /// The path leads to one slot at a time.
    Path,
    /// One slot is lent to all, and why.
    Shared(String),
}

impl Mechanism {
    /// In a word, for status.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Classic(_) => "classic",
            Self::Path => "path",
            Self::Shared(_) => "shared",
        }
    }

    /// Why nothing better; empty where there is nothing better.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Classic(why) | Self::Shared(why) => why,
            Self::Ebpf | Self::Path => "",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why() {
            "" => f.write_str(self.word()),
            why => write!(f, "{}: {why}", self.word()),
        }
    }
}

/// The split of one unit, and what its listeners share for it.
#[derive(Debug, Default)]
pub struct Steering {
    split: Split,
    probes: Vec<(SocketAddr, Slot)>,
    /// Made with the first group; the reason if that failed.
    table: Option<Result<Table, String>>,
    /// Of the next group, among the counts.
    place: Place,
}

impl Steering {
    /// Who receives new connections.
    #[must_use]
    pub fn split(&self) -> Split {
        self.split
    }

    /// Another split from here on: for groups and paths once each of them is told, which can fail; for
    /// the eBPF programs of the unit all at once with [`Steering::flip`], which cannot.
    pub fn set(&mut self, split: Split) {
        self.split = split;
    }

    /// One store, and every eBPF program of the unit goes by the split.
    pub fn flip(&self) {
        if let Some(Ok(table)) = &self.table {
            table.set(&self.split, !self.probes.is_empty());
        }
    }

    /// A group that is steered so; with no eBPF, the reason is in it.
    pub fn group(&mut self, udp: bool) -> Group {
        if self.table.is_none() {
            self.table = Some(self.make_table().map_err(|error| error.to_string()));
        }
        let table = match &self.table {
            Some(Ok(table)) => Ok((table, self.place)),
            Some(Err(why)) => Err(why.as_str()),
            None => Err("no table"),
        };
        let mut group = Group::new(table, udp, self.split);
        self.place = self.place.next();
        self.tell(&mut group);
        group
    }

    /// How many connections the kernel has sent to this slot of a group so far, those among them whose
    /// handshake is half done; `None`: it does not count.
    #[must_use]
    pub fn sent(&self, group: &Group, slot: Slot) -> Option<u64> {
        let (Some(Ok(table)), Some(place)) = (&self.table, group.place()) else { return None };
        table.sent(place, slot)
    }

    fn make_table(&self) -> Result<Table, Error> {
        let table = Table::new()?;
        for (from, slot) in &self.probes {
            table.probe(*from, *slot).map_err(|errno| Error::new("probe from", from, errno))?;
        }
        table.set(&self.split, !self.probes.is_empty());
        Ok(table)
    }

    /// Tells a group of the split and the probes. It has to be attached then.
    pub fn tell(&self, group: &mut Group) {
        group.set(self.split, &self.probes);
    }

    /// What comes from there gets to this slot, and to no other. Each group has to be told.
    ///
    /// # Errors
    /// EAGAIN: as many probe already as may; what else the kernel says.
    pub fn probe(&mut self, from: SocketAddr, slot: Slot) -> Result<(), Error> {
        let failed = |errno| Error::new("probe from", from, errno);
        self.probes.retain(|(known, _)| *known != from);
        if self.probes.len() >= PROBES_MAX {
            return Err(failed(Errno::EAGAIN));
        }
        if let Some(Ok(table)) = &self.table {
            table.probe(from, slot).map_err(failed)?;
        }
        self.probes.push((from, slot));
        self.flip();
        Ok(())
    }

    /// From where it is probed.
    pub fn sources(&self) -> impl Iterator<Item = SocketAddr> {
        self.probes.iter().map(|(from, _)| *from)
    }

    /// No longer; nothing is done where nobody probes from there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn unprobe(&mut self, from: SocketAddr) -> Result<(), Error> {
        let before = self.probes.len();
        self.probes.retain(|(known, _)| *known != from);
        if self.probes.len() == before {
            return Ok(());
        }
        self.flip();
        let Some(Ok(table)) = &self.table else { return Ok(()) };
        table.unprobe(from).map_err(|errno| Error::new("end the probe from", from, errno))
    }
}

/// What a group would be steered by, tried once: it hangs on the kernel and on supd's privileges.
#[must_use]
pub fn best() -> Mechanism {
    static TRIED: OnceLock<Option<String>> = OnceLock::new();
    let tried = TRIED.get_or_init(|| match Steering::default().group(false).mechanism() {
        Mechanism::Classic(why) => Some(why),
        Mechanism::Ebpf | Mechanism::Path | Mechanism::Shared(_) => None,
    });
    match tried {
        None => Mechanism::Ebpf,
        Some(why) => Mechanism::Classic(why.clone()),
    }
}
