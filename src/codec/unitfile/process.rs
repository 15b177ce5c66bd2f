//! `[Service]`: what each process is given: identity, environment, limits, directories, output.

use super::document::{Node, Value};
use super::keys::nearest;
use super::report::{Bad, FAULTS_MAX, Reading, bad};
use super::section::Section;
use super::values::{
    absolute_path, account, account_node, boolean, each_word, integer, octal, path, text, words,
};
use super::{capabilities, limits, service};
use crate::codec::environment::is_variable_name;
use crate::codec::fault::quoted;
use crate::codec::system_calls;
use crate::model::sandbox::PATHS_MAX;
use crate::model::settings::{Directory, DirectoryKind, EnvironmentFile, Output, Service};
use std::collections::HashMap;
use std::path::PathBuf;

pub(super) fn read(section: &mut Section<'_, '_>, out: &mut Service) {
    section.set_some(&mut out.user, "User", account_node);
    section.set_some(&mut out.group, "Group", account_node);
    section.set(&mut out.supplementary_groups, "SupplementaryGroups", |node| each_word(node, account));
    section.set_some(&mut out.working_directory, "WorkingDirectory", working_directory);
    section.set(&mut out.environment, "Environment", environment);
    section.set(&mut out.environment_files, "EnvironmentFile", environment_files);
    section.set(&mut out.pass_environment, "PassEnvironment", |node| {
        each_word(node, |name| variable_name(name).map(|()| name.to_owned()))
    });
    section.set(&mut out.umask, "UMask", octal);
    limits::read(section, out);
    section.set_some(&mut out.nice, "Nice", |node| signed(node, -20, 19));
    section.set_some(&mut out.oom_score_adjust, "OOMScoreAdjust", |node| signed(node, -1000, 1000));
    section.set(&mut out.no_new_privileges, "NoNewPrivileges", boolean);
    capabilities::read(section, out);
    for (key, kind) in [
        ("RuntimeDirectory", DirectoryKind::Runtime),
        ("StateDirectory", DirectoryKind::State),
        ("CacheDirectory", DirectoryKind::Cache),
        ("LogsDirectory", DirectoryKind::Logs),
    ] {
        if let Some(paths) = section.get(key, |node| each_word(node, directory)) {
            out.directories.extend(paths.into_iter().map(|path| Directory { kind, path }));
        }
    }
    section.set(&mut out.standard_output, "StandardOutput", output);
    section.set(&mut out.standard_error, "StandardError", output);
    section.set_some(&mut out.syslog_identifier, "SyslogIdentifier", text);
    section.set(&mut out.log_max_size, "LogMaxSize", service::log_size);
    section.set(&mut out.pass_listen_pid, "PassListenPID", boolean);
}

fn signed(node: &Node, least: i32, most: i32) -> Reading<i32> {
    let number = integer(node, i64::from(least)..=i64::from(most))?;
    Ok(i32::try_from(number).unwrap_or(0))
}

fn working_directory(node: &Node) -> Reading<PathBuf> {
    match text(node)?.as_str() {
        "~" => bad("~ is not looked up", "write the path of the home directory"),
        optional if optional.starts_with('-') => {
            bad("a directory that may be missing is not offered", "take the - out, or use StateDirectory")
        }
        _ => path(node),
    }
}

/// A table of names and values, a list of NAME=value, or one text that is split.
fn environment(node: &Node) -> Reading<Vec<(String, String)>> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    let mut faults = Vec::new();
    let mut add =
        |place, name: &str, value: Result<&str, Bad>| match value.and_then(|value| variable(name, value)) {
            Ok(value) => match index.get(name) {
                Some(at) => variables[*at].1 = value,
                None => {
                    index.insert(name.to_owned(), variables.len());
                    variables.push((name.to_owned(), value));
                }
            },
            Err(_) if faults.len() > FAULTS_MAX => {}
            Err(bad) => faults.push(Bad { place: Some(bad.place.unwrap_or(place)), ..bad }),
        };
    if let Value::Table(table) = &node.value {
        let mut entries: Vec<_> = table.entries.iter().collect();
        entries.sort_by_key(|(_, entry)| entry.key);
        for (name, entry) in entries {
            let value = match &entry.node.value {
                Value::Text(value) => Ok(value.as_str()),
                other => Err(Bad::at(
                    entry.node.place,
                    format!("{} as a value", other.kind()),
                    "put it in quotes: \"…\"",
                )),
            };
            add(entry.key, name, value);
        }
    } else {
        for (node, word) in words(node)? {
            match word.split_once('=') {
                Some((name, value)) => add(node.place, name, Ok(value)),
                None => {
                    let remedy = "write { NAME = \"value\" } or [\"NAME=value\"]";
                    add(node.place, "", Err(Bad::new(format!("{} is no assignment", quoted(&word)), remedy)));
                }
            }
        }
    }
    if faults.is_empty() { Ok(variables) } else { Err(faults) }
}

/// Checks one variable.
fn variable(name: &str, value: &str) -> Result<String, Bad> {
    variable_name(name)?;
    if value.contains('\0') {
        return Err(Bad::new(format!("the value of {name} holds a NUL byte"), "take it out"));
    }
    Ok(value.to_owned())
}

/// What supd sets for each worker: a fixed value would be wrong.
const OWN_VARIABLES: [&str; 10] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "FDSTORE",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
];

fn variable_name(name: &str) -> Result<(), Bad> {
    if !is_variable_name(name) {
        let rule = "a name is made of A-Z a-z 0-9 _ and does not begin with a digit";
        return Err(Bad::new(format!("{} is no name of a variable", quoted(name)), rule));
    }
    if OWN_VARIABLES.contains(&name) || name.starts_with("SUPD_") {
        return Err(Bad::new(format!("{name} is set by supd itself"), "take it out"));
    }
    Ok(())
}

fn environment_files(node: &Node) -> Reading<Vec<EnvironmentFile>> {
    each_word(node, |word| {
        let (optional, path) = word.strip_prefix('-').map_or((false, word), |path| (true, path));
        absolute_path(path).map(|path| EnvironmentFile { path, optional })
    })
}

/// ReadWritePaths.
pub(super) fn writable(node: &Node) -> Reading<Vec<PathBuf>> {
    let paths = each_word(node, |word| {
        if word.starts_with(['-', '+']) {
            let what = format!("{} has a prefix, and none is offered", quoted(word));
            return Err(Bad::new(what, "write the absolute path of what is always there"));
        }
        absolute_path(word)
    })?;
    if paths.len() > PATHS_MAX {
        let what = format!("{} paths, and each is a mount at every launch", paths.len());
        return bad(what, "name a folder that they are in");
    }
    Ok(paths)
}

/// A path under one of the roots of systemd.exec(5): relative, without any `..`.
fn directory(word: &str) -> Result<String, Bad> {
    const REMEDY: &str = "write a name as in \"web\" or \"web/cache\"; supd puts it under the right root";
    if word.contains(':') {
        return Err(Bad::new("links beside the directory are not offered", "use tmpfiles.d for the link"));
    }
    let reason = if word.starts_with('/') {
        "is an absolute path"
    } else if word.len() > 255 || word.is_empty() {
        "is too long or empty"
    } else if word.split('/').any(|part| matches!(part, "" | "." | ".."))
        || word.chars().any(char::is_control)
    {
        "is no plain relative path"
    } else {
        return Ok(word.to_owned());
    };
    Err(Bad::new(format!("{} {reason}", quoted(word)), REMEDY))
}

fn output(node: &Node) -> Reading<Output> {
    const REMEDY: &str =
        "write \"auto\", \"journal\", \"file:/path\", \"append:/path\", \"null\" or \"inherit\"";
    let text = text(node)?;
    let at = |path: &str| absolute_path(path).map_err(|bad| vec![bad]);
    match text.split_once(':') {
        Some(("file", path)) => return at(path).map(Output::File),
        Some(("append", path)) => return at(path).map(Output::Append),
        Some(("truncate", _)) => return bad("truncate: is not offered", "write \"file:/path\""),
        Some(("fd", _)) => return bad("fd: is not offered", REMEDY),
        _ => {}
    }
    match text.as_str() {
        "auto" => Ok(Output::Auto),
        "null" => Ok(Output::Null),
        "inherit" => Ok(Output::Inherit),
        "journal" => Ok(Output::Journal),
        "syslog" | "kmsg" | "journal+console" | "kmsg+console" => {
            bad(format!("{} is not offered", quoted(&text)), "write \"journal\"; supctl logs shows it")
        }
        "tty" | "socket" => bad(format!("{} is not offered", quoted(&text)), REMEDY),
        _ => bad(format!("there is no {}", quoted(&text)), REMEDY),
    }
}

/// A system call or a group of them, `~` in front of the first turns the list round.
pub(super) fn system_call(word: &str) -> Result<String, Bad> {
    let name = word.strip_prefix('~').unwrap_or(word);
    let known: Vec<&str> = system_calls::sets().chain(system_calls::names()).collect();
    if known.contains(&name) {
        return Ok(word.to_owned());
    }
    let what = format!("{} is no system call, and no set of them, that supd knows", quoted(word));
    Err(match (name.split_once(':'), nearest(name, &known)) {
        (Some((name, _)), _) => Bad::new(
            format!("{}: what is forbidden ends the process", quoted(word)),
            format!("write {name:?}"),
        ),
        (None, Some(nearest)) => Bad::new(what, format!("did you mean {nearest:?}?")),
        (None, None) => Bad::new(what, "write names as in \"@system-service\" or \"~ptrace\""),
    })
}
