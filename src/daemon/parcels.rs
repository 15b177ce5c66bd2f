//! What the keeper is given of a unit, in as many pieces as its messages want, and put together again.
//!
//! One piece takes the place of the one before at once. Where there are more they are given beside those before,
//! which go after them: whoever dies in between leaves one of the two whole.

use crate::model::UnitName;
use crate::os::keeper::{BYTES_MAX, DESCRIPTORS_MAX, Lot};
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};

/// So much of the words goes into one piece: its key and its number have room beside them.
const WORDS_MAX: usize = BYTES_MAX / 2;

/// One piece.
#[derive(Debug)]
pub(super) struct Parcel<'a> {
    /// Under which it is kept.
    pub key: String,
    /// A line with its number, and its part of the words.
    pub bytes: Vec<u8>,
    /// Its part of the descriptors.
    pub descriptors: &'a [BorrowedFd<'a>],
}

/// All pieces. `serial` is higher than that of whatever was given before.
pub(super) fn parcels<'a>(
    unit: &UnitName,
    serial: u64,
    words: &[u8],
    descriptors: &'a [BorrowedFd<'a>],
) -> Vec<Parcel<'a>> {
    let count = words.len().div_ceil(WORDS_MAX).max(descriptors.len().div_ceil(DESCRIPTORS_MAX)).max(1);
    let mut words = words.chunks(WORDS_MAX);
    let mut descriptors = descriptors.chunks(DESCRIPTORS_MAX);
    let each = (0..count).map(|place| Parcel {
        key: if count == 1 { unit.to_string() } else { format!("{unit}/{serial}/{place}/{count}") },
        bytes: [format!("{serial}\n").as_bytes(), words.next().unwrap_or_default()].concat(),
        descriptors: descriptors.next().unwrap_or_default(),
    });
    each.collect()
}

/// What a keeper had of a unit.
#[derive(Debug, Default)]
pub struct Whole {
    /// The words.
    pub words: Vec<u8>,
    /// The descriptors, by their place; `None`: nobody has kept that one.
    pub descriptors: Vec<Option<OwnedFd>>,
}

/// What a keeper had.
#[derive(Debug, Default)]
pub struct Lots {
    whole: BTreeMap<UnitName, Whole>,
    keys: BTreeMap<UnitName, Vec<String>>,
    strange: Vec<String>,
    serial: u64,
}

/// Pieces by their place, and how many there are to be.
type Pieces = (usize, BTreeMap<usize, Whole>);

impl Lots {
    /// Puts everything together. What is not whole is left out, and closed.
    #[must_use]
    pub fn of(all: BTreeMap<String, Lot>) -> Self {
        let mut lots = Self::default();
        let mut pieces: BTreeMap<UnitName, BTreeMap<u64, Pieces>> = BTreeMap::new();
        for (key, lot) in all {
            let Some((unit, serial, place, count, piece)) = piece(&key, lot) else {
                lots.strange.push(key);
                continue;
            };
            lots.keys.entry(unit.clone()).or_default().push(key);
            lots.serial = lots.serial.max(serial);
            let known = pieces.entry(unit).or_default().entry(serial).or_default();
            known.0 = count;
            known.1.insert(place, piece);
        }
        for (unit, by_serial) in pieces {
            let mut whole = by_serial.into_values().rev().filter(|(count, pieces)| pieces.len() == *count);
            if let Some((_, pieces)) = whole.next() {
                let mut all = Whole::default();
                for piece in pieces.into_values() {
                    all.words.extend(piece.words);
                    all.descriptors.extend(piece.descriptors);
                }
                lots.whole.insert(unit, all);
            }
        }
        lots
    }

    /// With these in the place of what there is of the same units.
    #[must_use]
    pub fn with(mut self, whole: BTreeMap<UnitName, Whole>) -> Self {
        self.whole.extend(whole);
        self
    }

    /// What there is of this unit.
    #[must_use]
    pub fn of_unit(&self, unit: &UnitName) -> Option<&Whole> {
        self.whole.get(unit)
    }

    /// With those units of another that are not among these.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (unit, whole) in other.whole {
            self.whole.entry(unit).or_insert(whole);
        }
        self
    }

    /// The highest number that was given out.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Every key under which there was no piece.
    #[must_use]
    pub fn strange(&self) -> &[String] {
        &self.strange
    }

    /// Every key, by unit.
    pub fn keys(&self) -> impl Iterator<Item = (UnitName, Vec<String>)> {
        self.keys.iter().map(|(unit, keys)| (unit.clone(), keys.clone()))
    }

    /// What is whole.
    pub fn into_whole(self) -> impl Iterator<Item = (UnitName, Whole)> {
        self.whole.into_iter()
    }
}

/// Whose it is, its number, its place among how many, and what it is.
fn piece(key: &str, lot: Lot) -> Option<(UnitName, u64, usize, usize, Whole)> {
    let end = lot.bytes.iter().position(|byte| *byte == b'\n')?;
    let serial: u64 = std::str::from_utf8(lot.bytes.get(..end)?).ok()?.parse().ok()?;
    let mut parts = key.split('/');
    let unit = UnitName::new(parts.next()?).ok()?;
    let rest: Vec<&str> = parts.collect();
    let (place, count) = match rest[..] {
        [] => (0, 1),
        [number, place, count] if number.parse() == Ok(serial) => (place.parse().ok()?, count.parse().ok()?),
        _ => return None,
    };
    let words = lot.bytes.get(end + 1..)?.to_vec();
    let descriptors = lot.descriptors.into_iter().map(Some).collect();
    Some((unit, serial, place, count, Whole { words, descriptors }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, AsRawFd};

    fn web() -> UnitName {
        UnitName::new("web").unwrap()
    }

    /// As a keeper has them.
    fn kept(parcels: &[Parcel<'_>]) -> BTreeMap<String, Lot> {
        let lot = |parcel: &Parcel<'_>| Lot {
            bytes: parcel.bytes.clone(),
            descriptors: parcel.descriptors.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect(),
        };
        parcels.iter().map(|parcel| (parcel.key.clone(), lot(parcel))).collect()
    }

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn much_is_put_together_again_in_its_order() {
        let words: Vec<u8> = (0..WORDS_MAX * 2 + 5).map(|n| (n % 251) as u8).collect();
        let files: Vec<OwnedFd> = (0..DESCRIPTORS_MAX + 3).map(|_| null()).collect();
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        for (words, files) in [(&words[..], &files[..]), (&words[..7], &files[..]), (b"", &files[..0])] {
            let parcels = parcels(&web(), 7, words, files);
            assert!(parcels.iter().all(|parcel| parcel.descriptors.len() <= DESCRIPTORS_MAX));
            let lots = Lots::of(kept(&parcels));
            assert_eq!(lots.serial(), 7);
            let (unit, whole) = lots.into_whole().next().unwrap();
            assert_eq!((unit, &whole.words[..], whole.descriptors.len()), (web(), words, files.len()));
            let numbers: Vec<i32> = whole.descriptors.iter().flatten().map(AsRawFd::as_raw_fd).collect();
            assert!(numbers.is_sorted(), "they came in another order: {numbers:?}");
        }
    }

    #[test]
    fn who_died_while_it_gave_leaves_what_was_whole_before() {
        let words = vec![b'x'; WORDS_MAX * 3];
        let (old, new) = (parcels(&web(), 1, b"old", &[]), parcels(&web(), 2, &words, &[]));
        assert_eq!((old.len(), new.len()), (1, 3));
        for given in 0..=new.len() {
            let mut all = kept(&old);
            all.extend(kept(&new[..given]));
            let lots = Lots::of(all);
            assert_eq!(lots.keys().next().unwrap().1.len(), 1 + given);
            let (_, whole) = lots.into_whole().next().unwrap();
            assert_eq!(whole.words.len(), if given == new.len() { words.len() } else { 3 }, "after {given}");
        }
    }

    #[test]
    fn what_is_no_piece_is_left_out() {
        let lot = |bytes: &[u8]| Lot { bytes: bytes.to_vec(), descriptors: vec![null()] };
        let all = [
            ("web", lot(b"no number")),
            ("we b", lot(b"1\nx")),
            ("web/2/0/2", lot(b"2\nhalf")),
            ("web/3/0/1", lot(b"4\nof another")),
            ("web/a", lot(b"5\nx")),
            ("", lot(b"")),
        ];
        let lots = Lots::of(all.into_iter().map(|(key, lot)| (key.to_owned(), lot)).collect());
        assert_eq!(lots.strange(), ["", "we b", "web", "web/3/0/1", "web/a"]);
        assert_eq!(lots.into_whole().count(), 0);
    }
}
