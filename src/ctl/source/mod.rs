//! SOURCE of `supctl install` and `supctl deploy`, opened with the caller's own rights: one descriptor
//! to pass, whatever SOURCE is.
//!
//! | SOURCE | what is passed |
//! |---|---|
//! | a file | the file |
//! | `-` | standard input |
//! | a folder | a pipe, into which a thread writes an archive ([`folder`]) |
//! | `http://`, `https://` | what was downloaded ([`download`]) and has the right sum |
//!
//! A verb makes a [`SourceArgs`] part of its arguments, calls [`SourceArgs::open`] before it takes
//! signals (an interrupted download is to end supctl), passes [`Opened::descriptor`] with its call,
//! and then asks [`Opened::finish`]: what went wrong at this end explains what supd says.

mod address;
mod download;
mod folder;
mod http;
mod local;
mod netrc;
mod part;
mod retry;
mod sum;

use super::args;
use super::context::Context;
use super::failure::Failure;
use crate::model::{ExitStatus, Label, UnitName};
use crate::store::unpack;
use download::Downloaded;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use sum::Sum;

/// What a verb takes from its command line.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SourceArgs {
    /// A folder, a tar archive (plain, gz, xz or zst), - for standard input, or an http(s) address
    #[arg(value_name = "SOURCE")]
    source: OsString,
    /// The SHA-256 that what is downloaded has to have, in hex (an http(s) SOURCE needs it)
    #[arg(long, value_name = "HEX", value_parser = sum::parse)]
    sha256: Option<Sum>,
    /// Headers for the download, a line each, as Authorization: Bearer …; a password stays out of the
    /// list of processes this way. (~/.netrc is read, too.)
    #[arg(long, value_name = "FILE")]
    header_file: Option<PathBuf>,
}

/// What SOURCE is, by the look of it.
#[derive(Debug, PartialEq, Eq)]
enum Kind<'a> {
    Stdin,
    Address(&'a str),
    Path(&'a Path),
}

/// A SOURCE that can be passed.
#[derive(Debug)]
pub(super) struct Opened {
    descriptor: OwnedFd,
    behind: Behind,
}

/// What else there is to a descriptor.
#[derive(Debug)]
enum Behind {
    Nothing,
    /// Somebody writes into it.
    Sender(folder::Sender),
    /// It is kept until it is installed.
    Downloaded(Downloaded),
}

/// What is installed where, and from what: of `install` and of `deploy`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ReleaseArgs {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    pub(super) unit: UnitName,
    /// The release's name: letters, digits and . _ + ~ @ -, from a letter or a digit on
    #[arg(value_name = "LABEL", value_parser = args::label)]
    pub(super) label: Label,
    #[command(flatten)]
    pub(super) source: SourceArgs,
}

impl SourceArgs {
    /// Looks at SOURCE as far as that takes nothing from it: a rehearsal. What a pipe or an address gives is
    /// not known before it has been taken.
    pub(super) fn look(&self, context: &Context) -> Result<(), Failure> {
        match self.kind()? {
            Kind::Stdin => look_at(Path::new("-"), local::stdin()?),
            Kind::Path(path) => match local::look(path)? {
                Some(local::Local::File(file)) => look_at(path, file),
                Some(local::Local::Folder(folder)) => folder::look(path, &folder),
                None => Ok(()),
            },
            Kind::Address(address) => self.wanted(address)?.look(&download::Manner::of(context)),
        }
    }

    /// What is to be downloaded.
    fn wanted<'a>(&'a self, address: &'a str) -> Result<download::Wanted<'a>, Failure> {
        let Some(sum) = &self.sha256 else { return Err(no_sum(address)) };
        download::Wanted::new(address, sum, self.header_file.as_deref())
    }

    /// What SOURCE is, with flags that fit.
    fn kind(&self) -> Result<Kind<'_>, Failure> {
        let kind = kind(&self.source)?;
        let is_address = matches!(kind, Kind::Address(_));
        let only_for_downloads =
            [("--sha256", self.sha256.is_some()), ("--header-file", self.header_file.is_some())];
        if let Some((flag, _)) = only_for_downloads.iter().find(|(_, given)| *given && !is_address) {
            let text =
                format!("{flag} is for an http(s) SOURCE; {} is none", Path::new(&self.source).display());
            return Err(Failure::new(ExitStatus::Usage, text));
        }
        Ok(kind)
    }

    /// Opens SOURCE. A download is finished when this returns.
    pub(super) fn open(&self, context: &Context) -> Result<Opened, Failure> {
        match self.kind()? {
            Kind::Stdin => local::stdin().map(plain),
            Kind::Path(path) => match local::open(path, context.deadline)? {
                local::Local::File(descriptor) => Ok(plain(descriptor)),
                local::Local::Folder(folder) => {
                    let (descriptor, sender) = folder::send(path, folder)?;
                    Ok(Opened { descriptor, behind: Behind::Sender(sender) })
                }
            },
            Kind::Address(address) => {
                let wanted = self.wanted(address)?;
                let (descriptor, downloaded) = wanted.fetch(&download::Manner::of(context))?;
                Ok(Opened { descriptor, behind: Behind::Downloaded(downloaded) })
            }
        }
    }
}

impl Opened {
    /// What is passed with the call.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Whether SOURCE is still on its way to supd, and so is cut off when supctl ends.
    pub(super) fn is_sending(&self) -> bool {
        match &self.behind {
            Behind::Sender(sender) => sender.is_sending(),
            Behind::Nothing | Behind::Downloaded(_) => false,
        }
    }

    /// After the answer. What went wrong with SOURCE meanwhile explains a failure of the call, and so
    /// comes in its place. A download is kept for the next try unless it was taken.
    pub(super) fn finish(self, taken: bool) -> Result<(), Failure> {
        // With the last reading end closed, nobody waits for a pipe to be read any more.
        drop(self.descriptor);
        match self.behind {
            Behind::Sender(sender) => sender.finish()?,
            Behind::Downloaded(downloaded) if taken => downloaded.remove(),
            Behind::Nothing | Behind::Downloaded(_) => {}
        }
        Ok(())
    }
}

/// Whether a file begins as an archive, from where it stands; that stays where it is, for others may have
/// it open, too.
fn look_at(path: &Path, file: OwnedFd) -> Result<(), Failure> {
    let mut file = File::from(file);
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    let read = file.stream_position().map_err(|error| format!("cannot be read: {error}"));
    read.and_then(|at| unpack::look(Rest { file: &file, at }))
        .map_err(|why| Failure::new(ExitStatus::Failed, format!("SOURCE {}: {why}", path.display())))
}

/// A file from a place on.
struct Rest<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Rest<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

fn plain(descriptor: OwnedFd) -> Opened {
    Opened { descriptor, behind: Behind::Nothing }
}

fn kind(source: &OsStr) -> Result<Kind<'_>, Failure> {
    if source == "-" {
        return Ok(Kind::Stdin);
    }
    let scheme = source.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
    let is_scheme = scheme.len() > 1 && scheme.iter().all(u8::is_ascii_alphanumeric);
    if !is_scheme || !source.as_bytes()[scheme.len()..].starts_with(b"://") {
        return Ok(Kind::Path(Path::new(source)));
    }
    match (source.to_str(), scheme.to_ascii_lowercase().as_slice()) {
        (Some(address), b"http" | b"https") => Ok(Kind::Address(address)),
        _ => {
            let text =
                format!("{}: only http:// and https:// can be downloaded", Path::new(source).display());
            Err(Failure::new(ExitStatus::Usage, text).next("give a file, a folder, or - for standard input"))
        }
    }
}

/// Whoever answers at an address would otherwise decide what runs here, today and on the day of a
/// rollback; and pieces of a download that was continued could be of two different files. https says
/// who answered, not what it is, so it needs the sum as well.
fn no_sum(address: &str) -> Failure {
    let text =
        "a download needs --sha256 HEX: supd is to run what you built, not what that server has by now";
    Failure::new(ExitStatus::Usage, text)
        .next(format!("sha256sum FILE where it was built, then: supctl … {address} --sha256 HEX"))
}

#[cfg(test)]
mod tests;
