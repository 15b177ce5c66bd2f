//! What verbs say and do in the states that they meet seldom: as a rehearsal, beside a drain, by who logged
//! in as somebody else.

use super::{Shop, text};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Command;

const LOGIN: &[Need] = &[Need::Root, Need::File("/proc/self/loginuid", "a kernel with audit(7)")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("releases::drained_still", drained_still),
        test("releases::rehearsed", rehearsed),
        test("releases::while_the_first_is_installed", while_the_first_is_installed),
        test_with("releases::who_logged_in", LOGIN, who_logged_in),
    ]
}

/// A release goes only once nothing of it runs any more.
fn drained_still() {
    let shop = Shop::open();
    shop.ctl(&["deploy", "web", "1", text(&shop.build("1", "ignore-term"))]).expect(0);
    shop.deploy("2").expect(0);
    shop.deploy("3").expect(0);
    let refused = shop.ctl(&["undeploy", "web", "1"]).expect(3);
    assert!(refused.text().contains("is drained still: generation 1 has 1 worker"), "{refused}");
    assert!(refused.text().contains("Next: supctl wait web --wait=drained"), "{refused}");
    assert!(shop.place("1").join("bin/server").exists());
    assert_eq!(shop.labels(), ["1", "2", "3"]);
    shop.supd.status("web").pids_in(1).iter().for_each(|pid| proc::signal(*pid, Signal::SIGKILL));
    free(&shop, "1");
    shop.ctl(&["undeploy", "web", "1"]).expect(0);
    assert_eq!(shop.labels(), ["2", "3"]);
    shop.expect_no_leftovers();
}

/// Waits until nothing of this release runs, and nobody waits where it did.
fn free(shop: &Shop, label: &str) {
    wait_until("the release to be free", SOON, || {
        shop.ctl(&["--dry-run", "undeploy", "web", label]).code() == 0
    });
}

/// What there is of the unit: its state, who is active, and every process.
fn facts(shop: &Shop) -> Vec<Value> {
    let status = shop.supd.status("web").0;
    let of = |one: &Value| ["generation", "state", "share", "pids"].map(|key| one[key].clone()).to_vec();
    let generations = status["generations"].as_array().expect("a list").iter().flat_map(of);
    ["state", "active", "retained"].iter().map(|key| status[*key].clone()).chain(generations).collect()
}

/// Says what would be, with the status that it would be refused with; and nothing is.
fn rehearsals(shop: &Shop, table: &[(&[&str], i32, &str)]) {
    let before = facts(shop);
    for (line, status, said) in table {
        let would = shop.ctl(&[&["--dry-run"], *line].concat()).expect(*status);
        assert!(would.text().contains(said), "{line:?}: {said:?} is missing: {would}");
        assert_eq!(facts(shop), before, "{line:?}");
    }
}

fn rehearsed() {
    let shop = Shop::open_with("ReloadSignal = \"SIGHUP\"", "Retain = \"warm\"\nStandbySec = \"1h\"");
    rehearsals(&shop, &[(&["start", "web"], 3, "supctl deploy web LABEL SOURCE")]);
    shop.deploy("1").expect(0);
    shop.deploy("2").expect(0);
    rehearsals(
        &shop,
        &[
            (&["start", "web"], 0, "web"),
            (&["rollback", "web"], 0, "would lead new connections to generation 1 of release 1"),
            (&["rollback", "web", "9"], 3, "release 9"),
            (&["promote", "web"], 3, "no swap is under way"),
            (&["abort", "web"], 3, "supctl rollback web"),
            (&["share", "web", "10%"], 3, "no swap is under way"),
            (&["reload", "web"], 0, "would"),
            (&["kill", "web", "-s", "KILL"], 0, "would"),
            (&["drain", "web", "--generation", "1"], 0, "would"),
            (&["drain", "web", "--generation", "2"], 3, "active"),
        ],
    );
    shop.ctl(&["deploy", "web", "3", text(&shop.build("3", "")), "--hold"]).expect(0);
    rehearsals(
        &shop,
        &[
            (&["promote", "web"], 0, "would"),
            (&["abort", "web"], 0, "would undo the swap to generation 3, back to generation 2"),
            (&["rollback", "web"], 0, "would undo the swap to generation 3, back to generation 2"),
            (&["share", "web", "10%"], 0, "would"),
            (&["kill", "web", "-s", "KILL"], 0, "would"),
        ],
    );
    shop.ctl(&["abort", "web"]).expect(0);
    free(&shop, "3");
    let gone = "would take release 3 and its files away";
    let ends = "would stop all 1 unit(s) in order, then end supd";
    let table: [(&[&str], i32, &str); 3] = [
        (&["undeploy", "web", "3"], 0, gone),
        (&["stop", "web"], 0, "would end 2 generation(s)"),
        (&["shutdown"], 0, ends),
    ];
    rehearsals(&shop, &table);
    shop.ctl(&["stop", "web"]).expect(0);
    rehearsals(
        &shop,
        &[
            (&["start", "web"], 0, "would launch generation 4 of release 2"),
            (&["reload", "web"], 3, "no generation is active"),
            (&["kill", "web", "-s", "KILL"], 3, "web"),
        ],
    );
    let done = shop.ctl(&["--json", "history", "web", "-n", "all"]).expect(0).stdout;
    assert!(!done.contains("signalled") && !done.contains("reloaded"), "{done}");
}

/// Who cannot start yet hears what to wait for.
fn while_the_first_is_installed() {
    let shop = Shop::open_with("ExecInstall = [\"/bin/sleep\", \"600\"]", "");
    let installing = shop.start(&["install", "web", "1", text(&shop.build("1", ""))]);
    let waits = || shop.ctl(&["start", "web"]);
    wait_until("ExecInstall to run", SOON, || waits().text().contains("is being prepared by ExecInstall"));
    let refused = waits().expect(3);
    assert!(refused.text().contains("no release is installed; release 1 is being prepared"), "{refused}");
    assert!(refused.text().contains("Next: supctl wait web"), "{refused}");
    shop.ctl(&["abort", "web"]).expect(0);
    installing.finish(SOON).expect(1);
    assert!(waits().expect(3).text().contains("supctl deploy web LABEL SOURCE"));
}

/// Whoever became root with sudo is told of by the name that was logged in with.
fn who_logged_in() {
    const LOGIN_UID: u64 = 4_242;
    let shop = Shop::open();
    let one = shop.build("1", "");
    let mut command = Command::new("/bin/sh");
    let line = "echo $1 > /proc/self/loginuid && shift && exec \"$@\"";
    command.args(["-c", line, "sh", &LOGIN_UID.to_string(), env!("CARGO_BIN_EXE_supctl"), "--runtime"]);
    command.arg(shop.supd.runtime()).args(["deploy", "web", "1", text(&one)]);
    crate::harness::Running::start(&mut command).finish(SOON).expect(0);
    let view = shop.ctl(&["--json", "history", "web", "-n", "1"]).expect(0).stdout;
    let view: Value = serde_json::from_str(&view).expect("JSON");
    let by = &view["entries"][0]["by"];
    assert_eq!((by["uid"].as_u64(), by["login_uid"].as_u64()), (Some(0), Some(LOGIN_UID)), "{view}");
    let table = shop.ctl(&["history", "web"]).expect(0).stdout;
    assert!(table.contains("root (4242)"), "{table}");
}
