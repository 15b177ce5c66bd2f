//! What an archive may not do, through the real programs: nothing is installed, nothing is written
//! elsewhere, and what serves goes on.

use super::{Shop, text};
use crate::{Test, test};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("releases::hostile_archives", hostile_archives),
        test("releases::labels_that_are_none", labels_that_are_none),
        test("releases::sources_that_are_none", sources_that_are_none),
        test("releases::what_is_stripped", what_is_stripped),
    ]
}

/// An archive that Python's tarfile writes as it is told.
fn forge(shop: &Shop, name: &str, lines: &str) -> PathBuf {
    let archive = shop.supd.app().join(name);
    let program = format!(
        "import tarfile, io\n\
         t = tarfile.open({:?}, 'w')\n\
         def f(name, data=b'x', **more):\n\
        \x20   m = tarfile.TarInfo(name); m.size = len(data)\n\
        \x20   for key, value in more.items(): setattr(m, key, value)\n\
        \x20   t.addfile(m, io.BytesIO(data))\n\
         def l(name, to, kind=tarfile.SYMTYPE):\n\
        \x20   m = tarfile.TarInfo(name); m.type = kind; m.linkname = to; t.addfile(m)\n\
         {lines}\n\
         t.close()\n",
        text(&archive)
    );
    let status = Command::new("/usr/bin/python3").arg("-c").arg(program).status();
    assert!(status.expect("python3").success(), "{name}");
    archive
}

fn hostile_archives() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let victim = shop.supd.app().join("victim");
    fs::write(&victim, "untouched").expect("the test's own files");
    let outside = text(&victim).to_owned();
    let cases: [(&str, String, &str); 13] = [
        ("absolute", format!("f({outside:?})"), "absolute"),
        ("dotdot", "f('../../victim')".to_owned(), ".."),
        ("inner-dotdot", "f('a/../../victim')".to_owned(), ".."),
        ("link-out", format!("l('out', {outside:?})"), "out"),
        ("link-up", "l('a/out', '../../victim')".to_owned(), "out"),
        ("through", "l('a', '..'); f('a/victim')".to_owned(), "a"),
        ("hard-out", format!("l('hard', {outside:?}, tarfile.LNKTYPE)"), "hard"),
        ("device", "f('dev', b'', type=tarfile.CHRTYPE, devmajor=1, devminor=3)".to_owned(), "dev"),
        ("fifo", "f('pipe', b'', type=tarfile.FIFOTYPE)".to_owned(), "pipe"),
        ("long", "f('x' * 3000)".to_owned(), "xxx"),
        ("deep", "f('/'.join('d' * 150))".to_owned(), "d/d"),
        ("name", "f(b'na\\xffme'.decode('utf-8', 'surrogateescape'))".to_owned(), "UTF-8"),
        ("twice", "f('a/b'); f('a')".to_owned(), "a"),
    ];
    for (name, lines, said) in cases {
        let archive = forge(&shop, &format!("{name}.tar"), &lines);
        let refused = shop.ctl(&["deploy", "web", "2", text(&archive)]).expect(1);
        assert!(refused.text().contains("is not installed") && refused.text().contains(said), "{refused}");
        assert_eq!(fs::read_to_string(&victim).expect("the test's own files"), "untouched", "{name}");
        assert_eq!(shop.labels(), ["1"], "{name}");
    }
    // Cut off, empty, and what is no archive at all.
    let whole = fs::read(shop.pack(&shop.build("2", ""), "whole.tar.zst")).expect("the test's own files");
    let plain = fs::read(shop.pack(&shop.build("2", ""), "whole.tar")).expect("the test's own files");
    for (name, bytes) in [
        ("cut.zst", &whole[..whole.len() / 2]),
        ("cut", &plain[..700]),
        ("empty", &[][..]),
        ("text", &b"hello\n"[..]),
    ] {
        let path = shop.supd.app().join(name);
        fs::write(&path, bytes).expect("the test's own files");
        let refused = shop.ctl(&["deploy", "web", "2", text(&path)]).expect(1);
        assert!(refused.text().contains("is not installed"), "{name}: {refused}");
    }
    assert_eq!(shop.active().as_deref(), Some("1"));
    shop.expect_no_leftovers();
    shop.deploy("2").expect(0);
}

fn labels_that_are_none() {
    let shop = Shop::open();
    let one = shop.build("1", "");
    let long = "x".repeat(300);
    for label in ["..", ".", "a/b", "/", "-x", "", "a\nb", "a b", &long] {
        for verb in ["install", "deploy"] {
            let refused = shop.ctl(&[verb, "web", "--", label, text(&one)]);
            assert_eq!(refused.code(), 2, "{label:?}: {refused}");
        }
        assert_eq!(shop.ctl(&["undeploy", "web", "--", label]).code(), 2, "{label:?}");
    }
    assert_eq!(shop.labels(), Vec::<String>::new());
}

fn sources_that_are_none() {
    let shop = Shop::open();
    let none = shop.ctl(&["deploy", "web", "1", "/nonexistent"]).expect(1);
    assert!(none.text().contains("cannot open SOURCE /nonexistent"), "{none}");
    assert!(none.text().contains("Next: give a folder or an archive"), "{none}");
    let device = shop.ctl(&["deploy", "web", "1", "/dev/zero"]).expect(2);
    assert!(device.text().contains("is a device"), "{device}");
    let sum = shop.ctl(&["deploy", "web", "1", "http://127.0.0.1:9/a.tar"]).expect(2);
    assert!(sum.text().contains("--sha256"), "{sum}");
    let unknown = shop.ctl(&["deploy", "nope", "1", text(&shop.build("1", ""))]).expect(3);
    assert!(unknown.text().contains("nope"), "{unknown}");
    assert_eq!(shop.labels(), Vec::<String>::new());
}

/// Owners, set-user bits and writing are taken away; what a program needs stays.
fn what_is_stripped() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let shop = Shop::open();
    let lines = "f('bin/server', b'#!/bin/sh\\nexit 3\\n', mode=0o6755, uid=12345, gid=12345)\n\
                 f('data', mode=0o666)\n\
                 l('link', 'data'); l('hard', 'data', tarfile.LNKTYPE)";
    let archive = forge(&shop, "strip.tar", lines);
    shop.ctl(&["install", "web", "1", text(&archive)]).expect(0);
    let place = shop.place("1");
    let server = fs::metadata(place.join("bin/server")).expect("the test's own files");
    assert_eq!(server.permissions().mode() & 0o7777, 0o555);
    assert_eq!(server.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(
        fs::metadata(place.join("data")).expect("the test's own files").permissions().mode() & 0o222,
        0
    );
    assert_eq!(fs::read_link(place.join("link")).expect("the test's own files"), Path::new("data"));
    assert_eq!(fs::read(place.join("hard")).expect("the test's own files"), b"x");
    let names: Vec<_> = fs::read_dir(&place)
        .expect("the test's own files")
        .map(|entry| entry.expect("the test's own files").file_name())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
}
