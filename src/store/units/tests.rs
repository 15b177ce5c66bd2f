//! Folders made for the test, with everything in them that a unit file is not.

use super::{DROP_INS_MAX, ReadError, UnitFolders};
use crate::codec::unitfile::BYTES_MAX;
use crate::codec::unitfile::Sources;
use crate::model::UnitName;
use crate::store::text::{Content, read};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

struct Place {
    root: tempfile::TempDir,
    units: UnitFolders,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folders = vec![root.path().join("etc"), root.path().join("lib")];
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        let units = UnitFolders { folders, defaults: root.path().join("supd.toml") };
        Self { root, units }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn null(&self, name: &str) {
        symlink("/dev/null", self.root.path().join(name)).unwrap();
    }

    /// The texts that make up a unit: main, drop-ins, defaults.
    fn texts(&self, unit: &str) -> Vec<String> {
        let sources = self.units.read(&name(unit)).unwrap();
        let all = std::iter::once(sources.main).chain(sources.drop_ins).chain(sources.defaults);
        all.map(|source| source.text).collect()
    }

    /// What is wrong, without the folder in front.
    fn told(&self, result: Result<Sources, ReadError>) -> String {
        let root = format!("{}/", self.root.path().display());
        result.unwrap_err().to_string().replace(&root, "")
    }
}

fn name(text: &str) -> UnitName {
    UnitName::new(text).unwrap()
}

#[test]
fn the_first_folder_hides_the_second() {
    let place = Place::new();
    place.write("lib/web.unit", "lib");
    place.write("lib/web.unit.d/10.unit", "lib 10");
    place.write("lib/web.unit.d/20.unit", "lib 20");
    place.write("lib/web.unit.d/30.unit", "lib 30");
    place.write("lib/web.unit.d/.40.unit", "hidden");
    place.write("lib/web.unit.d/50.unit~", "of an editor");
    assert_eq!(place.texts("web"), ["lib", "lib 10", "lib 20", "lib 30"]);
    place.write("etc/web.unit", "etc");
    place.write("etc/web.unit.d/15.unit", "etc 15");
    place.write("etc/web.unit.d/20.unit", "etc 20");
    place.null("etc/web.unit.d/30.unit");
    place.write("supd.toml", "defaults");
    assert_eq!(place.texts("web"), ["etc", "lib 10", "etc 15", "etc 20", "defaults"]);
}

#[test]
fn names_are_listed_and_bad_ones_told() {
    let place = Place::new();
    for file in ["web.unit", "api.unit", ".hidden.unit", "web.unit~", "README", "a b.unit", "web@1.unit"] {
        place.write(&format!("lib/{file}"), "");
    }
    place.write("etc/web.unit", "");
    place.null("etc/api.unit");
    fs::create_dir(place.root.path().join("etc/dir.unit")).unwrap();
    let listing = place.units.list();
    assert_eq!(listing.units, [name("dir"), name("web")]);
    let told: Vec<String> = listing.faults.iter().map(|fault| fault.what.clone()).collect();
    assert_eq!(told, ["\"a b\" is no name for a unit", "\"web@1\": names with @ are kept for templates"]);
    let masked = place.told(place.units.read(&name("api")));
    assert_eq!(masked, "etc/api.unit is masked by a link to /dev/null; remove the link to use it");
    let missing = place.told(place.units.read(&name("nope")));
    assert!(missing.starts_with("there is no nope.unit in "), "{missing}");

    let nowhere = UnitFolders { folders: vec!["/nonexistent".into()], defaults: "/nonexistent".into() };
    assert_eq!(nowhere.list().units, []);
    assert_eq!(nowhere.list().faults, []);
}

#[test]
fn whatever_stands_in_the_place_of_a_file_is_told_and_nothing_waits() {
    let place = Place::new();
    let at = |file: &str| place.root.path().join(file);
    fs::create_dir(at("etc/dir.unit")).unwrap();
    nix::unistd::mkfifo(&at("etc/fifo.unit"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(at("etc/socket.unit")).unwrap();
    symlink("loop.unit", at("etc/loop.unit")).unwrap();
    symlink("nowhere", at("etc/dangling.unit")).unwrap();
    symlink("/dev/zero", at("etc/zero.unit")).unwrap();
    place.write("etc/large.unit", vec![b'#'; 10 << 20]);
    place.write("etc/latin.unit", b"# a\n# gr\xfc\xdfe\n");
    place.write("lib/dangling.unit", "not to be fallen back on");
    for (unit, told) in [
        ("dir", "etc/dir.unit: a directory; put a text file in its place"),
        ("fifo", "etc/fifo.unit: no regular file; put a text file in its place"),
        ("socket", "etc/socket.unit: no regular file; put a text file in its place"),
        ("loop", "etc/loop.unit: cannot open it: Too many symbolic links encountered"),
        ("dangling", "etc/dangling.unit: a link to a file that is not there; remove it, or make the file"),
        ("zero", "etc/zero.unit: no regular file; put a text file in its place"),
        (
            "large",
            "etc/large.unit: 10485760 bytes, where 262144 are the most that is read; name the right file",
        ),
        ("latin", "etc/latin.unit:2:5: the byte 0xfc is not UTF-8; save the file as UTF-8"),
    ] {
        assert_eq!(place.told(place.units.read(&name(unit))), told);
    }
}

#[test]
fn every_file_that_cannot_be_read_is_told_at_once() {
    let place = Place::new();
    place.write("etc/web.unit", b"\xff");
    place.write("etc/web.unit.d/a.unit", b"\xfe");
    place.write("etc/web.unit.d/b.conf", "");
    fs::create_dir(place.root.path().join("supd.toml")).unwrap();
    assert_eq!(
        place.told(place.units.read(&name("web"))),
        "etc/web.unit:1:1: the byte 0xff is not UTF-8; save the file as UTF-8\n\
         supd.toml: a directory; put a text file in its place\n\
         etc/web.unit.d/b.conf: the name of a drop-in ends in .unit, so this is not read; \
         rename it, or move it away\n\
         etc/web.unit.d/a.unit:1:1: the byte 0xfe is not UTF-8; save the file as UTF-8"
    );
}

#[test]
fn drop_ins_are_bounded() {
    let place = Place::new();
    place.write("etc/many.unit", "");
    for index in 0..=DROP_INS_MAX {
        place.write(&format!("etc/many.unit.d/{index}.unit"), "");
    }
    let told = place.told(place.units.read(&name("many")));
    let (first, second) = told.split_once('\n').unwrap();
    assert_eq!(first, "etc/many.unit.d: more than 64 drop-ins for one unit; join some of them");
    assert!(second.contains("ExecStart: it is missing"), "what else is wrong is told as well: {told}");
    place.write("etc/large.unit", vec![b'#'; BYTES_MAX / 2]);
    place.write("etc/large.unit.d/a.unit", vec![b'#'; BYTES_MAX / 2]);
    assert!(place.units.read(&name("large")).is_ok());
    place.write("etc/large.unit.d/b.unit", "#");
    assert!(place.told(place.units.read(&name("large"))).contains("more than 262144 bytes"));
}

#[test]
fn a_file_is_checked_wherever_it_is() {
    let place = Place::new();
    let at = |file: &str| place.root.path().join(file);
    place.write("work/web.unit", "work");
    place.write("work/web.unit.d/a.unit", "work a");
    place.write("lib/web.unit", "lib");
    place.write("etc/web.unit.d/a.unit", "etc a");
    place.write("supd.toml", "defaults");
    let sources = place.units.read_file(&at("work/web.unit")).unwrap();
    let texts: Vec<&str> = sources.drop_ins.iter().map(|source| source.text.as_str()).collect();
    assert_eq!((sources.main.text.as_str(), texts), ("work", vec!["work a"]));
    assert!(sources.defaults.is_some());
    let sources = place.units.read_file(&at("lib/web.unit")).unwrap();
    assert_eq!(sources.drop_ins[0].text, "etc a");

    place.write("work/web.toml", "");
    for (file, told) in [
        ("work/web.unit.d/a.unit", "work/web.unit.d/a.unit: this is a drop-in of web.unit; check web.unit"),
        ("work/web.toml", "work/web.toml: the name of a unit file ends in .unit"),
        ("work/nope.unit", "work/nope.unit: there is no such file"),
        (
            "work/a@b.unit",
            "work/a@b.unit: \"a@b\": names with @ are kept for templates; \
             not available yet: write one file for each unit",
        ),
    ] {
        assert_eq!(place.told(place.units.read_file(&at(file))), told);
    }
}

#[test]
fn a_file_that_nobody_may_read_is_told() {
    if nix::unistd::geteuid().is_root() {
        // Root may read everything; /proc has a file that refuses even root.
        let refused = read(Path::new("/proc/self/mem"), BYTES_MAX);
        assert!(matches!(refused, Err(fault) if fault.what.starts_with("cannot read it")));
        return;
    }
    let refused = read(Path::new("/etc/shadow"), BYTES_MAX);
    assert!(matches!(refused, Err(fault) if fault.what == "cannot open it: Permission denied"));
    assert!(matches!(read(Path::new("/nonexistent"), BYTES_MAX), Ok(Content::Missing)));
}
