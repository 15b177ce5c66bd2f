//! What a server asks bind(2) for, and which of its unit's listeners that is.

use super::address::{Address, SocketKind};
use super::settings::{BindIpv6Only, Socket};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

/// An address as a program hands it to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// AF_INET and AF_INET6; an IPv4 address that is written as an IPv6 one stands as that.
    Ip(IpAddr, u16),
    /// AF_UNIX: absolute, as the program's working directory makes it.
    Path(PathBuf),
    /// Any other: abstract names, netlink, packets. No listener of supd's can be meant.
    Other,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    /// Where.
    pub place: Place,
    /// How bytes travel; `None`: a raw socket and the like.
    pub kind: Option<SocketKind>,
    /// An IPv6 socket that has IPV6_V6ONLY.
    pub v6only: bool,
}

/// How well a listener answers what is asked for; the best is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// It is that address.
    Same,
    /// The program asks for all addresses, of which the listener is one.
    Part,
    /// The program asks for one address, and the listener has all: more clients reach it than it thinks.
    More,
}

/// The listener that is meant: by its place in `sockets`, and how well it fits.
#[must_use]
pub fn find<'a>(sockets: impl Iterator<Item = &'a Socket>, asked: &Asked) -> Option<(usize, Fit)> {
    let fitting = sockets.enumerate().filter_map(|(at, socket)| Some((at, fit(socket, asked)?)));
    fitting.min_by_key(|(_, fit)| *fit)
}

/// Whether a listener is meant.
fn fit(socket: &Socket, asked: &Asked) -> Option<Fit> {
    if asked.kind.is_none() || asked.kind != socket.address.kind() {
        return None;
    }
    match (&socket.address, &asked.place) {
        (Address::Ip { host, port, .. }, Place::Ip(wanted, wanted_port)) if port == wanted_port => {
            ip_fit(*host, !is_dual(socket), *wanted, asked.v6only)
        }
        (Address::Unix { path, .. }, Place::Path(wanted)) => {
            (socket.bind_as.as_ref().unwrap_or(path) == wanted).then_some(Fit::Same)
        }
        (
            Address::Ip { .. } | Address::Unix { .. } | Address::Abstract { .. } | Address::Fifo { .. },
            Place::Ip(..) | Place::Path(_) | Place::Other,
        ) => None,
    }
}

/// Whether its clients may come over IPv4 although its address is an IPv6 one.
fn is_dual(socket: &Socket) -> bool {
    let ours = socket.options.bind_ipv6_only;
    // What the machine says by default is read by the hands; where it is left to that, it is taken for both.
    !matches!(ours, BindIpv6Only::Ipv6Only)
}

fn ip_fit(ours: IpAddr, ours_v6only: bool, wanted: IpAddr, wanted_v6only: bool) -> Option<Fit> {
    if ours == wanted {
        return Some(Fit::Same);
    }
    let all = |host: IpAddr, v6only: bool| match host {
        IpAddr::V4(host) => host.is_unspecified().then_some((true, false)),
        IpAddr::V6(host) => (host == Ipv6Addr::UNSPECIFIED).then_some((!v6only, true)),
    };
    // Each as: does it cover IPv4, does it cover IPv6?
    let covers = |(v4, v6): (bool, bool), host: IpAddr| if host.is_ipv4() { v4 } else { v6 };
    match (all(ours, ours_v6only), all(wanted, wanted_v6only)) {
        (Some(ours), Some(wanted)) => ((ours.0 && wanted.0) || (ours.1 && wanted.1)).then_some(Fit::Part),
        (None, Some(wanted)) => covers(wanted, ours).then_some(Fit::Part),
        (Some(ours), None) => covers(ours, wanted).then_some(Fit::More),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(ours: &str, ours_v6only: bool, wanted: &str, wanted_v6only: bool) -> Option<Fit> {
        ip_fit(ours.parse().unwrap(), ours_v6only, wanted.parse().unwrap(), wanted_v6only)
    }

    #[test]
    fn the_same_address_a_part_of_it_and_more() {
        assert_eq!(ip("10.0.0.1", false, "10.0.0.1", false), Some(Fit::Same));
        assert_eq!(ip("10.0.0.1", false, "10.0.0.2", false), None);
        assert_eq!(ip("10.0.0.1", false, "0.0.0.0", false), Some(Fit::Part));
        assert_eq!(ip("0.0.0.0", false, "127.0.0.1", false), Some(Fit::More));
        assert_eq!(ip("::1", false, "::", false), Some(Fit::Part));
        assert_eq!(ip("::", false, "::1", false), Some(Fit::More));
    }

    #[test]
    fn ipv4_in_ipv6_unless_the_socket_is_for_ipv6_alone() {
        // Java binds [::] for 0.0.0.0.
        assert_eq!(ip("0.0.0.0", false, "::", false), Some(Fit::Part));
        assert_eq!(ip("0.0.0.0", false, "::", true), None);
        assert_eq!(ip("127.0.0.1", false, "::", false), Some(Fit::Part));
        assert_eq!(ip("127.0.0.1", false, "::", true), None);
        assert_eq!(ip("::", false, "0.0.0.0", false), Some(Fit::Part));
        assert_eq!(ip("::", true, "0.0.0.0", false), None);
        assert_eq!(ip("::", false, "127.0.0.1", false), Some(Fit::More));
        assert_eq!(ip("::", true, "127.0.0.1", false), None);
        assert_eq!(ip("::1", false, "0.0.0.0", false), None);
        // Both halves of nginx's `listen 80; listen [::]:80;`.
        assert_eq!(ip("::", false, "::", true), Some(Fit::Same));
    }
}
