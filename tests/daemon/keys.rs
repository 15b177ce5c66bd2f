//! Keys of the unit file, each seen at the real worker that it is about. Several units share a supd: what
//! is waited for once is waited for by all.

use crate::harness::{Supd, free_port};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("keys::directories_and_environment", directories_and_environment),
        test("keys::why_supd_ended_it", why_supd_ended_it),
        test("keys::exits_that_are_fine", exits_that_are_fine),
        test("keys::kill_mode", kill_mode),
        test("keys::when_down", when_down),
        test_with("keys::ambient_capabilities", &[Need::Root], ambient_capabilities),
    ]
}

/// A unit whose worker is a shell script, without a listener.
fn script(lines: &str, service: &str) -> String {
    let command = serde_json::to_string(&["/bin/sh", "-c", lines]).expect("words");
    format!(
        "[Service]\nExecStart = {command}\nReady = \"started\"\nReadySettleSec = \"10ms\"\nRestartSec = \"100ms\"\n\
         TimeoutStopSec = \"10s\"\n{service}\n[Swap]\nDrainSec = \"500ms\"\nSettleSec = \"200ms\"\n\
         ProbationSec = \"100ms\"\n"
    )
}

fn start_all(supd: &Supd, units: &[&str]) {
    supd.ctl(&["daemon-reload"]).expect(0);
    let asked: Vec<_> = units.iter().map(|unit| supd.ctl_start(&["start", unit])).collect();
    asked.into_iter().for_each(|start| drop(start.finish(SOON).expect(0)));
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// What `env` wrote.
fn environment(path: &Path) -> BTreeMap<String, String> {
    let complete = || Some(lines(path)).filter(|lines| lines.last().is_some_and(|last| last == "end"));
    let lines = wait_for(&format!("all of {}", path.display()), SOON, complete);
    let pairs = lines.iter().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Removes a folder outside of the test's own.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _gone_already = fs::remove_dir_all(&self.0);
    }
}

/// RuntimeDirectory, StateDirectory, EnvironmentFile, PassListenPID; and what ExecStop and ExecStopPost
/// are told.
fn directories_and_environment() {
    let supd = Supd::start();
    let file = |name: &str| supd.app().join(name);
    fs::write(file("env"), "FROM_FILE=\"a file's\"\n").expect("a file");
    let name = format!("supd-test-{}", std::process::id());
    let say = |to: &str| format!("env > {0}; echo end >> {0}", file(to).display());
    let hook = |to: &str| serde_json::to_string(&["/bin/sh", "-c", &say(to)]).expect("words");
    let service = format!(
        "RuntimeDirectory = \"{name}\"\nStateDirectory = \"{name}\"\nEnvironmentFile = [{:?}, \"-/nonexistent\"]\n\
         PassListenPID = false\nExecStop = [{}]\nExecStopPost = [{}]\n",
        file("env"),
        hook("stop"),
        hook("post"),
    );
    let unit =
        script(&format!("{}; touch \"$RUNTIME_DIRECTORY/x\"; exec sleep 600", say("worker")), &service);
    supd.write_unit("web", &format!("[[Socket]]\nListenStream = \"127.0.0.1:{}\"\n{unit}", free_port()));
    start_all(&supd, &["web"]);
    let seen = environment(&file("worker"));
    assert_eq!(seen["FROM_FILE"], "a file's");
    assert_eq!(seen["LISTEN_FDS"], "1");
    assert!(!seen.contains_key("LISTEN_PID"), "{seen:?}");
    let state = Removed(seen["STATE_DIRECTORY"].clone().into());
    let runtime = Removed(seen["RUNTIME_DIRECTORY"].clone().into());
    for folder in [&state.0, &runtime.0] {
        assert!(folder.is_dir() && folder.ends_with(&name), "{}", folder.display());
    }
    wait_until("the worker to use its folder", SOON, || runtime.0.join("x").exists());

    // A swap leaves it to the new generation; the end of all takes it away, and only it.
    supd.ctl(&["restart", "web", "--wait=drained"]).expect(0);
    assert!(runtime.0.join("x").exists());
    fs::write(runtime.0.join("old"), "").expect("a file");
    supd.ctl(&["stop", "web"]).expect(0);
    wait_until("RuntimeDirectory to go", SOON, || !runtime.0.exists());
    let parent = runtime.0.parent().expect("its folder").to_owned();
    let aside = || {
        fs::read_dir(&parent).expect("it").flatten().any(|entry| {
            entry.file_name().to_string_lossy().starts_with(&format!(".supd-gone-{}-", supd.pid()))
        })
    };
    wait_until("what was moved away to be removed", SOON, || !aside());
    assert!(state.0.is_dir());
    let told = |seen: &BTreeMap<String, String>| {
        ["SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS"].map(|name| seen.get(name).cloned().unwrap_or_default())
    };
    assert_eq!(told(&environment(&file("stop"))), ["success", "", ""]);
    assert_eq!(told(&environment(&file("post"))), ["success", "killed", "TERM"]);
    supd.ctl(&["start", "web"]).expect(0);
    assert!(runtime.0.is_dir() && !runtime.0.join("old").exists(), "a new one");
}

/// SERVICE_RESULT where supd itself ended the worker, whatever the worker made of that.
fn why_supd_ended_it() {
    let supd = Supd::start();
    let deaf = "trap '' TERM; while :; do sleep 0.02; done";
    let table = [
        ("watchdog", "exec sleep 600", "Ready = \"started\"\nWatchdogSec = \"100ms\"", "watchdog"),
        ("slow-start", "exec sleep 600", "TimeoutStartSec = \"100ms\"", "timeout"),
        // ExecStopPost has as long.
        ("slow-stop", deaf, "Ready = \"started\"\nTimeoutStopSec = \"3s\"", "timeout"),
        ("hook", "exec sleep 600", "Ready = \"started\"\nExecStartPost = [\"/bin/false\"]", "exit-code"),
        ("killed", "kill -KILL $$$$", "Ready = \"started\"\nReadySettleSec = \"10s\"", "signal"),
    ];
    let file = |unit: &str| supd.app().join(unit);
    for (unit, lines, keys, _) in table {
        let words = |line: &str| serde_json::to_string(&["/bin/sh", "-c", line]).expect("words");
        let post = words(&format!("env > {0}; echo end >> {0}", file(unit).display()));
        let command = words(lines);
        let text =
            format!("[Service]\nExecStart = {command}\nRestart = \"no\"\n{keys}\nExecStopPost = [{post}]\n");
        supd.write_unit(unit, &text);
    }
    supd.ctl(&["daemon-reload"]).expect(0);
    let asked: Vec<_> = table.iter().map(|(unit, ..)| supd.ctl_start(&["start", unit])).collect();
    asked.into_iter().for_each(|start| drop(start.finish(SOON)));
    supd.ctl(&["stop", "slow-stop"]).expect(0);
    for (unit, _, _, result) in table {
        assert_eq!(environment(&file(unit))["SERVICE_RESULT"], result, "{unit}");
    }
}

/// SuccessExitStatus and RestartPreventExitStatus: all three exit with 3, and one is launched again.
fn exits_that_are_fine() {
    let supd = Supd::start();
    let table = [
        ("again", "", 2),
        ("success", "SuccessExitStatus = [3]", 1),
        ("prevented", "RestartPreventExitStatus = [3]", 1),
    ];
    let launches = |unit: &str| supd.app().join(unit);
    for (unit, key, _) in table {
        let lines = format!(
            "echo $$ >> {}; trap 'exit 3' USR1; while :; do sleep 0.02; done",
            launches(unit).display()
        );
        supd.write_unit(unit, &script(&lines, key));
    }
    let units = table.map(|(unit, ..)| unit);
    start_all(&supd, &units);
    // The others first, so that the one that is launched again shows how long they had.
    for unit in ["success", "prevented", "again"] {
        wait_until("the first run", SOON, || lines(&launches(unit)).len() == 1);
        let pid = supd.status(unit).pids()[0];
        wait_until("its trap", SOON, || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap_or("0");
            u64::from_str_radix(caught, 16).is_ok_and(|set| set & (1 << (Signal::SIGUSR1 as u64 - 1)) != 0)
        });
        supd.ctl(&["kill", "-s", "USR1", unit]).expect(0);
        wait_until("its end", SOON, || !proc::alive(pid));
    }
    wait_until("the second run", SOON, || lines(&launches("again")).len() == 2);
    for (unit, _, runs) in table {
        assert_eq!(lines(&launches(unit)).len(), runs, "{unit}");
        assert_eq!(supd.status(unit).pids().len(), runs - 1, "{unit}");
    }
}

/// Who is told to end, and who is left: the worker's child says what it hears.
fn kill_mode() {
    let supd = Supd::start();
    let table = [
        ("orderly", true, false),
        ("control-group", true, false),
        ("mixed", false, false),
        ("process", false, true),
    ];
    let file = |unit: &str, name: &str| supd.app().join(format!("{unit}.{name}"));
    for (unit, ..) in table {
        let (heard, pid) = (file(unit, "heard"), file(unit, "pid"));
        let child = format!(
            "trap 'echo TERM > {}; exit' TERM; echo $$ > {}; while :; do sleep 0.02; done",
            heard.display(),
            pid.display()
        );
        fs::write(file(unit, "sh"), child).expect("a script");
        let lines = format!("sh {} & exec sleep 600", file(unit, "sh").display());
        supd.write_unit(unit, &script(&lines, &format!("KillMode = \"{unit}\"")));
    }
    start_all(&supd, &table.map(|(unit, ..)| unit));
    for (unit, heard, lives) in table {
        let child = wait_for("its child", SOON, || lines(&file(unit, "pid")).first()?.parse().ok());
        supd.ctl(&["stop", unit]).expect(0);
        assert_eq!(proc::alive(child), lives, "{unit}");
        assert_eq!(file(unit, "heard").exists(), heard, "{unit}");
        if lives {
            proc::signal(child, Signal::SIGKILL);
        }
    }
}

/// Between a crash and the next launch clients wait, or are refused.
fn when_down() {
    let supd = Supd::start();
    supd.install_worker("1");
    let table = [("queue", free_port()), ("refuse", free_port())];
    for (unit, port) in table {
        let keys = format!("RestartSec = \"1h\"\nWhenDown = \"{unit}\"");
        supd.write_unit(unit, &supd.worker(port, &[], &keys, ""));
    }
    start_all(&supd, &table.map(|(unit, _)| unit));
    for (unit, port) in table {
        let connect = || {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok()
        };
        assert!(connect(), "{unit}");
        proc::signal(supd.status(unit).pids()[0], Signal::SIGKILL);
        supd.wait_for_state(unit, "down");
        // Status says why; by then nothing of it is left.
        let told = || supd.ctl(&["status", unit]).expect(0).stdout;
        wait_until("the cause in status", SOON, || told().contains("its worker ended: killed by SIGKILL"));
        assert_eq!(connect(), unit == "queue", "{unit}");
    }
}

fn ambient_capabilities() {
    let supd = Supd::start();
    let unit =
        script("exec sleep 600", "User = \"nobody\"\nAmbientCapabilities = [\"CAP_NET_BIND_SERVICE\"]");
    supd.write_unit("web", &unit);
    start_all(&supd, &["web"]);
    let status =
        fs::read_to_string(format!("/proc/{}/status", supd.status("web").pids()[0])).expect("it runs");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    // CAP_NET_BIND_SERVICE is number 10 (linux/capability.h).
    assert_eq!((field("CapAmb:"), field("CapEff:")), ("0000000000000400", "0000000000000400"));
    assert!(field("Uid:").starts_with("65534"), "{status}");
}
