//! Archives made by hand, so that they can be as wrong as one likes.

mod bounds;
mod forms;
mod hostile;
mod names;
mod random;

use super::{Bounds, Unpacked, unpack_from};
use crate::os::beneath;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bytes of a tar stream so far.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Pack(pub(in crate::store) Vec<u8>);

/// A header's fields that tests change.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Head<'a> {
    pub(in crate::store) kind: u8,
    pub(in crate::store) name: &'a [u8],
    pub(in crate::store) target: &'a [u8],
    pub(in crate::store) mode: u32,
    pub(in crate::store) size: u64,
}

impl Pack {
    /// A header as it is, and nothing behind it.
    pub(in crate::store) fn head(mut self, head: Head<'_>) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(head.kind));
        header.set_mode(head.mode);
        header.set_size(head.size);
        header.set_mtime(1_700_000_000);
        // Owners that exist nowhere: nobody may try to give a file to them.
        header.set_uid(123_456);
        header.set_gid(123_456);
        let fields = header.as_old_mut();
        fields.name[..head.name.len()].copy_from_slice(head.name);
        fields.linkname[..head.target.len()].copy_from_slice(head.target);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    /// A member with content.
    pub(in crate::store) fn member(
        self,
        kind: u8,
        name: &[u8],
        target: &[u8],
        mode: u32,
        bytes: &[u8],
    ) -> Self {
        self.head(Head { kind, name, target, mode, size: bytes.len() as u64 }).body(bytes)
    }

    /// Bytes, and what fills their last block.
    pub(in crate::store) fn body(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(in crate::store) fn file(self, name: &str, text: &str) -> Self {
        self.member(b'0', name.as_bytes(), b"", 0o644, text.as_bytes())
    }

    pub(in crate::store) fn folder(self, name: &str) -> Self {
        self.member(b'5', name.as_bytes(), b"", 0o755, b"")
    }

    pub(in crate::store) fn link(self, name: &str, target: &str) -> Self {
        self.member(b'2', name.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    pub(in crate::store) fn hard(self, name: &str, target: &str) -> Self {
        self.member(b'1', name.as_bytes(), target.as_bytes(), 0o644, b"")
    }

    /// An extended header of this kind, with records of POSIX.
    pub(in crate::store) fn pax(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length += 1;
            }
            bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        self.member(kind, b"PaxHeaders/x", b"", 0o644, &bytes)
    }

    /// A whole archive.
    pub(in crate::store) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A folder to unpack into, and what is around it.
pub(super) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tree")).unwrap();
        fs::write(folder.path().join("outside"), "untouched").unwrap();
        Self { folder }
    }

    pub(super) fn unpack(&self, source: impl Read, bounds: &Bounds) -> Result<Unpacked, String> {
        let top = beneath::open_at(&self.path("")).unwrap();
        let result = unpack_from(source, top.as_fd(), bounds);
        // Whatever it was: nothing beside the tree has changed.
        let mut around: Vec<_> =
            fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        around.sort();
        assert_eq!(around, ["outside", "tree"]);
        let outside = self.folder.path().join("outside");
        assert_eq!(fs::read(&outside).unwrap(), b"untouched");
        assert_eq!(fs::metadata(&outside).unwrap().nlink(), 1);
        result
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("tree").join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(super) fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.path(name)).unwrap().permissions().mode() & 0o7777
    }
}

/// Unpacks a good archive.
pub(super) fn good(archive: &[u8]) -> (Place, Unpacked) {
    let place = Place::new();
    let unpacked = place.unpack(archive, &Bounds::default()).unwrap();
    (place, unpacked)
}

/// Why an archive is refused.
pub(super) fn refusal(archive: &[u8]) -> String {
    refusal_within(archive, &Bounds::default())
}

pub(super) fn refusal_within(archive: &[u8], bounds: &Bounds) -> String {
    let said = Place::new().unpack(archive, bounds).unwrap_err();
    assert!(said.starts_with("cannot unpack the archive: ") && said.len() < 700, "{said}");
    assert!(!said.chars().any(char::is_control), "{said:?}");
    said
}

/// What a program makes of bytes; `None`, said aloud, where it is not installed.
pub(super) fn through(command: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let mut started = Command::new(command[0]);
    started.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match started.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !nix::unistd::geteuid().is_root() => {
            eprintln!("SKIPPED: needs {}", command[0]);
            return None;
        }
        child => child.unwrap_or_else(|error| panic!("{}: {error}: see tests/run", command[0])),
    };
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{command:?}");
    Some(output.stdout)
}

/// The digest as its description has it, from the disk, by other means.
pub(super) fn digest_on_disk(top: &Path) -> String {
    use sha2::{Digest as _, Sha256};
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut folders = vec![(top.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            let metadata = entry.metadata().unwrap();
            let line = if metadata.is_dir() {
                folders.push((entry.path(), format!("{name}/")));
                format!("d\0{name}\0")
            } else if metadata.is_symlink() {
                format!("l\0{name}\0{}\0", fs::read_link(entry.path()).unwrap().to_str().unwrap())
            } else {
                let kind = if metadata.mode() & 0o100 == 0 { 'f' } else { 'x' };
                let sum = hex(&Sha256::digest(fs::read(entry.path()).unwrap()));
                format!("{kind}\0{name}\0{}\0{sum}\0", metadata.len())
            };
            lines.push((name, line));
        }
    }
    lines.sort();
    let whole: String = lines.into_iter().map(|(_, line)| line).collect();
    format!("sha256:{}", hex(&Sha256::digest(format!("supd release 1\0{whole}"))))
}
