//! A systemd-journald of a test's own, in a mount namespace with supd: what workers write is in it, as whom, under
//! which name and how grave; and where it does not answer, nothing is lost or held up.

use crate::harness::{Setup, Supd};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, proc, test_with};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const JOURNAL: &[Need] = &[
    Need::Root,
    Need::Program("unshare", "util-linux"),
    Need::Program("nsenter", "util-linux"),
    Need::Program("journalctl", "systemd"),
    Need::File("/lib/systemd/systemd-journald", "systemd"),
    Need::File("/etc/machine-id", "systemd"),
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test_with("journal::keeps_what_workers_write", JOURNAL, keeps_what_workers_write),
        test_with("journal::is_where_supd_writes", JOURNAL, is_where_supd_writes),
        test_with("journal::is_not_there", JOURNAL, is_not_there),
        test_with("journal::stands_still", JOURNAL, stands_still),
        test_with("journal::comes_again", JOURNAL, comes_again),
    ]
}

/// Mounts what a journal has of its own, says so, and holds it until its standard input ends.
const HOLD: &str = "mount -t tmpfs none /run/systemd && mkdir -p /run/systemd/journald.conf.d /run/log && \
    mount -t tmpfs none /run/log && \
    printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nAudit=no\\nRateLimitIntervalSec=0\\n' \
        >/run/systemd/journald.conf.d/test.conf && echo held && exec cat";

/// Has its standard error be a stream of the journal's, as systemd starts a service.
const AS_SYSTEMD: &str = "import os,socket,sys
s=socket.socket(socket.AF_UNIX); s.connect('/run/systemd/journal/stdout')
s.send(b'supd\\n\\n30\\n1\\n0\\n0\\n0\\n'); os.dup2(s.fileno(),2)
st=os.fstat(2); os.environ['JOURNAL_STREAM']=f'{st.st_dev}:{st.st_ino}'
os.execvp(sys.argv[1],sys.argv[1:])";

/// A mount namespace in which there may be a journal.
struct Journal {
    holder: Child,
    daemon: Option<Child>,
}

impl Journal {
    fn start() -> Self {
        let mut journal = Self::without();
        journal.begin();
        journal
    }

    /// Nobody answers there.
    fn without() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", HOLD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut said = String::new();
        let out = holder.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut said).expect("what it says");
        assert_eq!(said, "held\n");
        Self { holder, daemon: None }
    }

    fn begin(&mut self) {
        let mut command = self.command("/lib/systemd/systemd-journald", &[]);
        command.env("SYSTEMD_LOG_TARGET", "null").stdin(Stdio::null()).stderr(Stdio::null());
        self.daemon = Some(command.spawn().expect("systemd-journald"));
        wait_until("the journal to answer", SOON, || {
            let mut cat = self.command("systemd-cat", &["true"]);
            cat.stderr(Stdio::null()).status().expect("systemd-cat").success()
        });
    }

    fn end(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            proc::signal(daemon.id(), Signal::SIGCONT);
            daemon.kill().expect("killing the journal");
            daemon.wait().expect("waiting for the journal");
        }
    }

    /// In its namespace.
    fn words(&self) -> Vec<String> {
        ["nsenter".to_owned(), format!("--mount=/proc/{}/ns/mnt", self.holder.id()), "--".to_owned()].to_vec()
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program).args(arguments);
        command
    }

    fn setup(&self) -> Setup {
        Setup { wrapper: self.words(), ..Setup::default() }
    }

    /// As a service of systemd's.
    fn service(&self) -> Setup {
        let wrapper = [self.words(), ["python3", "-c", AS_SYSTEMD].map(str::to_owned).to_vec()].concat();
        Setup { wrapper, ..Setup::default() }
    }

    /// What it has of this identifier, once this line is there.
    fn entries(&self, identifier: &str, until: &str) -> Vec<Value> {
        wait_for(&format!("{until:?} in the journal"), SOON, || {
            let mut command = self.command("journalctl", &["--quiet", "--output=json", "--identifier"]);
            let output = command.arg(identifier).output().expect("journalctl");
            let text = String::from_utf8(output.stdout).expect("JSON");
            let entries: Vec<Value> =
                text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            entries.iter().any(|entry| entry["MESSAGE"] == until).then_some(entries)
        })
    }

    fn has(&self, identifier: &str, line: &str) {
        self.entries(identifier, line);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.end();
        drop(self.holder.stdin.take());
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Says these words, and then whatever comes out of the pipe.
fn unit(supd: &Supd, says: &str, service: &str) -> String {
    let pipe = supd.app().join("pipe");
    if !pipe.exists() {
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o666)).expect("a FIFO");
        nix::unistd::chown(&pipe, Some(65_534.into()), None).expect("chown as root");
    }
    format!(
        "[Service]\nExecStart = [\"/bin/sh\", \"-c\", '{says}; exec cat 0<>{}']\nReady = \"started\"\n\
         Releases = false\nReadySettleSec = \"100ms\"\nRestartSec = \"100ms\"\n{service}\n\
         [Swap]\nDrainSec = \"500ms\"\nSettleSec = \"200ms\"\nProbationSec = \"300ms\"\n",
        pipe.display()
    )
}

fn writes(supd: &Supd, text: &str) {
    std::fs::write(supd.app().join("pipe"), text).expect("the FIFO");
}

fn has_log(supd: &Supd, generation: u64) -> bool {
    supd.state_folder().join(format!("logs/web/{generation}.log")).exists()
}

fn keeps_what_workers_write() {
    let journal = Journal::start();
    let supd = Supd::start_with(&journal.setup());
    let says = "echo to out; echo \"<3>to err\" >&2; echo stream $JOURNAL_STREAM; \
                stat -L -c \"is %d:%i\" /dev/stderr";
    let open = "StandardOutput = \"journal\"\nUser = \"nobody\"";
    std::fs::set_permissions(supd.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("chmod");
    supd.launch("web", &unit(&supd, says, open));
    writes(&supd, "the last\n");
    let entries = journal.entries("web", "the last");
    let all: Vec<(&str, &str)> = entries
        .iter()
        .map(|entry| (entry["MESSAGE"].as_str().expect("text"), entry["PRIORITY"].as_str().expect("text")))
        .collect();
    assert_eq!((all[0], all[1]), (("to out", "6"), ("to err", "3")));
    assert_eq!(all[2].0.strip_prefix("stream "), all[3].0.strip_prefix("is "), "JOURNAL_STREAM");
    for entry in &entries {
        assert_eq!((&entry["_UID"], &entry["_TRANSPORT"]), (&"65534".into(), &"stdout".into()), "{entry}");
    }
    let worker = supd.status("web").pids()[0].to_string();
    assert_eq!((&entries[0]["_PID"], &entries[4]["_PID"]), (&worker.as_str().into(), &worker.into()));
    assert!(!has_log(&supd, 1));
    // Another name, one stream alone, and no file is made for the other.
    let apart = "StandardOutput = \"null\"\nStandardError = \"journal\"\nSyslogIdentifier = \"shop\"";
    supd.write_unit("web", &unit(&supd, "echo unheard; echo heard >&2", apart));
    supd.ctl(&["swap", "web"]).expect(0);
    assert_eq!(journal.entries("shop", "heard").len(), 1);
    assert!(!has_log(&supd, 2));
}

/// What units do not say is as with supd's own messages, also after a reexec and for a supd that goes on.
fn is_where_supd_writes() {
    let journal = Journal::start();
    let supd = Supd::start_with(&journal.service());
    supd.launch("web", &unit(&supd, "echo first", ""));
    journal.has("web", "first");
    assert!(!has_log(&supd, 1));
    supd.ctl(&["reexec"]).expect(0);
    supd.write_unit("web", &unit(&supd, "echo second", ""));
    supd.ctl(&["swap", "web"]).expect(0);
    journal.has("web", "second");
    let supd = supd.crash_and_go_on();
    writes(&supd, "third\n");
    journal.has("web", "third");
    assert!(!has_log(&supd, 1) && !has_log(&supd, 2));
    // The variable alone is no journal: somebody has put another descriptor in its place.
    let wrapper = [journal.words(), ["env", "JOURNAL_STREAM=1:2"].map(str::to_owned).to_vec()].concat();
    let other = Supd::start_with(&Setup { wrapper, ..Setup::default() });
    other.launch("web", &unit(&other, "echo apart", ""));
    wait_until("the log", SOON, || other.ctl(&["logs", "web"]).stdout == "apart\n");
}

fn is_not_there() {
    let journal = Journal::without();
    let supd = Supd::start_with(&journal.setup());
    supd.launch("web", &unit(&supd, "echo kept", "StandardOutput = \"journal\""));
    wait_until("the log", SOON, || supd.ctl(&["logs", "web"]).stdout == "kept\n");
    let notes = supd.status("web").0["notes"].to_string();
    let said =
        "generation 1: the journal (/run/systemd/journal/stdout) does not answer: none is there; what it";
    assert!(notes.contains(said), "{notes}");
    assert_eq!(supd.log().matches("the journal (").count(), 1, "{}", supd.log());
}

/// journald is stopped, and its queue full: nobody waits for it.
fn stands_still() {
    const FILL: &str = "import socket,sys
while True:
    s=socket.socket(socket.AF_UNIX); s.setblocking(False)
    try: s.connect('/run/systemd/journal/stdout')
    except BlockingIOError: break
    s.close()
print('full')";
    let journal = Journal::start();
    let supd = Supd::start_with(&journal.setup());
    let daemon = journal.daemon.as_ref().expect("it runs").id();
    proc::signal(daemon, Signal::SIGSTOP);
    // What is closed again still waits to be taken.
    let filled = journal.command("python3", &["-c", FILL]).output().expect("python3");
    assert_eq!(filled.stdout, b"full\n");
    supd.launch("web", &unit(&supd, "echo kept", "StandardOutput = \"journal\""));
    wait_until("the log", SOON, || supd.ctl(&["logs", "web"]).stdout == "kept\n");
    let notes = supd.status("web").0["notes"].to_string();
    assert!(notes.contains("it takes no one any more for now"), "{notes}");
    proc::signal(daemon, Signal::SIGCONT);
    supd.write_unit("web", &unit(&supd, "echo again", "StandardOutput = \"journal\""));
    supd.ctl(&["swap", "web"]).expect(0);
    journal.has("web", "again");
    assert!(!has_log(&supd, 2));
}

/// A journal that is another after a while takes what is launched then.
fn comes_again() {
    let mut journal = Journal::start();
    let supd = Supd::start_with(&journal.setup());
    let service = "StandardOutput = \"journal\"\nRestart = \"always\"";
    supd.launch("web", &unit(&supd, "echo begins", service));
    journal.has("web", "begins");
    let first = supd.status("web").pids()[0];
    journal.end();
    journal.begin();
    // Nobody keeps its streams over this, as systemd does: whoever writes ends by SIGPIPE.
    writes(&supd, "into nowhere\n");
    wait_until("another worker", SOON, || supd.status("web").pids().iter().any(|pid| *pid != first));
    writes(&supd, "goes on\n");
    journal.has("web", "goes on");
}
