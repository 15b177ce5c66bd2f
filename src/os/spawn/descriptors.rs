//! The descriptors of a worker: 0 to 2, its listeners from 3 on, and nothing else.
#![allow(unsafe_code)]

use super::account::Identity;
use super::directories::{enter, trusted};
use super::failure::{SpawnFailure, Step};
use crate::os::fork::{Reporter, close_from};
use crate::os::journal;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open, openat};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstat};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Component, Path, PathBuf};

/// Where StandardOutput or StandardError goes, with every "auto" resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    /// The generation's log file: appended to, made with mode 0640 and its folder with 0750.
    Log(PathBuf),
    /// The journal.
    Journal {
        /// SYSLOG_IDENTIFIER
        identifier: String,
        /// The log file that it is where the journal does not answer.
        instead: PathBuf,
    },
    /// Written from the start of the file, which is not emptied (systemd.exec(5)).
    File(PathBuf),
    /// Written at the end of the file.
    Append(PathBuf),
    /// /dev/null
    Null,
    /// StandardError: where StandardOutput goes. StandardOutput: where supd's own goes.
    Inherit,
}

/// SD_LISTEN_FDS_START of sd_listen_fds(3).
pub(super) const FIRST: RawFd = 3;

/// The listeners at 3, 4, 5 …, the child's pipe right after them, and everything else closed: from
/// here on the child holds nothing of supd's, however long a name service keeps it waiting.
///
/// Whatever stands where something is to go is first moved out of the way: a dup2(2) would close
/// it. Moving also sees to it that no descriptor is duplicated onto itself, which does nothing and
/// leaves it close-on-exec.
pub(super) fn place(listeners: &[BorrowedFd<'_>], reporter: &mut Reporter) -> Result<RawFd, Errno> {
    let count = RawFd::try_from(listeners.len()).map_err(|_| Errno::EMFILE)?;
    let report_at = FIRST.checked_add(count).ok_or(Errno::EMFILE)?;
    let out_of_the_way = report_at + 1;
    if reporter.number() < out_of_the_way {
        reporter.move_up(out_of_the_way)?;
    }
    let mut sources: Vec<RawFd> = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let at = listener.as_raw_fd();
        let moved = at < out_of_the_way;
        sources.push(if moved { fcntl(listener, FcntlArg::F_DUPFD_CLOEXEC(out_of_the_way))? } else { at });
    }
    for (target, source) in (FIRST..).zip(sources) {
        // The copy is not close-on-exec, be the source what it may.
        dup_to(source, target)?;
    }
    reporter.move_to(report_at)?;
    close_from(out_of_the_way)?;
    Ok(report_at)
}

fn dup_to(source: RawFd, target: RawFd) -> Result<(), Errno> {
    // SAFETY: a forked child about to exec owns its whole descriptor table.
    Errno::result(unsafe { libc::dup2(source, target) }).map(drop)
}

/// What became of the two streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Why one that was to be the journal's is a file.
    pub(super) fault: Option<String>,
    /// One is the journal's.
    journaled: bool,
}

impl Streams {
    /// JOURNAL_STREAM of systemd.exec(5): by it a program knows that it may speak the journal's own protocol.
    pub(super) fn told(&self) -> Option<String> {
        let stream = |fd: BorrowedFd<'_>| journal::is_socket(fd).then(|| journal::name(fd)).flatten();
        // SAFETY: both are open, and this child's.
        let (out, error) = unsafe { (BorrowedFd::borrow_raw(1), BorrowedFd::borrow_raw(2)) };
        self.journaled.then(|| stream(error).or_else(|| stream(out))).flatten()
    }
}

/// /dev/null for reading at 0, the two streams at 1 and 2.
pub(super) fn open_streams(
    output: &Stream,
    error: &Stream,
    identity: &Identity,
) -> Result<Streams, SpawnFailure> {
    let mut streams = Streams::default();
    let mut open_stream = |stream: &Stream| match stream {
        Stream::Journal { identifier, instead } => {
            match journal::connect(identifier, identity.uid, identity.gid) {
                Ok(socket) => {
                    streams.journaled = true;
                    Ok(Some(socket))
                }
                Err(why) => {
                    streams.fault = Some(format!("{why}; what it writes goes to {}", instead.display()));
                    open_log(instead)
                }
            }
        }
        other => open_stream(other),
    };
    let failed = |what: &str| {
        let what = what.to_owned();
        move |errno| SpawnFailure::errno(Step::Output, &what, errno)
    };
    let null = open_null(OFlag::O_RDONLY).map_err(failed("/dev/null"))?;
    dup_to(null.as_raw_fd(), 0).map_err(failed("/dev/null"))?;
    if let Some(file) = open_stream(output)? {
        dup_to(file.as_raw_fd(), 1).map_err(failed("StandardOutput"))?;
    } else if !is_open(1) {
        let null = open_null(OFlag::O_WRONLY).map_err(failed("/dev/null"))?;
        dup_to(null.as_raw_fd(), 1).map_err(failed("StandardOutput"))?;
    }
    // One open file for both, or they would overwrite each other.
    let same = *error == Stream::Inherit || (error == output && *output != Stream::Null);
    if same {
        dup_to(1, 2).map_err(failed("StandardError"))?;
        return Ok(streams);
    }
    if let Some(file) = open_stream(error)? {
        dup_to(file.as_raw_fd(), 2).map_err(failed("StandardError"))?;
    } else if !is_open(2) {
        dup_to(1, 2).map_err(failed("StandardError"))?;
    }
    Ok(streams)
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: asks about a number, whatever it is.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

fn open_null(access: OFlag) -> Result<OwnedFd, Errno> {
    open("/dev/null", access | OFlag::O_CLOEXEC, Mode::empty())
}

/// `None`: what is there already.
fn open_stream(stream: &Stream) -> Result<Option<OwnedFd>, SpawnFailure> {
    let (path, flags, mode) = match stream {
        Stream::Inherit => return Ok(None),
        Stream::Null => (Path::new("/dev/null"), OFlag::empty(), 0),
        Stream::Log(path) | Stream::Journal { instead: path, .. } => return open_log(path),
        // The umask, by now the unit's, narrows this.
        Stream::File(path) => (path.as_path(), OFlag::O_CREAT, 0o666),
        Stream::Append(path) => (path.as_path(), OFlag::O_CREAT | OFlag::O_APPEND, 0o666),
    };
    let failed = |errno| SpawnFailure::errno(Step::Output, path.display(), errno);
    let (flags, mode) = (flags | WRITE, Mode::from_bits_truncate(mode));
    let file = match stream {
        Stream::File(_) | Stream::Append(_) => {
            open_strangers(path, flags, mode).map_err(|(errno, hint)| failed(errno).hint(hint))?
        }
        Stream::Log(_) | Stream::Journal { .. } | Stream::Null | Stream::Inherit => {
            open(path, flags, mode).map_err(failed)?
        }
    };
    Ok(Some(file))
}

const WRITE: OFlag = OFlag::O_WRONLY.union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY);

/// supd's own file. Where it cannot be had, as on a full disk, what the worker writes goes where supd's
/// own log goes: a server that runs without a log is better than none. That is told when the log is
/// to be watched. But what somebody has put in its place is refused.
fn open_log(path: &Path) -> Result<Option<OwnedFd>, SpawnFailure> {
    let failed = |errno| SpawnFailure::errno(Step::Output, path.display(), errno);
    let flags = OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_NOFOLLOW | WRITE;
    make_log_folder(path);
    let file = match open(path, flags, Mode::from_bits_truncate(0o640)) {
        Ok(file) => file,
        Err(errno @ (Errno::ELOOP | Errno::EISDIR | Errno::ENXIO)) => return Err(failed(errno)),
        Err(_) => return Ok(None),
    };
    let kind = fstat(&file).map_err(failed)?.st_mode & SFlag::S_IFMT.bits();
    if kind != SFlag::S_IFREG.bits() {
        return Err(SpawnFailure::reason(Step::Output, path.display(), "it is not a regular file"));
    }
    Ok(Some(file))
}

/// Opens a file whose folder may be a worker's own. This runs as root: through a symbolic link
/// that User has put there, root would write wherever User likes.
fn open_strangers(path: &Path, flags: OFlag, mode: Mode) -> Result<OwnedFd, (Errno, &'static str)> {
    let plain = |errno| (errno, "");
    let folder_flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut here = open("/", folder_flags, Mode::empty()).map_err(plain)?;
    let name = path.file_name().ok_or((Errno::EISDIR, ""))?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        match part {
            Component::Normal(part) => here = enter(&here, part)?,
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err((Errno::EINVAL, "write it without .."));
            }
        }
    }
    match openat(&here, name, flags | OFlag::O_NOFOLLOW, mode) {
        Err(Errno::ELOOP) => {
            trusted(&here)?;
            openat(&here, name, flags, mode).map_err(plain)
        }
        other => other.map_err(plain),
    }
}

fn make_log_folder(log: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(folder) = log.parent() {
        // Opening the file says whether it is there.
        let _ = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::{FIRST, place};
    use crate::os::fork::tests::finish;
    use crate::os::fork::{Reporter, fork};
    use nix::libc;
    use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

    /// In a forked child: files of known names at the numbers `at`, the pipe at `pipe_at`; after
    /// the move the listeners must be these files, in this order, and nothing else may be open.
    fn check(at: &[RawFd], pipe_at: Option<RawFd>) {
        let expected: Vec<String> = at.iter().map(|number| format!("listener-{number}")).collect();
        let forked = fork("a test", |reporter| {
            set_up(at, pipe_at, reporter);
            // SAFETY: `set_up` has opened them all.
            let listeners: Vec<_> = at.iter().map(|at| unsafe { BorrowedFd::borrow_raw(*at) }).collect();
            let report_at = place(&listeners, reporter).unwrap();
            let seen = look();
            reporter.say(format!("{report_at} {} {seen:?}", reporter.number()).as_bytes());
        })
        .unwrap();
        let (said, _) = finish(forked);
        let report_at = FIRST + RawFd::try_from(at.len()).unwrap();
        let want = format!("{report_at} {report_at} {expected:?}");
        assert_eq!(String::from_utf8_lossy(&said), want, "listeners at {at:?}, pipe at {pipe_at:?}");
    }

    fn set_up(at: &[RawFd], pipe_at: Option<RawFd>, reporter: &mut Reporter) {
        // First everything far away from where it is to be, then into the planned collision.
        reporter.move_up(500).unwrap();
        crate::os::fork::close_all_but(&[reporter.number()]).unwrap();
        for number in at {
            let name = std::ffi::CString::new(format!("listener-{number}")).unwrap();
            let file = nix::sys::memfd::memfd_create(&*name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
            if file.as_raw_fd() == *number {
                std::mem::forget(file);
            } else {
                // SAFETY: a forked child owns its descriptor table.
                assert!(unsafe { libc::dup3(file.as_raw_fd(), *number, libc::O_CLOEXEC) } >= 0);
            }
        }
        if let Some(number) = pipe_at {
            reporter.move_to(number).unwrap();
            crate::os::fork::close_from(500).unwrap();
        }
    }

    /// The names of what is open from 3 on, without close-on-exec; the pipe, which has it, and the
    /// folder that is being read are skipped.
    fn look() -> Vec<String> {
        let mut seen: Vec<(RawFd, String)> = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let number: RawFd = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
            let target = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
            let target = target.to_str().unwrap().to_owned();
            // SAFETY: asks about a number.
            let cloexec = unsafe { libc::fcntl(number, libc::F_GETFD) } & libc::FD_CLOEXEC != 0;
            if number >= FIRST && !target.starts_with("/proc") && !(cloexec && target.starts_with("pipe:")) {
                let name = target.trim_start_matches("/memfd:").trim_end_matches(" (deleted)");
                seen.push((number, if cloexec { format!("{name} cloexec") } else { name.to_owned() }));
            }
        }
        seen.sort();
        let numbers: Vec<RawFd> = seen.iter().map(|(number, _)| *number).collect();
        let right: Vec<RawFd> = (FIRST..).take(seen.len()).collect();
        assert_eq!(numbers, right);
        seen.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn every_pattern_of_collision() {
        check(&[], None);
        check(&[], Some(3));
        check(&[100, 101], None);
        // Already in place: dup2(3, 3) would leave it close-on-exec.
        check(&[3], None);
        check(&[3, 4, 5], None);
        // Exchanged, rotated, reversed: each stands where another goes.
        check(&[4, 3], None);
        check(&[4, 5, 3], None);
        check(&[5, 3, 4], None);
        check(&[6, 5, 4, 3], None);
        // One in the way of the first, one beyond.
        check(&[200, 3], None);
        check(&[4, 200, 3], None);
        // The pipe stands where a listener goes, or right at its own place, or is in nobody's way.
        check(&[100], Some(3));
        check(&[100, 101], Some(4));
        check(&[100, 101], Some(5));
        check(&[4, 5], Some(3));
        check(&[3, 5], Some(4));
        check(&[100], Some(90));
        // A listener where the pipe goes, and below 3, where standard streams go.
        check(&[4], None);
        check(&[0, 1], None);
    }

    #[test]
    fn the_same_listener_twice() {
        let forked = fork("a test", |reporter| {
            set_up(&[3], None, reporter);
            // SAFETY: `set_up` has opened it.
            let listener = unsafe { BorrowedFd::borrow_raw(3) };
            place(&[listener, listener], reporter).unwrap();
            reporter.say(format!("{:?}", look()).as_bytes());
        })
        .unwrap();
        let (said, _) = finish(forked);
        assert_eq!(String::from_utf8_lossy(&said), r#"["listener-3", "listener-3"]"#);
    }
}
