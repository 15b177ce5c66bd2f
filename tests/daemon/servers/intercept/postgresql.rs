//! PostgreSQL (Debian: 15) on one folder of data: only one may run at a time. It accepts clients long before
//! it takes queries, and says READY=1 when it does. SIGINT ends it "fast": the sessions that are open then
//! are told so.

use super::{example, instead};
use crate::harness::{Supd, free_port};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, test_with};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::intercept::postgresql", &[Need::Program("pgbench", "postgresql")], postgresql)]
}

/// So long it is asked, replaced, and led back.
const LOAD_SECONDS: u32 = 40;
/// Often at the least.
const ROUNDS: usize = 3;

fn postgresql() {
    let supd = Supd::start();
    let port = free_port();
    let data = supd.app().join("data");
    let programs = programs();
    cluster(&programs, &data);
    supd.launch("db", &unit(&programs, &data, port));
    query(port, "CREATE TABLE seen (number int)");
    let filled = pgbench(port).args(["-i", "-q", "postgres"]).output().expect("pgbench");
    assert!(filled.status.success(), "{filled:?}");
    let mut load = Load::start(port);
    let mut rounds = 0;
    while load.runs() {
        more(port, &mut load);
        let told = supd.ctl(&["swap", "db"]).expect(0);
        assert!(told.text().contains("new connections waited for"), "{told}");
        query(port, &format!("INSERT INTO seen VALUES ({rounds})"));
        more(port, &mut load);
        let told = supd.ctl(&["rollback", "db"]).expect(0);
        assert!(told.text().contains("new connections waited for"), "{told}");
        rounds += 1;
        assert_eq!(query(port, "SELECT count(*) FROM seen"), rounds.to_string());
        assert_eq!(supd.status("db").pids().len(), 1, "{}", supd.status("db").0);
    }
    assert!(rounds >= ROUNDS, "{rounds} rounds in {LOAD_SECONDS} s");
    eprintln!("{rounds} rounds:\n{}", load.finish());
    let logs = supd.path().join("state/logs/db");
    for log in fs::read_dir(logs).expect("its logs").flatten() {
        let text = fs::read_to_string(log.path()).expect("a log");
        assert!(!text.contains("FATAL"), "{}:\n{text}", log.path().display());
    }
}

/// Where the programs of the server are.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("a version of it").flatten();
    let there = |path: &PathBuf| path.join("postgres").exists();
    versions.map(|version| version.path().join("bin")).find(there).expect("its server")
}

/// A command as a user that the server accepts: it refuses to be root's.
fn command(program: &Path) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command
}

fn cluster(programs: &Path, data: &Path) {
    fs::create_dir(data).expect("a folder");
    if nix::unistd::geteuid().is_root() {
        let user = nix::unistd::User::from_name("postgres").expect("the accounts").expect("its account");
        std::os::unix::fs::chown(data, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .expect("chown as root");
    }
    let made = command(&programs.join("initdb"))
        .args(["--auth=trust", "--username=postgres", "--no-sync", "-D"])
        .arg(data)
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("initdb").success());
}

/// The example as it is, but for its port and its folder.
fn unit(programs: &Path, data: &Path, port: u16) -> String {
    let start = format!(
        "ExecStart = [{:?}, \"-D\", {data:?}, \"-c\", \"listen_addresses=127.0.0.1\", \"-c\", \"port={port}\", \
         \"-c\", \"unix_socket_directories=\"]",
        programs.join("postgres")
    );
    let unit = instead(&example("postgresql.unit", &format!("127.0.0.1:{port}")), "ExecStart = ", &start);
    // Less than nothing is root's alone to ask for.
    instead(&unit, "OOMScoreAdjust", "")
}

/// Waits until every client was served again: whose first packet was dropped comes again a second later.
fn more(port: u16, load: &mut Load) {
    let count = || query(port, "SELECT count(*) FROM pgbench_history").parse::<u64>().expect("a count");
    let before = count();
    wait_until("more transactions, or none any more", SOON, || !load.runs() || count() > before + 40);
}

fn query(port: u16, text: &str) -> String {
    let port = port.to_string();
    let output = Command::new("psql")
        .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-Atqc", text, "postgres"])
        .output()
        .expect("psql");
    assert!(output.status.success(), "{text}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn pgbench(port: u16) -> Command {
    let mut command = Command::new("pgbench");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres"]).stdin(Stdio::null());
    command
}

/// Four clients, each with a thread of its own: to connect takes as long as nobody serves. Each transaction has
/// a connection of its own, and a client ends with its first that fails.
struct Load(Option<Child>);

impl Load {
    fn start(port: u16) -> Self {
        let seconds = LOAD_SECONDS.to_string();
        let mut command = pgbench(port);
        command.args(["-n", "-C", "-c4", "-j4", "-T", &seconds, "postgres"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().expect("pgbench")))
    }

    fn runs(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| child.try_wait().expect("its end").is_none())
    }

    fn finish(mut self) -> String {
        let child = self.0.take().expect("it is waited for once");
        let output = child.wait_with_output().expect("its summary");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert!(text.contains("number of failed transactions: 0 "), "{text}");
        text
    }
}

/// A test that fails leaves none behind.
impl Drop for Load {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
