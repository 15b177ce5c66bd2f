//! One file of the history, line by line.

use super::Last;
use crate::codec::history::{Head, Line, open};

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// How many entries.
    pub(super) entries: usize,
    /// Its first line's word.
    pub(super) after: Option<u64>,
    /// Its last entry.
    pub(super) last: Option<Last>,
    /// How many bytes are whole; what follows is torn.
    pub(super) whole: usize,
    /// Damaged lines with good ones after them.
    pub(super) damaged: Vec<String>,
}

/// Looks through a file.
pub(super) fn scan(bytes: &[u8]) -> Scan {
    let mut found = Scan::default();
    let mut pending = Vec::new();
    let (mut start, mut last): (usize, Option<Head<'_>>) = (0, None);
    for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        start += line.len();
        match open(line) {
            Ok(Line::After(after)) => found.after = Some(found.after.unwrap_or(0).max(after)),
            Ok(Line::Entry(head, _)) if last.as_ref().is_none_or(|last| head.seq > last.seq) => {
                found.entries += 1;
                last = Some(head);
            }
            Ok(Line::Entry(head, _)) => {
                pending.push(format!("line {}: its number {} was there before", at + 1, head.seq));
                continue;
            }
            Err(why) => {
                pending.push(format!("line {}: {why}", at + 1));
                continue;
            }
        }
        found.whole = start;
        found.damaged.append(&mut pending);
    }
    found.last =
        last.map(|head| Last { seq: head.seq, boot: head.boot.into_owned(), what: head.what.into_owned() });
    found
}

/// The number that a line seems to have, to pass it over without a closer look: right where the line is,
/// and otherwise it is no entry anyway.
pub(super) fn number(line: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"seq\":";
    let head = &line[..line.len().min(64)];
    let at = head.windows(KEY.len()).position(|window| window == KEY)?;
    let digits = line[at + KEY.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits
        .take(20)
        .try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Gives every entry above `last`, in order; a number that was there before is passed over.
pub(super) fn walk<'a>(
    bytes: &'a [u8],
    last: &mut u64,
    mut each: impl FnMut(&Head<'a>, &'a str) -> bool,
) -> bool {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if number(line).is_some_and(|seq| seq <= *last) {
            continue;
        }
        if let Ok(Line::Entry(head, json)) = open(line) {
            if head.seq > *last {
                *last = head.seq;
                if !each(&head, json) {
                    return false;
                }
            }
        }
    }
    true
}

/// After which number a file begins, by its first line; without one, by its first entry.
pub(super) fn begins_after(bytes: &[u8]) -> Option<u64> {
    bytes.split_inclusive(|byte| *byte == b'\n').find_map(|line| match open(line) {
        Ok(Line::After(after)) => Some(after),
        Ok(Line::Entry(head, _)) => Some(head.seq.saturating_sub(1)),
        Err(_) => None,
    })
}
