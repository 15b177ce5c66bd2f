//! What a good archive becomes: names, kinds, bits, times; and the digest of it.

use super::super::Unpacked;
use super::{Head, Pack, digest_on_disk, good, refusal};
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn files_folders_and_links_are_what_they_were() {
    let archive = Pack::default()
        .folder("./")
        .folder("./bin/")
        .member(b'0', b"./bin/server", b"", 0o755, b"#!/bin/sh\n")
        .file("etc/conf", "a = 1\n")
        .link("current", "bin/../etc")
        .hard("etc/same", "./etc/conf")
        .member(b'7', b"contiguous", b"", 0o644, b"x")
        .member(0, b"old/", b"", 0o755, b"")
        .end();
    let (place, unpacked) = good(&archive);
    assert_eq!(place.text("bin/server"), "#!/bin/sh\n");
    assert_eq!(place.text("current/conf"), "a = 1\n");
    assert_eq!(fs::read_link(place.path("current")).unwrap().to_str(), Some("bin/../etc"));
    let inode = |name: &str| fs::metadata(place.path(name)).unwrap().ino();
    assert_eq!(inode("etc/same"), inode("etc/conf"));
    assert!(place.path("old").is_dir());
    assert_eq!((unpacked.files, unpacked.bytes), (4, 10 + 6 + 6 + 1));
    assert_eq!(unpacked.digest, digest_on_disk(&place.path("")));
    assert_eq!(Unpacked::parse(&unpacked.to_string()), Some(unpacked.clone()));
    for bad in ["", "sha256:00 1 2", &format!("{unpacked} 3"), &unpacked.to_string().replace("sha256", "md5")]
    {
        assert_eq!(Unpacked::parse(bad), None, "{bad}");
    }
    // Told once and for all: an archive installed today is the same one after an upgrade.
    assert_eq!(unpacked.digest, "sha256:ff538cc3a307886e073e3c2ba76ae037064c86d3571184fc9c9b29d8553fc5c9");
}

#[test]
fn bits_are_taken_as_far_as_they_are_harmless() {
    let mut pack = Pack::default();
    for (name, mode) in [("a", 0o6777), ("b", 0o4755), ("c", 0o000), ("d", 0o550), ("e", 0o100_644)] {
        pack = pack.member(b'0', name.as_bytes(), b"", mode, b"");
    }
    for (name, mode) in [("f", 0o7777), ("g", 0o000), ("h", 0o2750), (".", 0o1700)] {
        pack = pack.member(b'5', name.as_bytes(), b"", mode, b"");
    }
    let (place, _) = good(&pack.file("i/j", "").file("g/k", "").end());
    let modes = ["a", "b", "c", "d", "e", "f", "g", "h", "", "i"].map(|name| place.mode(name));
    assert_eq!(modes, [0o755, 0o755, 0o600, 0o750, 0o644, 0o755, 0o700, 0o750, 0o700, 0o755]);
    let owner = fs::metadata(place.path("a")).unwrap().uid();
    assert_eq!(owner, nix::unistd::geteuid().as_raw(), "owners are not carried out");
}

#[test]
fn files_keep_their_times() {
    let archive = Pack::default().file("a", "").pax(b'x', &[("mtime", b"1600000000.25")]).file("b", "").end();
    let (place, _) = good(&archive);
    let time = |name: &str| {
        let found = fs::metadata(place.path(name)).unwrap();
        (found.mtime(), found.mtime_nsec())
    };
    assert_eq!((time("a"), time("b")), ((1_700_000_000, 0), (1_600_000_000, 250_000_000)));
    // Before 1970, as GNU tar writes it.
    let mut early = Pack::default().file("a", "");
    early.0[136..148].copy_from_slice(&[0xff; 12]);
    let mut header = tar::Header::from_byte_slice(&early.0[..512]).clone();
    header.set_cksum();
    early.0[..512].copy_from_slice(header.as_bytes());
    let (place, _) = good(&early.end());
    assert_eq!(fs::metadata(place.path("a")).unwrap().mtime(), -1);
}

#[test]
fn the_digest_is_of_the_content_alone() {
    let digest = |pack: Pack| good(&pack.end()).1.digest;
    let plain = digest(Pack::default().file("a/b", "1").file("c", "2").link("l", "c").hard("h", "c"));
    // Another order, folders said or implied, other times and owners, a copy in place of a link.
    let other = Pack::default()
        .folder("./")
        .member(b'0', b"./h", b"", 0o600, b"2")
        .link("l", "c")
        .pax(b'x', &[("mtime", b"5"), ("uid", b"7"), ("SCHILY.xattr.user.x", b"\n\xff")])
        .file("c", "2")
        .folder("a")
        .file("a/b", "1");
    assert_eq!(digest(other), plain);
    for differs in [
        Pack::default().file("a/b", "1").file("c", "3").link("l", "c").file("h", "2"),
        Pack::default().file("a/b", "1").file("c", "2").link("l", "h").file("h", "2"),
        Pack::default().file("a/b", "1").file("c", "2").file("l", "c").file("h", "2"),
        Pack::default().file("a/b", "1").file("c", "2").link("l", "c").file("h", "2").folder("empty"),
        Pack::default().file("a/b", "1").file("c", "2").link("l", "c").member(b'0', b"h", b"", 0o744, b"2"),
    ] {
        assert_ne!(digest(differs), plain);
    }
}

#[test]
fn long_names_of_both_kinds() {
    let long = format!("{}/file", "folder".repeat(20).split_at(100).0).repeat(3);
    let target = format!("x/{}", "y".repeat(200));
    let name = long.as_bytes();
    let gnu = |kind: u8, text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        Pack::default().member(kind, b"././@LongLink", b"", 0o644, &bytes).0
    };
    let archive = [
        gnu(b'L', &long),
        Pack::default().file("cut", "1").0,
        gnu(b'K', &target),
        gnu(b'L', "short"),
        Pack::default().link("cut", "cut").0,
        Pack::default().pax(b'x', &[("path", b"posix"), ("linkpath", b"short")]).link("x", "/x").0,
        // POSIX's word counts more than GNU's; of two of the same the later, empty takes it back.
        Pack::default().pax(b'x', &[("path", b"mine"), ("path", b"")]).file("own", "2").0,
        gnu(b'L', "not-this"),
        Pack::default().pax(b'x', &[("path", b"this")]).file("nor-this", "3").0,
        Pack::default().pax(b'g', &[("comment", b"a commit"), ("mtime", b"1")]).0,
    ]
    .concat();
    let (place, _) = good(&Pack(archive).end());
    assert_eq!(place.text(std::str::from_utf8(name).unwrap()), "1");
    assert_eq!(fs::read_link(place.path("short")).unwrap().to_str(), Some(&*target));
    assert_eq!(fs::read_link(place.path("posix")).unwrap().to_str(), Some("short"));
    assert_eq!((place.text("own"), place.text("this")), ("2".into(), "3".into()));
}

#[test]
fn a_size_that_no_header_has_room_for() {
    let archive = Pack::default().pax(b'x', &[("size", b"5")]);
    let archive =
        archive.head(Head { kind: b'0', name: b"a", target: b"", mode: 0o644, size: 0 }).body(b"hello");
    let (place, _) = good(&archive.file("b", "").end());
    assert_eq!(place.text("a"), "hello");
}

#[test]
fn of_two_with_the_same_name_the_later_counts() {
    let archive = Pack::default()
        .file("a", "first")
        .hard("kept", "a")
        .file("./a", "second")
        .link("l", "a")
        .link("l", "kept")
        .file("b", "b")
        .hard("b", "a")
        .member(b'5', b"d", b"", 0o755, b"")
        .file("d/x", "x")
        .member(b'5', b"d/", b"", 0o700, b"")
        .end();
    let (place, unpacked) = good(&archive);
    assert_eq!(["a", "kept", "l", "b"].map(|name| place.text(name)), ["second", "first", "first", "second"]);
    assert_eq!((place.mode("d"), place.text("d/x")), (0o700, "x".into()));
    assert_eq!(unpacked.digest, digest_on_disk(&place.path("")));
}

#[test]
fn a_hard_link_to_a_link_is_another_link() {
    let archive = Pack::default().file("d/f", "").link("d/l", "f").hard("d/m", "d/l").end();
    let (place, unpacked) = good(&archive);
    assert_eq!(fs::read_link(place.path("d/m")).unwrap().to_str(), Some("f"));
    assert_eq!(unpacked.digest, digest_on_disk(&place.path("")));
    // Where it stands decides where it leads.
    let archive = Pack::default().folder("d").link("d/l", "../f").hard("m", "d/l").end();
    assert!(refusal(&archive).contains("\"m\": a link to \"../f\", which leaves the release"));
}

#[test]
fn nothing_at_all_is_a_release_too() {
    let (place, unpacked) = good(&Pack::default().end());
    assert_eq!((unpacked.files, unpacked.bytes), (0, 0));
    assert_eq!(unpacked.digest, digest_on_disk(&place.path("")));
}
