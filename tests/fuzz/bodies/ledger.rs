//! The ledger: its lines, and the file that is opened, mended and appended to. A line that begins with
//! `+` gets the checksum of what follows, which nobody hits upon; any other stands as it is.
//!
//! A record comes back as it was written. Whatever is cut off or flipped, no record comes that was not
//! there, and of what stands before the damage none is missing. Opening mends once and for all, and
//! what is appended then stays.

use super::dice::Dice;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use supd::codec::ledger::{Entry, Future, Replay, decode, decode_intent, encode, encode_intent};
use supd::codec::pinned;
use supd::model::UnitName;
use supd::model::ledger::{Durable, Happening, Record};
use supd::store::ledger::{Ledger, Unusable};

/// How many times a file is damaged each way.
const TIMES: usize = 6;

/// # Panics
/// One of the rules above does not hold.
#[must_use]
pub fn check(data: &[u8]) -> bool {
    intent(data);
    let bytes = sealed(data);
    let told = decode(&bytes);
    if let Ok(replay) = &told {
        adds_up(replay, &bytes);
        replay.entries.iter().for_each(|(entry, _)| comes_back(entry));
    }
    damage(&bytes, told.as_ref(), &mut Dice::of(data));
    opens(&bytes, told.as_ref());
    told.is_ok_and(|replay| !replay.entries.is_empty())
}

pub(super) fn sealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        match line {
            [b'+', json @ .., b'\n'] => {
                bytes.extend_from_slice(format!("{:08x} ", crc32fast::hash(json)).as_bytes());
                bytes.extend_from_slice(json);
                bytes.push(b'\n');
            }
            line => bytes.extend_from_slice(line),
        }
    }
    bytes
}

fn intent(data: &[u8]) {
    if let Some(intent) = decode_intent(data) {
        assert_eq!(decode_intent(encode_intent(&intent).as_bytes()), Some(intent));
    }
}

fn adds_up(replay: &Replay, bytes: &[u8]) {
    assert_eq!(replay.whole + replay.torn, bytes.len());
    assert_eq!(replay.whole, replay.entries.last().map_or(0, |(_, place)| place.end));
    let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines(&bytes[..replay.whole]), replay.entries.len() + replay.damaged.len());
    let (mut seq, mut end) = (0, 0);
    for (entry, place) in &replay.entries {
        assert!(entry.seq > seq && place.start >= end, "{} after {seq}", entry.seq);
        assert!(lines(&bytes[place.clone()]) == 1 && bytes[place.end - 1] == b'\n');
        (seq, end) = (entry.seq, place.end);
    }
    assert_eq!(replay.last_seq(), seq);
    assert!(replay.damaged.windows(2).all(|two| two[0].line < two[1].line));
    for damage in &replay.damaged {
        let told = damage.to_string();
        assert!(told.len() <= 400 && !told.contains(char::is_control), "{told:?}");
    }
}

fn comes_back(entry: &Entry) {
    let line = encode(entry);
    let replay = decode(&line).expect("its own format");
    let [(again, place)] = &replay.entries[..] else { panic!("{:?}", String::from_utf8_lossy(&line)) };
    assert_eq!(*place, 0..line.len());
    // What a person gave is cut when it is written, so the second time nothing is.
    let same = |one: &Entry, other: &Entry| {
        // serde_json reads a fraction to the last digit but one, and settings have none.
        let settings = |entry: &Entry| entry.settings.keys().copied().collect::<Vec<_>>();
        assert_eq!(settings(one), settings(other));
        let bare = |entry: &Entry| Entry { settings: [].into(), ..entry.clone() };
        assert_eq!(encode(&bare(one)), encode(&bare(other)));
    };
    same(entry, again);
    assert_eq!((entry.seq, entry.at, &entry.boot), (again.seq, again.at, &again.boot));
    assert_eq!((&entry.record.unit, &entry.record.durable), (&again.record.unit, &again.record.durable));
    for text in entry.settings.values() {
        if let Ok(settings) = pinned::decode(text.as_bytes()) {
            assert_eq!(pinned::decode(pinned::encode(&settings).as_bytes()), Ok(settings));
        }
    }
}

fn damage(bytes: &[u8], told: Result<&Replay, &Future>, dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    let written: BTreeSet<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for _ in 0..TIMES {
        let cut = dice.below(bytes.len());
        let Ok(less) = decode(&bytes[..cut]) else { continue };
        if let Ok(whole) = told {
            let count = whole.entries.iter().filter(|(_, place)| place.end <= cut).count();
            assert_eq!(less.entries, whole.entries[..count], "cut at {cut}");
        }
    }
    for _ in 0..TIMES {
        let (at, bit) = (dice.below(bytes.len()), dice.below(8));
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << bit;
        let Ok(less) = decode(&flipped) else {
            assert!(told.is_err(), "byte {at}, bit {bit}: a flipped bit makes no future");
            continue;
        };
        for (_, place) in &less.entries {
            assert!(written.contains(&flipped[place.clone()]), "byte {at}, bit {bit}");
        }
        let Ok(whole) = told else { continue };
        let before = |replay: &Replay| {
            replay
                .entries
                .iter()
                .filter(|(_, place)| place.end <= at)
                .map(|(entry, _)| entry.seq)
                .collect::<Vec<_>>()
        };
        assert_eq!(before(&less), before(whole), "byte {at}, bit {bit}");
    }
}

fn opens(bytes: &[u8], told: Result<&Replay, &Future>) {
    let state = tempfile::tempdir().expect("a folder");
    let place = state.path().join("ledger");
    fs::write(&place, bytes).expect("a file");
    let Ok(whole) = told else {
        let refused = Ledger::open(state.path()).err();
        assert!(matches!(refused, Some(Unusable::Future { .. })), "{refused:?}");
        assert_eq!(fs::read(&place).expect("a file"), bytes);
        return;
    };
    let (ledger, replay) = Ledger::open(state.path()).expect("a ledger");
    assert_eq!((&replay, ledger.last_seq()), (whole, whole.last_seq()));
    drop(ledger);
    let damaged = state.path().join("ledger.damaged");
    assert_eq!(damaged.exists(), !whole.damaged.is_empty() || whole.is_rubbish());
    assert!(!damaged.exists() || fs::read(&damaged).expect("a copy") == bytes);
    let mended = fs::read(&place).expect("a file");
    let records = |replay: &Replay| replay.entries.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>();
    for _ in 0..2 {
        let (_, again) = Ledger::open(state.path()).expect("a ledger");
        assert_eq!((again.torn, again.damaged.len()), (0, 0));
        assert_eq!(records(&again), records(whole));
        assert_eq!(fs::read(&place).expect("a file"), mended);
    }
    appends(state.path(), &records(whole));
}

fn appends(state: &Path, before: &[Entry]) {
    let (mut ledger, _) = Ledger::open(state).expect("a ledger");
    let last = ledger.last_seq();
    let Some(next) = last.checked_add(1) else { return };
    let unit = UnitName::new("web").expect("a name");
    let record = Record { unit, durable: Durable::fresh(), happening: Happening::Stopped };
    let entry =
        Entry { seq: next, at: 1, boot: "b".into(), by: None, record, course: None, settings: [].into() };
    let line = encode(&entry);
    ledger.append(&[(last, b"twice\n"), (next, &line)]).expect("room");
    let (_, replay) = Ledger::open(state).expect("a ledger");
    assert_eq!((replay.torn, replay.damaged.len(), replay.entries.len()), (0, 0, before.len() + 1));
    assert_eq!(replay.entries.last().map(|(entry, _)| entry), Some(&entry));
}
