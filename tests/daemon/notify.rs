//! sd_notify(3) at the real supd: each message, said by a worker that a test moves by strings
//! (apps/puppet.py), and what supd does about it.

use crate::harness::{Status, Supd, free_port};
use crate::servers::copy_apps;
use crate::wait::{SOON, holds_for, pause, wait_for, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("notify::ready", ready),
        test("notify::status", status),
        test("notify::stopping", stopping),
        test("notify::stopping_wins_over_ready", stopping_wins_over_ready),
        test("notify::reload", reload),
        test("notify::reload_by_itself", reload_by_itself),
        test("notify::errno_and_exit_status", errno_and_exit_status),
        test("notify::a_flood_of_words", a_flood_of_words),
        test("notify::last_words", last_words),
        test("notify::mainpid", mainpid),
        test("notify::mainpid_by_pidfd", mainpid_by_pidfd),
        test("notify::mainpid_of_others", mainpid_of_others),
        test("notify::notifyaccess", notifyaccess),
        test("notify::watchdog", watchdog),
        test("notify::watchdog_trigger", watchdog_trigger),
        test("notify::extend_timeout_of_a_start", extend_timeout_of_a_start),
        test("notify::extend_timeout_of_a_stop", extend_timeout_of_a_stop),
        test("notify::restart_reset", restart_reset),
        test("notify::barrier", barrier),
    ]
}

/// A supd with one unit of a puppet.
pub(crate) struct Stage {
    pub(crate) supd: Supd,
    pub(crate) port: u16,
}

/// One puppet, by its process number; connected once it is asked.
pub(crate) struct Puppet {
    path: std::path::PathBuf,
    pub(crate) pid: u32,
    line: OnceCell<BufReader<UnixStream>>,
}

impl Stage {
    /// The unit serves: its puppet has said READY=1 by itself.
    pub(crate) fn serving(service: &str) -> Self {
        let stage = Self::new();
        stage.supd.launch("web", &stage.unit(&["READY=1"], service));
        stage
    }

    pub(crate) fn new() -> Self {
        let supd = Supd::start();
        copy_apps(&supd.app());
        Self { supd, port: free_port() }
    }

    /// `says` is sent one by one as soon as the puppet runs.
    pub(crate) fn unit(&self, says: &[&str], service: &str) -> String {
        let program = self.supd.app().join("puppet.py");
        let says: String = says.iter().map(|text| format!(", {:?}", text.replace('\n', "\\n"))).collect();
        let mut text = format!(
            "[[Socket]]\nName = \"http\"\nListenStream = \"127.0.0.1:{}\"\n\n[Service]\n\
             ExecStart = [\"/usr/bin/python3\", \"-S\", {program:?}{says}]\n\
             Environment = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\nReadySettleSec = 0\n",
            self.port
        );
        for (key, value) in [("TimeoutStartSec", "10s"), ("TimeoutStopSec", "10s"), ("RestartSec", "50ms")] {
            if !service.contains(key) {
                text.push_str(&format!("{key} = \"{value}\"\n"));
            }
        }
        format!(
            "{text}{service}\n\n[Swap]\nDrainSec = \"500ms\"\nSettleSec = \"200ms\"\n\
            ProbationSec = \"200ms\"\n"
        )
    }

    pub(crate) fn now(&self) -> Status {
        self.supd.status("web")
    }

    /// The puppet of the unit's only process.
    pub(crate) fn puppet(&self) -> Puppet {
        let pid = wait_for("one process", SOON, || match self.now().pids()[..] {
            [pid] => Some(pid),
            _ => None,
        });
        self.puppet_of(pid)
    }

    pub(crate) fn puppet_of(&self, pid: u32) -> Puppet {
        let path = self.supd.app().join(format!("puppet-{pid}.sock"));
        Puppet { path, pid, line: OnceCell::new() }
    }

    pub(crate) fn status_text(&self) -> String {
        let status = self.now();
        let active = status.active();
        let generations = status.0["generations"].as_array().cloned().unwrap_or_default();
        let listed = generations.iter().find(|listed| listed["generation"].as_u64() == active);
        listed.and_then(|listed| listed["status_text"].as_str()).unwrap_or_default().to_owned()
    }

    pub(crate) fn logged(&self, text: &str) {
        wait_until(&format!("{text:?} in supd's log"), SOON, || self.supd.log().contains(text));
    }

    /// The puppet ends and another takes its place in the same generation.
    pub(crate) fn relaunched_after(&self, before: &Status) -> Puppet {
        let old = before.pids();
        wait_until("the old process to end", SOON, || old.iter().all(|pid| !proc::alive(*pid)));
        let after = wait_for("a relaunch", SOON, || {
            let now = self.now();
            (now.state() == "active" && !now.pids().is_empty() && now.pids() != old).then_some(now)
        });
        assert_eq!(after.active(), before.active(), "a relaunch makes no generation");
        self.puppet()
    }
}

impl Puppet {
    /// One verb of apps/puppet.py, and its answer.
    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.tell(request);
        let mut answer = String::new();
        let line = self.line.get_mut().expect("connected by tell");
        line.read_line(&mut answer).expect("the puppet's answer");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{request}: {answer:?}: {error}"))
    }

    /// One that it may not live to answer.
    pub(crate) fn tell(&mut self, request: &Value) {
        self.line.get_or_init(|| {
            let stream = wait_for("the puppet to listen", SOON, || UnixStream::connect(&self.path).ok());
            stream.set_read_timeout(Some(SOON)).expect("a socket");
            BufReader::new(stream)
        });
        let line = self.line.get_mut().expect("just connected");
        writeln!(line.get_mut(), "{request}").expect("the puppet listens");
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.ask(&json!(["say", text]));
    }

    /// Everything that was said before has reached supd's machine.
    pub(crate) fn sync(&mut self) {
        assert!(self.ask(&json!(["barrier"])).is_number(), "the barrier did not come back");
    }

    pub(crate) fn say_and_sync(&mut self, text: &str) {
        self.say(text);
        self.sync();
    }

    fn stamp(&mut self, back_ms: u64) -> u64 {
        self.ask(&json!(["stamp", back_ms])).as_u64().expect("microseconds")
    }

    fn has_seen(&mut self, signal: &str) {
        wait_until(&format!("{signal} at the worker"), SOON, || {
            self.ask(&json!(["seen"])).as_array().is_some_and(|seen| seen.contains(&json!(signal)))
        });
    }
}

/// READY=1 ends the start, and nothing else does: not READY=0, not another word.
fn ready() {
    let stage = Stage::new();
    stage.supd.write_unit("web", &stage.unit(&[], ""));
    stage.supd.ctl(&["daemon-reload"]).expect(0);
    let start = stage.supd.ctl_start(&["start", "web"]);
    let mut puppet = stage.puppet();
    puppet.say("READY=0");
    puppet.say_and_sync("STATUS=warming up\nNEWKEY=1\nready=1");
    holds_for("a start without READY=1 to wait", Duration::from_millis(300), || {
        stage.now().state() == "starting"
    });
    puppet.say("READY=1");
    start.finish(SOON).expect(0);
    assert_eq!(stage.now().state(), "active");
}

/// The last line counts, empty clears it, and what is no text for a terminal is not shown as such.
fn status() {
    let stage = Stage::serving("");
    let mut puppet = stage.puppet();
    for (said, shown) in [
        ("STATUS=5 of 7", "5 of 7"),
        ("STATUS=a\nSTATUS=b", "a"),
        ("X_OWN=1\nSTATUS=Größe ✓", "Größe ✓"),
        ("STATUS=\u{1b}[31mred", "red"),
        ("STATUS=", ""),
    ] {
        puppet.say_and_sync(said);
        assert_eq!(stage.status_text(), shown, "{said:?}");
    }
}

/// STOPPING=1 without being asked: it is given TimeoutStopSec, then SIGKILL, and is replaced.
fn stopping() {
    let stage = Stage::serving("TimeoutStopSec = \"500ms\"");
    let before = stage.now();
    let mut puppet = stage.puppet();
    puppet.ask(&json!(["bear", "SIGTERM"]));
    puppet.say_and_sync("STOPPING=1");
    assert!(proc::alive(puppet.pid), "STOPPING=1 alone ends nobody");
    stage.relaunched_after(&before);
    stage.logged("did not stop within TimeoutStopSec");
}

/// Both in one message: it is on its way out, and so is not ready.
fn stopping_wins_over_ready() {
    let stage = Stage::serving("");
    let before = stage.now();
    stage.supd.write_unit("web", &stage.unit(&["READY=1\nSTOPPING=1"], "TimeoutStopSec = \"200ms\""));
    let failed = stage.supd.ctl(&["swap", "web"]).expect(1);
    assert!(failed.text().contains("STOPPING=1"), "the reason is told:\n{failed}");
    let now = stage.now();
    let active = now.active().expect("an active generation");
    assert_eq!((Some(active), now.pids_in(active)), (before.active(), before.pids()));
}

/// `supctl reload` is over with the READY=1 that answers its own signal: the stamp tells which.
fn reload() {
    let stage = Stage::serving("ReloadSignal = \"SIGHUP\"");
    let before = stage.now();
    let mut puppet = stage.puppet();
    let early = puppet.stamp(1_000);
    let reload = stage.supd.ctl_start(&["reload", "web"]);
    puppet.has_seen("SIGHUP");
    // The end of an earlier reload, still on its way: neither word is an answer.
    puppet.say(&format!("RELOADING=1\nMONOTONIC_USEC={early}"));
    puppet.say_and_sync("READY=1");
    let stamp = puppet.stamp(0);
    puppet.say_and_sync(&format!("RELOADING=1\nMONOTONIC_USEC={stamp}"));
    // Longer than supd waits for a program that says nothing.
    holds_for("the reload to wait for READY=1", Duration::from_millis(1_500), || proc::alive(reload.pid()));
    puppet.say("READY=1");
    let done = reload.finish(SOON).expect(0);
    assert!(done.took >= Duration::from_millis(1_500), "{done}");

    // Both at once is a reload that has begun and ended.
    let reload = stage.supd.ctl_start(&["reload", "web"]);
    wait_until("a second SIGHUP", SOON, || puppet.ask(&json!(["seen"])) == json!(["SIGHUP", "SIGHUP"]));
    let stamp = puppet.stamp(0);
    puppet.say(&format!("READY=1\nRELOADING=1\nMONOTONIC_USEC={stamp}"));
    reload.finish(SOON).expect(0);

    // A program that says nothing has its second, and that is told.
    let silent = stage.supd.ctl(&["reload", "web"]).expect(0);
    assert!(silent.text().contains("does not say"), "{silent}");
    assert_eq!(stage.now().pids(), before.pids(), "a reload ends nobody");
}

/// RELOADING=1 that nobody asked for: it serves on, and a reload that never ends is told.
fn reload_by_itself() {
    let stage = Stage::serving("TimeoutStartSec = \"300ms\"");
    let before = stage.now();
    let mut puppet = stage.puppet();
    puppet.say("RELOADING=1");
    puppet.say_and_sync("READY=1");
    assert_eq!(stage.now().state(), "active");
    puppet.say_and_sync("RELOADING=1");
    stage.logged("not READY=1 within TimeoutStartSec");
    assert_eq!((stage.now().state(), stage.now().pids()), ("active", before.pids()));
}

fn errno_and_exit_status() {
    let stage = Stage::serving("");
    let mut puppet = stage.puppet();
    puppet.say_and_sync("ERRNO=2\nBUSERROR=org.example.Timeout\nEXIT_STATUS=7");
    puppet.say_and_sync("VARLINKERROR=org.example.Gone");
    for text in ["ERRNO=2", "org.example.Timeout", "EXIT_STATUS=7", "org.example.Gone"] {
        stage.logged(text);
    }
    assert_eq!((stage.now().state(), stage.now().pids()), ("active", vec![puppet.pid]), "words end nobody");
}

/// Words fill nobody's disk.
fn a_flood_of_words() {
    let stage = Stage::serving("");
    let mut puppet = stage.puppet();
    for number in 0..200 {
        puppet.say_and_sync(&format!("ERRNO={number}\nEXIT_STATUS=3"));
    }
    let told = stage.supd.log().matches(" says ").count();
    assert!((20..100).contains(&told), "{told} of 400 are told");
    assert_eq!((stage.now().state(), stage.now().pids()), ("active", vec![puppet.pid]));
}

/// What a worker says right before it ends is its own, also if only main processes may speak and
/// there are several.
fn last_words() {
    let stage = Stage::serving("Workers = 2\nNotifyAccess = \"main\"");
    for number in 1..=5 {
        let pids = wait_for("two processes", SOON, || {
            let pids = stage.now().pids();
            (pids.len() == 2 && stage.now().state() == "active").then_some(pids)
        });
        let last = format!("ERRNO={number}");
        stage.puppet_of(pids[number % 2]).tell(&json!(["exit_saying", last, 3]));
        stage.logged(&format!("says {last}"));
        wait_until("it to be replaced", SOON, || {
            let now = stage.now().pids();
            now.len() == 2 && now != pids
        });
    }
}

/// The child is the main process once it is named; the parent may go, and the child's end counts.
fn mainpid() {
    let stage = Stage::serving("Restart = \"always\"");
    let before = stage.now();
    let mut parent = stage.puppet();
    let child = u32::try_from(parent.ask(&json!(["fork"])).as_u64().expect("a pid")).expect("a pid");
    parent.say_and_sync(&format!("MAINPID={child}"));
    assert_eq!(stage.now().pids(), [child], "the main process is the one that was named");
    parent.tell(&json!(["exit", 0]));
    wait_until("the parent to end", SOON, || !proc::alive(parent.pid));
    // The child speaks as the main process.
    let mut puppet = stage.puppet_of(child);
    puppet.say_and_sync("STATUS=the child serves");
    assert_eq!((stage.status_text().as_str(), stage.now().state()), ("the child serves", "active"));
    assert_eq!(stage.now().pids(), [child], "the end of who is main no more is no end");

    proc::signal(child, Signal::SIGKILL);
    let next = stage.relaunched_after(&Status(json!({ "active": before.active(), "generations": [{
        "generation": before.active(), "pids": [child] }] })));
    assert!(![parent.pid, child].contains(&next.pid));
}

/// MAINPIDFD=1 with a pidfd, and MAINPIDFDID, which must be that of the process.
fn mainpid_by_pidfd() {
    let stage = Stage::serving("");
    let mut parent = stage.puppet();
    let child = u32::try_from(parent.ask(&json!(["fork"])).as_u64().expect("a pid")).expect("a pid");
    let inode = parent.ask(&json!(["inode", child])).as_u64().expect("an inode");
    parent.say_and_sync(&format!("MAINPID={child}\nMAINPIDFDID={}", inode + 1));
    assert_eq!(stage.now().pids(), [parent.pid], "another process's MAINPIDFDID");
    parent.say_and_sync(&format!("MAINPID={child}\nMAINPIDFDID={inode}"));
    assert_eq!(stage.now().pids(), [child]);
    parent.ask(&json!(["say", "MAINPIDFD=1", { "pidfd": parent.pid }]));
    parent.sync();
    assert_eq!(stage.now().pids(), [parent.pid], "and back again");
    parent.ask(&json!(["say", "MAINPIDFD=1", { "fds": 1 }]));
    parent.sync();
    assert_eq!(stage.now().pids(), [parent.pid], "/dev/null is no process");
    stage.logged("no pidfd");
}

/// A process of another unit, supd itself, this test: none of them is followed.
fn mainpid_of_others() {
    let stage = Stage::serving("");
    let other = stage.unit(&["READY=1"], "").replace(&stage.port.to_string(), &free_port().to_string());
    stage.supd.launch("other", &other);
    let others = stage.supd.status("other").pids();
    let mut puppet = stage.puppet();
    for pid in [others[0], stage.supd.pid(), std::process::id(), 1] {
        puppet.say_and_sync(&format!("MAINPID={pid}"));
        assert_eq!(stage.now().pids(), [puppet.pid], "MAINPID={pid}");
    }
    stage.supd.ctl(&["stop", "web"]).expect(0);
    assert!(others.iter().all(|pid| proc::alive(*pid)), "another unit's process was ended");
}

/// NOTIFYACCESS= counts for the rest of the run, and not for the next one.
fn notifyaccess() {
    let stage = Stage::serving("");
    let before = stage.now();
    let mut puppet = stage.puppet();
    let child_says = |puppet: &mut Puppet, text: &str| {
        puppet.ask(&json!(["say_from_child", format!("STATUS={text}")]));
        puppet.sync();
        stage.status_text()
    };
    assert_eq!(child_says(&mut puppet, "one"), "one");
    puppet.say_and_sync("NOTIFYACCESS=main");
    assert_eq!(child_says(&mut puppet, "two"), "one");
    puppet.say_and_sync("STATUS=three");
    assert_eq!(stage.status_text(), "three");
    puppet.say("NOTIFYACCESS=none");
    puppet.say("NOTIFYACCESS=all");
    puppet.say_and_sync("STATUS=four");
    assert_eq!(stage.status_text(), "three", "who may say nothing cannot take that back");

    proc::signal(puppet.pid, Signal::SIGKILL);
    let mut puppet = stage.relaunched_after(&before);
    assert_eq!(child_says(&mut puppet, "five"), "five");
}

/// WATCHDOG_USEC= sets the period from now on, WATCHDOG=1 feeds it; hungry it is SIGABRT.
fn watchdog() {
    let stage = Stage::serving("");
    let before = stage.now();
    let mut puppet = stage.puppet();
    puppet.say_and_sync("WATCHDOG_USEC=1000000");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        puppet.say_and_sync("WATCHDOG=1");
        pause(Duration::from_millis(50));
    }
    assert_eq!(stage.now().pids(), before.pids(), "a fed worker lives");
    let hungry = Instant::now();
    let mut next = stage.relaunched_after(&before);
    assert!(hungry.elapsed() >= Duration::from_millis(900), "ended {:?} after its food", hungry.elapsed());
    stage.logged("watchdog");
    // The next run has the unit's own period again, which is none.
    next.sync();
    holds_for("a worker without a watchdog to live", Duration::from_millis(1_500), || proc::alive(next.pid));
}

/// WATCHDOG=trigger counts although the watchdog is off.
fn watchdog_trigger() {
    let stage = Stage::serving("");
    let before = stage.now();
    stage.puppet().tell(&json!(["say", "WATCHDOG=trigger"]));
    stage.relaunched_after(&before);
    stage.logged("WATCHDOG=trigger");
}

/// Each EXTEND_TIMEOUT_USEC gives the start so much more time, from the moment it is said.
fn extend_timeout_of_a_start() {
    let stage = Stage::new();
    let begin = |wait: &str| {
        stage.supd.write_unit("web", &stage.unit(&[], "TimeoutStartSec = \"1s\"\nTimeoutStopSec = \"1s\""));
        stage.supd.ctl(&["daemon-reload"]).expect(0);
        stage.supd.ctl_start(&[wait, "web"])
    };
    let start = begin("start");
    let mut puppet = stage.puppet();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        puppet.say_and_sync("EXTEND_TIMEOUT_USEC=1000000");
        assert_eq!(stage.now().state(), "starting");
    }
    // Less than what is left takes nothing away.
    puppet.say_and_sync("EXTEND_TIMEOUT_USEC=1");
    puppet.say("READY=1");
    start.finish(SOON).expect(0);

    // Silence after it: the last word's time is all there is.
    let before = stage.now();
    let swap = begin("swap");
    let candidate = wait_for("a candidate", SOON, || {
        stage.now().pids().into_iter().find(|pid| !before.pids().contains(pid))
    });
    let mut puppet = stage.puppet_of(candidate);
    puppet.say_and_sync("EXTEND_TIMEOUT_USEC=2000000");
    let failed = swap.finish(SOON).expect(1);
    assert!(failed.took >= Duration::from_secs(2), "{failed}");
    assert!(failed.text().contains("TimeoutStartSec"), "{failed}");
}

/// The same for a stop: it ends by itself, later than TimeoutStopSec.
fn extend_timeout_of_a_stop() {
    let stage = Stage::serving("TimeoutStopSec = \"500ms\"");
    let mut puppet = stage.puppet();
    puppet.ask(&json!(["bear", "SIGTERM"]));
    let stop = stage.supd.ctl_start(&["stop", "web"]);
    puppet.has_seen("SIGTERM");
    puppet.say("STOPPING=1");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1_500) {
        puppet.say_and_sync("EXTEND_TIMEOUT_USEC=500000");
        pause(Duration::from_millis(20));
    }
    puppet.tell(&json!(["exit", 0]));
    let done = stop.finish(SOON).expect(0);
    assert!(done.took >= Duration::from_millis(1_500), "{done}");
    assert!(!stage.supd.log().contains("SIGKILL"), "it was killed:\n{}", stage.supd.log());
}

/// Who says that its earlier ends count no more is launched again as if it had never ended; only who does.
fn restart_reset() {
    let stage = Stage::serving("StartLimitBurst = 2\nStartLimitIntervalSec = \"1min\"");
    for _ in 0..4 {
        let before = stage.now();
        let mut puppet = stage.puppet();
        puppet.say_and_sync("RESTART_RESET=1");
        proc::signal(puppet.pid, Signal::SIGKILL);
        stage.relaunched_after(&before);
    }
    assert!(!stage.supd.log().contains("StartLimitBurst"), "{}", stage.supd.log());
    let before = stage.now();
    proc::signal(stage.puppet().pid, Signal::SIGKILL);
    let last = stage.relaunched_after(&before);
    proc::signal(last.pid, Signal::SIGKILL);
    stage.logged("StartLimitBurst");
}

/// The descriptor is closed once everything before has counted; a barrier with something beside it,
/// or with other than one descriptor, counts for nothing, and its descriptors are closed as well.
fn barrier() {
    let stage = Stage::serving("");
    let mut puppet = stage.puppet();
    for number in 0..100 {
        puppet.say_and_sync(&format!("STATUS=step {number}"));
        assert_eq!(stage.status_text(), format!("step {number}"));
    }
    let closed = |puppet: &mut Puppet, text: &str, copies: u32| {
        let answer = puppet.ask(&json!(["barrier", text, copies]));
        assert!(answer.is_number(), "{text:?} with {copies} descriptors: they stay open");
    };
    closed(&mut puppet, "BARRIER=1\nSTATUS=no", 1);
    closed(&mut puppet, "BARRIER=1", 2);
    closed(&mut puppet, "STATUS=yes", 1);
    puppet.sync();
    assert_eq!(stage.status_text(), "yes");
    assert!(!stage.supd.log().contains("step"), "a status is no log line");
}
