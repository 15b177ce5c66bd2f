//! Listeners that cannot be bound beside each other.

use crate::model::settings::{BindIpv6Only, Settings, Socket};
use crate::model::{Address, ListenerName, SocketKind, UnitName};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::path::Path;

/// Two listeners of which the kernel binds only the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The one whose unit comes first in the list that was given.
    pub first: (UnitName, ListenerName, Address),
    /// The other.
    pub second: (UnitName, ListenerName, Address),
    /// The addresses differ, and one takes in the other.
    pub wildcard: bool,
}

impl Conflict {
    /// The conflict of two listeners that collide, each with its unit.
    #[must_use]
    pub fn between(first: (&UnitName, &Socket), second: (&UnitName, &Socket)) -> Self {
        let side = |(unit, socket): (&UnitName, &Socket)| {
            (unit.clone(), socket.name.clone(), socket.address.clone())
        };
        let wildcard = first.1.address != second.1.address;
        Self { first: side(first), second: side(second), wildcard }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((first, first_name, one), (second, second_name, other)) = (&self.first, &self.second);
        write!(f, "{first} ({first_name}) and {second} ({second_name}) both listen on ")?;
        if self.wildcard {
            write!(f, "port {}: {one} and {other} cannot be bound at once", port(one))?;
        } else {
            write!(f, "{one}")?;
        }
        f.write_str("; give one of them another address, or stop one of the units first")
    }
}

/// How many conflicts are told at most: n units on one address have n²/2 of them.
pub const CONFLICTS_MAX: usize = 100;

/// Every pair of listeners of different units that the kernel will not bind at once.
///
/// A TCP port is free or taken for a whole address: `0.0.0.0:80` takes in `127.0.0.1:80`, and a
/// dual-stack `[::]:80` takes in both (ip(7), ipv6(7)). Whether `[::]` is dual-stack with
/// `BindIPv6Only = "default"` depends on net.ipv6.bindv6only; here it counts as dual-stack, which
/// is the kernel's default.
#[must_use]
pub fn conflicts(units: &[&Settings]) -> Vec<Conflict> {
    let mut groups: BTreeMap<Group<'_>, Vec<(usize, &Socket)>> = BTreeMap::new();
    for (index, settings) in units.iter().enumerate() {
        for socket in &settings.sockets {
            groups.entry(Group::of(&socket.address)).or_default().push((index, socket));
        }
    }
    let mut found = Vec::new();
    for members in groups.values() {
        for (at, (index, socket)) in members.iter().enumerate() {
            for (other_index, other) in &members[at + 1..] {
                if found.len() == CONFLICTS_MAX {
                    return found;
                }
                if index != other_index && collide(socket, other) {
                    let (first, second) = (&units[*index].unit, &units[*other_index].unit);
                    found.push(Conflict::between((first, socket), (second, other)));
                }
            }
        }
    }
    found
}

/// A number that two listeners have in common if they can collide, and others hardly ever: to find
/// those that may among many.
#[must_use]
pub fn collision_key(address: &Address) -> u64 {
    let mut hasher = DefaultHasher::new();
    Group::of(address).hash(&mut hasher);
    hasher.finish()
}

/// Only listeners of the same group can collide.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Group<'a> {
    Port(SocketKind, u16),
    Path(&'a Path),
    Abstract(SocketKind, &'a str),
}

impl<'a> Group<'a> {
    fn of(address: &'a Address) -> Self {
        match address {
            Address::Ip { kind, port, .. } => Self::Port(*kind, *port),
            Address::Unix { path, .. } | Address::Fifo { path } => Self::Path(path),
            Address::Abstract { kind, name } => Self::Abstract(*kind, name),
        }
    }
}

fn port(address: &Address) -> u16 {
    match address {
        Address::Ip { port, .. } => *port,
        Address::Unix { .. } | Address::Abstract { .. } | Address::Fifo { .. } => 0,
    }
}

/// Whether the kernel refuses to bind the second of two listeners.
#[must_use]
pub fn collide(one: &Socket, other: &Socket) -> bool {
    if Group::of(&one.address) != Group::of(&other.address) {
        return false;
    }
    let (Address::Ip { host: a, .. }, Address::Ip { host: b, .. }) = (&one.address, &other.address) else {
        return true;
    };
    if let (Some(a), Some(b)) = (&one.options.bind_to_device, &other.options.bind_to_device) {
        if a != b {
            return false;
        }
    }
    let dual = |socket: &Socket| socket.options.bind_ipv6_only != BindIpv6Only::Ipv6Only;
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
        (IpAddr::V6(a), IpAddr::V6(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
        (IpAddr::V6(a), IpAddr::V4(_)) => a.is_unspecified() && dual(one),
        (IpAddr::V4(_), IpAddr::V6(b)) => b.is_unspecified() && dual(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Source, Sources, parse};
    use super::{CONFLICTS_MAX, collision_key, conflicts};
    use crate::model::{Settings, UnitName};

    fn unit(name: &str, listen: &str) -> Settings {
        let text = format!("[[Socket]]\n{listen}\n[Service]\nUser = \"web\"\nExecStart = \"/bin/x\"\n");
        let sources = Sources {
            unit: UnitName::new(name).unwrap(),
            defaults: None,
            main: Source::new("x.unit", text),
            drop_ins: Vec::new(),
        };
        parse(&sources).unwrap().settings
    }

    fn collide(one: &str, other: &str) -> bool {
        let (one, other) = (unit("one", one), unit("other", other));
        let key = |settings: &Settings| collision_key(&settings.sockets[0].address);
        let there = conflicts(&[&one, &other]).len();
        assert_eq!(there, conflicts(&[&other, &one]).len());
        assert!(there == 0 || key(&one) == key(&other));
        there > 0
    }

    #[test]
    fn as_the_kernel_counts_addresses() {
        for (one, other) in [
            ("ListenStream = 80", "ListenStream = 80"),
            ("ListenStream = '0.0.0.0:80'", "ListenStream = '127.0.0.1:80'"),
            ("ListenStream = 80", "ListenStream = '0.0.0.0:80'"),
            ("ListenStream = 80", "ListenStream = '127.0.0.1:80'"),
            ("ListenStream = 80", "ListenStream = '[::1]:80'"),
            ("ListenDatagram = 80", "ListenDatagram = '[::1]:80'"),
            ("ListenStream = '/run/a'", "ListenDatagram = '/run//a'"),
            ("ListenStream = '/run/a'", "ListenFIFO = '/run/a'"),
            ("ListenStream = '@a'", "ListenStream = '@a'"),
            ("ListenStream = 80\nBindToDevice = 'a'", "ListenStream = 80"),
        ] {
            assert!(collide(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("ListenStream = 80", "ListenStream = 81"),
            ("ListenStream = 80", "ListenDatagram = 80"),
            ("ListenStream = '127.0.0.1:80'", "ListenStream = '127.0.0.2:80'"),
            ("ListenStream = '127.0.0.1:80'", "ListenStream = '[::1]:80'"),
            ("ListenStream = 80\nBindIPv6Only = 'ipv6-only'", "ListenStream = '0.0.0.0:80'"),
            ("ListenStream = 80\nBindToDevice = 'a'", "ListenStream = 80\nBindToDevice = 'b'"),
            ("ListenStream = '@a'", "ListenDatagram = '@a'"),
            ("ListenStream = '/run/a'", "ListenStream = '/run/b'"),
        ] {
            assert!(!collide(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_conflict_names_both_sides() {
        let (web, api) = (unit("web", "ListenStream = 80"), unit("api", "ListenStream = '127.0.0.1:80'"));
        let told: Vec<String> = conflicts(&[&web, &api]).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "web (web) and api (api) both listen on port 80: [::]:80 and 127.0.0.1:80 cannot be bound at once; \
             give one of them another address, or stop one of the units first"
            ]
        );
        assert!(conflicts(&[&web, &web]).len() == 1);
    }

    #[test]
    fn a_thousand_units_on_one_port_are_told_in_bounds() {
        let web = unit("web", "ListenStream = 80");
        let units = vec![&web; 1000];
        assert_eq!(conflicts(&units).len(), CONFLICTS_MAX);
    }
}
