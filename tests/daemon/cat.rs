//! `supctl cat`: what is on disk, what runs, what was pinned; and who is told.

use crate::harness::{Supd, free_port};
use crate::{Need, Test, test, test_with};
use serde_json::Value;
use std::process::Command;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("cat::disk_and_generations", disk_and_generations),
        test_with(
            "cat::whose_name_it_was",
            &[Need::Root, Need::Program("setpriv", "util-linux")],
            whose_name_it_was,
        ),
        test_with("cat::who_may", &[Need::Root, Need::Program("setpriv", "util-linux")], who_may),
    ]
}

fn setting(text: &str, key: &str) -> Value {
    let reply: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let settings = reply["settings"].as_array().expect("settings").clone();
    settings.into_iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("no {key}: {text}"))
}

/// The file, with its drop-in, beside what runs; and every generation with its own.
fn disk_and_generations() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    let unit = supd.worker(port, &[], "Nice = 1", "");
    supd.launch("web", &unit);

    let same = supd.ctl(&["cat", "web"]).expect(0);
    assert!(same.stdout.starts_with("# web: as on disk, and as generation 1 was launched\n"), "{same}");
    assert!(same.stdout.contains(&format!("ListenStream = \"127.0.0.1:{port}\"  # ")), "{same}");
    assert!(same.stdout.contains("\nKillSignal = \"SIGTERM\"  # default\n"), "{same}");
    assert!(!same.stdout.contains("; generation"), "{same}");

    let drop_ins = supd.path().join("units/web.unit.d");
    std::fs::create_dir(&drop_ins).expect("a folder of drop-ins");
    std::fs::write(drop_ins.join("nice.unit"), "[Service]\nNice = 2\nUMask = \"0027\"\n").expect("a drop-in");
    let changed = supd.ctl(&["cat", "web"]).expect(0);
    assert!(changed.stdout.contains("changed on disk since generation 1: supctl restart web"), "{changed}");
    assert!(changed.stdout.contains("nice.unit:2; generation 1 has 1\n"), "{changed}");
    assert!(changed.stdout.contains("nice.unit:3; generation 1 has \"0022\"\n"), "{changed}");

    supd.ctl(&["swap", "web"]).expect(0);
    let json = supd.ctl(&["--json", "cat", "web"]).expect(0).stdout;
    let nice = setting(&json, "Nice");
    assert_eq!((&nice["value"], &nice["differs"]), (&Value::from("2"), &Value::from(false)), "{nice}");
    assert_eq!(nice["line"], 2);
    for (generation, value) in [("1", "1"), ("2", "2")] {
        let pinned = supd.ctl(&["--json", "cat", "web", "--generation", generation]).expect(0).stdout;
        let nice = setting(&pinned, "Nice");
        assert_eq!((&nice["value"], &nice["file"]), (&Value::from(value), &Value::Null), "{pinned}");
    }
    let unknown = supd.ctl(&["cat", "web", "--generation", "99"]).expect(3);
    assert!(unknown.stderr.contains("generation 99 is not known") && unknown.stderr.contains("Next: supctl"));
    supd.ctl(&["cat", "wep"]).expect(3);

    // What is printed is a unit file.
    let copy = supd.path().join("copy.unit");
    std::fs::write(&copy, supd.ctl(&["cat", "web"]).expect(0).stdout).expect("a copy");
    supd.ctl(&["check", &copy.to_string_lossy()]).expect(0);

    supd.write_unit("web", "[Service]\nNice = x\n");
    let broken = supd.ctl(&["cat", "web"]).expect(78);
    assert!(broken.stderr.contains("web.unit:2:"), "{broken}");
    supd.ctl(&["cat", "web", "--generation", "2"]).expect(0);
    std::fs::remove_file(supd.path().join("units/web.unit")).expect("no unit file");
    supd.ctl(&["cat", "web"]).expect(3);
}

/// A unit that was removed and made anew for others: what is left of the old one is not theirs.
fn whose_name_it_was() {
    const OLD: u32 = 60_123;
    const NEW: u32 = 60_126;
    let supd = Supd::start();
    supd.install_worker("1");
    let unit = |group: u32, secret: &str| {
        let unit = supd.worker(free_port(), &[], "User = \"nobody\"", "");
        let unit = unit.replace("Environment = { ", &format!("Environment = {{ SECRET = \"{secret}\", "));
        format!("[Unit]\nControlGroup = \"{group}\"\n{unit}")
    };
    supd.launch("web", &unit(OLD, "hush"));
    supd.ctl(&["stop", "web"]).expect(0);
    std::fs::remove_file(supd.path().join("units/web.unit")).expect("a unit file");
    supd.ctl(&["daemon-reload"]).expect(0);
    supd.write_unit("web", &unit(NEW, "new"));
    supd.ctl(&["daemon-reload"]).expect(0);
    let ask = |gid: u32, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=60124", &format!("--regid={gid}"), "--clear-groups"]);
        command.arg(env!("CARGO_BIN_EXE_supctl")).arg("--runtime").arg(supd.runtime()).args(arguments);
        crate::harness::Running::start(&mut command).finish(crate::wait::SOON)
    };
    let log = ["logs", "web", "--generation", "1"];
    for of_old in [&["cat", "web", "--generation", "1"][..], &log, &["logs", "web"]] {
        let refused = ask(NEW, of_old).expect(77);
        assert!(
            !refused.text().contains("hush") && refused.text().contains("another ControlGroup"),
            "{refused}"
        );
        ask(OLD, of_old).expect(77);
        supd.ctl(of_old).expect(0);
    }
    supd.ctl(&["start", "web"]).expect(0);
    ask(NEW, &log).expect(77);
    for of_new in [&["cat", "web", "--generation", "2"][..], &["logs", "web"], &["cat", "web"]] {
        assert!(!ask(NEW, of_new).expect(0).text().contains("hush"));
    }
}

/// The environment is for those who may act on the unit, and for nobody else.
fn who_may() {
    const GROUP: u32 = 60_123;
    let supd = Supd::start();
    supd.install_worker("1");
    let unit = supd.worker(free_port(), &[], "User = \"nobody\"", "");
    let unit = unit.replace("Environment = { ", "Environment = { SECRET = \"hush\", ");
    supd.launch("web", &format!("[Unit]\nControlGroup = \"{GROUP}\"\n{unit}"));
    let ask = |gid: u32, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=60124", &format!("--regid={gid}"), "--clear-groups"]);
        command.arg(env!("CARGO_BIN_EXE_supctl")).arg("--runtime").arg(supd.runtime()).args(arguments);
        crate::harness::Running::start(&mut command).finish(crate::wait::SOON)
    };
    for arguments in [&["cat", "web"][..], &["--json", "cat", "web"], &["cat", "web", "--generation", "1"]] {
        let refused = ask(60_125, arguments).expect(77);
        assert!(!refused.text().contains("hush") && refused.text().contains("web: this is for"), "{refused}");
        let told = ask(GROUP, arguments).expect(0);
        assert!(told.stdout.contains("hush"), "{told}");
    }
    assert!(!ask(60_125, &["--json", "status", "web"]).expect(0).text().contains("hush"));
}
