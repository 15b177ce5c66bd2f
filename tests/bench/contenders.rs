//! The same worker under supd and under Server::Starter, and nginx beside them: each reloaded again
//! and again under full load.

use crate::harness::{Running, Supd, folder, free_port};
use crate::load::tally::Tally;
use crate::load::{Load, Mode, Plan, Target};
use crate::support::test::find_program;
use crate::wait::{SOON, wait_until};
use crate::{fixture, proc};
use nix::sys::signal::Signal;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const RELOADS: usize = 20;

/// Something that can bring a new version in without closing its port.
trait Contender {
    fn name(&self) -> &'static str;
    /// Brings `version` in; may return before it serves.
    fn reload(&self, version: &str);
    /// Of the supervising process, without its workers.
    fn rss_kib(&self) -> u64;
}

struct Ours(Supd);

impl Contender for Ours {
    fn name(&self) -> &'static str {
        "supd"
    }

    fn reload(&self, version: &str) {
        self.0.install_worker(version);
        self.0.ctl(&["swap", "web"]).expect(0);
    }

    fn rss_kib(&self) -> u64 {
        proc::rss_kib(self.0.pid())
    }
}

/// Server::Starter and nginx: a program that reloads on SIGHUP.
struct ByHup {
    name: &'static str,
    folder: TempDir,
    install: fn(&Path, u16, &str),
    port: u16,
    running: Option<Running>,
    pid: u32,
}

impl Contender for ByHup {
    fn name(&self) -> &'static str {
        self.name
    }

    fn reload(&self, version: &str) {
        (self.install)(self.folder.path(), self.port, version);
        proc::signal(self.pid, Signal::SIGHUP);
    }

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

fn supd(port: u16) -> Box<dyn Contender> {
    let supd = Supd::start();
    supd.install_worker("0");
    supd.launch("web", &supd.worker(port, &[], "ReadySettleSec = \"0\"", "ProbationSec = \"0\""));
    Box::new(Ours(supd))
}

/// `--interval`: a new worker that lives for a second counts as ready.
fn server_starter(port: u16) -> Box<dyn Contender> {
    let install = |folder: &Path, _: u16, version: &str| fixture::mark(&folder.join("worker"), version);
    by_hup("Server::Starter", port, install, |folder| {
        let mut command = Command::new("start_server");
        command.arg(format!("--port=127.0.0.1:{port}")).args(["--signal-on-hup=TERM", "--interval=1", "--"]);
        command.arg(folder.join("worker")).env("DAEMON_TEST_ROLE", "worker");
        command
    })
}

fn nginx(port: u16) -> Box<dyn Contender> {
    let install = |folder: &Path, port: u16, version: &str| {
        let text = format!(
            "daemon off; pid {0}/pid; error_log {0}/log; worker_processes 2;\nevents {{ worker_connections 1024; }}\n\
             http {{ access_log off; server {{ listen 127.0.0.1:{port} backlog=4096; keepalive_requests 1000000;\n\
             location / {{ add_header X-Served-By \"{version}/$pid\"; return 200 \"{1}\"; }} }} }}\n",
            folder.display(),
            ".".repeat(1000)
        );
        fs::write(folder.join("nginx.conf"), text).expect("nginx's configuration");
    };
    by_hup("nginx", port, install, |folder| {
        let mut command = Command::new(find_program("nginx").expect("nginx: ./tests/run installs it"));
        command.arg("-c").arg(folder.join("nginx.conf")).arg("-e").arg(folder.join("log"));
        command
    })
}

fn by_hup(
    name: &'static str,
    port: u16,
    install: fn(&Path, u16, &str),
    command: impl Fn(&Path) -> Command,
) -> Box<dyn Contender> {
    let folder = folder();
    install(folder.path(), port, "0");
    let running = Running::start(&mut command(folder.path()));
    let pid = running.pid();
    wait_until(&format!("{name} to listen"), SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    Box::new(ByHup { name, folder, install, port, running: Some(running), pid })
}

/// What one contender did to its clients.
struct Outcome {
    tally: Tally,
    /// From the command to the first answer of the new version, sorted.
    serving: Vec<Duration>,
}

fn measure(contender: &dyn Contender, port: u16) -> Outcome {
    let target = Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let loads = [Mode::Close, Mode::KeepAlive].map(|mode| Load::start(Plan::new(target.clone(), mode, 16)));
    let mut commands = Vec::new();
    for reload in 1..=RELOADS {
        loads.iter().for_each(|load| load.wait_for_more(1_000, SOON));
        let version = reload.to_string();
        commands.push((version.clone(), [loads[0].now(), loads[1].now()]));
        contender.reload(&version);
        wait_until("the new version to answer every client", Duration::from_secs(60), || {
            loads.iter().all(|load| load.all_on(&version))
        });
    }
    let mut serving = Vec::new();
    let mut total: Option<Tally> = None;
    for (index, load) in loads.into_iter().enumerate() {
        let tally = load.stop();
        let versions = tally.versions();
        let took =
            |(version, at): &(String, [Duration; 2])| versions[version].first.saturating_sub(at[index]);
        serving.extend(commands.iter().map(took));
        total = Some(match total {
            Some(mut total) => {
                total.absorb(tally);
                total
            }
            None => tally,
        });
    }
    serving.sort();
    Outcome { tally: total.expect("two loads"), serving }
}

pub(crate) fn reload() -> bool {
    println!(
        "{:<16} {:>9} {:>5} {:>6} {:>9} {:>9} {:>9} {:>10} {:>12} {:>8}",
        "", "requests", "lost", "idle*", "p50", "p99", "p99.9", "gap", "to serving", "RSS KiB"
    );
    let mut nothing_lost = true;
    let contenders: [fn(u16) -> Box<dyn Contender>; 3] = [supd, server_starter, nginx];
    for start in contenders {
        let port = free_port();
        let contender = start(port);
        let outcome = measure(&*contender, port);
        let (tally, speed) = (&outcome.tally, outcome.tally.speed());
        let serving = outcome.serving[outcome.serving.len() / 2];
        println!(
            "{:<16} {:>9} {:>5} {:>6} {:>9.2?} {:>9.2?} {:>9.2?} {:>10.2?} {:>12.2?} {:>8}",
            contender.name(),
            tally.answered(),
            tally.lost(),
            tally.idle.before + tally.idle.crossed,
            speed.p50,
            speed.p99,
            speed.p999,
            speed.longest_gap,
            serving,
            contender.rss_kib(),
        );
        if contender.name() == "supd" {
            nothing_lost = tally.lost() == 0;
        }
    }
    println!("* kept-alive connections that the server ended between two requests");
    nothing_lost
}
