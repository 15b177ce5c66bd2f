//! Removing a folder with everything in it: by descriptors, following no link, within one file system.

use super::Error;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};

/// Each level holds a descriptor, and a descriptor is what a server's user could use up.
const DEPTH_MAX: usize = 100;

/// Removes the folder `name` in `parent`.
///
/// # Errors
/// The first thing that could not be removed: EBUSY or EXDEV where something is mounted in it.
pub fn tree(parent: &OwnedFd, name: &OsStr) -> Result<(), Error> {
    let failed = |errno| Error::new("remove", name.to_string_lossy(), errno);
    let name = CString::new(name.as_encoded_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    let device = fstat(parent).map_err(failed)?.st_dev;
    remove(parent, &name, device, DEPTH_MAX).map_err(failed)
}

fn remove(parent: &OwnedFd, name: &CStr, device: libc::dev_t, depth: usize) -> Result<(), Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty())?;
    if fstat(&folder)?.st_dev != device {
        return Err(Errno::EXDEV);
    }
    if depth == 0 {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut entries = Dir::from_fd(folder.try_clone().map_err(|_| Errno::EMFILE)?)?;
    // What is added meanwhile makes the last step fail, and nothing else.
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(folder.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EISDIR) => remove(&folder, name, device, depth - 1)?,
            Err(errno) => return Err(errno),
        }
    }
    unlinkat(parent.as_fd(), name, UnlinkatFlags::RemoveDir)
}

#[cfg(test)]
mod tests {
    use super::tree;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn everything_goes_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("gone/a/b/c")).unwrap();
        fs::create_dir_all(at("kept")).unwrap();
        fs::write(at("kept/file"), "").unwrap();
        for index in 0..2000 {
            fs::write(at(&format!("gone/a/{index}")), "").unwrap();
        }
        symlink(at("kept"), at("gone/a/link")).unwrap();
        symlink("nowhere", at("gone/dangling")).unwrap();
        let parent = fs::File::open(folder.path()).unwrap().into();
        tree(&parent, "gone".as_ref()).unwrap();
        assert!(!at("gone").exists() && at("kept/file").exists());
        // A link in its place is none of ours.
        symlink("kept", at("link")).unwrap();
        assert!(tree(&parent, "link".as_ref()).is_err());
        assert!(at("kept/file").exists());
    }

    #[test]
    fn depth_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("deep");
        fs::create_dir_all(deep.join("x/".repeat(200))).unwrap();
        let parent = fs::File::open(folder.path()).unwrap().into();
        assert!(tree(&parent, "deep".as_ref()).is_err());
    }
}
