//! Looking at files of the machine, or of a copy of one: bounded, and never waiting.

use crate::store::text::explain;
use glob::Pattern;
use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

/// The most files that are looked at for all units together: configurations include others.
const FILES_MAX: usize = 1000;
/// The most bytes of one of them.
const BYTES_MAX: u64 = 1 << 20;
/// The most names that one pattern, and one folder of it, gives.
const NAMES_MAX: usize = 1000;
/// The most symbolic links on the way to a file, as the kernel counts.
const LINKS_MAX: usize = 40;

/// Where files are looked for.
#[derive(Debug)]
pub(super) struct Look {
    /// `--root`
    root: Option<PathBuf>,
    /// Of the files that may be looked at.
    left: Cell<usize>,
}

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Text(String),
    Missing,
    /// Why not, in words.
    Unread(String),
}

impl Look {
    pub(super) fn new(root: Option<PathBuf>) -> Self {
        Self { root, left: Cell::new(FILES_MAX) }
    }

    /// Nothing is anywhere.
    #[must_use]
    pub(super) fn nowhere() -> Self {
        Self { root: None, left: Cell::new(0) }
    }

    /// The path as this process sees it. Below a root, links are followed as they would be there:
    /// an absolute one that leads out would show this machine's files for those of the other.
    pub(super) fn real(&self, path: &Path) -> PathBuf {
        let Some(root) = &self.root else { return path.to_owned() };
        let mut ahead: Vec<PathBuf> = parts(path).rev().collect();
        let (mut here, mut links) = (PathBuf::new(), 0);
        while let Some(part) = ahead.pop() {
            if part.as_os_str() == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&part);
            match fs::read_link(root.join(&next)) {
                Ok(target) if links < LINKS_MAX => {
                    links += 1;
                    if target.is_absolute() {
                        here = PathBuf::new();
                    }
                    ahead.extend(parts(&target).rev());
                }
                Ok(_) | Err(_) => here = next,
            }
        }
        // A copy of a machine has no devices, but links to this one: they are how a unit is masked.
        if here == Path::new("dev/null") { PathBuf::from("/dev/null") } else { root.join(here) }
    }

    /// Reads a configuration; bytes that are not UTF-8 are replaced: they stand in comments and names.
    pub(super) fn text(&self, path: &Path) -> Seen {
        self.bytes(path).map_or_else(|seen| seen, |bytes| lossy(&bytes))
    }

    /// Reads a unit of systemd, whose every value is carried over. Gives the lines that are no UTF-8, as
    /// `Err`, unless they are comments.
    pub(super) fn unit(&self, path: &Path) -> Result<Seen, Vec<u32>> {
        let bytes = match self.bytes(path) {
            Ok(bytes) => bytes,
            Err(seen) => return Ok(seen),
        };
        let is_comment = |line: &[u8]| matches!(line.trim_ascii_start().first(), Some(b'#' | b';'));
        let garbled = |line: &[u8]| std::str::from_utf8(line).is_err() && !is_comment(line);
        let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
        let garbled: Vec<u32> = lines.filter(|(_, line)| garbled(line)).map(|(number, _)| number).collect();
        if garbled.is_empty() { Ok(lossy(&bytes)) } else { Err(garbled) }
    }

    /// What a file has; else what is there instead.
    fn bytes(&self, path: &Path) -> Result<Vec<u8>, Seen> {
        if self.left.get() == 0 {
            return Err(Seen::Missing);
        }
        self.left.set(self.left.get() - 1);
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let opened = options.open(self.real(path)).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Ok(opened) => opened,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(Seen::Missing);
            }
            Err(error) => return Err(Seen::Unread(explain(&error))),
        };
        if !metadata.is_file() {
            return Err(Seen::Unread("no regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        match file.take(BYTES_MAX + 1).read_to_end(&mut bytes) {
            Err(error) => Err(Seen::Unread(explain(&error))),
            Ok(_) if bytes.len() as u64 > BYTES_MAX => {
                Err(Seen::Unread(format!("it is longer than {BYTES_MAX} bytes")))
            }
            Ok(_) => Ok(bytes),
        }
    }

    /// Whether something is at a path.
    pub(super) fn is_there(&self, path: &Path) -> bool {
        self.left.get() > 0 && self.real(path).exists()
    }

    /// The names in a folder that end so, in order.
    pub(super) fn names(&self, folder: &Path, ending: &str) -> Vec<String> {
        let mut names = self.entries(folder);
        names.retain(|name| name.ends_with(ending) && !name.starts_with('.'));
        names
    }

    fn entries(&self, folder: &Path) -> Vec<String> {
        if self.left.get() == 0 {
            return Vec::new();
        }
        let Ok(entries) = fs::read_dir(self.real(folder)) else { return Vec::new() };
        let names =
            entries.take(NAMES_MAX).flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The paths that a pattern of glob(7) stands for, in order; a path without a pattern is
    /// itself, whether it is there or not.
    pub(super) fn glob(&self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::from("/")];
        for part in parts(pattern) {
            let text = part.to_string_lossy().into_owned();
            if !text.contains(['*', '?', '[']) {
                found.iter_mut().for_each(|path| path.push(&part));
                continue;
            }
            let Ok(wanted) = Pattern::new(&text) else { return Vec::new() };
            let fits =
                |name: &String| wanted.matches(name) && (!name.starts_with('.') || text.starts_with('.'));
            let mut longer = Vec::new();
            for folder in &found {
                let names = self.entries(folder).into_iter().filter(fits);
                longer.extend(names.map(|name| folder.join(name)));
            }
            longer.truncate(NAMES_MAX);
            found = longer;
        }
        found
    }
}

fn lossy(bytes: &[u8]) -> Seen {
    Seen::Text(String::from_utf8_lossy(bytes).into_owned())
}

/// The parts of a path, without its root.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = PathBuf> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn below_a_root_links_stay_there() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc/a/on")).unwrap();
        fs::create_dir_all(at("etc/a/all")).unwrap();
        for name in ["one", "two.conf", ".hidden"] {
            fs::write(at("etc/a/all").join(name), name).unwrap();
        }
        symlink("/etc/a/all/one", at("etc/a/on/1")).unwrap();
        symlink("../all/two.conf", at("etc/a/on/2.conf")).unwrap();
        symlink("../../../../../../etc/passwd", at("etc/a/on/out")).unwrap();
        symlink("loop", at("etc/a/on/loop")).unwrap();
        let look = Look::new(Some(root.path().to_owned()));
        let text = |path: &str| look.text(Path::new(path));
        assert_eq!(text("/etc/a/on/1"), Seen::Text("one".into()));
        assert_eq!(text("/etc/a/on/2.conf"), Seen::Text("two.conf".into()));
        assert_eq!(text("/etc/a/on/out"), Seen::Missing);
        assert_eq!(text("/etc/a/on/none"), Seen::Missing);
        assert!(matches!(text("/etc/a/on/loop"), Seen::Unread(_)));
        assert!(matches!(text("/etc/a/on"), Seen::Unread(_)));
        let glob = |pattern: &str| look.glob(Path::new(pattern));
        assert_eq!(glob("/etc/*/all/*"), ["/etc/a/all/one", "/etc/a/all/two.conf"].map(PathBuf::from));
        assert_eq!(glob("/etc/a/all/[st]wo.c?nf"), [PathBuf::from("/etc/a/all/two.conf")]);
        assert_eq!(glob("/no/such"), [PathBuf::from("/no/such")]);
        assert!(glob("/no/*").is_empty() && glob("/etc/[").is_empty());
        assert_eq!(look.names(Path::new("/etc/a/all"), ".conf"), ["two.conf"]);
    }

    #[test]
    fn it_ends() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x"), "x").unwrap();
        let look = Look::new(None);
        for _ in 0..FILES_MAX {
            assert_eq!(look.text(&folder.path().join("x")), Seen::Text("x".into()));
        }
        assert_eq!(look.text(&folder.path().join("x")), Seen::Missing);
        assert_eq!(Look::nowhere().text(Path::new("/etc/passwd")), Seen::Missing);
    }
}
