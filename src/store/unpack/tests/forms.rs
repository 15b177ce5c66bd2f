//! Every compression: told by its first bytes, in pieces of any size, whole or refused.

use super::super::{Bounds, Unpacked, unpack};
use super::{Pack, Place, good, refusal, through};
use crate::os::beneath;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

fn archive() -> Vec<u8> {
    let mut pack = Pack::default();
    for number in 0..200_u64 {
        // Not all alike, so that the decoders have something to look back to and some that is new.
        let text: String = (0..number * 7).map(|at| format!("{:x} ", at * number % 251)).collect();
        pack = pack.file(&format!("d{}/f{number}", number % 7), &text);
    }
    pack.end()
}

const COMMANDS: [&[&str]; 8] = [
    &["gzip", "-c"],
    &["gzip", "-9cn"],
    &["xz", "-c"],
    &["xz", "-c", "--check=sha256", "--block-size=20000"],
    &["xz", "-c", "--check=crc32", "--delta=dist=4", "--lzma2"],
    &["xz", "-c", "--x86", "--lzma2=preset=1"],
    &["zstd", "-qc"],
    &["zstd", "-qc19", "--no-check"],
];

#[test]
fn every_form_gives_the_same_tree() {
    let archive = archive();
    let plain = good(&archive).1;
    for command in COMMANDS {
        let Some(packed) = through(command, &archive) else { continue };
        assert_eq!(good(&packed).1, plain, "{command:?}");
        let mut padded = packed.clone();
        padded.resize(packed.len().next_multiple_of(4) + 512, 0);
        if padded.len() % 4 == packed.len() % 4 {
            assert_eq!(good(&padded).1, plain, "{command:?}, padded");
        }
    }
}

#[test]
fn several_pieces_are_one_archive() {
    let archive = archive();
    let plain = good(&archive).1;
    let (first, second) = archive.split_at(archive.len() / 3);
    for command in COMMANDS {
        let Some(packed) = through(command, first) else { continue };
        let rest = through(command, second).unwrap();
        let empty = through(command, b"").unwrap();
        assert_eq!(good(&[&*packed, &empty, &rest, &empty].concat()).1, plain, "{command:?}");
    }
    if let Some(packed) = through(&["zstd", "-qc"], &archive) {
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        assert_eq!(good(&[&*skipped, &packed, &skipped].concat()).1, plain);
        assert!(refusal(&[&*packed, &skipped[..9]].concat()).contains("cut off"));
    }
}

#[test]
fn cut_off_or_followed_by_something() {
    // Small, so that each byte can be the last.
    let archive = Pack::default().file("a", "hello").file("b", &"x".repeat(3000)).end();
    for command in COMMANDS {
        let Some(packed) = through(command, &archive) else { continue };
        for length in 1..packed.len() {
            let said = refusal(&packed[..length]);
            assert!(said.contains("cut off"), "{command:?} at {length} of {}: {said}", packed.len());
        }
        for more in [&b"x"[..], b"\0\0\0\0x", &packed[..packed.len() - 3]] {
            let said = refusal(&[&packed, more].concat());
            let told = ["damaged", "cut off", "follows its end"].iter().any(|word| said.contains(word));
            assert!(told, "{command:?}: {said}");
        }
        let twice = [&*packed, &packed].concat();
        assert!(refusal(&twice).contains("something follows its end"), "{command:?}");
    }
}

#[test]
fn a_flipped_bit_never_passes() {
    let archive = Pack::default().file("a", "hello").file("b", &"xyz".repeat(1000)).end();
    let plain = good(&archive).1;
    // With little to look back to, since each decoder makes room for it anew.
    let commands = [
        &["gzip", "-c"][..],
        &["xz", "-c", "--lzma2=dict=4KiB"],
        &["zstd", "-qc", "--zstd=wlog=12", "--check"],
    ];
    for command in commands {
        let Some(packed) = through(command, &archive) else { continue };
        for at in 0..packed.len() * 8 {
            let mut damaged = packed.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            if let Ok(unpacked) = Place::new().unpack(&*damaged, &Bounds::default()) {
                // A field that nothing depends on: gzip's time, say.
                assert_eq!(unpacked, plain, "{command:?}, bit {at}");
            }
        }
    }
}

#[test]
fn what_is_no_archive_is_named() {
    for (bytes, what) in [
        (&b""[..], "it is empty: nothing came"),
        (b"PK\x03\x04....", "it is a zip file: give a tar, plain or compressed"),
        (b"BZh91AY&SY", "it is bzip2 data"),
        (b"!<arch>\ndebian-binary", "an ar archive, as a .deb is"),
        (b"#!/bin/sh\n", "cut off"),
        (&[b'#'; 600], "it is no tar archive, neither plain nor compressed with gzip, xz or zstd"),
    ] {
        let said = refusal(bytes);
        assert!(said.contains(what), "{said}");
    }
    if let Some(packed) = through(&["gzip", "-c"], &[b'#'; 600]) {
        assert!(refusal(&packed).contains("it is no tar archive"));
    }
}

/// So many bytes at a time.
struct Drops<'a>(&'a [u8], usize);

impl Read for Drops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(self.1).min(buffer.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn pieces_of_any_size_are_the_same() {
    let archive = Pack::default().file("a", &"x".repeat(2000)).link("l", "a").end();
    let plain = good(&archive).1;
    for command in [&["cat"][..], &["gzip", "-c"], &["xz", "-c"], &["zstd", "-qc"]] {
        let Some(packed) = through(command, &archive) else { continue };
        for size in [1, 2, 3, 511, 513] {
            assert_eq!(Place::new().unpack(Drops(&packed, size), &Bounds::default()), Ok(plain.clone()));
        }
    }
}

/// Unpacks what a descriptor gives.
fn from(descriptor: &impl AsFd) -> Result<Unpacked, String> {
    from_within(descriptor, &Bounds::default())
}

fn from_within(descriptor: &impl AsFd, bounds: &Bounds) -> Result<Unpacked, String> {
    let place = Place::new();
    let top = beneath::open_at(&place.path("")).unwrap();
    unpack(descriptor.as_fd(), top.as_fd(), bounds)
}

/// Whoever sends it is still there, and sends no more: before the first byte, or in the middle.
#[test]
fn a_sender_that_hangs_is_given_up() {
    let archive = archive();
    let bounds = Bounds { silence: Duration::from_millis(40), ..Bounds::default() };
    for command in [&["cat"][..], &["gzip", "-c"], &["xz", "-c"], &["zstd", "-qc"]] {
        let Some(packed) = through(command, &archive) else { continue };
        for sent in [0, 600, packed.len() - 1] {
            let (reader, mut writer) = std::os::unix::net::UnixStream::pair().unwrap();
            let half = packed[..sent].to_vec();
            let (done, over) = std::sync::mpsc::channel::<()>();
            let thread = std::thread::spawn(move || {
                writer.write_all(&half).unwrap();
                let _until_it_is_given_up = over.recv();
            });
            let said = from_within(&reader, &bounds).unwrap_err();
            assert!(said.ends_with("nothing came for 40ms: whoever sends it hangs"), "{command:?}: {said}");
            drop(done);
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_file_a_pipe_and_a_socket() {
    let archive = archive();
    let plain = Ok(good(&archive).1);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"before").unwrap();
    file.write_all(&archive).unwrap();
    io::Seek::seek(&mut file, io::SeekFrom::Start(6)).unwrap();
    assert_eq!(from(&file), plain, "from where it stands");

    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut writer = File::from(writer);
    // As a shell's other programs may have set it.
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let bytes = archive.clone();
    let thread =
        std::thread::spawn(move || bytes.chunks(3000).for_each(|chunk| writer.write_all(chunk).unwrap()));
    assert_eq!(from(&reader), plain);
    thread.join().unwrap();

    let (reader, mut writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || writer.write_all(&archive).unwrap());
    assert_eq!(from(&reader), plain);
    thread.join().unwrap();
}

#[test]
fn a_descriptor_that_gives_no_archive() {
    let said = |descriptor: &dyn Fn() -> File| from(&descriptor()).unwrap_err();
    assert!(said(&|| File::open("/").unwrap()).contains("it is a folder"));
    assert!(said(&|| File::open("/dev/zero").unwrap()).contains("it is a device"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let writing = || File::options().write(true).open(file.path()).unwrap();
    assert!(said(&writing).contains("it cannot be read: Bad file descriptor"));
}
