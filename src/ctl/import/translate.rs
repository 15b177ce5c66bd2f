//! A service of systemd, with its sockets, as a unit of supd.

use super::checked;
use super::gather::Job;
use super::look::Look;
use super::programs::Takes;
use super::remark::{Kind, Remark};
use super::service::Main;
use super::work::{Work, place};
use crate::codec::systemd::{Facts, Kind as UnitKind, Name};
use crate::codec::unitfile::as_toml as toml;
use crate::codec::unitfile::{foreign_remedy, foreign_table_remedy};
use crate::ctl::failure::Failure;
use crate::model::{ExitStatus, UnitName};

/// What became of one service.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) unit: UnitName,
    pub(super) text: String,
    pub(super) remarks: Vec<Remark>,
    /// Whether `supctl check` accepts it, and nothing is left to do.
    pub(super) complete: bool,
    /// The service, where nobody else holds its sockets: what supd can take them from while it runs.
    pub(super) lender: Option<String>,
}

/// Translates one job.
pub(super) fn translate(
    job: &Job,
    unit: Option<UnitName>,
    look: &Look,
    facts: &Facts,
) -> Result<Imported, Failure> {
    let unit = match unit {
        Some(unit) => unit,
        None => job.service.name.to_unit().map_err(|rule| {
            let text = format!("{} makes no name for a unit of supd: {rule}", job.service.name);
            Failure::new(ExitStatus::Refused, text).next("name the file: -o NAME.unit")
        })?,
    };
    let mut work = Work::new(job, look, facts);
    work.head();
    let main = work.main()?;
    work.keys();
    let intercepted = work.sockets(&main);
    work.hooks(&main);
    work.ready(&main, intercepted);
    work.start();
    work.unfinished(&main);
    work.rest_of_all();
    let Work { mut draft, mut remarks, .. } = work;
    draft.sort();
    let text = checked::finish(&unit, &mut draft, &mut remarks);
    remarks.sort();
    let complete = remarks.is_complete();
    let name = &job.service.name;
    let is_template = name.instance.as_ref().is_some_and(String::is_empty);
    let lender = (job.sockets.is_empty() && !is_template).then(|| name.to_string());
    Ok(Imported { unit, text, remarks: remarks.0, complete, lender })
}

impl Work<'_> {
    fn head(&mut self) {
        let job = self.job;
        let mut from = vec![job.service.fragment.display().to_string()];
        from.extend(job.sockets.iter().map(|socket| socket.fragment.display().to_string()));
        self.draft.head.push(format!("Made by supctl import from {}", from.join(" and ")));
        for value in self.all("Unit", "Documentation") {
            self.draft.head.push(format!("Documentation: {}", value.text));
        }
        if let Some(value) = self.last("Unit", "Description") {
            let text = self.text(value);
            self.draft.unit.set("Description", toml::text(&text), Some(&place(value)));
        }
        for folder in job.sockets.iter().chain([&job.service]).flat_map(|loaded| &loaded.folders) {
            let (place, what) = ((folder.clone(), 0), "a folder among the drop-ins: systemd passes over it");
            self.remarks.add(Kind::Note, Some(&place), "", what, "");
        }
        for (path, line, why) in job.service.unit.ignored.iter().take(50) {
            self.remarks.add(
                Kind::Note,
                Some(&(path.clone(), *line)),
                "",
                "systemd passes over this line",
                &why.to_string(),
            );
        }
        for idle in &job.idle {
            let what = format!("{idle} lies there too, and is not in use");
            let remedy = format!(
                "supctl import {} {idle} if the server shall take its sockets from there",
                job.service.name
            );
            self.remarks.add(Kind::Note, None, "", &what, &remedy);
        }
    }

    /// Sockets, and how the server gets them. Returns whether it binds for itself.
    fn sockets(&mut self, main: &Main) -> bool {
        let job = self.job;
        let takes = main.known().map(|known| known.takes);
        self.activated();
        if !job.sockets.is_empty() && !main.known().is_some_and(|known| known.adds) {
            self.launch(main, false);
            self.handoff(main, false, &[]);
            return false;
        }
        let (found, guessed) = self.listens(main);
        let written: Vec<String> =
            self.draft.sockets.iter().flat_map(|table| &table.0).map(|row| row.value.clone()).collect();
        let mut binds = found.binds;
        binds.retain(|bind| !written.contains(&toml::text(&bind.address)));
        let intercepted = job.sockets.is_empty()
            && match takes {
                Some(Takes::Inherited) => false,
                Some(Takes::IfConfigured) => !found.activated,
                Some(Takes::Descriptor(_)) => binds.len() != 1,
                Some(Takes::Binds) | None => true,
            };
        self.bound(&binds);
        if intercepted {
            self.bind_elsewhere();
        }
        self.launch(main, !intercepted && matches!(takes, Some(Takes::Descriptor(_))));
        self.handoff(main, intercepted, &binds);
        for (from, what) in found.doubts {
            let from =
                Some(from).filter(|(path, _)| path.as_os_str() != "").unwrap_or_else(|| place(&main.value));
            self.remarks.add(Kind::ToDo, Some(&from), "", &what, "write the [[Socket]] for it");
        }
        if binds.is_empty() && job.sockets.is_empty() {
            self.missing(main.name());
            let what = format!("no file says on which address {} listens", main.name());
            self.remark(Kind::ToDo, &main.value, &what, "write it where the unit says TO DO");
            for (path, why) in found.unread.iter().take(10) {
                let (what, remedy) =
                    (format!("cannot read it: {why}"), "it may say where the server listens");
                self.remarks.add(Kind::Note, Some(&(path.clone(), 0)), "", &what, remedy);
            }
        } else if guessed {
            let what =
                format!("no file says on which address {} listens: its default is written", main.name());
            self.remark(Kind::Note, &main.value, &what, "");
        }
        intercepted && !binds.is_empty()
    }

    /// Start: systemd starts what is wanted by a target at boot, and a service with a socket by its
    /// first connection.
    fn start(&mut self) {
        let mut wanted = false;
        for key in ["WantedBy", "RequiredBy", "UpheldBy"] {
            wanted |= !self.all("Install", key).is_empty();
        }
        for value in self.all("Install", "Also") {
            let own = |word: &str| {
                let name = Name::parse(word);
                name.is_some_and(|name| self.job.sockets.iter().any(|socket| socket.name == name))
            };
            let others: Vec<&str> = value.text.split_whitespace().filter(|word| !own(word)).collect();
            if !others.is_empty() {
                let what = others.join(" ");
                self.remark(Kind::LeftOut, value, &what, "supd knows nothing of other units of systemd");
            }
        }
        if wanted {
            return;
        }
        if !self.job.sockets.is_empty() {
            self.draft.service.set("Start", toml::text("on-demand"), None);
            self.draft.service.comment("Start", "as with systemd: by the first connection");
        } else {
            let what = "no target wants it: systemd starts it only when it is asked to";
            let remedy = "supd starts it at boot; write Start = \"manual\" if that is wrong";
            let place = (self.job.service.fragment.clone(), 0);
            self.remarks.add(Kind::Note, Some(&place), "", what, remedy);
        }
    }

    /// What cannot be left to a remark alone.
    fn unfinished(&mut self, main: &Main) {
        let dynamic = self.last("Service", "DynamicUser");
        let on = dynamic.filter(|value| crate::codec::systemd::boolean(&value.text) == Some(true));
        if let Some(value) = on {
            let remedy = "make a system user (sysusers.d), and write User = \"name\"";
            let what = "DynamicUser: supd makes no users, so the server would run as root";
            if !self.draft.service.has("User") {
                self.remark(Kind::ToDo, value, what, remedy);
            } else {
                self.remark(Kind::Changed, value, "User must be there before", "make it with sysusers.d");
            }
        }
        for key in [
            "LoadCredential",
            "LoadCredentialEncrypted",
            "SetCredential",
            "SetCredentialEncrypted",
            "RootDirectory",
            "RootImage",
        ] {
            for value in self.all("Service", key) {
                let remedy = foreign_remedy(key, None).unwrap_or_default();
                self.remark(Kind::ToDo, value, "the server does not find it where it expects it", remedy);
            }
        }
        if let Some(note) = main.known().map(|known| known.note).filter(|note| !note.is_empty()) {
            self.remark(Kind::Note, &main.value, note, "");
        }
    }

    /// Every directive that nothing has dealt with, by name.
    fn rest_of_all(&mut self) {
        for value in self.rest() {
            let key = value.key.as_str();
            let section = value.section.as_str();
            if section.starts_with("X-")
                || key.starts_with("X-")
                || self.is_quiet(value.section.as_str(), value)
            {
                continue;
            }
            if !matches!(section, "Unit" | "Service" | "Install") {
                let what = format!("[{section}]");
                let remedy = foreign_table_remedy(section)
                    .unwrap_or("systemd has no such section for a service either");
                self.remark(Kind::LeftOut, value, &what, remedy);
                continue;
            }
            self.foreign(value);
        }
    }

    /// What needs no word: the unit's own socket, and other names of it.
    fn is_quiet(&self, section: &str, value: &crate::codec::systemd::Value) -> bool {
        match section {
            "Unit" => self.is_about_itself(value),
            "Service" => value.key == "Sockets",
            _ => false,
        }
    }
}

/// For tests and for fuzzing: texts as if they were files, and nothing else anywhere.
#[must_use]
pub fn of_texts(service: &str, socket: Option<&str>) -> (String, Vec<String>) {
    use super::gather::Loaded;
    use crate::codec::systemd::Unit;
    use crate::codec::unitfile::Source;
    let load = |text: &str, kind: UnitKind| {
        let name = Name { prefix: "web".to_owned(), instance: Some("a-b".to_owned()), kind };
        let fragment = std::path::PathBuf::from(name.to_string());
        let unit = Unit::read(&[Source::new(&fragment, text)]).ok()?;
        Some(Loaded { name, fragment, unit, folders: Vec::new() })
    };
    let Some(service) = load(service, UnitKind::Service) else { return Default::default() };
    let sockets = socket.and_then(|text| load(text, UnitKind::Socket)).into_iter().collect();
    let job = Job { service, sockets, idle: Vec::new() };
    match translate(&job, None, &Look::nowhere(), &Facts::of_system()) {
        Ok(imported) => {
            let told = super::remark::lines(&imported.remarks, "web.unit");
            (imported.text, told)
        }
        Err(failure) => (String::new(), failure.lines(false)),
    }
}
