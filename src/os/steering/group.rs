//! The sockets of one listener that the kernel chooses among: their row, and the program.

use super::program::load_for;
use super::row::Row;
use super::table::{Place, Table};
use super::{Mechanism, Slot, Split, classic};
use crate::model::kept::{KeptGroup, KeptProgram};
use crate::os::Error;
use crate::os::bpf::{Map, MapKind};
use crate::os::kept::Giving;
use crate::os::sockopt;
use nix::errno::Errno;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The group of one listener, from its second slot on.
#[derive(Debug)]
pub struct Group {
    row: Row,
    udp: bool,
    way: Way,
    split: Split,
    probes: Vec<(SocketAddr, Slot)>,
}

#[derive(Debug)]
enum Way {
    /// The program asks the table of the unit, and this map for the sockets.
    Ebpf { sockets: Map, program: OwnedFd, place: Place },
    /// A program for each split; the reason why not the other.
    Classic(String),
}

impl Group {
    pub(super) fn new(table: Result<(&Table, Place), &str>, udp: bool, split: Split) -> Self {
        let way = match table {
            Err(why) => Way::Classic(why.to_owned()),
            Ok((table, place)) => {
                ebpf(table, place, udp).unwrap_or_else(|error| Way::Classic(error.to_string()))
            }
        };
        Self { row: Row::default(), udp, way, split, probes: Vec::new() }
    }

    /// That of another supd.
    pub(super) fn of(
        row: Vec<Slot>,
        udp: bool,
        ebpf: Option<(OwnedFd, OwnedFd, Place)>,
        why: String,
        split: Split,
    ) -> Self {
        let way = match ebpf {
            Some((sockets, program, place)) => Way::Ebpf { sockets: Map::of(sockets, 4, 8), program, place },
            None => Way::Classic(why),
        };
        Self { row: Row::of(row), udp, way, split, probes: Vec::new() }
    }

    /// What another supd needs to go on with it.
    pub(in crate::os) fn keep<'a>(&'a self, giving: &mut Giving<'a>) -> KeptGroup {
        let (ebpf, why) = match &self.way {
            Way::Ebpf { sockets, program, place } => {
                let sockets = giving.put(sockets.as_fd());
                let program = giving.put(program.as_fd());
                (Some(KeptProgram { sockets, program, place: place.number() }), String::new())
            }
            Way::Classic(why) => (None, why.clone()),
        };
        KeptGroup { row: self.row.slots().map(u32::from).collect(), ebpf, why }
    }

    /// The split from here on. It is in force once [`Group::attach`] has succeeded.
    pub(super) fn set(&mut self, split: Split, probes: &[(SocketAddr, Slot)]) {
        self.split = split;
        self.probes = probes.to_vec();
    }

    /// A slot has begun to listen, or (UDP) is bound; or it did so again.
    ///
    /// # Errors
    /// EBUSY: somebody has it in a map of sockets already; what else the kernel says.
    pub fn joined(&mut self, slot: Slot, fd: BorrowedFd<'_>) -> Result<(), Error> {
        self.row.join(slot);
        self.enter(slot, fd)
    }

    /// Lets the program know a slot that it may have lost: the kernel takes it out of the map when
    /// it is shut down, and nobody puts it back.
    ///
    /// # Errors
    /// As [`Group::joined`].
    pub fn enter(&self, slot: Slot, fd: BorrowedFd<'_>) -> Result<(), Error> {
        let Way::Ebpf { sockets, .. } = &self.way else { return Ok(()) };
        let (key, number) = (u32::from(slot).to_ne_bytes(), i64::from(fd.as_raw_fd()));
        match sockets.put(&key, &number.to_ne_bytes()) {
            // It is in a map already, and may be so in one only: in this one, if all is well.
            Err(Errno::EBUSY) if sockets.number(&key) == sockopt::cookie(fd) => Ok(()),
            other => other.map_err(|errno| Error::new("steer", format!("slot {slot}"), errno)),
        }
    }

    /// A slot listens no more, or was closed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn left(&mut self, slot: Slot) -> Result<(), Error> {
        self.row.leave(slot);
        let Way::Ebpf { sockets, .. } = &self.way else { return Ok(()) };
        sockets
            .remove(&u32::from(slot).to_ne_bytes())
            .map_err(|errno| Error::new("forget", format!("slot {slot}"), errno))
    }

    /// A slot has another number from here on.
    ///
    /// # Errors
    /// As [`Group::joined`].
    pub fn renamed(&mut self, from: Slot, to: Slot, fd: BorrowedFd<'_>) -> Result<(), Error> {
        self.row.rename(from, to);
        let Way::Ebpf { sockets, .. } = &self.way else { return Ok(()) };
        let forgotten = sockets.remove(&u32::from(from).to_ne_bytes());
        forgotten.map_err(|errno| Error::new("forget", format!("slot {from}"), errno))?;
        self.enter(to, fd)
    }

    /// Nobody looked while these left and joined: see [`Row::settle`]. From here on the row is as if those that
    /// are to be taken out were out already. For classic programs; an eBPF program goes by names.
    pub fn settle(&mut self, movers: &[(Slot, bool)], cost: impl Fn(Slot) -> u8) -> Vec<Slot> {
        let (out, row) = self.row.settle(movers, cost);
        self.row = row;
        out
    }

    /// Whether a slot is among those that the kernel chooses from.
    #[must_use]
    pub fn has(&self, slot: Slot) -> bool {
        self.row.index(slot).is_some()
    }

    /// Whether the split that it was told of last leads clients to a slot, or a probe.
    #[must_use]
    pub fn leads_to(&self, slot: Slot) -> bool {
        self.split.leads_to(slot) || self.probes.iter().any(|(_, probed)| *probed == slot)
    }

    /// Whether nobody is led astray, by the program that is attached now, while a slot leaves the row: the last one
    /// gets its place, and that is nobody who is led to; or one alone is left.
    #[must_use]
    pub fn can_lose(&self, slot: Slot) -> bool {
        let last = self.row.slots().last();
        let moves = self.row.len() > 2 && last.is_some_and(|last| last != slot && self.leads_to(last));
        !self.has(slot) || !(self.leads_to(slot) || moves)
    }

    /// How many the kernel chooses from.
    #[must_use]
    pub fn len(&self) -> usize {
        self.row.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// Attaches the program to the group, in the place of whatever is there: a worker may have put
    /// its own there. One member is enough; one that lets us, for a worker may have locked its own
    /// (SO_LOCK_FILTER).
    ///
    /// # Errors
    /// EPERM: no member lets us. What else the kernel says to the last one.
    pub fn attach<'a>(
        &self,
        members: impl Iterator<Item = BorrowedFd<'a>>,
        address: &impl fmt::Display,
    ) -> Result<(), Error> {
        let classic = match &self.way {
            Way::Ebpf { .. } => Vec::new(),
            Way::Classic(_) => classic::program(&self.row, &self.split, &self.probes, self.udp),
        };
        let mut refused = Errno::ENOENT;
        for member in members {
            let attached = match &self.way {
                Way::Ebpf { program, .. } => sockopt::attach_group_program(member, program.as_fd()),
                Way::Classic(_) => sockopt::attach_group_filter(member, &classic),
            };
            match attached {
                Ok(()) => return Ok(()),
                Err(errno) => refused = errno,
            }
        }
        Err(Error::new("steer", address, refused))
    }

    /// Whether a socket is in any row: of one that the kernel has taken out it says EINVAL to this
    /// (net/core/sock_reuseport.c, reuseport_attach_prog).
    #[must_use]
    pub fn is_in_a_row(&self, member: BorrowedFd<'_>) -> bool {
        let attached = self.attach(std::iter::once(member), &"a slot");
        attached.map_err(|error| error.errno) != Err(Errno::EINVAL)
    }

    /// How it is done.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        match &self.way {
            Way::Ebpf { .. } => Mechanism::Ebpf,
            Way::Classic(why) => Mechanism::Classic(why.clone()),
        }
    }

    /// Where it is counted what the kernel sends to each slot.
    pub(super) fn place(&self) -> Option<Place> {
        match self.way {
            Way::Ebpf { place, .. } => Some(place),
            Way::Classic(_) => None,
        }
    }

    /// Whether what waits in a slot that is closed moves to the others.
    #[must_use]
    pub fn migrates(&self) -> bool {
        matches!(self.way, Way::Ebpf { .. }) && !self.udp
    }

    /// Whether a slot may be closed at all: where the kernel goes by numbers, somebody may have a
    /// copy, which keeps its place in the row, and every number behind would be wrong.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(self.way, Way::Ebpf { .. })
    }
}

fn ebpf(table: &Table, place: Place, udp: bool) -> Result<Way, Error> {
    let sockets = Map::new(MapKind::SocketArray, 4, 8, u32::from(super::SLOTS))?;
    let program = load_for(table.words(), &table.probes, &sockets, place.offset(), udp)?;
    Ok(Way::Ebpf { sockets, program, place })
}
