//! The runtime folder: what outlives supd, but not the boot of the machine. Nothing here is synced.

use super::files;
use crate::codec::installing::{self, Installing};
use crate::codec::ledger::{decode_intent, encode_intent};
use crate::model::{Generation, Intent, JobId, UnitName, WorkerId};
use crate::os::Error;
use crate::os::clock::BootId;
use crate::os::process::Identity;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Nothing in this folder that supd reads is longer, in bytes.
const FILE_MAX: u64 = 64 * 1024;

/// A path in the folder of this length still leaves room for a unit's name and a generation in
/// `sun_path`, which holds 107 bytes and a NUL (unix(7)).
const PATH_MAX: usize = 107 - "/notify/".len() - 24;

/// The runtime folder of one supd.
#[derive(Debug, Clone)]
pub struct Runtime {
    root: PathBuf,
}

/// A worker or a command, so that the next supd finds it: or finds that its number means another process now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// The unit's name.
    pub unit: String,
    /// The generation's number.
    pub generation: u64,
    /// SUPD_WORKER
    pub index: u32,
    /// The main process.
    pub pid: i32,
    /// When it was started: field 22 of /proc/PID/stat, in clock ticks since the boot.
    pub start_time: u64,
    /// The inode of its pidfd, where the kernel has pidfs.
    #[serde(default)]
    pub inode: Option<u64>,
    /// Which boot of the machine.
    pub boot: String,
    /// INVOCATION_ID, by which its other processes are known.
    pub invocation: String,
    /// The signal that ends it: what its unit's KillSignal was.
    pub kill_signal: i32,
    /// How another supd can go on with it, from when it was ready on; until then it cannot.
    #[serde(default)]
    pub ready: Option<Ready>,
}

/// What supd knows of a worker that is ready, and nobody can find out later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Its generation has slots of its own.
    pub steered: bool,
    /// Where it listens with a socket that a stranger has too: whoever started supd, or another server.
    pub shared: Vec<String>,
}

impl Runtime {
    /// Makes the folder with all that is in it.
    ///
    /// # Errors
    /// ENAMETOOLONG where a socket's path would not fit; what the kernel answered.
    pub fn make(root: &Path) -> Result<Self, Error> {
        if root.as_os_str().len() > PATH_MAX {
            let what = format!("{} as the runtime folder (at most {PATH_MAX} bytes)", root.display());
            return Err(Error::new("use", what, Errno::ENAMETOOLONG));
        }
        if let Some(parent) = root.parent() {
            fs::create_dir_all(parent)
                .map_err(|error| Error::from_io("make the folder", parent.display(), &error))?;
        }
        files::make_folder(root, 0o755)?;
        let runtime = Self { root: root.into() };
        files::make_folder(&runtime.notify_folder(), 0o711)?;
        files::make_folder(&root.join("listeners"), 0o700)?;
        files::make_folder(&runtime.intents(), 0o700)?;
        files::make_folder(&runtime.workers(), 0o700)?;
        files::make_folder(&runtime.installs(), 0o700)?;
        files::make_folder(&root.join("keeper"), 0o700)?;
        Ok(runtime)
    }

    /// The folder as a supd has made it, with nothing touched; `None`: there is none.
    ///
    /// # Errors
    /// What the kernel answered: what it has of workers cannot be known.
    pub fn there(root: &Path) -> Result<Option<Self>, Error> {
        let runtime = Self { root: root.into() };
        match fs::read_dir(runtime.workers()) {
            Ok(_) => Ok(Some(runtime)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::from_io("read the folder", runtime.workers().display(), &error)),
        }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where notify sockets are.
    #[must_use]
    pub fn notify_folder(&self) -> PathBuf {
        self.root.join("notify")
    }

    /// The notify socket of a generation.
    #[must_use]
    pub fn notify(&self, unit: &UnitName, generation: Generation) -> PathBuf {
        self.notify_folder().join(format!("{unit}.{generation}"))
    }

    /// Removes the notify sockets that a dead supd left, but for those. Nobody answers there, and as their names
    /// have generations in them they would only ever grow in number.
    pub fn clear_notify(&self, but: &[PathBuf]) {
        let Ok(entries) = fs::read_dir(self.notify_folder()) else { return };
        for entry in entries.flatten() {
            // Of the entry itself, which may be a link.
            let stays = but.contains(&entry.path());
            if !stays && entry.file_type().is_ok_and(|kind| kind.is_socket()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Where the sockets of a unit are bound before they are public.
    #[must_use]
    pub fn listeners(&self, unit: &UnitName) -> PathBuf {
        self.root.join("listeners").join(unit.as_str())
    }

    fn intents(&self) -> PathBuf {
        self.root.join("intents")
    }

    fn installs(&self) -> PathBuf {
        self.root.join("installs")
    }

    fn workers(&self) -> PathBuf {
        self.root.join("workers")
    }

    /// Writes a unit's intent.
    ///
    /// # Errors
    /// What the kernel answered; the intent before it still holds.
    pub fn save_intent(&self, unit: &UnitName, intent: &Intent) -> Result<(), Error> {
        // A name may have dots, so `.new` beside it could be the intent of another unit.
        files::put(&self.intents().join(format!("{unit}.intent")), encode_intent(intent).as_bytes(), 0o600)
    }

    /// Takes it away.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn clear_intent(&self, unit: &UnitName) -> Result<(), Error> {
        let path = self.intents().join(format!("{unit}.intent"));
        files::remove_if_there(&path).map_err(|error| Error::from_io("remove", path.display(), &error))
    }

    /// The intent that the last supd left.
    #[must_use]
    pub fn intent(&self, unit: &UnitName) -> Option<Intent> {
        let path = self.intents().join(format!("{unit}.intent"));
        decode_intent(&files::read(&path, FILE_MAX).ok()??)
    }

    /// Says that an install is under way; a unit has one at a time.
    ///
    /// # Errors
    /// What the kernel answered: if supd dies now, the next one will not know of it.
    pub fn save_install(&self, unit: &UnitName, install: &Installing) -> Result<(), Error> {
        let path = self.installs().join(format!("{unit}.install"));
        files::put(&path, installing::encode(install).as_bytes(), 0o600)
    }

    /// Says that it is over.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn clear_install(&self, unit: &UnitName) -> Result<(), Error> {
        let path = self.installs().join(format!("{unit}.install"));
        files::remove_if_there(&path).map_err(|error| Error::from_io("remove", path.display(), &error))
    }

    /// Those that the last supd left.
    #[must_use]
    pub fn left_installs(&self) -> Vec<(UnitName, Installing)> {
        let Ok(all) = fs::read_dir(self.installs()) else { return Vec::new() };
        let install = |file: fs::DirEntry| {
            let unit = UnitName::new(file.file_name().to_str()?.strip_suffix(".install")?).ok()?;
            Some((unit, installing::decode(&files::read(&file.path(), FILE_MAX).ok()??)?))
        };
        all.flatten().filter_map(install).collect()
    }

    fn worker(&self, worker: WorkerId) -> PathBuf {
        self.workers().join(format!("{worker}.json"))
    }

    /// Says that this worker lives.
    ///
    /// # Errors
    /// What the kernel answered: if supd dies now, the next one will not know the worker.
    pub fn save_worker(&self, worker: WorkerId, record: &WorkerRecord) -> Result<(), Error> {
        let text = serde_json::to_vec(record).expect("a plain struct");
        files::put(&self.worker(worker), &text, 0o600)
    }

    /// Changes what is written of it.
    ///
    /// # Errors
    /// ENOENT: nothing is; EBADMSG: it is no record; else as [`Runtime::save_worker`].
    pub fn change_worker(
        &self,
        worker: WorkerId,
        change: impl FnOnce(&mut WorkerRecord),
    ) -> Result<(), Error> {
        let path = self.worker(worker);
        let failed = |errno| Error::new("read", path.display(), errno);
        let bytes = files::read(&path, FILE_MAX)?.ok_or_else(|| failed(Errno::ENOENT))?;
        let mut record: WorkerRecord = serde_json::from_slice(&bytes).map_err(|_| failed(Errno::EBADMSG))?;
        change(&mut record);
        self.save_worker(worker, &record)
    }

    /// Says that no process of it is left.
    pub fn clear_worker(&self, worker: WorkerId) {
        // What stays is looked at by the next supd, which finds nobody.
        let _ = files::remove_if_there(&self.worker(worker));
    }

    fn job(&self, job: JobId) -> PathBuf {
        self.workers().join(format!("job-{job}.json"))
    }

    /// Says that this command runs; it is ended by the next supd as a worker is.
    ///
    /// # Errors
    /// As [`Runtime::save_worker`].
    pub fn save_job(&self, job: JobId, record: &WorkerRecord) -> Result<(), Error> {
        let text = serde_json::to_vec(record).expect("a plain struct");
        files::put(&self.job(job), &text, 0o600)
    }

    /// Says that it has ended.
    pub fn clear_job(&self, job: JobId) {
        let _ = files::remove_if_there(&self.job(job));
    }

    /// Whether this file of [`Runtime::leftovers`] is of a command.
    #[must_use]
    pub fn is_job(&self, path: &Path) -> bool {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"job-"))
    }

    /// The highest number of a worker that is written down.
    #[must_use]
    pub fn last_worker(&self) -> WorkerId {
        let number = |(path, _): (PathBuf, _)| path.file_stem()?.to_str()?.parse().ok();
        WorkerId(self.leftovers().into_iter().filter_map(number).max().unwrap_or(0))
    }

    /// Where the keeper is reached.
    #[must_use]
    pub fn keeper(&self) -> PathBuf {
        self.root.join("keeper").join("socket")
    }

    fn keeper_record(&self) -> PathBuf {
        self.root.join("keeper").join("process")
    }

    /// Says which process the keeper is.
    ///
    /// # Errors
    /// What the kernel answered: one that hangs will not be ended by the next supd.
    pub fn save_keeper(&self, keeper: &Identity) -> Result<(), Error> {
        let Identity { pid, start, boot, inode } = keeper;
        let inode = inode.unwrap_or(0);
        files::put(&self.keeper_record(), format!("{pid} {start} {inode} {boot}").as_bytes(), 0o600)
    }

    /// Which process the keeper was.
    #[must_use]
    pub fn keeper_process(&self, boot: &BootId) -> Option<Identity> {
        let text = String::from_utf8(files::read(&self.keeper_record(), FILE_MAX).ok()??).ok()?;
        let words: Vec<&str> = text.split(' ').collect();
        let [pid, start, inode, of] = words[..] else { return None };
        let inode = Some(inode.parse().ok()?).filter(|inode| *inode != 0);
        let identity =
            Identity { pid: pid.parse().ok()?, start: start.parse().ok()?, boot: boot.clone(), inode };
        Some(identity).filter(|_| of == boot.to_string())
    }

    /// Every worker and command that the last supd left, with the file that says so, to be removed.
    #[must_use]
    pub fn leftovers(&self) -> Vec<(PathBuf, Option<WorkerRecord>)> {
        let Ok(entries) = fs::read_dir(self.workers()) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        paths.map(|path| (path.clone(), read_worker(&path))).collect()
    }
}

fn read_worker(path: &Path) -> Option<WorkerRecord> {
    let bytes = files::read(path, FILE_MAX).ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Label, SwapId};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn intents_and_workers_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::make(&folder.path().join("run")).unwrap();
        let (web, new) = (UnitName::new("web").unwrap(), UnitName::new("web.new").unwrap());
        let intent = |to| Intent {
            swap_id: SwapId(1),
            from: None,
            to: Generation(to),
            kind: crate::model::SwapKind::Swap,
        };
        runtime.save_intent(&new, &intent(1)).unwrap();
        runtime.save_intent(&web, &intent(2)).unwrap();
        runtime.save_intent(&web, &intent(3)).unwrap();
        assert_eq!((runtime.intent(&web), runtime.intent(&new)), (Some(intent(3)), Some(intent(1))));
        runtime.clear_intent(&web).unwrap();
        runtime.clear_intent(&web).unwrap();
        assert_eq!(runtime.intent(&web), None);

        let install = Installing { label: Label::new("1.5.0").unwrap(), by: None };
        runtime.save_install(&new, &install).unwrap();
        fs::write(folder.path().join("run/installs/web.install"), "garbage").unwrap();
        assert_eq!(runtime.left_installs(), [(new.clone(), install)]);
        runtime.clear_install(&new).unwrap();
        assert_eq!(runtime.left_installs(), []);

        let record = WorkerRecord {
            unit: "web".into(),
            generation: 3,
            index: 0,
            pid: 1,
            start_time: 7,
            inode: None,
            boot: "b".into(),
            invocation: "i".into(),
            kill_signal: 15,
            ready: None,
        };
        runtime.save_worker(WorkerId(4), &record).unwrap();
        fs::write(folder.path().join("run/workers/5.json"), "garbage").unwrap();
        let mut left = runtime.leftovers();
        left.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(left.len(), 2);
        assert_eq!((left[0].1.as_ref(), left[1].1.as_ref()), (Some(&record), None));
        let ready = Some(Ready { steered: true, shared: vec!["127.0.0.1:80".into()] });
        runtime.change_worker(WorkerId(4), |record| record.ready.clone_from(&ready)).unwrap();
        let changed = WorkerRecord { ready, ..record };
        assert!(runtime.leftovers().iter().any(|(_, record)| record.as_ref() == Some(&changed)));
        for (other, errno) in [(5, Errno::EBADMSG), (6, Errno::ENOENT)] {
            let error = runtime.change_worker(WorkerId(other), |_| ()).unwrap_err();
            assert_eq!(error.errno, errno, "what is not there is not made");
        }
        runtime.clear_worker(WorkerId(4));
        assert_eq!(runtime.leftovers().len(), 1);
    }

    #[test]
    fn others_go_through_to_the_notify_sockets_and_see_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::make(folder.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(runtime.root()), 0o755);
        assert_eq!(mode(&runtime.notify_folder()), 0o711);
        assert_eq!((mode(&runtime.intents()), mode(&runtime.workers())), (0o700, 0o700));
    }

    #[test]
    fn a_folder_too_deep_for_sockets_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(80));
        let text = Runtime::make(&deep).unwrap_err().to_string();
        assert!(text.contains("at most 75 bytes") && text.ends_with("File name too long"), "{text}");
        assert!(!deep.exists());
    }
}
