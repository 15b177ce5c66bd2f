//! `supctl top` as a person has it: at a terminal, with keys.

use crate::harness::{Supd, free_port};
use crate::wait::{SOON, wait_until};
use crate::{Test, proc, test};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("top::a_canary_is_promoted_by_two_keys", a_canary_is_promoted_by_two_keys),
        test("top::supd_goes_and_comes_back", supd_goes_and_comes_back),
        test("top::the_terminal_is_restored_by_a_signal_too", the_terminal_is_restored_by_a_signal_too),
        test("top::no_terminal_no_top", no_terminal_no_top),
    ]
}

const COLUMNS: usize = 80;
const LINES: usize = 24;

/// So much of a terminal as what draws cells needs: moves of the cursor, and an erased screen.
fn screen_of(bytes: &[u8]) -> Vec<String> {
    let mut cells = vec![vec![' '; COLUMNS]; LINES];
    let (mut line, mut column) = (0, 0);
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.as_str().starts_with('[') => {
                chars.next();
                let rest = chars.as_str();
                let end = rest.find(|c: char| ('@'..='~').contains(&c)).unwrap_or(rest.len());
                let (parameters, after) = rest.split_at(end);
                let mut numbers = parameters.split(';').map(|number| number.parse::<usize>().unwrap_or(1));
                match after.chars().next() {
                    Some('H') => {
                        line = numbers.next().unwrap_or(1) - 1;
                        column = numbers.next().unwrap_or(1) - 1;
                    }
                    Some('J') => cells = vec![vec![' '; COLUMNS]; LINES],
                    _ => {}
                }
                chars = after.get(1..).unwrap_or_default().chars();
            }
            c if c.is_control() => {}
            c => {
                if let Some(cell) = cells.get_mut(line).and_then(|line| line.get_mut(column)) {
                    *cell = c;
                }
                column += 1;
            }
        }
    }
    cells.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
}

/// One that runs.
struct Top {
    child: Child,
    terminal: File,
    /// Held open, so that its settings can be asked for when supctl is gone.
    slave: OwnedFd,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Top {
    fn start(supd: &Supd, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a pseudo-terminal");
        let supctl = supd.ctl_command(arguments);
        // The terminal is to be its own, and not that of whoever runs the tests.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(supctl.get_program()).args(supctl.get_args());
        command.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("COLUMNS").env_remove("LINES");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("supctl");
        drop(command);
        let (said, mut reader) = (Arc::default(), File::from(pty.master.try_clone().expect("a descriptor")));
        let heard: Arc<Mutex<Vec<u8>>> = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                heard.lock().expect("a reader").extend_from_slice(&chunk[..count]);
            }
        });
        Self { child, terminal: File::from(pty.master), slave: pty.slave, said }
    }

    fn screen(&self) -> Vec<String> {
        screen_of(&self.said.lock().expect("a reader"))
    }

    fn wait_for(&self, what: &str) {
        wait_until(&format!("{what} on the screen"), SOON, || {
            self.screen().iter().any(|line| line.contains(what))
        });
    }

    fn press(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).expect("a terminal");
    }

    fn is_raw(&self) -> bool {
        let flags = tcgetattr(&self.slave).expect("a terminal").local_flags;
        !flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    /// Waits for its end, and sees that the terminal is as it was.
    fn ended(mut self) -> std::process::ExitStatus {
        let mut status = None;
        wait_until("supctl to end", SOON, || {
            status = self.child.try_wait().expect("waiting for supctl");
            status.is_some()
        });
        assert!(!self.is_raw(), "the terminal is raw");
        let left = |code: &str| {
            let said = self.said.lock().expect("a reader");
            let said = String::from_utf8_lossy(&said);
            said.rfind(code).is_some_and(|at| at > said.rfind("web").unwrap_or(0))
        };
        wait_until("the screen to be given back", SOON, || left("\x1b[?1049l"));
        wait_until("the cursor to be there again", SOON, || {
            let said = self.said.lock().expect("a reader");
            let said = String::from_utf8_lossy(&said);
            said.rfind("\x1b[?25h") > said.rfind("\x1b[?25l")
        });
        status.expect("it has ended")
    }
}

/// A test that fails leaves nobody at a terminal that is gone.
impl Drop for Top {
    fn drop(&mut self) {
        let _it_has_ended = self.child.kill();
        let _nobody_else_waits = self.child.wait();
    }
}

/// A supd with a canary of half.
fn canary() -> Supd {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "50%"]).expect(0);
    supd
}

fn a_canary_is_promoted_by_two_keys() {
    let supd = canary();
    let mut top = Top::start(&supd, &["top", "web"]);
    top.wait_for("canary");
    assert!(top.is_raw());
    top.wait_for("Generations of web");
    wait_until("both shares", SOON, || top.screen().iter().filter(|line| line.contains("50%")).count() >= 2);
    top.press("?");
    top.wait_for("go on with its swap");
    top.press("?p");
    top.wait_for("promote web? y does it");
    // Any other key is a no.
    top.press("n");
    top.wait_for("p promote  a abort");
    assert_eq!(supd.status("web").active(), Some(1));
    top.press("p");
    top.wait_for("promote web? y does it");
    top.press("y");
    wait_until("the promotion", SOON, || supd.status("web").active() == Some(2));
    top.wait_for("generation 2");
    wait_until("what happened", SOON, || {
        top.screen().iter().any(|line| line.contains("swap  committed") || line.contains("ended  committed"))
    });
    top.press("q");
    assert_eq!(top.ended().code(), Some(0));
}

fn supd_goes_and_comes_back() {
    let supd = canary();
    let mut top = Top::start(&supd, &["top"]);
    top.wait_for("web");
    let supd = supd.crash_and_restart_after(|_| top.wait_for("no supd answers, trying again"));
    top.wait_for("1 unit, 1 up");
    supd.ctl(&["status"]).expect(0);
    top.press("\x03");
    assert_eq!(top.ended().code(), Some(0));
}

fn the_terminal_is_restored_by_a_signal_too() {
    use std::os::unix::process::ExitStatusExt;
    let supd = canary();
    let top = Top::start(&supd, &["--no-color", "top"]);
    top.wait_for("Generations of web");
    let said = String::from_utf8_lossy(&top.said.lock().expect("a reader")).into_owned();
    assert!(!["\x1b[38;5;", "\x1b[32m", "\x1b[33m"].iter().any(|code| said.contains(code)), "{said:?}");
    proc::signal(top.child.id(), Signal::SIGTERM);
    assert_eq!(top.ended().signal(), Some(Signal::SIGTERM as i32));
}

fn no_terminal_no_top() {
    let supd = Supd::start();
    let refused = supd.ctl(&["top"]).expect(2);
    assert!(refused.stderr.contains("supctl --json status --watch"), "{refused}");
}
