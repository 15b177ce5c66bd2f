//! An archive as it came, decompressed. How it is compressed is told by its first bytes: a name
//! proves nothing, and standard input has none.

use super::Bounds;
use super::bounds::size;
use super::gzip::Gzip;
use super::zstd::Zstd;
use lzma_rust2::XzReader;
use std::io::{self, BufRead, BufReader, Chain, Cursor, ErrorKind, Read};

/// What came first, put back before the rest.
pub(super) type Input<R> = Chain<Cursor<Vec<u8>>, BufReader<R>>;

/// Bytes asked of the source at once.
const CHUNK: usize = 64 << 10;

/// Bytes that tell one form from the others.
const TELLING: u64 = 8;

/// One archive. Once it has said that it ends, the source has ended too, and every checksum was
/// right.
pub(super) enum Decoder<R: Read> {
    Plain(Input<R>),
    Gzip(Box<Gzip<Input<R>>>),
    Xz(Box<XzReader<Input<R>>>),
    Zstd(Box<Zstd<Input<R>>>),
}

/// The compressions that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

impl<R: Read> Decoder<R> {
    /// Reads the first bytes.
    ///
    /// # Errors
    /// They cannot be read, or are those of something that is no archive for us.
    pub(super) fn open(source: R, bounds: &Bounds) -> Result<Self, String> {
        let mut source = BufReader::with_capacity(CHUNK, source);
        let mut first = Vec::new();
        source.by_ref().take(TELLING).read_to_end(&mut first).map_err(|error| told(&error))?;
        let form = form(&first)?;
        let input = Cursor::new(first).chain(source);
        Ok(match form {
            Form::Plain => Self::Plain(input),
            Form::Gzip => Self::Gzip(Box::new(Gzip::new(input))),
            Form::Xz => {
                // What its state takes beside the dictionary is in its count as well.
                let kib = u32::try_from((bounds.window_bytes >> 10) + 1024).unwrap_or(u32::MAX);
                Self::Xz(Box::new(XzReader::new_mem_limit(input, true, kib)))
            }
            Form::Zstd => Self::Zstd(Box::new(Zstd::new(input, bounds.window_bytes))),
        })
    }

    /// What a failed read means.
    pub(super) fn told(&self, error: &io::Error, bounds: &Bounds) -> String {
        let root = root(error);
        let name = match self {
            _ if root.raw_os_error().is_some() => return told(root),
            _ if matches!(root.kind(), ErrorKind::UnexpectedEof | ErrorKind::TimedOut) => return told(root),
            Self::Plain(_) => return told(root),
            Self::Xz(_) if root.kind() == ErrorKind::OutOfMemory => {
                return format!(
                    "it takes more than {} of memory to decompress: compress it with xz -9 at most",
                    size(bounds.window_bytes)
                );
            }
            Self::Gzip(_) => "gzip",
            Self::Xz(_) => "xz",
            Self::Zstd(_) => "zstd",
        };
        format!("its {name} data is damaged: {error}")
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// What went wrong with the source.
fn told(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => CUT_OFF.to_owned(),
        ErrorKind::TimedOut => error.to_string(),
        _ => format!("it cannot be read: {error}"),
    }
}

/// Also when it ends where a header could follow.
pub(super) const CUT_OFF: &str = "it is cut off: its end is missing";

/// The first error of those that were wrapped into one another.
fn root(error: &io::Error) -> &io::Error {
    let mut found = error;
    let mut next = found.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
    while let Some(inner) = next {
        next = match inner.downcast_ref::<io::Error>() {
            Some(inner) => {
                found = inner;
                // Its own source() passes over what it holds.
                inner.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static))
            }
            None => inner.source(),
        };
    }
    found
}

fn form(first: &[u8]) -> Result<Form, String> {
    const REFUSED: [(&[u8], &str); 9] = [
        (b"BZh", "bzip2 data"),
        (b"PK\x03\x04", "a zip file"),
        (b"PK\x05\x06", "a zip file"),
        (b"7z\xbc\xaf", "a 7z file"),
        (b"LZIP", "lzip data"),
        (b"\x5d\x00\x00", "lzma data"),
        (b"\x1f\x9d", "the data of compress(1)"),
        (b"!<arch>\n", "an ar archive, as a .deb is"),
        (b"\xed\xab\xee\xdb", "an .rpm"),
    ];
    if first.is_empty() {
        return Err("it is empty: nothing came".into());
    }
    if let Some((_, what)) = REFUSED.iter().find(|(magic, _)| first.starts_with(magic)) {
        return Err(format!("it is {what}: give a tar, plain or compressed with gzip, xz or zstd"));
    }
    Ok(match first {
        [0x1f, 0x8b, ..] => Form::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Form::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Form::Zstd,
        // A frame to be skipped: what some parallel compressors begin with.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Form::Zstd,
        _ => Form::Plain,
    })
}

/// Reads to the end, where only zeros may come: what tapes and tools pad with.
pub(super) fn only_zeros(rest: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = match rest.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(io::Error::other("something follows its end"));
        }
        let count = bytes.len();
        rest.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, form, root};
    use std::io;

    #[test]
    fn the_first_bytes_tell() {
        assert_eq!(form(b"\x1f\x8b\x08"), Ok(Form::Gzip));
        assert_eq!(form(b"\xfd7zXZ\0"), Ok(Form::Xz));
        assert_eq!(form(b"\x28\xb5\x2f\xfd"), Ok(Form::Zstd));
        assert_eq!(form(b"\x51\x2a\x4d\x18"), Ok(Form::Zstd));
        assert_eq!(form(b"bin/"), Ok(Form::Plain));
        assert_eq!(form(b"\x1f"), Ok(Form::Plain));
        for (bytes, what) in [(&b""[..], "nothing came"), (b"PK\x03\x04", "a zip file"), (b"BZh9", "bzip2")] {
            assert!(form(bytes).unwrap_err().contains(what));
        }
    }

    #[test]
    fn the_cause_is_found_inside() {
        let inner = io::Error::from_raw_os_error(libc::EIO);
        let outer = io::Error::other(io::Error::other(inner));
        assert_eq!(root(&outer).raw_os_error(), Some(libc::EIO));
    }
}
