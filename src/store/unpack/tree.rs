//! The members of an archive carried out beneath one folder.
//!
//! Whoever made the archive chose every name in it, so no name is ever followed: a member's folder
//! is opened beneath the top without passing a link, and the member itself is made there as
//! something new. What is known of the tree is what was made, not what is found.

use super::Bounds;
use super::archive::{Archive, Kind, Member};
use super::bounds::size;
use super::digest::{Content, Entry};
use super::name::{self, shown};
use crate::os::beneath;
use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::sys::time::TimeSpec;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Permission bits of a folder that no member describes.
const IMPLIED: u32 = 0o755;

/// The tree under way.
pub(super) struct Tree<'a> {
    top: BorrowedFd<'a>,
    bounds: &'a Bounds,
    members: BTreeMap<Box<str>, Entry>,
    names_bytes: u64,
    /// The folder that was opened last: the next member is mostly in the same.
    open: Option<(String, OwnedFd)>,
}

impl<'a> Tree<'a> {
    /// An empty one.
    pub(super) fn new(top: BorrowedFd<'a>, bounds: &'a Bounds) -> Result<Self, String> {
        let tree = Self { top, bounds, members: BTreeMap::new(), names_bytes: 0, open: None };
        set_mode(top, IMPLIED).map_err(|errno| failed("", errno))?;
        Ok(tree)
    }

    /// Carries out one member.
    ///
    /// # Errors
    /// Why not, with its name.
    pub(super) fn add<R: Read>(
        &mut self,
        member: &Member,
        archive: &mut Archive<'_, R>,
    ) -> Result<(), String> {
        let refused = |why: String| format!("{}: {why}", shown(member.name.as_bytes()));
        match &member.kind {
            Kind::Folder => self.folder(&member.name, member.mode),
            Kind::File(length) => return self.file(member, *length, archive),
            Kind::Link(target) => self.link(&member.name, target),
            Kind::Again(target) => self.again(&member.name, target),
        }
        .map_err(refused)
    }

    /// Every member, once each link is known to lead nowhere else: several that stay within, as
    /// they are written, may lead out together.
    ///
    /// # Errors
    /// The link that does.
    pub(super) fn finish(self) -> Result<BTreeMap<Box<str>, Entry>, String> {
        for (name, entry) in &self.members {
            if let Entry::Link(target) = entry {
                let inside = beneath::leads_inside(self.top, OsStr::new(&**name));
                if !inside.map_err(|errno| failed(name, errno))? {
                    let (name, target) = (shown(name.as_bytes()), shown(target.as_bytes()));
                    return Err(format!(
                        "{name}: a link to {target}, which leaves the release over another link"
                    ));
                }
            }
        }
        Ok(self.members)
    }

    fn folder(&mut self, name: &str, mode: u32) -> Result<(), String> {
        // Its owner has to get on with the members in it.
        let mode = mode & 0o755 | 0o700;
        self.enter(name)?;
        set_mode(self.opened(), mode).map_err(told)
    }

    fn file<R: Read>(
        &mut self,
        member: &Member,
        length: u64,
        archive: &mut Archive<'_, R>,
    ) -> Result<(), String> {
        let name = &member.name;
        let (open, leaf) =
            self.make_way(name, "a file").map_err(|why| format!("{}: {why}", shown(name.as_bytes())))?;
        let failed = |errno| failed(name, errno);
        let mut file = File::from(beneath::create_file(open, leaf).map_err(failed)?);
        let mut sum = Sha256::new();
        archive.content(length, |bytes| {
            sum.update(bytes);
            file.write_all(bytes)
                .map_err(|error| failed(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))
        })?;
        let mode = member.mode & 0o755 | 0o600;
        set_mode(file.as_fd(), mode).map_err(failed)?;
        // Python holds a .pyc against the time of its source.
        let time = TimeSpec::new(member.time.0, member.time.1);
        futimens(&file, &time, &time).map_err(failed)?;
        let content = Content { executable: mode & 0o100 != 0, length, sum: sum.finalize().into() };
        self.members.insert(name.as_str().into(), Entry::File(content));
        Ok(())
    }

    fn link(&mut self, name: &str, target: &str) -> Result<(), String> {
        self.names_bytes += target.len() as u64;
        let (open, leaf) = self.make_way(name, "a link")?;
        beneath::make_link(open, leaf, target).map_err(told)?;
        self.members.insert(name.into(), Entry::Link(target.into()));
        Ok(())
    }

    /// A hard link: to a file it is one, to a symbolic link another like it, since where it leads
    /// depends on where it stands.
    fn again(&mut self, name: &str, target: &str) -> Result<(), String> {
        let shown = shown(target.as_bytes());
        if name == target {
            return Err("a hard link to itself".into());
        }
        match self.members.get(target).cloned() {
            None => Err(format!("a hard link to {shown}, which did not come before it")),
            Some(Entry::Folder) => Err(format!("a hard link to {shown}, a folder")),
            Some(Entry::Link(leads)) => {
                name::target(name, leads.as_bytes(), self.bounds)?;
                self.link(name, &leads)
            }
            Some(file @ Entry::File(_)) => {
                let (folder, old) = split(target);
                self.enter(folder)?;
                let opened = self.opened().try_clone_to_owned();
                let from = opened.map_err(|error| format!("it cannot be linked: {error}"))?;
                let (open, leaf) = self.make_way(name, "a file")?;
                beneath::link((from.as_fd(), OsStr::new(old)), (open, leaf)).map_err(told)?;
                self.members.insert(name.into(), file);
                Ok(())
            }
        }
    }

    /// The folder in which `name` is to be made, with nothing of that name in it. One that was
    /// there goes, if it is of the same kind: the last one counts, as with tar itself.
    fn make_way<'n>(&mut self, name: &'n str, what: &str) -> Result<(BorrowedFd<'_>, &'n OsStr), String> {
        let before = match self.members.get(name) {
            None => None,
            Some(Entry::Folder) => Some("a folder"),
            Some(Entry::File(_)) => Some("a file"),
            Some(Entry::Link(_)) => Some("a link"),
        };
        let (folder, leaf) = split(name);
        let leaf = OsStr::new(leaf);
        self.enter(folder)?;
        self.count(name)?;
        match before {
            None => {}
            Some(before) if before == what => beneath::remove_file(self.opened(), leaf).map_err(told)?,
            Some(before) => return Err(format!("{what}, and before it {before} of the same name")),
        }
        Ok((self.opened(), leaf))
    }

    /// Opens a folder, and makes it and those above as far as they are missing.
    fn enter(&mut self, folder: &str) -> Result<(), String> {
        match &self.open {
            Some((open, _)) if open == folder => return Ok(()),
            None if folder.is_empty() => return Ok(()),
            _ => self.open = None,
        }
        let ends = folder.match_indices('/').map(|(at, _)| at);
        for end in ends.chain(Some(folder.len()).filter(|end| *end > 0)) {
            let path = &folder[..end];
            match self.members.get(path) {
                Some(Entry::Folder) => {}
                None => self.make_folder(path)?,
                Some(Entry::File(_)) => {
                    return Err(format!("{} is a file, not a folder", shown(path.as_bytes())));
                }
                Some(Entry::Link(_)) => {
                    return Err(format!("it would be written through the link {}", shown(path.as_bytes())));
                }
            }
        }
        if !folder.is_empty() {
            let open = beneath::open_folder(self.top, OsStr::new(folder)).map_err(told)?;
            self.open = Some((folder.to_owned(), open));
        }
        Ok(())
    }

    fn make_folder(&mut self, path: &str) -> Result<(), String> {
        self.count(path)?;
        let (above, leaf) = split(path);
        let made = |top: BorrowedFd<'_>| {
            beneath::make_folder(top, OsStr::new(leaf))?;
            set_mode(beneath::open_folder(top, OsStr::new(leaf))?.as_fd(), IMPLIED)
        };
        if above.is_empty() {
            made(self.top).map_err(told)?;
        } else {
            let above = beneath::open_folder(self.top, OsStr::new(above)).map_err(told)?;
            made(above.as_fd()).map_err(told)?;
        }
        self.members.insert(path.into(), Entry::Folder);
        Ok(())
    }

    /// The folder that was entered.
    fn opened(&self) -> BorrowedFd<'_> {
        self.open.as_ref().map_or(self.top, |(_, open)| open.as_fd())
    }

    /// Before a member is made: what is one too many is not on the disk either.
    fn count(&mut self, name: &str) -> Result<(), String> {
        self.names_bytes += name.len() as u64;
        if self.names_bytes > self.bounds.names_bytes {
            return Err(format!("its names are more than {} together", size(self.bounds.names_bytes)));
        }
        // A folder that a member implies is one more that no header was counted for.
        if self.members.len() as u64 >= self.bounds.members {
            return Err(format!("it has more than {} members", self.bounds.members));
        }
        Ok(())
    }
}

/// The folder of a name, and the rest.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

fn set_mode(file: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    fchmod(file, Mode::from_bits_truncate(mode))
}

fn told(errno: Errno) -> String {
    match errno {
        Errno::ENOSPC => "there is no room left on the disk".into(),
        Errno::EDQUOT => "the disk quota is used up".into(),
        errno => format!("it cannot be made: {}", errno.desc()),
    }
}

fn failed(name: &str, errno: Errno) -> String {
    format!("{}: {}", shown(name.as_bytes()), told(errno))
}
