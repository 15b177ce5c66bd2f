//! Both protocols, spoken by programs that are not ours: libsystemd and systemd-notify at the notify
//! socket; the client library and the command-line tool of the PyPI package `varlink` at the control
//! socket.

use crate::harness::{Output, Running, Supd, free_port};
use crate::servers::copy_apps;
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, proc, test_with};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const VENV: &str = "target/test-tools/venv/bin/python3";
const SYSTEMD: &[Need] =
    &[Need::Program("systemd-notify", "systemd"), Need::Library("libsystemd.so.0", "libsystemd0")];
const VARLINK: &[Need] = &[Need::File(VENV, "./tests/run installs varlink from PyPI")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test_with("peers::libsystemd", SYSTEMD, libsystemd),
        test_with("peers::libsystemd_watchdog", SYSTEMD, libsystemd_watchdog),
        test_with("peers::varlink_tool", VARLINK, varlink_tool),
        test_with("peers::varlink_client", VARLINK, varlink_client),
    ]
}

fn unit(port: u16, app: &Path, service: &str) -> String {
    let program = app.join("libsystemd.py");
    format!(
        "[[Socket]]\nName = \"front\"\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\n\
         ExecStart = [\"/usr/bin/python3\", {program:?}]\nReloadSignal = \"SIGHUP\"\n\
         ReadySettleSec = \"100ms\"\nTimeoutStartSec = \"10s\"\nTimeoutStopSec = \"10s\"\n\
         RestartSec = \"100ms\"\n{service}\n\n[Swap]\nDrainSec = \"500ms\"\nSettleSec = \"200ms\"\n\
         ProbationSec = \"300ms\"\n"
    )
}

fn status_text(supd: &Supd) -> String {
    let status = supd.status("web");
    let generations = status.0["generations"].as_array().cloned().unwrap_or_default();
    generations.first().and_then(|one| one["status_text"].as_str()).unwrap_or_default().to_owned()
}

/// Listeners by name, READY, STATUS, BARRIER, a reload with RELOADING and READY in which a helper has
/// a word, STOPPING: libsystemd's asserts are in apps/libsystemd.py, where a failed one ends it.
fn libsystemd() {
    let supd = Supd::start();
    copy_apps(&supd.app());
    supd.launch("web", &unit(free_port(), &supd.app(), ""));
    assert_eq!(status_text(&supd), "listener front, watchdog 0");
    let before = supd.status("web").pids();

    supd.ctl(&["reload", "web"]).expect(0);
    // The reload is over only with READY=1, so the helper's STATUS before it has counted by then.
    assert_eq!(status_text(&supd), "reloaded, says systemd-notify");
    assert_eq!(supd.status("web").pids(), before, "a reload ends nobody");

    supd.ctl(&["swap", "web"]).expect(0);
    wait_until("the old worker to end", SOON, || before.iter().all(|pid| !proc::alive(*pid)));
    assert!(supd.logs().contains("the barrier came back"), "{}", supd.logs());
}

/// WATCHDOG_USEC reaches sd_watchdog_enabled(3); fed it is left alone for three periods, starved it
/// is relaunched in the same generation.
fn libsystemd_watchdog() {
    let supd = Supd::start();
    copy_apps(&supd.app());
    supd.launch("web", &unit(free_port(), &supd.app(), "WatchdogSec = \"600ms\""));
    assert_eq!(status_text(&supd), "listener front, watchdog 600000");
    let before = supd.status("web");
    crate::wait::holds_for("a fed worker to live", std::time::Duration::from_secs(2), || {
        before.pids().iter().all(|pid| proc::alive(*pid))
    });
    supd.ctl(&["kill", "-s", "SIGUSR1", "web"]).expect(0);
    let after = wait_for("a relaunch by the watchdog", SOON, || {
        let status = supd.status("web");
        let relaunched = status.state() == "active" && !status.pids().is_empty();
        (relaunched && status.pids() != before.pids()).then_some(status)
    });
    assert_eq!(after.active(), before.active(), "a crash never makes a generation");
}

pub(crate) fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(VENV)
}

fn varlink(arguments: &[&str]) -> Output {
    Running::start(Command::new(python()).args(["-m", "varlink.cli"]).args(arguments)).finish(SOON)
}

/// `info`, `help`, `call` and `call --more`, as a person types them.
fn varlink_tool() {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    let socket = format!("unix:{}", supd.control().display());

    let info = varlink(&["info", &socket]).expect(0);
    for word in ["dev.supd.Manager", "org.varlink.service", env!("CARGO_PKG_VERSION")] {
        assert!(info.stdout.contains(word), "no {word} in:\n{info}");
    }
    let help = varlink(&["help", &format!("{socket}/dev.supd.Manager")]).expect(0);
    assert!(help.stdout.contains("method Swap("), "{help}");
    let help = varlink(&["help", &format!("{socket}/org.varlink.service")]).expect(0);
    assert!(help.stdout.contains("method GetInfo()"), "{help}");

    let call =
        varlink(&["call", &format!("{socket}/dev.supd.Manager.Status"), "{\"unit\": \"web\"}"]).expect(0);
    let reply: Value = serde_json::from_str(&call.stdout).unwrap_or_else(|error| panic!("{error}:\n{call}"));
    assert!(reply.to_string().contains("\"unit\":\"web\""), "{call}");

    // With more, progress comes in replies of its own, and the last one says what came of it.
    supd.install_worker("2");
    let swap =
        varlink(&["call", "--more", &format!("{socket}/dev.supd.Manager.Swap"), "{\"unit\": \"web\"}"])
            .expect(0);
    assert!(swap.stdout.matches("\"format\"").count() >= 2, "no progress in:\n{swap}");
    assert!(swap.stdout.contains("\"changed\": true"), "{swap}");

    let unknown = varlink(&["call", &format!("{socket}/dev.supd.Manager.Nonsense"), "{}"]);
    assert!(unknown.text().contains("org.varlink.service.MethodNotFound"), "{unknown}");
    let wrong = varlink(&["call", &format!("{socket}/dev.supd.Manager.Swap"), "{\"unit\": 7}"]);
    assert!(wrong.text().contains("org.varlink.service.InvalidParameter"), "{wrong}");
    assert_eq!(supd.status("web").state(), "active");
}

/// The library checks each reply against the description that supd gives of itself.
fn varlink_client() {
    let supd = Supd::start();
    copy_apps(&supd.app());
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    let socket = format!("unix:{}", supd.control().display());
    let program = supd.app().join("varlink_client.py");
    let output =
        Running::start(Command::new(python()).arg(program).args([&socket, "web"])).finish(SOON).expect(0);
    let lines: Vec<Value> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}:\n{output}")))
        .collect();
    assert_eq!(lines.len(), 4, "{output}");
    assert_eq!(lines[1]["units"][0]["unit"], "web", "{output}");
    assert!(
        lines[2]["error"].as_str().is_some_and(|error| error.starts_with("dev.supd.Manager.")),
        "{output}"
    );
    assert_eq!(lines[3], "active");
}
