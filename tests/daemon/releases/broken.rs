//! A deploy that is killed, runs out of disk, or meets another one.

use super::{Shop, text};
use crate::harness::Setup;
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("releases::supd_dies_while_unpacking", supd_dies_while_unpacking),
        test("releases::supd_dies_while_preparing", supd_dies_while_preparing),
        test_with("releases::supd_dies_in_each_stage", &[Need::Root], supd_dies_in_each_stage),
        test("releases::supctl_ends_in_the_middle", supctl_ends_in_the_middle),
        test("releases::two_at_once", two_at_once),
        test("releases::aborted", aborted),
        test("releases::stopped_meanwhile", stopped_meanwhile),
        test("releases::supd_ends_in_the_middle", supd_ends_in_the_middle),
        test_with("releases::a_full_disk", &[Need::Root], a_full_disk),
    ]
}

/// A deploy from standard input that got so many bytes, and waits for more.
struct Slow {
    child: std::process::Child,
}

impl Slow {
    fn start(shop: &Shop, label: &str, bytes: &[u8]) -> Self {
        let mut command = shop.supd.ctl_command(&["deploy", "web", label, "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("supctl");
        child.stdin.as_mut().expect("its standard input").write_all(bytes).expect("writing");
        wait_until("the install to be seen", SOON, || {
            shop.supd.status("web").0["notes"].to_string().contains("is being unpacked")
        });
        Self { child }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().expect("its standard input").write_all(bytes).expect("writing");
    }

    /// Nothing more comes. How it ended.
    fn finish(mut self) -> (i32, String) {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().expect("supctl ends");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }
}

/// An archive of a release in two halves, of which the first is none.
fn halves(shop: &Shop, version: &str) -> (Vec<u8>, Vec<u8>) {
    let folder = shop.build(version, "");
    fs::write(folder.join("big"), vec![7; 200_000]).expect("the test's own files");
    let bytes = fs::read(shop.pack(&folder, &format!("{version}.tar"))).expect("the test's own files");
    let (one, two) = bytes.split_at(bytes.len() / 2);
    (one.to_vec(), two.to_vec())
}

/// An archive from standard input comes as slowly as it comes; without its end it is none.
fn supctl_ends_in_the_middle() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let (one, two) = halves(&shop, "2");
    let mut whole = Slow::start(&shop, "2", &one);
    whole.send(&two);
    let (code, said) = whole.finish();
    assert_eq!(code, 0, "{said}");
    assert_eq!(shop.active().as_deref(), Some("2"));
    let (one, _) = halves(&shop, "3");
    let cut = Slow::start(&shop, "3", &one);
    let (code, said) = cut.finish();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("release 3 is not installed"), "{said}");
    // Killed, its standard input goes with it.
    let mut killed = Slow::start(&shop, "3", &one);
    proc::signal(killed.child.id(), Signal::SIGKILL);
    killed.child.wait().expect("the test's own files");
    wait_until("the install to be over", SOON, || {
        shop.supd.status("web").0["notes"] == serde_json::json!([])
    });
    assert_eq!(shop.labels(), ["1", "2"]);
    shop.expect_no_leftovers();
    shop.deploy("3").expect(0);
}

fn restart(shop: Shop) -> Shop {
    let Shop { supd, port } = shop;
    Shop { supd: supd.crash_and_restart(), port }
}

fn supd_dies_while_unpacking() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let (one, _) = halves(&shop, "2");
    let slow = Slow::start(&shop, "2", &one);
    let shop = restart(shop);
    let (code, said) = slow.finish();
    assert_eq!(code, 4, "{said}");
    shop.supd.wait_for_state("web", "active");
    assert_eq!(shop.labels(), ["1"]);
    shop.expect_no_leftovers();
    shop.deploy("2").expect(0);
}

fn supd_dies_while_preparing() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let pipe = shop.supd.app().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("the test's own files");
    shop.unit(&format!("ExecInstall = [\"/bin/sh\", \"-c\", 'cat 0<>{}']", pipe.display()), "");
    let deploy = shop.start(&["deploy", "web", "2", text(&shop.build("2", ""))]);
    wait_until("ExecInstall to run", SOON, || {
        shop.supd.status("web").0["notes"].to_string().contains("ExecInstall")
    });
    assert!(shop.place("2").exists());
    let shop = restart(shop);
    deploy.finish(SOON).expect(4);
    shop.supd.wait_for_state("web", "active");
    assert_eq!(shop.labels(), ["1"]);
    shop.expect_no_leftovers();
    shop.unit("", "");
    shop.deploy("2").expect(0);
}

/// What supctl says while a release is put in place, sealed, and written into the ledger.
const STAGES: [&str; 3] = ["is being put in place", "is being sealed", "is on its way into the ledger"];
/// So often is it tried to hit each of them.
const TRIES: u32 = 60;

/// Killed in each stage that a deploy has of its own: one of the two serves, none is half, and the next
/// try works. A stage may be over before the kill; so it is tried until each was hit, by what supctl
/// heard last.
fn supd_dies_in_each_stage() {
    let mut shop = Shop::open();
    shop.deploy("0").expect(0);
    let folder = shop.build("0", "");
    for file in 0..1000 {
        fs::write(folder.join(file.to_string()), vec![b'x'; 2000]).expect("the test's own files");
    }
    let mut hit = [0_u32; STAGES.len()];
    for number in 1..=TRIES {
        let Some(stage) = hit.iter().position(|hits| *hits == 0) else { break };
        let label = number.to_string();
        fs::write(folder.join("version"), &label).expect("the test's own files");
        let mut command = shop.supd.ctl_command(&["deploy", "web", &label, text(&folder)]);
        let mut deploy = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("supctl");
        let mut out = BufReader::new(deploy.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let seen = out.find(|line| line.contains(STAGES[stage]));
        shop = restart(shop);
        let seen = seen.unwrap_or_else(|| panic!("supctl did not tell that a release {}", STAGES[stage]));
        let last = out.last().unwrap_or(seen);
        deploy.wait().expect("supctl ends");
        if let Some(stage) = STAGES.iter().position(|stage| last.contains(stage)) {
            hit[stage] += 1;
        }
        stands_after_a_kill(&shop, &label, &folder);
    }
    println!("killed in {STAGES:?}: {hit:?}");
    assert!(hit.iter().all(|hits| *hits > 0), "{STAGES:?}: {hit:?}");
}

fn stands_after_a_kill(shop: &Shop, label: &str, folder: &std::path::Path) {
    shop.supd.wait_for_state("web", "active");
    for listed in shop.labels() {
        assert!(shop.place(&listed).join("bin/server").exists(), "{listed} is half there");
        assert!(shop.place(&listed).join("999").exists() || listed == "0", "{listed} is half there");
    }
    shop.expect_no_leftovers();
    shop.ctl(&["deploy", "web", label, text(folder)]).expect(0);
    assert_eq!(shop.active().as_deref(), Some(label));
    shop.ctl(&["swap", "web", "0"]).expect(0);
}

fn two_at_once() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let (one, two) = halves(&shop, "2");
    let mut slow = Slow::start(&shop, "2", &one);
    let three = shop.build("3", "");
    for label in ["2", "3"] {
        let refused = shop.ctl(&["deploy", "web", label, text(&three)]).expect(3);
        assert!(refused.text().contains("release 2 is being unpacked"), "{refused}");
        assert!(refused.text().contains("supctl wait web"), "{refused}");
    }
    // What is there can be swapped meanwhile, and who joins hears how it ends.
    shop.ctl(&["restart", "web"]).expect(0);
    let waits = shop.start(&["wait", "web"]);
    slow.send(&two);
    assert_eq!(slow.finish().0, 0);
    waits.finish(SOON).expect(0);
    assert_eq!(shop.active().as_deref(), Some("2"));
}

/// An archive that never ends is aborted, and who asks later hears that it came to nothing.
fn aborted() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let (one, _) = halves(&shop, "2");
    let slow = Slow::start(&shop, "2", &one);
    let done = shop.ctl(&["abort", "web"]).expect(0);
    assert!(done.text().contains("the install of release 2 is aborted"), "{done}");
    let (code, said) = slow.finish();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("release 2 is not installed: aborted"), "{said}");
    let waits = shop.ctl(&["wait", "web"]).expect(1);
    assert!(waits.text().contains("release 2 is not installed: aborted"), "{waits}");
    assert_eq!((shop.labels(), shop.active().as_deref()), (vec!["1".to_owned()], Some("1")));
    shop.expect_no_leftovers();
    shop.deploy("2").expect(0);
    shop.ctl(&["wait", "web"]).expect(0);
}

/// A stop wins over a deploy that was asked for before it.
fn stopped_meanwhile() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let (one, two) = halves(&shop, "2");
    let mut slow = Slow::start(&shop, "2", &one);
    shop.ctl(&["stop", "web"]).expect(0);
    slow.send(&two);
    let (code, said) = slow.finish();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("not swapped to: the unit was stopped meanwhile"), "{said}");
    assert_eq!(shop.supd.status("web").state(), "stopped");
    shop.ctl(&["swap", "web", "2"]).expect(0);
    assert_eq!(shop.answers(), "2");
}

fn supd_ends_in_the_middle() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let (one, _) = halves(&shop, "2");
    let slow = Slow::start(&shop, "2", &one);
    shop.ctl(&["shutdown"]).expect(0);
    let (code, said) = slow.finish();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("supd ends"), "{said}");
}

/// Full while it is unpacked, and full when the ledger is to name it: the stage is in what is said.
fn a_full_disk() {
    let setup = Setup { disk: Some(("state", 40)), ..Setup::default() };
    let shop = Shop::open_in(&setup, "", "");
    shop.deploy("1").expect(0);
    let big = shop.build("2", "");
    fs::write(big.join("big"), vec![7; 60 << 20]).expect("the test's own files");
    let failed = shop.ctl(&["deploy", "web", "2", text(&big)]).expect(1);
    assert!(failed.text().contains("cannot unpack the archive"), "{failed}");
    assert!(failed.text().contains("there is no room left on the disk"), "{failed}");
    assert_eq!(shop.labels(), ["1"]);
    shop.expect_no_leftovers();
    assert_eq!(shop.active().as_deref(), Some("1"));
    fs::write(big.join("big"), "small").expect("the test's own files");
    shop.ctl(&["deploy", "web", "2", text(&big)]).expect(0);
    // ExecInstall takes what is left, so that the ledger is what cannot be written: at once, or once the
    // page that it ends in is full.
    let fill = "echo > ../../../filler; cat /dev/zero >> ../../../filler; true";
    shop.unit(&format!("ExecInstall = [\"/bin/sh\", \"-c\", '{fill}']"), "KeepReleases = 50");
    let mut listed = vec!["1".to_owned(), "2".to_owned()];
    let filler = shop.supd.state_folder().join("filler");
    let failed = loop {
        let label = (listed.len() + 1).to_string();
        let output = shop.ctl(&["install", "web", &label, text(&shop.build(&label, ""))]);
        fs::remove_file(&filler).expect("what ExecInstall wrote");
        if output.code() != 0 {
            break output.expect(1);
        }
        listed.push(label);
        assert!(listed.len() < 40, "the ledger needs no room");
    };
    assert!(failed.text().contains("the ledger cannot be written"), "{failed}");
    assert_eq!(shop.labels(), listed);
    shop.expect_no_leftovers();
    shop.unit("", "");
    shop.deploy("last").expect(0);
}
