//! The two names of a UNIX socket or FIFO: a private one that supd keeps, and the public one.
//!
//! Made under the private name, it gets its owner and mode before any client can reach it; link(2)
//! and rename(2) then make it public at once, and again if somebody removes the public name.

use super::bind_error::Why;
use super::occupant::{FileId, remove_if, vacant};
use super::owner::Owner;
use crate::model::Address;
use crate::os::{Error, port_holder};
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Names tried before giving up; each generation of a crashing supd may leave one behind.
const MOST_NAMES: u32 = 1000;
/// Entries looked at in a folder that may be anybody's.
const MOST_ENTRIES: usize = 10_000;
/// How often a public name may change under our hands before somebody else is said to hold it.
const MOST_TRIES: u32 = 8;

/// A socket or FIFO with a private and, while clients may come, a public name.
#[derive(Debug)]
pub(super) struct Place {
    public: PathBuf,
    private: PathBuf,
    id: FileId,
    kind: SFlag,
    /// Somebody else made it and may go on with it: its public name stays when supd goes.
    theirs: bool,
    /// Neither name goes with this value.
    keep: bool,
}

impl Place {
    /// Makes something under a private name and gives it to its owner. It is not public yet.
    ///
    /// # Errors
    /// [`Why::InUse`] or [`Why::Occupied`] if something else is at the public path, and what the
    /// kernel says.
    pub(super) fn make<T>(
        public: &Path,
        folder: &Path,
        name: &str,
        kind: SFlag,
        owner: &Owner,
        mut make: impl FnMut(&Path) -> Result<T, Error>,
    ) -> Result<(Self, T), Why> {
        let beside = prepare(public, folder)?;
        vacant(public, kind)?;
        let (private, id, made) = fresh(folder, name, kind, owner, None, &mut make)?;
        let mut place = Self { public: public.into(), private, id, kind, theirs: false, keep: false };
        match place.try_link(beside, name) {
            Ok(()) => Ok((place, made)),
            // Another file system, or one without hard links: then it has to be born beside its
            // public name, under a hidden one.
            Err(Error { errno: Errno::EXDEV | Errno::EPERM | Errno::EOPNOTSUPP, .. }) => {
                drop(made);
                place.forget_private();
                let hidden = format!(".supd-{name}");
                let (private, id, made) = fresh(beside, &hidden, kind, owner, None, &mut make)?;
                place.private = private;
                place.id = id;
                Ok((place, made))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes another for the same public name, which it may take over and give back.
    pub(super) fn make_sibling<T>(
        &self,
        folder: &Path,
        name: &str,
        owner: &Owner,
        mut make: impl FnMut(&Path) -> Result<T, Error>,
    ) -> Result<(Self, T), Error> {
        let beside = self.public.parent();
        let hidden = format!(".supd-{name}");
        let (folder, name) = match self.private.parent() {
            here if here == beside => (beside.unwrap_or(folder), hidden.as_str()),
            _ => (folder, name),
        };
        let (private, id, made) = fresh(folder, name, self.kind, owner, Some(self.id), &mut make)?;
        let public = self.public.clone();
        Ok((Self { public, private, id, kind: self.kind, theirs: false, keep: false }, made))
    }

    /// Takes in what is at the public path already, if it is the file `id`. `theirs`: somebody else
    /// goes on with it later.
    pub(super) fn adopt(
        public: &Path,
        folder: &Path,
        name: &str,
        kind: SFlag,
        id: FileId,
        theirs: bool,
    ) -> Result<Self, Error> {
        let beside = prepare(public, folder)?;
        let hidden = format!(".supd-{name}");
        let private = match link_fresh(public, folder, name) {
            Err(Error { errno: Errno::EXDEV | Errno::EPERM, .. }) => link_fresh(public, beside, &hidden)?,
            other => other?,
        };
        if FileId::at(&private) == Some(id) {
            return Ok(Self { public: public.into(), private, id, kind, theirs, keep: false });
        }
        let _ = fs::remove_file(&private);
        Err(Error::new("take over", public.display(), Errno::ESTALE))
    }

    /// Takes over both names of a supd that went and left them: the private one is in its folder, or
    /// hidden beside the public one, and stands for what `is_it` knows.
    pub(super) fn resume(
        public: &Path,
        folder: &Path,
        name: &str,
        kind: SFlag,
        is_it: impl Fn(FileId, &Path) -> bool,
    ) -> Option<Self> {
        let beside = public.parent().unwrap_or(Path::new("/"));
        let hidden = format!(".supd-{name}");
        [(folder, name), (beside, hidden.as_str())].into_iter().find_map(|(folder, name)| {
            let begins = format!("{name}.");
            let named_so = |path: &PathBuf| {
                path.file_name().is_some_and(|file| file.as_bytes().starts_with(begins.as_bytes()))
            };
            let entries = fs::read_dir(folder).ok()?.take(MOST_ENTRIES).flatten().map(|entry| entry.path());
            entries.filter(named_so).find_map(|private| {
                let id = FileId::at(&private).filter(|id| is_it(*id, &private))?;
                Some(Self { public: public.into(), private, id, kind, theirs: false, keep: false })
            })
        })
    }

    pub(super) fn private(&self) -> &Path {
        &self.private
    }

    /// Whoever made it is gone.
    pub(super) fn is_ours(&mut self) {
        self.theirs = false;
    }

    /// Whether somebody else made it and may go on with it.
    pub(super) fn is_theirs(&self) -> bool {
        self.theirs
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Whether the public name stands for this.
    pub(super) fn is_public(&self) -> bool {
        FileId::at(&self.public) == Some(self.id)
    }

    /// Whether one of the names is there to link the other from.
    fn private_is_there(&self) -> bool {
        FileId::at(&self.private) == Some(self.id)
    }

    /// Gives it its public name, in the place of nothing, of something stale, or of `over`. Whether
    /// that changed anything.
    ///
    /// # Errors
    /// [`Why::InUse`] if somebody else answers there by now, [`Why::Occupied`] if it is no socket.
    pub(super) fn publish(&self, over: Option<FileId>) -> Result<bool, Why> {
        for _ in 0..MOST_TRIES {
            match FileId::at(&self.public) {
                Some(id) if id == self.id => {
                    if !self.private_is_there() {
                        let _ = fs::hard_link(&self.public, &self.private);
                    }
                    return Ok(false);
                }
                Some(id) if Some(id) == over => {
                    self.replace()?;
                    return Ok(true);
                }
                Some(_) => {
                    if let Some(stale) = vacant(&self.public, self.kind)? {
                        remove_if(&self.public, stale);
                    }
                }
                None => {}
            }
            if !self.private_is_there() && self.private.exists() {
                return Err(Error::new("find what was made for", self.public.display(), Errno::ENOENT).into());
            }
            // A name that came back meanwhile is looked at anew: link(2) never replaces anything.
            match fs::hard_link(&self.private, &self.public) {
                Ok(()) => return Ok(true),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EEXIST) => {}
                    Some(Errno::ENOENT) if self.private_is_there() => folders(&self.public)?,
                    _ => return Err(Error::from_io("publish", self.public.display(), &error).into()),
                },
            }
        }
        Err(Error::new("publish", self.public.display(), Errno::EBUSY).into())
    }

    /// Takes the public name away, if it is still its own. Whether it was.
    pub(super) fn unpublish(&self) -> bool {
        remove_if(&self.public, self.id)
    }

    /// Both names stay when this value goes.
    pub(super) fn leave(mut self) {
        self.keep = true;
    }

    /// link(2) and rename(2): there is no moment without a public name.
    fn replace(&self) -> Result<(), Error> {
        if !self.private_is_there() {
            return Err(Error::new("find what was made for", self.public.display(), Errno::ENOENT));
        }
        let beside = self.public.parent().unwrap_or(Path::new("/"));
        let temporary = link_fresh(&self.private, beside, ".supd-new")?;
        fs::rename(&temporary, &self.public).map_err(|error| {
            let _ = fs::remove_file(&temporary);
            Error::from_io("publish", self.public.display(), &error)
        })
    }

    /// Whether the public name can be linked at all is found out now, not when traffic should flow.
    fn try_link(&self, beside: &Path, name: &str) -> Result<(), Error> {
        let link = link_fresh(&self.private, beside, &format!(".supd-try-{name}"))?;
        fs::remove_file(&link).map_err(|error| Error::from_io("remove", link.display(), &error))
    }

    fn forget_private(&self) {
        remove_if(&self.private, self.id);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if self.theirs {
            let _ = self.publish(None);
        } else {
            self.unpublish();
        }
        self.forget_private();
    }
}

/// Makes both folders; the public one as systemd's DirectoryMode= does, the private one closed.
fn prepare<'a>(public: &'a Path, folder: &Path) -> Result<&'a Path, Error> {
    folders(public)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Error::from_io("make the folder", folder.display(), &error))?;
    Ok(public.parent().unwrap_or(Path::new("/")))
}

fn folders(public: &Path) -> Result<(), Error> {
    let parent = public.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(parent)
        .map_err(|error| Error::from_io("make the folder", parent.display(), &error))
}

/// What begins the name that a socket is made under, and has for a moment only.
const AT_FIRST: &str = "at-first-";

/// `make` under the first name that is free in `folder`, and given to its owner. `sibling` is known to
/// have its name: to ask the kernel would take a list of every socket.
fn fresh<T>(
    folder: &Path,
    name: &str,
    kind: SFlag,
    owner: &Owner,
    sibling: Option<FileId>,
    make: &mut impl FnMut(&Path) -> Result<T, Error>,
) -> Result<(PathBuf, FileId, T), Error> {
    let mut number = 0;
    for _ in 0..MOST_NAMES {
        let path = folder.join(format!("{name}.{number}"));
        // getsockname(2) tells a worker under which name it was made: some remove that at their end.
        let at_first = folder.join(format!("{AT_FIRST}{name}.{number}"));
        let made = make(&at_first).and_then(|made| {
            let given = owner.give_new(&at_first, kind).and_then(|id| {
                let linked = fs::hard_link(&at_first, &path);
                linked
                    .map(|()| id)
                    .map_err(|error| Error::from_io("make a link in", folder.display(), &error))
            });
            let _ = fs::remove_file(&at_first);
            Ok((given?, made))
        });
        match made {
            Ok((id, made)) => return Ok((path, id, made)),
            Err(Error { errno: Errno::EADDRINUSE | Errno::EEXIST, .. }) => {
                let left =
                    |path: &PathBuf, id: &FileId| Some(*id) != sibling && is_left_behind(path, kind, *id);
                let removed = [&at_first, &path].map(|path| {
                    let stale = FileId::at(path).filter(|id| left(path, id));
                    stale.is_some_and(|id| remove_if(path, id))
                });
                if !removed.contains(&true) {
                    number += 1;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::new("find a free name in", folder.display(), Errno::EEXIST))
}

/// Whether a private name belongs to nobody any more, for certain.
fn is_left_behind(path: &Path, kind: SFlag, id: FileId) -> bool {
    if kind == SFlag::S_IFIFO {
        return port_holder::holders(&Address::Fifo { path: path.into() }).is_empty();
    }
    id.is_bound_by_anyone(path) == Some(false)
}

/// A further name for `from`: the first that is free in `folder`.
fn link_fresh(from: &Path, folder: &Path, name: &str) -> Result<PathBuf, Error> {
    for number in 0..MOST_NAMES {
        let path = folder.join(format!("{name}.{number}"));
        match fs::hard_link(from, &path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::from_io("make a link in", folder.display(), &error)),
        }
    }
    Err(Error::new("find a free name in", folder.display(), Errno::EEXIST))
}
