//! From the first deploy to the last undeploy.

use super::{Shop, text};
use crate::load::Mode;
use crate::wait::{SOON, wait_until};
use crate::{Test, fixture, test};
use std::fs;
use std::io::Seek;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("releases::deployed_and_back_under_load", deployed_and_back_under_load),
        test("releases::the_newest_is_no_bad_one", the_newest_is_no_bad_one),
        test("releases::the_same_once_more", the_same_once_more),
        test("releases::what_is_in_use_stays", what_is_in_use_stays),
        test("releases::old_ones_go", old_ones_go),
        test("releases::nothing_installed", nothing_installed),
        test("releases::over_a_crash_and_a_stop", over_a_crash_and_a_stop),
        test("releases::a_worker_is_told_where_it_is", a_worker_is_told_where_it_is),
        test("releases::a_binary_of_its_own", a_binary_of_its_own),
        test("releases::files_that_went", files_that_went),
        test("releases::only_said", only_said),
        test("releases::unfit_without_an_end", unfit_without_an_end),
        test("releases::file_that_went", file_that_went),
    ]
}

/// Deploy, bad deploy, rollback, forward: nothing is lost.
fn deployed_and_back_under_load() {
    let _machine = crate::harness::whole_machine();
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let loads = [shop.load(Mode::Close), shop.load(Mode::KeepAlive)];
    let more = || loads.iter().for_each(|load| load.wait_for_more(100, SOON));
    more();
    for (version, archive) in [("2", "a.tar"), ("3", "b.tar.gz"), ("4", "c.tar.xz"), ("5", "d.tar.zst")] {
        let archive = shop.pack(&shop.build(version, ""), archive);
        let output = shop.ctl(&["deploy", "web", version, text(&archive)]).expect(0);
        assert!(output.stdout.contains(&format!("release {version} is being unpacked")), "{output}");
        assert_eq!(shop.active().as_deref(), Some(version));
        more();
    }
    let broken = shop.build("6", "die=3");
    let failed = shop.ctl(&["deploy", "web", "6", text(&broken)]).expect(1);
    assert!(failed.text().contains("exit status 3"), "{failed}");
    assert_eq!(shop.active().as_deref(), Some("5"));
    // The retained one is what was active before.
    shop.ctl(&["rollback", "web"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("4"));
    more();
    shop.ctl(&["swap", "web", "5"]).expect(0);
    more();
    shop.ctl(&["rollback", "web", "2"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("2"));
    more();
    for load in loads {
        let tally = load.stop();
        assert_eq!(tally.lost(), 0, "{tally}");
        let versions: Vec<String> = tally.versions().keys().cloned().collect();
        assert_eq!(versions, ["1", "2", "3", "4", "5"], "{tally}");
    }
    shop.expect_no_leftovers();
}

fn the_newest_is_no_bad_one() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    shop.deploy("2").expect(0);
    shop.ctl(&["rollback", "web"]).expect(0);
    let releases = shop.releases();
    let verdicts: Vec<_> = releases.iter().map(|(label, verdict, ..)| (&**label, &**verdict)).collect();
    assert_eq!(verdicts, [("1", "good"), ("2", "bad")]);
    let same = shop.ctl(&["swap", "web"]).expect(0);
    assert!(same.text().contains("release 1, the newest, is active already"), "{same}");
    assert_eq!(shop.active().as_deref(), Some("1"));
    shop.ctl(&["swap", "web", "--force"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("2"));
    // A label that is given by name is always taken, and what is committed is no bad one any more.
    shop.ctl(&["swap", "web", "1"]).expect(0);
    shop.ctl(&["swap", "web"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("2"));
    shop.ctl(&["swap", "web", "nope"]).expect(3);
    // restart launches the same release once more.
    let before = shop.supd.status("web").active();
    shop.ctl(&["restart", "web"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("2"));
    assert_ne!(shop.supd.status("web").active(), before);
}

/// What is there already with the same content is a success that changes nothing.
fn the_same_once_more() {
    let shop = Shop::open();
    let one = shop.build("1", "");
    shop.ctl(&["deploy", "web", "1", text(&one)]).expect(0);
    let before = shop.supd.status("web").active();
    let archive = shop.pack(&one, "one.tar.zst");
    for source in [&one, &archive] {
        let again = shop.ctl(&["--json", "deploy", "web", "1", text(source)]).expect(0);
        assert!(again.stdout.contains("\"changed\":false"), "{again}");
        let again = shop.ctl(&["--json", "install", "web", "1", text(source)]).expect(0);
        assert!(again.stdout.contains("\"changed\":false"), "{again}");
    }
    assert_eq!(shop.supd.status("web").active(), before);
    fs::write(one.join("version"), "another").expect("the test's own files");
    for verb in ["deploy", "install"] {
        let refused = shop.ctl(&[verb, "web", "1", text(&one)]).expect(3);
        assert!(refused.text().contains("with other content"), "{refused}");
        assert!(refused.text().contains("supctl releases web"), "{refused}");
    }
    assert_eq!(shop.supd.status("web").active(), before);
    assert_eq!(fs::read_to_string(shop.place("1").join("version")).expect("the test's own files"), "1");
    shop.expect_no_leftovers();
}

fn what_is_in_use_stays() {
    let shop = Shop::open_with("", "ProbationSec = \"60s\"");
    shop.deploy("1").expect(0);
    let unknown = shop.ctl(&["undeploy", "web", "0"]).expect(3);
    assert!(unknown.text().contains("there is no release 0"), "{unknown}");
    let two = shop.build("2", "");
    shop.ctl(&["install", "web", "2", text(&two)]).expect(0);
    shop.ctl(&["install", "web", "3", text(&shop.build("3", ""))]).expect(0);
    shop.ctl(&["swap", "web", "2", "--wait=active"]).expect(0);
    for (label, why) in [("1", "is retained"), ("2", "is active")] {
        let refused = shop.ctl(&["undeploy", "web", label]).expect(3);
        assert!(refused.text().contains(why), "{refused}");
        assert!(shop.place(label).join("bin/server").exists());
    }
    shop.ctl(&["undeploy", "web", "3"]).expect(0);
    assert_eq!(shop.labels(), ["1", "2"]);
    shop.expect_no_leftovers();
    assert!(!shop.place("3").exists());
    // The label is free again.
    shop.ctl(&["install", "web", "3", text(&shop.build("2", ""))]).expect(0);
    // What was active last is what a start takes.
    shop.ctl(&["promote", "web"]).expect(0);
    shop.ctl(&["stop", "web"]).expect(0);
    let refused = shop.ctl(&["undeploy", "web", "2"]).expect(3);
    assert!(refused.text().contains("was active last"), "{refused}");
}

/// The unit's file is gone: what stays of it is shown, and how to be rid of it is said.
fn file_that_went() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    shop.ctl(&["stop", "web"]).expect(0);
    fs::remove_file(shop.supd.path().join("units/web.unit")).expect("the test's own files");
    shop.ctl(&["daemon-reload"]).expect(0);
    for arguments in [&["releases", "web"][..], &["releases"]] {
        let left = shop.ctl(arguments).expect(0);
        assert!(left.stdout.contains("the unit's file is gone"), "{left}");
    }
    for arguments in [&["undeploy", "web", "1"][..], &["start", "web"]] {
        let refused = shop.ctl(arguments).expect(3);
        let folder = shop.store().join("web");
        assert!(refused.text().contains(&format!("1 release(s) stay in {}", folder.display())), "{refused}");
        assert!(refused.text().contains("Next: supctl releases web"), "{refused}");
    }
    let none = shop.ctl(&["releases", "wbe"]).expect(3);
    assert!(none.text().contains("there is no unit wbe"), "{none}");
    shop.unit("", "");
    shop.ctl(&["start", "web"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("1"));
}

fn old_ones_go() {
    let shop = Shop::open_with("", "KeepReleases = 2");
    for version in ["1", "2", "3", "4"] {
        shop.deploy(version).expect(0);
    }
    assert_eq!(shop.labels(), ["3", "4"]);
    shop.expect_no_leftovers();
    // What serves and what a rollback goes to are never pruned, however many come.
    for label in ["5", "6", "7"] {
        shop.ctl(&["install", "web", label, text(&shop.build(label, ""))]).expect(0);
    }
    let labels = shop.labels();
    assert!(labels.contains(&"4".into()) && labels.contains(&"3".into()), "{labels:?}");
    assert!(labels.contains(&"7".into()) && !labels.contains(&"5".into()), "{labels:?}");
    shop.ctl(&["rollback", "web", "--wait=drained"]).expect(0);
    assert_eq!(shop.answers(), "3");
}

fn nothing_installed() {
    let shop = Shop::open();
    for verb in ["start", "swap", "restart"] {
        let refused = shop.ctl(&[verb, "web"]).expect(3);
        assert!(refused.text().contains("supctl deploy web LABEL SOURCE"), "{refused}");
    }
    assert_eq!(shop.supd.status("web").state(), "stopped");
    let none = shop.ctl(&["releases"]).expect(0);
    assert!(none.stdout.contains("No releases yet"), "{none}");
    shop.ctl(&["releases", "nope"]).expect(3);
    // A start takes what was installed without having been active.
    shop.ctl(&["install", "web", "1", text(&shop.build("1", ""))]).expect(0);
    shop.ctl(&["start", "web"]).expect(0);
    assert_eq!(shop.answers(), "1");
    // A unit without releases says so.
    let port = crate::harness::free_port();
    shop.supd.install_worker("x");
    shop.supd.launch("plain", &shop.supd.worker(port, &[], "", ""));
    let refused = shop.ctl(&["deploy", "plain", "1", text(&shop.build("1", ""))]).expect(3);
    assert!(refused.text().contains("has no releases"), "{refused}");
}

/// The ledger says what there is; what runs after a crash is what ran before.
fn over_a_crash_and_a_stop() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    shop.deploy("2").expect(0);
    shop.ctl(&["install", "web", "3", text(&shop.build("3", ""))]).expect(0);
    let Shop { supd, port } = shop;
    let shop = Shop { supd: supd.crash_and_restart(), port };
    shop.supd.wait_for_state("web", "active");
    assert_eq!(shop.active().as_deref(), Some("2"));
    assert_eq!(shop.labels(), ["1", "2", "3"]);
    shop.ctl(&["stop", "web"]).expect(0);
    shop.ctl(&["start", "web"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("2"), "the last active one, not the newest");
    shop.ctl(&["rollback", "web", "1", "--wait=drained"]).expect(0);
    assert_eq!(shop.answers(), "1");
    shop.expect_no_leftovers();
}

fn a_worker_is_told_where_it_is() {
    let shop = Shop::open();
    let folder = shop.build("1", "");
    let script = folder.join("bin/server");
    let line = fs::read_to_string(&script).expect("the test's own files");
    let told = shop.supd.app().join("told");
    super::program(
        &script,
        &format!("echo \"$PWD $SUPD_RELEASE $SUPD_RELEASE_DIR $SUPD_UNIT\" > {}\n{line}", told.display()),
    );
    shop.ctl(&["deploy", "web", "1+b7~x", text(&folder)]).expect(0);
    let place = shop.place("1+b7~x");
    let place = text(&place);
    assert_eq!(
        fs::read_to_string(told).expect("the test's own files"),
        format!("{place} 1+b7~x {place} web\n")
    );
    // Sealed: nobody writes there any more.
    use std::os::unix::fs::PermissionsExt;
    for name in ["", "bin", "bin/server", "version"] {
        let mode =
            fs::metadata(shop.place("1+b7~x").join(name)).expect("the test's own files").permissions().mode();
        assert_eq!(mode & 0o222, 0, "{name}: {mode:o}");
    }
}

/// A program in a release needs no copy: the release is the pin.
fn a_binary_of_its_own() {
    let shop = Shop::open();
    for version in ["1", "2"] {
        let before = shop.supd.status("web").pids();
        let folder = shop.supd.app().join(format!("elf-{version}"));
        fs::create_dir_all(folder.join("bin")).expect("the test's own files");
        fixture::mark(&folder.join("bin/server"), version);
        shop.ctl(&["deploy", "web", version, text(&folder)]).expect(0);
        fs::remove_dir_all(&folder).expect("the test's own files");
        wait_until("the old one to end", SOON, || before.iter().all(|pid| !crate::proc::alive(*pid)));
    }
    assert_eq!(shop.answers(), "2");
    shop.ctl(&["rollback", "web", "--wait=drained"]).expect(0);
    assert_eq!(shop.answers(), "1");
    let pins = shop.supd.state_folder().join("pins");
    let mut copies = Vec::new();
    for entry in walk(&pins) {
        if fs::metadata(&entry).expect("the test's own files").len() > 1 << 20 {
            copies.push(entry);
        }
    }
    assert_eq!(copies, Vec::<std::path::PathBuf>::new(), "no program is copied");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] })
        .collect()
}

/// The disk with the releases comes late, or somebody removed one by hand: nothing is forgotten, and
/// what is deployed again has its files again.
fn files_that_went() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    shop.deploy("2").expect(0);
    let away = |from: &'static str, to: &'static str| {
        move |state: &std::path::Path| {
            if to == "releases" {
                let _ = fs::remove_dir_all(state.join(to));
            }
            fs::rename(state.join(from), state.join(to)).expect("the test's own files");
        }
    };
    let Shop { supd, port } = shop;
    let shop = Shop { supd: supd.crash_and_restart_after(away("releases", "away")), port };
    assert_eq!(shop.labels(), ["1", "2"]);
    assert!(shop.supd.log().contains("the files of release 2 are gone"), "{}", shop.supd.log());
    let refused = shop.ctl(&["swap", "web", "1"]).expect(3);
    assert!(refused.text().contains("supctl deploy web 1 SOURCE"), "{refused}");
    let refused = shop.ctl(&["rollback", "web"]).expect(3);
    assert!(refused.text().contains("supctl deploy web 1 SOURCE"), "{refused}");
    shop.ctl(&["install", "web", "3", text(&shop.build("3", ""))]).expect(0);
    let Shop { supd, port } = shop;
    let shop = Shop { supd: supd.crash_and_restart_after(away("away", "releases")), port };
    assert_eq!(shop.labels(), ["1", "2", "3"]);
    shop.ctl(&["swap", "web", "2", "--wait=drained"]).expect(0);
    assert_eq!(shop.answers(), "2");
    // While supd runs, too.
    fs::remove_dir_all(shop.place("2")).expect("the test's own files");
    let refused = shop.ctl(&["restart", "web"]).expect(3);
    assert!(refused.text().contains("supctl deploy web 2 SOURCE"), "{refused}");
    shop.ctl(&["deploy", "web", "2", text(&shop.build("2", ""))]).expect(0);
    assert!(shop.place("2").join("bin/server").exists());
    shop.ctl(&["restart", "web", "--wait=drained"]).expect(0);
    assert_eq!(shop.answers(), "2");
}

fn only_said() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let two = shop.build("2", "");
    let before = shop.supd.status("web").0;
    let would = shop.ctl(&["--dry-run", "deploy", "web", "2", text(&two)]).expect(0);
    assert!(would.stdout.contains("would install release 2 and swap to it"), "{would}");
    let would = shop.ctl(&["--dry-run", "undeploy", "web", "1"]).expect(3);
    assert!(would.text().contains("is active"), "{would}");
    let would = shop.ctl(&["--dry-run", "swap", "web", "2"]).expect(3);
    assert!(would.text().contains("there is no release 2"), "{would}");
    let would = shop.ctl(&["--dry-run", "deploy", "web", "1", text(&two)]).expect(0);
    assert!(would.stdout.contains("other is refused"), "{would}");
    let would = shop.ctl(&["--dry-run", "restart", "web"]).expect(0);
    assert!(would.stdout.contains("would launch generation 2 of release 1"), "{would}");
    let would = shop.ctl(&["--dry-run", "stop", "web"]).expect(0);
    assert!(would.stdout.contains("would "), "{would}");
    a_rehearsal_looks_at_source(&shop);
    a_rehearsed_reload_reads_the_files(&shop);
    assert_eq!(shop.labels(), ["1"]);
    let after = shop.supd.status("web").0;
    assert_eq!((&before["active"], &before["state"]), (&after["active"], &after["state"]));
    wait_until("the server to answer", SOON, || shop.answers() == "1");
}

/// CheckCommand said no while it had a share: nothing of it ended, and it is a bad one all the same.
fn unfit_without_an_end() {
    let canary = "Canary = [\"5% 100ms\"]\nCheckCommand = [\"/bin/sh\", \"-c\", 'test $SUPD_RELEASE != 2']";
    let shop = Shop::open_with("", canary);
    shop.deploy("1").expect(0);
    let failed = shop.ctl(&["deploy", "web", "2", text(&shop.build("2", ""))]).expect(1);
    assert!(failed.text().contains("CheckCommand failed"), "{failed}");
    let verdicts: Vec<_> = shop.releases().into_iter().map(|(_, verdict, ..)| verdict).collect();
    assert_eq!(verdicts, ["good", "bad"]);
    let same = shop.ctl(&["swap", "web"]).expect(0);
    assert!(same.text().contains("release 1, the newest, is active already"), "{same}");
}

/// What can be known of SOURCE without unpacking it is known.
fn a_rehearsal_looks_at_source(shop: &Shop) {
    let at = |name: &str| shop.supd.app().join(name);
    let archive = shop.pack(&shop.build("2", ""), "two.tar.gz");
    let bytes = fs::read(&archive).expect("the test's own files");
    fs::write(at("garbage"), "no archive at all\n".repeat(100)).expect("a file");
    fs::write(at("cut"), &bytes[..20]).expect("a file");
    fs::write(at("a.zip"), b"PK\x03\x04....").expect("a file");
    fs::write(at("empty"), "").expect("a file");
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let dry = |source: &str| shop.ctl(&["--dry-run", "install", "web", "2", source]);
    for (source, status, said) in [
        (text(&archive), 0, "would install release 2"),
        (text(&at("pipe")), 0, "would install release 2"),
        (text(&at("none")), 1, "No such file"),
        (text(&at("garbage")), 1, "SOURCE"),
        (text(&at("cut")), 1, "cut off"),
        (text(&at("a.zip")), 1, "a zip file"),
        (text(&at("empty")), 1, "nothing came"),
        ("/dev/null", 2, "a device"),
        ("http://127.0.0.1:1/app.tar", 2, "--sha256"),
        ("ftp://127.0.0.1/app.tar", 2, "only http"),
    ] {
        let would = dry(source).expect(status);
        assert!(would.text().contains(said), "{source}: {would}");
    }
    // Of an address nothing is asked; standard input stays where it is.
    let sum = "0".repeat(64);
    shop.ctl(&["--dry-run", "install", "web", "2", "http://127.0.0.1:1/app.tar", "--sha256", &sum]).expect(0);
    for (file, status) in [(&archive, 0), (&at("garbage"), 1)] {
        let mut open = fs::File::open(file).expect("the test's own files");
        let mut command = shop.supd.ctl_command(&["--dry-run", "install", "web", "2", "-"]);
        command.stdin(open.try_clone().expect("a descriptor"));
        assert_eq!(command.output().expect("supctl").status.code(), Some(status));
        assert_eq!(open.stream_position().expect("a place"), 0, "nothing was taken from it");
    }
}

/// A faulty file is one for the rehearsal, too; and nothing of what it finds is taken in.
fn a_rehearsed_reload_reads_the_files(shop: &Shop) {
    let dry = || shop.ctl(&["--dry-run", "daemon-reload"]);
    assert!(dry().expect(0).stdout.contains("nothing would change"));
    shop.unit("Nice = 5", "");
    shop.supd.write_unit("new", "[[Socket]]\nListenStream = 1\n[Service]\nExecStart = \"/bin/true\"\n");
    let would = dry().expect(0);
    assert!(would.stdout.contains("would take in: new: new; web: changed"), "{would}");
    shop.supd.write_unit("new", "[Servce]\n");
    let would = dry().expect(78);
    assert!(would.text().contains("new.unit:1:"), "{would}");
    assert!(!shop.ctl(&["status"]).expect(0).stdout.contains("new "), "a rehearsal is forgotten");
    fs::remove_file(shop.supd.path().join("units/new.unit")).expect("the test's own files");
    shop.unit("", "");
    assert!(dry().expect(0).stdout.contains("nothing would change"));
}
