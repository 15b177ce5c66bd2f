//! What the manual has to have, as the code says it.

use crate::source::{code, product, token};
use crate::{read, rust_files};
use std::collections::BTreeSet;
use std::path::Path;

/// A text in the code of the product, with the code before it on the same line and the ones above.
#[derive(Debug)]
pub(super) struct Literal {
    pub(super) text: String,
    /// Without blanks, the last few characters.
    pub(super) before: String,
}

/// Every text of a file, those of its tests left out.
pub(super) fn literals(source: &str) -> Vec<Literal> {
    let lines = product(&code(source)).lines().count();
    let source: String = source.lines().take(lines).flat_map(|line| [line, "\n"]).collect();
    let (mut found, mut before, mut rest) = (Vec::new(), String::new(), source.as_str());
    while let Some(first) = rest.chars().next() {
        let length = token(rest, before.chars().next_back());
        if length.is_some() && first == '"' {
            let length = length.unwrap_or_default();
            let text = rest[1..length].trim_end_matches('"').to_owned();
            let tail: String = before.chars().filter(|c| !c.is_whitespace()).collect();
            let tail = tail[tail.len().saturating_sub(40)..].to_owned();
            found.push(Literal { text, before: tail });
        }
        match length {
            // In what stands before a text, an earlier text is one character.
            Some(length) => {
                before.push(if first == '"' { '"' } else { ' ' });
                rest = &rest[length..];
            }
            None => {
                before.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    found
}

fn literals_of(path: &str) -> Vec<Literal> {
    literals(&read(Path::new(path)))
}

/// As names of environment variables are written, and nothing else is.
fn is_variable(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// What a worker, or a command beside the workers, finds in its environment.
pub(super) fn given() -> BTreeSet<String> {
    let files = [
        "os/spawn/environment.rs",
        "os/spawn/child.rs",
        "os/spawn/account.rs",
        "daemon/launch.rs",
        "daemon/verdict.rs",
    ];
    let all = files.iter().flat_map(|file| literals_of(&format!("src/{file}")));
    // What is taken off a word is no variable.
    let names = all.filter(|literal| !literal.before.ends_with("strip_prefix("));
    names.map(|literal| literal.text).filter(|text| is_variable(text)).collect()
}

/// What a program asks its own environment for: behind one of these words a text is the name of a variable.
pub(super) fn asked(folders: &[&str]) -> BTreeSet<String> {
    const ASKS: [&str; 11] = [
        "var(",
        "var_os(",
        "variable(",
        "folder(",
        "xdg(",
        "set(",
        "is_set(",
        "absolute(",
        "env=",
        ".env(",
        "unset_for(",
    ];
    let files = folders.iter().flat_map(|folder| match folder.ends_with(".rs") {
        true => vec![Path::new(folder).to_path_buf()],
        false => rust_files(folder),
    });
    let files = files.filter(|path| !crate::is_unit_test(path));
    let all = files.flat_map(|path| literals(&read(&path)));
    let asks = |literal: &Literal| ASKS.iter().any(|word| literal.before.ends_with(word));
    all.filter(|literal| is_variable(&literal.text) && asks(literal))
        .map(|literal| literal.text)
        .filter(|name| !name.starts_with("SUPD_TEST_") && !name.starts_with("CARGO_"))
        .collect()
}

/// The words that a worker may say over NOTIFY_SOCKET.
pub(super) fn notify_words() -> BTreeSet<String> {
    let all = literals_of("src/codec/notify.rs").into_iter();
    let words =
        all.map(|literal| literal.text.trim_end_matches("=1").to_owned()).filter(|text| is_variable(text));
    words.collect()
}

/// What may be the `what` of an event: as the code makes them …
pub(super) fn events_made() -> BTreeSet<String> {
    let files = rust_files("src/daemon")
        .into_iter()
        .chain(rust_files("src/codec"))
        .filter(|path| !crate::is_unit_test(path));
    let all =
        files.flat_map(|path| literals(&read(&path)).into_iter().map(move |literal| (path.clone(), literal)));
    let makes = |(path, literal): &(std::path::PathBuf, Literal)| {
        let words = path.ends_with("codec/history.rs")
            && (literal.before.ends_with("word(") || literal.before.ends_with("of_swap("));
        let done = path.ends_with("daemon/history.rs") && literal.before.ends_with("\"=>Some(");
        words
            || done
            || literal.before.ends_with("what:") && !literal.before.ends_with("(what:")
            || literal.before.ends_with("(what,cause)=(")
            || literal.before.ends_with("let(what,by,cause)=(")
    };
    let words = all.filter(makes).map(|(_, literal)| literal.text);
    words
        .filter(|text| text.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !text.is_empty())
        .collect()
}

/// … and as the interface lists them.
pub(super) fn events_described() -> BTreeSet<String> {
    let before = supd::codec::varlink::DESCRIPTION.split("\ntype HistoryEntry").next().unwrap_or_default();
    let flat = before.replace("\n# ", " ");
    let (_, list) = flat.rsplit_once(" what: ").expect("the interface says what happens");
    // What is in brackets is said of them.
    let mut depth = 0;
    let plain: String = list
        .chars()
        .take_while(|c| *c != '.')
        .filter(|c| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            depth == 0 && *c != ')'
        })
        .collect();
    plain.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// The steps that are told on the way.
pub(super) fn progress() -> BTreeSet<String> {
    let all = literals_of("src/codec/json/outcome.rs").into_iter();
    all.filter(|literal| literal.before.ends_with("about(") || literal.before.ends_with("event:"))
        .map(|literal| literal.text)
        .collect()
}

/// Options of a socket that no change reaches while it is bound.
pub(super) fn needs_new_bind() -> BTreeSet<String> {
    let source = read(Path::new("src/os/listener/options.rs"));
    let (_, rest) = source.split_once("fn needs_new_bind(").expect("the function");
    let body = rest.split("\n}\n").next().unwrap_or_default();
    literals(body).into_iter().map(|literal| literal.text).collect()
}

/// The flags of supd, as they are typed.
pub(super) fn supd_flags() -> BTreeSet<String> {
    let source = read(Path::new("src/daemon/cli.rs"));
    let all = literals(&source).into_iter().filter(|literal| literal.before.ends_with("Arg::Long("));
    let long: BTreeSet<String> = all.map(|literal| format!("--{}", literal.text)).collect();
    let short = source
        .match_indices("Arg::Short('")
        .filter_map(|(at, start)| source[at + start.len()..].chars().next());
    long.into_iter().chain(short.map(|letter| format!("-{letter}"))).collect()
}

/// The signals that supd acts upon, and those that its keeper and a crash know.
pub(super) fn signals() -> BTreeSet<String> {
    let boot = read(Path::new("src/daemon/boot.rs"));
    let line = boot
        .lines()
        .find(|line| line.contains("let all = [libc::SIG"))
        .expect("the signals that supd catches");
    let names = line.split("libc::").skip(1).map(|rest| crate::source::word(rest).to_owned());
    names.filter(|name| name != "SIGCHLD").collect()
}

#[test]
fn texts_are_found_with_what_is_before_them() {
    let found = literals(
        "let a = f(\"x\"); // g(\"no\")\nlet b = [\"Y_1\",\n \"Z\"];\n#[cfg(test)]\nmod tests {\n\"t\"\n}\n",
    );
    let told: Vec<(&str, &str)> = found.iter().map(|one| (one.text.as_str(), one.before.as_str())).collect();
    assert_eq!(told, [("x", "leta=f("), ("Y_1", "leta=f(\");letb=["), ("Z", "leta=f(\");letb=[\",")]);
    assert!(is_variable("XDG_STATE_HOME") && is_variable("TZ") && !is_variable("Unit") && !is_variable("1A"));
}

/// The exit statuses of supd itself.
pub(super) fn supd_statuses() -> BTreeSet<String> {
    let source = read(Path::new("src/daemon/mod.rs"));
    let code = code(&source);
    let mut found = BTreeSet::new();
    for (at, start) in code.match_indices("ExitCode::") {
        let rest = &code[at + start.len()..];
        found.extend(match crate::source::word(rest) {
            "SUCCESS" => Some("0".to_owned()),
            "FAILURE" => Some("1".to_owned()),
            _ if rest.starts_with("from(SHUT_DOWN)") => Some(supd::model::SHUT_DOWN.to_string()),
            _ => {
                let inside = rest
                    .strip_prefix("from(")
                    .and_then(|rest| rest.split([')', ' ']).next())
                    .unwrap_or_default();
                let named = supd::model::ExitStatus::ALL
                    .iter()
                    .find(|status| inside == format!("ExitStatus::{status:?}"));
                named
                    .map(|status| status.code().to_string())
                    .or_else(|| inside.parse::<u8>().ok().map(|n| n.to_string()))
            }
        });
    }
    found
}

/// Files and folders in supd's own folders.
pub(super) fn files() -> BTreeSet<String> {
    let files = [
        "store/runtime.rs",
        "store/pins.rs",
        "store/releases/mod.rs",
        "store/crashes.rs",
        "store/requests.rs",
        "store/ledger.rs",
        "store/history/mod.rs",
        "daemon/lock.rs",
        "daemon/cgroups.rs",
        "daemon/recorder.rs",
    ];
    let all = files.iter().flat_map(|file| literals_of(&format!("src/{file}")));
    let names = |literal: &Literal| {
        let joined = literal.before.ends_with(".join(") && !literal.before.ends_with("[..].join(");
        let named = [
            "NAME:&str=",
            "DAMAGED:&str=",
            "BEFORE:&str=",
            "FOLDER:&str=",
            "SUPD:&str=",
            "WRITER:&str=",
            "RECORD:&str=",
            "QUARANTINE:&str=",
        ];
        joined || named.iter().any(|end| literal.before.ends_with(end))
    };
    let words = all.filter(names).map(|literal| literal.text);
    // What stands between the words of a list is no file.
    words
        .filter(|text| {
            text.chars().all(|c| c.is_ascii_lowercase() || c == '.' || c.is_ascii_digit()) && text.len() > 1
        })
        .collect()
}
