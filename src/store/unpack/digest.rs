//! What a release is told by: its content, whatever it came in.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// SHA-256 of the content of a tree in a canonical form: `supd release 1` and, for each member in
/// the order of the bytes of its path, one of
///
/// - `d` path: a folder, also one that the archive only implies,
/// - `f` path, length in decimal digits, SHA-256 in hexadecimal ones: a file,
/// - `x` as `f`: a file that its owner may execute,
/// - `l` path, target: a symbolic link,
///
/// each of these ended by a zero byte, which none of them can contain. No times and no owners: a
/// fresh checkout of the same content has the same digest. Nor is it told whether two equal files
/// are one with two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex(&self.0))
    }
}

/// A member of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    File(Content),
    Link(Box<str>),
}

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) executable: bool,
    pub(super) length: u64,
    pub(super) sum: [u8; 32],
}

/// That of a tree, by its members.
pub(super) fn of(members: &BTreeMap<Box<str>, Entry>) -> Digest {
    let mut whole = Sha256::new();
    let mut field = |text: &str| {
        whole.update(text);
        whole.update([0]);
    };
    field("supd release 1");
    for (path, entry) in members {
        match entry {
            Entry::Folder => {
                field("d");
                field(path);
            }
            Entry::File(content) => {
                field(if content.executable { "x" } else { "f" });
                field(path);
                field(&content.length.to_string());
                field(&hex(&content.sum));
            }
            Entry::Link(target) => {
                field("l");
                field(path);
                field(target);
            }
        }
    }
    Digest(whole.finalize().into())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
