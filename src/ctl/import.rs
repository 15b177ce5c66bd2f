//! `supctl import`: from a .service of systemd, with its .socket or without, to a `.unit`.
//!
//! Files are read, and nothing else: no running process is asked, no command is run, supd need
//! not be there. `gather` finds the files, `translate` makes a draft of them, `checked` lets the
//! reader of unit files have the last word. What a known server needs is data in `programs`.

mod bind;
mod checked;
mod configs;
mod draft;
mod exec;
mod gather;
mod keys;
mod look;
mod ports;
mod programs;
mod remark;
mod service;
mod sockets;
#[cfg(test)]
mod tests;
mod translate;
mod work;

pub use translate::of_texts;

use super::context::{Context, write_all};
use super::failure::Failure;
use crate::codec::systemd::Facts;
use crate::model::{ExitStatus, UnitName};
use crate::os::places::{Caller, Given, Places};
use crate::store::text::explain;
use gather::Gatherer;
use look::{Look, Seen};
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use translate::{Imported, translate};

/// Turn a .service of systemd, with its .socket, into a unit
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl import nginx.service > nginx.unit                what systemd has under this name
  supctl import ./web.service ./web.socket -o web.unit    files
  supctl import postgresql@15-main.service --write        into the folder of supd's units

The unit goes to standard output, and what was changed, left out or is to do to standard error. A
name is looked up in systemd's unit path, with its drop-ins and its socket. Without a socket the
ports are looked for in the arguments and, for known servers, in the configuration.

Exit status: 0 the unit is complete; 1 it is written, but something is to do first, or this supd
cannot run it yet: the remarks say what; 3 there is nothing that supd could run; 78 a file of
systemd is wrong.")]
pub(super) struct Import {
    /// Names or files of services and sockets
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    /// Write the unit to this file, or each of them into this folder
    #[arg(short, long, value_name = "PATH", conflicts_with = "write")]
    output: Option<PathBuf>,
    /// Write into the folder of supd's units
    #[arg(long)]
    write: bool,
    /// Even where there is such a file already
    #[arg(long)]
    force: bool,
    /// Look at the files of the system in this folder
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// One unit, for programs.
#[derive(Serialize)]
struct ImportView<'i> {
    unit: &'i str,
    /// Where it was written.
    file: Option<String>,
    complete: bool,
    text: &'i str,
    remarks: &'i [remark::Remark],
}

/// Where the units go.
enum Target {
    Output,
    File(PathBuf),
    Folder(PathBuf),
}

impl Import {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let look = Look::new(self.root.clone());
        let target = self.target()?;
        let jobs = Gatherer::new(&look).jobs(&self.files)?;
        if jobs.len() > 1 && !matches!(target, Target::Folder(_)) && !context.json {
            let text = format!("{} units: they do not go into one file", jobs.len());
            return Err(Failure::new(ExitStatus::Usage, text).next("say into which folder: -o DIR"));
        }
        let facts = facts(&look, self.root.is_some());
        let mut imported = Vec::new();
        for job in &jobs {
            imported.push(translate(job, target.unit()?, &look, &facts)?);
        }
        let mut views = Vec::new();
        for one in &imported {
            let file = target.file(&one.unit);
            if let Some(file) = &file {
                put(file, &one.text, self.force, context.meta.dry_run)?;
            } else if !context.json {
                write_all(one.text.as_bytes())?;
            }
            tell(one, file.as_deref(), context.json);
            let (unit, file) = (one.unit.as_str(), file.map(|file| file.display().to_string()));
            let Imported { text, remarks, complete, .. } = one;
            views.push(ImportView { unit, file, complete: *complete, text, remarks });
        }
        if context.json {
            context.print([serde_json::to_string(&views).unwrap_or_default()])?;
        }
        let complete = imported.iter().all(|one| one.complete);
        Ok(if complete { ExitStatus::Done } else { ExitStatus::Failed })
    }

    fn target(&self) -> Result<Target, Failure> {
        if self.write {
            let places = Places::resolve(&Given::default(), &Caller::this());
            let places = places.map_err(|why| Failure::new(ExitStatus::Usage, why.to_string()))?;
            return Ok(places.units.into_iter().next().map_or(Target::Output, Target::Folder));
        }
        Ok(match &self.output {
            None => Target::Output,
            Some(path) if path == Path::new("-") => Target::Output,
            Some(path) if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                Target::Folder(path.clone())
            }
            Some(path) if path.extension().is_some_and(|ending| ending == "unit") => {
                Target::File(path.clone())
            }
            Some(path) => {
                let text =
                    format!("{} is no folder, and the name of a unit file ends in .unit", path.display());
                return Err(Failure::new(ExitStatus::Usage, text));
            }
        })
    }
}

impl Target {
    /// The name that the user chose for the unit.
    fn unit(&self) -> Result<Option<UnitName>, Failure> {
        let Self::File(path) = self else { return Ok(None) };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let named = UnitName::new(&stem).map(Some);
        named.map_err(|rule| Failure::new(ExitStatus::Usage, format!("{}: {rule}", path.display())))
    }

    fn file(&self, unit: &UnitName) -> Option<PathBuf> {
        match self {
            Self::Output => None,
            Self::File(path) => Some(path.clone()),
            Self::Folder(folder) => Some(folder.join(format!("{unit}.unit"))),
        }
    }
}

/// Writes a file as a whole: a unit that is half there would be read by the next daemon-reload.
fn put(path: &Path, text: &str, force: bool, dry_run: bool) -> Result<(), Failure> {
    let failed = |error: &io::Error| {
        let status = match error.kind() {
            ErrorKind::PermissionDenied => ExitStatus::NotAllowed,
            _ => ExitStatus::Failed,
        };
        Failure::new(status, format!("cannot write {}: {}", path.display(), explain(error)))
    };
    let there = || {
        let text = format!("{} is there already", path.display());
        Failure::new(ExitStatus::Refused, text).next("take --force to write over it, or -o another name")
    };
    if dry_run {
        return if path.exists() && !force { Err(there()) } else { Ok(()) };
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    }
    if !force && fs::symlink_metadata(path).is_ok() {
        return Err(there());
    }
    let name = format!(".{}.{}", path.file_name().unwrap_or_default().to_string_lossy(), std::process::id());
    let new = path.with_file_name(name);
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // A link never takes the place of a file that came in the meantime.
        if force {
            fs::rename(&new, path)
        } else {
            fs::hard_link(&new, path).and_then(|()| fs::remove_file(&new))
        }
    };
    written().map_err(|error| {
        let _it_may_never_have_been_there = fs::remove_file(&new);
        if error.kind() == ErrorKind::AlreadyExists && !force { there() } else { failed(&error) }
    })
}

/// Remarks, and how it ended, on standard error. For programs they are in the JSON.
fn tell(imported: &Imported, file: Option<&Path>, json: bool) {
    if json {
        return;
    }
    let unit = format!("{}.unit", imported.unit);
    let mut lines = remark::lines(&imported.remarks, &unit);
    let shown = file.map_or(unit, |file| file.display().to_string());
    lines.push(match imported.complete {
        true => format!("{shown}: complete; next: supctl check {shown}"),
        false => format!("{shown}: not complete; see the remarks above"),
    });
    if let Some(service) = imported.lender.as_ref().filter(|_| imported.complete) {
        let unit = &imported.unit;
        lines.push(format!("without a gap while {service} runs: supctl start {unit} --take-from {service}"));
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let _nobody_reads_it = io::stderr().lock().write_all(text.as_bytes());
}

/// What specifiers stand for: on this machine, or on the one in `--root`.
fn facts(look: &Look, of_another: bool) -> Facts {
    let mut facts = Facts::of_system();
    let line = |path: &str| match look.text(Path::new(path)) {
        Seen::Text(text) => text.trim().to_owned(),
        Seen::Missing | Seen::Unread(_) => String::new(),
    };
    facts.machine_id = line("/etc/machine-id");
    facts.host = line("/etc/hostname");
    if !of_another {
        if let Ok(names) = nix::sys::utsname::uname() {
            facts.host = names.nodename().to_string_lossy().into_owned();
            facts.kernel = names.release().to_string_lossy().into_owned();
            facts.architecture = match names.machine().to_str() {
                Some("x86_64") => "x86-64".to_owned(),
                Some("aarch64") => "arm64".to_owned(),
                Some(other) => other.to_owned(),
                None => String::new(),
            };
        }
    }
    facts
}
