//! The records of an extended header: `LENGTH KEY=VALUE\n`, one after the other.
//!
//! By their lengths: the tar crate splits at line ends, and a value (an attribute's) may hold one,
//! behind which it would read records that are none.

/// The next record and what is left.
pub(super) type Record<'a> = (&'a str, &'a [u8]);

/// Each record of the header.
///
/// # Errors
/// It is not made of records.
pub(super) fn records(mut bytes: &[u8]) -> Result<Vec<Record<'_>>, String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (record, rest) = first(bytes).ok_or("an extended header that is not made of records")?;
        found.push(record);
        bytes = rest;
    }
    Ok(found)
}

fn first(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let digits = bytes.iter().position(|byte| *byte == b' ')?;
    let length = number(&bytes[..digits])?;
    let record = bytes.get(..usize::try_from(length).ok()?)?;
    let pair = record.get(digits + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let key = std::str::from_utf8(&pair[..equals]).ok()?;
    Some(((key, &pair[equals + 1..]), &bytes[record.len()..]))
}

/// A whole number in digits alone: no sign, no spaces.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// A time in seconds, with or without a fraction, perhaps before 1970.
pub(super) fn time(bytes: &[u8]) -> Option<(i64, i64)> {
    let (negative, bytes) = match bytes.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let (whole, fraction) = match bytes.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&bytes[..dot], &bytes[dot + 1..]),
        None => (bytes, &b""[..]),
    };
    let seconds = i64::try_from(number(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::{records, time};

    #[test]
    fn records_are_told_by_their_lengths() {
        let bytes = b"9 path=a\n28 SCHILY.xattr.x=1\n9 size=\n12 comment=\n";
        let found = records(bytes).unwrap();
        assert_eq!(found, [("path", &b"a"[..]), ("SCHILY.xattr.x", b"1\n9 size="), ("comment", b"")]);
        for bad in [
            &b"x"[..],
            b"9 path=a",
            b"11 path=a\n",
            b"8 path=a\n",
            b"+9 path=a\n",
            b"9 patha\n",
            b" path=a\n",
            b"0 \n",
            b"1 ",
            b"99999999999999999999 a=b\n",
            b"\0\0",
        ] {
            assert!(records(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_have_fractions() {
        assert_eq!(time(b"1700000000"), Some((1_700_000_000, 0)));
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"1.0000000019"), Some((1, 1)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        for bad in [&b""[..], b".5", b"1.x", b"1e5", b"--1", b"99999999999999999999"] {
            assert_eq!(time(bad), None);
        }
    }
}
