//! The last word has the reader of unit files: what it refuses is made a comment, and told.

use super::draft::{At, Draft};
use super::remark::{Kind, Place, Remarks};
use crate::codec::fault::Fault;
use crate::codec::unitfile::{Runner, Source, Sources, parse_for};
use crate::model::UnitName;

/// How often a draft is read: each time at least one row goes.
const ROUNDS_MAX: usize = 50;

/// The text of a draft that `supctl check` accepts.
pub(super) fn finish(unit: &UnitName, draft: &mut Draft, remarks: &mut Remarks) -> String {
    for _ in 0..ROUNDS_MAX {
        let (text, lines) = draft.write();
        let faults = match read(unit, text) {
            Ok(warnings) => {
                for warning in &warnings {
                    tell(draft, &lines, warning, remarks);
                }
                break;
            }
            Err(faults) => faults,
        };
        let mut changed = false;
        for fault in faults {
            let at = at(&lines, &fault);
            refused(draft, at, &fault, remarks);
            if let Some(row) = at.and_then(|at| draft.row(at)) {
                changed |= !row.off;
                row.off = true;
            }
        }
        if !changed {
            break;
        }
    }
    draft.write().0
}

fn read(unit: &UnitName, text: String) -> Result<Vec<Fault>, Vec<Fault>> {
    let main = Source::new(format!("{unit}.unit"), text);
    let sources = Sources { unit: unit.clone(), defaults: None, main, drop_ins: Vec::new() };
    // Units of systemd are root's to run.
    parse_for(&sources, Runner::Root).map(|loaded| loaded.warnings)
}

fn at(lines: &[Option<At>], fault: &Fault) -> Option<At> {
    let line = usize::try_from(fault.line).ok()?.checked_sub(1)?;
    lines.get(line).copied().flatten()
}

fn refused(draft: &mut Draft, at: Option<At>, fault: &Fault, remarks: &mut Remarks) {
    let from: Option<Place> = at.and_then(|at| draft.row(at)).and_then(|row| row.from.clone());
    let what = format!("it is written as a comment: {}", fault.what);
    remarks.add(Kind::ToDo, from.as_ref(), &fault.key, &what, &fault.remedy);
}

fn tell(draft: &mut Draft, lines: &[Option<At>], warning: &Fault, remarks: &mut Remarks) {
    let from = at(lines, warning).and_then(|at| draft.row(at)).and_then(|row| row.from.clone());
    remarks.add(Kind::Note, from.as_ref(), &warning.key, &warning.what, &warning.remedy);
}
