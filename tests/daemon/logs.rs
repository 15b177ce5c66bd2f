//! `supctl logs`: what a generation wrote, as supd opened it for who may see it.

use crate::harness::{Output, Running, Setup, Supd};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("logs::the_last_lines", the_last_lines),
        test("logs::of_another_generation", of_another_generation),
        test("logs::followed_over_a_swap", followed_over_a_swap),
        test("logs::followed_over_a_cut", followed_over_a_cut),
        test("logs::goes_elsewhere", goes_elsewhere),
        test("logs::a_link_is_no_log", a_link_is_no_log),
        test_with("logs::whose_business_it_is", &[Need::Root], whose_business_it_is),
    ]
}

/// A unit that writes what it is told.
struct Writer {
    supd: Supd,
    pipe: PathBuf,
}

impl Writer {
    fn start() -> Self {
        Self::start_with("")
    }

    fn start_with(service: &str) -> Self {
        let supd = Supd::start_with(&Setup::default());
        let pipe = supd.app().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let writer = Self { supd, pipe };
        writer.supd.launch("web", &writer.unit("hello", service));
        writer
    }

    /// Says a word, then whatever comes out of the pipe. (Open for both, it never ends.)
    fn unit(&self, word: &str, service: &str) -> String {
        format!(
            "[Service]\nExecStart = [\"/bin/sh\", \"-c\", 'echo {word}; exec cat 0<>{}']\nReady = \"started\"\n\
             Releases = false\nReadySettleSec = \"100ms\"\n{service}\n[Swap]\nDrainSec = \"500ms\"\nSettleSec = \"200ms\"\n\
             ProbationSec = \"300ms\"\n",
            self.pipe.display()
        )
    }

    /// Has it write this; seen in the log when this returns.
    fn writes(&self, text: &[u8]) {
        let log = self.log(self.supd.status("web").active().expect("an active generation"));
        let size = || fs::metadata(&log).map_or(0, |log| log.len());
        let before = size();
        let mut pipe = File::options().write(true).open(&self.pipe).expect("the FIFO");
        pipe.write_all(text).expect("writing into the FIFO");
        wait_until("the text to be in the log", SOON, || size() >= before + text.len() as u64);
    }

    fn log(&self, generation: u64) -> PathBuf {
        self.supd.state_folder().join(format!("logs/web/{generation}.log"))
    }

    fn logs(&self, arguments: &[&str]) -> Output {
        self.supd.ctl(&[&["logs", "web"], arguments].concat())
    }

    fn follow(&self, arguments: &[&str]) -> Following {
        let mut command = self.supd.ctl_command(&[&["logs", "web", "-f"], arguments].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("supctl");
        let collect = |mut stream: Box<dyn Read + Send>| {
            let text = Arc::new(Mutex::new(Vec::new()));
            let shared = text.clone();
            std::thread::spawn(move || {
                let mut chunk = [0; 65_536];
                while let Ok(count @ 1..) = stream.read(&mut chunk) {
                    shared.lock().expect("the other thread").extend_from_slice(&chunk[..count]);
                }
            });
            text
        };
        let out = collect(Box::new(child.stdout.take().expect("piped")));
        let errors = collect(Box::new(child.stderr.take().expect("piped")));
        Following { child, out, errors }
    }
}

/// A `supctl logs -f` under way.
struct Following {
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
    errors: Arc<Mutex<Vec<u8>>>,
}

impl Following {
    fn out(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().expect("the other thread")).into_owned()
    }

    fn errors(&self) -> String {
        String::from_utf8_lossy(&self.errors.lock().expect("the other thread")).into_owned()
    }

    fn until(&self, what: &str) {
        wait_until(&format!("{what:?} to be shown"), SOON, || self.out().ends_with(what));
    }

    /// Waits for it to end by itself.
    fn until_it_ends(mut self) -> String {
        wait_until("supctl to end", SOON, || self.child.try_wait().expect("waiting for supctl").is_some());
        wait_until("the word of it", SOON, || self.errors().contains("generation 1 has ended"));
        self.out()
    }

    /// Ctrl-C.
    fn end(mut self) -> String {
        proc::signal(self.child.id(), Signal::SIGINT);
        let status = self.child.wait().expect("waiting for supctl");
        assert_eq!(status.code(), Some(0), "{}", self.errors());
        self.out()
    }
}

fn the_last_lines() {
    let writer = Writer::start();
    assert_eq!(writer.logs(&[]).expect(0).stdout, "hello\n");
    let text: String = (0..1000).map(|line| format!("line {line}\n")).collect();
    writer.writes(text.as_bytes());
    let last = |count: usize| (1000 - count..1000).map(|line| format!("line {line}\n")).collect::<String>();
    assert_eq!(writer.logs(&[]).expect(0).stdout, last(100));
    assert_eq!(writer.logs(&["-n", "3"]).expect(0).stdout, last(3));
    assert_eq!(writer.logs(&["-n0"]).expect(0).stdout, "");
    assert_eq!(writer.logs(&["-n", "all"]).expect(0).stdout, format!("hello\n{text}"));
    writer.logs(&["-n", "-3"]).expect(2);
    let json = writer.supd.ctl(&["--json", "logs", "web", "-n", "1"]).expect(0).stdout;
    assert_eq!(json, "{\"generation\":1,\"line\":\"line 999\"}\n");
    // As they are into a pipe, and harmless on a terminal.
    let wild = b"\x1b[2Jred\x07\xff\n";
    writer.writes(wild);
    let raw = writer.supd.ctl_command(&["logs", "web", "-n", "1"]).output().expect("supctl").stdout;
    assert_eq!(raw, wild);
    assert_eq!(on_a_terminal(&mut writer.supd.ctl_command(&["logs", "web", "-n", "1"])), "red?\u{fffd}\r\n");
    // Nobody reads to the end.
    let mut piped = Command::new("sh");
    let line = format!("{:?} logs web -n all | head -n 1", writer.supd.ctl_command(&[]));
    piped.args(["-c", &line]);
    let piped = Running::start(&mut piped).finish(SOON).expect(0);
    assert_eq!((piped.stdout.as_str(), piped.stderr.as_str()), ("hello\n", ""));
}

/// What a person would see.
pub(crate) fn on_a_terminal(command: &mut Command) -> String {
    let pty = nix::pty::openpty(None, None).expect("a pseudo-terminal");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(pty.slave))
        .stderr(Stdio::inherit())
        .spawn()
        .expect("supctl");
    // The command holds the terminal open as long as it lives.
    command.stdout(Stdio::null());
    let (mut text, mut chunk, mut terminal) = (Vec::new(), [0; 4096], File::from(pty.master));
    while let Ok(count @ 1..) = terminal.read(&mut chunk) {
        text.extend_from_slice(&chunk[..count]);
    }
    assert!(child.wait().expect("waiting for supctl").success());
    String::from_utf8_lossy(&text).into_owned()
}

fn of_another_generation() {
    let writer = Writer::start();
    writer.supd.write_unit("web", &writer.unit("again", ""));
    writer.supd.ctl(&["swap", "web"]).expect(0);
    assert_eq!(writer.logs(&[]).expect(0).stdout, "again\n");
    assert_eq!(writer.logs(&["--generation", "1"]).expect(0).stdout, "hello\n");
    writer.supd.write_unit("web", &writer.unit("dies; exit 3", ""));
    writer.supd.ctl(&["swap", "web"]).expect(1);
    assert_eq!(writer.logs(&["--generation", "3"]).expect(0).stdout, "dies\n");
    assert_eq!(writer.logs(&[]).expect(0).stdout, "again\n", "the active one's");
    let refused = writer.logs(&["--generation", "99"]).expect(3);
    assert!(refused.stderr.contains("generation 99 has no log (any more); there are those of 1, 2 and 3"));
    assert!(refused.stderr.contains("Next: supctl logs web --generation 3"), "{refused}");
    writer.supd.ctl(&["logs", "wep"]).expect(3);
    // A stopped unit has logs, too: those of who served last come first.
    writer.supd.ctl(&["stop", "web"]).expect(0);
    assert_eq!(writer.logs(&["--generation", "1"]).expect(0).stdout, "hello\n");
    assert_eq!(writer.logs(&[]).expect(0).stdout, "again\n");
    // One whose file is gone, too; and one that ended is not followed for ever.
    fs::remove_file(writer.supd.path().join("units/web.unit")).expect("the test's own files");
    writer.supd.ctl(&["daemon-reload"]).expect(0);
    writer.supd.ctl(&["status", "web"]).expect(3);
    assert_eq!(writer.logs(&[]).expect(0).stdout, "again\n");
    let ended = writer.logs(&["-f", "--generation", "1"]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.contains("generation 1 has ended")), ("hello\n", true));
    writer.supd.ctl(&["logs", "wep"]).expect(3);
}

fn followed_over_a_swap() {
    let writer = Writer::start();
    let (all, json) = (writer.follow(&[]), writer.follow(&["--json"]));
    let first = writer.follow(&["--generation", "1"]);
    all.until("hello\n");
    for round in 0..5 {
        let line = format!("round {round}\n");
        writer.writes(line.as_bytes());
        all.until(&line);
    }
    // Half a line is shown as well.
    writer.writes(b"half");
    all.until("half");
    writer.writes(b"\n");
    writer.supd.write_unit("web", &writer.unit("again", ""));
    writer.supd.ctl(&["swap", "web"]).expect(0);
    all.until("again\n");
    // One pipe has one reader.
    wait_until("the one before to be gone", SOON, || writer.supd.status("web").pids_in(1).is_empty());
    let idle = proc::ticks(all.child.id());
    writer.writes(b"of the new one\n");
    all.until("of the new one\n");
    json.until("{\"generation\":2,\"line\":\"of the new one\"}\n");
    assert!(all.errors().contains("-- web: generation 2 is active now --"), "{}", all.errors());
    assert!(proc::ticks(all.child.id()) < idle + 20, "it spins");
    let shown = all.end();
    assert!(
        shown.starts_with("hello\nround 0\n") && shown.ends_with("half\nagain\nof the new one\n"),
        "{shown}"
    );
    assert!(json.end().starts_with("{\"generation\":1,\"line\":\"hello\"}\n"));
    assert!(first.until_it_ends().ends_with("round 4\nhalf\n"));
    // Whoever goes away ends it, even if nothing more is written.
    let mut gone = writer.follow(&[]);
    gone.until("of the new one\n");
    let mut command = writer.supd.ctl_command(&["logs", "web", "-f"]);
    let mut reader = command.stdout(Stdio::piped()).spawn().expect("supctl");
    drop(reader.stdout.take());
    wait_until("supctl to end", SOON, || reader.try_wait().expect("waiting for supctl").is_some());
    gone.child.kill().expect("killing supctl");
    gone.child.wait().expect("waiting for supctl");
}

/// supd trims the log while it is followed: no line is lost, none comes twice.
fn followed_over_a_cut() {
    let writer = Writer::start_with("LogMaxSize = \"1M\"");
    let follow = writer.follow(&["-n", "all"]);
    follow.until("hello\n");
    let mut expected = "hello\n".to_owned();
    for part in 0..3 {
        let text: String =
            (0..10_000).map(|line| format!("part {part} line {line:05} {:060}\n", 0)).collect();
        writer.writes(text.as_bytes());
        expected.push_str(&text);
        follow.until(&text[text.len() - 100..]);
        wait_until("supd to trim the log", SOON, || {
            fs::metadata(writer.log(1)).expect("the log").len() <= 1 << 20
        });
    }
    writer.writes(b"the last one\n");
    expected.push_str("the last one\n");
    follow.until("the last one\n");
    assert_eq!(follow.errors(), "");
    let shown = follow.end();
    let differs = shown.lines().zip(expected.lines()).find(|(shown, expected)| shown != expected);
    assert_eq!((differs, shown.len()), (None, expected.len()));
}

fn goes_elsewhere() {
    let writer = Writer::start();
    let file = writer.supd.app().join("out.log");
    for (output, said) in [
        (format!("file:{}", file.display()), format!("its output goes to {}", file.display())),
        ("null".into(), "its output goes nowhere (null)".into()),
        ("inherit".into(), "its output goes where supd's own goes (inherit)".into()),
    ] {
        writer.supd.write_unit("web", &writer.unit("elsewhere", &format!("StandardOutput = \"{output}\"")));
        writer.supd.ctl(&["swap", "web"]).expect(0);
        let refused = writer.logs(&[]).expect(3);
        assert!(refused.stderr.contains(&said), "{refused}");
    }
    let json = writer.supd.ctl(&["--json", "logs", "web"]).expect(3);
    assert!(json.stdout.starts_with("{\"error\":\"dev.supd.Manager.Refused\""), "{json}");
}

fn a_link_is_no_log() {
    let writer = Writer::start();
    fs::remove_file(writer.log(1)).expect("the log");
    std::os::unix::fs::symlink("/etc/passwd", writer.log(1)).expect("a link");
    let refused = writer.logs(&[]).expect(1);
    assert!(!refused.stdout.contains("root:") && refused.stderr.contains("1.log"), "{refused}");
}

/// A log is for those who may act. A member of the ControlGroup gets it although the file is out of
/// their reach, and follows it without being allowed to watch it.
fn whose_business_it_is() {
    let writer = Writer::start();
    let unit = writer.unit("hello", "User = \"nobody\"");
    writer.supd.write_unit("web", &format!("[Unit]\nControlGroup = \"games\"\n{unit}"));
    writer.supd.ctl(&["daemon-reload"]).expect(0);
    writer.supd.ctl(&["stop", "web"]).expect(0);
    nix::unistd::chown(&writer.pipe, Some(65_534.into()), None).expect("chown as root");
    writer.supd.ctl(&["start", "web"]).expect(0);
    let program = writer.supd.app().join("supctl");
    fs::copy(env!("CARGO_BIN_EXE_supctl"), &program).expect("a supctl that anyone can reach");
    let logs = |group: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", &format!("--groups={group}"), "--"]).arg(&program);
        command.arg("--runtime").arg(writer.supd.runtime()).args(["logs", "web"]);
        command
    };
    let refused = Running::start(&mut logs("65534")).finish(SOON).expect(77);
    assert!(refused.stderr.contains("ControlGroup games"), "{refused}");
    let games = nix::unistd::Group::from_name("games").expect("groups").expect("Debian has it").gid;
    let shown = Running::start(&mut logs(&games.to_string())).finish(SOON).expect(0);
    assert_eq!(shown.stdout, "hello\n");
    let mut command = logs(&games.to_string());
    command.arg("-f").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().expect("supctl");
    let mut out = child.stdout.take().expect("piped");
    writer.writes(b"and on\n");
    let (mut text, mut chunk) = (String::new(), [0; 100]);
    while !text.ends_with("and on\n") {
        let count = out.read(&mut chunk).expect("supctl's output");
        assert!(count > 0, "it ended with {text:?}");
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    proc::signal(child.id(), Signal::SIGTERM);
    assert!(child.wait().expect("waiting for supctl").success());
}
