//! The part of new connections that a generation receives.

use std::fmt;
use std::str::FromStr;

/// A part of the new connections, in ten-thousandths: a hundredth of a percent is the finest there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Share(u16);

impl Share {
    /// How many parts the whole has.
    pub const PARTS: u16 = 10_000;
    /// No new connection.
    pub const ZERO: Self = Self(0);
    /// All of them.
    pub const FULL: Self = Self(Self::PARTS);

    /// So many ten-thousandths; `None` for more than all of them.
    #[must_use]
    pub const fn of_parts(parts: u16) -> Option<Self> {
        if parts <= Self::PARTS { Some(Self(parts)) } else { None }
    }

    /// In ten-thousandths.
    #[must_use]
    pub const fn parts(self) -> u16 {
        self.0
    }

    /// In percent; a number of programs, `None` for what is no share or finer than there is.
    #[must_use]
    pub fn of_percent(percent: f64) -> Option<Self> {
        let parts = percent * 100.0;
        let whole = parts.round();
        let fits = (0.0..=f64::from(Self::PARTS)).contains(&whole) && (parts - whole).abs() < 1e-6;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was looked at")]
        fits.then_some(Self(whole as u16))
    }

    /// In percent, for programs.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// What is left for all others: the two are always the whole.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::PARTS - self.0)
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether it is everything.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.0 == Self::PARTS
    }
}

/// In percent, without the sign and without noughts that say nothing: `5`, `0.25`, `100`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0 / 100, self.0 % 100);
        match (hundredths / 10, hundredths % 10) {
            (0, 0) => write!(f, "{whole}"),
            (tenths, 0) => write!(f, "{whole}.{tenths}"),
            (tenths, last) => write!(f, "{whole}.{tenths}{last}"),
        }
    }
}

/// Why a text is no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareFault {
    /// Nothing there.
    Empty,
    /// It is no number.
    NoNumber,
    /// It begins with a minus sign.
    Negative,
    /// More than everything.
    TooMuch,
    /// Finer than a hundredth of a percent.
    TooFine,
}

impl fmt::Display for ShareFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty text is no share: write a percentage such as 5% or 0.25%",
            Self::NoNumber => "that is no percentage: write a number from 0 to 100, such as 5% or 0.25%",
            Self::Negative => "a share cannot be negative: write a number from 0 to 100",
            Self::TooMuch => "a share cannot be more than 100%",
            Self::TooFine => "a hundredth of a percent is the finest share: write at most two decimals",
        })
    }
}

impl std::error::Error for ShareFault {}

/// A percentage, with or without its sign: `5%`, `5`, `0.25 %`. Decimals after the second may be
/// noughts only: a share that is not what was asked for would be worse than an error.
impl FromStr for Share {
    type Err = ShareFault;

    fn from_str(text: &str) -> Result<Self, ShareFault> {
        let text = text.trim();
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        if text.is_empty() {
            return Err(ShareFault::Empty);
        }
        let (number, negative) = match number.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (number, false),
        };
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) {
            return Err(ShareFault::NoNumber);
        }
        if negative {
            return Err(ShareFault::Negative);
        }
        let whole = whole.trim_start_matches('0');
        let decimals = decimals.trim_end_matches('0');
        // Three digits are enough for all that is allowed, and cannot overflow.
        if whole.len() > 3 {
            return Err(ShareFault::TooMuch);
        }
        let digit = |at: usize| decimals.as_bytes().get(at).map_or(0, |digit| u16::from(digit - b'0'));
        let whole = whole.bytes().fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        if whole > 100 || (whole == 100 && !decimals.is_empty()) {
            return Err(ShareFault::TooMuch);
        }
        if decimals.len() > 2 {
            return Err(ShareFault::TooFine);
        }
        Ok(Self(whole * 100 + digit(0) * 10 + digit(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Share, ShareFault};

    #[test]
    fn every_share_is_read_back_as_it_is_written() {
        for parts in 0..=Share::PARTS {
            let share = Share::of_parts(parts).unwrap();
            assert_eq!(share.to_string().parse(), Ok(share));
            assert_eq!(format!("{share} %").parse(), Ok(share));
            assert_eq!(Share::of_percent(share.percent()), Some(share));
            assert_eq!(share.parts() + share.rest().parts(), Share::PARTS);
        }
        assert_eq!(Share::of_parts(Share::PARTS + 1), None);
        for wrong in [-0.01, 100.01, 0.001, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(Share::of_percent(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn percentages_are_read_as_people_write_them() {
        for (text, parts, shown) in [
            ("5%", 500, "5"),
            ("5", 500, "5"),
            ("0.25 %", 25, "0.25"),
            (" 12.5% ", 1250, "12.5"),
            ("0", 0, "0"),
            ("0.01%", 1, "0.01"),
            ("100%", 10_000, "100"),
            ("100.000", 10_000, "100"),
            ("007.10", 710, "7.1"),
            ("0.050", 5, "0.05"),
        ] {
            let share: Share = text.parse().unwrap();
            assert_eq!((share.parts(), share.to_string().as_str()), (parts, shown), "{text}");
        }
    }

    #[test]
    fn what_is_no_share_says_why() {
        for (text, fault) in [
            ("", ShareFault::Empty),
            ("  ", ShareFault::Empty),
            ("%", ShareFault::NoNumber),
            ("five", ShareFault::NoNumber),
            (".5", ShareFault::NoNumber),
            ("5.", ShareFault::NoNumber),
            ("5%%", ShareFault::NoNumber),
            ("+5", ShareFault::NoNumber),
            ("1e1", ShareFault::NoNumber),
            ("NaN", ShareFault::NoNumber),
            ("5,5", ShareFault::NoNumber),
            ("٥", ShareFault::NoNumber),
            ("-", ShareFault::NoNumber),
            ("-1", ShareFault::Negative),
            ("-0.5%", ShareFault::Negative),
            ("101", ShareFault::TooMuch),
            ("100.01", ShareFault::TooMuch),
            ("100.001", ShareFault::TooMuch),
            ("99999999999999999999", ShareFault::TooMuch),
            ("0.001%", ShareFault::TooFine),
            ("99.999", ShareFault::TooFine),
        ] {
            assert_eq!(text.parse::<Share>(), Err(fault), "{text:?}");
            assert!(!fault.to_string().is_empty());
        }
    }
}
