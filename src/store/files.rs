//! Files that are there whole or not at all.

use crate::os::Error;
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// More files than this are cheaper to sync together with whatever else is on the file system.
const SYNC_ALL_ABOVE: usize = 8;

/// Makes a folder with exactly these permission bits, whatever the umask; one that is there
/// already gets them too.
///
/// # Errors
/// What the kernel answered; a parent that is missing is one.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    let told = |error: &io::Error| Error::from_io("make the folder", path.display(), error);
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(told(&error)),
    }
    let found = fs::symlink_metadata(path).map_err(|error| told(&error))?;
    if !found.is_dir() {
        return Err(Error::new("use as a folder", path.display(), Errno::ENOTDIR));
    }
    if found.mode() & 0o7777 != mode {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(path, permissions).map_err(|error| told(&error))?;
    }
    Ok(())
}

/// Puts a file in place by a rename, so that a reader sees the old one or the new one. It is not
/// synced: after a crash of the machine it may be empty. For folders that a boot empties.
///
/// # Errors
/// What the kernel answered; the old file is as it was.
pub fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    put_with(path, bytes, mode, |_| Ok(())).map(drop)
}

/// The same; gives the file, to be synced.
///
/// # Errors
/// As [`put`].
pub fn put_open(path: &Path, bytes: &[u8], mode: u32) -> Result<File, Error> {
    put_with(path, bytes, mode, |_| Ok(()))
}

/// Puts a file in place that is there after a crash of the machine too. Waits for the disk.
///
/// # Errors
/// What the kernel answered; the old file is as it was, unless only the last step failed, the
/// sync of the folder.
pub fn put_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    replace(path, bytes, mode)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// The same, but for the sync of the folder; gives the new file, open for appending: whoever holds
/// the old one open would write to a file without a name.
///
/// # Errors
/// What the kernel answered; the old file is as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<File, Error> {
    put_with(path, bytes, mode, File::sync_all)
}

fn put_with(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    settle: impl FnOnce(&File) -> io::Result<()>,
) -> Result<File, Error> {
    let fresh = path.with_extension("new");
    let write = || -> io::Result<File> {
        // Left by a supd that was killed here; with its permission bits it might not open.
        remove_if_there(&fresh)?;
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&fresh)?;
        file.write_all(bytes)?;
        settle(&file)?;
        fs::rename(&fresh, path)?;
        Ok(file)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&fresh);
        Error::from_io("write", path.display(), &error)
    })
}

/// Makes what was created, renamed or removed in a folder last.
///
/// # Errors
/// What the kernel answered.
pub fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::from_io("sync the folder", path.display(), &error))
}

/// Files that are in place and not yet synced.
#[derive(Debug, Default)]
pub struct Unsynced {
    files: Vec<(PathBuf, File)>,
}

impl Unsynced {
    /// One more, at this path.
    pub fn add(&mut self, path: PathBuf, file: File) {
        self.files.push((path, file));
    }

    /// Syncs them all, and the folders that they are in, up to `top`. Files first and folders after:
    /// a journal has mostly written both down by the first sync. Waits for the disk.
    ///
    /// # Errors
    /// What the kernel answered; then none of them counts as synced.
    pub fn sync(self, top: &Path) -> Result<(), Error> {
        if self.files.len() > SYNC_ALL_ABOVE {
            let told = |errno| Error::new("sync the file system of", top.display(), errno);
            let folder = File::open(top).map_err(|error| Error::from_io("open", top.display(), &error))?;
            return nix::unistd::syncfs(&folder).map_err(told);
        }
        let mut folders = BTreeSet::new();
        for (path, file) in &self.files {
            file.sync_all().map_err(|error| Error::from_io("write", path.display(), &error))?;
            folders.extend(path.ancestors().skip(1).take_while(|folder| folder.starts_with(top)));
        }
        folders.into_iter().rev().try_for_each(sync_folder)
    }
}

/// Reads a file of at most `max` bytes; `None`: there is none.
///
/// # Errors
/// What the kernel answered; EFBIG if it is longer.
pub fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>, Error> {
    let told = |error: &io::Error| Error::from_io("read", path.display(), error);
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(&error)),
    };
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|error| told(&error))?;
    if bytes.len() as u64 > max {
        return Err(Error::new("read", path.display(), Errno::EFBIG));
    }
    Ok(Some(bytes))
}

/// Removes a file; one that is not there is no error.
///
/// # Errors
/// What the kernel answered.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        put_durably(&path, b"old", 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        // A folder in the way of the new file, as a stand-in for any failure: root may do the rest.
        fs::create_dir(folder.path().join("x.new")).unwrap();
        let error = put(&path, b"new", 0o600).unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
        assert_eq!(read(&path, 10), Ok(Some(b"old".to_vec())));
    }

    #[test]
    fn what_a_dead_supd_left_half_written_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(folder.path().join("x.new"), "half").unwrap();
        put(&path, b"whole", 0o644).unwrap();
        assert_eq!(read(&path, 5), Ok(Some(b"whole".to_vec())));
        assert_eq!(read(&path, 4).unwrap_err().errno, Errno::EFBIG);
        assert_eq!(read(&folder.path().join("none"), 4), Ok(None));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_gets_its_bits_even_if_it_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::create_dir(&path).unwrap();
        make_folder(&path, 0o711).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o711);
        fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(make_folder(&folder.path().join("file"), 0o711).unwrap_err().errno, Errno::ENOTDIR);
    }
}
