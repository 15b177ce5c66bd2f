//! A tar stream, member by member. Headers are taken apart by the tar crate; which header belongs
//! to what, and where the stream ends, is decided here, since a crate made to be lenient takes a
//! stream that was cut off for a whole one.
//!
//! What says the same thing twice can be read in two ways, by us and by whoever looked at the
//! archive before. So an extended header is for the next member only, never for another header,
//! and a global one sets neither name nor size.

use super::Bounds;
use super::bounds::size;
use super::decoder::{CUT_OFF, Decoder};
use super::name::{self, shown};
use super::pax;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use tar::Header;

/// The unit in which a tar stream is made.
const BLOCK: usize = 512;

/// Bytes taken from the decoder at once.
const CHUNK: usize = 128 << 10;

/// One member, as it is to be carried out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// From the top; empty is the top itself.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Permission bits, all twelve.
    pub(super) mode: u32,
    /// When it was changed last: seconds and nanoseconds.
    pub(super) time: (i64, i64),
}

/// What a member is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    /// So many bytes follow, and are to be read before the next member.
    File(u64),
    /// A symbolic link, and what it leads to.
    Link(String),
    /// A further name of an earlier member.
    Again(String),
}

/// What extended headers say of the next member.
#[derive(Debug, Default)]
struct Extended {
    any: bool,
    /// From GNU's own headers, which yield to those of POSIX.
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    time: Option<(i64, i64)>,
}

/// The stream.
pub(super) struct Archive<'a, R: Read> {
    input: BufReader<Decoder<R>>,
    bounds: &'a Bounds,
    bytes_left: u64,
    headers: u64,
}

impl<'a, R: Read> Archive<'a, R> {
    pub(super) fn open(source: R, bounds: &'a Bounds) -> Result<Self, String> {
        let input = BufReader::with_capacity(CHUNK, Decoder::open(source, bounds)?);
        Ok(Self { input, bounds, bytes_left: bounds.bytes, headers: 0 })
    }

    /// The next member; none at the end, once nothing follows it.
    ///
    /// # Errors
    /// What is wrong, with the member's name where there is one.
    pub(super) fn next(&mut self) -> Result<Option<Member>, String> {
        let mut extended = Extended::default();
        loop {
            let Some(block) = self.block()? else { return Err(CUT_OFF.into()) };
            if block.iter().all(|byte| *byte == 0) {
                if extended.any {
                    return Err("its last header belongs to no member".into());
                }
                return self.end().map(|()| None);
            }
            self.headers += 1;
            if self.headers > self.bounds.members {
                return Err(format!("it has more than {} members", self.bounds.members));
            }
            let header = Header::from_byte_slice(&block);
            self.check(header)?;
            match header.entry_type().as_byte() {
                b'x' => extended.read(&self.body(header)?)?,
                b'g' => global(&self.body(header)?)?,
                b'L' => extended.long_name = Some(self.long(header, &mut extended.any)?),
                b'K' => extended.long_target = Some(self.long(header, &mut extended.any)?),
                _ => return self.member(header, extended).map(Some),
            }
        }
    }

    /// The bytes of a file, piece by piece.
    ///
    /// # Errors
    /// What the sink says, and what cannot be read.
    pub(super) fn content(
        &mut self,
        length: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut left = length;
        while left > 0 {
            let chunk = self.chunk()?;
            if chunk == 0 {
                return Err(CUT_OFF.into());
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(chunk);
            // First: a bound is no bound for the disk if the last piece is written before it is counted.
            self.count(count)?;
            sink(&self.input.buffer()[..count])?;
            self.input.consume(count);
            left -= count as u64;
        }
        self.padding(length)
    }

    /// The header's own checksum. One that is wrong at the very beginning is no header.
    fn check(&self, header: &Header) -> Result<(), String> {
        let bytes = header.as_bytes();
        // The field itself counts as spaces.
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let right = sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]);
        match header.cksum() {
            Ok(said) if said == right => Ok(()),
            _ if self.headers == 1 => {
                Err("it is no tar archive, neither plain nor compressed with gzip, xz or zstd".into())
            }
            _ => Err(format!("the header of its member {} is damaged", self.headers)),
        }
    }

    fn member(&mut self, header: &Header, extended: Extended) -> Result<Member, String> {
        let name = extended.name.or(extended.long_name);
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = extended.target.or(extended.long_target);
        let target = target.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let target = target.unwrap_or_default();
        let number = |what: &str, number: std::io::Result<u64>| {
            number.map_err(|_| format!("{}: its {what} is no number", shown(&name)))
        };
        let length = match extended.size {
            Some(length) => length,
            None => number("size", header.entry_size())?,
        };
        let mode = number("mode", header.mode().map(u64::from))?;
        let time = match extended.time {
            Some(time) => time,
            // Before 1970 is what GNU tar writes as the complement of two.
            None => (i64::from_ne_bytes(number("time", header.mtime())?.to_ne_bytes()), 0),
        };
        let kind = header.entry_type().as_byte();
        let kind =
            self.kind(kind, &name, &target, length).map_err(|why| format!("{}: {why}", shown(&name)))?;
        let path = name::member(&name, self.bounds).map_err(|why| format!("{}: {why}", shown(&name)))?;
        if path.is_empty() && kind != Kind::Folder {
            return Err(format!("{}: the top of the release can only be a folder", shown(&name)));
        }
        let mode = u32::try_from(mode & 0o7777).unwrap_or_default();
        Ok(Member { name: path, kind, mode, time })
    }

    fn kind(&self, kind: u8, name: &[u8], target: &[u8], length: u64) -> Result<Kind, String> {
        // Before there was a kind for folders they ended with a slash.
        let folder = kind == b'5' || matches!(kind, 0 | b'0') && name.ends_with(b"/");
        if (folder || matches!(kind, b'1' | b'2')) && length > 0 {
            return Err("it has content, which only a file may have".into());
        }
        match kind {
            _ if folder => Ok(Kind::Folder),
            0 | b'0' | b'7' if length > self.bounds.file_bytes => Err(format!(
                "{length} bytes are more than a file may have ({})",
                size(self.bounds.file_bytes)
            )),
            0 | b'0' | b'7' => Ok(Kind::File(length)),
            b'1' => match name::member(target, self.bounds) {
                Ok(target) => Ok(Kind::Again(target)),
                Err(why) => Err(format!("a hard link to {}: {why}", shown(target))),
            },
            b'2' => {
                let at = name::member(name, self.bounds)?;
                name::target(&at, target, self.bounds).map(|target| Kind::Link(target.to_owned()))
            }
            b'3' | b'4' => Err("a device; a release has files, folders and links".into()),
            b'6' => Err("a FIFO; a release has files, folders and links".into()),
            b'S' => Err(SPARSE.into()),
            b'M' => Err("it is continued from another archive".into()),
            other => Err(format!("a member of a kind that is not known here ('{}')", other.escape_ascii())),
        }
    }

    /// What follows a header that is about the next one.
    fn body(&mut self, header: &Header) -> Result<Vec<u8>, String> {
        let length = header.entry_size().map_err(|_| "the size of an extended header is no number")?;
        if length > self.bounds.header_bytes {
            let most = size(self.bounds.header_bytes);
            return Err(format!("an extended header of {length} bytes (at most {most})"));
        }
        let mut bytes = Vec::new();
        self.content(length, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// A long name of GNU's: ended by a zero byte.
    fn long(&mut self, header: &Header, any: &mut bool) -> Result<Vec<u8>, String> {
        *any = true;
        let mut bytes = self.body(header)?;
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    /// After the first block of zeros: a second, and then nothing but padding.
    fn end(&mut self) -> Result<(), String> {
        match self.block()? {
            None => return Err(CUT_OFF.into()),
            Some(block) if block.iter().any(|byte| *byte != 0) => return Err(BEHIND.into()),
            Some(_) => {}
        }
        loop {
            let count = self.chunk()?;
            if count == 0 {
                return Ok(());
            }
            if self.input.buffer().iter().any(|byte| *byte != 0) {
                return Err(BEHIND.into());
            }
            self.consume(count)?;
        }
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, String> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let chunk = self.chunk()?;
            if chunk == 0 {
                return if filled == 0 { Ok(None) } else { Err(CUT_OFF.into()) };
            }
            let count = chunk.min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&self.input.buffer()[..count]);
            self.consume(count)?;
            filled += count;
        }
        Ok(Some(block))
    }

    /// To the end of the block that the content began.
    fn padding(&mut self, length: u64) -> Result<(), String> {
        let over = usize::try_from(length % BLOCK as u64).unwrap_or_default();
        let mut left = (BLOCK - over) % BLOCK;
        while left > 0 {
            let count = self.chunk()?.min(left);
            if count == 0 {
                return Err(CUT_OFF.into());
            }
            self.consume(count)?;
            left -= count;
        }
        Ok(())
    }

    /// How many bytes are in the buffer now: none at the end.
    fn chunk(&mut self) -> Result<usize, String> {
        loop {
            match self.input.fill_buf() {
                Ok(bytes) => return Ok(bytes.len()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.input.get_ref().told(&error, self.bounds)),
            }
        }
    }

    fn consume(&mut self, count: usize) -> Result<(), String> {
        self.input.consume(count);
        self.count(count)
    }

    /// Takes bytes of what the whole may have.
    fn count(&mut self, count: usize) -> Result<(), String> {
        self.bytes_left = self
            .bytes_left
            .checked_sub(count as u64)
            .ok_or_else(|| format!("it is more than {} unpacked", size(self.bounds.bytes)))?;
        Ok(())
    }
}

const BEHIND: &str = "something follows its end: pack the archive in one piece";
const SPARSE: &str = "a sparse file: make the archive without --sparse";

impl Extended {
    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.any = true;
        for (key, value) in pax::records(bytes)? {
            // An empty value takes back what was said before.
            let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
            match key {
                "path" => self.name = text(),
                "linkpath" => self.target = text(),
                "size" if value.is_empty() => self.size = None,
                "size" => self.size = Some(pax::number(value).ok_or("a size that is no number")?),
                "mtime" if value.is_empty() => self.time = None,
                "mtime" => self.time = Some(pax::time(value).ok_or("a time that is no number")?),
                sparse if is_sparse(sparse) => return Err(SPARSE.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_sparse(key: &str) -> bool {
    key.starts_with("GNU.sparse.") || key == "SCHILY.realsize"
}

/// A header for all members from here on: a comment of git's, mostly.
fn global(bytes: &[u8]) -> Result<(), String> {
    for (key, _) in pax::records(bytes)? {
        if matches!(key, "path" | "linkpath" | "size") || is_sparse(key) {
            return Err(format!("a global header that sets the {key} of every member"));
        }
    }
    Ok(())
}
