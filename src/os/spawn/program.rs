//! Finding the program and becoming it, with a message that says what is really missing.

use super::environment::Variable;
use super::failure::{SpawnFailure, Step};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access, execve};
use std::ffi::{CString, OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The file that `program` means: itself where it has a slash, else the first in PATH that may be
/// executed. PATH is the worker's own, not supd's, and the check is made as the worker's user.
pub(super) fn find(program: &str, environment: &[Variable]) -> Result<PathBuf, SpawnFailure> {
    if program.contains('/') {
        return Ok(program.into());
    }
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let path = path.unwrap_or(OsStr::new(super::environment::PATH));
    let mut forbidden = None;
    // execve(2) would go through folders relative to the working directory too, and run whatever
    // the worker's user finds it useful to put there.
    for folder in std::env::split_paths(path).filter(|folder| folder.is_absolute()) {
        let file = folder.join(program);
        if !file.is_file() {
            continue;
        }
        match access(&file, AccessFlags::X_OK) {
            Ok(()) => return Ok(file),
            Err(_) => forbidden = forbidden.or(Some(file)),
        }
    }
    let place = format!("{program} in PATH ({})", path.to_string_lossy());
    Err(match forbidden {
        Some(file) => SpawnFailure::errno(Step::Find, place, Errno::EACCES)
            .hint(format!("{} is not executable", file.display())),
        None => SpawnFailure::reason(Step::Find, place, "no such program"),
    })
}

/// Everything that execve(2) wants, made before the point of no return.
pub(super) struct Image {
    file: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Image {
    pub(super) fn new(
        file: &Path,
        name: &str,
        arguments: &[OsString],
        environment: &[Variable],
    ) -> Result<Self, SpawnFailure> {
        let nul = |what: &str| {
            SpawnFailure::reason(Step::Execute, file.display(), format!("{what} contains a NUL"))
        };
        let text = |bytes: Vec<u8>, what| CString::new(bytes).map_err(|_| nul(what));
        let first = std::iter::once(OsStr::new(name));
        let all = first.chain(arguments.iter().map(OsString::as_os_str));
        let assignment = |(name, value): &Variable| {
            let mut bytes = name.clone().into_vec();
            bytes.push(b'=');
            bytes.extend_from_slice(value.as_bytes());
            text(bytes, "its environment")
        };
        Ok(Self {
            file: text(file.as_os_str().as_bytes().to_vec(), "its path")?,
            arguments: all.map(|a| text(a.as_bytes().to_vec(), "an argument")).collect::<Result<_, _>>()?,
            environment: environment.iter().map(assignment).collect::<Result<_, _>>()?,
        })
    }

    /// Becomes the program; returns only to say why not.
    pub(super) fn execute(&self) -> SpawnFailure {
        let Err(errno) = execve(&self.file, &self.arguments, &self.environment);
        let file = Path::new(OsStr::from_bytes(self.file.as_bytes()));
        let failure = SpawnFailure::errno(Step::Execute, file.display(), errno);
        match explain(file, errno) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// What the errno alone does not say.
fn explain(file: &Path, errno: Errno) -> Option<String> {
    match errno {
        Errno::ENOEXEC if first_line(file).is_none() => {
            Some("a script without a #! line, or made for another machine".to_owned())
        }
        // The file is there: what is missing is what it asks for.
        Errno::ENOENT if file.exists() => Some(match first_line(file).and_then(|line| interpreter(&line)) {
            Some(interpreter) => format!("its #! line names {interpreter}, which is missing"),
            None => "its dynamic loader is missing".to_owned(),
        }),
        Errno::EACCES => {
            let metadata = std::fs::metadata(file).ok()?;
            let mode = metadata.permissions().mode();
            Some(match (metadata.is_file(), mode & 0o111) {
                (false, _) => "it is not a regular file".to_owned(),
                (true, 0) => "chmod +x it".to_owned(),
                (true, _) => {
                    "this user may not execute it, or its #! line's program, or its file system is mounted noexec"
                        .to_owned()
                }
            })
        }
        Errno::EAGAIN => Some("LimitNPROC of its user is reached".to_owned()),
        Errno::E2BIG => Some("its arguments and environment are too long".to_owned()),
        Errno::ETXTBSY => Some("somebody is still writing it".to_owned()),
        _ => None,
    }
}

/// The first line of a script, without the `#!`; the kernel reads no more than 256 bytes of it.
fn first_line(file: &Path) -> Option<String> {
    let mut start = Vec::new();
    std::fs::File::open(file).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    Some(String::from_utf8_lossy(line).into_owned())
}

fn interpreter(line: &str) -> Option<String> {
    // A line that was edited on Windows ends in a carriage return, which is part of the name.
    line.trim_matches([' ', '\t']).split([' ', '\t']).next().map(|name| name.escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use super::{Image, explain, find, interpreter};
    use nix::errno::Errno;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_path_is_the_workers() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("a/tool")).unwrap();
        std::fs::create_dir(at("b")).unwrap();
        std::fs::write(at("b/tool"), "#!/bin/sh\n").unwrap();
        let path = format!("relative::{}:{}", at("a").display(), at("b").display());
        let environment = [("PATH".into(), path.into())];
        let failure = find("tool", &environment).unwrap_err().to_string();
        assert!(
            failure.contains("Permission denied") && failure.contains("b/tool is not executable"),
            "{failure}"
        );
        std::fs::set_permissions(at("b/tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("tool", &environment).unwrap(), at("b/tool"));
        let failure = find("gone", &environment).unwrap_err().to_string();
        assert!(failure.starts_with("cannot find gone in PATH (relative::"), "{failure}");
        assert_eq!(find("sub/tool", &environment).unwrap().to_str(), Some("sub/tool"));
        assert_eq!(find("sh", &[]).unwrap().file_name().unwrap(), "sh");
    }

    #[test]
    fn the_reason_behind_the_errno() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, "#!/no/such/shell -e\r\n").unwrap();
        assert!(explain(&file, Errno::ENOENT).unwrap().contains("names /no/such/shell,"));
        assert!(explain(&file, Errno::EACCES).unwrap().contains("chmod +x"));
        std::fs::write(&file, "echo hello\n").unwrap();
        assert!(explain(&file, Errno::ENOEXEC).unwrap().contains("#!"));
        assert!(explain(&folder.path().join("y"), Errno::ENOENT).is_none());
        assert_eq!(interpreter(" /bin/sh\r").as_deref(), Some("/bin/sh\\r"));
    }

    #[test]
    fn a_nul_is_refused_before_it_cuts_something_off() {
        let failure = Image::new("/bin/true".as_ref(), "true", &["a\0b".into()], &[]).err().unwrap();
        assert_eq!(failure.to_string(), "cannot execute /bin/true: an argument contains a NUL");
    }
}
