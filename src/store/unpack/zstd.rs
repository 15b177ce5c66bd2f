//! zstd data: frames one after the other, and frames that are to be skipped.

use super::bounds::size;
use super::decoder::only_zeros;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, ErrorKind, Read};

/// How a frame begins.
const MAGIC: u32 = 0xFD2F_B528;
/// How one that is to be skipped begins, but for its last four bits.
const SKIPPED: u32 = 0x184D_2A50;
/// The longest header of a frame, in bytes.
const HEADER_MAX: usize = 18;

/// The frames of one file.
pub(super) struct Zstd<R> {
    source: R,
    window_max: u64,
    frame: Option<Frame>,
}

/// The frame under way.
struct Frame {
    decoder: FrameDecoder,
    /// Bytes that it says are in it, and those that came.
    says: Option<u64>,
    came: u64,
}

/// What a frame's header says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    window: u64,
    content: Option<u64>,
    dictionary: bool,
}

impl<R: BufRead> Zstd<R> {
    pub(super) fn new(source: R, window_max: u64) -> Self {
        Self { source, window_max, frame: None }
    }

    /// Begins the next frame; false at the end of the source.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            match self.source.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
                Ok([]) => return Ok(false),
                Ok([0, ..]) => return only_zeros(&mut self.source).map(|()| false),
                Ok(_) => {}
            }
            let magic = self.word()?;
            if magic & 0xFFFF_FFF0 == SKIPPED {
                let length = u64::from(self.word()?);
                if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            } else if magic == MAGIC {
                self.frame = Some(self.frame_of(magic)?);
                return Ok(true);
            } else {
                return Err(io::Error::other("something follows its end"));
            }
        }
    }

    fn word(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.source.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// The header is read here first: ruzstd looks at the window of the first frame only when it
    /// has made room for it.
    fn frame_of(&mut self, magic: u32) -> io::Result<Frame> {
        let mut bytes = [0; HEADER_MAX];
        bytes[..4].copy_from_slice(&magic.to_le_bytes());
        self.source.read_exact(&mut bytes[4..5])?;
        let end = 5 + Header::length(bytes[4]);
        self.source.read_exact(&mut bytes[5..end])?;
        let header = Header::parse(bytes[4], &bytes[5..end]);
        if header.dictionary {
            return Err(io::Error::other("it needs a dictionary, which is not in it"));
        }
        if header.window > self.window_max {
            return Err(io::Error::other(format!(
                "it takes {} of memory to decompress (at most {}): compress it with a smaller --long",
                size(header.window),
                size(self.window_max)
            )));
        }
        let mut decoder = FrameDecoder::new();
        decoder.reset(&bytes[..end]).map_err(io::Error::other)?;
        Ok(Frame { decoder, says: header.content, came: 0 })
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(&mut self.source, buffer)?;
                if count > 0 {
                    return Ok(count);
                }
                self.frame = None;
            }
            if !self.begin()? {
                return Ok(0);
            }
        }
    }
}

impl Frame {
    /// Zero at its end, when all that it says of itself was right.
    fn read(&mut self, source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
        let decoder = &mut self.decoder;
        while decoder.can_collect() < buffer.len() && !decoder.is_finished() {
            let wanted = buffer.len() - decoder.can_collect();
            let strategy = BlockDecodingStrategy::UptoBytes(wanted);
            decoder.decode_blocks(&mut *source, strategy).map_err(io::Error::other)?;
        }
        let count = decoder.read(buffer)?;
        self.came += count as u64;
        if count == 0 {
            if self.says.is_some_and(|says| says != self.came) {
                return Err(io::Error::other("a frame is longer or shorter than it says"));
            }
            let said = decoder.get_checksum_from_data();
            if said.is_some() && said != decoder.get_calculated_checksum() {
                return Err(io::Error::other("a checksum is wrong"));
            }
        }
        Ok(count)
    }
}

impl Header {
    /// Whether the whole frame is its own window, which then has no field.
    fn single(descriptor: u8) -> bool {
        descriptor & 0x20 != 0
    }

    /// Bytes of the window, the dictionary's number and the length, by the first byte.
    fn lengths(descriptor: u8) -> (usize, usize, usize) {
        let single = Self::single(descriptor);
        let window = usize::from(!single);
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content = [usize::from(single), 2, 4, 8][usize::from(descriptor >> 6)];
        (window, dictionary, content)
    }

    fn length(descriptor: u8) -> usize {
        let (window, dictionary, content) = Self::lengths(descriptor);
        window + dictionary + content
    }

    fn parse(descriptor: u8, fields: &[u8]) -> Self {
        let (window, dictionary, content) = Self::lengths(descriptor);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let dictionary_id = number(&fields[window..window + dictionary]);
        let length = number(&fields[window + dictionary..]);
        let length = match content {
            0 => None,
            2 => Some(length + 256),
            _ => Some(length),
        };
        let window = match fields.first().filter(|_| window == 1) {
            Some(byte) => {
                let base = 1_u64 << (10 + (byte >> 3));
                base + base / 8 * u64::from(byte & 7)
            }
            None => length.unwrap_or(0),
        };
        Self { window, content: length, dictionary: dictionary_id != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::Header;

    #[test]
    fn headers_as_the_format_has_them() {
        let parse = |bytes: &[u8]| {
            assert_eq!(Header::length(bytes[0]), bytes.len() - 1);
            let header = Header::parse(bytes[0], &bytes[1..]);
            (header.window, header.content, header.dictionary)
        };
        assert_eq!(parse(&[0x00, 0x58]), (2 << 20, None, false));
        assert_eq!(parse(&[0x04, 0x89]), ((128 << 20) + (16 << 20), None, false));
        assert_eq!(parse(&[0x20, 7]), (7, Some(7), false));
        assert_eq!(parse(&[0x60, 0, 1]), (512, Some(512), false));
        assert_eq!(parse(&[0xe0, 0, 0, 0, 0, 1, 0, 0, 0]), (1 << 32, Some(1 << 32), false));
        assert_eq!(parse(&[0x81, 0, 9, 1, 0, 0, 0]), (1 << 10, Some(1), true));
        assert_eq!(parse(&[0x01, 0, 0]), (1 << 10, None, false));
    }
}
