//! A systemd-journald of a test's own, in a mount namespace with supd: what workers write is in it, as whom, under
//! which name and how grave; and where it does not answer, nothing is lost or held up.

use crate::harness::{Output, Running, Setup, Supd, folder, free_port};
use crate::support::cgroup;
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, proc, test_with};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use supd::codec::journal::message_id;

const JOURNAL: &[Need] = &[
    Need::Root,
    Need::Program("unshare", "util-linux"),
    Need::Program("nsenter", "util-linux"),
    Need::Program("journalctl", "systemd"),
    Need::File("/lib/systemd/systemd-journald", "systemd"),
    Need::File("/etc/machine-id", "systemd"),
];

const CGROUPS: &[Need] = &[
    Need::Cgroups,
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
        test_with("journal::shown_as_a_file_is", JOURNAL, shown_as_a_file_is),
        test_with("journal::shown_by_cgroup", CGROUPS, shown_by_cgroup),
        test_with("journal::followed_over_a_swap", JOURNAL, followed_over_a_swap),
        test_with("journal::last_words_of_one_that_failed", JOURNAL, last_words_of_one_that_failed),
        test_with("journal::is_for_whom_it_lets", JOURNAL, is_for_whom_it_lets),
        test_with("journal::what_supd_says_of_itself", JOURNAL, what_supd_says_of_itself),
    ]
}

/// Mounts what a journal has of its own, says so, and holds it until its standard input ends.
const HOLD: &str = "mount -t tmpfs none /run/systemd && mkdir -p /run/systemd/journald.conf.d && \
    mkdir -p /run/log && mount -t tmpfs none /run/log && mkdir /run/log/journal && \
    chgrp systemd-journal /run/log/journal && chmod 2755 /run/log/journal && \
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

    /// supctl where it can read this journal.
    fn ctl_command(&self, supd: &Supd, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_supctl"), &["--runtime"]);
        command.arg(supd.runtime()).args(arguments);
        command
    }

    fn logs(&self, supd: &Supd, arguments: &[&str]) -> Output {
        let all = [&["logs", "web"], arguments].concat();
        Running::start(&mut self.ctl_command(supd, &all)).finish(SOON)
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
    std::fs::set_permissions(supd.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
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

/// Lines of a main process and of a child of it, of two generations.
fn two_generations(journal: &Journal, setup: &Setup) -> Supd {
    let supd = Supd::start_with(setup);
    let journaled = "StandardOutput = \"journal\"";
    supd.launch("web", &unit(&supd, "echo one; (echo child of one)", journaled));
    journal.has("web", "child of one");
    supd.write_unit("web", &unit(&supd, "echo two; (echo child of two)", journaled));
    supd.ctl(&["swap", "web"]).expect(0);
    journal.has("web", "child of two");
    for (arguments, shown) in [
        (&[][..], "two\nchild of two\n"),
        (&["-n", "1"], "child of two\n"),
        (&["-n", "0"], ""),
        (&["-n", "all"], "two\nchild of two\n"),
        (&["--generation", "1"], "one\nchild of one\n"),
        (&["--generation", "1", "-n", "1"], "child of one\n"),
        (&["--generation", "1", "-n", "all"], "one\nchild of one\n"),
    ] {
        let output = journal.logs(&supd, arguments).expect(0);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), (shown, ""), "{arguments:?}");
    }
    supd
}

fn shown_as_a_file_is() {
    let journal = Journal::start();
    let supd = two_generations(&journal, &journal.setup());
    let json = journal.logs(&supd, &["--json", "-n", "1"]).expect(0).stdout;
    assert_eq!(json, "{\"generation\":2,\"line\":\"child of two\"}\n");
    // As it was written; cut in pieces by the journal on its way.
    let long = format!("{}\u{1b}[31m\n", "x".repeat(200_000));
    wait_until("it to be alone", SOON, || supd.status("web").pids_in(1).is_empty());
    writes(&supd, &long);
    wait_until("the long line", SOON, || journal.logs(&supd, &["-n", "all"]).stdout.ends_with(&long));
    let refused = journal.logs(&supd, &["--generation", "99"]).expect(3);
    assert!(refused.stderr.contains("generation 99 has no log"), "{refused}");
    // Of a stopped unit, who served last.
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(journal.logs(&supd, &["-n", "all"]).expect(0).stdout.ends_with(&long));
}

/// The same, where the kernel tells; and what a stranger writes under that name is none of the generation's.
fn shown_by_cgroup() {
    let journal = Journal::start();
    let folder = folder();
    std::fs::create_dir(folder.path().join("cgroup")).expect("a folder in a new folder");
    let name = format!("supd-test-journal-{}", std::process::id());
    let enter = cgroup::enter(folder.path(), &name, 0);
    let enter = enter.into_iter().map(|word| word.into_string().expect("UTF-8"));
    let wrapper = journal.words().into_iter().chain(enter).collect();
    let supd = two_generations(&journal, &Setup { wrapper, ..Setup::default() });
    let group = supd.status("web").0["generations"][0]["cgroup"].to_string();
    assert!(group.contains("web.g"), "{group}");
    let elsewhere = "mkdir $0 && echo $$ >$0/cgroup.procs && \
                     exec systemd-cat --identifier=web sh -c 'echo of a stranger; exec cat >/dev/null'";
    let place = folder.path().join("cgroup").join(format!("{name}-not"));
    let mut stranger = Command::new("nsenter");
    stranger.arg(format!("--mount=/proc/{}/ns/mnt", supd.pid())).args(["--", "sh", "-c", elsewhere]);
    let mut stranger = stranger.arg(&place).stdin(Stdio::piped()).spawn().expect("nsenter");
    journal.has("web", "of a stranger");
    drop(stranger.stdin.take());
    assert!(stranger.wait().expect("systemd-cat").success());
    assert_eq!(journal.logs(&supd, &[]).expect(0).stdout, "two\nchild of two\n");
    supd.ctl(&["shutdown"]).expect(0);
    wait_until("supd to end", SOON, || supd.has_ended());
    drop(supd);
    cgroup::leave(folder.path(), &name);
    cgroup::leave(folder.path(), &format!("{name}-not"));
}

fn followed_over_a_swap() {
    let journal = Journal::start();
    let supd = Supd::start_with(&journal.setup());
    supd.launch("web", &unit(&supd, "echo one", "StandardOutput = \"journal\""));
    journal.has("web", "one");
    let follow = |arguments: &[&str]| {
        let all = [&["logs", "web", "-f"], arguments].concat();
        let mut command = journal.ctl_command(&supd, &all);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("supctl");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        (child, lines)
    };
    let (mut child, lines) = follow(&[]);
    assert_eq!(lines.recv_timeout(SOON).as_deref(), Ok("one"));
    writes(&supd, "more\n");
    assert_eq!(lines.recv_timeout(SOON).as_deref(), Ok("more"));
    supd.write_unit("web", &unit(&supd, "echo two", "StandardOutput = \"journal\""));
    supd.ctl(&["swap", "web"]).expect(0);
    assert_eq!(lines.recv_timeout(SOON).as_deref(), Ok("two"));
    // The one before has the same pipe.
    wait_until("it to be alone", SOON, || supd.status("web").pids_in(1).is_empty());
    writes(&supd, "and more\n");
    assert_eq!(lines.recv_timeout(SOON).as_deref(), Ok("and more"));
    let idle = proc::ticks(child.id());
    writes(&supd, "the end\n");
    assert_eq!(lines.recv_timeout(SOON).as_deref(), Ok("the end"));
    assert!(proc::ticks(child.id()) < idle + 20, "it spins");
    proc::signal(child.id(), Signal::SIGINT);
    assert_eq!(child.wait().expect("waiting for supctl").code(), Some(0));
    // Of one generation it ends with that.
    let (mut child, lines) = follow(&["--generation", "2", "-n", "1"]);
    assert_eq!(lines.recv_timeout(SOON).as_deref(), Ok("the end"));
    supd.ctl(&["stop", "web"]).expect(0);
    assert_eq!(lines.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected));
    assert_eq!(child.wait().expect("waiting for supctl").code(), Some(0));
}

fn last_words_of_one_that_failed() {
    let journal = Journal::start();
    let supd = Supd::start_with(&journal.setup());
    supd.launch("web", &unit(&supd, "echo one", "StandardOutput = \"journal\""));
    supd.write_unit("web", &unit(&supd, "echo cannot; echo go on; exit 3", "StandardOutput = \"journal\""));
    let failed = Running::start(&mut journal.ctl_command(&supd, &["swap", "web"])).finish(SOON).expect(1);
    let said = "The last 2 lines that it wrote:\n  | cannot\n  | go on\n  All of it: supctl logs web --generation 2\n";
    assert!(failed.stderr.contains(said), "{failed}");
    let in_use = unit(&supd, "echo bind: Address already in use; exit 3", "StandardOutput = \"journal\"");
    let socket = format!("[[Socket]]\nName = \"http\"\nListenStream = \"127.0.0.1:{}\"\n", free_port());
    supd.write_unit("web", &format!("{socket}{in_use}"));
    let failed = Running::start(&mut journal.ctl_command(&supd, &["swap", "web"])).finish(SOON).expect(1);
    assert!(failed.stderr.contains("write Handoff = \"intercept\" under"), "{failed}");
    // Elsewhere there is no such journal, and that hides nothing.
    let apart = supd.ctl(&["swap", "web"]).expect(1);
    assert!(apart.stderr.contains("Generation 4") && !apart.stderr.contains("wrote"), "{apart}");
}

/// supd lets a member of the ControlGroup ask, but the journal has the last word.
fn is_for_whom_it_lets() {
    let journal = Journal::start();
    let supd = Supd::start_with(&journal.setup());
    let service = unit(&supd, "echo hidden", "StandardOutput = \"journal\"\nUser = \"nobody\"");
    std::fs::set_permissions(supd.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    supd.launch("web", &format!("[Unit]\nControlGroup = \"games\"\n{service}"));
    journal.has("web", "hidden");
    let program = supd.app().join("supctl");
    std::fs::copy(env!("CARGO_BIN_EXE_supctl"), &program).expect("a supctl that anyone can reach");
    let group = |name: &str| {
        let group = nix::unistd::Group::from_name(name).expect("groups").expect("Debian has it");
        group.gid.to_string()
    };
    let logs = |groups: &[&str]| {
        let groups: Vec<String> = groups.iter().map(|name| group(name)).collect();
        let groups = format!("--groups={}", groups.join(","));
        let mut command = journal.command("setpriv", &["--reuid=65534", "--regid=65534", &groups, "--"]);
        command.arg(&program).arg("--runtime").arg(supd.runtime()).args(["logs", "web"]);
        Running::start(&mut command).finish(SOON)
    };
    let refused = logs(&["games"]).expect(77);
    assert!(refused.stderr.contains("members of the groups systemd-journal and adm"), "{refused}");
    assert!(refused.stderr.contains("sudo supctl"), "{refused}");
    assert_eq!(logs(&["games", "systemd-journal"]).expect(0).stdout, "hidden\n");
}

/// Each message with the fields that one looks for, and what happens with an id of its own.
fn what_supd_says_of_itself() {
    let journal = Journal::start();
    let supd = Supd::start_with(&journal.service());
    supd.launch("web", &unit(&supd, "echo one", ""));
    let worker = supd.status("web").pids()[0].to_string();
    let has = |matches: &[&str], message: &str| {
        wait_for(&format!("{message:?} by {matches:?}"), SOON, || {
            let mut command = journal.command("journalctl", &["--quiet", "--output=json"]);
            let text = command.args(matches).output().expect("journalctl").stdout;
            let text = String::from_utf8(text).expect("JSON");
            let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            entries.into_iter().find(|entry| entry["MESSAGE"] == message)
        })
    };
    let id = |what: &str| format!("MESSAGE_ID={}", message_id(what).expect("a kind"));
    let launched = format!("web/g1: worker 0 is process {worker}");
    let entry = has(&[&id("worker-launched"), "SUPD_UNIT=web", "SUPD_GENERATION=1"], &launched);
    assert_eq!((&entry["SUPD_PID"], &entry["PRIORITY"]), (&worker.as_str().into(), &"6".into()));
    assert_eq!(entry["SYSLOG_IDENTIFIER"], "supd");
    has(&[&id("supd-started")], "supd-started");
    let said = has(&["SUPD_UNIT=web", "SUPD_GENERATION=1"], "web/g1: committed");
    assert!(said["MESSAGE_ID"].is_null() && said["_PID"] == supd.pid().to_string().as_str(), "{said}");
    has(&[&id("ended"), "SUPD_UNIT=web", "SUPD_RESULT=committed"], "web: swap committed: generation 1");
    proc::signal(worker.parse().expect("a number"), Signal::SIGKILL);
    let failed = wait_for("the word of it", SOON, || {
        let mut command = journal.command("journalctl", &["--quiet", "--output=json", &id("worker-failed")]);
        let text = String::from_utf8(command.output().expect("journalctl").stdout).expect("JSON");
        text.lines().next().map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
    });
    assert_eq!((&failed["PRIORITY"], &failed["SUPD_GENERATION"]), (&"4".into(), &"1".into()), "{failed}");
    // Nothing of it on standard error, which is the journal's as well.
    let mut twice =
        journal.command("journalctl", &["--quiet", "--output=cat", "_TRANSPORT=stdout", "-t", "supd"]);
    let twice = String::from_utf8(twice.output().expect("journalctl").stdout).expect("UTF-8");
    assert!(!twice.contains("committed"), "{twice}");
}
