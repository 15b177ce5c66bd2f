//! `supd --check-left`: what runs is named, with and without a supd; what is over, or another's, is not.

use crate::harness::{Supd, free_port};
use crate::wait::{SOON, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::Command;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("remains::who_lives_is_named_though_both_are_dead", who_lives_is_named_though_both_are_dead),
        test("remains::a_number_alone_is_nobody", a_number_alone_is_nobody),
    ]
}

/// What it says of a folder, if it says that something is left.
fn left(runtime: &Path) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supd"));
    let said = command.args(["--check-left", "--runtime"]).arg(runtime).output().expect("it runs");
    let text = String::from_utf8(said.stdout).expect("text");
    assert!(said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
    match said.status.code() {
        Some(0) => {
            assert_eq!(text, "");
            None
        }
        code => {
            assert_eq!(code, Some(1), "{text}");
            Some(text)
        }
    }
}

fn who_lives_is_named_though_both_are_dead() {
    let supd = Supd::start();
    let none = tempfile::tempdir().expect("a folder");
    assert_eq!(left(none.path()), None);
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    let worker = supd.status("web").pids()[0];
    let keeper = supd.keeper().expect("a keeper");
    let (line, held) = (format!("web.g1: process {worker}\n"), format!("supd-keeper: process {keeper}\n"));
    let said = left(&supd.runtime()).expect("a worker and a keeper");
    assert!(said.contains(&line) && said.contains(&held), "{said}");
    let supd = supd.crash_and_go_on_after(|supd| {
        proc::signal(keeper, Signal::SIGKILL);
        wait_until("the keeper to be gone", SOON, || !proc::alive(keeper));
        assert_eq!(left(&supd.runtime()), Some(line.clone()));
    });
    supd.wait_for_state("web", "active");
    supd.ctl(&["shutdown"]).expect(0);
    wait_until("supd to go", SOON, || supd.has_ended());
    wait_until("nothing to be left", SOON, || left(&supd.runtime()).is_none());
}

/// Another process may have it by now, or one that is over and not reaped.
fn a_number_alone_is_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let (workers, keeper) = (folder.path().join("workers"), folder.path().join("keeper"));
    std::fs::create_dir(&workers).expect("a folder");
    std::fs::create_dir(&keeper).expect("a folder");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("an id");
    let boot = boot.trim();
    let mut child = Command::new("sleep").arg("600").spawn().expect("it runs");
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it is there");
    let start: u64 =
        stat().rsplit(") ").next().and_then(|rest| rest.split(' ').nth(19)?.parse().ok()).expect("22");
    let say = |start: u64, boot: &str| {
        let pid = child.id();
        let record = format!(
            "{{\"unit\":\"web\",\"generation\":7,\"index\":0,\"pid\":{pid},\"start_time\":{start},\
             \"boot\":\"{boot}\",\"invocation\":\"\",\"kill_signal\":15}}"
        );
        std::fs::write(workers.join("1.json"), record).expect("a file");
        std::fs::write(keeper.join("process"), format!("{pid} {start} 0 {boot}")).expect("a file");
    };
    say(start + 1, boot);
    assert_eq!(left(folder.path()), None, "started at another time");
    say(start, "00000000-0000-0000-0000-000000000000");
    assert_eq!(left(folder.path()), None, "of another boot");
    say(start, boot);
    assert_eq!(left(folder.path()), Some(format!("supd-keeper: process {}\n", child.id())));
    std::fs::remove_file(keeper.join("process")).expect("it is there");
    assert_eq!(left(folder.path()), Some(format!("web.g7: process {}\n", child.id())));
    say(start, boot);
    proc::signal(child.id(), Signal::SIGKILL);
    wait_until("it to be over", SOON, || stat().contains(") Z "));
    assert_eq!(left(folder.path()), None, "over, and not reaped");
    // What cannot be read may be of one that runs.
    std::fs::write(workers.join("2.json"), "rubbish").expect("a file");
    assert!(left(folder.path()).expect("a file").contains("2.json cannot be read"));
    child.wait().expect("it is over");
}
