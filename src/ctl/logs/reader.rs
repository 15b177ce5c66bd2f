//! Reading a log that grows at its end and, now and then, is cut off at its beginning.
//!
//! supd keeps a log below LogMaxSize by taking blocks out of its beginning, or by writing its end
//! anew where the file system cannot do that (`os/logfile`). Either way a place in the file is
//! another one afterwards. So the last bytes that were read are remembered: where they are not
//! before the place any more, they are looked for.

use super::Lines;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// Bytes that are remembered: enough that lines which are alike (but for a time) differ in them.
const MARK: usize = 1024;
/// Where the end of a log was written anew, what was read last is not further from its beginning.
const REWRITTEN: u64 = 1 << 20;

/// A log and a place in it.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    at: u64,
    /// The first bytes of `buffer` are those before `at`, this many.
    mark: usize,
    buffer: Vec<u8>,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Empty: that is all for now.
    pub(super) bytes: &'a [u8],
    /// Between these and those before them some are gone.
    pub(super) lost: bool,
}

impl Reader {
    /// At the beginning of the last lines.
    pub(super) fn at_last(file: File, lines: Lines) -> io::Result<Self> {
        let at = match lines {
            Lines::All => 0,
            Lines::Last(count) => last_lines(&file, count)?,
        };
        let mark = usize::try_from(at).unwrap_or(MARK).min(MARK);
        let mut buffer = vec![0; MARK + CHUNK];
        let read = read_at(&file, &mut buffer[..mark], at - mark as u64)?;
        // Cut off at this very moment: then it is shown from its new beginning.
        let (at, mark) = if read == mark { (at, mark) } else { (0, 0) };
        Ok(Self { file, at, mark, buffer })
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// How much there is from here on.
    pub(super) fn left(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().saturating_sub(self.at))
    }

    /// Reads on.
    pub(super) fn next(&mut self) -> io::Result<Piece<'_>> {
        let mut lost = false;
        let mut read = self.read()?;
        if read.is_none() {
            lost = !self.find()?;
            read = self.read()?;
        }
        // Cut off twice running: the next turn finds out.
        let count = read.unwrap_or(0);
        let begin = self.mark;
        self.at += count as u64;
        let end = begin + count;
        // Moved to the front by the next read.
        self.mark = end;
        Ok(Piece { bytes: &self.buffer[begin..end], lost })
    }

    /// Reads what comes after the mark; `None`: the mark is not there any more.
    fn read(&mut self) -> io::Result<Option<usize>> {
        let kept = self.mark.min(MARK);
        self.buffer.copy_within(self.mark - kept..self.mark, 0);
        self.mark = kept;
        let mark = self.buffer[..kept].to_vec();
        // In one call, so that what is before and what is after are of the same moment.
        let read = read_at(&self.file, &mut self.buffer, self.at - kept as u64)?;
        if read < kept || self.buffer[..kept] != mark[..] {
            self.buffer[..kept].copy_from_slice(&mark);
            return Ok(None);
        }
        Ok(Some(read - kept))
    }

    /// Looks for the mark. Where it is nowhere, what is there begins anew, and this says false.
    fn find(&mut self) -> io::Result<bool> {
        let found = match self.find_shifted()? {
            Some(at) => Some(at),
            None => self.find_rewritten()?,
        };
        match found {
            Some(at) => self.at = at,
            None => (self.at, self.mark) = (0, 0),
        }
        Ok(found.is_some())
    }

    /// Whole blocks were taken out before it.
    fn find_shifted(&self) -> io::Result<Option<u64>> {
        let metadata = self.file.metadata()?;
        let (block, mark) = (metadata.blksize().max(512), self.mark as u64);
        let mut bytes = vec![0; self.mark];
        let mut at = self.at;
        while let Some(lower) = at.checked_sub(block).filter(|lower| *lower >= mark) {
            at = lower;
            let here = at <= metadata.len() && read_at(&self.file, &mut bytes, at - mark)? == self.mark;
            if here && bytes[..] == self.buffer[..self.mark] {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The file's end was written anew.
    fn find_rewritten(&self) -> io::Result<Option<u64>> {
        let mark = &self.buffer[..self.mark];
        let length = self.file.metadata()?.len().min(REWRITTEN);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = read_at(&self.file, &mut bytes, 0)?;
        let found = bytes[..read].windows(mark.len().max(1)).rposition(|window| window == mark);
        Ok(found.map(|at| (at + mark.len()) as u64))
    }
}

/// Fills the buffer as far as the file goes.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Where the last lines begin, however many there are.
fn last_lines(file: &File, count: u64) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let mut block = vec![0; CHUNK];
    let (mut before, mut missing) = (end, count);
    if count == 0 {
        return Ok(end);
    }
    while before > 0 {
        let from = before.saturating_sub(CHUNK as u64);
        let wanted = usize::try_from(before - from).unwrap_or(CHUNK);
        let read = read_at(file, &mut block[..wanted], from)?;
        for at in (0..read).rev().filter(|at| block[*at] == b'\n') {
            let place = from + at as u64;
            // The last line's own end begins no other.
            if place + 1 == end {
                continue;
            }
            missing -= 1;
            if missing == 0 {
                return Ok(place + 1);
            }
        }
        before = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::logfile::trim;
    use crate::os::task::tests::finish;
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::path::Path;
    use std::time::Duration;

    fn log(folder: &Path, text: &[u8]) -> (File, File) {
        let path = folder.join("log");
        let mut writer = File::options().create(true).append(true).open(&path).unwrap();
        writer.write_all(text).unwrap();
        (writer, File::open(&path).unwrap())
    }

    fn rest(reader: &mut Reader) -> (String, bool) {
        let (mut text, mut lost) = (String::new(), false);
        loop {
            let piece = reader.next().unwrap();
            lost |= piece.lost;
            if piece.bytes.is_empty() {
                return (text, lost);
            }
            text.push_str(std::str::from_utf8(piece.bytes).unwrap());
        }
    }

    fn numbered(lines: std::ops::Range<u32>) -> String {
        lines.fold(String::new(), |mut text, line| {
            writeln!(text, "line {line:08} {}", "x".repeat(85)).unwrap();
            text
        })
    }

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, _) = log(folder.path(), b"");
        let mut shown = |text: &[u8], count| {
            writer.set_len(0).unwrap();
            writer.write_all(text).unwrap();
            rest(&mut Reader::at_last(File::open(folder.path().join("log")).unwrap(), count).unwrap()).0
        };
        for (text, count, last) in [
            ("", Lines::Last(5), ""),
            ("one\ntwo\nthree\n", Lines::Last(2), "two\nthree\n"),
            ("one\ntwo\nthree", Lines::Last(2), "two\nthree"),
            ("one\ntwo\n", Lines::Last(0), ""),
            ("one\ntwo\n", Lines::Last(9), "one\ntwo\n"),
            ("one\n\n\n", Lines::Last(2), "\n\n"),
            ("one\ntwo\n", Lines::All, "one\ntwo\n"),
        ] {
            assert_eq!(shown(text.as_bytes(), count), last, "{text:?} {count:?}");
        }
        let many = numbered(0..50_000);
        assert_eq!(shown(many.as_bytes(), Lines::Last(20_000)), numbered(30_000..50_000));
        let long = [&b"first\n"[..], &vec![b'x'; 300_000]].concat();
        assert_eq!(shown(&long, Lines::Last(1)).len(), 300_000);
    }

    /// What is read before, between and after two cuts is the whole, each line once.
    fn follows_cuts(folder: &Path) {
        let (mut writer, file) = log(folder, numbered(0..100).as_bytes());
        let mut reader = Reader::at_last(file, Lines::All).unwrap();
        assert_eq!(rest(&mut reader), (numbered(0..100), false));
        let mut next = 100;
        for _ in 0..3 {
            writer.write_all(numbered(next..next + 10_000).as_bytes()).unwrap();
            assert_eq!(rest(&mut reader), (numbered(next..next + 10_000), false));
            next += 10_000;
            let task = trim(vec![(folder.join("log"), 500_000)], Duration::from_secs(60));
            assert_eq!(finish(task.unwrap()), Ok(Vec::new()));
            writer.write_all(numbered(next..next + 20).as_bytes()).unwrap();
            assert_eq!(rest(&mut reader), (numbered(next..next + 20), false));
            next += 20;
        }
        // So much at once that what was read last is cut off too.
        writer.write_all(numbered(next..next + 20_000).as_bytes()).unwrap();
        let task = trim(vec![(folder.join("log"), 500_000)], Duration::from_secs(60));
        assert_eq!(finish(task.unwrap()), Ok(Vec::new()));
        let (text, lost) = rest(&mut reader);
        assert!(lost && text.ends_with(&numbered(next + 19_900..next + 20_000)));
        writer.write_all(b"and on\n").unwrap();
        assert_eq!(rest(&mut reader), ("and on\n".to_owned(), false));
    }

    #[test]
    fn a_cut_neither_repeats_nor_hides_a_line() {
        follows_cuts(tempfile::tempdir().unwrap().path());
    }

    /// tmpfs cannot take blocks out of a file.
    #[test]
    fn nor_does_one_that_writes_the_end_anew() {
        follows_cuts(tempfile::tempdir_in("/dev/shm").unwrap().path());
    }
}
