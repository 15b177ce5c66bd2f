//! Real servers, swapped and rolled back under load. What each one does at its graceful signal is
//! written at the head of its file, as it was found by hand with a launcher of twenty lines.
//!
//! Where it can be, the server is a worked example of units/, with the unit file that is there. Each
//! version is a release then, deployed; or a file (or its configuration) that the test rewrites before a
//! swap: without releases a swap launches what is on disk now.
//!
//! Each generation has a slot of its own, and what it has accepted is its own: it is told to stop once
//! the clients have ended these connections. Where one is left then, the server's graceful stop decides
//! about it. What HTTP lets it end between two
//! requests is counted apart by the load and shown. A new connection that it accepted and closes unread
//! in its stop is a loss of the server's own making, which a longer DrainSec would cure: it is shown
//! apart too, but only where the server's own records name that very connection
//! ([`Server::closed_unread`]). Everything else counts as lost, and nothing may be.

mod go;
mod gunicorn;
mod haproxy;
mod intercept;
mod jetty;
mod lighttpd;
mod node;
mod puma;
mod rust;
mod udp;
mod unix;
mod uvicorn;
mod warm;

use crate::harness::{Output, Supd, free_port, whole_machine};
use crate::load::tally::{Kind, Loss, Tally};
use crate::load::wrk::Wrk;
use crate::load::{Load, Mode, Plan, Target};
use crate::proc;
use crate::wait::{SOON, wait_until};
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Each server answers at least this many requests in its test.
const REQUESTS: u64 = 20_000;
/// Between two commands: enough for every client to have asked again and again.
const BETWEEN: u64 = 300;

pub(crate) fn tests() -> Vec<crate::Test> {
    [
        go::tests(),
        gunicorn::tests(),
        haproxy::tests(),
        intercept::tests(),
        jetty::tests(),
        lighttpd::tests(),
        node::tests(),
        puma::tests(),
        rust::tests(),
        udp::tests(),
        unix::tests(),
        uvicorn::tests(),
        warm::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Where a version lies that is to become a release.
const DIST: &str = "dist";

/// A server under test.
struct Server {
    name: &'static str,
    /// Whether [`install`](Self::install) changes a file that the program reads: then a cold
    /// rollback cannot know what it brings back, and needs `--anyway`.
    interpreted: bool,
    /// Each version is deployed as a release, from the folder [`DIST`] beside it; otherwise what is on
    /// disk is swapped to.
    releases: bool,
    /// `[[Socket]]` and what follows, for a listener at `address`, with files in `app`.
    unit: fn(address: &str, app: &Path) -> String,
    /// Puts a version on disk.
    install: fn(app: &Path, version: &str),
    /// On a UNIX path in place of TCP.
    unix: bool,
    /// See [`Plan::half_closes`].
    half_closes: bool,
    /// Each n-th request is a slow one, for servers that have such a page.
    slow_every: Option<u64>,
    /// Ports of the clients whose connections the server accepted and then closed in its own
    /// graceful stop without having read a request, by its own records.
    closed_unread: fn(app: &Path) -> Vec<u16>,
    /// How many requests the server itself answered with 5xx in a graceful stop that it got wrong, by
    /// its own log, until now.
    own_failures: fn(app: &Path) -> u64,
    /// Proves more from the server's own records, once everything has ended.
    afterwards: fn(app: &Path, total: &Totals),
}

/// What the loads of one test found, added up.
#[derive(Default)]
struct Totals {
    answered: u64,
    by_half: u64,
    wrk_requests: u64,
    /// Losses that [`Server::closed_unread`] accounts for.
    own_making: u64,
}

impl Server {
    fn new(name: &'static str, unit: fn(&str, &Path) -> String, install: fn(&Path, &str)) -> Self {
        Self {
            name,
            interpreted: true,
            releases: false,
            unit,
            install,
            unix: false,
            half_closes: false,
            slow_every: Some(100),
            closed_unread: |_| Vec::new(),
            own_failures: |_| 0,
            afterwards: |_, _| {},
        }
    }

    /// One whose versions are releases. What `install` puts into [`DIST`] need not differ.
    fn released(name: &'static str, unit: fn(&str, &Path) -> String, install: fn(&Path, &str)) -> Self {
        Self { releases: true, interpreted: false, ..Self::new(name, unit, install) }
    }

    /// The whole of it: swap, rollback before commit, rollback after it; each answer by the right
    /// version, nothing lost.
    fn swaps_and_rolls_back(&self) {
        let _machine = whole_machine();
        let supd = Supd::start();
        let app = supd.app();
        copy_apps(&app);
        let (address, target) = if self.unix {
            let path = supd.path().join("web.sock");
            (path.to_string_lossy().into_owned(), Target::Unix(path))
        } else {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            (address.to_string(), Target::Tcp(address))
        };
        let unit = (self.unit)(&address, &app);
        let unit = unit.replace("[Swap]\n", "[Swap]\nSettleSec = \"500ms\"\n");
        supd.write_unit("web", &unit);
        supd.ctl(&["daemon-reload"]).expect(0);
        let (totals, report) = (Totals::default(), String::new());
        let mut test = Course { server: self, supd: &supd, unit, target, totals, failures: 0, report };
        test.install("1");
        test.take("1", &[]);

        test.swap("2");
        test.roll_back_before_commit("3", "2");
        test.roll_back_after_commit("4", "2");
        if !self.unix {
            test.wrk_agrees(["5", "6"]);
        }
        test.reach(REQUESTS);

        let Course { totals, report, .. } = test;
        let name = self.name;
        println!(
            "--- {name}: {} requests, {} of them by wrk; 0 lost, {} by the server's own stop \
             ---\n{report}",
            totals.answered + totals.wrk_requests,
            totals.wrk_requests,
            totals.own_making
        );
        drop(supd.ctl(&["stop", "web"]).expect(0));
        (self.afterwards)(&app, &totals);
    }
}

/// One server's test under way.
struct Course<'a> {
    server: &'a Server,
    supd: &'a Supd,
    unit: String,
    target: Target,
    totals: Totals,
    /// [`Server::own_failures`] that are accounted for.
    failures: u64,
    report: String,
}

/// New connections for each request, and kept-alive ones, busy and idle, side by side.
struct Loads {
    close: Load,
    busy: Load,
    idle: Load,
}

impl Course<'_> {
    fn install(&self, version: &str) {
        (self.server.install)(&self.supd.app(), version);
    }

    /// Swaps to the version that was installed last; whether from the disk or as a release.
    fn take(&self, version: &str, flags: &[&str]) -> Output {
        let dist = self.supd.app().join(DIST);
        let dist = dist.to_str().expect("a plain path");
        let line =
            if self.server.releases { &["deploy", "web", version, dist][..] } else { &["swap", "web"] };
        self.supd.ctl(&[line, flags].concat()).expect(0)
    }

    fn load(&self) -> Loads {
        let plan = |mode, connections| {
            let mut plan = Plan::new(self.target.clone(), mode, connections);
            plan.slow_every = self.server.slow_every;
            plan.half_closes = self.server.half_closes;
            plan
        };
        let loads = Loads {
            close: Load::start(plan(Mode::Close, 8)),
            busy: Load::start(plan(Mode::KeepAlive, 4)),
            idle: Load::start(plan(Mode::KeepAlive, 8).think(Duration::from_millis(20))),
        };
        loads.run_on();
        loads
    }

    /// Swaps to `version`; from the answer of supctl on, nobody else answers.
    fn swap(&mut self, version: &str) {
        let before = self.supd.status("web");
        self.install(version);
        let loads = self.load();
        let output = self.take(version, &[]);
        self.finish(loads, &format!("swap to {version}"), version, &output);
        self.old_is_gone(&before.pids());
        let status = self.supd.status("web");
        assert_eq!(status.state(), "active");
        assert_ne!(status.active(), before.active(), "the same generation is active after a swap");
    }

    /// Switches to `bad`, and back while `good` still runs: nothing is launched for that.
    fn roll_back_before_commit(&mut self, bad: &str, good: &str) {
        let before = self.supd.status("web");
        self.install(bad);
        self.supd.write_unit("web", &long_probation(&self.unit));
        let loads = self.load();
        self.take(bad, &["--wait=active"]);
        self.supd.write_unit("web", &self.unit);
        let candidate = self.supd.status("web");
        assert_eq!(candidate.state(), "probation", "{}", candidate.0);
        loads.run_on();
        let output = self.supd.ctl(&["rollback", "web"]).expect(0);
        let gone: Vec<u32> =
            candidate.pids().into_iter().filter(|pid| !before.pids().contains(pid)).collect();
        self.finish(loads, &format!("rollback from {bad} before commit"), good, &output);
        self.old_is_gone(&gone);
        let after = self.supd.status("web");
        assert_eq!(after.active(), before.active(), "a rollback before commit launches nothing");
        self.install(good);
    }

    /// Swaps to `bad` for good, then back to `good`, which has to be launched again.
    fn roll_back_after_commit(&mut self, bad: &str, good: &str) {
        self.swap(bad);
        let before = self.supd.status("web");
        self.install(good);
        let loads = self.load();
        let mut arguments = vec!["rollback", "web"];
        if self.server.interpreted {
            let refused = self.supd.ctl(&arguments).expect(3);
            assert!(refused.text().contains("--anyway"), "a refusal names what to type:\n{refused}");
            arguments.push("--anyway");
        }
        let output = self.supd.ctl(&arguments).expect(0);
        self.finish(loads, &format!("rollback from {bad} after commit"), good, &output);
        self.old_is_gone(&before.pids());
    }

    /// Two more swaps, with wrk as the judge.
    fn wrk_agrees(&mut self, versions: [&str; 2]) {
        let Target::Tcp(address) = self.target else { return };
        for (close, version) in [true, false].into_iter().zip(versions) {
            self.install(version);
            let before = self.supd.status("web");
            let (known, failures) = (self.closed_unread().len(), self.own_failures());
            let wrk = Wrk::start(address, 16, Duration::from_secs(5), close);
            self.take(version, &[]);
            self.old_is_gone(&before.pids());
            let summary = wrk.finish();
            let kind = if close { "new connections" } else { "kept-alive connections" };
            // wrk counts a connection that ends between two requests as a read error: at most one
            // for each of its connections to the old generation.
            let unread = (self.closed_unread().len() - known) as u64;
            let allowed = if close { unread } else { 16 };
            let failures = self.own_failures() - failures;
            let known = summary.read + summary.bad_status;
            assert!(
                summary.errors() == known && summary.read <= allowed && summary.bad_status <= failures,
                "wrk saw losses with {kind}, {} of them of the server's own making:\n{}",
                unread + failures,
                summary.text
            );
            self.totals.own_making += summary.bad_status;
            self.totals.wrk_requests += summary.requests;
            self.totals.own_making += if close { summary.read } else { 0 };
            let what = if close { "closed unread by the server's stop" } else { "ended between requests" };
            writeln!(
                self.report,
                "swap to {version}, wrk with {kind}: {} requests, {} connections {what}",
                summary.requests, summary.read
            )
            .expect("writing to a string");
        }
    }

    /// Goes on until enough requests were answered.
    fn reach(&mut self, requests: u64) {
        if self.totals.answered < requests {
            let loads = self.load();
            let missing = requests - self.totals.answered;
            wait_until("enough requests", Duration::from_secs(240), || loads.answered() >= missing);
            let tally = loads.stop();
            assert_eq!(tally.lost(), 0, "lost without any swap:\n{tally}");
            self.totals.answered += tally.answered();
        }
    }

    fn closed_unread(&self) -> Vec<u16> {
        (self.server.closed_unread)(&self.supd.app())
    }

    fn own_failures(&self) -> u64 {
        (self.server.own_failures)(&self.supd.app())
    }

    fn old_is_gone(&self, pids: &[u32]) {
        assert!(!pids.is_empty(), "the status names no process");
        wait_until("the old generation to end", Duration::from_secs(40), || {
            pids.iter().all(|pid| !proc::alive(*pid))
        });
    }

    /// Lets the load run on for a while, and judges it: nothing lost, and only `version` answered what
    /// came on a new connection from now on. One that is kept alive stays where it is until it ends.
    fn finish(&mut self, loads: Loads, what: &str, version: &str, output: &Output) {
        let now = loads.close.now();
        loads.run_on();
        let tallies = [loads.close.stop(), loads.busy.stop(), loads.idle.stop()];
        let name = self.server.name;
        let [close, ..] = &tallies;
        let since: Vec<String> = close.versions_since(now).into_keys().collect();
        assert_eq!(since, [version], "{name}, {what}: who answered after the command\n{close}");
        let mut unread = self.closed_unread();
        let mut failures = self.own_failures().saturating_sub(self.failures);
        let mut lost = 0;
        for (kind, tally) in ["new connections", "kept-alive, busy", "kept-alive, idle"].iter().zip(&tallies)
        {
            write!(self.report, "{what} ({:.3?}), {kind}: {tally}", output.took).expect("a string");
            self.totals.answered += tally.answered();
            self.totals.by_half += tally.idle.by_half;
            for loss in &tally.losses {
                if loss.kind == Kind::ServerError && failures > 0 {
                    failures -= 1;
                    self.totals.own_making += 1;
                    writeln!(self.report, "  of these losses one is in the server's own log")
                        .expect("a string");
                    continue;
                }
                let own = unread.iter().position(|port| is_unread(loss) && loss.port == Some(*port));
                match own {
                    Some(at) => {
                        let port = unread.swap_remove(at);
                        self.totals.own_making += 1;
                        writeln!(
                            self.report,
                            "  of these losses one is of the server's own making: by its records it accepted \
                             port {port} and closed it unread in its stop"
                        )
                        .expect("a string");
                    }
                    None => lost += 1,
                }
            }
        }
        self.failures = self.own_failures();
        assert_eq!(lost, 0, "{name}: requests were lost\n{}", self.report);
    }
}

impl Loads {
    /// Until each kind of client has been answered anew.
    fn run_on(&self) {
        for load in [&self.close, &self.busy, &self.idle] {
            load.wait_for_more(BETWEEN, SOON);
        }
    }

    fn answered(&self) -> u64 {
        self.close.answered() + self.busy.answered() + self.idle.answered()
    }

    fn stop(self) -> Tally {
        let mut tally = self.close.stop();
        tally.absorb(self.busy.stop());
        tally.absorb(self.idle.stop());
        tally
    }
}

/// The unit with a probation that no slow machine outlasts: what is done before commit is then.
fn long_probation(unit: &str) -> String {
    let longer = unit.replace("ProbationSec = \"2s\"", "ProbationSec = \"10min\"");
    assert_ne!(longer, unit, "the unit has another probation");
    longer
}

/// Whether a loss looks as a new connection does that is closed before its request is read.
fn is_unread(loss: &Loss) -> bool {
    let phase = matches!(loss.phase, "send the request" | "wait for the answer");
    loss.served_before == 0 && phase && matches!(loss.kind, Kind::Reset | Kind::CutShort)
}

/// The small applications of tests/daemon/apps.
pub(crate) fn copy_apps(app: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/apps");
    for entry in fs::read_dir(source).expect("tests/daemon/apps").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), app.join(entry.file_name())).expect("copying an application");
        }
    }
}

/// Writes the file `version`, which the applications read once when they start.
pub(crate) fn version_file(app: &Path, version: &str) {
    fs::write(app.join("version"), version).expect("writing the version");
}

/// Fills the placeholders of a configuration and writes it without its `.in`.
fn configure(app: &Path, file: &str, version: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/apps").join(file);
    let text = fs::read_to_string(source).expect("a configuration of tests/daemon/apps");
    let text = text.replace("@VERSION@", version).replace("@FOLDER@", &app.to_string_lossy());
    fs::write(app.join(file), text).expect("writing a configuration");
}
