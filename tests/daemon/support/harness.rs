//! A private supd in a temporary folder: started, asked, watched, and ended without a trace.

use crate::support::cgroup;
use crate::support::files::{files_below, tail};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{fixture, proc};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No supctl of the tests may take longer, whatever it waits for.
pub(crate) const SUPCTL_BOUND: Duration = Duration::from_secs(90);
/// An orderly end of supd, with every worker of the tests.
const SHUTDOWN_BOUND: Duration = Duration::from_secs(40);

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// What was run, for messages.
    pub(crate) command: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Output {
    /// The exit status; -1 for a signal.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// # Panics
    /// Unless it ended with `code`, showing what it printed.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{} ended otherwise:\n{self}", self.command);
        self
    }

    /// Both streams, for a search.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "$ {}\n{}{}-> {} after {:.3?}",
            self.command, self.stdout, self.stderr, self.status, self.took
        )
    }
}

/// A program under way in the background.
pub(crate) struct Running {
    command: String,
    pid: u32,
    began: Instant,
    output: mpsc::Receiver<std::io::Result<std::process::Output>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let line = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let (sender, output) = mpsc::channel();
        let pid = child.id();
        std::thread::spawn(move || sender.send(child.wait_with_output()));
        Self { command: line, pid, began: Instant::now(), output }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When that takes longer than `bound`; it is killed then.
    pub(crate) fn finish(self, bound: Duration) -> Output {
        let Ok(output) = self.output.recv_timeout(bound) else {
            proc::signal(self.pid, Signal::SIGKILL);
            let printed = self.output.recv().expect("the waiting thread").expect("a killed child ends");
            panic!(
                "{} did not end within {bound:?}; it had printed:\n{}{}",
                self.command,
                String::from_utf8_lossy(&printed.stdout),
                String::from_utf8_lossy(&printed.stderr)
            );
        };
        let output = output.expect("waiting for a child");
        Output {
            command: self.command,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: self.began.elapsed(),
        }
    }
}

/// How to start supd, where a test wants it otherwise.
#[derive(Debug, Default, Clone)]
pub(crate) struct Setup {
    /// In front of supd, as `prlimit --nofile=64`: a program that ends in execve, so that the pid
    /// is supd's.
    pub(crate) wrapper: Vec<String>,
    /// A small disk of its own under this folder ("state" or "run"), of so many MiB, seen by supd
    /// and its workers alone: a mount namespace, gone with them. Needs root.
    pub(crate) disk: Option<(&'static str, u32)>,
    /// The cgroup that supd starts in, right below the root of version 2 (which is mounted for it alone) and
    /// given to its user. Needs root.
    pub(crate) cgroup: Option<String>,
    /// The user that supd runs as. Needs root.
    pub(crate) user: Option<u32>,
    /// supd is a copy of the program, which a test may replace.
    pub(crate) copied: bool,
}

/// One supd of a test's own.
pub(crate) struct Supd {
    folder: TempDir,
    pub(crate) setup: Setup,
    child: Mutex<Child>,
    pid: u32,
}

impl Supd {
    /// A supd without units, whose control socket answers.
    pub(crate) fn start() -> Self {
        Self::start_with(&Setup::default())
    }

    pub(crate) fn start_with(setup: &Setup) -> Self {
        let folder = folder();
        for name in ["units", "run", "state", "app", "cgroup"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).expect("a folder in a new folder");
            if let Some(user) = setup.user {
                std::os::unix::fs::chown(&path, Some(user), Some(user)).expect("chown as root");
            }
        }
        // Another user may not be let through to where cargo builds.
        for program in [env!("CARGO_BIN_EXE_supd"), env!("CARGO_BIN_EXE_supctl")] {
            let name = Path::new(program).file_name().expect("a program has a name");
            if setup.user.is_some() || setup.copied {
                fs::copy(program, folder.path().join("app").join(name)).expect("copying a program");
            }
        }
        Self::start_in(folder, setup)
    }

    /// One that may load no eBPF program, as an ordinary user's.
    #[allow(dead_code, reason = "the benchmarks do not ask")]
    pub(crate) fn without_ebpf() -> Self {
        let words = ["setpriv", "--bounding-set=-bpf,-sys_admin"];
        let root = nix::unistd::geteuid().is_root();
        let wrapper = words.into_iter().filter(|_| root).map(str::to_owned).collect();
        Self::start_with(&Setup { wrapper, ..Setup::default() })
    }

    fn start_in(folder: TempDir, setup: &Setup) -> Self {
        let child = Self::command(folder.path(), setup)
            .stdout(log(folder.path()))
            .stderr(log(folder.path()))
            .spawn()
            .expect("starting supd");
        let pid = child.id();
        let supd = Self { folder, setup: setup.clone(), child: Mutex::new(child), pid };
        wait_until("supd's control socket to answer", SOON, || {
            assert!(supd.is_alive(), "supd ended at once");
            supd.ctl(&["status"]).code() == 0
        });
        supd
    }

    fn command(folder: &Path, setup: &Setup) -> Command {
        let mut words: Vec<std::ffi::OsString> = Vec::new();
        if let Some((name, size)) = setup.disk {
            let mount = format!("mount -t tmpfs -o mode=755,size={size}m supd-test \"$0\" && exec \"$@\"");
            words.extend(["unshare", "--mount", "sh", "-c", &mount].map(Into::into));
            words.push(folder.join(name).into());
        }
        if let Some(name) = &setup.cgroup {
            words.extend(cgroup::enter(folder, name, setup.user.unwrap_or(0)));
        }
        if let Some(user) = setup.user {
            words.extend([
                "setpriv".into(),
                format!("--reuid={user}").into(),
                format!("--regid={user}").into(),
            ]);
            words.push("--clear-groups".into());
        }
        words.extend(setup.wrapper.iter().map(Into::into));
        words.push(match setup.user.is_some() || setup.copied {
            true => folder.join("app/supd").into(),
            false => env!("CARGO_BIN_EXE_supd").into(),
        });
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        for (flag, name) in [("--units", "units"), ("--runtime", "run"), ("--state", "state")] {
            command.arg(flag).arg(folder.join(name));
        }
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "DAEMON_TEST_ROLE"] {
            command.env_remove(name);
        }
        command.env("SUPD_TEST_DEATH", "1").stdin(Stdio::null());
        command
    }

    /// A folder of supd's as this process sees it: through supd, if it has a disk of its own there.
    fn seen(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        match self.setup.disk {
            Some((disk, _)) if disk == name => {
                let inside = path.strip_prefix("/").expect("an absolute path");
                Path::new(&format!("/proc/{}/root", self.pid)).join(inside)
            }
            _ => path,
        }
    }

    /// A second supd over the same folders, which must not come up: how it ended.
    pub(crate) fn start_a_second(&self) -> Output {
        Running::start(&mut Self::command(self.path(), &Setup::default())).finish(SOON)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn state_folder(&self) -> PathBuf {
        self.seen("state")
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.seen("run")
    }

    /// Where programs and their files of a test live.
    pub(crate) fn app(&self) -> PathBuf {
        self.path().join("app")
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.runtime().join("control")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The child that writes to the disk for it, if there is one by now.
    pub(crate) fn writer(&self) -> Option<u32> {
        proc::child(self.pid, "supd-flusher")
    }

    /// The process that forks workers for it, while there is one.
    pub(crate) fn launcher(&self) -> Option<u32> {
        proc::child(self.pid, "supd-launcher")
    }

    /// The cgroup that it was started in, if that is one of its own.
    #[allow(dead_code, reason = "the benchmarks do not ask")]
    pub(crate) fn cgroup(&self) -> Option<PathBuf> {
        Some(cgroup::seen(self.pid, self.path(), self.setup.cgroup.as_ref()?))
    }

    /// The user that it runs as, if that is another than the test's.
    pub(crate) fn user(&self) -> Option<u32> {
        self.setup.user
    }

    pub(crate) fn is_alive(&self) -> bool {
        proc::alive(self.pid)
    }

    /// Puts a worker of this version on disk, where the units of [`Supd::worker`] look.
    pub(crate) fn install_worker(&self, version: &str) {
        fixture::mark(&self.app().join("worker"), version);
    }

    /// A unit file of the fixture worker on `port`, with quick times; `service` and `swap` are
    /// further lines of these tables and may not repeat a key.
    pub(crate) fn worker(&self, port: u16, arguments: &[&str], service: &str, swap: &str) -> String {
        let mut text = format!(
            "[[Socket]]\nName = \"http\"\nListenStream = \"127.0.0.1:{port}\"\nBacklog = 4096\n\n[Service]\n\
             ExecStart = [{:?}",
            self.app().join("worker")
        );
        for argument in arguments {
            // JSON's escapes are TOML's; Rust's are not.
            let quoted = serde_json::to_string(argument).expect("a string");
            write!(text, ", {quoted}").expect("writing to a string");
        }
        text.push_str("]\nReleases = false\nEnvironment = { DAEMON_TEST_ROLE = \"worker\" }\n");
        for (table, lines, defaults) in [
            (
                "",
                service,
                &[
                    ("ReadySettleSec", "100ms"),
                    ("TimeoutStartSec", "10s"),
                    ("TimeoutStopSec", "10s"),
                    ("RestartSec", "100ms"),
                ][..],
            ),
            ("\n[Swap]\n", swap, &[("ProbationSec", "300ms"), ("DrainSec", "500ms"), ("SettleSec", "200ms")]),
        ] {
            text.push_str(table);
            for (key, value) in defaults.iter().filter(|(key, _)| !lines.contains(key)) {
                writeln!(text, "{key} = \"{value}\"").expect("writing to a string");
            }
            text.push_str(lines);
            text.push('\n');
        }
        text
    }

    /// Writes a unit's file. It counts from `daemon-reload` or the next swap on.
    pub(crate) fn write_unit(&self, name: &str, text: &str) {
        fs::write(self.path().join(format!("units/{name}.unit")), text).expect("writing a unit");
    }

    /// Writes a unit's file, and starts it.
    pub(crate) fn launch(&self, name: &str, text: &str) {
        self.write_unit(name, text);
        self.ctl(&["daemon-reload"]).expect(0);
        self.ctl(&["start", name]).expect(0);
    }

    /// Runs supctl to its end.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        self.ctl_start(arguments).finish(SUPCTL_BOUND)
    }

    /// Runs supctl in the background.
    pub(crate) fn ctl_start(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.ctl_command(arguments))
    }

    pub(crate) fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_supctl"));
        command.arg("--runtime").arg(self.runtime()).args(arguments);
        command
    }

    /// `supctl --json status UNIT`
    pub(crate) fn status(&self, unit: &str) -> Status {
        let output = self.ctl(&["--json", "status", unit]).expect(0);
        let mut value: Value = serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("the status is no JSON ({error}):\n{output}"));
        // The reply as it came: a row of units, of which this is the only one.
        let unit = value.pointer_mut("/units/0").map(Value::take);
        Status(unit.unwrap_or(value))
    }

    /// Waits until the unit is in `state`.
    pub(crate) fn wait_for_state(&self, unit: &str, state: &str) -> Status {
        wait_for(&format!("{unit} to be {state}"), SOON, || {
            Some(self.status(unit)).filter(|status| status.state() == state)
        })
    }

    /// Everything that supd and the workers printed, as far as a person would read it.
    pub(crate) fn logs(&self) -> String {
        let mut text = format!("--- supd's log ---\n{}", tail(&self.path().join("supd.log"), 150));
        for folder in [self.state_folder().join("logs"), PathBuf::from("/var/log/supd")] {
            for file in files_below(&folder) {
                let begun = fs::metadata(self.path()).and_then(|meta| meta.created()).ok();
                let written = fs::metadata(&file).and_then(|meta| meta.modified()).ok();
                if written >= begun {
                    write!(text, "--- {} ---\n{}", file.display(), tail(&file, 30)).expect("a string");
                }
            }
        }
        text
    }

    /// supd's own log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path().join("supd.log")).unwrap_or_default()
    }

    /// Ends supd and its keeper by SIGKILL, and starts another over the same folders: it has nobody to get a
    /// listener from.
    pub(crate) fn crash_and_restart(self) -> Self {
        self.crash_and_restart_after(|_| ())
    }

    /// The same; between the two, something happens to the state folder.
    pub(crate) fn crash_and_restart_after(self, between: impl FnOnce(&Path)) -> Self {
        let keeper = self.keeper();
        self.crash_and_go_on_after(|supd| {
            if let Some(keeper) = keeper {
                proc::signal(keeper, Signal::SIGKILL);
                wait_until("the killed keeper to end", SOON, || !proc::alive(keeper));
            }
            between(&supd.path().join("state"));
        })
    }

    /// Ends supd by SIGKILL, as a crash would, and starts another, which goes on with what is there.
    pub(crate) fn crash_and_go_on(self) -> Self {
        self.crash_and_go_on_after(|_| ())
    }

    /// The same; something happens while there is no supd.
    pub(crate) fn crash_and_go_on_after(mut self, between: impl FnOnce(&Self)) -> Self {
        proc::signal(self.pid, Signal::SIGKILL);
        wait_until("a killed supd to end", SOON, || self.has_ended());
        between(&self);
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        let setup = self.setup.clone();
        Self::start_in(folder, &setup)
    }

    /// Ends supd by SIGTERM, as `systemctl restart` does, and starts another.
    pub(crate) fn restart(self) -> Self {
        proc::signal(self.pid, Signal::SIGTERM);
        self.restart_ended()
    }

    /// Starts another in the place of one that goes, or has gone.
    pub(crate) fn restart_ended(mut self) -> Self {
        wait_until("supd to go", SOON, || self.has_ended());
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        let setup = self.setup.clone();
        Self::start_in(folder, &setup)
    }

    /// The process that holds descriptors for the next supd.
    pub(crate) fn keeper(&self) -> Option<u32> {
        let text = fs::read_to_string(self.runtime().join("keeper/process")).ok()?;
        let pid = text.split(' ').next()?.parse().ok()?;
        let is_one =
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "supd-keeper\n");
        is_one.then_some(pid)
    }

    /// Waits for its end. Gives its exit status; `None`: a signal killed it.
    pub(crate) fn wait_for_end(&self) -> Option<i32> {
        wait_until("supd to end", SOON, || self.has_ended());
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        child.try_wait().expect("waiting for supd").expect("it has ended").code()
    }

    pub(crate) fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        child.try_wait().expect("waiting for supd").is_some()
    }

    /// Asks supd to end, then makes sure that it did and that nothing is left. What went wrong.
    fn end(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.has_ended() {
            let asked = Running::start(&mut self.ctl_command(&["shutdown"]));
            if !self.ends_within(SHUTDOWN_BOUND) {
                faults.push("supd did not end when asked".to_owned());
                proc::signal(self.pid, Signal::SIGTERM);
                if !self.ends_within(SHUTDOWN_BOUND) {
                    faults.push("nor on SIGTERM".to_owned());
                    proc::signal(self.pid, Signal::SIGKILL);
                    self.ends_within(SHUTDOWN_BOUND);
                }
            }
            proc::signal(asked.pid(), Signal::SIGKILL);
            drop(asked.output.recv());
        }
        let needle = self.path().to_string_lossy().into_owned();
        let left = || proc::with_environment(&needle, &[std::process::id()]);
        let began = Instant::now();
        while !left().is_empty() && began.elapsed() < Duration::from_secs(3) {
            crate::wait::pause(Duration::from_millis(20));
        }
        for pid in left() {
            faults.push(format!("process {pid} was left: {}", proc::command_line(pid)));
            proc::signal(pid, Signal::SIGKILL);
        }
        faults
    }

    fn ends_within(&self, bound: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < bound {
            if self.has_ended() {
                return true;
            }
            crate::wait::pause(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Supd {
    fn drop(&mut self) {
        let faults = self.end();
        if let Some(name) = &self.setup.cgroup {
            cgroup::leave(self.path(), name);
        }
        if std::thread::panicking() || !faults.is_empty() {
            eprintln!("{}{}", self.logs(), faults.join("\n"));
        }
        assert!(std::thread::panicking() || faults.is_empty(), "{}", faults.join("; "));
    }
}

/// The JSON of a unit, by the names of the design.
#[derive(Debug, Clone)]
pub(crate) struct Status(pub(crate) Value);

impl Status {
    pub(crate) fn state(&self) -> &str {
        self.0["state"].as_str().unwrap_or_else(|| panic!("no state in {}", self.0))
    }

    pub(crate) fn active(&self) -> Option<u64> {
        self.0["active"].as_u64()
    }

    pub(crate) fn retained(&self) -> Option<u64> {
        self.0["retained"].as_u64()
    }

    /// Every pid of every generation.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.generations().iter().flat_map(Self::pids_of).collect()
    }

    /// The pids of one generation; none if it is not listed.
    pub(crate) fn pids_in(&self, generation: u64) -> Vec<u32> {
        let wanted = |listed: &&Value| listed["generation"].as_u64() == Some(generation);
        self.generations().iter().find(wanted).map_or_else(Vec::new, Self::pids_of)
    }

    /// The generation with the greatest number.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.generations().iter().filter_map(|listed| listed["generation"].as_u64()).max()
    }

    pub(crate) fn last_swap(&self) -> &Value {
        &self.0["last_swap"]
    }

    fn generations(&self) -> &[Value] {
        self.0["generations"].as_array().map_or(&[], Vec::as_slice)
    }

    fn pids_of(generation: &Value) -> Vec<u32> {
        let pids = generation["pids"].as_array().map_or(&[][..], Vec::as_slice);
        pids.iter().filter_map(Value::as_u64).filter_map(|pid| u32::try_from(pid).ok()).collect()
    }
}

/// A folder with a short name (a UNIX path has 107 bytes), open for other users' workers.
pub(crate) fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("supd-").tempdir_in("/tmp").expect("a folder in /tmp");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    folder
}

fn log(folder: &Path) -> File {
    let path = folder.join("supd.log");
    File::options().append(true).create(true).open(path).expect("supd's log")
}

/// A port of 127.0.0.1 that is free for TCP and UDP, below the range that clients' own ports come
/// from (net.ipv4.ip_local_port_range): a load could take one of those at any moment.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() % 20_000;
    for _ in 0..20_000 {
        let offset = (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = 10_000 + u16::try_from(offset).expect("below 20,000");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no free port between 10000 and 30000");
}

/// A test under full load has the machine for itself: two would measure each other.
pub(crate) fn whole_machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
