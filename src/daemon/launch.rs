//! From a generation's recipe to a process: everything that section 7 of the design promises.

use super::pinning::{self, Copy};
use crate::codec::environment::{self, FILE_BYTES_MAX};
use crate::codec::system_calls;
use crate::codec::variables::expand;
use crate::machine::Launch;
use crate::model::sandbox::{self, Asked, Needs};
use crate::model::settings::{Command, Handoff, NotifyAccess, Output, Service, Settings};
use crate::model::{Address, Generation, Label, ListenerName, UnitName, WorkerId};
use crate::os::Error;
use crate::os::cgroup::Joining;
use crate::os::original::Original;
use crate::os::spawn::{
    self, Account, Common, Environment, Facts, Launcher, Plan, Roots, Spawned, Stream, Variable,
};
use crate::store::releases::Releases;
use crate::store::text::{self, Content};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// What every launch of one supd has in common.
#[derive(Debug)]
pub struct Ground {
    /// What supd was given.
    pub original: Original,
    /// Where RuntimeDirectory and its sisters are.
    pub roots: Roots,
    /// LANG
    pub lang: String,
    /// supd's own environment, for PassEnvironment.
    pub environment: Vec<Variable>,
    /// Where log files are.
    pub logs: PathBuf,
    /// supd's own messages go to the journal, and so does what workers write, where their units do not say.
    pub journal: bool,
    /// Where releases are.
    pub releases: Releases,
    /// Who forks.
    pub launcher: Launcher,
}

/// What one worker has to itself.
#[derive(Debug)]
pub struct Worker<'a> {
    /// SUPD_WORKER
    pub index: u32,
    /// INVOCATION_ID
    pub invocation: &'a str,
    /// NOTIFY_SOCKET
    pub notify_socket: &'a Path,
    /// The listeners, in the order of the file.
    pub listeners: Vec<(ListenerName, Address, BorrowedFd<'a>)>,
    /// What workers before it have stored for it, with their names.
    pub stored: Vec<(&'a str, BorrowedFd<'a>)>,
    /// The pinned copy, to run where what is on disk is another file by now.
    pub pinned: Option<Copy>,
    /// Its cgroup.
    pub group: Option<Joining>,
}

/// What one command beside the workers has to itself.
#[derive(Debug)]
pub struct Beside<'a> {
    /// What to run.
    pub command: &'a Command,
    /// INVOCATION_ID
    pub invocation: &'a str,
    /// NOTIFY_SOCKET, where the unit hears such commands.
    pub notify_socket: Option<&'a Path>,
    /// The worker that it is about.
    pub worker: Option<WorkerId>,
    /// SUPD_WORKER of that one.
    pub index: Option<u32>,
    /// MAINPID of that worker.
    pub main_pid: Option<i32>,
    /// What else it is told.
    pub told: Vec<Variable>,
}

/// Where what a generation writes is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// In its log file.
    File,
    /// In the journal; in its log file what was written while that did not answer.
    Journal,
    /// Where the unit file says.
    Elsewhere,
}

/// SYSLOG_IDENTIFIER of what a unit's workers write.
#[must_use]
pub fn identifier(settings: &Settings) -> &str {
    settings.service.syslog_identifier.as_deref().unwrap_or(settings.unit.as_str())
}

impl Ground {
    /// What the last ExecInstall wrote.
    #[must_use]
    pub fn install_log(&self, unit: &UnitName) -> PathBuf {
        self.logs.join(unit.as_str()).join("install.log")
    }

    /// The folder of the release that a launch runs.
    fn home(&self, launch: &Launch) -> Option<PathBuf> {
        let label = launch.release.as_ref()?;
        Some(self.releases.folder(&launch.settings.unit, label))
    }

    /// The log file of a generation; 0 is an install.
    #[must_use]
    pub fn log(&self, unit: &UnitName, generation: Generation) -> PathBuf {
        if generation.0 == 0 {
            return self.install_log(unit);
        }
        self.logs.join(unit.as_str()).join(format!("{generation}.log"))
    }

    /// Launches a worker.
    ///
    /// # Errors
    /// There is no process: EMFILE, ENFILE, EAGAIN, ENOMEM.
    pub fn launch(&self, launch: &Launch, worker: &Worker<'_>) -> Result<Spawned, Error> {
        let service = &launch.settings.service;
        // One that binds for itself is to know nothing of them.
        let intercept = service.handoff == Handoff::Intercept;
        let listeners: Vec<(ListenerName, Address)> = worker
            .listeners
            .iter()
            .filter(|_| !intercept)
            .map(|(name, address, _)| (name.clone(), address.clone()))
            .collect();
        let stored: Vec<&str> = worker.stored.iter().map(|(name, _)| *name).collect();
        let (directories, home) = (self.directories(service), self.home(launch));
        let passed = self.passed(service);
        let facts = Facts {
            worker: Some(worker.index),
            notify_socket: Some(worker.notify_socket),
            watchdog: service.watchdog,
            file_descriptor_store_max: service.file_descriptor_store_max,
            listeners: &listeners,
            stored: &stored,
            ..self.facts(launch, home.as_deref(), worker.invocation, &directories, &passed)
        };
        let environment = Environment::new(&facts);
        let mut plan = self.plan(launch, &service.exec_start, environment);
        plan.spare = worker.pinned.as_ref().map(|copy| copy.spare(service));
        plan.listeners = worker.listeners.iter().filter(|_| !intercept).map(|(_, _, fd)| *fd).collect();
        plan.listeners.extend(worker.stored.iter().map(|(_, fd)| *fd));
        plan.intercept = intercept;
        plan.pass_listen_pid = service.pass_listen_pid;
        plan.notify_socket = Some(worker.notify_socket.into());
        self.sandbox(launch, &mut plan);
        plan.group.clone_from(&worker.group);
        self.spawn(&plan)
    }

    /// Runs a command beside the workers, as the unit's user and in its environment, but without
    /// its listeners.
    ///
    /// # Errors
    /// As [`Ground::launch`].
    pub fn run(&self, launch: &Launch, beside: &Beside<'_>) -> Result<Spawned, Error> {
        let service = &launch.settings.service;
        let (directories, home) = (self.directories(service), self.home(launch));
        let passed = self.passed(service);
        let facts = Facts {
            worker: beside.index,
            notify_socket: beside.notify_socket,
            ..self.facts(launch, home.as_deref(), beside.invocation, &directories, &passed)
        };
        let mut environment = Environment::new(&facts);
        if let Some(pid) = beside.main_pid {
            environment.ours.push(("MAINPID".into(), pid.to_string().into()));
        }
        environment.ours.extend(beside.told.iter().cloned());
        let mut plan = self.plan(launch, beside.command, environment);
        plan.notify_socket = beside.notify_socket.map(Path::to_path_buf);
        self.sandbox(launch, &mut plan);
        self.spawn(&plan)
    }

    fn spawn(&self, plan: &Plan<'_>) -> Result<Spawned, Error> {
        let spawned = self.launcher.spawn(plan);
        if let Some(note) = self.launcher.note() {
            log::warn!("{note}");
        }
        spawned
    }

    fn facts<'a>(
        &'a self,
        launch: &'a Launch,
        home: Option<&'a Path>,
        invocation_id: &'a str,
        directories: &'a [(crate::model::settings::DirectoryKind, PathBuf)],
        passed: &'a [Variable],
    ) -> Facts<'a> {
        Facts {
            unit: &launch.settings.unit,
            generation: launch.generation,
            worker: None,
            release: launch.release.as_ref().map(Label::as_str).zip(home),
            invocation_id,
            notify_socket: None,
            watchdog: None,
            file_descriptor_store_max: 0,
            listeners: &[],
            stored: &[],
            directories,
            lang: &self.lang,
            passed,
            assigned: &launch.settings.service.environment,
        }
    }

    fn plan(&self, launch: &Launch, command: &Command, environment: Environment) -> Plan<'_> {
        let Settings { unit, service, .. } = &*launch.settings;
        let log = self.log(unit, launch.generation);
        let home = self.home(launch);
        // argv[0] is what the file says; what is executed does not hang on the working directory.
        let within = home.as_deref().filter(|_| !command.program.starts_with('/'));
        let executable =
            within.filter(|_| command.program.contains('/')).map(|home| home.join(&command.program));
        Plan {
            program: command.program.clone(),
            executable,
            arguments: command.arguments.iter().map(OsString::from).collect(),
            environment,
            environment_files: service.environment_files.clone(),
            spare: None,
            listeners: Vec::new(),
            pass_listen_pid: false,
            account: account(service),
            working_directory: service.working_directory.clone().or(home).unwrap_or_else(|| "/".into()),
            umask: service.umask,
            limits: service.limits.clone(),
            nice: service.nice,
            oom_score_adjust: service.oom_score_adjust,
            no_new_privileges: service.no_new_privileges,
            ambient_capabilities: service.ambient_capabilities.clone(),
            capability_bounding_set: service.capability_bounding_set.clone(),
            directories: service.directories.clone(),
            mounts: Vec::new(),
            system_calls: system_calls::resolve(&service.system_call_filter),
            standard_output: self.stream(&service.standard_output, launch, &log),
            standard_error: self.stream(&service.standard_error, launch, &log),
            intercept: false,
            notify_socket: None,
            group: None,
            common: Common { original: &self.original, roots: &self.roots, prepare },
        }
    }

    /// What the process is to see. All that supd runs for a unit sees the same, as under systemd.
    fn sandbox(&self, launch: &Launch, plan: &mut Plan<'_>) {
        let service = &launch.settings.service;
        let home = self.home(launch);
        let directories = self.directories(service);
        let folder = plan.notify_socket.as_deref().and_then(Path::parent);
        let copy = plan.spare.as_ref().and_then(|spare| spare.program.parent());
        let reached: Vec<&Path> = [home.as_deref(), folder, copy].into_iter().flatten().collect();
        // An install makes the release.
        let installed = home.as_deref().filter(|_| launch.generation.0 == 0);
        let written: Vec<&Path> =
            directories.iter().map(|(_, path)| path.as_path()).chain(installed).collect();
        plan.mounts = sandbox::mounts(Asked::by(service), Needs { reached: &reached, written: &written });
    }

    /// What an install says is wanted once, soon and by who asked for it: it stays in a file.
    fn stream(&self, output: &Output, launch: &Launch, log: &Path) -> Stream {
        let install = launch.generation.0 == 0;
        match output {
            Output::Auto if install || !self.journal => Stream::Log(log.into()),
            Output::Journal if install => Stream::Log(log.into()),
            Output::Auto | Output::Journal => {
                Stream::Journal { identifier: identifier(&launch.settings).to_owned(), instead: log.into() }
            }
            Output::File(path) => Stream::File(path.clone()),
            Output::Append(path) => Stream::Append(path.clone()),
            Output::Null => Stream::Null,
            Output::Inherit => Stream::Inherit,
        }
    }

    /// Where the output of a unit goes that nobody but supd has chosen a place for.
    #[must_use]
    pub fn kept(&self, service: &Service) -> Logged {
        let mut outputs = [&service.standard_output, &service.standard_error].into_iter();
        let journaled =
            |output: &Output| *output == Output::Journal || (*output == Output::Auto && self.journal);
        match outputs.find(|output| matches!(output, Output::Auto | Output::Journal)) {
            Some(output) if journaled(output) => Logged::Journal,
            Some(_) => Logged::File,
            None => Logged::Elsewhere,
        }
    }

    fn directories(&self, service: &Service) -> Vec<(crate::model::settings::DirectoryKind, PathBuf)> {
        service.directories.iter().map(|directory| (directory.kind, self.roots.path(directory))).collect()
    }

    fn passed(&self, service: &Service) -> Vec<Variable> {
        let asked = |name: &OsStr| service.pass_environment.iter().any(|asked| name == asked.as_str());
        self.environment.iter().filter(|(name, _)| asked(name)).cloned().collect()
    }
}

/// As whom the unit's processes run.
#[must_use]
pub fn account(service: &Service) -> Account {
    Account {
        user: service.user.clone(),
        group: service.group.clone(),
        supplementary_groups: service.supplementary_groups.clone(),
    }
}

/// Whether commands beside the workers may speak at the notify socket.
#[must_use]
pub fn hears_commands(service: &Service) -> bool {
    matches!(service.notify_access, NotifyAccess::Exec | NotifyAccess::All)
}

/// What the child does once it knows HOME and the like: environment files, over the unit file's
/// own variables as in systemd, then the variables of the command line.
///
/// # Errors
/// What is wrong with an environment file, or with what the variables make of the command line.
pub fn prepare(plan: &Plan<'_>, launch: &mut spawn::Launch) -> Result<(), String> {
    for file in &plan.environment_files {
        let text = match text::read(&file.path, FILE_BYTES_MAX) {
            Ok(Content::Text(text)) => text,
            Ok(Content::Null) => continue,
            Ok(Content::Missing) if file.optional => continue,
            Ok(Content::Missing) => {
                let path = file.path.display();
                return Err(format!("cannot read the EnvironmentFile {path}: it is missing"));
            }
            Err(fault) => return Err(format!("cannot read the EnvironmentFile {fault}")),
        };
        let parsed = environment::parse(&file.path, text.as_bytes());
        for fault in &parsed.faults {
            // The child's standard error is the worker's by now. Where that is closed nobody is to be told.
            let _ = writeln!(std::io::stderr(), "supd: {fault}; the line is passed over");
        }
        for (name, value) in parsed.variables {
            launch.set(name.as_ref(), value.as_ref());
        }
    }
    let lookup = |name: &str| launch.get(name.as_ref()).and_then(OsStr::to_str);
    let written: Vec<_> = plan.arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let expanded = expand(&written, lookup).map_err(|too_long| too_long.to_string())?;
    launch.arguments = expanded.words.into_iter().map(OsString::from).collect();
    if let Some(spare) = &plan.spare {
        launch.executable = pinning::instead(spare, &plan.program, launch.get("PATH".as_ref()));
    }
    Ok(())
}

/// A new INVOCATION_ID: 128 random bits in hexadecimal digits.
///
/// # Errors
/// /dev/urandom cannot be read: EMFILE, or a container without it.
pub fn new_invocation() -> Result<String, Error> {
    const SOURCE: &str = "/dev/urandom";
    let mut bytes = [0; 16];
    File::open(SOURCE)
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| Error::from_io("read", SOURCE, &error))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
