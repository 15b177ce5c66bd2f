//! supd is killed between any two of its effects, whatever it is doing, while clients hammer the unit: nothing is
//! lost, and afterwards ledger, processes, slots and shares agree.
//!
//! There are some hundred moments; a run takes each [`STRIDE`]-th of them, and all with SUPD_MOMENTS=1.

use crate::harness::{Status, Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, proc, test, test_with};
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

pub(crate) fn tests() -> Vec<Test> {
    let python = &[Need::File("/usr/bin/python3", "apt-get install python3")];
    vec![
        test("every_moment::of_a_cold_swap", of_a_cold_swap),
        test("every_moment::of_a_warm_swap_and_back", of_a_warm_swap),
        test("every_moment::of_a_warm_swap_without_ebpf", of_a_warm_swap_without_ebpf),
        test("every_moment::of_a_canary", of_a_canary),
        test("every_moment::of_a_restart_of_many", of_a_restart),
        test("every_moment::of_a_reload", of_a_reload),
        test("every_moment::of_a_stop_and_a_start", of_a_stop),
        test("every_moment::of_a_reexec", of_a_reexec),
        test("every_moment::of_a_reexec_in_a_canary", of_a_reexec_in_a_canary),
        test_with("every_moment::of_who_binds_for_itself", python, of_who_binds),
    ]
}

/// Every how many moments supd dies.
const STRIDE: u64 = 5;

/// No command has more.
const MOMENTS_MAX: u64 = 400;

/// A unit under load, in the hands of one supd after the other.
struct Story {
    supd: Option<Supd>,
    port: u16,
    loads: Vec<Load>,
    version: u64,
}

impl Story {
    fn begin(supd: Supd, unit: impl FnOnce(&Supd, u16) -> String) -> Self {
        let port = free_port();
        supd.install_worker("1");
        supd.launch("web", &unit(&supd, port));
        let at = Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let modes = [Mode::Close, Mode::KeepAlive];
        let loads = modes.map(|mode| Load::start(Plan::new(at.clone(), mode, 2)));
        Self { supd: Some(supd), port, loads: loads.into(), version: 1 }
    }

    fn supd(&self) -> &Supd {
        self.supd.as_ref().expect("there is one, but for a moment")
    }

    /// The program on disk is another one.
    fn next_version(&mut self) {
        self.version += 1;
        self.supd().install_worker(&self.version.to_string());
    }

    /// At each moment of this command. `prepare` is done before each, and nobody dies of it.
    fn at_every_moment(&mut self, prepare: impl Fn(&mut Self), command: &[&str], settled: &[&str]) {
        let stride = match std::env::var("SUPD_MOMENTS").map(|text| text.parse()) {
            Ok(Ok(stride)) => stride,
            Ok(Err(_)) | Err(_) => STRIDE,
        };
        // Of a command that has but a few the first is taken; of the others now these, now those.
        let others = 1 + u64::from(self.port) % stride..MOMENTS_MAX;
        let others = others.step_by(usize::try_from(stride).expect("a few"));
        let moments = std::iter::once(0).chain(others);
        for (died, moment) in moments.enumerate() {
            prepare(self);
            self.supd().dies_after(moment);
            let asked = self.supd().ctl_start(command).finish(SOON);
            if !self.supd().has_died() {
                assert!(died > 0, "{command:?} has no moments: {asked}");
                asked.expect(0);
                return;
            }
            self.supd = self.supd.take().map(Supd::restart_ended);
            self.agrees(settled, &format!("{command:?}, {moment} moments on: {asked}"));
        }
        panic!("{command:?} has no end");
    }

    /// What is said of it is what there is.
    fn agrees(&mut self, settled: &[&str], when: &str) {
        let supd = self.supd();
        let status = wait_for(&format!("it to settle after {when}\n{}", supd.log()), SOON, || {
            let status = supd.status("web");
            (settled.contains(&status.state()) && no_candidate(&status)).then_some(status)
        });
        let told: BTreeSet<u32> = status.pids().into_iter().collect();
        let needle = supd.runtime().join("notify").to_string_lossy().into_owned();
        wait_until(&format!("only {told:?} to live after {when}\n{}", supd.log()), SOON, || {
            let alive: BTreeSet<u32> = proc::with_environment(&needle, &[]).into_iter().collect();
            alive == supd.status("web").pids().into_iter().collect()
        });
        let recorded = || fs::read_dir(supd.runtime().join("workers")).expect("a folder").count();
        let each = || recorded() == supd.status("web").pids().len();
        wait_until(&format!("each to be recorded after {when}"), SOON, each);
        if status.state() == "active" {
            let active = status.active().expect("it is active");
            assert!(!status.pids_in(active).is_empty(), "{when}: {}", status.0);
            let lost: u64 = self.loads.iter().map(Load::lost).sum();
            assert_eq!(lost, 0, "{when}\n{}", supd.log());
            self.loads.iter().for_each(|load| load.wait_for_more(20, SOON));
        }
    }

    /// A swap and a way back, with nobody dying, and nothing was ever lost.
    fn ends(mut self) {
        self.next_version();
        self.supd().ctl(&["swap", "web"]).expect(0);
        self.loads.iter().for_each(|load| load.wait_for_more(50, SOON));
        self.supd().ctl(&["rollback", "web"]).expect(0);
        self.loads.iter().for_each(|load| load.wait_for_more(50, SOON));
        for load in std::mem::take(&mut self.loads) {
            let tally = load.stop();
            assert_eq!(tally.lost(), 0, "{tally}\n{}", self.supd().log());
        }
    }
}

/// Nothing is on its way.
fn no_candidate(status: &Status) -> bool {
    let generations = status.0["generations"].as_array().cloned().unwrap_or_default();
    generations.iter().all(|one| matches!(one["state"].as_str(), Some("active" | "standby")))
}

const QUICK: &str = "ProbationSec = \"100ms\"\nSettleSec = \"100ms\"\nDrainSec = \"500ms\"";

fn of_a_cold_swap() {
    let mut story = Story::begin(Supd::start(), |supd, port| supd.worker(port, &[], "", QUICK));
    story.at_every_moment(Story::next_version, &["swap", "web"], &["active"]);
    story.ends();
}

fn warm(supd: Supd) {
    let swap = format!("{QUICK}\nRetain = \"warm\"");
    let mut story = Story::begin(supd, |supd, port| supd.worker(port, &[], "", &swap));
    story.at_every_moment(Story::next_version, &["swap", "web"], &["active"]);
    let forward = |story: &mut Story| {
        story.next_version();
        story.supd().ctl(&["swap", "web"]).expect(0);
    };
    story.at_every_moment(forward, &["rollback", "web"], &["active"]);
    story.ends();
}

fn of_a_warm_swap() {
    warm(Supd::start());
}

fn of_a_warm_swap_without_ebpf() {
    warm(Supd::without_ebpf());
}

fn of_a_canary() {
    let mut story = Story::begin(Supd::start(), |supd, port| supd.worker(port, &[], "", QUICK));
    let begun = |story: &mut Story| {
        story.next_version();
        story.supd().ctl(&["swap", "web", "--canary", "20%"]).expect(0);
    };
    story.at_every_moment(begun, &["promote", "web"], &["active"]);
    story.at_every_moment(Story::next_version, &["swap", "web", "--canary", "20%"], &["active", "canary"]);
    story.supd().ctl(&["abort", "web"]).expect(0);
    story.ends();
}

fn of_a_restart() {
    let unit = |supd: &Supd, port| supd.worker(port, &[], "Workers = 4", QUICK);
    let mut story = Story::begin(Supd::start(), unit);
    story.at_every_moment(|_| (), &["restart", "web"], &["active"]);
    story.ends();
}

fn of_a_reexec() {
    let swap = format!("{QUICK}\nRetain = \"warm\"");
    let mut story = Story::begin(Supd::start(), |supd, port| supd.worker(port, &[], "Workers = 2", &swap));
    let forward = |story: &mut Story| {
        story.next_version();
        story.supd().ctl(&["swap", "web"]).expect(0);
    };
    story.at_every_moment(forward, &["reexec"], &["active"]);
    story.ends();
}

/// Either image has it, or nobody, and then it is given up.
fn of_a_reexec_in_a_canary() {
    let unit = |supd: &Supd, port| supd.worker(port, &[], "", QUICK);
    let mut story = Story::begin(Supd::start(), unit);
    let begun = |story: &mut Story| {
        if story.supd().status("web").state() == "canary" {
            story.supd().ctl(&["abort", "web"]).expect(0);
        }
        story.next_version();
        story.supd().ctl(&["swap", "web", "--canary", "20%"]).expect(0);
    };
    story.at_every_moment(begun, &["reexec"], &["active", "canary"]);
    assert_eq!(story.supd().status("web").state(), "canary", "{}", story.supd().log());
    story.supd().ctl(&["promote", "web"]).expect(0);
    story.ends();
}

fn of_a_reload() {
    let mut story = Story::begin(Supd::start(), |supd, port| supd.worker(port, &[], "", QUICK));
    let changed = |story: &mut Story| {
        let (supd, port) = (story.supd(), story.port);
        // Another listener, and none.
        let other = format!("[[Socket]]\nName = \"other\"\nListenStream = \"127.0.0.1:{}\"\n\n", free_port());
        let plain = supd.worker(port, &[], "", QUICK);
        let more = story.version % 2 == 1;
        supd.write_unit(
            "web",
            &if more { plain.replacen("[Service]", &format!("{other}[Service]"), 1) } else { plain },
        );
        story.version += 1;
    };
    story.at_every_moment(changed, &["daemon-reload"], &["active"]);
    let plain = story.supd().worker(story.port, &[], "", QUICK);
    story.supd().write_unit("web", &plain);
    story.supd().ctl(&["daemon-reload"]).expect(0);
    // Each supd died before it had copied the program, which is about to be another one.
    let copied = || {
        let status = story.supd().status("web");
        let generations = status.0["generations"].as_array().cloned().unwrap_or_default();
        generations.iter().all(|one| one["pinned"] == serde_json::Value::Bool(true))
    };
    wait_until("the program to be copied", SOON, copied);
    story.ends();
}

/// What a stop cuts is no loss; what was asked for is what there is.
fn of_a_stop() {
    let mut story = Story::begin(Supd::start(), |supd, port| supd.worker(port, &[], "", QUICK));
    story.loads.drain(..).for_each(|load| drop(load.stop()));
    let started = |story: &mut Story| drop(story.supd().ctl(&["start", "web"]).expect(0));
    story.at_every_moment(started, &["stop", "web"], &["active", "stopped"]);
    let stopped = |story: &mut Story| drop(story.supd().ctl(&["stop", "web"]).expect(0));
    story.at_every_moment(stopped, &["start", "web"], &["active", "stopped"]);
    story.supd().ctl(&["start", "web"]).expect(0);
    story.ends();
}

fn of_who_binds() {
    let unit = |supd: &Supd, port: u16| {
        let program = supd.app().join("server.py");
        fs::write(&program, BINDS).expect("a program");
        format!(
            "[[Socket]]\nName = \"http\"\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\n\
             ExecStart = [\"/usr/bin/python3\", {program:?}, \"{port}\"]\nHandoff = \"intercept\"\n\
             ReadySettleSec = \"100ms\"\n\n[Swap]\n{QUICK}\nRetain = \"warm\"\n"
        )
    };
    let mut story = Story::begin(Supd::start(), unit);
    // It is dead at once when it is told to stop, with whoever has a connection for longer than DrainSec.
    drop(story.loads.remove(1).stop());
    story.at_every_moment(|_| (), &["swap", "web"], &["active"]);
    story.ends();
}

/// A server that binds for itself, and knows of no version.
const BINDS: &str = "
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = 'HTTP/1.1', -1, True
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '2')
        self.send_header('X-Served-By', '1/1')
        self.end_headers()
        self.wfile.write(b'ok')
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";
