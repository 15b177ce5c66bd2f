//! The main process of a service of systemd, by systemctl and with the caller's own rights.

use super::failure::Failure;
use crate::model::{ExitStatus, Signal};
use crate::os::pidfd::PidFd;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

/// How long systemctl may take, in milliseconds. (It takes ten.)
const PATIENCE: u16 = 10_000;

/// No more of what it prints is read.
const PRINTED_MAX: u64 = 16_384;

/// The most characters of a unit's name (systemd.unit(5)).
const NAME_MAX: usize = 255;

/// A server that already runs, as `--take-from` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    /// By the number of a process.
    Process(i32),
    /// By the name of a service, with its ending.
    Service(String),
}

impl Server {
    /// Reads it: what is a number is a process.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let pid = text.parse().ok().filter(|pid| *pid > 0);
            return pid.map(Self::Process).ok_or_else(|| "no process has that number".to_owned());
        }
        let name = if text.ends_with(".service") { text.to_owned() } else { format!("{text}.service") };
        let fits = |c: char| c.is_ascii_alphanumeric() || ":_.\\@-".contains(c);
        let begins = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        if begins && name.len() <= NAME_MAX && name.chars().all(fits) && !has_other_ending(text) {
            return Ok(Self::Service(name));
        }
        Err("write a service of systemd, as nginx.service, or the number of a process".to_owned())
    }

    /// The number of its main process.
    pub(super) fn main_pid(&self) -> Result<i32, Failure> {
        let name = match self {
            Self::Process(pid) => return Ok(*pid),
            Self::Service(name) => name,
        };
        let system = ask(name, false)?;
        if let (None, false) = (system.pid(), nix::unistd::geteuid().is_root()) {
            // Of the user's own manager, which may not run at all.
            if let Some(pid) = ask(name, true).ok().and_then(|own| own.pid()) {
                return Ok(pid);
            }
        }
        system.pid().ok_or_else(|| {
            let failure = Failure::new(ExitStatus::Refused, system.why(name));
            failure.next(format!("systemctl status {name}, or --take-from PID"))
        })
    }
}

/// A unit of another kind.
fn has_other_ending(text: &str) -> bool {
    let kinds = ["socket", "target", "timer", "path", "mount", "slice", "scope", "device", "swap"];
    text.rsplit_once('.').is_some_and(|(_, ending)| kinds.contains(&ending))
}

/// What systemctl said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    pid: i32,
    load: String,
    active: String,
}

impl Shown {
    fn read(text: &str) -> Self {
        let mut shown = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "MainPID" => shown.pid = value.trim().parse().unwrap_or(0),
                "LoadState" => value.trim().clone_into(&mut shown.load),
                "ActiveState" => value.trim().clone_into(&mut shown.active),
                _ => {}
            }
        }
        shown
    }

    fn pid(&self) -> Option<i32> {
        Some(self.pid).filter(|pid| *pid > 0)
    }

    fn why(&self, name: &str) -> String {
        match (self.load.as_str(), self.active.as_str()) {
            ("not-found", _) => format!("systemd knows no {name}"),
            (_, "active") => format!("{name} has no main process by systemd's word"),
            (_, "") => format!("systemctl does not say whether {name} runs"),
            (_, state) => format!("{name} does not run: systemd says {state}"),
        }
    }
}

fn ask(name: &str, own: bool) -> Result<Shown, Failure> {
    let failed = |text: String| {
        Failure::new(ExitStatus::Refused, text)
            .next("the number of its main process in its place: --take-from PID")
    };
    let mut command = Command::new("systemctl");
    command.args(own.then_some("--user"));
    command.args(["show", "-p", "MainPID", "-p", "LoadState", "-p", "ActiveState", "--", name]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => failed(format!("there is no systemctl here to ask about {name}")),
        _ => failed(format!("cannot run systemctl: {error}")),
    })?;
    // What it prints fits into a pipe, so that its end can be waited for first.
    let process = i32::try_from(child.id()).ok().and_then(|pid| PidFd::open(pid).ok());
    let ended = process.as_ref().is_some_and(|process| {
        let mut entry = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let ended = poll(&mut entry, PollTimeout::from(PATIENCE)) == Ok(1);
        if !ended {
            let _it_may_have_ended_now = process.send(Signal::KILL);
        }
        ended
    });
    let status = child.wait().map_err(|error| failed(format!("cannot wait for systemctl: {error}")))?;
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    match (ended, status.success()) {
        (false, _) => Err(failed(format!("systemctl did not answer within {} s", PATIENCE / 1000))),
        (true, true) => Ok(Shown::read(&stdout)),
        (true, false) => {
            let said = stderr.lines().next().unwrap_or("nothing").trim();
            Err(failed(format!("systemctl show {name} failed, and said: {said}")))
        }
    }
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    let _what_was_read_counts = pipe.map(|pipe| pipe.take(PRINTED_MAX).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Server, Shown};

    #[test]
    fn a_number_is_a_process_and_all_else_a_service() {
        let service = |name: &str| Ok(Server::Service(name.to_owned()));
        assert_eq!(Server::parse("4242"), Ok(Server::Process(4242)));
        assert_eq!(Server::parse("nginx"), service("nginx.service"));
        assert_eq!(Server::parse("nginx.service"), service("nginx.service"));
        assert_eq!(Server::parse("postgresql@15-main"), service("postgresql@15-main.service"));
        for bad in ["", "0", "99999999999", "-p", "nginx.socket", "a b", "a/b", "é", &"x".repeat(250)] {
            assert!(Server::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_systemctl_shows_is_a_number_or_a_reason() {
        let shown = Shown::read("ActiveState=active\nMainPID=812\nLoadState=loaded\n");
        assert_eq!(shown.pid(), Some(812));
        let none = |text: &str| {
            let shown = Shown::read(text);
            assert_eq!(shown.pid(), None);
            shown.why("web.service")
        };
        assert_eq!(
            none("MainPID=0\nLoadState=not-found\nActiveState=inactive"),
            "systemd knows no web.service"
        );
        assert!(none("MainPID=0\nLoadState=loaded\nActiveState=failed").ends_with("systemd says failed"));
        assert!(none("MainPID=0\nLoadState=loaded\nActiveState=active").contains("no main process"));
        assert!(none("MainPID=x").contains("does not say"));
    }
}
