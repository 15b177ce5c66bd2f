//! A SHA-256 as people and files write it.

use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};

/// The sum of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum([u8; 32]);

impl Sum {
    /// That of what went into this.
    pub(super) fn of(digest: Sha256) -> Self {
        Self(digest.finalize().into())
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Reads 64 hex digits, with or without `sha256:` before them.
pub(super) fn parse(text: &str) -> Result<Sum, String> {
    let rule = || "write it as sha256sum does: 64 hex digits".to_owned();
    let digits = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
    if digits.len() != 64 {
        return Err(rule());
    }
    let mut sum = [0; 32];
    for (byte, pair) in sum.iter_mut().zip(digits.chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(rule()) };
        *byte = u8::try_from(16 * high + low).map_err(|_| rule())?;
    }
    Ok(Sum(sum))
}

/// A short name for some text that says nothing of it.
pub(super) fn name_of(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().take(16).fold(String::new(), |mut name, byte| {
        let _never_fails = write!(name, "{byte:02x}");
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_read_as_it_is_written() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(parse(empty).unwrap().to_string(), empty);
        assert_eq!(parse(&format!("sha256:{}", empty.to_uppercase())), parse(empty));
        assert_eq!(Sum::of(Sha256::new()), parse(empty).unwrap());
        for bad in ["", "abc", &empty[1..], &format!("{empty}0"), &empty.replace('e', "g"), &"é".repeat(32)]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(name_of("").len(), 32);
    }
}
