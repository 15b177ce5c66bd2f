//! More than there may be: a sentence, early, and little memory.

use super::super::{Bounds, unpack_from};
use super::{Head, Pack, Place, refusal_within, through};
use crate::os::beneath;
use crate::os::task::Task;
use crate::os::task::tests::finish;
use crate::os::unprivileged::Confinement;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::Duration;

const TIGHT: Bounds = Bounds {
    bytes: 100_000,
    file_bytes: 10_000,
    members: 10,
    path_bytes: 50,
    depth: 5,
    names_bytes: 300,
    header_bytes: 1000,
    window_bytes: 1 << 20,
    silence: Duration::from_secs(60),
};

fn refused(pack: Pack, why: &str) {
    let said = refusal_within(&pack.end(), &TIGHT);
    assert!(said.contains(why), "{said:?} instead of {why:?}");
}

#[test]
fn each_bound_holds() {
    let file = "x".repeat(10_000);
    Place::new().unpack(&*Pack::default().file("a", &file).end(), &TIGHT).unwrap();
    refused(
        Pack::default().file("a", &format!("{file}x")),
        "\"a\": 10001 bytes are more than a file may have (10000",
    );
    let many = (0..9).fold(Pack::default(), |pack, number| pack.file(&number.to_string(), &file));
    refused(many.file("9", &file), "it is more than 100000 bytes unpacked");
    let ten = (0..10).fold(Pack::default(), |pack, number| pack.file(&number.to_string(), ""));
    Place::new().unpack(&*ten.clone().end(), &TIGHT).unwrap();
    refused(ten.file("10", ""), "it has more than 10 members");
    // Folders that are only implied count as well, and so does a header that describes nothing.
    refused(
        (0..4).fold(Pack::default(), |pack, n| pack.file(&format!("{n}/a/b"), "")),
        "more than 10 members",
    );
    refused((0..11).fold(Pack::default(), |pack, _| pack.folder("./")), "more than 10 members");
    refused((0..11).fold(Pack::default(), |pack, _| pack.pax(b'g', &[])), "more than 10 members");
    refused(Pack::default().file("1/2/3/4/5/6", ""), "more than 5 folders deep");
    refused(Pack::default().file(&"x".repeat(51), ""), "a name of 51 bytes (at most 50)");
    refused(Pack::default().link("a", &"x".repeat(51)), "a name of 51 bytes (at most 50)");
    let long = "x".repeat(48);
    refused(
        (0..7).fold(Pack::default(), |pack, n| pack.file(&format!("{n}{long}"), "")),
        "its names are more than 300 bytes together",
    );
    refused(Pack::default().pax(b'x', &[("comment", &[b'x'; 1000])]), "an extended header of 1014 bytes");
    let huge = Head { kind: b'L', name: b"x", target: b"", mode: 0, size: 1 << 40 };
    refused(Pack::default().head(huge), "an extended header of 1099511627776 bytes");
    let huge = Head { kind: b'0', name: b"x", target: b"", mode: 0, size: u64::MAX };
    refused(Pack::default().head(huge), "18446744073709551615 bytes are more");
}

#[test]
fn what_is_past_the_bound_is_not_written_first() {
    let many = (0..10).fold(Pack::default(), |pack, n| pack.file(&n.to_string(), &"x".repeat(10_000)));
    let place = Place::new();
    let said = place.unpack(&*many.end(), &TIGHT).unwrap_err();
    assert!(said.contains("it is more than 100000 bytes unpacked"), "{said}");
    let length = |name: &str| fs::metadata(place.path(name)).unwrap().len();
    assert_eq!((length("8"), length("9")), (10_000, 0));
    let many = (0..11).fold(Pack::default(), |pack, n| pack.file(&n.to_string(), ""));
    let place = Place::new();
    assert!(place.unpack(&*many.end(), &TIGHT).unwrap_err().contains("more than 10 members"));
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 10);
}

#[test]
fn zeros_behind_the_end_count_too() {
    let mut archive = Pack::default().file("a", "").end();
    archive.resize(200_000, 0);
    assert!(refusal_within(&archive, &TIGHT).contains("more than 100000 bytes unpacked"));
}

#[test]
fn a_window_is_not_made_before_it_is_allowed() {
    let archive = Pack::default().file("a", &"x".repeat(9000)).end();
    let said = |command: &[&str]| Some(refusal_within(&through(command, &archive)?, &TIGHT));
    if let Some(said) = said(&["xz", "--lzma2=dict=4MiB", "-c"]) {
        assert!(said.contains("more than 1 MiB of memory") && said.contains("xz -9"), "{said}");
    }
    if let Some(said) = said(&["zstd", "-q", "--zstd=wlog=24", "-c"]) {
        assert!(said.contains("it takes 16 MiB of memory to decompress (at most 1 MiB)"), "{said}");
    }
    // 3.75 TiB, in the first frame and in a later one.
    let huge = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff];
    let first = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00, 0x01, 0x00, 0x00][..], &huge].concat();
    for bytes in [&huge[..], &first] {
        let said = refusal_within(bytes, &Bounds::default());
        assert!(said.contains("of memory to decompress (at most 128 MiB)"), "{said}");
    }
}

/// Unpacks in a child that has little memory, and gives what it says.
fn in_little_memory(memory_bytes: u64, bounds: &Bounds, source: impl Read) -> Result<Vec<u8>, String> {
    let place = Place::new();
    let top = beneath::open_at(&place.path("")).unwrap();
    let confinement = Confinement { memory_bytes, ..Confinement::of_a_child(None) };
    let task = Task::run("a test", Duration::from_secs(300), &[top.as_fd()], || {
        confinement.enter().map_err(|error| error.to_string())?;
        unpack_from(source, top.as_fd(), bounds).map(|unpacked| unpacked.to_string().into_bytes())
    });
    finish(task.unwrap())
}

/// The same block again and again.
struct Endless<'a>(&'a [u8], usize);

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.0[self.1..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.1 = (self.1 + count) % self.0.len();
        Ok(count)
    }
}

#[test]
fn a_million_members_end_with_a_word() {
    let many = Bounds { members: 100_000, ..Bounds::default() };
    let folder = Pack::default().folder("./").0;
    let said = in_little_memory(8 << 20, &many, Endless(&folder, 0)).unwrap_err();
    assert!(said.ends_with("it has more than 100000 members"), "{said}");
    // Names that differ, and as long as they may be.
    let mut number = 0_u64;
    let mut bytes = Vec::new();
    let names = std::iter::from_fn(|| {
        number += 1;
        let name = format!("{}{number}", "x".repeat(80));
        Some(Pack::default().link(&name, "y").0)
    });
    names.take(20_000).for_each(|block| bytes.extend(block));
    let bounds = Bounds { names_bytes: 1 << 20, ..Bounds::default() };
    let said = in_little_memory(8 << 20, &bounds, &*bytes).unwrap_err();
    assert!(said.contains("its names are more than 1 MiB together"), "{said}");
}

#[test]
fn a_bomb_is_not_blown_up() {
    // A file of zeros a thousand times as long as what it came in.
    let bounds = Bounds { bytes: 64 << 20, ..Bounds::default() };
    let size = 1 << 30;
    let archive = |length: usize| {
        let head = Pack::default().head(Head { kind: b'0', name: b"a", target: b"", mode: 0o644, size });
        let mut bytes = head.0;
        bytes.resize(length, 0);
        bytes
    };
    for command in [&["gzip", "-c"][..], &["xz", "-c0"], &["zstd", "-qc"]] {
        let Some(bomb) = through(command, &archive(80 << 20)) else { continue };
        assert!(bomb.len() < 200_000, "{command:?}: {}", bomb.len());
        let said = in_little_memory(32 << 20, &bounds, &*bomb).unwrap_err();
        assert!(said.contains("it is more than 64 MiB unpacked"), "{command:?}: {said}");
    }
}

#[test]
fn the_largest_window_fits_into_a_child() {
    // As a child of supd has it: what is allowed must not end by RLIMIT_AS.
    let memory = Confinement::of_a_child(None).memory_bytes;
    // Longer than the window, which is full then.
    let content = vec![b'x'; 140 << 20];
    let archive = Pack::default().member(b'0', b"a", b"", 0o644, &content).end();
    for command in
        [&["zstd", "-q1", "--long=27", "-c"][..], &["xz", "-0", "--lzma2=preset=0,dict=128MiB", "-c"]]
    {
        let Some(packed) = through(command, &archive) else { continue };
        let said = in_little_memory(memory, &Bounds::default(), &*packed).unwrap();
        let expected = format!(" 1 {}", content.len());
        assert!(String::from_utf8(said).unwrap().ends_with(&expected), "{command:?}");
    }
}

#[test]
fn a_file_limit_is_an_error_and_no_signal() {
    let place = Place::new();
    let top = beneath::open_at(&place.path("")).unwrap();
    let confinement = Confinement { file_bytes: 5000, ..Confinement::of_a_child(None) };
    let archive = Pack::default().file("a", &"x".repeat(9000)).end();
    let task = Task::run("a test", Duration::from_secs(60), &[top.as_fd()], || {
        confinement.enter().map_err(|error| error.to_string())?;
        unpack_from(&*archive, top.as_fd(), &Bounds::default()).map(|_| Vec::new())
    });
    let said = finish(task.unwrap()).unwrap_err();
    assert!(said.contains("\"a\": it cannot be made: File too large"), "{said}");
    assert!(fs::metadata(place.path("a")).unwrap().len() <= 5000);
}
