//! Since when connections are known: the kernel does not say when one began, so whoever counts again
//! goes by what was there before.
//!
//! A count is made in a child, and supd has no use for its list: it stays in memory that goes from child
//! to child (memfd_create(2)), and costs supd's loop nothing.

use super::Tally;
use crate::os::{Error, clock};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// No more connections are remembered, the oldest first: 3 MiB.
const MOST: usize = 131_072;

/// What no count has seen for so long is forgotten.
const FORGET_AFTER: u64 = 60_000;

/// Three numbers: the cookie, since when, and when it was seen last, in milliseconds.
const ENTRY: usize = 24;

/// What one count leaves to the next.
#[derive(Debug)]
pub struct Ages(File);

impl Ages {
    /// Nothing is known yet.
    ///
    /// # Errors
    /// ENOSYS where the kernel lacks it, EMFILE, ENOMEM.
    pub fn new() -> Result<Self, Error> {
        let made = memfd_create("supd-ages", MFdFlags::MFD_CLOEXEC);
        made.map(|fd| Self(fd.into())).map_err(|errno| Error::new("make", "memory for ages", errno))
    }

    /// Adds to each tally how long at least its oldest connection has been open, and remembers all. A
    /// child that dies in the middle of it leaves less, and nothing that is wrong.
    pub(super) fn tell(&self, held: &[Option<Vec<u64>>], tallies: &mut [Tally]) -> std::io::Result<()> {
        let now = clock::now().0 / 1000;
        let mut known = self.read()?;
        for (held, tally) in held.iter().zip(tallies) {
            let held = held.iter().flatten();
            let since = |cookie: &u64| {
                let entry = known.entry(*cookie).or_insert((now, now));
                entry.1 = now;
                entry.0
            };
            let all: Vec<u64> = held.map(since).collect();
            let age = |since: &u64| Duration::from_millis(now.saturating_sub(*since));
            tally.oldest = all.iter().min().filter(|since| **since < now).map(age);
            tally.newest = all.iter().max().map(age);
        }
        known.retain(|_, (_, seen)| now.saturating_sub(*seen) < FORGET_AFTER);
        self.write(&known)
    }

    fn read(&self) -> std::io::Result<HashMap<u64, (u64, u64)>> {
        let length = usize::try_from(self.0.metadata()?.len()).unwrap_or(usize::MAX).min(MOST * ENTRY);
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, 0)?;
        let word = |entry: &[u8], at: usize| entry[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
        let entries = bytes.chunks_exact(ENTRY);
        Ok(entries.map(|entry| (word(entry, 0), (word(entry, 8), word(entry, 16)))).collect())
    }

    fn write(&self, known: &HashMap<u64, (u64, u64)>) -> std::io::Result<()> {
        let mut known: Vec<[u64; 3]> =
            known.iter().map(|(cookie, (since, seen))| [*since, *cookie, *seen]).collect();
        known.sort_unstable();
        known.truncate(MOST);
        let bytes: Vec<u8> = known
            .into_iter()
            .flat_map(|[since, cookie, seen]| [cookie, since, seen])
            .flat_map(u64::to_ne_bytes)
            .collect();
        self.0.set_len(0)?;
        self.0.write_all_at(&bytes, 0)
    }
}

impl AsFd for Ages {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
