//! Two units on one address: found before the kernel finds it, and with the other unit's name.

use crate::model::settings::{BindIpv6Only, Settings, Socket};
use crate::model::{Address, UnitName};
use std::net::IpAddr;

/// A socket of `wanted` that a socket of one of `others` is in the way of, in a sentence.
#[must_use]
pub fn find<'a>(wanted: &Settings, others: impl Iterator<Item = &'a Settings>) -> Option<String> {
    for other in others.filter(|other| other.unit != wanted.unit) {
        for mine in &wanted.sockets {
            if let Some(theirs) = other.sockets.iter().find(|theirs| collide(mine, theirs)) {
                return Some(sentence(&wanted.unit, mine, &other.unit, theirs));
            }
        }
    }
    None
}

fn sentence(unit: &UnitName, mine: &Socket, other: &UnitName, theirs: &Socket) -> String {
    let (mine, theirs) = (&mine.address, &theirs.address);
    let which = if mine == theirs { format!("{mine}") } else { format!("{mine} (there as {theirs})") };
    format!("{unit}: {which} belongs to the unit {other}; give one of them another address")
}

/// Whether both cannot be bound at a time.
fn collide(one: &Socket, other: &Socket) -> bool {
    match (&one.address, &other.address) {
        (
            Address::Ip { kind, host, port },
            Address::Ip { kind: other_kind, host: other_host, port: other_port },
        ) => {
            let (device, other_device) = (&one.options.bind_to_device, &other.options.bind_to_device);
            kind == other_kind
                && port == other_port
                && (device.is_none() || other_device.is_none() || device == other_device)
                && (covers(one, *host, *other_host) || covers(other, *other_host, *host))
        }
        (Address::Unix { path, .. } | Address::Fifo { path }, other) => match other {
            Address::Unix { path: other, .. } | Address::Fifo { path: other } => path == other,
            Address::Ip { .. } | Address::Abstract { .. } => false,
        },
        // The names of datagram and stream sockets are one space (unix(7)).
        (Address::Abstract { name, .. }, Address::Abstract { name: other, .. }) => name == other,
        (Address::Ip { .. } | Address::Abstract { .. }, _) => false,
    }
}

/// Whether a socket at `host` leaves no room for one at `other`.
fn covers(socket: &Socket, host: IpAddr, other: IpAddr) -> bool {
    let v6_only = socket.options.bind_ipv6_only == BindIpv6Only::Ipv6Only;
    match (host, other) {
        (host, other) if host == other => true,
        (IpAddr::V4(host), IpAddr::V4(_)) => host.is_unspecified(),
        (IpAddr::V6(host), IpAddr::V6(_)) => host.is_unspecified(),
        // net.ipv6.bindv6only could forbid it; where it does nobody needs two such units.
        (IpAddr::V6(host), IpAddr::V4(_)) => host.is_unspecified() && !v6_only,
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::pinned::tests::sample;
    use crate::model::SocketKind;

    fn unit(name: &str, address: Address) -> Settings {
        let mut settings = sample(name);
        settings.sockets.truncate(1);
        settings.sockets[0].address = address;
        settings.sockets[0].options.bind_to_device = None;
        settings
    }

    fn tcp(host: &str) -> Address {
        Address::Ip { kind: SocketKind::Stream, host: host.parse().unwrap(), port: 80 }
    }

    fn clash(one: Address, other: Address) -> bool {
        let (one, other) = (unit("one", one), unit("other", other));
        let found = find(&one, [&one, &other].into_iter());
        assert_eq!(found.is_some(), find(&other, [&one, &other].into_iter()).is_some());
        found.is_some()
    }

    #[test]
    fn a_wildcard_and_what_it_covers_collide() {
        for host in ["0.0.0.0", "127.0.0.1", "::"] {
            assert!(clash(tcp(host), tcp(host)), "{host}");
        }
        assert!(clash(tcp("0.0.0.0"), tcp("127.0.0.1")));
        assert!(clash(tcp("::"), tcp("127.0.0.1")) && clash(tcp("::"), tcp("0.0.0.0")));
        assert!(clash(tcp("::"), tcp("::1")));
        assert!(!clash(tcp("127.0.0.2"), tcp("127.0.0.1")) && !clash(tcp("::1"), tcp("127.0.0.1")));
        assert!(!clash(tcp("0.0.0.0"), tcp("::1")));
        let udp = Address::Ip { kind: SocketKind::Datagram, host: "0.0.0.0".parse().unwrap(), port: 80 };
        assert!(!clash(tcp("0.0.0.0"), udp));
    }

    #[test]
    fn ipv6_alone_and_other_devices_are_no_conflict() {
        let (mut one, other) = (unit("one", tcp("::")), unit("other", tcp("0.0.0.0")));
        assert!(find(&one, std::iter::once(&other)).is_some());
        one.sockets[0].options.bind_ipv6_only = BindIpv6Only::Ipv6Only;
        assert_eq!(find(&one, std::iter::once(&other)), None);
        let (mut one, mut other) = (unit("one", tcp("::1")), unit("other", tcp("::1")));
        one.sockets[0].options.bind_to_device = Some("lo".into());
        assert!(find(&one, std::iter::once(&other)).is_some());
        other.sockets[0].options.bind_to_device = Some("eth0".into());
        assert_eq!(find(&one, std::iter::once(&other)), None);
    }

    #[test]
    fn one_path_is_one_place() {
        let (stream, dgram) = (SocketKind::Stream, SocketKind::Datagram);
        let path = |kind| Address::Unix { kind, path: "/run/x".into() };
        assert!(clash(path(stream), path(dgram)));
        assert!(clash(path(stream), Address::Fifo { path: "/run/x".into() }));
        let name = |name: &str| Address::Abstract { kind: stream, name: name.into() };
        assert!(clash(name("x"), name("x")) && !clash(name("x"), name("y")));
        assert!(!clash(name("/run/x"), path(stream)));
        let text = find(&unit("web", tcp("0.0.0.0")), std::iter::once(&unit("api", tcp("::")))).unwrap();
        assert_eq!(
            text,
            "web: 0.0.0.0:80 (there as [::]:80) belongs to the unit api; give one of them another address"
        );
    }
}
