//! Whether the kernel chooses by another program than supd's, or by none.
//!
//! Any process that has a slot may put its program in the place of ours (SO_ATTACH_REUSEPORT_CBPF and
//! _EBPF), or take it away, and the kernel has no call that says which one is there. So it is asked for
//! something that ours alone answers so: a connection from an address that it leads to no slot is refused.
//! By any other choice it is made; then it is reset at once.
//!
//! **What is absent:** classic programs, which cannot refuse; UDP, where nothing says that a datagram was
//! taken. Those are set right as often, and nobody learns of it.

use super::Listener;
use crate::model::Address;
use crate::os::dial::Dial;
use crate::os::steering::{Slot, Steering};

/// No slot has this number.
const NOBODY: Slot = Slot::MAX;

impl Listener {
    /// Whether it is so. `None`: there is nothing to choose, or it cannot be told just now. Never waits.
    #[must_use]
    pub fn is_overruled(&self, steering: &mut Steering) -> Option<bool> {
        self.group.as_ref().filter(|group| group.migrates() && group.len() > 1)?;
        let Address::Ip { host, port, .. } = &self.bound else { return None };
        let dial = Dial::reserve(*host, *port).ok()?;
        steering.probe(dial.from(), NOBODY).ok()?;
        let made = dial.is_made();
        // Nobody else has this address: what is left of it leads nobody anywhere.
        let _ = steering.unprobe(dial.from());
        made
    }
}
