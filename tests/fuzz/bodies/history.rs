//! The history: its lines, and the file that is read page by page, opened, mended and appended to. A line
//! that begins with `+` gets its checksum, as in bodies/ledger.rs.
//!
//! A line is passed on as it was written, and none that was cut or flipped is. Whoever reads gets whole
//! lines, in the order of their numbers, each once, and none above the cursor is passed over. What opens
//! it says the same of it the second time, and what is appended then stays.

use super::dice::Dice;
use super::ledger::sealed;
use std::fs;
use std::path::Path;
use supd::codec::history::{Line, open, seal};
use supd::store::history::{History, Line as Appended, Page, Query, read};

/// How many times a line is damaged.
const TIMES: usize = 6;

/// # Panics
/// One of the rules above does not hold.
#[must_use]
pub fn check(data: &[u8]) -> bool {
    let bytes = sealed(data);
    let mut dice = Dice::of(data);
    let mut good = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        good += usize::from(is_entry(line));
        damage(line, &mut dice);
    }
    let state = tempfile::tempdir().expect("a folder");
    fs::write(state.path().join("history"), &bytes).expect("a file");
    let told = reads(state.path(), &bytes);
    opens(state.path(), &told);
    good > 0
}

fn is_entry(line: &[u8]) -> bool {
    match open(line) {
        Ok(Line::Entry(head, json)) => {
            assert_eq!(seal(json).as_bytes(), line);
            assert!(matches!(open(line), Ok(Line::Entry(again, _)) if again == head));
            true
        }
        Ok(Line::After(_)) => false,
        Err(why) => {
            assert!(why.len() <= 400, "{why:?}");
            false
        }
    }
}

fn damage(line: &[u8], dice: &mut Dice) {
    if open(line).is_err() {
        return;
    }
    for _ in 0..TIMES {
        assert!(open(&line[..dice.below(line.len())]).is_err(), "cut off");
        let (at, bit) = (dice.below(line.len()), dice.below(8));
        let mut flipped = line.to_vec();
        flipped[at] ^= 1 << bit;
        assert!(open(&flipped).is_err(), "byte {at}, bit {bit}");
    }
}

fn page(state: &Path, query: &Query) -> (Vec<String>, Page) {
    let page = read(state, query).expect("a file");
    (page.entries.iter().map(|entry| entry.get().to_owned()).collect(), page)
}

/// All of it at once, and in pages of two: the same, and every one stands in the file.
fn reads(state: &Path, bytes: &[u8]) -> Vec<String> {
    let all = Query { entries_max: usize::MAX, bytes_max: usize::MAX, ..Query::default() };
    let (whole, last) = page(state, &all);
    assert!(!last.more);
    let mut rest = bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| open(line).ok());
    for json in &whole {
        // What is around a value says nothing.
        let there = rest.any(|line| matches!(line, Line::Entry(_, known) if known.trim() == json));
        assert!(there, "{json} is not there, or out of order");
    }
    let (mut after, mut pages) = (0, Vec::new());
    loop {
        let (some, told) = page(state, &Query { after, entries_max: 2, ..all.clone() });
        assert!(some.len() <= 2 && (!told.more || told.cursor > after), "{after}: no progress");
        pages.extend(some);
        if !told.more {
            break;
        }
        after = told.cursor;
    }
    assert_eq!(pages, whole);
    whole
}

fn opens(state: &Path, told: &[String]) {
    let Ok((history, found)) = History::open(state, std::iter::empty()) else { return };
    let last = history.last_seq();
    drop(history);
    let (mut history, again) = History::open(state, std::iter::empty()).expect("what was mended");
    assert_eq!((again.torn, history.last_seq()), (0, last));
    assert_eq!(again.damaged.len(), found.damaged.len());
    let all = Query { entries_max: usize::MAX, bytes_max: usize::MAX, ..Query::default() };
    assert_eq!(page(state, &all).0, told);
    let Some(next) = last.checked_add(1) else { return };
    let json = format!("{{\"format\":1,\"seq\":{next},\"what\":\"stopped\"}}");
    let twice = Appended { seq: last, json: "{}", carried: false };
    history.append(&[twice, Appended { seq: next, json: &json, carried: false }]).expect("room");
    let (mut now, _) = page(state, &all);
    assert_eq!(now.pop(), Some(json));
    assert_eq!(now, told);
}
