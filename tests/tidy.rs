//! The house rules that no compiler knows. Each finding says what to do instead; each rule is tried
//! on planted bad input below, because a check that has never failed has never been tested.

#[path = "tidy/manual/mod.rs"]
mod manual;
#[path = "tidy/source.rs"]
mod source;

use source::{code, functions, has_word, product, word};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The top level holds these and dot files (and what cargo builds), and nothing else.
const TOP_LEVEL: [&str; 11] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "man",
    "packaging",
    "src",
    "target",
    "tests",
    "units",
];

/// A function of the product may have this many lines.
const FUNCTION_LINES: usize = 70;
/// A file may have this many.
const FILE_LINES: usize = 600;

/// Functions that are longer, with their length: it may only shrink, and a new one may not come.
const LONGER_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Files that are longer: they may only shrink, and a new one may not come.
const LONGER_FILES: &[(&str, usize)] = &[];

/// Words that are banned in Rust files below a folder, and what to do instead.
const BANS: &[(&str, &[&str], &str)] = &[
    (
        "",
        &["thread::sleep"],
        "wait for a fact with a bound: a deadline in machine/, tests/daemon/wait.rs in tests",
    ),
    ("", &["todo!", "unimplemented!", "dbg!"], "write it, or refuse it with a reason that a user can act on"),
    ("", &["#[ignore"], "a test that does not run proves nothing: make it run, or take it out"),
    ("src/", &["process::exit"], "return an exit status, so that everything that was opened is closed"),
    ("src/", &["env::set_var", "env::remove_var"], "give the variable to the one process that needs it"),
    ("src/machine/", IMPURE, IMPURE_REMEDY),
    ("src/model/", IMPURE, IMPURE_REMEDY),
    (
        "src/machine/",
        &["HashMap", "HashSet"],
        "take a BTreeMap: a seed of the simulation must replay exactly",
    ),
    ("src/machine/", &["_ =>", "_ if "], "decide every case by name: the compiler counts them then"),
    (
        "src/codec/",
        &["std::fs", "File::", "Instant::now", "SystemTime"],
        "codec turns bytes into words: let os or store read them",
    ),
];

/// What would make the same events lead to different decisions.
const IMPURE: &[&str] = &[
    "Instant",
    "SystemTime",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "ToSocketAddrs",
    "std::os::unix",
    "println!",
    "eprintln!",
    "log::",
    "unsafe",
];
const IMPURE_REMEDY: &str = "no I/O, no clock, no log here: let an event bring it and an effect ask for it";

#[test]
fn floors_hold() {
    let allowed = floors(&read(Path::new("src/lib.rs")));
    assert!(allowed.len() >= 7, "the map at the head of src/lib.rs was not understood: {allowed:?}");
    let folders: BTreeSet<String> = entries("src")
        .into_iter()
        .filter(|name| Path::new("src").join(name).is_dir() && name != "bin")
        .collect();
    let mapped: BTreeSet<String> = allowed.keys().cloned().collect();
    assert_eq!(folders, mapped, "src/ and the map at the head of src/lib.rs name different folders");
    report(rust_files("src").iter().flat_map(|path| imports(path, &read(path), &allowed)));
}

#[test]
fn banned_words_are_absent() {
    let files = rust_files("src").into_iter().chain(rust_files("tests"));
    report(
        files.filter(|path| !path.ends_with("tests/tidy.rs")).flat_map(|path| banned(&path, &read(&path))),
    );
}

#[test]
fn files_are_short_and_say_what_they_are() {
    report(
        rust_files("src")
            .iter()
            .chain(&rust_files("tests"))
            .flat_map(|path| shape(path, &read(path), LONGER_FILES)),
    );
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for path in rust_files("src") {
        let (faults, ratcheted) = long_functions(&path, &read(&path), LONGER_FUNCTIONS);
        found.extend(faults);
        seen.extend(ratcheted);
    }
    for (path, name, _) in LONGER_FUNCTIONS {
        if !seen.contains(*name) {
            found.push(format!(
                "tests/tidy.rs: {path}: {name} is short now, or gone: take it out of the table"
            ));
        }
    }
    report(found);
}

#[test]
fn unsafe_code_lives_in_os() {
    report(rust_files("src").iter().flat_map(|path| unsafe_outside(path, &read(path))));
}

#[test]
fn top_level_is_closed() {
    report(strangers(entries(".")));
}

#[test]
fn every_dependency_says_what_for() {
    report(bare_dependencies(&read(Path::new("Cargo.toml"))));
}

#[test]
fn every_program_of_tests_is_asked_for() {
    // tests/run installs what the tests need; a test that names another package would fail in CI.
    let run = read(Path::new("tests/run"));
    let mut missing = Vec::new();
    for path in rust_files("tests/daemon").into_iter().chain(rust_files("tests/tidy")) {
        for package in packages(&read(&path)) {
            if !run.split(|c: char| c.is_whitespace() || c == '"' || c == ':').any(|word| word == package) {
                missing.push(format!("tests/run does not install {package}, which {} needs", path.display()));
            }
        }
    }
    report(missing);
}

#[test]
fn every_daemon_test_is_listed() {
    let files: Vec<(PathBuf, String)> = rust_files("tests/daemon")
        .into_iter()
        .filter(|path| !path.starts_with("tests/daemon/support"))
        .map(|path| (path.clone(), read(&path)))
        .collect();
    report(unlisted(&files));
}

// ---- rules: text in, findings out ----

/// Functions that could be tests and that nothing names, and lists of tests that nothing joins:
/// libtest-mimic runs what it is given, and says nothing of what it is not.
fn unlisted(files: &[(PathBuf, String)]) -> Vec<String> {
    let codes: Vec<String> = files.iter().map(|(_, text)| product(&code(text))).collect();
    let mut found = Vec::new();
    for ((path, _), code) in files.iter().zip(&codes) {
        let name = path.display();
        for (line, text) in code.lines().enumerate() {
            let Some(function) = text.strip_prefix("fn ").and_then(|rest| rest.strip_suffix("() {")) else {
                continue;
            };
            let named = code.lines().filter(|other| *other != text && has_word(other, function)).count();
            if named == 0 && function != "main" {
                let at = line + 1;
                found.push(format!("{name}:{at}: {function} is in no tests(): list it, or take it out"));
            }
        }
        if code.contains("fn tests() -> Vec<") {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let module = match &*stem {
                "mod" => path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy(),
                _ => stem,
            };
            let joined = format!("{module}::tests()");
            if !codes.iter().any(|code| code.contains(&joined)) {
                found.push(format!("{name}: nothing joins {joined}: add it to the list above it"));
            }
        }
    }
    found
}

/// What each folder may import, from the table at the head of src/lib.rs: the map is the rule.
fn floors(lib: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows: Vec<(String, String)> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"))
        .filter_map(|row| {
            let mut cells = row.split('|').map(str::trim);
            let folder = cells.next()?.trim_end_matches("`]").to_owned();
            Some((folder, cells.nth(1)?.to_owned()))
        })
        .collect();
    let all: BTreeSet<String> = rows.iter().map(|(folder, _)| folder.clone()).collect();
    rows.into_iter()
        .map(|(folder, may)| {
            let named = |name: &&String| may.split(|c: char| !c.is_alphanumeric()).any(|word| word == **name);
            let mut allowed: BTreeSet<String> = if may.starts_with("all of these but ") {
                all.iter().filter(|name| !named(name)).cloned().collect()
            } else {
                all.iter().filter(named).cloned().collect()
            };
            allowed.insert(folder.clone());
            (folder, allowed)
        })
        .collect()
}

/// Imports from a floor that the map does not allow.
fn imports(path: &Path, text: &str, allowed: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut parts = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let folder = parts.by_ref().find(|part| part != "src").unwrap_or_default();
    // A client is tested against the real server.
    let Some(may) = allowed.get(&folder).filter(|_| !is_unit_test(path)) else { return Vec::new() };
    let code = code(text);
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let roots =
            ["crate::", "super::"].iter().flat_map(|root| line.match_indices(root).map(|(at, _)| at + 7));
        for rest in roots.map(|at| &line[at..]) {
            // `crate::a::…`, or the first names of `crate::{a::…, b}`.
            let inside = rest.strip_prefix('{').map_or(rest, |rest| rest);
            let names: Vec<&str> = if inside.len() == rest.len() {
                vec![word(rest)]
            } else {
                inside.split(',').map(|part| word(part.trim())).collect()
            };
            for name in names.into_iter().filter(|name| allowed.contains_key(*name) && !may.contains(*name)) {
                found.push(format!(
                    "{}:{}: {folder} may not import {name}: see the map at the head of src/lib.rs",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    found
}

fn banned(path: &Path, text: &str) -> Vec<String> {
    let name = path.to_string_lossy();
    let code = code(text);
    let mut found = Vec::new();
    for (folder, words, remedy) in BANS.iter().filter(|(folder, ..)| name.starts_with(folder)) {
        // What is banned everywhere is banned in tests too; a floor's own bans are for the product.
        let searched = match (folder.is_empty(), is_unit_test(path)) {
            (true, _) => code.clone(),
            (false, true) => continue,
            (false, false) => product(&code),
        };
        for (number, line) in searched.lines().enumerate() {
            for banned in words.iter().filter(|banned| has_word(line, banned)) {
                let at = number + 1;
                found.push(format!("{name}:{at}: {} (in {folder:?}): {remedy}", banned.trim()));
            }
        }
    }
    found
}

fn shape(path: &Path, text: &str, longer: &[(&str, usize)]) -> Vec<String> {
    let (mut found, name) = (Vec::new(), path.display());
    let lines = text.lines().count();
    let listed = longer.iter().find(|(file, _)| path == Path::new(file)).map(|(_, lines)| *lines);
    let most = listed.unwrap_or(FILE_LINES);
    if lines > most {
        found.push(format!(
            "{name}: {lines} lines: a file is one noun or one verb; give the second its own (at most {most})"
        ));
    }
    if listed.is_some() && lines <= FILE_LINES {
        found.push(format!("tests/tidy.rs: {name} has {lines} lines now: take it out of the table"));
    }
    let first = text.lines().find(|line| !line.starts_with("#![") && !line.is_empty()).unwrap_or_default();
    if !first.starts_with("//! ") && !is_unit_test(path) {
        found.push(format!("{name}: begin with `//! ` and say what lives here"));
    }
    found
}

/// Unit tests that have a file, or a folder, of their own beside what they test.
fn is_unit_test(path: &Path) -> bool {
    path.starts_with("src") && path.iter().any(|part| part == "tests.rs" || part == "tests")
}

/// Functions that are too long, and those of the table that were found at their length.
fn long_functions(path: &Path, text: &str, table: &[(&str, &str, usize)]) -> (Vec<String>, Vec<String>) {
    let (mut found, mut ratcheted) = (Vec::new(), Vec::new());
    for (name, line, length) in functions(&product(&code(text))) {
        if length <= FUNCTION_LINES {
            continue;
        }
        let entry = table.iter().find(|(file, function, _)| path.ends_with(file) && *function == name);
        match entry {
            Some((.., allowed)) if length == *allowed => ratcheted.push(name),
            Some((.., allowed)) if length < *allowed => {
                found.push(format!("tests/tidy.rs: {name} has {length} lines now: lower its entry from {allowed}"));
                ratcheted.push(name);
            }
            _ => found.push(format!(
                "{}:{line}: {name} has {length} lines (at most {FUNCTION_LINES}): move an `if` up or a loop down \
                 into a function of its own",
                path.display()
            )),
        }
    }
    (found, ratcheted)
}

fn unsafe_outside(path: &Path, text: &str) -> Vec<String> {
    let code = code(text);
    if !has_word(&code, "unsafe") && !code.contains("allow(unsafe_code)") {
        return Vec::new();
    }
    if path.starts_with("src/os") {
        return Vec::new();
    }
    vec![format!("{}: unsafe code lives in src/os: wrap the call there", path.display())]
}

fn strangers(entries: Vec<String>) -> Vec<String> {
    entries
        .into_iter()
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| {
            format!("{name}: the top level is closed (src/lib.rs has the map): move it into a folder")
        })
        .collect()
}

fn bare_dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside && line.contains('=') && !line.trim_start().starts_with('#') {
            let reason = line.rsplit_once(" # ").map_or("", |(_, reason)| reason.trim());
            if reason.is_empty() {
                found.push(format!("Cargo.toml: {line}: say in a comment on the line what it is for"));
            }
        }
    }
    found
}

/// Debian packages that tests say they need.
fn packages(text: &str) -> Vec<String> {
    let mut packages = Vec::new();
    for (at, _) in ["Need::Program(\"", "Need::Library(\""].iter().flat_map(|need| text.match_indices(need)) {
        packages.extend(text[at..].split('"').nth(3).map(str::to_owned));
    }
    for (at, _) in text.match_indices("\"apt-get install ") {
        packages.extend(text[at + 17..].split('"').next().map(str::to_owned));
    }
    packages.retain(|package| !package.contains('{'));
    packages
}

// ---- files ----

fn read(path: &Path) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()))
}

fn entries(folder: &str) -> Vec<String> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()));
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Every Rust file below a folder, by its path from the top.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in entries(folder) {
        let path = Path::new(folder).join(&name);
        if Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).is_dir() {
            files.extend(rust_files(&path.to_string_lossy()));
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files
}

fn report(found: impl IntoIterator<Item = String>) {
    let mut text = String::new();
    for finding in found {
        writeln!(text, "{finding}").expect("writing to a string");
    }
    assert!(text.is_empty(), "\n{text}");
}

// ---- planted bad input ----

const MAP: &str = "//! | [`model`] | words | std |\n//! | [`machine`] | decisions | model |\n\
                   //! | [`os`] | hands | model |\n//! | [`ctl`] | supctl | model, os |\n\
                   //! | [`daemon`] | shell | all of these but ctl |\n";

#[test]
fn planted_unlisted_tests_are_found() {
    let files = |listed: &str, joined: &str| {
        let main = format!("fn main() {{\n    {joined};\n}}\n");
        let life = format!(
            "pub(crate) fn tests() -> Vec<Test> {{\n    vec![test(\"life::one\", {listed})]\n}}\n\nfn one() {{\n}}\n"
        );
        [("tests/daemon/main.rs", main), ("tests/daemon/life.rs", life)]
            .map(|(path, text)| (path.into(), text))
    };
    assert_eq!(unlisted(&files("one", "life::tests()")), [""; 0]);
    assert_eq!(unlisted(&files("two", "life::tests()")).len(), 1);
    assert_eq!(unlisted(&files("one", "other::tests()")).len(), 1);
}

#[test]
fn planted_imports_are_found() {
    let map = floors(MAP);
    let count = |path: &str, text: &str| imports(Path::new(path), text, &map).len();
    assert_eq!(count("src/machine/x.rs", "use crate::os::Error;\n"), 1);
    assert_eq!(count("src/machine/x.rs", "use crate::{model::Tick, os::Error, ctl};\n"), 2);
    assert_eq!(count("src/machine/mod.rs", "fn f() { super::os::now() }\n"), 1);
    assert_eq!(count("src/model/x.rs", "use crate::machine;\n"), 1);
    assert_eq!(count("src/daemon/x.rs", "use crate::ctl::main;\n"), 1);
    assert_eq!(count("src/daemon/x.rs", "use crate::{os, model, machine};\n"), 0);
    assert_eq!(
        count("src/machine/x.rs", "use crate::model::Tick; // not crate::os\nlet s = \"crate::os\";\n"),
        0
    );
    assert_eq!(count("src/machine/x.rs", "use super::unit; use crate::machine::effect;\n"), 0);
    assert_eq!(count("src/bin/supd.rs", "use crate::ctl;\n"), 0);
}

#[test]
fn planted_words_are_found() {
    let count = |path: &str, text: &str| banned(Path::new(path), text).len();
    assert_eq!(count("tests/x.rs", "std::thread::sleep(second);"), 1);
    assert_eq!(count("src/ctl/x.rs", "thread::sleep_until(x);"), 0);
    assert_eq!(count("src/machine/x.rs", "match x { A => 1, _ => 2 }"), 1);
    assert_eq!(count("src/machine/x.rs", "match x { A => 1, _ if y => 2 }"), 1);
    assert_eq!(count("src/machine/x.rs", "match x { (A, _) => 1, other_if => 2 }"), 0);
    assert_eq!(count("src/machine/x.rs", "let now = std::time::Instant::now();"), 1);
    assert_eq!(count("src/model/x.rs", "use std::net::IpAddr;"), 0);
    assert_eq!(count("src/model/x.rs", "use std::net::{IpAddr, TcpStream};"), 1);
    assert_eq!(count("src/machine/x.rs", "// println! and _ => are words here\n"), 0);
    assert_eq!(count("src/machine/x.rs", "let text = \"_ => println!\";"), 0);
    assert_eq!(count("src/machine/x.rs", "catalog::entry(InstantReplay)"), 0);
    assert_eq!(count("src/store/x.rs", "#[ignore = \"slow\"]"), 1);
}

#[test]
fn planted_shapes_are_found() {
    let path = Path::new("src/os/x.rs");
    let shape = |path: &Path, text: &str| shape(path, text, &[("tests/long.rs", 650)]);
    assert_eq!(shape(path, "use std::fs;\n").len(), 1);
    assert_eq!(shape(path, "#![allow(unsafe_code)]\n//! What it is\n").len(), 0);
    assert_eq!(shape(Path::new("src/os/x/tests/y.rs"), "use super::*;\n").len(), 0);
    assert_eq!(shape(Path::new("tests/x.rs"), "use super::*;\n").len(), 1);
    let long =
        |lines: usize| shape(Path::new("tests/long.rs"), &format!("//! x\n{}", "\n".repeat(lines - 1))).len();
    assert_eq!((long(650), long(651), long(600)), (0, 1, 1), "a ratchet: only down, and out of the table");
    assert_eq!(shape(path, &format!("//! x\n{}", "\n".repeat(FILE_LINES - 1))).len(), 0);
    assert_eq!(shape(path, &format!("//! x\n{}", "\n".repeat(FILE_LINES))).len(), 1);
}

#[test]
fn planted_functions_are_measured() {
    let path = Path::new("src/os/x.rs");
    let body = |lines: usize| {
        format!("fn long(a: fn(u8)) -> u8 {{\n{}}}\n", "    x('{', \"}\");\n".repeat(lines - 2))
    };
    let faults = |text: &str, table: &[(&str, &str, usize)]| long_functions(path, text, table).0.len();
    assert_eq!(faults(&body(FUNCTION_LINES), &[]), 0);
    assert_eq!(faults(&body(FUNCTION_LINES + 1), &[]), 1);
    let table: &[(&str, &str, usize)] = &[("src/os/x.rs", "long", 80)];
    assert_eq!(faults(&body(80), table), 0, "at its length in the table");
    assert_eq!(faults(&body(81), table), 1, "it grew");
    assert_eq!(faults(&body(75), table), 1, "it shrank, and the table did not");
    assert_eq!(faults(&format!("#[cfg(test)]\nmod tests {{\n{}}}\n", body(90)), &[]), 0, "tests may be long");
    let text = "trait T { fn none(&self); }\nfn one() {}\nlet f: fn(u8) = x;\nfn two(a: [u8; 4]) -> [u8; 4] {\na\n}\n";
    assert_eq!(functions(&code(text)), [("one".to_owned(), 2, 1), ("two".to_owned(), 4, 3)]);
}

#[test]
fn planted_strangers_are_found() {
    let names = ["src", ".git", "notes.txt", "Cargo.toml"].map(str::to_owned);
    assert_eq!(strangers(names.to_vec()).len(), 1);
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na = \"1\" # for b\nb = \"1\"\n[dev-dependencies]\nc = \"1\"\n";
    assert_eq!(bare_dependencies(manifest).len(), 2);
    let outside = |path: &str, text: &str| unsafe_outside(Path::new(path), text).len();
    assert_eq!(outside("src/daemon/x.rs", "#![allow(unsafe_code)]"), 1);
    assert_eq!(outside("src/daemon/x.rs", "unsafe { f() }"), 1);
    assert_eq!(outside("src/os/x.rs", "unsafe { f() }"), 0);
    assert_eq!(outside("src/lib.rs", "//! unsafe is denied\n#![deny(unsafe_code)]"), 0);
    assert_eq!(packages("Need::Program(\"wrk\", \"wrk\") \"apt-get install a-b\""), ["wrk", "a-b"]);
}
