//! `supctl history` and `supctl events`: what happened, who did it and why, over crashes, full disks and
//! readers who do not read.

use crate::harness::{Output, Running, Setup, Supd, free_port};
use crate::releases::Shop;
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const DISK: &[Need] = &[
    Need::Root,
    Need::Program("unshare", "util-linux"),
    Need::Program("nsenter", "util-linux"),
    Need::Program("mount", "mount"),
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("history::tells_all_in_order", tells_all_in_order),
        test("history::events_over_a_restart", events_over_a_restart),
        test("history::a_slow_watcher", a_slow_watcher),
        test("history::ten_thousand_entries", ten_thousand_entries),
        test_with("history::a_full_disk", DISK, a_full_disk),
        test_with("history::anyone_may_read", &[Need::Root], anyone_may_read),
    ]
}

/// Every entry that is kept.
pub(crate) fn entries(supd: &Supd, arguments: &[&str]) -> Vec<Value> {
    let output = supd.ctl(&[&["--json", "history", "-n", "all"], arguments].concat()).expect(0);
    let mut entries = Vec::new();
    for reply in output.stdout.lines() {
        assert!(reply.len() < 64 << 10, "a reply has {} bytes", reply.len());
        let mut reply: Value = serde_json::from_str(reply).expect("a reply is JSON");
        entries.extend(reply["entries"].as_array_mut().map(std::mem::take).expect("entries"));
    }
    entries
}

pub(crate) fn seqs(entries: &[Value]) -> Vec<u64> {
    entries.iter().map(|entry| entry["seq"].as_u64().expect("a number")).collect()
}

/// What an entry says, in short: `ended committed 2`.
fn short(entry: &Value) -> String {
    let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str);
    let release = text("/to/release").or(text("/release"));
    [text("/what"), text("/result"), release].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn of<'a>(entries: &'a [Value], wanted: &str) -> &'a Value {
    let found = entries.iter().find(|entry| short(entry) == wanted);
    found.unwrap_or_else(|| {
        panic!("{wanted:?} is not among {:?}", entries.iter().map(short).collect::<Vec<_>>())
    })
}

/// Deploy, bad deploy, rollback, a worker that is killed, supd that is killed: all of it is told, in its
/// order, with who and why.
fn tells_all_in_order() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let folder = shop.build("2", "");
    let folder = folder.to_str().expect("UTF-8");
    shop.ctl(&["deploy", "web", "2", folder, "--reason", "new prices"]).expect(0);
    let broken = shop.build("3", "die=3");
    shop.ctl(&["deploy", "web", "3", broken.to_str().expect("UTF-8")]).expect(1);
    shop.ctl(&["rollback", "web", "--reason", "too slow"]).expect(0);
    // Nothing was changed by it, so that it is nothing to tell.
    shop.ctl(&["rollback", "web", "--reason", "and back"]).expect(3);
    // Of who is active: the one that was replaced may not have ended yet.
    let active = shop.supd.status("web").active().expect("an active generation");
    let killed = *shop.supd.status("web").pids_in(active).first().expect("a worker");
    proc::signal(killed, Signal::SIGKILL);
    wait_until("the worker to be launched again", SOON, || {
        shop.supd.status("web").pids_in(active).first().is_some_and(|pid| *pid != killed)
    });
    let supd = shop.close().crash_and_restart();
    supd.wait_for_state("web", "active");
    let all = entries(&supd, &[]);
    let order: Vec<String> = all.iter().map(short).collect();
    let expected = [
        "supd-started",
        "daemon-reload",
        "installed 1",
        "began 1",
        "ended committed 1",
        "installed 2",
        "began 2",
        "switched 2",
        "ended committed 2",
        "installed 3",
        "began 3",
        "ended failed 3",
        "began 1",
        "ended committed 1",
        "worker-failed",
        "supd-started",
    ];
    let mut rest = order.iter();
    for wanted in expected {
        assert!(rest.any(|told| told == wanted), "{wanted:?} is missing, or out of order: {order:#?}");
    }
    assert!(seqs(&all).is_sorted_by(|one, next| one < next), "{order:?}");
    let uid = u64::from(nix::unistd::geteuid().as_raw());
    let new = of(&all, "ended committed 2");
    assert_eq!((new["by"]["uid"].as_u64(), new["by"]["verb"].as_str()), (Some(uid), Some("deploy")), "{new}");
    assert_eq!(
        (new["by"]["reason"].as_str(), new["from"]["release"].as_str()),
        (Some("new prices"), Some("1"))
    );
    assert!(new["ready_ms"].as_u64().is_some() && new["switch_us"].as_u64().is_some(), "{new}");
    assert!(new["at_us"].as_u64().is_some_and(|at| at > 1_700_000_000_000_000), "{new}");
    let failed = of(&all, "ended failed 3");
    assert!(failed["cause"].as_str().is_some_and(|cause| cause.contains("exit status 3")), "{failed}");
    let is_back = |entry: &&Value| short(entry) == "ended committed 1" && entry["by"]["verb"] == "rollback";
    let back = all.iter().find(is_back).expect("the rollback");
    assert_eq!(back["by"]["reason"].as_str(), Some("too slow"), "{back}");
    let crash = of(&all, "worker-failed");
    assert!(crash["cause"].as_str().is_some_and(|cause| cause.contains("SIGKILL")), "{crash}");
    assert!(crash["by"].is_null(), "{crash}");
    assert!(!all.iter().any(|entry| entry["by"]["reason"] == json!("and back")), "a refusal is told");
    let last = all.iter().rfind(|entry| short(entry) == "supd-started").expect("the second supd");
    assert!(last["cause"].as_str().is_some_and(|cause| cause.contains("killed")), "{last}");
    let table = supd.ctl(&["history", "web"]).expect(0).stdout;
    let line = table
        .lines()
        .find(|line| line.contains("new prices") && line.contains("swap"))
        .unwrap_or_else(|| panic!("{table}"));
    assert!(line.contains("swap committed") && line.contains("deploy") && line.contains("ready "), "{line}");
    assert!(
        table.lines().any(|line| line.contains("rollback committed") && line.contains("too slow")),
        "{table}"
    );
    assert!(!table.contains("switched") && !table.contains("supd-started"), "{table}");
    assert_eq!(
        supd.ctl(&["history", "--since", "@1"]).expect(0).stdout.lines().count(),
        entries_shown(&supd)
    );
    assert!(supd.ctl(&["history", "wbe"]).expect(3).stderr.contains("web"));
    assert_eq!(supd.ctl(&["history", "-n", "2"]).expect(0).stdout.lines().count(), 3);
}

fn entries_shown(supd: &Supd) -> usize {
    supd.ctl(&["history", "-n", "all"]).expect(0).stdout.lines().count()
}

/// A `supctl events` whose lines are collected until it ends.
fn follow(supd: &Supd, arguments: &[&str]) -> Running {
    supd.ctl_start(&[&["events"], arguments].concat())
}

fn lines(output: &Output) -> Vec<Value> {
    output.stdout.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// A restart of supd ends nothing: it goes on where it was, and nothing is lost and nothing comes twice. A
/// supd that stays away does, and the command that goes on says from where.
fn events_over_a_restart() {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    let first = seqs(&entries(&supd, &[]))[0];
    let following = Following::start(&supd, &["--since", &first.to_string()]);
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    following.until("the first event", |told| !told.is_empty());
    let supd = supd.crash_and_restart();
    supd.wait_for_state("web", "active");
    supd.ctl(&["restart", "web", "--reason", "again"]).expect(0);
    let all = seqs(&entries(&supd, &[]));
    following.until("the last event", |told| told.last() == all.last());
    assert_eq!(following.told(), all[1..], "each once, in order");
    let (code, said) = following.interrupt();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("waiting for it") && said.contains("there again; going on after"), "{said}");

    let mistyped = supd.ctl(&["events", "wbe", "--timeout", "20s"]).expect(3);
    assert!(mistyped.stderr.contains("there is no unit wbe; did you mean web?"), "{mistyped}");
    let none = supd.ctl(&["events", "--since", "99999999", "--timeout", "2s"]).expect(4);
    assert!(none.stdout.contains("\"what\":\"gap\""), "{none}");
    let last = all[all.len() - 1].to_string();
    let left = follow(&supd, &["--since", &last, "--timeout", "3s"]);
    supd.ctl(&["shutdown"]).expect(0);
    let ended = left.finish(SOON).expect(4);
    let seq = seqs(&lines(&ended)).last().copied().unwrap_or(all[all.len() - 1]);
    assert!(ended.stderr.contains(&format!("Next: supctl events --since {seq}")), "{ended}");
}

/// A `supctl events` whose lines are read as they come.
struct Following {
    child: Child,
    told: Arc<Mutex<Vec<u64>>>,
}

impl Following {
    fn start(supd: &Supd, arguments: &[&str]) -> Self {
        let mut command = supd.ctl_command(&[&["events"], arguments].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("supctl");
        let (out, told) = (child.stdout.take().expect("piped"), Arc::new(Mutex::new(Vec::new())));
        let into = told.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let seq = seqs(&[serde_json::from_str(&line).expect("JSON")]);
                into.lock().expect("no panic").extend(seq);
            }
        });
        Self { child, told }
    }

    fn told(&self) -> Vec<u64> {
        self.told.lock().expect("no panic").clone()
    }

    fn until(&self, what: &str, there: impl Fn(&[u64]) -> bool) {
        wait_until(what, SOON, || there(&self.told()));
    }

    /// Ends it as Ctrl-C does; its status, and what it said beside the lines.
    fn interrupt(self) -> (Option<i32>, String) {
        proc::signal(self.child.id(), Signal::SIGINT);
        let output = self.child.wait_with_output().expect("supctl ends");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A client that speaks Varlink by itself.
struct Raw {
    stream: BufReader<UnixStream>,
}

impl Raw {
    fn connect(supd: &Supd) -> Self {
        let stream = UnixStream::connect(supd.control()).expect("the control socket");
        stream.set_read_timeout(Some(SOON)).expect("a bound");
        Self { stream: BufReader::new(stream) }
    }

    fn say(&mut self, method: &str, parameters: &Value, more: bool) {
        let call =
            json!({"method": format!("dev.supd.Manager.{method}"), "parameters": parameters, "more": more});
        self.stream.get_mut().write_all(format!("{call}\0").as_bytes()).expect("supd reads");
    }

    fn hear(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.stream.read_until(0, &mut bytes).expect("supd answers");
        assert_eq!(bytes.pop(), Some(0), "supd hung up");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// So many entries in the history, each of some 700 bytes.
    fn happens(&mut self, times: usize) {
        let parameters = json!({"unit": "web", "signal": "CONT", "reason": "x".repeat(1000)});
        // Some at once: the disk then takes them together.
        for chunk in vec![(); times].chunks(50) {
            chunk.iter().for_each(|()| self.say("Kill", &parameters, false));
            for _ in chunk {
                let answer = self.hear();
                assert!(answer.get("error").is_none(), "{answer}");
            }
        }
    }
}

fn quiet() -> Supd {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    supd
}

fn memory(supd: &Supd) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", supd.pid())).expect("supd's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Who does not read holds no memory and nobody up; when it reads at last, it is told everything.
fn a_slow_watcher() {
    let supd = quiet();
    let mut slow = Raw::connect(&supd);
    slow.say("Watch", &json!({}), true);
    let first = slow.hear()["parameters"]["cursor"].as_u64().expect("a cursor");
    let mut busy = Raw::connect(&supd);
    busy.happens(500);
    let before = memory(&supd);
    busy.happens(2_500);
    let grown = memory(&supd).saturating_sub(before);
    assert!(grown < 2_048, "supd has {grown} KiB more for one who does not read");
    supd.ctl(&["restart", "web"]).expect(0);
    let all: Vec<u64> = seqs(&entries(&supd, &[])).into_iter().filter(|seq| *seq > first).collect();
    let mut told = Vec::new();
    while told.last() < all.last() {
        let reply = slow.hear();
        let entries = reply["parameters"]["entries"].as_array().expect("entries");
        assert!(reply.to_string().len() < 70_000, "a reply is bounded");
        told.extend(seqs(entries));
    }
    // What happened after the history was read may have come as well.
    told.retain(|seq| Some(seq) <= all.last());
    assert_eq!(told, all, "each once, in order");
}

/// The files have a bound, a reply has one, and what is gone is said.
fn ten_thousand_entries() {
    let supd = quiet();
    let first = seqs(&entries(&supd, &[]))[0];
    Raw::connect(&supd).happens(11_000);
    let files = ["history", "history.1"].map(|name| supd.state_folder().join(name));
    let size: u64 = files.iter().map(|file| fs::metadata(file).map_or(0, |file| file.len())).sum();
    println!("11,000 entries more: {size} bytes in two files");
    assert!(files[1].exists() && size < 4_300_000, "{size} bytes");
    let began = Instant::now();
    let all = entries(&supd, &[]);
    println!("{} entries are read in {:?}", all.len(), began.elapsed());
    assert!(all.len() > 2_500, "only {} are kept", all.len());
    let distinct: BTreeSet<u64> = seqs(&all).into_iter().collect();
    assert_eq!(distinct.len(), all.len(), "none comes twice");
    let mut watch = Raw::connect(&supd);
    watch.say("Watch", &json!({"after": first}), true);
    let page = watch.hear();
    let told = page["parameters"]["entries"].as_array().expect("entries");
    let at = told.iter().position(|entry| entry["what"] == "gap").unwrap_or_else(|| panic!("no gap: {page}"));
    assert_eq!(seqs(&told[..at]), seqs(&all[1..=at]), "what is kept of the time before comes first");
    assert!(told[..at].iter().all(|entry| entry["unit"].is_null()), "supd's own, which are few: {page}");
    assert_eq!(told[at]["seq"].as_u64().map(|seq| seq + 1), Some(seqs(&all)[at + 1]), "{page}");
    let table = supd.ctl(&["history", "-n", "all"]).expect(0).stdout;
    assert!(table.starts_with("(Of what happened before 2"), "{}", &table[..200]);
    let table = supd.ctl(&["history", "web", "-n", "all"]).expect(0).stdout;
    assert!(table.starts_with("(What happened before is no longer kept.)"), "{}", &table[..200]);
    assert_eq!(supd.ctl(&["history"]).expect(0).stdout.lines().count(), 51);
}

fn inside(supd: &Supd, script: &str) {
    let mut command = Command::new("nsenter");
    command.arg(format!("--mount=/proc/{}/ns/mnt", supd.pid())).args(["sh", "-ec", script]);
    Running::start(&mut command).finish(SOON).expect(0);
}

/// A history that cannot be written stops no swap; it is said, and what the ledger has is made up for.
fn a_full_disk() {
    let wrapper = ["unshare", "--mount", "--"].map(str::to_owned).to_vec();
    let supd = Supd::start_with(&Setup { wrapper, ..Setup::default() });
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    let (full, history) = (supd.app().join("full"), supd.path().join("state/history"));
    let (full, history) = (full.display(), history.display());
    inside(
        &supd,
        &format!(
            "mkdir {full}; mount -t tmpfs -o size=16k supd-test {full}; cp {history} {full}/history; \
             cat /dev/zero > {full}/ballast || true; mount --bind {full}/history {history}"
        ),
    );
    // The writer has the file open: the next one opens it anew.
    proc::signal(supd.writer().expect("a writer"), Signal::SIGKILL);
    // The file's last page has room for some more.
    Raw::connect(&supd).happens(20);
    for (version, reason) in [("2", "while it was full"), ("3", "and once more")] {
        supd.install_worker(version);
        supd.ctl(&["swap", "web", "--reason", reason]).expect(0);
    }
    let text = "the history is not written: ";
    wait_until("the log to say it", SOON, || supd.log().contains(text));
    let status = supd.ctl(&["status"]).expect(0);
    assert!(status.text().contains(text), "{status}");
    assert!(!supd.ctl(&["history"]).expect(0).stdout.contains("while it was full"));
    inside(&supd, &format!("umount -l {history}; umount -l {full}"));
    wait_until("the history to be written again", Duration::from_secs(60), || {
        supd.ctl(&["kill", "web", "-s", "CONT", "--reason", "room again"]).expect(0);
        !supd.ctl(&["status"]).expect(0).text().contains(text)
    });
    let told = supd.ctl(&["history", "-n", "all"]).expect(0).stdout;
    for reason in ["while it was full", "and once more", "room again"] {
        assert!(told.contains(reason), "{reason:?} is missing:\n{told}");
    }
    assert!(seqs(&entries(&supd, &[])).is_sorted_by(|one, next| one < next), "{told}");
}

/// An ordinary user sees what happened and why, and nothing that a worker wrote.
fn anyone_may_read() {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    supd.write_unit("web", &supd.worker(free_port(), &["say=hunter2", "die=3"], "", ""));
    let failed = supd.ctl(&["swap", "web", "--reason", "for the public"]).expect(1);
    println!("{failed}");
    let program = supd.app().join("supctl");
    fs::copy(env!("CARGO_BIN_EXE_supctl"), &program).expect("a supctl that anyone can reach");
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program);
        command.arg("--runtime").arg(supd.runtime()).args(arguments);
        command
    };
    let refused =
        Running::start(&mut as_nobody(&["stop", "web", "--reason", "mischief"])).finish(SOON).expect(77);
    println!("{refused}");
    let told = Running::start(&mut as_nobody(&["--json", "history"])).finish(SOON).expect(0).stdout;
    assert!(told.contains("for the public") && told.contains("\"uid\":0"), "{told}");
    assert!(!told.contains("hunter2") && !told.contains("mischief"), "{told}");
    let mut events = as_nobody(&["events", "web", "--since", "0"]);
    let mut child = events.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("supctl");
    let mut out = child.stdout.take().expect("piped");
    let (mut text, mut chunk) = (String::new(), [0; 4096]);
    while !text.contains("exit status 3") {
        let count = out.read(&mut chunk).expect("supctl's output");
        assert!(count > 0, "it ended with {text:?}");
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    assert!(!text.contains("hunter2"), "{text}");
    proc::signal(child.id(), Signal::SIGTERM);
    assert!(child.wait().expect("supctl").success());
}
