//! What a log says, on its way to standard output: as it is, fit for a terminal, or as JSON.

use crate::model::Generation;
use crate::model::text::printable;
use serde_json::json;
use std::io::{self, IsTerminal, Stdout, Write};

/// A line that is longer comes in pieces: it may never end.
const LINE_MAX: usize = 64 << 10;

/// Where it goes.
#[derive(Debug)]
pub(super) struct Show<W: Write> {
    out: W,
    form: Form,
    generation: Generation,
    /// A line whose end is not here yet.
    line: Vec<u8>,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it came.
    Raw,
    /// Line by line, control characters made harmless.
    Terminal,
    /// Line by line, with the generation.
    Json,
}

/// Nothing more can be written.
#[derive(Debug)]
pub(super) enum Closed {
    /// Nobody reads it.
    Reader,
    /// As a disk that is full.
    Error(io::Error),
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Reader } else { Self::Error(error) }
    }
}

impl Show<Stdout> {
    pub(super) fn on_stdout(json: bool, generation: Generation) -> Self {
        let out = io::stdout();
        let form = match (json, out.is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Terminal,
            (false, false) => Form::Raw,
        };
        Self { out, form, generation, line: Vec::new() }
    }
}

impl<W: Write> Show<W> {
    /// What follows is of this generation.
    pub(super) fn turn_to(&mut self, generation: Generation) {
        self.generation = generation;
    }

    /// Bytes as they were read.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        if self.form == Form::Raw {
            self.out.write_all(bytes)?;
        } else {
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(piece);
                if piece.ends_with(b"\n") || self.line.len() >= LINE_MAX {
                    self.end_line()?;
                }
            }
        }
        Ok(self.out.flush()?)
    }

    /// What has no end of its own gets one.
    pub(super) fn end(&mut self) -> Result<(), Closed> {
        if !self.line.is_empty() {
            self.end_line()?;
        }
        Ok(self.out.flush()?)
    }

    /// A sentence of supctl's own, which is none of the log's.
    pub(super) fn notice(&mut self, text: &str) -> Result<(), Closed> {
        self.end()?;
        let _nobody_reads_it = writeln!(io::stderr(), "{text}");
        Ok(())
    }

    fn end_line(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
        match self.form {
            Form::Json => {
                writeln!(self.out, "{}", json!({"generation": self.generation.0, "line": text}))
            }
            Form::Terminal | Form::Raw => writeln!(self.out, "{}", printable(&text, usize::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(form: Form, pieces: &[&[u8]]) -> String {
        let mut show = Show { out: Vec::new(), form, generation: Generation(8), line: Vec::new() };
        for piece in pieces {
            show.bytes(piece).unwrap();
        }
        show.end().unwrap();
        String::from_utf8_lossy(&show.out).into_owned()
    }

    #[test]
    fn each_reader_gets_what_it_can_bear() {
        let pieces: &[&[u8]] = &[b"one\x1b[31m", b" red\x1b[0m\n\ttwo\xff\x07\n", b"\nlast"];
        assert_eq!(shown(Form::Terminal, pieces), "one red\n two\u{fffd}?\n\nlast\n");
        assert_eq!(
            shown(Form::Json, pieces),
            "{\"generation\":8,\"line\":\"one\\u001b[31m red\\u001b[0m\"}\n\
             {\"generation\":8,\"line\":\"\\ttwo\u{fffd}\\u0007\"}\n\
             {\"generation\":8,\"line\":\"\"}\n{\"generation\":8,\"line\":\"last\"}\n"
        );
        let mut raw = Show { out: Vec::new(), form: Form::Raw, generation: Generation(8), line: Vec::new() };
        raw.bytes(&[0xff, 0x1b, 0, b'\n']).unwrap();
        raw.end().unwrap();
        assert_eq!(raw.out, [0xff, 0x1b, 0, b'\n']);
    }

    #[test]
    fn a_line_without_an_end_is_not_held_for_ever() {
        let mut show =
            Show { out: Vec::new(), form: Form::Terminal, generation: Generation(8), line: Vec::new() };
        for _ in 0..100 {
            show.bytes(&[b'x'; 10_000]).unwrap();
            assert!(show.line.len() < LINE_MAX);
        }
        assert!(show.out.len() > 900_000);
    }
}
