//! Launching: a fork, everything of section 7 of the design in the child, then execve(2), and a
//! report that tells whether it came to that.
//!
//! What may block or fail happens in the child: looking up users, opening files, making folders.
//! supd itself asks its launcher for the fork (`launcher`, to which a plan goes as a `parcel`), or forks
//! by itself; it makes the pipe or the sockets of the report (and two sockets, where it is to be asked
//! about bind(2)), and waits no longer than `launcher` says.

mod account;
mod capabilities;
mod child;
mod descriptors;
mod directories;
pub mod environment;
mod failure;
mod launcher;
mod parcel;
mod program;
mod sandbox;
mod system_calls;
#[cfg(test)]
mod tests;

pub use account::Account;
pub use descriptors::Stream;
pub use directories::{Roots, set_aside};
pub use environment::{Environment, Facts, Variable};
pub use failure::{SpawnFailure, Step};
pub use launcher::Launcher;

use super::Error;
use super::ancillary::receive_stream;
use super::cgroup::Joining;
use super::fork::{Report, fork_held};
use super::intercept::Calls;
use super::original::Original;
use super::pidfd::PidFd;
use crate::model::sandbox::Mount;
use crate::model::settings::{Directory, EnvironmentFile, Limit};
use crate::model::system_calls::SystemCalls;
use nix::errno::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::task::Poll;

/// Everything that a child does to become a worker, or a command beside the workers.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// `argv[0]`, as the unit file has it. Without a slash it is looked up in the worker's PATH;
    /// relative with a slash it is relative to `working_directory`.
    pub program: String,
    /// The file to run in its place: the release's, or a pinned copy. `argv[0]` stays as written.
    pub executable: Option<PathBuf>,
    /// `argv[1..]`; [`Common::prepare`] may change them.
    pub arguments: Vec<OsString>,
    /// What is known of the environment before the fork.
    pub environment: Environment,
    /// EnvironmentFile, for [`Common::prepare`].
    pub environment_files: Vec<EnvironmentFile>,
    /// The pinned copy of the program, for [`Common::prepare`].
    pub spare: Option<Spare>,
    /// The listeners, descriptor 3 first; then what is stored for it.
    pub listeners: Vec<BorrowedFd<'a>>,
    /// PassListenPID: LISTEN_PID, LISTEN_PIDFDID and WATCHDOG_PID.
    pub pass_listen_pid: bool,
    /// User, Group, SupplementaryGroups.
    pub account: Account,
    /// WorkingDirectory, entered with the worker's own rights.
    pub working_directory: PathBuf,
    /// UMask
    pub umask: u32,
    /// Limit*
    pub limits: Vec<Limit>,
    /// Nice; `None`: as supd got it.
    pub nice: Option<i32>,
    /// OOMScoreAdjust; `None`: as supd got it.
    pub oom_score_adjust: Option<i32>,
    /// NoNewPrivileges
    pub no_new_privileges: bool,
    /// AmbientCapabilities
    pub ambient_capabilities: Vec<String>,
    /// CapabilityBoundingSet
    pub capability_bounding_set: Option<Vec<String>>,
    /// RuntimeDirectory and its sisters.
    pub directories: Vec<Directory>,
    /// What it sees in place of what supd sees, outer folders first; empty: the same as supd.
    pub mounts: Vec<Mount>,
    /// What it may ask of the kernel; `None`: all.
    pub system_calls: Option<SystemCalls>,
    /// StandardOutput
    pub standard_output: Stream,
    /// StandardError
    pub standard_error: Stream,
    /// Whether supd is asked about each bind(2) and listen(2) ([`crate::os::intercept`]).
    pub intercept: bool,
    /// The file of the generation's notify socket, to be given to User.
    pub notify_socket: Option<PathBuf>,
    /// The cgroup that it goes into.
    pub group: Option<Joining>,
    /// What all launches of one supd have in common.
    pub common: Common<'a>,
}

/// What all launches of one supd have in common.
#[derive(Debug, Clone, Copy)]
pub struct Common<'a> {
    /// What supd was given, which the worker is given too.
    pub original: &'a Original,
    /// Where RuntimeDirectory and its sisters are.
    pub roots: &'a Roots,
    /// Run in the child with supd's own rights, once HOME and the like are known: for what may
    /// block (environment files) and for what needs the whole environment (`${VAR}`).
    pub prepare: Prepare,
}

/// A step of the launch that another layer brings along; an error is a whole sentence.
pub type Prepare = fn(&Plan<'_>, &mut Launch) -> Result<(), String>;

/// A pinned copy of a program, and what tells whether it is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spare {
    /// The copy.
    pub program: PathBuf,
    /// The file that says of which one.
    pub identity: PathBuf,
    /// The folder that a relative path of the program is of.
    pub folder: PathBuf,
}

/// What [`Common::prepare`] may change.
#[derive(Debug)]
pub struct Launch {
    environment: Vec<Variable>,
    /// `argv[1..]`
    pub arguments: Vec<OsString>,
    /// [`Plan::executable`]
    pub executable: Option<PathBuf>,
}

impl Launch {
    /// The value of a variable of the environment as it is so far.
    #[must_use]
    pub fn get(&self, name: &OsStr) -> Option<&OsStr> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }

    /// Sets a variable, over whatever it was. `false`, and nothing is done: it is supd's own
    /// ([`environment::is_ours`]).
    pub fn set(&mut self, name: &OsStr, value: &OsStr) -> bool {
        let free = !environment::is_ours(name);
        if free {
            environment::set(&mut self.environment, name, value);
        }
        free
    }
}

/// A launch under way.
#[derive(Debug)]
pub struct Spawned {
    /// The process: a child, whose number is its session's too.
    pub process: PidFd,
    /// What became of it.
    pub outcome: Outcome,
    /// What it asks supd by, where it does: there once [`Outcome::poll`] has said `Ok`.
    pub asks: Option<Asks>,
}

/// The end of the socket on which a child hands over what its system calls are asked about by.
#[derive(Debug)]
pub struct Asks(UnixStream);

impl Asks {
    /// Takes it.
    ///
    /// # Errors
    /// EMFILE: supd may have no more descriptors; ENOENT: it was not sent.
    pub fn take(&self) -> Result<Calls, Errno> {
        let read = receive_stream(&self.0, &mut [0; 1])?;
        match read.descriptors.into_iter().next() {
            Some(fd) => Ok(Calls::new(fd)),
            None if read.truncated => Err(Errno::EMFILE),
            None => Err(Errno::ENOENT),
        }
    }
}

/// The end of the pipe on which the child says why it could not become the program.
#[derive(Debug)]
pub struct Outcome {
    report: Report,
    /// What it said on the way.
    notes: Vec<String>,
}

impl Outcome {
    fn on(report: Report) -> Self {
        Self { report, notes: Vec::new() }
    }

    /// To be called once the process is noted where a later supd looks: it becomes the program only then, and ends
    /// where nobody says it.
    pub fn go(&self) {
        self.report.go();
    }

    /// `Ok`: execve(2) succeeded. Never blocks; ask again when the descriptor is readable, and
    /// not after it has been `Ready` once.
    pub fn poll(&mut self) -> Poll<Result<(), SpawnFailure>> {
        self.report.poll().map(|report| self.read(&report))
    }

    /// The same of a child that has ended: it will say no more.
    ///
    /// # Errors
    /// Why it could not become the program.
    pub fn end(&mut self) -> Result<(), SpawnFailure> {
        let report = self.report.end();
        self.read(&report)
    }

    fn read(&mut self, report: &[u8]) -> Result<(), SpawnFailure> {
        let (notes, report) = failure::notes(report);
        self.notes = notes;
        SpawnFailure::read(report)
    }

    /// What could not be done although the program runs, each a sentence: there once [`Outcome::poll`] or
    /// [`Outcome::end`] has said `Ok`.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

/// Readable when [`Outcome::poll`] has news.
impl AsFd for Outcome {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

/// Launches. Returns as soon as there is a child; whether it becomes the program is said later.
///
/// # Errors
/// EMFILE, ENFILE, EAGAIN, ENOMEM. Then nothing was begun.
pub fn spawn(plan: &Plan<'_>) -> Result<Spawned, Error> {
    let (asks, way) = plan.intercept.then(|| asking(&plan.program)).transpose()?.unzip();
    let forked =
        fork_held(&plan.program, |reporter| child::run(plan, way.as_ref().map(AsFd::as_fd), reporter))?;
    Ok(Spawned { process: forked.process, outcome: Outcome::on(forked.report), asks })
}

/// supd's end, which never blocks, and the child's.
fn asking(program: &str) -> Result<(Asks, UnixStream), Error> {
    let failed = |error: std::io::Error| Error::from_io("make sockets for", program, &error);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    Ok((Asks(ours), theirs))
}
