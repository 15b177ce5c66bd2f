//! Warm ways forward and back: a deploy, a rollback to the standby, and forward to it again, ten times,
//! under wrk from the first to the last, with new connections and with kept-alive ones.
//!
//! Two of the servers know no graceful stop at all. Nobody is told to stop before the last of its
//! connections has ended, and the clients end theirs by themselves ([`Wrk::start_renewing`]): so here
//! nothing is allowed for, neither a server's own stop nor an idle close.

use super::{DIST, haproxy};
use crate::harness::{Status, Supd, free_port, whole_machine};
use crate::load::tally::Tally;
use crate::load::wrk::{Summary, Wrk};
use crate::load::{Load, Mode, Plan, Speaks, Target};
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
    let example = |dist: &Path, _| examples::copy("python/app", dist);
    Walk::http("gunicorn", &unit, &example).to_and_fro();
}

fn node() {
    Walk::http("node", &tutorial, &|dist, _| apps(dist)).to_and_fro();
}

fn haproxy() {
    Walk::http("haproxy", &haproxy::released, &|dist, _| apps(dist)).to_and_fro();
}

fn http_server() {
    let unit = |address: &str, app: &Path| examples::unit("warm/web.unit", address, app);
    let example = |dist: &Path, _| examples::copy("warm/app", dist);
    Walk::http("http.server", &unit, &example).to_and_fro();
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

/// All the small applications, as a version that is to become a release.
fn apps(dist: &Path) {
    fs::create_dir(dist).expect("a folder");
    super::copy_apps(dist);
    haproxy::released_configuration(dist);
}

/// A server that is led to and fro.
pub(super) struct Walk<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'a dyn Fn(&str, &Path) -> String,
    /// Makes the folder that is to become each release; the address is where the server is to be.
    pub(super) dist: &'a dyn Fn(&Path, SocketAddr),
    /// What its clients speak: HTTP's are joined by wrk.
    pub(super) speaks: Speaks,
    /// Whether it is to be asked over UDP, too.
    pub(super) udp: bool,
}

/// A server under load, and who was to answer when.
struct Course {
    supd: Supd,
    /// Clients that know who answers, each question by a way of its own.
    loads: Vec<Load>,
    /// From the answer of a command until before the next, by the clock of each load: the label that
    /// answered alone.
    turns: Vec<(Vec<(Duration, Duration)>, String)>,
}

impl<'a> Walk<'a> {
    pub(super) fn http(
        name: &'a str,
        unit: &'a dyn Fn(&str, &Path) -> String,
        dist: &'a dyn Fn(&Path, SocketAddr),
    ) -> Self {
        Self { name, unit, dist, speaks: Speaks::Http, udp: false }
    }

    pub(super) fn to_and_fro(&self) {
        let _machine = whole_machine();
        let supd = Supd::start();
        let app = supd.app();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        (self.dist)(&app.join(DIST), address);
        supd.write_unit("web", &warm(&(self.unit)(&address.to_string(), &app)));
        supd.ctl(&["daemon-reload"]).expect(0);
        let mut course = Course { supd, loads: Vec::new(), turns: Vec::new() };
        course.bring("1");

        let wrk = self.wrk(address);
        course.loads = self.loads(address);
        let kept = (self.speaks != Speaks::Http).then(|| Load::start(self.kept(address)));
        for round in 1..=ROUNDS {
            let (old, new) = (round.to_string(), (round + 1).to_string());
            course.deploy(&new);
            course.switch(&["rollback", "web"], &old);
            course.switch(&["swap", "web", &new], &new);
        }
        let wrk: Vec<Summary> = wrk.into_iter().map(Wrk::stop).collect();
        if let Some(tally) = kept.map(Load::stop) {
            println!("--- {}, kept connections ---\n{tally}", self.name);
            assert!(tally.answered() > 200 && tally.lost() == 0, "{}: {tally}", self.name);
        }
        course.finish(self.name, &wrk);
    }

    fn wrk(&self, address: SocketAddr) -> Vec<Wrk> {
        let kinds: &[bool] = if self.speaks == Speaks::Http { &[true, false] } else { &[] };
        kinds.iter().map(|close| Wrk::start_renewing(address, 8, *close)).collect()
    }

    fn loads(&self, address: SocketAddr) -> Vec<Load> {
        let targets = [Some(Target::Tcp(address)), self.udp.then_some(Target::Udp(address))];
        let plan = |target| Plan { speaks: self.speaks, ..Plan::new(target, Mode::Close, 2) };
        targets.into_iter().flatten().map(|target| Load::start(plan(target))).collect()
    }

    /// What wrk does to the others: connections that their clients end, in their own time.
    fn kept(&self, address: SocketAddr) -> Plan {
        let plan = Plan::new(Target::Tcp(address), Mode::KeepAlive, 4);
        Plan { speaks: self.speaks, renew_every: Some(500), ..plan }
    }
}

impl Course {
    /// Deploys what lies there, with a page that says who serves it: a server of files cannot say it else.
    fn bring(&self, label: &str) {
        let dist = self.supd.app().join(DIST);
        fs::write(dist.join("index.html"), format!("X-Served-By: {label}/0\n")).expect("the page");
        self.supd.ctl(&["deploy", "web", label, dist.to_str().expect("a plain path")]).expect(0);
    }

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
        self.bring(label);
        self.stay(label);
    }

    /// Between the two that live: nothing is launched, nothing ends.
    fn switch(&mut self, command: &[&str], label: &str) {
        let before = self.glance();
        let (from, back) = (before.active().expect("active"), before.retained());
        self.supd.ctl(command).expect(0);
        self.stay(label);
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

    /// This one alone answers from now on until the next command.
    fn stay(&mut self, label: &str) {
        let from: Vec<Duration> = self.loads.iter().map(Load::now).collect();
        self.loads.iter().for_each(|load| load.wait_for_more(BETWEEN, BUSY));
        let spans = from.into_iter().zip(self.loads.iter().map(Load::now)).collect();
        self.turns.push((spans, label.to_owned()));
    }

    fn finish(self, name: &str, wrk: &[Summary]) {
        let tallies: Vec<Tally> = self.loads.into_iter().map(Load::stop).collect();
        for (at, tally) in tallies.iter().enumerate() {
            println!("--- {name} ---\n{tally}");
            assert_eq!(tally.lost(), 0, "{name}: {tally}");
            let turns = self.turns.iter().map(|(spans, label)| (spans[at], label));
            answered_in_turn(name, tally, turns);
        }
        for (summary, kind) in wrk.iter().zip(["new connections", "kept-alive connections"]) {
            println!("{kind}: {} requests by wrk", summary.requests);
            assert!(summary.requests > 200, "{name}: hardly a load: {}", summary.text);
            assert_eq!(summary.errors(), 0, "{name}, {kind}:\n{}", summary.text);
        }
        wait_until("two generations to be left", BUSY, || {
            self.supd.status("web").0["generations"].as_array().is_some_and(|all| all.len() == 2)
        });
        let log = self.supd.log();
        assert!(!log.contains("told to stop with"), "{name}: a connection was cut:\n{log}");
    }
}

/// Everybody was asked in its turn, and nobody else.
fn answered_in_turn<'a>(
    name: &str,
    tally: &Tally,
    turns: impl Iterator<Item = ((Duration, Duration), &'a String)>,
) {
    let labels: Vec<String> = tally.versions().into_keys().collect();
    let mut wanted: Vec<String> = (1..=ROUNDS + 1).map(|label| label.to_string()).collect();
    wanted.sort();
    assert_eq!(labels, wanted, "{name}: who answered at all");
    for ((from, to), label) in turns {
        let answered = tally.versions_within(from, to);
        assert!(answered.keys().eq([label]), "{name}: {answered:?} from {from:?} to {to:?}: {tally}");
    }
}
