//! gzip data: one member after the other, as `cat a.gz b.gz` and parallel compressors make it.

use super::decoder::only_zeros;
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, ErrorKind, Read};

/// The members of one file. flate2's own reader of several takes zeros behind the last, which
/// gzip(1) allows, for a broken member.
pub(super) struct Gzip<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(source: R) -> Self {
        Self(Some(GzDecoder::new(source)))
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(mut member) = self.0.take() {
            // At the member's end its checksum and its length were right.
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                self.0 = Some(member);
                return Ok(count);
            }
            let mut rest = member.into_inner();
            if another(&mut rest)? {
                self.0 = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

fn another(rest: &mut impl BufRead) -> io::Result<bool> {
    loop {
        match rest.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok([0x1f, ..]) => return Ok(true),
            Ok(_) => return only_zeros(rest).map(|()| false),
            Err(error) => return Err(error),
        }
    }
}
