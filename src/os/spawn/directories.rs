//! RuntimeDirectory, StateDirectory, CacheDirectory and LogsDirectory: made in the child, before
//! it becomes User, and given to User.

use super::super::Error;
use super::failure::{SpawnFailure, Step};
use crate::model::settings::{Directory, DirectoryKind};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The folders that a unit's directories are in, as systemd.exec(5) lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// RuntimeDirectory
    pub runtime: PathBuf,
    /// StateDirectory
    pub state: PathBuf,
    /// CacheDirectory
    pub cache: PathBuf,
    /// LogsDirectory
    pub logs: PathBuf,
}

impl Roots {
    /// Those of the system.
    #[must_use]
    pub fn system() -> Self {
        Self {
            runtime: "/run".into(),
            state: "/var/lib".into(),
            cache: "/var/cache".into(),
            logs: "/var/log".into(),
        }
    }

    /// Those of a person: XDG_RUNTIME_DIR, XDG_STATE_HOME and XDG_CACHE_HOME, the last two by
    /// default under the home folder.
    #[must_use]
    pub fn user(runtime: &Path, home: &Path, state: Option<&Path>, cache: Option<&Path>) -> Self {
        let state = state.map_or_else(|| home.join(".local/state"), Path::to_path_buf);
        let cache = cache.map_or_else(|| home.join(".cache"), Path::to_path_buf);
        Self { runtime: runtime.to_path_buf(), logs: state.join("log"), state, cache }
    }

    /// The folder of one kind.
    #[must_use]
    pub fn of(&self, kind: DirectoryKind) -> &Path {
        match kind {
            DirectoryKind::Runtime => &self.runtime,
            DirectoryKind::State => &self.state,
            DirectoryKind::Cache => &self.cache,
            DirectoryKind::Logs => &self.logs,
        }
    }

    /// Where a directory of the unit file is.
    #[must_use]
    pub fn path(&self, directory: &Directory) -> PathBuf {
        self.of(directory.kind).join(&directory.path)
    }
}

/// What systemd gives such a directory by default.
const MODE: Mode = Mode::from_bits_truncate(0o755);

/// Makes one of them, its parents too, and sees to it that it belongs to the user. What is inside
/// is left alone: a recursive chown by root follows whatever the user has put there.
pub(super) fn make(roots: &Roots, directory: &Directory, uid: Uid, gid: Gid) -> Result<(), SpawnFailure> {
    let path = roots.path(directory);
    let failed = |errno| SpawnFailure::errno(Step::Directory, path.display(), errno);
    let root = roots.of(directory.kind);
    std::fs::create_dir_all(root).map_err(|e| failed(raw(&e)))?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut here = open(root, flags, Mode::empty()).map_err(failed)?;
    for part in directory.path.split('/').filter(|part| !part.is_empty()) {
        if matches!(part, "." | "..") {
            return Err(failed(Errno::EINVAL).hint("it must not leave its root"));
        }
        match mkdirat(&here, part, MODE) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        here = enter(&here, OsStr::new(part)).map_err(|(errno, hint)| failed(errno).hint(hint))?;
    }
    own(&here, uid, gid).map_err(|errno| {
        let failure = SpawnFailure::errno(Step::Owner, path.display(), errno);
        match errno {
            Errno::EPERM => failure.hint(format!("supd runs as uid {}, only root may do this", geteuid())),
            _ => failure,
        }
    })
}

/// Moves one of them out of its name, so that it can be removed while a new one is made. Gives the
/// folder that it is in; `None`: there is none, or it is a link, which is the administrator's.
///
/// # Errors
/// EBUSY where something is mounted there, ELOOP behind a link that others may have put there.
pub fn set_aside(roots: &Roots, directory: &Directory, aside: &str) -> Result<Option<OwnedFd>, Error> {
    let failed = |errno| Error::new("move away", roots.path(directory).display(), errno);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut parts: Vec<&str> = directory.path.split('/').filter(|part| !part.is_empty()).collect();
    let Some(last) = parts.pop() else { return Ok(None) };
    if parts.iter().chain([&last]).any(|part| matches!(*part, "." | "..")) {
        return Err(failed(Errno::EINVAL));
    }
    let mut here = match open(roots.of(directory.kind), flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other.map_err(failed)?,
    };
    for part in parts {
        here = match enter(&here, OsStr::new(part)) {
            Err((Errno::ENOENT, _)) => return Ok(None),
            other => other.map_err(|(errno, _)| failed(errno))?,
        };
    }
    // rename(2) moves a link itself; where it leads, nothing is touched.
    match openat(&here, last, flags | OFlag::O_NOFOLLOW, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => return Ok(None),
        other => drop(other.map_err(failed)?),
    }
    renameat(&here, last, &here, aside).map_err(failed)?;
    Ok(Some(here))
}

/// Opens a folder within `parent`. A symbolic link counts only where nobody else could have put
/// it: an administrator's /var/lib/web → /data/web does, a link that User made in its own
/// directory does not, for it would have root give anything away.
pub(super) fn enter(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, (Errno, &'static str)> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match openat(parent, name, flags | OFlag::O_NOFOLLOW, Mode::empty()) {
        Err(Errno::ELOOP | Errno::ENOTDIR) => {
            trusted(parent)?;
            openat(parent, name, flags, Mode::empty()).map_err(|errno| (errno, ""))
        }
        other => other.map_err(|errno| (errno, "")),
    }
}

/// Whether nobody but root and supd's own user can have put a link into this folder.
pub(super) fn trusted(folder: &OwnedFd) -> Result<(), (Errno, &'static str)> {
    let stat = fstat(folder).map_err(|errno| (errno, ""))?;
    let ours = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    if ours && stat.st_mode & 0o022 == 0 {
        return Ok(());
    }
    Err((Errno::ELOOP, "a symbolic link in a folder that others may write"))
}

fn own(directory: &OwnedFd, uid: Uid, gid: Gid) -> Result<(), Errno> {
    let stat = fstat(directory)?;
    if (stat.st_uid, stat.st_gid) != (uid.as_raw(), gid.as_raw()) {
        fchown(directory.as_fd(), Some(uid), Some(gid))?;
    }
    // The umask is the unit's by now: it must not narrow what the unit itself asked for.
    if stat.st_mode & 0o7777 != MODE.bits() {
        fchmod(directory, MODE)?;
    }
    Ok(())
}

/// The errno of a std error.
pub(super) fn raw(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::{Roots, make, set_aside};
    use crate::model::settings::{Directory, DirectoryKind};
    use nix::unistd::{getegid, geteuid};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn roots(folder: &Path) -> Roots {
        let at = |name: &str| folder.join(name);
        Roots { runtime: at("run"), state: at("state"), cache: at("cache"), logs: at("log") }
    }

    fn state(path: &str) -> Directory {
        Directory { kind: DirectoryKind::State, path: path.to_owned() }
    }

    #[test]
    fn parents_too_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let roots = roots(folder.path());
        for _ in 0..2 {
            make(&roots, &state("web/cache/"), geteuid(), getegid()).unwrap();
        }
        let mode = std::fs::metadata(folder.path().join("state/web/cache")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
    }

    #[test]
    fn nothing_outside_its_root() {
        let folder = tempfile::tempdir().unwrap();
        let roots = roots(folder.path());
        assert!(make(&roots, &state("../web"), geteuid(), getegid()).is_err());
        std::fs::write(folder.path().join("state/file"), "").unwrap();
        let failure = make(&roots, &state("file"), geteuid(), getegid()).unwrap_err();
        assert!(failure.to_string().contains("Not a directory"), "{failure}");
    }

    #[test]
    fn a_link_counts_where_only_we_could_have_put_it() {
        let folder = tempfile::tempdir().unwrap();
        let roots = roots(folder.path());
        make(&roots, &state("real"), geteuid(), getegid()).unwrap();
        symlink("real", folder.path().join("state/web")).unwrap();
        make(&roots, &state("web"), geteuid(), getegid()).unwrap();
        let others = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path().join("state"), others).unwrap();
        let failure = make(&roots, &state("web"), geteuid(), getegid()).unwrap_err();
        assert!(failure.to_string().contains("symbolic link"), "{failure}");
    }

    #[test]
    fn what_is_set_aside_is_a_folder_of_ours_and_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let roots = roots(folder.path());
        let at = |path: &str| folder.path().join("state").join(path);
        assert!(set_aside(&roots, &state("a/b"), "aside").unwrap().is_none(), "there is nothing");
        make(&roots, &state("a/b"), geteuid(), getegid()).unwrap();
        assert!(set_aside(&roots, &state("a/b/"), "aside").unwrap().is_some());
        assert!(at("a/aside").is_dir() && !at("a/b").exists(), "the innermost one goes");
        symlink("a", at("link")).unwrap();
        assert!(set_aside(&roots, &state("link"), "other").unwrap().is_none());
        assert!(at("link").is_symlink() && at("a").is_dir());
        assert!(set_aside(&roots, &state("../x"), "other").is_err());
        // A link that somebody else may have put on the way.
        let others = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path().join("state"), others).unwrap();
        assert!(set_aside(&roots, &state("link/aside"), "other").is_err());
        assert!(at("a/aside").is_dir());
    }

    #[test]
    fn a_persons_roots() {
        let roots = Roots::user(Path::new("/run/user/1"), Path::new("/home/p"), None, Some(Path::new("/c")));
        assert_eq!(roots.state, Path::new("/home/p/.local/state"));
        assert_eq!(roots.logs, Path::new("/home/p/.local/state/log"));
        assert_eq!(
            roots.path(&Directory { kind: DirectoryKind::Cache, path: "web".to_owned() }),
            Path::new("/c/web")
        );
    }
}
