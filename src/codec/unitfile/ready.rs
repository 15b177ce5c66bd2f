//! Ready: when a worker counts as ready.

use super::command::{self, Use};
use super::document::{Node, Value};
use super::keys::nearest;
use super::report::{Bad, Reading, bad};
use super::values::text;
use crate::codec::fault::quoted;
use crate::model::ListenerName;
use crate::model::settings::Ready;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const WORDS: [(&str, Ready); 4] =
    [("notify", Ready::Notify), ("started", Ready::Started), ("listen", Ready::Listen), ("tcp", Ready::Tcp)];

const REMEDY: &str = "write \"notify\", \"started\", \"http://127.0.0.1:8080/health\" or a command: [\"program\", \"argument\"]";

pub(super) fn read(node: &Node, warnings: &mut Vec<Bad>) -> Reading<Ready> {
    if matches!(node.value, Value::List(_)) {
        return command::one(node, Use::Verdict, warnings).map(Ready::Command);
    }
    let text = text(node)?;
    if let Some((_, ready)) = WORDS.into_iter().find(|(word, _)| *word == text) {
        return Ok(ready);
    }
    if text.starts_with("http://") {
        return match authority(&text) {
            Ok(_) => Ok(Ready::Http(text)),
            Err(bad) => Err(vec![bad]),
        };
    }
    if text.starts_with("https://") {
        let remedy =
            "ask without TLS on a loopback port, or with a command: [\"curl\", \"-fsk\", \"https://…\"]";
        return bad("a check over TLS is not offered", remedy);
    }
    if text.contains(['/', ' ']) {
        let words: Vec<String> = text.split_whitespace().map(quoted).collect();
        let remedy = format!("a command is a list: [{}]", words.join(", "));
        return bad(format!("{} is no check", quoted(&text)), remedy);
    }
    let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
    match (text.as_str(), nearest(&text, &words)) {
        ("simple" | "exec" | "idle", _) => {
            bad("that is a Type of systemd", "write \"started\", or better a check")
        }
        (_, Some(near)) => bad(format!("there is no {}", quoted(&text)), format!("did you mean \"{near}\"?")),
        (_, None) => bad(format!("there is no {}", quoted(&text)), REMEDY),
    }
}

/// Whom an http check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// A listener of the unit: the check goes to the candidate's own slot.
    Listener(ListenerName),
    /// A fixed address.
    Fixed(SocketAddr),
}

/// Whom an http check asks, and for what: the path, which begins with `/`. `None`: no unit file has such
/// an address.
#[must_use]
pub fn asked(url: &str) -> Option<(Authority, &str)> {
    let rest = url.strip_prefix("http://")?;
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    authority(url).ok().map(|authority| (authority, path))
}

/// The part of an http address between `http://` and the path, and everything that is wrong with
/// the address. Names are refused: to look one up could take longer than supd's loop may.
pub(super) fn authority(url: &str) -> Result<Authority, Bad> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    if let Some(illegal) = rest.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '#' | '"' | '<' | '>'))
    {
        let what = format!("{} cannot stand in an address", quoted(&illegal.to_string()));
        return Err(Bad::new(what, "write it as %XX, or take it out"));
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if path.contains(['{', '}']) || path.starts_with('?') {
        let remedy = "write it as in \"http://127.0.0.1:8080/health\"";
        return Err(Bad::new("only the address before the path can be a listener's", remedy));
    }
    if let Some(inside) = authority.strip_prefix('{').and_then(|inside| inside.strip_suffix('}')) {
        return ListenerName::new(inside).map(Authority::Listener).map_err(|rule| {
            Bad::new(format!("{} is no name of a listener", quoted(inside)), rule.to_string())
        });
    }
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err(Bad::new("nothing listens at port 0", "write the port of the check"))
        } else {
            Ok(Authority::Fixed(address))
        };
    }
    let host = authority.trim_start_matches('[').trim_end_matches(']');
    if let Ok(host) = host.parse::<IpAddr>() {
        return Ok(Authority::Fixed(SocketAddr::new(host, 80)));
    }
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let address = Ipv4Addr::LOCALHOST;
    let what = if host.contains(['{', '}']) {
        "a listener's name stands alone, and brings its port".to_owned()
    } else {
        format!("{} is no address, and names are not looked up", quoted(authority))
    };
    let port = port.parse::<u16>().map_or("8080".to_owned(), |port| port.to_string());
    Err(Bad::new(
        what,
        format!("write \"http://{address}:{port}{path}\", or a listener as in \"http://{{http}}/\""),
    ))
}

#[cfg(test)]
mod tests {
    use super::{Authority, asked, authority};

    #[test]
    fn whom_a_check_asks() {
        let fixed = |text: &str| Ok(Authority::Fixed(text.parse().unwrap()));
        let ask = |url| authority(url).map_err(|bad| bad.what);
        assert_eq!(ask("http://127.0.0.1:9000/health?x=1"), fixed("127.0.0.1:9000"));
        assert_eq!(ask("http://[::1]:9000"), fixed("[::1]:9000"));
        assert_eq!(ask("http://127.0.0.1/"), fixed("127.0.0.1:80"));
        assert_eq!(ask("http://[::1]/"), fixed("[::1]:80"));
        assert!(
            matches!(ask("http://{http}/health"), Ok(Authority::Listener(name)) if name.as_str() == "http")
        );
        let path = |url| asked(url).map(|(_, path)| path);
        assert_eq!(path("http://{http}/health?x=1"), Some("/health?x=1"));
        assert_eq!(path("http://{http}"), Some("/"));
        assert_eq!((path("{http}/health"), path("http://localhost/")), (None, None));
        for url in [
            "http://",
            "http:///x",
            "http://localhost:80/",
            "http://web/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:99999/",
            "http://{}/",
            "http://{a b}/",
            "http://{http}:80/",
            "http://127.0.0.1:80/{http}",
            "http://127.0.0.1:80/a b",
            "http://127.0.0.1:80/\u{e9}",
            "http://u@127.0.0.1/",
            "http://127.0.0.1:80?x",
            "http://127.0.0.1/#x",
        ] {
            assert!(ask(url).is_err(), "{url}");
        }
    }
}
