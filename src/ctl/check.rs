//! `supctl check`

use super::context::Context;
use super::failure::Failure;
use super::render::faults;
use crate::codec::json::FaultView;
use crate::model::ExitStatus;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The most bytes of a unit file.
const FILE_MAX: u64 = 1 << 20;

/// Find what is wrong in unit files; supd is not asked
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl check ./web.unit
  supctl check /etc/supd/units/*.unit && supctl daemon-reload

Every fault at once, with its line and what to write instead; and warnings about what is doubtful.

Exit status: 0 all can be used (there may be warnings); 78 at least one cannot.")]
pub(super) struct Check {
    /// Unit files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What was found in unit files.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Found {
    /// What makes a file unusable.
    pub(super) faults: Vec<FaultView>,
    /// What is doubtful.
    pub(super) warnings: Vec<FaultView>,
}

impl Check {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let found = check_files(&self.files);
        let status = if found.faults.is_empty() { ExitStatus::Done } else { ExitStatus::BadUnitFile };
        if context.json {
            context.print([serde_json::to_string(&found).unwrap_or_default()])?;
            return Ok(status);
        }
        context.print(report(&found, self.files.len()))?;
        Ok(status)
    }
}

fn report(found: &Found, files: usize) -> Vec<String> {
    let mut lines = faults::lines(&found.faults);
    lines.extend(faults::lines(&found.warnings).into_iter().map(|line| match line.strip_prefix("  ") {
        Some(_) => line,
        None => format!("Warning: {line}"),
    }));
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let (faults, warnings) = (found.faults.len(), found.warnings.len());
    lines.push(match (faults, warnings) {
        (0, 0) => format!("{} checked, all is well", count(files, "file")),
        _ => format!(
            "{} checked: {}, {}",
            count(files, "file"),
            count(faults, "fault"),
            count(warnings, "warning")
        ),
    });
    lines
}

/// Checks files as supd would read them, together: two units on one address are a fault.
fn check_files(files: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for file in files {
        if let Err(fault) = read(file) {
            found.faults.push(fault);
        }
    }
    found
}

fn read(file: &Path) -> Result<String, FaultView> {
    let fault = |what: String| FaultView { file: file.display().to_string(), what, ..FaultView::default() };
    let opened = std::fs::File::open(file).map_err(|error| fault(format!("cannot be opened: {error}")))?;
    let mut text = String::new();
    let read = opened.take(FILE_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| fault(format!("cannot be read: {error}")))?;
    if text.len() as u64 > FILE_MAX {
        return Err(fault(format!("it is longer than {FILE_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_read_are_faults() {
        let folder = tempfile::tempdir().unwrap();
        let (good, long) = (folder.path().join("good.unit"), folder.path().join("long.unit"));
        std::fs::write(&good, "").unwrap();
        std::fs::write(&long, vec![b'#'; (FILE_MAX + 1) as usize]).unwrap();
        let files = [good, long, folder.path().to_path_buf(), folder.path().join("none.unit")];
        let found = check_files(&files);
        let whats: Vec<&str> = found.faults.iter().map(|fault| fault.what.as_str()).collect();
        assert_eq!(whats.len(), 3, "{whats:?}");
        assert_eq!(whats[0], "it is longer than 1048576 bytes");
        assert!(whats[1].starts_with("cannot be read: Is a directory"), "{whats:?}");
        assert!(whats[2].starts_with("cannot be opened: No such file"), "{whats:?}");
    }

    #[test]
    fn the_report_ends_with_a_count() {
        let fault = FaultView {
            file: "web.unit".into(),
            line: 1,
            column: 1,
            what: "x".into(),
            remedy: "y".into(),
            ..FaultView::default()
        };
        let found = Found { faults: vec![fault.clone()], warnings: vec![fault.clone(), fault] };
        let expected = [
            "web.unit:1:1: x",
            "  y",
            "Warning: web.unit:1:1: x",
            "  y",
            "Warning: web.unit:1:1: x",
            "  y",
            "2 files checked: 1 fault, 2 warnings",
        ];
        assert_eq!(report(&found, 2), expected);
        assert_eq!(report(&Found::default(), 1), ["1 file checked, all is well"]);
    }
}
