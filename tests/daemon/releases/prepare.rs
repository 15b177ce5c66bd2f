//! ExecInstall: once, in the release's final place, as User, before it counts.

use super::{Shop, text};
use crate::harness::SUPCTL_BOUND;
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test, test_with};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("releases::prepared_in_place", prepared_in_place),
        test_with(
            "releases::prepared_where_all_else_is_read_only",
            &[Need::Root],
            prepared_where_all_else_is_read_only,
        ),
        test("releases::prepared_in_vain", prepared_in_vain),
        test("releases::prepared_for_ever", prepared_for_ever),
        test_with("releases::prepared_by_its_user", &[Need::Root], prepared_by_its_user),
        test_with("releases::prepared_elsewhere", &[Need::Root], prepared_elsewhere),
        test("releases::prepared_and_left_behind", prepared_and_left_behind),
    ]
}

fn prepared_in_place() {
    let shop = Shop::open_with(
        "ExecInstall = [[\"bin/prepare\", \"one\"], [\"/bin/sh\", \"-c\", 'echo two >> made']]",
        "",
    );
    let folder = shop.build("1", "");
    super::program(
        &folder.join("bin/prepare"),
        "echo $1 $SUPD_UNIT $SUPD_RELEASE > made; pwd >> made; [ \"$PWD\" = \"$SUPD_RELEASE_DIR\" ]",
    );
    let output = shop.ctl(&["deploy", "web", "1", text(&folder)]).expect(0);
    assert!(output.stdout.contains("is being prepared by ExecInstall"), "{output}");
    let place = shop.place("1");
    let made = fs::read_to_string(place.join("made")).expect("the test's own files");
    assert_eq!(made, format!("one web 1\n{}\ntwo\n", place.display()));
    assert_eq!(
        fs::metadata(place.join("made")).expect("the test's own files").permissions().mode() & 0o222,
        0,
        "sealed"
    );
    // What ExecInstall makes is not part of what was given: the same SOURCE is the same release.
    let again = shop.ctl(&["--json", "deploy", "web", "1", text(&folder)]).expect(0);
    assert!(again.stdout.contains("\"changed\":false"), "{again}");
}

/// The one that is installed may write its release, and nothing else; the server that is launched from it not that.
fn prepared_where_all_else_is_read_only() {
    let outside = crate::harness::folder();
    let touch = outside.path().join("touched");
    let script = format!("echo here > made; (: > {0}) 2>/dev/null; test ! -e {0}", touch.display());
    let shop = Shop::open_with(
        &format!(
            "ExecInstall = [\"/bin/sh\", \"-c\", {script:?}]\nProtectSystem = \"strict\"\nProtectHome = true\n\
             ExecStartPre = [[\"/bin/sh\", \"-c\", '(: > made.too) 2>/dev/null; test ! -e made.too']]"
        ),
        "",
    );
    shop.deploy("1").expect(0);
    assert_eq!(fs::read_to_string(shop.place("1").join("made")).expect("what it made"), "here\n");
    assert!(!touch.exists() && !shop.place("1").join("made.too").exists());
}

fn prepared_in_vain() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    shop.unit("ExecInstall = [\"/bin/sh\", \"-c\", 'echo npm says no; echo really not >&2; exit 7']", "");
    let failed = shop.ctl(&["deploy", "web", "2", text(&shop.build("2", ""))]).expect(1);
    for said in ["release 2 is not installed", "ExecInstall (1 of 1)", "exit status 7"] {
        assert!(failed.text().contains(said), "{failed}");
    }
    assert!(failed.text().contains("npm says no") && failed.text().contains("really not"), "{failed}");
    assert_eq!((shop.labels(), shop.active().as_deref()), (vec!["1".to_owned()], Some("1")));
    assert!(!shop.place("2").exists());
    let history = shop.ctl(&["history", "web"]).expect(0).stdout;
    let told = history.lines().find(|line| line.contains("install-failed")).expect("it is in the history");
    for said in [" 2 ", "deploy", "ExecInstall (1 of 1)", "exit status 7"] {
        assert!(told.contains(said), "{said:?} is missing: {told}");
    }
    assert!(!history.contains("npm says no"), "what a command wrote is not for everybody: {history}");
    shop.expect_no_leftovers();
    // The file that was tried with it is not in force for what runs.
    shop.ctl(&["restart", "web"]).expect(0);
}

fn prepared_for_ever() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    shop.unit(
        "ExecInstall = [\"/bin/sh\", \"-c\", 'trap \"\" TERM; sleep 1000']\nTimeoutStartSec = \"1s\"",
        "",
    );
    let deploy = shop.start(&["deploy", "web", "2", text(&shop.build("2", ""))]);
    wait_until("ExecInstall to run", SOON, || {
        shop.supd.status("web").0["notes"].to_string().contains("ExecInstall")
    });
    let failed = deploy.finish(SUPCTL_BOUND).expect(1);
    assert!(failed.text().contains("ExecInstall took longer than TimeoutStartSec"), "{failed}");
    assert!(failed.took < Duration::from_secs(20), "{failed}");
    let needle = text(shop.supd.path()).to_owned();
    wait_until("what it ran to be gone", SOON, || {
        let left = proc::with_environment(&needle, &[std::process::id()]);
        !left.iter().any(|pid| proc::command_line(*pid).contains("sleep"))
    });
    shop.expect_no_leftovers();
    shop.unit("", "");
    shop.deploy("2").expect(0);
}

/// The tree is its user's only while ExecInstall runs; then it is root's, and no worker writes there.
fn prepared_by_its_user() {
    const NOBODY: u32 = 65_534;
    let shop = Shop::open_with(
        "User = \"nobody\"\nExecInstall = [\"/bin/sh\", \"-c\", 'id -u > who; stat -c %u . >> who']",
        "",
    );
    let folder = shop.build("1", "");
    let script = folder.join("bin/server");
    let line = fs::read_to_string(&script).expect("the test's own files");
    super::program(&script, &format!("touch mine 2>/dev/null && exit 9\n{line}"));
    shop.ctl(&["deploy", "web", "1", text(&folder)]).expect(0);
    let place = shop.place("1");
    assert_eq!(
        fs::read_to_string(place.join("who")).expect("the test's own files"),
        format!("{NOBODY}\n{NOBODY}\n")
    );
    for name in ["", "bin", "bin/server", "version", "who"] {
        let seen = fs::metadata(place.join(name)).expect("the test's own files");
        assert_eq!((seen.uid(), seen.permissions().mode() & 0o222), (0, 0), "{name}");
    }
    assert_eq!(shop.answers(), "1");
}

/// Beside its own tree it may write what its user may, and no more: not another release, not supd's state.
fn prepared_elsewhere() {
    let shop = Shop::open_with("User = \"nobody\"", "");
    shop.deploy("1").expect(0);
    let places =
        [shop.place("1").join("version"), shop.store().join("x"), shop.supd.state_folder().join("ledger")];
    for place in places {
        let before = fs::read(&place).ok();
        let line = format!("echo elsewhere >> {}", place.display());
        shop.unit(&format!("User = \"nobody\"\nExecInstall = [\"/bin/sh\", \"-c\", '{line}']"), "");
        let failed = shop.ctl(&["deploy", "web", "2", text(&shop.build("2", ""))]).expect(1);
        assert!(failed.text().contains("Permission denied"), "{failed}");
        let same = fs::read(&place).ok() == before || place.ends_with("ledger");
        assert!(same, "{} was written", place.display());
        let ledger = fs::read_to_string(shop.supd.state_folder().join("ledger")).expect("the ledger");
        assert!(!ledger.contains("elsewhere"));
    }
    assert_eq!((shop.labels(), shop.active().as_deref()), (vec!["1".to_owned()], Some("1")));
    shop.expect_no_leftovers();
}

/// What ExecInstall leaves running is ended before the release is sealed, and what that started meanwhile,
/// too: nothing writes into a release.
fn prepared_and_left_behind() {
    let shop = Shop::open();
    let folder = shop.build("1", "");
    // Starts one after the other while it is looked for.
    let more = "touch begun; n=0; while [ $n -lt 400 ]; do setsid sleep 1000 & n=$((n + 1)); done";
    super::program(&folder.join("bin/more"), more);
    super::program(
        &folder.join("bin/prepare"),
        "setsid bin/more & until [ -e begun ]; do :; done; echo made > made",
    );
    shop.unit("ExecInstall = [\"bin/prepare\"]", "");
    let needle = text(shop.supd.path()).to_owned();
    shop.ctl(&["install", "web", "1", text(&folder)]).expect(0);
    let left = proc::with_environment(&needle, &[std::process::id()]);
    let left: Vec<String> = left.into_iter().map(proc::command_line).collect();
    assert!(!left.iter().any(|line| line.contains("sleep") || line.contains("bin/more")), "{left:?}");
    assert_eq!(fs::read_to_string(shop.place("1").join("made")).expect("a file"), "made\n");
    shop.ctl(&["swap", "web", "1"]).expect(0);
}
