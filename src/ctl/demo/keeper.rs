//! The keeper: a process of its own that owns everything the demo must not leave behind.
//!
//! It makes the folder, starts supd in it, and takes both away again once the demo closes its end of
//! a pipe. The kernel closes that end however the demo ends, by its own will, a signal, a panic or
//! SIGKILL, so there is one way to clean up and no way around it. Processes that lost their parent
//! become the keeper's children (PR_SET_CHILD_SUBREAPER), so it can tell when the last one is gone.

use crate::ctl::failure::Failure;
use crate::ctl::signals::Signals;
use crate::model::{ExitStatus, Signal};
use crate::os::pidfd::PidFd;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::mkdtemp;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus as ProcessStatus, Stdio};
use std::time::{Duration, Instant};

/// How long supd may take to end what it started; its workers need a second or so.
const SUPD_ENDS: Duration = Duration::from_secs(20);

/// How long what outlived supd may take to notice that the folder is gone.
const ORPHANS_END: Duration = Duration::from_secs(3);

/// A look at what still lives: that often.
const LOOK: Duration = Duration::from_millis(20);

/// What supd writes, in the demo's folder; and how much of it is told where something went wrong.
const LOG: &str = "supd.log";
const LAST_WORDS: usize = 20;

/// Variables that would tie the demo's supd to whatever runs the demo.
const NOT_FOR_SUPD: [&str; 9] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "SUPD_UNITS",
    "SUPD_RUNTIME",
    "SUPD_STATE",
];

/// The demo's end of its keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    process: Child,
    orders: ChildStdin,
    says: BufReader<ChildStdout>,
    home: PathBuf,
}

impl Keeper {
    /// Starts the keeper, which makes the folder.
    pub(super) fn start() -> Result<Self, Failure> {
        let failed = |error: io::Error| trouble(format!("cannot start the demo's keeper: {error}"));
        let mut process = Command::new("/proc/self/exe")
            .args(["demo", "keeper"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Out of reach of the terminal's signals: a Ctrl-C is for the demo alone.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let no_pipe = || failed(ErrorKind::BrokenPipe.into());
        let orders = process.stdin.take().ok_or_else(no_pipe)?;
        let mut says = BufReader::new(process.stdout.take().ok_or_else(no_pipe)?);
        let mut line = String::new();
        says.read_line(&mut line).map_err(failed)?;
        // An end without a line: the keeper has said why on standard error.
        let home = line.strip_suffix('\n').map(PathBuf::from).ok_or_else(no_pipe)?;
        Ok(Self { process, orders, says, home })
    }

    /// The folder that goes away with the demo.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Lets supd begin.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        let failed = |error| trouble(format!("the demo's keeper is gone: {error}"));
        self.orders.write_all(b"\n").map_err(failed)
    }

    /// Why there is no supd any more, once that is so.
    pub(super) fn failure(&mut self) -> Option<Failure> {
        let status = self.process.try_wait().ok()??;
        Some(failed_with(&last_words(&mut self.says), status))
    }

    /// Has everything taken away, and waits for that.
    pub(super) fn end(self) -> Result<(), Failure> {
        let Self { mut process, orders, mut says, home } = self;
        drop(orders);
        // It ends after its last words, which must not fill the pipe meanwhile.
        let words = last_words(&mut says);
        let status = process.wait();
        if home.exists() {
            return Err(trouble(format!("{} could not be removed; remove it by hand", home.display())));
        }
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed_with(&words, status)),
            Err(error) => Err(trouble(format!("cannot wait for the demo's keeper: {error}"))),
        }
    }
}

fn trouble(text: String) -> Failure {
    Failure::new(ExitStatus::Failed, text)
}

/// What the keeper says at its end, if all was not well.
fn last_words(says: &mut BufReader<ChildStdout>) -> String {
    let mut words = String::new();
    let _what_there_is = says.read_to_string(&mut words);
    words
}

fn failed_with(words: &str, status: ProcessStatus) -> Failure {
    let mut lines = words.lines().map(ToOwned::to_owned);
    let text = lines.next().unwrap_or_else(|| format!("the demo's keeper is gone ({status})"));
    Failure { details: lines.collect(), ..trouble(text) }
}

/// What the keeper's process does.
pub(super) fn keep() -> Result<ExitStatus, Failure> {
    let failed = |doing: &str, error: &dyn std::fmt::Display| trouble(format!("cannot {doing}: {error}"));
    let signals = Signals::take().map_err(|error| failed("take signals", &error))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(|errno| failed("adopt orphans", &errno.desc()))?;
    let template = std::env::temp_dir().join("supd-demo-XXXXXX");
    let home = mkdtemp(&template).map_err(|errno| {
        failed(&format!("make a folder in {}", std::env::temp_dir().display()), &errno.desc())
            .next("TMPDIR=DIR supctl demo")
    })?;
    let kept = watch(&home, &signals);
    let cleaned = clean(&home);
    match kept.and_then(|words| cleaned.map(|()| words)) {
        Ok(None) => Ok(ExitStatus::Done),
        Ok(Some(words)) => {
            let _nobody_reads_it = io::stdout().write_all(words.as_bytes());
            Ok(ExitStatus::Failed)
        }
        Err(error) => Err(trouble(format!("the demo's keeper: {error}"))),
    }
}

/// Runs supd until the demo or supd ends; what supd wrote last if that was by its own will.
fn watch(home: &Path, signals: &Signals) -> io::Result<Option<String>> {
    let mut stdin = io::stdin().lock();
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", home.display())?;
    stdout.flush()?;
    if stdin.read(&mut [0])? == 0 {
        return Ok(None);
    }
    let output = File::create(home.join(LOG))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("supd").stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    for (flag, folder) in [("--units", "units"), ("--runtime", "run"), ("--state", "state")] {
        command.arg(flag).arg(home.join(folder));
    }
    for variable in NOT_FOR_SUPD {
        command.env_remove(variable);
    }
    let mut supd = command.spawn()?;
    let pid = i32::try_from(supd.id()).map_err(io::Error::other)?;
    let process = PidFd::open(pid).map_err(io::Error::other)?;
    let demo_ended = loop {
        let watched = [stdin.as_fd(), signals.as_fd(), process.as_fd()];
        let mut watched = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) => break watched[..2].iter().any(|fd| fd.any().unwrap_or(true)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    if demo_ended {
        // It may end at this very moment: that is what is wanted.
        let _gone = process.send(Signal(15));
        let until = Instant::now() + SUPD_ENDS;
        while supd.try_wait()?.is_none() && Instant::now() < until {
            pause(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)]);
        }
    }
    let _gone_or_stuck = supd.kill();
    let status = supd.wait()?;
    // Ended before it could take signals, it had begun nothing that it could have ended in order.
    let unbegun = status.signal() == Some(15);
    if demo_ended && (status.success() || unbegun) {
        return Ok(None);
    }
    let last = log(home).join("\n");
    let how = if demo_ended { "did not end well" } else { "has ended by itself" };
    Ok(Some(format!("the demo's supd {how} ({status}); it wrote last:\n{last}\n")))
}

/// The last lines that supd wrote.
pub(super) fn log(home: &Path) -> Vec<String> {
    let words = fs::read(home.join(LOG)).unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    let lines: Vec<&str> = words.lines().collect();
    lines[lines.len().saturating_sub(LAST_WORDS)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Takes the folder away and waits until everything that lived in it has noticed.
fn clean(home: &Path) -> io::Result<()> {
    // Somebody may still write there: the second one counts.
    let _busy = remove(home);
    let begun = Instant::now();
    while reap()? {
        if begun.elapsed() >= 2 * ORPHANS_END {
            return Err(io::Error::other("some of its processes cannot be ended"));
        }
        if begun.elapsed() >= ORPHANS_END {
            for orphan in orphans()? {
                // Still ours to signal: only this process could reap it, and did not.
                let _gone = PidFd::open(orphan).and_then(|process| process.send(Signal(9)));
            }
        }
        pause(&mut []);
    }
    remove(home)
}

fn remove(home: &Path) -> io::Result<()> {
    match fs::remove_dir_all(home) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Reaps what has ended; whether any child is left.
fn reap() -> io::Result<bool> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return Ok(true),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The numbers of this process's children (proc(5)); it has one thread.
fn orphans() -> io::Result<Vec<i32>> {
    let pid = std::process::id();
    let children = fs::read_to_string(format!("/proc/self/task/{pid}/children"))?;
    Ok(children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// Waits for a look's time, or until one of these can be read.
fn pause(watched: &mut [PollFd<'_>]) {
    let millis = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
    let _interrupted = poll(watched, millis);
}
