//! The split, its maps and its programs, as another supd has left them.

use super::group::Group;
use super::table::{Place, Table};
use super::{SLOTS, Slot, Split, Steering};
use crate::model::kept::{KeptGroup, KeptShare, KeptSteering, KeptTable};
use crate::model::{Address, Share, SocketKind};
use crate::os::Error;
use crate::os::kept::{Given, Giving};
use nix::errno::Errno;
use std::os::fd::AsFd;

impl Steering {
    /// What another supd needs to go on with it. Nobody probes for it: whoever did hears nothing more.
    pub fn keep<'a>(&'a self, giving: &mut Giving<'a>) -> KeptSteering {
        let table = self.table.as_ref().and_then(|table| table.as_ref().ok());
        KeptSteering {
            active: self.split.active.into(),
            candidate: self
                .split
                .candidate
                .map(|(slot, share)| KeptShare { slot: slot.into(), parts: share.parts().into() }),
            sticky: self.split.sticky,
            salt: self.split.salt,
            table: table.map(|table| KeptTable {
                words: giving.put(table.words()),
                probes: giving.put(table.probes.as_fd()),
            }),
            place: self.place.number(),
        }
    }

    /// Goes on with it.
    ///
    /// # Errors
    /// What is said is not so, or a map is not what it should be.
    pub fn go_on(kept: &KeptSteering, given: &mut Given) -> Result<Self, Error> {
        let candidate = match kept.candidate {
            Some(KeptShare { slot: number, parts }) => {
                let share = u16::try_from(parts).ok().and_then(Share::of_parts);
                let wrong = || Error::new("read", format!("a share of {parts}"), Errno::ERANGE);
                Some((slot(number)?, share.ok_or_else(wrong)?))
            }
            None => None,
        };
        let split = Split { active: slot(kept.active)?, candidate, sticky: kept.sticky, salt: kept.salt };
        let table = match kept.table {
            Some(KeptTable { words, probes }) => {
                Some(Ok(Table::of(given.take(words)?, given.take(probes)?)?))
            }
            None => None,
        };
        Ok(Self { split, probes: Vec::new(), table, place: Place::of(kept.place) })
    }
}

impl Group {
    /// As of [`Steering::go_on`].
    pub(in crate::os) fn go_on(
        kept: &KeptGroup,
        given: &mut Given,
        steering: &Steering,
        bound: &Address,
    ) -> Result<Self, Error> {
        let udp = matches!(bound, Address::Ip { kind: SocketKind::Datagram, .. });
        let row = kept.row.iter().map(|number| slot(*number)).collect::<Result<Vec<Slot>, Error>>()?;
        let ebpf = match kept.ebpf {
            Some(program) => {
                Some((given.take(program.sockets)?, given.take(program.program)?, Place::of(program.place)))
            }
            None => None,
        };
        Ok(Self::of(row, udp, ebpf, kept.why.clone(), steering.split()))
    }
}

fn slot(number: u32) -> Result<Slot, Error> {
    let slot = Slot::try_from(number).ok().filter(|slot| *slot < SLOTS);
    slot.ok_or_else(|| Error::new("find", format!("slot {number}"), Errno::ERANGE))
}
