//! Entries of the history for those who ask: a bounded page. It reads all that is kept, so it is for
//! a child of supd.

use super::scan::{begins_after, number, walk};
use super::{BEFORE, BYTES_MAX, NAME};
use crate::codec::history::{Head, Line, open};
use crate::os::Error;
use nix::errno::Errno;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only of this unit.
    pub unit: Option<String>,
    /// Only what is numbered above this.
    pub after: u64,
    /// Only what is numbered below this.
    pub before: Option<u64>,
    /// Only what happened then or later, in microseconds since 1970.
    pub since_us: u64,
    /// The newest of these rather than the oldest.
    pub newest: bool,
    /// No more entries than this.
    pub entries_max: usize,
    /// No more bytes than this; one entry at least.
    pub bytes_max: usize,
}

/// What there is.
#[derive(Debug, Default)]
pub struct Page {
    /// As they are in the file, oldest first.
    pub entries: Vec<Box<RawValue>>,
    /// All entries up to this number were looked at.
    pub cursor: u64,
    /// There are more than the page has.
    pub more: bool,
    /// The number of its first entry.
    pub first: Option<u64>,
    /// Of what is numbered up to this, only a part is kept, or nothing.
    pub forgotten: u64,
    /// How many of the entries are of that part.
    pub scattered: usize,
}

impl Query {
    fn takes(&self, head: &Head<'_>) -> bool {
        head.seq > self.after
            && self.before.is_none_or(|before| head.seq < before)
            && head.at_us >= self.since_us
            && (self.unit.is_none() || head.unit.as_deref() == self.unit.as_deref())
    }
}

/// Reads what is asked for.
///
/// # Errors
/// What the kernel answered.
pub fn read(state: &Path, query: &Query) -> Result<Page, Error> {
    let (before, now) = both(state)?;
    let oldest = if before.is_empty() { &now } else { &before };
    let forgotten = begins_after(oldest).unwrap_or(0);
    let mut page = Page { cursor: query.after, forgotten, ..Page::default() };
    let taken = if query.newest {
        newest(&[&now, &before], query, &mut page)
    } else {
        oldest_first(&[&before, &now], query, &mut page)
    };
    page.first = taken.front().map(|(seq, _)| *seq);
    page.scattered = taken.iter().filter(|(seq, _)| *seq <= forgotten).count();
    let raw = |(_, json): &(u64, &str)| RawValue::from_string((*json).to_owned()).ok();
    page.entries = taken.iter().filter_map(raw).collect();
    Ok(page)
}

/// Entries, with how much room they leave.
struct Taken<'q> {
    query: &'q Query,
    bytes: usize,
    count: usize,
}

impl Taken<'_> {
    /// Whether one more has room; the first always has.
    fn has_room(&mut self, json: &str) -> bool {
        self.bytes += json.len() + 1;
        self.count += 1;
        self.count == 1 || (self.count <= self.query.entries_max && self.bytes <= self.query.bytes_max)
    }
}

fn oldest_first<'a>(files: &[&'a [u8]], query: &Query, page: &mut Page) -> VecDeque<(u64, &'a str)> {
    let mut taken = VecDeque::new();
    let mut room = Taken { query, bytes: 0, count: 0 };
    let mut last = query.after;
    for file in files {
        let whole = walk(file, &mut last, |head, json| {
            if query.takes(head) {
                if !room.has_room(json) {
                    page.more = true;
                    return false;
                }
                taken.push_back((head.seq, json));
            }
            page.cursor = page.cursor.max(head.seq);
            true
        });
        if !whole {
            break;
        }
    }
    taken
}

/// From the end, so that who reads everything page by page does not look through everything each time.
fn newest<'a>(files: &[&'a [u8]], query: &Query, page: &mut Page) -> VecDeque<(u64, &'a str)> {
    let mut taken = VecDeque::new();
    let mut room = Taken { query, bytes: 0, count: 0 };
    let mut below = query.before.unwrap_or(u64::MAX);
    for line in files.iter().flat_map(|file| file.split_inclusive(|byte| *byte == b'\n').rev()) {
        if number(line).is_some_and(|seq| seq >= below) {
            continue;
        }
        let Ok(Line::Entry(head, json)) = open(line) else { continue };
        if head.seq >= below {
            continue;
        }
        below = head.seq;
        if query.takes(&head) {
            if !room.has_room(json) {
                page.more = true;
                break;
            }
            taken.push_front((head.seq, json));
        }
    }
    taken
}

/// Both files. The newer is opened first: if it is full just now, what it has is found in the older, too.
fn both(state: &Path) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let now = opened(&state.join(NAME))?;
    let before = opened(&state.join(BEFORE))?;
    let bytes = |file: Option<File>, name: &str| {
        let mut bytes = Vec::new();
        if let Some(file) = file {
            file.take(2 * BYTES_MAX)
                .read_to_end(&mut bytes)
                .map_err(|error| Error::from_io("read", state.join(name).display(), &error))?;
        }
        Ok(bytes)
    };
    Ok((bytes(before, BEFORE)?, bytes(now, NAME)?))
}

/// A file; `None`: there is none.
fn opened(path: &Path) -> Result<Option<File>, Error> {
    let told = |error: &io::Error| Error::from_io("read", path.display(), error);
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => {
            if !file.metadata().map_err(|error| told(&error))?.is_file() {
                return Err(Error::new("read as the history", path.display(), Errno::EINVAL));
            }
            Ok(Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(told(&error)),
    }
}
