//! Warm ways forward and back: a deploy, a rollback to the standby, and forward to it again, ten times,
//! under wrk from the first to the last, with new connections and with kept-alive ones.
//!
//! Two of the servers know no graceful stop at all. Nobody is told to stop before the last of its
//! connections has ended, and the clients end theirs by themselves ([`Wrk::start_renewing`]): so here
//! nothing is allowed for, neither a server's own stop nor an idle close.

use super::{DIST, haproxy};
use crate::harness::{Status, Supd, free_port, whole_machine};
use crate::load::wrk::{Summary, Wrk};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::wait_until;
use crate::{Need, Test, examples, test_with};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

const WRK: Need = Need::Program("wrk", "wrk");

pub(super) fn tests() -> Vec<Test> {
    vec![
        test_with("servers::warm::gunicorn", &[WRK, Need::Program("gunicorn", "gunicorn")], gunicorn),
        test_with("servers::warm::node", &[WRK, Need::Program("node", "nodejs")], node),
        test_with("servers::warm::haproxy", &[WRK, Need::Program("haproxy", "haproxy")], haproxy),
        test_with("servers::warm::http_server", &[WRK], http_server),
    ]
}

fn gunicorn() {
    let unit = |address: &str, app: &Path| examples::unit("python/web.unit", address, app);
    to_and_fro("gunicorn", &unit, "python/app");
}

fn node() {
    to_and_fro("node", &tutorial, "");
}

fn haproxy() {
    to_and_fro("haproxy", &haproxy::released, "");
}

fn http_server() {
    let unit = |address: &str, app: &Path| examples::unit("warm/web.unit", address, app);
    to_and_fro("http.server", &unit, "warm/app");
}

const ROUNDS: u64 = 10;
/// So many answers between two commands, by clients that know who answers.
const BETWEEN: u64 = 40;
/// A bound for what keeps everything busy.
const BUSY: Duration = Duration::from_secs(60);

/// The first page of any tutorial: it does not say when it serves, and is dead at once at SIGTERM.
fn tutorial(address: &str, _: &Path) -> String {
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = \"{address}\"\nBacklog = 4096\n\n[Service]\n\
         Releases = true\nExecStart = [\"node\", \"abrupt.js\"]\nReady = \"tcp\"\n\n[Swap]\n"
    )
}

/// The unit with a standby, and without a wait that is not the point here.
fn warm(unit: &str) -> String {
    const SERVICE: [&str; 1] = ["ReadySettleSec = \"200ms\""];
    const SWAP: [&str; 5] = [
        "Retain = \"warm\"",
        "ProbationSec = \"0\"",
        "SettleSec = \"500ms\"",
        "DrainSec = \"60s\"",
        "MaxGenerations = 8",
    ];
    let key = |line: &str| line.split(" = ").next().unwrap_or_default().to_owned();
    let mut text = String::new();
    for line in unit.lines().filter(|line| !SERVICE.iter().chain(&SWAP).any(|own| key(own) == key(line))) {
        text += &format!("{line}\n");
        let own: &[&str] = match line {
            "[Service]" => &SERVICE,
            "[Swap]" => &SWAP,
            _ => &[],
        };
        own.iter().for_each(|own| text += &format!("{own}\n"));
    }
    text
}

/// Of a version that is to become a release: an example's folder, or all the small applications.
fn dist(example: &str, dist: &Path) {
    if example.is_empty() {
        fs::create_dir(dist).expect("a folder");
        super::copy_apps(dist);
        haproxy::released_configuration(dist);
    } else {
        examples::copy(example, dist);
    }
}

/// A server under load, and who was to answer when.
struct Course {
    supd: Supd,
    load: Load,
    /// From the answer of a command until before the next: the label that answered alone.
    turns: Vec<(Duration, Duration, String)>,
}

fn to_and_fro(name: &str, unit: &dyn Fn(&str, &Path) -> String, example: &str) {
    let _machine = whole_machine();
    let supd = Supd::start();
    let app = supd.app();
    dist(example, &app.join(DIST));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    supd.write_unit("web", &warm(&unit(&address.to_string(), &app)));
    supd.ctl(&["daemon-reload"]).expect(0);
    let first = app.join(DIST);
    supd.ctl(&["deploy", "web", "1", first.to_str().expect("a plain path")]).expect(0);

    let wrk = [true, false].map(|close| Wrk::start_renewing(address, 8, close));
    let load = Load::start(Plan::new(Target::Tcp(address), Mode::Close, 2));
    let mut course = Course { supd, load, turns: Vec::new() };
    for round in 1..=ROUNDS {
        let (old, new) = (round.to_string(), (round + 1).to_string());
        course.deploy(&new);
        course.switch(&["rollback", "web"], &old);
        course.switch(&["swap", "web", &new], &new);
    }
    course.finish(name, &wrk.map(Wrk::stop));
}

impl Course {
    /// What `status` says, without the count of connections, which there is one of in a second.
    fn glance(&self) -> Status {
        let output = self.supd.ctl(&["--json", "status", "--check", "web"]);
        let value: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
        Status(value)
    }

    fn generations(&self) -> usize {
        self.glance().0["generations"].as_array().map_or(0, Vec::len)
    }

    /// The one before stands by from here on, and the one before that is let go.
    fn deploy(&mut self, label: &str) {
        wait_until("room for another generation", BUSY, || self.generations() < 7);
        let dist = self.supd.app().join(DIST);
        self.take(&["deploy", "web", label, dist.to_str().expect("a plain path")], label);
    }

    /// Between the two that live: nothing is launched, nothing ends.
    fn switch(&mut self, command: &[&str], label: &str) {
        let before = self.glance();
        let (from, back) = (before.active().expect("active"), before.retained());
        self.take(command, label);
        let after = self.glance();
        let active = after.active().expect("active");
        assert_ne!(active, from, "{command:?}: {}", after.0);
        if command[0] == "rollback" {
            assert_eq!(Some(active), back, "{command:?}: {}", after.0);
        }
        for one in [from, active] {
            assert!(!before.pids_in(one).is_empty(), "{command:?}: generation {one} is new: {}", after.0);
            assert_eq!(before.pids_in(one), after.pids_in(one), "{command:?}: {}", after.0);
        }
        assert_eq!(before.newest(), after.newest(), "{command:?} launched one: {}", after.0);
    }

    fn take(&mut self, command: &[&str], label: &str) {
        self.supd.ctl(command).expect(0);
        let from = self.load.now();
        self.load.wait_for_more(BETWEEN, BUSY);
        self.turns.push((from, self.load.now(), label.to_owned()));
    }

    fn finish(self, name: &str, wrk: &[Summary; 2]) {
        let tally = self.load.stop();
        println!("--- {name} ---\n{tally}");
        for (summary, kind) in wrk.iter().zip(["new connections", "kept-alive connections"]) {
            println!("{kind}: {} requests by wrk", summary.requests);
            assert!(summary.requests > 200, "{name}: hardly a load: {}", summary.text);
            assert_eq!(summary.errors(), 0, "{name}, {kind}:\n{}", summary.text);
        }
        assert_eq!(tally.lost(), 0, "{name}: {tally}");
        let labels: Vec<String> = tally.versions().into_keys().collect();
        let mut wanted: Vec<String> = (1..=ROUNDS + 1).map(|label| label.to_string()).collect();
        wanted.sort();
        assert_eq!(labels, wanted, "{name}: who answered at all");
        for (from, to, label) in &self.turns {
            let answered = tally.versions_within(*from, *to);
            assert!(answered.keys().eq([label]), "{name}: {answered:?} from {from:?} to {to:?}: {tally}");
        }
        wait_until("two generations to be left", BUSY, || {
            self.supd.status("web").0["generations"].as_array().is_some_and(|all| all.len() == 2)
        });
        let log = self.supd.log();
        assert!(!log.contains("told to stop with"), "{name}: a connection was cut:\n{log}");
    }
}
