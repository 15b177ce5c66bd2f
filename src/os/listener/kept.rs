//! A listener as another supd has left it: its sockets, and what was known of them.

use super::adopt::{From, adopt_member};
use super::member::Member;
use super::{Listener, Traffic, adopt, steering};
use crate::model::kept::{KeptListener, KeptMember, KeptTraffic};
use crate::os::Error;
use crate::os::kept::{Given, Giving};
use crate::os::sockopt;
use crate::os::steering::{Group, Slot, Steering};
use nix::errno::Errno;
use std::os::fd::AsFd;
use std::path::Path;

use super::bind_error::{BindError, Why};

impl Listener {
    /// What another supd needs to go on with it.
    pub fn keep<'a>(&'a self, giving: &mut Giving<'a>) -> KeptListener {
        let members = self.members().map(|member| KeptMember {
            slot: member.slot.into(),
            lent: member.lent,
            socket: giving.put(member.fd.as_fd()),
        });
        KeptListener {
            socket: self.socket.clone(),
            bound: self.bound.clone(),
            traffic: match self.traffic {
                Traffic::Refused => KeptTraffic::Refused,
                Traffic::HeldOff => KeptTraffic::HeldOff,
                Traffic::Open => KeptTraffic::Open,
            },
            shared: self.shared.is_some() && steering::shared(&self.socket.address).is_none(),
            members: members.collect(),
            group: self.group.as_ref().map(|group| group.keep(giving)),
        }
    }

    /// Goes on with it. A path that was held off is open from here on: what held its clients off went with the
    /// other supd. A path that somebody has taken stays theirs, which is told beside it: who has the socket serves
    /// on, and when they end it is put back.
    ///
    /// # Errors
    /// [`BindError`]: it is not what was said of it; what came beside it is closed.
    pub fn go_on(
        kept: &KeptListener,
        given: &mut Given,
        steering: &Steering,
        private_folder: &Path,
    ) -> Result<(Self, Option<String>), BindError> {
        let mut again = || -> Result<(Self, Option<String>), Why> {
            let mut members = kept.members.iter();
            let first = members.next().ok_or_else(|| nothing(kept))?;
            let mut listener =
                adopt::adopt(&kept.socket, given.take(first.socket)?, private_folder, From::Handed)?;
            (listener.front.slot, listener.front.lent) = (slot(first.slot)?, first.lent);
            listener.bound = kept.bound.clone();
            if !kept.shared {
                // As supd itself has made it: that SO_REUSEPORT is off is supd's own doing.
                listener.shared = steering::shared(&kept.bound);
            }
            for member in members {
                let fd = given.take(member.socket)?;
                let place = adopt_member(&kept.socket, fd.as_fd(), private_folder)?;
                listener.further.push(Member {
                    slot: slot(member.slot)?,
                    lent: member.lent,
                    led: None,
                    place,
                    fd,
                });
            }
            let group = kept.group.as_ref().map(|group| Group::go_on(group, given, steering, &kept.bound));
            listener.group = group.transpose()?.map(Box::new);
            if listener.group.is_none() {
                // A supd that died as it made one: its program would keep the slots in maps that nobody has.
                let doing = |errno| Error::new("take an earlier program off", &kept.bound, errno);
                let mut members = listener.members();
                members.try_for_each(|it| sockopt::detach_group(it.fd.as_fd()).map_err(doing))?;
            }
            listener.traffic = match (kept.traffic, listener.front.place.is_some()) {
                (KeptTraffic::Refused, _) => Traffic::Refused,
                (KeptTraffic::HeldOff, false) => Traffic::HeldOff,
                (KeptTraffic::HeldOff, true) | (KeptTraffic::Open, _) => Traffic::Open,
            };
            let public = match (listener.traffic, &listener.front.place) {
                (Traffic::Open, Some(place)) => place.publish(None).map(drop),
                _ => Ok(()),
            };
            let fault = public.err().map(|why| BindError::new(&kept.socket, why).to_string());
            Ok((listener, fault))
        };
        again().map_err(|why| BindError::new(&kept.socket, why))
    }
}

fn slot(number: u32) -> Result<Slot, Error> {
    let slot = Slot::try_from(number).ok().filter(|slot| *slot < steering::SLOTS);
    slot.ok_or_else(|| Error::new("find", format!("slot {number}"), Errno::ERANGE))
}

fn nothing(kept: &KeptListener) -> Error {
    Error::new("find a socket of", &kept.bound, Errno::EBADF)
}
