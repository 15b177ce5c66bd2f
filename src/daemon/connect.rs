//! `Connect`: one connection to one generation, whoever receives all others.
//!
//! Over TCP a child makes it, from a source address that the kernel leads there for as long, and who
//! asked gets the socket. A UNIX socket he connects to himself, by a descriptor of its file: made by supd
//! the server would take him for supd (SO_PEERCRED), and the file's own rights would not count.

use super::chores::Chore;
use super::control::Call;
use super::hands::Hands;
use super::listeners::Way;
use crate::codec::json::{ConnectView, FORMAT};
use crate::codec::varlink::{self, Method};
use crate::machine::Machine;
use crate::model::settings::Socket;
use crate::model::{ClientId, ExitStatus, Generation, ListenerName, Reply, SocketKind, UnitName};
use crate::os::dial::{self, Dial};
use crate::os::task::Task;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// So many are made at a time, of all units together. (A person makes one, a smoke test a few.)
const MOST: usize = 8;

/// So many for one unit: the rest of its probes is for its checks.
const MOST_OF_UNIT: usize = 4;

/// How long the kernel may take. Only a full queue takes longer than a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// The child is ended after this.
const BOUND: Duration = Duration::from_secs(15);

/// A connection that is being made.
#[derive(Debug)]
pub struct Connecting {
    unit: UnitName,
    /// Who asked, as a user.
    uid: u32,
    dial: Arc<Dial>,
    view: ConnectView,
}

impl Hands {
    /// Answers `Connect` to one who may.
    pub(super) fn connect(&mut self, call: &Call, machine: &Machine) {
        let Method::Connect { unit, generation, listener, dry_run } = &call.method else { return };
        let socket = match self.reachable(unit, *generation, listener.as_ref(), machine) {
            Ok(socket) => socket,
            Err(reply) => return self.control.reply(call.client, &reply, Vec::new(), None),
        };
        let view = ConnectView {
            format: FORMAT,
            generation: generation.0,
            listener: socket.name.to_string(),
            address: socket.address.to_string(),
            connected: false,
            descriptor: None,
        };
        if *dry_run {
            return self.control.finish_bytes(call.client, varlink::reply(&view, false));
        }
        let own = self.jobs.connecting.values().filter(|other| other.unit == *unit).count();
        if own >= MOST_OF_UNIT || self.jobs.connecting.len() >= MOST {
            let reason = "too many connections are being made at once: try again".to_owned();
            let plain = varlink::error::Plain { changed: false, reason };
            return self.control.refuse(call.client, &varlink::Error::Busy(plain));
        }
        if let Err(why) = self.begin_connect(call, unit, *generation, &socket, view) {
            self.not_connected(call.client, unit, &why);
        }
    }

    /// The listener that is meant, if a connection can get to this generation alone.
    fn reachable(
        &self,
        unit: &UnitName,
        generation: Generation,
        listener: Option<&ListenerName>,
        machine: &Machine,
    ) -> Result<Arc<Socket>, Reply> {
        let status = Some(format!("status {unit}"));
        let bound = self.listeners.get(unit).filter(|bound| bound.has_slot(generation));
        let (Some(bound), Some(launch)) = (bound, machine.launch(unit, generation)) else {
            let text = format!("{unit}: generation {generation} has no process (any more)");
            return Err(Reply::refused(text, status));
        };
        let sockets = &launch.settings.sockets;
        let of_name = |name: &ListenerName| sockets.iter().find(|socket| socket.name == *name);
        let streams = || sockets.iter().filter(|socket| socket.address.kind() == Some(SocketKind::Stream));
        let way_of = |listener: &Socket| {
            format!("connect {unit} --generation {generation} --listener {}", listener.name)
        };
        let socket = match (listener.map(of_name), streams().next()) {
            (Some(Some(named)), first) if named.address.kind() != Some(SocketKind::Stream) => {
                let text = format!("{unit}: {} takes no connections: {}", named.name, named.address);
                return Err(Reply::refused(text, first.map(|first| way_of(first)).or(status)));
            }
            (Some(Some(named)), _) => named,
            (None, Some(first)) if streams().nth(1).is_none() => first,
            (_, None) => {
                let text = format!("{unit}: generation {generation} has no listener that takes connections");
                return Err(Reply::refused(text, status));
            }
            (asked, Some(first)) => {
                let names: Vec<String> = streams().map(|socket| socket.name.to_string()).collect();
                let what = if asked.is_some() { "there is no such listener" } else { "say which listener" };
                let text = format!("{unit}: {what}: {}", names.join(", "));
                return Err(Reply::refused(text, Some(way_of(first))));
            }
        };
        if let Err(why) = bound.is_apart(generation) {
            return Err(Reply::refused(format!("{unit}: {why}"), status));
        }
        Ok(socket.clone())
    }

    fn begin_connect(
        &mut self,
        call: &Call,
        unit: &UnitName,
        generation: Generation,
        socket: &Socket,
        view: ConnectView,
    ) -> Result<(), String> {
        let Some(listeners) = self.listeners.get_mut(unit) else { return Err("nothing is bound".into()) };
        let dial = match listeners.way(generation, &socket.address)? {
            Way::Port(dial) => Arc::new(dial),
            Way::Path(path, _) => {
                let file = dial::hold(&path).map_err(|error| error.to_string())?;
                self.pass_way(call.client, view, file);
                return Ok(());
            }
        };
        let (source, its) = (dial.from(), dial.clone());
        let work = move || match its.connect(PATIENCE) {
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        };
        let begun = Task::run("a connection", BOUND, &[dial.as_fd()], work)
            .map_err(|error| error.to_string())
            .and_then(|task| self.chores.begin(Chore::Connect(call.client), task, &mut self.sources));
        if begun.is_err() {
            self.unprobe(unit, vec![source]);
            return begun;
        }
        let connecting = Connecting { unit: unit.clone(), uid: call.peer.uid, dial, view };
        self.jobs.connecting.insert(call.client, connecting);
        Ok(())
    }

    /// The child has connected, or not.
    pub(super) fn connected(&mut self, client: ClientId, result: Result<(), String>) {
        let Some(Connecting { unit, uid, dial, view }) = self.jobs.connecting.remove(&client) else { return };
        self.unprobe(&unit, vec![dial.from()]);
        let given = result.and_then(|()| dial.give_to(uid).map_err(|error| error.to_string()));
        match given {
            Ok(socket) => self.pass_way(client, ConnectView { connected: true, ..view }, socket),
            Err(why) => self.not_connected(client, &unit, &why),
        }
    }

    fn pass_way(&mut self, client: ClientId, view: ConnectView, descriptor: OwnedFd) {
        self.control.pass(client, &ConnectView { descriptor: Some(0), ..view }, descriptor);
    }

    fn not_connected(&mut self, client: ClientId, unit: &UnitName, why: &str) {
        let reply = Reply::new(ExitStatus::Failed, false, format!("{unit}: {why}"));
        self.control.reply(client, &reply, Vec::new(), None);
    }
}
