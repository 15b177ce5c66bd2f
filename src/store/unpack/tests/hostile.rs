//! Archives that mean harm, or are broken: a sentence, and nothing outside of the folder.

use super::super::{Bounds, pax};
use super::{Head, Pack, Place, good, refusal};
use std::fs;

fn refused(pack: Pack, why: &str) {
    let said = refusal(&pack.end());
    assert!(said.contains(why), "{said:?} instead of {why:?}");
}

#[test]
fn names_that_leave_the_release() {
    refused(Pack::default().file("/etc/cron.d/x", ""), "\"/etc/cron.d/x\": an absolute name");
    refused(Pack::default().file("../outside", ""), "\"../outside\": a name with \"..\"");
    refused(Pack::default().file("a/../../outside", ""), "a name with \"..\"");
    refused(Pack::default().folder("a/.."), "a name with \"..\"");
    refused(Pack::default().file("", ""), "\"\": an empty name");
    refused(Pack::default().file(".", ""), "\".\": the top of the release can only be a folder");
    refused(Pack::default().link("./", "x"), "the top of the release can only be a folder");
    refused(Pack::default().member(b'0', b"a\xff", b"", 0, b""), "\"a\\xff\": a name that is not UTF-8");
    refused(Pack::default().file("a\u{1b}[2J", ""), "\"a\\u{1b}[2J\": a name with a control character");
    let nul: &[(&str, &[u8])] = &[("path", b"a\0b")];
    refused(Pack::default().pax(b'x', nul).file("a", ""), "\"a\\0b\": a name with a zero byte");
    let long = "x".repeat(5000);
    let long: &[(&str, &[u8])] = &[("path", long.as_bytes())];
    refused(Pack::default().pax(b'x', long).file("a", ""), "a name of 5000 bytes (at most 2048)");
    let above: &[(&str, &[u8])] = &[("path", b"../outside")];
    refused(Pack::default().pax(b'x', above).file("a", ""), "\"../outside\": a name with \"..\"");
}

#[test]
fn links_that_leave_the_release() {
    refused(Pack::default().link("a", "/etc/passwd"), "\"a\": a link to \"/etc/passwd\", an absolute path");
    refused(Pack::default().link("a", "../outside"), "a link to \"../outside\", which leaves the release");
    refused(Pack::default().link("b/a", "../../outside"), "which leaves the release");
    refused(Pack::default().link("a", ""), "an empty name");
    refused(
        Pack::default().member(b'2', b"a", b"\xff", 0, b""),
        "\"a\": a link to \"\\xff\": a name that is not",
    );
    // Each stays within as it is written; both together do not.
    let both = Pack::default().folder("d/e").link("d/e/up", "../..").link("d/e/out", "up/../outside");
    refused(both, "\"d/e/out\": a link to \"up/../outside\", which leaves the release over another link");
    let later = Pack::default().folder("d/e").link("d/e/out", "up/../outside").link("d/e/up", "../..");
    refused(later, "over another link");
    // What leads nowhere, or round and round, leads nowhere else either.
    good(&Pack::default().link("a", "b").link("b", "a").link("c", "missing/x").end());
}

#[test]
fn nothing_is_written_through_a_link() {
    refused(
        Pack::default().folder("d").link("l", "d").file("l/x", ""),
        "\"l/x\": it would be written through the link \"l\"",
    );
    refused(Pack::default().link("l", "missing").folder("l/x"), "written through the link \"l\"");
    refused(Pack::default().folder("d").link("l", "d").hard("l/x", "d"), "a hard link to \"d\", a folder");
    refused(Pack::default().file("f", "").link("l", "d").hard("l/x", "f"), "written through the link \"l\"");
    refused(Pack::default().file("d/f", "").link("l", "d").hard("x", "l/f"), "which did not come before it");
    refused(Pack::default().file("f", "").file("f/x", ""), "\"f/x\": \"f\" is a file, not a folder");
    // In the place of a link comes a file, and not where the link leads.
    refused(
        Pack::default().file("f", "").link("l", "f").file("l", "x"),
        "\"l\": a file, and before it a link",
    );
}

#[test]
fn what_is_there_already_is_not_followed() {
    // No archive makes this; a second unpacking into the same folder must not either.
    let place = Place::new();
    std::os::unix::fs::symlink("../outside", place.path("f")).unwrap();
    std::os::unix::fs::symlink("..", place.path("d")).unwrap();
    for name in ["f", "d/outside", "d/new"] {
        let said = place.unpack(&*Pack::default().file(name, "x").end(), &Bounds::default()).unwrap_err();
        assert!(said.contains("cannot be made: File exists"), "{said}");
    }
    let said = place.unpack(&*Pack::default().folder("d").end(), &Bounds::default()).unwrap_err();
    assert!(said.contains("File exists"), "{said}");
}

#[test]
fn hard_links_that_are_none() {
    refused(
        Pack::default().hard("a", "/etc/shadow"),
        "\"a\": a hard link to \"/etc/shadow\": an absolute name",
    );
    refused(Pack::default().hard("a", "../outside"), "a hard link to \"../outside\": a name with \"..\"");
    refused(
        Pack::default().hard("a", "b").file("b", ""),
        "\"a\": a hard link to \"b\", which did not come before",
    );
    refused(Pack::default().file("a", "").hard("a", "./a"), "a hard link to itself");
    refused(Pack::default().hard("a", ""), "an empty name");
    refused(Pack::default().hard("a", "."), "which did not come before it");
    refused(
        Pack::default().member(b'1', b"a", b"b", 0, b"text"),
        "it has content, which only a file may have",
    );
    refused(Pack::default().member(b'2', b"a", b"b", 0, b"text"), "it has content");
    refused(Pack::default().member(b'5', b"a", b"", 0, b"text"), "it has content");
}

#[test]
fn kinds_that_no_release_has() {
    for (kind, why) in [
        (b'3', "\"x\": a device"),
        (b'4', "\"x\": a device"),
        (b'6', "\"x\": a FIFO"),
        (b'S', "\"x\": a sparse file"),
        (b'M', "\"x\": it is continued"),
        (b'V', "\"x\": a member of a kind that is not known here ('V')"),
        (b'\xff', "('\\xff')"),
    ] {
        refused(Pack::default().member(kind, b"x", b"", 0o644, b""), why);
    }
    let sparse: &[(&str, &[u8])] = &[("GNU.sparse.major", b"1")];
    refused(Pack::default().pax(b'x', sparse).file("x", ""), "a sparse file: make the archive without");
}

#[test]
fn one_name_is_one_kind_of_thing() {
    let kinds: [fn(Pack) -> Pack; 3] =
        [|pack| pack.file("x", ""), |pack| pack.link("x", "y"), |pack| pack.folder("x").file("x/y", "")];
    for (first, make) in kinds.iter().enumerate() {
        for (second, again) in kinds.iter().enumerate() {
            let archive = again(make(Pack::default())).end();
            if first == second {
                good(&archive);
            } else {
                let said = refusal(&archive);
                assert!(
                    said.contains("before it") || said.contains("is a file") || said.contains("through"),
                    "{said}"
                );
            }
        }
    }
}

#[test]
fn an_end_that_is_cut_off() {
    let whole = Pack::default().folder("d").file("d/a", &"x".repeat(700)).link("l", "d").end();
    good(&whole);
    for length in (0..whole.len()).filter(|length| length % 512 < 3 || length % 37 == 0) {
        let said = refusal(&whole[..length]);
        let empty = if length == 0 { "nothing came" } else { "cut off" };
        assert!(said.contains(empty), "{length}: {said}");
    }
    refused(Pack::default().pax(b'x', &[("path", b"a")]), "its last header belongs to no member");
}

#[test]
fn something_behind_the_end() {
    let whole = Pack::default().file("a", "").end();
    good(&[whole.clone(), vec![0; 100_000]].concat());
    for garbage in [&b"x"[..], &[0, 0, 1], &whole] {
        let said = refusal(&[&whole, garbage].concat());
        assert!(said.contains("something follows its end"), "{said}");
    }
    let lone = [&whole[..whole.len() - 512], &whole].concat();
    assert!(refusal(&lone).contains("something follows its end"));
}

#[test]
fn headers_that_are_damaged() {
    assert!(refusal(&[b'x'; 2000]).contains("it is no tar archive"));
    assert!(refusal(b"hello").contains("cut off"));
    let mut second = Pack::default().file("a", "").file("b", "");
    second.0[600] ^= 1;
    refused(second, "the header of its member 2 is damaged");
    for (field, what) in [(100..108, "mode"), (124..136, "size"), (136..148, "time")] {
        let mut pack = Pack::default().file("a", "");
        pack.0[field].fill(b'z');
        let mut header = tar::Header::from_byte_slice(&pack.0).clone();
        header.set_cksum();
        pack.0[..512].copy_from_slice(header.as_bytes());
        refused(pack, &format!("\"a\": its {what} is no number"));
    }
    for (records, why) in [
        (&b"junk"[..], "not made of records"),
        (b"10 size=x1\n", "not made of records"),
        (b"9 size=x\n", "a size that is no number"),
        (b"10 size=-1\n", "not made of records"),
        (b"11 size=-1\n", "a size that is no number"),
        (b"11 mtime=1x\n", "not made of records"),
        (b"12 mtime=1x\n", "a time that is no number"),
    ] {
        let expected = if pax::records(records).is_err() { "not made of records" } else { why };
        refused(Pack::default().member(b'x', b"x", b"", 0, records).file("a", ""), expected);
    }
}

#[test]
fn one_archive_is_one_archive_to_everyone() {
    // A size for the next member must not be taken for that of a header in between, or members
    // come to light that others do not see.
    let archive = Pack::default()
        .pax(b'x', &[("size", b"2048")])
        .member(b'L', b"././@LongLink", b"", 0o644, b"long\0")
        .head(Head { kind: b'0', name: b"a", target: b"", mode: 0o644, size: 0 })
        .body(&[b'x'; 2048])
        .end();
    assert_eq!(good(&archive).0.text("long").len(), 2048);
    for key in ["path", "linkpath", "size"] {
        let why = format!("a global header that sets the {key} of every member");
        refused(Pack::default().pax(b'g', &[(key, b"1")]).file("a", ""), &why);
    }
}

#[test]
fn a_disk_that_says_no_is_told() {
    // Under a file where a folder should be made: what the kernel says is passed on.
    let place = Place::new();
    fs::write(place.path("d"), "").unwrap();
    let said = place.unpack(&*Pack::default().file("d/x", "").end(), &Bounds::default()).unwrap_err();
    assert!(said.contains("\"d/x\": it cannot be made: File exists"), "{said}");
}
