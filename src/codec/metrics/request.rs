//! Requests for metrics: one a connection, GET or HEAD, without a body (RFC 9112).

use std::fmt::Write as _;

/// No request's head is longer, in bytes.
pub const HEAD_MAX: usize = 8 << 10;

/// Nobody who asks for metrics says more.
const HEADERS_MAX: usize = 64;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It has not said all of it.
    More,
    /// The metrics; true: what stands before them alone.
    Metrics(bool),
    /// Something else: a status of HTTP and why.
    Refused(u16, &'static str),
}

/// Reads as much as there is of a request.
#[must_use]
pub fn asked(bytes: &[u8]) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(&bytes[..bytes.len().min(HEAD_MAX)]) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => return Asked::More,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Asked::Refused(431, "Request Header Fields Too Large");
        }
        Err(_) => return Asked::Refused(400, "Bad Request"),
    }
    let path = request.path.and_then(|target| target.split('?').next());
    match (request.method, path) {
        (_, Some(path)) if path != "/metrics" => Asked::Refused(404, "Not Found"),
        (Some("GET"), _) => Asked::Metrics(false),
        (Some("HEAD"), _) => Asked::Metrics(true),
        (_, _) => Asked::Refused(405, "Method Not Allowed"),
    }
}

/// What stands before the content, and for a refusal the content too.
#[must_use]
pub fn reply(asked: Asked, length: usize) -> String {
    let mut head = String::new();
    let (status, reason, kind, content) = match asked {
        Asked::Refused(404, reason) => (404, reason, "text/plain", "supd: the metrics are at /metrics\n"),
        Asked::Refused(status, reason) => (status, reason, "text/plain", ""),
        Asked::Metrics(_) | Asked::More => (200, "OK", super::CONTENT_TYPE, ""),
    };
    let length = if status == 200 { length } else { content.len() };
    let allow = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    // Writing to a String cannot fail.
    let _ = write!(
        head,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}\
         Connection: close\r\n\r\n{content}"
    );
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_two_methods() {
        for (said, wanted) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Asked::Metrics(false)),
            ("GET /metrics?name=x HTTP/1.0\r\n\r\n", Asked::Metrics(false)),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Asked::Metrics(true)),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n", Asked::More),
            ("", Asked::More),
            ("GET / HTTP/1.1\r\n\r\n", Asked::Refused(404, "Not Found")),
            ("POST /metrics HTTP/1.1\r\n\r\n", Asked::Refused(405, "Method Not Allowed")),
            ("\x16\x03\x01\x02", Asked::Refused(400, "Bad Request")),
            ("GET /metrics\r\n\r\n", Asked::Refused(400, "Bad Request")),
        ] {
            assert_eq!(asked(said.as_bytes()), wanted, "{said:?}");
        }
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(HEAD_MAX));
        assert_eq!(asked(long.as_bytes()), Asked::Refused(431, "Request Header Fields Too Large"));
        let many = format!("GET /metrics HTTP/1.1\r\n{}", "X: y\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(asked(many.as_bytes()), Asked::Refused(431, "Request Header Fields Too Large"));
    }

    #[test]
    fn a_reply_says_how_long_it_is_and_that_it_is_the_last() {
        let text = reply(Asked::Metrics(false), 12);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{text}");
        assert!(text.contains("\r\nContent-Length: 12\r\nConnection: close\r\n\r\n"), "{text}");
        assert!(reply(Asked::Refused(405, "x"), 0).contains("\r\nAllow: GET, HEAD\r\n"));
    }
}
