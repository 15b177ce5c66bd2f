//! The four versions of the demo's server, all of them built into supctl.

use std::fmt;
use std::str::FromStr;

/// One version of the demo's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Version {
    /// 1.0 works.
    Old,
    /// 2.0 works.
    New,
    /// 2.1 dies before it is ready.
    Broken,
    /// 2.2 becomes ready and serves, and gives up later.
    Faulty,
}

impl Version {
    /// Oldest first.
    pub(super) const ALL: [Self; 4] = [Self::Old, Self::New, Self::Broken, Self::Faulty];

    /// What the server calls itself.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Old => "1.0",
            Self::New => "2.0",
            Self::Broken => "2.1",
            Self::Faulty => "2.2",
        }
    }

    /// Its place in [`Self::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// There is no such version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoVersion;

impl fmt::Display for NoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the demo's versions are 1.0, 2.0, 2.1 and 2.2")
    }
}

impl std::error::Error for NoVersion {}

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        Self::ALL.into_iter().find(|version| version.word() == text).ok_or(NoVersion)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn a_version_is_found_by_its_word_and_its_place() {
        for (place, version) in Version::ALL.into_iter().enumerate() {
            assert_eq!(version.word().parse(), Ok(version));
            assert_eq!(version.index(), place);
        }
        assert!("3.0".parse::<Version>().is_err());
    }
}
