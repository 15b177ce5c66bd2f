//! An address that a server binds, as its arguments or its configuration write it.

use super::remark::Place;
use crate::codec::fault::quoted;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One socket of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bind {
    /// UDP, or UNIX datagrams.
    pub(super) datagram: bool,
    /// As supd writes it.
    pub(super) address: String,
    /// The server sets IPV6_V6ONLY.
    pub(super) v6only: bool,
    pub(super) backlog: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    /// Where it is said.
    pub(super) from: Option<Place>,
}

/// What a server listens on where it is told a port and no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnyHost {
    V4,
    /// One IPv6 socket that takes IPv4 too.
    Dual,
    /// Two sockets.
    Both,
}

impl Bind {
    fn stream(address: String, v6only: bool) -> Self {
        Self { address, v6only, ..Self::default() }
    }

    pub(super) fn path(path: &str) -> Self {
        Self::stream(path.to_owned(), false)
    }

    pub(super) fn is_path(&self) -> bool {
        self.address.starts_with('/')
    }

    pub(super) fn at(self, from: &Place) -> Self {
        Self { from: Some(from.clone()), ..self }
    }
}

/// The sockets of a host and a port. `localhost` is both of its addresses where the server binds
/// both (`Both`), else the IPv4 one.
///
/// # Errors
/// In words, what is no address. Names are not looked up: they may be others when the server runs.
pub(super) fn of_host(host: &str, port: u16, any: AnyHost) -> Result<Vec<Bind>, String> {
    if port == 0 {
        return Ok(Vec::new());
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let v4 = |host: Ipv4Addr| Bind::stream(format!("{host}:{port}"), false);
    let v6 = |host: Ipv6Addr, v6only| Bind::stream(format!("[{host}]:{port}"), v6only);
    Ok(match (bare, any) {
        ("" | "*", AnyHost::V4) => vec![v4(Ipv4Addr::UNSPECIFIED)],
        ("" | "*", AnyHost::Dual) => vec![v6(Ipv6Addr::UNSPECIFIED, false)],
        ("" | "*", AnyHost::Both) => vec![v4(Ipv4Addr::UNSPECIFIED), v6(Ipv6Addr::UNSPECIFIED, true)],
        ("localhost", AnyHost::Both) => vec![v4(Ipv4Addr::LOCALHOST), v6(Ipv6Addr::LOCALHOST, true)],
        ("localhost", AnyHost::V4 | AnyHost::Dual) => vec![v4(Ipv4Addr::LOCALHOST)],
        (text, _) => match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(host)) => vec![v4(host)],
            Ok(IpAddr::V6(host)) => vec![v6(host, any == AnyHost::Both)],
            Err(_) => {
                return Err(format!(
                    "{} is no address of this machine, and names are not looked up",
                    quoted(text)
                ));
            }
        },
    })
}

/// The sockets of one text: a port, `host:port`, a path, or an address with a scheme.
///
/// # Errors
/// In words, what is none of these.
pub(super) fn parse(text: &str, default_port: Option<u16>, any: AnyHost) -> Result<Vec<Bind>, String> {
    let text = text.trim();
    for scheme in ["unix://", "unix:", "unix@"] {
        if let Some(path) = text.strip_prefix(scheme) {
            return of_path(path.split('?').next().unwrap_or(path));
        }
    }
    if text.starts_with('/') {
        return of_path(text);
    }
    if text.starts_with("fd://") || text.starts_with("fd@") {
        return Ok(Vec::new());
    }
    let schemes = ["tcp://", "ssl://", "http://", "https://"];
    let text = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let text = text.split(['/', '?']).next().unwrap_or(text);
    if let Ok(port) = text.parse::<u16>() {
        return of_host("", port, any);
    }
    let no_port = || {
        let port = default_port.ok_or_else(|| format!("{} says no port", quoted(text)))?;
        of_host(text, port, any)
    };
    match text.rsplit_once(':') {
        // An IPv6 address without a port has colons too.
        Some(_) if text.ends_with(']') || text.parse::<Ipv6Addr>().is_ok() => no_port(),
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) => of_host(host, port, any),
            Err(_) => Err(format!("{} is no port", quoted(port))),
        },
        None => no_port(),
    }
}

fn of_path(path: &str) -> Result<Vec<Bind>, String> {
    match path.starts_with('/') {
        true => Ok(vec![Bind::path(path)]),
        false => Err(format!("{} is no absolute path", quoted(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::{AnyHost, parse};

    fn shown(text: &str, any: AnyHost) -> Vec<String> {
        let binds = parse(text, Some(80), any).unwrap();
        binds
            .iter()
            .map(|bind| format!("{}{}", bind.address, if bind.v6only { " v6only" } else { "" }))
            .collect()
    }

    #[test]
    fn addresses_as_servers_write_them() {
        for (text, address) in [
            ("8000", "0.0.0.0:8000"),
            (":8000", "0.0.0.0:8000"),
            ("*:8000", "0.0.0.0:8000"),
            ("tcp://localhost:8000", "127.0.0.1:8000"),
            ("[::1]:8000", "[::1]:8000"),
            ("::1", "[::1]:80"),
            ("[::]", "[::]:80"),
            ("10.0.0.1", "10.0.0.1:80"),
            ("unix:/run/x.sock", "/run/x.sock"),
            ("unix:///run/x.sock?umask=0111", "/run/x.sock"),
            ("/run/x.sock", "/run/x.sock"),
            ("ssl://127.0.0.1:9292?key=a", "127.0.0.1:9292"),
        ] {
            assert_eq!(shown(text, AnyHost::V4), [address], "{text}");
        }
        assert_eq!(shown("22", AnyHost::Both), ["0.0.0.0:22", "[::]:22 v6only"]);
        assert_eq!(shown("localhost:631", AnyHost::Both), ["127.0.0.1:631", "[::1]:631 v6only"]);
        assert_eq!(shown("*:80", AnyHost::Dual), ["[::]:80"]);
        assert!(shown("fd://3", AnyHost::V4).is_empty() && shown("*:0", AnyHost::V4).is_empty());
        for bad in ["web.example:80", "host:http", "unix:run/x", "127.0.0.1:99999"] {
            assert!(parse(bad, None, AnyHost::V4).is_err(), "{bad}");
        }
    }
}
