//! The control socket: clients in, calls out, answers back.
//!
//! The reactor gives each event of a token that [`Control::owns`] to [`Control::ready`], which only
//! notes it, and calls [`Control::turn`] once in each turn of the loop, which does a bounded amount
//! of work and hands over what arrived. While [`Control::pending`], the loop must not sleep.
//!
//! Everything that a client can hold is bounded: places ([`Limits`]), a call's length, the bytes
//! read and the calls taken in a turn, the memory and the descriptors of all together. A call may
//! carry one descriptor, if its method takes one; any other is closed, and its call refused. A client has one call answered
//! at a time, in order, and the next is taken when the answer has left: one that does not read is
//! not read from, so a slow reader delays nobody but itself. A complete call is carried out even
//! if its client is gone by then.
//!
//! Tokens and [`ClientId`]s are never used twice, so a late event finds nobody.
//!
//! **What is absent:** deadlines. Half a message may stay for ever; it holds a bounded place, and
//! gives way when that is needed.

mod connection;
mod door;
mod handover;
mod limits;
pub mod rights;
mod socket;

pub use handover::Held;
pub use limits::Limits;

use crate::codec::json::{
    CatView, FORMAT, LogView, OutcomeView, ProgressView, ReleaseView, ReleasesView, StatusView, UnitView,
    progress_text,
};
use crate::codec::varlink::{self, Asked, Meta, Method, Outcome};
use crate::model::{ClientId, Progress, Reply, Tick};
use crate::os::Error;
use crate::os::peer::{Peer, login_uid};
use connection::{Beside, Connection, Current, Excess, Next};
use mio::net::UnixListener;
use mio::{Interest, Registry, Token};
use rights::Masters;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Calls taken in one turn, of the privileged and of all others.
const CALLS_PER_TURN: usize = 16;
/// Bytes read in one turn, of the privileged and of all others.
const BYTES_PER_TURN: usize = 1 << 20;
/// Bytes of progress that may wait for a client; one that is further behind is cut off.
const PROGRESS_MAX: usize = 256 << 10;

/// A call, complete and well formed; nobody has asked yet whether the peer may.
#[derive(Debug)]
pub struct Call {
    /// Whom to answer.
    pub client: ClientId,
    /// Who asks.
    pub peer: Peer,
    /// What.
    pub method: Method,
    /// Why, and under which id.
    pub meta: Meta,
    /// Progress is welcome.
    pub more: bool,
    /// What was passed with it, where the method takes one. Nobody has looked at it.
    pub descriptor: Option<OwnedFd>,
}

/// What came in.
#[derive(Debug)]
pub enum Arrival {
    /// A call.
    Call(Box<Call>),
    /// The client of an unanswered call is gone; what it asked for goes on.
    HungUp(ClientId),
}

/// Connections that have work left, first come, first served.
#[derive(Debug, Default)]
struct Queues {
    /// Those of root and of supd's own user, which come first.
    privileged: VecDeque<usize>,
    ordinary: VecDeque<usize>,
}

/// The server.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    place: socket::Place,
    registry: Registry,
    first: usize,
    limits: Limits,
    masters: Masters,
    connections: BTreeMap<usize, Connection>,
    calls: BTreeMap<ClientId, usize>,
    /// Those of them that only wait, by the user.
    waits: BTreeMap<ClientId, u32>,
    queues: Queues,
    arrivals: Vec<Arrival>,
    /// There may be clients to accept.
    acceptable: bool,
    /// Accepting failed for want of descriptors or memory: it is tried again, but not waited for.
    starved: bool,
    /// Kept open to be closed when descriptors run out, so that a client can be told.
    spare: Option<File>,
    /// Clients with many replies who have taken what they were told, since [`Control::take_drained`].
    drained: Vec<ClientId>,
    serial_last: usize,
    client_last: u64,
    now: Tick,
}

impl Control {
    /// Listens at `path`; the caller holds the lock of its folder. Tokens from `first` on are this
    /// server's, without end, so `first` is above all others.
    ///
    /// # Errors
    /// When the socket cannot be made, or the poller does not take it.
    pub fn bind(path: &Path, registry: &Registry, first: Token, limits: Limits) -> Result<Self, Error> {
        Self::on(socket::bind(path)?, registry, first, limits)
    }

    fn on(
        (listener, place): (std::os::unix::net::UnixListener, socket::Place),
        registry: &Registry,
        first: Token,
        limits: Limits,
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::from_io("watch", place.path().display(), &error);
        let registry = registry.try_clone().map_err(failed)?;
        let mut listener = UnixListener::from_std(listener);
        registry.register(&mut listener, first, Interest::READABLE).map_err(failed)?;
        Ok(Self {
            listener,
            place,
            registry,
            first: first.0,
            limits,
            masters: Masters::of_process(),
            connections: BTreeMap::new(),
            calls: BTreeMap::new(),
            waits: BTreeMap::new(),
            queues: Queues::default(),
            arrivals: Vec::new(),
            acceptable: true,
            starved: false,
            spare: door::spare(),
            drained: Vec::new(),
            serial_last: 0,
            client_last: 0,
            now: Tick::default(),
        })
    }

    /// Listens at its path again, where somebody has removed it. Whether that was needed.
    ///
    /// # Errors
    /// As [`Control::bind`]; it listens where it did.
    pub fn republish(&mut self) -> Result<bool, Error> {
        if self.place.is_there() {
            return Ok(false);
        }
        let failed = |error: io::Error| Error::from_io("watch", self.place.path().display(), &error);
        let (listener, place) = socket::bind(self.place.path())?;
        let mut listener = UnixListener::from_std(listener);
        self.registry.deregister(&mut self.listener).map_err(failed)?;
        self.registry.register(&mut listener, Token(self.first), Interest::READABLE).map_err(failed)?;
        (self.listener, self.place, self.acceptable) = (listener, place, true);
        Ok(true)
    }

    /// Whom this supd obeys.
    #[must_use]
    pub fn masters(&self) -> &Masters {
        &self.masters
    }

    /// Whether an event of this token belongs here.
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        token.0 >= self.first
    }

    /// How many clients are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is work that no further event announces.
    #[must_use]
    pub fn pending(&self) -> bool {
        (self.acceptable && !self.starved)
            || !self.arrivals.is_empty()
            || !self.queues.privileged.is_empty()
            || !self.queues.ordinary.is_empty()
    }

    /// Takes note of an event. (A token is never used twice: one of a closed connection is of
    /// nobody.)
    pub fn ready(&mut self, event: &mio::event::Event) {
        if event.token().0 == self.first {
            self.acceptable = true;
            return;
        }
        let serial = event.token().0 - self.first;
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        if event.is_readable() || event.is_read_closed() {
            connection.wake();
        }
        if event.is_writable() {
            let behind = connection.has_output();
            connection.flush(self.now);
            let current = connection.current.filter(|current| current.more);
            self.drained.extend(current.filter(|_| behind && !connection.has_output()).map(|its| its.client));
        }
        // Only a close of both directions: one who has merely said all still listens.
        if event.is_write_closed() {
            connection.lose();
        }
        self.settle(serial);
    }

    /// Does a bounded amount of work and adds to `out` what arrived.
    pub fn turn(&mut self, now: Tick, out: &mut Vec<Arrival>) {
        self.now = now;
        self.accept();
        for privileged in [true, false] {
            let (mut calls, mut bytes) = (CALLS_PER_TURN, BYTES_PER_TURN);
            for _ in 0..self.queue(privileged).len() {
                if calls == 0 || bytes == 0 {
                    break;
                }
                let Some(serial) = self.queue(privileged).pop_front() else { break };
                if let Some(connection) = self.connections.get_mut(&serial) {
                    connection.queued = false;
                }
                self.work(serial, &mut calls, &mut bytes);
            }
        }
        self.save_memory();
        out.append(&mut self.arrivals);
    }

    /// Who logged in, to become the user that made this call.
    #[must_use]
    pub fn login_uid(&self, client: ClientId) -> Option<u32> {
        login_uid(&self.connections.get(self.calls.get(&client)?)?.stream)
    }

    /// Gives a call its one final answer. A client that is gone is not answered.
    pub fn answer(&mut self, client: ClientId, outcome: &Outcome) {
        self.finish(client, outcome.bytes());
    }

    /// The same, of the machine's words; for one that failed, with what its generation wrote last.
    pub fn reply(&mut self, client: ClientId, reply: &Reply, log: Vec<String>, log_file: Option<String>) {
        self.answer(client, &Outcome::of_reply(reply, log, log_file));
    }

    /// Answers a call with an error of the protocol.
    pub fn refuse(&mut self, client: ClientId, error: &varlink::Error) {
        self.finish(client, varlink::refusal(error));
    }

    /// Answers `Status`; `notes` are about supd as a whole.
    pub fn status(&mut self, client: ClientId, units: Vec<UnitView>, notes: Vec<String>) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let status = StatusView { format: FORMAT, version, notes, units };
        self.finish(client, varlink::reply(&status, false));
    }

    /// Answers `Releases`.
    pub fn releases(&mut self, client: ClientId, releases: Vec<ReleaseView>) {
        let view = ReleasesView { format: FORMAT, releases };
        self.finish(client, varlink::reply(&view, false));
    }

    /// Answers `Logs` where there is nothing to pass.
    pub fn log(&mut self, client: ClientId, view: &LogView) {
        self.finish(client, varlink::reply(view, false));
    }

    /// Answers `Cat`.
    pub fn cat(&mut self, client: ClientId, view: &CatView) {
        self.finish(client, varlink::reply(view, false));
    }

    /// Tells a step on the way to those who asked with `more`.
    pub fn progress(&mut self, client: ClientId, progress: &Progress) {
        let Some(serial) = self.calls.get(&client).copied() else { return };
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        if !connection.current.is_some_and(|current| current.more) {
            return;
        }
        let outcome = OutcomeView {
            format: FORMAT,
            text: progress_text(progress),
            progress: Some(ProgressView::from(progress)),
            ..OutcomeView::default()
        };
        connection.send(varlink::reply(&outcome, true), None, self.now);
        if connection.memory() > PROGRESS_MAX {
            self.drop_connection(serial);
        }
        self.settle(serial);
    }

    /// Whether a client has not taken what it was told last.
    #[must_use]
    pub fn is_behind(&self, client: ClientId) -> bool {
        let connection = self.calls.get(&client).and_then(|serial| self.connections.get(serial));
        connection.is_some_and(Connection::has_output)
    }

    /// Those who were, and have by now.
    pub fn take_drained(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.drained)
    }

    /// Sends one of many replies to who asked with `more`.
    pub fn stream(&mut self, client: ClientId, bytes: Vec<u8>) {
        let Some(serial) = self.calls.get(&client).copied() else { return };
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        connection.send(bytes, None, self.now);
        // Its call is not answered by this, so that none follows: only its end is of interest.
        if connection.is_gone() {
            self.settle(serial);
        }
    }

    /// Answers a call with a reply that is ready to be sent.
    pub fn finish_bytes(&mut self, client: ClientId, bytes: Vec<u8>) {
        self.finish(client, bytes);
    }

    /// Answers a call with a descriptor, which is its last holder's from now on.
    pub fn pass(&mut self, client: ClientId, parameters: &impl Serialize, descriptor: OwnedFd) {
        self.finish_with(client, varlink::reply(parameters, false), Some(descriptor));
    }

    fn finish(&mut self, client: ClientId, bytes: Vec<u8>) {
        self.finish_with(client, bytes, None);
    }

    /// The answer is written and the next call may come.
    fn finish_with(&mut self, client: ClientId, bytes: Vec<u8>, descriptor: Option<OwnedFd>) {
        let Some(serial) = self.forget(client) else { return };
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        let Some(current) = connection.current.take() else { return };
        if !current.oneway {
            connection.send(bytes, descriptor, self.now);
            // Its client reads nothing, and so do those of too many others.
            if connection.has_outgoing() && !self.has_room_for_descriptor(serial) {
                self.drop_connection(serial);
            }
        }
        self.settle(serial);
    }

    /// A call is over. Gives the connection that it came over.
    fn forget(&mut self, client: ClientId) -> Option<usize> {
        self.waits.remove(&client);
        self.calls.remove(&client)
    }

    /// After anything happened to a connection: says that its client is gone if that is so, and
    /// lets it stand in line for the next turn.
    fn settle(&mut self, serial: usize) {
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        if connection.is_gone() {
            if let Some(current) = connection.current.take() {
                self.calls.remove(&current.client);
                self.waits.remove(&current.client);
                if !current.oneway {
                    self.arrivals.push(Arrival::HungUp(current.client));
                }
            }
        }
        if !connection.queued {
            connection.queued = true;
            let privileged = self.masters.is_privileged(connection.peer.uid);
            self.queue(privileged).push_back(serial);
        }
    }

    fn queue(&mut self, privileged: bool) -> &mut VecDeque<usize> {
        if privileged { &mut self.queues.privileged } else { &mut self.queues.ordinary }
    }

    /// Takes calls from one client until it has none, waits for an answer, or the turn is used up.
    fn work(&mut self, serial: usize, calls: &mut usize, bytes: &mut usize) {
        loop {
            if *calls == 0 {
                return self.settle(serial);
            }
            let Some(connection) = self.connections.get_mut(&serial) else { return };
            match connection.next(bytes, self.now) {
                Next::Call(call, beside) => {
                    *calls -= 1;
                    self.take(serial, call, beside);
                }
                Next::Descriptor => {
                    if !self.has_room_for_descriptor(serial) {
                        self.turn_descriptor_away(serial);
                    }
                }
                Next::Broken(error) => {
                    connection.send(varlink::refusal(&error), None, self.now);
                    connection.close_input();
                }
                Next::TurnOver => return self.settle(serial),
                Next::Nothing => {
                    if connection.is_over() {
                        self.drop_connection(serial);
                    }
                    return;
                }
            }
        }
    }

    fn turn_descriptor_away(&mut self, serial: usize) {
        if let Some(connection) = self.connections.get_mut(&serial) {
            connection.turn_descriptor_away();
        }
    }

    /// Answers what the codec can answer, and hands over everything else.
    fn take(&mut self, serial: usize, call: varlink::Call, beside: Option<Beside>) {
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        let (more, oneway, uid) = (call.more, call.oneway, connection.peer.uid);
        let own = self.waits.values().filter(|waiting| **waiting == uid).count();
        let before = std::mem::take(&mut connection.taken_before);
        let may_wait = before || own < self.limits.waits_per_user || self.masters.is_privileged(uid);
        let bytes = match understand(call, beside) {
            Ok((Asked::Answered(parameters), _)) => varlink::reply(&parameters, false),
            Ok((Asked::Method(Method::Wait { .. } | Method::Watch { .. }, _), _)) if !may_wait => {
                let reason = format!("user {uid} waits {own} times already: try again");
                varlink::refusal(&varlink::Error::Busy(varlink::error::Plain { changed: false, reason }))
            }
            Ok((Asked::Method(method, meta), descriptor)) => {
                self.client_last += 1;
                let client = ClientId(self.client_last);
                if matches!(method, Method::Wait { .. } | Method::Watch { .. }) {
                    self.waits.insert(client, uid);
                }
                connection.again = handover::again(&method, &meta);
                connection.current = Some(Current { client, more, oneway });
                let peer = connection.peer.clone();
                self.calls.insert(client, serial);
                let call = Call { client, peer, method, meta, more, descriptor };
                self.arrivals.push(Arrival::Call(Box::new(call)));
                if connection.is_gone() {
                    self.settle(serial);
                }
                return;
            }
            Err(error) => varlink::refusal(&error),
        };
        if !oneway {
            connection.send(bytes, None, self.now);
        }
    }

    fn drop_connection(&mut self, serial: usize) {
        let Some(mut connection) = self.connections.remove(&serial) else { return };
        // A child between fork and exec may hold a copy, and keep the registration alive.
        let _closing_does_it_too = self.registry.deregister(&mut connection.stream);
        if let Some(current) = connection.current {
            self.forget(current.client);
            if !current.oneway {
                self.arrivals.push(Arrival::HungUp(current.client));
            }
        }
    }

    /// Cuts off whoever holds most while all together hold too much; the privileged last.
    fn save_memory(&mut self) {
        let mut held: BTreeMap<u32, usize> = BTreeMap::new();
        for connection in self.connections.values() {
            *held.entry(connection.peer.uid).or_default() += connection.memory();
        }
        let mut total: usize = held.values().sum();
        while total > self.limits.memory {
            let greed = |uid: u32, held: usize| (held > 0 && !self.masters.is_privileged(uid), held);
            let Some(uid) = held.keys().copied().max_by_key(|uid| greed(*uid, held[uid])) else { return };
            let of_uid = self.connections.iter().filter(|(_, connection)| connection.peer.uid == uid);
            let most = of_uid.map(|(serial, connection)| (connection.memory(), *serial)).max();
            let Some((memory, serial)) = most else { return };
            log::warn!("control: clients hold {total} bytes, cutting off one of user {uid} with {memory}");
            self.drop_connection(serial);
            total -= memory;
            held.entry(uid).and_modify(|held| *held -= memory);
        }
    }
}

/// What is asked, with the descriptor that belongs to it; any other one is closed here.
fn understand(
    call: varlink::Call,
    beside: Option<Beside>,
) -> Result<(Asked, Option<OwnedFd>), varlink::Error> {
    let refused = |reason: String| {
        varlink::Error::Refused(varlink::error::Refusal { reason, ..varlink::error::Refusal::default() })
    };
    let descriptor = match beside {
        None => None,
        Some(Ok(descriptor)) => Some(descriptor),
        Some(Err(Excess::TooMany)) => {
            return Err(refused("a call takes at most one descriptor; more came with this one".into()));
        }
        Some(Err(Excess::NoRoom)) => {
            let reason = "supd has no room for the descriptor that came with the call: try again".into();
            return Err(varlink::Error::Busy(varlink::error::Plain { changed: false, reason }));
        }
    };
    let asked = varlink::ask(call)?;
    let name = match &asked {
        Asked::Method(method, _) if descriptor.is_none() || method.takes_descriptor() => {
            return Ok((asked, descriptor));
        }
        Asked::Method(method, _) => method.name(),
        Asked::Answered(_) if descriptor.is_none() => return Ok((asked, None)),
        Asked::Answered(_) => varlink::SERVICE,
    };
    Err(refused(format!("{name} takes no descriptor, and one came with the call")))
}

#[cfg(test)]
mod tests;
