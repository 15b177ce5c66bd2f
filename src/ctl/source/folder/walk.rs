//! A walk through a folder in the order of an archive's members.

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use sha2::{Digest, Sha256};
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Folders within folders; each holds a descriptor.
const DEPTH_MAX: usize = 100;
/// Bytes of a member's name.
const NAME_MAX: usize = 4096;
/// Members in all, and so entries of one folder, whose names are held at the same time.
const MEMBERS_MAX: u64 = 1_000_000;

/// Why a folder cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Below the folder; empty: the folder.
    path: PathBuf,
    what: String,
    /// What to do about it.
    pub(super) remedy: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Debug escapes what would move a cursor.
        match self.path.as_os_str().is_empty() {
            true => write!(f, "it {}", self.what),
            false => write!(f, "{:?} {}", self.path, self.what),
        }
    }
}

impl Fault {
    pub(super) fn new(path: &Path, what: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into(), remedy: None }
    }

    /// Somebody works in it.
    pub(super) fn changed(path: &Path) -> Self {
        let remedy = Some("send it when nobody writes there any more".to_owned());
        Self { remedy, ..Self::new(path, "changed while it was read") }
    }

    fn remedy(self, remedy: &str) -> Self {
        Self { remedy: Some(remedy.to_owned()), ..self }
    }

    fn errno(path: &Path, errno: Errno) -> Self {
        Self::new(path, format!("cannot be read: {}", errno.desc()))
    }
}

/// One member.
#[derive(Debug)]
pub(super) struct Member<'a> {
    /// Below the folder; a folder's ends in a slash.
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    stat: FileStat,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Kind {
    Folder,
    /// Where it points.
    Link(Vec<u8>),
    File {
        file: File,
        size: u64,
        executable: bool,
    },
}

/// Whoever is shown each member.
pub(super) trait Visit {
    /// What stops the walk.
    type Error: From<Fault>;
    fn visit(&mut self, member: &Member<'_>) -> Result<(), Self::Error>;
}

/// All that was seen, so that two walks can be compared.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    members: u64,
    state: Sha256,
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.members == other.members && self.state.clone().finalize() == other.state.clone().finalize()
    }
}

impl Visit for Seen {
    type Error = Fault;

    fn visit(&mut self, member: &Member<'_>) -> Result<(), Fault> {
        self.members += 1;
        if self.members > MEMBERS_MAX {
            return Err(Fault::new(Path::new(""), format!("has more than {MEMBERS_MAX} members")));
        }
        let stat = &member.stat;
        // Of a folder only its members count: its times change with what nobody sends, too.
        let times = match member.kind {
            Kind::Folder => [0; 4],
            Kind::Link(_) | Kind::File { .. } => {
                [stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec]
            }
        };
        self.state.update(member.name);
        self.state.update([0]);
        self.state.update(stat.st_ino.to_le_bytes());
        self.state.update(stat.st_mode.to_le_bytes());
        times.iter().for_each(|time| self.state.update(time.to_le_bytes()));
        Ok(())
    }
}

/// Shows each member of the folder, in the order of the bytes of their names.
pub(super) fn walk<V: Visit>(folder: &OwnedFd, visit: &mut V) -> Result<(), V::Error> {
    within(folder, &mut String::new(), 0, visit)
}

/// The members of one folder, whose name with its slash is `name`.
fn within<V: Visit>(
    folder: &OwnedFd,
    name: &mut String,
    depth: usize,
    visit: &mut V,
) -> Result<(), V::Error> {
    if depth > DEPTH_MAX {
        let what = format!("is more than {DEPTH_MAX} folders deep");
        return Err(Fault::new(Path::new(name), what).into());
    }
    let length = name.len();
    for entry in entries(folder, Path::new(name))? {
        name.push_str(&entry);
        let within_name = one(folder, name, length, depth, visit);
        name.truncate(length);
        within_name?;
    }
    Ok(())
}

/// One entry; `name` is the whole name, which begins at `from` in its folder.
fn one<V: Visit>(
    folder: &OwnedFd,
    name: &mut String,
    from: usize,
    depth: usize,
    visit: &mut V,
) -> Result<(), V::Error> {
    let path = PathBuf::from(name.trim_end_matches('/'));
    if name.len() > NAME_MAX {
        return Err(Fault::new(&path, format!("has a name of more than {NAME_MAX} bytes")).into());
    }
    let entry = name[from..].trim_end_matches('/').to_owned();
    let failed = |errno| match errno {
        // It is another thing by now, or is gone.
        Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR => Fault::changed(&path),
        errno => Fault::errno(&path, errno),
    };
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    if name.ends_with('/') {
        let inner =
            openat(folder, entry.as_str(), flags | OFlag::O_DIRECTORY, Mode::empty()).map_err(failed)?;
        let stat = fstat(&inner).map_err(failed)?;
        visit.visit(&Member { name, kind: Kind::Folder, stat })?;
        return within(&inner, name, depth + 1, visit);
    }
    let stat = fstatat(folder, entry.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
    match kind_of(&stat) {
        SFlag::S_IFLNK => {
            let target = readlinkat(folder, entry.as_str()).map_err(failed)?;
            let target = std::os::unix::ffi::OsStringExt::into_vec(target);
            visit.visit(&Member { name, kind: Kind::Link(target), stat })
        }
        SFlag::S_IFREG => {
            let file = openat(folder, entry.as_str(), flags, Mode::empty()).map_err(failed)?;
            let opened = fstat(&file).map_err(failed)?;
            if (opened.st_ino, kind_of(&opened)) != (stat.st_ino, SFlag::S_IFREG) {
                return Err(Fault::changed(&path).into());
            }
            let size = u64::try_from(opened.st_size).unwrap_or(0);
            let executable = opened.st_mode & 0o111 != 0;
            let kind = Kind::File { file: File::from(file), size, executable };
            visit.visit(&Member { name, kind, stat: opened })
        }
        SFlag::S_IFDIR => Err(Fault::changed(&path).into()),
        other => Err(unfit(&path, other).into()),
    }
}

fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn unfit(path: &Path, kind: SFlag) -> Fault {
    let what = match kind {
        SFlag::S_IFSOCK => "is a socket",
        SFlag::S_IFIFO => "is a FIFO",
        _ => "is a device",
    };
    Fault::new(path, format!("{what}, which cannot be part of a release")).remedy("take it out of the folder")
}

/// The names of a folder's entries in their order, a folder's with a slash at its end: with it
/// `a/b` comes behind `a-b`, as it does in a list of all names.
fn entries(folder: &OwnedFd, path: &Path) -> Result<Vec<String>, Fault> {
    let failed = |errno| Fault::errno(path, errno);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // A description of its own: a walk reads from its beginning.
    let mut dir = Dir::openat(folder, ".", flags, Mode::empty()).map_err(failed)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(failed)?;
        let name: CString = entry.file_name().into();
        if [b".".as_slice(), b".."].contains(&name.as_bytes()) {
            continue;
        }
        let is_folder = match entry.file_type() {
            Some(kind) => kind == Type::Directory,
            // Some file systems do not say.
            None => fstatat(folder, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| kind_of(&stat) == SFlag::S_IFDIR),
        };
        let name = name.into_string().map_err(|error| {
            let name = error.into_cstring();
            let name = path.join(std::ffi::OsStr::new(&*name.to_string_lossy()));
            Fault::new(&name, "has a name that is not UTF-8").remedy("give it another name")
        })?;
        names.push(if is_folder { name + "/" } else { name });
        if names.len() as u64 > MEMBERS_MAX {
            return Err(Fault::new(path, format!("has more than {MEMBERS_MAX} members")));
        }
    }
    names.sort_unstable();
    Ok(names)
}
