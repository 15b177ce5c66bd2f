//! Since when connections are known: the kernel does not say when one began, so whoever counts again
//! goes by what was there before.
//!
//! A count is made in a child, and supd has no use for its list: it stays in memory that goes from child
//! to child (memfd_create(2)), and costs supd's loop nothing.

use super::{Count, Group, Pass, Spot};
use crate::os::{Error, clock};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// No more connections are remembered, the oldest first: 3 MiB.
const MOST: usize = 131_072;

/// What no count has seen for so long is forgotten, in microseconds.
const FORGET_AFTER: u64 = 60_000_000;

/// Three numbers: the cookie, since when, and when it was seen last (microseconds) with what it was.
const ENTRY: usize = 24;

/// What a connection was seen as: one that waited for long and is accepted just now is new to who holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Somebody has it.
    Held = 0,
    /// It waits to be accepted.
    Waits = 1,
    /// Its handshake is half done.
    HalfOpen = 2,
}

/// Since when each has been what it is, and when it was seen so last.
type Known = HashMap<(u64, Kind), (u64, u64)>;

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

    /// Adds to each count how long at least its oldest connection has been open, and what there is at places that
    /// are looked at closer; and remembers all. A child that dies in the middle of it leaves less, and nothing that
    /// is wrong.
    pub(super) fn tell(&self, groups: &[Group], pass: &Pass, counts: &mut [Count]) -> std::io::Result<()> {
        let now = clock::now().0;
        let mut known = self.read()?;
        let mut since = |cookie: u64, kind: Kind| {
            let entry = known.entry((cookie, kind)).or_insert((now, now));
            entry.1 = now;
            entry.0
        };
        for ((group, held), count) in groups.iter().zip(&pass.held).zip(counts) {
            let held: Vec<(u64, usize)> =
                held.iter().flatten().map(|(cookie, place)| (since(*cookie, Kind::Held), *place)).collect();
            let oldest = held.iter().map(|(since, _)| *since).min().filter(|since| *since < now);
            count.tally.oldest = oldest.map(|since| Duration::from_micros(now - since));
            for (at, (place, until)) in group.places.iter().zip(&group.closer).enumerate() {
                let mut spot = Spot::default();
                for (since, _) in held.iter().filter(|(_, place)| *place == at) {
                    spot.add(Kind::Held, *since <= until.0);
                }
                for (cookie, kind) in pass.sockets.pending(place) {
                    spot.add(kind, since(cookie, kind) <= until.0);
                }
                count.spots.push(spot);
            }
        }
        known.retain(|_, (_, seen)| now.saturating_sub(*seen) < FORGET_AFTER);
        self.write(&known)
    }

    fn read(&self) -> std::io::Result<Known> {
        let length = usize::try_from(self.0.metadata()?.len()).unwrap_or(usize::MAX).min(MOST * ENTRY);
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, 0)?;
        let word = |entry: &[u8], at: usize| entry[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
        let entry = |entry: &[u8]| {
            let (cookie, since, last) = (word(entry, 0), word(entry, 8), word(entry, 16));
            let kind = match last & 3 {
                0 => Kind::Held,
                1 => Kind::Waits,
                _ => Kind::HalfOpen,
            };
            ((cookie, kind), (since, last >> 2))
        };
        Ok(bytes.chunks_exact(ENTRY).map(entry).collect())
    }

    fn write(&self, known: &Known) -> std::io::Result<()> {
        let mut known: Vec<[u64; 3]> = known
            .iter()
            .map(|((cookie, kind), (since, seen))| [*since, *cookie, *seen << 2 | *kind as u64])
            .collect();
        known.sort_unstable();
        known.truncate(MOST);
        let bytes: Vec<u8> = known
            .into_iter()
            .flat_map(|[since, cookie, last]| [cookie, since, last])
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
