//! A full disk under each single write. A small file system is mounted over the folder that the write
//! goes to, in supd's own mount namespace, so that exactly this one fails.

use super::{Serving, says};
use crate::harness::{Output, Running, Setup, Supd};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, test_with};
use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Program("unshare", "util-linux"),
    Need::Program("nsenter", "util-linux"),
    Need::Program("mount", "mount"),
];

pub(super) fn tests() -> Vec<Test> {
    vec![
        test_with("hostile::disk::pinned_settings", NEEDS, pinned_settings),
        test_with("hostile::disk::program_copy", NEEDS, program_copy),
        test_with("hostile::disk::intent", NEEDS, intent),
        test_with("hostile::disk::worker_record", NEEDS, worker_record),
        test_with("hostile::disk::notify_socket", NEEDS, notify_socket),
        test_with("hostile::disk::private_listener", NEEDS, private_listener),
        test_with("hostile::disk::log_file", NEEDS, log_file),
        test_with("hostile::disk::request_record", NEEDS, request_record),
        test_with("hostile::disk::ledger", NEEDS, ledger),
    ]
}

const ENOSPC: &str = "No space left on device";

/// What there is none of.
#[derive(Clone, Copy)]
enum Full {
    /// Files can be made, and not written to.
    Blocks,
    /// No file can be made.
    Inodes,
    /// Some pages are free: small files have room.
    But(u32),
}

fn serving() -> Serving {
    let wrapper = ["unshare", "--mount", "--"].map(str::to_owned).to_vec();
    Serving::start_with(&Setup { wrapper, ..Setup::default() })
}

fn inside(supd: &Supd, words: &[&str]) {
    let mut command = Command::new("nsenter");
    command.arg(format!("--mount=/proc/{}/ns/mnt", supd.pid())).args(words);
    Running::start(&mut command).finish(SOON).expect(0);
}

/// Puts a full file system over a folder, below the folders of this supd.
fn fill(supd: &Supd, folder: &str, full: Full) -> String {
    let path = supd.path().join(folder);
    fs::create_dir_all(&path).expect("the folder");
    let shown = path.to_str().expect("UTF-8").to_owned();
    let options = match full {
        Full::Blocks => "size=4k".to_owned(),
        Full::Inodes => "size=64k,nr_inodes=1".to_owned(),
        Full::But(pages) => format!("size={}k", 4 * pages),
    };
    inside(supd, &["mount", "-t", "tmpfs", "-o", &options, "supd-test", &shown]);
    if let Full::Blocks = full {
        let seen = format!("/proc/{}/root{shown}/ballast", supd.pid());
        let mut ballast = File::create(seen).expect("ballast");
        while ballast.write_all(&[0; 512]).is_ok() {}
    }
    shown
}

/// Tries a swap while there is no room in `folder`, then with room again: that one works, and what it
/// leaves on the disk is what the next supd comes up with.
fn swap_without(folder: &str, full: Full, check: impl Fn(&Serving, Output)) {
    let serving = serving();
    let shown = fill(&serving.supd, folder, full);
    serving.supd.install_worker("2");
    let output = serving.supd.ctl(&["swap", "web", "--timeout", "20s"]);
    println!("no room in {folder}: exit status {}: {}", output.code(), output.text().trim());
    check(&serving, output);
    serving.serving();
    inside(&serving.supd, &["umount", "--lazy", &shown]);
    serving.supd.install_worker("2");
    serving.supd.ctl(&["swap", "web"]).expect(0);
    let active = serving.supd.status("web").active();
    // Of one whose record is missing a crash would leave an unknown process on the port.
    wait_until("the generations before to end", SOON, || serving.supd.status("web").pids().len() == 1);
    let supd = serving.took_over().crash_and_restart();
    assert_eq!(supd.wait_for_state("web", "active").active(), active, "its workers have its sockets");
    supd.ctl(&["restart", "web"]).expect(0);
    assert!(supd.status("web").active() > active, "a number was used twice");
}

/// The swap failed for that reason, and nothing was touched.
fn failed(serving: &Serving, output: Output) {
    says(&output.expect(1), &[ENOSPC]);
    serving.untouched();
}

/// The swap was made; the log says what is missing.
fn warned(text: &str) -> impl Fn(&Serving, Output) {
    move |serving, output| {
        output.expect(0);
        let log = serving.supd.log();
        let line = log.lines().find(|line| line.contains(text));
        assert!(line.is_some_and(|line| line.contains("WARN")), "{text:?} is not said:\n{log}");
    }
}

fn pinned_settings() {
    swap_without("state/generations/web/2", Full::Blocks, failed);
    swap_without("state/generations/web/2", Full::Inodes, failed);
}

/// Room for the settings, and not for the program.
fn program_copy() {
    swap_without("state/generations/web/2", Full::But(16), |serving, output| {
        warned("its program is not pinned, so a later rollback may be refused")(serving, output);
        assert!(serving.supd.log().contains(ENOSPC), "{}", serving.supd.log());
    });
}

fn intent() {
    swap_without("run/intents", Full::Blocks, failed);
    swap_without("run/intents", Full::Inodes, failed);
}

fn worker_record() {
    swap_without("run/workers", Full::Blocks, warned("if supd dies now it will not be found"));
    swap_without("run/workers", Full::Inodes, warned("if supd dies now it will not be found"));
}

fn notify_socket() {
    swap_without("run/notify", Full::Inodes, failed);
}

fn log_file() {
    swap_without("state/logs/web", Full::Inodes, warned("web/g2: its log "));
}

/// A listener of another unit, which is bound at a private path first.
fn private_listener() {
    let serving = serving();
    let shown = fill(&serving.supd, "run/listeners", Full::Inodes);
    let path = serving.supd.app().join("u.sock");
    let unit = serving.supd.worker(serving.port, &[], "", "");
    let tcp = format!("127.0.0.1:{}", serving.port);
    serving.supd.write_unit("other", &unit.replace(&tcp, &path.display().to_string()));
    serving.supd.ctl(&["daemon-reload"]).expect(0);
    says(&serving.supd.ctl(&["start", "other", "--timeout", "5s"]).expect(7), &[ENOSPC]);
    assert!(!path.exists());
    serving.untouched();
    inside(&serving.supd, &["umount", "--lazy", &shown]);
    wait_until("the other unit to be bound", SOON, || {
        serving.supd.ctl(&["stop", "other"]);
        serving.supd.ctl(&["start", "other"]);
        path.exists()
    });
    serving.supd.ctl(&["stop", "other", "--now"]);
    serving.unharmed();
}

/// What was asked for is done and answered; only a repetition after a crash is not known.
fn request_record() {
    for full in [Full::Blocks, Full::Inodes] {
        let serving = serving();
        let shown = fill(&serving.supd, "state/requests", full);
        let ask = |supd: &Supd, id: &str| {
            supd.ctl(&["kill", "-s", "SIGCONT", "web", "--request-id", id]).expect(0);
            supd.log().matches("SIGCONT sent by request").count()
        };
        assert_eq!((ask(&serving.supd, "r"), ask(&serving.supd, "r")), (1, 1));
        let log = serving.supd.log();
        assert!(log.contains("a repetition of a request will not be known") && log.contains(ENOSPC), "{log}");
        inside(&serving.supd, &["umount", "--lazy", &shown]);
        ask(&serving.supd, "s");
        let supd = serving.unharmed().crash_and_restart();
        supd.wait_for_state("web", "active");
        let before = ask(&supd, "r");
        assert_eq!(ask(&supd, "s"), before, "the one with room is known");
    }
}

/// No byte more in the ledger, whose writer has it open: a limit of its size says so, and in the middle
/// of a line.
fn ledger() {
    let serving = serving();
    let length =
        |path: &str| fs::metadata(serving.supd.state_folder().join(path)).map_or(0, |file| file.len());
    // Longer than the settings, which are to be let through.
    while length("ledger") < 2 * length("generations/web/1/settings.json") {
        serving.supd.ctl(&["restart", "web"]).expect(0);
    }
    serving.swap(&[], "", "").expect(0);
    let before = serving.supd.status("web");
    let size = length("ledger");
    let writer = serving.supd.writer().expect("it has written");
    for more in [0, 40] {
        let soft = size + more;
        let limit = |soft: &str| {
            let mut command = Command::new("prlimit");
            command.arg(format!("--pid={writer}")).arg(format!("--fsize={soft}:"));
            Running::start(&mut command).finish(SOON).expect(0);
        };
        limit(&soft.to_string());
        says(&serving.supd.ctl(&["rollback", "web"]).expect(1), &["File too large", "ledger"]);
        let after = serving.supd.status("web");
        let active = before.active().expect("an active generation");
        assert_eq!((after.active(), after.pids_in(active)), (Some(active), before.pids_in(active)));
        serving.serving();
        limit("unlimited");
        let now = length("ledger");
        assert!(now == size, "half a line is left: {now} bytes, {size} before");
    }
    serving.supd.ctl(&["rollback", "web"]).expect(0);
    let supd = serving.supd.crash_and_restart();
    assert!(supd.wait_for_state("web", "active").active() > before.active());
    assert!(!supd.log().contains("damaged"), "{}", supd.log());
}
