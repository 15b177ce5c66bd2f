//! Addresses of listeners, and what to write instead of the many that are almost one.

use super::report::Bad;
use super::values::absolute_path;
use crate::codec::fault::quoted;
use crate::model::{Address, SocketKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The bytes of sun_path (unix(7)); a path needs one of them for its NUL, an abstract name for
/// the NUL in front.
const SUN_PATH_BYTES: usize = 108;

/// Reads the value of ListenStream, ListenDatagram or ListenSequentialPacket.
pub(super) fn socket(text: &str, kind: SocketKind) -> Result<Address, Bad> {
    if text.starts_with('/') {
        let path = unix_path(text)?;
        return Ok(Address::Unix { kind, path });
    }
    if let Some(name) = text.strip_prefix('@') {
        if name.is_empty() || name.len() >= SUN_PATH_BYTES {
            let what = format!("an abstract name has 1 to {} bytes", SUN_PATH_BYTES - 1);
            return Err(Bad::new(what, "write it as in \"@web\""));
        }
        return Ok(Address::Abstract { kind, name: name.to_owned() });
    }
    if text.starts_with("vsock:") || text.starts_with("vsock-") {
        return Err(Bad::new("AF_VSOCK is not offered", "write host:port, /path.sock or @abstract"));
    }
    let (host, port) = ip(text)?;
    if kind == SocketKind::SequentialPacket {
        return Err(Bad::new(
            "sequential packets are for UNIX sockets only",
            "write /path.sock or @abstract, or use ListenStream",
        ));
    }
    if kind == SocketKind::Stream && host.is_multicast() {
        return Err(Bad::new(
            format!("{host} is a multicast address, where TCP cannot listen"),
            "write 0.0.0.0, or one address of the machine",
        ));
    }
    Ok(Address::Ip { kind, host, port })
}

/// Reads the value of ListenFIFO.
pub(super) fn fifo(text: &str) -> Result<Address, Bad> {
    let path = absolute_path(text)?;
    if text.ends_with('/') {
        return Err(Bad::new(format!("{} is a directory", quoted(text)), "add the name of the FIFO"));
    }
    Ok(Address::Fifo { path })
}

/// A path that fits a socket's address.
pub(super) fn unix_path(text: &str) -> Result<std::path::PathBuf, Bad> {
    let path = absolute_path(text)?;
    if text.ends_with('/') {
        return Err(Bad::new(format!("{} is a directory", quoted(text)), "add the name of the socket"));
    }
    let length = path.as_os_str().len();
    if length >= SUN_PATH_BYTES {
        let what = format!("a path of {length} bytes, where a socket's has at most {}", SUN_PATH_BYTES - 1);
        return Err(Bad::new(what, "write a shorter one, as in \"/run/web/http.sock\""));
    }
    Ok(path)
}

/// `host:port`, `[v6]:port` or a port alone, which is `[::]`.
fn ip(text: &str) -> Result<(IpAddr, u16), Bad> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Err(Bad::new("there is no port", format!("write \"[{address}]:8080\"")));
    }
    if text.parse::<Ipv4Addr>().is_ok() {
        return Err(Bad::new("there is no port", format!("write \"{text}:8080\"")));
    }
    let Some((host, port_text)) = text.rsplit_once(':') else {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port(text)?));
        }
        if text.contains('/') {
            return Err(Bad::new(format!("{} is no absolute path", quoted(text)), "begin it with /"));
        }
        let what = format!("{} is no address", quoted(text));
        return Err(Bad::new(what, "write host:port, [::]:port, a port, /path.sock or @abstract"));
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(inside) => Ok((IpAddr::V6(v6(inside, port_text)?), port(port_text)?)),
        None => Ok((IpAddr::V4(v4(host, port_text)?), port(port_text)?)),
    }
}

fn port(text: &str) -> Result<u16, Bad> {
    const REMEDY: &str = "write a port from 1 to 65535";
    match text.parse::<u16>() {
        _ if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(Bad::new(format!("{} is no port", quoted(text)), REMEDY))
        }
        Ok(0) => Err(Bad::new("port 0 is another one each time, and nobody would find it", REMEDY)),
        Ok(port) => Ok(port),
        Err(_) => Err(Bad::new(format!("{text} is no port"), REMEDY)),
    }
}

fn v6(inside: &str, port: &str) -> Result<Ipv6Addr, Bad> {
    if let Some((address, scope)) = inside.split_once('%') {
        let remedy = format!("write \"[{address}]:{port}\" and BindToDevice = {}", quoted(scope));
        return Err(Bad::new("an interface is not named in the address", remedy));
    }
    if inside.parse::<Ipv4Addr>().is_ok() {
        return Err(Bad::new("brackets are for IPv6", format!("write \"{inside}:{port}\"")));
    }
    let Ok(address) = inside.parse::<Ipv6Addr>() else {
        let remedy = format!("write \"[::]:{port}\", or \"[::1]:{port}\" for this machine only");
        return Err(Bad::new(format!("{} is no IPv6 address", quoted(inside)), remedy));
    };
    match address.to_ipv4_mapped() {
        Some(v4) => Err(Bad::new("an IPv4 address in IPv6 clothes", format!("write \"{v4}:{port}\""))),
        None => Ok(address),
    }
}

fn v4(host: &str, port: &str) -> Result<Ipv4Addr, Bad> {
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(address);
    }
    let both = || format!("write \"{port}\" for IPv4 and IPv6, or \"0.0.0.0:{port}\" for IPv4 only");
    if host.is_empty() || host == "*" {
        return Err(Bad::new(format!("{} before the port says nothing", quoted(host)), both()));
    }
    if host == "[" || host == "]" || host.contains([':', '[', ']']) {
        let inside = host.trim_matches(['[', ']']);
        let shown = if inside.parse::<Ipv6Addr>().is_ok() { inside } else { "::1" };
        let remedy = format!("an IPv6 address stands in brackets: \"[{shown}]:{port}\"");
        return Err(Bad::new(format!("{} is no IPv4 address", quoted(host)), remedy));
    }
    if host.eq_ignore_ascii_case("localhost") || host.ends_with(".localhost") {
        let remedy = format!("write \"127.0.0.1:{port}\", or \"[::1]:{port}\"");
        return Err(Bad::new("names are not looked up", remedy));
    }
    if host.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(Bad::new(format!("{} is no IPv4 address", quoted(host)), both()));
    }
    let remedy = format!("write an address of this machine, as in \"127.0.0.1:{port}\"");
    Err(Bad::new(format!("names are not looked up, and {} is no address", quoted(host)), remedy))
}

#[cfg(test)]
mod tests {
    use super::{fifo, socket};
    use crate::model::SocketKind::{Datagram, SequentialPacket, Stream};

    #[test]
    fn good_addresses() {
        for (text, shown) in [
            ("0.0.0.0:8080", "0.0.0.0:8080"),
            ("8080", "[::]:8080"),
            ("[::1]:80", "[::1]:80"),
            ("[0:0::1]:080", "[::1]:80"),
            ("/run//web/a.sock", "/run/web/a.sock"),
            ("@web", "@web"),
        ] {
            assert_eq!(
                socket(text, Stream).map(|address| address.to_string()).ok(),
                Some(shown.into()),
                "{text}"
            );
        }
        assert!(socket(&format!("/{}", "x".repeat(106)), Datagram).is_ok());
        assert!(socket(&format!("@{}", "x".repeat(107)), SequentialPacket).is_ok());
        assert!(socket("224.0.0.251:5353", Datagram).is_ok());
        assert!(fifo("/run/pipe").is_ok());
    }

    #[test]
    fn what_is_almost_an_address_is_explained() {
        let long = format!("/{}", "x".repeat(107));
        for (text, remedy) in [
            ("localhost:8080", "write \"127.0.0.1:8080\", or \"[::1]:8080\""),
            ("web.example:80", "write an address of this machine, as in \"127.0.0.1:80\""),
            ("*:80", "write \"80\" for IPv4 and IPv6, or \"0.0.0.0:80\" for IPv4 only"),
            (":80", "write \"80\" for IPv4 and IPv6, or \"0.0.0.0:80\" for IPv4 only"),
            ("127.0.0.1", "write \"127.0.0.1:8080\""),
            ("::1", "write \"[::1]:8080\""),
            ("::1x:80", "an IPv6 address stands in brackets: \"[::1]:80\""),
            ("[127.0.0.1]:80", "write \"127.0.0.1:80\""),
            ("[fe80::1%eth0]:80", "write \"[fe80::1]:80\" and BindToDevice = \"eth0\""),
            ("[::ffff:1.2.3.4]:80", "write \"1.2.3.4:80\""),
            ("[web]:80", "write \"[::]:80\", or \"[::1]:80\" for this machine only"),
            ("256.0.0.1:80", "write \"80\" for IPv4 and IPv6, or \"0.0.0.0:80\" for IPv4 only"),
            ("0", "write a port from 1 to 65535"),
            ("127.0.0.1:0", "write a port from 1 to 65535"),
            ("127.0.0.1:65536", "write a port from 1 to 65535"),
            ("127.0.0.1:+80", "write a port from 1 to 65535"),
            ("127.0.0.1:", "write a port from 1 to 65535"),
            ("run/a.sock", "begin it with /"),
            ("/run/a/", "add the name of the socket"),
            ("/run/../a", "write the path that is meant"),
            (&long, "write a shorter one, as in \"/run/web/http.sock\""),
            ("@", "write it as in \"@web\""),
            ("vsock:2:1234", "write host:port, /path.sock or @abstract"),
            ("web", "write host:port, [::]:port, a port, /path.sock or @abstract"),
            ("224.0.0.1:80", "write 0.0.0.0, or one address of the machine"),
        ] {
            let remedy_given = socket(text, Stream).map_err(|bad| bad.remedy);
            assert_eq!(remedy_given, Err(remedy.to_owned()), "{text}");
        }
        assert!(socket("127.0.0.1:80", SequentialPacket).is_err());
        assert!(fifo("run/pipe").is_err());
    }
}
