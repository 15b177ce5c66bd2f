//! The control socket as a file: there at once with its mode, gone with its owner.

use crate::os::Error;
use crate::os::sun_path::SunPath;
use nix::sys::socket::{Backlog, listen};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Anyone may connect, for status is for anyone; who may act is decided by their credentials.
const MODE: u32 = 0o666;
/// Clients that connected and are not accepted yet; the kernel caps it by net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// The socket's place in the file system; dropped, it is removed.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Device and inode: the socket of a successor at the same path is not ours to remove.
    identity: (u64, u64),
}

/// Listens at `path`, in the place of whatever was there.
///
/// The caller holds the lock of the runtime folder, so nobody answers at an old socket. It is
/// bound under a private name first: whoever finds the public one can connect to it.
///
/// # Errors
/// Of bind, chmod, listen and rename.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, Place), Error> {
    let failed = |doing| move |error: io::Error| Error::from_io(doing, path.display(), &error);
    let private = path.with_file_name(format!(".control.{}", std::process::id()));
    match fs::remove_file(&private) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove the old")(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(SunPath::of(&private).as_path()).map_err(failed("bind"))?;
    fs::set_permissions(&private, Permissions::from_mode(MODE)).map_err(failed("set the mode of"))?;
    let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
    listen(&listener, backlog).map_err(|errno| Error::new("listen at", path.display(), errno))?;
    listener.set_nonblocking(true).map_err(failed("listen at"))?;
    let metadata = fs::symlink_metadata(&private).map_err(failed("bind"))?;
    if let Err(error) = fs::rename(&private, path) {
        let _unused_name = fs::remove_file(&private);
        return Err(failed("put in its place")(error));
    }
    Ok((listener, Place { path: path.to_path_buf(), identity: (metadata.dev(), metadata.ino()) }))
}

/// The socket that an earlier image of this process has made, with that file. Where somebody has removed or
/// replaced the file, another socket takes its place.
///
/// # Errors
/// As [`bind`].
pub(super) fn go_on(
    listener: OwnedFd,
    path: &Path,
    identity: (u64, u64),
) -> Result<(UnixListener, Place), Error> {
    let place = Place { path: path.to_path_buf(), identity };
    if place.is_there() { Ok((listener.into(), place)) } else { bind(path) }
}

impl Place {
    /// Whether it is the one at its path.
    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    /// Where it is, or was.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Device and inode of its file.
    pub(super) fn identity(&self) -> (u64, u64) {
        self.identity
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_there() {
            let _gone_meanwhile = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_stale_socket_is_replaced_and_a_successor_s_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err(), "stale");
        let (_first, first_place) = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let (_second, second_place) = bind(&path).unwrap();
        drop(first_place);
        UnixStream::connect(&path).unwrap();
        drop(second_place);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_deep_folder_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(120));
        fs::create_dir(&deep).unwrap();
        let (listener, _place) = bind(&deep.join("control")).unwrap();
        UnixStream::connect(SunPath::of(&deep.join("control")).as_path()).unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn what_cannot_be_bound_says_what_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        fs::create_dir(&path).unwrap();
        let error = bind(&path).unwrap_err();
        assert!(error.to_string().starts_with("cannot put in its place "), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the folder is left");
        let error = bind(&folder.path().join("none/control")).unwrap_err();
        assert_eq!(error.errno, nix::errno::Errno::ENOENT, "{error}");
    }
}
