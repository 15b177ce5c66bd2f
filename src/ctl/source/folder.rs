//! A folder as an archive, written into a pipe by a thread while supd reads.
//!
//! The same content always gives the same bytes: members by the order of their names' bytes (a folder's
//! ends in `/`), no times, no owners, and of the permission bits only whether a file can be executed.
//!
//! A first walk finds whatever cannot be sent before anything is, the second one sends, and a third
//! one looks whether all of it is still so. If they do not see the same, or a file changes while it is read, the archive is cut short so that nobody
//! takes it for whole: within a file, or by a block that is no member and not the zeros that end an
//! archive.
//!
//! Files are opened below the folder, step by step, and never through a link: what a link points to
//! is not sent, the link is.

mod walk;

use crate::ctl::failure::Failure;
use crate::model::ExitStatus;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use tar::{Builder, EntryType, Header};
use walk::{Fault, Kind, Member, Seen, Visit, walk};

/// Bytes that wait to be written.
const BUFFER: usize = 256 << 10;

/// What a header has room for.
const LINK_NAME_MAX: usize = 100;

/// Written where the rest is missing: no reader takes a block of this for a member's header, for its
/// sum is wrong, nor for the end.
const NOT_WHOLE: &[u8] = b"supctl could not send the rest of this folder: the archive is not whole";

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Sender {
    path: PathBuf,
    thread: JoinHandle<Result<(), Stopped>>,
}

/// Why it stopped before the end.
#[derive(Debug)]
enum Stopped {
    /// Nobody reads any more: whoever did says why.
    Unread,
    Fault(Fault),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Unread
        } else {
            Self::Fault(Fault::new(Path::new(""), format!("cannot be written into a pipe: {error}")))
        }
    }
}

/// Looks through the folder, and sends nothing.
pub(super) fn look(path: &Path, folder: &OwnedFd) -> Result<(), Failure> {
    walk(folder, &mut Seen::default()).map_err(|fault| told(path, &fault))
}

/// Looks through the folder, and begins to write it into the pipe whose reading end this gives.
pub(super) fn send(path: &Path, folder: OwnedFd) -> Result<(OwnedFd, Sender), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(ExitStatus::Failed, format!("cannot send {}: {error}", path.display()))
    };
    let mut before = Seen::default();
    walk(&folder, &mut before).map_err(|fault| told(path, &fault))?;
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(&errno.desc()))?;
    let thread = std::thread::Builder::new()
        .name("folder".into())
        .spawn(move || write(&folder, &before, File::from(writing)))
        .map_err(|error| failed(&error))?;
    Ok((reading, Sender { path: path.into(), thread }))
}

impl Sender {
    /// Whether there is more to write.
    pub(super) fn is_sending(&self) -> bool {
        !self.thread.is_finished()
    }

    /// The reading ends are closed, or all is read: what came of it.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self.thread.join() {
            Ok(Ok(()) | Err(Stopped::Unread)) => Ok(()),
            Ok(Err(Stopped::Fault(fault))) => Err(told(&self.path, &fault)),
            Err(_panic) => {
                let text = format!("{}: supctl itself failed while it read it", self.path.display());
                Err(Failure::new(ExitStatus::Failed, text))
            }
        }
    }
}

fn told(path: &Path, fault: &Fault) -> Failure {
    let failure = Failure::new(ExitStatus::Failed, format!("SOURCE {}: {fault}", path.display()));
    match &fault.remedy {
        Some(remedy) => failure.next(remedy.clone()),
        None => failure,
    }
}

/// Writes the whole archive; without its end where something is not as it was.
fn write(folder: &OwnedFd, before: &Seen, pipe: File) -> Result<(), Stopped> {
    let mut archive = Archive::new(pipe);
    let (mut now, mut after) = (Seen::default(), Seen::default());
    let sent = walk(folder, &mut Both { seen: &mut now, archive: &mut archive });
    let whole = sent.and_then(|()| Ok(walk(folder, &mut after)?)).and_then(|()| {
        let same = now == *before && after == *before;
        if same { Ok(()) } else { Err(Fault::changed(Path::new("")).into()) }
    });
    archive.end(whole)
}

/// Sees and writes in one walk.
struct Both<'a> {
    seen: &'a mut Seen,
    archive: &'a mut Archive,
}

impl Visit for Both<'_> {
    type Error = Stopped;

    fn visit(&mut self, member: &Member<'_>) -> Result<(), Stopped> {
        self.seen.visit(member)?;
        self.archive.append(member)
    }
}

/// The archive as far as it is written.
struct Archive {
    builder: Builder<Pipe>,
    /// Bytes that the file which could not be sent whole still lacks.
    lacks: u64,
}

/// Where it is written.
struct Pipe {
    pipe: BufWriter<File>,
    written: u64,
    /// Nothing more leaves: not even the end, which a `Builder` writes whatever happened.
    cut: bool,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cut {
            return Ok(bytes.len());
        }
        let count = self.pipe.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

impl Archive {
    fn new(pipe: File) -> Self {
        let pipe = BufWriter::with_capacity(BUFFER, pipe);
        Self { builder: Builder::new(Pipe { pipe, written: 0, cut: false }), lacks: 0 }
    }

    fn append(&mut self, member: &Member<'_>) -> Result<(), Stopped> {
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        match &member.kind {
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                self.builder.append_data(&mut header, member.name, io::empty())?;
            }
            Kind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                // As it stands: `append_link` would take its dots out where it fits without them, and the
                // digest would be another one than that of an archive that tar made.
                if header.set_link_name_literal(target).is_err() {
                    self.append_long_target(target)?;
                    header.set_link_name_literal(&target[..LINK_NAME_MAX])?;
                }
                self.builder.append_data(&mut header, member.name, io::empty())?;
            }
            Kind::File { file, size, executable } => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(*size);
                self.append_file(member.name, &mut header, file, *size)?;
            }
        }
        Ok(())
    }

    /// What GNU tar writes before a link whose target has no room in its header.
    fn append_long_target(&mut self, target: &[u8]) -> Result<(), Stopped> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongLink);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(target.len() as u64 + 1);
        header.set_path("././@LongLink")?;
        header.set_cksum();
        self.builder.append(&header, target.chain(&[0][..]))?;
        Ok(())
    }

    fn append_file(
        &mut self,
        name: &str,
        header: &mut Header,
        file: &File,
        size: u64,
    ) -> Result<(), Stopped> {
        let fault = |error: &io::Error| Fault::new(Path::new(name), format!("cannot be read: {error}"));
        let before = file.metadata().map_err(|error| fault(&error))?;
        let mut content = Exactly { file, left: size, begun: false };
        if let Err(error) = self.builder.append_data(header, name, &mut content) {
            // What failed before the first byte was asked for has no header there either.
            self.lacks = if content.begun { content.left } else { 0 };
            return Err(match error.kind() {
                io::ErrorKind::BrokenPipe => Stopped::Unread,
                io::ErrorKind::UnexpectedEof => Fault::changed(Path::new(name)).into(),
                _ => fault(&error).into(),
            });
        }
        let after = file.metadata().map_err(|error| fault(&error))?;
        let state =
            |file: &Metadata| (file.len(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec());
        if size == after.len() && state(&before) == state(&after) {
            Ok(())
        } else {
            Err(Fault::changed(Path::new(name)).into())
        }
    }

    /// Ends the archive, or sees to it that it is not taken for one.
    fn end(mut self, whole: Result<(), Stopped>) -> Result<(), Stopped> {
        if let Err(stopped) = whole {
            let pipe = self.builder.get_mut();
            // To the end of the block: half a one at an archive's end is filled up by some readers.
            let fill = 512 - pipe.written % 512;
            let fill = if fill == 512 { 0 } else { fill };
            let mut rest = vec![0; usize::try_from(fill).unwrap_or(0)];
            // A file that lacks whole blocks needs no more to be seen as cut off.
            if self.lacks <= fill {
                let at = rest.len();
                rest.resize(at + 512, b' ');
                rest[at..at + NOT_WHOLE.len()].copy_from_slice(NOT_WHOLE);
            }
            let _unread_perhaps = pipe.write_all(&rest).and_then(|()| pipe.flush());
            pipe.cut = true;
            return Err(stopped);
        }
        self.builder.into_inner()?.flush()?;
        Ok(())
    }
}

/// A file's content at the length that its header says; what is shorter is an error.
struct Exactly<'a> {
    file: &'a File,
    left: u64,
    /// The first byte was asked for: its header is written.
    begun: bool,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.begun = true;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
