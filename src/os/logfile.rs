//! Log files that workers write to without supd in between: watched without being looked at while
//! nobody writes, kept below LogMaxSize, and their ends shown.

use super::Error;
use super::task::Task;
use crate::model::text::printable;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate, open};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, fchownat};
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No more of a file's end is read for [`tail`].
const TAIL_BYTES: u64 = 65_536;
/// How often what was written during a trim is taken along.
const CATCH_UP: usize = 8;
/// A line of a tail is cut to this.
const LINE_MAX: usize = 1024;

/// The last `count` lines of a file, fit to be shown: no escape sequences, no control characters,
/// whatever is no UTF-8 replaced. Empty where there is no file, for then nothing was written.
#[must_use]
pub fn tail(path: &Path, count: usize) -> Vec<String> {
    let Ok((file, size)) = open_regular(path, OFlag::O_RDONLY) else { return Vec::new() };
    let start = size.saturating_sub(TAIL_BYTES);
    let bytes = part(&file, start, size).unwrap_or_default();
    let text = if start > 0 { from_line(&bytes) } else { &bytes };
    let lines: Vec<&[u8]> = text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n').collect();
    let shown = |line: &&[u8]| printable(&String::from_utf8_lossy(line), LINE_MAX);
    let last = &lines[lines.len().saturating_sub(count)..];
    if text.is_empty() { Vec::new() } else { last.iter().map(shown).collect() }
}

/// Opens a log file for reading, for somebody else: never what a link there points to, and never
/// anything but a file.
///
/// # Errors
/// ENOENT: there is no log; EINVAL or ELOOP: what is there is none.
pub fn open_log(path: &Path) -> Result<File, Error> {
    let opened = open_regular(path, OFlag::O_RDONLY);
    opened.map(|(file, _)| file).map_err(|errno| Error::new("open", path.display(), errno))
}

/// Marks a log as one of this group: whoever may read it is known as long as it is there.
///
/// # Errors
/// EPERM: supd is not root, and not of that group.
pub fn give(path: &Path, gid: u32) -> Result<(), Error> {
    let group = Some(Gid::from_raw(gid));
    fchownat(AT_FDCWD, path, None, group, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|errno| Error::new("give to its ControlGroup:", path.display(), errno))
}

/// The group of a log that is open; `None`: nobody's but root's.
#[must_use]
pub fn group_of(log: &File) -> Option<u32> {
    log.metadata().ok().map(|log| log.gid()).filter(|gid| *gid != 0)
}

/// What follows the first line end: what is before it is the rest of a line. Of one line longer than
/// all of it, better its end than nothing.
fn from_line(bytes: &[u8]) -> &[u8] {
    let first = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
    if first == bytes.len() { bytes } else { &bytes[first..] }
}

/// Whether the file is larger than `size_max` bytes. Holes do not count: a writer that does not append
/// goes on where it was, far behind the end of a file that was trimmed. One system call, which does
/// not wait for the disk of a file that is open somewhere.
#[must_use]
pub fn is_oversize(path: &Path, size_max: u64) -> bool {
    let large = |file: &Metadata| file.len().min(file.blocks().saturating_mul(512)) > size_max;
    std::fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && large(&file))
}

/// Brings log files that are larger than `size_max` bytes below that, in a child: what is cut off
/// is written back to the disk first.
///
/// # Errors
/// What [`Task::run`] says; what went wrong with a file is the task's answer.
pub fn trim(files: Vec<(PathBuf, u64)>, bound: Duration) -> Result<Task, Error> {
    Task::run("the trimming of log files", bound, &[], move || {
        let failed = |(path, size_max): (PathBuf, u64)| trim_one(&path, size_max).err();
        let errors: Vec<String> =
            files.into_iter().filter_map(failed).map(|error| error.to_string()).collect();
        if errors.is_empty() { Ok(Vec::new()) } else { Err(errors.join("; ")) }
    })
}

/// Keeps the last half of `size_max`, so that it is long until the next time.
///
/// Its writers go on meanwhile and have the file open for appending, so that it may shrink under
/// them. Where the file system can take blocks out of a file's beginning (ext4, XFS), nothing but
/// those is lost. Elsewhere its last part is written over its beginning and the rest cut off, with a
/// line that says so: what is written at the very moment of the cut is lost.
fn trim_one(path: &Path, size_max: u64) -> Result<(), Error> {
    let failed = |errno| Error::new("trim", path.display(), errno);
    // No O_APPEND: fallocate(2) refuses it for a moved end.
    let (file, size) = open_regular(path, OFlag::O_RDWR).map_err(failed)?;
    if size <= size_max {
        return Ok(());
    }
    let block = fstat(&file).map_err(failed)?.st_blksize.max(1).unsigned_abs();
    let surplus = (size - size_max / 2).div_ceil(block) * block;
    let whole = i64::try_from(surplus.min(size / block * block)).map_err(|_| failed(Errno::EFBIG))?;
    if whole > 0 && fallocate(&file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, whole).is_ok() {
        return Ok(());
    }
    rewrite(&file, size, size_max).map_err(|error| Error::from_io("trim", path.display(), &error))
}

/// Writes the end over the beginning and cuts the rest off, so that at no time the newest lines are
/// missing for who reads.
fn rewrite(file: &File, size: u64, size_max: u64) -> std::io::Result<()> {
    let kept = (size_max / 2).min(TAIL_BYTES);
    let mut text =
        format!("supd: {} bytes of this log were cut off here (LogMaxSize)\n", size - kept).into_bytes();
    text.extend_from_slice(from_line(&part(file, size - kept, size)?));
    file.write_all_at(&text, 0)?;
    let (mut at, mut end) = (text.len() as u64, size);
    // What was written since is taken along; it may be more again by the time that is done.
    for _ in 0..CATCH_UP {
        let now = file.metadata()?.len();
        let more = part(file, end.max(now.saturating_sub(kept)), now)?;
        if more.is_empty() || at + more.len() as u64 > size {
            break;
        }
        file.write_all_at(&more, at)?;
        (at, end) = (at + more.len() as u64, now);
    }
    file.set_len(at)
}

/// A part of a file, less its holes: a writer that does not append to a file that was trimmed leaves
/// one.
fn part(file: &File, from: u64, to: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
    let read = file.read_at(&mut bytes, from)?;
    bytes.truncate(read);
    bytes.retain(|byte| *byte != 0);
    Ok(bytes)
}

fn open_regular(path: &Path, access: OFlag) -> Result<(File, u64), Errno> {
    let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file = open(path, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(Errno::EINVAL);
    }
    Ok((file.into(), u64::try_from(stat.st_size).unwrap_or(0)))
}

/// Tells when log files are written to. Each watch fires once and is then gone: a log that nobody
/// writes to costs nothing, one that is written to all the time costs one event for each time that
/// it is armed. So: arm; when it fires, set a timer of some seconds; then look, trim, arm again.
#[derive(Debug)]
pub struct LogWatch(Inotify);

/// One armed watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(WatchDescriptor);

impl LogWatch {
    /// A watch on nothing yet.
    ///
    /// # Errors
    /// EMFILE: too many descriptors, or fs.inotify.max_user_instances.
    pub fn new() -> Result<Self, Error> {
        Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map(Self)
            .map_err(|errno| Error::new("watch", "log files", errno))
    }

    /// Arms the watch of one file, which must exist.
    ///
    /// # Errors
    /// ENOENT; ENOSPC: fs.inotify.max_user_watches.
    pub fn arm(&self, path: &Path) -> Result<WatchId, Error> {
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT | AddWatchFlags::IN_DONT_FOLLOW;
        let watch = self.0.add_watch(path, flags);
        watch.map(WatchId).map_err(|errno| Error::new("watch", path.display(), errno))
    }

    /// The watches that have fired, or whose file is gone; they are armed no more. Never blocks.
    #[must_use]
    pub fn fired(&self) -> Vec<WatchId> {
        let mut all = Vec::new();
        while let Ok(events) = self.0.read_events() {
            // After the event of a one-shot watch comes IN_IGNORED, which says the same.
            all.extend(events.into_iter().filter(|e| e.wd.as_raw() >= 0).map(|event| WatchId(event.wd)));
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl AsFd for LogWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, LogWatch, is_oversize, open_log, tail, trim, trim_one};
    use crate::os::task::tests::finish;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::fs::{self, File};
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::time::Duration;

    #[test]
    fn the_last_lines_fit_to_be_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(tail(&path, 20), Vec::<String>::new());
        let shown = |text: &[u8], count| {
            fs::write(&path, text).unwrap();
            tail(&path, count)
        };
        assert_eq!(shown(b"", 20), Vec::<String>::new());
        assert_eq!(shown(b"one\ntwo\nthree\n", 2), ["two", "three"]);
        assert_eq!(shown(b"one\ntwo\nthree", 20), ["one", "two", "three"]);
        assert_eq!(shown(b"one\n\n", 20), ["one", ""]);
        assert_eq!(shown(b"\x1b[1;31mError\x1b[0m: \xff\xfe\r\n", 1), ["Error: \u{fffd}\u{fffd}"]);
        assert_eq!(shown(b"one\n", 0), Vec::<String>::new());
        // A line that is longer than all that is looked at, and one that begins before it.
        let long = vec![b'x'; 200_000];
        let lines = shown(&long, 5);
        assert_eq!((lines.len(), lines[0].len()), (1, LINE_MAX));
        assert_eq!(shown(&[long.as_slice(), b"\nlast\n"].concat(), 5), ["last"]);
        // A hole in the file.
        let file = File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"\nend\n").unwrap();
        assert_eq!(tail(&path, 1), ["end"]);
    }

    #[test]
    fn what_is_no_log_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(tail(&fifo, 1), Vec::<String>::new());
        assert_eq!(tail(folder.path(), 1), Vec::<String>::new());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert_eq!(tail(&link, 1), Vec::<String>::new());
        for path in [fifo.as_path(), folder.path(), &link] {
            open_log(path).unwrap_err();
        }
        assert!(trim_one(&link, 1).is_err());
        assert!(!is_oversize(&link, 1));
    }

    /// Lines that say their number, from a worker that has the file open all the time.
    fn write_lines(writer: &mut File, lines: std::ops::Range<u32>) {
        for line in lines {
            writeln!(writer, "line {line:08} {}", "x".repeat(85)).unwrap();
        }
    }

    fn check_trim(folder: &Path) {
        let path = folder.join("log");
        let mut writer = File::options().create(true).append(true).open(&path).unwrap();
        write_lines(&mut writer, 0..10_000);
        assert!(is_oversize(&path, 500_000) && !is_oversize(&path, 1_000_000));
        let task = trim(vec![(path.clone(), 500_000), (path.clone(), 900_000)], Duration::from_secs(60));
        assert_eq!(finish(task.unwrap()), Ok(Vec::new()));
        let size = fs::metadata(&path).unwrap().len();
        assert!((1..=300_000).contains(&size), "{size}");
        write_lines(&mut writer, 10_000..10_010);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains('\0'));
        let last: Vec<&str> = text.lines().rev().take(100).collect();
        for (line, number) in last.into_iter().zip((0..10_010).rev()) {
            assert!(line.starts_with(&format!("line {number:08} ")), "{line}");
        }
        // What is small is left as it is.
        trim_one(&path, 1_000_000).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn its_end_is_kept_while_its_writer_goes_on() {
        check_trim(tempfile::tempdir().unwrap().path());
    }

    /// tmpfs cannot take blocks out of a file.
    #[test]
    fn its_end_is_kept_where_blocks_cannot_be_taken_out() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        check_trim(folder.path());
        let text = fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(text.starts_with("supd: ") && text.contains("were cut off here (LogMaxSize)\n"));
    }

    /// A writer that does not append goes on where it was: what it leaves before that is a hole.
    fn check_holes(folder: &Path) {
        let path = folder.join("log");
        let mut writer = File::create(&path).unwrap();
        write_lines(&mut writer, 0..10_000);
        for round in 1..4 {
            trim_one(&path, 500_000).unwrap();
            assert!(!is_oversize(&path, 500_000));
            write_lines(&mut writer, round * 10_000..round * 10_000 + 10);
            assert!(fs::metadata(&path).unwrap().len() > 900_000, "it did append");
            assert!(!is_oversize(&path, 500_000), "a hole counts");
            let lines = tail(&path, 20);
            // Of the first it cannot know that it is whole.
            for (line, number) in lines.iter().zip(round * 10_000 + 1..round * 10_000 + 10) {
                assert!(line.starts_with(&format!("line {number:08} ")), "{lines:?}");
            }
            assert_eq!(lines.len(), 9, "{lines:?}");
            write_lines(&mut writer, round * 10_000 + 10..(round + 1) * 10_000);
            assert!(is_oversize(&path, 500_000));
        }
    }

    #[test]
    fn a_writer_that_does_not_append_leaves_holes() {
        check_holes(tempfile::tempdir().unwrap().path());
        check_holes(tempfile::tempdir_in("/dev/shm").unwrap().path());
    }

    #[test]
    fn the_end_of_an_endless_line_is_kept() {
        for folder in [tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()] {
            let path = folder.path().join("log");
            fs::write(&path, "x".repeat(1 << 20) + "the end").unwrap();
            trim_one(&path, 100_000).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.ends_with("xxxthe end") && text.len() <= 100_000, "{}", text.len());
        }
    }

    #[test]
    fn a_watch_fires_once_until_it_is_armed_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let watch = LogWatch::new().unwrap();
        assert_eq!(watch.arm(&path).unwrap_err().errno, nix::errno::Errno::ENOENT);
        let mut writer = File::options().create(true).append(true).open(&path).unwrap();
        let readable = |within: u16| {
            let mut entry = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            poll(&mut entry, PollTimeout::from(within)).unwrap() == 1
        };
        let first = watch.arm(&path).unwrap();
        assert!(!readable(0) && watch.fired().is_empty());
        for _ in 0..1000 {
            writer.write_all(b"line\n").unwrap();
        }
        assert!(readable(20_000));
        assert_eq!(watch.fired(), [first]);
        writer.write_all(b"line\n").unwrap();
        assert!(!readable(0));
        let second = watch.arm(&path).unwrap();
        fs::remove_file(&path).unwrap();
        drop(writer);
        assert!(readable(20_000));
        assert_eq!(watch.fired(), [second]);
    }
}
