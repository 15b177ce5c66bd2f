//! Framing: JSON objects, each ended by one NUL byte.

use std::ffi::CStr;
use std::fmt;

/// A message is longer than this end is willing to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// The limit in bytes.
    pub limit: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message is longer than {} bytes (is its final NUL missing?)", self.limit)
    }
}

impl std::error::Error for TooLong {}

/// Takes bytes as they come and gives whole messages.
///
/// Each byte is looked at once and moved at most twice, however small the pieces are in which it
/// comes; an empty buffer holds no memory.
#[derive(Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    /// Up to here there is no NUL.
    scanned: usize,
    limit: usize,
}

impl Frames {
    /// Messages of at most `limit` bytes, the NUL not counted.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, scanned: 0, limit }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start >= self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message without its NUL, if it is here.
    ///
    /// # Errors
    /// [`TooLong`]; then nothing more can be made of this stream.
    pub fn take(&mut self) -> Result<Option<&[u8]>, TooLong> {
        // The standard library's fastest way to the first NUL.
        let found = CStr::from_bytes_until_nul(&self.bytes[self.scanned..]).ok().map(CStr::count_bytes);
        let end = found.map_or(self.bytes.len(), |offset| self.scanned + offset);
        if end - self.start > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        if found.is_none() {
            self.scanned = end;
            if self.start == end {
                self.clear();
            }
            return Ok(None);
        }
        let message = self.start..end;
        self.start = end + 1;
        self.scanned = self.start;
        Ok(Some(&self.bytes[message]))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    /// What belongs to no message given out yet.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Bytes held that belong to no message given out yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, TooLong};

    /// Everything that comes out when `input` comes in pieces of `size`.
    fn all(input: &[u8], size: usize, limit: usize) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut frames = Frames::new(limit);
        let mut out = Vec::new();
        for piece in input.chunks(size) {
            frames.push(piece);
            while let Some(message) = frames.take()? {
                out.push(message.to_vec());
            }
        }
        Ok(out)
    }

    #[test]
    fn messages_come_out_the_same_however_they_come_in() {
        let input = b"{}\0\0{\"a\":1}\0half";
        let expected = vec![b"{}".to_vec(), Vec::new(), b"{\"a\":1}".to_vec()];
        for size in 1..=input.len() {
            assert_eq!(all(input, size, 7).unwrap(), expected, "pieces of {size}");
        }
    }

    #[test]
    fn the_limit_holds_with_and_without_an_end() {
        for size in [1, 3, 100] {
            assert_eq!(all(b"12345\x006789", size, 5).unwrap(), [b"12345"]);
            assert_eq!(all(b"123456\x00", size, 5), Err(TooLong { limit: 5 }));
            assert_eq!(all(b"\x00123456", size, 5), Err(TooLong { limit: 5 }));
        }
    }

    #[test]
    fn ten_million_bytes_one_by_one_are_looked_at_once() {
        // Quadratic work would be 5e13 steps: this test would never end.
        let mut frames = Frames::new(20_000_000);
        for _ in 0..10_000_000 {
            frames.push(b"x");
            assert!(frames.take().unwrap().is_none());
        }
        frames.push(b"\0");
        assert_eq!(frames.take().unwrap().unwrap().len(), 10_000_000);
    }

    #[test]
    fn memory_goes_when_messages_are_gone() {
        let mut frames = Frames::new(100_000);
        for _ in 0..10_000 {
            frames.push(&[b'x'; 1000]);
            frames.push(b"\0y");
            while frames.take().unwrap().is_some() {}
            assert!(frames.memory() <= 8192, "{}", frames.memory());
        }
        frames.push(b"\0");
        while frames.take().unwrap().is_some() {}
        assert_eq!((frames.memory(), frames.waiting()), (0, 0));
    }
}
