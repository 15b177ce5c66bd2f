//! What a unit needs of this machine and does not find: programs, accounts, folders, files.
//!
//! For `supctl check`, not for supd's loop: looking up an account may ask a server on the network.

use super::rights;
use super::text::{self, Content};
use crate::codec::environment;
use crate::codec::fault::{Fault, quoted};
use crate::codec::unitfile::{Loaded, Origin, Runner};
use crate::model::settings::{Command, Ready, Service};
use nix::unistd::{AccessFlags, Group, User, access};
use std::fs;
use std::path::PathBuf;

/// Where programs without a slash are looked for if the unit's Environment says nothing.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that is missing, as warnings: a package may still bring it. For an ordinary user also
/// what only root may.
#[must_use]
pub fn missing(loaded: &Loaded, runner: Runner) -> Vec<Fault> {
    let mut finder = Finder { loaded, found: Vec::new() };
    finder.programs();
    finder.accounts();
    finder.files();
    if runner == Runner::Ordinary {
        for beyond in rights::beyond(loaded) {
            finder.tell(&beyond.table, beyond.key, beyond.what, beyond.remedy);
        }
    }
    finder.found
}

struct Finder<'l> {
    loaded: &'l Loaded,
    found: Vec<Fault>,
}

impl Finder<'_> {
    fn tell(&mut self, table: &str, key: &str, what: String, remedy: &str) {
        let (file, line, column) = match self.loaded.origins.of(table, key) {
            Origin::File { file, line, column } => (file, line, column),
            Origin::Default => (PathBuf::from(format!("{}.unit", self.loaded.settings.unit)), 0, 0),
        };
        let key = key.to_owned();
        self.found.push(Fault { line, column, key, ..Fault::of_file(file, what, remedy) });
    }

    fn programs(&mut self) {
        let settings = &self.loaded.settings;
        let service = &settings.service;
        let mut commands: Vec<(&str, &str, &Command)> = vec![("Service", "ExecStart", &service.exec_start)];
        for (key, list) in hooks(service) {
            commands.extend(list.iter().map(|command| ("Service", key, command)));
        }
        if let Ready::Command(command) = &service.ready {
            commands.push(("Service", "Ready", command));
        }
        if let Some(command) = &settings.swap.check_command {
            commands.push(("Swap", "CheckCommand", command));
        }
        let path = service.environment.iter().find(|(name, _)| name == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
        for (table, key, command) in commands {
            if let Some(reason) = unusable(&command.program, path) {
                let what = format!("{} {reason}", quoted(&command.program));
                self.tell(table, key, what, "install it, or correct the path");
            }
        }
    }

    fn accounts(&mut self) {
        let settings = &self.loaded.settings;
        let service = &settings.service;
        let remedy = "make it (sysusers.d), or correct the name";
        if let Some(name) = service.user.as_deref().filter(|name| !is_user(name)) {
            self.tell("Service", "User", format!("there is no user {}", quoted(name)), remedy);
        }
        let no_group = |name: &str| format!("there is no group {}", quoted(name));
        let groups = service.supplementary_groups.iter().map(|name| ("Service", "SupplementaryGroups", name));
        let groups = groups
            .chain(service.group.iter().map(|name| ("Service", "Group", name)))
            .chain(settings.control_group.iter().map(|name| ("Unit", "ControlGroup", name)));
        for (table, key, name) in groups.filter(|(_, _, name)| !is_group(name)) {
            self.tell(table, key, no_group(name), remedy);
        }
        for socket in &settings.sockets {
            let table = format!("Socket.{}", socket.name);
            if let Some(name) = socket.options.user.as_deref().filter(|name| !is_user(name)) {
                self.tell(&table, "SocketUser", format!("there is no user {}", quoted(name)), remedy);
            }
            if let Some(name) = socket.options.group.as_deref().filter(|name| !is_group(name)) {
                self.tell(&table, "SocketGroup", no_group(name), remedy);
            }
        }
    }

    fn files(&mut self) {
        let service = &self.loaded.settings.service;
        if let Some(directory) = service.working_directory.as_deref().filter(|path| !path.is_dir()) {
            let what = format!("{} is no directory", directory.display());
            self.tell("Service", "WorkingDirectory", what, "make it, or correct the path");
        }
        for file in &service.environment_files {
            match text::read(&file.path, environment::FILE_BYTES_MAX) {
                Ok(Content::Text(text)) => {
                    self.found.extend(environment::parse(&file.path, text.as_bytes()).faults);
                }
                Ok(Content::Missing) if !file.optional => {
                    let what = format!("{} is not there", file.path.display());
                    self.tell("Service", "EnvironmentFile", what, "make it, or write - in front of the path");
                }
                Ok(Content::Missing | Content::Null) => {}
                Err(fault) => self.found.push(fault),
            }
        }
    }
}

fn hooks(service: &Service) -> [(&'static str, &[Command]); 8] {
    [
        ("ExecStartPre", &service.exec_start_pre),
        ("ExecStartPost", &service.exec_start_post),
        ("ExecReload", &service.exec_reload),
        ("ExecStop", &service.exec_stop),
        ("ExecStopPost", &service.exec_stop_post),
        ("ExecOnFailure", &service.exec_on_failure),
        ("TrafficOff", &service.traffic_off),
        ("TrafficOn", &service.traffic_on),
    ]
}

/// Why a program cannot be run; `None` if it can, or is one of a release.
fn unusable(program: &str, path: &str) -> Option<&'static str> {
    if program.starts_with('/') {
        return match fs::metadata(program) {
            Err(_) => Some("is not there"),
            Ok(metadata) if !metadata.is_file() => Some("is no file"),
            Ok(_) => access(program, AccessFlags::X_OK).is_err().then_some("is not executable"),
        };
    }
    if program.contains('/') {
        return None;
    }
    let mut folders = path.split(':').filter(|folder| folder.starts_with('/'));
    let found = folders.any(|folder| unusable(&format!("{folder}/{program}"), path).is_none());
    (!found).then_some("is in no folder of PATH")
}

fn is_user(name: &str) -> bool {
    is_number(name) || matches!(User::from_name(name), Ok(Some(_)))
}

fn is_group(name: &str) -> bool {
    is_number(name) || matches!(Group::from_name(name), Ok(Some(_)))
}

/// A number needs no entry anywhere.
fn is_number(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::missing;
    use crate::codec::unitfile::{Runner, Source, Sources, parse};
    use crate::model::UnitName;

    #[test]
    fn what_is_missing_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display();
        std::fs::write(folder.path().join("env"), "A=1\nB\n").unwrap();
        std::fs::write(folder.path().join("plain"), "").unwrap();
        let text = format!(
            "[Unit]\nControlGroup = \"nogroup-here\"\n[[Socket]]\nListenStream = \"/run/x\"\nSocketGroup = \"none-such\"\n\
             [Service]\nExecStart = [\"{here}/server\"]\nExecStartPre = [[\"true\"], [\"no-such-program\"]]\n\
             ExecStop = [\"{here}/plain\"]\nExecStopPost = [\"{here}\"]\nUser = \"nobody-here\"\n\
             SupplementaryGroups = [12345]\nWorkingDirectory = \"{here}/gone\"\n\
             EnvironmentFile = [\"{here}/env\", \"-{here}/no\", \"{here}/no\"]\n"
        );
        let sources = Sources {
            unit: UnitName::new("web").unwrap(),
            defaults: None,
            main: Source::new("web.unit", text),
            drop_ins: Vec::new(),
        };
        let found = missing(&parse(&sources).unwrap(), Runner::Root);
        let told: Vec<String> =
            found.iter().map(|fault| fault.to_string().replace(&here.to_string(), "HERE")).collect();
        assert_eq!(
            told,
            [
                "web.unit:7:1: ExecStart: \"HERE/server\" is not there; install it, or correct the path",
                "web.unit:8:1: ExecStartPre: \"no-such-program\" is in no folder of PATH; install it, or correct the path",
                "web.unit:9:1: ExecStop: \"HERE/plain\" is not executable; install it, or correct the path",
                "web.unit:10:1: ExecStopPost: \"HERE\" is no file; install it, or correct the path",
                "web.unit:11:1: User: there is no user \"nobody-here\"; make it (sysusers.d), or correct the name",
                "web.unit:2:1: ControlGroup: there is no group \"nogroup-here\"; make it (sysusers.d), or correct the name",
                "web.unit:5:1: SocketGroup: there is no group \"none-such\"; make it (sysusers.d), or correct the name",
                "web.unit:13:1: WorkingDirectory: HERE/gone is no directory; make it, or correct the path",
                "HERE/env:2:1: \"B\" is no assignment; write NAME=value, or begin with #",
                "web.unit:14:1: EnvironmentFile: HERE/no is not there; make it, or write - in front of the path",
            ]
        );
    }
}
