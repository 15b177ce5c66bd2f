//! Who may do what: a table of verb and caller, through the real programs.

use super::{Shop, text};
use crate::harness::Output;
use crate::wait::SOON;
use crate::{Need, Test, test_with};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

pub(crate) fn tests() -> Vec<Test> {
    vec![test_with("releases::whoever_may", &[Need::Root], whoever_may)]
}

/// Callers: somebody, a member of the unit's ControlGroup (games), and root. (Who is in the group supd
/// may what root may: src/daemon/control/rights.rs.)
#[derive(Debug, Clone, Copy)]
enum Caller {
    Somebody,
    Member,
    Root,
}

const CALLERS: [Caller; 3] = [Caller::Somebody, Caller::Member, Caller::Root];

impl Caller {
    fn is(self) -> &'static [&'static str] {
        match self {
            Self::Somebody => &["--reuid=65534", "--regid=65534", "--clear-groups"],
            Self::Member => &["--reuid=65534", "--regid=65534", "--groups=60"],
            Self::Root => &["--reuid=0"],
        }
    }
}

/// Runs supctl as a caller.
fn as_caller(shop: &Shop, caller: Caller, arguments: &[&str]) -> Output {
    let supctl = shop.supd.app().join("supctl");
    let mut command = Command::new("setpriv");
    command.args(caller.is()).arg(&supctl);
    command.arg("--runtime").arg(shop.supd.runtime()).args(arguments);
    crate::harness::Running::start(&mut command).finish(SOON)
}

/// What each verb of a unit wants, and whether a ControlGroup has it.
fn whoever_may() {
    let shop = Shop::open();
    let supctl = shop.supd.app().join("supctl");
    fs::copy(env!("CARGO_BIN_EXE_supctl"), &supctl).expect("the test's own files");
    fs::set_permissions(&supctl, fs::Permissions::from_mode(0o755)).expect("the test's own files");
    fs::set_permissions(shop.supd.runtime(), fs::Permissions::from_mode(0o755))
        .expect("the test's own files");
    let unit = fs::read_to_string(shop.supd.path().join("units/web.unit")).expect("the test's own files");
    let unit = unit.replace("ReadySettleSec", "User = \"daemon\"\nReadySettleSec");
    shop.supd.write_unit("web", &format!("[Unit]\nControlGroup = \"games\"\n{unit}"));
    shop.ctl(&["daemon-reload"]).expect(0);
    shop.deploy("1").expect(0);
    let two = shop.build("2", "");
    let two = text(&two);
    // Reading is for everyone. (The statuses: done, refused by the machine, or not allowed: 77.)
    let read = [
        &["status", "web"][..],
        &["is-active", "web"],
        &["releases", "web"],
        &["wait", "web"],
        &["history", "web"],
    ];
    let act: [&[&str]; 15] = [
        &["--dry-run", "deploy", "web", "2", two],
        &["install", "web", "2", two],
        &["deploy", "web", "2", two],
        &["swap", "web", "1"],
        &["rollback", "web", "2"],
        &["restart", "web"],
        &["reload", "web"],
        &["kill", "-s", "CONT", "web"],
        &["promote", "web"],
        &["abort", "web"],
        &["undeploy", "web", "9"],
        &["logs", "web"],
        &["cat", "web"],
        &["stop", "web"],
        &["start", "web"],
    ];
    let manage: [&[&str]; 1] = [&["daemon-reload"]];
    for caller in CALLERS {
        for verb in read {
            as_caller(&shop, caller, verb).expect(0);
        }
        for (verbs, may) in
            [(&act[..], !matches!(caller, Caller::Somebody)), (&manage[..], matches!(caller, Caller::Root))]
        {
            for verb in verbs {
                let before = shop.supd.status("web").0["active"].clone();
                let output = as_caller(&shop, caller, verb);
                assert_eq!(output.code() != 77, may, "{caller:?} {verb:?}: {output}");
                if !may {
                    assert!(
                        output.text().contains("sudo supctl") || output.text().contains("games"),
                        "{output}"
                    );
                    assert_eq!(shop.supd.status("web").0["active"], before, "{caller:?} {verb:?}");
                }
            }
        }
    }
    for caller in [Caller::Somebody, Caller::Member] {
        let refused = as_caller(&shop, caller, &["shutdown"]).expect(77);
        assert!(shop.supd.is_alive(), "{refused}");
    }
}
