//! Pinned programs: the copy that a relaunch or a rollback runs where the file on disk is another
//! one by now.

use super::chores::Chore;
use super::hands::Hands;
use crate::machine::{Event, Launch};
use crate::model::settings::Service;
use crate::model::{Generation, UnitName};
use crate::os::pin::{self, FileIdentity, Pinned};
use crate::os::spawn::environment::PATH;
use crate::os::task::Task;
use crate::store::files;
use crate::store::pins::Pins;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Programs of more bytes are not copied.
const SIZE_MAX: u64 = 2 << 30;

/// How long a copy may take.
const COPY_BOUND: Duration = Duration::from_secs(600);

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

    /// The copy, if what is on disk is not the file that it was made of. May wait for the disk.
    #[must_use]
    pub fn instead(&self, service: &Service, path: Option<&OsStr>) -> Option<PathBuf> {
        let source = self.source()?;
        let on_disk = find(service, path).and_then(|file| FileIdentity::of(&file).ok());
        (on_disk != Some(source) && self.program.is_file()).then(|| self.program.clone())
    }

    /// Makes this the copy of what process `pid` runs: of the file that the unit names, or of
    /// `origin`, the copy that was to run instead.
    fn make(&self, pid: i32, service: &Service, origin: Option<&Self>) -> Result<(), String> {
        let exe = PathBuf::from(format!("/proc/{pid}/exe"));
        let identify = |path: &Path| FileIdentity::of(path).map_err(|error| error.to_string());
        let runs = identify(&exe)?;
        if let Some(origin) = origin {
            let copied = FileIdentity::of(&origin.program).ok();
            if let Some(source) = origin.source().filter(|source| copied == Some(runs) || *source == runs) {
                return self.link(&origin.program, source);
            }
        }
        // A wrapper that has become another program by now, or a script.
        let assigned = service.environment.iter().rev().find(|(name, _)| name == "PATH");
        let file = find(service, assigned.map(|(_, path)| OsStr::new(path)));
        if file.and_then(|file| FileIdentity::of(&file).ok()) != Some(runs) {
            return Err("what runs is not the file that ExecStart names".into());
        }
        match pin::copy(&exe, &self.program, SIZE_MAX)? {
            Pinned::Copied(source) if identify(&exe)? == source => self.is_of(source),
            Pinned::Copied(_) => Err("the process has become another program meanwhile".into()),
            Pinned::Not(_, why) => Err(why.to_string()),
        }
    }

    /// Neither of the two is ever written to, so one file serves both.
    fn link(&self, program: &Path, source: FileIdentity) -> Result<(), String> {
        let linked = files::remove_if_there(&self.program)
            .and_then(|()| std::fs::hard_link(program, &self.program))
            .map_err(|error| format!("cannot link {}: {error}", self.program.display()));
        linked.and_then(|()| self.is_of(source))
    }

    /// The copy is in place: only with this does it count.
    fn is_of(&self, source: FileIdentity) -> Result<(), String> {
        files::put_durably(&self.identity, source.to_string().as_bytes(), 0o600)
            .map_err(|error| error.to_string())
    }
}

/// The file that ExecStart means: itself where it has a slash, else the first in PATH.
fn find(service: &Service, path: Option<&OsStr>) -> Option<PathBuf> {
    let program = Path::new(&service.exec_start.program);
    if service.exec_start.program.contains('/') {
        let folder = service.working_directory.as_deref().unwrap_or(Path::new("/"));
        return Some(folder.join(program));
    }
    let mut folders = std::env::split_paths(path.unwrap_or(OsStr::new(PATH)));
    folders.find_map(|folder| Some(folder.join(program)).filter(|file| file.is_absolute() && file.is_file()))
}

impl Hands {
    /// Keeps a copy of the program that this generation runs.
    pub(super) fn pin(&mut self, unit: &UnitName, launch: &Launch) {
        let generation = launch.generation;
        let runs = self.workers.of(unit, generation).find_map(|(_, worker)| worker.main());
        let begun = match runs.map(crate::os::pidfd::PidFd::pid) {
            None => Err("no worker of it runs".to_owned()),
            Some(pid) => {
                let copy = Copy::of(&self.pins, unit, generation);
                let origin = (launch.origin != generation).then(|| Copy::of(&self.pins, unit, launch.origin));
                let settings = launch.settings.clone();
                let work = move || copy.make(pid, &settings.service, origin.as_ref()).map(|()| Vec::new());
                Task::run("the copy of a program", COPY_BOUND, &[], work)
                    .map_err(|error| error.to_string())
                    .and_then(|task| {
                        let chore = Chore::Pin(unit.clone(), generation);
                        self.chores.begin(chore, task, &mut self.sources)
                    })
            }
        };
        if let Err(why) = begun {
            self.pinned(unit, generation, &Err(why));
        }
    }

    /// The copy is in place, or cannot be.
    pub(super) fn pinned(&mut self, unit: &UnitName, generation: Generation, result: &Result<(), String>) {
        if let Err(why) = result {
            log::debug!("{unit}/g{generation}: its program is not pinned: {why}");
        }
        self.say(unit, Event::Pinned { generation, pinned: result.is_ok() });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testbed::settings;
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::process::{Child, Command};

    struct Bench {
        folder: tempfile::TempDir,
        service: Service,
        pins: Pins,
        unit: UnitName,
    }

    impl Bench {
        /// A program that waits, and a unit that runs it.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join("server");
            std::fs::copy("/bin/sleep", &program).unwrap();
            let service = settings(&format!("ExecStart = [\"{}\", \"600\"]", program.display())).service;
            let pins = Pins::new(folder.path());
            let unit = UnitName::new("web").unwrap();
            for generation in [1, 2] {
                std::fs::create_dir_all(pins.folder(&unit, Generation(generation))).unwrap();
            }
            Self { folder, service, pins, unit }
        }

        fn copy(&self, generation: u64) -> Copy {
            Copy::of(&self.pins, &self.unit, Generation(generation))
        }

        fn replace(&self) {
            let fresh = self.folder.path().join("fresh");
            std::fs::copy("/bin/cat", &fresh).unwrap();
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
        assert_eq!(copy.instead(&bench.service, None), None, "there is none");
        copy.make(worker.pid(), &bench.service, None).unwrap();
        assert_eq!(copy.instead(&bench.service, None), None, "the disk has the same");
        bench.replace();
        assert_eq!(copy.instead(&bench.service, None), Some(copy.program.clone()));
        assert_eq!(std::fs::read(&copy.program).unwrap(), std::fs::read("/bin/sleep").unwrap());
        std::fs::remove_file(bench.folder.path().join("server")).unwrap();
        assert_eq!(copy.instead(&bench.service, None), Some(copy.program));
    }

    #[test]
    fn what_was_replaced_before_it_was_copied_is_not_pinned() {
        let bench = Bench::new();
        let worker = bench.run(&bench.folder.path().join("server"));
        bench.replace();
        let why = bench.copy(1).make(worker.pid(), &bench.service, None).unwrap_err();
        assert!(why.contains("not the file that ExecStart names"), "{why}");
        assert_eq!(bench.copy(1).instead(&bench.service, None), None);
    }

    #[test]
    fn a_rollback_of_a_rollback_has_the_same_copy() {
        let bench = Bench::new();
        let worker = bench.run(&bench.folder.path().join("server"));
        let (first, second) = (bench.copy(1), bench.copy(2));
        first.make(worker.pid(), &bench.service, None).unwrap();
        bench.replace();
        let again = bench.run(&first.program);
        second.make(again.pid(), &bench.service, Some(&first)).unwrap();
        let inode = |copy: &Copy| std::fs::metadata(&copy.program).unwrap().ino();
        assert_eq!(inode(&first), inode(&second));
        assert_eq!(first.source(), second.source());
        std::fs::remove_dir_all(bench.pins.folder(&bench.unit, Generation(1))).unwrap();
        assert_eq!(second.instead(&bench.service, None), Some(second.program));
    }

    #[test]
    fn an_interpreter_pins_nothing() {
        let bench = Bench::new();
        let service = settings("ExecStart = [\"sh\", \"-c\", \"read x\"]").service;
        let mut child =
            Command::new("sh").args(["-c", "read x"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let why = bench.copy(1).make(i32::try_from(child.id()).unwrap(), &service, None).unwrap_err();
        assert!(why.contains("interpreter"), "{why}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
