//! Who can bring a new version in without closing its port: supd, Server::Starter with the same
//! worker, and nginx with a page of the same size.

use crate::harness::{Running, Supd, folder, free_port};
use crate::report::Section;
use crate::support::test::find_program;
use crate::wait::{SOON, wait_until};
use crate::{fixture, proc};
use nix::sys::signal::Signal;
use std::cell::Cell;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use tempfile::TempDir;

pub(crate) fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Something that can bring a version in under load, again and again.
pub(crate) trait Contender {
    fn name(&self) -> String;
    fn port(&self) -> u16;
    /// What is done before the load begins.
    fn prepare(&self);
    /// Brings another version in: which. May return before that one serves.
    fn change(&self) -> String;
    /// Waits, once the load has ended, until nothing of the change is left.
    fn settle(&self);
    /// Resident, of the supervising process without its workers.
    fn rss_kib(&self) -> u64;
}

/// The version that everyone begins with.
const FIRST: &str = "1";

/// A version that nobody had yet.
fn next(version: &Cell<u32>) -> String {
    version.set(version.get() + 1);
    version.get().to_string()
}

/// What the contenders of one supd share: a unit that commits at once, one that never does, and one whose
/// previous generation stands by.
pub(crate) struct Ours {
    pub(crate) supd: Supd,
    version: Cell<u32>,
    commits: u16,
    waits: u16,
    stands_by: u16,
    /// A rollback was refused for want of a pinned program.
    unpinned: Cell<bool>,
}

impl Ours {
    fn start() -> Self {
        let supd = Supd::start();
        supd.install_worker(FIRST);
        let [commits, waits, stands_by] = [free_port(), free_port(), free_port()];
        for (name, port, swap) in [
            ("commits", commits, "ProbationSec = \"0\""),
            ("waits", waits, "ProbationSec = \"1h\""),
            ("stands_by", stands_by, "ProbationSec = \"0\"\nRetain = \"warm\""),
        ] {
            supd.launch(name, &supd.worker(port, &[], "ReadySettleSec = \"0\"", swap));
        }
        Self { supd, version: Cell::new(1), commits, waits, stands_by, unpinned: Cell::new(false) }
    }

    fn install(&self) -> String {
        let version = next(&self.version);
        self.supd.install_worker(&version);
        version
    }

    /// Back to what was committed before: its pinned program, or, where there can be none (a state
    /// folder that executes nothing), what is on disk. The version that this brings in.
    fn roll_back(&self, unit: &str, pinned: &str, more: &[&str]) -> String {
        let command = [&["rollback", unit], more].concat();
        let output = self.supd.ctl(&command);
        if output.code() == 3 && output.text().contains("--anyway") {
            self.unpinned.set(true);
            let version = self.install();
            self.supd.ctl(&[&command[..], &["--anyway"]].concat()).expect(0);
            return version;
        }
        output.expect(0);
        pinned.to_owned()
    }

    fn one_generation(&self, unit: &str) {
        wait_until("one generation to be left", SOON, || self.supd.status(unit).pids().len() == 1);
    }
}

struct Swap(Rc<Ours>);

impl Contender for Swap {
    fn name(&self) -> String {
        "supd: swap".into()
    }

    fn port(&self) -> u16 {
        self.0.commits
    }

    fn prepare(&self) {
        self.0.install();
    }

    fn change(&self) -> String {
        self.0.supd.ctl(&["swap", "commits"]).expect(0);
        self.0.version.get().to_string()
    }

    fn settle(&self) {
        self.0.one_generation("commits");
    }

    fn rss_kib(&self) -> u64 {
        proc::rss_kib(self.0.supd.pid())
    }
}

/// Committed, the previous worker gone: its pinned program is launched again.
struct ColdRollback(Rc<Ours>, Cell<u32>);

impl Contender for ColdRollback {
    fn name(&self) -> String {
        if self.0.unpinned.get() { "supd: rollback NOT PINNED" } else { "supd: rollback, committed" }.into()
    }

    fn port(&self) -> u16 {
        self.0.commits
    }

    fn prepare(&self) {
        self.0.install();
        self.0.supd.ctl(&["swap", "commits"]).expect(0);
        self.1.set(self.0.version.get());
        self.0.install();
        self.0.supd.ctl(&["swap", "commits"]).expect(0);
        self.settle();
    }

    fn change(&self) -> String {
        self.0.roll_back("commits", &self.1.get().to_string(), &[])
    }

    fn settle(&self) {
        self.0.one_generation("commits");
    }

    fn rss_kib(&self) -> u64 {
        proc::rss_kib(self.0.supd.pid())
    }
}

/// In probation, the previous worker still there: nothing is launched.
struct EarlyRollback(Rc<Ours>);

impl Contender for EarlyRollback {
    fn name(&self) -> String {
        "supd: rollback in probation".into()
    }

    fn port(&self) -> u16 {
        self.0.waits
    }

    fn prepare(&self) {
        self.0.install();
        self.0.supd.ctl(&["swap", "waits", "--wait=active"]).expect(0);
    }

    fn change(&self) -> String {
        self.0.supd.ctl(&["rollback", "waits"]).expect(0);
        FIRST.into()
    }

    fn settle(&self) {
        self.0.one_generation("waits");
    }

    fn rss_kib(&self) -> u64 {
        proc::rss_kib(self.0.supd.pid())
    }
}

/// Committed, the previous worker standing by: nothing is launched. Or it was let go before, and the same
/// unit's way back is cold.
struct StandbyRollback {
    ours: Rc<Ours>,
    lives: bool,
}

impl Contender for StandbyRollback {
    fn name(&self) -> String {
        if self.lives { "supd: rollback to a standby" } else { "supd: rollback, cold" }.into()
    }

    fn port(&self) -> u16 {
        self.ours.stands_by
    }

    fn prepare(&self) {
        self.ours.install();
        self.ours.supd.ctl(&["swap", "stands_by"]).expect(0);
        if !self.lives {
            let standby = self.ours.supd.status("stands_by").retained().expect("a standby").to_string();
            self.ours.supd.ctl(&["drain", "stands_by", "--generation", &standby]).expect(0);
        }
    }

    fn change(&self) -> String {
        self.ours.roll_back("stands_by", FIRST, &["--stop"])
    }

    fn settle(&self) {
        self.ours.one_generation("stands_by");
    }

    fn rss_kib(&self) -> u64 {
        proc::rss_kib(self.ours.supd.pid())
    }
}

/// Server::Starter and nginx: a program that reloads on SIGHUP.
struct ByHup {
    name: &'static str,
    folder: TempDir,
    install: fn(&Path, u16, &str),
    port: u16,
    version: Cell<u32>,
    running: Option<Running>,
    pid: u32,
}

impl ByHup {
    fn start(
        name: &'static str,
        install: fn(&Path, u16, &str),
        command: impl Fn(&Path, u16) -> Command,
    ) -> Self {
        let (folder, port) = (folder(), free_port());
        install(folder.path(), port, FIRST);
        let running = Running::start(&mut command(folder.path(), port));
        let pid = running.pid();
        wait_until(&format!("{name} to listen"), SOON, || TcpStream::connect(address(port)).is_ok());
        Self { name, folder, install, port, version: Cell::new(1), running: Some(running), pid }
    }

    /// `--interval`: a new worker that lives for a second counts as ready; it is the least.
    fn server_starter() -> Self {
        let install = |folder: &Path, _: u16, version: &str| fixture::mark(&folder.join("worker"), version);
        Self::start("Server::Starter: HUP", install, |folder, port| {
            let mut command = Command::new("start_server");
            command.arg(format!("--port=127.0.0.1:{port}")).arg("--backlog=4096");
            command.args(["--signal-on-hup=TERM", "--interval=1", "--"]).arg(folder.join("worker"));
            command.env("DAEMON_TEST_ROLE", "worker");
            command
        })
    }

    fn nginx() -> Self {
        let install = |folder: &Path, port: u16, version: &str| {
            let text = format!(
                "daemon off; pid {0}/pid; error_log {0}/log; worker_processes 2;\n\
                 events {{ worker_connections 1024; }}\n\
                 http {{ access_log off; server {{ listen 127.0.0.1:{port} backlog=4096;\n\
                 keepalive_requests 100000000; location / {{ default_type text/plain;\n\
                 add_header X-Served-By \"{version}/$pid\"; return 200 \"{1}\"; }} }} }}\n",
                folder.display(),
                ".".repeat(1000)
            );
            fs::write(folder.join("nginx.conf"), text).expect("nginx's configuration");
        };
        Self::start("nginx: HUP", install, |folder, _| {
            let mut command = Command::new(find_program("nginx").expect("looked for before"));
            command.arg("-c").arg(folder.join("nginx.conf")).arg("-e").arg(folder.join("log"));
            command
        })
    }
}

impl Contender for ByHup {
    fn name(&self) -> String {
        self.name.into()
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn prepare(&self) {
        (self.install)(self.folder.path(), self.port, &next(&self.version));
    }

    fn change(&self) -> String {
        proc::signal(self.pid, Signal::SIGHUP);
        self.version.get().to_string()
    }

    fn settle(&self) {}

    fn rss_kib(&self) -> u64 {
        proc::rss_kib(self.pid)
    }
}

impl Drop for ByHup {
    fn drop(&mut self) {
        proc::signal(self.pid, Signal::SIGTERM);
        if let Some(running) = self.running.take() {
            running.finish(SOON);
        }
    }
}

/// Everyone who can be had here, supd first.
pub(crate) fn all(section: &mut Section) -> Vec<Box<dyn Contender>> {
    let ours = Rc::new(Ours::start());
    let mut all: Vec<Box<dyn Contender>> = vec![
        Box::new(Swap(Rc::clone(&ours))),
        Box::new(EarlyRollback(Rc::clone(&ours))),
        Box::new(ColdRollback(ours, Cell::new(1))),
    ];
    all.extend(server_starter(section));
    if find_program("nginx").is_some() {
        all.push(Box::new(ByHup::nginx()));
    } else {
        section.skipped("nginx", "apt-get install nginx-light, or ./tests/run");
    }
    all
}

/// Whoever can go back to the version before.
pub(crate) fn ways_back(section: &mut Section) -> Vec<Box<dyn Contender>> {
    let ours = Rc::new(Ours::start());
    let way = |lives| StandbyRollback { ours: Rc::clone(&ours), lives };
    let mut all: Vec<Box<dyn Contender>> = vec![Box::new(way(true)), Box::new(way(false))];
    // It keeps no version: its way back is that the old file is put back, and HUP.
    all.extend(server_starter(section));
    all
}

fn server_starter(section: &mut Section) -> Option<Box<dyn Contender>> {
    if find_program("start_server").is_none() {
        section.skipped("Server::Starter", "apt-get install libserver-starter-perl, or ./tests/run");
        return None;
    }
    Some(Box::new(ByHup::server_starter()))
}
