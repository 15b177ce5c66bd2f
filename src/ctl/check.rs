//! `supctl check`

use super::context::Context;
use super::failure::Failure;
use super::render::faults;
use crate::codec::fault::Fault;
use crate::codec::json::FaultView;
use crate::codec::unitfile::{BYTES_MAX, Loaded, Runner, Source, check_defaults, conflicts, keys, parse_for};
use crate::model::ExitStatus;
use crate::os::places::{Caller, Given, Places};
use crate::store::requirements;
use crate::store::text::{self, Content};
use crate::store::units::{ReadError, UnitFolders};
use std::path::{Path, PathBuf};

/// Find what is wrong in unit files; supd is not asked
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl check ./web.unit
  supctl check /etc/supd/units/*.unit && supctl daemon-reload
  supctl check /etc/supd/supd.toml
  supctl check --keys

Every fault at once, with its line and what to write instead; and warnings about what is doubtful.
A unit is read with the drop-ins beside it, and with the supd.toml above its folder, as a supd
with --units FOLDER would; where there is none, with that of the usual place, or of --units.

Exit status: 0 all can be used (there may be warnings); 78 at least one cannot.")]
pub(super) struct Check {
    /// Unit files, or supd.toml
    #[arg(value_name = "FILE", required_unless_present = "keys")]
    files: Vec<PathBuf>,
    /// Where the units are that this supd has, with supd.toml above them
    #[arg(long, value_name = "DIR", env = "SUPD_UNITS", hide_env_values = true)]
    units: Option<PathBuf>,
    /// List every key of a unit file, table by table
    #[arg(long, conflicts_with = "files")]
    keys: bool,
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
        if self.keys {
            let tables = keys().flat_map(|(table, keys)| std::iter::once(table).chain(keys.iter().copied()));
            context.print(tables)?;
            return Ok(ExitStatus::Done);
        }
        let found = check_files(&self.files, &folders(self.units));
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
fn check_files(files: &[PathBuf], folders: &UnitFolders) -> Found {
    let mut found = Found::default();
    let mut loaded: Vec<(&PathBuf, Loaded)> = Vec::new();
    for file in files {
        if file.file_name() == Some("supd.toml".as_ref()) {
            found.faults.extend(defaults(file).iter().map(FaultView::from));
            continue;
        }
        match check_file(folders, file) {
            Ok(unit) => {
                found.warnings.extend(unit.warnings.iter().map(FaultView::from));
                found.warnings.extend(requirements::missing(&unit, runner(file)).iter().map(FaultView::from));
                loaded.push((file, unit));
            }
            Err(faults) => found.faults.extend(faults.iter().map(FaultView::from)),
        }
    }
    // The defaults of all units are read for each of them; their faults are told once.
    found.faults.dedup();
    let settings: Vec<_> = loaded.iter().map(|(_, unit)| &unit.settings).collect();
    for conflict in conflicts(&settings) {
        let named = loaded.iter().find(|(_, unit)| unit.settings.unit == conflict.second.0);
        let file = named.map_or_else(String::new, |(file, _)| file.display().to_string());
        found.faults.push(FaultView { file, what: conflict.to_string(), ..FaultView::default() });
    }
    found
}

/// Where supd itself would look for drop-ins and defaults.
fn folders(units: Option<PathBuf>) -> UnitFolders {
    match Places::resolve(&Given { units, ..Given::default() }, &Caller::this()) {
        Ok(places) => UnitFolders { folders: places.units, defaults: places.defaults },
        // An ordinary user without HOME has neither.
        Err(_) => UnitFolders { folders: Vec::new(), defaults: PathBuf::from("/nonexistent/supd.toml") },
    }
}

/// What is wrong with the defaults of all units, by themselves.
fn defaults(file: &Path) -> Vec<Fault> {
    match text::read(file, BYTES_MAX) {
        Ok(Content::Text(text)) => check_defaults(&Source::new(file, text)),
        Ok(Content::Null) => Vec::new(),
        Ok(Content::Missing) => vec![Fault::of_file(file, "there is no such file", "")],
        Err(fault) => vec![fault],
    }
}

fn check_file(folders: &UnitFolders, file: &Path) -> Result<Loaded, Vec<Fault>> {
    let sources = folders.read_file(file).map_err(|error| match error {
        ReadError::Faults(faults) => faults,
        ReadError::NotFound { .. } => vec![Fault::of_file(file, "there is no such file", "")],
        ReadError::Masked { .. } => vec![Fault::of_file(file, error.to_string(), "")],
    })?;
    parse_for(&sources, runner(file))
}

/// Units of the machine run under root's supd, whoever checks them.
fn runner(file: &Path) -> Runner {
    let of_the_machine = ["/etc", "/usr"].iter().any(|folder| file.starts_with(folder));
    if of_the_machine || Caller::this().root { Runner::Root } else { Runner::Ordinary }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str =
        "[[Socket]]\nListenStream = 8080\n[Service]\nUser = \"nobody\"\nExecStart = \"/bin/true\"\n";

    #[test]
    fn faults_of_all_files_are_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = file("good.unit", WEB);
        let typo = file("typo.unit", &WEB.replace("ListenStream", "ListenSteam"));
        let files = [good.clone(), typo, folder.path().to_path_buf(), folder.path().join("none.unit")];
        let found = check_files(&files, &folders(None));
        let whats: Vec<String> =
            found.faults.iter().map(|fault| format!("{} {}", fault.what, fault.remedy)).collect();
        assert!(whats.iter().any(|what| what.contains("ListenStream")), "{whats:?}");
        assert!(whats.iter().any(|what| what.contains("no such file")), "{whats:?}");
        assert!(found.faults.iter().all(|fault| fault.file != good.display().to_string()), "{whats:?}");
    }

    #[test]
    fn two_units_on_one_address_are_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| folder.path().join(format!("{name}.unit")));
        for file in &files {
            std::fs::write(file, WEB).unwrap();
        }
        let found = check_files(&files, &folders(None));
        assert_eq!(found.faults.len(), 1, "{found:?}");
        assert!(found.faults[0].what.contains("both listen on"), "{found:?}");
        assert_eq!(check_files(&files[..1], &folders(None)).faults, Vec::new());
    }

    #[test]
    fn defaults_are_those_that_supd_would_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let unit = write("there/units/web.unit", WEB);
        let checked = |file: &PathBuf, units: Option<PathBuf>| {
            let found = check_files(std::slice::from_ref(file), &folders(units));
            let keys: Vec<String> = found.faults.into_iter().map(|fault| fault.key).collect();
            keys.join(" ")
        };
        assert_eq!(checked(&unit, None), "");
        // Above its own folder; and with the places of a supd, from anywhere else.
        let defaults = write("there/supd.toml", "[Service]\nRestart = \"never\"\n");
        assert_eq!(checked(&unit, None), "Restart");
        let draft = write("draft/web.unit", WEB);
        assert_eq!(checked(&draft, None), "");
        assert_eq!(checked(&draft, Some(folder.path().join("there/units"))), "Restart");
        // The file itself.
        assert_eq!(checked(&defaults, None), "Restart");
        write(
            "there/supd.toml",
            "[Service]\nRestart = \"no\"\nExecStart = \"/bin/x\"\n[Socket]\nBacklog = 7\n",
        );
        assert_eq!(checked(&defaults, None), "ExecStart");
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
