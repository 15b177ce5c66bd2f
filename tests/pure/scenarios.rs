//! Stories: hand-written ones that tell the plot, and shrunk ones that once broke a rule.
//!
//! `SUPD_SCENARIO=file` tells one of them, or any other file, line by line.

use crate::oracle::Violation;
use crate::read::parse;
use crate::sim::Sim;
use std::path::{Path, PathBuf};
use supd::machine::Machine;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pure/scenarios")
}

/// Plays a file; what happened, and how it ended. Every line of it must be able to happen.
fn play(path: &Path) -> (String, Result<(), String>) {
    let text = std::fs::read_to_string(path).unwrap();
    let steps = parse(&text).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
    let mut sim = Sim::new(Machine::default());
    sim.trace = Some(Vec::new());
    let mut outcome = Ok(());
    for step in &steps {
        outcome = match sim.apply(step) {
            Ok(true) => continue,
            Ok(false) => Err(format!("{step}: cannot happen here")),
            Err(Violation { rule, text }) => Err(format!("{step}: [{}] {text}", rule.word())),
        };
        break;
    }
    (sim.trace.unwrap_or_default().join("\n"), outcome)
}

#[test]
fn every_scenario_ends_well() {
    if let Some(path) = std::env::var_os("SUPD_SCENARIO") {
        let (trace, outcome) = play(Path::new(&path));
        println!("{trace}");
        outcome.unwrap();
        return;
    }
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the stories are gone");
    let mut bad = Vec::new();
    for path in files {
        if let (trace, Err(fault)) = play(&path) {
            bad.push(format!("{}\n{trace}\n{fault}", path.display()));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));
}

/// Both have failed, and the one before does not get ready again: a person is told, and once.
#[test]
fn who_is_not_back_in_time_is_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("story");
    let lines = "unit web restart=no on-failure=one\nrun 5s\nc1 asks web swap\nrun 2s\nweb/1.0 exits 0\n\
                 web/1.0 swept\nweb/2.0 exits 1\nweb/2.0 swept\nweb/1.0 spawned\n";
    std::fs::write(&path, format!("{lines}{}", "deadline\n".repeat(6))).unwrap();
    let (trace, outcome) = play(&path);
    outcome.unwrap_or_else(|fault| panic!("{trace}\n{fault}"));
    let told: Vec<&str> = trace.lines().filter(|line| line.contains(": Run job")).collect();
    let of_it = |line: &&&str| line.contains(" not-back of generation 2: ");
    assert_eq!(told.iter().filter(of_it).count(), 1, "{trace}");
}

/// What a command waits for is the disk: each record and each intent is a flush.
#[test]
fn a_swap_and_a_rollback_take_no_more_flushes_than_they_need() {
    let folder = tempfile::tempdir().unwrap();
    let flushes = |lines: &str| {
        let path = folder.path().join("story");
        std::fs::write(&path, lines).unwrap();
        let (trace, outcome) = play(&path);
        outcome.unwrap_or_else(|fault| panic!("{trace}\n{fault}"));
        let is_flush = |line: &&str| line.contains(": Record ") || line.contains(": SaveIntent");
        trace.lines().filter(is_flush).count()
    };
    let start = "unit web\nrun 30s\n";
    let swap = format!("{start}c1 asks web swap\nrun 30s\nexpect c1 done changed\n");
    let back = format!("{swap}c2 asks web rollback\nrun 30s\nexpect c2 done changed\n");
    let all = [flushes(start), flushes(&swap), flushes(&back)];
    // It began, its program was copied, the intent, it switched, it ended; a start needs no intent, and a
    // rollback is committed at its switch.
    assert_eq!([all[0], all[1] - all[0], all[2] - all[1]], FLUSHES);
}

/// Of a start, a swap and a cold rollback.
const FLUSHES: [usize; 3] = [3, 5, 4];
