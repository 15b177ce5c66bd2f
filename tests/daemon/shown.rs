//! What people are shown: status, its notes, and how long it goes on.

use crate::harness::{Supd, free_port};
use crate::wait::{SOON, wait_for};
use crate::{Test, proc, test};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("shown::a_faulty_file_is_a_unit_that_is_down", a_faulty_file_is_a_unit_that_is_down),
        test("shown::listeners_are_those_of_what_serves", listeners_are_those_of_what_serves),
        test("shown::watch_ends_with_its_reader", watch_ends_with_its_reader),
        test("shown::a_unit_that_is_down_holds_no_port", a_unit_that_is_down_holds_no_port),
        test("shown::flags", flags),
    ]
}

/// `status` without a unit; the fixture's own status asks for one.
fn all(supd: &Supd) -> Vec<Value> {
    let output = supd.ctl(&["--json", "status"]).expect(0);
    let value: Value = serde_json::from_str(&output.stdout).expect("JSON");
    value["units"].as_array().expect("units").clone()
}

/// Those of verbs that only look.
fn flags() {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    let quiet = supd.ctl(&["is-active", "--quiet", "web"]).expect(0);
    assert_eq!(quiet.text(), "");
    assert_eq!(supd.ctl(&["is-active", "web"]).expect(0).stdout, "active\n");
    let on_a_terminal = |line: &[&str]| {
        crate::logs::on_a_terminal(supd.ctl_command(line).env("TERM", "xterm").env_remove("NO_COLOR"))
    };
    let (painted, plain) = (on_a_terminal(&["status"]), on_a_terminal(&["--no-color", "status"]));
    assert!(painted.contains("\u{1b}[") && painted.contains("web"), "{painted:?}");
    assert!(!plain.contains('\u{1b}') && plain.contains("web"), "{plain:?}");
    supd.ctl(&["stop", "web"]).expect(0);
    assert_eq!(supd.ctl(&["is-active", "--quiet", "web"]).expect(1).text(), "");
    let keys = supd.ctl(&["check", "--keys"]).expect(0).stdout;
    for key in ["ListenStream", "ExecStart", "MaxGenerations"] {
        assert!(keys.lines().any(|line| line.trim() == key), "{key}: {keys}");
    }
}

/// At boot, after a reload, and until it is mended or gone.
fn a_faulty_file_is_a_unit_that_is_down() {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.write_unit("web", "[Service]\nExecStart = \"/bin/x\"\nRestrat = \"no\"\n");
    let supd = supd.crash_and_restart();
    let file = supd.path().join("units/web.unit");
    let shown = supd.ctl(&["status"]).expect(0);
    for part in
        ["web", "down", &format!("{}:3:1", file.display()), &format!("supctl check {}", file.display())]
    {
        assert!(shown.stdout.contains(part), "{part} is not in\n{shown}");
    }
    assert_eq!(supd.status("web").state(), "down");
    supd.ctl(&["status", "--check"]).expect(1);
    supd.ctl(&["status", "--check", "web"]).expect(1);
    assert_eq!(supd.ctl(&["is-active", "web"]).expect(1).stdout, "down\n");
    supd.ctl(&["start", "web"]).expect(78);

    // One that runs goes on, and its file is wrong all the same.
    let good = supd.worker(free_port(), &[], "", "");
    supd.launch("web", &good);
    supd.ctl(&["status", "--check"]).expect(0);
    supd.write_unit("web", &good.replace("Releases", "Relaeses"));
    supd.ctl(&["daemon-reload"]).expect(78);
    let shown = supd.ctl(&["status", "web"]).expect(0);
    assert!(shown.stdout.contains("its file is wrong") && shown.stdout.contains("active"), "{shown}");
    supd.write_unit("web", &good);

    // What is gone is not wrong, and what is new is not unknown.
    supd.write_unit("other", "[Service]\n");
    supd.ctl(&["daemon-reload"]).expect(78);
    assert_eq!(all(&supd).len(), 2);
    std::fs::remove_file(supd.path().join("units/other.unit")).expect("the file");
    supd.ctl(&["daemon-reload"]).expect(0);
    assert_eq!(all(&supd).len(), 1);
    supd.write_unit("new", &good);
    let unread = supd.ctl(&["status", "new"]).expect(3);
    assert!(unread.stderr.contains("Next: supctl daemon-reload"), "{unread}");
    assert!(!unread.stderr.contains("did you mean"), "{unread}");
}

fn addresses(supd: &Supd) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let listeners = supd.status("web").0["listeners"].as_array().expect("listeners").clone();
    listeners.iter().map(|one| (text(&one["address"]), text(&one["note"]))).collect()
}

fn notes(supd: &Supd) -> String {
    supd.status("web").0["notes"].to_string()
}

/// Whatever the file says by now: what is new applies at the next swap, and that is said.
fn listeners_are_those_of_what_serves() {
    let supd = Supd::start();
    supd.install_worker("1");
    let (old, new) = (free_port(), free_port());
    supd.launch("web", &supd.worker(old, &[], "", ""));
    let at = |port: u16, note: &str| (format!("127.0.0.1:{port}"), note.to_owned());
    assert_eq!(addresses(&supd), [at(old, "")]);
    assert_eq!(notes(&supd), "[]");

    // A swap that fails leaves what serves where it is.
    supd.write_unit("web", &supd.worker(new, &["die=3"], "Restart = \"no\"", ""));
    supd.ctl(&["swap", "web"]).expect(1);
    assert_eq!(addresses(&supd), [at(old, ""), at(new, "applies at the next swap")]);
    assert!(notes(&supd).contains("its file is not what serves: supctl swap web"), "{}", notes(&supd));
    assert!(supd.status("web").0["listeners"][0]["queue"].is_u64());

    // The same file again is no change; another one is.
    supd.write_unit("web", &supd.worker(old, &[], "", ""));
    supd.ctl(&["swap", "web"]).expect(0);
    assert_eq!(notes(&supd), "[]");
    supd.write_unit("web", &supd.worker(new, &[], "", ""));
    supd.ctl(&["daemon-reload"]).expect(0);
    assert_eq!(addresses(&supd), [at(old, ""), at(new, "applies at the next swap")]);
    assert!(notes(&supd).contains("changed on disk: supctl restart web"), "{}", notes(&supd));
    supd.ctl(&["restart", "web"]).expect(0);
    assert_eq!(addresses(&supd)[0], at(new, ""));
    // What was pinned and what is on disk are the same after a restart of supd, too.
    let supd = supd.crash_and_restart();
    supd.wait_for_state("web", "active");
    assert_eq!(notes(&supd), "[]");
}

/// As in `supctl --json status --watch | head -n 1`.
fn watch_ends_with_its_reader() {
    let supd = Supd::start();
    let mut command = supd.ctl_command(&["--json", "status", "--watch"]);
    let mut watch = command.stdout(Stdio::piped()).spawn().expect("supctl");
    let mut first = String::new();
    BufReader::new(watch.stdout.take().expect("its output")).read_line(&mut first).expect("a line");
    assert!(first.starts_with('{'), "{first}");
    let pid = watch.id();
    let end = wait_for("the watch to end", SOON, || watch.try_wait().expect("waiting for supctl"));
    assert_eq!(end.code(), Some(0));
    assert!(!proc::alive(pid));
}

/// It wants a port that somebody else has; a unit that has the port free is not in its way, nor
/// the other way round.
fn a_unit_that_is_down_holds_no_port() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    let stranger = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    supd.write_unit("one", &supd.worker(port, &[], "", ""));
    // At boot it is tried again and again; a start by hand would only be refused.
    let supd = supd.crash_and_restart();
    let down = supd.wait_for_state("one", "down");
    let told = down.0["notes"].to_string();
    assert!(told.contains("was in use by") && told.contains(&std::process::id().to_string()), "{told}");
    drop(stranger);
    supd.write_unit("two", &supd.worker(port, &[], "Start = \"manual\"", ""));
    let started = supd.ctl(&["start", "two"]);
    // Unless the first one was tried again just then.
    if supd.status("one").state() == "down" {
        started.expect(0);
    } else {
        let told = started.expect(3);
        assert!(told.stderr.contains("Next: supctl stop one"), "{told}");
        return;
    }
    let told = supd.ctl(&["start", "one"]).expect(3);
    assert!(told.stderr.contains("Next: supctl stop two"), "{told}");
}
