//! The marks that supd left in the runtime folder where it died of its own fault ([`crate::os::crash`]).

use super::files;
use crate::os::Error;
use crate::os::clock::BootId;
use crate::os::crash;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Two crashes that are no further apart are two of a kind.
const WITHIN: Duration = Duration::from_secs(60);
/// So many are kept; the file is cut back at the start of supd only.
const KEPT: usize = 8;
/// Nothing behind this is read, in bytes.
const FILE_MAX: u64 = 64 * 1024;

/// The file with the marks.
#[derive(Debug, Clone)]
pub struct Crashes {
    path: PathBuf,
}

impl Crashes {
    /// The marks of this folder. From now on a crash of this process leaves one. Gives why supd is to hold, in
    /// words: it crashed twice within a minute, in this boot of the machine, and nobody has seen to it since.
    #[must_use]
    pub fn arm(runtime: &Path, boot: &BootId) -> (Self, Option<String>) {
        let crashes = Self { path: runtime.join("crashes") };
        let marks = crashes.read();
        if marks.len() > KEPT {
            let kept: String = marks.iter().rev().take(KEPT).rev().map(|mark| format!("{mark}\n")).collect();
            if let Err(error) = files::put(&crashes.path, kept.as_bytes(), 0o600) {
                log::warn!("{error}");
            }
        }
        if let Err(error) = crash::arm(&crashes.path, boot) {
            log::warn!("{error}: a crash of supd would leave no mark");
        }
        (crashes, held(&marks, &boot.to_string()))
    }

    fn read(&self) -> Vec<String> {
        let bytes = files::read(&self.path, FILE_MAX).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }

    /// A person has seen to it: they count no more.
    ///
    /// # Errors
    /// What the kernel answered; they still count.
    pub fn clear(&self) -> Result<(), Error> {
        // Not removed: it is open, for the next one.
        let emptied = OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(0));
        emptied.map_err(|error| Error::from_io("empty", self.path.display(), &error))
    }
}

/// When it was, in microseconds, and why, of a mark of this boot.
fn parse<'a>(mark: &'a str, boot: &str) -> Option<(u64, &'a str)> {
    let (at, why) = mark.strip_prefix(boot)?.strip_prefix(' ')?.split_once(' ')?;
    Some((at.parse().ok()?, why))
}

fn held(marks: &[String], boot: &str) -> Option<String> {
    let marks: Vec<(u64, &str)> = marks.iter().filter_map(|mark| parse(mark, boot)).collect();
    let near = |pair: &&[(u64, &str)]| match pair {
        [(one, _), (other, _)] => Duration::from_micros(other.abs_diff(*one)) <= WITHIN,
        _ => false,
    };
    match marks.windows(2).rev().find(near)? {
        [(_, one), (_, other)] => {
            let why = crate::model::text::printable(&format!("{one}, {other}"), 200);
            Some(format!("supd crashed twice within a minute ({why})"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::held;

    const BOOT: &str = "0c6d0d4e-0000-4000-8000-000000000001";

    fn marks(all: &[(&str, u64, &str)]) -> Option<String> {
        let lines: Vec<String> =
            all.iter().map(|(boot, second, why)| format!("{boot} {} {why}", second * 1_000_000)).collect();
        held(&lines, BOOT)
    }

    #[test]
    fn two_within_a_minute_hold() {
        assert_eq!(marks(&[]), None);
        assert_eq!(marks(&[(BOOT, 10, "SIGSEGV")]), None);
        assert_eq!(marks(&[(BOOT, 10, "SIGSEGV"), (BOOT, 71, "SIGBUS")]), None);
        let why = marks(&[(BOOT, 10, "SIGSEGV"), (BOOT, 70, "panic at src/x.rs:7")]);
        assert_eq!(why.unwrap(), "supd crashed twice within a minute (SIGSEGV, panic at src/x.rs:7)");
        // However long ago that was, and whatever came later.
        assert!(marks(&[(BOOT, 10, "a"), (BOOT, 20, "b"), (BOOT, 9000, "c")]).is_some());
    }

    #[test]
    fn marks_of_another_boot_and_rubbish_do_not() {
        let other = "0c6d0d4e-0000-4000-8000-000000000002";
        assert_eq!(marks(&[(other, 10, "a"), (BOOT, 11, "b")]), None);
        assert_eq!(marks(&[(other, 10, "a"), (other, 11, "b")]), None);
        let rubbish =
            [String::new(), BOOT.into(), format!("{BOOT} x y"), format!("{BOOT} 5"), "\u{0}".into()];
        assert_eq!(held(&rubbish, BOOT), None);
    }
}
