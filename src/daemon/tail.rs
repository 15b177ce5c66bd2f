//! The last lines that a generation wrote.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How many lines are shown of a generation that failed.
const LINES: usize = 20;

/// How far back they are looked for, in bytes.
const BYTES: u64 = 16 * 1024;

/// No line is shown longer, in characters.
const LINE_MAX: usize = 500;

/// The last lines of a log file, oldest first; none of one that is not there. What is no text is
/// shown as such, and never reaches a terminal.
#[must_use]
pub fn tail(path: &Path) -> Vec<String> {
    let bytes = read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().rev().take(LINES).map(plain).collect();
    lines.reverse();
    lines
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.saturating_sub(BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    if start > 0 {
        // The first line is cut off in front.
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.drain(..end);
    }
    Ok(bytes)
}

fn plain(line: &str) -> String {
    let shown = line.chars().take(LINE_MAX);
    shown.map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_whatever_is_in_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(tail(file.path()).is_empty() && tail(Path::new("/nonexistent")).is_empty());
        std::fs::write(file.path(), "one\n\x1b[31mtwo\nthree").unwrap();
        assert_eq!(tail(file.path()), ["one", "\u{fffd}[31mtwo", "three"]);
        let many: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(file.path(), many).unwrap();
        let last = tail(file.path());
        assert_eq!((last.len(), last[0].as_str(), last[19].as_str()), (20, "line 99980", "line 99999"));
        std::fs::write(file.path(), [0xff; 100_000]).unwrap();
        assert_eq!(tail(file.path())[0].chars().count(), LINE_MAX);
    }
}
