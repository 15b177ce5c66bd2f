//! `~/.netrc`: names and passwords of hosts, as ftp(1) and curl(1) read them.

use crate::ctl::failure::Failure;
use crate::model::ExitStatus;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// It is never longer.
const BYTES_MAX: u64 = 1 << 20;

/// A name and its password.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Login {
    pub(super) name: String,
    pub(super) password: String,
}

/// Where it is: NETRC, else in the home folder.
pub(super) fn place(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("NETRC").or_else(|| Some(set("HOME")?.join(".netrc")))
}

/// What the file has for a host. One that others may read is not used: it is as good as lost.
pub(super) fn login(path: &Path, host: &str) -> Result<Option<Login>, Failure> {
    let failed = |error: &io::Error| {
        let shown = path.display();
        Failure::new(ExitStatus::Failed, format!("cannot read {shown}: {error}"))
            .next(format!("ls -l {shown}"))
    };
    let file = match File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.map_err(|error| failed(&error))?,
    };
    let mode = file.metadata().map_err(|error| failed(&error))?.mode();
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| failed(&error))?;
    let found = find(&text, host);
    if found.is_some() && mode & 0o077 != 0 {
        let text = format!("{} has the password of {host}, and others may read it", path.display());
        return Err(Failure::new(ExitStatus::Failed, text).next(format!("chmod 600 {}", path.display())));
    }
    Ok(found)
}

/// The first entry of the host, else the default one.
fn find(text: &str, host: &str) -> Option<Login> {
    let mut words = Words(text);
    let mut of_host: Option<Login> = None;
    // Whether what comes is of an entry that counts.
    let mut counts = false;
    while let Some(word) = words.next() {
        match word.as_str() {
            "machine" | "default" => {
                if of_host.is_some() {
                    break;
                }
                counts = word == "default" || words.next()?.eq_ignore_ascii_case(host);
                of_host = counts.then(Login::default);
            }
            "login" | "password" | "account" => {
                let value = words.next()?;
                match (&mut of_host, word.as_str()) {
                    (Some(login), "login") if counts => login.name = value,
                    (Some(login), "password") if counts => login.password = value,
                    _ => {}
                }
            }
            "macdef" => words.skip_macro(),
            _ => {}
        }
    }
    of_host
}

/// Words between white space; one in double quotes may have some, and `\` takes the next as it is.
struct Words<'a>(&'a str);

impl Words<'_> {
    fn next(&mut self) -> Option<String> {
        loop {
            self.0 = self.0.trim_start();
            if !self.0.starts_with('#') {
                break;
            }
            self.0 = self.0.split_once('\n').map_or("", |(_, rest)| rest);
        }
        let quoted = self.0.starts_with('"');
        let mut word = String::new();
        let mut characters = self.0.char_indices().skip(usize::from(quoted));
        let end = loop {
            match characters.next() {
                None => break self.0.len(),
                Some((at, '"')) if quoted => break at + 1,
                Some((at, c)) if !quoted && c.is_whitespace() => break at,
                Some((_, '\\')) => word.extend(characters.next().map(|(_, c)| c)),
                Some((_, c)) => word.push(c),
            }
        };
        let is_word = end > 0;
        self.0 = &self.0[end..];
        is_word.then_some(word)
    }

    /// A macro of ftp(1) ends with an empty line.
    fn skip_macro(&mut self) {
        self.0 = self.0.split_once("\n\n").map_or("", |(_, rest)| rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const TEXT: &str = "# mine\nmachine one.example login ann password s3#cret\n\
        macdef init\nmachine two.example login evil password no\n\n\
        machine two.example\n\tlogin \"ann b\"\n\taccount x\n\tpassword \"a\\\"b \\\\c\"\n\
        machine one.example login second password no\ndefault login anonymous password guest\n";

    #[test]
    fn the_first_entry_of_a_host_counts() {
        let of = |host| find(TEXT, host).map(|login| (login.name, login.password));
        assert_eq!(of("one.example"), Some(("ann".into(), "s3#cret".into())));
        assert_eq!(of("TWO.example"), Some(("ann b".into(), "a\"b \\c".into())));
        assert_eq!(of("three.example"), Some(("anonymous".into(), "guest".into())));
        assert_eq!(find("machine one.example login x password y", "two.example"), None);
        for half in ["", "machine", "machine h login", "default", "\"", "machine h password \"x", "\\"] {
            let _does_not_panic = find(half, "h");
        }
    }

    #[test]
    fn a_password_that_others_may_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("netrc");
        assert_eq!(login(&path, "h"), Ok(None));
        std::fs::write(&path, "machine h login a password b").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        let failure = login(&path, "h").unwrap_err();
        assert_eq!(failure.next, Some(format!("chmod 600 {}", path.display())));
        assert_eq!(login(&path, "other"), Ok(None), "it has nothing that could be lost");
        mode(0o600);
        assert_eq!(login(&path, "h"), Ok(Some(Login { name: "a".into(), password: "b".into() })));
        let set = |name: &str| (name == "HOME").then(|| "/home/ann".into());
        assert_eq!(place(&set), Some("/home/ann/.netrc".into()));
        assert_eq!(place(&|name| (name == "NETRC").then(|| "/n".into())), Some("/n".into()));
    }
}
