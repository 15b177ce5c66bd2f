//! What goes, goes wholly, and nothing else with it.

use super::super::Known;
use super::{Bench, GROUP, USER, archive, as_user, done, label, names};
use crate::model::UnitName;
use crate::os::alone::root_or_skip;
use crate::os::task::Task;
use crate::os::task::tests::finish;
use nix::sys::stat::{Mode, mkdirat};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const NONE: [Vec<String>; 3] = [const { Vec::new() }; 3];

/// Folders in one another; more than a thousand are deeper than any path reaches.
fn make_deep(top: &Path, depth: usize) {
    let mut folder = crate::os::beneath::open_at(top).unwrap();
    for _ in 0..depth {
        mkdirat(&folder, "d", Mode::S_IRWXU).unwrap();
        fs::write(format!("/proc/self/fd/{}/file", std::os::fd::AsRawFd::as_raw_fd(&folder)), "x").unwrap();
        folder = crate::os::beneath::open_folder(std::os::fd::AsFd::as_fd(&folder), "d".as_ref()).unwrap();
    }
}

#[test]
fn a_sealed_release_goes() {
    let bench = Bench::new();
    bench.install("1.0", &archive()).unwrap();
    bench.install("1.1", &archive()).unwrap();
    bench.discard("1.0").unwrap();
    assert_eq!(bench.names(), [vec![], vec![], vec!["1.1".to_owned()]]);
    bench.discard("1.0").unwrap();
    bench.discard("1.1").unwrap();
    assert_eq!(bench.names(), NONE);
}

#[test]
fn an_ordinary_user_removes_a_sealed_release_too() {
    if !root_or_skip("an_ordinary_user_removes_a_sealed_release_too") {
        return;
    }
    // As root everything can be removed: here it takes the folders' bits.
    let bench = Bench::new();
    let state = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(state.path(), Some(USER), Some(GROUP)).unwrap();
    let releases = super::Releases::new(state.path());
    as_user(USER, || {
        releases.prepare().unwrap();
        let place = releases.folder(&bench.unit, &label("1.0"));
        fs::create_dir_all(place.join("a/b")).unwrap();
        for (folder, mode) in [("a/b", 0o000), ("a", 0o555), ("", 0o555)] {
            fs::set_permissions(place.join(folder), fs::Permissions::from_mode(mode)).unwrap();
        }
        assert!(fs::remove_dir_all(&place).is_err());
        releases.discard(&bench.unit, &label("1.0"))
    })
    .unwrap();
    assert_eq!(names(&state.path().join("releases/web")), [] as [&str; 0]);
    assert_eq!(names(&state.path().join("releases/.trash")), [] as [&str; 0]);
}

#[test]
fn no_depth_is_too_deep() {
    let bench = Bench::new();
    bench.install("1.0", &archive()).unwrap();
    let folder = bench.path("1.0", "etc");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    make_deep(&folder, 1200);
    bench.discard("1.0").unwrap();
    assert_eq!(bench.names(), NONE);
}

#[test]
fn two_that_remove_at_once_are_no_trouble() {
    let bench = Bench::new();
    for number in 0..4 {
        let trash = bench.folder.path().join(format!("releases/.trash/{number}"));
        for folder in 0..50 {
            fs::create_dir_all(trash.join(format!("{folder}/x"))).unwrap();
            fs::write(trash.join(format!("{folder}/file")), "").unwrap();
        }
        make_deep(&trash, 300);
    }
    let task = || {
        Task::run("a test", super::BOUND, &[], || bench.releases.empty_trash().map(|()| Vec::new())).unwrap()
    };
    let tasks = [task(), task(), task()];
    for task in tasks {
        assert_eq!(finish(task), Ok(Vec::new()));
    }
    assert_eq!(bench.names(), NONE);
}

#[test]
fn what_cannot_be_removed_is_told_and_the_rest_goes() {
    if !root_or_skip("what_cannot_be_removed_is_told_and_the_rest_goes") {
        return;
    }
    let bench = Bench::new();
    bench.install("1.0", &archive()).unwrap();
    // In a mount namespace of its own, where a file system is mounted in the release.
    done(|| {
        super::trouble::own_mounts();
        super::trouble::small_disk(&bench.path("1.0", "etc/closed"), "size=1m");
        let said = bench.releases.discard(&bench.unit, &label("1.0")).unwrap_err();
        assert!(said.contains("cannot remove \"closed\" in the trash: "), "{said}");
        Ok(())
    })
    .unwrap();
    let [staging, trash, unit] = bench.names();
    assert_eq!((staging.len(), trash.len(), unit.len()), (0, 1, 0));
    done(|| bench.releases.empty_trash()).unwrap();
    assert_eq!(bench.names(), NONE);
}

#[test]
fn the_sweep_leaves_what_the_ledger_names() {
    let bench = Bench::new();
    let root = bench.folder.path().join("releases");
    for name in ["1.0", "1.1", "1.2"] {
        bench.install(name, &archive()).unwrap();
    }
    bench.receive(9, &archive()).unwrap();
    for folder in ["gone/1", "broken/1", ".trash/0/x", "no unit/1", "web/not a label", "web/.hidden"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("web/a-file"), "").unwrap();
    fs::write(root.join("a-file"), "").unwrap();
    let unit = |name: &str| UnitName::new(name).unwrap();
    let labels: BTreeSet<_> = [label("1.0"), label("1.2"), label("never-there")].into();
    let known: BTreeMap<_, _> =
        [(unit("web"), Known::Only(labels)), (unit("broken"), Known::Unreadable)].into();
    let moved = bench.releases.sweep(&known).unwrap();
    let moved: Vec<_> =
        moved.iter().map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap()).collect();
    assert_eq!(moved, ["gone/1", "web/.hidden", "web/1.1", "web/a-file", "web/not a label"]);
    assert_eq!(bench.names(), [vec![], vec![], vec!["1.0".to_owned(), "1.2".to_owned()]]);
    assert_eq!(names(&root), [".staging", ".trash", "broken", "no unit", "web"]);
    assert_eq!(bench.releases.list(&unit("web")), Ok(vec![label("1.0"), label("1.2")]));
    assert_eq!(bench.releases.list(&unit("broken")), Ok(vec![label("1")]));
    assert_eq!(bench.releases.list(&unit("gone")), Ok(vec![]));
    assert_eq!(bench.releases.sweep(&known), Ok(vec![]), "once is enough");
}
