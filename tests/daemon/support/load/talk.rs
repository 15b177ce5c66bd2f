//! What is asked of servers that speak no HTTP, and how their answers say who gave them.
//!
//! Neither Redis nor memcached answers with an environment variable. So each release is told apart by a
//! setting that the server shows: Redis by `dbfilename` ("3.rdb"), memcached by `maxconns` (1003).

use super::Speaks;

/// What memcached adds to the number of its release.
const CONNECTIONS: u64 = 1_000;
/// memcached's head of each datagram: request, place, count, nothing (its doc/protocol.txt).
const HEAD: usize = 8;

/// Writes, reads what was written, and asks for the setting. By UDP only the last: of three datagrams the
/// first might reach another generation than the second.
pub(super) fn question(speaks: Speaks, is_udp: bool, number: u64) -> Vec<u8> {
    let key = key(number);
    match (speaks, is_udp) {
        (Speaks::Memcached, true) => {
            let head = [request(number).to_be_bytes(), [0, 0], [0, 1], [0, 0]].concat();
            [head, b"stats settings\r\n".to_vec()].concat()
        }
        (Speaks::Memcached, false) => {
            format!("set {key} 0 0 {}\r\n{key}\r\nget {key}\r\nstats settings\r\n", key.len()).into_bytes()
        }
        (Speaks::Redis | Speaks::Http, _) => {
            format!("SET {key} {key}\r\nGET {key}\r\nCONFIG GET dbfilename\r\n").into_bytes()
        }
    }
}

/// Who answered, once the pieces that were read are all of the answer.
pub(super) fn answer(
    speaks: Speaks,
    is_udp: bool,
    number: u64,
    pieces: &[Vec<u8>],
) -> Result<Option<String>, String> {
    let key = key(number);
    let stored = match (speaks, is_udp) {
        (Speaks::Memcached, true) => String::new(),
        (Speaks::Memcached, false) => {
            format!("STORED\r\nVALUE {key} 0 {length}\r\n{key}\r\nEND\r\n", length = key.len())
        }
        (Speaks::Redis | Speaks::Http, _) => format!("+OK\r\n${}\r\n{key}\r\n", key.len()),
    };
    let bytes = if is_udp { datagrams(number, pieces)? } else { Some(pieces.concat()) };
    let Some(bytes) = bytes else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| "bytes that are no text".to_owned())?;
    if text.len() < stored.len() {
        return Ok(None);
    }
    let rest = text.strip_prefix(&stored).ok_or_else(|| format!("not what was stored: {text:?}"))?;
    let release = match speaks {
        Speaks::Memcached if rest.ends_with("END\r\n") => connections(rest),
        Speaks::Redis | Speaks::Http if rest.ends_with(".rdb\r\n") => file(rest),
        Speaks::Memcached | Speaks::Redis | Speaks::Http => return Ok(None),
    };
    release.map(|release| Some(format!("{release}/0"))).ok_or_else(|| format!("no release in {rest:?}"))
}

fn key(number: u64) -> String {
    format!("key-{}", number % 1_000)
}

fn request(number: u64) -> u16 {
    (number % 65_536) as u16
}

/// `STAT maxconns 1003`
fn connections(text: &str) -> Option<String> {
    let count: u64 = text.lines().find_map(|line| line.strip_prefix("STAT maxconns "))?.parse().ok()?;
    Some(count.checked_sub(CONNECTIONS)?.to_string())
}

/// `3.rdb`
fn file(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_suffix(".rdb")).map(str::to_owned)
}

/// What the datagrams of an answer hold together, once each of them is there.
fn datagrams(number: u64, pieces: &[Vec<u8>]) -> Result<Option<Vec<u8>>, String> {
    let mut parts = Vec::new();
    let mut wanted = None;
    for piece in pieces {
        let (head, part) = piece.split_at_checked(HEAD).ok_or("a datagram without its head")?;
        let field = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        if field(0) != request(number) {
            return Err(format!("an answer to question {}, not to {number}", field(0)));
        }
        parts.push((field(2), part));
        wanted = Some(usize::from(field(4)));
    }
    parts.sort_unstable();
    let whole = wanted == Some(parts.len());
    Ok(whole.then(|| parts.into_iter().flat_map(|(_, part)| part.to_vec()).collect()))
}

pub(crate) fn tests() -> Vec<crate::Test> {
    vec![crate::test("load::talk::answers_are_read", answers_are_read)]
}

fn answers_are_read() {
    let redis = b"+OK\r\n$5\r\nkey-7\r\n*2\r\n$10\r\ndbfilename\r\n$6\r\n12.rdb\r\n".to_vec();
    let (first, second) = redis.split_at(20);
    let read = |pieces: &[&[u8]]| {
        answer(Speaks::Redis, false, 7, &pieces.iter().map(|it| it.to_vec()).collect::<Vec<_>>())
    };
    assert_eq!(read(&[first]), Ok(None));
    assert_eq!(read(&[first, second]), Ok(Some("12/0".into())));
    assert!(read(&[b"-LOADING Redis is loading the dataset in memory\r\n"]).is_err());

    let part = |place: u8, text: &str| [&[0, 7, 0, place, 0, 2, 0, 0], text.as_bytes()].concat();
    let (one, two) = (part(0, "STAT maxconns 10"), part(1, "03\r\nEND\r\n"));
    let read = |pieces: &[Vec<u8>]| answer(Speaks::Memcached, true, 7, pieces);
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(std::slice::from_ref(&two)), Ok(None));
    assert_eq!(read(&[two, one]), Ok(Some("3/0".into())));
}
