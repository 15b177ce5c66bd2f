//! What is downloaded so far: a file of its own that a later command finds again, or one without a
//! name where there is no place for that.
//!
//! It is in `supd/` of the caller's cache, named by address and sum, readable for nobody else, and
//! locked: two commands that want the same do not write into each other's file.

use super::sum::Sum;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Nobody comes back for a download after this.
const FORGET_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// A file that grows.
#[derive(Debug)]
pub(super) struct Part {
    file: Target,
    length: u64,
    digest: Sha256,
}

#[derive(Debug)]
enum Target {
    /// To be found again.
    Named(Flock<File>, PathBuf),
    /// Gone with its last holder.
    Nameless(File),
}

/// A download that is whole; its file goes when it is installed.
#[derive(Debug)]
pub(super) struct Kept {
    path: Option<PathBuf>,
    /// Locked until then.
    _file: Target,
}

impl Kept {
    pub(super) fn remove(self) {
        if let Some(path) = &self.path {
            let _gone_already = fs::remove_file(path);
        }
    }
}

/// The folder of downloads, in the caller's cache.
pub(super) fn folder(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(cache.join("supd"))
}

impl Part {
    /// What there is of this name in this folder, or nothing yet.
    ///
    /// # Errors
    /// Where not even a file without a name can be made.
    pub(super) fn open(folder: Option<&Path>, name: &str) -> io::Result<Self> {
        let named = folder.and_then(|folder| open_named(folder, &folder.join(format!("{name}.part"))));
        let file = match named {
            Some(named) => named,
            // TMPDIR, else /tmp.
            None => Target::Nameless(tempfile::tempfile()?),
        };
        let mut part = Self { file, length: 0, digest: Sha256::new() };
        part.take_in()?;
        Ok(part)
    }

    /// Reads what is there.
    fn take_in(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match self.file().read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if count == 0 {
                return Ok(());
            }
            self.digest.update(&chunk[..count]);
            self.length += count as u64;
        }
    }

    fn file(&mut self) -> &mut File {
        match &mut self.file {
            Target::Named(file, _) => file,
            Target::Nameless(file) => file,
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn sum(&self) -> Sum {
        Sum::of(self.digest.clone())
    }

    /// More of it.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file().write_all(bytes)?;
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// None of it is worth anything.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file().set_len(0)?;
        self.file().rewind()?;
        (self.length, self.digest) = (0, Sha256::new());
        Ok(())
    }

    /// It is whole: a descriptor that reads it from its beginning, and can do nothing else.
    pub(super) fn whole(mut self) -> io::Result<(OwnedFd, Kept)> {
        use std::os::fd::AsRawFd;
        let number = self.file().as_raw_fd();
        // A description of its own: its place is the reader's, and no writing goes with it.
        let reading = File::open(format!("/proc/self/fd/{number}"))?;
        let path = match &self.file {
            Target::Named(_, path) => Some(path.clone()),
            Target::Nameless(_) => None,
        };
        Ok((reading.into(), Kept { path, _file: self.file }))
    }

    /// It is not to be found again.
    pub(super) fn remove(self) {
        if let Target::Named(_, path) = &self.file {
            let _gone_already = fs::remove_file(path);
        }
    }
}

/// Opens the file, if this is a folder where nobody else can put one.
fn open_named(folder: &Path, path: &Path) -> Option<Target> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).ok()?;
    let found = fs::symlink_metadata(folder).ok()?;
    let own = nix::unistd::geteuid().as_raw();
    if !found.is_dir() || found.uid() != own || found.mode() & 0o022 != 0 {
        return None;
    }
    forget_old(folder);
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let file = options.open(path).ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || found.uid() != own || found.mode() & 0o077 != 0 || found.nlink() != 1 {
        return None;
    }
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        // Whoever had it may have removed it meanwhile: then this is a file without a name.
        Ok(locked) if locked.metadata().is_ok_and(|file| file.nlink() == 1) => {
            Some(Target::Named(locked, path.into()))
        }
        Ok(_) | Err((_, Errno::EAGAIN)) | Err(_) => None,
    }
}

/// Removes what somebody gave up long ago.
fn forget_old(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let is_old = |file: &fs::Metadata| {
        file.modified()
            .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > FORGET_AFTER))
    };
    for entry in entries.flatten() {
        let is_part = entry.path().extension().is_some_and(|ending| ending == "part");
        if is_part && entry.metadata().is_ok_and(|file| file.is_file() && is_old(&file)) {
            let _gone_already = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn content(descriptor: OwnedFd) -> String {
        let mut text = String::new();
        File::from(descriptor).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_is_there_counts_the_next_time() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("new/supd");
        let mut part = Part::open(Some(&folder), "a").unwrap();
        part.append(b"one ").unwrap();
        drop(part);
        let path = folder.join("a.part");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let mut part = Part::open(Some(&folder), "a").unwrap();
        assert_eq!(part.length(), 4);
        // A second one at the same time has a file of its own.
        let mut other = Part::open(Some(&folder), "a").unwrap();
        other.append(b"other").unwrap();
        part.append(b"two").unwrap();
        assert_eq!(part.sum(), Sum::of(Sha256::new_with_prefix("one two")));
        let (descriptor, kept) = part.whole().unwrap();
        nix::unistd::write(&descriptor, b"x").unwrap_err();
        assert_eq!(content(descriptor), "one two");
        assert!(path.exists());
        kept.remove();
        assert!(!path.exists());
        assert_eq!(content(other.whole().unwrap().0), "other");
    }

    #[test]
    fn what_is_worth_nothing_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let mut part = Part::open(Some(folder.path()), "a").unwrap();
        part.append(b"wrong").unwrap();
        part.restart().unwrap();
        assert_eq!((part.length(), part.sum()), (0, Sum::of(Sha256::new())));
        part.append(b"right").unwrap();
        assert_eq!(content(part.whole().unwrap().0), "right");
    }

    #[test]
    fn a_place_that_others_can_write_to_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        let cache = folder.path().join("supd");
        fs::create_dir(&cache).unwrap();
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
        let nameless = |name| matches!(Part::open(Some(&cache), name).unwrap().file, Target::Nameless(_));
        assert!(nameless("a"));
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!nameless("a"));
        symlink(&victim, cache.join("link.part")).unwrap();
        fs::hard_link(&victim, cache.join("hard.part")).unwrap();
        nix::unistd::mkfifo(&cache.join("fifo.part"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(nameless("link") && nameless("hard") && nameless("fifo"));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        // Below a file there is no folder.
        assert!(matches!(Part::open(Some(&victim.join("x")), "a").unwrap().file, Target::Nameless(_)));
    }

    #[test]
    fn old_ones_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        for (name, days) in [("old.part", 8), ("young.part", 6), ("old.txt", 8)] {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600)).unwrap();
        }
        drop(Part::open(Some(folder.path()), "a").unwrap());
        let left = |name: &str| folder.path().join(name).exists();
        assert_eq!((left("old.part"), left("young.part"), left("old.txt")), (false, true, true));
    }
}
