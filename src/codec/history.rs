//! The history's lines: a checksum, a space, one entry as JSON; and in front of a file a line that
//! says above which number it has everything.
//!
//! ```text
//! 2b1c0d11 {"format":1,"after":5000}
//! 5c2f0a91 {"format":1,"seq":5001,"at_us":1789560000123456,"boot":"0c6d…","what":"ended","unit":"web",…}
//! ```
//! The JSON is what `supctl events` prints.

use super::json::{ByView, FORMAT, HistoryEntry, SideView};
use super::ledger::Entry;
use super::sealed;
use super::shape::Shape;
use crate::model::ledger::{Durable, Happening};
use crate::model::{Author, Generation, SwapId};
use serde::Deserialize;
use std::borrow::Cow;

/// No line is longer, in bytes.
pub const LINE_MAX: usize = 16 * 1024;

/// How many characters of a text are kept.
const TEXT_MAX: usize = 512;

/// A line, as far as one must know it to pass it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// The first of a file: above this number it has everything.
    After(u64),
    /// An entry.
    Entry(Head<'a>, &'a str),
}

/// What entries are chosen by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Head<'a> {
    /// Its number.
    pub seq: u64,
    /// Microseconds since 1970.
    #[serde(default)]
    pub at_us: u64,
    /// Which boot of the machine.
    #[serde(default, borrow)]
    pub boot: Cow<'a, str>,
    /// What happened.
    #[serde(default, borrow)]
    pub what: Cow<'a, str>,
    /// To which unit.
    #[serde(default, borrow)]
    pub unit: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct After {
    after: u64,
}

/// The line of this JSON, its end included.
#[must_use]
pub fn seal(json: &str) -> String {
    sealed::seal(json)
}

/// The first line of a file.
#[must_use]
pub fn begin(after: u64) -> String {
    sealed::seal(&format!("{{\"format\":{FORMAT},\"after\":{after}}}"))
}

/// An entry as JSON.
///
/// # Panics
/// Never: it is plain values.
#[must_use]
pub fn encode(entry: &HistoryEntry) -> String {
    serde_json::to_string(entry).expect("plain values are JSON")
}

/// Reads one line, its end included.
///
/// # Errors
/// Why it is none.
pub fn open(line: &[u8]) -> Result<Line<'_>, String> {
    if line.len() > LINE_MAX {
        return Err("it is too long".into());
    }
    let json = std::str::from_utf8(sealed::open(line)?).map_err(|_| "it is no text")?;
    match serde_json::from_str::<Head<'_>>(json) {
        Ok(head) => Ok(Line::Entry(head, json)),
        Err(fault) => match serde_json::from_str::<After>(json) {
            Ok(After { after }) => Ok(Line::After(after)),
            Err(_) => Err(fault.to_string()),
        },
    }
}

/// A text at a length that a line can bear.
#[must_use]
pub fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Who asked, as everybody may know it.
#[must_use]
pub fn by(author: &Author) -> ByView {
    ByView {
        uid: author.uid,
        login_uid: author.login_uid,
        verb: cut(&author.verb),
        reason: author.reason.as_deref().map(cut),
    }
}

/// What a record of the ledger is to the history; `None`: nothing that anybody asks for.
#[must_use]
pub fn of_record(entry: &Entry) -> Option<HistoryEntry> {
    let record = &entry.record;
    let side = |generation: Option<Generation>| generation.map(|one| side(one, &record.durable));
    let told = HistoryEntry {
        format: FORMAT,
        seq: entry.seq,
        at_us: entry.at,
        boot: entry.boot.clone(),
        unit: Some(record.unit.to_string()),
        by: entry.by.as_ref().map(by),
        ..HistoryEntry::default()
    };
    let word = |what: &str| HistoryEntry { what: what.into(), ..told.clone() };
    let of_swap = |what, swap: SwapId| HistoryEntry { swap_id: Some(swap.0), ..word(what) };
    Some(match &record.happening {
        Happening::Began { swap_id, kind, from, to } => HistoryEntry {
            kind: kind.write().as_str().map(str::to_owned),
            from: side(*from),
            to: side(Some(*to)),
            ..of_swap("began", *swap_id)
        },
        Happening::Switched { swap_id, to } => {
            HistoryEntry { to: side(Some(*to)), ..of_swap("switched", *swap_id) }
        }
        Happening::Ended { swap_id, result, cause } => {
            let ended = HistoryEntry {
                result: Some(result.word().to_owned()),
                cause: cause.as_deref().map(cut),
                ..of_swap("ended", *swap_id)
            };
            run(ended, entry)
        }
        Happening::Waiting => word("waiting"),
        Happening::Stopped => word("stopped"),
        Happening::Installed { label } => {
            HistoryEntry { release: Some(label.to_string()), ..word("installed") }
        }
        Happening::Undeployed { label } => {
            HistoryEntry { release: Some(label.to_string()), ..word("undeployed") }
        }
        Happening::Pinned { .. } => return None,
    })
}

/// With the course of a swap.
fn run(ended: HistoryEntry, entry: &Entry) -> HistoryEntry {
    let Some(course) = &entry.course else { return ended };
    let side = |generation: Option<Generation>, release: &Option<crate::model::Label>| {
        let release = release.as_ref().map(ToString::to_string);
        generation.map(|generation| SideView { generation: generation.0, release })
    };
    HistoryEntry {
        from: side(course.from, &course.from_release),
        to: side(course.to, &course.to_release),
        ready_ms: course.ready_ms,
        switch_us: course.switch_us,
        ..ended
    }
}

/// A generation with the release that the durable state knows it by.
fn side(generation: Generation, durable: &Durable) -> SideView {
    let kept = durable.kept().find(|kept| kept.generation == generation);
    let release = kept.and_then(|kept| kept.release.as_ref()).map(ToString::to_string);
    SideView { generation: generation.0, release }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ledger::Course;
    use crate::codec::ledger::tests::sample;
    use crate::model::status::SwapResult;
    use crate::model::{Label, SwapKind};

    fn ended() -> Entry {
        let cause = Some("worker 0 ended: exit status 3".into());
        let happening = Happening::Ended { swap_id: SwapId(4), result: SwapResult::RolledBack, cause };
        let course = Course {
            from: Some(Generation(8)),
            from_release: Label::new("1.4.2").ok(),
            to: Some(Generation(9)),
            to_release: Label::new("1.5.0").ok(),
            ready_ms: Some(140),
            switch_us: Some(77),
        };
        Entry { course: Some(course), ..sample(9, "web", happening) }
    }

    #[test]
    fn an_entry_goes_there_and_back() {
        let told = of_record(&ended()).unwrap();
        let line = seal(&encode(&told));
        let Ok(Line::Entry(head, json)) = open(line.as_bytes()) else { panic!("{line}") };
        assert_eq!((head.seq, head.at_us, &*head.what), (9, 1_789_560_000_123_456, "ended"));
        assert_eq!((head.unit.as_deref(), &*head.boot), (Some("web"), "0c6d"));
        assert_eq!(serde_json::from_str::<HistoryEntry>(json).unwrap(), told);
        assert_eq!(told.from, Some(SideView { generation: 8, release: Some("1.4.2".into()) }));
        assert_eq!((told.ready_ms, told.switch_us), (Some(140), Some(77)));
        let by = told.by.unwrap();
        assert_eq!((by.uid, by.login_uid, by.verb.as_str()), (1000, Some(1001), "swap"));
        assert_eq!(open(begin(7).as_bytes()), Ok(Line::After(7)));
    }

    #[test]
    fn every_happening_has_a_word_but_the_copy_of_a_program() {
        let (swap_id, to) = (SwapId(4), Generation(9));
        for (happening, what) in [
            (Happening::Began { swap_id, kind: SwapKind::Rollback, from: None, to }, Some("began")),
            (Happening::Switched { swap_id, to }, Some("switched")),
            (Happening::Installed { label: Label::new("1").unwrap() }, Some("installed")),
            (Happening::Undeployed { label: Label::new("1").unwrap() }, Some("undeployed")),
            (Happening::Waiting, Some("waiting")),
            (Happening::Stopped, Some("stopped")),
            (Happening::Pinned { generation: to, pinned: true }, None),
        ] {
            let told = of_record(&sample(9, "web", happening.clone()));
            assert_eq!(told.map(|told| told.what).as_deref(), what, "{happening:?}");
        }
    }

    #[test]
    fn garbage_is_a_fault_and_a_later_shape_is_passed_on() {
        let later = seal(r#"{"format":2,"seq":3,"what":"danced","with":["whom"],"unit":null}"#);
        assert!(
            matches!(open(later.as_bytes()), Ok(Line::Entry(Head { seq: 3, .. }, json)) if json.contains("whom"))
        );
        let whole = seal(&encode(&of_record(&ended()).unwrap()));
        for end in 0..whole.len() {
            assert!(open(&whole.as_bytes()[..end]).is_err(), "{end}");
        }
        for bad in [seal("{}"), seal("7"), seal("[]"), seal("{\"seq\":-1}"), "\n".into()] {
            assert!(open(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(open(seal(&format!("{{\"seq\":1,\"x\":\"{}\"}}", "x".repeat(LINE_MAX))).as_bytes()).is_err());
    }

    #[test]
    fn the_longest_texts_fit_a_line() {
        let long = "\u{1}".repeat(4000);
        let mut entry = ended();
        entry.by.as_mut().unwrap().reason = Some(long.clone());
        entry.record.happening =
            Happening::Ended { swap_id: SwapId(4), result: SwapResult::Failed, cause: Some(long) };
        let line = seal(&encode(&of_record(&entry).unwrap()));
        assert!(open(line.as_bytes()).is_ok(), "{}", line.len());
    }
}
