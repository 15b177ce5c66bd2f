//! Pinned programs: a copy of the file that a generation runs, so that a rollback runs what ran,
//! and the identity of the file on disk, so that a change of it is seen.

mod elf;
mod held;
mod identity;

pub use held::Held;
pub use identity::FileIdentity;

use self::identity::open_regular;
use super::Error;
use super::task::Task;
use crate::model::interpreters::is_interpreter;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat};
use nix::libc;
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{Gid, Uid, fchown, fsync, geteuid};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a copy of a program would pin nothing, or not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unpinnable {
    /// A `#!` file: what runs is another program, and the script finds the rest by its place.
    Script,
    /// It runs other files ([`is_interpreter`]).
    Interpreter,
    /// Neither ELF nor a script.
    NoProgram,
    /// Its library path names $ORIGIN.
    Place,
    /// setuid, setgid or file capabilities, which a copy must not have.
    Privileged,
    /// The folder for copies is on a file system mounted noexec.
    NoExec,
    /// Larger than asked for.
    TooLarge,
}

impl Unpinnable {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Script,
        Self::Interpreter,
        Self::NoProgram,
        Self::Place,
        Self::Privileged,
        Self::NoExec,
        Self::TooLarge,
    ];
}

impl fmt::Display for Unpinnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Script => "a script: what it runs is not in its file",
            Self::Interpreter => "an interpreter: what it runs is not in its file",
            Self::NoProgram => "not an ELF program",
            Self::Place => "it finds its libraries by its own place ($ORIGIN)",
            Self::Privileged => "it is setuid, setgid or has file capabilities",
            Self::NoExec => "the state folder is mounted noexec",
            Self::TooLarge => "it is too large to be copied",
        })
    }
}

/// What came of [`pin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// The copy is in place, and was made from exactly this. Its bytes are on disk; that its folder
    /// names it is yet to be synced.
    Copied(FileIdentity),
    /// There is none; the source was this.
    Not(FileIdentity, Unpinnable),
}

/// Copies the program at `source` to `target`, in a child: an error is a sentence. The copy takes
/// the place of an earlier one at once and whole, and its bytes are synced before it does. Programs of more
/// than `size_max` bytes are left alone.
///
/// `source` may be [`Held::path`]: then it is the very file that ran, even if that is deleted.
///
/// # Errors
/// What [`Task::run`] says.
pub fn pin(source: PathBuf, target: PathBuf, size_max: u64, bound: Duration) -> Result<Task, Error> {
    Task::run("the copy of a program", bound, &[], move || {
        Ok(match copy(&source, &target, size_max)? {
            Pinned::Copied(identity) => format!("copied {identity}"),
            Pinned::Not(identity, reason) => {
                let index = Unpinnable::ALL.iter().position(|known| *known == reason).unwrap_or_default();
                format!("not {identity} {index}")
            }
        }
        .into_bytes())
    })
}

/// Reads the answer of a task of [`pin`]; `None` for what is none.
#[must_use]
pub fn decode(answer: &[u8]) -> Option<Pinned> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut words = text.split(' ');
    match (words.next()?, FileIdentity::parse(words.next()?)?, words.next()) {
        ("copied", identity, None) => Some(Pinned::Copied(identity)),
        ("not", identity, Some(index)) => {
            Some(Pinned::Not(identity, *Unpinnable::ALL.get(index.parse::<usize>().ok()?)?))
        }
        _ => None,
    }
}

/// Takes the folder of a copy for the caller alone, until it lets go or ends; waits for who has it. A child that
/// copies outlives the supd that began it, and the next supd's would write to the same names.
///
/// # Errors
/// What was being done, to what, and why it failed.
pub fn alone(folder: &Path) -> Result<Flock<OwnedFd>, String> {
    let says = |errno: Errno| format!("cannot lock {}: {}", folder.display(), errno.desc());
    let place = open_folder(folder).map_err(says)?;
    Flock::lock(place, FlockArg::LockExclusive).map_err(|(_, errno)| says(errno))
}

fn open_folder(folder: &Path) -> Result<OwnedFd, Errno> {
    open(folder, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// [`pin`], within a child that the caller has forked already. Waits for the disk.
///
/// # Errors
/// What was being done, to what, and why it failed.
pub fn copy(source: &Path, target: &Path, size_max: u64) -> Result<Pinned, String> {
    let (file, identity, mode) = open_regular(source).map_err(|error| error.to_string())?;
    let file = File::from(file);
    let folder = target.parent().unwrap_or(Path::new("/"));
    let says = |doing: &str, what: &Path, why: &dyn fmt::Display| {
        format!("cannot {doing} {}: {why}", what.display())
    };
    let place = open_folder(folder).map_err(|errno| says("open", folder, &errno.desc()))?;
    if let Some(reason) = unpinnable(source, &file, mode, identity.size, size_max, &place) {
        return Ok(Pinned::Not(identity, reason));
    }
    let name = target.file_name().ok_or_else(|| says("copy to", target, &"it has no name"))?;
    let mut temporary = name.to_owned();
    temporary.push(".new");
    let path = folder.join(&temporary);
    // A copy that was cut short by a crash.
    let _ = std::fs::remove_file(&path);
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(&place, temporary.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
        .map_err(|errno| says("make", &path, &errno.desc()))?;
    let result = fill(&file, File::from(made), identity, mode)
        .and_then(|()| std::fs::rename(&path, target).map_err(|error| error.to_string()));
    result.map_err(|why| {
        let _ = std::fs::remove_file(&path);
        says("copy", source, &format!("{why} (to {})", target.display()))
    })?;
    Ok(Pinned::Copied(identity))
}

/// Why not, looked at before a byte is copied.
fn unpinnable(
    source: &Path,
    file: &File,
    mode: u32,
    size: u64,
    size_max: u64,
    place: &OwnedFd,
) -> Option<Unpinnable> {
    let mut start = [0; 4];
    let read = file.read_at(&mut start, 0).unwrap_or(0);
    if start[..read].starts_with(b"#!") {
        return Some(Unpinnable::Script);
    }
    if start != elf::MAGIC {
        return Some(Unpinnable::NoProgram);
    }
    // Under whatever name it is called, and under its own.
    let named = |name: Option<&OsStr>| name.and_then(OsStr::to_str).is_some_and(is_interpreter);
    if named(source.file_name()) || named(held::own_name(source).as_deref()) {
        return Some(Unpinnable::Interpreter);
    }
    if elf::depends_on_its_place(file) {
        return Some(Unpinnable::Place);
    }
    if mode & 0o6000 != 0 || has_capabilities(file) {
        return Some(Unpinnable::Privileged);
    }
    if fstatvfs(place).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC)) {
        return Some(Unpinnable::NoExec);
    }
    (size > size_max).then_some(Unpinnable::TooLarge)
}

/// File capabilities (capabilities(7)).
#[allow(unsafe_code, reason = "fgetxattr(2) has no wrapper")]
fn has_capabilities(file: &File) -> bool {
    let name = c"security.capability";
    // SAFETY: the name ends with a NUL; a size of 0 asks for the length and writes nothing.
    unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

/// Contents, owner and mode; then the proof that the source did not change meanwhile.
fn fill(source: &File, mut target: File, identity: FileIdentity, mode: u32) -> Result<(), String> {
    contents(source, &mut target).map_err(|errno| errno.desc().to_owned())?;
    let after =
        fstat(source).map(|stat| FileIdentity::from_stat(&stat)).map_err(|errno| errno.desc().to_owned())?;
    let copied = fstat(&target).map(|stat| stat.st_size).map_err(|errno| errno.desc().to_owned())?;
    if !after.is_still(&identity) || u64::try_from(copied) != Ok(identity.size) {
        return Err("it changed while it was copied".to_owned());
    }
    // What anyone may run belongs to supd. What only some may run stays theirs, or they could not,
    // and others could.
    let stat = fstat(source).map_err(|errno| errno.desc().to_owned())?;
    if mode & 0o001 == 0 && geteuid().is_root() {
        let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
        fchown(target.as_fd(), owner.0, owner.1).map_err(|errno| errno.desc().to_owned())?;
    }
    let mode = std::fs::Permissions::from_mode(mode & 0o555);
    target.set_permissions(mode).map_err(|error| error.to_string())?;
    fsync(&target).map_err(|errno| errno.desc().to_owned())
}

/// Shares the blocks where the file system can (FICLONE); else std has the kernel copy them
/// (copy_file_range(2)) where it can.
fn contents(mut source: &File, target: &mut File) -> Result<(), Errno> {
    if reflink(source, target).is_ok() {
        return Ok(());
    }
    let copied = std::io::copy(&mut source, target);
    copied.map(drop).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

#[allow(unsafe_code, reason = "ioctl(2)")]
fn reflink(source: &File, target: &File) -> Result<(), Errno> {
    // SAFETY: FICLONE takes a descriptor, not a pointer; both are open.
    Errno::result(unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{FileIdentity, Pinned, Unpinnable, copy, decode, pin};
    use crate::os::alone::root_or_skip;
    use crate::os::task::tests::finish;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    const LARGE: u64 = 1 << 30;

    struct Bench(tempfile::TempDir);

    impl Bench {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// A program that can be changed.
        fn program(&self, name: &str) -> PathBuf {
            fs::copy("/bin/true", self.path(name)).unwrap();
            self.path(name)
        }

        fn copy(&self, source: &Path) -> Result<Pinned, String> {
            copy(source, &self.path("pinned"), LARGE)
        }

        fn refusal(&self, source: &Path) -> Unpinnable {
            match self.copy(source).unwrap() {
                Pinned::Not(_, reason) => reason,
                copied @ Pinned::Copied(_) => panic!("{copied:?}"),
            }
        }
    }

    #[test]
    fn a_copy_runs_although_the_original_changed() {
        let bench = Bench::new();
        let source = bench.program("server");
        let identity = FileIdentity::of(&source).unwrap();
        let task = pin(source.clone(), bench.path("pinned"), LARGE, Duration::from_secs(60)).unwrap();
        assert_eq!(decode(&finish(task).unwrap()), Some(Pinned::Copied(identity)));
        fs::write(&source, "broken").unwrap();
        assert_ne!(FileIdentity::of(&source).unwrap(), identity);
        let copied = fs::metadata(bench.path("pinned")).unwrap();
        assert_eq!(copied.permissions().mode() & 0o7777, 0o555);
        assert!(std::process::Command::new(bench.path("pinned")).status().unwrap().success());
        assert!(!bench.path("pinned.new").exists());
    }

    #[test]
    fn another_copy_takes_its_place_while_it_runs() {
        let bench = Bench::new();
        // In a child: no other test's fork can hold the copy open for writing when it is run.
        crate::os::task::tests::in_child(|| {
            bench.copy(Path::new("/bin/sleep")).unwrap();
        });
        let mut child = std::process::Command::new(bench.path("pinned")).arg("600").spawn().unwrap();
        fs::write(bench.path("pinned.new"), "what a crash left").unwrap();
        assert!(matches!(bench.copy(&bench.program("server2")), Ok(Pinned::Copied(_))));
        // The file that runs can be pinned even after it is gone.
        let exe = PathBuf::from(format!("/proc/{}/exe", child.id()));
        assert!(matches!(bench.copy(&exe), Ok(Pinned::Copied(_))));
        assert_eq!(fs::read(bench.path("pinned")).unwrap(), fs::read("/bin/sleep").unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_cannot_be_pinned_and_why() {
        let bench = Bench::new();
        fs::write(bench.path("script"), "#!/bin/sh\n").unwrap();
        assert_eq!(bench.refusal(&bench.path("script")), Unpinnable::Script);
        for text in ["", "a", "text\n"] {
            fs::write(bench.path("text"), text).unwrap();
            assert_eq!(bench.refusal(&bench.path("text")), Unpinnable::NoProgram);
        }
        assert_eq!(bench.refusal(&bench.program("python3.12")), Unpinnable::Interpreter);
        symlink(bench.path("python3.12"), bench.path("server")).unwrap();
        assert_eq!(bench.refusal(&bench.path("server")), Unpinnable::Interpreter);
        let setuid = bench.program("setuid");
        fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
        assert_eq!(bench.refusal(&setuid), Unpinnable::Privileged);
        let large = copy(&bench.program("large"), &bench.path("pinned"), 100).unwrap();
        assert!(matches!(large, Pinned::Not(_, Unpinnable::TooLarge)));
        assert!(!bench.path("pinned").exists());
    }

    #[test]
    fn noexec_is_seen() {
        if !root_or_skip("noexec_is_seen") {
            return;
        }
        use nix::mount::{MsFlags, mount};
        let bench = Bench::new();
        let (source, folder) = (bench.program("server"), bench.path("noexec"));
        fs::create_dir(&folder).unwrap();
        crate::os::task::tests::in_child(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("none"), &folder, Some("tmpfs"), MsFlags::MS_NOEXEC, none).unwrap();
            let result = copy(&source, &folder.join("pinned"), LARGE).unwrap();
            assert!(matches!(result, Pinned::Not(_, Unpinnable::NoExec)), "{result:?}");
        });
    }

    #[test]
    fn a_fifo_holds_nobody_up() {
        let bench = Bench::new();
        nix::unistd::mkfifo(&bench.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(bench.copy(&bench.path("fifo")).unwrap_err().contains("Invalid argument"));
        assert!(FileIdentity::of(&bench.path("")).is_err());
        assert!(FileIdentity::of(Path::new("/dev/null")).is_err());
        let gone = bench.copy(&bench.path("gone")).unwrap_err();
        assert!(gone.starts_with("cannot open ") && gone.contains("No such file"), "{gone}");
        let nowhere = copy(&bench.program("a"), &bench.path("no/folder"), LARGE).unwrap_err();
        assert!(nowhere.contains("No such file"), "{nowhere}");
    }

    #[test]
    fn a_full_disk_leaves_nothing() {
        // RLIMIT_FSIZE stands in for the disk: the copy fails in the middle.
        let bench = Bench::new();
        let (source, target) = (bench.program("server"), bench.path("pinned"));
        let task = crate::os::task::Task::run("a test", Duration::from_secs(60), &[], || {
            let ignore = nix::sys::signal::SigHandler::SigIgn;
            // SAFETY: a child about to end.
            #[allow(unsafe_code)]
            unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGXFSZ, ignore) }.unwrap();
            crate::os::original::set_raw(crate::model::settings::Resource::Fsize, 4096, 4096).unwrap();
            copy(&source, &target, LARGE).map(|_| Vec::new())
        });
        let error = finish(task.unwrap()).unwrap_err();
        assert!(error.contains("File too large"), "{error}");
        assert!(!bench.path("pinned").exists() && !bench.path("pinned.new").exists());
    }

    #[test]
    fn a_source_that_changes_meanwhile_is_no_pin() {
        let bench = Bench::new();
        let source = bench.program("server");
        let before = FileIdentity::of(&source).unwrap();
        // As many bytes as before: only the times tell. Set, since the clock of a file system may
        // not tick between two writes.
        let writer = fs::File::options().write(true).open(&source).unwrap();
        writer.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let target = fs::File::create_new(bench.path("copy")).unwrap();
        let error = super::fill(&fs::File::open(&source).unwrap(), target, before, 0o755).unwrap_err();
        assert_eq!(error, "it changed while it was copied");
    }

    #[test]
    fn whom_the_copy_belongs_to() {
        if !root_or_skip("whom_the_copy_belongs_to") {
            return;
        }
        let bench = Bench::new();
        let source = bench.program("server");
        let set = |owner: u32, mode: u32| {
            std::os::unix::fs::chown(&source, Some(owner), Some(owner)).unwrap();
            fs::set_permissions(&source, fs::Permissions::from_mode(mode)).unwrap();
            bench.copy(&source).unwrap();
            let copied = fs::metadata(bench.path("pinned")).unwrap();
            (copied.uid(), copied.gid(), copied.mode() & 0o7777)
        };
        assert_eq!(set(65534, 0o775), (0, 0, 0o555));
        assert_eq!(set(65534, 0o750), (65534, 65534, 0o550));
    }

    #[test]
    fn answers_are_read_back() {
        let identity = FileIdentity::of(Path::new("/bin/sh")).unwrap();
        assert_eq!(FileIdentity::parse(&identity.to_string()), Some(identity));
        for (index, reason) in Unpinnable::ALL.into_iter().enumerate() {
            let answer = format!("not {identity} {index}");
            assert_eq!(decode(answer.as_bytes()), Some(Pinned::Not(identity, reason)));
        }
        for bad in
            ["", "copied", "copied 1:2:3:4", "copied 1:2:3:4:5:6", "not 1:2:3:4:5 99", "copied 1:2:3:4:5 1"]
        {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
