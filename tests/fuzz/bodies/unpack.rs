//! Archives, unpacked in this process into a folder. One input is the bytes of an archive, the same
//! with the checksums of its headers put right, or, after a line `#tar`, a recipe of one (see
//! [`baked`]).
//!
//! Whatever it is: nothing beside the folder has changed, and in it are files, folders and links of
//! ours, within the bounds and without a right that is dangerous. What is refused is refused in one
//! short line. What is taken leads nowhere else, is what the answer says it is, and is the same again
//! when it comes in small pieces or is packed and unpacked once more.

use super::dice::Dice;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use supd::store::unpack::{Bounds, Unpacked, unpack_from};

/// Small enough that an input of a few hundred bytes reaches each of them.
const BOUNDS: Bounds = Bounds {
    bytes: 1 << 20,
    file_bytes: 256 << 10,
    members: 40,
    path_bytes: 300,
    depth: 6,
    names_bytes: 2048,
    header_bytes: 2048,
    window_bytes: 1 << 20,
    silence: Duration::from_secs(60),
};

const RECIPE: &[u8] = b"#tar\n";

/// # Panics
/// One of the rules above does not hold.
#[must_use]
pub fn check(data: &[u8]) -> bool {
    if let Some(recipe) = data.strip_prefix(RECIPE) {
        return holds(&baked(recipe));
    }
    let right = righted(data).is_some_and(|archive| holds(&archive));
    holds(data) | right
}

/// Each line is a member: kind, mode, name, target (`-`: none), content, with a space between them.
/// Content `@9000` is that many bytes; in a header of POSIX it is records, with `;` between them.
fn baked(recipe: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    for line in recipe.split(|byte| *byte == b'\n').take(64) {
        let mut fields = line.splitn(5, |byte| *byte == b' ');
        let mut field = || fields.next().unwrap_or_default();
        let (kind, mode, name, target, content) = (field(), field(), field(), field(), field());
        let Some(kind) = kind.first() else { continue };
        let content = match (kind, content) {
            (b'x' | b'g', records) => records.split(|byte| *byte == b';').flat_map(record).collect(),
            (b'L' | b'K', long) => [long, &[0]].concat(),
            (_, [b'@', digits @ ..]) => vec![b'x'; number(digits, 10).min(400_000) as usize],
            (_, content) => content.to_vec(),
        };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(number(mode, 8) as u32);
        header.set_size(content.len() as u64);
        header.set_mtime(1_700_000_000);
        let old = header.as_old_mut();
        let put = |place: &mut [u8], text: &[u8]| {
            let count = text.len().min(place.len());
            place[..count].copy_from_slice(&text[..count]);
        };
        put(&mut old.name, name);
        put(&mut old.linkname, if target == b"-" { b"" } else { target });
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(&content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// A record of an extended header, with its length in front.
fn record(pair: &[u8]) -> Vec<u8> {
    let rest = pair.len() + 2;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", pair, b"\n"].concat()
}

fn number(digits: &[u8], radix: u32) -> u64 {
    u64::from_str_radix(&String::from_utf8_lossy(digits), radix).unwrap_or_default()
}

/// An archive with the right sum in every header; none, if they were right or it is compressed.
fn righted(data: &[u8]) -> Option<Vec<u8>> {
    const COMPRESSED: [&[u8]; 3] = [b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"];
    if COMPRESSED.iter().any(|magic| data.starts_with(magic)) {
        return None;
    }
    let mut bytes = data.to_vec();
    let mut at = 0_usize;
    while let Some(block) = bytes.get_mut(at..at.saturating_add(512)) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let size = usize::try_from(header.entry_size().unwrap_or_default()).unwrap_or(usize::MAX);
        at = at.saturating_add(512).saturating_add(size.checked_next_multiple_of(512).unwrap_or(usize::MAX));
    }
    (bytes != data).then_some(bytes)
}

/// Whether it was taken.
fn holds(archive: &[u8]) -> bool {
    let place = Place::new();
    let answer = place.unpack(archive, &BOUNDS);
    let other = Place::new();
    let pieces = Pieces { rest: archive, dice: Dice::of(archive) };
    // Of two things that are wrong either may be seen first.
    assert_eq!(other.unpack(pieces, &BOUNDS).ok(), answer.clone().ok(), "in pieces");
    let found = place.look(answer.is_ok());
    // Of a file that was not wholly written, how much there is depends on the pieces.
    let other = other.look(answer.is_ok());
    assert!(answer.is_err() || other.digest() == found.digest(), "in pieces");
    match answer {
        Err(why) => {
            assert!(why.starts_with("cannot unpack the archive: ") && why.len() < 1000, "{why:?}");
            assert!(!why.contains(char::is_control), "{why:?}");
            false
        }
        Ok(unpacked) => {
            assert_eq!(unpacked.digest, found.digest());
            assert_eq!((unpacked.files, unpacked.bytes), (found.files, found.bytes));
            assert_eq!(Unpacked::parse(&unpacked.to_string()).as_ref(), Some(&unpacked));
            let again = Place::new();
            assert_eq!(
                again.unpack(&*place.packed(&found), &Bounds::default()),
                Ok(unpacked),
                "packed again"
            );
            true
        }
    }
}

/// A reader that gives little at a time.
struct Pieces<'a> {
    rest: &'a [u8],
    dice: Dice,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = 1 + self.dice.below(700);
        let count = most.min(buffer.len());
        self.rest.read(&mut buffer[..count])
    }
}

/// A folder to unpack into, and what is around it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("tree")).expect("a folder");
        fs::write(folder.path().join("outside"), "untouched").expect("a file");
        Self(folder)
    }

    fn unpack(&self, archive: impl Read, bounds: &Bounds) -> Result<Unpacked, String> {
        let tree = File::open(self.0.path().join("tree")).expect("the folder");
        unpack_from(archive, tree.as_fd(), bounds)
    }

    /// All that is there now; `whole`: the archive was taken.
    fn look(&self, whole: bool) -> Found {
        let mut around: Vec<_> = self
            .0
            .path()
            .read_dir()
            .expect("the folder")
            .map(|entry| entry.expect("a name").file_name())
            .collect();
        around.sort();
        assert_eq!(around, ["outside", "tree"]);
        let outside = self.0.path().join("outside");
        assert_eq!(fs::read(&outside).expect("the file"), b"untouched");
        let metadata = fs::metadata(&outside).expect("the file");
        assert_eq!((metadata.nlink(), metadata.mode() & 0o7000), (1, 0));
        let top = self.0.path().join("tree").canonicalize().expect("the folder");
        let mut found = Found { whole, ..Found::default() };
        found.folder(&top, &top, 0);
        found.bounds_hold();
        found
    }

    /// An archive of what was found, by its names to the last dot.
    fn packed(&self, found: &Found) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for name in found.members.keys() {
            let path = self.0.path().join("tree").join(name);
            let metadata = fs::symlink_metadata(&path).expect("a member");
            let mut header = tar::Header::new_ustar();
            header.set_mode(metadata.mode() & 0o7777);
            let (kind, target, content) = if metadata.is_dir() {
                (tar::EntryType::Directory, None, Vec::new())
            } else if metadata.is_symlink() {
                (tar::EntryType::Symlink, Some(fs::read_link(&path).expect("a link")), Vec::new())
            } else {
                (tar::EntryType::Regular, None, fs::read(&path).expect("a file"))
            };
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            header.set_cksum();
            let target = target.as_ref().map(|target| ("linkpath", target.as_os_str().as_encoded_bytes()));
            let records = [("path", name.as_bytes())].into_iter().chain(target);
            builder.append_pax_extensions(records).expect("room");
            builder.append(&header, &*content).expect("room");
        }
        builder.into_inner().expect("room")
    }
}

/// What is in a tree, by the kernel's word.
#[derive(Default)]
struct Found {
    whole: bool,
    /// As the digest has it, by path.
    members: BTreeMap<String, String>,
    files: u64,
    bytes: u64,
    /// Size, names that the kernel counts and names that were seen, by inode.
    inodes: BTreeMap<u64, (u64, u64, u64)>,
}

impl Found {
    fn folder(&mut self, top: &Path, folder: &Path, depth: usize) {
        let metadata = fs::symlink_metadata(folder).expect("a folder");
        assert!(metadata.mode() & 0o7022 == 0 && metadata.mode() & 0o700 == 0o700, "{:o}", metadata.mode());
        assert!(depth <= BOUNDS.depth);
        for entry in folder.read_dir().expect("a folder") {
            let path = entry.expect("a name").path();
            let name = path.strip_prefix(top).expect("beneath").to_str().expect("UTF-8").to_owned();
            let metadata = fs::symlink_metadata(&path).expect("a member");
            assert_eq!(metadata.uid(), nix::unistd::geteuid().as_raw());
            let member = if metadata.is_dir() {
                self.folder(top, &path, depth + 1);
                format!("d\0{name}\0")
            } else if metadata.is_symlink() {
                self.link(top, &path, &name)
            } else {
                self.file(&path, &name)
            };
            self.members.insert(name, member);
        }
    }

    fn link(&mut self, top: &Path, path: &Path, name: &str) -> String {
        let target = fs::read_link(path).expect("a link");
        assert!(target.is_relative(), "{target:?}");
        if let (true, Ok(end)) = (self.whole, path.canonicalize()) {
            assert!(end.starts_with(top), "{name} leads to {end:?}");
        }
        format!("l\0{name}\0{}\0", target.to_str().expect("UTF-8"))
    }

    fn file(&mut self, path: &Path, name: &str) -> String {
        let metadata = fs::symlink_metadata(path).expect("a file");
        assert!(metadata.is_file(), "{name} is neither a file, a folder nor a link");
        assert!(metadata.mode() & 0o7022 == 0 && metadata.mode() & 0o600 == 0o600, "{:o}", metadata.mode());
        let inode = self.inodes.entry(metadata.ino()).or_insert((metadata.len(), metadata.nlink(), 0));
        inode.2 += 1;
        self.files += 1;
        self.bytes += metadata.len();
        let kind = if metadata.mode() & 0o100 == 0 { 'f' } else { 'x' };
        let sum = hex(&Sha256::digest(fs::read(path).expect("a file")));
        format!("{kind}\0{name}\0{}\0{sum}\0", metadata.len())
    }

    fn bounds_hold(&self) {
        assert!(self.members.len() as u64 <= BOUNDS.members, "{} members", self.members.len());
        // Of a name that comes twice both count, so this is no more than what there may be.
        let names: usize = self.members.keys().map(String::len).sum();
        assert!(names as u64 <= BOUNDS.names_bytes + BOUNDS.path_bytes as u64, "{names} bytes of names");
        for (size, linked, seen) in self.inodes.values() {
            assert!(*size <= BOUNDS.file_bytes, "{size} bytes");
            assert_eq!(linked, seen, "a name outside of the tree");
        }
        let bytes: u64 = self.inodes.values().map(|(size, ..)| size).sum();
        assert!(bytes <= BOUNDS.bytes, "{bytes} bytes");
    }

    /// That of a release with this content.
    fn digest(&self) -> String {
        let members: String = self.members.values().map(String::as_str).collect();
        format!("sha256:{}", hex(&Sha256::digest(format!("supd release 1\0{members}"))))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
