//! Names and numbers. A number is never used twice, so an event of the past cannot be mistaken
//! for one of the present.

use std::fmt;
use std::sync::Arc;

/// Why a text is no name: says the rule, not only that it was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidName;

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name is 1 to 64 of A-Z a-z 0-9 _ . - and begins with a letter or a digit")
    }
}

impl std::error::Error for InvalidName {}

/// Whether `text` is `[A-Za-z0-9][A-Za-z0-9_.-]{0,63}`, so that it may be a file name as it is.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.len() <= 64
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

macro_rules! name {
    ($(#[$doc:meta])* $Name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name(Arc<str>);

        impl $Name {
            /// Checks `text` against the rule for names.
            ///
            /// # Errors
            /// [`InvalidName`], which says the rule.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(InvalidName) }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// The name of a unit: its file's name without `.unit`.
    UnitName
);
name!(
    /// The name of a listener within its unit; what LISTEN_FDNAMES says.
    ListenerName
);

/// The longest label, in bytes.
pub const LABEL_MAX: usize = 128;

/// Why a text is no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidLabel;

impl fmt::Display for InvalidLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a label is 1 to {LABEL_MAX} of A-Z a-z 0-9 _ . + ~ @ - and begins with a letter or a digit"
        )
    }
}

impl std::error::Error for InvalidLabel {}

/// The name of a release within its unit: a version, or a commit. It names a folder, and stands in
/// tables, variables and command lines as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Box<str>);

impl Label {
    /// Checks `text` against the rule for labels.
    ///
    /// # Errors
    /// [`InvalidLabel`], which says the rule.
    pub fn new(text: &str) -> Result<Self, InvalidLabel> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.+~@-".contains(&b);
        let begins = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        let good = begins && text.len() <= LABEL_MAX && text.bytes().all(fits);
        if good { Ok(Self(text.into())) } else { Err(InvalidLabel) }
    }

    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $Name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name(pub u64);

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// The n-th launch in a unit, from 1; never used twice, not even after a restart of supd.
    Generation
);
number!(
    /// One process of a generation; a relaunch after a crash gets a new one. Unique in one life of
    /// supd, over all units.
    WorkerId
);
number!(
    /// A command that supd runs beside the workers: a hook or a check. Unique in one life of supd.
    JobId
);
number!(
    /// A record on its way into the ledger. Unique in one life of supd.
    RecordId
);
number!(
    /// A connection to the control socket, or rather one call on it. Unique in one life of supd.
    ClientId
);
number!(
    /// One swap, rollback or restart of a unit; never used twice within the unit.
    SwapId
);

#[cfg(test)]
mod tests {
    use super::{Label, UnitName};

    #[test]
    fn a_name_can_be_a_file_name() {
        for good in ["web", "0", "a.b-c_d", &"x".repeat(64)] {
            assert!(UnitName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".web", "-web", "a/b", "web@1", "a b", "é", "a\n", &"x".repeat(65)] {
            assert!(UnitName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_label_can_be_a_folder_and_a_word_of_a_command_line() {
        for good in ["1", "1.5.0", "v2.0~rc1+build.7", "2026-11-26@b1", "3f2a", &"x".repeat(128)] {
            assert!(Label::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        let bad = ["", ".", "..", ".new", "-f", "a/b", "a b", "a\n", "a\0", "a:b", "a=b", "$(a)", "é", &long];
        for bad in bad {
            assert!(Label::new(bad).is_err(), "{bad:?}");
        }
    }
}
