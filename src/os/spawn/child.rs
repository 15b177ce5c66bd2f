//! The child between fork and execve: the order of its steps is the order of section 7's promises.
#![allow(unsafe_code)]

use super::account::Identity;
use super::capabilities::Capabilities;
use super::descriptors::{open_streams, place};
use super::environment::Variable;
use super::failure::{EXECUTING, SpawnFailure, Step, note};
use super::program::{Image, find};
use super::{Launch, Plan, directories, sandbox, system_calls};
use crate::os::fork::{Reporter, close_from};
use crate::os::pidfd::PidFd;
use crate::os::{ancillary, intercept, original};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::fcntl::AtFlags;
use nix::sys::prctl;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, umask};
use nix::unistd::{chdir, fchownat, geteuid, getpid, setsid};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Becomes the program, or says why not and returns.
pub(super) fn run(plan: &Plan<'_>, way: Option<BorrowedFd<'_>>, reporter: &mut Reporter) {
    let Err(failure) = launch(plan, way, reporter);
    reporter.say(&failure.encode());
}

fn launch(
    plan: &Plan<'_>,
    way: Option<BorrowedFd<'_>>,
    reporter: &mut Reporter,
) -> Result<std::convert::Infallible, SpawnFailure> {
    let passing = |errno| SpawnFailure::errno(Step::Descriptors, &plan.program, errno);
    // Before anything that may take long: one that supd has given up is known to nobody, and nobody would end it.
    reporter.wait_for_go().map_err(passing)?;
    if let Some(group) = &plan.group {
        // First of all: what it opens and starts counts there. It is no reason not to serve.
        group.join().into_iter().for_each(|fault| reporter.say(&note(fault)));
    }
    // A session of its own: its number tells the worker's processes apart from any other's, and
    // Ctrl-C at supd's terminal is for supd to act on. It cannot fail in a new process.
    let _ = setsid();
    umask(Mode::from_bits_truncate(plan.umask));
    // One that binds for itself has no listeners, and nothing comes after what was stored but the way to supd,
    // which is there until it is used.
    let kept: Vec<BorrowedFd<'_>> = plan.listeners.iter().copied().chain(way).collect();
    let report_at = place(&kept, reporter).map_err(passing)?;
    // First: the journal is told who writes when it is connected to.
    let identity = plan.account.resolve()?;
    let streams = open_streams(&plan.standard_output, &plan.standard_error, &identity)?;
    streams.fault.iter().for_each(|fault| reporter.say(&note(fault.clone())));
    for directory in &plan.directories {
        directories::make(plan.common.roots, directory, identity.uid, identity.gid)?;
    }
    if let Some(path) = &plan.notify_socket {
        give_notify_socket(path, &identity)?;
    }
    let mut launch = Launch {
        environment: environment(plan, &identity, streams.told()),
        arguments: plan.arguments.clone(),
        executable: plan.executable.clone(),
    };
    (plan.common.prepare)(plan, &mut launch)
        .map_err(|text| SpawnFailure::reason(Step::Prepare, &plan.program, text))?;

    // What supd reads for it is read where supd is; from here on it sees what it will see.
    sandbox::enter(&plan.mounts)?;
    if way.is_some() {
        // After every name service, which may bind too, and nobody would answer it; with all of supd's
        // rights still, and before LimitNOFILE leaves no room.
        ask_about_binds(report_at - 1)?;
    }
    settings(plan)?;
    let capabilities =
        Capabilities::parse(&plan.ambient_capabilities, plan.capability_bounding_set.as_deref())?;
    capabilities.limit()?;
    identity.assume(&plan.account)?;
    capabilities.grant()?;

    let image = find_image(plan, launch)?;
    // Once more, for what name services and `prepare` may have left open.
    close_from(report_at + 1).map_err(passing)?;
    reporter.say(&[EXECUTING]);
    if let Some(calls) = &plan.system_calls {
        // Last: it may forbid whatever a launch needs but execve(2).
        let failed = |errno| SpawnFailure::errno(Step::Sandbox, "SystemCallFilter", errno);
        system_calls::limit(calls).map_err(failed)?;
    }
    Err(image.execute())
}

/// What it becomes. With the worker's own rights: a folder on NFS may be closed to root, and a program that User may
/// not execute is to be refused now.
fn find_image(plan: &Plan<'_>, mut launch: Launch) -> Result<Image, SpawnFailure> {
    let folder = plan.working_directory.as_path();
    chdir(folder).map_err(|errno| SpawnFailure::errno(Step::WorkingDirectory, folder.display(), errno))?;
    if plan.no_new_privileges {
        let failed = |errno| SpawnFailure::errno(Step::Capability, "NoNewPrivileges", errno);
        prctl::set_no_new_privs().map_err(failed)?;
    }
    let file = match launch.executable.take() {
        Some(file) => file,
        None => find(&plan.program, &launch.environment)?,
    };
    Image::new(&file, &plan.program, &launch.arguments, &launch.environment)
}

/// From here on supd is asked about this process's bind(2) and listen(2), and those of all that it starts.
fn ask_about_binds(way: RawFd) -> Result<(), SpawnFailure> {
    let failed = |errno| SpawnFailure::errno(Step::Intercept, "bind(2)", errno);
    let asks = intercept::install().map_err(|errno| match errno {
        Errno::EBUSY => failed(errno).hint(
            "another program above supd is asked about system calls already (a container runtime, or a supd \
             of which this one is a worker): run this supd beside it, or write Handoff = \"inherit\"",
        ),
        Errno::EINVAL | Errno::ENOSYS => failed(errno)
            .hint("this kernel is too old (5.19 is needed), or has no seccomp: write Handoff = \"inherit\""),
        errno => failed(errno),
    })?;
    // SAFETY: `place` has put it there for this child alone, and it is closed by the end of this.
    let way = unsafe { OwnedFd::from_raw_fd(way) };
    ancillary::send_stream(&way, b"+", Some(asks.as_fd())).map(drop).map_err(failed)
}

/// Everything, with what only this process can know: its number, and who it is going to be.
fn environment(plan: &Plan<'_>, identity: &Identity, journal: Option<String>) -> Vec<Variable> {
    let mut all = plan.environment.merge(&identity.login);
    let pid = getpid();
    let mut add = |name: &str, value: String| all.push((name.into(), value.into()));
    journal.into_iter().for_each(|stream| add("JOURNAL_STREAM", stream));
    // A wrapper runs the server as a child of its own, under another number: there all three would
    // make the server ignore what it is given.
    if plan.pass_listen_pid && !plan.listeners.is_empty() {
        add("LISTEN_PID", pid.to_string());
        if let Some(inode) = PidFd::open(pid.as_raw()).ok().and_then(|process| process.inode()) {
            add("LISTEN_PIDFDID", inode.to_string());
        }
    }
    if plan.pass_listen_pid && plan.environment.ours.iter().any(|(name, _)| name == "WATCHDOG_USEC") {
        add("WATCHDOG_PID", pid.to_string());
    }
    all
}

/// The notify socket's file becomes User's, so that User can send and nobody else. A worker that
/// runs as root may be about to drop root by itself and to send READY=1 after that: there anyone
/// may send, and who did is told by the kernel's credentials alone, as under systemd.
fn give_notify_socket(path: &Path, identity: &Identity) -> Result<(), SpawnFailure> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let failed = |errno| SpawnFailure::errno(Step::NotifySocket, path.display(), errno);
    let mode = Mode::from_bits_truncate(if identity.uid.is_root() { 0o666 } else { 0o600 });
    fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink).map_err(failed)?;
    let (user, group) = (Some(identity.uid), Some(identity.gid));
    fchownat(AT_FDCWD, path, user, group, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)
}

/// Nice, OOMScoreAdjust, the timer slack and the limits: first as supd got them, then as the unit
/// asks. Limits last, since few open files or little memory would be in the way of the rest.
fn settings(plan: &Plan<'_>) -> Result<(), SpawnFailure> {
    let failed = |what: String| move |errno| right(SpawnFailure::errno(Step::Setting, what, errno), errno);
    let original = plan.common.original;
    let nice = plan.nice.unwrap_or(original.nice());
    original::set_nice(nice).map_err(failed(format!("Nice to {nice}")))?;
    if let Some(value) = plan.oom_score_adjust.or(original.oom_score_adjust()) {
        original::set_oom_score_adjust(value).map_err(failed(format!("OOMScoreAdjust to {value}")))?;
    }
    if let Some(slack) = original.timer_slack_ns() {
        // It cannot fail, and 0 would mean something else.
        let _ = prctl::set_timerslack(slack.max(1));
    }
    for resource in original::RESOURCES {
        let name = original::key(resource);
        match plan.limits.iter().rfind(|limit| limit.resource == resource) {
            Some(limit) => {
                let number =
                    |value: Option<u64>| value.map_or("infinity".to_owned(), |value| value.to_string());
                let what = format!("{name} to {}:{}", number(limit.soft), number(limit.hard));
                original::set_limit(limit).map_err(failed(what))?;
            }
            None => {
                let (soft, hard) = original.limit(resource);
                let what = format!("{name} back to {soft}:{hard}");
                original::set_raw(resource, soft, hard).map_err(failed(what))?;
            }
        }
    }
    Ok(())
}

fn right(failure: SpawnFailure, errno: Errno) -> SpawnFailure {
    match errno {
        Errno::EPERM | Errno::EACCES => failure.hint("supd itself is not allowed that"),
        _ => failure,
    }
}
