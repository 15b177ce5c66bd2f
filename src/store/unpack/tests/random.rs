//! Random trees, packed in every way there is, are the same trees again.

use super::super::Bounds;
use super::{Head, Pack, Place, digest_on_disk, through};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// xorshift64*: the same trees each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % most
    }

    fn name(&mut self) -> String {
        const LETTERS: [&str; 12] = ["a", "B", "7", "-", "_", ".x", " ", "ü", "日", "\\", "'", "*"];
        let length = if self.below(12) == 0 { 60 } else { 1 + self.below(8) };
        (0..length).map(|_| LETTERS[usize::try_from(self.below(12)).unwrap()]).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder,
    File(Vec<u8>, bool),
    Link(String),
    /// Another name of a file.
    Same(String),
}

fn tree(dice: &mut Dice) -> BTreeMap<String, Node> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    let mut folders = vec![String::new()];
    for _ in 0..dice.below(60) {
        let above = folders[usize::try_from(dice.below(folders.len() as u64)).unwrap()].clone();
        let path = format!("{above}{}", dice.name());
        if nodes.contains_key(&path) || path.len() > 1000 {
            continue;
        }
        let files: Vec<&String> =
            nodes.iter().filter(|(_, node)| matches!(node, Node::File(..))).map(|(p, _)| p).collect();
        let node = match dice.below(10) {
            0..3 => {
                folders.push(format!("{path}/"));
                Node::Folder
            }
            3 => Node::Link(format!("{}{}", "../".repeat(above.matches('/').count()), dice.name())),
            4 if !files.is_empty() => {
                Node::Same(files[usize::try_from(dice.below(files.len() as u64)).unwrap()].clone())
            }
            _ => {
                let length = [0, 1, 511, 512, 513, 5000, 70_000][usize::try_from(dice.below(7)).unwrap()];
                let byte = u8::try_from(dice.below(256)).unwrap();
                Node::File(
                    (0..length).map(|at| byte.wrapping_mul((at % 97) as u8)).collect(),
                    dice.below(3) == 0,
                )
            }
        };
        nodes.insert(path, node);
    }
    nodes
}

/// On disk, by std alone.
fn write(nodes: &BTreeMap<String, Node>, top: &Path) {
    for (path, node) in nodes {
        let place = top.join(path);
        match node {
            Node::Folder => fs::create_dir(place).unwrap(),
            Node::Link(target) => symlink(target, place).unwrap(),
            Node::Same(other) => {
                let Some(Node::File(bytes, executable)) = nodes.get(other) else { unreachable!() };
                write_file(&place, bytes, *executable);
            }
            Node::File(bytes, executable) => write_file(&place, bytes, *executable),
        }
    }
}

fn write_file(place: &Path, bytes: &[u8], executable: bool) {
    fs::write(place, bytes).unwrap();
    fs::set_permissions(place, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 })).unwrap();
}

/// A stream of it, in whichever manner comes up.
fn pack(nodes: &BTreeMap<String, Node>, dice: &mut Dice) -> Vec<u8> {
    let mut pack = Pack::default();
    let dot = if dice.below(2) == 0 { "./" } else { "" };
    let (posix, implied) = (dice.below(2) == 0, dice.below(3) == 0);
    if !dot.is_empty() {
        pack = pack.folder("./");
    }
    for pass in 0..2 {
        for (path, node) in nodes {
            let same = matches!(node, Node::Same(_));
            if same != (pass == 1) {
                continue;
            }
            let prefix = format!("{path}/");
            let holds_some = nodes.keys().any(|other| other.starts_with(&prefix));
            let name = format!("{dot}{path}");
            let (kind, target, mode, bytes): (u8, &str, u32, &[u8]) = match node {
                Node::Folder if implied && holds_some => continue,
                Node::Folder => (b'5', "", 0o755, b""),
                Node::Link(target) => (b'2', target, 0o777, b""),
                Node::Same(other) => (b'1', other, 0o644, b""),
                Node::File(bytes, executable) => (b'0', "", if *executable { 0o755 } else { 0o644 }, bytes),
            };
            if name.len() > 100 || target.len() > 100 {
                if posix {
                    pack = pack.pax(b'x', &[("path", name.as_bytes()), ("linkpath", target.as_bytes())]);
                } else {
                    pack = pack.member(b'L', b"././@LongLink", b"", 0o644, name.as_bytes());
                    pack = pack.member(b'K', b"././@LongLink", b"", 0o644, target.as_bytes());
                }
            }
            let (name, target) = (cut(&name), cut(target));
            pack = pack.head(Head { kind, name, target, mode, size: bytes.len() as u64 }).body(bytes);
        }
    }
    pack.end()
}

fn cut(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(100)]
}

#[test]
fn random_trees_come_back() {
    for seed in 1..=25 {
        let mut dice = Dice(seed * 0x9e37_79b9);
        let nodes = tree(&mut dice);
        let place = Place::new();
        write(&nodes, &place.path(""));
        let expected = digest_on_disk(&place.path(""));
        let archive = pack(&nodes, &mut dice);
        for command in [&["cat"][..], &["gzip", "-c1"], &["xz", "-c0"], &["zstd", "-qc"]] {
            let Some(packed) = through(command, &archive) else { continue };
            let place = Place::new();
            let unpacked = place.unpack(&*packed, &Bounds::default());
            let unpacked = unpacked.unwrap_or_else(|why| panic!("seed {seed}, {command:?}: {why}"));
            assert_eq!(unpacked.digest, expected, "seed {seed}, {command:?}");
            assert_eq!(digest_on_disk(&place.path("")), expected, "seed {seed}, {command:?}");
        }
    }
}

#[test]
fn what_tar_itself_makes_of_them() {
    for seed in 1..=12 {
        let mut dice = Dice(seed * 0x1234_5677);
        let nodes = tree(&mut dice);
        let place = Place::new();
        write(&nodes, &place.path(""));
        let expected = digest_on_disk(&place.path(""));
        for form in ["--format=gnu", "--format=posix", "--format=pax", "--format=oldgnu"] {
            let folder = place.path("");
            let made = Command::new("tar").args(["-c", form, "-C"]).arg(folder).arg(".").output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let again = Place::new();
            let unpacked = again.unpack(&*made.stdout, &Bounds::default()).unwrap();
            assert_eq!(unpacked.digest, expected, "seed {seed}, {form}");
        }
    }
}
