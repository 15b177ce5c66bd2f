//! One request: redirects followed, passwords kept to where they are for, errors in words.

use super::address::{Address, Origin};
use super::netrc;
use crate::ctl::failure::Failure;
use crate::ctl::render::text::clean;
use crate::model::ExitStatus;
use base64::Engine as _;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, BodyReader};

/// Redirects of one request.
const REDIRECTS_MAX: usize = 10;
/// A file of headers is never longer.
const HEADER_FILE_MAX: u64 = 64 << 10;
/// Those that are this program's own matter.
const OWN_HEADERS: [HeaderName; 7] = [
    header::HOST,
    header::RANGE,
    header::IF_RANGE,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::ACCEPT_ENCODING,
];

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// Finding the host, and reaching it.
    pub(super) connect: Duration,
    /// Between two pieces.
    pub(super) silence: Duration,
}

/// Asks for one address.
pub(super) struct Web {
    agent: Agent,
    /// For the origin of the typed address only.
    secret: HeaderMap,
    origin: Origin,
    /// Why no certificate authority is known.
    no_roots: Option<String>,
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another try may do better, perhaps not before this.
    Passing(String, Option<Duration>),
    /// It will not; with what to do.
    Lasting(String, Option<String>),
}

/// The part of a file that an answer brings.
pub(super) struct Content {
    /// Where it begins; 0: the file does.
    pub(super) from: u64,
    /// How long the whole file is, if the server says.
    pub(super) whole: Option<u64>,
    /// By what a server knows that the file is still the same.
    pub(super) validator: Option<HeaderValue>,
    pub(super) body: BodyReader<'static>,
}

/// What an answer is.
pub(super) enum Got {
    Content(Content),
    /// There is nothing behind the asked place; the file has this length.
    Beyond(Option<u64>),
}

impl Web {
    /// With the passwords for this address.
    pub(super) fn new(
        address: &Address,
        header_file: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<OsString>,
        waits: Waits,
    ) -> Result<Self, Failure> {
        let mut secret = header_file.map(read_headers).transpose()?.unwrap_or_default();
        if !secret.contains_key(header::AUTHORIZATION) {
            let place = netrc::place(variable);
            let login = place.map(|path| netrc::login(&path, address.host())).transpose()?.flatten();
            if let Some(netrc::Login { name, password }) = login {
                let both = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
                // Base64 is always fit for a header.
                if let Ok(value) = HeaderValue::try_from(format!("Basic {both}")) {
                    secret.insert(header::AUTHORIZATION, value);
                }
            }
        }
        let (agent, no_roots) = agent(waits);
        Ok(Self { agent, secret, origin: address.origin(), no_roots })
    }

    /// Asks for what is behind the first `from` bytes; all of it, if that is 0.
    pub(super) fn get(
        &self,
        address: &Address,
        from: u64,
        validator: Option<&HeaderValue>,
        deadline: Option<Instant>,
    ) -> Result<Got, Fault> {
        let mut address = address.clone();
        for _ in 0..=REDIRECTS_MAX {
            // From looking for the host to the last byte: a server that stalls is not waited for longer.
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let mut request = self.agent.get(address.uri().clone()).config().timeout_global(left).build();
            if from > 0 {
                request = request.header(header::RANGE, format!("bytes={from}-"));
                if let Some(validator) = validator {
                    request = request.header(header::IF_RANGE, validator);
                }
            }
            if address.origin() == self.origin {
                for (name, value) in &self.secret {
                    request = request.header(name, value);
                }
            }
            let response = request.call().map_err(|error| self.no_answer(&address, &error))?;
            match location(&response) {
                None => return understand(&address, response, from),
                Some(location) => {
                    address = address
                        .join(&location)
                        .map_err(|why| Fault::Lasting(format!("{address}: {why}"), None))?;
                }
            }
        }
        Err(Fault::Lasting(format!("{address}: redirected more than {REDIRECTS_MAX} times"), None))
    }

    fn no_answer(&self, address: &Address, error: &ureq::Error) -> Fault {
        use ureq::Error::{ConnectProxyFailed, ConnectionFailed, HostNotFound, Io, Rustls, Timeout, Tls};
        let text = format!("{address}: {}", words(error));
        let certificates = || {
            Some(match &self.no_roots {
                Some(why) => format!("install the package ca-certificates, or set SSL_CERT_FILE ({why})"),
                None => "if it is your own authority's: SSL_CERT_FILE=ca.pem supctl …".to_owned(),
            })
        };
        match error {
            Rustls(_) | Tls(_) => Fault::Lasting(text, certificates()),
            Io(inner) if inner.kind() == io::ErrorKind::InvalidData => Fault::Lasting(text, certificates()),
            // What the proxy itself refuses; the crate tells it as text alone.
            ConnectProxyFailed(why) if why.contains("responded 4") => {
                Fault::Lasting(text, Some("http_proxy=http://NAME:PASSWORD@HOST:PORT supctl …".into()))
            }
            HostNotFound => Fault::Passing(format!("{address}: there is no such host"), None),
            Io(_) | Timeout(_) | ConnectionFailed | ConnectProxyFailed(_) => Fault::Passing(text, None),
            // What came was understood, and is wrong: it would be the same once more.
            _ => Fault::Lasting(text, None),
        }
    }
}

/// An error of a connection, as a person would say it.
pub(super) fn words(error: &ureq::Error) -> String {
    use ureq::Timeout;
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => "it cannot be reached in time".into(),
        ureq::Error::Timeout(_) => "it has gone silent".into(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Protocol(error) => format!("it does not answer as HTTP does: {error}"),
        other => other.to_string(),
    }
}

/// The agent, and why it trusts nobody, if so.
fn agent(waits: Waits) -> (Agent, Option<String>) {
    let loaded = rustls_native_certs::load_native_certs();
    let no_roots = loaded.certs.is_empty().then(|| match loaded.errors.first() {
        Some(error) => error.to_string(),
        None => "this machine has no certificates of authorities".to_owned(),
    });
    let roots: Vec<Certificate<'static>> =
        loaded.certs.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        // Redirects are this file's matter: the crate would carry every header to another host.
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("supctl/", env!("CARGO_PKG_VERSION")))
        .accept("*/*")
        .timeout_resolve(Some(waits.connect))
        .timeout_connect(Some(waits.connect))
        .timeout_recv_response(Some(waits.silence))
        .timeout_per_read(Some(waits.silence))
        .build();
    (config.into(), no_roots)
}

/// Where a redirect leads.
fn location(response: &Response<Body>) -> Option<String> {
    let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(header::LOCATION).filter(|_| redirects)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// What an answer brings of a file whose first `from` bytes are here.
fn understand(address: &Address, response: Response<Body>, from: u64) -> Result<Got, Fault> {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let range = text(header::CONTENT_RANGE).and_then(content_range);
    match response.status() {
        StatusCode::OK => {}
        StatusCode::PARTIAL_CONTENT => {
            if from == 0 || range.is_none_or(|(first, _)| first != Some(from)) {
                let text = format!("{address}: it answered with another part than it was asked for");
                return Err(Fault::Lasting(text, None));
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => {
            return Ok(Got::Beyond(range.and_then(|(_, whole)| whole)));
        }
        status => return Err(refusal(address, status, text(header::RETRY_AFTER))),
    }
    let from = if response.status() == StatusCode::OK { 0 } else { from };
    let whole = response.body().content_length().map(|length| from.saturating_add(length));
    // A weak tag does not say that the bytes are the same (RFC 9110, 13.1.5).
    let tag = response.headers().get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
    let validator = tag.or_else(|| response.headers().get(header::LAST_MODIFIED)).cloned();
    Ok(Got::Content(Content { from, whole, validator, body: response.into_body().into_reader() }))
}

/// The first byte and the whole length of `bytes 7-9/10`, `bytes 7-9/*` or `bytes */10`.
fn content_range(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (range, whole) = text.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let first = range.split_once('-').and_then(|(first, _)| first.trim().parse().ok());
    Some((first, whole.trim().parse().ok()))
}

fn refusal(address: &Address, status: StatusCode, retry_after: Option<&str>) -> Fault {
    let (what, remedy) = match status.as_u16() {
        401 => (
            "it wants a name and a password, or others than it got",
            Some("put them into ~/.netrc (mode 600), or: --header-file FILE"),
        ),
        403 => ("it does not let you have this", None),
        404 | 410 => ("there is no such file", None),
        501 | 505 => ("it cannot give files this way", None),
        408 | 425 | 429 | 500..=599 => {
            let after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            return Fault::Passing(format!("{address}: {status}"), after);
        }
        _ => ("that is no file", None),
    };
    Fault::Lasting(format!("{address}: {status}: {what}"), remedy.map(str::to_owned))
}

/// The headers of a file, a line each; empty lines and those that begin with # say nothing.
fn read_headers(path: &Path) -> Result<HeaderMap, Failure> {
    let told = |what: String| {
        let failure = Failure::new(ExitStatus::Failed, format!("{}: {what}", path.display()));
        failure.next("a file with a line NAME: VALUE for each header, and: --header-file FILE")
    };
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(HEADER_FILE_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| told(format!("cannot be read: {error}")))?;
    if text.len() as u64 > HEADER_FILE_MAX {
        return Err(told(format!("is longer than {HEADER_FILE_MAX} bytes")));
    }
    let mut headers = HeaderMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        // What stands there is not shown: it may be a password.
        let wrong = || told(format!("line {number} is not written as NAME: VALUE"));
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        if OWN_HEADERS.contains(&name) {
            return Err(told(format!("line {number}: {} is supctl's own matter", clean(name.as_str()))));
        }
        headers.append(name, HeaderValue::try_from(value.trim()).map_err(|_| wrong())?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_writes_them() {
        assert_eq!(content_range("bytes 7-9/10"), Some((Some(7), Some(10))));
        assert_eq!(content_range("bytes 7-9/*"), Some((Some(7), None)));
        assert_eq!(content_range("bytes */10"), Some((None, Some(10))));
        assert_eq!(content_range("lines 7-9/10"), None);
        assert_eq!(content_range("bytes 7"), None);
    }

    #[test]
    fn a_file_of_headers_is_read_and_its_faults_named_without_what_stands_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_headers(&path)
        };
        let headers = read("# mine\nAuthorization: Bearer a:b\r\n\nX-Token:  c \nX-Token: d\n").unwrap();
        assert_eq!(headers["authorization"], "Bearer a:b");
        assert_eq!(headers.get_all("x-token").iter().count(), 2);
        for (text, said) in [
            ("\nsecret", "line 2 is not"),
            ("se cret: x", "line 1 is not"),
            ("A: b\u{7f}secret", "line 1 is not"),
            ("Range: bytes=secret", "supctl's own"),
            (&"a".repeat(70_000), "longer than"),
        ] {
            let failure = read(text).unwrap_err();
            assert!(failure.text.contains(said) && !failure.text.contains("secret"), "{failure:?}");
        }
        assert!(read_headers(&folder.path().join("none")).unwrap_err().text.contains("cannot be read"));
    }
}
