//! `supctl demo`: the story goes as told, and nothing is left behind, whoever ends it when.

use crate::harness::folder;
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("demo::as_told", as_told),
        test("demo::interrupted_early", || interrupted(&EARLY)),
        test("demo::interrupted_late", || interrupted(&LATE)),
        test("demo::nobody_looks", nobody_looks),
        test("demo::no_place", no_place),
    ]
}

/// The whole of it takes a quarter of a minute; more on a busy machine.
const STORY: Duration = Duration::from_secs(90);

/// Moments, as what the demo says there, and the signal that comes then. "" is before it says anything.
const EARLY: [(&str, Signal); 5] = [
    ("", Signal::SIGINT),
    ("", Signal::SIGKILL),
    ("supctl demo", Signal::SIGTERM),
    ("(1) supctl swap", Signal::SIGKILL),
    ("(1) generation", Signal::SIGINT),
];
const LATE: [(&str, Signal); 4] = [
    ("(1) receives", Signal::SIGHUP),
    ("(2) took over", Signal::SIGTERM),
    ("(3) supctl swap", Signal::SIGTERM),
    ("(5) took over", Signal::SIGINT),
];

struct Demo {
    child: Child,
    home: TempDir,
}

impl Demo {
    fn start() -> Self {
        let home = folder();
        // A shell ignores SIGINT for what it runs in the background, tests too; a person's does not.
        let child = Command::new("env")
            .arg("--default-signal=HUP,INT,PIPE,TERM")
            .arg(env!("CARGO_BIN_EXE_supctl"))
            .arg("demo")
            .env("TMPDIR", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("supctl");
        Self { child, home }
    }

    /// Nothing in its folder, and no process that knows the folder.
    fn left_nothing(&self) {
        let left = || proc::with_environment(&self.home.path().to_string_lossy(), &[self.child.id()]);
        wait_until("the end of the demo's processes", SOON, || left().is_empty());
        wait_until("the end of the demo's folder", SOON, || is_empty(self.home.path()));
        // A process that outlived its folder could not make it again; one that is late could.
        assert_eq!(left(), [0_u32; 0]);
    }
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().expect("the folder").next().is_none()
}

fn as_told() {
    let mut demo = Demo::start();
    let mut out = String::new();
    demo.child.stdout.take().expect("piped").read_to_string(&mut out).expect("UTF-8");
    let mut errors = String::new();
    demo.child.stderr.take().expect("piped").read_to_string(&mut errors).expect("UTF-8");
    let status = wait_for("the end of the demo", STORY, || demo.child.try_wait().expect("wait"));
    assert!(status.success(), "{status}\n{out}\n{errors}");
    let told: Vec<&str> = out.lines().filter(|line| line.contains("as told: ")).collect();
    assert_eq!(told.len(), 6, "{out}");
    assert!(told[4].contains("nothing was launched; switched in "), "{out}");
    assert!(told.iter().all(|line| !line.contains("NOT")), "{out}");
    let last = out.lines().last().unwrap_or_default();
    assert!(last.contains(" requests, none lost; idle closes: "), "{out}");
    let requests: u64 =
        last.split(' ').next().unwrap_or_default().replace(',', "").parse().expect("a number");
    assert!(requests > 1000, "{out}");
    assert!(errors.is_empty(), "{errors}");
    demo.left_nothing();
}

fn interrupted(moments: &[(&str, Signal)]) {
    for &(moment, signal) in moments {
        let mut demo = Demo::start();
        // Kept open to the end: a reader that goes would end the demo too.
        let mut out = BufReader::new(demo.child.stdout.take().expect("piped"));
        let mut line = String::new();
        while !line.contains(moment) {
            line.clear();
            let read = out.read_line(&mut line).expect("UTF-8");
            assert!(read > 0, "the demo ended before {moment:?}");
        }
        proc::signal(demo.child.id(), signal);
        let status = wait_for("the end of the demo", STORY, || demo.child.try_wait().expect("wait"));
        let mut errors = String::new();
        demo.child.stderr.take().expect("piped").read_to_string(&mut errors).expect("UTF-8");
        // So early that it was not yet taken, it ends the demo by itself: that is the same.
        assert_eq!(status.signal(), Some(signal as i32), "{moment:?} {signal}: {status}\n{errors}");
        demo.left_nothing();
    }
}

/// A pipe whose reader goes away ends the demo; one whose reader does not read, too, once told to.
fn nobody_looks() {
    let mut demo = Demo::start();
    let mut out = BufReader::new(demo.child.stdout.take().expect("piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("UTF-8");
    drop(out);
    let status = wait_for("the end of the demo", STORY, || demo.child.try_wait().expect("wait"));
    assert_eq!(status.signal(), Some(Signal::SIGPIPE as i32), "{status}");
    demo.left_nothing();
}

/// Where there is no folder to be had it says so, and what to type.
fn no_place() {
    let home = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_supctl"))
        .arg("demo")
        .env("TMPDIR", home.path().join("none"))
        .output()
        .expect("supctl");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("TMPDIR=DIR supctl demo"), "{text}");
}
