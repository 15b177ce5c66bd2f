//! Where a download comes from, and where a redirect leads.

use crate::ctl::render::text::clean;
use iri_string::types::{UriAbsoluteStr, UriReferenceStr};
use std::fmt;
use ureq::http::Uri;

/// An address of http or https.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    uri: Uri,
}

/// Whom a password is for: the same host by another scheme or port is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Address {
    /// Reads an address as it was typed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let read = |error: &dyn fmt::Display| format!("{}: this is no address: {error}", clean(text));
        // What is behind # is for browsers.
        let uri: Uri = text.split('#').next().unwrap_or_default().parse().map_err(|error| read(&error))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(_) | None => return Err(read(&"it begins neither with http:// nor with https://")),
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(read(&"it names no host"));
        }
        Ok(Self { uri })
    }

    /// Whether it has a name or a password in it.
    pub(super) fn has_password(&self) -> bool {
        self.uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
    }

    /// Where a `Location` leads from here.
    pub(super) fn join(&self, location: &str) -> Result<Self, String> {
        let wrong = || format!("it redirects to {}, which is no address", clean(location));
        let escaped: String = location.bytes().fold(String::new(), |mut escaped, byte| {
            match byte {
                b'!'..=b'~' => escaped.push(char::from(byte)),
                _ => escaped.push_str(&format!("%{byte:02X}")),
            }
            escaped
        });
        let here = self.uri.to_string();
        let base = UriAbsoluteStr::new(&here).map_err(|_| wrong())?;
        let reference = UriReferenceStr::new(&escaped).map_err(|_| wrong())?;
        let there = reference.resolve_against(base).to_string();
        if !there.starts_with("http://") && !there.starts_with("https://") {
            return Err(format!(
                "it redirects to {}: only http:// and https:// are followed",
                clean(location)
            ));
        }
        Self::parse(&there).map_err(|_| wrong())
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    pub(super) fn origin(&self) -> Origin {
        let scheme = self.uri.scheme_str().unwrap_or_default().to_owned();
        let port = self.uri.port_u16().or(Some(if scheme == "https" { 443 } else { 80 }));
        Origin { scheme, host: self.host().to_ascii_lowercase(), port }
    }

    /// The file's name, or the host.
    pub(super) fn name(&self) -> String {
        let last = self.uri.path().rsplit('/').next().filter(|name| !name.is_empty());
        clean(last.unwrap_or(self.host())).into_owned()
    }
}

/// Without what is behind `?`: that may be a key.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (self.uri.scheme_str().unwrap_or_default(), self.host());
        let port = self.uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        let query = if self.uri.query().is_some() { "?..." } else { "" };
        write!(f, "{scheme}://{host}{port}{}{query}", clean(self.uri.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn an_address_says_where_and_not_with_which_key() {
        let typed = address("https://Example.com:8443/a/app.tar.zst?token=secret#top");
        assert_eq!(typed.to_string(), "https://Example.com:8443/a/app.tar.zst?...");
        assert_eq!((typed.name().as_str(), typed.host()), ("app.tar.zst", "Example.com"));
        assert!(!typed.has_password() && address("http://u:p@h/").has_password());
        for bad in ["ftp://h/x", "http://", "https:///x", "x", "http://a b/"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_same_host_by_the_same_way_is_the_same_origin() {
        let of = |text| address(text).origin();
        assert_eq!(of("https://EXAMPLE.com/a"), of("https://example.com:443/b"));
        for other in ["http://example.com/a", "https://example.com:8443/a", "https://a.example.com/a"] {
            assert_ne!(of("https://example.com/a"), of(other), "{other}");
        }
    }

    #[test]
    fn a_redirect_leads_where_a_browser_would_go() {
        let from = address("https://h/a/b?x=1");
        for (location, there) in [
            ("http://g/y", "http://g/y"),
            ("//g/y", "https://g/y"),
            ("/y", "https://h/y"),
            ("y", "https://h/a/y"),
            ("../../y", "https://h/y"),
            ("?z=2", "https://h/a/b?z=2"),
            ("/a b/ä#frag", "https://h/a%20b/%C3%A4"),
        ] {
            assert_eq!(from.join(location).unwrap().uri.to_string(), there, "{location}");
        }
        for bad in ["file:///etc/passwd", "ftp://h/x", "javascript:x", "http://", "FILE:/etc/passwd"] {
            assert!(from.join(bad).is_err(), "{bad}");
        }
    }
}
