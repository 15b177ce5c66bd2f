//! Finding the unit files of systemd that were named: fragments, drop-ins, the sockets of a service.

use super::look::{Look, Seen};
use crate::codec::fault::Fault;
use crate::codec::systemd::{Kind, Name, Unit};
use crate::codec::unitfile::Source;
use crate::ctl::failure::Failure;
use crate::model::ExitStatus;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// systemd's unit path, less the folders that only its generators use.
const SEARCHED: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// So many lines that are no UTF-8 are named.
const GARBLED_MAX: usize = 20;

/// A unit of systemd, read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) name: Name,
    pub(super) fragment: PathBuf,
    pub(super) unit: Unit,
    /// Folders among its drop-ins, which systemd passes over.
    pub(super) folders: Vec<PathBuf>,
}

/// A service and its sockets: what becomes one unit of supd.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) service: Loaded,
    pub(super) sockets: Vec<Loaded>,
    /// Sockets that lie there and are not in use.
    pub(super) idle: Vec<Name>,
}

pub(super) struct Gatherer<'l> {
    look: &'l Look,
}

/// An argument: its name, and where it is if it is a path.
#[derive(Debug, Clone)]
struct Wanted {
    name: Name,
    folder: Option<PathBuf>,
}

impl<'l> Gatherer<'l> {
    pub(super) fn new(look: &'l Look) -> Self {
        Self { look }
    }

    /// The jobs that the arguments come to: each service once, with the sockets that were named too.
    pub(super) fn jobs(&self, arguments: &[String]) -> Result<Vec<Job>, Failure> {
        let mut wanted = Vec::new();
        for argument in arguments {
            wanted.push(self.wanted(argument)?);
        }
        let mut given: Vec<Loaded> = Vec::new();
        let mut services: Vec<Wanted> = Vec::new();
        for one in wanted {
            if one.name.kind == Kind::Service {
                services.push(one);
                continue;
            }
            let socket = self.must(&one)?;
            let name = service_of(&socket)?;
            services.push(Wanted { name, folder: one.folder });
            given.push(socket);
        }
        let mut jobs: Vec<Job> = Vec::new();
        for service in services {
            if jobs.iter().all(|job| job.service.name != service.name) {
                jobs.push(self.job(&service, &mut given)?);
            }
        }
        Ok(jobs)
    }

    fn wanted(&self, argument: &str) -> Result<Wanted, Failure> {
        let path = Path::new(argument);
        let is_path = argument.contains('/') || path.is_file();
        let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = Name::parse(file_name) else {
            let text = format!("{argument}: no .service and no .socket of systemd");
            return Err(Failure::new(ExitStatus::Usage, text).next("supctl import nginx.service"));
        };
        let folder = is_path.then(|| match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            Some(_) | None => PathBuf::from("."),
        });
        Ok(Wanted { name, folder })
    }

    fn job(&self, wanted: &Wanted, given: &mut Vec<Loaded>) -> Result<Job, Failure> {
        let service = self.must(wanted)?;
        let (mut sockets, mut idle) = (Vec::new(), Vec::new());
        for at in (0..given.len()).rev() {
            if service_of(&given[at])? == service.name || service_of(&given[at])? == wanted.name {
                sockets.insert(0, given.remove(at));
            }
        }
        for (name, in_use) in self.sockets_of(&service, wanted.folder.is_some()) {
            if sockets.iter().any(|socket| socket.name == name) {
                continue;
            }
            let socket = Wanted { name: name.clone(), folder: wanted.folder.clone() };
            match self.load(&socket)? {
                Some(socket) if in_use => sockets.push(socket),
                Some(socket) if socket.unit.has_section("Socket") => idle.push(name),
                Some(_) | None => {}
            }
        }
        Ok(Job { service, sockets, idle })
    }

    /// The sockets of a service, and whether each is in use: one that the service names is, or
    /// one that lies beside a file, or one that is enabled.
    fn sockets_of(&self, service: &Loaded, beside: bool) -> Vec<(Name, bool)> {
        let mut names: Vec<(Name, bool)> = Vec::new();
        for (section, key) in [
            ("Service", "Sockets"),
            ("Unit", "Requires"),
            ("Unit", "BindsTo"),
            ("Unit", "Wants"),
            ("Install", "Also"),
        ] {
            for value in service.unit.all(section, key) {
                let sockets = value.text.split_whitespace().filter_map(Name::parse);
                // A unit may need the socket of another server.
                let own = |name: &Name| key == "Sockets" || *name == service.name.with(Kind::Socket);
                names.extend(
                    sockets.filter(|name| name.kind == Kind::Socket && own(name)).map(|name| (name, true)),
                );
            }
        }
        let same = service.name.with(Kind::Socket);
        if !names.iter().any(|(name, _)| *name == same) {
            let wants = format!("/etc/systemd/system/sockets.target.wants/{same}");
            let enabled = self.look.is_there(Path::new(&wants));
            names.push((same, beside || enabled));
        }
        names
    }

    fn must(&self, wanted: &Wanted) -> Result<Loaded, Failure> {
        if wanted.name.is_template() {
            let text = format!("{} is a template: say of which instance", wanted.name);
            let next = format!("supctl import {}@INSTANCE.{}", wanted.name.prefix, wanted.name.suffix());
            return Err(Failure::new(ExitStatus::Refused, text).next(next));
        }
        self.load(wanted)?.ok_or_else(|| {
            let folders = match &wanted.folder {
                Some(folder) => folder.display().to_string(),
                None => SEARCHED.join(", "),
            };
            Failure::new(ExitStatus::Refused, format!("there is no {} in {folders}", wanted.name))
        })
    }

    /// Reads a unit; `None`: there is none.
    fn load(&self, wanted: &Wanted) -> Result<Option<Loaded>, Failure> {
        let searched: Vec<PathBuf> = match &wanted.folder {
            Some(folder) => vec![folder.clone()],
            None => SEARCHED.iter().map(PathBuf::from).collect(),
        };
        let mut name = wanted.name.clone();
        let mut files = vec![name.to_string()];
        files.extend(name.template());
        let candidates = files.iter().flat_map(|file| searched.iter().map(move |folder| folder.join(file)));
        for path in candidates {
            let text = match self.text(&path, wanted)? {
                Seen::Missing => continue,
                Seen::Unread(why) => return Err(unread(&path, &why)),
                Seen::Text(text) => text,
            };
            if text.trim().is_empty() {
                let text = format!("{} is masked: somebody wants it not to run", path.display());
                return Err(Failure::new(ExitStatus::Refused, text));
            }
            // A link to another unit is another name of that one.
            let real = self.real(&path, wanted);
            let other = real.file_name().and_then(|file| Name::parse(file.to_str()?));
            if let Some(other) = other.filter(|other| !other.is_template() && other.kind == name.kind) {
                name = other;
            }
            let mut sources = vec![Source::new(&path, text)];
            let mut folders = Vec::new();
            sources.extend(self.drop_ins(&name, wanted, &searched, &mut folders)?);
            let unit = Unit::read(&sources).map_err(|faults| wrong(&faults))?;
            return Ok(Some(Loaded { name, fragment: path, unit, folders }));
        }
        Ok(None)
    }

    /// Drop-ins in the order of their names; of two of one name that of the more particular folder.
    fn drop_ins(
        &self,
        name: &Name,
        wanted: &Wanted,
        searched: &[PathBuf],
        folders: &mut Vec<PathBuf>,
    ) -> Result<Vec<Source>, Failure> {
        let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
        for drop_ins in name.drop_in_folders() {
            for folder in searched {
                let folder = folder.join(&drop_ins);
                for file in self.names(&folder, wanted) {
                    found.entry(file.clone()).or_insert_with(|| folder.join(file));
                }
            }
        }
        let mut sources = Vec::new();
        for path in found.into_values() {
            match self.text(&path, wanted)? {
                Seen::Text(text) => sources.push(Source::new(path, text)),
                Seen::Missing => {}
                Seen::Unread(_) if self.real(&path, wanted).is_dir() => folders.push(path),
                Seen::Unread(why) => return Err(unread(&path, &why)),
            }
        }
        Ok(sources)
    }

    // A path that was given is one of this machine, whatever --root says.

    fn text(&self, path: &Path, wanted: &Wanted) -> Result<Seen, Failure> {
        let seen = match wanted.folder {
            Some(_) => Look::new(None).unit(path),
            None => self.look.unit(path),
        };
        match seen {
            // A mask is a link to /dev/null.
            Ok(Seen::Unread(_)) if self.real(path, wanted) == Path::new("/dev/null") => {
                Ok(Seen::Text(String::new()))
            }
            Ok(seen) => Ok(seen),
            Err(lines) => {
                let (what, remedy) = ("this is no UTF-8", "write it in UTF-8; systemd refuses this file too");
                let fault = |line| Fault { line, column: 1, ..Fault::of_file(path, what, remedy) };
                Err(wrong(&lines.into_iter().take(GARBLED_MAX).map(fault).collect::<Vec<_>>()))
            }
        }
    }

    fn names(&self, folder: &Path, wanted: &Wanted) -> Vec<String> {
        match wanted.folder {
            Some(_) => Look::new(None).names(folder, ".conf"),
            None => self.look.names(folder, ".conf"),
        }
    }

    fn real(&self, path: &Path, wanted: &Wanted) -> PathBuf {
        match wanted.folder {
            Some(_) => std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
            None => {
                let real = self.look.real(path);
                std::fs::canonicalize(&real).unwrap_or(real)
            }
        }
    }
}

/// The service that a socket starts.
fn service_of(socket: &Loaded) -> Result<Name, Failure> {
    let refuse = |text: String| Err(Failure::new(ExitStatus::Refused, text));
    if let Some(accept) = socket.unit.last("Socket", "Accept") {
        if crate::codec::systemd::boolean(&accept.text) == Some(true) {
            let name = &socket.name;
            return refuse(format!(
                "{name} has Accept=yes: systemd starts a program for each connection; leave it to systemd"
            ));
        }
    }
    match socket.unit.last("Socket", "Service") {
        None => Ok(socket.name.with(Kind::Service)),
        Some(value) => match Name::parse(&value.text).filter(|name| name.kind == Kind::Service) {
            Some(name) => Ok(name),
            None => refuse(format!("{}: Service={} is no service", socket.name, value.text)),
        },
    }
}

fn unread(path: &Path, why: &str) -> Failure {
    Failure::new(ExitStatus::BadUnitFile, format!("cannot read {}: {why}", path.display()))
}

/// Files that systemd refuses too.
pub(super) fn wrong(faults: &[Fault]) -> Failure {
    let details = faults.iter().map(ToString::to_string).collect();
    Failure { details, ..Failure::new(ExitStatus::BadUnitFile, "a unit file of systemd is wrong") }
}
