//! Owner, group and mode of a UNIX path or a FIFO, set on the thing itself and never on a name.
//!
//! supd may be root and the folder a stranger's: between bind(2) and a chown(2) by name he could put
//! a link to /etc/shadow there. So the name is opened once with O_PATH and looked at, and from then
//! on only the descriptor is used.

use super::occupant::FileId;
use crate::model::settings::SocketOptions;
use crate::os::Error;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat};
use nix::unistd::{Gid, Group, Uid, User, fchownat, geteuid};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// SocketUser, SocketGroup and SocketMode, looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    uid: Option<Uid>,
    gid: Option<Gid>,
    mode: Mode,
}

/// A name that the system does not know: the directive and the name.
pub(super) struct Unknown(pub(super) &'static str, pub(super) String);

impl Owner {
    /// Names are looked up through NSS, so that a machine with LDAP may wait for it here; numbers are
    /// taken as they are. A user alone brings its own group, as in systemd.socket(5).
    pub(super) fn look_up(options: &SocketOptions) -> Result<Self, Unknown> {
        let (uid, of_user) = match &options.user {
            None => (None, None),
            Some(name) => {
                let (uid, gid) = user(name).ok_or_else(|| Unknown("SocketUser", name.clone()))?;
                (Some(uid), gid)
            }
        };
        let gid = match &options.group {
            None => of_user,
            Some(name) => Some(group(name).ok_or_else(|| Unknown("SocketGroup", name.clone()))?),
        };
        Ok(Self { uid, gid, mode: Mode::from_bits_truncate(options.mode & 0o777) })
    }

    /// Whether something of this user may be taken for supd's own or the unit's.
    pub(super) fn may_own(&self, uid: u32) -> bool {
        uid == geteuid().as_raw() || self.uid.is_some_and(|own| own.as_raw() == uid)
    }

    /// Gives a socket or FIFO that supd has just made under this name to its owner.
    ///
    /// # Errors
    /// ELOOP or EEXIST if the name is not, or no longer, the thing that supd made; EPERM without
    /// CAP_CHOWN.
    pub(super) fn give_new(&self, path: &Path, kind: SFlag) -> Result<FileId, Error> {
        let (node, found) = look_at(path)?;
        let type_of = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
        if type_of != kind || found.st_uid != geteuid().as_raw() || found.st_nlink != 1 {
            return Err(Error::new("own", path.display(), Errno::EEXIST));
        }
        self.give(&node, &found, path)?;
        Ok(FileId::of(&found))
    }

    /// The same for one that exists already and is known.
    pub(super) fn give_known(&self, path: &Path, id: FileId) -> Result<(), Error> {
        let (node, found) = look_at(path)?;
        if FileId::of(&found) != id {
            return Err(Error::new("own", path.display(), Errno::ESTALE));
        }
        self.give(&node, &found, path)
    }

    fn give(&self, node: &OwnedFd, found: &FileStat, path: &Path) -> Result<(), Error> {
        let uid = self.uid.filter(|uid| uid.as_raw() != found.st_uid);
        let gid = self.gid.filter(|gid| gid.as_raw() != found.st_gid);
        if uid.is_some() || gid.is_some() {
            fchownat(node, "", uid, gid, AtFlags::AT_EMPTY_PATH)
                .map_err(|errno| Error::new("change the owner of", path.display(), errno))?;
        }
        // fchmod(2) refuses O_PATH descriptors, and fchmodat2(2), which takes them, is Linux 6.6.
        let link = format!("/proc/self/fd/{}", node.as_raw_fd());
        fchmodat(AT_FDCWD, link.as_str(), self.mode, FchmodatFlags::FollowSymlink)
            .map_err(|errno| Error::new("change the mode of", path.display(), errno))
    }
}

fn look_at(path: &Path) -> Result<(OwnedFd, FileStat), Error> {
    let failed = |errno| Error::new("look at", path.display(), errno);
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let node = open(path, flags, Mode::empty()).map_err(failed)?;
    let found = fstat(&node).map_err(failed)?;
    Ok((node, found))
}

fn user(name: &str) -> Option<(Uid, Option<Gid>)> {
    if let Ok(number) = name.parse() {
        let uid = Uid::from_raw(number);
        return Some((uid, User::from_uid(uid).ok().flatten().map(|user| user.gid)));
    }
    User::from_name(name).ok().flatten().map(|user| (user.uid, Some(user.gid)))
}

fn group(name: &str) -> Option<Gid> {
    if let Ok(number) = name.parse() {
        return Some(Gid::from_raw(number));
    }
    Group::from_name(name).ok().flatten().map(|group| group.gid)
}
