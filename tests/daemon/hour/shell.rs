//! One bash of an ordinary user, who has a home of its own and the programs in its PATH.

use super::page::{Kind, Page, difference};
use crate::harness::{folder, free_port};
use crate::proc;
use crate::wait::{SOON, wait_until};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::chown;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// Who types, where root runs the tests.
const SOMEBODY: u32 = 65_534;

/// What is typed before the first block. `cargo install` has been done.
const BEFORE: &str = r#"exec 2>&1
cd ~
export PATH="$HOME/.cargo/bin:/usr/local/bin:/usr/bin:/bin"
cargo() { [ "$*" = "install --locked --path ." ]; }
ssh() { shift; "$@"; }
"#;

pub(super) struct Shell {
    bash: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    home: TempDir,
    /// Ports of the page, and free ones in their place.
    ports: BTreeMap<&'static str, u16>,
    /// The name of whoever types.
    user: String,
    said: String,
}

impl Shell {
    pub(super) fn start() -> Self {
        let home = folder();
        let bin = home.path().join(".cargo/bin");
        fs::create_dir_all(&bin).expect("a folder");
        for program in [env!("CARGO_BIN_EXE_supd"), env!("CARGO_BIN_EXE_supctl")] {
            let name = std::path::Path::new(program).file_name().expect("a program has a name");
            fs::copy(program, bin.join(name)).expect("copying a program");
        }
        // No progress bar: a terminal shows it, and it is no part of what comes.
        fs::write(home.path().join(".curlrc"), "silent\nshow-error\n").expect("a file");
        let mut command = Command::new("setpriv");
        if nix::unistd::geteuid().is_root() {
            chown(home.path(), Some(SOMEBODY), Some(SOMEBODY)).expect("chown as root");
            command.args([format!("--reuid={SOMEBODY}"), format!("--regid={SOMEBODY}")]);
            command.arg("--clear-groups");
        }
        command.args(["bash", "--norc"]).env_clear().env("HOME", home.path()).env("LANG", "C.UTF-8");
        command.env("PATH", "/usr/bin:/bin").current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut bash = command.spawn().expect("bash");
        let input = bash.stdin.take().expect("piped");
        let output = BufReader::new(bash.stdout.take().expect("piped"));
        let ports = ["8080", "8443"].map(|port| (port, free_port())).into();
        let mut shell = Self { bash, input, output, home, ports, user: String::new(), said: String::new() };
        shell.run(BEFORE);
        shell.user = shell.run("id -un").trim().to_owned();
        shell
    }

    /// Types every block of a section, and compares what came with what it shows. All that came.
    pub(super) fn follow(&mut self, section: &Page) -> String {
        let (mut came, mut all) = (String::new(), String::new());
        let blocks = section.all();
        for (at, (kind, block)) in blocks.iter().enumerate() {
            match kind {
                Kind::Toml => {}
                Kind::Text => {
                    let differs = difference(&self.local(block), &came);
                    assert_eq!(differs, None, "{}: it is told otherwise\n{}", section.title, self.said);
                }
                Kind::Sh => {
                    came = self.run(block);
                    all.push_str(&came);
                    let shown = blocks.get(at + 1).is_some_and(|(next, _)| *next == Kind::Text);
                    let fault = came.lines().find(|line| {
                        ["command not found", ": cannot ", "Permission denied"]
                            .iter()
                            .any(|word| line.contains(word))
                    });
                    assert_eq!(fault, None, "{}: {block}", section.title);
                    assert!(shown || !came.contains("Error: "), "{}:\n{}", section.title, self.said);
                }
            }
        }
        all
    }

    /// Types lines and waits until they are done: what came on both streams.
    pub(super) fn run(&mut self, lines: &str) -> String {
        let lines = self.local(lines);
        writeln!(self.said, "$ {lines}").expect("a string");
        let (mut typed, mut supd) = (String::new(), false);
        for line in lines.lines() {
            if line.starts_with("supd ") {
                // It would have a terminal of its own.
                supd = true;
                writeln!(typed, "{line} > supd.log 2>&1 < /dev/null &").expect("a string");
            } else {
                writeln!(typed, "{line}").expect("a string");
            }
        }
        if supd {
            // Whoever changes to another terminal is slower than the first start.
            typed.push_str(
                "while kill -0 $! && ! supctl --runtime run status; do :; done > /dev/null 2>&1\n\
                 for unit in units/*.unit; do\n\
                 supctl --runtime run wait $(basename $unit .unit) > /dev/null 2>&1\ndone\n",
            );
        }
        typed.push_str("\necho \"--- done ---\"\n");
        self.input.write_all(typed.as_bytes()).expect("bash takes it");
        self.input.flush().expect("bash takes it");
        let mut came = String::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("UTF-8");
            assert!(read > 0, "bash ended:\n{}{came}", self.said);
            if line == "--- done ---\n" {
                break;
            }
            came.push_str(&line);
        }
        self.said.push_str(&came);
        came
    }

    /// With the ports that are free here, and for "ann" the name of whoever types.
    fn local(&self, text: &str) -> String {
        let text = text.replace(" ann ", &format!(" {} ", self.user));
        self.ports.iter().fold(text, |text, (port, free)| text.replace(port, &free.to_string()))
    }

    /// Clients that ask an HTTPS server again and again, each time on a new connection.
    pub(super) fn ask(&self, address: &str, clients: usize) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let address = self.local(address);
        let threads = (0..clients).map(|_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let address = address.clone();
            std::thread::spawn(move || {
                let mut lost = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    // --insecure: which certificate comes is the page's to show; here it is whether one does.
                    let mut curl = Command::new("curl");
                    curl.args(["--silent", "--show-error", "--fail", "--insecure", &address]);
                    let output = curl.output().expect("curl");
                    if output.status.success() && !output.stdout.is_empty() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        lost.push(String::from_utf8_lossy(&output.stderr).into_owned());
                    }
                }
                lost
            })
        });
        Clients { threads: threads.collect(), stop, answered }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let needle = self.home.path().to_string_lossy().into_owned();
        let left = || proc::with_environment(&needle, &[std::process::id(), self.bash.id()]);
        if std::thread::panicking() {
            // What a test that failed has started ends with it: supd first, so that it ends its workers.
            for pid in left() {
                proc::signal(pid, Signal::SIGTERM);
            }
        }
        wait_until("what was started to end", SOON, || left().is_empty());
        proc::signal(self.bash.id(), Signal::SIGKILL);
        let _reaped = self.bash.wait();
    }
}

/// Clients under way.
pub(super) struct Clients {
    threads: Vec<JoinHandle<Vec<String>>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

/// What they found.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) answered: u64,
    pub(super) lost: Vec<String>,
}

impl Clients {
    pub(super) fn wait_for_more(&self, more: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        wait_until("more answers", SOON, || self.answered.load(Ordering::Relaxed) >= goal);
    }

    pub(super) fn stop(self) -> Asked {
        self.stop.store(true, Ordering::Relaxed);
        let lost = self.threads.into_iter().flat_map(|client| client.join().expect("a client")).collect();
        Asked { answered: self.answered.load(Ordering::Relaxed), lost }
    }
}
