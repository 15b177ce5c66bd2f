//! The corpora of the fuzzer, and what it found, once more in every run of the tests. How to fuzz is in
//! README.md beside this file.
#![allow(clippy::unwrap_used, reason = "the whole of it is a test")]
#![allow(unreachable_pub, reason = "the fuzzer's own crate is made of the same files")]

mod bodies;

use std::fs;
use std::path::{Path, PathBuf};

/// A corpus is for every checkout and every run of the tests: small.
const FILES_MAX: usize = 40;
/// All of its files together, in bytes.
const BYTES_MAX: usize = 100_000;

const TARGETS: [&str; 6] = ["history", "ledger", "notify", "unitfile", "unpack", "varlink"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn replay(target: &str, check: fn(&[u8]) -> bool) {
    let corpus = folder("corpus").join(target);
    let names = names(&corpus);
    let (mut good, mut size) = (0, 0);
    for name in &names {
        let bytes = fs::read(corpus.join(name)).unwrap();
        size += bytes.len();
        // The last one that is shown is the one that failed.
        println!("{target}/{name}");
        good += usize::from(check(&bytes));
    }
    assert!(
        names.len() <= FILES_MAX && size <= BYTES_MAX,
        "{} files, {size} bytes: minimise it",
        names.len()
    );
    assert!(good >= 3, "of {} files {good} are good for anything: the others say little", names.len());
    assert!(good < names.len(), "nothing in it is refused");
}

#[test]
fn histories() {
    replay("history", bodies::history::check);
}

#[test]
fn ledgers() {
    replay("ledger", bodies::ledger::check);
}

#[test]
fn notify_datagrams() {
    replay("notify", bodies::notify::check);
}

#[test]
fn unit_files() {
    replay("unitfile", bodies::unitfile::check);
}

#[test]
fn archives() {
    replay("unpack", bodies::unpack::check);
}

#[test]
fn the_control_protocol() {
    replay("varlink", bodies::varlink::check);
}

#[test]
fn every_target_is_replayed() {
    assert_eq!(names(&folder("corpus")), TARGETS);
    assert_eq!(names(&folder("fuzz_targets")), TARGETS.map(|target| format!("{target}.rs")));
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "Cargo.toml has no {target}");
    }
}
