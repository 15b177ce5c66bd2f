//! Sizes in bytes as systemd writes them: `64M`, `1.5G`, `infinity`; the base is 1024.

use super::fault::quoted;
use std::fmt;

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SizeFault {
    /// Nothing there.
    Empty,
    /// Where a number should be, there is this.
    NoNumber(String),
    /// A suffix other than B, K, M, G, T, P, E.
    NoUnit(String),
    /// Past 64 bits.
    TooLarge,
}

impl fmt::Display for SizeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty text is no size"),
            Self::NoNumber(text) => write!(f, "{} is no number", quoted(text)),
            Self::NoUnit(text) => write!(f, "{} is no unit of size", quoted(text)),
            Self::TooLarge => f.write_str("that size does not fit 64 bits"),
        }
    }
}

impl std::error::Error for SizeFault {}

/// The suffixes, largest first, with the power of two that each stands for.
const UNITS: [(&str, u32); 6] = [("E", 60), ("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10)];

/// Reads a size in bytes; `None` is "infinity".
///
/// # Errors
/// [`SizeFault`], which says which part is wrong.
pub fn parse(text: &str) -> Result<Option<u64>, SizeFault> {
    let text = text.trim();
    if text == "infinity" {
        return Ok(None);
    }
    if text.is_empty() {
        return Err(SizeFault::Empty);
    }
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let unit = unit.trim_start();
    let shift = match unit {
        "" | "B" => 0,
        _ => {
            let known = UNITS.iter().find(|(name, _)| *name == unit);
            known.map(|(_, shift)| *shift).ok_or_else(|| {
                if number.is_empty() {
                    SizeFault::NoNumber(text.to_owned())
                } else {
                    SizeFault::NoUnit(unit.to_owned())
                }
            })?
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return Err(SizeFault::NoNumber(text.to_owned()));
    }
    let whole: u64 = whole.parse().map_err(|_| SizeFault::TooLarge)?;
    let bytes = whole.checked_mul(1 << shift).ok_or(SizeFault::TooLarge)?;
    bytes.checked_add(fraction_of(fraction, shift)).map(Some).ok_or(SizeFault::TooLarge)
}

/// The digits behind the point, in parts of 2^`shift`, rounded down.
fn fraction_of(digits: &str, shift: u32) -> u64 {
    // Eighteen digits are more than 2^60 needs, and 10^18 * 2^60 fits 128 bits.
    let digits = &digits[..digits.len().min(18)];
    let (mut parts, mut scale) = (0u128, 1u128);
    for digit in digits.bytes() {
        parts = parts * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from((parts << shift) / scale).unwrap_or(u64::MAX)
}

/// Writes a size with the largest suffix that leaves a whole number. [`parse`] reads it back.
#[must_use]
pub fn format(bytes: u64) -> String {
    for (name, shift) in UNITS {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{name}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::{SizeFault, format, parse};

    #[test]
    fn sizes_as_systemd_writes_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("64M", 64 << 20),
            ("1.5G", 3 << 29),
            ("4 K", 4096),
            ("7B", 7),
            ("0.1K", 102),
            ("15E", 15 << 60),
        ] {
            assert_eq!(parse(text), Ok(Some(bytes)), "{text}");
        }
        assert_eq!(parse("infinity"), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse(" "), Err(SizeFault::Empty));
        assert_eq!(parse("M"), Err(SizeFault::NoNumber("M".into())));
        assert_eq!(parse("64MB"), Err(SizeFault::NoUnit("MB".into())));
        assert_eq!(parse("64k"), Err(SizeFault::NoUnit("k".into())));
        assert_eq!(parse("-1"), Err(SizeFault::NoNumber("-1".into())));
        assert_eq!(parse("1.2.3K"), Err(SizeFault::NoNumber("1.2.3K".into())));
        assert_eq!(parse(".5K"), Err(SizeFault::NoNumber(".5K".into())));
        assert_eq!(parse("16E"), Err(SizeFault::TooLarge));
        assert_eq!(parse("15.9999999999999999999999E").map(|size| size.is_some()), Ok(true));
        assert_eq!(parse("99999999999999999999"), Err(SizeFault::TooLarge));
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(format(16 << 20), "16M");
        assert_eq!(format(1025), "1025");
        let mut state = 1u64;
        for _ in 0..2_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bytes = (state >> (state % 60)) << (state % 40);
            assert_eq!(parse(&format(bytes)), Ok(Some(bytes)));
        }
    }
}
