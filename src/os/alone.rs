//! Tests that change what belongs to the whole process (signals, limits, the descriptor table)
//! run in a process of their own: this test binary again, with one test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Tells the second process which test it is there for, and where its result goes.
const NAME: &str = "SUPD_TEST_ALONE";
const RESULT: &str = "SUPD_TEST_RESULT";

/// Runs `body` in a process of its own; `name` is the calling test's full name. `Some` is what the
/// body said; within the second process it is `None`.
pub(in crate::os) fn alone(name: &str, body: impl FnOnce() -> String) -> Option<String> {
    run(name, None, body)
}

/// The same, as another user; skipped, with a word, where that takes a root that is not there.
pub(in crate::os) fn alone_as(name: &str, uid: u32, body: impl FnOnce() -> String) -> Option<String> {
    if std::env::var_os(NAME).is_none() && !root_or_skip(name) {
        return None;
    }
    run(name, Some(uid), body)
}

fn run(name: &str, uid: Option<u32>, body: impl FnOnce() -> String) -> Option<String> {
    if std::env::var_os(NAME).is_some_and(|asked| asked == name) {
        fs::write(std::env::var_os(RESULT).unwrap(), format!("ran {}", body())).unwrap();
        return None;
    }
    let result = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(result.path(), fs::Permissions::from_mode(0o666)).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--test-threads=1", "--nocapture"]);
    command.env(NAME, name).env(RESULT, result.path());
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    // Into a file: a pipe would be held open by whatever a failed test leaves behind.
    let said = tempfile::NamedTempFile::new().unwrap();
    command.stdin(Stdio::null()).stdout(append(said.path())).stderr(append(said.path()));
    let status = command.status().unwrap();
    let said = String::from_utf8_lossy(&fs::read(said.path()).unwrap()).into_owned();
    assert!(status.success(), "{name}, alone: {status}\n{said}");
    let text = fs::read_to_string(result.path()).unwrap();
    // A wrong name, or a test that skips itself there, would pass without having run.
    Some(text.strip_prefix("ran ").unwrap_or_else(|| panic!("{name} did not run alone:\n{said}")).to_owned())
}

fn append(path: &std::path::Path) -> fs::File {
    fs::File::options().append(true).open(path).unwrap()
}

/// Whether this is root; where it is not, says that the calling test is skipped for it.
pub(crate) fn root_or_skip(name: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {name}: needs root");
    }
    root
}
