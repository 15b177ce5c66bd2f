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
