//! Who comes in: accepting, finding a place, turning away.

use super::Control;
use super::connection::Connection;
use super::limits::{Guest, Verdict};
use crate::codec::varlink;
use crate::os::peer::Peer;
use mio::net::UnixStream;
use mio::{Interest, Token};
use std::fs::File;
use std::io::Write;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;

impl Control {
    /// Accepts who waits, a bounded number of them.
    pub(super) fn accept(&mut self) {
        if !self.acceptable {
            return;
        }
        let mut turn_away = false;
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((mut stream, _)) if turn_away => say_busy(&mut stream, "supd is out of descriptors"),
                Ok((stream, _)) => self.welcome(stream),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        (self.acceptable, self.starved) = (false, false);
                        break;
                    }
                    // One client was gone before it was accepted.
                    Some(libc::ECONNABORTED | libc::EINTR) => {}
                    // With the spare descriptor closed there is room to tell clients, one by one.
                    Some(libc::EMFILE | libc::ENFILE) if !turn_away => {
                        turn_away = true;
                        drop(self.spare.take());
                    }
                    // Tried again in the next turn, whenever that is: to wait for it would be to spin.
                    Some(_) | None => {
                        self.starved = true;
                        break;
                    }
                },
            }
        }
        if turn_away {
            self.spare = spare();
        }
    }

    fn welcome(&mut self, mut stream: UnixStream) {
        let Ok(peer) = Peer::of(&stream) else { return };
        let privileged = self.masters.is_privileged(peer.uid);
        let guests: Vec<Guest> =
            self.connections.iter().map(|(serial, connection)| self.guest(*serial, connection)).collect();
        match self.limits.admit(peer.uid, privileged, &guests, self.now) {
            Verdict::Admit => {}
            Verdict::Replace(serial) => self.drop_connection(serial),
            Verdict::Busy => {
                return say_busy(&mut stream, &format!("supd has {} clients", guests.len()));
            }
        }
        let serial = self.serial_last + 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.registry.register(&mut stream, Token(self.first + serial), interest).is_err() {
            return say_busy(&mut stream, "supd cannot watch one more client");
        }
        self.serial_last = serial;
        self.connections.insert(serial, Connection::new(stream, peer, self.now));
        self.settle(serial);
    }
}

impl Control {
    fn guest(&self, serial: usize, connection: &Connection) -> Guest {
        Guest {
            serial,
            uid: connection.peer.uid,
            privileged: self.masters.is_privileged(connection.peer.uid),
            idle_since: connection.idle_since(),
        }
    }

    /// Whether there is room for the descriptor that this connection holds since a moment ago. One
    /// that has long been idle with one may have to go for it.
    pub(super) fn has_room_for_descriptor(&mut self, serial: usize) -> bool {
        let Some(newcomer) = self.connections.get(&serial) else { return false };
        let uid = newcomer.peer.uid;
        let mut guests = Vec::new();
        for (other, connection) in &self.connections {
            let held = connection.descriptors() - usize::from(*other == serial);
            guests.extend(std::iter::repeat_n(self.guest(*other, connection), held));
        }
        let privileged = self.masters.is_privileged(uid);
        match self.limits.of_descriptors().admit(uid, privileged, &guests, self.now) {
            Verdict::Admit => true,
            Verdict::Replace(other) => {
                self.drop_connection(other);
                true
            }
            Verdict::Busy => false,
        }
    }
}

/// Tells a client that finds no place; the socket is new, so the kernel has room for this.
fn say_busy(stream: &mut UnixStream, why: &str) {
    let reason = format!("{why}: try again");
    let error = varlink::Error::Busy(varlink::error::Plain { changed: false, reason });
    let _gone_already = stream.write(&varlink::refusal(&error));
}

pub(super) fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}
