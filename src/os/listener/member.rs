//! One slot of a listener.

use super::inet;
use super::place::Place;
use crate::model::Tick;
use crate::os::steering::Slot;
use std::iter;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A socket (or FIFO), and whether a generation has it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) slot: Slot,
    pub(super) lent: bool,
    /// When clients that had been led there were led elsewhere.
    pub(super) led: Option<Tick>,
    // Dropped in this order, so that a client finds no file rather than a dead one.
    pub(super) place: Option<Place>,
    pub(super) fd: OwnedFd,
}

impl Member {
    /// The first one.
    pub(super) fn new(place: Option<Place>, fd: OwnedFd) -> Self {
        Self { slot: 0, lent: false, led: None, place, fd }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether listen(2) is in force; false of what cannot tell.
    pub(super) fn is_listening(&self) -> bool {
        inet::is_listening(self.fd()) == Ok(true)
    }
}

impl super::Listener {
    /// All slots, the active one first.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        iter::once(&self.front).chain(&self.further)
    }

    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        iter::once(&mut self.front).chain(&mut self.further)
    }

    pub(super) fn member(&self, slot: Slot) -> Option<&Member> {
        self.members().find(|member| member.slot == slot)
    }
}
