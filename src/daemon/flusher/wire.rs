//! What supd and its flusher say to each other: frames of a length and JSON.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::ops::Range;

/// No frame is longer, in bytes. Pinned settings are the longest thing.
pub(super) const FRAME_MAX: usize = 20 * 1024 * 1024;

/// How many bytes say the length of a frame.
pub(super) const HEAD: usize = 4;

/// One piece of work: it is done whole, or its answer says why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Work<'a> {
    pub(super) id: u64,
    /// Files to be in place before the record is.
    pub(super) files: Vec<Put<'a>>,
    pub(super) line: Option<Line<'a>>,
    /// For the history, as JSON. With a record it counts once the record does.
    #[serde(default)]
    pub(super) told: Option<Line<'a>>,
}

/// A file below the state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put<'a> {
    /// Relative to the state folder; made of names and numbers only.
    pub path: Cow<'a, str>,
    /// All of it.
    pub text: Text<'a>,
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Text<'a> {
    /// This. It is synced before the record is: a record must not name what a crash of the machine
    /// then takes away.
    Own(Cow<'a, str>),
    /// These bytes of the record's own line: as that is durable, the file need not be.
    Carried(Range<usize>),
}

/// A line of the ledger, its end included; or what the history's says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line<'a> {
    pub(super) seq: u64,
    pub(super) text: Cow<'a, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) id: u64,
    /// Why it is not done.
    pub(super) fault: Option<String>,
    /// Why the history lacks it.
    #[serde(default)]
    pub(super) untold: Option<String>,
}

/// A value as a frame.
pub(super) fn frame(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0; HEAD];
    serde_json::to_writer(&mut bytes, value).expect("plain structs of text and numbers");
    let length = u32::try_from(bytes.len() - HEAD).unwrap_or(u32::MAX);
    bytes[..HEAD].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// What the first bytes of a stream are.
pub(super) enum Taken<T> {
    /// The beginning of a frame.
    Part,
    /// A frame; it is taken out of the stream.
    Whole(T),
    /// No frame: the two ends do not understand each other.
    Garbled,
}

/// Takes the first frame out of a stream.
pub(super) fn take<T: DeserializeOwned>(stream: &mut Vec<u8>) -> Taken<T> {
    let Some(head) = stream.first_chunk::<HEAD>() else { return Taken::Part };
    let end = HEAD + u32::from_le_bytes(*head) as usize;
    if end > FRAME_MAX {
        return Taken::Garbled;
    }
    let Some(body) = stream.get(HEAD..end) else { return Taken::Part };
    match serde_json::from_slice(body) {
        Ok(value) => {
            stream.drain(..end);
            Taken::Whole(value)
        }
        Err(_) => Taken::Garbled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_apart_again_wherever_the_stream_was_cut() {
        let work = |id| Work {
            id,
            files: vec![Put { path: "a/b".into(), text: Text::Own("é\n".into()) }],
            line: Some(Line { seq: 9, text: "x\n".into() }),
            told: None,
        };
        let bytes = [frame(&work(1)), frame(&work(2))].concat();
        for cut in 0..bytes.len() {
            let mut stream = bytes[..cut].to_vec();
            let mut taken = Vec::new();
            while let Taken::Whole(work) = take::<Work<'_>>(&mut stream) {
                taken.push(work);
            }
            stream.extend(&bytes[cut..]);
            while let Taken::Whole(work) = take::<Work<'_>>(&mut stream) {
                taken.push(work);
            }
            assert_eq!(taken, [work(1), work(2)]);
            assert!(stream.is_empty());
        }
    }

    #[test]
    fn an_absurd_length_is_garbled() {
        assert!(matches!(take::<Answer>(&mut vec![0xff; 8]), Taken::Garbled));
        assert!(matches!(take::<Answer>(&mut vec![2, 0, 0, 0, b'{', b'}']), Taken::Garbled));
    }
}
