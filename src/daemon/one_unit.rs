//! `supd --unit FILE`: one unit in the foreground, as in a container or at somebody's desk.
//!
//! It is launched at once, what it writes goes where supd's own output goes, and supd ends with it. Places that
//! nobody gave are private ones, gone with supd, so that any number of them can run side by side.

use super::cli::Cli;
use super::hands::Hands;
use super::units::Units;
use crate::codec::fault::Fault;
use crate::codec::unitfile::{Runner, parse_for};
use crate::machine::{Event, Input, Machine};
use crate::model::settings::{Command, Output, Ready, Settings, Start};
use crate::model::status::UnitState;
use crate::model::{Signal, Tick, UnitName, WorkerExit, WorkerId};
use crate::os::pidfd::PidFd;
use crate::os::places::{Caller, Places};
use crate::store::units::{ReadError, UnitFolders};
use nix::unistd::geteuid;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The only unit, and how it ended.
#[derive(Debug)]
pub struct OneUnit {
    unit: UnitName,
    /// How a worker of it ended last.
    exit: Option<WorkerExit>,
    /// Nothing of it is left, and nobody had asked for that.
    over: bool,
}

/// The unit's file is wrong, or is not there: every fault, a line each.
#[derive(Debug)]
pub struct Faulty(pub Vec<String>);

/// What a supd of one unit has before it boots.
#[derive(Debug)]
pub struct Prepared {
    /// With every place that it needs.
    pub cli: Cli,
    /// Removed when it is dropped.
    _private: Option<TempDir>,
}

/// Which settings are taken otherwise than where supd runs many units.
#[derive(Debug, Clone)]
pub struct Alone {
    /// The unit.
    pub unit: UnitName,
    /// The folder of its file.
    folder: PathBuf,
}

/// Looks at the file, and finds a place for what has none.
///
/// # Errors
/// The file is wrong; or, in a sentence, there is no place for what supd needs.
pub fn prepare(mut cli: Cli) -> Result<Prepared, Result<Faulty, String>> {
    let Some(file) = &cli.unit else { return Ok(Prepared { cli, _private: None }) };
    let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    cli.given.units = Some(folder);
    cli.unit = Some(file.clone());
    let unit = check(&file).map_err(Ok)?;
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let runtime = cli.given.runtime.is_some() || is_set("SUPD_RUNTIME");
    let state = cli.given.state.is_some() || is_set("SUPD_STATE");
    if runtime && state {
        return Ok(Prepared { cli, _private: None });
    }
    // Workers of other users go through to their sockets and programs, and see nothing else.
    let made = tempfile::Builder::new()
        .prefix(&format!("supd-{unit}-"))
        .permissions(Permissions::from_mode(0o711))
        .tempdir()
        .map_err(|error| {
            Err(format!(
                "cannot make a private folder: {error}; give --runtime DIR and --state DIR, or set TMPDIR"
            ))
        })?;
    if !runtime {
        cli.given.runtime = Some(made.path().join("run"));
    }
    if !state {
        cli.given.state = Some(made.path().join("state"));
    }
    Ok(Prepared { cli, _private: Some(made) })
}

/// The unit's name, where nothing is wrong with its files.
fn check(file: &Path) -> Result<UnitName, Faulty> {
    let given =
        crate::os::places::Given { units: file.parent().map(Path::to_path_buf), ..Default::default() };
    let told = |faults: &[Fault]| Faulty(faults.iter().map(ToString::to_string).collect());
    // Only where the units are is asked for here, and that is given.
    let caller = Caller { root: true, ..Caller::this() };
    let places = Places::resolve(&given, &caller).map_err(|unknown| Faulty(vec![unknown.to_string()]))?;
    let folders = UnitFolders { folders: places.units, defaults: places.defaults };
    let sources = folders.read_file(file).map_err(|error| match error {
        ReadError::Faults(faults) => told(&faults),
        other => Faulty(vec![other.to_string()]),
    })?;
    let runner = if geteuid().is_root() { Runner::Root } else { Runner::Ordinary };
    parse_for(&sources, runner).map(|loaded| loaded.settings.unit).map_err(|faults| told(&faults))
}

impl Alone {
    /// That of this file, if its name is one.
    #[must_use]
    pub fn of(file: &Path) -> Option<Self> {
        let unit = UnitName::new(file.file_stem()?.to_str()?).ok()?;
        Some(Self { unit, folder: file.parent()?.to_owned() })
    }

    /// Takes the log for the terminal, "manual" for now, and a release for the file's own folder.
    pub fn suit(&self, settings: &mut Settings) {
        let service = &mut settings.service;
        if service.standard_output == Output::Auto {
            service.standard_output = Output::Inherit;
        }
        if service.start == Start::Manual {
            service.start = Start::Boot;
        }
        if !std::mem::take(&mut service.releases) {
            return;
        }
        service.working_directory.get_or_insert_with(|| self.folder.clone());
        service.exec_install.clear();
        let lists = [
            &mut service.exec_start_pre,
            &mut service.exec_start_post,
            &mut service.exec_reload,
            &mut service.exec_stop,
            &mut service.exec_stop_post,
            &mut service.traffic_off,
            &mut service.traffic_on,
        ];
        let ready = match &mut service.ready {
            Ready::Command(command) => Some(command),
            Ready::Notify | Ready::Started | Ready::Listen | Ready::Tcp | Ready::Http(_) => None,
        };
        let single = [Some(&mut service.exec_start), ready, settings.swap.check_command.as_mut()];
        let all = lists.into_iter().flatten().chain(single.into_iter().flatten());
        all.for_each(|command: &mut Command| self.within(command));
    }

    fn within(&self, command: &mut Command) {
        if command.program.contains('/') && !command.program.starts_with('/') {
            command.program = self.folder.join(&command.program).to_string_lossy().into_owned();
        }
    }
}

impl OneUnit {
    /// Nothing of it has run.
    #[must_use]
    pub fn new(unit: UnitName) -> Self {
        Self { unit, exit: None, over: false }
    }

    /// Hears what the machine hears.
    pub fn hear(&mut self, input: &Input) {
        if let Input::Unit(_, Event::Exited { exit, .. }) = input {
            self.exit = Some(*exit);
        }
    }

    /// The exit status of supd, as that of a container: what ended by itself ends supd with its own.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self.exit.filter(|_| self.over) {
            Some(WorkerExit::Code(code)) => u8::try_from(code & 0xff).unwrap_or(1),
            Some(WorkerExit::Killed { signal, .. }) => u8::try_from(128 + signal.0).unwrap_or(1),
            Some(WorkerExit::Unknown) => 1,
            // Nothing was ever launched.
            None => u8::from(self.over),
        }
    }
}

impl Hands {
    /// Ends supd once nothing of its only unit is left, or will be launched again.
    pub(super) fn end_with_unit(&mut self, machine: &Machine, now: Tick) {
        let Some(one) = self.one.as_mut().filter(|_| self.quit_by.is_none()) else { return };
        if one.over || self.story.ending.is_some() {
            return;
        }
        let Some(status) = machine.status(&one.unit, now) else { return };
        let lives =
            |worker: &super::workers::Worker| worker.main().is_some_and(|main: &PidFd| !main.is_over());
        let rests = match status.state {
            UnitState::Stopped => true,
            // Whatever it waits for has a deadline.
            UnitState::Down => machine.deadline().is_none(),
            UnitState::Waiting
            | UnitState::Starting
            | UnitState::Active
            | UnitState::Canary
            | UnitState::Probation
            | UnitState::Stopping
            | UnitState::Quarantine
            | UnitState::Holding => false,
        };
        let busy = !self.inbox.is_empty() || !self.recorder.is_idle() || !self.jobs.is_idle();
        if !rests || busy || self.workers.of_unit(&one.unit).any(|(_, worker)| lives(worker)) {
            return;
        }
        // A person has stopped it: that is as good as any end.
        one.over = status.state != UnitState::Stopped || one.exit.is_none_or(|exit| !exit.is_success());
        log::info!("{} has ended, and supd with it", one.unit);
        self.shutdown(None);
    }

    /// A second request to end does not wait any longer: as if somebody had killed every worker.
    pub(super) fn end_now(&mut self) {
        let Some(unit) = self.one.as_ref().map(|one| one.unit.clone()) else { return };
        log::info!("ending {unit} at once, as asked once more");
        let all: Vec<WorkerId> = self.workers.of_unit(&unit).map(|(id, _)| id).collect();
        all.into_iter().for_each(|worker| self.signal(worker, Signal::KILL, true));
    }
}

/// What is wrong, on standard error.
pub(super) fn tell(faulty: &Faulty) {
    faulty.0.iter().for_each(|fault| eprintln!("supd: {fault}"));
}

/// The units of a supd, of which there is one alone where that is so.
pub(super) fn units(folders: UnitFolders, file: Option<&Path>) -> Units {
    let units = Units::new(folders);
    match file.and_then(Alone::of) {
        Some(alone) => units.alone(alone),
        None => units,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::unitfile::{Source, Sources, parse};

    #[test]
    fn what_belongs_to_a_release_is_in_the_folder_of_the_file() {
        let text = "[[Socket]]\nListenStream = 80\n[Service]\nExecStart = 'bin/server --x'\nStart = 'manual'\n\
                    Ready = ['bin/ready']\nExecStop = ['stop', 'a/b']\nExecInstall = ['bin/prepare']\n";
        let (unit, main) = (UnitName::new("web").unwrap(), Source::new("/srv/web.unit", text));
        let sources = Sources { unit, defaults: None, main, drop_ins: Vec::new() };
        let mut settings = parse(&sources).unwrap().settings;
        assert!(settings.service.releases);
        Alone::of(Path::new("/srv/web.unit")).unwrap().suit(&mut settings);
        let service = &settings.service;
        assert_eq!(service.exec_start.program, "/srv/bin/server");
        assert_eq!(service.exec_start.arguments, ["--x"]);
        assert!(matches!(&service.ready, Ready::Command(command) if command.program == "/srv/bin/ready"));
        assert_eq!(service.exec_stop[0].program, "stop");
        assert_eq!(service.working_directory.as_deref(), Some(Path::new("/srv")));
        assert!(!service.releases && service.exec_install.is_empty());
        assert_eq!((service.start, &service.standard_output), (Start::Boot, &Output::Inherit));
    }

    #[test]
    fn it_ends_as_its_unit_did() {
        let mut one = OneUnit::new(UnitName::new("web").unwrap());
        assert_eq!(one.status(), 0);
        let exited =
            |exit| Input::Unit(UnitName::new("web").unwrap(), Event::Exited { worker: WorkerId(1), exit });
        one.hear(&exited(WorkerExit::Code(7)));
        assert_eq!(one.status(), 0, "it was asked to end");
        one.over = true;
        assert_eq!(one.status(), 7);
        one.hear(&exited(WorkerExit::Killed { signal: Signal(9), core: false }));
        assert_eq!(one.status(), 137);
        let never = OneUnit { over: true, ..OneUnit::new(UnitName::new("web").unwrap()) };
        assert_eq!(never.status(), 1);
    }
}
