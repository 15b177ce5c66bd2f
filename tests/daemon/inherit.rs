//! What a worker inherits through the real supd: nothing that supd itself inherited or set for
//! itself. supd is started by a program that sets everything as it should not be and then execs it
//! (apps/dirty.py); what /proc says of the worker (apps/inherited.sh) is compared with a golden file.
//!
//! Limits, niceness and the like are those that supd was given, unless the unit says otherwise: they
//! are compared with what apps/dirty.py saw of itself at the end.

use crate::harness::{Setup, Supd, folder, free_port};
use crate::servers::copy_apps;
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, test_with};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const NEEDS: &[Need] = &[Need::Root, Need::File("/usr/bin/python3", "apt-get install python3")];
const NO_SIGNAL: &str = "0000000000000000";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test_with("inherit::worker_of_root", NEEDS, || inherits("daemon-worker-of-root.txt", "")),
        test_with("inherit::worker_of_a_user", NEEDS, || {
            let service = "User = \"nobody\"\nUMask = \"0077\"\nLimitNOFILE = \"600:650\"\nNice = 5\n\
                           OOMScoreAdjust = 400\nNoNewPrivileges = true";
            inherits("daemon-worker-of-a-user.txt", service);
        }),
        test_with("inherit::commands", NEEDS, commands),
    ]
}

/// A supd with every bad habit of whoever started it, and where reports are written.
struct Dirty {
    supd: Supd,
    reports: TempDir,
}

impl Dirty {
    fn start() -> Self {
        let reports = folder();
        // A worker of another user writes there too.
        fs::set_permissions(reports.path(), fs::Permissions::from_mode(0o1777)).expect("its mode");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/apps/dirty.py");
        let words = ["/usr/bin/python3".into(), script, reports.path().to_owned()];
        let wrapper = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let supd = Supd::start_with(&Setup { wrapper, ..Setup::default() });
        copy_apps(&supd.app());
        let dirty = Self { supd, reports };
        // A golden file proves nothing if supd was clean.
        for key in ["SigBlk", "SigIgn", "CapAmb"] {
            assert_ne!(dirty.report("dirty").field(key), NO_SIGNAL, "supd was to be dirty: {key}");
        }
        dirty
    }

    fn report(&self, name: &str) -> Report {
        let report = Report(self.reports.path().join(name));
        wait_until(&format!("the report of {name}"), SOON, || report.0.is_dir());
        report
    }

    /// The words of a command that writes the report of this name.
    fn command(&self, name: &str) -> String {
        let (program, folder) = (self.supd.app().join("inherited.sh"), self.reports.path());
        format!("[\"/bin/sh\", {program:?}, {folder:?}, {name:?}]")
    }
}

fn inherits(golden: &str, service: &str) {
    let dirty = Dirty::start();
    let port = free_port();
    let worker = dirty.command("worker");
    dirty.supd.launch(
        "web",
        &format!(
            "[[Socket]]\nName = \"http\"\nListenStream = \"127.0.0.1:{port}\"\n\n\
             [[Socket]]\nName = \"dns\"\nListenDatagram = \"127.0.0.1:{port}\"\n\n[Service]\n\
             ExecStart = {worker}\nReady = \"started\"\nReadySettleSec = 0\nWatchdogSec = \"10min\"\n\
             Environment = {{ MODE = \"production\" }}\nPassEnvironment = [\"PASSED\"]\n{service}\n\n\
             [Swap]\nProbationSec = 0\n"
        ),
    );
    let report = dirty.report("worker");
    let text = report.tell(&dirty, port);
    compare(golden, &text);
}

/// ExecStartPre, ExecStartPost and ExecStopPost get the same, less the listeners; and MAINPID while
/// there is a worker.
fn commands() {
    let dirty = Dirty::start();
    let supd = &dirty.supd;
    let (port, worker) = (free_port(), dirty.command("worker"));
    let hooks: String = ["ExecStartPre", "ExecStartPost", "ExecStopPost"]
        .map(|key| format!("{key} = [{}]\n", dirty.command(key)))
        .concat();
    supd.launch(
        "web",
        &format!(
            "[[Socket]]\nName = \"http\"\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\n\
             ExecStart = {worker}\nReady = \"started\"\nReadySettleSec = 0\n{hooks}\n[Swap]\nProbationSec = 0\n"
        ),
    );
    let pid = supd.status("web").pids()[0];
    supd.ctl(&["stop", "web"]).expect(0);
    for (name, main) in [("ExecStartPre", None), ("ExecStartPost", Some(pid)), ("ExecStopPost", None)] {
        let report = dirty.report(name);
        let environment = report.environment();
        let get = |wanted: &str| {
            let mut found = environment.iter().filter_map(|line| line.split_once('='));
            found.find(|(name, _)| *name == wanted).map(|(_, value)| value)
        };
        assert_eq!(get("MAINPID"), main.map(|pid| pid.to_string()).as_deref(), "{name}");
        for unwanted in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "SECRET", "PASSED"] {
            assert_eq!(get(unwanted), None, "{name}: {unwanted}");
        }
        assert_eq!((get("SUPD_UNIT"), get("SUPD_GENERATION")), (Some("web"), Some("1")), "{name}");
        assert_eq!([report.field("SigBlk"), report.field("SigIgn")], [NO_SIGNAL, NO_SIGNAL], "{name}");
        let numbers: Vec<String> = report.descriptors().into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, ["0", "1", "2"], "{name}: {:?}", report.descriptors());
    }
}

/// The folder that apps/inherited.sh or apps/dirty.py wrote.
struct Report(PathBuf);

impl Report {
    fn text(&self, file: &str) -> String {
        let path = self.0.join(file);
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        String::from_utf8(bytes).expect("text")
    }

    /// A line of /proc/self/status.
    fn field(&self, key: &str) -> String {
        let text = self.text("status");
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key}")).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// A field of /proc/self/stat by its number in proc_pid_stat(5), from 3 on.
    fn stat(&self, number: usize) -> String {
        let text = self.text("stat");
        let after = text.rsplit_once(')').expect("a name in brackets").1;
        after.split_whitespace().nth(number - 3).expect("a field").to_owned()
    }

    fn environment(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.text("environ").split_terminator('\0').map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Number and what is behind it; without the script, which the shell holds open for itself.
    fn descriptors(&self) -> Vec<(String, String)> {
        let text = self.text("fd");
        let entries = text.lines().filter_map(|line| {
            let (left, to) = line.split_once(" -> ")?;
            Some((left.to_owned(), to.to_owned()))
        });
        let mut entries: Vec<_> = entries.filter(|(_, to)| !to.ends_with("/inherited.sh")).collect();
        entries.sort_by_key(|(number, _)| number.parse::<u32>().expect("a number"));
        entries
    }

    fn limits(&self) -> Vec<(String, [String; 2])> {
        let limit = |line: &str| {
            let (name, values) = line.split_at(26);
            let mut values = values.split_whitespace().map(str::to_owned);
            let mut next = || values.next().expect("a value");
            (name.trim().to_owned(), [next(), next()])
        };
        self.text("limits").lines().skip(1).map(limit).collect()
    }

    /// All of it, with what differs from run to run replaced by what it must be.
    fn tell(&self, dirty: &Dirty, port: u16) -> String {
        let given = dirty.report("dirty");
        let mut text = String::from("== /proc/self/status\n");
        for key in ["Umask", "Uid", "Gid", "Groups", "SigPnd", "ShdPnd", "SigBlk", "SigIgn"] {
            writeln!(text, "{key}: {}", self.field(key)).expect("a string");
        }
        let everything = given.field("CapBnd");
        for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
            let found = self.field(key);
            let told = match key {
                "CapBnd" | "Seccomp" if found == given.field(key) => "as supd's",
                "CapPrm" | "CapEff" if found == everything => "all that supd may have",
                _ => &found,
            };
            writeln!(text, "{key}: {told}").expect("a string");
        }
        text.push_str("== /proc/self/limits\n");
        for ((name, found), (_, was)) in self.limits().into_iter().zip(given.limits()) {
            let told = if found == was { "as supd was given".to_owned() } else { found.join(" ") };
            writeln!(text, "{name}: {told}").expect("a string");
        }
        text.push_str("== /proc/self/environ\n");
        for line in self.environment() {
            writeln!(text, "{}", self.tell_variable(&line, dirty, port)).expect("a string");
        }
        text.push_str("== /proc/self/fd\n");
        let folder = dirty.supd.path().to_string_lossy().into_owned();
        for (number, to) in self.descriptors() {
            let to = to.split_once(":[").map_or(&*to, |(kind, _)| kind);
            writeln!(text, "{number} {}", to.replace(&folder, "/FOLDER")).expect("a string");
        }
        let (pid, nice) = (self.pid(), self.stat(19));
        let nice = if nice == given.stat(19) { "as supd was given" } else { &nice };
        let own = |number| self.stat(number) == pid;
        let child = self.stat(4) == dirty.supd.pid().to_string();
        let terminal = self.stat(7);
        writeln!(
            text,
            "== /proc/self/stat\nparent is supd: {child}, group is its own: {}, session is its own: {}, terminal: \
             {terminal}, nice: {nice}",
            own(5),
            own(6),
        )
        .expect("a string");
        for file in ["oom_score_adj", "timerslack_ns", "coredump_filter"] {
            let (found, was) = (self.text(file), given.text(file));
            let told = if found == was { "as supd was given" } else { found.trim() };
            writeln!(text, "== /proc/self/{file}\n{told}").expect("a string");
        }
        text
    }

    fn pid(&self) -> String {
        self.field("Pid")
    }

    fn tell_variable(&self, line: &str, dirty: &Dirty, port: u16) -> String {
        let (name, value) = line.split_once('=').expect("a variable");
        let told = match name {
            "LISTEN_PID" | "WATCHDOG_PID" if value == self.pid() => "its own",
            // The kernel has pidfs where the golden file was made; supd takes it from there.
            "LISTEN_PIDFDID" if Some(value) == self.inode().as_deref() => "its own",
            "INVOCATION_ID" if is_id(value) => "32 hexadecimal digits",
            _ => {
                let folder = dirty.supd.path().to_string_lossy().into_owned();
                return line.replace(&folder, "/FOLDER").replace(&port.to_string(), "PORT");
            }
        };
        format!("{name}={told}")
    }

    /// The inode of the worker's pidfd: it lives.
    fn inode(&self) -> Option<String> {
        let process = supd::os::pidfd::PidFd::open(self.pid().parse().ok()?).ok()?;
        process.inode().map(|inode| inode.to_string())
    }
}

/// A new one: 128 bits, and not the one that supd itself was given.
fn is_id(value: &str) -> bool {
    value.len() == 32
        && value.bytes().all(|byte| byte.is_ascii_hexdigit())
        && value.contains(|digit| digit != '0')
}

/// Compares with tests/golden/NAME; `SUPD_BLESS=1` writes it instead.
fn compare(name: &str, text: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("SUPD_BLESS").is_some() {
        fs::write(&path, text).expect("writing a golden file");
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{name} differs; see it, then SUPD_BLESS=1:\n{text}\n-- golden:\n{wanted}");
}
