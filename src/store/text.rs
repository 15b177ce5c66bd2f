//! Reading small text files that a person wrote.

use crate::codec::fault::Fault;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What a path turned out to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    Text(String),
    /// Nothing is there.
    Missing,
    /// /dev/null, mostly reached over a link.
    Null,
}

/// Reads a text file of at most `bytes_max` bytes; neither its kind nor its size nor its content
/// is trusted. It never waits: a FIFO in the place of a unit file would otherwise stop supd.
///
/// # Errors
/// One [`Fault`], which says what stands there instead, or which byte is not UTF-8.
pub fn read(path: &Path, bytes_max: usize) -> Result<Content, Fault> {
    let fault = |what: &str, remedy: &str| Err(Fault::of_file(path, what, remedy));
    let failed = |doing: &str, error: &io::Error| Err(unread(path, &format!("{doing} it"), error));
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Ok(_) => fault("a link to a file that is not there", "remove it, or make the file"),
                Err(_) => Ok(Content::Missing),
            };
        }
        // A socket (open(2)).
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            return fault("no regular file", "put a text file in its place");
        }
        Err(error) => return failed("open", &error),
    };
    let metadata = match file.metadata() {
        Ok(metadata) => metadata,
        Err(error) => return failed("read", &error),
    };
    if metadata.is_dir() {
        return fault("a directory", "put a text file in its place");
    }
    if is_null_device(&metadata) {
        return Ok(Content::Null);
    }
    if !metadata.is_file() {
        return fault("no regular file", "put a text file in its place");
    }
    match bytes(&file, bytes_max) {
        Err(error) => failed("read", &error),
        Ok(bytes) if bytes.len() > bytes_max => {
            let size = metadata.len().max(bytes.len() as u64);
            fault(
                &format!("{size} bytes, where {bytes_max} are the most that is read"),
                "name the right file",
            )
        }
        Ok(bytes) => String::from_utf8(bytes).map(Content::Text).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            not_utf8(path, error.as_bytes(), at)
        }),
    }
}

/// Whether a path leads to /dev/null.
#[must_use]
pub fn is_null(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| is_null_device(&metadata))
}

/// What is said of a file or a folder that the kernel did not let be read.
#[must_use]
pub fn unread(path: &Path, doing: &str, error: &io::Error) -> Fault {
    let exhausted = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM));
    Fault { exhausted, ..Fault::of_file(path, format!("cannot {doing}: {}", explain(error)), "") }
}

/// An error as a person reads it, without Rust's "(os error 13)".
#[must_use]
pub fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    }
}

/// At most one byte more than may be there, whatever the metadata says.
fn bytes(file: &File, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_utf8(path: &Path, bytes: &[u8], at: usize) -> Fault {
    let good = String::from_utf8_lossy(&bytes[..at]);
    let line_start = good.rfind('\n').map_or(0, |newline| newline + 1);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
    Fault {
        line: number(good.matches('\n').count()),
        column: number(good[line_start..].chars().count()),
        ..Fault::of_file(path, format!("the byte 0x{:02x} is not UTF-8", bytes[at]), "save the file as UTF-8")
    }
}

fn is_null_device(metadata: &fs::Metadata) -> bool {
    // Major 1, minor 3: Documentation/admin-guide/devices.txt.
    metadata.file_type().is_char_device() && metadata.rdev() == libc::makedev(1, 3)
}
