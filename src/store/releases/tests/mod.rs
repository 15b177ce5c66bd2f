//! A state folder of a test's own; each step in a child, as supd takes it.

mod install;
mod remove;
mod trouble;

use super::Releases;
use crate::model::{JobId, Label, UnitName};
use crate::os::spawn::Account;
use crate::os::task::Task;
use crate::os::task::tests::finish;
use crate::os::unprivileged::Confinement;
use crate::store::unpack::tests::Pack;
use crate::store::unpack::{Bounds, Unpacked};
use nix::unistd::geteuid;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A user and a group that exist nowhere.
const USER: u32 = 4711;
const GROUP: u32 = 4712;

/// Longer than any step takes.
const BOUND: Duration = Duration::from_secs(300);

struct Bench {
    folder: tempfile::TempDir,
    releases: Releases,
    account: Account,
    unit: UnitName,
}

impl Bench {
    /// As root for a unit with a user of its own, else for our own user.
    fn new() -> Self {
        let account = match geteuid().is_root() {
            true => {
                Account { user: Some(USER.to_string()), group: Some(GROUP.to_string()), ..Account::default() }
            }
            false => Account::default(),
        };
        Self::with(account)
    }

    fn with(account: Account) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let releases = Releases::new(folder.path());
        releases.prepare().unwrap();
        Self { folder, releases, account, unit: UnitName::new("web").unwrap() }
    }

    fn receive(&self, job: u64, archive: &[u8]) -> Result<Unpacked, String> {
        let source = source(archive);
        let confinement = Confinement::of_a_child(None);
        let bounds = Bounds::default();
        let said = step(&[&source], || {
            let (job, source) = (JobId(job), source.as_fd());
            let unpacked = self.releases.receive(job, source, &self.account, confinement, &bounds)?;
            Ok(unpacked.to_string())
        })?;
        Ok(Unpacked::parse(&said).unwrap())
    }

    fn place(&self, job: u64, name: &str) -> Result<(), String> {
        done(|| self.releases.place(JobId(job), &self.unit, &label(name), &self.account))
    }

    fn seal(&self, name: &str) -> Result<(), String> {
        done(|| self.releases.seal(&self.unit, &label(name), &self.account))
    }

    fn discard(&self, name: &str) -> Result<(), String> {
        done(|| self.releases.discard(&self.unit, &label(name)))
    }

    /// All of it.
    fn install(&self, name: &str, archive: &[u8]) -> Result<Unpacked, String> {
        let unpacked = self.receive(1, archive)?;
        self.place(1, name)?;
        self.seal(name).map(|()| unpacked)
    }

    fn path(&self, name: &str, file: &str) -> PathBuf {
        self.releases.folder(&self.unit, &label(name)).join(file)
    }

    /// Owner, group and bits.
    fn of(&self, name: &str, file: &str) -> (u32, u32, u32) {
        of(&self.path(name, file))
    }

    /// Names in `.staging`, `.trash` and the unit's folder.
    fn names(&self) -> [Vec<String>; 3] {
        [".staging", ".trash", "web"].map(|folder| names(&self.folder.path().join("releases").join(folder)))
    }

    /// Who has a sealed release.
    fn last(&self) -> (u32, u32) {
        if geteuid().is_root() { (0, GROUP) } else { (geteuid().as_raw(), nix::unistd::getegid().as_raw()) }
    }
}

/// The tree is read-only by now, which keeps an ordinary user from removing it.
impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.releases.sweep(&std::collections::BTreeMap::new());
    }
}

fn of(path: &Path) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn label(name: &str) -> Label {
    Label::new(name).unwrap()
}

fn source(archive: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(archive).unwrap();
    file.rewind().unwrap();
    file
}

/// One step, in a child that has these descriptors.
fn step(kept: &[&File], work: impl FnOnce() -> Result<String, String>) -> Result<String, String> {
    let kept: Vec<_> = kept.iter().map(AsFd::as_fd).collect();
    let task = Task::run("a test", BOUND, &kept, || work().map(String::into_bytes)).unwrap();
    finish(task).map(|said| String::from_utf8(said).unwrap())
}

fn done(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    step(&[], || work().map(|()| String::new())).map(drop)
}

/// Does it as another user, in a child. Root only.
fn as_user(uid: u32, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    done(|| {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(GROUP));
        setgroups(&[]).unwrap();
        setresgid(gid, gid, gid).unwrap();
        setresuid(uid, uid, uid).unwrap();
        work()
    })
}

/// A small release.
fn archive() -> Vec<u8> {
    Pack::default()
        .folder("./")
        .member(b'0', b"bin/server", b"", 0o755, b"#!/bin/sh\n")
        .member(b'0', b"etc/secret", b"", 0o600, b"s")
        .member(b'5', b"etc/closed", b"", 0o700, b"")
        .member(b'0', b"etc/open", b"", 0o666, b"o")
        .hard("etc/again", "etc/open")
        .link("current", "bin/server")
        .end()
}
