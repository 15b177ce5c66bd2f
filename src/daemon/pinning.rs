//! Pinned programs: the copy that a relaunch or a rollback runs where the file on disk is another
//! one by now.

use crate::machine::Launch;
use crate::model::settings::Service;
use crate::model::{Generation, UnitName};
use crate::os::pin::{self, FileIdentity, Held, Pinned};
use crate::os::spawn::Spare;
use crate::os::spawn::environment::PATH;
use crate::store::files::{self, Unsynced};
use crate::store::pins::Pins;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Programs of more bytes are not copied.
const SIZE_MAX: u64 = 2 << 30;

/// Of how many earlier generations it is asked whether theirs is a copy of the same file.
const EARLIER_MAX: usize = 8;

/// The identity of a file is never longer, in bytes.
const IDENTITY_MAX: u64 = 4096;

/// The pinned copy of a generation's program, and which file it is a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    program: PathBuf,
    identity: PathBuf,
}

impl Copy {
    /// Where that of a generation is, if there is one.
    #[must_use]
    pub fn of(pins: &Pins, unit: &UnitName, generation: Generation) -> Self {
        let program = pins.program(unit, generation);
        let identity = program.with_extension("identity");
        Self { program, identity }
    }

    /// Which file was copied; `None`: there is no copy.
    fn source(&self) -> Option<FileIdentity> {
        let bytes = files::read(&self.identity, IDENTITY_MAX).ok()??;
        FileIdentity::parse(std::str::from_utf8(&bytes).ok()?)
    }

    /// Whether it is there, and whole: it may have been finished after the end of the supd that asked
    /// for it, whose ledger does not say so.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.source().is_some() && self.program.is_file()
    }

    /// What a launch is to know of it.
    #[must_use]
    pub fn spare(&self, service: &Service) -> Spare {
        let Self { program, identity } = self.clone();
        Spare { program, identity, folder: folder(service).to_owned() }
    }

    /// Puts the program that is held in place: the file that the unit names, or `origin`, the copy that
    /// was to run instead. Where there is a copy of the same file it becomes another name of that: of
    /// those in `made`, by what they are copies of, or of an `earlier` generation's. Gives which file
    /// it is a copy of; until [`Copy::vouch`] it does not count.
    fn place(
        &self,
        held: &Held,
        service: &Service,
        origin: Option<&Self>,
        earlier: &[Self],
        made: &mut HashMap<FileIdentity, PathBuf>,
    ) -> Result<FileIdentity, Unpinned> {
        let ran = held.identity();
        if let Some(origin) = origin {
            let copied = held.is_or_was_named(&origin.program);
            if let Some(source) = origin.source().filter(|source| copied || *source == ran) {
                self.link(&origin.program)?;
                return Ok(source);
            }
        }
        // A wrapper that has become another program by now, or a script.
        let assigned = service.environment.iter().rev().find(|(name, _)| name == "PATH");
        let path = assigned.map(|(_, path)| OsStr::new(path));
        let file = find(&service.exec_start.program, folder(service), path);
        if !file.is_some_and(|file| held.is_or_was_named(&file)) {
            return Err(Unpinned::unfit("what runs is not the file that ExecStart names"));
        }
        let same = earlier.iter().find(|copy| copy.source() == Some(ran)).map(|copy| &copy.program);
        // A file can have only so many names.
        if made.get(&ran).or(same).is_some_and(|program| self.link(program).is_ok()) {
            return Ok(ran);
        }
        let path = held.path();
        let named = |why: String| why.replace(&path.display().to_string(), "what runs");
        match pin::copy(&path, &self.program, SIZE_MAX).map_err(named)? {
            // Before it was opened its process may have ended, and then it can be written to.
            Pinned::Copied(copied) if !copied.is_still(&ran) => {
                Err("somebody wrote to it before it was copied".to_owned().into())
            }
            Pinned::Copied(_) => {
                made.insert(ran, self.program.clone());
                Ok(ran)
            }
            Pinned::Not(_, why) => Err(Unpinned::unfit(&why.to_string())),
        }
    }

    /// Neither of the two is ever written to, so one file serves both.
    fn link(&self, program: &Path) -> Result<(), String> {
        files::remove_if_there(&self.program)
            .and_then(|()| std::fs::hard_link(program, &self.program))
            .map_err(|error| format!("cannot link {}: {error}", self.program.display()))
    }

    /// The copy is in place: only with this does it count, once it is synced.
    fn vouch(&self, source: FileIdentity, unsynced: &mut Unsynced) -> Result<(), String> {
        let file = files::put_open(&self.identity, source.to_string().as_bytes(), 0o600)
            .map_err(|error| error.to_string())?;
        unsynced.add(self.identity.clone(), file);
        Ok(())
    }
}

/// Why there is no copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unpinned {
    /// In a sentence.
    pub(super) why: String,
    /// Something stood in the way, that is: it is no script or the like, which none is made of.
    pub(super) failed: bool,
}

impl Unpinned {
    fn unfit(why: &str) -> Self {
        Self { why: why.to_owned(), failed: false }
    }
}

impl From<String> for Unpinned {
    fn from(why: String) -> Self {
        Self { why, failed: true }
    }
}

/// A generation whose program is to be copied.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// The program, where it is held.
    pub(super) held: Option<&'a Held>,
    /// A process that runs it, while one does.
    pub(super) pid: Option<i32>,
    /// Its recipe.
    pub(super) launch: &'a Launch,
}

/// Makes the copies of several generations, in a child that may wait for the disk: all of them are
/// synced together at the end. The bytes of a program are on disk before its name and its identity
/// are written, so that after a crash none counts that is not whole.
pub(super) fn make(jobs: &[Job<'_>], pins: &Pins) -> Vec<Result<(), Unpinned>> {
    let mut made = HashMap::new();
    let mut unsynced = Unsynced::default();
    let results = jobs.iter().map(|job| job.make(pins, &mut made, &mut unsynced)).collect::<Vec<_>>();
    match unsynced.sync(pins.state()) {
        Ok(()) => results,
        Err(error) => {
            let failed = || Err(Unpinned::from(error.to_string()));
            results.into_iter().map(|result| result.and_then(|()| failed())).collect()
        }
    }
}

impl Job<'_> {
    fn make(
        &self,
        pins: &Pins,
        made: &mut HashMap<FileIdentity, PathBuf>,
        unsynced: &mut Unsynced,
    ) -> Result<(), Unpinned> {
        let Launch { settings, generation, origin, .. } = self.launch;
        let copy = |generation| Copy::of(pins, &settings.unit, generation);
        let own = copy(*generation);
        let _alone = pin::alone(&pins.folder(&settings.unit, *generation))?;
        let origin = (origin != generation).then(|| copy(*origin));
        let earlier = pins.generations(&settings.unit).into_iter().rev().filter(|other| other != generation);
        let earlier: Vec<Copy> = earlier.take(EARLIER_MAX).map(copy).collect();
        let late;
        let held = match (self.held, self.pid) {
            (Some(held), _) => held,
            (None, Some(pid)) => {
                late = Held::of(pid).map_err(|error| error.to_string())?;
                &late
            }
            (None, None) => return Err("no worker of it runs".to_owned().into()),
        };
        let source = own.place(held, &settings.service, origin.as_ref(), &earlier, made)?;
        if self.pid.is_some_and(|pid| held.is_left_by(pid)) {
            return Err(Unpinned::unfit("the process has become another program meanwhile"));
        }
        Ok(own.vouch(source, unsynced)?)
    }
}

/// The copy, if what is on disk is not the file that it was made of. May wait for the disk.
#[must_use]
pub fn instead(spare: &Spare, program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let copy = Copy { program: spare.program.clone(), identity: spare.identity.clone() };
    let source = copy.source()?;
    let on_disk = find(program, &spare.folder, path).and_then(|file| FileIdentity::of(&file).ok());
    (on_disk != Some(source) && copy.program.is_file()).then_some(copy.program)
}

/// What a relative path of ExecStart is of.
fn folder(service: &Service) -> &Path {
    service.working_directory.as_deref().unwrap_or(Path::new("/"))
}

/// The file that ExecStart means: itself where it has a slash, else the first in PATH.
fn find(program: &str, folder: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(folder.join(program));
    }
    let mut folders = std::env::split_paths(path.unwrap_or(OsStr::new(PATH)));
    folders.find_map(|folder| Some(folder.join(program)).filter(|file| file.is_absolute() && file.is_file()))
}

#[cfg(test)]
mod tests {
    use super::super::testbed::settings;
    use super::*;
    use crate::model::Settings;
    use std::os::unix::fs::MetadataExt;
    use std::process::{Child, Command};
    use std::sync::Arc;

    struct Bench {
        folder: tempfile::TempDir,
        settings: Arc<Settings>,
        pins: Pins,
        unit: UnitName,
    }

    impl Bench {
        /// A program that waits, and a unit that runs it.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join("server");
            std::fs::copy("/bin/sleep", &program).unwrap();
            let settings = settings(&format!("ExecStart = [\"{}\", \"600\"]", program.display()));
            let settings = Arc::new(settings);
            let pins = Pins::new(folder.path());
            let unit = UnitName::new("web").unwrap();
            for generation in [1, 2] {
                std::fs::create_dir_all(pins.folder(&unit, Generation(generation))).unwrap();
            }
            Self { folder, settings, pins, unit }
        }

        fn copy(&self, generation: u64) -> Copy {
            Copy::of(&self.pins, &self.unit, Generation(generation))
        }

        fn instead(&self, copy: &Copy) -> Option<PathBuf> {
            let service = &self.settings.service;
            instead(&copy.spare(service), &service.exec_start.program, None)
        }

        /// Makes the copy of what a process runs, which was to be `origin`'s.
        fn make(&self, generation: u64, pid: i32, origin: u64) -> Result<(), Unpinned> {
            self.job(generation, None, Some(pid), origin)
        }

        /// The same of a program that is held.
        fn make_held(&self, generation: u64, held: &Held) -> Result<(), Unpinned> {
            self.job(generation, Some(held), None, generation)
        }

        fn job(
            &self,
            generation: u64,
            held: Option<&Held>,
            pid: Option<i32>,
            origin: u64,
        ) -> Result<(), Unpinned> {
            let launch = self.launch(generation, origin);
            make(&[Job { held, pid, launch: &launch }], &self.pins).remove(0)
        }

        fn launch(&self, generation: u64, origin: u64) -> Launch {
            let (settings, release) = (self.settings.clone(), None);
            let (generation, origin) = (Generation(generation), Generation(origin));
            Launch { generation, settings, release, origin, pinned: true }
        }

        fn inode(&self, generation: u64) -> u64 {
            std::fs::metadata(self.copy(generation).program).unwrap().ino()
        }

        fn replace(&self) {
            self.replace_by("/bin/cat");
        }

        fn replace_by(&self, program: &str) {
            let fresh = self.folder.path().join("fresh");
            std::fs::copy(program, &fresh).unwrap();
            std::fs::rename(fresh, self.folder.path().join("server")).unwrap();
        }

        fn run(&self, program: &Path) -> Ended {
            Ended(Command::new(program).arg("600").spawn().unwrap())
        }
    }

    struct Ended(Child);

    impl Ended {
        fn pid(&self) -> i32 {
            i32::try_from(self.0.id()).unwrap()
        }
    }

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn the_copy_runs_only_where_the_disk_has_another_file() {
        let bench = Bench::new();
        let worker = bench.run(&bench.folder.path().join("server"));
        let copy = bench.copy(1);
        assert_eq!(bench.instead(&copy), None, "there is none");
        bench.make(1, worker.pid(), 1).unwrap();
        assert_eq!(bench.instead(&copy), None, "the disk has the same");
        bench.replace();
        assert_eq!(bench.instead(&copy), Some(copy.program.clone()));
        assert_eq!(std::fs::read(&copy.program).unwrap(), std::fs::read("/bin/sleep").unwrap());
        std::fs::remove_file(bench.folder.path().join("server")).unwrap();
        assert_eq!(bench.instead(&copy), Some(copy.program));
    }

    #[test]
    fn what_was_replaced_before_it_was_copied_is_copied_all_the_same() {
        let bench = Bench::new();
        let worker = bench.run(&bench.folder.path().join("server"));
        bench.replace();
        bench.make(1, worker.pid(), 1).unwrap();
        let copy = bench.copy(1);
        assert_eq!(std::fs::read(&copy.program).unwrap(), std::fs::read("/bin/sleep").unwrap());
        assert_eq!(bench.instead(&copy), Some(copy.program));
    }

    #[test]
    fn what_ended_before_it_was_copied_is_copied_all_the_same() {
        let bench = Bench::new();
        let worker = bench.run(&bench.folder.path().join("server"));
        let held = Held::of(worker.pid()).unwrap();
        let gone = worker.pid();
        drop(worker);
        bench.replace();
        let none = bench.make(1, gone, 1).unwrap_err();
        assert!(none.failed && none.why.contains("No such file"), "{none:?}");
        bench.make_held(1, &held).unwrap();
        let copy = bench.copy(1);
        assert_eq!(std::fs::read(&copy.program).unwrap(), std::fs::read("/bin/sleep").unwrap());
        assert_eq!(bench.instead(&copy), Some(copy.program));
    }

    #[test]
    fn what_was_written_to_before_it_was_copied_is_not_pinned() {
        let bench = Bench::new();
        let program = bench.folder.path().join("server");
        let worker = bench.run(&program);
        let held = Held::of(worker.pid()).unwrap();
        drop(worker);
        // As `cp` does it, which has to wait for the end of whoever runs the file.
        std::fs::write(&program, std::fs::read("/bin/cat").unwrap()).unwrap();
        let Unpinned { why, failed: true } = bench.make_held(1, &held).unwrap_err() else {
            panic!("it was not to be had")
        };
        assert!(why.contains("somebody wrote to it"), "{why}");
        assert_eq!(bench.instead(&bench.copy(1)), None);
    }

    #[test]
    fn a_rollback_of_a_rollback_has_the_same_copy() {
        let bench = Bench::new();
        let worker = bench.run(&bench.folder.path().join("server"));
        let (first, second) = (bench.copy(1), bench.copy(2));
        bench.make(1, worker.pid(), 1).unwrap();
        bench.replace();
        let again = bench.run(&first.program);
        bench.make(2, again.pid(), 1).unwrap();
        assert_eq!(bench.inode(1), bench.inode(2));
        assert_eq!(first.source(), second.source());
        std::fs::remove_dir_all(bench.pins.folder(&bench.unit, Generation(1))).unwrap();
        assert_eq!(bench.instead(&second), Some(second.program));
    }

    #[test]
    fn an_interpreter_pins_nothing() {
        let mut bench = Bench::new();
        bench.settings = Arc::new(settings("ExecStart = [\"sh\", \"-c\", \"read x\"]"));
        let mut child =
            Command::new("sh").args(["-c", "read x"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let Unpinned { why, failed: false } =
            bench.make(1, i32::try_from(child.id()).unwrap(), 1).unwrap_err()
        else {
            panic!("it failed")
        };
        assert!(why.contains("interpreter"), "{why}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn an_interpreter_that_was_replaced_is_still_one() {
        let mut bench = Bench::new();
        let program = bench.folder.path().join("node");
        std::fs::copy("/bin/sleep", &program).unwrap();
        bench.settings = Arc::new(settings(&format!("ExecStart = [\"{}\", \"600\"]", program.display())));
        let worker = bench.run(&program);
        std::fs::remove_file(&program).unwrap();
        let Unpinned { why, failed: false } = bench.make(1, worker.pid(), 1).unwrap_err() else {
            panic!("it failed")
        };
        assert!(why.contains("interpreter"), "{why}");
    }

    #[test]
    fn the_same_file_is_copied_once_and_has_many_names() {
        let bench = Bench::new();
        let worker = bench.run(&bench.folder.path().join("server"));
        std::fs::create_dir_all(bench.pins.folder(&bench.unit, Generation(3))).unwrap();
        let launches = [1, 9, 2].map(|generation| bench.launch(generation, generation));
        let together = launches.each_ref().map(|launch| Job { held: None, pid: Some(worker.pid()), launch });
        let results = make(&together, &bench.pins);
        assert!(results[0].is_ok() && results[1].is_err() && results[2].is_ok(), "{results:?}");
        // And later, by what an earlier generation has.
        bench.make(3, worker.pid(), 3).unwrap();
        assert!([2, 3].iter().all(|other| bench.inode(*other) == bench.inode(1)));
        bench.replace_by("/bin/sleep");
        assert_eq!(bench.instead(&bench.copy(3)), Some(bench.copy(3).program));
        let other = bench.run(&bench.folder.path().join("server"));
        bench.make(3, other.pid(), 3).unwrap();
        assert_ne!(bench.inode(3), bench.inode(1), "another file under the same name");
    }

    /// As the child of a supd that was killed and that of the next one.
    #[test]
    fn two_that_make_the_same_copy_do_not_meet() {
        let bench = Bench::new();
        let worker = bench.run(&bench.folder.path().join("server"));
        let pid = worker.pid();
        std::thread::scope(|scope| {
            let each = || (0..50).map(|_| bench.make(1, pid, 1)).collect::<Result<Vec<_>, _>>();
            let all = [0; 4].map(|_| scope.spawn(each));
            all.into_iter().for_each(|one| drop(one.join().unwrap().unwrap()));
        });
        assert_eq!(std::fs::read(bench.copy(1).program).unwrap(), std::fs::read("/bin/sleep").unwrap());
    }

    #[test]
    fn who_runs_another_programs_file_has_no_copy_of_it() {
        let bench = Bench::new();
        let server = bench.run(&bench.folder.path().join("server"));
        bench.make(1, server.pid(), 1).unwrap();
        // A wrapper now, that has become the server of before.
        let settings = Arc::new(settings("ExecStart = [\"/bin/cat\"]"));
        let wrapped = Bench { settings, ..bench };
        let Unpinned { why, failed: false } = wrapped.make(2, server.pid(), 2).unwrap_err() else {
            panic!("it failed")
        };
        assert!(why.contains("not the file that ExecStart names"), "{why}");
    }
}
