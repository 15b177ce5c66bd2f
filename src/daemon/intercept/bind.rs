//! What a call is answered, by what was found of it.

use super::super::hands::Hands;
use super::{Common, STRANGERS_MAX, UDP_STRANGERS_MAX};
use crate::codec::sockaddr;
use crate::model::binding::{Asked, Fit, Place, find};
use crate::model::settings::Socket;
use crate::model::{SocketKind, Tick, WorkerId};
use crate::os::intercept::{Answer, Call, Facts, What, carry_over, is_listening, lengthen, set_nonblocking};
use nix::errno::Errno;
use std::os::fd::RawFd;

impl Hands {
    /// What cannot be one of ours, or has gone, is the kernel's. `None`: it is answered when a person says.
    pub(super) fn decide(
        &mut self,
        id: WorkerId,
        call: &Call,
        found: Result<Facts, Errno>,
        now: Tick,
    ) -> Option<Answer> {
        let facts = match found {
            Ok(facts) => facts,
            Err(Errno::EBADF | Errno::ENOTSOCK | Errno::ENOENT | Errno::ESRCH) => {
                return Some(Answer::Continue);
            }
            Err(Errno::EPERM) => {
                let text = "supd may not look at what it binds: as root it needs CAP_SYS_PTRACE, as another \
                            user the worker has to run as that user";
                self.warn_once(id, "ptrace", text);
                return Some(Answer::Continue);
            }
            Err(errno) => return Some(Answer::Refused(errno)),
        };
        // Only if it waits still was what was found its own.
        if self.intercepts.open.get(&id).is_none_or(|one| !one.calls.waits(call)) {
            return Some(Answer::Continue);
        }
        match call.what {
            What::Bind { fd, .. } => self.binds(id, call, fd, &facts, now),
            What::Listen { fd, backlog } => self.listens(id, call, (fd, backlog), &facts, now),
            What::Foreign => Some(Answer::Refused(Errno::EPERM)),
        }
    }

    fn binds(&mut self, id: WorkerId, call: &Call, fd: RawFd, facts: &Facts, now: Tick) -> Option<Answer> {
        let launch = self.intercepts.open.get(&id).map(|one| one.launch.clone());
        if let Some(at) = self.was_given(id, call, facts) {
            if facts.kind() == Some(SocketKind::Datagram) {
                self.serves(id, at, now);
            }
            return Some(Answer::Done);
        }
        // Of what the kernel refuses anyway it says best why: another family, or bound already.
        let kind = facts.kind().filter(|_| facts.takes_its_address() && !facts.bound);
        let (Some(launch), Some(kind)) = (launch, kind) else { return Some(Answer::Continue) };
        let place = sockaddr::read(&facts.address);
        let asked = Asked { place, kind: Some(kind), v6only: facts.v6only };
        let sockets = launch.settings.sockets.iter().map(|socket| &**socket);
        let Some((at, fit)) = find(sockets, &asked) else {
            if !facts.elsewhere {
                self.warn_of_stranger(id, &asked);
            }
            return Some(Answer::Continue);
        };
        if self.is_elsewhere(id, facts, &asked) {
            return Some(Answer::Continue);
        }
        if self.is_unbound(id) {
            return self.waits(id, call).err().map(Answer::Refused);
        }
        let socket = &launch.settings.sockets[at];
        if fit == Fit::More {
            let text = format!(
                "it binds {} and gets the listener {} ({}), which more clients reach",
                show(&asked.place),
                socket.name,
                socket.address
            );
            self.warn_once(id, &text, &text);
        }
        Some(match self.give(id, call, fd, facts, socket) {
            Ok(()) => {
                if kind == SocketKind::Datagram {
                    self.serves(id, at, now);
                }
                Answer::Done
            }
            Err(errno) => Answer::Refused(errno),
        })
    }

    /// Which of its unit's sockets the worker has in its place already: from a supd that died before it could
    /// answer.
    fn was_given(&self, id: WorkerId, call: &Call, facts: &Facts) -> Option<usize> {
        let one = self.intercepts.open.get(&id).filter(|one| facts.bound && one.is_earlier(call))?;
        let mut sockets = one.launch.settings.sockets.iter();
        sockets.position(|socket| self.slot_of(id, socket).is_some_and(|slot| facts.means(slot)))
    }

    /// What is bound in a network namespace of the server's own no client of supd's listeners reaches.
    fn is_elsewhere(&mut self, id: WorkerId, facts: &Facts, asked: &Asked) -> bool {
        let place = show(&asked.place);
        if facts.elsewhere {
            let text = format!(
                "it binds {place} in another network namespace than supd's: that is no listener of the unit"
            );
            self.warn_once(id, "network", &text);
        } else if facts.apart {
            let text =
                format!("a process of it in another user namespace binds {place} and gets the listener");
            self.warn_once(id, "users", &text);
        }
        facts.elsewhere
    }

    fn slot_of(&self, id: WorkerId, socket: &Socket) -> Option<std::os::fd::BorrowedFd<'_>> {
        let one = self.intercepts.open.get(&id)?;
        self.listeners.get(&one.unit)?.fd(one.launch.generation, &socket.address)
    }

    /// Puts the generation's slot in the place of the worker's socket.
    fn give(
        &mut self,
        id: WorkerId,
        call: &Call,
        place: RawFd,
        facts: &Facts,
        socket: &Socket,
    ) -> Result<(), Errno> {
        let common = self.intercepts.common(id).ok_or(Errno::EADDRINUSE)?;
        // One event loop that is made to block stands still; who wants to block can bear an EAGAIN.
        common.nonblocking |= facts.nonblocking;
        let nonblocking = common.nonblocking;
        // There is none where nobody asks for this generation any more.
        let slot = self.slot_of(id, socket).ok_or(Errno::EADDRINUSE)?;
        carry_over(&facts.options, slot);
        set_nonblocking(slot, nonblocking)?;
        let one = self.intercepts.open.get(&id).ok_or(Errno::EADDRINUSE)?;
        one.calls.put(call, slot, place, facts.close_on_exec)
    }

    fn listens(
        &mut self,
        id: WorkerId,
        call: &Call,
        (fd, backlog): (RawFd, i32),
        facts: &Facts,
        now: Tick,
    ) -> Option<Answer> {
        let Some(one) = self.intercepts.open.get(&id) else { return Some(Answer::Continue) };
        if !matches!(facts.kind(), Some(SocketKind::Stream | SocketKind::SequentialPacket)) {
            return Some(Answer::Continue);
        }
        let launch = one.launch.clone();
        let path = facts.path.clone().map(|path| Asked {
            place: Place::Path(path),
            kind: facts.kind(),
            v6only: false,
        });
        for (at, socket) in launch.settings.sockets.iter().enumerate() {
            let is_its_path =
                || path.as_ref().is_some_and(|asked| find(std::iter::once(&**socket), asked).is_some());
            let Some(slot) = self.slot_of(id, socket) else { continue };
            if !is_listening(slot) {
                continue;
            }
            if facts.means(slot) {
                let wanted = u32::try_from(backlog).unwrap_or(0);
                if wanted > socket.options.backlog {
                    lengthen(slot, wanted);
                }
            } else if is_its_path() {
                if self.is_unbound(id) {
                    return self.waits(id, call).err().map(Answer::Refused);
                }
                if let Err(errno) = self.give(id, call, fd, facts, socket) {
                    return Some(Answer::Refused(errno));
                }
            } else {
                continue;
            }
            self.serves(id, at, now);
            return Some(Answer::Done);
        }
        if let Some(Asked { place: Place::Path(path), .. }) = path {
            let path = path.display();
            let text = format!("it listens on {path}, which is BindAs of no [[Socket]] of the unit");
            self.warn_once(id, &path.to_string(), &text);
        } else if !facts.bound && !facts.is_unix() {
            let text = "it listens on a socket that it has not bound, at a port that nobody knows: a copy that \
                        was made before bind(2) (dup(2), fork(2)) stays as it was";
            self.warn_once(id, "copy", text);
        }
        Some(Answer::Continue)
    }

    /// It binds what is not its unit's: the kernel lets it, once.
    fn warn_of_stranger(&mut self, id: WorkerId, asked: &Asked) {
        let Place::Ip(_, port) = asked.place else { return };
        let udp = match asked.kind {
            Some(SocketKind::Stream) => false,
            Some(SocketKind::Datagram) => true,
            Some(SocketKind::SequentialPacket) | None => return,
        };
        let Some(Common { strangers, .. }) = self.intercepts.common(id).filter(|_| port != 0) else { return };
        let of_udp = strangers.keys().filter(|(_, udp)| *udp).count();
        let room = strangers.len() < STRANGERS_MAX && !(udp && of_udp >= UDP_STRANGERS_MAX);
        if !room || strangers.contains_key(&(port, udp)) {
            return;
        }
        let place = format!("{}{}", show(&asked.place), if udp { " (UDP)" } else { "" });
        strangers.insert((port, udp), place.clone());
        let shares = if udp { "SO_REUSEADDR or SO_REUSEPORT" } else { "SO_REUSEPORT" };
        let last = if udp && of_udp + 1 == UDP_STRANGERS_MAX { "; more of UDP are not told" } else { "" };
        let text = format!(
            "it binds {place}, which is no [[Socket]] of the unit: the next generation cannot have it as well, \
             unless both set {shares}{last}"
        );
        self.warn(id, &text);
    }
}

fn show(place: &Place) -> String {
    match place {
        Place::Ip(host, port) => std::net::SocketAddr::new(*host, *port).to_string(),
        Place::Path(path) => path.display().to_string(),
        Place::Other => "something".to_owned(),
    }
}
