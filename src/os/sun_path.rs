//! Paths of UNIX sockets, however deep their folder is.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The room for a path in sockaddr_un, its final NUL included (unix(7)).
const SUN_PATH: usize = 108;

/// A name for a socket's file that fits into an address: the path itself, or for a long one a way
/// over /proc to the folder, which is held open as long as this value lives.
#[derive(Debug)]
pub struct SunPath {
    path: PathBuf,
    _folder: Option<File>,
}

impl SunPath {
    /// Opens the folder if the path is too long. Where that fails the path stays as it is, and
    /// bind or connect say what is wrong.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let whole = || Self { path: path.to_path_buf(), _folder: None };
        if path.as_os_str().len() < SUN_PATH {
            return whole();
        }
        let (Some(Ok(folder)), Some(name)) = (path.parent().map(File::open), path.file_name()) else {
            return whole();
        };
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Self { path, _folder: Some(folder) }
    }

    /// What goes into the address.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::SunPath;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_deep_folder_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        for path in [deep.join("socket"), folder.path().join("socket")] {
            let listener = UnixListener::bind(SunPath::of(&path).as_path()).unwrap();
            assert!(path.exists());
            UnixStream::connect(SunPath::of(&path).as_path()).unwrap();
            listener.accept().unwrap();
        }
        let missing = deep.join("none/socket");
        assert_eq!(SunPath::of(&missing).as_path(), missing);
    }
}
