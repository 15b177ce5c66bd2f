//! The ledger's lines: a checksum, a space, one record as JSON.
//!
//! ```text
//! 5c2f0a91 {"at":1789560000123456,"boot":"0c6d…","durable":{…},"format":1,"happening":{…},"seq":7,"unit":"web"}
//! ```
//! The checksum is CRC-32 (IEEE 802.3) of the JSON's bytes, in eight hexadecimal digits. Each line
//! carries the whole durable state of its unit, so that a line which is damaged costs one step of
//! history and no other line its meaning.
//!
//! The first record to name a generation carries its settings too, so that one flush of one file
//! makes both durable, and a crash leaves both or neither:
//! ```text
//! 0f91c3d2 {"at":…,"unit":"web","settings":{"8":{"Service":{…},"format":1,…}}}
//! ```

use super::sealed;
use super::shape::{Misfit, Shape, fields, member, object, shape, shape_words, tagged, variant};
use crate::model::ledger::{Durable, Happening, Intent, Kept, Record, SwapKind, Want};
use crate::model::release::{Content, Release, Verdict};
use crate::model::status::SwapResult;
use crate::model::{Author, Generation, Label};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// The number of this format.
pub const FORMAT: u64 = 1;

/// No line is longer, in bytes; a longer one is damaged.
pub const LINE_MAX: usize = 256 * 1024;

/// How many characters of a text that a person gave are kept.
const TEXT_MAX: usize = 1024;

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Grows with every line, over every life of supd.
    pub seq: u64,
    /// Microseconds since 1970 by the wall clock: for people, never compared.
    pub at: u64,
    /// Which boot of the machine (/proc/sys/kernel/random/boot_id).
    pub boot: String,
    /// Who asked for it; `None`: nobody, supd did it by itself.
    pub by: Option<Author>,
    /// What happened, and the state since.
    pub record: Record,
    /// Of a swap that ended: what the history says beside.
    pub course: Option<Course>,
    /// The settings of generations that it is the first to name, as
    /// [`encode`](super::pinned::encode) makes them.
    pub settings: BTreeMap<Generation, Box<str>>,
}

/// How a swap went, as far as its end does not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Course {
    /// Who received the traffic before.
    pub from: Option<Generation>,
    /// That one's release.
    pub from_release: Option<Label>,
    /// Who was to.
    pub to: Option<Generation>,
    /// That one's release.
    pub to_release: Option<Label>,
    /// From the launch to ready, in milliseconds.
    pub ready_ms: Option<u64>,
    /// From the intent saved until new connections reached it, in microseconds.
    pub switch_us: Option<u64>,
}

/// A line that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// A line of a format that is yet to come: such a ledger is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Future {
    /// Which line, from 1.
    pub line: usize,
    /// Its format.
    pub format: u64,
}

impl fmt::Display for Future {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {} has format {}, written by a newer supd; this one knows format {FORMAT}",
            self.line, self.format
        )
    }
}

/// What a ledger says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// Its good lines in order, each with its place in the file (line end included).
    pub entries: Vec<(Entry, Range<usize>)>,
    /// Damaged lines with good ones after them: a fault of the disk, or of a person. They are
    /// passed over, not the end: what follows is newer, and to go by older lines would use the
    /// number of a generation twice.
    pub damaged: Vec<Damage>,
    /// How many bytes are whole; what follows is torn: a write that was cut off.
    pub whole: usize,
    /// How many bytes are torn.
    pub torn: usize,
}

impl Replay {
    /// Whether there is something, and no good line in it.
    #[must_use]
    pub fn is_rubbish(&self) -> bool {
        self.entries.is_empty() && self.torn > 0
    }

    /// The highest number given; 0: none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.entries.last().map_or(0, |(entry, _)| entry.seq)
    }
}

/// One line, its end included.
#[must_use]
pub fn encode(entry: &Entry) -> Vec<u8> {
    let mut value = entry.record.write();
    if let Some(map) = value.as_object_mut() {
        map.insert("format".into(), FORMAT.into());
        map.insert("seq".into(), entry.seq.into());
        map.insert("at".into(), entry.at.into());
        map.insert("boot".into(), entry.boot.write());
        if let Some(by) = &entry.by {
            map.insert("by".into(), by.clone().cut().write());
        }
        if let Some(course) = &entry.course {
            map.insert("course".into(), course.write());
        }
    }
    let mut json = value.to_string();
    carry(&mut json, &entry.settings);
    sealed::seal(&json).into_bytes()
}

/// Puts settings into the object that `json` ends with: they are JSON already.
fn carry(json: &mut String, settings: &BTreeMap<Generation, Box<str>>) {
    if settings.is_empty() || json.pop() != Some('}') {
        return;
    }
    json.push_str(",\"settings\":");
    for (index, (generation, text)) in settings.iter().enumerate() {
        let before = if index == 0 { '{' } else { ',' };
        json.push_str(&format!("{before}\"{generation}\":{text}"));
    }
    json.push_str("}}");
}

/// All lines.
///
/// # Errors
/// [`Future`]: a line with a right checksum has a format that this supd does not know.
pub fn decode(bytes: &[u8]) -> Result<Replay, Future> {
    let mut replay = Replay::default();
    let mut pending: Vec<Damage> = Vec::new();
    let mut start = 0;
    for (at, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let number = at + 1;
        let place = start..start + line.len();
        start = place.end;
        match entry(line, replay.last_seq()) {
            Ok(entry) => {
                replay.damaged.append(&mut pending);
                replay.whole = place.end;
                replay.entries.push((entry, place));
            }
            Err(Fault::Damaged(why)) => pending.push(Damage { line: number, why }),
            Err(Fault::Future(format)) => return Err(Future { line: number, format }),
        }
    }
    // What is damaged at the very end was being written when the power went.
    replay.torn = bytes.len() - replay.whole;
    Ok(replay)
}

enum Fault {
    Damaged(String),
    Future(u64),
}

fn entry(line: &[u8], last_seq: u64) -> Result<Entry, Fault> {
    let damaged = |why: &str| Fault::Damaged(why.into());
    if line.len() > LINE_MAX {
        return Err(damaged("it is too long"));
    }
    let json = sealed::open(line).map_err(damaged)?;
    let mut value: Value = serde_json::from_slice(json).map_err(|e| Fault::Damaged(e.to_string()))?;
    let misfit = |misfit: Misfit| Fault::Damaged(misfit.to_string());
    let carried = value.as_object_mut().and_then(|map| map.remove("settings"));
    let map = object(&value).map_err(misfit)?;
    match member::<u64>(map, "format").map_err(misfit)? {
        FORMAT => {}
        format => return Err(Fault::Future(format)),
    }
    let entry = Entry {
        seq: member(map, "seq").map_err(misfit)?,
        at: member(map, "at").map_err(misfit)?,
        boot: member(map, "boot").map_err(misfit)?,
        by: member(map, "by").map_err(misfit)?,
        record: Record::read(&value).map_err(misfit)?,
        course: member(map, "course").map_err(misfit)?,
        settings: carried.map_or(Ok(BTreeMap::new()), |value| settings(&value)).map_err(misfit)?,
    };
    if entry.seq <= last_seq {
        return Err(Fault::Damaged(format!("its number {} was there before", entry.seq)));
    }
    Ok(entry)
}

/// The settings that a line carries. What they say is looked at when they are needed.
fn settings(value: &Value) -> Result<BTreeMap<Generation, Box<str>>, Misfit> {
    let one = |(number, settings): (&String, &Value)| {
        let number = number.parse().map_err(|_| Misfit::new("a number of a generation"))?;
        Ok((Generation(number), settings.to_string().into()))
    };
    object(value)?.iter().map(one).collect()
}

/// An intent as the text of a file in the runtime folder.
#[must_use]
pub fn encode_intent(intent: &Intent) -> String {
    intent.write().to_string()
}

/// An intent from such a text; `None`: it is none.
#[must_use]
pub fn decode_intent(text: &[u8]) -> Option<Intent> {
    Intent::read(&serde_json::from_slice(text).ok()?).ok()
}

impl Author {
    /// The texts of people at a length that a line can bear.
    fn cut(self) -> Self {
        let cut = |text: String| text.chars().take(TEXT_MAX).collect::<String>();
        Self {
            uid: self.uid,
            login_uid: self.login_uid,
            verb: cut(self.verb),
            reason: self.reason.map(cut),
            request_id: self.request_id.map(cut),
        }
    }
}

shape!(Course {
    from: "from",
    from_release: "from_release",
    to: "to",
    to_release: "to_release",
    ready_ms: "ready_ms",
    switch_us: "switch_us",
});
shape!(Author {
    uid: "uid",
    login_uid: "login_uid",
    verb: "verb",
    reason: "reason",
    request_id: "request_id"
});
shape!(Record { unit: "unit", durable: "durable", happening: "happening" });
shape!(Durable {
    want: "want",
    generation_last: "generation_last",
    swap_last: "swap_last",
    swap: "swap",
    unseen: "unseen",
    active: "active",
    candidate: "candidate",
    previous: "previous",
    retained: "retained",
    forward: "forward",
    releases: "releases",
});
shape!(Release { label: "label", content: "content", verdict: "verdict" });
shape!(Content { digest: "digest", files: "files", bytes: "bytes", at: "at" });
shape_words!(Verdict { New = "new", Good = "good", Bad = "bad" });
shape!(Kept { generation: "generation", release: "release", pinned: "pinned" });
shape!(Intent { swap_id: "swap_id", from: "from", to: "to", kind: "kind" });
shape_words!(Want { Up = "up", OnDemand = "on-demand", Down = "down" });
shape_words!(SwapKind { Start = "start", Swap = "swap", Restart = "restart", Rollback = "rollback" });
shape_words!(SwapResult {
    Running = "running",
    Committed = "committed",
    Failed = "failed",
    Aborted = "aborted",
    RolledBack = "rolled-back",
    Stopped = "stopped",
});

impl Shape for Happening {
    fn write(&self) -> Value {
        match self {
            Self::Began { swap_id, kind, from, to } => tagged(
                "began",
                fields([
                    ("swap_id", swap_id.write()),
                    ("kind", kind.write()),
                    ("from", from.write()),
                    ("to", to.write()),
                ]),
            ),
            Self::Switched { swap_id, to } => {
                tagged("switched", fields([("swap_id", swap_id.write()), ("to", to.write())]))
            }
            Self::Ended { swap_id, result, cause } => tagged(
                "ended",
                fields([
                    ("swap_id", swap_id.write()),
                    ("result", result.write()),
                    ("cause", cause.as_ref().map(|c| c.chars().take(TEXT_MAX).collect::<String>()).write()),
                ]),
            ),
            Self::Installed { label } => tagged("installed", fields([("label", label.write())])),
            Self::Undeployed { label } => tagged("undeployed", fields([("label", label.write())])),
            Self::Waiting => "waiting".into(),
            Self::Stopped => "stopped".into(),
            Self::Pinned { generation, pinned } => {
                tagged("pinned", fields([("generation", generation.write()), ("pinned", pinned.write())]))
            }
        }
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        match value.as_str() {
            Some("waiting") => return Ok(Self::Waiting),
            Some("stopped") => return Ok(Self::Stopped),
            Some(_) => return Err(Misfit::new("waiting or stopped")),
            None => {}
        }
        let (word, inner) = variant(value)?;
        let map = object(inner)?;
        match word {
            "began" => Ok(Self::Began {
                swap_id: member(map, "swap_id")?,
                kind: member(map, "kind")?,
                from: member(map, "from")?,
                to: member(map, "to")?,
            }),
            "switched" => Ok(Self::Switched { swap_id: member(map, "swap_id")?, to: member(map, "to")? }),
            "ended" => Ok(Self::Ended {
                swap_id: member(map, "swap_id")?,
                result: member(map, "result")?,
                cause: member(map, "cause")?,
            }),
            "installed" => Ok(Self::Installed { label: member(map, "label")? }),
            "undeployed" => Ok(Self::Undeployed { label: member(map, "label")? }),
            "pinned" => {
                Ok(Self::Pinned { generation: member(map, "generation")?, pinned: member(map, "pinned")? })
            }
            _ => Err(Misfit::new("a happening of this format")),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::codec::pinned;
    use crate::model::{SwapId, UnitName};

    pub(crate) fn sample(seq: u64, unit: &str, happening: Happening) -> Entry {
        let kept =
            |generation| Some(Kept { generation: Generation(generation), release: None, pinned: true });
        Entry {
            seq,
            at: 1_789_560_000_123_456,
            boot: "0c6d".into(),
            by: Some(Author {
                uid: 1000,
                login_uid: Some(1001),
                verb: "swap".into(),
                reason: Some("\"new\" prices\n".into()),
                request_id: None,
            }),
            record: Record {
                unit: UnitName::new(unit).unwrap(),
                durable: Durable {
                    generation_last: seq,
                    active: kept(seq),
                    retained: kept(1),
                    ..Durable::fresh()
                },
                happening,
            },
            course: None,
            settings: BTreeMap::new(),
        }
    }

    /// The same, the first to name its generation.
    pub(crate) fn carrying(seq: u64, unit: &str, happening: Happening) -> Entry {
        let text = pinned::encode(&pinned::tests::sample(unit)).into();
        Entry { settings: BTreeMap::from([(Generation(seq), text)]), ..sample(seq, unit, happening) }
    }

    fn every_happening() -> Vec<Happening> {
        let (swap_id, to) = (SwapId(4), Generation(9));
        vec![
            Happening::Began { swap_id, kind: SwapKind::Rollback, from: None, to },
            Happening::Switched { swap_id, to },
            Happening::Ended { swap_id, result: SwapResult::RolledBack, cause: Some("exit status 3".into()) },
            Happening::Ended { swap_id, result: SwapResult::Committed, cause: None },
            Happening::Installed { label: Label::new("1.5.0").unwrap() },
            Happening::Undeployed { label: Label::new("1.4.0").unwrap() },
            Happening::Waiting,
            Happening::Stopped,
            Happening::Pinned { generation: to, pinned: false },
        ]
    }

    /// Every second line carries settings.
    fn file(count: u64) -> Vec<u8> {
        let entry = |seq: u64| match seq % 2 {
            0 => sample(seq, "web", Happening::Waiting),
            _ => carrying(seq, "web", Happening::Waiting),
        };
        (1..=count).flat_map(|seq| encode(&entry(seq))).collect()
    }

    #[test]
    fn every_record_comes_back() {
        let course = Course { from: Some(Generation(8)), ready_ms: Some(140), ..Course::default() };
        let mut entries: Vec<Entry> =
            (1..).zip(every_happening()).map(|(seq, happening)| carrying(seq, "web", happening)).collect();
        entries[2].course = Some(course);
        let bytes: Vec<u8> = entries.iter().flat_map(encode).collect();
        let replay = decode(&bytes).expect("format 1");
        assert_eq!(replay.entries.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>(), entries);
        assert_eq!((replay.whole, replay.torn, replay.damaged.len()), (bytes.len(), 0, 0));
        for (entry, place) in &replay.entries {
            assert_eq!(encode(entry), bytes[place.clone()]);
            let settings = pinned::decode(entry.settings[&Generation(entry.seq)].as_bytes());
            assert_eq!(settings, Ok(pinned::tests::sample("web")));
        }
    }

    #[test]
    fn settings_of_several_generations_are_told_apart() {
        let mut entry = carrying(7, "web", Happening::Stopped);
        entry.settings.insert(Generation(3), "{\"x\":[1,\"}\"]}".into());
        let replay = decode(&encode(&entry)).expect("format 1");
        assert_eq!(replay.entries[0].0, entry);
        let json = r#"{"format":1,"settings":{"x":{}}}"#;
        let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
        assert_eq!(decode(line.as_bytes()).expect("format 1").entries.len(), 0);
    }

    #[test]
    fn a_record_from_before_swaps_had_a_kind_is_read() {
        let text = String::from_utf8(encode(&sample(1, "web", Happening::Waiting))).unwrap();
        let json = text[9..].trim_end().replace(r#""swap":null,"#, "");
        assert!(json.len() < text.len() - 10, "the member has another name now: {json}");
        let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
        let replay = decode(line.as_bytes()).expect("format 1");
        assert_eq!(replay.entries[0].0, sample(1, "web", Happening::Waiting));
    }

    #[test]
    fn a_tail_cut_anywhere_costs_the_last_record_and_no_other() {
        let (two, three) = (file(2), file(3));
        for cut in two.len()..three.len() {
            let replay = decode(&three[..cut]).expect("format 1");
            assert_eq!(replay.last_seq(), 2);
            assert_eq!((replay.whole, replay.torn), (two.len(), cut - two.len()));
            assert!(replay.damaged.is_empty());
        }
        let mut zeros = two.clone();
        zeros.extend([0; 4096]);
        let replay = decode(&zeros).expect("format 1");
        assert_eq!((replay.last_seq(), replay.whole, replay.torn), (2, two.len(), 4096));
    }

    #[test]
    fn a_flipped_bit_costs_its_own_line_only() {
        let good = file(3);
        let place = decode(&good).expect("format 1").entries[1].1.clone();
        // But for its end: without it, it swallows the next one.
        for at in place.start..place.end - 1 {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let replay = decode(&bad).expect("a flipped bit makes no future");
                assert_eq!(replay.last_seq(), 3, "byte {at} bit {bit}");
                assert!(replay.entries.len() <= 2 && !replay.damaged.is_empty(), "byte {at} bit {bit}");
                assert_eq!(replay.torn, 0);
            }
        }
    }

    #[test]
    fn a_record_of_the_future_is_refused_and_never_guessed_at() {
        let json = r#"{"format":2,"seq":9}"#;
        let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
        let mut bytes = file(2);
        bytes.extend(line.as_bytes());
        assert_eq!(decode(&bytes), Err(Future { line: 3, format: 2 }));
    }

    #[test]
    fn a_repeated_number_is_damage() {
        let mut bytes = file(2);
        bytes.extend(encode(&sample(2, "api", Happening::Stopped)));
        bytes.extend(encode(&sample(3, "web", Happening::Stopped)));
        let replay = decode(&bytes).expect("format 1");
        assert_eq!(replay.entries.len(), 3);
        assert_eq!(replay.damaged[0].to_string(), "line 3: its number 2 was there before");
    }

    #[test]
    fn garbage_is_torn_from_the_first_byte() {
        for garbage in [&b""[..], b"\n\n\n", b"hello", &[0xff; 300], b"00000000 {}\n"] {
            let replay = decode(garbage).expect("no future");
            assert_eq!((replay.entries.len(), replay.whole, replay.torn), (0, 0, garbage.len()));
        }
    }

    #[test]
    fn a_novel_for_a_reason_is_cut() {
        let mut entry = sample(1, "web", Happening::Stopped);
        entry.by.as_mut().unwrap().reason = Some("é".repeat(1 << 20));
        assert!(encode(&entry).len() < LINE_MAX);
    }

    #[test]
    fn intents_come_back() {
        let intent = Intent { swap_id: SwapId(3), from: None, to: Generation(8), kind: SwapKind::Swap };
        assert_eq!(decode_intent(encode_intent(&intent).as_bytes()), Some(intent));
        assert_eq!(decode_intent(b"{}"), None);
    }
}
