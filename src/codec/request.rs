//! What is kept of a request that came with a `request_id`, so that a repetition is known: one file
//! for each, which is one line of the same kind as the ledger's.

use super::sealed;
use super::varlink::{Meta, Method, Outcome};
use crate::model::Tick;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The number of this format.
pub const FORMAT: u64 = 1;

/// No such file is longer, in bytes.
pub const FILE_MAX: u64 = 32 * 1024;

/// A moment, told in a way that neither a step of the wall clock nor a boot makes a riddle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Microseconds since 1970 by the wall clock.
    pub at: u64,
    /// Which boot of the machine.
    pub boot: String,
    /// By the clock of that boot.
    pub tick: Tick,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// Who asked.
    pub uid: u32,
    /// Under which id.
    pub id: String,
    /// For what.
    pub method: Method,
    /// When it was asked; if it is answered, when that was.
    pub stamp: Stamp,
    /// The ledger's last record at that time: what came of the request is in later ones.
    pub seq: u64,
    /// The answer; `None`: it is under way.
    pub outcome: Option<Outcome>,
}

/// As the file has it: the answer stays byte for byte as it was.
#[derive(Serialize, Deserialize)]
struct File {
    format: u64,
    uid: u32,
    request_id: String,
    method: String,
    parameters: Map<String, Value>,
    at: u64,
    boot: String,
    tick: u64,
    seq: u64,
    outcome: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Head {
    format: u64,
}

/// The text of its file.
///
/// # Panics
/// Never: it is a plain struct.
#[must_use]
pub fn encode(record: &RequestRecord) -> String {
    let RequestRecord { uid, id, method, stamp, seq, outcome } = record;
    let file = File {
        format: FORMAT,
        uid: *uid,
        request_id: id.clone(),
        method: method.name().to_owned(),
        parameters: method.parameters(&Meta::default()),
        at: stamp.at,
        boot: stamp.boot.clone(),
        tick: stamp.tick.0,
        seq: *seq,
        outcome: outcome.as_ref().map(Outcome::raw),
    };
    sealed::seal(&serde_json::to_string(&file).expect("a plain struct"))
}

/// A record from such a text.
///
/// # Errors
/// Why it is none, in a few words.
pub fn decode(text: &[u8]) -> Result<RequestRecord, String> {
    let json = sealed::open(text)?;
    let head: Head = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if head.format != FORMAT {
        return Err(format!("it has format {}; this supd knows format {FORMAT}", head.format));
    }
    let file: File = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let method = Method::recall(&file.method, file.parameters)
        .ok_or_else(|| format!("this supd knows no {} with these parameters", file.method))?;
    let outcome = match file.outcome {
        None => None,
        Some(raw) => Some(Outcome::of_raw(&raw).ok_or("its outcome is no answer")?),
    };
    let stamp = Stamp { at: file.at, boot: file.boot, tick: Tick(file.tick) };
    Ok(RequestRecord { uid: file.uid, id: file.request_id, method, stamp, seq: file.seq, outcome })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::codec::varlink::method::REQUEST_ID_MAX;
    use crate::model::{Reply, UnitName, WaitFor};
    use serde_json::json;

    pub(crate) fn sample(id: &str, outcome: Option<&str>) -> RequestRecord {
        let outcome = outcome.map(|text| Outcome::of_reply(&Reply::done(true, text), Vec::new(), None));
        RequestRecord {
            uid: 1000,
            id: id.into(),
            method: Method::Restart { unit: UnitName::new("web").unwrap(), wait: WaitFor::Active },
            stamp: Stamp { at: 1_789_560_000_000_000, boot: "0c6d".into(), tick: Tick(77) },
            seq: 12,
            outcome,
        }
    }

    #[test]
    fn every_request_comes_back() {
        for outcome in [None, Some("generation 2 is committed")] {
            let record = sample("ci \"17\"\n\u{0}", outcome);
            assert_eq!(decode(encode(&record).as_bytes()), Ok(record));
        }
        let method = Method::DaemonReload;
        let record = RequestRecord { method, ..sample(&"é".repeat(REQUEST_ID_MAX), None) };
        assert_eq!(decode(encode(&record).as_bytes()), Ok(record));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_noticed() {
        let good = encode(&sample("r", Some("done"))).into_bytes();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(decode(&bad).is_err(), "byte {at}");
            assert!(decode(&good[..at]).is_err(), "cut at {at}");
        }
        assert!(decode(&[0xff; 300]).is_err());
    }

    #[test]
    fn what_another_supd_wrote_is_not_guessed_at() {
        let with = |key: &str, value: Value| {
            let text = encode(&sample("r", None));
            let mut map: Value = serde_json::from_str(text.split_once(' ').unwrap().1).unwrap();
            map[key] = value;
            decode(sealed::seal(&map.to_string()).as_bytes()).unwrap_err()
        };
        assert_eq!(with("format", 7.into()), "it has format 7; this supd knows format 1");
        assert_eq!(with("method", "Fly".into()), "this supd knows no Fly with these parameters");
        let more = json!({"unit": "web", "height": 7});
        assert_eq!(with("parameters", more), "this supd knows no Restart with these parameters");
        assert_eq!(with("outcome", json!({})), "its outcome is no answer");
        assert!(with("seq", "x".into()).contains("expected u64"));
    }
}
