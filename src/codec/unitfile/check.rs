//! Rules that hold between keys, for good. What is only not there yet is in `later`.

use super::Runner;
use super::conflict::collide;
use super::keys::LISTEN;
use super::layer::Layer;
use super::ready::{Authority, authority};
use super::report::{Bad, Place, Report};
use super::service::is_in_release;
use crate::model::sandbox::Asked;
use crate::model::settings::{
    Command, Exclusive, Handoff, NotifyAccess, ProtectHome, ProtectSystem, Ready, Retain, Settings, Socket,
    Start,
};
use crate::model::{Address, PROBES_MAX, SocketKind};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Notes every broken rule.
pub(super) fn faults(
    settings: &Settings,
    layer: &Layer,
    rows: &[usize],
    runner: Runner,
    report: &mut Report<'_>,
) {
    let mut rules = Rules { settings, layer, rows, report };
    rules.start();
    rules.names();
    rules.addresses();
    rules.readiness();
    rules.signals();
    rules.programs();
    rules.kinds();
    rules.exclusive();
    rules.paths();
    rules.rights(runner);
    rules.sandbox(runner);
}

/// A key of a table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    Unit(&'static str),
    /// Of the n-th `[[Socket]]`.
    Socket(usize, &'static str),
    Service(&'static str),
    Swap(&'static str),
}

impl Key {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unit(name) | Self::Socket(_, name) | Self::Service(name) | Self::Swap(name) => name,
        }
    }

    /// Where it is set; else where its table begins.
    pub(super) fn place(self, layer: &Layer) -> Place {
        match self {
            Self::Unit(name) => layer.unit.place(name),
            Self::Socket(index, name) => layer.sockets[index].place(name),
            Self::Service(name) => layer.service.place(name),
            Self::Swap(name) => layer.swap.place(name),
        }
    }

    pub(super) fn is_set(self, layer: &Layer) -> bool {
        match self {
            Self::Unit(name) => layer.unit.has(name),
            Self::Socket(index, name) => layer.sockets[index].has(name),
            Self::Service(name) => layer.service.has(name),
            Self::Swap(name) => layer.swap.has(name),
        }
    }
}

/// Whether it is wrong, where, what is, and what to write.
type Wrong = (bool, Key, &'static str, &'static str);

struct Rules<'a, 's> {
    settings: &'a Settings,
    layer: &'a Layer,
    /// Which `[[Socket]]` each listener is from.
    rows: &'a [usize],
    report: &'a mut Report<'s>,
}

impl Rules<'_, '_> {
    /// Notes a fault at the first of the keys that it is about, unless one of them is faulty
    /// already: then what follows from it is no news.
    fn refuse(&mut self, keys: &[Key], what: impl Into<String>, remedy: impl Into<String>) {
        let known = |key: &Key| key.is_set(self.layer) && self.report.has_fault_at(key.place(self.layer));
        if let (Some(first), false) = (keys.first(), keys.iter().any(known)) {
            self.report.fault(first.place(self.layer), first.name(), Bad::new(what, remedy));
        }
    }

    /// Whether every `[[Socket]]` could be read; else rules about all of them would mislead.
    fn sockets_are_whole(&self) -> bool {
        self.rows.len() == self.layer.sockets.len()
    }

    fn socket_row(&self, index: usize) -> usize {
        self.rows[index]
    }

    /// The key of a listener's address.
    fn listen(&self, index: usize) -> Key {
        let row = self.socket_row(index);
        let key = LISTEN.iter().find(|key| self.layer.sockets[row].has(key));
        Key::Socket(row, key.copied().unwrap_or("Socket"))
    }

    fn start(&mut self) {
        let service = &self.settings.service;
        let start = Key::Service("ExecStart");
        if !start.is_set(self.layer) && !self.report.is_broken(self.layer.service.table.place.file) {
            self.refuse(&[start], "it is missing", "write ExecStart = [\"/path/to/server\"] under [Service]");
        }
        if service.start == Start::OnDemand && self.layer.sockets.is_empty() {
            self.refuse(
                &[Key::Service("Start")],
                "nothing can ask for a unit without a [[Socket]]",
                "write Start = \"boot\" or \"manual\", or a [[Socket]]",
            );
        }
    }

    /// Where only one may run, or be bound, there is nobody to share with.
    fn exclusive(&mut self) {
        let list = match self.settings.service.exclusive {
            Exclusive::No => self.undivided_traffic(),
            Exclusive::Port => self.one_bound(),
            Exclusive::Process => self.one_running(),
        };
        for (_, key, what, remedy) in list.into_iter().filter(|(wrong, ..)| *wrong) {
            self.refuse(&[key, Key::Service("Exclusive")], what, remedy);
        }
    }

    /// Nothing to go back to at once.
    fn one_running(&self) -> Vec<Wrong> {
        let swap = &self.settings.swap;
        vec![
            (
                self.settings.service.workers > 1,
                Key::Service("Workers"),
                "two workers would run at once",
                "write Workers = 1",
            ),
            (
                swap.retain == Retain::Warm,
                Key::Swap("Retain"),
                "the previous generation has ended before the new one begins",
                "write Retain = \"cold\"",
            ),
            self.no_canary("nobody runs beside the candidate who could have the rest"),
            (
                swap.check_command.is_some(),
                Key::Swap("CheckCommand"),
                "it is committed at the switch, as nobody is left to go back to at once",
                "write Ready = [\"command\", …], which is asked before",
            ),
        ]
    }

    /// supd has to know when it binds, and to answer it.
    fn one_bound(&self) -> Vec<Wrong> {
        let (service, sockets) = (&self.settings.service, &self.settings.sockets);
        vec![
            (
                service.handoff != Handoff::Intercept,
                Key::Service("Handoff"),
                "who inherits its listeners binds nothing that could wait",
                "write Handoff = \"intercept\", or Exclusive = false",
            ),
            (
                service.ready == Ready::Started,
                Key::Service("Ready"),
                "it counts as ready before it binds",
                "write Ready = \"listen\"",
            ),
            (
                matches!(service.ready, Ready::Command(_)),
                Key::Service("Ready"),
                "until it binds a command can only reach who serves",
                "write \"listen\", or a check that reaches the candidate alone: \"http://{NAME}/health\"",
            ),
            (
                sockets.is_empty() && self.sockets_are_whole(),
                Key::Service("Exclusive"),
                "there is no [[Socket]] that two could bind",
                "write one, or Exclusive = false",
            ),
            self.no_canary("nobody else is bound who could have the rest"),
        ]
    }

    fn no_canary(&self, what: &'static str) -> Wrong {
        (!self.settings.swap.canary.is_empty(), Key::Swap("Canary"), what, "write no Canary")
    }

    /// Traffic is only taken off where nobody serves meanwhile.
    fn undivided_traffic(&self) -> Vec<Wrong> {
        const WHAT: &str = "somebody serves at every moment, so that no traffic is taken off";
        const REMEDY: &str = "take it out, or write Exclusive = \"port\" or \"process\"";
        let service = &self.settings.service;
        vec![
            (!service.traffic_off.is_empty(), Key::Service("TrafficOff"), WHAT, REMEDY),
            (!service.traffic_on.is_empty(), Key::Service("TrafficOn"), WHAT, REMEDY),
            (!service.traffic_settle.is_zero(), Key::Service("TrafficSettleSec"), WHAT, REMEDY),
        ]
    }

    /// With two sockets or more each needs a name; here they may come from several files.
    fn names(&mut self) {
        if self.layer.sockets.len() < 2 {
            return;
        }
        for (row, rows) in self.layer.sockets.iter().enumerate() {
            if !rows.has("Name") {
                let what = "with two sockets or more each needs a name";
                let remedy = "write Name = \"…\"; workers see it in LISTEN_FDNAMES";
                self.refuse(&[Key::Socket(row, "Name")], what, remedy);
            }
        }
    }

    fn addresses(&mut self) {
        let sockets = &self.settings.sockets;
        for (index, socket) in sockets.iter().enumerate() {
            let key = self.listen(index);
            if let Some(other) = sockets[..index].iter().find(|other| collide(socket, other)) {
                let what = format!("socket {} of this unit listens on {} already", other.name, other.address);
                self.refuse(&[key], what, "take one of them out, or change its address");
            }
            if let Address::Ip { host: IpAddr::V6(host), .. } = &socket.address {
                if host.is_unicast_link_local() && socket.options.bind_to_device.is_none() {
                    let what = "a link-local address means nothing without its interface";
                    self.refuse(&[key], what, "add BindToDevice = \"eth0\", with the right interface");
                }
            }
            self.own_path(index);
            if socket.bind_as.is_some() {
                self.bind_as(index);
            }
        }
    }

    fn bind_as(&mut self, index: usize) {
        let (key, bind_as) = (self.listen(index), Key::Socket(self.socket_row(index), "BindAs"));
        let service = &self.settings.service;
        if service.handoff != Handoff::Intercept {
            let what = "only an intercepted server binds anything";
            let remedy = "take it out, or write Handoff = \"intercept\" under [Service]";
            self.refuse(&[bind_as, Key::Service("Handoff")], what, remedy);
        } else if !matches!(self.settings.sockets[index].address, Address::Unix { .. }) {
            let remedy = "take it out; an IP address is the one of ListenStream";
            self.refuse(&[bind_as, key], "it is for UNIX sockets with a path", remedy);
        } else if service.workers > 1 {
            let what = "workers that start at once remove and bind one file, and are in each other's way";
            let remedy = "write Workers = 1; processes that the server starts by itself share its socket";
            self.refuse(&[bind_as, Key::Service("Workers")], what, remedy);
        }
    }

    /// A server that binds the public path itself removes supd's file first, and clients find none.
    fn own_path(&mut self, index: usize) {
        let socket = &self.settings.sockets[index];
        let Address::Unix { path, .. } = &socket.address else { return };
        if !socket.address.listens() {
            return;
        }
        let intercepted = self.settings.service.handoff == Handoff::Intercept;
        if intercepted && socket.bind_as.as_ref().is_none_or(|bind_as| bind_as == path) {
            let what = format!("the server would remove {} before it binds it", path.display());
            let remedy = "write BindAs = \"…\", another path, and have the server bind that; clients go on using \
                          the one of ListenStream";
            let key = Key::Socket(self.socket_row(index), "BindAs");
            self.refuse(&[key, self.listen(index)], what, remedy);
        }
    }

    fn readiness(&mut self) {
        let service = &self.settings.service;
        let (ready, handoff, access) =
            (Key::Service("Ready"), Key::Service("Handoff"), Key::Service("NotifyAccess"));
        if service.handoff == Handoff::Intercept && self.layer.sockets.is_empty() {
            let remedy = "write a [[Socket]] with the address that the server binds";
            self.refuse(&[handoff], "there is nothing to hand over", remedy);
        }
        if service.notify_access == NotifyAccess::None {
            let remedy = "write NotifyAccess = \"main\", or \"all\" if a child process speaks";
            if service.ready == Ready::Notify {
                self.refuse(&[access, ready], "READY=1 would never be heard", remedy);
            }
            if service.watchdog.is_some() {
                let keys = [access, Key::Service("WatchdogSec")];
                self.refuse(&keys, "WATCHDOG=1 would never be heard", remedy);
            }
            if service.file_descriptor_store_max > 0 {
                let keys = [access, Key::Service("FileDescriptorStoreMax")];
                self.refuse(&keys, "FDSTORE=1 would never be heard", remedy);
            }
        }
        match &service.ready {
            Ready::Listen if service.handoff == Handoff::Inherit => self.refuse(
                &[ready, handoff],
                "supd itself listens, so this is true before the server runs",
                "write \"notify\", or a check such as [\"command\"]",
            ),
            Ready::Tcp if self.sockets_are_whole() => {
                if !self.settings.sockets.iter().any(|socket| is_tcp(socket)) {
                    self.refuse(
                        &[ready],
                        "the unit has no TCP listener",
                        "write another check, or a [[Socket]]",
                    );
                }
                if self.settings.sockets.iter().filter(|socket| is_tcp(socket)).count() > PROBES_MAX {
                    self.refuse(
                        &[ready],
                        format!("not more than {PROBES_MAX} TCP listeners can be checked at once"),
                        "write \"notify\", or a check of one of them: \"http://{NAME}/health\"",
                    );
                }
                (0..self.settings.sockets.len()).for_each(|index| self.reachable(index));
            }
            Ready::Http(url) if self.sockets_are_whole() => self.http(url),
            Ready::Notify
            | Ready::Started
            | Ready::Listen
            | Ready::Tcp
            | Ready::Http(_)
            | Ready::Command(_) => {}
        }
    }

    fn http(&mut self, url: &str) {
        let ready = Key::Service("Ready");
        let sockets = &self.settings.sockets;
        match authority(url) {
            Ok(Authority::Listener(name)) => match sockets.iter().find(|socket| socket.name == name) {
                None => {
                    let names: Vec<String> =
                        sockets.iter().map(|socket| format!("{{{}}}", socket.name)).collect();
                    let remedy = match names.as_slice() {
                        [] => "write a [[Socket]] of that name, or a fixed address".to_owned(),
                        names => format!("this unit has {}", names.join(", ")),
                    };
                    self.refuse(&[ready], format!("the unit has no listener {name}"), remedy);
                }
                Some(socket) if socket.address.kind() != Some(SocketKind::Stream) => {
                    let what = format!("{} is no stream socket, and HTTP needs one", socket.address);
                    self.refuse(&[ready], what, "name another listener");
                }
                Some(found) => {
                    let index = sockets.iter().position(|socket| socket.name == found.name);
                    index.into_iter().for_each(|index| self.reachable(index));
                }
            },
            Ok(Authority::Fixed(asked)) => {
                if let Some(socket) = sockets.iter().find(|socket| answers_at(socket, asked)) {
                    let name = &socket.name;
                    let what = format!(
                        "at {asked} listens {name} of this very unit: the old generation would answer"
                    );
                    self.refuse(&[ready], what, format!("write {{{name}}} for {asked}, or ask another port"));
                }
            }
            Err(_) => {}
        }
    }

    /// Whether a check of readiness gets to this listener, and is told apart from who sends nothing.
    fn reachable(&mut self, index: usize) {
        let ready = Key::Service("Ready");
        let socket = &self.settings.sockets[index];
        let (name, options) = (&socket.name, &socket.options);
        if !is_tcp(socket) {
            return;
        }
        if let Some(device) = options.bind_to_device.as_ref().filter(|device| *device != "lo") {
            let what = format!("a check comes over loopback, and {name} hears only {device}");
            let remedy = "write a command, or \"notify\"";
            self.refuse(&[Key::Socket(self.socket_row(index), "BindToDevice"), ready], what, remedy);
        } else if self.settings.service.ready == Ready::Tcp && options.defer_accept.is_some() {
            let what = format!("with DeferAcceptSec (socket {name}) nobody accepts who sends nothing");
            let remedy = format!("write \"http://{{{name}}}/\", or take DeferAcceptSec out");
            self.refuse(&[Key::Socket(self.socket_row(index), "DeferAcceptSec"), ready], what, remedy);
        }
    }

    fn signals(&mut self) {
        let service = &self.settings.service;
        let (reload, command) = (Key::Service("ReloadSignal"), Key::Service("ExecReload"));
        if service.reload_signal.is_some() && !service.exec_reload.is_empty() {
            let remedy = "keep one of the two; ExecReload = \"\" takes it back in a drop-in";
            self.refuse(&[reload, command], "ExecReload is set too", remedy);
        }
        if service.reload_signal == Some(service.kill_signal) {
            let what = format!("{} is KillSignal too: a reload would end the worker", service.kill_signal);
            self.refuse(&[reload, Key::Service("KillSignal")], what, "write the signal that reloads it");
        }
        let capabilities = service.capability_bounding_set.as_ref();
        let outside = |name: &&String| capabilities.is_some_and(|set| !set.contains(name));
        if let Some(name) = service.ambient_capabilities.iter().find(outside) {
            let keys = [Key::Service("AmbientCapabilities"), Key::Service("CapabilityBoundingSet")];
            let what = format!("{name} is not in CapabilityBoundingSet, so no worker can have it");
            self.refuse(&keys, what, "add it there, or take it out here");
        }
    }

    /// Programs and a release that there is not.
    fn programs(&mut self) {
        let service = &self.settings.service;
        let start = Key::Service("ExecStart");
        // Without a readable program nobody knows whether the unit has releases.
        if service.releases || self.report.has_fault_at(start.place(self.layer)) {
            return;
        }
        for (key, command) in commands(self.settings) {
            if is_in_release(&command.program) && key.is_set(self.layer) {
                let what = format!("{} is looked for in a release, and this unit has none", command.program);
                self.refuse(&[key, Key::Service("Releases")], what, "write the absolute path of the program");
            }
        }
        if !service.exec_install.is_empty() {
            self.refuse(
                &[Key::Service("ExecInstall"), Key::Service("Releases")],
                "it prepares a release, and this unit has none",
                "use ExecStartPre, or write Releases = true",
            );
        }
    }

    /// Listeners that can only be lent to every generation in turn.
    fn kinds(&mut self) {
        let (service, swap) = (&self.settings.service, &self.settings.swap);
        for (index, socket) in self.settings.sockets.iter().enumerate() {
            let Some((kind, reason)) = shared_only(&socket.address) else { continue };
            let (name, listen) = (&socket.name, self.listen(index));
            let mut refuse = |key: Key, without: &str| {
                let what = format!("not with {kind} (socket {name}): {reason}");
                self.refuse(&[key, listen], what, format!("write {without}, or another kind of socket"));
            };
            if swap.retain == Retain::Warm {
                refuse(Key::Swap("Retain"), "Retain = \"cold\"");
            }
            if !swap.canary.is_empty() {
                refuse(Key::Swap("Canary"), "no Canary");
            }
            if service.handoff == Handoff::Intercept {
                refuse(Key::Service("Handoff"), "Handoff = \"inherit\"");
            }
            // Then no listener of the unit has one, and who is active would answer for the candidate.
            if asks_candidate(&service.ready) {
                refuse(Key::Service("Ready"), "\"notify\" or a command");
            }
        }
    }

    /// Listeners that lead to one generation at a time, and no other beside them.
    fn paths(&mut self) {
        if !self.settings.swap.canary.is_empty() && self.settings.is_by_path_alone() {
            let what = "a path leads to one generation at a time, so no part of its clients gets to another";
            self.refuse(&[Key::Swap("Canary")], what, "write no Canary, or listen at a port");
        }
    }

    fn rights(&mut self, runner: Runner) {
        let service = &self.settings.service;
        let is_root = runner == Runner::Root && matches!(service.user.as_deref(), None | Some("root" | "0"));
        if is_root && self.settings.control_group.is_some() {
            self.refuse(
                &[Key::Unit("ControlGroup"), Key::Service("User")],
                "its workers run as root, so this group could become root",
                "write User = \"…\" under [Service], or take ControlGroup out",
            );
        }
    }

    /// What is mounted for its processes.
    fn sandbox(&mut self, runner: Runner) {
        let service = &self.settings.service;
        let asked = Asked::by(service);
        if let Some(path) = asked.hidden() {
            let what = format!("{} is in what ProtectHome or PrivateTmp hides", path.display());
            self.refuse(
                &[Key::Service("ReadWritePaths"), Key::Service("ProtectHome"), Key::Service("PrivateTmp")],
                what,
                "name a folder in it, with ProtectHome = \"tmpfs\", which leaves what ReadWritePaths names",
            );
        }
        let program = Path::new(&service.exec_start.program);
        let begins =
            [("ExecStart", Some(program)), ("WorkingDirectory", service.working_directory.as_deref())];
        for (key, path) in begins {
            if let Some((path, by)) = path.and_then(|path| Some((path, asked.hides(path)?))) {
                let what = format!("{} is in what {by} hides", path.display());
                let remedy = "have it elsewhere, or name it in ReadWritePaths, with ProtectHome = \"tmpfs\"";
                self.refuse(&[Key::Service(key), Key::Service(by)], what, remedy);
            }
        }
        let keys = [
            (service.protect_system != ProtectSystem::No, "ProtectSystem"),
            (service.protect_home != ProtectHome::No, "ProtectHome"),
            (service.private_tmp, "PrivateTmp"),
        ];
        for (_, key) in keys.into_iter().filter(|(set, _)| *set && runner == Runner::Ordinary) {
            self.refuse(
                &[Key::Service(key)],
                "an ordinary user's supd may not mount",
                "take it out, or begin ExecStart with bwrap",
            );
        }
    }
}

/// Whether the check is to be answered by one generation and no other.
fn asks_candidate(ready: &Ready) -> bool {
    match ready {
        Ready::Tcp => true,
        Ready::Http(url) => matches!(authority(url), Ok(Authority::Listener(_))),
        Ready::Notify | Ready::Started | Ready::Listen | Ready::Command(_) => false,
    }
}

fn is_tcp(socket: &Socket) -> bool {
    matches!(socket.address, Address::Ip { kind: SocketKind::Stream, .. })
}

/// Whether a connection to `asked` would end up at this listener.
fn answers_at(socket: &Socket, asked: SocketAddr) -> bool {
    match socket.address {
        Address::Ip { kind: SocketKind::Stream, host, port } => {
            // Any address of the machine can be behind a wildcard, so the port decides.
            port == asked.port()
                && (host == asked.ip() || host.is_unspecified() || asked.ip().is_unspecified())
        }
        Address::Ip { .. } | Address::Unix { .. } | Address::Abstract { .. } | Address::Fifo { .. } => false,
    }
}

/// What a listener is that cannot have a slot for each generation, and why (unix(7), fifo(7)).
fn shared_only(address: &Address) -> Option<(&'static str, &'static str)> {
    match address {
        Address::Unix { kind: SocketKind::Datagram, .. } => Some((
            "a UNIX datagram socket",
            "clients stay connected to the socket that they found, so it cannot be one for each generation",
        )),
        Address::Abstract { .. } => Some((
            "an abstract name",
            "it cannot be moved from one socket to another without a gap, as a path can",
        )),
        Address::Fifo { .. } => {
            Some(("a FIFO", "whoever opened it reads what comes, so it cannot be one for each generation"))
        }
        Address::Ip { .. } | Address::Unix { .. } => None,
    }
}

/// Every command of the unit with its key.
pub(super) fn commands(settings: &Settings) -> impl Iterator<Item = (Key, &Command)> {
    let service = &settings.service;
    let lists = [
        ("ExecInstall", &service.exec_install),
        ("ExecStartPre", &service.exec_start_pre),
        ("ExecStartPost", &service.exec_start_post),
        ("ExecReload", &service.exec_reload),
        ("ExecStop", &service.exec_stop),
        ("ExecStopPost", &service.exec_stop_post),
        ("ExecOnFailure", &service.exec_on_failure),
        ("TrafficOff", &service.traffic_off),
        ("TrafficOn", &service.traffic_on),
    ];
    let ready = match &service.ready {
        Ready::Command(command) => Some((Key::Service("Ready"), command)),
        Ready::Notify | Ready::Started | Ready::Listen | Ready::Tcp | Ready::Http(_) => None,
    };
    let check = settings.swap.check_command.as_ref().map(|command| (Key::Swap("CheckCommand"), command));
    std::iter::once((Key::Service("ExecStart"), &service.exec_start))
        .chain(lists.into_iter().flat_map(|(key, list)| list.iter().map(move |one| (Key::Service(key), one))))
        .chain(ready)
        .chain(check)
}
