//! Releases on disk, in `releases/` of the state folder: `UNIT/LABEL/` is an installed tree,
//! `.staging/NUMBER/` one that is being unpacked, `.trash/NUMBER/` one on its way out.
//!
//! What is here counts for nothing by itself: the ledger says which trees are releases. So no step
//! needs to be undone when it is cut short: what the ledger does not name is swept at boot.
//!
//! Everything here but the paths may wait: for the disk, for name services, for whoever sends an
//! archive. It is for a child ([`crate::os::task::Task`]), never for supd's loop.
//!
//! In order: [`Releases::receive`], [`Releases::place`], (ExecInstall), [`Releases::seal`]; or at
//! any point [`Releases::discard_staged`] or [`Releases::discard`].

mod own;
mod remove;
mod sweep;
#[cfg(test)]
mod tests;

pub use sweep::Known;

use super::files;
use super::unpack::{self, Bounds, Unpacked};
use crate::model::{JobId, Label, UnitName};
use crate::os::Error;
use crate::os::beneath;
use crate::os::spawn::Account;
use crate::os::unprivileged::{Confinement, NOBODY};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, fchown, getegid, geteuid};
use own::{Owners, own};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bits of the folders above a release: a worker's user goes through to its own and sees nothing
/// else.
const THROUGH: u32 = 0o711;

/// Bits of what nobody but supd has business with.
const CLOSED: u32 = 0o700;

/// The releases of one state folder.
#[derive(Debug, Clone)]
pub struct Releases {
    root: PathBuf,
}

impl Releases {
    /// Those of this state folder.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { root: state.join("releases") }
    }

    /// Where the releases of a unit are.
    #[must_use]
    pub fn unit(&self, unit: &UnitName) -> PathBuf {
        self.root.join(unit.as_str())
    }

    /// Where a release is: SUPD_RELEASE_DIR.
    #[must_use]
    pub fn folder(&self, unit: &UnitName, label: &Label) -> PathBuf {
        self.unit(unit).join(label.as_str())
    }

    fn staging(&self) -> PathBuf {
        self.root.join(".staging")
    }

    fn staged(&self, job: JobId) -> PathBuf {
        self.staging().join(job.to_string())
    }

    fn trash(&self) -> PathBuf {
        self.root.join(".trash")
    }

    /// Makes the folders, as far as they are missing. The state folder is there.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn prepare(&self) -> Result<(), Error> {
        files::make_folder(&self.root, THROUGH)?;
        files::make_folder(&self.staging(), CLOSED)?;
        files::make_folder(&self.trash(), CLOSED)
    }

    /// Unpacks what a client sent, as a user without rights, and says what it is. As root that is
    /// the unit's own user, or nobody where the unit runs as root; `confinement` is that of a child
    /// of supd ([`Confinement::of_a_child`], made in the parent) and holds for the rest of this
    /// process.
    ///
    /// # Errors
    /// Why not, in a sentence for the client. What was made so far is to be discarded.
    pub fn receive(
        &self,
        job: JobId,
        source: BorrowedFd<'_>,
        account: &Account,
        confinement: Confinement,
        bounds: &Bounds,
    ) -> Result<Unpacked, String> {
        let identity = unpacker(account)?;
        let staged = self.stage(job, identity).map_err(|error| error.to_string())?;
        let confinement = Confinement { identity, file_bytes: bounds.file_bytes, ..confinement };
        confinement.enter().map_err(|error| error.to_string())?;
        unpack::unpack(source, staged.as_fd(), bounds)
    }

    /// An empty folder to unpack into. Others of the same user cannot get at it: the one above is
    /// closed, and the child that has it open cannot be looked into.
    fn stage(&self, job: JobId, owner: Option<(u32, u32)>) -> Result<OwnedFd, Error> {
        self.prepare()?;
        let path = self.staged(job);
        let failed = |errno| Error::new("make the folder", path.display(), errno);
        beneath::make_folder(nix::fcntl::AT_FDCWD, path.as_os_str()).map_err(failed)?;
        let folder = beneath::open_at(&path).map_err(failed)?;
        if let Some((uid, gid)) = owner {
            fchown(&folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
        }
        Ok(folder)
    }

    /// Moves an unpacked tree to where the release will be, owned by the unit's user, for
    /// ExecInstall. It is no release yet.
    ///
    /// # Errors
    /// What the kernel answered; the label is taken is one.
    pub fn place(&self, job: JobId, unit: &UnitName, label: &Label, account: &Account) -> Result<(), String> {
        let staged = self.staged(job);
        let owners = Owners::of(account)?;
        if owners.user.0 == 0 && owners.unpacked.0 != 0 {
            // As long as it is nobody's, everything that runs as nobody could write what
            // ExecInstall then runs as root.
            own(&open(&staged)?, &owners, own::Step::Give)?;
        }
        let told = |error: Error| error.to_string();
        files::make_folder(&self.unit(unit), THROUGH).map_err(told)?;
        let folder = self.folder(unit, label);
        beneath::move_path(&staged, &folder).map_err(|errno| match errno {
            Errno::EEXIST => format!("there is a folder {} already", folder.display()),
            errno => told(Error::new("move the unpacked files to", folder.display(), errno)),
        })
    }

    /// Makes a placed tree what it will be for ever: root's (or that of supd's own user), readable
    /// for the group of the unit's workers, written to by nobody; and has all of it on disk, with
    /// the folders above. Only now may the ledger name it.
    ///
    /// # Errors
    /// What stands in it that cannot be kept, or what the kernel answered.
    pub fn seal(&self, unit: &UnitName, label: &Label, account: &Account) -> Result<(), String> {
        let path = self.folder(unit, label);
        let top = open(&path)?;
        own(&top, &Owners::of(account)?, own::Step::Seal)?;
        // One flush for all of it, and for the names of the folders above, which are on the same
        // file system. fsync(2) for each file takes as many turns of the journal.
        nix::unistd::syncfs(&top).map_err(|errno| Error::new("sync", path.display(), errno).to_string())
    }

    /// Removes what a job unpacked.
    ///
    /// # Errors
    /// What could not be removed; it is tried again at boot.
    pub fn discard_staged(&self, job: JobId) -> Result<(), String> {
        self.throw_away(&self.staged(job))
    }

    /// Removes a release, or a tree that was to become one: first out of sight, so that nobody sees
    /// half of it. It must not be the ledger's any more.
    ///
    /// # Errors
    /// What could not be removed; it is tried again at boot.
    pub fn discard(&self, unit: &UnitName, label: &Label) -> Result<(), String> {
        self.throw_away(&self.folder(unit, label))
    }

    /// The first half of [`Releases::discard_staged`], one rename; [`Releases::empty_trash`] is the
    /// second.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn set_aside_staged(&self, job: JobId) -> Result<(), String> {
        remove::set_aside(&self.staged(job), &self.trash())
    }

    /// The first half of [`Releases::discard`]: the label is free.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn set_aside_release(&self, unit: &UnitName, label: &Label) -> Result<(), String> {
        remove::set_aside(&self.folder(unit, label), &self.trash())
    }

    fn throw_away(&self, path: &Path) -> Result<(), String> {
        remove::set_aside(path, &self.trash())?;
        remove::empty(&self.trash())
    }
}

/// As whom an archive is unpacked; `None`: supd is no root and stays who it is.
fn unpacker(account: &Account) -> Result<Option<(u32, u32)>, String> {
    if geteuid().is_root() { Owners::of(account).map(|owners| Some(owners.unpacked)) } else { Ok(None) }
}

fn open(path: &Path) -> Result<OwnedFd, String> {
    beneath::open_at(path).map_err(|errno| Error::new("open the folder", path.display(), errno).to_string())
}

impl Owners {
    /// For the workers of this account.
    fn of(account: &Account) -> Result<Self, String> {
        let ours = (geteuid().as_raw(), getegid().as_raw());
        if ours.0 != 0 {
            return Ok(Self { unpacked: ours, user: ours, last: ours });
        }
        let user = account.ids().map_err(|failure| failure.to_string())?;
        let unpacked = if user.0 == 0 { (NOBODY, NOBODY) } else { user };
        Ok(Self { unpacked, user, last: (0, user.1) })
    }
}
