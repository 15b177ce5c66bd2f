//! `[[Socket]]`: from .socket units, and from what a server binds for itself.

use super::bind::Bind;
use super::draft::Table;
use super::gather::Loaded;
use super::programs::PORTS;
use super::remark::{Kind, Place};
use super::work::{Work, place};
use crate::codec::systemd::{Value, boolean};
use crate::codec::unitfile::as_toml as toml;
use crate::model::ListenerName;

const LISTEN: [&str; 4] = ["ListenStream", "ListenDatagram", "ListenSequentialPacket", "ListenFIFO"];

/// Options that mean the same.
const OPTIONS: &[(&str, Shape)] = &[
    ("Backlog", Shape::Number),
    ("SocketUser", Shape::Text),
    ("SocketGroup", Shape::Text),
    ("SocketMode", Shape::Mode),
    ("BindIPv6Only", Shape::Text),
    ("FreeBind", Shape::Switch),
    ("NoDelay", Shape::Switch),
    ("KeepAlive", Shape::Switch),
    ("KeepAliveTimeSec", Shape::Text),
    ("KeepAliveIntervalSec", Shape::Text),
    ("KeepAliveProbes", Shape::Number),
    ("DeferAcceptSec", Shape::Text),
    ("ReceiveBuffer", Shape::Text),
    ("SendBuffer", Shape::Text),
    ("BindToDevice", Shape::Text),
    ("TCPCongestion", Shape::Text),
    ("PassPacketInfo", Shape::Switch),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Number,
    Mode,
    Switch,
}

/// Keys of a .socket that say nothing beside what supd does anyway.
const SILENT: [&str; 4] = ["Accept", "Service", "FileDescriptorName", "RemoveOnStop"];

impl Work<'_> {
    /// The sockets of .socket units.
    pub(super) fn activated(&mut self) {
        let job = self.job;
        let mut named = 0;
        for socket in &job.sockets {
            let listens: Vec<&Value> = socket
                .unit
                .values()
                .filter(|value| value.section == "Socket" && LISTEN.contains(&value.key.as_str()))
                .collect();
            let name = socket.unit.last("Socket", "FileDescriptorName");
            named += usize::from(name.is_some());
            for (at, value) in listens.iter().enumerate() {
                let mut table = Table::default();
                if let Some(name) = name {
                    let text = if at == 0 { name.text.clone() } else { format!("{}-{}", name.text, at + 1) };
                    table.set("Name", toml::text(&text), Some(&place(name)));
                }
                let address = self.expand(&value.text, value, socket);
                table.set(&value.key, toml::text(&address), Some(&place(value)));
                self.options(socket, &mut table, address.starts_with('/'));
                self.draft.sockets.push(table);
            }
            if let (Some(name), true) = (name, listens.len() > 1) {
                let what = "in systemd they share one name; supd's are numbered";
                self.remark(Kind::Changed, name, what, "tell the server of the new names");
            }
            self.rest_of_socket(socket);
        }
        if named > 0 || self.draft.sockets.len() > 1 {
            self.name_all();
        }
    }

    fn options(&mut self, socket: &Loaded, table: &mut Table, is_path: bool) {
        for (key, shape) in OPTIONS {
            let Some(value) = socket.unit.last("Socket", key) else { continue };
            if key.starts_with("Socket") && !is_path {
                continue;
            }
            let text = match shape {
                Shape::Text => toml::text(&self.expand(&value.text, value, socket)),
                Shape::Number if value.text.parse::<u32>().is_ok() => value.text.clone(),
                Shape::Number => toml::text(&value.text),
                Shape::Mode => toml::text(&format!("{:0>4}", value.text)),
                Shape::Switch => match boolean(&value.text) {
                    Some(yes) => yes.to_string(),
                    None => toml::text(&value.text),
                },
            };
            table.set(key, text, Some(&place(value)));
        }
        if is_path && !table.has("SocketMode") {
            table.set("SocketMode", toml::text("0666"), None);
            table.comment("SocketMode", "systemd's default; supd's is 0660");
        }
    }

    /// What a .socket says besides.
    fn rest_of_socket(&mut self, socket: &Loaded) {
        for value in socket.unit.values() {
            let key = value.key.as_str();
            let known = match value.section.as_str() {
                "Socket" => {
                    LISTEN.contains(&key)
                        || SILENT.contains(&key)
                        || OPTIONS.iter().any(|(option, _)| *option == key)
                }
                "Unit" => matches!(key, "Description" | "Documentation") || self.is_about_itself(value),
                "Install" => true,
                section => section.starts_with("X-"),
            };
            if !known {
                self.foreign(value);
            }
        }
    }

    /// Whether an order between units names only this service, its sockets and sockets.target:
    /// supd has that order by itself.
    pub(super) fn is_about_itself(&self, value: &Value) -> bool {
        const ORDER: [&str; 8] =
            ["After", "Before", "Wants", "Requires", "BindsTo", "PartOf", "Upholds", "Requisite"];
        let job = self.job;
        let own = |word: &str| {
            word == "sockets.target"
                || word == job.service.name.to_string()
                || job.sockets.iter().any(|socket| socket.name.to_string() == word)
        };
        ORDER.contains(&value.key.as_str()) && value.text.split_whitespace().all(own)
    }

    /// What a server binds for itself, or by its configuration.
    pub(super) fn bound(&mut self, binds: &[Bind]) {
        let has_names = !self.draft.sockets.is_empty();
        for bind in binds {
            let mut table = Table::default();
            let from = bind.from.clone().filter(|(path, _)| path.as_os_str() != "");
            let listen = if bind.datagram { "ListenDatagram" } else { "ListenStream" };
            table.set(listen, toml::text(&bind.address), from.as_ref());
            if let Some((path, line)) = &from {
                let line = if *line > 0 { format!(":{line}") } else { String::new() };
                table.comment(listen, format!("{}{line}", path.display()));
            }
            if bind.v6only && bind.address.starts_with('[') {
                table.set("BindIPv6Only", toml::text("ipv6-only"), from.as_ref());
            }
            let options = [("SocketUser", &bind.user), ("SocketGroup", &bind.group)];
            for (key, value) in options {
                if let Some(value) = value {
                    table.set(key, toml::text(value), from.as_ref());
                }
            }
            if let Some(mode) = &bind.mode {
                table.set("SocketMode", toml::text(&format!("{mode:0>4}")), from.as_ref());
            }
            if let Some(backlog) = bind.backlog.as_ref().filter(|text| text.parse::<u32>().is_ok()) {
                table.set("Backlog", backlog.clone(), from.as_ref());
            }
            self.draft.sockets.push(table);
        }
        if has_names || self.draft.sockets.len() > 1 {
            self.name_all();
        }
    }

    /// A server that binds a path for itself would remove supd's file: it needs one of its own.
    pub(super) fn bind_elsewhere(&mut self) {
        for table in &mut self.draft.sockets {
            let row = table.0.iter().find(|row| row.key == "ListenStream" && row.value.starts_with("\"/"));
            let Some((path, from)) =
                row.map(|row| (row.value.trim_matches('"').to_owned(), row.from.clone()))
            else {
                continue;
            };
            let own = format!("{path}.bind");
            table.set("BindAs", toml::text(&own), None);
            table.comment("BindAs", "what the server is to bind; clients stay where they are");
            let what = format!("the server would remove {path}, where clients find it, before it binds it");
            let remedy = format!("have it bind {own} in its own configuration");
            self.remarks.add(Kind::ToDo, from.as_ref(), "BindAs", &what, &remedy);
        }
    }

    /// Gives a name to each socket that has none, and makes all of them differ.
    fn name_all(&mut self) {
        let mut taken: Vec<String> = Vec::new();
        for table in &mut self.draft.sockets {
            let row =
                |key: &str| table.0.iter().find(|row| row.key == key).map(|row| row.value.trim_matches('"'));
            let given = row("Name").map(str::to_owned);
            let address = LISTEN.iter().find_map(|key| row(key)).unwrap_or_default();
            let wanted = given.unwrap_or_else(|| name_of(address));
            let wanted = if ListenerName::new(&wanted).is_ok() { wanted } else { "socket".to_owned() };
            let mut name = wanted.clone();
            if taken.contains(&name) && address.starts_with('[') {
                name = format!("{wanted}-v6");
            }
            let mut number = 2;
            while taken.contains(&name) {
                name = format!("{wanted}-{number}");
                number += 1;
            }
            taken.push(name.clone());
            let from: Option<Place> = table.0.first().and_then(|row| row.from.clone());
            table.set("Name", toml::text(&name), from.as_ref());
        }
    }

    /// Nothing says where the server listens: what a person has to write.
    pub(super) fn missing(&mut self, program: &str) {
        let line = |text: &str| text.to_owned();
        self.draft.missing = vec![
            format!("TO DO: on which address does {program} listen? No file says it. Write it here:"),
            line("[[Socket]]"),
            line("ListenStream = \"0.0.0.0:8080\""),
            line("and under [Service], if the server takes LISTEN_FDS, Handoff = \"inherit\"; if it binds"),
            line("for itself, Handoff = \"intercept\". Without a [[Socket]] it is a worker that nobody"),
            line("connects to, and this comment can go."),
        ];
    }
}

/// A name for an address: what is known by its port, or the name of its path.
fn name_of(address: &str) -> String {
    if let Some(path) = address.strip_prefix('/') {
        let file = path.rsplit('/').next().unwrap_or(path);
        let stem = file.strip_suffix(".sock").or_else(|| file.strip_suffix(".socket")).unwrap_or(file);
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' };
        return stem.trim_start_matches('.').chars().map(plain).take(60).collect();
    }
    let port = address.rsplit(':').next().unwrap_or(address);
    let known = port.parse().ok().and_then(|port: u16| PORTS.iter().find(|(known, _)| *known == port));
    match known {
        Some((_, name)) => (*name).to_owned(),
        None => format!("port-{port}"),
    }
}
