//! A full disk, a SIGKILL at any moment, a user who exchanges what is being sealed: nothing half is
//! left, nothing outside is touched, and the next try works.

use super::{Bench, GROUP, USER, archive, done, label, source};
use crate::model::{JobId, Signal};
use crate::os::alone::root_or_skip;
use crate::os::fork::fork;
use crate::os::task::Task;
use crate::os::unprivileged::Confinement;
use crate::store::unpack::Bounds;
use crate::store::unpack::tests::Pack;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::time::{TimeSpec, TimeValLike};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Mounts of this process's own, gone with it.
pub(super) fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
}

pub(super) fn small_disk(folder: &Path, options: &str) {
    mount(Some("none"), folder, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
}

/// Many files of some size.
fn large(files: usize, bytes: usize) -> Vec<u8> {
    let text = "x".repeat(bytes);
    let pack = |pack: Pack, number| pack.file(&format!("d{}/{number}", number % 10), &text);
    (0..files).fold(Pack::default(), pack).end()
}

#[test]
fn a_full_disk_leaves_nothing_half() {
    if !root_or_skip("a_full_disk_leaves_nothing_half") {
        return;
    }
    // Full of bytes; full of files.
    for options in ["size=1m,mode=711", "size=50m,nr_inodes=60,mode=711"] {
        let bench = Bench::new();
        done(|| {
            own_mounts();
            small_disk(bench.folder.path(), options);
            bench.releases.prepare().unwrap();
            bench.install("1.0", &archive()).unwrap();
            let said = bench.receive(2, &large(100, 30_000)).unwrap_err();
            assert!(said.contains("there is no room left on the disk"), "{options}: {said}");
            bench.releases.discard_staged(JobId(2))?;
            assert_eq!(bench.names(), [vec![], vec![], vec!["1.0".to_owned()]]);
            bench.install("1.1", &large(5, 30_000)).unwrap();
            bench.releases.sweep(&BTreeMap::new()).map(drop)
        })
        .unwrap();
    }
}

#[test]
fn a_disk_that_is_full_at_the_last_step() {
    if !root_or_skip("a_disk_that_is_full_at_the_last_step") {
        return;
    }
    let bench = Bench::new();
    done(|| {
        own_mounts();
        small_disk(bench.folder.path(), "size=1m,nr_inodes=20,mode=711");
        bench.releases.prepare().unwrap();
        bench.receive(1, &archive())?;
        // No inode is left for the unit's folder.
        let filler = |number: usize| bench.folder.path().join(format!("releases/.trash/filler{number}"));
        let filled = (0..).take_while(|number| fs::write(filler(*number), "").is_ok()).count();
        assert!(filled > 0 && bench.place(1, "1.0").unwrap_err().contains("No space left"));
        bench.releases.discard_staged(JobId(1))?;
        bench.install("1.0", &archive()).map(drop)
    })
    .unwrap();
}

/// Waits for the end of a task, but not longer.
fn watch(task: &Task, micros: i64) {
    let mut entry = [PollFd::new(task.process().as_fd(), PollFlags::POLLIN)];
    ppoll(&mut entry, Some(TimeSpec::microseconds(micros)), None).unwrap();
}

#[test]
fn killed_at_any_moment() {
    let bench = Bench::new();
    let archive = large(400, 3000);
    let known = BTreeMap::new();
    // How long it takes here, now.
    let began = std::time::Instant::now();
    bench.install("1.0", &archive).unwrap();
    let whole = i64::try_from(began.elapsed().as_micros()).unwrap();
    bench.releases.sweep(&known).unwrap();
    let (mut halves, rounds) = (0, 40);
    for round in 0..rounds {
        let source = source(&archive);
        let confinement = Confinement::of_a_child(None);
        let receive = Task::run("a test", super::BOUND, &[source.as_fd()], || {
            let bounds = Bounds::default();
            let (job, source) = (JobId(1), source.as_fd());
            bench.releases.receive(job, source, &bench.account, confinement, &bounds).map(|_| Vec::new())
        })
        .unwrap();
        watch(&receive, whole * round / rounds);
        let _ = receive.process().send(Signal::KILL);
        receive.process().wait().unwrap();
        let rest = Task::run("a test", super::BOUND, &[], || {
            bench.releases.place(JobId(1), &bench.unit, &label("1.0"), &bench.account)?;
            bench.releases.seal(&bench.unit, &label("1.0"), &bench.account).map(|()| Vec::new())
        })
        .unwrap();
        watch(&rest, whole * (rounds - round) / rounds / 4);
        let _ = rest.process().send(Signal::KILL);
        rest.process().wait().unwrap();
        halves += usize::from(bench.names() != [const { Vec::<String>::new() }; 3]);
        // And the sweep itself may be killed as well.
        let sweep =
            Task::run("a test", super::BOUND, &[], || bench.releases.sweep(&known).map(|_| Vec::new()))
                .unwrap();
        watch(&sweep, whole * (round % 7) / 50);
        let _ = sweep.process().send(Signal::KILL);
        sweep.process().wait().unwrap();
        bench.releases.sweep(&known).unwrap();
        assert_eq!(bench.names(), [const { Vec::<String>::new() }; 3], "round {round}");
    }
    assert!(halves > 5, "it was hardly ever killed in the middle: {halves} of {rounds}");
    bench.install("1.0", &archive).unwrap();
}

#[test]
fn a_user_who_exchanges_things_reaches_nothing() {
    if !root_or_skip("a_user_who_exchanges_things_reaches_nothing") {
        return;
    }
    let bench = Bench::new();
    let outside = bench.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "root's").unwrap();
    let before = [super::of(&outside), super::of(&outside.join("file"))];
    let archive = large(200, 10);
    let (mut sealed, mut refused) = (0, 0);
    for round in 0..30 {
        bench.receive(1, &archive).unwrap();
        bench.place(1, "1.0").unwrap();
        let top = bench.path("1.0", "");
        let hostile = fork("a test", |_| {
            let _ = nix::unistd::setresgid(GROUP.into(), GROUP.into(), GROUP.into());
            let _ = nix::unistd::setresuid(USER.into(), USER.into(), USER.into());
            // A folder, then a link in its place, then the folder again: d0 to d9 in turns.
            for number in (0..10).cycle() {
                let (folder, away) = (top.join(format!("d{number}")), top.join("away"));
                let _ = fs::rename(&folder, &away);
                let _ = symlink(&outside, &folder);
                let _ = fs::remove_file(&folder);
                let _ = fs::rename(&away, &folder);
            }
        })
        .unwrap();
        if round % 2 == 0 {
            match bench.seal("1.0") {
                Ok(()) => sealed += 1,
                Err(_) => refused += 1,
            }
        }
        let discarded = bench.discard("1.0");
        hostile.process.send(Signal::KILL).unwrap();
        hostile.process.wait().unwrap();
        assert_eq!(discarded, Ok(()));
        assert_eq!([super::of(&outside), super::of(&outside.join("file"))], before);
    }
    assert!(sealed + refused == 15, "{sealed} {refused}");
}
