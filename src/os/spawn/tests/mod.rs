//! Launches of real programs.

mod descriptors;
mod execve;
mod inheritance;
mod launcher;
mod notify;
mod rights;

use super::environment::Environment;
use super::{Account, Common, Outcome, Plan, Prepare, Roots, SpawnFailure, Spawned, Stream};
use crate::model::WorkerExit;
use crate::os::Error;
use crate::os::original::Original;
use crate::os::pidfd::{PidFd, Wait};
use crate::os::task::tests::in_child;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::task::Poll;

/// nobody and nogroup: there on every machine.
const NOBODY: u32 = 65534;

/// A folder and what a plan borrows.
struct Bench {
    folder: tempfile::TempDir,
    original: Original,
    roots: Roots,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| folder.path().join(name);
        let roots = Roots { runtime: at("run"), state: at("state"), cache: at("cache"), logs: at("logs") };
        Self { original: Original::read().unwrap(), roots, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        // Written in a child: a descriptor of this process that may write it could be in another
        // test's forked child for a moment, and execve(2) would say ETXTBSY.
        in_child(|| fs::write(&path, text).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn plan(&self, program: &str, arguments: &[&str]) -> Plan<'_> {
        Plan {
            program: program.into(),
            executable: None,
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Environment {
                defaults: vec![("PATH".into(), super::environment::PATH.into())],
                ..Environment::default()
            },
            environment_files: Vec::new(),
            spare: None,
            listeners: Vec::new(),
            pass_listen_pid: true,
            account: Account::default(),
            working_directory: "/".into(),
            umask: 0o022,
            limits: Vec::new(),
            nice: None,
            oom_score_adjust: None,
            no_new_privileges: false,
            ambient_capabilities: Vec::new(),
            capability_bounding_set: None,
            directories: Vec::new(),
            mounts: Vec::new(),
            system_calls: None,
            standard_output: Stream::File(self.path("output")),
            standard_error: Stream::Inherit,
            intercept: false,
            notify_socket: None,
            group: None,
            common: self.common(|_, _| Ok(())),
        }
    }

    fn common(&self, prepare: Prepare) -> Common<'_> {
        Common { original: &self.original, roots: &self.roots, prepare }
    }

    /// A shell command line.
    fn shell(&self, line: &str) -> Plan<'_> {
        self.plan("/bin/sh", &["-c", line])
    }

    fn output(&self) -> String {
        fs::read_to_string(self.path("output")).unwrap()
    }
}

fn as_user(user: &str) -> Account {
    Account { user: Some(user.to_owned()), ..Account::default() }
}

/// Waits, with a bound.
fn ready(fd: BorrowedFd<'_>) {
    let mut entry = [PollFd::new(fd, PollFlags::POLLIN)];
    assert_eq!(poll(&mut entry, PollTimeout::from(30_000u16)), Ok(1), "nothing happened");
}

fn outcome(outcome: &mut Outcome) -> Result<(), SpawnFailure> {
    // Readable twice at most: at the mark before execve(2), and at the end.
    loop {
        ready(outcome.as_fd());
        if let Poll::Ready(result) = outcome.poll() {
            return result;
        }
    }
}

fn end(process: &PidFd) -> WorkerExit {
    ready(process.as_fd());
    let Wait::Exited(exit) = process.wait().unwrap() else { panic!("not over") };
    exit
}

/// Launches, and tells it to go.
fn spawn(plan: &Plan<'_>) -> Result<Spawned, Error> {
    super::spawn(plan).inspect(|spawned| spawned.outcome.go())
}

/// Launches and waits for the end.
fn run(plan: &Plan<'_>) -> Result<WorkerExit, SpawnFailure> {
    let mut spawned = spawn(plan).unwrap();
    let result = outcome(&mut spawned.outcome);
    let exit = end(&spawned.process);
    result.map(|()| exit)
}

fn refusal(plan: &Plan<'_>) -> String {
    run(plan).unwrap_err().to_string()
}

/// Whether this process has no child, not even an ended one.
fn childless() -> bool {
    nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG))
        == Err(nix::errno::Errno::ECHILD)
}
