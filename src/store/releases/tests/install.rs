//! From an archive to a sealed release, and what ExecInstall may have made of it.

use super::{Bench, GROUP, USER, archive, as_user, done, of};
use crate::os::alone::root_or_skip;
use crate::os::spawn::Account;
use crate::os::unprivileged::NOBODY;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

fn set_mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_release_from_beginning_to_end() {
    let bench = Bench::new();
    let unpacked = bench.receive(7, &archive()).unwrap();
    assert_eq!((unpacked.files, unpacked.bytes), (4, 13));
    assert_eq!(bench.names(), [vec!["7".to_owned()], vec![], vec![]]);
    bench.place(7, "1.0").unwrap();
    assert_eq!(bench.names(), [vec![], vec![], vec!["1.0".to_owned()]]);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(bench.of("1.0", ""), (USER, GROUP, 0o755), "the user's, for ExecInstall");
        assert_eq!(bench.of("1.0", "current").0, USER);
    }
    bench.seal("1.0").unwrap();
    let (uid, gid) = bench.last();
    for (file, mode) in [
        ("", 0o555),
        ("bin", 0o555),
        ("bin/server", 0o555),
        ("etc/secret", 0o440),
        ("etc/closed", 0o550),
        ("etc/open", 0o444),
        ("etc/again", 0o444),
    ] {
        assert_eq!(bench.of("1.0", file), (uid, gid, mode), "{file}");
    }
    assert_eq!(bench.of("1.0", "current").0, uid);
    assert_eq!(fs::metadata(bench.path("1.0", "bin/server")).unwrap().mtime(), 1_700_000_000);
    let releases = bench.folder.path().join("releases");
    let bits = ["", "web", ".staging", ".trash"].map(|name| of(&releases.join(name)).2);
    assert_eq!(bits, [0o711, 0o711, 0o700, 0o700]);
}

#[test]
fn the_workers_user_reads_it_and_writes_nothing() {
    if !root_or_skip("the_workers_user_reads_it_and_writes_nothing") {
        return;
    }
    let bench = Bench::new();
    bench.install("1.0", &archive()).unwrap();
    as_user(USER, || {
        let path = |file: &str| bench.path("1.0", file);
        assert_eq!(fs::read_to_string(path("etc/secret")).unwrap(), "s");
        assert_eq!(fs::read_dir(path("etc/closed")).unwrap().count(), 0);
        for file in ["etc/open", "etc/secret", "bin/server"] {
            assert!(fs::write(path(file), "x").is_err() && fs::remove_file(path(file)).is_err(), "{file}");
            assert!(fs::set_permissions(path(file), fs::Permissions::from_mode(0o777)).is_err(), "{file}");
        }
        assert!(fs::write(path("new"), "").is_err() && fs::create_dir(path("etc/closed/new")).is_err());
        assert!(fs::read_dir(bench.folder.path().join("releases")).is_err(), "others are not to be seen");
        Ok(())
    })
    .unwrap();
    let others = as_user(USER + 1, || {
        fs::metadata(bench.path("1.0", "bin/server")).map(drop).map_err(|e| e.to_string())
    });
    assert_eq!(others, Ok(()));
}

#[test]
fn what_is_unpacked_is_out_of_the_users_reach() {
    if !root_or_skip("what_is_unpacked_is_out_of_the_users_reach") {
        return;
    }
    let bench = Bench::new();
    bench.receive(7, &archive()).unwrap();
    let staged = bench.folder.path().join("releases/.staging/7");
    assert_eq!(of(&staged).0, USER);
    let reached = as_user(USER, || fs::write(staged.join("new"), "").map_err(|error| error.to_string()));
    assert!(reached.unwrap_err().contains("Permission denied"));
}

#[test]
fn for_a_unit_of_root_nobody_unpacks_and_root_installs() {
    if !root_or_skip("for_a_unit_of_root_nobody_unpacks_and_root_installs") {
        return;
    }
    let bench = Bench::with(Account::default());
    bench.receive(1, &archive()).unwrap();
    assert_eq!(of(&bench.folder.path().join("releases/.staging/1/bin/server")).0, NOBODY);
    bench.place(1, "1.0").unwrap();
    for file in ["", "bin", "bin/server", "current", "etc/closed"] {
        assert_eq!(bench.of("1.0", file).0, 0, "before ExecInstall runs any of it: {file}");
    }
    assert_eq!(bench.of("1.0", "etc/open").2, 0o644, "and it may still write");
    bench.seal("1.0").unwrap();
    assert_eq!(bench.of("1.0", "etc/open"), (0, 0, 0o444));
}

#[test]
fn whatever_bits_it_had_it_is_sealed() {
    let bench = Bench::new();
    bench.receive(1, &archive()).unwrap();
    bench.place(1, "1.0").unwrap();
    let path = |file: &str| bench.path("1.0", file);
    let install = || {
        for (file, mode) in [("a", 0o6777), ("b", 0o4755), ("c", 0o000), ("d", 0o501)] {
            fs::write(path(file), "x").unwrap();
            set_mode(&path(file), mode);
        }
        for (folder, mode) in [("e", 0o3777), ("f", 0o000), ("g", 0o2070)] {
            fs::create_dir_all(path(folder).join("in")).unwrap();
            fs::write(path(folder).join("file"), "x").unwrap();
            set_mode(&path(folder).join("file"), 0o662);
            set_mode(&path(folder), mode);
        }
        for number in 0..50 {
            fs::hard_link(path("b"), path(&format!("e/in/{number}"))).unwrap();
        }
        Ok(())
    };
    if nix::unistd::geteuid().is_root() { as_user(USER, install) } else { done(install) }.unwrap();
    bench.seal("1.0").unwrap();
    let (uid, gid) = bench.last();
    let files =
        ["a", "b", "c", "d", "e/file", "f/file", "e", "f", "g", "e/in/49"].map(|file| bench.of("1.0", file));
    // Without root a folder has to be opened to be sealed.
    let closed = if nix::unistd::geteuid().is_root() { 0 } else { 0o550 };
    let g = if nix::unistd::geteuid().is_root() { 0o050 } else { 0o550 };
    let modes = [0o555, 0o555, 0o000, 0o551, 0o440, 0o440, 0o555, closed, g, 0o555];
    assert_eq!(files, modes.map(|mode| (uid, gid, mode)));
}

#[test]
fn no_link_is_followed() {
    let bench = Bench::new();
    bench.receive(1, &archive()).unwrap();
    bench.place(1, "1.0").unwrap();
    let outside = bench.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "x").unwrap();
    set_mode(&outside.join("file"), 0o4777);
    set_mode(&outside, 0o777);
    let before = [of(&outside), of(&outside.join("file"))];
    symlink(&outside, bench.path("1.0", "folder")).unwrap();
    symlink(outside.join("file"), bench.path("1.0", "file")).unwrap();
    if nix::unistd::geteuid().is_root() {
        for name in ["folder", "file"] {
            std::os::unix::fs::lchown(bench.path("1.0", name), Some(USER), Some(GROUP)).unwrap();
        }
    }
    bench.seal("1.0").unwrap();
    assert_eq!([of(&outside), of(&outside.join("file"))], before);
    bench.discard("1.0").unwrap();
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "x");
}

#[test]
fn what_has_no_place_in_a_release() {
    let bench = Bench::new();
    let refused = |make: &dyn Fn(&std::path::Path)| {
        bench.receive(1, &archive()).unwrap();
        bench.place(1, "1.0").unwrap();
        make(&bench.path("1.0", "etc"));
        let said = bench.seal("1.0").unwrap_err();
        bench.discard("1.0").unwrap();
        said
    };
    let said = refused(&|etc| mkfifo(&etc.join("fifo"), Mode::S_IRWXU).unwrap());
    assert!(said.starts_with("\"etc/fifo\" cannot be part of a release: neither a file nor"), "{said}");
    let said = refused(&|etc| drop(std::os::unix::net::UnixListener::bind(etc.join("socket")).unwrap()));
    assert!(said.contains("\"etc/socket\" cannot be part"), "{said}");
    let said = refused(&|etc| {
        let deep = etc.join("x/".repeat(260));
        fs::create_dir_all(&deep).unwrap();
        if nix::unistd::geteuid().is_root() {
            for above in deep.ancestors().take_while(|above| *above != etc) {
                chown(above, Some(USER), Some(GROUP)).unwrap();
            }
        }
    });
    assert!(said.contains("more than 250 folders deep"), "{said}");
    assert_eq!(bench.names(), [const { Vec::<String>::new() }; 3]);
}

#[test]
fn a_file_of_somebody_else_is_not_given_away() {
    if !root_or_skip("a_file_of_somebody_else_is_not_given_away") {
        return;
    }
    let bench = Bench::new();
    let secret = bench.folder.path().join("shadow");
    fs::write(&secret, "root's").unwrap();
    set_mode(&secret, 0o600);
    bench.receive(1, &archive()).unwrap();
    bench.place(1, "1.0").unwrap();
    // Where fs.protected_hardlinks is 0, the user could do this.
    fs::hard_link(&secret, bench.path("1.0", "etc/mine")).unwrap();
    let said = bench.seal("1.0").unwrap_err();
    assert_eq!(said, "\"etc/mine\" cannot be part of a release: it belongs to uid 0, not to the unit's user");
    assert_eq!(of(&secret), (0, 0, 0o600));
    bench.discard("1.0").unwrap();
    assert_eq!(of(&secret), (0, 0, 0o600));
}

#[test]
fn a_label_that_is_taken() {
    let bench = Bench::new();
    bench.install("1.0", &archive()).unwrap();
    let before = fs::metadata(bench.path("1.0", "")).unwrap().ino();
    bench.receive(2, &archive()).unwrap();
    let said = bench.place(2, "1.0").unwrap_err();
    assert!(said.starts_with("there is a folder ") && said.ends_with("/web/1.0 already"), "{said}");
    assert_eq!(fs::metadata(bench.path("1.0", "")).unwrap().ino(), before);
    done(|| bench.releases.discard_staged(crate::model::JobId(2))).unwrap();
    assert_eq!(bench.names(), [vec![], vec![], vec!["1.0".to_owned()]]);
}

#[test]
fn a_user_that_is_not_there_is_named() {
    if !root_or_skip("a_user_that_is_not_there_is_named") {
        return;
    }
    let bench = Bench::with(Account { user: Some("no-such-user".into()), ..Account::default() });
    let said = bench.receive(1, &archive()).unwrap_err();
    assert_eq!(said, "cannot become user no-such-user: no such user");
    assert_eq!(bench.names(), [const { Vec::<String>::new() }; 3]);
}
