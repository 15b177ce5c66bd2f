//! The two tables that the machine decides by, as golden text, and the law that a sweep visits
//! every cell of them that decides anything.

use crate::coverage::Coverage;
use std::fmt::Write;
use std::path::Path;
use supd::machine::FailureKind;
use supd::machine::swap_table::{self, StepKind, SwapCueKind, SwapMove};
use supd::machine::worker_table::{self, CueKind, Kind, Move};

/// Why no world can reach a cell, if none can.
fn unreachable(kind: Kind, cue: CueKind) -> Option<&'static str> {
    match (kind, cue) {
        (Kind::Halting, CueKind::SpawnFailed) => Some("what is halted has served, so it was launched"),
        (Kind::Closing, CueKind::Kill) => Some("seen as EndJob, like the time limit of ExecStopPost"),
        (Kind::Halting | Kind::Stopping | Kind::Killing | Kind::Sweeping | Kind::Gone, CueKind::Kill) => None,
        (_, CueKind::Kill) => Some("a stop comes first: nothing is killed that was not told to stop"),
        (_, _) => None,
    }
}

/// Cells that decide something and that this sweep never visited.
pub(crate) fn unvisited(coverage: &Coverage) -> Vec<String> {
    let mut missing = Vec::new();
    for kind in Kind::ALL {
        for cue in CueKind::ALL {
            let excused = unreachable(*kind, *cue).is_some();
            let word = match cue {
                // supd's own will: seen as a phase that changes although nothing happened to it.
                CueKind::Stop | CueKind::Reload | CueKind::Bind => "told".to_owned(),
                _ => dashed(cue.name()),
            };
            let seen = |word: &str| coverage.workers.get(&dashed(kind.name()), word) > 0;
            let visited = match (kind, cue) {
                // SIGKILL, and once more, where the phase stays what it is.
                (Kind::Killing | Kind::Sweeping, CueKind::Due) | (_, CueKind::Kill) => seen("kill"),
                (_, _) => seen(&word),
            };
            if worker_table::decide(*kind, *cue) != Move::Stale && !visited && !excused {
                missing.push(format!("worker {kind:?} × {cue:?}"));
            }
        }
    }
    for step in StepKind::ALL {
        for cue in SwapCueKind::ALL {
            let visited = coverage.swaps.get(step.name(), cue.name()) > 0;
            if swap_table::decide(*step, *cue) != SwapMove::Stale && !visited {
                missing.push(format!("swap {step:?} × {cue:?}"));
            }
        }
    }
    // What contradicts itself is a defect, and who is not back in time by bad luck alone is rare: both have a
    // test of their own.
    let apart = |kind: &FailureKind| matches!(kind, FailureKind::Quarantine | FailureKind::NotBack);
    let seen = FailureKind::ALL.into_iter().filter(|kind| !apart(kind));
    let untold = seen.filter(|kind| coverage.alarms.get(kind.word(), "told") == 0);
    missing.extend(untold.map(|kind| format!("ExecOnFailure {kind:?}")));
    missing
}

/// `SpawnFailed` as status and scenarios write it.
fn dashed(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// One table: a row a cue, a column a phase, so that a line reads as what becomes of one event.
fn table<R: Copy, C: Copy, M>(
    title: &str,
    rows: &[R],
    row: impl Fn(R) -> &'static str,
    columns: &[C],
    column: impl Fn(C) -> &'static str,
    cell: impl Fn(C, R) -> M,
    word: impl Fn(M) -> &'static str,
) -> String {
    let cells = |r: R| columns.iter().map(|c| word(cell(*c, r))).collect::<Vec<_>>();
    let width = |at: usize| {
        let longest = rows.iter().map(|r| cells(*r)[at].len()).max().unwrap_or(0);
        longest.max(column(columns[at]).len())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let first = rows.iter().map(|r| row(*r).len()).max().unwrap_or(0).max(title.len());
    let mut text = format!("{title:first$}");
    for (at, c) in columns.iter().enumerate() {
        let _ = write!(text, "  {:width$}", column(*c), width = widths[at]);
    }
    for r in rows {
        let _ = write!(text, "\n{:first$}", row(*r));
        for (at, cell) in cells(*r).iter().enumerate() {
            let _ = write!(text, "  {cell:width$}", width = widths[at]);
        }
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n"))
}

fn matrix() -> String {
    let worker =
        table("a worker", CueKind::ALL, CueKind::name, Kind::ALL, Kind::name, worker_table::decide, |made| {
            if made == Move::Stale { "·" } else { made.name() }
        });
    let swap = table(
        "a swap",
        SwapCueKind::ALL,
        SwapCueKind::name,
        StepKind::ALL,
        StepKind::name,
        swap_table::decide,
        |made| if made == SwapMove::Stale { "·" } else { made.name() },
    );
    format!("{worker}\n{swap}")
}

#[test]
fn the_matrix_is_what_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pure/matrix.txt");
    let found = matrix();
    if std::env::var_os("SUPD_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "the machine decides otherwise; if that is meant, run again with SUPD_BLESS=1:\n{found}"
    );
}
