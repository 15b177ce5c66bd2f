//! Who may do what: a table of verb and caller, through the real programs.

use super::Shop;
use crate::harness::{Output, Setup};
use crate::wait::SOON;
use crate::{Need, Test, test_with};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Program("unshare", "util-linux"),
    Need::Program("setpriv", "util-linux"),
    Need::Program("mount", "mount"),
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test_with("releases::whoever_may", NEEDS, whoever_may),
        test_with("releases::whoever_may_with_a_private_one", NEEDS, whoever_may_with_a_private_one),
    ]
}

/// Callers: somebody, a member of the unit's ControlGroup (games), a member of the group supd, the user that
/// supd runs as, and root.
#[derive(Debug, Clone, Copy)]
enum Caller {
    Somebody,
    Member,
    Group,
    Owner,
    Root,
}

/// The group supd, on a machine that has none.
const GROUP: u32 = 59;
/// Who runs a supd that is not root's.
const OWNER: u32 = 1;

impl Caller {
    fn is(self) -> Vec<String> {
        let (uid, groups) = match self {
            Self::Somebody => (65_534, "--clear-groups".to_owned()),
            Self::Member => (65_534, "--groups=60".to_owned()),
            Self::Group => (65_534, format!("--groups={GROUP}")),
            Self::Owner => (OWNER, "--clear-groups".to_owned()),
            Self::Root => (0, "--clear-groups".to_owned()),
        };
        vec![format!("--reuid={uid}"), format!("--regid={uid}"), groups]
    }

    /// Runs supctl.
    fn ask(self, shop: &Shop, arguments: &[&str]) -> Output {
        let supctl = shop.supd.app().join("supctl");
        let mut command = Command::new("setpriv");
        command.args(self.is()).arg(&supctl);
        command.arg("--runtime").arg(shop.supd.runtime()).args(arguments);
        crate::harness::Running::start(&mut command).finish(SOON)
    }
}

/// Makes a file for everybody.
fn open_to_all(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the test's own files");
}

/// A shop whose doors are open to everybody, in which release 1 is active and 2 is there to be deployed.
fn open_shop(setup: &Setup, control_group: &str) -> Shop {
    let shop = Shop::open_in(setup, "", "");
    let supctl = shop.supd.app().join("supctl");
    if !supctl.exists() {
        fs::copy(env!("CARGO_BIN_EXE_supctl"), &supctl).expect("the test's own files");
    }
    open_to_all(&supctl, 0o755);
    open_to_all(&shop.supd.runtime(), 0o755);
    let unit = fs::read_to_string(shop.supd.path().join("units/web.unit")).expect("the test's own files");
    let user = if control_group.is_empty() { "" } else { "User = \"daemon\"\n" };
    let unit = unit.replace("ReadySettleSec", &format!("{user}ReadySettleSec"));
    shop.supd.write_unit("web", &format!("{control_group}{unit}"));
    shop.ctl(&["daemon-reload"]).expect(0);
    shop.deploy("1").expect(0);
    shop.build("2", "");
    for (name, text) in [("web.unit", unit.as_str()), ("old.service", SERVICE), ("old.socket", SOCKET)] {
        let path = shop.supd.app().join(name);
        fs::write(&path, text).expect("the test's own files");
        open_to_all(&path, 0o644);
    }
    shop
}

const SERVICE: &str = "[Service]\nUser=daemon\nExecStart=/bin/cat\n[Install]\nWantedBy=multi-user.target\n";
const SOCKET: &str = "[Socket]\nListenStream=127.0.0.1:8099\n[Install]\nWantedBy=sockets.target\n";

/// Every verb as a caller, with the status of those who may: done, or refused by what the unit is at
/// that moment. Who may not gets 77, and changes nothing.
fn table(shop: &Shop, caller: Caller, may_act: bool, may_manage: bool) {
    let app = shop.supd.app();
    let path = |name: &str| app.join(name).to_str().expect("a plain path").to_owned();
    let (two, unit) = (path("dist-2"), path("web.unit"));
    let (service, socket) = (path("old.service"), path("old.socket"));
    let read: [(&[&str], i32); 8] = [
        (&["status", "web"], 0),
        (&["is-active", "web"], 0),
        (&["releases", "web"], 0),
        (&["wait", "web"], 0),
        (&["history", "web"], 0),
        (&["events", "web", "--since", "0", "--timeout", "300ms"], 4),
        (&["check", &unit], 0),
        (&["import", &service, &socket], 0),
    ];
    let act: [(&[&str], i32); 20] = [
        (&["--dry-run", "deploy", "web", "2", &two], 0),
        (&["install", "web", "2", &two], 0),
        (&["deploy", "web", "2", &two], 0),
        (&["swap", "web", "1"], 0),
        (&["rollback", "web", "2"], 0),
        (&["restart", "web"], 0),
        (&["reload", "web"], 3),
        (&["kill", "-s", "CONT", "web"], 0),
        (&["promote", "web"], 3),
        (&["abort", "web"], 3),
        (&["undeploy", "web", "9"], 3),
        (&["share", "web", "10%"], 3),
        (&["drain", "web", "--generation", "1"], 0),
        (&["drain", "web", "--generation", "99"], 3),
        (&["--dry-run", "drain", "web", "--generation", "99"], 3),
        (&["connect", "web", "--generation", "99"], 3),
        (&["logs", "web"], 0),
        (&["cat", "web"], 0),
        (&["stop", "web"], 0),
        (&["start", "web"], 0),
    ];
    let manage: [(&[&str], i32); 1] = [(&["daemon-reload"], 0)];
    for (verbs, may) in [(&read[..], true), (&act[..], may_act), (&manage[..], may_manage)] {
        for (verb, status) in verbs {
            let before = shop.supd.status("web").0["active"].clone();
            let output = caller.ask(shop, verb);
            assert_eq!(output.code(), if may { *status } else { 77 }, "{caller:?} {verb:?}: {output}");
            if !may {
                let told = output.text().contains("sudo supctl") || output.text().contains("games");
                assert!(told, "{output}");
                assert_eq!(shop.supd.status("web").0["active"], before, "{caller:?} {verb:?}");
            }
        }
    }
    if !may_manage {
        let refused = caller.ask(shop, &["shutdown"]).expect(77);
        assert!(shop.supd.is_alive(), "{refused}");
    }
}

/// The supd of the machine, which has a group supd.
fn whoever_may() {
    let groups = tempfile::NamedTempFile::new().expect("the test's own files");
    let text = fs::read_to_string("/etc/group").expect("/etc/group");
    fs::write(groups.path(), format!("{text}supd:x:{GROUP}:\n")).expect("the test's own files");
    open_to_all(groups.path(), 0o644);
    // In a mount namespace of supd's alone.
    let mount = format!("mount --bind {} /etc/group && exec \"$0\" \"$@\"", groups.path().display());
    let wrapper = ["unshare", "--mount", "sh", "-c", &mount].map(str::to_owned).to_vec();
    let shop = open_shop(&Setup { wrapper, ..Setup::default() }, "[Unit]\nControlGroup = \"games\"\n");
    table(&shop, Caller::Somebody, false, false);
    table(&shop, Caller::Member, true, false);
    table(&shop, Caller::Group, true, true);
    table(&shop, Caller::Root, true, true);
}

/// Somebody's own supd obeys him and root, and no group.
fn whoever_may_with_a_private_one() {
    let shop = open_shop(&Setup { user: Some(OWNER), ..Setup::default() }, "");
    table(&shop, Caller::Somebody, false, false);
    table(&shop, Caller::Member, false, false);
    table(&shop, Caller::Owner, true, true);
    table(&shop, Caller::Root, true, true);
}
