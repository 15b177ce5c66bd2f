//! A small server of a test's own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// What a server was asked: the request's lines, in small letters but for values.
#[derive(Debug)]
pub(super) struct Asked(pub(super) Vec<String>);

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(super) fn path(&self) -> &str {
        self.0[0].split(' ').nth(1).unwrap()
    }

    /// The first byte of the range that it was asked for.
    pub(super) fn from(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |from| from.parse().unwrap())
    }
}

/// A server that answers each connection by a function, and ends with the test.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) asked: Receiver<Asked>,
}

impl Server {
    /// `answer` sees how many requests came before.
    pub(super) fn new(answer: impl Fn(usize, &Asked, &mut dyn Write) + Send + 'static) -> Self {
        Self::with(|stream| Box::new(stream), answer)
    }

    pub(super) fn with(
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + 'static,
        answer: impl Fn(usize, &Asked, &mut dyn Write) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = channel();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut stream = wrap(stream);
                let Some(request) = request(&mut *stream) else { continue };
                answer(number, &request, &mut *stream);
                let _closed = stream.flush();
                stream.end();
                if tell.send(request).is_err() {
                    return;
                }
            }
        });
        Self { address, asked }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    pub(super) fn is_silent(&self) -> bool {
        self.asked.try_recv().is_err()
    }
}

pub(super) trait Stream: Read + Write {
    fn end(&mut self);
}

impl Stream for TcpStream {
    fn end(&mut self) {
        let _gone = self.shutdown(Shutdown::Write);
    }
}

impl Stream for rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        let _gone = self.flush();
        self.sock.end();
    }
}

fn request(stream: &mut dyn Stream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    let text = String::from_utf8(bytes).unwrap();
    Some(Asked(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()))
}

pub(super) fn say(out: &mut dyn Write, status: &str, headers: &[&str], body: &[u8]) {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    headers.iter().for_each(|header| text.push_str(&format!("{header}\r\n")));
    let whole = [text.as_bytes(), b"\r\n", body].concat();
    // Whoever has seen enough hangs up.
    let _gone = out.write_all(&whole);
}

pub(super) fn length(body: &[u8]) -> String {
    format!("Content-Length: {}", body.len())
}

/// A file as a good server gives it, but no more than `most` bytes of it.
pub(super) fn serve(asked: &Asked, out: &mut dyn Write, body: &[u8], most: usize) {
    let from = asked.from();
    let rest = &body[from..];
    let range = format!("Content-Range: bytes {from}-{}/{}", body.len() - 1, body.len());
    let headers = [&*length(rest), "ETag: \"v1\"", &range];
    let (status, headers) =
        if from > 0 { ("206 Partial Content", &headers[..]) } else { ("200 OK", &headers[..2]) };
    say(out, status, headers, &rest[..rest.len().min(most)]);
}

pub(super) struct Silent(pub(super) TcpStream);

impl Read for Silent {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Silent {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Silent {
    fn end(&mut self) {}
}

/// A server at localhost, and its authority's certificate.
pub(super) fn tls_server() -> (Server, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&own, &issuer).unwrap();
    let own = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.serialize_der()));
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], own)
        .unwrap();
    let config = std::sync::Arc::new(config);
    let wrap = move |stream| -> Box<dyn Stream> {
        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
        Box::new(rustls::StreamOwned::new(connection, stream))
    };
    (Server::with(wrap, |_, _, out| say(out, "200 OK", &[&length(b"over TLS")], b"over TLS")), authority)
}
