//! Time spans as systemd.time(7) writes them: `5min 20s`, `1h`, `1.5s`, a bare number of seconds.

use super::fault::quoted;
use std::fmt;
use std::time::Duration;

/// Why a text is no time span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanFault {
    /// Nothing there.
    Empty,
    /// It begins with a minus sign.
    Negative,
    /// Where a number should be, there is this.
    NoNumber(String),
    /// A unit that systemd.time(7) does not know.
    NoUnit(String),
    /// Past what 64 bits of microseconds hold.
    TooLong,
}

impl fmt::Display for SpanFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty text is no time"),
            Self::Negative => f.write_str("a time cannot be negative"),
            Self::NoNumber(text) => write!(f, "{} is no number", quoted(text)),
            Self::NoUnit(text) => write!(f, "{} is no unit of time", quoted(text)),
            Self::TooLong => f.write_str("that time is longer than 584,000 years"),
        }
    }
}

impl std::error::Error for SpanFault {}

const MICROSECOND: u64 = 1;
const MILLISECOND: u64 = 1_000;
const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
/// 30.44 days, as systemd.time(7) counts a month.
const MONTH: u64 = 2_629_800 * SECOND;
/// 365.25 days.
const YEAR: u64 = 31_557_600 * SECOND;

/// Every unit of systemd.time(7) but nanoseconds, in microseconds.
const UNITS: [(&str, u64); 31] = [
    ("", SECOND),
    ("us", MICROSECOND),
    ("usec", MICROSECOND),
    ("µs", MICROSECOND),
    ("μs", MICROSECOND),
    ("ms", MILLISECOND),
    ("msec", MILLISECOND),
    ("s", SECOND),
    ("sec", SECOND),
    ("second", SECOND),
    ("seconds", SECOND),
    ("m", MINUTE),
    ("min", MINUTE),
    ("minute", MINUTE),
    ("minutes", MINUTE),
    ("h", HOUR),
    ("hr", HOUR),
    ("hour", HOUR),
    ("hours", HOUR),
    ("d", DAY),
    ("day", DAY),
    ("days", DAY),
    ("w", WEEK),
    ("week", WEEK),
    ("weeks", WEEK),
    ("M", MONTH),
    ("month", MONTH),
    ("months", MONTH),
    ("y", YEAR),
    ("year", YEAR),
    ("years", YEAR),
];

/// Reads a time span; `None` is "infinity".
///
/// # Errors
/// [`SpanFault`], which says which part is wrong.
pub fn parse(text: &str) -> Result<Option<Duration>, SpanFault> {
    let mut rest = text.trim();
    if rest == "infinity" {
        return Ok(None);
    }
    if rest.is_empty() {
        return Err(SpanFault::Empty);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (micros, after) = part(rest)?;
        total = total.checked_add(micros).ok_or(SpanFault::TooLong)?;
        rest = after.trim_start();
    }
    Ok(Some(Duration::from_micros(total)))
}

/// Reads one number with its unit; returns microseconds and what follows.
fn part(text: &str) -> Result<(u64, &str), SpanFault> {
    if text.starts_with('-') {
        return Err(SpanFault::Negative);
    }
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.ends_with('.') {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Err(SpanFault::NoNumber(text[..end].to_owned()));
    }
    let rest = rest.trim_start();
    let unit_end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    let factor = known.map(|(_, factor)| *factor).ok_or_else(|| SpanFault::NoUnit(unit.to_owned()))?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| SpanFault::TooLong)? };
    let micros = whole.checked_mul(factor).ok_or(SpanFault::TooLong)?;
    let micros = micros.checked_add(fraction_of(fraction, factor)).ok_or(SpanFault::TooLong)?;
    Ok((micros, rest))
}

/// The digits behind the point, in parts of `factor`; what is below a microsecond is dropped.
fn fraction_of(digits: &str, factor: u64) -> u64 {
    let mut scale = factor;
    let mut sum: u64 = 0;
    for digit in digits.bytes() {
        scale /= 10;
        sum += scale * u64::from(digit - b'0');
    }
    sum
}

/// Writes a time span as systemd does: the largest units first, none of them zero.
///
/// Days are the largest, since months and years are averages. [`parse`] reads it back to the
/// same microsecond.
#[must_use]
pub fn format(span: Duration) -> String {
    let mut micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    if micros == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, unit) in
        [("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND), ("ms", MILLISECOND), ("us", MICROSECOND)]
    {
        let count = micros / unit;
        micros %= unit;
        if count > 0 {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&format!("{count}{name}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{SpanFault, format, parse};
    use std::time::Duration;

    #[test]
    fn the_examples_of_systemd_time() {
        for (text, seconds) in [
            ("2 h", 7200),
            ("2hours", 7200),
            ("48hr", 172_800),
            ("1y 12month", 31_557_600 + 12 * 2_629_800),
            ("55s500ms", 55),
            ("300ms20s 5day", 5 * 86_400 + 20),
            ("5min 20s", 320),
            ("90", 90),
            (" 1.5h ", 5400),
            ("2months", 5_259_600),
            ("0", 0),
        ] {
            let span = parse(text).unwrap().unwrap();
            assert_eq!(span.as_secs(), seconds, "{text}");
        }
        assert_eq!(parse("55s500ms").unwrap().unwrap().subsec_millis(), 500);
        assert_eq!(parse("0.5").unwrap(), Some(Duration::from_millis(500)));
        assert_eq!(parse("3µs").unwrap(), Some(Duration::from_micros(3)));
        assert_eq!(parse("infinity").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse(""), Err(SpanFault::Empty));
        assert_eq!(parse("-5s"), Err(SpanFault::Negative));
        assert_eq!(parse("five"), Err(SpanFault::NoNumber("five".into())));
        assert_eq!(parse("5 bananas"), Err(SpanFault::NoUnit("bananas".into())));
        assert_eq!(parse("5S"), Err(SpanFault::NoUnit("S".into())));
        assert_eq!(parse("1.2.3s"), Err(SpanFault::NoNumber("1.2.3s".into())));
        assert_eq!(parse("5."), Err(SpanFault::NoNumber("5.".into())));
        assert_eq!(parse("."), Err(SpanFault::NoNumber(".".into())));
        assert_eq!(parse("1h:"), Err(SpanFault::NoNumber(":".into())));
        assert_eq!(parse("600000y"), Err(SpanFault::TooLong));
        assert_eq!(parse("99999999999999999999"), Err(SpanFault::TooLong));
        assert_eq!(parse("584000y 584000y"), Err(SpanFault::TooLong));
    }

    #[test]
    fn what_is_written_reads_back() {
        for (micros, text) in [
            (0, "0s"),
            (320_000_000, "5min 20s"),
            (100_000, "100ms"),
            (3_600_000_000, "1h"),
            (90_061_001_001, "1d 1h 1min 1s 1ms 1us"),
        ] {
            assert_eq!(format(Duration::from_micros(micros)), text);
        }
        let mut state = 1u64;
        for _ in 0..2_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let span = Duration::from_micros(state >> (state % 60));
            assert_eq!(parse(&format(span)), Ok(Some(span)));
        }
        assert_eq!(parse(&format(Duration::MAX)), Ok(Some(Duration::from_micros(u64::MAX))));
    }
}
