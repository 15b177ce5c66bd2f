//! Clients over an execve(2): they stay connected, and the next image answers what they wait for.

use super::connection::{Again, Connection, Current};
use super::{Control, Limits, socket};
use crate::codec::handover::{pack, unpack};
use crate::codec::varlink::{Meta, Method, Scope};
use crate::model::handover::{Handover, HeldClient};
use crate::model::{ClientId, Tick, WaitFor};
use crate::os::Error;
use crate::os::image::inherit;
use crate::os::peer::Peer;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

/// What goes over.
#[derive(Debug)]
pub struct Held<'a> {
    /// Who is connected.
    pub clients: Vec<HeldClient>,
    /// Their descriptors, and that of the listener.
    pub open: Vec<BorrowedFd<'a>>,
}

/// What the next image is asked where it is asked this: the same of whoever only reads, and to wait of whoever waits
/// for what is begun. Where the answer is kept for a repetition, only who has begun it can give it.
pub(super) fn again(method: &Method, meta: &Meta) -> Option<Again> {
    if method.scope() == Scope::Read {
        return Some(Again { method: Box::new(method.clone()), begun: false });
    }
    let (unit, wait) = match method {
        Method::Deploy { unit, wait, .. }
        | Method::Start { unit, wait, .. }
        | Method::Restart { unit, wait }
        | Method::Swap { unit, wait, .. }
        | Method::Rollback { unit, wait, .. }
        | Method::Share { unit, wait, .. }
        | Method::Promote { unit, wait } => (unit.clone(), *wait),
        _others => return None,
    };
    let waits = || Again { method: Box::new(Method::Wait { unit, wait }), begun: true };
    // Of whose end they wait to hear is more than a wait says.
    (meta.request_id.is_none() && wait != WaitFor::Drained).then(waits)
}

impl Control {
    /// How many calls are under way that the next image could not answer. `goes_on`: whether that brings to its end
    /// what a client has begun.
    #[must_use]
    pub fn unsettled(&self, asked: &[ClientId], goes_on: impl Fn(ClientId) -> bool) -> usize {
        let unanswered = |connection: &&Connection| {
            let again = connection.again.as_ref();
            connection.current.is_some_and(|Current { client, oneway, .. }| {
                let answers = again.is_some_and(|again| !again.begun || goes_on(client));
                !oneway && !answers && !asked.contains(&client)
            })
        };
        self.connections.values().filter(unanswered).count()
    }

    /// A watch is gone on with from here.
    pub fn note_cursor(&mut self, client: ClientId, cursor: u64) {
        let serial = self.calls.get(&client);
        let connection = serial.and_then(|serial| self.connections.get_mut(serial));
        let again = connection.and_then(|it| it.again.as_mut());
        if let Some(Method::Watch { after, .. }) = again.map(|again| &mut *again.method) {
            *after = Some(cursor);
        }
    }

    /// What the next image is to have. Those of `asked` wait for its word. Whoever has passed a descriptor that
    /// nobody has taken, or is passed one that it does not take, is cut off.
    #[must_use]
    pub fn hold(&self, asked: &[ClientId]) -> Held<'_> {
        let mut held = Held { clients: Vec::new(), open: vec![self.listener.as_fd()] };
        for connection in self.connections.values() {
            if connection.is_gone() || connection.descriptors() > 0 {
                continue;
            }
            let (input, output) = connection.left();
            let fd = connection.stream.as_fd();
            let taken = connection.again.is_some() && connection.waits();
            held.clients.push(HeldClient {
                socket: fd.as_raw_fd().unsigned_abs(),
                input: pack(&input),
                output: pack(output),
                asked: connection.current.is_some_and(|current| asked.contains(&current.client)),
                taken: Some(taken),
            });
            held.open.push(fd);
        }
        held
    }

    /// The listener's number and its file, and the highest number that a client has had.
    #[must_use]
    pub fn identity(&self) -> (u32, (u64, u64), u64) {
        (self.listener.as_raw_fd().unsigned_abs(), self.place.identity(), self.client_last)
    }

    /// Goes on with what an earlier image had; gives those who wait to be told that this one is there.
    ///
    /// # Errors
    /// As [`Control::bind`]. A client that cannot be gone on with is hung up on.
    pub fn go_on(
        handover: &Handover,
        path: &Path,
        (registry, first): (&Registry, Token),
        limits: Limits,
        now: Tick,
    ) -> Result<(Self, Vec<ClientId>), Error> {
        let listener = inherit(handover.control)
            .map_err(|errno| Error::new("go on listening at", path.display(), errno))?;
        let made = socket::go_on(listener, path, handover.control_file)?;
        let mut control = Self::on(made, registry, first, limits)?;
        (control.client_last, control.now) = (handover.client_last, now);
        let mut asked = Vec::new();
        for client in &handover.clients {
            match control.go_on_with(client) {
                Ok(None) => {}
                Ok(Some(client)) => asked.push(client),
                Err(why) => log::warn!("control: a client is cut off: {why}"),
            }
        }
        Ok((control, asked))
    }

    fn go_on_with(&mut self, held: &HeldClient) -> Result<Option<ClientId>, String> {
        let socket = inherit(held.socket).map_err(|errno: Errno| errno.desc().to_owned())?;
        let mut stream = UnixStream::from_std(socket.into());
        let peer = Peer::of(&stream).map_err(|error| error.to_string())?;
        let (input, output) = (unpack(&held.input)?, unpack(&held.output)?);
        let serial = self.serial_last + 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(self.first + serial);
        self.registry.register(&mut stream, token, interest).map_err(|error| error.to_string())?;
        self.serial_last = serial;
        let mut connection = Connection::go_on(stream, peer, (&input, output), self.now);
        connection.taken_before = held.taken == Some(true);
        let client = held.asked.then(|| {
            self.client_last += 1;
            ClientId(self.client_last)
        });
        if let Some(client) = client {
            connection.current = Some(Current { client, more: false, oneway: false });
            self.calls.insert(client, serial);
        }
        connection.flush(self.now);
        self.connections.insert(serial, connection);
        self.settle(serial);
        Ok(client)
    }
}
