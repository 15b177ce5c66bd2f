//! The head of an answer, as far as the load needs it.

use crate::ctl::demo::version::Version;

/// What an answer's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Who answered; `None`: not with 200, or not a version of the demo.
    pub(super) version: Option<Version>,
    /// Bytes of the body.
    pub(super) length: usize,
    /// No further answer comes on this connection.
    pub(super) last: bool,
}

impl Head {
    /// Reads a head without its empty line. `None`: it is no head, or does not say how long the
    /// body is, so that a whole answer could not be told from a cut one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?;
        let (mut length, mut served_by, mut last) = (None, None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = Some(value.parse().ok()?),
                "connection" => last = value.eq_ignore_ascii_case("close"),
                "x-served-by" => served_by = value.parse().ok(),
                _ => {}
            }
        }
        let version = served_by.filter(|_| status.starts_with("200"));
        Some(Self { version, length: length?, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_who_how_much_and_whether_more_may_follow() {
        let head =
            Head::parse(b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 21\r\nX-Served-By: 1.0\r\nConnection: Close");
        assert_eq!(head, Some(Head { version: Some(Version::Old), length: 21, last: true }));
        let head = Head::parse(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nX-Served-By: 1.0");
        assert_eq!(head, Some(Head { version: None, length: 0, last: false }));
        let head = Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Served-By: 9.9");
        assert_eq!(head, Some(Head { version: None, length: 0, last: false }));
        for bad in
            [&b""[..], b"SSH-2.0", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\nContent-Length: x", b"\xff"]
        {
            assert_eq!(Head::parse(bad), None, "{bad:?}");
        }
    }
}
