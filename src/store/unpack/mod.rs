//! From an archive to a tree beneath a folder. What the archive says is a stranger's: it is read
//! within bounds, by a child that has given its rights away ([`crate::os::unprivileged`]), and
//! carried out so that nothing outside of the folder is touched.
//!
//! - **Taken:** tar, of POSIX and of GNU, plain or in gzip, xz or zstd, told by its first bytes.
//! - **Refused,** naming the member: what would leave the tree, whatever is no file, folder or
//!   link, an archive without its end or with something behind it. See `archive` and `name`.
//! - **Left out:** owners, extended attributes, setuid, setgid and sticky bits, write bits but the
//!   owner's, and the times of all but files.
//! - **Twice the same name:** the later file or link counts, as with tar itself; a name that is
//!   two kinds of thing is refused.

mod archive;
mod bounds;
mod decoder;
mod digest;
mod gzip;
mod name;
mod pax;
mod source;
#[cfg(test)]
pub(super) mod tests;
mod tree;
mod zstd;

pub use bounds::Bounds;
pub use digest::Digest;

use archive::Archive;
use digest::Entry;
use source::Source;
use std::fmt;
use std::io::Read;
use std::os::fd::BorrowedFd;
use tree::Tree;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Of the whole tree, as `sha256:HEX`.
    pub digest: String,
    /// How many files there are; a hard link counts as one.
    pub files: u64,
    /// Bytes in these files.
    pub bytes: u64,
}

/// Unpacks what a descriptor gives, from where it stands to its end, into an empty folder. May
/// take as long as whoever sends likes: for a child with a bound.
///
/// # Errors
/// Why not, in a sentence for whoever sent it. What was made so far is still there.
pub fn unpack(source: BorrowedFd<'_>, folder: BorrowedFd<'_>, bounds: &Bounds) -> Result<Unpacked, String> {
    let source =
        Source::new(source, bounds.silence).map_err(|why| format!("cannot unpack the archive: {why}"))?;
    unpack_from(source, folder, bounds)
}

/// The same from anything that can be read.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_from(source: impl Read, folder: BorrowedFd<'_>, bounds: &Bounds) -> Result<Unpacked, String> {
    carry_out(source, folder, bounds).map_err(|why| format!("cannot unpack the archive: {why}"))
}

/// Looks at the beginning alone: whether it is an archive that could be unpacked, and begins as one.
///
/// # Errors
/// As [`unpack`].
pub fn look(source: impl Read) -> Result<(), String> {
    let bounds = Bounds::default();
    let begins = Archive::open(source, &bounds).and_then(|mut archive| archive.next().map(drop));
    begins.map_err(|why| format!("cannot unpack the archive: {why}"))
}

fn carry_out(source: impl Read, folder: BorrowedFd<'_>, bounds: &Bounds) -> Result<Unpacked, String> {
    let mut archive = Archive::open(source, bounds)?;
    let mut tree = Tree::new(folder, bounds)?;
    while let Some(member) = archive.next()? {
        tree.add(&member, &mut archive)?;
    }
    let members = tree.finish()?;
    let contents = members.values().filter_map(|entry| match entry {
        Entry::File(content) => Some(content.length),
        Entry::Folder | Entry::Link(_) => None,
    });
    let (files, bytes) = contents.fold((0, 0), |(files, bytes), length| (files + 1, bytes + length));
    Ok(Unpacked { digest: digest::of(&members).to_string(), files, bytes })
}

impl Unpacked {
    /// From what the child answered.
    #[must_use]
    pub fn parse(answer: &str) -> Option<Self> {
        let mut words = answer.split(' ');
        let (digest, files, bytes) = (words.next()?, words.next()?, words.next()?);
        let is_digest = digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64);
        let done = words.next().is_none() && is_digest;
        Some(Self { digest: digest.to_owned(), files: files.parse().ok()?, bytes: bytes.parse().ok()? })
            .filter(|_| done)
    }
}

/// As the child answers.
impl fmt::Display for Unpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.digest, self.files, self.bytes)
    }
}
