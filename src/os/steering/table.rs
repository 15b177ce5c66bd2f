//! What all listeners of a unit share: the split in one word, who probes, and how many were sent to each
//! slot.

use super::program::{CANDIDATE_AT, PROBE_KEY, PROBES, SHARE_AT, STICKY};
use super::{SLOTS, Slot, Split, hash};
use crate::model::PROBES_MAX;
use crate::os::Error;
use crate::os::bpf::{Map, MapKind, Words};
use nix::errno::Errno;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// For a candidate that there is none of: no slot has this number.
const NOBODY: Slot = Slot::MAX;

/// A page of words: the split, the salt, and the counts.
const WORDS: usize = 512;

/// Before the counts: the split and the salt.
const FIRST_COUNT: usize = 2;

/// A group's place among the counts. All that there is no place for share the last, which nobody reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place(usize);

impl Place {
    /// The last one.
    const LAST: usize = (WORDS - FIRST_COUNT) / SLOTS as usize - 1;

    pub(super) fn next(self) -> Self {
        Self((self.0 + 1).min(Self::LAST))
    }

    /// Where the count of its first slot is, in bytes.
    pub(super) fn offset(self) -> i16 {
        i16::try_from(self.word(0) * 8).expect("within a page")
    }

    /// For another supd.
    pub(super) fn number(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// That of another supd.
    pub(super) fn of(number: u32) -> Self {
        Self(usize::try_from(number).unwrap_or(Self::LAST).min(Self::LAST))
    }

    fn word(self, slot: Slot) -> usize {
        FIRST_COUNT + self.0 * usize::from(SLOTS) + usize::from(slot.min(SLOTS - 1))
    }
}

/// The words and the probes of one unit.
#[derive(Debug)]
pub(super) struct Table {
    words: Words<WORDS>,
    pub(super) probes: Map,
}

impl Table {
    pub(super) fn new() -> Result<Self, Error> {
        let entries = u32::try_from(PROBES_MAX).expect("a handful");
        Ok(Self { words: Words::new()?, probes: Map::new(MapKind::Hash, PROBE_KEY, 4, entries)? })
    }

    /// That of another supd. Whoever probed for it probes no longer.
    pub(super) fn of(words: OwnedFd, probes: OwnedFd) -> Result<Self, Error> {
        Ok(Self { words: Words::of(words)?, probes: Map::of(probes, PROBE_KEY, 4) })
    }

    pub(super) fn words(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }

    /// The salt first: with the word that follows the share of the candidate begins.
    pub(super) fn set(&self, split: &Split, probes: bool) {
        self.words.store(1, u64::from_ne_bytes(salt(split.salt)));
        self.words.store(0, word(split, probes));
    }

    /// How many the kernel has sent to this slot of a group so far, if it has a place to itself.
    pub(super) fn sent(&self, place: Place, slot: Slot) -> Option<u64> {
        (place.0 < Place::LAST).then(|| self.words.load(place.word(slot)))
    }

    pub(super) fn probe(&self, from: SocketAddr, slot: Slot) -> Result<(), Errno> {
        self.probes.put(&key(from), &u32::from(slot).to_ne_bytes())
    }

    pub(super) fn unprobe(&self, from: SocketAddr) -> Result<(), Errno> {
        self.probes.remove(&key(from))
    }
}

/// The program reads the first four bytes of the second word.
fn salt(salt: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&salt.to_ne_bytes());
    bytes
}

fn word(split: &Split, probes: bool) -> u64 {
    let (candidate, share) = split.candidate.map_or((NOBODY, 0), |(slot, share)| (slot, share.parts()));
    u64::from(split.active)
        | u64::from(candidate) << CANDIDATE_AT
        | u64::from(share) << SHARE_AT
        | if probes { PROBES } else { 0 }
        | if split.sticky { STICKY } else { 0 }
}

fn key(from: SocketAddr) -> [u8; PROBE_KEY] {
    let mut key = [0; PROBE_KEY];
    for (n, word) in hash::words(from.ip()).into_iter().enumerate() {
        key[4 * n..4 * n + 4].copy_from_slice(&word.to_be_bytes());
    }
    key[16..18].copy_from_slice(&from.port().to_be_bytes());
    key
}
